"""Pauses of scheduling: of everybody or of single tenants, with who, why and until when."""

from collections.abc import Collection
from dataclasses import dataclass

from resources.store.database import Connection


@dataclass(frozen=True)
class Paused:
    """Whose scheduling is paused now. everybody: the reason, None where not all are; tenant_ids: those paused alone."""

    everybody: str | None
    tenant_ids: Collection[str]

    def holds(self, tenant_id: str) -> bool:
        """Whether nothing is started by itself for a tenant."""
        return self.everybody is not None or tenant_id in self.tenant_ids


def read_paused(connection: Connection) -> Paused:
    """The pauses in force."""
    rows = connection.execute("SELECT tenant_id, reason FROM ops.pause WHERE resumed_at IS NULL").fetchall()
    everybody = next((reason for tenant_id, reason in rows if tenant_id is None), None)
    return Paused(everybody, frozenset(tenant_id for tenant_id, _ in rows if tenant_id is not None))
