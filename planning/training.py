"""Trains a challenger for one tenant and tries it, with every other candidate, on the same held-out rows.

What belongs here: the training rows, the held-out days that a promotion rests on, the residual table and what a registry
needs to know of a model. What does not: the model itself (`planning.boosting`), the decision to promote
(`planning.champion`), storing anything.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning import quantiles
from planning.boosting import Model, dump_model, fit_model, library_versions, parameters_of
from planning.calendar import SERIES, Calendar
from planning.champion import CHALLENGER, SERVING, ServingModel
from planning.features import (
    FEATURE_SCHEMA,
    GROUPS,
    MAX_HORIZON_DAYS,
    TRAINED_HORIZON_DAYS,
    Past,
    build_features,
    names,
)
from planning.frames import QUANTILE_LEVELS, Panel, PlanningError
from planning.origins import MIN_OPEN_DAYS, PAIRS_AT_A_TIME, Replay, Rows
from planning.quantiles import Spread
from planning.scoring import defined, pinball_units, point_measures

LEAST_OPEN_DAYS = 90
"""Open days of history below which a model of its own is not trained: it would not have seen a season change."""

HELD_OUT_DAYS = 28
"""The last days, on which the candidates are compared and whose errors make the first residual table. The model tried on
them has not seen them, so it is up to so many days old, as one that serves until its next training is."""

HORIZONS_PER_ORIGIN = 2
"""Horizons drawn for each series and origin: every day is still trained on from every distance, at a quarter of the rows."""

MOST_ROWS = 150_000
"""Rows that a model is fitted to at most; a tenant with more has some of its origins drawn."""


@dataclass(frozen=True)
class Challenger:
    """A trained model of one tenant and what is known of it.

    backtest: one row per candidate, all on the same rows: candidate (`boosting` is the challenger, `serving` the model that
    serves now, if there is one, and the rules), rows, wape_pct, bias_pct, mae_units, mase, pinball_units; NaN where
    undefined. spread: the residual quantile table, as JSON. residuals: the rows it was made of: target_on (date),
    volume_class, residual (scaled). artefact: the model as compressed data. importances: feature group -> share of the
    gain, empty where the algorithm offers none. cpu_s: processor seconds of all of it.
    """

    tenant_id: str
    algorithm: str
    parameters: Mapping[str, object]
    feature_schema: str
    library_versions: Mapping[str, str]
    trained_from: date
    trained_to: date
    series: int
    rows: int
    data_hash: str
    backtest: pd.DataFrame
    backtest_from: date
    backtest_to: date
    spread: Mapping[str, object]
    residuals: pd.DataFrame
    artefact: bytes
    importances: Mapping[str, float]
    cpu_s: float


def train_challenger(
    history: Panel,
    calendar: Calendar,
    serving: ServingModel | None = None,
    *,
    seed: int = 1,
    without: Sequence[str] = (),
) -> Challenger:
    """Train a model of one tenant on all of its history, after trying one that has not seen the last HELD_OUT_DAYS days.

    history: `demand_units` and `is_sold_out` (n, days) of one tenant. calendar: of the same series, from the history's
    first day through its last at least. serving: what serves now; it is compared only on days that it has not seen.
    without: feature groups to do without, for measuring what they are worth.

    The comparison: origins of the last HELD_OUT_DAYS days, horizons 1 to 8, all candidates on the same rows; rows of
    products that sold out are left out. Raises PlanningError with the remedy when there is too little history.
    """
    began = time.process_time()
    tenant_id = _only_tenant(history)
    replay = Replay.of(history, calendar)
    open_days = int((~np.isnan(replay.demand)).any(axis=0).sum())
    if open_days < LEAST_OPEN_DAYS:
        raise PlanningError(
            f"{open_days} open days of sales are too few for a model of its own, which takes {LEAST_OPEN_DAYS}. "
            "Remedy: none needed, the rules serve until then; older sales can be imported."
        )
    held_out = replay.days - HELD_OUT_DAYS
    training = TrainingRows.of(replay, seed=seed, without=without)
    trial = training.fit(held_out, seed)
    rows = replay.rows(held_out - 1, replay.days - 2)
    rows = rows.select(~rows.is_censored)
    means = {CHALLENGER: replay.model_means(trial, rows), **replay.rule_means(rows)}
    is_decisive = np.ones(len(rows), dtype=bool)
    if serving is not None:
        unseen = (serving.trained_to - history.first_day).days + 1
        is_decisive &= rows.origin >= unseen - 1
        means[SERVING] = replay.model_means(serving.model, rows)
    model = training.fit(replay.days, seed)
    residual = scaled_residuals(rows, means[CHALLENGER])
    targets = pd.Series(replay.date_of(rows.target)).dt.date
    return Challenger(
        tenant_id=tenant_id,
        algorithm=model.algorithm,
        parameters=parameters_of(model),
        feature_schema=FEATURE_SCHEMA,
        library_versions=library_versions(model),
        trained_from=history.first_day,
        trained_to=history.first_day + timedelta(days=replay.days - 1),
        series=len(history),
        rows=len(training),
        data_hash=data_hash(history, calendar),
        backtest=_compared(rows.select(is_decisive), {name: mean[is_decisive] for name, mean in means.items()}),
        backtest_from=history.first_day + timedelta(days=held_out),
        backtest_to=history.first_day + timedelta(days=replay.days - 1),
        spread=Spread.of(residual, rows.volume_class, _widening(replay, trial, held_out)).as_json(),
        residuals=pd.DataFrame({"target_on": targets, "volume_class": rows.volume_class, "residual": residual}),
        artefact=dump_model(model),
        importances=_by_group(model),
        cpu_s=time.process_time() - began,
    )


@dataclass(frozen=True)
class TrainingRows:
    """Rows to fit a model to: features (rows, features), demand over level (rows,), weight (rows,), target column (rows,)."""

    values: np.ndarray
    shares: np.ndarray
    weights: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, replay: Replay, *, seed: int, without: Sequence[str] = ()) -> "TrainingRows":
        """Every series and origin from the series' seventh open day on, with HORIZONS_PER_ORIGIN horizons drawn by the seed.

        Origins that the features see no open day before are left out. Demand is divided by the series' level at the origin
        and weighted by it, so that the loss counts units.
        """
        rng = np.random.default_rng(seed)
        is_usable = (replay.open_days >= MIN_OPEN_DAYS) & replay.is_seen
        series, origin = np.nonzero(is_usable[:, :-1])
        most = MOST_ROWS // HORIZONS_PER_ORIGIN
        if len(series) > most:
            drawn = np.sort(rng.choice(len(series), most, replace=False))
            series, origin = series[drawn], origin[drawn]
        horizon = rng.integers(1, TRAINED_HORIZON_DAYS + 1, (len(series), HORIZONS_PER_ORIGIN))
        past = Past.of(replay.demand, replay.calendar, int(origin.min(initial=replay.days)))
        parts: list[tuple[np.ndarray, ...]] = []
        for first in range(0, len(series), PAIRS_AT_A_TIME):
            part = slice(first, first + PAIRS_AT_A_TIME)
            target = origin[part, None] + horizon[part]
            is_past = target < replay.days
            units = np.where(is_past, replay.demand[series[part, None], np.where(is_past, target, 0)], np.nan).ravel()
            features = build_features(past, series[part], origin[part], horizon[part])
            level = np.repeat(features.level_units, HORIZONS_PER_ORIGIN)
            known = ~np.isnan(units)
            parts.append((features.values[known], (units / level)[known], level[known], target.ravel()[known]))
        values, shares, weights, targets = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        values[:, [name in names(without) for name in names()]] = np.nan
        return cls(values, shares, weights, targets)

    def __len__(self) -> int:
        return len(self.target)

    def fit(self, until: int, seed: int) -> Model:
        """A model of the rows whose target lies before the column `until`."""
        if until > self.target.max(initial=-1):
            return fit_model(self.values, self.shares, self.weights, seed)
        known = self.target < until
        return fit_model(self.values[known], self.shares[known], self.weights[known], seed)


def scaled_residuals(rows: Rows, mean_units: np.ndarray) -> np.ndarray:
    """Demand less forecast over the forecast's scale, (rows,)."""
    return (rows.actual_units - mean_units) / quantiles.scale_units(mean_units)


def data_hash(history: Panel, calendar: Calendar) -> str:
    """Identity of what a model was trained on."""
    digest = hashlib.sha256(history.first_day.isoformat().encode())
    digest.update("\n".join(history.keys[SERIES].astype(object).agg("/".join, axis=1)).encode())
    for matrix in (history["demand_units"], history["is_sold_out"]):
        digest.update(np.ascontiguousarray(matrix).tobytes())
    columns = calendar.window(history.first_day, history.days)
    for name in ("place", "is_open", "is_promotion", "is_holiday", "is_school_holiday", "last_year_days"):
        digest.update(np.ascontiguousarray(getattr(columns, name)).tobytes())
    return digest.hexdigest()


def _compared(rows: Rows, means: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row of metrics per candidate."""
    table = []
    for name, mean in means.items():
        sums = pd.DataFrame(point_measures(mean, rows.actual_units, rows.scale_units)).sum()
        sold, used, scaled = (
            defined(pd.Series([sums[part]])).iloc[0] for part in ("actual_units", "rows_used", "scaled_rows")
        )
        spread = Spread.of(scaled_residuals(rows, mean), rows.volume_class, 1.0)
        curve = quantiles.forecast_curve(mean[:, None], spread.of_classes(rows.volume_class))[1][:, 0]
        loss = pinball_units(rows.actual_units[:, None], curve, np.array(QUANTILE_LEVELS))
        table.append(
            {
                "candidate": name,
                "rows": len(rows),
                "wape_pct": 100 * sums["absolute"] / sold,
                "bias_pct": 100 * (sums["forecast_units"] - sums["actual_units"]) / sold,
                "mae_units": sums["absolute"] / used,
                "mase": sums["scaled"] / scaled,
                "pinball_units": loss.mean() if len(rows) else np.nan,
            }
        )
    return pd.DataFrame(table)


def _widening(replay: Replay, model: Model, held_out: int) -> float:
    """How much larger errors are beyond the trained horizons, within limits; 1.1 where that is unknown."""
    rows = replay.rows(held_out - 1, replay.days - 2, MAX_HORIZON_DAYS)
    is_tried = ~rows.is_censored & (rows.origin % 7 == 0)  # a day a week is enough for one number
    rows = rows.select(is_tried)
    error = np.abs(rows.actual_units - replay.model_means(model, rows))
    is_far = rows.horizon_days > TRAINED_HORIZON_DAYS
    if is_far.sum() < quantiles.MIN_RESIDUALS or not error[~is_far].sum() > 0:
        return quantiles.UNMEASURED_WIDENING
    return float(np.clip(error[is_far].mean() / error[~is_far].mean(), *quantiles.WIDENING_LIMITS))


def _by_group(model: Model) -> dict[str, float]:
    gain = model.importances
    return {group: sum(gain[name] for name in members) for group, members in GROUPS.items()} if gain else {}


def _only_tenant(history: Panel) -> str:
    tenants = history.keys["tenant_id"].unique()
    if len(tenants) != 1:
        raise PlanningError(f"A model is trained for one tenant at a time, not for {len(tenants)}.")
    return str(tenants[0])
