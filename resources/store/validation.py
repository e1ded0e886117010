"""Reads stored forecasts beside what was sold, and keeps the metrics. The metrics are computed in `planning.validation`."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from planning.frames import PLAN_DAYS, QUANTILE_LEVELS
from resources import vocabulary
from resources.store.database import Connection, copy_rows, frame
from resources.store.executions import add_events
from resources.store.inputs import batch_frame

SCALE_DAYS = 56
"""Days before the run date whose week-over-week differences scale the error (MASE)."""

NAIVE_DAYS = 28
"""How far before the run date the seasonal naive forecast looks for the same weekday."""

ROW_COLUMNS = (
    "tenant_id",
    "location_id",
    "product_id",
    "days_ahead",
    "mean_units",
    "quantile_units",
    "is_replayed",
    "actual_units",
    "naive_units",
    "scale_units",
)

METRIC_COLUMNS = (
    "tenant_id",
    "scope",
    "location_id",
    "product_id",
    "days_ahead",
    "is_replayed",
    "rows_used",
    "rows_zero",
    "rows_without_actual",
    "forecast_units",
    "actual_units",
    "mae_units",
    "rmse_units",
    "mape_pct",
    "wape_pct",
    "accuracy_pct",
    "bias_pct",
    "r2",
    "mase",
    "pinball_units",
    "naive_wape_pct",
    "coverage_pct",
)

SERIES = ["tenant_id", "location_id", "product_id"]
PLACE = ["tenant_id", "location_id"]


def read_validation_rows(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """Every forecast of a finished day beside what was sold; one row per series and plan date, columns ROW_COLUMNS.

    It takes the revision that was live when the location opened on the plan date, which is the last one made before,
    or else the active one, marked as replayed. actual_units is 0 for a product that has no sales row although its
    location sold something, NaN where the location sold nothing; a day that was forecast closed and sold nothing is left
    out. naive_units are the sales of the last same weekday before the plan's run date on which the location sold
    something, at most NAIVE_DAYS back. scale_units is the mean absolute difference of same weekdays in successive weeks
    over the SCALE_DAYS before the run date. Both are NaN where the series had not begun.
    """
    rows = _forecasts_of(connection, tenant_ids, business_date)
    first_day = business_date - timedelta(days=PLAN_DAYS + SCALE_DAYS + 7)
    sales = _Sales.read(connection, tenant_ids, first_day, business_date)
    series, place = sales.series.get_indexer(_index(rows, SERIES)), sales.places.get_indexer(_index(rows, PLACE))
    today = (business_date - first_day).days
    run_column = np.array([(run_date - first_day).days for run_date in rows["run_date"]], dtype=int)
    has_sales = sales.has_sales[place, today]
    sold = np.where(series >= 0, np.nan_to_num(sales.units[series, today]), 0.0)
    rows = rows.assign(
        actual_units=np.where(has_sales, sold, np.nan),
        naive_units=sales.naive(series, place, today, run_column),
        scale_units=sales.scale(series, run_column),
        quantile_units=pd.Series(
            [np.asarray(levels, dtype=float).reshape(len(QUANTILE_LEVELS)) for levels in rows["quantile_units"]],
            dtype=object,
        ),
    )
    return rows.loc[rows["is_open"].to_numpy(dtype=bool) | has_sales, list(ROW_COLUMNS)].reset_index(drop=True)


def write_validation(
    connection: Connection,
    business_date: date,
    metrics: pd.DataFrame,
    versions: Mapping[str, Mapping[str, int]],
    run_id: str,
    now: datetime,
) -> int:
    """Replace the day's metrics of the tenants in `versions`, with an event for each; returns the rows written.

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
        ("tenant_id", "business_date", "sales_version", "run_id", "validated_at"),
        ((tenant_id, business_date, versions[tenant_id]["sales"], run_id, now) for tenant_id in tenant_ids),
    )
    plain = [metrics[name].astype(object).where(metrics[name].notna(), None) for name in METRIC_COLUMNS]
    count = copy_rows(
        connection,
        "quality.validation_metric",
        (*METRIC_COLUMNS, "quantile_coverage", "business_date"),
        (
            (*row, json.dumps(coverage, allow_nan=False), business_date)
            for *row, coverage in zip(*plain, metrics["quantile_coverage"], strict=True)
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


def validation_state(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """Which tenants have been validated, and from which sales.

    tenant_id; has_forecasts; validated_sales_version (0: not validated); sales_version, as it is now; is_current: nothing
    has been imported since, or there is nothing to validate.
    """
    state = frame(
        connection,
        """
        SELECT asked.tenant_id, coalesce(done.sales_version, 0) AS validated_sales_version,
               coalesce(input.version, 0) AS sales_version, done.tenant_id IS NOT NULL AS is_validated,
               EXISTS (SELECT FROM plans.plan
                       WHERE plan.tenant_id = asked.tenant_id AND plan.kind = 'forecast' AND plan.status = 'active'
                         AND plan.plan_date BETWEEN %(business_date)s - %(days)s::int AND %(business_date)s
               ) AS has_forecasts
        FROM unnest(%(tenant_ids)s::text[]) AS asked (tenant_id)
        LEFT JOIN quality.validation AS done
          ON done.tenant_id = asked.tenant_id AND done.business_date = %(business_date)s
        LEFT JOIN ops.input_version AS input ON input.tenant_id = asked.tenant_id AND input.input = 'sales'
        ORDER BY 1
        """,
        {"tenant_ids": list(tenant_ids), "business_date": business_date, "days": PLAN_DAYS - 1},
    )
    is_latest = state["is_validated"].astype(bool) & (state["validated_sales_version"] == state["sales_version"])
    return state.assign(is_current=is_latest | ~state["has_forecasts"].astype(bool)).drop(columns="is_validated")


class _Sales:
    """Units sold per series and day over a window of days, and whether each location sold anything.

    units (series + 1, days): NaN before the first sale of a series and on days on which its location sold nothing, 0 on
    other days without a row. The last row, reached by index -1, stands for a series without sales. has_sales
    (places + 1, days) is alike.
    """

    def __init__(self, series: pd.MultiIndex, places: pd.MultiIndex, sold: np.ndarray) -> None:
        self.series, self.places = series, places
        place_of = places.get_indexer(series.droplevel("product_id")) if len(series) else np.empty(0, int)
        totals = np.zeros((len(places) + 1, sold.shape[1]))
        np.add.at(totals, place_of, np.nan_to_num(sold))
        self.has_sales = totals > 0
        begun = np.logical_or.accumulate(~np.isnan(sold), axis=1)
        counted = begun & self.has_sales[place_of]
        self.units = np.full((len(series) + 1, sold.shape[1]), np.nan)
        self.units[:-1] = np.where(counted, np.nan_to_num(sold), np.nan)

    @classmethod
    def read(cls, connection: Connection, tenant_ids: Sequence[str], first_day: date, last_day: date) -> "_Sales":
        """The sales rows of the tenants from first_day through last_day."""
        rows = batch_frame(
            connection,
            """
            SELECT tenant_id, location_id, product_id, array_agg(business_date - %(first_day)s) AS days,
                   array_agg(units) AS units
            FROM (SELECT tenant_id, location_id, product_id, business_date, sum(quantity_units)::float8 AS units
                  FROM facts.sales
                  WHERE tenant_id = ANY(%(tenant_ids)s::text[])
                    AND business_date BETWEEN %(first_day)s AND %(last_day)s
                  GROUP BY 1, 2, 3, 4) AS daily
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """,
            tenant_ids,
            {"first_day": first_day, "last_day": last_day},
        )
        sold = np.full((len(rows), (last_day - first_day).days + 1), np.nan)
        for n, (days, units) in enumerate(zip(rows["days"], rows["units"], strict=True)):
            sold[n, days] = units
        return cls(_index(rows, SERIES), _index(rows[PLACE].drop_duplicates(), PLACE), sold)

    def naive(self, series: np.ndarray, place: np.ndarray, today: int, run_column: np.ndarray) -> np.ndarray:
        """Units of the last same weekday that counts, per row; NaN where there is none."""
        units = np.full(len(series), np.nan)
        is_found = np.zeros(len(series), dtype=bool)
        for day in range(today - 7, today - PLAN_DAYS - NAIVE_DAYS - 1, -7):
            is_usable = (day < run_column) & (day >= run_column - NAIVE_DAYS) & self.has_sales[place, day] & ~is_found
            units = np.where(is_usable, self.units[series, day], units)
            is_found |= is_usable
        return units

    def scale(self, series: np.ndarray, run_column: np.ndarray) -> np.ndarray:
        """Mean absolute week-over-week difference in units before each row's run date; NaN without a pair of days."""
        change = np.abs(self.units[:, 7:] - self.units[:, :-7])
        zeros = np.zeros((len(change), 1))
        sums = np.hstack([zeros, np.cumsum(np.nan_to_num(change), axis=1)])
        counts = np.hstack([zeros, np.cumsum(~np.isnan(change), axis=1)])
        # The difference of day t stands in column t - 7; both of its days lie within SCALE_DAYS before the run date.
        first, end = run_column - SCALE_DAYS, run_column - 7
        pairs = counts[series, end] - counts[series, first]
        total = sums[series, end] - sums[series, first]
        return np.divide(total, pairs, out=np.full(len(series), np.nan), where=pairs > 0)


def _forecasts_of(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> pd.DataFrame:
    """The forecasts whose target is the day, each in the revision that counts."""
    return batch_frame(
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
               line.is_open[scored.days_ahead + 1] AS is_open, scored.is_replayed
        FROM scored JOIN plans.forecast AS line USING (tenant_id, plan_date, plan_id, location_id)
        ORDER BY 1, 2, 3, 4
        """,
        tenant_ids,
        {"business_date": business_date, "last_day": PLAN_DAYS - 1},
    )


def _index(rows: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[columns].astype(object))


def _headline(headline: pd.DataFrame, tenant_id: str) -> dict[str, Any]:
    """The numbers of a tenant's headline that are known."""
    if tenant_id not in headline.index:
        return {}
    numbers = headline.loc[tenant_id, ["rows_used", "wape_pct", "mape_pct", "bias_pct", "coverage_pct"]]
    return {name: float(value) for name, value in numbers.items() if pd.notna(value)}
