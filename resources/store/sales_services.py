"""Where tenants' sales are pulled from, how far, and answers that could not be read. Tokens are never here, only their names."""

import re
from datetime import datetime
from urllib.parse import urlsplit

import pandas as pd

from resources.store.database import Connection, frame

TOKEN_VARIABLE = re.compile("[A-Z][A-Z0-9_]*")


class SalesServiceError(Exception):
    """A sales service cannot be set up or found; the message carries the remedy."""


def set_sales_service(
    connection: Connection, tenant_id: str, base_url: str, token_variable: str, now: datetime, *, is_active: bool = True
) -> None:
    """Set or change a tenant's service; it is pulled at once. A new address begins from its beginning.

    token_variable: the environment variable that holds the token. Raises SalesServiceError.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise SalesServiceError(
            f"{base_url!r} is no address of a service. Remedy: write it as https://till.example.com/api, without a query."
        )
    if parts.username is not None or parts.password is not None:
        raise SalesServiceError(
            "The address holds a user or a password, which would be stored. "
            "Remedy: leave them out; the token comes from the environment variable."
        )
    if not TOKEN_VARIABLE.fullmatch(token_variable):
        raise SalesServiceError(
            "The token's variable is no name of an environment variable. "
            "Remedy: give its name, such as MY_BAKERY_TOKEN, never the token itself."
        )
    if connection.execute("SELECT FROM master.tenant WHERE tenant_id = %s", (tenant_id,)).fetchone() is None:
        raise SalesServiceError(f"There is no tenant {tenant_id!r}. Remedy: `daybreak tenant list` shows them.")
    connection.execute(
        """
        INSERT INTO ops.sales_service AS s (tenant_id, base_url, token_variable, is_active, next_pull_at)
        VALUES (%(tenant_id)s, %(base_url)s, %(token_variable)s, %(is_active)s, %(now)s)
        ON CONFLICT (tenant_id) DO UPDATE
        SET base_url = excluded.base_url, token_variable = excluded.token_variable, is_active = excluded.is_active,
            cursor = CASE WHEN s.base_url = excluded.base_url THEN s.cursor END, failures = 0, last_error = NULL,
            next_pull_at = excluded.next_pull_at
        """,
        {
            "tenant_id": tenant_id,
            "base_url": base_url.rstrip("/"),
            "token_variable": token_variable,
            "is_active": is_active,
            "now": now,
        },
    )


def remove_sales_service(connection: Connection, tenant_id: str) -> None:
    """Forget a tenant's service; what was pulled stays. Raises SalesServiceError when there is none."""
    if not connection.execute("DELETE FROM ops.sales_service WHERE tenant_id = %s", (tenant_id,)).rowcount:
        raise SalesServiceError(f"{tenant_id} has no sales service. Remedy: `daybreak sales-service list` shows them.")


def read_sales_services(connection: Connection, tenant_id: str | None = None) -> pd.DataFrame:
    """All services, or that of one tenant: the columns of ops.sales_service, and quarantined, the answers set aside."""
    return frame(
        connection,
        """
        SELECT tenant_id, base_url, token_variable, cursor, is_active, failures, next_pull_at, last_pull_at, last_error,
               (SELECT count(*)::int FROM ops.quarantined_answer AS q WHERE q.tenant_id = s.tenant_id) AS quarantined
          FROM ops.sales_service AS s WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s ORDER BY tenant_id
        """,
        {"tenant_id": tenant_id},
    )


def read_due_services(connection: Connection, now: datetime) -> list[str]:
    """The active tenants whose services are to be pulled now, the longest due first."""
    rows = connection.execute(
        """
        SELECT tenant_id FROM ops.sales_service JOIN master.tenant USING (tenant_id)
         WHERE is_active AND next_pull_at <= %s AND status = 'active' ORDER BY next_pull_at, tenant_id
        """,
        (now,),
    )
    return [tenant_id for (tenant_id,) in rows]


def keep_cursor(connection: Connection, tenant_id: str, base_url: str, cursor: str) -> None:
    """Note that everything before the cursor is imported, unless the service was given another address meanwhile."""
    connection.execute(
        "UPDATE ops.sales_service SET cursor = %s WHERE tenant_id = %s AND base_url = %s", (cursor, tenant_id, base_url)
    )


def note_pull(
    connection: Connection, tenant_id: str, base_url: str, problem: str | None, next_pull_at: datetime, now: datetime
) -> None:
    """Note how a pull ended and when the next one is due; problem: None where it went well."""
    connection.execute(
        """
        UPDATE ops.sales_service
           SET last_pull_at = %(now)s, last_error = %(problem)s, next_pull_at = %(next_pull_at)s,
               failures = CASE WHEN %(problem)s::text IS NULL THEN 0 ELSE failures + 1 END
         WHERE tenant_id = %(tenant_id)s AND base_url = %(base_url)s
        """,
        {
            "now": now,
            "problem": problem,
            "next_pull_at": next_pull_at,
            "tenant_id": tenant_id,
            "base_url": base_url,
        },
    )


def quarantine_answer(
    connection: Connection,
    tenant_id: str,
    source: str,
    cursor: str | None,
    problem: str,
    remedy: str,
    body: bytes,
    now: datetime,
) -> None:
    """Keep an answer that could not be taken whole. The same answer again is kept once, with its latest problem."""
    known = connection.execute(
        """
        UPDATE ops.quarantined_answer SET received_at = %(now)s, problem = %(problem)s, remedy = %(remedy)s
         WHERE tenant_id = %(tenant_id)s AND source = %(source)s AND cursor IS NOT DISTINCT FROM %(cursor)s::text
           AND body = %(body)s
        """,
        {
            "now": now,
            "problem": problem,
            "remedy": remedy,
            "tenant_id": tenant_id,
            "source": source,
            "cursor": cursor,
            "body": body,
        },
    ).rowcount
    if not known:
        connection.execute(
            """
            INSERT INTO ops.quarantined_answer (tenant_id, source, cursor, problem, remedy, body, received_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            """,
            (tenant_id, source, cursor, problem, remedy, body, now),
        )
