"""Pauses of scheduling: of everybody or of single tenants, with who, why and until when.

A pause holds what starts by itself, by schedule or sensor; what a person starts is never held.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from resources.store.database import Connection, frame
from resources.store.master import get_tenant


class PauseError(Exception):
    """A pause that cannot begin or end. The message carries the remedy."""


@dataclass(frozen=True)
class Paused:
    """Whose scheduling is paused now. everybody: the reason, None where not all are; tenant_ids: those paused alone."""

    everybody: str | None
    tenant_ids: Collection[str]

    def holds(self, tenant_id: str) -> bool:
        """Whether nothing is started by itself for a tenant."""
        return self.everybody is not None or tenant_id in self.tenant_ids


@dataclass(frozen=True)
class Pauses:
    """Pauses of the last days. rows: tenant_id (None: everybody), paused_at, resumed_at (None: in force)."""

    rows: Sequence[tuple[str | None, datetime, datetime | None]]

    def held(self, tenant_id: str, at: datetime) -> bool:
        """Whether nothing was started by itself for a tenant at an instant."""
        return any(
            whose in {None, tenant_id} and begin <= at and (end is None or at < end) for whose, begin, end in self.rows
        )


def read_paused(connection: Connection) -> Paused:
    """The pauses in force."""
    rows = connection.execute("SELECT tenant_id, reason FROM ops.pause WHERE resumed_at IS NULL").fetchall()
    everybody = next((reason for tenant_id, reason in rows if tenant_id is None), None)
    return Paused(everybody, frozenset(tenant_id for tenant_id, _ in rows if tenant_id is not None))


def read_pauses(connection: Connection, since: datetime) -> Pauses:
    """The pauses that were in force at some time since an instant."""
    return Pauses(
        connection.execute(
            "SELECT tenant_id, paused_at, resumed_at FROM ops.pause WHERE resumed_at IS NULL OR resumed_at > %s",
            (since,),
        ).fetchall()
    )


def list_pauses(connection: Connection, is_all: bool = False) -> pd.DataFrame:
    """The pauses in force, or all, the latest first: tenant_id (None: everybody), reason, actor, paused_at, resumed_*."""
    return frame(
        connection,
        """
        SELECT tenant_id, reason, actor, paused_at, resumed_by, resumed_at FROM ops.pause
         WHERE %(is_all)s OR resumed_at IS NULL ORDER BY paused_at DESC, pause_id DESC
        """,
        {"is_all": is_all},
    )


def pause(connection: Connection, tenant_id: str | None, reason: str, actor: str, now: datetime) -> None:
    """Stop scheduling for a tenant, or for everybody (None).

    Raises PauseError when it is paused already or no reason is given, MasterDataError when there is no such tenant.
    """
    if not reason.strip():
        raise PauseError("A pause needs a reason. Remedy: say why, for those who wonder where the plans are.")
    if tenant_id is not None:
        get_tenant(connection, tenant_id)
    row = connection.execute(
        """
        INSERT INTO ops.pause (tenant_id, reason, actor, paused_at) VALUES (%s, %s, %s, %s)
        ON CONFLICT ((coalesce(tenant_id, ''))) WHERE resumed_at IS NULL DO NOTHING RETURNING pause_id
        """,
        (tenant_id, reason.strip(), actor, now),
    ).fetchone()
    if row is None:
        raise PauseError(
            f"{_whose(tenant_id)} is paused already. Remedy: `daybreak pause --list` shows since when and why."
        )


def resume(connection: Connection, tenant_id: str | None, actor: str, now: datetime) -> str | None:
    """Let scheduling go on for a tenant, or for everybody (None), as far as these are not held by the other pause.

    Returns the reason of a pause of everybody that still holds the tenant. Raises PauseError when it is not paused.
    """
    row = connection.execute(
        """
        UPDATE ops.pause SET resumed_by = %s, resumed_at = %s
         WHERE tenant_id IS NOT DISTINCT FROM %s::text AND resumed_at IS NULL RETURNING pause_id
        """,
        (actor, now, tenant_id),
    ).fetchone()
    paused = read_paused(connection)
    if row is None:
        alone = (
            ""
            if tenant_id is None or paused.everybody is None
            else ", everybody is: `daybreak resume` without --tenant"
        )
        raise PauseError(f"{_whose(tenant_id)} is not paused{alone}. Remedy: `daybreak pause --list` shows what is.")
    return None if tenant_id is None else paused.everybody


def _whose(tenant_id: str | None) -> str:
    return "Scheduling" if tenant_id is None else f"Tenant {tenant_id}"
