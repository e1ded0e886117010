"""How good the forecasts were: error metrics over finished days.

What belongs here: what was sold of each forecast and what seasonal naive would have said, and the metrics of these rows
per tenant and scope. What does not: the backtest that chooses a rule before the day (`planning.forecasting`), and any
judgement of the figures. A metric that is undefined is NaN, never zero and never infinite.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from planning.calendar import PLACE, SERIES
from planning.frames import FORECAST_DAYS, PLAN_DAYS, QUANTILE_LEVELS, Panel, set_aside_of
from planning.keys import distinct, positions
from planning.quantiles import scale_units
from planning.rules import BOOSTING, last_same_weekday
from planning.scoring import defined, pinball_units, point_measures, point_metrics, r2_of

LINK = "validation_metrics"

SCALE_DAYS = 56
"""Days before the run date whose week-over-week differences scale the error (MASE)."""

SALES_DAYS = PLAN_DAYS + SCALE_DAYS + 8
"""Days of sales, the validated one last, that hold the scale of the oldest forecast of that day."""

SCOPES: dict[str, tuple[str, ...]] = {"overall": (), "location": ("location_id",), "product": ("product_id",)}
"""What each scope tells apart, beside tenant and days ahead."""

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
    "method",
    "raw_mean_units",
    "volume_class",
    "is_sold_out",
    "is_open",
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
    "quantile_coverage",
    "quantile_below",
    "coverage_pct",
)


@dataclass(frozen=True)
class Validation:
    """metrics: METRIC_COLUMNS. set_aside: tenants whose rows cannot be scored; they are not in the metrics."""

    metrics: pd.DataFrame
    set_aside: pd.DataFrame


def rows_to_score(forecasts: pd.DataFrame, sales: Panel) -> pd.DataFrame:
    """Each forecast of a finished day beside what was sold and what seasonal naive would have said: ROW_COLUMNS.

    forecasts: tenant_id, location_id, product_id, days_ahead, run_date (date), mean_units, quantile_units (array of 9),
    is_open, is_replayed, method, raw_mean_units, volume_class (NaN: made before it was kept), is_sold_out. sales: keys
    tenant_id, location_id, product_id and has_begun (it sold before the panel's first day); `sold_units` (n, SALES_DAYS),
    NaN where nothing was recorded, the finished day last.

    actual_units is 0 for a product without a record although its location sold something, NaN where the location sold
    nothing; a day that was forecast closed and sold nothing is left out. naive_units is the last same weekday before the
    run date on which the location sold something, as `planning.rules.last_same_weekday`. scale_units is the mean
    absolute difference of same weekdays in successive weeks over the SCALE_DAYS before the run date, the in-sample error
    of that rule (Hyndman and Koehler, 2006). Both are NaN where the series had not begun.
    """
    units, has_sales = _units_sold(forecasts, sales)
    today = sales.days - 1
    run_column = np.array([sales.column(run_date) for run_date in forecasts["run_date"]], dtype=np.intp)
    rows = forecasts.assign(
        actual_units=np.where(has_sales, np.nan_to_num(units[:, today]), np.nan),
        naive_units=_naive_units(units, run_column),
        scale_units=_scale_units(units, run_column),
    )
    return rows.loc[rows["is_open"].to_numpy(dtype=bool) | has_sales, list(ROW_COLUMNS)].reset_index(drop=True)


def _units_sold(forecasts: pd.DataFrame, sales: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Units sold of each forecast's series, (rows, days), and whether its location sold anything on the last day, (rows,).

    NaN before the first sale of a series and on days on which its location sold nothing, 0 on other days without a record.
    """
    places = distinct([sales.keys], PLACE)
    of_place = positions(sales.keys, places, PLACE)
    sold = sales["sold_units"]
    # A last row of nothing, which position -1 finds, stands for what never sold.
    totals = np.zeros((len(places) + 1, sales.days))
    np.add.at(totals, of_place, np.nan_to_num(sold))
    begun = sales.keys["has_begun"].to_numpy(dtype=bool)[:, None] | np.logical_or.accumulate(~np.isnan(sold), axis=1)
    units = np.full((len(sales) + 1, sales.days), np.nan)
    units[:-1] = np.where(begun & (totals > 0)[of_place], np.nan_to_num(sold), np.nan)
    return units[positions(forecasts, sales.keys, SERIES)], totals[positions(forecasts, places, PLACE), -1] > 0


def _naive_units(units: np.ndarray, run_column: np.ndarray) -> np.ndarray:
    """The last known same weekday as the last column's before each row's run date, (rows,)."""
    today = units.shape[1] - 1
    weeks = np.maximum(-(-(today - run_column + 1) // 7), 1)
    return last_same_weekday(units)[np.arange(len(units)), today - 7 * weeks]


def _scale_units(units: np.ndarray, run_column: np.ndarray) -> np.ndarray:
    """Mean absolute week-over-week difference in the SCALE_DAYS before each run date; NaN without a pair of days."""
    later = np.arange(7, units.shape[1])
    # Both days of a pair lie within the SCALE_DAYS.
    is_within = (later < run_column[:, None]) & (later >= run_column[:, None] - SCALE_DAYS + 7)
    change = np.where(is_within, np.abs(units[:, 7:] - units[:, :-7]), np.nan)
    pairs = (~np.isnan(change)).sum(axis=1)
    return np.where(pairs > 0, np.nansum(change, axis=1) / np.maximum(pairs, 1), np.nan)


def live_residuals(rows: pd.DataFrame) -> pd.DataFrame:
    """The scaled residuals of the models' forecasts, by which the next ones are spread: tenant_id, volume_class, residual.

    rows: as of `rows_to_score`. Only what a model forecast within its horizon counts, and a product that sold out
    says nothing of the demand that was left. A day that was forecast closed says nothing either, whatever was sold: nobody
    forecast its demand. A replayed forecast counts too: no model is asked about days that it has seen.
    """
    chosen = rows[
        (rows["method"] == BOOSTING)
        & (rows["days_ahead"] < FORECAST_DAYS)
        & rows["actual_units"].notna()
        & rows["volume_class"].notna()
        & ~rows["is_sold_out"].astype(bool)
        & rows["is_open"].astype(bool)
    ]
    raw = chosen["raw_mean_units"].to_numpy(dtype=float)
    residual = (chosen["actual_units"].to_numpy(dtype=float) - raw) / scale_units(raw)
    return pd.DataFrame(
        {
            "tenant_id": chosen["tenant_id"].to_numpy(),
            "volume_class": chosen["volume_class"].to_numpy(dtype=np.int64),
            "residual": residual,
        }
    )


def validate_forecasts(rows: pd.DataFrame) -> Validation:
    """Metrics per tenant, scope (overall, location, product) and days ahead, with the columns METRIC_COLUMNS.

    rows: one forecast each, ROW_COLUMNS as of `rows_to_score`. Rows without an actual only count in rows_without_actual
    and coverage_pct.

    With e = forecast - actual over the rows used: mae mean |e|; rmse sqrt(mean e^2); mape_pct mean |e| / actual over
    the actuals above zero; wape_pct sum |e| / sum actual; accuracy_pct max(0, 100 - wape_pct); bias_pct sum e / sum
    actual; r2 one minus residual over total squares, from 14 rows on; mase mean |e| / scale over the rows with a scale
    above zero (Hyndman and Koehler, 2006); pinball_units the pinball loss averaged over levels and rows (Koenker and
    Bassett, 1978); naive_wape_pct only where every row used has a naive value, so that it compares the same rows;
    quantile_coverage the share of rows with an actual of at most the quantile, by level as text ("0.9"), quantile_below
    that of rows with an actual below it: units are counted, so a calibrated level lies between the two.

    is_replayed is true where any row of the group is. A tenant with a forecast that is not a finite number is set aside.
    """
    set_aside = _broken_tenants(rows)
    rows = rows[~rows["tenant_id"].isin(set_aside["tenant_id"])].reset_index(drop=True)
    if not len(rows):
        return Validation(pd.DataFrame(columns=list(METRIC_COLUMNS)), set_aside)
    measures = _measures(rows)
    metrics = [_scope_metrics(rows, measures, scope) for scope in SCOPES]
    return Validation(pd.concat(metrics, ignore_index=True), set_aside)


def _broken_tenants(rows: pd.DataFrame) -> pd.DataFrame:
    """Set-aside rows for tenants with a forecast that is no number, each naming its first one."""
    is_finite = [
        bool(np.isfinite(mean) and np.isfinite(levels).all())
        for mean, levels in zip(rows["mean_units"], rows["quantile_units"], strict=True)
    ]
    broken = rows[~np.array(is_finite, dtype=bool)].sort_values(
        ["tenant_id", "days_ahead", "location_id", "product_id"]
    )
    return set_aside_of(
        (
            row.tenant_id,
            LINK,
            f"the forecast of product {row.product_id} at location {row.location_id}, made {row.days_ahead} days ahead, "
            "is not a finite number",
            "Make the plan of that day again and validate after it.",
        )
        for row in broken.drop_duplicates("tenant_id").itertuples()
    )


def _measures(rows: pd.DataFrame) -> pd.DataFrame:
    """What each row adds to the sums of its groups; 0 where it adds nothing."""
    forecast, actual, naive, scale = (
        rows[name].to_numpy(dtype=np.float64) for name in ("mean_units", "actual_units", "naive_units", "scale_units")
    )
    quantile = np.stack(rows["quantile_units"].to_list()).astype(np.float64)
    is_used = ~np.isnan(actual)
    pinball = pinball_units(actual[:, None], quantile, np.array(QUANTILE_LEVELS)).mean(axis=1)
    columns = {
        **point_measures(forecast, actual, scale),
        "rows_without_actual": ~is_used,
        "pinball": np.where(is_used, pinball, 0.0),
        "naive_rows": is_used & ~np.isnan(naive),
        "naive_absolute": np.where(is_used & ~np.isnan(naive), np.abs(naive - actual), 0.0),
    }
    covered = {f"covered_{n}": is_used & (actual <= quantile[:, n]) for n in range(len(QUANTILE_LEVELS))}
    below = {f"below_{n}": is_used & (actual < quantile[:, n]) for n in range(len(QUANTILE_LEVELS))}
    frame = pd.DataFrame({**columns, **covered, **below}, index=rows.index)
    return frame.astype({name: np.int64 for name in frame if frame[name].dtype == bool})


def _scope_metrics(rows: pd.DataFrame, measures: pd.DataFrame, scope: str) -> pd.DataFrame:
    by = ["tenant_id", *SCOPES[scope], "days_ahead"]
    grouped = measures.groupby([rows[name] for name in by], sort=True)
    sums = grouped.sum()
    r2 = r2_of(rows["actual_units"].astype(np.float64), [rows[name] for name in by], sums["squared"])
    metrics = point_metrics(sums, r2)
    metrics = metrics.assign(
        scope=scope,
        is_replayed=rows["is_replayed"].astype(bool).groupby([rows[name] for name in by], sort=True).any(),
        rows_without_actual=sums["rows_without_actual"],
        accuracy_pct=(100 - metrics["wape_pct"]).clip(lower=0),
        pinball_units=sums["pinball"] / defined(sums["rows_used"]),
        naive_wape_pct=(100 * sums["naive_absolute"] / defined(sums["actual_units"])).where(
            sums["naive_rows"] == sums["rows_used"]
        ),
        quantile_coverage=_shares(sums, "covered"),
        quantile_below=_shares(sums, "below"),
        coverage_pct=100 * sums["rows_used"] / (sums["rows_used"] + sums["rows_without_actual"]),
    ).reset_index()
    absent = {name: "" for name in ("location_id", "product_id") if name not in by}
    return metrics.assign(**absent)[list(METRIC_COLUMNS)]


def _shares(sums: pd.DataFrame, measure: str) -> pd.Series:
    """Level as text -> share of the rows used, per group; empty where none is."""
    counted = sums[[f"{measure}_{n}" for n in range(len(QUANTILE_LEVELS))]].to_numpy()
    names = [f"{level:g}" for level in QUANTILE_LEVELS]
    shares = [
        dict(zip(names, (counts / used).tolist(), strict=True)) if used else {}
        for counts, used in zip(counted, sums["rows_used"], strict=True)
    ]
    return pd.Series(shares, index=sums.index, dtype=object)
