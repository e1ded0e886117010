"""What a forecast may know: one row of features per series, origin and horizon, for any number of tenants at once.

What belongs here: turning past demand and the calendar into numbers that mean the same for a bakery that sells ten loaves
and one that sells a thousand. What does not: fitting anything to them (`planning.boosting`). An origin is the last day of
history; nothing after it is read but the calendar, which is known beforehand.

Training and the morning build their rows here, from the same look-back, so that a model meets what it was trained on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planning.calendar import SAME_WEEKDAY_DAYS, Calendar
from planning.frames import PLAN_DAYS

WINDOW_DAYS = 56
"""Days before the origin whose demand is looked at: eight of each weekday."""

WEEKS = WINDOW_DAYS // 7

LAST_YEAR_LEVEL_DAYS = 28
LAST_YEAR_AROUND_DAYS = 3
"""Last year's demand on a day is the mean of so many days on either side too: a single day's would be noise."""

TRAINED_HORIZON_DAYS = 8
"""The furthest target that models are trained on: seven forecast days, and one for bakeries that plan the day before."""

MAX_HORIZON_DAYS = PLAN_DAYS + 1
"""The furthest target at all. Beyond the trained ones a forecast claims no more than the furthest trained one, but knows
its weekday, holidays and promotions."""

LOOK_BACK_DAYS = SAME_WEEKDAY_DAYS + LAST_YEAR_LEVEL_DAYS
"""Days of history, the origin among them, that features reach back; a movable holiday's counterpart of last year may lie a
few days further."""

LEVEL_HALF_LIFE_DAYS = 14.0
"""Weight of a day in the level that demand is divided by, halved every so many days."""

SMALLEST_LEVEL_UNITS = 0.05
"""A dormant product's level: division by less would turn its next sale into a target beyond all others."""

GROUPS: dict[str, tuple[str, ...]] = {
    "horizon": ("horizon_days",),
    "calendar": ("weekday", "day_of_year", "day_of_month", "was_open_before", "is_open_after"),
    "holidays": (
        "days_to_holiday",
        "days_since_holiday",
        "is_bridge",
        "is_school_holiday",
        "school_holiday_share",
        "lag_days_off_holiday",
    ),
    "promotions": ("is_promotion", "promotion_share", "lag_is_promotion"),
    "lags": ("lag_1_weeks", "lag_2_weeks", "lag_3_weeks", "lag_4_weeks"),
    "levels": ("mean_3_days", "mean_7_days", "mean_14_days", "mean_28_days", "mean_56_days", "log_level"),
    "weekdays": ("weekday_mean_4_weeks", "weekday_mean_8_weeks", "weekday_shape"),
    "recent": ("usual_1_day", "usual_3_days", "usual_7_days"),
    "habits": ("zero_share", "variation", "open_days", "days_since_sale"),
    "location": (
        "location_usual_1_day",
        "location_usual_3_days",
        "location_usual_7_days",
        "location_trend_7_28",
        "location_trend_28_56",
        "location_weekday_shape",
    ),
    "last_year": ("last_year", "location_last_year", "location_last_year_day"),
}
"""The features by what they look at. Quantities are shares of the series' level, `usual` ones shares of the weekday's mean."""

FEATURES = tuple(name for names in GROUPS.values() for name in names)
_COLUMN = {name: n for n, name in enumerate(FEATURES)}


def names(groups: Sequence[str] | None = None) -> tuple[str, ...]:
    """The features of these groups; of all without."""
    return FEATURES if groups is None else tuple(name for group in groups for name in GROUPS[group])


FEATURE_VERSION = 1
"""Raised whenever a feature is computed otherwise under the same name."""

FEATURE_SCHEMA = hashlib.sha256(repr((FEATURE_VERSION, FEATURES)).encode()).hexdigest()
"""Identity of what the columns mean: a model trained on others must not be asked."""


@dataclass(frozen=True)
class Past:
    """Demand and calendar, laid out so that any origin's look-back can be cut from them.

    demand: (n, columns), NaN where the day does not count; location: (places, columns), demand of all series of a place;
    `offset` is the column of the calendar's first day.
    """

    demand: np.ndarray
    location: np.ndarray
    calendar: Calendar
    offset: int

    @classmethod
    def of(cls, demand: np.ndarray, calendar: Calendar, first_origin: int) -> "Past":
        """Demand (n, days) from the calendar's first day on; the calendar reaches to the last target at least.

        first_origin: the earliest column that will be an origin.
        """
        location = np.full((len(calendar.is_holiday), demand.shape[1]), np.nan)
        if len(demand):
            by_place = np.argsort(calendar.place, kind="stable")
            place, ordered = calendar.place[by_place], demand[by_place]
            starts = np.flatnonzero(np.diff(place, prepend=-1))
            is_known = ~np.isnan(ordered)
            units = np.add.reduceat(np.where(is_known, ordered, 0.0), starts, axis=0)
            location[place[starts]] = np.where(np.logical_or.reduceat(is_known, starts, axis=0), units, np.nan)
        # What lies before the first day is as unknown as a closed day.
        offset = max(0, LOOK_BACK_DAYS - 1 - first_origin)
        margins = ((0, 0), (offset, 0))
        return cls(
            demand=np.pad(demand, margins, constant_values=np.nan) if offset else demand,
            location=np.pad(location, margins, constant_values=np.nan) if offset else location,
            calendar=calendar,
            offset=offset,
        )


@dataclass(frozen=True)
class FeatureRows:
    """Rows for p pairs of series and origin with k horizons each.

    values: (p * k, features) float32, NaN where unknown; level_units: (p,), what demand of the pair is divided by.
    """

    values: np.ndarray
    level_units: np.ndarray


def build_features(past: Past, series: np.ndarray, origin: np.ndarray, horizon_days: np.ndarray) -> FeatureRows:
    """Features of each pair of series and origin at each of its horizons.

    series, origin: (p,), row and column (from the calendar's first day) of the pair; horizon_days: (p, k), 1 to
    MAX_HORIZON_DAYS.
    """
    pairs, horizons = horizon_days.shape
    values = np.full((pairs, horizons, len(FEATURES)), np.nan, dtype=np.float32)
    rows = _Rows(past, series, origin, horizon_days, values)
    level = rows.own_history()
    rows.of_location()
    rows.of_last_year()
    rows.of_calendar()
    return FeatureRows(values.reshape(pairs * horizons, len(FEATURES)), level)


@dataclass(frozen=True)
class _Rows:
    """The rows while they are being filled: `values` is (pairs, horizons, features)."""

    past: Past
    series: np.ndarray
    origin: np.ndarray
    horizon_days: np.ndarray
    values: np.ndarray

    def set(self, name: str, numbers: np.ndarray) -> None:
        """One number per pair, (p,), or per pair and horizon, (p, k)."""
        self.values[:, :, _COLUMN[name]] = numbers[:, None] if numbers.ndim == 1 else numbers

    @property
    def slot(self) -> np.ndarray:
        """Position of each target's weekday in a week that ends with the origin, (p, k)."""
        return (self.horizon_days - 1) % 7

    @property
    def place(self) -> np.ndarray:
        return self.past.calendar.place[self.series]

    def window(self, matrix: np.ndarray, rows: np.ndarray, first: int, last: int) -> np.ndarray:
        """Columns from `first` through `last` days after the origin, (p, last - first + 1)."""
        columns = (self.origin + self.past.offset)[:, None] + np.arange(first, last + 1)
        return matrix[rows[:, None], columns]

    def own_history(self) -> np.ndarray:
        """Fill what the series' own last eight weeks say; returns its level, (p,)."""
        demand = self.window(self.past.demand, self.series, 1 - WINDOW_DAYS, 0)
        is_known = ~np.isnan(demand)
        weights = 0.5 ** (np.arange(WINDOW_DAYS)[::-1] / LEVEL_HALF_LIFE_DAYS)
        units = np.where(is_known, demand, 0.0)
        # No matrix product: its sums depend on the rows beside a row, and a forecast must not.
        weighted = _ratio((units * weights).sum(axis=1), (is_known * weights).sum(axis=1), empty=0.0)
        level = np.maximum(weighted, SMALLEST_LEVEL_UNITS)
        for days in (3, 7, 14, 28, 56):
            self.set(f"mean_{days}_days", _mean(demand[:, -days:]) / level)
        self.set("log_level", np.log(level))

        weeks = demand.reshape(-1, WEEKS, 7)
        usual = _mean(weeks, axis=1)
        pair = np.arange(len(demand))[:, None]
        for week in range(1, 5):
            self.set(f"lag_{week}_weeks", weeks[pair, WEEKS - week, self.slot] / level[:, None])
        self.set("weekday_mean_4_weeks", _mean(weeks[:, WEEKS - 4 :], axis=1)[pair, self.slot] / level[:, None])
        self.set("weekday_mean_8_weeks", usual[pair, self.slot] / level[:, None])
        mean = _mean(demand)
        self.set("weekday_shape", _ratio(usual[pair, self.slot], mean[:, None]))
        self._set_usual("usual", weeks, usual)

        counts = is_known.sum(axis=1)
        recent = is_known[:, -28:].sum(axis=1)
        self.set("zero_share", _ratio((demand[:, -28:] == 0).sum(axis=1), recent))
        square = _ratio((units**2).sum(axis=1), counts)
        self.set("variation", np.sqrt(np.maximum(square - mean**2, 0.0)) / level)
        self.set("open_days", counts.astype(float))
        last_sale = np.where(units > 0, np.arange(WINDOW_DAYS), -1).max(axis=1)
        self.set("days_since_sale", (WINDOW_DAYS - 1 - last_sale).astype(float))
        return level

    def of_location(self) -> None:
        """Fill what all products of the location say together: weather and season move them all."""
        days = self.past.calendar.days
        codes, pair = np.unique(self.place * days + self.origin, return_inverse=True)
        place, origin = np.divmod(codes, days)
        once = _Rows(self.past, place, origin, self.horizon_days[:0], self.values[:0])
        demand = once.window(self.past.location, place, 1 - WINDOW_DAYS, 0)
        weeks = demand.reshape(-1, WEEKS, 7)
        usual = _mean(weeks, axis=1)
        shares = _shares_of_usual(weeks, usual)
        self.set("location_usual_1_day", shares[:, -1][pair])
        self.set("location_usual_3_days", _mean(shares[:, -3:])[pair])
        self.set("location_usual_7_days", _mean(shares[:, -7:])[pair])
        mean = {days: _mean(demand[:, -days:]) for days in (7, 28, 56)}
        self.set("location_trend_7_28", _ratio(mean[7], mean[28])[pair])
        self.set("location_trend_28_56", _ratio(mean[28], mean[56])[pair])
        shape = _ratio(usual, mean[56][:, None])
        self.set("location_weekday_shape", shape[pair[:, None], self.slot])

    def of_last_year(self) -> None:
        """Fill how demand moved a year ago from the days before the origin's counterpart to the target's."""
        first = 1 - LAST_YEAR_LEVEL_DAYS - SAME_WEEKDAY_DAYS
        last = MAX_HORIZON_DAYS + LAST_YEAR_AROUND_DAYS - SAME_WEEKDAY_DAYS
        own = self.window(self.past.demand, self.series, first, last)
        self.set("last_year", self._around(own))
        location = self.window(self.past.location, self.place, first, last)
        self.set("location_last_year", self._around(location))
        targets = self.origin[:, None] + self.horizon_days
        place = self.place[:, None]
        back = self.past.calendar.last_year_days[place, targets]
        columns = targets - back + self.past.offset
        demand = np.where(columns >= 0, self.past.location[place, np.maximum(columns, 0)], np.nan)
        usual = _mean(location[:, :LAST_YEAR_LEVEL_DAYS])
        self.set("location_last_year_day", _ratio(demand, usual[:, None]))

    def of_calendar(self) -> None:
        """Fill what is known of the target day beforehand, and what its lags were."""
        calendar = self.past.calendar
        targets = self.origin[:, None] + self.horizon_days
        series, place = self.series[:, None], self.place[:, None]
        first = np.datetime64(calendar.first_day, "D")
        days = first + targets.astype("timedelta64[D]")
        self.set("horizon_days", np.minimum(self.horizon_days, TRAINED_HORIZON_DAYS))
        self.set("weekday", (calendar.first_day.weekday() + targets) % 7)
        self.set("day_of_year", (days - days.astype("datetime64[Y]")).astype(np.int64))
        self.set("day_of_month", (days - days.astype("datetime64[M]")).astype(np.int64))
        self.set("was_open_before", calendar.is_open[series, np.maximum(targets - 1, 0)])
        self.set("is_open_after", calendar.is_open[series, np.minimum(targets + 1, calendar.days - 1)])
        self.set("days_to_holiday", calendar.days_to_holiday[place, targets])
        self.set("days_since_holiday", calendar.days_since_holiday[place, targets])
        self.set("is_bridge", calendar.is_bridge[place, targets])
        self.set("is_school_holiday", calendar.is_school_holiday[place, targets])
        self.set("is_promotion", calendar.is_promotion[series, targets])
        recent = np.maximum(self.origin[:, None] + np.arange(-27, 1), 0)
        self.set("school_holiday_share", calendar.is_school_holiday[place, recent].mean(axis=1))
        self.set("promotion_share", calendar.is_promotion[series, recent].mean(axis=1))
        lag = np.maximum(self.origin[:, None] - 6 + self.slot, 0)
        off = np.minimum(calendar.days_to_holiday[place, lag], calendar.days_since_holiday[place, lag])
        self.set("lag_days_off_holiday", off)
        self.set("lag_is_promotion", calendar.is_promotion[series, lag])

    def _set_usual(self, prefix: str, weeks: np.ndarray, usual: np.ndarray) -> None:
        shares = _shares_of_usual(weeks, usual)
        self.set(f"{prefix}_1_day", shares[:, -1])
        self.set(f"{prefix}_3_days", _mean(shares[:, -3:]))
        self.set(f"{prefix}_7_days", _mean(shares[:, -7:]))

    def _around(self, demand: np.ndarray) -> np.ndarray:
        """Mean of the days around each target over the mean of the weeks before: (p, k), from windows of last year."""
        is_known = ~np.isnan(demand)
        sums = np.cumsum(np.where(is_known, demand, 0.0), axis=1)
        counts = np.cumsum(is_known, axis=1)
        at_origin = LAST_YEAR_LEVEL_DAYS - 1
        pair = np.arange(len(demand))[:, None]
        until = at_origin + self.horizon_days + LAST_YEAR_AROUND_DAYS
        before = at_origin + self.horizon_days - LAST_YEAR_AROUND_DAYS - 1
        around = _ratio(sums[pair, until] - sums[pair, before], counts[pair, until] - counts[pair, before])
        return _ratio(around, _ratio(sums[:, at_origin], counts[:, at_origin])[:, None])


def _shares_of_usual(weeks: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Each day of the window over the mean of its weekday: (p, 56)."""
    return _ratio(weeks, usual[:, None, :]).reshape(len(weeks), WINDOW_DAYS)


def _mean(demand: np.ndarray, axis: int = 1) -> np.ndarray:
    is_known = ~np.isnan(demand)
    return _ratio(np.where(is_known, demand, 0.0).sum(axis=axis), is_known.sum(axis=axis))


def _ratio(numerator: np.ndarray, denominator: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """The quotient, `empty` where the denominator is not positive."""
    is_positive = denominator > 0
    return np.where(is_positive, numerator / np.where(is_positive, denominator, 1.0), empty)
