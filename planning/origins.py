"""Past mornings of one tenant: which rows a candidate is compared on, and what each candidate says of them.

What belongs here: rows of series, origin and horizon, what was demanded, and forecasts of rules and models at them, so that
training and the backtest compare on the same rows. What does not: metrics (`planning.scoring`) and choices.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from planning import quantiles
from planning.boosting import Model
from planning.calendar import Calendar
from planning.features import TRAINED_HORIZON_DAYS, WINDOW_DAYS, Past, build_features
from planning.frames import Panel
from planning.rules import CANDIDATES, PROFILE_DAYS, SEASONAL_NAIVE, filled_slots, last_same_weekday, own_mean

MIN_OPEN_DAYS = 7
"""Open days that a series needs before an origin, else neither a weekday rule nor a model is used for it."""

PAIRS_AT_A_TIME = 20_000
"""Series and origins whose features are computed together, which bounds the memory."""


@dataclass(frozen=True)
class Replay:
    """One tenant's history, laid out so that any past day can be the last one known.

    demand: (n, days), NaN where a day does not count. is_sold_out: (n, days). padded, last_seen: the same with PROFILE_DAYS
    of nothing before it, and its seasonal naive. open_days: (n, days), open days through each day. is_seen: (n, days),
    whether one of them is within the features' window that ends with the day.
    """

    history: Panel
    calendar: Calendar
    demand: np.ndarray
    is_sold_out: np.ndarray
    padded: np.ndarray
    last_seen: np.ndarray
    open_days: np.ndarray
    is_seen: np.ndarray

    @classmethod
    def of(cls, history: Panel, calendar: Calendar) -> "Replay":
        """history: `demand_units` and `is_sold_out` (n, days) of one tenant; calendar from the same day, at least as long."""
        demand = history["demand_units"]
        padded = np.pad(demand, ((0, 0), (PROFILE_DAYS, 0)), constant_values=np.nan)
        open_days = np.cumsum(~np.isnan(demand), axis=1)
        before = np.pad(open_days, ((0, 0), (WINDOW_DAYS, 0)))[:, : demand.shape[1]]
        return cls(
            history=history,
            calendar=calendar,
            demand=demand,
            is_sold_out=history["is_sold_out"].astype(bool),
            padded=padded,
            last_seen=last_same_weekday(padded),
            open_days=open_days,
            is_seen=open_days > before,
        )

    @property
    def days(self) -> int:
        """Days of history."""
        return self.demand.shape[1]

    def date_of(self, columns: np.ndarray) -> np.ndarray:
        """The dates of columns, datetime64[D]."""
        return np.datetime64(self.history.first_day, "D") + columns.astype("timedelta64[D]")

    def column_of(self, dates: pd.Series) -> np.ndarray:
        """The columns of dates."""
        first = np.datetime64(self.history.first_day, "D")
        return (dates.to_numpy().astype("datetime64[D]") - first).astype(np.int64)

    def until(self, days: int) -> "Replay":
        """The tenant as it was known after the first `days` days."""
        first = self.history.first_day
        shorter = Panel(
            self.history.keys, {name: matrix[:, :days] for name, matrix in self.history.values.items()}, first
        )
        return Replay.of(shorter, self.calendar)

    def rows(self, first_origin: int, last_origin: int, horizon_days: int = TRAINED_HORIZON_DAYS) -> "Rows":
        """Every series, origin and horizon whose target day counts and is known, in the order of origins.

        first_origin, last_origin: columns. A series takes part from its MIN_OPEN_DAYS-th open day on.
        """
        horizons = np.arange(1, horizon_days + 1)
        origins = np.arange(max(first_origin, 0), min(last_origin, self.days - 2) + 1)
        target = origins[:, None] + horizons
        is_past = target < self.days
        demand = self.demand[:, np.minimum(target, self.days - 1)]
        counts = ~np.isnan(demand) & is_past & (self.open_days[:, origins] >= MIN_OPEN_DAYS)[:, :, None]
        at, series, step = np.nonzero(counts.transpose(1, 0, 2))
        origin, horizon = origins[at], horizons[step]
        volume_class = np.zeros((len(origins), len(self.demand)), dtype=np.int64)
        scale = np.full((len(origins), len(self.demand)), np.nan)
        one_tenant = np.zeros(len(self.demand), dtype=np.int64)
        for n, known in enumerate((origins + 1).tolist()):
            mean = own_mean(self.padded, self.last_seen, known + PROFILE_DAYS)
            volume_class[n] = quantiles.volume_classes(one_tenant, mean)
            scale[n] = _naive_error(self.padded[:, known : known + PROFILE_DAYS])
        return Rows(
            series=series,
            origin=origin,
            horizon_days=horizon,
            actual_units=self.demand[series, origin + horizon],
            is_censored=self.is_sold_out[series, origin + horizon],
            volume_class=volume_class[at, series],
            scale_units=scale[at, series],
        )

    def rule_means(self, rows: "Rows") -> dict[str, np.ndarray]:
        """What each rule says of the rows, units."""
        means = {name: np.empty(len(rows)) for name in CANDIDATES}
        for origin, first, last in rows.by_origin():
            slots = filled_slots(self.padded, self.last_seen, origin + 1 + PROFILE_DAYS)
            series, slot = rows.series[first:last], (rows.horizon_days[first:last] - 1) % 7
            for name, of_rule in zip(CANDIDATES, slots, strict=True):
                means[name][first:last] = of_rule[series, slot]
        return means

    def model_means(self, model: Model, rows: "Rows") -> np.ndarray:
        """What a model says of the rows, units; seasonal naive of series that its features see nothing of, as a morning does."""
        means = np.empty(len(rows))
        is_seen = self.is_seen[rows.series, rows.origin]
        seen, unseen = rows.select(is_seen), rows.select(~is_seen)
        means[~is_seen] = self.rule_means(unseen)[SEASONAL_NAIVE]
        means[is_seen] = self._predicted(model, seen)
        return means

    def _predicted(self, model: Model, rows: "Rows") -> np.ndarray:
        means = np.empty(len(rows))
        if not len(rows):
            return means
        past = Past.of(self.demand, self.calendar, int(rows.origin.min()))
        for first in range(0, len(rows), PAIRS_AT_A_TIME):
            part = slice(first, first + PAIRS_AT_A_TIME)
            features = build_features(past, rows.series[part], rows.origin[part], rows.horizon_days[part][:, None])
            means[part] = model.predict(features.values) * features.level_units
        return means


@dataclass(frozen=True)
class Rows:
    """Rows of one tenant in the order of origins, one per series, origin column and horizon: arrays of (rows,).

    actual_units: demand of the target; is_censored where the product sold out. volume_class at the origin: 0 (slowest
    quarter) to 3. scale_units: in-sample error of seasonal naive before the origin, NaN where undefined.
    """

    series: np.ndarray
    origin: np.ndarray
    horizon_days: np.ndarray
    actual_units: np.ndarray
    is_censored: np.ndarray
    volume_class: np.ndarray
    scale_units: np.ndarray

    def __len__(self) -> int:
        return len(self.series)

    @property
    def target(self) -> np.ndarray:
        """Column of each target day."""
        return self.origin + self.horizon_days

    def by_origin(self) -> list[tuple[int, int, int]]:
        """Each origin with the first row of it and the row after its last."""
        origins, first = np.unique(self.origin, return_index=True)
        last = np.append(first, len(self))[1:]
        return list(zip(origins.tolist(), first.tolist(), last.tolist(), strict=True))

    def select(self, chosen: np.ndarray) -> "Rows":
        """The rows of a boolean mask."""
        return Rows(**{name: values[chosen] for name, values in vars(self).items()})


def _naive_error(demand: np.ndarray) -> np.ndarray:
    """Mean absolute difference of same weekdays in successive weeks, (n,): the scale of MASE (Hyndman and Koehler, 2006)."""
    change = np.abs(demand[:, 7:] - demand[:, :-7])
    is_known = ~np.isnan(change)
    counts = is_known.sum(axis=1)
    return np.where(counts > 0, np.where(is_known, change, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)
