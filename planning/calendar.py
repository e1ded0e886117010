"""What kind of day each date is: open or closed, holiday, bridge day, school holiday, promotion, and its day a year before.

What belongs here: everything that opening hours and calendar events say of a day. What does not: what sales say of it
(`planning.demand` infers closed doors), and where public holidays come from (they arrive as events of kind `holiday`).
Marks of a location are kept per location, not per product, so that a batch of tenants stays small.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

PLACE = ["tenant_id", "location_id"]
SERIES = ["tenant_id", "location_id", "product_id"]

HOLIDAY_REACH_DAYS = 7
"""How far from a holiday a day still knows of it."""

ALIGNED_REACH_DAYS = 3
"""How far from a holiday a day is compared with the same distance from the holiday a year before, not with its weekday."""

SAME_WEEKDAY_DAYS = 364
"""Back to the same weekday a year before."""

MOVABLE_DAYS = 30
"""How far from a year a holiday of the same name may lie to be last year's. Easter moves by at most 20 days from 365."""

EVENTS_BEFORE_DAYS = 365 + MOVABLE_DAYS + ALIGNED_REACH_DAYS
"""How far before a calendar's first day its events must reach, so that last year's holidays are known."""


@dataclass(frozen=True)
class Calendar:
    """What kind of day each date is, for n series at fewer places.

    first_day: the date of column 0.
    place: (n,) position of each series' location among the calendar's places.
    is_open: (n, days) bool, by opening hours and closures; not what was inferred from sales.
    is_promotion: (n, days) bool.
    Per place, (places, days): is_holiday, is_school_holiday and is_bridge, bool; days_to_holiday and days_since_holiday,
    int8: 0 on the holiday, HOLIDAY_REACH_DAYS + 1 where none is that near; last_year_days, int16: how many days back the
    comparable day of the year before lies.
    """

    first_day: date
    place: np.ndarray
    is_open: np.ndarray
    is_promotion: np.ndarray
    is_holiday: np.ndarray
    is_school_holiday: np.ndarray
    is_bridge: np.ndarray
    days_to_holiday: np.ndarray
    days_since_holiday: np.ndarray
    last_year_days: np.ndarray

    @property
    def days(self) -> int:
        """Columns of the matrices."""
        return self.is_open.shape[1]

    def column(self, day: date) -> int:
        """The column of a date. May lie outside the calendar."""
        return (day - self.first_day).days

    def select(self, rows: np.ndarray) -> "Calendar":
        """The series of a boolean mask or of positions, in that order. The places stay."""
        return self._with(
            place=self.place[rows],
            is_open=self.is_open[rows],
            is_promotion=self.is_promotion[rows],
            columns=slice(None),
        )

    def window(self, first_day: date, days: int) -> "Calendar":
        """The columns of `days` days from first_day. Raises ValueError when the calendar does not hold all of them."""
        start = self.column(first_day)
        if start < 0 or start + days > self.days:
            raise ValueError(
                f"{first_day} and {days} days are not within the calendar's {self.days} days from {self.first_day}"
            )
        return self._with(
            place=self.place,
            is_open=self.is_open,
            is_promotion=self.is_promotion,
            columns=slice(start, start + days),
            first_day=first_day,
        )

    def _with(
        self,
        *,
        place: np.ndarray,
        is_open: np.ndarray,
        is_promotion: np.ndarray,
        columns: slice,
        first_day: date | None = None,
    ) -> "Calendar":
        return Calendar(
            self.first_day if first_day is None else first_day,
            place,
            is_open[:, columns],
            is_promotion[:, columns],
            self.is_holiday[:, columns],
            self.is_school_holiday[:, columns],
            self.is_bridge[:, columns],
            self.days_to_holiday[:, columns],
            self.days_since_holiday[:, columns],
            self.last_year_days[:, columns],
        )


def build_calendar(
    keys: pd.DataFrame, first_day: date, days: int, opening: pd.DataFrame, events: pd.DataFrame
) -> Calendar:
    """The calendar of each series for `days` days from first_day.

    keys: tenant_id, location_id, product_id. opening: as `opening_calendar` takes it. events: tenant_id, location_id and
    product_id (missing: all), business_date, kind (`holiday`, `school_holiday`, `promotion`, `closure`), name; from
    EVENTS_BEFORE_DAYS before first_day to HOLIDAY_REACH_DAYS after the last day, else days near the edges know of no
    holiday and last year's days are those of the same weekday. A promotion holds for the location and product that it
    names, all of them where it names none; a holiday or school holiday for the location, whatever product it names.

    A bridge day is a Monday before a Tuesday holiday or a Friday after a Thursday one, itself no holiday. The comparable
    day of the year before is the same weekday, 364 days back; within ALIGNED_REACH_DAYS of a holiday it lies as far from
    the holiday of the same name a year before, when that one is known. The nearest such holiday counts, the coming one
    of two equally near.
    """
    places, of_place = places_of(keys)
    # A margin on both sides, so that a day at the edge sees the holidays beyond it.
    margin = HOLIDAY_REACH_DAYS
    holidays = _days_of_places(events, "holiday", places, first_day)
    near = _marked(holidays, len(places), -margin, days + margin)
    inner = slice(margin, margin + days)
    weekday = (first_day.weekday() + np.arange(-margin, days + margin)) % 7
    is_bridge = np.zeros_like(near)
    is_bridge[:, :-1] |= (weekday[:-1] == 0) & near[:, 1:]
    is_bridge[:, 1:] |= (weekday[1:] == 4) & near[:, :-1]
    return Calendar(
        first_day=first_day,
        place=of_place,
        is_open=opening_calendar(keys, first_day, days, opening, events),
        is_promotion=_days_of_series(keys, first_day, days, events, "promotion"),
        is_holiday=np.ascontiguousarray(near[:, inner]),
        is_school_holiday=_marked(_days_of_places(events, "school_holiday", places, first_day), len(places), 0, days),
        is_bridge=np.ascontiguousarray((is_bridge & ~near)[:, inner]),
        days_to_holiday=np.ascontiguousarray(_days_since(near[:, ::-1])[:, ::-1][:, inner]),
        days_since_holiday=np.ascontiguousarray(_days_since(near)[:, inner]),
        last_year_days=_last_year_days(holidays, len(places), days),
    )


def opening_calendar(
    keys: pd.DataFrame, first_day: date, days: int, opening: pd.DataFrame, events: pd.DataFrame
) -> np.ndarray:
    """Whether each series is on sale on each day, shape (n, days).

    keys: tenant_id, location_id, product_id. opening: tenant_id, location_id, weekday (0 is Monday); a location without
    rows is open every day. events: tenant_id, location_id, product_id, business_date, kind; a `closure` closes the
    location and product that it names, all of them where it names none. A holiday closes nothing.
    """
    weekdays = (first_day.weekday() + np.arange(days)) % 7
    is_open = np.ascontiguousarray(_open_weekdays(keys, opening)[:, weekdays])
    is_open &= ~_days_of_series(keys, first_day, days, events, "closure")
    return is_open


def places_of(keys: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct locations, sorted, and the position of each series' location among them."""
    of_place = keys.groupby(PLACE, sort=True).ngroup().to_numpy(dtype=np.intp)
    return keys[PLACE].drop_duplicates().sort_values(PLACE, ignore_index=True), of_place


def _open_weekdays(keys: pd.DataFrame, opening: pd.DataFrame) -> np.ndarray:
    """Whether each series' location opens on a weekday, shape (n, 7)."""
    both = pd.concat([keys[PLACE].astype(object), opening[PLACE].astype(object)], ignore_index=True)
    place = both.groupby(PLACE, sort=False).ngroup().to_numpy(dtype=np.intp)
    opens = np.zeros((place.max(initial=-1) + 1, 7), dtype=bool)
    opens[place[len(keys) :], opening["weekday"].to_numpy(dtype=np.intp)] = True
    opens[~opens.any(axis=1)] = True
    return opens[place[: len(keys)]]


def _columns(events: pd.DataFrame, first_day: date) -> np.ndarray:
    """Days from first_day to each event."""
    dates = events["business_date"].to_numpy().astype("datetime64[D]")
    return (dates - np.datetime64(first_day, "D")).astype(np.int64)


def _days_of_series(keys: pd.DataFrame, first_day: date, days: int, events: pd.DataFrame, kind: str) -> np.ndarray:
    """The days on which an event of the kind names the series or all of them, shape (n, days)."""
    is_marked = np.zeros((len(keys), days), dtype=bool)
    chosen = events[events["kind"] == kind]
    chosen = chosen[SERIES].fillna({"location_id": "", "product_id": ""}).assign(column=_columns(chosen, first_day))
    chosen = chosen[(chosen["column"] >= 0) & (chosen["column"] < days)]
    rows = keys[SERIES].reset_index(drop=True).rename_axis("row").reset_index()
    for names_location in (False, True):
        for names_product in (False, True):
            named = chosen[
                ((chosen["location_id"] != "") == names_location) & ((chosen["product_id"] != "") == names_product)
            ]
            if named.empty:
                continue
            matched_on = ["tenant_id"] + ["location_id"] * names_location + ["product_id"] * names_product
            hits = rows[["row", *matched_on]].merge(named[[*matched_on, "column"]], on=matched_on)
            is_marked[hits["row"].to_numpy(dtype=np.intp), hits["column"].to_numpy(dtype=np.intp)] = True
    return is_marked


def _days_of_places(events: pd.DataFrame, kind: str, places: pd.DataFrame, first_day: date) -> pd.DataFrame:
    """The events of a kind as place (position), name and column, once each, sorted; before and after the calendar too."""
    chosen = events[events["kind"] == kind]
    chosen = chosen[["tenant_id", "location_id", "name"]].assign(column=_columns(chosen, first_day))
    rows = places.rename_axis("place").reset_index()
    everywhere = chosen["location_id"].isna() | (chosen["location_id"] == "")
    parts = [
        rows[["place", "tenant_id"]].merge(chosen.loc[everywhere, ["tenant_id", "name", "column"]], on="tenant_id"),
        rows.merge(chosen[~everywhere], on=PLACE),
    ]
    found = pd.concat([part[["place", "name", "column"]].astype({"name": object}) for part in parts])
    return found.drop_duplicates().sort_values(["place", "name", "column"], ignore_index=True)


def _marked(found: pd.DataFrame, n_places: int, start: int, stop: int) -> np.ndarray:
    """Whether a place has an event on each of the columns start to stop: (places, stop - start)."""
    is_marked = np.zeros((n_places, stop - start), dtype=bool)
    inside = found[(found["column"] >= start) & (found["column"] < stop)]
    is_marked[inside["place"].to_numpy(dtype=np.intp), inside["column"].to_numpy(dtype=np.intp) - start] = True
    return is_marked


def _days_since(is_holiday: np.ndarray) -> np.ndarray:
    """Days since the last holiday, HOLIDAY_REACH_DAYS + 1 where it is further away: int8, same shape."""
    columns = np.arange(is_holiday.shape[1], dtype=np.int32)
    last = np.maximum.accumulate(np.where(is_holiday, columns, -HOLIDAY_REACH_DAYS - 1), axis=1)
    return np.minimum(columns - last, HOLIDAY_REACH_DAYS + 1).astype(np.int8)


def _last_year_days(holidays: pd.DataFrame, n_places: int, days: int) -> np.ndarray:
    """How many days back the comparable day of the year before lies: (places, days) int16."""
    back = np.full((n_places, days), SAME_WEEKDAY_DAYS, dtype=np.int16)
    if holidays.empty:
        return back
    place, column = holidays["place"].to_numpy(dtype=np.int64), holidays["column"].to_numpy(dtype=np.int64)
    group = holidays.groupby(["place", "name"], sort=True).ngroup().to_numpy(dtype=np.int64)
    # Days in a row of one name are one holiday, known by its first day: its second day is compared with the second day.
    starts_run = np.append(True, (np.diff(group) != 0) | (np.diff(column) != 1))
    start = column[np.maximum.accumulate(np.where(starts_run, np.arange(len(column)), 0))]
    span = int(column.max() - column.min()) + 4 * 365
    ordinal = group * span + start  # ascending, and starts of different names are more than a year apart
    wanted = ordinal - 365
    after = np.searchsorted(ordinal, wanted)
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, len(ordinal) - 1)
    nearest = np.where(np.abs(ordinal[after] - wanted) <= np.abs(ordinal[before] - wanted), after, before)
    distance = ordinal - ordinal[nearest]
    is_known = np.abs(distance - 365) <= MOVABLE_DAYS
    place, column, distance = place[is_known], column[is_known], distance[is_known]
    for reach in range(ALIGNED_REACH_DAYS, -1, -1):
        for offset in (reach, -reach):  # the later write wins: the nearer holiday, and of two the coming one
            at = column + offset
            inside = (at >= 0) & (at < days)
            back[place[inside], at[inside]] = distance[inside]
    return back


def event_window(first_day: date, last_day: date) -> tuple[date, date]:
    """The first and last day of the events that a calendar from first_day through last_day needs."""
    return first_day - timedelta(days=EVENTS_BEFORE_DAYS), last_day + timedelta(days=HOLIDAY_REACH_DAYS)
