"""What kind of day each date is."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.calendar import (
    EVENTS_BEFORE_DAYS,
    HOLIDAY_REACH_DAYS,
    SERIES,
    build_calendar,
    event_window,
    opening_calendar,
)
from tests.unit.examples import few_examples

MONDAY = date(2024, 1, 1)
NONE_NEAR = HOLIDAY_REACH_DAYS + 1


def keys_of(*series: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(series, columns=SERIES)


def opening_of(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["tenant_id", "location_id", "weekday"])


def events_of(*rows: tuple) -> pd.DataFrame:
    columns = ["tenant_id", "location_id", "product_id", "business_date", "kind", "name"]
    return pd.DataFrame([(*row, "event")[:6] for row in rows], columns=columns)


def holidays_of(**dates: list[date]) -> pd.DataFrame:
    return events_of(*(("a", None, None, day, "holiday", name) for name, days in dates.items() for day in days))


PAIR = keys_of(("a", "shop", "bread"), ("a", "shop", "cake"))
FOUR = keys_of(("a", "shop", "bread"), ("a", "shop", "cake"), ("a", "kiosk", "bread"), ("b", "shop", "bread"))
BREAD = keys_of(("a", "shop", "bread"))


def calendar_of(first_day: date, days: int, events: pd.DataFrame, keys: pd.DataFrame = BREAD):
    return build_calendar(keys, first_day, days, opening_of(), events)


def comparable(day: date, events: pd.DataFrame) -> date:
    return day - timedelta(days=int(calendar_of(day, 1, events).last_year_days[0, 0]))


class TestOpeningCalendar:
    def test_a_location_without_opening_rows_is_open_every_day(self):
        keys = keys_of(("a", "shop", "bread"))
        assert opening_calendar(keys, MONDAY, 14, opening_of(("b", "shop", 0)), events_of()).all()

    def test_a_location_with_rows_is_open_on_the_weekdays_listed(self):
        keys = keys_of(("a", "shop", "bread"), ("a", "kiosk", "bread"), ("b", "shop", "bread"))
        opening = opening_of(("a", "shop", 2), ("a", "shop", 3))
        is_open = opening_calendar(keys, MONDAY + timedelta(1), 7, opening, events_of())
        assert is_open[0].tolist() == [False, True, True, False, False, False, False]
        assert is_open[1:].all()

    @pytest.mark.parametrize(
        ("location", "product", "closed"),
        [
            (None, None, [True, True, True, False]),
            ("shop", None, [True, True, False, False]),
            (None, "bread", [True, False, True, False]),
            ("shop", "bread", [True, False, False, False]),
        ],
    )
    def test_a_closure_closes_what_it_names(self, location, product, closed):
        keys = keys_of(("a", "shop", "bread"), ("a", "shop", "cake"), ("a", "kiosk", "bread"), ("b", "shop", "bread"))
        events = events_of(("a", location, product, MONDAY + timedelta(2), "closure"))
        is_open = opening_calendar(keys, MONDAY, 5, opening_of(), events)
        assert (~is_open[:, 2]).tolist() == closed
        assert is_open[:, [0, 1, 3, 4]].all()

    def test_other_events_and_closures_outside_the_days_close_nothing(self):
        events = events_of(
            ("a", None, None, MONDAY, "holiday"),
            ("a", None, None, MONDAY - timedelta(1), "closure"),
            ("a", None, None, MONDAY + timedelta(5), "closure"),
        )
        assert opening_calendar(PAIR, MONDAY, 5, opening_of(), events).all()


class TestMarks:
    def test_a_holiday_marks_its_location_and_closes_nothing(self):
        events = events_of(
            ("a", None, None, MONDAY + timedelta(2), "holiday", "Feast"),
            ("a", "kiosk", None, MONDAY + timedelta(3), "school_holiday", "Winter"),
        )
        calendar = calendar_of(MONDAY, 5, events, FOUR)
        assert calendar.is_open.all()
        kiosk, shop, other = calendar.place[2], calendar.place[0], calendar.place[3]
        assert calendar.place[0] == calendar.place[1]
        assert np.flatnonzero(calendar.is_holiday[kiosk]).tolist() == [2]
        assert np.flatnonzero(calendar.is_holiday[shop]).tolist() == [2]
        assert np.flatnonzero(calendar.is_school_holiday[kiosk]).tolist() == [3]
        assert not calendar.is_school_holiday[shop].any()
        assert not calendar.is_holiday[other].any()

    @pytest.mark.parametrize(
        ("location", "product", "promoted"),
        [
            (None, None, [True, True, True, False]),
            ("shop", None, [True, True, False, False]),
            (None, "bread", [True, False, True, False]),
            ("shop", "bread", [True, False, False, False]),
        ],
    )
    def test_a_promotion_holds_for_what_it_names(self, location, product, promoted):
        calendar = calendar_of(MONDAY, 5, events_of(("a", location, product, MONDAY + timedelta(2), "promotion")), FOUR)
        assert calendar.is_promotion[:, 2].tolist() == promoted
        assert not calendar.is_promotion[:, [0, 1, 3, 4]].any()
        assert calendar.is_open.all()

    def test_days_to_and_since_a_holiday_reach_a_week_and_beyond_the_edges(self):
        events = holidays_of(Feast=[MONDAY - timedelta(2), MONDAY + timedelta(12)])
        calendar = calendar_of(MONDAY, 10, events)
        assert calendar.days_since_holiday[0].tolist() == [2, 3, 4, 5, 6, 7, *[NONE_NEAR] * 4]
        assert calendar.days_to_holiday[0].tolist() == [*[NONE_NEAR] * 5, 7, 6, 5, 4, 3]
        on_it = calendar_of(MONDAY + timedelta(12), 1, events)
        assert (on_it.days_to_holiday[0, 0], on_it.days_since_holiday[0, 0]) == (0, 0)

    @pytest.mark.parametrize(
        ("holiday", "bridge"),
        [
            (date(2024, 5, 9), date(2024, 5, 10)),  # a Thursday: the Friday after it
            (date(2024, 12, 24), date(2024, 12, 23)),  # a Tuesday: the Monday before it
            (date(2024, 5, 1), None),  # a Wednesday has no bridge
            (date(2024, 5, 13), None),  # a Monday neither
        ],
    )
    def test_a_bridge_day_lies_between_a_holiday_and_a_weekend(self, holiday, bridge):
        first = holiday - timedelta(7)
        calendar = calendar_of(first, 15, holidays_of(Feast=[holiday]))
        expected = [] if bridge is None else [(bridge - first).days]
        assert np.flatnonzero(calendar.is_bridge[0]).tolist() == expected

    def test_a_holiday_is_no_bridge_day_and_a_holiday_beyond_the_edge_makes_one(self):
        thursday, friday = date(2024, 5, 9), date(2024, 5, 10)
        both = calendar_of(thursday, 2, holidays_of(Feast=[thursday], Other=[friday]))
        assert not both.is_bridge.any()
        assert calendar_of(friday, 1, holidays_of(Feast=[thursday])).is_bridge.all()
        assert calendar_of(date(2024, 12, 23), 1, holidays_of(Feast=[date(2024, 12, 24)])).is_bridge.all()


class TestLastYear:
    EASTER = (date(2023, 4, 9), date(2024, 3, 31), date(2025, 4, 20))

    def test_an_ordinary_day_is_compared_with_the_same_weekday(self):
        calendar = calendar_of(MONDAY, 30, events_of())
        assert (calendar.last_year_days == 364).all()

    @pytest.mark.parametrize("offset", range(-3, 4))
    def test_a_day_near_easter_is_compared_with_the_same_day_of_easter_a_year_before(self, offset):
        events = holidays_of(Easter=list(self.EASTER))
        for before, after in zip(self.EASTER, self.EASTER[1:], strict=False):
            assert comparable(after + timedelta(offset), events) == before + timedelta(offset)

    def test_a_day_four_days_from_easter_is_compared_with_the_same_weekday(self):
        events = holidays_of(Easter=list(self.EASTER))
        for offset in (-4, 4):
            day = self.EASTER[1] + timedelta(offset)
            assert comparable(day, events) == day - timedelta(364)

    def test_a_holiday_not_known_a_year_before_changes_nothing(self):
        events = holidays_of(Easter=[self.EASTER[1]], Other=[self.EASTER[0]])
        assert comparable(self.EASTER[1], events) == self.EASTER[1] - timedelta(364)

    def test_christmas_is_compared_with_christmas_across_a_leap_year(self):
        events = holidays_of(Christmas=[date(2023, 12, 25), date(2024, 12, 25)])
        assert comparable(date(2024, 12, 24), events) == date(2023, 12, 24)

    def test_the_nearest_holiday_counts_and_of_two_the_coming_one(self):
        events = holidays_of(
            Early=[date(2023, 6, 1), date(2024, 6, 5)],
            Late=[date(2023, 6, 20), date(2024, 6, 9)],
        )
        assert comparable(date(2024, 6, 6), events) == date(2023, 6, 2)
        assert comparable(date(2024, 6, 7), events) == date(2023, 6, 18)
        assert comparable(date(2024, 6, 8), events) == date(2023, 6, 19)

    def test_the_second_day_of_a_holiday_is_compared_with_the_second_day(self):
        first, second = date(2023, 4, 21), date(2024, 4, 10)
        events = holidays_of(Eid=[day + timedelta(n) for day in (first, second) for n in range(3)])
        for n in range(-3, 6):
            assert comparable(second + timedelta(n), events) == first + timedelta(n)

    def test_the_event_window_is_exactly_what_it_takes_to_know_last_years_holidays(self):
        day = date(2025, 4, 23)  # three days after Easter, which was 385 days after the one before
        first, last = event_window(day, day)
        assert first == day - timedelta(EVENTS_BEFORE_DAYS)
        assert last == day + timedelta(HOLIDAY_REACH_DAYS)
        assert first <= self.EASTER[1]

    def test_each_location_has_its_own_holidays(self):
        events = events_of(
            ("a", "kiosk", None, date(2023, 6, 1), "holiday", "Fair"),
            ("a", "kiosk", None, date(2024, 6, 10), "holiday", "Fair"),
            ("b", None, None, date(2024, 6, 10), "holiday", "Fair"),
        )
        calendar = calendar_of(date(2024, 6, 10), 1, events, FOUR)
        assert calendar.last_year_days[calendar.place, 0].tolist() == [364, 364, 375, 364]


class TestShape:
    EVENTS = events_of(
        ("a", None, None, MONDAY + timedelta(3), "holiday", "Feast"),
        ("a", "shop", "cake", MONDAY + timedelta(4), "promotion", "Two for one"),
        ("a", "kiosk", None, MONDAY + timedelta(5), "closure", "Works"),
    )

    def test_a_window_is_the_calendar_of_those_days(self):
        whole = calendar_of(MONDAY, 20, self.EVENTS, FOUR)
        part = whole.window(MONDAY + timedelta(2), 5)
        direct = calendar_of(MONDAY + timedelta(2), 5, self.EVENTS, FOUR)
        assert (part.days, part.column(MONDAY + timedelta(3))) == (5, 1)
        assert_same(part, direct)

    @pytest.mark.parametrize(("start", "days"), [(-1, 5), (16, 5)])
    def test_a_window_beyond_the_calendar_is_refused(self, start, days):
        with pytest.raises(ValueError, match="not within the calendar's 20 days"):
            calendar_of(MONDAY, 20, self.EVENTS, FOUR).window(MONDAY + timedelta(start), days)

    def test_selected_series_keep_their_days_and_places(self):
        whole = calendar_of(MONDAY, 20, self.EVENTS, FOUR)
        for rows in (np.array([3, 1]), np.array([False, True, False, True])):
            chosen = whole.select(rows)
            np.testing.assert_array_equal(chosen.is_promotion, whole.is_promotion[rows])
            np.testing.assert_array_equal(chosen.is_open, whole.is_open[rows])
            np.testing.assert_array_equal(chosen.is_holiday[chosen.place], whole.is_holiday[whole.place][rows])

    def test_no_series_is_a_calendar_without_rows(self):
        calendar = calendar_of(MONDAY, 7, self.EVENTS, FOUR.iloc[:0])
        assert calendar.is_open.shape == (0, 7)
        assert calendar.is_holiday.shape == (0, 7)

    @pytest.fixture(scope="class")
    @classmethod
    def straight(cls):
        return calendar_of(MONDAY, 20, cls.EVENTS, FOUR)

    @few_examples
    @given(order=st.permutations(range(4)), shuffled=st.permutations(range(3)))
    def test_the_order_of_series_and_events_does_not_matter(self, straight, order, shuffled):
        mixed = calendar_of(MONDAY, 20, self.EVENTS.iloc[list(shuffled)], FOUR.iloc[list(order)].reset_index(drop=True))
        assert_same(straight.select(np.array(order)), mixed)


def assert_same(one, other) -> None:
    assert one.first_day == other.first_day
    for name in ("is_open", "is_promotion"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in (
        *("is_holiday", "is_school_holiday", "is_bridge"),
        *("days_to_holiday", "days_since_holiday", "last_year_days"),
    ):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours[one.place], theirs[other.place], err_msg=name)
