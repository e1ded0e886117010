"""What people decide on plans has in common: how it is refused, in which transaction it runs, and the audit that is kept.

The rules of approval are in `approval`, those of overrides in `overrides`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pandas as pd

from resources.clock import is_time_zone
from resources.store.database import Connection, Store, copy_rows, frame
from resources.store.versions import input_versions

AUTO_APPROVER = "auto-approve"
"""Who approves the plans of a tenant that asks for no person's approval."""


class DecisionError(Exception):
    """A decision that cannot be taken. The message says why, and the remedy."""


class NotFound(DecisionError):
    """There is no such tenant, plan, line or override."""


class Conflict(DecisionError):
    """Somebody else decided, or the plan was made again, since the one who decides has looked at it."""


class NotAllowed(DecisionError):
    """What is asked for does not fit the state of the plan, or is no value that can be taken."""


@dataclass(frozen=True)
class AuditRow:
    """A row of ops.plan_decision. approval_version is that after the decision."""

    tenant_id: str
    plan_date: date
    plan_id: UUID
    action: str
    actor: str
    from_state: str
    to_state: str
    approval_version: int
    decided_at: datetime
    reason_code: str | None = None
    notes: str = ""
    warnings: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decider:
    """The tenant whose plans are decided on: its local date and time now, and the versions of its inputs now."""

    tenant_id: str
    now: datetime
    local_now: datetime
    plan_lead_days: int
    versions: Mapping[str, int]

    @property
    def today(self) -> date:
        """The date where the tenant is."""
        return self.local_now.date()


@contextmanager
def transaction_of(store: Store | Connection) -> Iterator[Connection]:
    """A transaction of the store's, or a part of the one that the connection is in."""
    if isinstance(store, Store):
        with store.transaction() as connection:
            yield connection
    else:
        with store.transaction():
            yield store


def read_decider(connection: Connection, tenant_id: str, now: datetime) -> Decider:
    """Raises NotFound for an unknown tenant, NotAllowed where its time zone does not tell its date."""
    row = connection.execute(
        "SELECT timezone, plan_lead_days FROM master.tenant WHERE tenant_id = %s", (tenant_id,)
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no tenant {tenant_id}. Remedy: `daybreak tenant list` shows them all.")
    zone, lead_days = row
    if not is_time_zone(zone):
        raise NotAllowed(
            f"{tenant_id} has the time zone {zone!r}, which is invalid: its date is unknown. "
            f"Remedy: daybreak tenant set {tenant_id} --timezone ZONE."
        )
    versions = input_versions(connection, [tenant_id])[tenant_id]
    return Decider(tenant_id, now, now.astimezone(ZoneInfo(zone)), int(lead_days), versions)


def checked_actor(actor: str) -> str:
    """The name of who decides, without spaces around it. Raises NotAllowed when there is none."""
    if not actor.strip():
        raise NotAllowed("Nobody is named as the one who decides. Remedy: give a name (--by NAME).")
    return actor.strip()


def record_decisions(connection: Connection, rows: Iterable[AuditRow]) -> int:
    """Add rows to the audit; returns how many."""
    return copy_rows(
        connection,
        "ops.plan_decision",
        (
            "tenant_id",
            "plan_date",
            "plan_id",
            "action",
            "actor",
            "from_state",
            "to_state",
            "reason_code",
            "notes",
            "warnings",
            "data",
            "approval_version",
            "decided_at",
        ),
        (
            (
                row.tenant_id,
                row.plan_date,
                row.plan_id,
                row.action,
                row.actor,
                row.from_state,
                row.to_state,
                row.reason_code,
                row.notes,
                json.dumps(list(row.warnings)),
                json.dumps(dict(row.data), default=str, allow_nan=False),
                row.approval_version,
                row.decided_at,
            )
            for row in rows
        ),
    )


def read_revisions(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """Every revision of a date's production and procurement plans with its state, and how much it changed the one before.

    state: pending, approved, rejected, sent or superseded; of a production plan active or superseded.
    """
    return frame(
        connection,
        """
        SELECT plan.kind, plan.location_id, plan.revision, plan.plan_id,
               CASE WHEN plan.status = 'superseded' THEN 'superseded' ELSE coalesce(plan.approval, plan.status) END AS state,
               plan.approval, plan.approval_version, plan.created_at, plan.superseded_at, plan.decided_at, plan.decided_by,
               plan.reason_code, plan.decision_notes, plan.regenerated_from, plan.run_id,
               stability.previous_quantity, stability.changed_quantity, stability.instability,
               stability.weighted_change, stability.lines_changed
        FROM plans.plan LEFT JOIN quality.plan_stability AS stability USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s
          AND plan.kind IN ('production', 'procurement')
        ORDER BY plan.kind DESC, plan.location_id, plan.revision
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_decisions(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """What was decided on a date's plans, first to last."""
    return frame(
        connection,
        """
        SELECT decision.decided_at, decision.action, decision.actor, plan.kind, plan.location_id, plan.revision,
               decision.from_state, decision.to_state, decision.reason_code, decision.notes, decision.warnings,
               decision.data, decision.approval_version, decision.plan_id
        FROM ops.plan_decision AS decision JOIN plans.plan USING (tenant_id, plan_date, plan_id)
        WHERE decision.tenant_id = %(tenant_id)s AND decision.plan_date = %(plan_date)s
        ORDER BY decision.decision_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )
