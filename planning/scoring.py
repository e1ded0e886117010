"""How good forecasts are: the error metrics, and the scores of a replayed past.

What belongs here: what each row adds to the sums of a metric, the metrics of these sums, and every candidate of a
backtest scored on the same rows, overall and by horizon, volume class and kind of day. What does not: making the
forecasts (`planning.backtest`), and choosing among candidates. A metric that is undefined is NaN in a frame and None in
a score, never zero and never infinite.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from planning.frames import QUANTILE_LEVELS

if TYPE_CHECKING:
    # Validation needs the metrics, not the forecast engine behind the backtest.
    from planning.backtest import BacktestRows

MIN_R2_ROWS = 14
"""R2 of fewer points is noise that looks like a finding."""

LEVEL_NAMES = tuple(f"{level:g}" for level in QUANTILE_LEVELS)
"""The stored quantile levels as text, as JSON and tables name them."""

NEWSVENDOR_LEVEL = 0.9
"""The critical ratio at which a quantile is compared with a point forecast as the order: a lost sale costs nine times as
much as a unit left over."""

CUTS = {"by_horizon": "horizon_days", "by_volume_class": "volume_class", "by_day_kind": "day_kind"}
"""The names under which scores are told apart, and the column of BacktestRows that tells them."""


def point_measures(forecast: np.ndarray, actual: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """What each row adds to the sums of its group, all of shape (rows,); 0 where it adds nothing.

    forecast, actual in units, actual NaN where the row is not used; scale in units, NaN or 0 where MASE has none.
    """
    is_used = ~np.isnan(actual)
    has_scale = is_used & (scale > 0)
    is_relative = is_used & (actual > 0)
    error = forecast - actual
    return {
        "rows_used": is_used.astype(np.int64),
        "rows_zero": (is_used & (actual == 0)).astype(np.int64),
        "forecast_units": np.where(is_used, forecast, 0.0),
        "actual_units": np.where(is_used, actual, 0.0),
        "absolute": np.where(is_used, np.abs(error), 0.0),
        "squared": np.where(is_used, error**2, 0.0),
        "relative": np.where(is_relative, np.abs(error) / np.where(is_relative, actual, 1.0), 0.0),
        "scaled_rows": has_scale.astype(np.int64),
        "scaled": np.where(has_scale, np.abs(error) / np.where(has_scale, scale, 1.0), 0.0),
    }


def pinball_units(actual: np.ndarray, quantile: np.ndarray, levels: np.ndarray | float) -> np.ndarray:
    """The pinball loss of each row and level (Koenker and Bassett, 1978), in units.

    actual broadcasts against quantile; the shape is that of their difference. At level q a unit too few costs q, a unit
    too many 1 - q, which is the newsvendor's cost of ordering the quantile up to a factor.
    """
    shortfall = actual - quantile
    return np.maximum(levels * shortfall, (np.asarray(levels) - 1) * shortfall)


def point_metrics(sums: pd.DataFrame, r2: pd.Series) -> pd.DataFrame:
    """The metrics of groups from the sums of their `point_measures`, one row per group.

    With e = forecast - actual over the rows used: mae mean |e|; rmse sqrt(mean e^2); mape_pct mean |e| / actual over the
    actuals above zero; wape_pct sum |e| / sum actual; bias_pct sum e / sum actual; mase mean |e| / scale over the rows
    with a scale above zero (Hyndman and Koehler, 2006). r2 comes from `r2_of` and is passed through. NaN where undefined.
    """
    used, sold = defined(sums["rows_used"]), defined(sums["actual_units"])
    return pd.DataFrame(
        {
            "rows_used": sums["rows_used"],
            "rows_zero": sums["rows_zero"],
            "forecast_units": sums["forecast_units"],
            "actual_units": sums["actual_units"],
            "mae_units": sums["absolute"] / used,
            "rmse_units": np.sqrt(sums["squared"] / used),
            "mape_pct": 100 * sums["relative"] / defined(sums["rows_used"] - sums["rows_zero"]),
            "wape_pct": 100 * sums["absolute"] / sold,
            "bias_pct": 100 * (sums["forecast_units"] - sums["actual_units"]) / sold,
            "r2": r2,
            "mase": sums["scaled"] / defined(sums["scaled_rows"]),
        },
        index=sums.index,
    )


def defined(denominator: pd.Series) -> pd.Series:
    """The denominator where it is above zero, else NaN."""
    return denominator.astype(np.float64).where(denominator > 0)


def r2_of(actual: pd.Series, by: list[pd.Series], squared: pd.Series) -> pd.Series:
    """One minus residual over total squares per group; NaN below MIN_R2_ROWS rows or without variance.

    actual: NaN where a row is not used. squared: the groups' sums of squared errors.
    """
    grouped = actual.groupby(by, sort=True)
    total = ((actual - grouped.transform("mean")) ** 2).groupby(by, sort=True).sum()
    # Rounding leaves a speck of variance in equal actuals; their range has none.
    is_defined = (grouped.count() >= MIN_R2_ROWS) & (grouped.max() > grouped.min())
    return 1 - squared / total.where(is_defined)


def score(rows: "BacktestRows", selection: np.ndarray | None = None) -> dict[str, Any]:
    """Every candidate's metrics on the same rows, ready for JSON.

    selection: (rows,) bool, the rows that are scored; all of them without it. Sold-out rows are in `rows` and
    `rows_censored` and in nothing else: what would have been sold is unknown, and the error of a guess would say nothing.

    Returns rows, rows_censored, from and to (the first and last day forecast, None without rows), horizon_days (the
    longest), and `models`: candidate -> its metrics, and these again under by_horizon, by_volume_class and by_day_kind.
    Metrics are those of `point_metrics`, and by level as text ("0.9"): pinball_units; coverage_pct, the share of rows
    with demand of at most the quantile; coverage_below_pct, with demand below it; coverage_gap_pct, how far the level
    lies outside the two, in points. Demand is counted, so that a calibrated quantile has its level between the two and
    neither need equal it. pinball_mean_units is the mean over the levels. `newsvendor` compares the pinball loss of
    ordering the 0.9 quantile with that of ordering the mean. A candidate without quantiles has None for all of these.

    Raises ValueError when a candidate's forecast of a scored row is no finite number.
    """
    chosen = np.ones(len(rows.series), dtype=bool) if selection is None else selection
    positions = np.nonzero(chosen)[0]
    targets = rows.target[positions]
    groups = {
        "overall": np.zeros(len(positions), dtype=np.int64),
        **{cut: np.asarray(getattr(rows, column))[positions] for cut, column in CUTS.items()},
    }
    return {
        "rows": len(positions),
        "rows_censored": int(np.asarray(rows.is_censored)[positions].sum()),
        "from": str(targets.min()) if len(targets) else None,
        "to": str(targets.max()) if len(targets) else None,
        "horizon_days": int(rows.horizon_days[positions].max()) if len(positions) else None,
        "models": {candidate: _candidate_score(rows, candidate, positions, groups) for candidate in rows.mean_units},
    }


def _candidate_score(
    rows: "BacktestRows", candidate: str, positions: np.ndarray, groups: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    is_used = ~np.asarray(rows.is_censored)[positions]
    actual = np.where(is_used, rows.actual_units[positions], np.nan).astype(np.float64)
    mean = np.asarray(rows.mean_units[candidate], dtype=np.float64)[positions]
    quantiles = rows.quantile_units.get(candidate)
    levels = None if quantiles is None else np.asarray(quantiles, dtype=np.float64)[positions]
    for values in (mean, levels):
        if values is not None and not np.isfinite(values[~np.isnan(actual)]).all():
            raise ValueError(f"{candidate} has a forecast that is no finite number among the rows to be scored")
    measures = pd.DataFrame(
        {
            "rows": np.ones(len(positions), dtype=np.int64),
            **point_measures(mean, actual, np.asarray(rows.scale_units, dtype=np.float64)[positions]),
            **({} if levels is None else _level_measures(actual, mean, levels)),
        }
    )
    scores = {
        name: _scores(measures, pd.Series(actual), pd.Series(codes), has_levels=levels is not None)
        for name, codes in groups.items()
    }
    overall = scores.pop("overall")
    return {**(overall.get("0") or _NO_ROWS), **scores}


def _level_measures(actual: np.ndarray, mean: np.ndarray, levels: np.ndarray) -> dict[str, np.ndarray]:
    """What each row adds per level; 0 for a row that is not used."""
    is_used = ~np.isnan(actual)
    demand = np.where(is_used, actual, 0.0)[:, None]
    pinball = np.where(is_used[:, None], pinball_units(demand, levels, np.array(QUANTILE_LEVELS)), 0.0)
    at_most = is_used[:, None] & (demand <= levels)
    below = is_used[:, None] & (demand < levels)
    ordered_mean = pinball_units(demand[:, 0], mean, NEWSVENDOR_LEVEL)
    return {
        **{f"pinball_{n}": pinball[:, n] for n in range(len(LEVEL_NAMES))},
        **{f"at_most_{n}": at_most[:, n].astype(np.int64) for n in range(len(LEVEL_NAMES))},
        **{f"below_{n}": below[:, n].astype(np.int64) for n in range(len(LEVEL_NAMES))},
        "ordered_mean": np.where(is_used, ordered_mean, 0.0),
    }


def _scores(
    measures: pd.DataFrame, actual: pd.Series, codes: pd.Series, *, has_levels: bool
) -> dict[str, dict[str, Any]]:
    """The metrics of each group, by its code as text, in the codes' order."""
    sums = measures.groupby(codes, sort=True).sum()
    metrics = point_metrics(sums, r2_of(actual, [codes], sums["squared"])).assign(rows=sums["rows"])
    points = metrics[["rows", *(name for name in metrics if name != "rows")]]
    return {
        str(code): {
            **{str(name): _plain(value) for name, value in point.items()},
            **(_level_scores(row) if has_levels else dict.fromkeys(LEVEL_METRICS)),
        }
        for (code, point), (_, row) in zip(points.astype(object).iterrows(), sums.iterrows(), strict=True)
    }


POINT_METRICS = (
    "forecast_units",
    "actual_units",
    "mae_units",
    "rmse_units",
    "mape_pct",
    "wape_pct",
    "bias_pct",
    "r2",
    "mase",
)

LEVEL_METRICS = (
    "pinball_units",
    "pinball_mean_units",
    "coverage_pct",
    "coverage_below_pct",
    "coverage_gap_pct",
    "newsvendor",
)
"""What a candidate without quantiles has no value of."""

_NO_ROWS = {"rows": 0, "rows_used": 0, "rows_zero": 0, **dict.fromkeys((*POINT_METRICS, *LEVEL_METRICS))}


def _level_scores(sums: pd.Series) -> dict[str, Any]:
    used = sums["rows_used"]
    each = range(len(LEVEL_NAMES))
    if not used:
        absent = dict.fromkeys(LEVEL_NAMES)
        by_level = {name: dict(absent) for name in LEVEL_METRICS if name not in ("pinball_mean_units", "newsvendor")}
        return {**by_level, "pinball_mean_units": None, "newsvendor": _newsvendor(None, None)}
    pinball = np.array([sums[f"pinball_{n}"] for n in each]) / used
    at_most = 100 * np.array([sums[f"at_most_{n}"] for n in each]) / used
    below = 100 * np.array([sums[f"below_{n}"] for n in each]) / used
    wanted = 100 * np.array(QUANTILE_LEVELS)
    gap = np.maximum(np.maximum(below - wanted, wanted - at_most), 0.0)
    return {
        "pinball_units": dict(zip(LEVEL_NAMES, pinball.tolist(), strict=True)),
        "pinball_mean_units": float(pinball.mean()),
        "coverage_pct": dict(zip(LEVEL_NAMES, at_most.tolist(), strict=True)),
        "coverage_below_pct": dict(zip(LEVEL_NAMES, below.tolist(), strict=True)),
        "coverage_gap_pct": dict(zip(LEVEL_NAMES, gap.tolist(), strict=True)),
        "newsvendor": _newsvendor(
            float(pinball[QUANTILE_LEVELS.index(NEWSVENDOR_LEVEL)]), float(sums["ordered_mean"] / used)
        ),
    }


def _newsvendor(quantile_units: float | None, mean_units: float | None) -> dict[str, float | None]:
    """The loss of either order, and by how much the quantile lowers it."""
    reduction = None
    if quantile_units is not None and mean_units:
        reduction = 100 * (1 - quantile_units / mean_units)
    return {
        "level": NEWSVENDOR_LEVEL,
        "ordering_quantile_units": quantile_units,
        "ordering_mean_units": mean_units,
        "reduction_pct": reduction,
    }


def _plain(value: Any) -> Any:
    """A count as an int, a defined figure as a float, an undefined one as None."""
    if isinstance(value, int | np.integer):
        return int(value)
    return float(value) if np.isfinite(value) else None


def select(rows: "BacktestRows", selection: np.ndarray) -> "BacktestRows":
    """The rows of a mask or of positions, in that order; keys and champions stay whole."""
    return replace(
        rows,
        series=rows.series[selection],
        origin=rows.origin[selection],
        target=rows.target[selection],
        horizon_days=rows.horizon_days[selection],
        actual_units=rows.actual_units[selection],
        is_censored=rows.is_censored[selection],
        volume_class=rows.volume_class[selection],
        day_kind=rows.day_kind[selection],
        scale_units=rows.scale_units[selection],
        mean_units={name: values[selection] for name, values in rows.mean_units.items()},
        quantile_units={name: values[selection] for name, values in rows.quantile_units.items()},
    )
