"""Writes plans as revisions, by COPY, and knows which are up to date. What is planned is decided in `planning`.

Every write runs in the caller's transaction: the old revision is superseded and the new one becomes active together, or
neither. Call `ensure_plan_partitions` in advance and `lock_tenants` first in the transaction.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pandas as pd

from planning.frames import EXCEPTION_COLUMNS, FORECAST_DAYS, QUANTILE_LEVELS, ROUNDING, Panel
from resources import vocabulary
from resources.store.database import Connection, Store, copy_rows, frame
from resources.store.decisions import AUTO_APPROVER, AuditRow, record_decisions
from resources.store.executions import add_events
from resources.store.orders import Approved, place_orders
from resources.store.versions import input_versions, inputs_hash

PLAN_KINDS = ("forecast", "production", "procurement", "projection")
PLAN_TABLES = (
    "plan",
    "forecast",
    "production_line",
    "dough_line",
    "requirement",
    "purchase_line",
    "projection",
    "exception",
)
HEADER_COLUMNS = ("tenant_id", "location_id", "plan_id", "revision")

NAMESPACE = UUID("6f1f5a43-3a0c-5c0e-9a55-6c1d3a7b9e02")
"""Of all ids derived from keys. Changing it changes the id of every plan made again."""

REQUIREMENT_ARRAYS = (
    "gross_quantity",
    "scheduled_receipts_quantity",
    "net_quantity",
    "planned_receipts_quantity",
    "projected_on_hand_quantity",
    "deviation_quantity",
)
PROJECTION_ARRAYS = (
    "receipts_quantity",
    "consumption_quantity",
    "shortage_quantity",
    "expired_quantity",
    "closing_quantity",
    "stock_out_probability_by_day",
    "closing_low_quantity",
    "closing_high_quantity",
)
PRODUCTION_SCALARS = (
    "product_id",
    "orders_units",
    "mean_demand_units",
    "critical_ratio",
    "is_default_critical_ratio",
    "optimal_units",
    "opening_usable_units",
    "batch_size_units",
    "batches",
    "quantity_units",
    "expected_sales_units",
    "expected_waste_units",
    "expected_lost_units",
    "expected_profit",
    "sold_out_probability",
    "limited_by",
    "unit_price",
    "variable_cost",
    "salvage_value",
    "goodwill_cost",
    "unlimited_batches",
    "recommended_batches",
    "limiting_resource_id",
    "expected_carried_units",
    "override_by",
    "override_reason",
    "ready_by",
    "is_late",
)
PRODUCTION_NUMBERS = ("batch_marginal_values", "horizon_units", "deviation_units")
PRODUCTION_TEXTS = ("batch_resource_ids", "batch_starts_at", "batch_bakes_at", "batch_ready_at")
DOUGH_SCALARS = ("item_id", "quantity", "opening_usable_quantity", "runs")
DOUGH_NUMBERS = ("run_quantities", "product_quantities", "horizon_quantity")
DOUGH_TEXTS = ("run_resource_ids", "run_starts_at", "run_ends_at", "product_ids")
PURCHASE_SCALARS = (
    "supplier_id",
    "item_id",
    "order_by",
    "delivery_on",
    "needed_on",
    "net_quantity",
    "packs",
    "pack_quantity",
    "quantity",
    "price_per_pack",
    "amount",
    "status",
    "is_late",
    "reason",
    "peg_product_ids",
    "purchase_order_id",
    "lot_rule",
    "recommended_packs",
    "override_by",
    "override_reason",
)
COUNTS = {
    "rows",
    "rows_without_profit",
    "batches",
    "items",
    "purchase_lines",
    "ordered_lines",
    "late_lines",
    "lines_overridden",
    "lines_without_price",
    "stock_outs",
    "items_expiring",
}
"""The numbers of a summary that are whole."""


@dataclass(frozen=True)
class WriteContext:
    """What all headers of a batch share.

    run_dates and versions hold every tenant that is written. opened_at is the instant at which a location (tenant_id,
    location_id) opens on the plan date, that of (tenant_id, "") for the tenant's other locations; None when unknown.
    """

    plan_date: date
    run_dates: Mapping[str, date]
    versions: Mapping[str, Mapping[str, int]]
    run_id: str
    now: datetime
    opened_at: Mapping[tuple[str, str], datetime | None]

    def is_replayed(self, tenant_id: str, location_id: str) -> bool:
        """Whether the location had opened when the plan was made."""
        opened_at = self.opened_at.get((tenant_id, location_id), self.opened_at.get((tenant_id, "")))
        return opened_at is not None and self.now >= opened_at


def plan_id_of(tenant_id: str, kind: str, location_id: str, plan_date: date, revision: int) -> UUID:
    """The id of a plan: the same key has the same id on every machine."""
    return uuid5(NAMESPACE, f"{tenant_id}/{kind}/{location_id}/{plan_date.isoformat()}/{revision}")


def ensure_plan_partitions(store: Store, plan_date: date) -> int:
    """Make the month's partitions of the plan tables, in a transaction of its own; returns how many were missing.

    Creating a partition locks its parent against writers, which a batch's long transaction must not do.
    """
    with store.transaction() as connection:
        row = connection.execute(
            """
            SELECT sum(ops.ensure_partitions(('plans.' || part.name)::regclass, %(day)s, %(day)s, interval '1 month'))
            FROM unnest(%(tables)s::text[]) AS part (name)
            """,
            {"day": plan_date, "tables": list(PLAN_TABLES)},
        ).fetchone()
    return int(row[0]) if row else 0


def lock_tenants(connection: Connection, tenant_ids: Sequence[str]) -> None:
    """Hold the tenants for the rest of the transaction: a second run that plans one of them waits.

    Rows are locked in the order of their ids, so that two batches with common tenants cannot deadlock. Foreign keys to
    the tenant stay free: imports go on meanwhile.
    """
    connection.execute(
        "SELECT tenant_id FROM master.tenant WHERE tenant_id = ANY(%s::text[]) ORDER BY tenant_id FOR NO KEY UPDATE",
        (list(tenant_ids),),
    )


def plan_locations(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """The plans that a complete morning has: tenant_id, kind, location_id.

    Forecasts belong to the locations that sell; production, procurement and projection to those that make.
    """
    return frame(
        connection,
        """
        SELECT DISTINCT series.tenant_id, place.kind, place.location_id
        FROM master.assortment AS series
        JOIN master.product USING (tenant_id, product_id)
        JOIN master.location AS outlet USING (tenant_id, location_id)
        CROSS JOIN LATERAL (VALUES ('forecast', series.location_id), ('production', series.made_at_location_id),
            ('procurement', series.made_at_location_id), ('projection', series.made_at_location_id)
        ) AS place (kind, location_id)
        WHERE series.tenant_id = ANY(%(tenant_ids)s::text[])
          AND series.is_active AND product.is_active AND outlet.is_active
        ORDER BY 1, 2, 3
        """,
        {"tenant_ids": list(tenant_ids)},
    )


def up_to_date(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, run_dates: Mapping[str, date]
) -> pd.DataFrame:
    """Which tenants need no planning: tenant_id, is_current, is_reported, in the order given.

    is_current: every kind has an active plan at every location that needs one, made from the inputs as they are now.
    is_reported: Dagster has the materialization events of those plans. A tenant without any location is neither.
    """
    tenant_ids = list(tenant_ids)
    versions = input_versions(connection, tenant_ids)
    hashes = {t: inputs_hash(versions[t], plan_date, run_dates[t]) for t in tenant_ids}
    expected = plan_locations(connection, tenant_ids)
    active = frame(
        connection,
        """
        SELECT tenant_id, kind, location_id, inputs_hash, is_reported FROM plans.plan
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s AND status = 'active'
        """,
        {"tenant_ids": tenant_ids, "plan_date": plan_date},
    )
    known = expected.merge(active, how="left", on=["tenant_id", "kind", "location_id"])
    state = pd.DataFrame(
        {
            "tenant_id": known["tenant_id"],
            "is_current": known["inputs_hash"].eq(known["tenant_id"].map(hashes)).astype(bool),
            "is_reported": known["is_reported"].eq(True).astype(bool),
        }
    )
    state = state.groupby("tenant_id")[["is_current", "is_reported"]].all()
    return state.reindex(tenant_ids, fill_value=False).rename_axis("tenant_id").reset_index()


def read_planned(connection: Connection, tenant_ids: Sequence[str], plan_date: date, kind: str) -> set[str]:
    """The tenants that have an active plan of this kind for the date."""
    rows = connection.execute(
        """
        SELECT DISTINCT tenant_id FROM plans.plan
         WHERE tenant_id = ANY(%s::text[]) AND plan_date = %s AND kind = %s AND status = 'active'
        """,
        (list(tenant_ids), plan_date, kind),
    )
    return {tenant_id for (tenant_id,) in rows}


def write_forecasts(
    connection: Connection,
    context: WriteContext,
    forecasts: Panel,
    backtest: pd.DataFrame,
    exceptions: pd.DataFrame,
    tenant_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A new revision of the forecasts of every tenant and location of the panel, and of `tenant_ids` without rows.

    The panel is as `planning.forecasting` returns it, in units; backtest is summarised in the header. tenant_ids: the
    tenants written, by default those with rows or exceptions; each gets a header at every location of `plan_locations`, and
    all its older plans are superseded, also those of locations and products it has given up. Returns the headers:
    tenant_id, location_id, plan_id, revision. The other writers are alike in this.
    """
    summary = _sums(
        forecasts.keys[["tenant_id", "location_id"]].assign(
            rows=1,
            first_day_units=forecasts["mean_units"][:, 0],
            units=forecasts["mean_units"][:, :FORECAST_DAYS].sum(axis=1),
        )
    )
    headers = _write_headers(
        connection,
        context,
        "forecast",
        _places(connection, "forecast", forecasts.keys, exceptions, tenant_ids),
        summary,
        exceptions,
        _champions(backtest),
        also=tenant_ids,
    )
    lines = forecasts.keys.merge(headers, how="left", on=["tenant_id", "location_id"], validate="many_to_one")
    columns = ["tenant_id", "plan_id", "location_id", "product_id", "method", "method_reason", "model_version"]
    levels = _literals(np.array([QUANTILE_LEVELS]))[0]
    copy_rows(
        connection,
        "plans.forecast",
        (
            *columns,
            "last_history_on",
            "volume_class",
            "is_open",
            "mean_units",
            "raw_mean_units",
            "quantile_units",
            "plan_date",
            "extended_from",
            "quantile_levels",
        ),
        (
            (*row, context.plan_date, FORECAST_DAYS, levels)
            for row in zip(
                *_columns(lines, (*columns, "last_history_on", "volume_class")),
                _literals(forecasts["is_open"]),
                _literals(forecasts["mean_units"]),
                _literals(forecasts["raw_mean_units"]),
                _literals(forecasts["quantile_units"]),
                strict=True,
            )
        ),
    )
    return headers


def write_production(
    connection: Connection,
    context: WriteContext,
    lines: pd.DataFrame,
    exceptions: pd.DataFrame,
    tenant_ids: Sequence[str] | None = None,
    doughs: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """A new revision of the production plan of every tenant and making location; returns the headers.

    lines has the columns of plans.production_line but the plan's; those of PRODUCTION_NUMBERS and PRODUCTION_TEXTS hold
    a list or an array per row, times as aware datetimes. doughs has the columns of plans.dough_line but the plan's; None
    where nothing is mixed. Each plan is announced in the outbox.
    """
    summary = _sums(
        lines[["tenant_id", "location_id", "batches", "quantity_units"]].assign(
            rows=1,
            expected_profit=lines["expected_profit"].astype(float),
            expected_waste_units=lines["expected_waste_units"],
            expected_lost_units=lines["expected_lost_units"],
            rows_without_profit=lines["expected_profit"].isna(),
            lines_overridden=lines["override_by"].notna(),
            late_lines=lines["is_late"],
        )
    )
    headers = _write_headers(
        connection,
        context,
        "production",
        _places(connection, "production", lines, exceptions, tenant_ids),
        summary,
        exceptions,
        also=tenant_ids,
    )
    rows = lines.merge(headers, how="left", on=["tenant_id", "location_id"], validate="many_to_one")
    for name in ("unlimited_batches", "recommended_batches"):
        rows[name] = _whole(rows[name])
    columns = ("tenant_id", "plan_id", "location_id", *PRODUCTION_SCALARS)
    _copy_lines(connection, context, "plans.production_line", rows, columns, PRODUCTION_NUMBERS, PRODUCTION_TEXTS)
    if doughs is not None and len(doughs):
        rows = doughs.merge(headers, how="left", on=["tenant_id", "location_id"], validate="many_to_one")
        dough_columns = ("tenant_id", "plan_id", "location_id", *DOUGH_SCALARS)
        _copy_lines(connection, context, "plans.dough_line", rows, dough_columns, DOUGH_NUMBERS, DOUGH_TEXTS)
    _announce(connection, context, vocabulary.EVENT_PRODUCTION_PLAN_CREATED, headers, summary)
    return headers


def write_procurement(
    connection: Connection,
    context: WriteContext,
    requirements: Panel,
    purchase_lines: pd.DataFrame,
    exceptions: pd.DataFrame,
    auto_approve: Mapping[str, bool],
    tenant_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A new revision of the procurement plan of every tenant and receiving location; returns the headers.

    With a tenant's auto_approve the plan is approved, and those of its lines that must be ordered by the run date
    become open orders now. They stay ordered whatever a later revision plans; only pending lines are superseded. A
    revision that was asked for by a rejection names the plan that it takes the place of, and settles the request.
    """
    run_on = purchase_lines["tenant_id"].map(context.run_dates)
    is_due = np.array(purchase_lines["order_by"].tolist(), dtype=object) <= np.array(run_on.tolist(), dtype=object)
    is_ordered = is_due.astype(bool) & purchase_lines["tenant_id"].map(auto_approve).to_numpy(dtype=bool)
    lines = purchase_lines.assign(status="pending")
    amount = lines["amount"].astype(float)
    summary = _sums(
        requirements.keys[["tenant_id", "location_id"]].assign(items=1),
        lines[["tenant_id", "location_id"]].assign(
            purchase_lines=1,
            ordered_lines=is_ordered,
            late_lines=lines["is_late"],
            amount=amount,
            ordered_amount=amount.where(is_ordered, 0.0),
            lines_without_price=amount.isna(),
        ),
    )
    places = _places(connection, "procurement", pd.concat([requirements.keys, lines]), exceptions, tenant_ids)
    headers = _write_headers(
        connection,
        context,
        "procurement",
        places,
        summary,
        exceptions,
        approved=auto_approve,
        regenerated=_settle_regenerations(connection, context, sorted(places["tenant_id"].unique())),
        also=tenant_ids,
    )
    _write_matrix_rows(
        connection,
        context,
        "plans.requirement",
        requirements,
        headers,
        ("item_id", "opening_quantity", "safety_stock_quantity", "safety_stock_reason"),
        REQUIREMENT_ARRAYS,
    )
    lines = lines.merge(headers, how="left", on=["tenant_id", "location_id"], validate="many_to_one")
    lines["line_id"] = [
        uuid5(plan_id, f"{supplier_id}/{item_id}/{delivery_on.isoformat()}")
        for plan_id, supplier_id, item_id, delivery_on in zip(
            *_columns(lines, ("plan_id", "supplier_id", "item_id", "delivery_on")), strict=True
        )
    ]
    lines["purchase_order_id"] = [
        uuid5(plan_id, order_key) for plan_id, order_key in zip(lines["plan_id"], lines["order_key"], strict=True)
    ]
    lines["recommended_packs"] = _whole(lines["recommended_packs"])
    lines["alternatives"] = [json.dumps(list(others), default=str, allow_nan=False) for others in lines["alternatives"]]
    columns = ("tenant_id", "plan_id", "line_id", "location_id", *PURCHASE_SCALARS, "alternatives")
    _copy_lines(connection, context, "plans.purchase_line", lines, columns, ("peg_shares", "covers_quantity"), ())
    approved = headers[headers["tenant_id"].map(auto_approve).to_numpy(dtype=bool)]
    place_orders(
        connection,
        context.plan_date,
        [Approved(row.tenant_id, row.plan_id, context.run_dates[row.tenant_id]) for row in approved.itertuples()],
    )
    record_decisions(
        connection,
        (
            AuditRow(
                row.tenant_id,
                context.plan_date,
                row.plan_id,
                "approve",
                AUTO_APPROVER,
                "pending",
                "approved",
                row.approval_version,
                context.now,
                data=summary.get((row.tenant_id, row.location_id), {}),
            )
            for row in approved.itertuples()
        ),
    )
    headers = headers[list(HEADER_COLUMNS)]
    _announce(connection, context, vocabulary.EVENT_PROCUREMENT_PLAN_APPROVED, approved[list(HEADER_COLUMNS)], summary)
    return headers


def write_projection(
    connection: Connection,
    context: WriteContext,
    projections: Panel,
    exceptions: pd.DataFrame,
    tenant_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A new revision of the inventory projection of every tenant and receiving location; returns the headers."""
    keys = projections.keys
    summary = _sums(
        keys[["tenant_id", "location_id"]].assign(
            items=1,
            stock_outs=keys["stock_out_on"].notna(),
            items_expiring=projections["expired_quantity"].sum(axis=1) > 0,
            expired_value=keys["expired_value"].astype(float),
        )
    )
    headers = _write_headers(
        connection,
        context,
        "projection",
        _places(connection, "projection", keys, exceptions, tenant_ids),
        summary,
        exceptions,
        also=tenant_ids,
    )
    _write_matrix_rows(
        connection,
        context,
        "plans.projection",
        projections,
        headers,
        (
            "item_id",
            "opening_quantity",
            "cover_days",
            "stock_out_on",
            "order_by",
            "expired_value",
            "stock_out_probability",
        ),
        PROJECTION_ARRAYS,
    )
    return headers


def mark_reported(
    connection: Connection, plan_date: date, tenant_ids: Sequence[str], kinds: Sequence[str] = PLAN_KINDS
) -> int:
    """Note that Dagster has the events of the active plans of these kinds; returns how many were new to it."""
    return connection.execute(
        """
        UPDATE plans.plan SET is_reported = true
        WHERE tenant_id = ANY(%s::text[]) AND plan_date = %s AND kind = ANY(%s::text[])
          AND status = 'active' AND NOT is_reported
        """,
        (list(tenant_ids), plan_date, list(kinds)),
    ).rowcount


def _write_headers(
    connection: Connection,
    context: WriteContext,
    kind: str,
    places: pd.DataFrame,
    summary: Mapping[tuple[str, str], Mapping[str, Any]],
    exceptions: pd.DataFrame,
    tenant_summary: Mapping[str, Mapping[str, Any]] | None = None,
    approved: Mapping[str, bool] | None = None,
    regenerated: Collection[str] = (),
    also: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Supersede the tenants' active plans of the kind and date; write and return new headers, with their exceptions.

    approved: of plans that need an approval, the tenants that give it by themselves. regenerated: tenants that asked for
    these revisions by rejecting the ones before. also: tenants whose plans are superseded although nothing takes their
    place. Plans that need an approval have approval_version too: it goes on from the revision before, so that who has
    seen that one cannot decide on this one by mistake.
    """
    tenant_ids = sorted({*places["tenant_id"], *(also or ())})
    connection.execute(
        """
        UPDATE plans.plan SET status = 'superseded', superseded_at = %s
        WHERE tenant_id = ANY(%s::text[]) AND plan_date = %s AND kind = %s AND status = 'active'
        """,
        (context.now, tenant_ids, context.plan_date, kind),
    )
    last = connection.execute(
        """
        SELECT DISTINCT ON (tenant_id, location_id) tenant_id, location_id, revision, approval_version, plan_id, approval
        FROM plans.plan
        WHERE tenant_id = ANY(%s::text[]) AND plan_date = %s AND kind = %s
        ORDER BY tenant_id, location_id, revision DESC
        """,
        (tenant_ids, context.plan_date, kind),
    )
    before = {(tenant_id, location_id): tuple(rest) for tenant_id, location_id, *rest in last}
    keys = list(places.itertuples(index=False, name=None))
    headers = places.assign(revision=[1 + before[key][0] if key in before else 1 for key in keys])
    headers["plan_id"] = [
        plan_id_of(tenant_id, kind, location_id, context.plan_date, revision)
        for tenant_id, location_id, revision in headers.itertuples(index=False, name=None)
    ]
    headers = headers[list(HEADER_COLUMNS)]
    if approved is not None:
        headers["approval_version"] = [1 + before[key][1] if key in before else 1 for key in keys]
        rejected = {key: plan_id for key, (_, _, plan_id, approval) in before.items() if approval == "rejected"}
        regenerated_from = [rejected.get(key) if key[0] in regenerated else None for key in keys]
    else:
        regenerated_from = [None] * len(keys)
    exceptions = _assigned_exceptions(exceptions, headers)
    counts = exceptions.groupby("plan_id").size()
    made_from = {
        t: (inputs_hash(context.versions[t], context.plan_date, context.run_dates[t]), json.dumps(context.versions[t]))
        for t in places["tenant_id"].unique()
    }

    def rows() -> Iterator[tuple[object, ...]]:
        for header, rejected_id in zip(headers.itertuples(), regenerated_from, strict=True):
            tenant_id, location_id, plan_id = header.tenant_id, header.location_id, header.plan_id
            numbers = {
                **summary.get((tenant_id, location_id), {}),
                **(tenant_summary or {}).get(tenant_id, {}),
                "exceptions": int(counts.get(plan_id, 0)),
            }
            is_approved = approved is not None and approved[tenant_id]
            yield (
                tenant_id,
                plan_id,
                kind,
                location_id,
                context.plan_date,
                context.run_dates[tenant_id],
                header.revision,
                "active",
                None if approved is None else "approved" if is_approved else "pending",
                1 if approved is None else header.approval_version,
                context.now if is_approved else None,
                AUTO_APPROVER if is_approved else None,
                rejected_id,
                *made_from[tenant_id],
                context.is_replayed(tenant_id, location_id),
                json.dumps(numbers, allow_nan=False),
                context.run_id,
                context.now,
            )

    copy_rows(
        connection,
        "plans.plan",
        (
            "tenant_id",
            "plan_id",
            "kind",
            "location_id",
            "plan_date",
            "run_date",
            "revision",
            "status",
            "approval",
            "approval_version",
            "decided_at",
            "decided_by",
            "regenerated_from",
            "inputs_hash",
            "input_versions",
            "is_replayed",
            "summary",
            "run_id",
            "created_at",
        ),
        rows(),
    )
    columns = ("plan_id", "exception_no", *EXCEPTION_COLUMNS)
    copy_rows(
        connection,
        "plans.exception",
        (*columns, "plan_date"),
        ((*row, context.plan_date) for row in zip(*_columns(exceptions, columns), strict=True)),
    )
    return headers


def _settle_regenerations(connection: Connection, context: WriteContext, tenant_ids: Sequence[str]) -> set[str]:
    """Close what rejections asked for, now that the date is planned again; returns the tenants that had asked."""
    rows = connection.execute(
        """
        UPDATE ops.plan_regeneration SET completed_at = %s
        WHERE tenant_id = ANY(%s::text[]) AND plan_date = %s AND completed_at IS NULL RETURNING tenant_id
        """,
        (context.now, list(tenant_ids), context.plan_date),
    )
    return {tenant_id for (tenant_id,) in rows}


def _assigned_exceptions(exceptions: pd.DataFrame, headers: pd.DataFrame) -> pd.DataFrame:
    """Exceptions with plan_id and exception_no; one that names no planned location goes to the tenant's first plan.

    Raises ValueError for a tenant that is not being written: its exceptions would otherwise be lost.
    """
    strangers = sorted(set(exceptions["tenant_id"]) - set(headers["tenant_id"]))
    if strangers:
        raise ValueError(f"Exceptions of tenants that have no plan in this batch: {', '.join(strangers)}")
    first = headers.drop_duplicates("tenant_id").set_index("tenant_id")
    found = exceptions.merge(
        headers[["tenant_id", "location_id", "plan_id"]], how="left", on=["tenant_id", "location_id"]
    )
    has_location = found["location_id"].notna() & found["location_id"].ne("")
    found["location_id"] = found["location_id"].where(has_location, found["tenant_id"].map(first["location_id"]))
    found["plan_id"] = found["plan_id"].where(found["plan_id"].notna(), found["tenant_id"].map(first["plan_id"]))
    return found.assign(exception_no=found.groupby("plan_id").cumcount() + 1)


def _write_matrix_rows(
    connection: Connection,
    context: WriteContext,
    table: str,
    panel: Panel,
    headers: pd.DataFrame,
    scalars: Sequence[str],
    arrays: Sequence[str],
) -> None:
    """COPY the rows of a panel, its matrices as arrays, into a line table."""
    rows = panel.keys.merge(headers, how="left", on=["tenant_id", "location_id"], validate="many_to_one")
    columns = ("tenant_id", "plan_id", "location_id", *scalars)
    copy_rows(
        connection,
        table,
        (*columns, *arrays, "plan_date"),
        (
            (*row, context.plan_date)
            for row in zip(*_columns(rows, columns), *(_literals(panel[name]) for name in arrays), strict=True)
        ),
    )


def _copy_lines(
    connection: Connection,
    context: WriteContext,
    table: str,
    rows: pd.DataFrame,
    columns: Sequence[str],
    numbers: Sequence[str],
    texts: Sequence[str],
) -> None:
    """COPY rows of a line table: plain columns, then columns that hold a list of numbers, or of ids or times, per row."""
    copy_rows(
        connection,
        table,
        (*columns, *numbers, *texts, "plan_date"),
        (
            (*row, context.plan_date)
            for row in zip(
                *_columns(rows, columns),
                *(_literals(rows[name]) for name in numbers),
                *(_text_literals(rows[name]) for name in texts),
                strict=True,
            )
        ),
    )


def _announce(
    connection: Connection,
    context: WriteContext,
    type_: str,
    headers: pd.DataFrame,
    summary: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    """An outbox event per plan, with what it is and the numbers that matter."""
    add_events(
        connection,
        (
            (
                type_,
                str(plan_id),
                tenant_id,
                {
                    "plan_id": str(plan_id),
                    "location_id": location_id,
                    "plan_date": context.plan_date.isoformat(),
                    "revision": revision,
                    **summary.get((tenant_id, location_id), {}),
                },
            )
            for tenant_id, location_id, plan_id, revision in headers.itertuples(index=False, name=None)
        ),
        context.now,
    )


def _places(
    connection: Connection, kind: str, keys: pd.DataFrame, exceptions: pd.DataFrame, tenant_ids: Sequence[str] | None
) -> pd.DataFrame:
    """The tenants and locations that get a header: those with lines and those expected."""
    columns = ["tenant_id", "location_id"]
    written = sorted({*keys["tenant_id"], *exceptions["tenant_id"], *(tenant_ids or ())})
    locations = plan_locations(connection, written)
    parts = [part[columns] for part in (keys, locations[locations["kind"] == kind]) if len(part)]
    places = pd.concat(parts, ignore_index=True) if parts else keys[columns]
    return places.drop_duplicates().sort_values(columns, ignore_index=True)


def _sums(*parts: pd.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    """The sums of number columns per tenant and location; null where every value is unknown, whole where counts."""
    places = ["tenant_id", "location_id"]
    sums = [
        part.set_index([part[column].astype(object) for column in places])
        .drop(columns=places)
        .astype(float)
        .groupby(level=places)
        .sum(min_count=1)
        for part in parts
    ]
    everywhere = sums[0].index
    for part in sums[1:]:
        everywhere = everywhere.union(part.index)
    joined = pd.concat([part.reindex(everywhere, fill_value=0.0) for part in sums], axis=1).round(4)
    return {
        place: {
            name: None if np.isnan(value) else int(value) if name in COUNTS else value
            for name, value in numbers.items()
        }
        for place, numbers in zip(joined.index, joined.to_dict("records"), strict=True)
    }


def _champions(backtest: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Per tenant the champion and every candidate's errors, null where undefined."""
    result: dict[str, dict[str, Any]] = {}
    columns = ("tenant_id", "method", "rows", "wape_pct", "bias_pct", "is_champion")
    for tenant_id, method, rows, wape_pct, bias_pct, is_champion in zip(*_columns(backtest, columns), strict=True):
        entry = result.setdefault(tenant_id, {"champion": None, "backtest": []})
        entry["backtest"].append({"method": method, "rows": rows, "wape_pct": wape_pct, "bias_pct": bias_pct})
        if is_champion:
            entry["champion"] = method
    return result


def _columns(table: pd.DataFrame, names: Sequence[str]) -> list[list[Any]]:
    """Columns as lists of Python values, missing ones None: a NaN would be stored as a number."""
    return [table[name].astype(object).where(table[name].notna(), None).tolist() for name in names]


def _whole(numbers: pd.Series) -> pd.Series:
    """Whole numbers as Python's, None for unknown: a column with an unknown one holds floats, which no integer takes."""
    return pd.Series([None if pd.isna(n) else int(n) for n in numbers], index=numbers.index, dtype=object)


def _text_literals(arrays: pd.Series) -> list[str]:
    """Lists of ids or aware datetimes as Postgres array literals; None in a list is null.

    Raises ValueError for a datetime without a time zone, which would be stored as if it were in the session's.
    """
    return ["{" + ",".join(map(_element, array)) + "}" for array in arrays]


def _element(value: object) -> str:
    if value is None or value is pd.NaT:
        return "NULL"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"A plan's time has no time zone: {value}.")
        return value.isoformat()
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _literals(arrays: np.ndarray | pd.Series) -> list[str]:
    """Each row as a Postgres array literal, numbers rounded. Ten times as fast as the driver's list by list.

    Raises ValueError for a number that is not finite: unknown has no place in a horizon.
    """
    if isinstance(arrays, pd.Series):
        numbers = _rounded(np.fromiter(chain.from_iterable(arrays), dtype=float)).tolist()
        ends = np.cumsum([len(row) for row in arrays], dtype=int).tolist()
        rows = [numbers[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    else:
        rows = (arrays if arrays.dtype == bool else _rounded(arrays.astype(float))).tolist()
    return [str(row).replace("[", "{").replace("]", "}") for row in rows]


def _rounded(numbers: np.ndarray) -> np.ndarray:
    if not np.isfinite(numbers).all():
        raise ValueError("A plan's horizon holds a number that is not finite.")
    return np.round(numbers, ROUNDING)
