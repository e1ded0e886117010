"""Approval of procurement plans: pending, approved, rejected, sent, superseded, and what each decision brings about.

The functions take plain values, so that the command line and the API decide alike. Each runs in one transaction, which
holds the tenant against a planning run: the decision, its orders, its audit and its event are there together, or none is.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd

from resources import vocabulary
from resources.store.database import Connection, Store, frame
from resources.store.decisions import (
    AuditRow,
    Conflict,
    Decider,
    NotAllowed,
    NotFound,
    checked_actor,
    read_decider,
    record_decisions,
    transaction_of,
)
from resources.store.executions import add_events
from resources.store.orders import Approved, place_orders
from resources.store.plans import lock_tenants

STALE_AFTER = timedelta(hours=24)
"""Older plans are approved with a warning."""

MAX_REGENERATIONS = 3
"""Times that a date is planned again by itself; a check of ops.plan_regeneration holds it too."""

STALE_DATA = "stale_data"
REASON_CODES = (STALE_DATA, "wrong_qty", "wrong_supplier", "price", "budget", "other")
SAYS_STALE = re.compile("stale|outdated", re.IGNORECASE)
"""Words in the notes of a rejection that mean the same as the code."""

TRANSITIONS: Mapping[str, tuple[str, str]] = {
    "approve": ("pending", "approved"),
    "reject": ("pending", "rejected"),
    "send": ("approved", "sent"),
}
"""Per action the state that a plan must be in, and the one that it comes to."""

logger = logging.getLogger("daybreak.approval")


@dataclass(frozen=True)
class DecidedPlan:
    """A plan that was decided on. ordered_lines: how many of its lines became orders; amount: their worth, if known."""

    plan_id: UUID
    location_id: str
    revision: int
    from_state: str
    to_state: str
    approval_version: int
    ordered_lines: int
    ordered_amount: float


@dataclass(frozen=True)
class Regeneration:
    """What became of the wish that a plan rejected for stale data is made again.

    attempt: which time of the date it is. is_requested: it will be made by itself; otherwise a person has to.
    """

    attempt: int
    is_requested: bool
    message: str


@dataclass(frozen=True)
class Decision:
    """What was decided, by whom and when, on which plans; what to beware of, and whether they are made again."""

    tenant_id: str
    plan_date: date
    action: str
    actor: str
    decided_at: datetime
    plans: tuple[DecidedPlan, ...]
    warnings: tuple[str, ...]
    regeneration: Regeneration | None = None


@dataclass(frozen=True)
class _Plan:
    """An active procurement plan as it is decided on."""

    plan_id: UUID
    location_id: str
    revision: int
    approval: str
    approval_version: int
    decided_by: str | None
    decided_at: datetime | None
    created_at: datetime
    input_versions: Mapping[str, int]


def approve(
    store: Store | Connection,
    tenant_id: str,
    plan_date: date,
    location_id: str | None = None,
    *,
    actor: str,
    now: datetime,
    notes: str = "",
    expected_version: int | None = None,
) -> Decision:
    """Approve the pending procurement plans of a date, by default those of every location that receives goods.

    Lines that must be ordered by the tenant's date become open orders. A plan older than STALE_AFTER, or with inputs that
    have changed since, is approved with a warning. expected_version: the approval_version that the actor has seen.

    Raises NotFound when there is no plan, Conflict when somebody else decided meanwhile or it was made again, NotAllowed
    when it is not pending.
    """
    with transaction_of(store) as connection:
        decider, plans = _held(connection, "approve", tenant_id, plan_date, location_id, now, expected_version)
        actor = checked_actor(actor)
        stale = {plan.plan_id: _staleness(plan, decider) for plan in plans}
        for plan in plans:
            for warning in stale[plan.plan_id]:
                logger.warning("%s for %s, %s: %s", tenant_id, plan_date, plan.location_id, warning)
        overdue = _overdue_lines(connection, tenant_id, plan_date, [plan.plan_id for plan in plans], decider)
        _set_state(connection, tenant_id, plan_date, plans, "approved", actor, now, None, notes)
        ordered = place_orders(
            connection, plan_date, [Approved(tenant_id, plan.plan_id, decider.today) for plan in plans]
        )
        warnings = {plan.plan_id: [*stale[plan.plan_id], *overdue.get(plan.plan_id, [])] for plan in plans}
        decided = _recorded(
            connection, "approve", decider, plan_date, plans, actor, notes, None, warnings, _totals(ordered), {}
        )
        _announce(
            connection, vocabulary.EVENT_PROCUREMENT_PLAN_APPROVED, decider, plan_date, decided, actor, notes, warnings
        )
    return Decision(tenant_id, plan_date, "approve", actor, now, decided, _all_of(warnings))


def reject(
    store: Store | Connection,
    tenant_id: str,
    plan_date: date,
    location_id: str | None = None,
    *,
    actor: str,
    now: datetime,
    reason_code: str,
    notes: str = "",
    expected_version: int | None = None,
) -> Decision:
    """Reject the pending procurement plans of a date, by default those of every location that receives goods.

    One rejected for stale data, by its code or by the words "stale" or "outdated" in the notes, is made again by itself,
    at most MAX_REGENERATIONS times a date; any other waits for a person. Raises as `approve` does, and NotAllowed for a
    reason code that is none.
    """
    with transaction_of(store) as connection:
        if reason_code not in REASON_CODES:
            raise NotAllowed(f"{reason_code!r} is no reason code. Remedy: give one of {', '.join(REASON_CODES)}.")
        decider, plans = _held(connection, "reject", tenant_id, plan_date, location_id, now, expected_version)
        actor = checked_actor(actor)
        _set_state(connection, tenant_id, plan_date, plans, "rejected", actor, now, reason_code, notes)
        logger.info(
            "%s: %s for %s by %s, %s: %s", vocabulary.PLAN_REJECTION, tenant_id, plan_date, actor, reason_code, notes
        )
        is_stale = reason_code == STALE_DATA or SAYS_STALE.search(notes) is not None
        regeneration = _request_regeneration(connection, decider, plan_date, plans, actor) if is_stale else None
        told = (
            {"regeneration": {"attempt": regeneration.attempt, "is_requested": regeneration.is_requested}}
            if regeneration
            else {}
        )
        decided = _recorded(connection, "reject", decider, plan_date, plans, actor, notes, reason_code, {}, {}, told)
        if regeneration and regeneration.is_requested:
            _record_regeneration(connection, decider, plan_date, decided, actor, regeneration)
        _announce(
            connection,
            vocabulary.EVENT_PROCUREMENT_PLAN_REJECTED,
            decider,
            plan_date,
            decided,
            actor,
            notes,
            {},
            {"reason_code": reason_code, **told},
        )
    return Decision(tenant_id, plan_date, "reject", actor, now, decided, (), regeneration)


def mark_sent(
    store: Store | Connection,
    tenant_id: str,
    plan_date: date,
    location_id: str | None = None,
    *,
    actor: str,
    now: datetime,
    notes: str = "",
    expected_version: int | None = None,
) -> Decision:
    """Note that the orders of approved procurement plans have gone out to the suppliers. Raises as `approve` does."""
    with transaction_of(store) as connection:
        decider, plans = _held(connection, "send", tenant_id, plan_date, location_id, now, expected_version)
        actor = checked_actor(actor)
        _set_state(connection, tenant_id, plan_date, plans, "sent", actor, now, None, notes)
        decided = _recorded(connection, "send", decider, plan_date, plans, actor, notes, None, {}, {}, {})
    return Decision(tenant_id, plan_date, "send", actor, now, decided, ())


def read_approvals(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """The active procurement plans: location_id, revision, plan_id, approval, approval_version, decided_by, decided_at."""
    return frame(
        connection,
        """
        SELECT location_id, revision, plan_id, approval, approval_version, decided_by, decided_at, reason_code,
               decision_notes, regenerated_from, created_at
        FROM plans.plan
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND kind = 'procurement' AND status = 'active'
        ORDER BY location_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_open_regenerations(connection: Connection) -> pd.DataFrame:
    """What rejections asked for and no run has settled, of active tenants, the oldest first.

    tenant_id, timezone, plan_date, attempt, requested_by, requested_at.
    """
    return frame(
        connection,
        """
        SELECT asked.tenant_id, tenant.timezone, asked.plan_date, asked.attempt, asked.requested_by, asked.requested_at
        FROM ops.plan_regeneration AS asked JOIN master.tenant USING (tenant_id)
        WHERE asked.completed_at IS NULL AND tenant.status = 'active'
        ORDER BY asked.requested_at, asked.tenant_id, asked.plan_date
        """,
    )


def _held(
    connection: Connection,
    action: str,
    tenant_id: str,
    plan_date: date,
    location_id: str | None,
    now: datetime,
    expected_version: int | None,
) -> tuple[Decider, list[_Plan]]:
    """The plans that the action is for, with their tenant held for the rest of the transaction.

    They are read before and after waiting for the tenant: what changed in between, the actor cannot have seen.
    """
    seen = {plan.location_id: plan for plan in _read_plans(connection, tenant_id, plan_date)}
    lock_tenants(connection, [tenant_id])
    decider = read_decider(connection, tenant_id, now)
    plans = _read_plans(connection, tenant_id, plan_date)
    if not plans:
        raise NotFound(
            f"{tenant_id} has no procurement plan for {plan_date}. "
            f"Remedy: daybreak plan run --tenant {tenant_id} --date {plan_date}."
        )
    if location_id is not None:
        known = [plan.location_id for plan in plans]
        plans = [plan for plan in plans if plan.location_id == location_id]
        if not plans:
            raise NotFound(
                f"{tenant_id} has no procurement plan at {location_id} for {plan_date}. "
                f"Remedy: give one of {', '.join(known)}, or no location for all of them."
            )
    needed, target = TRANSITIONS[action]
    # Of several locations, those that are where the action leads are left as they are.
    open_plans = [plan for plan in plans if plan.approval != target] or plans
    for plan in open_plans:
        before = seen.get(plan.location_id)
        is_seen = before is None or (before.plan_id, before.approval_version) == (plan.plan_id, plan.approval_version)
        if not is_seen or (expected_version is not None and expected_version != plan.approval_version):
            raise Conflict(_conflict(tenant_id, plan_date, plan, expected_version))
    for plan in open_plans:
        if plan.approval != needed:
            raise NotAllowed(_refusal(action, tenant_id, plan_date, plan, len(plans) > 1))
    return decider, open_plans


def _read_plans(connection: Connection, tenant_id: str, plan_date: date) -> list[_Plan]:
    rows = connection.execute(
        """
        SELECT plan_id, location_id, revision, approval, approval_version, decided_by, decided_at, created_at,
               input_versions
        FROM plans.plan
        WHERE tenant_id = %s AND plan_date = %s AND kind = 'procurement' AND status = 'active' ORDER BY location_id
        """,
        (tenant_id, plan_date),
    )
    return [_Plan(*row) for row in rows]


def _conflict(tenant_id: str, plan_date: date, plan: _Plan, expected_version: int | None) -> str:
    happened = (
        f"revision {plan.revision} was {plan.approval} by {plan.decided_by} at {plan.decided_at:%Y-%m-%d %H:%M} UTC"
        if plan.decided_by
        else f"revision {plan.revision} was made at {plan.created_at:%Y-%m-%d %H:%M} UTC"
        + (" and supersedes the one before" if plan.revision > 1 else "")
    )
    version = "" if expected_version is None else f", not {expected_version}"
    return (
        f"The procurement plan of {tenant_id} at {plan.location_id} for {plan_date} has changed meanwhile: {happened} "
        f"(version {plan.approval_version}{version}). "
        f"Remedy: look at it again (daybreak plan show --tenant {tenant_id} --date {plan_date}), then decide."
    )


def _refusal(action: str, tenant_id: str, plan_date: date, plan: _Plan, is_one_of_many: bool) -> str:
    again = f"daybreak plan run --tenant {tenant_id} --date {plan_date} --force"
    remedies = {
        ("approve", "approved"): "nothing is left to do.",
        ("approve", "rejected"): f"make it again: {again}.",
        ("approve", "sent"): "nothing is left to do.",
        (
            "reject",
            "approved",
        ): f"cancel its orders with the supplier, import them as cancelled (kind orders), then plan again: {again}.",
        ("reject", "rejected"): f"make it again: {again}.",
        ("reject", "sent"): "cancel its orders with the supplier, import them as cancelled (kind orders), then plan "
        f"again: {again}.",
        ("send", "pending"): f"approve it first: daybreak plan approve --tenant {tenant_id} --date {plan_date}.",
        ("send", "rejected"): f"make it again: {again}.",
        ("send", "sent"): "nothing is left to do.",
    }
    by = f" by {plan.decided_by} at {plan.decided_at:%Y-%m-%d %H:%M} UTC" if plan.decided_by else ""
    verb = {"approve": "approved", "reject": "rejected", "send": "marked as sent"}[action]
    others = " Give --location to decide on one location alone." if is_one_of_many else ""
    return (
        f"The procurement plan of {tenant_id} at {plan.location_id} for {plan_date} is {plan.approval}{by} and cannot be "
        f"{verb}. Remedy: {remedies[action, plan.approval]}{others}"
    )


def _staleness(plan: _Plan, decider: Decider) -> list[str]:
    """Why a plan may not fit any more: its age, and inputs that were imported after it was made."""
    warnings = []
    age = decider.now - plan.created_at
    if age > STALE_AFTER:
        hours = age.total_seconds() / 3600
        warnings.append(
            f"{vocabulary.APPROVING_STALE_PLAN}: revision {plan.revision} at {plan.location_id} was made at "
            f"{plan.created_at:%Y-%m-%d %H:%M} UTC, {hours:.0f} hours ago."
        )
    newer = [name for name, version in decider.versions.items() if version > plan.input_versions.get(name, 0)]
    if newer:
        warnings.append(
            f"Approving plan whose inputs are older than what is known: {', '.join(newer)} changed since revision "
            f"{plan.revision} at {plan.location_id} was made."
        )
    return warnings


def _overdue_lines(
    connection: Connection, tenant_id: str, plan_date: date, plan_ids: Sequence[UUID], decider: Decider
) -> dict[UUID, list[str]]:
    """Warnings of lines that should have been ordered before now, by plan: expedite them, or plan again."""
    rows = connection.execute(
        """
        SELECT line.plan_id, line.item_id, line.supplier_id, line.order_by, line.delivery_on, supplier.order_cutoff_at
        FROM plans.purchase_line AS line JOIN master.supplier USING (tenant_id, supplier_id)
        WHERE line.tenant_id = %s AND line.plan_date = %s AND line.plan_id = ANY(%s) AND line.status = 'pending'
          AND line.order_by <= %s
        ORDER BY line.order_by, line.supplier_id, line.item_id
        """,
        (tenant_id, plan_date, list(plan_ids), decider.today),
    )
    found: dict[UUID, list[str]] = {}
    for plan_id, item_id, supplier_id, order_by, delivery_on, cutoff in rows:
        line = f"{item_id} from {supplier_id} for {delivery_on}"
        if delivery_on < decider.today:
            warning = f"{line} is not ordered: its delivery day has passed. Plan again to buy it for another day."
        elif order_by < decider.today:
            warning = f"{line} should have been ordered by {order_by}: it may come late. Expedite it with the supplier."
        elif decider.local_now.time() > cutoff:
            warning = (
                f"{line} is ordered after the supplier's cut-off at {cutoff:%H:%M}: it may come late. Expedite it."
            )
        else:
            continue
        found.setdefault(plan_id, []).append(warning)
    return found


def _set_state(
    connection: Connection,
    tenant_id: str,
    plan_date: date,
    plans: Sequence[_Plan],
    state: str,
    actor: str,
    now: datetime,
    reason_code: str | None,
    notes: str,
) -> None:
    connection.execute(
        """
        UPDATE plans.plan
        SET approval = %s, approval_version = approval_version + 1, decided_by = %s, decided_at = %s, reason_code = %s,
            decision_notes = %s
        WHERE tenant_id = %s AND plan_date = %s AND plan_id = ANY(%s)
        """,
        (state, actor, now, reason_code, notes, tenant_id, plan_date, [plan.plan_id for plan in plans]),
    )


def _request_regeneration(
    connection: Connection, decider: Decider, plan_date: date, plans: Sequence[_Plan], actor: str
) -> Regeneration:
    """Ask that the date is planned again, unless it was often enough. A request that is open already serves this one too."""
    tenant_id = decider.tenant_id
    asked = connection.execute(
        "SELECT attempt, completed_at IS NULL FROM ops.plan_regeneration WHERE tenant_id = %s AND plan_date = %s "
        "ORDER BY attempt DESC",
        (tenant_id, plan_date),
    ).fetchall()
    if asked and asked[0][1]:
        return Regeneration(asked[0][0], True, f"The date is being planned again already ({_nth(asked[0][0])}).")
    attempt = len(asked) + 1
    if attempt > MAX_REGENERATIONS:
        message = (
            f"{tenant_id} was planned again {MAX_REGENERATIONS} times for {plan_date} already, so this waits for a person. "
            f"Remedy: import what is out of date, then daybreak plan run --tenant {tenant_id} --date {plan_date} --force."
        )
        logger.warning("%s", message)
        return Regeneration(attempt, False, message)
    connection.execute(
        """
        INSERT INTO ops.plan_regeneration (tenant_id, plan_date, attempt, plan_id, requested_by, requested_at)
        VALUES (%s, %s, %s, %s, %s, %s)
        """,
        (tenant_id, plan_date, attempt, plans[0].plan_id, actor, decider.now),
    )
    logger.info("%s: %s for %s, %s", vocabulary.PLAN_REGENERATING, tenant_id, plan_date, _nth(attempt))
    return Regeneration(
        attempt, True, f"{vocabulary.PLAN_REGENERATING} of {tenant_id} for {plan_date}, {_nth(attempt)}."
    )


def _record_regeneration(
    connection: Connection,
    decider: Decider,
    plan_date: date,
    rejected: Sequence[DecidedPlan],
    actor: str,
    regeneration: Regeneration,
) -> None:
    record_decisions(
        connection,
        (
            AuditRow(
                decider.tenant_id,
                plan_date,
                plan.plan_id,
                "regenerate",
                actor,
                plan.to_state,
                plan.to_state,
                plan.approval_version,
                decider.now,
                data={"attempt": regeneration.attempt, "of": MAX_REGENERATIONS},
            )
            for plan in rejected
        ),
    )


def _nth(attempt: int) -> str:
    return f"attempt {attempt} of {MAX_REGENERATIONS}"


def _totals(ordered: pd.DataFrame) -> dict[UUID, tuple[int, float]]:
    """Lines and amount ordered, by plan."""
    return {
        plan_id: (len(lines), round(float(lines["amount"].fillna(0.0).sum()), 2))
        for plan_id, lines in ordered.groupby("plan_id")
    }


def _recorded(
    connection: Connection,
    action: str,
    decider: Decider,
    plan_date: date,
    plans: Sequence[_Plan],
    actor: str,
    notes: str,
    reason_code: str | None,
    warnings: Mapping[UUID, Sequence[str]],
    ordered: Mapping[UUID, tuple[int, float]],
    data: Mapping[str, Any],
) -> tuple[DecidedPlan, ...]:
    """The plans as they are after the decision, which is written to the audit."""
    to_state = TRANSITIONS[action][1]
    decided = tuple(
        DecidedPlan(
            plan.plan_id,
            plan.location_id,
            plan.revision,
            plan.approval,
            to_state,
            plan.approval_version + 1,
            *ordered.get(plan.plan_id, (0, 0.0)),
        )
        for plan in plans
    )
    record_decisions(
        connection,
        (
            AuditRow(
                decider.tenant_id,
                plan_date,
                plan.plan_id,
                action,
                actor,
                plan.from_state,
                to_state,
                plan.approval_version,
                decider.now,
                reason_code,
                notes,
                warnings.get(plan.plan_id, ()),
                {
                    **({"ordered_lines": plan.ordered_lines, "ordered_amount": plan.ordered_amount} if ordered else {}),
                    **data,
                },
            )
            for plan in decided
        ),
    )
    return decided


def _announce(
    connection: Connection,
    type_: str,
    decider: Decider,
    plan_date: date,
    decided: Sequence[DecidedPlan],
    actor: str,
    notes: str,
    warnings: Mapping[UUID, Sequence[str]],
    more: Mapping[str, Any] | None = None,
) -> None:
    """An outbox event per plan."""
    add_events(
        connection,
        (
            (
                type_,
                str(plan.plan_id),
                decider.tenant_id,
                {
                    "plan_id": str(plan.plan_id),
                    "location_id": plan.location_id,
                    "plan_date": plan_date.isoformat(),
                    "revision": plan.revision,
                    "approval_version": plan.approval_version,
                    "actor": actor,
                    "notes": notes,
                    "warnings": list(warnings.get(plan.plan_id, ())),
                    "ordered_lines": plan.ordered_lines,
                    "ordered_amount": plan.ordered_amount,
                    **(more or {}),
                },
            )
            for plan in decided
        ),
        decider.now,
    )


def _all_of(warnings: Mapping[UUID, Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warning for found in warnings.values() for warning in found))
