"""Reads for explaining one purchase line or one batch: the plan's own rows, and what the plan was made from.

A plan is explained by the plans, forecasts and recipe versions that were in force when it was made, also after newer ones
have taken their place. What follows from them is computed in planning/pegging.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, LiteralString
from uuid import UUID

import numpy as np
import pandas as pd
from psycopg.rows import dict_row

from planning.frames import PLAN_DAYS, Panel
from planning.lots import roll_forward
from resources.store.database import Connection
from resources.store.inputs import (
    batch_frame,
    read_customer_orders,
    read_items,
    read_open_orders,
    read_stock_history,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Basis:
    """What a plan of one tenant and date rests on, as it was at a moment.

    plans: the header of each kind by its kind, of the location that makes or receives; forecasts have one per outlet and
    are in forecast_plans. production: the production lines of the place, with names. planned: their horizon_units. forecasts:
    mean_units and is_open (n, 14), quantile_units (n, 14, levels), keys with method, method_reason, model_version,
    last_history_on, extended_from; all have the same quantile_levels. doughs: the dough lines of the place. opening_lots: on
    hand at the opening of the plan date, as far as is known today.
    """

    tenant: Row
    plan_date: date
    plans: Mapping[str, Row]
    forecast_plans: list[Row]
    production: list[Row]
    planned: Panel
    forecasts: Panel
    quantile_levels: tuple[float, ...]
    assortment: pd.DataFrame
    orders: pd.DataFrame
    recipes: pd.DataFrame
    items: pd.DataFrame
    doughs: list[Row]
    opening_lots: pd.DataFrame


@dataclass(frozen=True)
class PurchaseBasis:
    """A purchase line with names and its plan's header, all lines of its stock, its requirement, and what it rests on."""

    line: Row
    plan: Row
    lines: pd.DataFrame
    requirement: Row | None
    requirements: Panel
    decisions: list[Row]
    overrides: list[Row]
    order: Row | None
    basis: Basis


@dataclass(frozen=True)
class BatchBasis:
    """A production line with names and its plan's header, what is bought for the place, and what it rests on.

    purchases: the purchase lines of the procurement plan of the place; receipts: orders that arrive on the plan date.
    """

    line: Row
    plan: Row
    decisions: list[Row]
    overrides: list[Row]
    purchases: list[Row]
    requirements: Panel
    receipts: pd.DataFrame
    basis: Basis


def find_purchase_lines(connection: Connection, first: UUID, last: UUID, limit: int = 6) -> list[Row]:
    """The purchase lines with ids from first to last, those of active plans and of later days first."""
    return _rows(
        connection,
        """
        SELECT line.line_id, line.tenant_id, line.plan_date, line.item_id, line.supplier_id, line.delivery_on,
               plan.revision, plan.status
        FROM plans.purchase_line AS line JOIN plans.plan USING (tenant_id, plan_date, plan_id)
        WHERE line.line_id BETWEEN %(first)s AND %(last)s
        ORDER BY plan.status, line.plan_date DESC, line.line_id LIMIT %(limit)s
        """,
        {"first": first, "last": last, "limit": limit},
    )


def read_purchase(connection: Connection, line_id: UUID) -> PurchaseBasis | None:
    """A purchase line and what it rests on; None when there is no such line."""
    found = _rows(
        connection,
        """
        SELECT line.*, item.name AS item_name, item.base_unit, supplier.name AS supplier_name,
               supplier.delivery_weekdays, supplier.order_cutoff_at, supplier.min_order_value, supplier.delivery_fee,
               location.name AS location_name, offer.lead_days, offer.min_packs, offer.multiple_packs, item.lot_quantity,
               item.lot_periods
        FROM plans.purchase_line AS line
        JOIN master.item USING (tenant_id, item_id)
        JOIN master.supplier USING (tenant_id, supplier_id)
        JOIN master.location USING (tenant_id, location_id)
        LEFT JOIN master.supplier_item AS offer USING (tenant_id, supplier_id, item_id)
        WHERE line.line_id = %(line_id)s
        """,
        {"line_id": line_id},
    )
    if not found:
        return None
    line = found[0]
    key = {name: line[name] for name in ("tenant_id", "plan_date", "plan_id", "location_id", "item_id")}
    plan = _plan(connection, key)
    lines = _rows(
        connection,
        """
        SELECT tenant_id, location_id, item_id, line_id, supplier_id, delivery_on, packs, quantity::float8,
               covers_quantity::float8[]
        FROM plans.purchase_line
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND plan_id = %(plan_id)s AND item_id = %(item_id)s
        ORDER BY delivery_on, supplier_id
        """,
        key,
    )
    requirements = _requirements(connection, key["tenant_id"], key["plan_date"], key["plan_id"])
    order = _rows(
        connection,
        """
        SELECT ordered_on, delivery_on, status, quantity FROM facts.purchase_order_line
        WHERE tenant_id = %(tenant_id)s AND order_line_id = %(line_id)s
        """,
        {"tenant_id": key["tenant_id"], "line_id": str(line_id)},
    )
    return PurchaseBasis(
        line,
        plan,
        pd.DataFrame(lines),
        next((row for row in requirements if row["item_id"] == key["item_id"]), None),
        _requirement_panel(requirements, key["plan_date"]),
        _decisions(connection, key),
        _overrides(connection, key, "purchase", line["item_id"]),
        order[0] if order else None,
        _basis(connection, plan, key["location_id"], plan["created_at"]),
    )


def read_batch_line(
    connection: Connection, tenant_id: str, plan_date: date, location_id: str, product_id: str
) -> BatchBasis | None:
    """The active production line of a product and what it rests on; None when there is none."""
    found = _rows(
        connection,
        _PRODUCTION_LINE
        + """
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s AND plan.kind = 'production'
          AND plan.status = 'active' AND line.location_id = %(location_id)s AND line.product_id = %(product_id)s
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date, "location_id": location_id, "product_id": product_id},
    )
    if not found:
        return None
    line = found[0]
    plan = _plan(connection, line)
    basis = _basis(connection, plan, location_id, plan["created_at"])
    # What is bought for it is told by the procurement plan of now, which may be newer.
    procurement = _rows(
        connection,
        _PLAN + "AND kind = 'procurement' AND location_id = %(location_id)s AND status = 'active'",
        line,
    )
    plan_id = procurement[0]["plan_id"] if procurement else None
    purchases = _rows(
        connection,
        """
        SELECT line_id, item_id, supplier_id, order_by, delivery_on, packs, pack_quantity, quantity, status, is_late,
               covers_quantity::float8[], line.delivery_on + item.shelf_life_days - 1 AS expires_on
        FROM plans.purchase_line AS line JOIN master.item USING (tenant_id, item_id)
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND plan_id = %(plan_id)s
        ORDER BY item_id, delivery_on
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date, "plan_id": plan_id},
    )
    requirements = _requirements(connection, tenant_id, plan_date, plan_id) if plan_id else []
    receipts = read_open_orders(connection, [tenant_id], plan_date, {tenant_id: plan["run_date"]})
    return BatchBasis(
        line,
        plan,
        _decisions(connection, line),
        _overrides(connection, line, "production", product_id),
        purchases,
        _requirement_panel(requirements, plan_date),
        receipts[receipts["delivery_on"] == plan_date],
        basis,
    )


def read_made(connection: Connection, tenant_id: str, plan_date: date) -> list[Row]:
    """The active production lines of a date: location_id, product_id, batches."""
    return _rows(
        connection,
        """
        SELECT line.location_id, line.product_id, line.batches
        FROM plans.plan JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s AND plan.kind = 'production'
          AND plan.status = 'active'
        ORDER BY 1, 2
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


# ---------------------------------------------------------------- what a plan rests on

_PLAN: LiteralString = """
    SELECT tenant_id, plan_id, kind, location_id, plan_date, run_date, revision, status, approval, approval_version,
           decided_at, decided_by, reason_code, decision_notes, regenerated_from, inputs_hash, input_versions, is_replayed,
           run_id, created_at, superseded_at
    FROM plans.plan
    WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s
"""
_PRODUCTION_LINE: LiteralString = """
    SELECT line.*, item.name AS product_name, item.base_unit, item.shelf_life_days, location.name AS location_name,
           resource.name AS limiting_resource_name, product.batch_min, product.batch_multiple,
           product.batch_max_per_day, product.batch_fixed_cost
    FROM plans.plan JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id)
    JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.product_id
    JOIN master.product ON product.tenant_id = line.tenant_id AND product.product_id = line.product_id
    JOIN master.location ON location.tenant_id = line.tenant_id AND location.location_id = line.location_id
    LEFT JOIN master.resource ON resource.tenant_id = line.tenant_id
         AND resource.resource_id = line.limiting_resource_id
"""
_IN_FORCE: LiteralString = " AND created_at <= %(at)s AND (superseded_at IS NULL OR superseded_at > %(at)s) "


def _basis(connection: Connection, plan: Row, location_id: str, at: datetime) -> Basis:
    """What was in force when a plan was made."""
    tenant_id, plan_date = plan["tenant_id"], plan["plan_date"]
    run_dates = {tenant_id: plan["run_date"]}
    key = {"tenant_id": tenant_id, "plan_date": plan_date, "location_id": location_id, "at": at}
    tenant = _rows(
        connection,
        "SELECT tenant_id, name, currency, timezone FROM master.tenant WHERE tenant_id = %(tenant_id)s",
        key,
    )[0]
    plans = {
        kind: found
        for kind in ("production", "procurement", "projection")
        if (found := _plan_at(connection, tenant_id, plan_date, kind, location_id, at)) is not None
    }
    made = {"tenant_id": tenant_id, "plan_date": plan_date, "plan_id": plans.get("production", {}).get("plan_id")}
    production = _rows(
        connection,
        _PRODUCTION_LINE
        + """
        WHERE line.tenant_id = %(tenant_id)s AND line.plan_date = %(plan_date)s AND line.plan_id = %(plan_id)s
        ORDER BY line.product_id
        """,
        made,
    )
    doughs = _rows(
        connection,
        """
        SELECT line.*, item.name AS item_name, item.base_unit
        FROM plans.dough_line AS line JOIN master.item USING (tenant_id, item_id)
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND plan_id = %(plan_id)s ORDER BY item_id
        """,
        made,
    )
    forecast_plans = _rows(
        connection,
        _PLAN + _IN_FORCE + "AND kind = 'forecast' ORDER BY location_id",
        key,
    )
    forecasts, levels = _forecasts(connection, tenant_id, plan_date, [row["plan_id"] for row in forecast_plans])
    history = read_stock_history(connection, [tenant_id], plan_date, run_dates)
    items = read_items(connection, [tenant_id])
    opening = roll_forward(
        history.lots, history.movements, history.receipts, history.consumption, plan_date, items=items
    )
    keys = pd.DataFrame(
        [(tenant_id, row["location_id"], row["product_id"]) for row in production],
        columns=["tenant_id", "location_id", "product_id"],
    )
    return Basis(
        tenant,
        plan_date,
        plans,
        forecast_plans,
        production,
        Panel(keys, {"horizon_units": _matrix(row["horizon_units"] for row in production)}, plan_date),
        forecasts,
        levels,
        # Also what is no longer sold: the forecasts of the plan say what was.
        batch_frame(
            connection,
            """
            SELECT tenant_id, location_id, product_id, made_at_location_id FROM master.assortment
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2, 3
            """,
            [tenant_id],
        ),
        read_customer_orders(connection, [tenant_id], plan_date, PLAN_DAYS, run_dates),
        _recipes_at(connection, tenant_id, plan["run_date"], at),
        items,
        doughs,
        opening.lots,
    )


def _recipes_at(connection: Connection, tenant_id: str, run_date: date, at: datetime) -> pd.DataFrame:
    """The recipe lines that a plan of a run date used: of each item the highest version valid by then and known by `at`."""
    return batch_frame(
        connection,
        """
        SELECT recipe.tenant_id, recipe.output_item_id, recipe.version, recipe.output_quantity::float8,
               recipe.yield_frac::float8, line.item_id, line.quantity::float8, line.scrap_frac::float8
        FROM (
            SELECT DISTINCT ON (tenant_id, output_item_id) * FROM master.recipe
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND valid_from <= %(run_date)s AND recorded_at <= %(at)s
            ORDER BY tenant_id, output_item_id, version DESC
        ) AS recipe
        JOIN master.recipe_line AS line USING (tenant_id, output_item_id, version)
        ORDER BY 1, 2, line.item_id
        """,
        [tenant_id],
        {"run_date": run_date, "at": at},
    )


def _forecasts(
    connection: Connection, tenant_id: str, plan_date: date, plan_ids: list[UUID]
) -> tuple[Panel, tuple[float, ...]]:
    rows = _rows(
        connection,
        """
        SELECT tenant_id, location_id, product_id, method, method_reason, model_version, last_history_on, extended_from,
               is_open, mean_units, quantile_levels, quantile_units
        FROM plans.forecast
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND plan_id = ANY(%(plan_ids)s)
        ORDER BY location_id, product_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date, "plan_ids": plan_ids},
    )
    columns = ["tenant_id", "location_id", "product_id", "method", "method_reason", "model_version", "last_history_on"]
    keys = pd.DataFrame([[row[name] for name in columns] for row in rows], columns=columns)
    keys["extended_from"] = [row["extended_from"] for row in rows]
    # Levels are stored as single precision: 0.1 comes back as 0.10000000149.
    levels = tuple(round(level, 6) for level in rows[0]["quantile_levels"]) if rows else ()
    values = {
        "mean_units": _matrix(row["mean_units"] for row in rows),
        "is_open": _matrix(row["is_open"] for row in rows).astype(bool),
        "quantile_units": _matrix((row["quantile_units"] for row in rows), (PLAN_DAYS, len(levels))),
    }
    return Panel(keys, values, plan_date), levels


def _requirements(connection: Connection, tenant_id: str, plan_date: date, plan_id: UUID) -> list[Row]:
    return _rows(
        connection,
        """
        SELECT tenant_id, location_id, item_id, opening_quantity::float8, safety_stock_quantity::float8,
               safety_stock_reason, gross_quantity::float8[], scheduled_receipts_quantity::float8[], net_quantity::float8[]
        FROM plans.requirement
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND plan_id = %(plan_id)s ORDER BY item_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date, "plan_id": plan_id},
    )


def _requirement_panel(rows: list[Row], plan_date: date) -> Panel:
    columns = ["tenant_id", "location_id", "item_id"]
    keys = pd.DataFrame([[row[name] for name in columns] for row in rows], columns=columns)
    return Panel(keys, {"gross_quantity": _matrix(row["gross_quantity"] for row in rows)}, plan_date)


def _plan(connection: Connection, key: Row) -> Row:
    """The header of a line's plan."""
    return _rows(connection, _PLAN + "AND plan_id = %(plan_id)s", key)[0]


def _plan_at(
    connection: Connection, tenant_id: str, plan_date: date, kind: str, location_id: str, at: datetime
) -> Row | None:
    """The plan that was in force at a moment."""
    found = _rows(
        connection,
        _PLAN + _IN_FORCE + "AND kind = %(kind)s AND location_id = %(location_id)s ORDER BY revision DESC LIMIT 1",
        {"tenant_id": tenant_id, "plan_date": plan_date, "kind": kind, "location_id": location_id, "at": at},
    )
    return found[0] if found else None


def _decisions(connection: Connection, key: Row) -> list[Row]:
    return _rows(
        connection,
        """
        SELECT action, actor, from_state, to_state, reason_code, notes, warnings, decided_at
        FROM ops.plan_decision
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND plan_id = %(plan_id)s ORDER BY decision_id
        """,
        key,
    )


def _overrides(connection: Connection, key: Row, kind: str, subject_id: str) -> list[Row]:
    """What people set for the subject on that date, also what was withdrawn since."""
    return _rows(
        connection,
        """
        SELECT amount, supplier_id, delivery_on, actor, reason, made_at, withdrawn_at, withdrawn_by
        FROM plans.plan_override
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND kind = %(kind)s
          AND location_id = %(location_id)s AND subject_id = %(subject_id)s
        ORDER BY override_id
        """,
        {**key, "kind": kind, "subject_id": subject_id},
    )


def _rows(connection: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
    """The result of a query as mappings."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def _matrix(arrays: Any, shape: tuple[int, ...] = (PLAN_DAYS,)) -> np.ndarray:
    rows = [np.asarray(array, dtype=float).reshape(shape) for array in arrays]
    return np.stack(rows) if rows else np.zeros((0, *shape))
