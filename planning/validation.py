"""How good the forecasts were: error metrics over finished days.

What belongs here: metrics of stored forecasts against what was sold, per tenant and scope. What does not: the backtest
that chooses a rule before the day (`planning.forecasting`), and any judgement of the figures. A metric that is
undefined is NaN, never zero and never infinite.
"""

import numpy as np
import pandas as pd

from planning.frames import QUANTILE_LEVELS, PlanningError

SCOPES: dict[str, tuple[str, ...]] = {"overall": (), "location": ("location_id",), "product": ("product_id",)}
"""What each scope tells apart, beside tenant and days ahead."""

MIN_R2_ROWS = 14
"""R2 of fewer points is noise that looks like a finding."""

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
    "coverage_pct",
)


def validate_forecasts(rows: pd.DataFrame) -> pd.DataFrame:
    """Metrics per tenant, scope (overall, location, product) and days ahead, with the columns METRIC_COLUMNS.

    rows: one forecast each: tenant_id, location_id, product_id, days_ahead, mean_units, quantile_units (array of 9),
    is_replayed, actual_units (NaN: no actual), naive_units (seasonal naive, NaN unknown), scale_units (in-sample
    seasonal-naive MAE, NaN unknown). Rows without an actual only count in rows_without_actual and coverage_pct.

    With e = forecast - actual over the rows used: mae mean |e|; rmse sqrt(mean e^2); mape_pct mean |e| / actual over
    the actuals above zero; wape_pct sum |e| / sum actual; accuracy_pct max(0, 100 - wape_pct); bias_pct sum e / sum
    actual; r2 one minus residual over total squares, from 14 rows on; mase mean |e| / scale over the rows with a scale
    above zero (Hyndman and Koehler, 2006); pinball_units the pinball loss averaged over levels and rows (Koenker and
    Bassett, 1978); naive_wape_pct only where every row used has a naive value, so that it compares the same rows;
    quantile_coverage the share of rows with an actual of at most the quantile, by level as text ("0.9").

    is_replayed is true where any row of the group is. Raises PlanningError for a forecast that is not a finite number.
    """
    if not len(rows):
        return pd.DataFrame(columns=list(METRIC_COLUMNS))
    rows = rows.reset_index(drop=True)
    measures = _measures(rows)
    return pd.concat([_scope_metrics(rows, measures, scope) for scope in SCOPES], ignore_index=True)


def _measures(rows: pd.DataFrame) -> pd.DataFrame:
    """What each row adds to the sums of its groups; 0 where it adds nothing."""
    forecast, actual, naive, scale = (
        rows[name].to_numpy(dtype=np.float64) for name in ("mean_units", "actual_units", "naive_units", "scale_units")
    )
    quantile = np.stack(rows["quantile_units"].to_list()).astype(np.float64)
    _refuse_broken(rows, np.isfinite(forecast) & np.isfinite(quantile).all(axis=1))
    is_used = ~np.isnan(actual)
    has_scale = is_used & (scale > 0)
    error = forecast - actual
    level = np.array(QUANTILE_LEVELS)
    shortfall = actual[:, None] - quantile
    pinball = np.maximum(level * shortfall, (level - 1) * shortfall).mean(axis=1)
    columns = {
        "rows_used": is_used,
        "rows_zero": is_used & (actual == 0),
        "rows_without_actual": ~is_used,
        "forecast_units": np.where(is_used, forecast, 0.0),
        "actual_units": np.where(is_used, actual, 0.0),
        "absolute": np.where(is_used, np.abs(error), 0.0),
        "squared": np.where(is_used, error**2, 0.0),
        "relative": np.where(is_used & (actual > 0), np.abs(error) / np.where(actual > 0, actual, 1.0), 0.0),
        "scaled_rows": has_scale,
        "scaled": np.where(has_scale, np.abs(error) / np.where(has_scale, scale, 1.0), 0.0),
        "pinball": np.where(is_used, pinball, 0.0),
        "naive_rows": is_used & ~np.isnan(naive),
        "naive_absolute": np.where(is_used & ~np.isnan(naive), np.abs(naive - actual), 0.0),
    }
    covered = {f"covered_{n}": is_used & (shortfall[:, n] <= 0) for n in range(len(level))}
    frame = pd.DataFrame({**columns, **covered}, index=rows.index)
    return frame.astype({name: np.int64 for name in frame if frame[name].dtype == bool})


def _refuse_broken(rows: pd.DataFrame, is_finite: np.ndarray) -> None:
    if not is_finite.all():
        row = rows[~is_finite].iloc[0]
        raise PlanningError(
            f"The forecast of tenant {row['tenant_id']}, location {row['location_id']}, product {row['product_id']}, "
            f"{row['days_ahead']} days ahead, is not a finite number. Make that plan again and validate after it."
        )


def _scope_metrics(rows: pd.DataFrame, measures: pd.DataFrame, scope: str) -> pd.DataFrame:
    by = ["tenant_id", *SCOPES[scope], "days_ahead"]
    grouped = measures.groupby([rows[name] for name in by], sort=True)
    sums = grouped.sum()
    used, sold = _defined(sums["rows_used"]), _defined(sums["actual_units"])
    wape = 100 * sums["absolute"] / sold
    metrics = pd.DataFrame(
        {
            "scope": scope,
            "is_replayed": rows["is_replayed"].astype(bool).groupby([rows[name] for name in by], sort=True).any(),
            "rows_used": sums["rows_used"],
            "rows_zero": sums["rows_zero"],
            "rows_without_actual": sums["rows_without_actual"],
            "forecast_units": sums["forecast_units"],
            "actual_units": sums["actual_units"],
            "mae_units": sums["absolute"] / used,
            "rmse_units": np.sqrt(sums["squared"] / used),
            "mape_pct": 100 * sums["relative"] / _defined(sums["rows_used"] - sums["rows_zero"]),
            "wape_pct": wape,
            "accuracy_pct": (100 - wape).clip(lower=0),
            "bias_pct": 100 * (sums["forecast_units"] - sums["actual_units"]) / sold,
            "r2": _r2(rows["actual_units"].astype(np.float64), [rows[name] for name in by], sums["squared"]),
            "mase": sums["scaled"] / _defined(sums["scaled_rows"]),
            "pinball_units": sums["pinball"] / used,
            "naive_wape_pct": (100 * sums["naive_absolute"] / sold).where(sums["naive_rows"] == sums["rows_used"]),
            "quantile_coverage": _coverage(sums),
            "coverage_pct": 100 * sums["rows_used"] / (sums["rows_used"] + sums["rows_without_actual"]),
        },
        index=sums.index,
    ).reset_index()
    absent = {name: "" for name in ("location_id", "product_id") if name not in by}
    return metrics.assign(**absent)[list(METRIC_COLUMNS)]


def _defined(denominator: pd.Series) -> pd.Series:
    """The denominator where it is above zero, else NaN."""
    return denominator.astype(np.float64).where(denominator > 0)


def _r2(actual: pd.Series, by: list[pd.Series], squared: pd.Series) -> pd.Series:
    grouped = actual.groupby(by, sort=True)
    total = ((actual - grouped.transform("mean")) ** 2).groupby(by, sort=True).sum()
    # Rounding leaves a speck of variance in equal actuals; their range has none.
    is_defined = (grouped.count() >= MIN_R2_ROWS) & (grouped.max() > grouped.min())
    return 1 - squared / total.where(is_defined)


def _coverage(sums: pd.DataFrame) -> pd.Series:
    covered = sums[[f"covered_{n}" for n in range(len(QUANTILE_LEVELS))]].to_numpy()
    names = [f"{level:g}" for level in QUANTILE_LEVELS]
    shares = [
        dict(zip(names, (counts / used).tolist(), strict=True)) if used else {}
        for counts, used in zip(covered, sums["rows_used"], strict=True)
    ]
    return pd.Series(shares, index=sums.index, dtype=object)
