"""Reads what a batch of tenants needs for its plans, one query per frame whatever the number of tenants.

A frame has the names of its table's columns, quantities and money as floats with NaN for unknown, dates as dates.
Nothing is planned here, and nothing that was recorded for a later day than a tenant's run date is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, LiteralString

import numpy as np
import pandas as pd

from planning.censoring import NOT_SOLD_OUT
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel
from planning.workshop import Workshop
from resources.store.database import Connection

LOOK_BACK_DAYS = 400
"""How old a stock count may be. An item last counted before is as good as never counted."""

_DTYPES: Mapping[str, Any] = {
    **dict.fromkeys(("int2", "int4", "int8"), "int64"),
    **dict.fromkeys(("text", "varchar", "bpchar"), "str"),
    "float8": float,
    "bool": bool,
    **dict.fromkeys(("date", "time", "uuid", "timestamptz"), object),
}

UNCOUNTED_LOT = "uncounted"
"""The empty lot that opens the stock of an item which was never counted."""


@dataclass(frozen=True)
class StockHistory:
    """What is known of stock since it was last counted, as `planning.lots.roll_forward` takes it.

    lots: tenant_id, location_id, item_id, as_of, lot_id, quantity, received_on, expires_on, unit_cost. An item that was
    never counted but moved has one empty lot as of the tenant's first plan.
    movements: tenant_id, location_id, item_id, occurred_on, quantity_change.
    receipts: tenant_id, location_id, item_id, received_on, lot_id, quantity, expires_on, unit_cost.
    consumption: tenant_id, location_id, item_id, consumed_on, quantity.
    never_counted: tenant_id, location_id, item_id of ingredients and packaging that recipes use.
    uncovered: tenant_id, location_id, item_id, counted_on, first_on, last_on of such items whose use on the days
    first_on to last_on since the count is unknown, because no plan covers them; the longest such time of each item, if
    it is more than one day.
    """

    lots: pd.DataFrame
    movements: pd.DataFrame
    receipts: pd.DataFrame
    consumption: pd.DataFrame
    never_counted: pd.DataFrame
    uncovered: pd.DataFrame


def read_tenants(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """The tenants that exist, with their settings."""
    return batch_frame(
        connection,
        """
        SELECT tenant_id, name, timezone, country, subdivision, currency, tier, status, plan_lead_days, auto_approve,
               default_critical_ratio::float8 AS default_critical_ratio, is_synthetic
        FROM master.tenant WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY tenant_id
        """,
        tenant_ids,
    )


def refresh_demand_panels(connection: Connection, tenant_ids: Sequence[str]) -> int:
    """Bring the panels that are older than the sales they come from up to date; returns how many series were written.

    Only the dates that the imports since have changed are read, as they are recorded in ops.input_change. A tenant with
    no panel, or with a version whose changes are not recorded, is built anew, and so is a series that has joined the
    assortment. The sales version is held for the transaction, so that no import changes the rows of a panel that claims
    to show them.
    """
    stale = connection.execute(
        """
        SELECT input.tenant_id, input.version, change.first_on, change.last_on,
               panel.oldest = panel.newest AND change.versions = input.version - panel.oldest AS is_recorded
        FROM ops.input_version AS input
        CROSS JOIN LATERAL (
            SELECT min(sales_version) AS oldest, max(sales_version) AS newest FROM facts.demand_panel
            WHERE demand_panel.tenant_id = input.tenant_id
        ) AS panel
        CROSS JOIN LATERAL (
            SELECT count(*) AS versions, min(first_on) AS first_on, max(last_on) AS last_on FROM ops.input_change AS change
            WHERE change.tenant_id = input.tenant_id AND change.input = input.input
              AND change.version > panel.oldest AND change.version <= input.version
        ) AS change
        WHERE input.tenant_id = ANY(%(tenant_ids)s::text[]) AND input.input = 'sales'
          AND (panel.oldest IS DISTINCT FROM input.version OR panel.newest <> input.version
               OR EXISTS (SELECT FROM master.assortment AS series
                          WHERE series.tenant_id = input.tenant_id
                            AND NOT EXISTS (SELECT FROM facts.demand_panel AS panel
                                            WHERE (panel.tenant_id, panel.location_id, panel.product_id)
                                                = (series.tenant_id, series.location_id, series.product_id))
                            AND EXISTS (SELECT FROM facts.sales
                                        WHERE (sales.tenant_id, sales.location_id, sales.product_id)
                                            = (series.tenant_id, series.location_id, series.product_id))))
        ORDER BY input.tenant_id FOR NO KEY UPDATE OF input
        """,
        {"tenant_ids": list(tenant_ids)},
    ).fetchall()
    unrecorded = [tenant_id for tenant_id, *_, is_recorded in stale if not is_recorded]
    return _write_panels(connection, [row[:4] for row in stale], unrecorded)


def rebuild_demand_panels(connection: Connection, tenant_ids: Sequence[str]) -> int:
    """Build the panels anew from all sales rows, whatever they are now; returns how many series were written."""
    held = connection.execute(
        """
        SELECT tenant_id, version, NULL::date, NULL::date FROM ops.input_version
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND input = 'sales' ORDER BY tenant_id FOR NO KEY UPDATE
        """,
        {"tenant_ids": list(tenant_ids)},
    ).fetchall()
    return _write_panels(connection, held, [tenant_id for tenant_id, *_ in held])


def _write_panels(
    connection: Connection, stale: Sequence[tuple[str, int, date | None, date | None]], rebuilt: Sequence[str]
) -> int:
    """Write the panels of tenants with the version and the changed dates of each; those of `rebuilt` from all their rows.

    The rows of the changed dates take the place of what the arrays hold from the first to the last of these rows. Rows
    are added and replaced but never removed, so nothing else can have changed; whoever removes some moves the version on
    without a record of dates, and the panel is built anew.
    """
    if not stale:
        return 0
    tenant_ids, versions, first_on, last_on = (list(values) for values in zip(*stale, strict=True))
    parameters = {"tenant_ids": tenant_ids, "versions": versions, "first_on": first_on, "last_on": last_on}
    connection.execute("DELETE FROM facts.demand_panel WHERE tenant_id = ANY(%s::text[])", (list(rebuilt),))
    # Each series reads its own range of the primary key: a morning costs a look-up a series, whatever was sold before.
    written = connection.execute(
        """
        WITH stale AS (
            SELECT * FROM unnest(%(tenant_ids)s::text[], %(versions)s::bigint[], %(first_on)s::date[], %(last_on)s::date[])
                AS stale (tenant_id, version, first_on, last_on)
        )
        INSERT INTO facts.demand_panel
            (tenant_id, location_id, product_id, first_on, sales_units, sold_out_on, sold_out_minute, sales_version)
        SELECT series.tenant_id, series.location_id, series.product_id, least(panel.first_on, fresh.first_on),
               panel.sales_units[1 : fresh.first_on - panel.first_on]
               || array_fill(NULL::real, ARRAY[greatest(
                      fresh.first_on - panel.first_on - cardinality(panel.sales_units), 0)])
               || fresh.sales_units
               || array_fill(NULL::real, ARRAY[greatest(panel.first_on - fresh.last_on - 1, 0)])
               || panel.sales_units[fresh.last_on - panel.first_on + 2 :],
               sold_out.days, sold_out.minutes, stale.version
        FROM stale JOIN master.assortment AS series USING (tenant_id)
        LEFT JOIN facts.demand_panel AS panel USING (tenant_id, location_id, product_id)
        CROSS JOIN LATERAL (
            SELECT min(business_date) AS first_on, max(business_date) AS last_on,
                   array_agg(CASE WHEN later.n = 0 THEN units END ORDER BY business_date, later.n) AS sales_units,
                   array_agg(business_date) FILTER (WHERE later.n = 0 AND sold_out_at IS NOT NULL) AS sold_out_on,
                   array_agg(extract(hour FROM sold_out_at) * 60 + extract(minute FROM sold_out_at))
                       FILTER (WHERE later.n = 0 AND sold_out_at IS NOT NULL) AS sold_out_minute
            FROM (
                SELECT business_date, sum(quantity_units)::real AS units, max(sold_out_at) AS sold_out_at,
                       lead(business_date, 1, business_date + 1) OVER (ORDER BY business_date)
                           - business_date AS days_until_next
                FROM facts.sales
                WHERE (sales.tenant_id, sales.location_id, sales.product_id)
                    = (series.tenant_id, series.location_id, series.product_id)
                  AND sales.business_date >= CASE WHEN panel.tenant_id IS NULL THEN '-infinity' ELSE stale.first_on END
                  AND sales.business_date <= CASE WHEN panel.tenant_id IS NULL THEN 'infinity' ELSE stale.last_on END
                GROUP BY business_date
            ) AS daily
            CROSS JOIN LATERAL generate_series(0, days_until_next - 1) AS later (n)
        ) AS fresh
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(day ORDER BY day), '{}') AS days,
                   coalesce(array_agg(minute ORDER BY day), '{}') AS minutes
            FROM (
                SELECT day, minute FROM unnest(panel.sold_out_on, panel.sold_out_minute) AS known (day, minute)
                WHERE day NOT BETWEEN fresh.first_on AND fresh.last_on
                UNION ALL SELECT * FROM unnest(fresh.sold_out_on, fresh.sold_out_minute)
            ) AS of_both (day, minute)
        ) AS sold_out
        WHERE fresh.first_on IS NOT NULL
        ON CONFLICT (tenant_id, location_id, product_id) DO UPDATE
        SET first_on = excluded.first_on, sales_units = excluded.sales_units, sold_out_on = excluded.sold_out_on,
            sold_out_minute = excluded.sold_out_minute, sales_version = excluded.sales_version
        """,
        parameters,
    ).rowcount
    connection.execute(
        """
        UPDATE facts.demand_panel AS panel SET sales_version = stale.version
        FROM unnest(%(tenant_ids)s::text[], %(versions)s::bigint[]) AS stale (tenant_id, version)
        WHERE panel.tenant_id = stale.tenant_id AND panel.sales_version <> stale.version
        """,
        parameters,
    )
    connection.execute(
        """
        DELETE FROM ops.input_change AS change
        USING unnest(%(tenant_ids)s::text[], %(versions)s::bigint[]) AS used (tenant_id, version)
        WHERE change.tenant_id = used.tenant_id AND change.input = 'sales' AND change.version <= used.version
        """,
        parameters,
    )
    return written


def read_sales_panel(connection: Connection, tenant_ids: Sequence[str], first_day: date, last_day: date) -> Panel:
    """What each active product sold per day at each active location, from first_day through last_day.

    Keys tenant_id, location_id, product_id; `sales_units` (n, days) in units, NaN where nothing is recorded, and
    `sold_out_minute` (n, days) int16, the local minute of the day at which the last one went, NOT_SOLD_OUT elsewhere. A
    series without sales is all NaN. Call `refresh_demand_panels` before.
    """
    days = (last_day - first_day).days + 1
    rows = batch_frame(
        connection,
        """
        SELECT series.tenant_id, series.location_id, series.product_id,
               greatest(panel.first_on - %(first_day)s, 0) AS start,
               array_send(array_replace(panel.sales_units[
                   greatest(%(first_day)s - panel.first_on, 0) + 1 : %(last_day)s - panel.first_on + 1
               ], NULL, 'NaN'::real)) AS sales_units,
               sold_out.days AS sold_out_days, sold_out.minutes AS sold_out_minutes
        FROM master.assortment AS series
        JOIN master.product USING (tenant_id, product_id)
        JOIN master.location USING (tenant_id, location_id)
        LEFT JOIN facts.demand_panel AS panel USING (tenant_id, location_id, product_id)
        CROSS JOIN LATERAL (
            SELECT array_agg(day - %(first_day)s) AS days, array_agg(minute) AS minutes
            FROM unnest(panel.sold_out_on, panel.sold_out_minute) AS known (day, minute)
            WHERE day BETWEEN %(first_day)s AND %(last_day)s
        ) AS sold_out
        WHERE series.tenant_id = ANY(%(tenant_ids)s::text[])
          AND series.is_active AND product.is_active AND location.is_active
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"first_day": first_day, "last_day": last_day},
    )
    units, lengths = _reals(rows["sales_units"])
    series = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    days_at = np.repeat(rows["start"].fillna(0).to_numpy(dtype=int), lengths) + within
    sales_units = np.full((len(rows), days), np.nan)
    sales_units[series, days_at] = units
    sold_out_minute = np.full((len(rows), days), NOT_SOLD_OUT, dtype=np.int16)
    sold_out = np.repeat(np.arange(len(rows)), [len(found or ()) for found in rows["sold_out_days"]])
    sold_out_minute[sold_out, _flat(rows["sold_out_days"], int)] = _flat(rows["sold_out_minutes"], int)
    return Panel(
        rows[["tenant_id", "location_id", "product_id"]],
        {"sales_units": sales_units, "sold_out_minute": sold_out_minute},
        first_day,
    )


def read_hourly_profiles(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """The share of a weekday's demand by hour: tenant_id, location_id, product_id, weekday, hour, share."""
    return batch_frame(
        connection,
        """
        SELECT tenant_id, location_id, product_id, weekday, hour, share::float8 FROM master.hourly_profile
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2, 3, 4, 5
        """,
        tenant_ids,
    )


def read_opening_hours(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """When locations open: tenant_id, location_id, weekday, opens_at, closes_at."""
    return batch_frame(
        connection,
        """
        SELECT tenant_id, location_id, weekday, opens_at, closes_at FROM master.opening_hours
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2, 3
        """,
        tenant_ids,
    )


def read_events(connection: Connection, tenant_ids: Sequence[str], first_day: date, last_day: date) -> pd.DataFrame:
    """Calendar events of the days: tenant_id, location_id, product_id (missing: all), business_date, kind, name."""
    return batch_frame(
        connection,
        """
        SELECT tenant_id, location_id, product_id, business_date, kind, name FROM master.calendar_event
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date BETWEEN %(first_day)s AND %(last_day)s
        ORDER BY tenant_id, business_date, kind, name, location_id, product_id
        """,
        tenant_ids,
        {"first_day": first_day, "last_day": last_day},
    )


def read_products(connection: Connection, tenant_ids: Sequence[str], run_dates: Mapping[str, date]) -> pd.DataFrame:
    """Products with the shelf life of their item and the price version in force on each tenant's run date.

    That is the highest version among those valid by then. Without one, price and cost are NaN, salvage value and
    goodwill cost 0, which is what an unstated one is. made_on_weekdays is a list, ready_by a local time or None.
    """
    return batch_frame(
        connection,
        """
        SELECT product.tenant_id, product.product_id, item.name, item.base_unit, item.shelf_life_days::float8,
               product.batch_size_units::float8, product.batch_min, product.batch_multiple,
               product.batch_max_per_day::float8, product.batch_fixed_cost::float8, product.made_on_weekdays,
               product.daily_estimate_units::float8, product.ready_by, product.is_active,
               price.version::float8 AS price_version, price.unit_price::float8, price.variable_cost::float8,
               coalesce(price.salvage_value, 0)::float8 AS salvage_value,
               coalesce(price.goodwill_cost, 0)::float8 AS goodwill_cost
        FROM unnest(%(tenant_ids)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
        JOIN master.product USING (tenant_id)
        JOIN master.item ON item.tenant_id = product.tenant_id AND item.item_id = product.product_id
        LEFT JOIN LATERAL (
            SELECT * FROM master.product_price AS price
            WHERE price.tenant_id = product.tenant_id AND price.product_id = product.product_id
              AND price.valid_from <= run.run_date
            ORDER BY price.version DESC LIMIT 1
        ) AS price ON true
        ORDER BY 1, 2
        """,
        tenant_ids,
        run_dates=run_dates,
    )


def read_assortment(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """What is sold where and made where: tenant_id, location_id, product_id, made_at_location_id. Active rows only."""
    return batch_frame(
        connection,
        """
        SELECT series.tenant_id, series.location_id, series.product_id, series.made_at_location_id
        FROM master.assortment AS series
        JOIN master.product USING (tenant_id, product_id)
        JOIN master.location USING (tenant_id, location_id)
        WHERE series.tenant_id = ANY(%(tenant_ids)s::text[])
          AND series.is_active AND product.is_active AND location.is_active
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
    )


def read_customer_orders(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, days: int, run_dates: Mapping[str, date]
) -> pd.DataFrame:
    """Units ordered for each day from plan_date: tenant_id, location_id, product_id, due_on, quantity_units.

    Customer orders placed by the run date, and the standing orders of the day's weekday, added up. Only the day of an
    order is stored, so a replay also sees orders that were placed on the run date after the plan would have been made.
    """
    return batch_frame(
        connection,
        """
        SELECT tenant_id, location_id, product_id, due_on, sum(quantity_units)::float8 AS quantity_units
        FROM (
            SELECT placed.tenant_id, placed.location_id, placed.product_id, placed.due_on, placed.quantity_units
            FROM unnest(%(tenant_ids)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
            JOIN facts.customer_order AS placed USING (tenant_id)
            WHERE placed.due_on >= %(plan_date)s AND placed.due_on < %(plan_date)s + %(days)s::int
              AND placed.ordered_on <= run.run_date
            UNION ALL
            SELECT standing.tenant_id, standing.location_id, standing.product_id, day.due_on, standing.quantity_units
            FROM facts.standing_order AS standing
            JOIN (SELECT %(plan_date)s + n AS due_on FROM generate_series(0, %(days)s::int - 1) AS n) AS day
              ON standing.weekday = extract(isodow FROM day.due_on)::int - 1 AND day.due_on >= standing.valid_from
             AND (standing.valid_to IS NULL OR day.due_on <= standing.valid_to)
            WHERE standing.tenant_id = ANY(%(tenant_ids)s::text[])
        ) AS due
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        {"plan_date": plan_date, "days": days},
        run_dates,
    )


def read_recipes(connection: Connection, tenant_ids: Sequence[str], run_dates: Mapping[str, date]) -> pd.DataFrame:
    """Lines of the recipe version in force on the run date, the highest among those valid by then; one row per line.

    tenant_id, output_item_id, version, output_quantity, yield_frac, item_id, quantity, scrap_frac.
    """
    return batch_frame(
        connection,
        """
        SELECT recipe.tenant_id, recipe.output_item_id, recipe.version, recipe.output_quantity::float8,
               recipe.yield_frac::float8, line.item_id, line.quantity::float8, line.scrap_frac::float8
        FROM (
            SELECT DISTINCT ON (recipe.tenant_id, recipe.output_item_id) recipe.*
            FROM unnest(%(tenant_ids)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
            JOIN master.recipe USING (tenant_id)
            WHERE recipe.valid_from <= run.run_date
            ORDER BY recipe.tenant_id, recipe.output_item_id, recipe.version DESC
        ) AS recipe
        JOIN master.recipe_line AS line USING (tenant_id, output_item_id, version)
        ORDER BY 1, 2, line.item_id
        """,
        tenant_ids,
        run_dates=run_dates,
    )


def read_items(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """Everything stocked, made or bought, with units, shelf life (NaN: keeps), unit cost, safety stock and lot rule.

    lot_quantity (base units) and lot_periods (days) are NaN where the rule needs none.
    """
    return batch_frame(
        connection,
        """
        SELECT tenant_id, item_id, name, kind, base_unit, shelf_life_days::float8, removal_days, unit_cost::float8,
               safety_stock_quantity::float8, service_level::float8, lot_rule, lot_quantity::float8, lot_periods::float8
        FROM master.item WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2
        """,
        tenant_ids,
    )


def read_suppliers(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """Suppliers: tenant_id, supplier_id, name, delivery_weekdays (list), order_cutoff_at, min_order_value, delivery_fee."""
    return batch_frame(
        connection,
        """
        SELECT tenant_id, supplier_id, name, delivery_weekdays, order_cutoff_at, min_order_value::float8,
               delivery_fee::float8
        FROM master.supplier WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2
        """,
        tenant_ids,
    )


def read_supplier_items(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """What each supplier offers, in packs of pack_quantity base units. Active rows only.

    lead_sd_days: one sigma of the days that a delivery takes; on_time_rate: the share that comes on its day, up to 1.
    """
    return batch_frame(
        connection,
        """
        SELECT tenant_id, supplier_id, item_id, priority, lead_days, pack_quantity::float8, min_packs, multiple_packs,
               lead_sd_days::float8, on_time_rate::float8
        FROM master.supplier_item WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND is_active ORDER BY 1, 2, 3
        """,
        tenant_ids,
    )


def read_supplier_prices(
    connection: Connection, tenant_ids: Sequence[str], run_dates: Mapping[str, date]
) -> pd.DataFrame:
    """Prices per pack in force on the run date: tenant_id, supplier_id, item_id, from_packs, version, price_per_pack.

    A version holds all price breaks of a supplier's item; the highest among those valid by then is in force.
    """
    return batch_frame(
        connection,
        """
        SELECT tenant_id, supplier_id, item_id, from_packs, version, price_per_pack::float8
        FROM (
            SELECT price.*, max(price.version) OVER (PARTITION BY tenant_id, supplier_id, item_id) AS version_in_force
            FROM unnest(%(tenant_ids)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
            JOIN master.supplier_price AS price USING (tenant_id)
            WHERE price.valid_from <= run.run_date
        ) AS known
        WHERE version = version_in_force
        ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        run_dates=run_dates,
    )


def read_workshop(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> Workshop:
    """Ovens and mixers, when they work, and what passes through them; the calendar from the evening before plan_date on."""
    resources = batch_frame(
        connection,
        """
        SELECT tenant_id, resource_id, location_id, kind, capacity::float8, available_from
        FROM master.resource WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2
        """,
        tenant_ids,
    )
    calendar = batch_frame(
        connection,
        """
        SELECT tenant_id, resource_id, on_date, from_at, until_at, capacity::float8
        FROM master.resource_calendar
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND on_date BETWEEN %(first_day)s AND %(last_day)s
        ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        {"first_day": plan_date - timedelta(days=1), "last_day": plan_date + timedelta(days=PLAN_DAYS - 1)},
    )
    steps = batch_frame(
        connection,
        """
        SELECT tenant_id, item_id, step_no, resource_kind, resource_id, minutes::float8, capacity_use::float8,
               wait_minutes::float8
        FROM master.process_step WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2, 3
        """,
        tenant_ids,
    )
    # A resource that is not named is None, whatever else the column holds.
    steps["resource_id"] = steps["resource_id"].astype(object).where(steps["resource_id"].notna(), None)
    opening = batch_frame(
        connection,
        """
        SELECT tenant_id, location_id, weekday, opens_at FROM master.opening_hours
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) ORDER BY 1, 2, 3
        """,
        tenant_ids,
    )
    return Workshop(resources, calendar, steps, opening)


def read_open_orders(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, run_dates: Mapping[str, date]
) -> pd.DataFrame:
    """Deliveries expected from plan_date on, of orders placed by the run date and not by a later day's plan.

    tenant_id, location_id, item_id, lot_id, supplier_id, ordered_on, delivery_on, quantity, expires_on, unit_cost.
    """
    return batch_frame(
        connection,
        """
        SELECT ordered.tenant_id, ordered.location_id, ordered.item_id, ordered.order_line_id AS lot_id,
               ordered.supplier_id, ordered.ordered_on, ordered.delivery_on, ordered.expires_on,
               ordered.quantity::float8,
               (ordered.amount / ordered.quantity)::float8 AS unit_cost
        FROM unnest(%(tenant_ids)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
        JOIN facts.purchase_order_line AS ordered USING (tenant_id)
        WHERE ordered.status = 'open' AND ordered.delivery_on >= %(plan_date)s AND ordered.ordered_on <= run.run_date
          AND (ordered.plan_date IS NULL OR ordered.plan_date <= %(plan_date)s)
        ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        {"plan_date": plan_date},
        run_dates,
    )


# Since when the stock of an item is rolled forward: its last count, else the first plan of its tenant.
_SINCE: LiteralString = """
    WITH run AS (
        SELECT * FROM unnest(%(tenant_ids)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
    ), counted AS (
        SELECT lot.tenant_id, lot.location_id, lot.item_id, max(lot.as_of) AS as_of
        FROM run JOIN facts.stock_lot AS lot USING (tenant_id)
        WHERE lot.as_of <= run.run_date AND lot.as_of > %(horizon_on)s
        GROUP BY 1, 2, 3
    ), started AS (
        SELECT run.tenant_id, run.run_date, coalesce(min(plan.plan_date), %(plan_date)s) AS first_on
        FROM run LEFT JOIN plans.plan ON plan.tenant_id = run.tenant_id AND plan.status = 'active'
             AND plan.plan_date > %(horizon_on)s AND plan.plan_date <= %(plan_date)s
        GROUP BY 1, 2
    )
"""


def read_stock_history(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, run_dates: Mapping[str, date]
) -> StockHistory:
    """What happened to stock between each item's last count by the run date and the opening of plan_date.

    Ingredients are received by open orders and consumed as the active procurement plans of those days required them; a
    day without a plan takes the matching later day of the last plan before it. Finished products are received by active
    production plans where they are made, and consumed there by what its outlets sold. An outlet without any sales on a
    day has not reported them: its share of the sales that the plan expected stands in, if there was a plan. Movements
    and sales of the run date itself are not known when it is planned. Counts older than LOOK_BACK_DAYS are not used.
    """
    horizon_on = plan_date - timedelta(days=LOOK_BACK_DAYS)
    parameters = {"plan_date": plan_date, "horizon_on": horizon_on, "last_day": PLAN_DAYS - 1}

    def read(query: LiteralString) -> pd.DataFrame:
        return batch_frame(connection, _SINCE + query, tenant_ids, parameters, run_dates)

    lots = read(
        """
        SELECT lot.tenant_id, lot.location_id, lot.item_id, lot.as_of, lot.lot_id, lot.quantity::float8,
               lot.received_on, lot.expires_on, coalesce(lot.unit_cost, item.unit_cost)::float8 AS unit_cost
        FROM counted JOIN facts.stock_lot AS lot USING (tenant_id, location_id, item_id, as_of)
        JOIN master.item USING (tenant_id, item_id)
        ORDER BY 1, 2, 3, lot.lot_id
        """
    )
    movements = read(
        """
        SELECT moved.tenant_id, moved.location_id, moved.item_id, moved.occurred_on,
               sum(moved.quantity_change)::float8 AS quantity_change
        FROM started JOIN facts.stock_movement AS moved USING (tenant_id)
        LEFT JOIN counted USING (tenant_id, location_id, item_id)
        WHERE moved.occurred_on >= coalesce(counted.as_of, started.first_on)
          AND moved.occurred_on < started.run_date
        GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        """
    )
    bought = read(
        """
        SELECT ordered.tenant_id, ordered.location_id, ordered.item_id, ordered.delivery_on AS received_on,
               ordered.order_line_id AS lot_id, ordered.quantity::float8, ordered.expires_on,
               (ordered.amount / ordered.quantity)::float8 AS unit_cost
        FROM started JOIN facts.purchase_order_line AS ordered USING (tenant_id)
        LEFT JOIN counted USING (tenant_id, location_id, item_id)
        WHERE ordered.status = 'open' AND ordered.delivery_on >= coalesce(counted.as_of, started.first_on)
          AND ordered.delivery_on < %(plan_date)s AND ordered.ordered_on <= started.run_date
          AND (ordered.plan_date IS NULL OR ordered.plan_date <= %(plan_date)s)
        ORDER BY 1, 2, 3, 5
        """
    )
    made = read(_MADE + _MADE_RECEIPTS)
    used = read(_COVERING + _USED)
    sold = read(_MADE + _MADE_CONSUMPTION)
    never_counted = read(_IN_USE + _NEVER_COUNTED)
    uncovered = read(_COVERING + _IN_USE + _UNCOVERED)
    started = read("SELECT tenant_id, first_on FROM started")
    receipts, consumption = _stacked(bought, made), _stacked(used, sold)
    return StockHistory(
        _stacked(lots, _empty_lots(lots, [movements, receipts, consumption], started)),
        movements,
        receipts,
        consumption,
        never_counted,
        uncovered,
    )


# The active procurement plans before plan_date, each through its horizon or until the next one (next_on).
_COVERING: LiteralString = """
    , covering AS (
        SELECT tenant_id, plan_date, plan_id, location_id, next_on,
               least(plan_date + %(last_day)s::int, next_on - 1) AS last_on
        FROM (
            SELECT plan.*, lead(plan_date, 1, %(plan_date)s::date) OVER (
                       PARTITION BY tenant_id, location_id ORDER BY plan_date
                   ) AS next_on
            FROM plans.plan
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND kind = 'procurement' AND status = 'active'
              AND plan_date > %(horizon_on)s AND plan_date < %(plan_date)s
        ) AS planned
    )
"""

_USED: LiteralString = """
    SELECT need.tenant_id, need.location_id, need.item_id, need.plan_date + day.n AS consumed_on,
           need.gross_quantity[day.n + 1]::float8 AS quantity
    FROM covering JOIN plans.requirement AS need USING (tenant_id, plan_date, plan_id, location_id)
    JOIN started USING (tenant_id)
    JOIN master.item USING (tenant_id, item_id)
    LEFT JOIN counted USING (tenant_id, location_id, item_id)
    CROSS JOIN LATERAL generate_series(
        greatest(coalesce(counted.as_of, started.first_on) - need.plan_date, 0), covering.last_on - need.plan_date
    ) AS day (n)
    WHERE item.kind <> 'product' AND need.gross_quantity[day.n + 1] > 0
    ORDER BY 1, 2, 3, 4
"""

# What recipes use, wherever products are made.
_IN_USE: LiteralString = """
    , in_use AS (
        SELECT place.tenant_id, place.location_id, item.item_id
        FROM run
        JOIN (
            SELECT DISTINCT tenant_id, made_at_location_id AS location_id FROM master.assortment WHERE is_active
        ) AS place USING (tenant_id)
        JOIN master.item USING (tenant_id)
        WHERE item.kind IN ('ingredient', 'packaging')
          AND EXISTS (SELECT FROM master.recipe_line AS line
                      WHERE line.tenant_id = item.tenant_id AND line.item_id = item.item_id)
    )
"""

_NEVER_COUNTED: LiteralString = """
    SELECT tenant_id, location_id, item_id FROM in_use LEFT JOIN counted USING (tenant_id, location_id, item_id)
    WHERE counted.as_of IS NULL
    ORDER BY 1, 2, 3
"""

# A single day passes: a tenant that counts on the run date and is planned for the next day has nothing to count again.
_UNCOVERED: LiteralString = """
    , gap AS (
        SELECT tenant_id, location_id, last_on + 1 AS first_on, next_on - 1 AS last_on FROM covering
        UNION ALL
        SELECT place.tenant_id, place.location_id, NULL, coalesce(min(covering.plan_date), %(plan_date)s) - 1
        FROM (SELECT DISTINCT tenant_id, location_id FROM in_use) AS place
        LEFT JOIN covering USING (tenant_id, location_id)
        GROUP BY 1, 2
    )
    SELECT DISTINCT ON (tenant_id, location_id, item_id) tenant_id, location_id, item_id, counted.as_of AS counted_on,
           greatest(gap.first_on, counted.as_of) AS first_on, gap.last_on
    FROM in_use JOIN counted USING (tenant_id, location_id, item_id) JOIN gap USING (tenant_id, location_id)
    WHERE gap.last_on > greatest(gap.first_on, counted.as_of)
    ORDER BY 1, 2, 3, gap.last_on - greatest(gap.first_on, counted.as_of) DESC, gap.last_on
"""

# Active production of the days before plan_date. A product that lasts one day and was never counted leaves nothing.
_MADE: LiteralString = """
    , made AS (
        SELECT line.*, item.shelf_life_days, counted.as_of
        FROM started JOIN plans.plan USING (tenant_id)
        JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id)
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.product_id
        LEFT JOIN counted ON counted.tenant_id = line.tenant_id AND counted.location_id = line.location_id
             AND counted.item_id = line.product_id
        WHERE plan.kind = 'production' AND plan.status = 'active' AND plan.plan_date < %(plan_date)s
          AND plan.plan_date > %(horizon_on)s AND plan.plan_date >= coalesce(counted.as_of, started.first_on)
          AND (counted.as_of IS NOT NULL OR item.shelf_life_days IS DISTINCT FROM 1)
    )
"""

_MADE_RECEIPTS: LiteralString = """
    SELECT tenant_id, location_id, product_id AS item_id, plan_date AS received_on,
           'made-' || plan_date AS lot_id, horizon_units[1]::float8 AS quantity,
           plan_date + shelf_life_days - 1 AS expires_on, variable_cost::float8 AS unit_cost
    FROM made WHERE horizon_units[1] > 0
    ORDER BY 1, 2, 3, 4
"""

# What outlets sold of stocked products, and what they were expected to sell on days that they have not reported. An
# outlet's share of the expectation is that of its forecast, or an equal one where nothing was forecast.
_MADE_CONSUMPTION: LiteralString = """
    , stocked AS (
        SELECT counted.tenant_id, counted.location_id, counted.item_id AS product_id, counted.as_of AS since
        FROM counted JOIN master.item USING (tenant_id, item_id)
        WHERE item.kind = 'product'
        UNION ALL
        SELECT tenant_id, location_id, product_id, min(plan_date) FROM made WHERE as_of IS NULL GROUP BY 1, 2, 3
    ), outlet AS (
        SELECT stocked.*, series.location_id AS sold_at_location_id, series.is_active, started.run_date
        FROM stocked JOIN started USING (tenant_id)
        JOIN master.assortment AS series ON series.tenant_id = stocked.tenant_id
             AND series.made_at_location_id = stocked.location_id AND series.product_id = stocked.product_id
    ), sold AS (
        SELECT outlet.tenant_id, outlet.location_id, outlet.product_id, sales.business_date AS consumed_on,
               sales.quantity_units::float8 AS quantity
        FROM outlet
        JOIN facts.sales ON sales.tenant_id = outlet.tenant_id AND sales.location_id = outlet.sold_at_location_id
             AND sales.product_id = outlet.product_id
        WHERE sales.business_date >= outlet.since AND sales.business_date < outlet.run_date
          AND sales.business_date > %(horizon_on)s
    ), reported AS (
        SELECT DISTINCT sales.tenant_id, sales.location_id, sales.business_date
        FROM (
            SELECT tenant_id, sold_at_location_id AS location_id, run_date, min(since) AS since
            FROM outlet GROUP BY 1, 2, 3
        ) AS place
        JOIN facts.sales USING (tenant_id, location_id)
        WHERE sales.business_date >= place.since AND sales.business_date < place.run_date
          AND sales.business_date > %(horizon_on)s
    ), waiting AS (
        SELECT *, bool_and(is_reported) OVER of_line AS is_line_reported
        FROM (
            SELECT made.tenant_id, made.location_id, made.product_id, made.plan_date, made.expected_sales_units,
                   outlet.sold_at_location_id, outlet.is_active, reported.business_date IS NOT NULL AS is_reported
            FROM made JOIN outlet USING (tenant_id, location_id, product_id)
            LEFT JOIN reported ON reported.tenant_id = made.tenant_id
                 AND reported.location_id = outlet.sold_at_location_id AND reported.business_date = made.plan_date
        ) AS served
        WINDOW of_line AS (PARTITION BY tenant_id, location_id, product_id, plan_date)
    ), expected AS (
        SELECT waiting.tenant_id, waiting.location_id, waiting.product_id, waiting.plan_date AS consumed_on, is_reported,
               expected_sales_units::float8 * CASE
                   WHEN sum(forecast.units) OVER of_line > 0
                   THEN coalesce(forecast.units, 0) / sum(forecast.units) OVER of_line
                   ELSE is_active::int::float8 / nullif(sum(is_active::int) OVER of_line, 0)
               END AS quantity
        FROM waiting
        LEFT JOIN LATERAL (
            SELECT line.mean_units[1]::float8 AS units
            FROM plans.plan JOIN plans.forecast AS line USING (tenant_id, plan_date, plan_id)
            WHERE plan.tenant_id = waiting.tenant_id AND plan.plan_date = waiting.plan_date
              AND plan.kind = 'forecast' AND plan.status = 'active'
              AND line.location_id = waiting.sold_at_location_id AND line.product_id = waiting.product_id
        ) AS forecast ON true
        WHERE NOT is_line_reported
        WINDOW of_line AS (PARTITION BY waiting.tenant_id, waiting.location_id, waiting.product_id, waiting.plan_date)
    )
    SELECT tenant_id, location_id, product_id AS item_id, consumed_on, sum(quantity) AS quantity
    FROM (
        SELECT * FROM sold
        UNION ALL
        SELECT tenant_id, location_id, product_id, consumed_on, quantity FROM expected WHERE NOT is_reported
    ) AS used
    GROUP BY 1, 2, 3, 4 HAVING sum(quantity) > 0
    ORDER BY 1, 2, 3, 4
"""


def read_forecasts(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> Panel:
    """The active forecasts of a plan date, as `planning.forecasting` made them."""
    rows = batch_frame(
        connection,
        """
        SELECT line.tenant_id, line.location_id, line.product_id, line.method, line.method_reason, line.model_version,
               line.last_history_on, line.volume_class, line.mean_units,
               coalesce(line.raw_mean_units, line.mean_units) AS raw_mean_units, line.quantile_units, line.is_open
        FROM plans.plan JOIN plans.forecast AS line USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'forecast' AND plan.status = 'active'
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"plan_date": plan_date},
    )
    return Panel(
        rows.drop(columns=["mean_units", "raw_mean_units", "quantile_units", "is_open"]),
        {
            "mean_units": _matrix(rows["mean_units"]),
            "raw_mean_units": _matrix(rows["raw_mean_units"]),
            "quantile_units": _matrix(rows["quantile_units"], (PLAN_DAYS, len(QUANTILE_LEVELS))),
            "is_open": _matrix(rows["is_open"]).astype(bool),
        },
        plan_date,
    )


def read_planned_production(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> Panel:
    """The active production plans: keys tenant_id, location_id (where made), product_id.

    `horizon_units` and `deviation_units`, (n, 14) each. A plan that does not know how far its quantities may change
    with demand, since it was made before that was kept, has deviation 0: no safety is taken for it.
    """
    rows = batch_frame(
        connection,
        """
        SELECT line.tenant_id, line.location_id, line.product_id, line.horizon_units::float8[], line.deviation_units
        FROM plans.plan JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'production' AND plan.status = 'active'
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"plan_date": plan_date},
    )
    return Panel(
        rows.drop(columns=["horizon_units", "deviation_units"]),
        {"horizon_units": _matrix(rows["horizon_units"]), "deviation_units": _deviations(rows["deviation_units"])},
        plan_date,
    )


def read_doughs(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> pd.DataFrame:
    """The doughs of the active production plans, in base units; arrays as lists, times as aware datetimes."""
    return batch_frame(
        connection,
        """
        SELECT line.tenant_id, line.location_id, line.item_id, line.quantity::float8,
               line.opening_usable_quantity::float8, line.runs, line.run_quantities::float8[], line.run_resource_ids,
               line.run_starts_at, line.run_ends_at, line.product_ids, line.product_quantities::float8[],
               line.horizon_quantity::float8[]
        FROM plans.plan JOIN plans.dough_line AS line USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'production' AND plan.status = 'active'
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"plan_date": plan_date},
    )


def read_requirements(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> Panel:
    """The active requirements, in base units: keys with opening and safety stock, six matrices of (n, 14).

    `deviation_quantity` is 0 where the plan did not know it yet.
    """
    rows = batch_frame(
        connection,
        """
        SELECT line.tenant_id, line.location_id, line.item_id, line.opening_quantity::float8,
               line.safety_stock_quantity::float8, line.safety_stock_reason, line.deviation_quantity,
               line.gross_quantity::float8[], line.scheduled_receipts_quantity::float8[], line.net_quantity::float8[],
               line.planned_receipts_quantity::float8[], line.projected_on_hand_quantity::float8[]
        FROM plans.plan JOIN plans.requirement AS line USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'procurement' AND plan.status = 'active'
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"plan_date": plan_date},
    )
    arrays = list(rows.columns[7:])
    return Panel(
        rows.drop(columns=["deviation_quantity", *arrays]),
        {
            **{name: _matrix(rows[name]) for name in arrays},
            "deviation_quantity": _deviations(rows["deviation_quantity"]),
        },
        plan_date,
    )


def read_purchase_lines(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> pd.DataFrame:
    """The purchase lines of the active procurement plans, with status and the expiry that a fresh delivery would have.

    Lines with status `ordered` are open orders already, and come with `read_open_orders` too. covers_quantity is a list
    of 14 numbers, empty where the plan did not know it yet; alternatives a list of mappings.
    """
    return batch_frame(
        connection,
        """
        SELECT line.tenant_id, line.location_id, line.supplier_id, line.item_id, line.line_id, line.purchase_order_id,
               line.order_by, line.delivery_on, line.needed_on, line.net_quantity::float8, line.packs,
               line.pack_quantity::float8, line.quantity::float8, line.price_per_pack::float8, line.amount::float8,
               line.status, line.is_late, line.reason, line.lot_rule, line.recommended_packs::float8, line.override_by,
               line.override_reason, line.covers_quantity::float8[], line.alternatives, line.peg_product_ids,
               line.peg_shares::float8[], line.delivery_on + item.shelf_life_days - 1 AS expires_on
        FROM plans.plan JOIN plans.purchase_line AS line USING (tenant_id, plan_date, plan_id)
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.item_id
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'procurement' AND plan.status = 'active'
        ORDER BY 1, line.order_by, 2, 3, 4
        """,
        tenant_ids,
        {"plan_date": plan_date},
    )


def batch_frame(
    connection: Connection,
    query: LiteralString,
    tenant_ids: Sequence[str],
    parameters: Mapping[str, object] | None = None,
    run_dates: Mapping[str, date] | None = None,
) -> pd.DataFrame:
    """The query's result; float8 columns are float even when every value is missing, or when there are no rows."""
    bound: dict[str, Any] = {"tenant_ids": list(tenant_ids), **(parameters or {})}
    if run_dates is not None:
        bound["run_dates"] = [run_dates[tenant_id] for tenant_id in bound["tenant_ids"]]
    # Arrays come as binary: their text would take ten times as long to read.
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query, bound)
        described = cursor.description or []
        rows = cursor.fetchall()
    columns = {
        column.name: pd.Series([row[n] for row in rows], dtype=_DTYPES.get(column.type_display))
        for n, column in enumerate(described)
    }
    return pd.DataFrame(columns)


def _reals(arrays: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The elements of one-dimensional real arrays without nulls, as `array_send` writes them, and the length of each.

    A batch has millions of days: read as Python numbers they would take as long as the forecast made from them.
    """
    header, width = 20, 8  # dimensions, flags, type, length and lower bound; then a length and a value each
    parts = [array[header:] if array else b"" for array in arrays]
    lengths = np.array([len(part) // width for part in parts], dtype=int)
    return np.frombuffer(b"".join(parts), dtype=">f4").reshape(-1, 2)[:, 1].astype(float), lengths


def _flat(arrays: pd.Series, dtype: type) -> np.ndarray:
    """The elements of all arrays in one; a missing array has none, a missing number is NaN."""
    parts: list[np.ndarray] = [np.asarray(array, dtype=dtype) for array in arrays if array]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _matrix(arrays: pd.Series, shape: tuple[int, ...] = (PLAN_DAYS,)) -> np.ndarray:
    """Arrays of equal shape, stacked: (n, *shape)."""
    return np.array(arrays.tolist(), dtype=float).reshape(len(arrays), *shape)


def _deviations(arrays: pd.Series) -> np.ndarray:
    """Arrays of PLAN_DAYS numbers or none, stacked; zeros where there are none."""
    return np.array([array or [0.0] * PLAN_DAYS for array in arrays], dtype=float).reshape(len(arrays), PLAN_DAYS)


def _stacked(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The rows of both; an empty frame takes no part, since it would change the other's types."""
    parts = [part for part in (first, second) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else first


def _empty_lots(lots: pd.DataFrame, moved: Sequence[pd.DataFrame], started: pd.DataFrame) -> pd.DataFrame:
    """An empty lot as of the tenant's first plan for each item that moved but was never counted."""
    keys = ["tenant_id", "location_id", "item_id"]
    parts = [part[keys] for part in moved if len(part)]
    if not parts:
        return lots.iloc[:0]
    items = pd.concat(parts, ignore_index=True).drop_duplicates()
    items = items.merge(lots[keys].drop_duplicates(), how="left", on=keys, indicator=True)
    items = items.loc[items["_merge"] == "left_only", keys].merge(started, on="tenant_id")
    return (
        items.rename(columns={"first_on": "as_of"})
        .assign(lot_id=UNCOUNTED_LOT, quantity=0.0, received_on=None, expires_on=None, unit_cost=np.nan)
        .astype({"received_on": object, "expires_on": object})
    )
