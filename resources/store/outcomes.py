"""Reads the plans of a finished day beside what was sold, and keeps what they cost and how much revisions changed.

What they cost is computed in `planning.outcomes`, how much they changed in `planning.stability`.
"""

from collections.abc import Sequence
from datetime import date
from typing import LiteralString

import numpy as np
import pandas as pd

from planning.censoring import NOT_SOLD_OUT
from planning.frames import QUANTILE_LEVELS
from planning.outcomes import OUTCOME_COLUMNS
from planning.stability import STABILITY_COLUMNS, compare_revisions
from resources.store.database import Connection, copy_rows
from resources.store.inputs import batch_frame

NO_DEMAND = np.zeros(len(QUANTILE_LEVELS))
"""The quantiles of a forecast that holds none."""


def read_judged_lines(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """The production lines that were live when their places opened on a finished day, as `planning.outcomes.judge` has them.

    That is the last revision made before the opening, or else the active one, marked as replayed. Rules of batches are
    those of now: a plan does not keep them.
    """
    return batch_frame(
        connection,
        """
        WITH judged AS (
            SELECT DISTINCT ON (tenant_id, location_id) tenant_id, location_id, plan_date, plan_id, is_replayed
            FROM plans.plan
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND kind = 'production' AND plan_date = %(business_date)s
              AND (NOT is_replayed OR status = 'active')
            ORDER BY tenant_id, location_id, is_replayed, revision DESC
        )
        SELECT line.tenant_id, line.location_id, line.product_id, line.plan_id::text AS plan_id, judged.is_replayed,
               line.limited_by, line.orders_units::float8, line.optimal_units::float8, line.opening_usable_units::float8,
               line.batch_size_units::float8, line.quantity_units::float8,
               line.unlimited_batches::float8, line.recommended_batches::float8,
               line.critical_ratio::float8, line.is_default_critical_ratio,
               line.expected_waste_units::float8, line.expected_sales_units::float8,
               line.unit_price::float8, line.variable_cost::float8, line.salvage_value::float8, line.goodwill_cost::float8,
               item.shelf_life_days::float8, product.batch_min, product.batch_multiple, product.batch_max_per_day::float8
        FROM judged
        JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id, location_id)
        JOIN master.product USING (tenant_id, product_id)
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.product_id
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"business_date": business_date},
    )


def read_outlets(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """What each outlet sold of each product on a finished day, as `planning.outcomes.demand_of_day` takes it.

    The outlets are those that were forecast, by the forecast that was live when they opened or else the active one, and
    they are served by the place that the assortment names.
    """
    rows = batch_frame(
        connection,
        """
        WITH served AS (
            SELECT DISTINCT ON (tenant_id, location_id) tenant_id, location_id, plan_date, plan_id
            FROM plans.plan
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND kind = 'forecast' AND plan_date = %(business_date)s
              AND (NOT is_replayed OR status = 'active')
            ORDER BY tenant_id, location_id, is_replayed, revision DESC
        ), sold AS (
            SELECT tenant_id, location_id, product_id, sum(quantity_units)::float8 AS units,
                   max(sold_out_at) AS sold_out_at
            FROM facts.sales
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date = %(business_date)s
            GROUP BY 1, 2, 3
        ), reported AS (
            SELECT tenant_id, location_id FROM sold GROUP BY 1, 2 HAVING sum(units) > 0
        )
        SELECT line.tenant_id, line.location_id, line.product_id, series.made_at_location_id,
               line.is_open[1] AS is_open, reported.location_id IS NOT NULL AS has_reported,
               coalesce(sold.units, 0) AS sold_units,
               coalesce((extract(hour FROM sold.sold_out_at) * 60 + extract(minute FROM sold.sold_out_at))::int,
                        %(not_sold_out)s::int) AS sold_out_minute,
               line.quantile_units[1 : 1][:] AS quantile_units
        FROM served
        JOIN plans.forecast AS line USING (tenant_id, plan_date, plan_id, location_id)
        JOIN master.assortment AS series USING (tenant_id, location_id, product_id)
        LEFT JOIN sold USING (tenant_id, location_id, product_id)
        LEFT JOIN reported USING (tenant_id, location_id)
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"business_date": business_date, "not_sold_out": NOT_SOLD_OUT},
    )
    units = [np.asarray(day, dtype=float).reshape(-1) if day else NO_DEMAND for day in rows["quantile_units"]]
    return rows.assign(quantile_units=pd.Series(units, dtype=object))


def write_outcomes(
    connection: Connection, business_date: date, outcomes: pd.DataFrame, tenant_ids: Sequence[str]
) -> int:
    """Replace the day's outcomes of these tenants, whose validation of the day must be written; returns the rows written."""
    connection.execute(
        "DELETE FROM quality.plan_outcome WHERE tenant_id = ANY(%s::text[]) AND business_date = %s",
        (list(tenant_ids), business_date),
    )
    return copy_rows(
        connection,
        "quality.plan_outcome",
        (*OUTCOME_COLUMNS, "business_date"),
        ((*row, business_date) for row in outcomes[list(OUTCOME_COLUMNS)].itertuples(index=False, name=None)),
    )


def read_outcomes(
    connection: Connection, tenant_ids: Sequence[str], first_on: date | None = None, last_on: date | None = None
) -> pd.DataFrame:
    """The outcomes of the days from first_on through last_on, by default of all days, with the products' names."""
    return batch_frame(
        connection,
        """
        SELECT outcome.tenant_id, outcome.business_date, outcome.location_id, outcome.product_id, item.name AS product_name,
               outcome.plan_id::text AS plan_id, outcome.is_replayed, outcome.made_units, outcome.opening_units,
               outcome.sold_units, outcome.demand_units, outcome.is_censored, outcome.waste_units, outcome.lost_units,
               outcome.underage_cost, outcome.overage_cost, outcome.is_default_critical_ratio, outcome.cost,
               outcome.hindsight_units, outcome.hindsight_cost, outcome.regret, outcome.regret_forecast,
               outcome.regret_rounding, outcome.regret_capacity, outcome.regret_override
        FROM quality.plan_outcome AS outcome
        JOIN master.item ON item.tenant_id = outcome.tenant_id AND item.item_id = outcome.product_id
        WHERE outcome.tenant_id = ANY(%(tenant_ids)s::text[])
          AND outcome.business_date BETWEEN coalesce(%(first_on)s::date, '-infinity') AND coalesce(%(last_on)s::date, 'infinity')
        ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        {"first_on": first_on, "last_on": last_on},
    )


_ANNOUNCED: dict[str, LiteralString] = {
    "production": """
        SELECT plan_id::text AS plan_id, product_id AS line, horizon_units::float8[] AS quantities
        FROM plans.production_line
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s
          AND plan_id = ANY(%(plan_ids)s::uuid[])
        ORDER BY 1, 2
    """,
    # Packs, since items are measured in units that do not add up. What has been ordered stands, whatever is planned later.
    "procurement": """
        SELECT plan_id::text AS plan_id, supplier_id || '/' || item_id || '/' || delivery_on AS line,
               array_append(array_fill(0::float8, ARRAY[delivery_on - plan_date]), packs::float8) AS quantities
        FROM plans.purchase_line
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s
          AND plan_id = ANY(%(plan_ids)s::uuid[])
          AND (status <> 'ordered' OR plan_id <> ALL(%(previous_plan_ids)s::uuid[]))
        ORDER BY 1, 2
    """,
}
"""The quantities that a plan announces, per line and day from the plan date on."""


def write_stability(connection: Connection, headers: pd.DataFrame, plan_date: date, kind: str) -> pd.DataFrame:
    """Keep how much new revisions changed the ones before them; returns the rows, as `compare_revisions` makes them.

    headers: tenant_id, location_id, plan_id, revision of the revisions written, whose lines are stored. kind: production,
    by units made, or procurement, by packs on their delivery days. A first revision changes nothing, and has no row.
    """
    newer = headers[headers["revision"] > 1]
    tenant_ids = sorted(newer["tenant_id"].unique())
    revisions = batch_frame(
        connection,
        """
        SELECT DISTINCT ON (plan.tenant_id, plan.plan_id) plan.tenant_id, plan.plan_id::text AS plan_id,
               earlier.plan_id::text AS previous_plan_id
        FROM plans.plan
        JOIN plans.plan AS earlier USING (tenant_id, plan_date, kind, location_id)
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = %(kind)s AND plan.plan_id = ANY(%(plan_ids)s::uuid[]) AND earlier.revision < plan.revision
        ORDER BY plan.tenant_id, plan.plan_id, earlier.revision DESC
        """,
        tenant_ids,
        {"plan_date": plan_date, "kind": kind, "plan_ids": newer["plan_id"].astype(str).tolist()},
    )
    if revisions.empty:
        return compare_revisions(revisions, pd.DataFrame(), pd.DataFrame())
    before, after = revisions["previous_plan_id"].tolist(), revisions["plan_id"].tolist()
    announced = batch_frame(
        connection,
        _ANNOUNCED[kind],
        tenant_ids,
        {"plan_date": plan_date, "plan_ids": [*before, *after], "previous_plan_ids": before},
    )
    made = compare_revisions(
        revisions, announced[announced["plan_id"].isin(before)], announced[announced["plan_id"].isin(after)]
    )
    plain = [made[name].astype(object).where(made[name].notna(), None) for name in STABILITY_COLUMNS]
    copy_rows(
        connection,
        "quality.plan_stability",
        (*STABILITY_COLUMNS, "plan_date", "kind"),
        ((*row, plan_date, kind) for row in zip(*plain, strict=True)),
    )
    return made
