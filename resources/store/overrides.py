"""Numbers that people put in place of a plan's: given, withdrawn, listed, and which of them hold for a plan.

An override holds for plans made from the inputs that it was given on. When an import changes them it lapses, and the plan
says so: the person decided without knowing what is known now. What a plan does with it is decided in `planning`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd

from planning.frames import PLAN_DAYS, exceptions_of
from resources.store.database import Connection, Store, frame
from resources.store.decisions import (
    AuditRow,
    Decider,
    NotAllowed,
    NotFound,
    checked_actor,
    read_decider,
    record_decisions,
    transaction_of,
)
from resources.store.inputs import batch_frame
from resources.store.plans import lock_tenants
from resources.store.versions import input_versions, inputs_hash

MOST = 100_000
"""Batches or packs of a line: more is a slip of the keyboard."""

PRODUCTION_COLUMNS = ["tenant_id", "location_id", "product_id", "batches", "actor", "reason"]
PURCHASE_COLUMNS = [
    "tenant_id",
    "location_id",
    "item_id",
    "supplier_id",
    "delivery_on",
    "packs",
    "actor",
    "reason",
]


@dataclass(frozen=True)
class ProductionLine:
    """A product where it is made; without a location, the only one that makes it."""

    product_id: str
    location_id: str | None = None


@dataclass(frozen=True)
class PurchaseLine:
    """A delivery of an item by a supplier; without a location, the only one that receives goods."""

    item_id: str
    supplier_id: str
    delivery_on: date
    location_id: str | None = None


@dataclass(frozen=True)
class Given:
    """An override as it was stored. replaced: the amount of the one of the same line that it takes the place of."""

    override_id: int
    tenant_id: str
    plan_date: date
    kind: str
    location_id: str
    subject_id: str
    amount: int
    replaced: int | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Overrides:
    """What holds for plans of these tenants, and what does not any more.

    production: tenant_id, location_id (where it is made), product_id, batches, actor, reason.
    purchase: tenant_id, location_id, item_id, supplier_id, delivery_on, packs, actor, reason.
    lapsed: exceptions, of link production_plans or procurement_plans.
    """

    production: pd.DataFrame
    purchase: pd.DataFrame
    lapsed: pd.DataFrame


@dataclass(frozen=True)
class _Line:
    """A line of an active plan, checked: where it is, and what it overrides."""

    kind: str
    location_id: str
    subject_id: str
    supplier_id: str | None
    delivery_on: date | None
    plan_id: UUID
    state: str
    approval_version: int
    inputs_hash: str


def add_override(
    store: Store | Connection,
    tenant_id: str,
    plan_date: date,
    line: ProductionLine | PurchaseLine,
    amount: int,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> Given:
    """Put a person's number of batches, or packs, in place of a line's; an earlier one of the same line is withdrawn.

    It holds for plans made from the inputs as they are now: plan the day again for everything below to follow. Raises
    NotFound for a line that no active plan of the date can have, NotAllowed for an amount or a line that cannot be taken.
    """
    with transaction_of(store) as connection:
        actor, reason = checked_actor(actor), reason.strip()
        if not reason:
            raise NotAllowed("No reason is given, so that nobody could judge the override. Remedy: --reason TEXT.")
        if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= MOST:
            unit = "batches" if isinstance(line, ProductionLine) else "packs"
            raise NotAllowed(f"{amount} {unit} cannot be. Remedy: give a whole number from 0 to {MOST}.")
        lock_tenants(connection, [tenant_id])
        decider = read_decider(connection, tenant_id, now)
        if plan_date < decider.today:
            raise NotAllowed(
                f"{plan_date} has passed where {tenant_id} is: what was made cannot be changed. "
                f"Remedy: override a plan of {decider.today} or later."
            )
        if isinstance(line, ProductionLine):
            found = _production_line(connection, tenant_id, plan_date, line)
        else:
            found = _purchase_line(connection, tenant_id, plan_date, line)
        current = inputs_hash(decider.versions, plan_date, plan_date - timedelta(days=decider.plan_lead_days))
        replaced = _withdraw_same(connection, tenant_id, plan_date, found, actor, now)
        row = connection.execute(
            """
            INSERT INTO plans.plan_override (tenant_id, plan_date, kind, location_id, subject_id, supplier_id, delivery_on,
                                             amount, actor, reason, inputs_hash, made_at)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING override_id
            """,
            (
                tenant_id,
                plan_date,
                found.kind,
                found.location_id,
                found.subject_id,
                found.supplier_id,
                found.delivery_on,
                amount,
                actor,
                reason,
                current,
                now,
            ),
        ).fetchone()
        assert row is not None  # noqa: S101 (INSERT … RETURNING has a row)
        warnings = (
            ()
            if found.inputs_hash == current
            else ("The inputs have changed since the plan was made: planned again, its other lines may change too.",)
        )
        _record(connection, "override", decider, plan_date, found, actor, reason, warnings, row[0], amount, replaced)
    return Given(
        row[0], tenant_id, plan_date, found.kind, found.location_id, found.subject_id, amount, replaced, warnings
    )


def withdraw_override(
    store: Store | Connection, tenant_id: str, override_id: int, *, actor: str, now: datetime
) -> Given:
    """Take an override back: the next plan of its date has the recommended number again; returns what it was.

    Raises NotFound for one that the tenant has not, NotAllowed for one that is withdrawn.
    """
    with transaction_of(store) as connection:
        actor = checked_actor(actor)
        lock_tenants(connection, [tenant_id])
        decider = read_decider(connection, tenant_id, now)
        row = connection.execute(
            """
            SELECT plan_date, kind, location_id, subject_id, supplier_id, delivery_on, amount, reason, withdrawn_at,
                   withdrawn_by
            FROM plans.plan_override WHERE tenant_id = %s AND override_id = %s
            """,
            (tenant_id, override_id),
        ).fetchone()
        if row is None:
            raise NotFound(
                f"{tenant_id} has no override {override_id}. "
                f"Remedy: daybreak plan override list --tenant {tenant_id} --date DATE shows them."
            )
        plan_date, kind, location_id, subject_id, supplier_id, delivery_on, amount, reason, withdrawn_at, by = row
        if withdrawn_at is not None:
            raise NotAllowed(
                f"Override {override_id} was withdrawn by {by} at {withdrawn_at:%Y-%m-%d %H:%M} UTC. "
                "Remedy: nothing is left to do."
            )
        connection.execute(
            "UPDATE plans.plan_override SET withdrawn_at = %s, withdrawn_by = %s WHERE override_id = %s",
            (now, actor, override_id),
        )
        active = connection.execute(
            """
            SELECT plan_id, coalesce(approval, status), approval_version, inputs_hash FROM plans.plan
            WHERE tenant_id = %s AND plan_date = %s AND kind = %s AND location_id = %s AND status = 'active'
            """,
            (tenant_id, plan_date, PLAN_KIND[kind], location_id),
        ).fetchone()
        if active is not None:
            line = _Line(kind, location_id, subject_id, supplier_id, delivery_on, *active)
            _record(
                connection, "withdraw_override", decider, plan_date, line, actor, reason, (), override_id, amount, None
            )
    return Given(override_id, tenant_id, plan_date, kind, location_id, subject_id, amount, None, ())


def list_overrides(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """Every override of a date, with state: in force, lapsed (given on other inputs than those of now) or withdrawn."""
    rows = frame(
        connection,
        """
        SELECT given.override_id, given.kind, given.location_id, given.subject_id, given.supplier_id, given.delivery_on,
               given.amount, given.actor, given.reason, given.made_at, given.withdrawn_at, given.withdrawn_by,
               given.inputs_hash, tenant.plan_lead_days
        FROM plans.plan_override AS given JOIN master.tenant USING (tenant_id)
        WHERE given.tenant_id = %(tenant_id)s AND given.plan_date = %(plan_date)s
        ORDER BY given.override_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )
    states = []
    if len(rows):
        versions = input_versions(connection, [tenant_id])[tenant_id]
        run_date = plan_date - timedelta(days=int(rows["plan_lead_days"].iloc[0]))
        current = inputs_hash(versions, plan_date, run_date)
        states = [
            "withdrawn" if withdrawn else "in force" if given_on == current else "lapsed"
            for withdrawn, given_on in zip(rows["withdrawn_at"].notna(), rows["inputs_hash"], strict=True)
        ]
    return rows.drop(columns=["inputs_hash", "plan_lead_days"]).assign(state=states)


def read_overrides(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, hashes: Mapping[str, str]
) -> Overrides:
    """The overrides that hold for plans with these inputs hashes, by tenant, and exceptions for those that lapsed."""
    rows = batch_frame(
        connection,
        """
        SELECT override_id, tenant_id, kind, location_id, subject_id, supplier_id, delivery_on, amount, actor, reason,
               inputs_hash, made_at
        FROM plans.plan_override
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s AND withdrawn_at IS NULL
        ORDER BY tenant_id, kind, location_id, subject_id, supplier_id, delivery_on
        """,
        tenant_ids,
        {"plan_date": plan_date},
    )
    is_in_force = rows["inputs_hash"].astype(object) == rows["tenant_id"].map(hashes).astype(object)
    is_production = rows["kind"] == "production"
    production = rows[is_in_force & is_production].rename(columns={"subject_id": "product_id", "amount": "batches"})
    purchase = rows[is_in_force & ~is_production].rename(columns={"subject_id": "item_id", "amount": "packs"})
    return Overrides(
        production[PRODUCTION_COLUMNS].reset_index(drop=True),
        purchase[PURCHASE_COLUMNS].reset_index(drop=True),
        exceptions_of(_lapsed(row, plan_date) for row in rows[~is_in_force].itertuples()),
    )


PLAN_KIND = {"production": "production", "purchase": "procurement"}
"""The kind of plan that an override of a kind changes."""


def _lapsed(row: Any, plan_date: date) -> tuple[str, ...]:
    where = f"--tenant {row.tenant_id} --date {plan_date} --location {row.location_id}"
    if row.kind == "production":
        what = f"{row.amount} batches of {row.subject_id}"
        command = f"production {where} --product {row.subject_id} --batches {row.amount}"
    else:
        what = f"{row.amount} packs of {row.subject_id} from {row.supplier_id} for {row.delivery_on}"
        command = (
            f"purchase {where} --item {row.subject_id} --supplier {row.supplier_id} --delivery {row.delivery_on} "
            f"--packs {row.amount}"
        )
    return (
        row.tenant_id,
        "production_plans" if row.kind == "production" else "procurement_plans",
        row.location_id,
        "product" if row.kind == "production" else "item",
        row.subject_id,
        "override_lapsed",
        f"The inputs have changed since {row.actor} set {what} ({row.reason}): the plan has the recommended number.",
        f'Look at it, and give it again if it still holds: daybreak plan override {command} --reason "{row.reason}".',
    )


def _active_plans(connection: Connection, tenant_id: str, plan_date: date, kind: str) -> dict[str, tuple[Any, ...]]:
    """By location: plan_id, state, approval_version and inputs_hash of the active plans. Raises NotFound without any."""
    rows = connection.execute(
        """
        SELECT location_id, plan_id, coalesce(approval, status), approval_version, inputs_hash FROM plans.plan
        WHERE tenant_id = %s AND plan_date = %s AND kind = %s AND status = 'active' ORDER BY location_id
        """,
        (tenant_id, plan_date, kind),
    )
    plans = {location_id: tuple(rest) for location_id, *rest in rows}
    if not plans:
        raise NotFound(
            f"{tenant_id} has no {kind} plan for {plan_date}. "
            f"Remedy: daybreak plan run --tenant {tenant_id} --date {plan_date}."
        )
    return plans


def _production_line(connection: Connection, tenant_id: str, plan_date: date, line: ProductionLine) -> _Line:
    plans = _active_plans(connection, tenant_id, plan_date, "production")
    rows = connection.execute(
        """
        SELECT DISTINCT series.made_at_location_id
        FROM master.assortment AS series
        JOIN master.product USING (tenant_id, product_id)
        JOIN master.location USING (tenant_id, location_id)
        WHERE series.tenant_id = %s AND series.product_id = %s
          AND series.is_active AND product.is_active AND location.is_active
        ORDER BY 1
        """,
        (tenant_id, line.product_id),
    )
    places = [location_id for (location_id,) in rows if location_id in plans]
    if not places:
        raise NotFound(
            f"No plan of {tenant_id} for {plan_date} makes {line.product_id}. "
            f"Remedy: daybreak plan show --tenant {tenant_id} --date {plan_date} names the products."
        )
    location_id = _chosen(places, line.location_id, f"{line.product_id} is made at")
    return _Line("production", location_id, line.product_id, None, None, *plans[location_id])


def _purchase_line(connection: Connection, tenant_id: str, plan_date: date, line: PurchaseLine) -> _Line:
    plans = _active_plans(connection, tenant_id, plan_date, "procurement")
    location_id = _chosen(list(plans), line.location_id, f"{tenant_id} receives goods at")
    suppliers = connection.execute(
        "SELECT supplier_id FROM master.supplier_item WHERE tenant_id = %s AND item_id = %s AND is_active ORDER BY 1",
        (tenant_id, line.item_id),
    )
    known = [supplier_id for (supplier_id,) in suppliers]
    if line.supplier_id not in known:
        raise NotFound(
            f"{line.supplier_id} does not offer {line.item_id} to {tenant_id}. Remedy: "
            + (
                f"choose {' or '.join(known)}."
                if known
                else f"import who sells {line.item_id} with kind supplier-items."
            )
        )
    last_day = plan_date + timedelta(days=PLAN_DAYS - 1)
    if not plan_date <= line.delivery_on <= last_day:
        raise NotAllowed(
            f"A delivery on {line.delivery_on} is not in the plan of {plan_date}. "
            f"Remedy: give a day from {plan_date} to {last_day}."
        )
    ordered = connection.execute(
        """
        SELECT packs FROM plans.purchase_line
        WHERE tenant_id = %s AND plan_date = %s AND location_id = %s AND item_id = %s AND supplier_id = %s
          AND delivery_on = %s AND status = 'ordered' LIMIT 1
        """,
        (tenant_id, plan_date, location_id, line.item_id, line.supplier_id, line.delivery_on),
    ).fetchone()
    if ordered is not None:
        raise NotAllowed(
            f"{ordered[0]} packs of {line.item_id} from {line.supplier_id} for {line.delivery_on} are ordered already. "
            "Remedy: change the order with the supplier, import it with kind orders, then plan again."
        )
    return _Line("purchase", location_id, line.item_id, line.supplier_id, line.delivery_on, *plans[location_id])


def _chosen(places: Sequence[str], wanted: str | None, what: str) -> str:
    if wanted is None:
        if len(places) > 1:
            raise NotAllowed(f"{what} {', '.join(places)}. Remedy: say where (--location).")
        return places[0]
    if wanted not in places:
        raise NotFound(f"{what} {', '.join(places)}, not at {wanted}. Remedy: correct --location.")
    return wanted


def _withdraw_same(
    connection: Connection, tenant_id: str, plan_date: date, line: _Line, actor: str, now: datetime
) -> int | None:
    """Withdraw the override of the same line, if there is one; returns its amount."""
    row = connection.execute(
        """
        UPDATE plans.plan_override SET withdrawn_at = %s, withdrawn_by = %s
        WHERE tenant_id = %s AND plan_date = %s AND kind = %s AND location_id = %s AND subject_id = %s
          AND supplier_id IS NOT DISTINCT FROM %s AND delivery_on IS NOT DISTINCT FROM %s AND withdrawn_at IS NULL
        RETURNING amount
        """,
        (
            now,
            actor,
            tenant_id,
            plan_date,
            line.kind,
            line.location_id,
            line.subject_id,
            line.supplier_id,
            line.delivery_on,
        ),
    ).fetchone()
    return None if row is None else int(row[0])


def _record(
    connection: Connection,
    action: str,
    decider: Decider,
    plan_date: date,
    line: _Line,
    actor: str,
    reason: str,
    warnings: Sequence[str],
    override_id: int,
    amount: int,
    replaced: int | None,
) -> None:
    """The audit row: an override leaves the state of the plan as it is, until the date is planned again."""
    data = {
        "override_id": override_id,
        "kind": line.kind,
        "location_id": line.location_id,
        "subject_id": line.subject_id,
        "amount": amount,
        **({"supplier_id": line.supplier_id, "delivery_on": line.delivery_on} if line.kind == "purchase" else {}),
        **({} if replaced is None else {"replaced": replaced}),
    }
    record_decisions(
        connection,
        [
            AuditRow(
                decider.tenant_id,
                plan_date,
                line.plan_id,
                action,
                actor,
                line.state,
                line.state,
                line.approval_version,
                decider.now,
                None,
                reason,
                warnings,
                data,
            )
        ],
    )
