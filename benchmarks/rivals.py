"""Forecasts by public libraries, for `benchmarks.accuracy` to compare with. Runs in an environment of its own.

statsforecast and mlforecast need a pandas that Daybreak does not have, so this file imports nothing of the project, is
started as a program by the interpreter of that environment (`make rivals`), reads one .npz file and writes another. It
makes forecasts and measures their CPU time; it scores nothing.

Run by `.venv-rivals/bin/python benchmarks/rivals.py IN.npz OUT.npz NAME`, NAME one of RIVALS. IN holds `first_day` (ISO
text), `demand_units` (n, days; NaN where a day does not count), `origins` (k,) (columns of last history days) and
`calendar_NAME` (n, days + 7), 0 or 1. OUT holds `mean_units` (k, n, 7), NaN where the library made none, `cpu_s`, and
`failures`, texts of what the library raised.

A rival gets what its library is made for: a series without gaps. A day that does not count is filled with the last same
weekday that does, before any such weekday with the last day that does; mlforecast does not train on filled days. The
settings below are, of eleven tried for mlforecast (tweedie, squared or absolute error; units as they are or scaled per
series; 150 or 300 trees; all date features or the weekday alone), those with the least error on the last 84 days of the
French bakery: chosen on the very days that are reported, in its favour. `last_week` is seasonal naive once more, by which
the exchange of files is proven.
"""

import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

HORIZON_DAYS = 7
REFIT_DAYS = 28
LEAST_DAYS = 28
"""Days of history below which a series is left to the caller's fallback."""

LIGHTGBM: dict[str, Any] = {
    "objective": "tweedie",
    "tweedie_variance_power": 1.2,
    "n_estimators": 300,
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_child_samples": 20,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
}
SETTINGS = {
    "auto_ets": "statsforecast AutoETS(season_length=7), fitted per series at each origin on the last 364 days",
    "mstl": "statsforecast MSTL(season_length=7, trend by AutoETS), fitted per series at each origin on the last 364 days",
    "mlforecast": (
        "mlforecast + LightGBM, one model of all series, recursive, refit every 28 days; lags 1 to 14, 21, 28, rolling means "
        f"of 7 and 28 days, weekday, month, day of month and year, open, promotion and holiday flags; {LIGHTGBM}"
    ),
}
ETS_DAYS = 364


def main() -> None:
    """Read, forecast, write."""
    source, result, name = sys.argv[1:]
    given = dict(np.load(source))
    # The libraries warn of every short or constant series.
    warnings.simplefilter("ignore")
    rival = RIVALS[name]
    began = time.process_time()
    mean, failures = rival(given)
    cpu_s = time.process_time() - began
    np.savez(result, mean_units=mean, cpu_s=np.array(cpu_s), failures=np.array(failures, dtype=str))


def without_gaps(demand: np.ndarray) -> np.ndarray:
    """Demand (n, days) with days that do not count filled as the module says; NaN before the first that does."""
    filled = demand.copy()
    is_known = ~np.isnan(demand)
    columns = np.arange(demand.shape[1])
    last = np.maximum.accumulate(np.where(is_known, columns, -1), axis=1)
    for column in range(demand.shape[1]):
        gap = ~is_known[:, column]
        if column >= 7:
            filled[gap, column] = filled[gap, column - 7]
        still = gap & np.isnan(filled[:, column]) & (last[:, column] >= 0)
        filled[still, column] = demand[still, last[still, column]]
    return filled


def statistical(make_model: Callable[[], Any]) -> Callable[[dict[str, np.ndarray]], tuple[np.ndarray, list[str]]]:
    """A rival that fits one model per series and origin."""

    def forecast(given: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        demand, origins = given["demand_units"], given["origins"]
        mean = np.full((len(origins), len(demand), HORIZON_DAYS), np.nan)
        failures = []
        for k, origin in enumerate(origins):
            history = without_gaps(demand[:, max(0, origin + 1 - ETS_DAYS) : origin + 1])
            for n, units in enumerate(history):
                known = units[~np.isnan(units)]
                if len(known) < LEAST_DAYS:
                    continue
                try:
                    mean[k, n] = make_model().forecast(y=known, h=HORIZON_DAYS)["mean"]
                except Exception as error:  # noqa: BLE001 (a series that a library cannot fit falls back, and is counted)
                    failures.append(f"series {n}, origin {origin}: {error}")
        return np.maximum(mean, 0.0), failures

    return forecast


def auto_ets() -> Any:
    """Exponential smoothing chosen by information criterion."""
    from statsforecast.models import AutoETS  # noqa: PLC0415 (one library per run)

    return AutoETS(season_length=7)


def mstl() -> Any:
    """Seasonal-trend decomposition, the trend forecast by exponential smoothing."""
    from statsforecast.models import MSTL, AutoETS  # noqa: PLC0415

    return MSTL(season_length=7, trend_forecaster=AutoETS(model="ZZN"))


def last_week(given: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """Each day as its same weekday was last."""
    filled = without_gaps(given["demand_units"])
    return np.stack([filled[:, origin - 6 : origin + 1] for origin in given["origins"]]), []


def by_mlforecast(given: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """One gradient boosting model of all series, recursive, refit every 28 days."""
    import lightgbm as lgb  # noqa: PLC0415
    from mlforecast import MLForecast  # noqa: PLC0415
    from mlforecast.lag_transforms import RollingMean  # noqa: PLC0415

    demand, origins = given["demand_units"], given["origins"]
    calendar = {
        name.removeprefix("calendar_"): matrix for name, matrix in given.items() if name.startswith("calendar_")
    }
    first_day = date.fromisoformat(str(given["first_day"]))
    filled = without_gaps(demand)
    model = MLForecast(
        models={"lightgbm": lgb.LGBMRegressor(**LIGHTGBM, n_jobs=1, random_state=1, verbosity=-1, deterministic=True)},
        freq="D",
        lags=[*range(1, 15), 21, 28],
        lag_transforms={1: [RollingMean(7, min_samples=1), RollingMean(28, min_samples=1)]},
        date_features=["dayofweek", "month", "day", "dayofyear"],
        num_threads=1,
    )
    mean = np.full((len(origins), len(demand), HORIZON_DAYS), np.nan)
    trained_at = -REFIT_DAYS
    for k, origin in enumerate(origins):
        if origin - trained_at >= REFIT_DAYS:
            rows = long(filled, demand, calendar, first_day, 0, origin)
            model.fit(rows, static_features=[], weight_col="weight", dropna=True)
            trained_at = origin
        begun = np.nonzero((~np.isnan(filled[:, : origin + 1])).sum(axis=1) >= LEAST_DAYS)[0]
        # The longest lag and window are 28 days; what lies further back is not looked at.
        recent = long(filled, demand, calendar, first_day, max(0, origin - 60), origin)
        recent = recent[recent["unique_id"].isin(begun)].drop(columns="weight")
        ahead = future(begun, calendar, first_day, origin)
        made = model.predict(h=HORIZON_DAYS, new_df=recent, X_df=ahead)
        made = made.sort_values(["unique_id", "ds"])["lightgbm"].to_numpy()
        mean[k, begun] = made.reshape(len(begun), HORIZON_DAYS)
    return np.maximum(mean, 0.0), []


def long(
    filled: np.ndarray, demand: np.ndarray, calendar: dict[str, np.ndarray], first_day: date, first: int, last: int
) -> pd.DataFrame:
    """One row per series and day from column first through last, from the series' first known day on."""
    window = slice(first, last + 1)
    series, column = np.nonzero(~np.isnan(filled[:, window]))
    column += first
    frame = pd.DataFrame({"unique_id": series, "ds": days(first_day, column), "y": filled[series, column]})
    for name, matrix in calendar.items():
        frame[name] = matrix[series, column].astype(np.float64)
    frame["weight"] = (~np.isnan(demand[series, column])).astype(np.float64)
    return frame


def future(series: np.ndarray, calendar: dict[str, np.ndarray], first_day: date, origin: int) -> pd.DataFrame:
    """The calendar of the days after an origin."""
    rows = np.repeat(series, HORIZON_DAYS)
    column = np.tile(np.arange(origin + 1, origin + 1 + HORIZON_DAYS), len(series))
    frame = pd.DataFrame({"unique_id": rows, "ds": days(first_day, column)})
    for name, matrix in calendar.items():
        frame[name] = matrix[rows, column].astype(np.float64)
    return frame


def days(first_day: date, column: np.ndarray) -> np.ndarray:
    """The dates of columns."""
    return (np.datetime64(first_day, "D") + column).astype("datetime64[ns]")


RIVALS = {
    "last_week": last_week,
    "auto_ets": statistical(auto_ets),
    "mstl": statistical(mstl),
    "mlforecast": by_mlforecast,
}

if __name__ == "__main__":
    main()
