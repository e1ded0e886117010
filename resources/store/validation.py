"""Reads stored forecasts and what was sold, and keeps the metrics. Both are put together in `planning.validation`."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from planning.calendar import SERIES
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel
from planning.validation import METRIC_COLUMNS, SALES_DAYS, rows_to_score
from resources import vocabulary
from resources.store.database import Connection, copy_rows
from resources.store.executions import add_events
from resources.store.inputs import batch_frame

SHARE_COLUMNS = ("quantile_coverage", "quantile_below")
"""The metrics that are stored as JSON, level: share of rows."""

PLAIN_COLUMNS = tuple(name for name in METRIC_COLUMNS if name not in SHARE_COLUMNS)
"""The metrics that are stored as they are."""


def read_validation_rows(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """Every forecast of a finished day beside what was sold, as `planning.validation.rows_to_score` has it.

    One row per series and plan date. It takes the revision that was live when the location opened on the plan date,
    which is the last one made before, or else the active one, marked as replayed.
    """
    forecasts = _forecasts_of(connection, tenant_ids, business_date)
    return rows_to_score(forecasts, _sales_until(connection, tenant_ids, business_date))


def read_actuals_versions(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> dict[str, int]:
    """The version of each tenant's sales of the day; a tenant without any is left out."""
    rows = connection.execute(
        "SELECT tenant_id, version FROM facts.actuals_day WHERE tenant_id = ANY(%s::text[]) AND business_date = %s",
        (list(tenant_ids), business_date),
    )
    return dict(rows.fetchall())


def write_validation(
    connection: Connection,
    business_date: date,
    metrics: pd.DataFrame,
    versions: Mapping[str, Mapping[str, int]],
    actuals_versions: Mapping[str, int],
    run_id: str,
    now: datetime,
) -> int:
    """Replace the day's metrics of the tenants in `versions`, with an event for each; returns the rows written.

    versions: of all inputs; actuals_versions: of the day's sales, as `read_actuals_versions` has them. Both are those read
    before the rows were.
    metrics: columns of quality.validation_metric without business_date; missing numbers become null.
    """
    tenant_ids = sorted(versions)
    connection.execute(
        "DELETE FROM quality.validation WHERE tenant_id = ANY(%s::text[]) AND business_date = %s",
        (tenant_ids, business_date),
    )
    copy_rows(
        connection,
        "quality.validation",
        ("tenant_id", "business_date", "sales_version", "actuals_version", "run_id", "validated_at"),
        (
            (tenant_id, business_date, versions[tenant_id]["sales"], actuals_versions.get(tenant_id, 0), run_id, now)
            for tenant_id in tenant_ids
        ),
    )
    plain = [metrics[name].astype(object).where(metrics[name].notna(), None) for name in PLAIN_COLUMNS]
    count = copy_rows(
        connection,
        "quality.validation_metric",
        (*PLAIN_COLUMNS, *SHARE_COLUMNS, "business_date"),
        (
            (*row, json.dumps(covered, allow_nan=False), json.dumps(below, allow_nan=False), business_date)
            for *row, covered, below in zip(*plain, *(metrics[name] for name in SHARE_COLUMNS), strict=True)
        ),
    )
    headline = metrics[(metrics["scope"] == "overall") & (metrics["days_ahead"] == 0)].set_index("tenant_id")
    add_events(
        connection,
        (
            (
                vocabulary.EVENT_FORECAST_VALIDATED,
                f"{tenant_id}/{business_date.isoformat()}",
                tenant_id,
                {"business_date": business_date.isoformat(), **_headline(headline, tenant_id)},
            )
            for tenant_id in tenant_ids
        ),
        now,
    )
    return count


def _sales_until(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> Panel:
    """Units sold in the SALES_DAYS through the business date, and the series that sold only before them."""
    first_day = business_date - timedelta(days=SALES_DAYS - 1)
    rows = batch_frame(
        connection,
        """
        SELECT tenant_id, location_id, product_id, coalesce(days, '{}') AS days, coalesce(units, '{}') AS units,
               begun.first_on IS NOT NULL AS has_begun
        FROM (
            SELECT tenant_id, location_id, product_id, array_agg(business_date - %(first_day)s) AS days,
                   array_agg(units) AS units
            FROM (SELECT tenant_id, location_id, product_id, business_date, sum(quantity_units)::float8 AS units
                  FROM facts.sales
                  WHERE tenant_id = ANY(%(tenant_ids)s::text[])
                    AND business_date BETWEEN %(first_day)s AND %(last_day)s
                  GROUP BY 1, 2, 3, 4) AS daily
            GROUP BY 1, 2, 3
        ) AS recent
        FULL JOIN (
            SELECT tenant_id, location_id, product_id, first_on FROM facts.demand_panel
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND first_on < %(first_day)s
        ) AS begun USING (tenant_id, location_id, product_id)
        ORDER BY 1, 2, 3
        """,
        tenant_ids,
        {"first_day": first_day, "last_day": business_date},
    )
    sold = np.full((len(rows), SALES_DAYS), np.nan)
    for n, (days, units) in enumerate(zip(rows["days"], rows["units"], strict=True)):
        sold[n, days] = units
    return Panel(rows[[*SERIES, "has_begun"]], {"sold_units": sold}, first_day)


def _forecasts_of(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """The forecasts whose target is the day, each in the revision that counts."""
    rows = batch_frame(
        connection,
        """
        WITH scored AS (
            SELECT DISTINCT ON (tenant_id, location_id, plan_date)
                   tenant_id, location_id, plan_date, plan_id, run_date, is_replayed,
                   %(business_date)s - plan_date AS days_ahead
            FROM plans.plan
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND kind = 'forecast'
              AND plan_date BETWEEN %(business_date)s - %(last_day)s::int AND %(business_date)s
              AND (NOT is_replayed OR status = 'active')
            ORDER BY tenant_id, location_id, plan_date, is_replayed, revision DESC
        )
        SELECT scored.tenant_id, scored.location_id, line.product_id, scored.days_ahead, scored.run_date,
               line.mean_units[scored.days_ahead + 1]::float8 AS mean_units,
               line.quantile_units[scored.days_ahead + 1 : scored.days_ahead + 1][:] AS quantile_units,
               line.is_open[scored.days_ahead + 1] AS is_open, scored.is_replayed, line.method,
               line.raw_mean_units[scored.days_ahead + 1]::float8 AS raw_mean_units,
               line.volume_class::float8 AS volume_class,
               EXISTS (SELECT FROM facts.sales
                        WHERE (sales.tenant_id, sales.location_id, sales.product_id)
                            = (scored.tenant_id, scored.location_id, line.product_id)
                          AND sales.business_date = %(business_date)s AND sales.sold_out_at IS NOT NULL) AS is_sold_out
        FROM scored JOIN plans.forecast AS line USING (tenant_id, plan_date, plan_id, location_id)
        ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        {"business_date": business_date, "last_day": PLAN_DAYS - 1},
    )
    levels = [np.asarray(levels, dtype=float).reshape(len(QUANTILE_LEVELS)) for levels in rows["quantile_units"]]
    return rows.assign(quantile_units=pd.Series(levels, dtype=object))


def _headline(headline: pd.DataFrame, tenant_id: str) -> dict[str, Any]:
    """The numbers of a tenant's headline that are known."""
    if tenant_id not in headline.index:
        return {}
    numbers = headline.loc[tenant_id, ["rows_used", "wape_pct", "mape_pct", "bias_pct", "coverage_pct"]]
    return {name: float(value) for name, value in numbers.items() if pd.notna(value)}
