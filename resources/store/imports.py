"""What imports left in the store, for those who come after them."""

import pandas as pd

from resources.store.database import Connection, frame


def read_imports(connection: Connection, after: int, limit: int) -> pd.DataFrame:
    """Imports numbered above `after`, in order. No import that is committed later has a lower number than these."""
    # A number is drawn before the commit. Waiting for the imports that are about to commit closes the gap through which
    # one with a lower number would slip behind the reader's cursor.
    connection.execute("LOCK TABLE ops.import IN SHARE MODE")
    return frame(
        connection,
        """
        SELECT seq, tenant_id, kind, input, file_name, rows_written, rows_unchanged, rows_quarantined, imported_at
          FROM ops.import WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s
        """,
        {"after": after, "limit": limit},
    )


def read_active_tenants(connection: Connection) -> list[str]:
    """The ids of all active tenants, in order."""
    rows = connection.execute("SELECT tenant_id FROM master.tenant WHERE status = 'active' ORDER BY tenant_id")
    return [tenant_id for (tenant_id,) in rows]
