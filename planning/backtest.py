"""Replays past mornings: what each candidate would have forecast at each origin, beside what was demanded.

What belongs here: retraining as production does while the origins roll, what would have served, and each candidate's
quantiles from the residuals known by then. What does not: the metrics of the rows (`planning.scoring`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from planning import quantiles
from planning.boosting import Model, load_model
from planning.calendar import SERIES, Calendar
from planning.champion import CHALLENGER, ServingModel, decide
from planning.features import TRAINED_HORIZON_DAYS
from planning.forecasting import BACKTEST_DAYS, MIN_BACKTEST_DAYS
from planning.frames import QUANTILE_LEVELS, Panel, PlanningError
from planning.origins import Replay, Rows
from planning.quantiles import RESIDUAL_DAYS, Spread
from planning.rules import CANDIDATES
from planning.training import LEAST_OPEN_DAYS, Challenger, scaled_residuals, train_challenger

CHAMPION = "champion"

HOLIDAY_WINDOW_DAYS = 1
"""A holiday changes what is sold on the day before and after it too."""

REFIT_DAYS = 28
"""Between two trainings; a model that serves grows about as old."""

Progress = Callable[[int, int], object]
"""Told how many of how many origins are done."""


@dataclass(frozen=True)
class BacktestRows:
    """Forecasts of past origins, one row per series, origin and open target day.

    keys: tenant_id, location_id, product_id per series. series: (rows,) position in keys. origin, target: (rows,)
    datetime64[D], the last day of history and the day forecast; horizon_days: target - origin. actual_units: demand as
    sold; where is_censored the product sold out, it holds the estimate of what would have sold, and the row is not scored.
    volume_class: 0 (slowest quarter of its tenant's series) to 3. day_kind: `normal`, `holiday` (a holiday, or the day
    before or after one), `promotion`. scale_units: in-sample error of seasonal naive, for MASE. mean_units: candidate ->
    (rows,); quantile_units: candidate -> (rows, 9). Candidates: `champion` (what would have served), `boosting` where it
    could be trained, and the rules. champions: tenant_id, origin, candidate, reason where it changed.
    """

    keys: pd.DataFrame
    series: np.ndarray
    origin: np.ndarray
    target: np.ndarray
    horizon_days: np.ndarray
    actual_units: np.ndarray
    is_censored: np.ndarray
    volume_class: np.ndarray
    day_kind: np.ndarray
    scale_units: np.ndarray
    mean_units: dict[str, np.ndarray]
    quantile_units: dict[str, np.ndarray]
    champions: pd.DataFrame


def rolling_backtest(
    history: Panel,
    calendar: Calendar,
    *,
    days: int = 84,
    horizon_days: int = 7,
    refit_days: int = REFIT_DAYS,
    without: Sequence[str] = (),
    on_progress: Progress | None = None,
) -> BacktestRows:
    """Forecast each of the last `days` days from each of the `horizon_days` (up to 8) mornings before it.

    history: `demand_units` and `is_sold_out` (n, days) of any number of tenants; calendar: of the same series and first
    day. Models are trained every `refit_days` days on what was known by then and serve when they would have been
    promoted. Until a tenant has LEAST_OPEN_DAYS open days only rules compete; a tenant that never has them has no
    `boosting`, for which its rows hold what the champion said. Raises PlanningError when the history is too short.
    """
    if not 1 <= horizon_days <= TRAINED_HORIZON_DAYS:
        raise PlanningError(f"The horizon is 1 to {TRAINED_HORIZON_DAYS} days, not {horizon_days}.")
    if history.days < days + MIN_BACKTEST_DAYS:
        raise PlanningError(
            f"{history.days} days of history do not hold a backtest of {days} days and {MIN_BACKTEST_DAYS} before it. "
            f"Remedy: import older sales, or ask for fewer days."
        )
    parts = []
    tenants = history.keys.groupby("tenant_id", sort=True).indices
    for n, (tenant_id, positions) in enumerate(tenants.items()):

        def told(done: int, total: int, before: int = n) -> None:
            if on_progress is not None:
                on_progress(before * total + done, len(tenants) * total)

        replay = Replay.of(history.select(positions), calendar.select(positions))
        rolling, asked = _roll(str(tenant_id), replay, days, horizon_days, refit_days, without, told)
        parts.append(_rows_of(rolling, asked, positions))
    return _joined(history.keys[SERIES], parts)


@dataclass
class _Live:
    """A model and the residuals that are known when it serves: of forecasts made, before these of those held out.

    first_live: column from which on residuals are of forecasts made, by this model or the one before it.
    """

    model: Model
    target: np.ndarray
    volume_class: np.ndarray
    residual: np.ndarray
    first_live: int

    @classmethod
    def of(cls, challenger: Challenger, replay: Replay, before: "_Live | None", origin: int) -> "_Live":
        """A new model takes over the residuals of the forecasts of the one before it."""
        held_out = challenger.residuals
        target = replay.column_of(held_out["target_on"])
        volume_class = held_out["volume_class"].to_numpy(dtype=np.int64)
        residual = held_out["residual"].to_numpy(dtype=float)
        first_live = origin + 1
        if before is not None:
            first_live = before.first_live
            is_held_out, is_live = target < first_live, (before.target >= first_live) & (before.target <= origin)
            target = np.concatenate([target[is_held_out], before.target[is_live]])
            volume_class = np.concatenate([volume_class[is_held_out], before.volume_class[is_live]])
            residual = np.concatenate([residual[is_held_out], before.residual[is_live]])
        return cls(load_model(challenger.artefact), target, volume_class, residual, first_live)

    def forecast(self, replay: Replay, rows: Rows, origin: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and quantiles of an origin's rows, from the residuals known by then; the rows' own are kept for later."""
        mean = replay.model_means(self.model, rows)
        is_known = (self.target <= origin) & (self.target > origin - RESIDUAL_DAYS)
        spread = Spread.of(self.residual[is_known], self.volume_class[is_known], 1.0)
        live = ~rows.is_censored
        self.target = np.concatenate([self.target, rows.target[live]])
        self.volume_class = np.concatenate([self.volume_class, rows.volume_class[live]])
        self.residual = np.concatenate([self.residual, scaled_residuals(rows, mean)[live]])
        return _curve(mean, spread, rows.volume_class)


@dataclass
class _Rolling:
    """One tenant's backtest while it rolls: its rows, and what each candidate said of them."""

    tenant_id: str
    replay: Replay
    rows: Rows
    rule_means: Mapping[str, np.ndarray]
    means: dict[str, np.ndarray]
    corrected: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    champions: list[tuple[str, np.datetime64, str, str]]
    newest: _Live | None = None
    served: _Live | None = None
    serving: ServingModel | None = None
    decision: str = ""

    @classmethod
    def of(cls, tenant_id: str, replay: Replay, first_origin: int) -> "_Rolling":
        # Rules are compared, and their residuals taken, on the origins of the weeks before the first one.
        rows = replay.rows(first_origin - BACKTEST_DAYS, replay.days - 2)
        candidates = (CHAMPION, CHALLENGER, *CANDIDATES)
        rule_means = replay.rule_means(rows)
        return cls(
            tenant_id=tenant_id,
            replay=replay,
            rows=rows,
            rule_means=rule_means,
            means={name: rule_means.get(name, np.full(len(rows), np.nan)) for name in candidates},
            corrected={name: np.full(len(rows), np.nan) for name in CANDIDATES},
            curves={name: np.full((len(rows), len(QUANTILE_LEVELS)), np.nan) for name in candidates},
            champions=[],
        )

    def retrain(self, origin: int, without: Sequence[str]) -> None:
        """What a training on the morning after `origin` makes of the tenant's models."""
        known = self.replay.until(origin + 1)
        if int((~np.isnan(known.demand)).any(axis=0).sum()) < LEAST_OPEN_DAYS:
            return
        challenger = train_challenger(known.history, known.calendar, self.serving, without=without)
        serving = self.serving
        decision = decide(
            challenger.backtest, None if serving is None else (challenger.trained_to - serving.trained_to).days
        )
        self.newest, self.decision = _Live.of(challenger, self.replay, self.newest, origin), decision.reason
        if decision.action == "promote":
            self.served = self.newest
            self.serving = ServingModel(
                tenant_id=self.tenant_id,
                version=1,
                label=CHALLENGER,
                model=self.newest.model,
                spread=challenger.spread,
                backtest_wape_pct=float(challenger.backtest["wape_pct"].iloc[0]),
                backtest_reason=decision.reason,
                trained_to=challenger.trained_to,
            )
        elif decision.action == "retire":
            self.served = self.serving = None

    def forecast(self, origin: int, first: int, last: int) -> None:
        """Fill the rows of an origin, which are those from `first` to before `last`."""
        part = slice(first, last)
        now = self.rows.select(np.arange(len(self.rows))[part])
        best, reason = self._rules(origin, part, now)
        newest = self.newest.forecast(self.replay, now, origin) if self.newest is not None else None
        if newest is not None:
            self.means[CHALLENGER][part], self.curves[CHALLENGER][part] = newest
        if self.served is None or newest is None:
            serves = best
            self.means[CHAMPION][part], self.curves[CHAMPION][part] = (
                self.corrected[best][part],
                self.curves[best][part],
            )
        else:
            serves, reason = CHALLENGER, self.decision
            is_newest = self.served is self.newest
            own = newest if is_newest else self.served.forecast(self.replay, now, origin)
            self.means[CHAMPION][part], self.curves[CHAMPION][part] = own
        if newest is None:
            self.means[CHALLENGER][part] = self.means[CHAMPION][part]
            self.curves[CHALLENGER][part] = self.curves[CHAMPION][part]
        if not self.champions or self.champions[-1][2] != serves:
            self.champions.append((self.tenant_id, self.replay.date_of(np.array([origin]))[0], serves, reason))

    def _rules(self, origin: int, part: slice, now: Rows) -> tuple[str, str]:
        """Fill the rules' quantiles of an origin; returns the rule with the lowest WAPE of late, and why."""
        rows = self.rows
        seen = (rows.origin >= origin - BACKTEST_DAYS) & (rows.origin < origin) & (rows.target <= origin)
        seen &= ~rows.is_censored
        actual = rows.actual_units[seen]
        wape = {}
        for name in CANDIDATES:
            mean = self.rule_means[name]
            residual = (actual - mean[seen]) / quantiles.scale_units(mean[seen])
            spread = Spread.of(residual, rows.volume_class[seen], 1.0)
            self.corrected[name][part], self.curves[name][part] = _curve(mean[part], spread, now.volume_class)
            wape[name] = 100 * np.abs(mean[seen] - actual).sum() / actual.sum() if actual.sum() > 0 else np.inf
        if len(np.unique(rows.target[seen])) < MIN_BACKTEST_DAYS:
            return CANDIDATES[0], f"rules could be compared on fewer than {MIN_BACKTEST_DAYS} days"
        best = min(CANDIDATES, key=lambda name: wape[name])
        return best, f"WAPE of the last {BACKTEST_DAYS} origins: " + ", ".join(
            f"{name} {value:.1f} %" for name, value in wape.items()
        )


def _roll(
    tenant_id: str,
    replay: Replay,
    days: int,
    horizon_days: int,
    refit_days: int,
    without: Sequence[str],
    told: Progress,
) -> tuple[_Rolling, np.ndarray]:
    """One tenant's rolled backtest, and which of its rows are asked for."""
    first_origin, last_origin = replay.days - days - 1, replay.days - 2
    rolling = _Rolling.of(tenant_id, replay, first_origin)
    rows_of = {origin: (first, last) for origin, first, last in rolling.rows.by_origin()}
    for origin in range(first_origin, last_origin + 1):
        if (origin - first_origin) % refit_days == 0:
            rolling.retrain(origin, without)
        if origin in rows_of:
            rolling.forecast(origin, *rows_of[origin])
        told(origin - first_origin + 1, days)
    return rolling, (rolling.rows.origin >= first_origin) & (rolling.rows.horizon_days <= horizon_days)


def _rows_of(rolling: _Rolling, asked: np.ndarray, positions: np.ndarray) -> BacktestRows:
    rows, replay = rolling.rows.select(asked), rolling.replay
    calendar, target = replay.calendar, rows.target
    place = calendar.place[rows.series]
    off = np.minimum(calendar.days_to_holiday[place, target], calendar.days_since_holiday[place, target])
    kind = np.where(off <= HOLIDAY_WINDOW_DAYS, "holiday", "normal").astype(object)
    kind[calendar.is_promotion[rows.series, target]] = "promotion"
    return BacktestRows(
        keys=pd.DataFrame(),
        series=positions[rows.series],
        origin=replay.date_of(rows.origin),
        target=replay.date_of(target),
        horizon_days=rows.horizon_days,
        actual_units=rows.actual_units,
        is_censored=rows.is_censored,
        volume_class=rows.volume_class,
        day_kind=kind,
        scale_units=rows.scale_units,
        mean_units={name: mean[asked] for name, mean in rolling.means.items()},
        quantile_units={name: curve[asked] for name, curve in rolling.curves.items()},
        champions=pd.DataFrame(rolling.champions, columns=["tenant_id", "origin", "candidate", "reason"]),
    )


def _joined(keys: pd.DataFrame, parts: Sequence[BacktestRows]) -> BacktestRows:
    arrays = ("series", "origin", "target", "horizon_days", "actual_units", "is_censored", "volume_class", "day_kind")
    candidates = parts[0].mean_units
    return BacktestRows(
        keys=keys.reset_index(drop=True),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in (*arrays, "scale_units")},
        mean_units={name: np.concatenate([part.mean_units[name] for part in parts]) for name in candidates},
        quantile_units={name: np.concatenate([part.quantile_units[name] for part in parts]) for name in candidates},
        champions=pd.concat([part.champions for part in parts], ignore_index=True),
    )


def _curve(mean_units: np.ndarray, spread: Spread, volume_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corrected means (rows,) and quantiles (rows, levels) of means (rows,)."""
    mean, curve = quantiles.forecast_curve(mean_units[:, None], spread.of_classes(volume_class))
    return mean[:, 0], curve[:, 0]
