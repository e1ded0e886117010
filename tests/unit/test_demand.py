"""Which days of the past count as demand."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.calendar import SERIES
from planning.censoring import NOT_SOLD_OUT
from planning.demand import DemandHistory, build_demand_history
from planning.frames import Panel, PlanningError
from tests.unit.examples import few_examples

MONDAY = date(2024, 1, 1)
NOON = 12 * 60


def keys_of(*series: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(series, columns=SERIES)


def opening_of(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["tenant_id", "location_id", "weekday"])


def events_of(*rows: tuple[str, str | None, str | None, date, str]) -> pd.DataFrame:
    columns = ["tenant_id", "location_id", "product_id", "business_date", "kind"]
    return pd.DataFrame(rows, columns=columns).assign(name="event")


def tenants_of(run_date: date, *tenant_ids: str) -> pd.DataFrame:
    return pd.DataFrame({"tenant_id": list(tenant_ids), "run_date": [run_date] * len(tenant_ids)})


def sales_of(keys: pd.DataFrame, units: list[list[float]], sold_out: np.ndarray | None = None) -> Panel:
    matrix = np.array(units, dtype=float)
    minute = np.full(matrix.shape, NOT_SOLD_OUT, dtype=np.int16)
    if sold_out is not None:
        minute[sold_out] = NOON
    return Panel(keys, {"sales_units": matrix, "sold_out_minute": minute}, MONDAY)


def profiles_of(*rows: tuple[str, str, str, int, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*SERIES, "weekday", "hour", "share"])


def history_of(
    keys: pd.DataFrame,
    units,
    run_date: date,
    opening=None,
    *,
    events=None,
    sold_out=None,
    profiles=None,
    calendar_until=None,
) -> DemandHistory:
    return build_demand_history(
        sales_of(keys, units, sold_out),
        tenants_of(run_date, *keys["tenant_id"].unique()),
        opening_of() if opening is None else opening,
        events_of() if events is None else events,
        profiles_of() if profiles is None else profiles,
        calendar_until,
    )


NAN = float("nan")
PAIR = keys_of(("a", "shop", "bread"), ("a", "shop", "cake"))


class TestDemand:
    def test_an_open_day_without_a_record_sold_nothing(self):
        history = history_of(PAIR, [[3, NAN, 2], [1, 4, 1]], MONDAY + timedelta(3))
        assert history.panel["demand_units"].tolist() == [[3, 0, 2], [1, 4, 1]]

    def test_demand_begins_with_the_first_sale(self):
        history = history_of(PAIR, [[NAN, 0, 2, 0], [1, 4, 1, 1]], MONDAY + timedelta(4))
        np.testing.assert_array_equal(history.panel["demand_units"][0], [NAN, NAN, 2, 0])

    def test_a_series_that_never_sold_has_no_demand_at_all(self):
        history = history_of(PAIR, [[NAN, 0, 0], [1, 4, 1]], MONDAY + timedelta(3))
        assert np.isnan(history.panel["demand_units"][0]).all()

    def test_closed_days_are_missing_and_not_zero(self):
        opening = opening_of(*(("a", "shop", weekday) for weekday in (0, 2, 3, 4)))
        events = events_of(("a", None, "cake", MONDAY + timedelta(2), "closure"))
        history = history_of(PAIR, [[3, 0, 2, 1], [1, 0, 0, 1]], MONDAY + timedelta(4), opening, events=events)
        np.testing.assert_array_equal(history.panel["demand_units"], [[3, NAN, 2, 1], [1, NAN, NAN, 1]])
        assert history.panel["is_open"].tolist() == [[True, False, True, True], [True, False, False, True]]
        assert not history.panel["is_inferred_closed"].any()

    def test_a_day_on_which_the_whole_location_sells_nothing_is_inferred_closed(self):
        keys = keys_of(("a", "shop", "bread"), ("a", "shop", "cake"), ("a", "kiosk", "bread"))
        units = [[3, 0, 2, 2, 2, 2], [1, NAN, 1, 1, 1, 1], [2, 2, 2, 2, 2, 2]]
        history = history_of(keys, units, MONDAY + timedelta(6))
        expected = [[3, NAN, 2, 2, 2, 2], [1, NAN, 1, 1, 1, 1], [2] * 6]
        np.testing.assert_array_equal(history.panel["demand_units"], expected)
        assert np.argwhere(history.panel["is_inferred_closed"]).tolist() == [[0, 1], [1, 1]]
        assert not (history.panel["is_open"] & history.panel["is_inferred_closed"]).any()

    def test_a_few_products_that_sell_now_and_then_may_all_sell_nothing(self):
        rng = np.random.default_rng(5)
        units = rng.binomial(1, 0.4, (3, 120)).astype(float)
        units[:, -1] = 1
        keys = keys_of(*(("a", "shop", f"p{row}") for row in range(3)))
        panel = history_of(keys, units, MONDAY + timedelta(120)).panel
        assert (units.sum(axis=0) == 0).sum() > 10
        assert not panel["is_inferred_closed"].any()
        assert np.nanmean(panel["demand_units"]) == pytest.approx(0.4, abs=0.05)

    def test_many_such_products_that_all_sell_nothing_show_a_closed_door(self):
        rng = np.random.default_rng(5)
        units = rng.binomial(1, 0.5, (12, 120)).astype(float)
        units[:, [30, 31, 80]] = 0
        keys = keys_of(*(("a", "shop", f"p{row:02d}") for row in range(12)))
        panel = history_of(keys, units, MONDAY + timedelta(120)).panel
        assert np.flatnonzero(panel["is_inferred_closed"].all(axis=0)).tolist() == [30, 31, 80]

    def test_a_product_that_hardly_sells_does_not_make_the_zeros_of_another_a_closure(self):
        steady = [40, 40, 0, 40] * 10
        rare = [0, 3, 0, 0] + [0] * 35 + [1]
        panel = history_of(PAIR, [steady, rare], MONDAY + timedelta(40)).panel
        np.testing.assert_array_equal(panel["demand_units"][0], steady)

    def test_one_product_alone_does_not_infer_a_closure(self):
        keys = keys_of(("a", "shop", "bread"), ("a", "shop", "never-sold"), ("a", "kiosk", "bread"))
        history = history_of(keys, [[3, 0, 2], [NAN, NAN, NAN], [2, 2, 2]], MONDAY + timedelta(3))
        assert history.panel["demand_units"][0].tolist() == [3, 0, 2]

    def test_a_product_marked_sold_out_shows_an_open_door(self):
        sold_out = np.array([[False, True, False], [False, False, False]])
        history = history_of(PAIR, [[3, 0, 2], [1, 0, 1]], MONDAY + timedelta(3), sold_out=sold_out)
        assert history.panel["demand_units"].tolist() == [[3, 0, 2], [1, 0, 1]]
        assert history.panel["is_sold_out"].tolist() == sold_out.tolist()

    def test_each_tenant_is_cut_at_its_own_run_date(self):
        keys = keys_of(("a", "shop", "bread"), ("b", "shop", "bread"))
        tenants = pd.DataFrame({"tenant_id": ["b", "a"], "run_date": [MONDAY + timedelta(1), MONDAY + timedelta(2)]})
        history = build_demand_history(
            sales_of(keys, [[1, 2, 3]] * 2), tenants, opening_of(), events_of(), profiles_of()
        )
        np.testing.assert_array_equal(history.panel["demand_units"], [[1, 2, NAN], [1, NAN, NAN]])

    def test_a_batch_without_series_has_an_empty_history(self):
        history = history_of(PAIR.iloc[:0], np.zeros((0, 5)), MONDAY)
        assert len(history.panel) == 0
        assert history.exceptions.empty
        assert history.set_aside.empty


class TestSoldOutDays:
    UNITS = ([*range(20, 34), 26.0, 22.0],)
    SOLD_OUT = np.array([[False] * 14 + [True, False]])
    KEYS = keys_of(("a", "shop", "bread"))

    def test_demand_is_estimated_and_sales_stay_beside_it(self):
        panel = history_of(self.KEYS, self.UNITS, MONDAY + timedelta(16), sold_out=self.SOLD_OUT).panel
        assert panel["demand_units"][0, 14] > 26
        np.testing.assert_array_equal(panel["sales_units"], np.array(self.UNITS))
        assert panel["is_estimated"].tolist() == self.SOLD_OUT.tolist()
        kept = ~self.SOLD_OUT
        np.testing.assert_array_equal(panel["demand_units"][kept], panel["sales_units"][kept])

    def test_an_hourly_profile_is_used_where_there_is_one(self):
        profiles = profiles_of(("a", "shop", "bread", 0, 11, 0.65), ("a", "shop", "bread", 0, 15, 0.35))
        history = history_of(self.KEYS, self.UNITS, MONDAY + timedelta(16), sold_out=self.SOLD_OUT, profiles=profiles)
        assert history.panel["demand_units"][0, 14] == pytest.approx(26 / 0.65)

    def test_a_closed_day_is_not_estimated(self):
        events = events_of(("a", None, None, MONDAY + timedelta(14), "closure"))
        panel = history_of(self.KEYS, self.UNITS, MONDAY + timedelta(16), events=events, sold_out=self.SOLD_OUT).panel
        assert np.isnan(panel["demand_units"][0, 14])
        assert np.isnan(panel["sales_units"][0, 14])
        assert not panel["is_estimated"].any()

    def test_the_calendar_reaches_as_far_as_asked_and_holds_the_tenants_kept(self):
        keys = keys_of(("a", "shop", "bread"), ("b", "shop", "bread"))
        until = MONDAY + timedelta(9)
        events = events_of(("b", None, None, until, "holiday"))
        history = history_of(keys, [[1, -2, 3], [1, 2, 3]], MONDAY + timedelta(3), events=events, calendar_until=until)
        assert history.panel.keys["tenant_id"].tolist() == ["b"]
        assert (history.calendar.first_day, history.calendar.days) == (MONDAY, 10)
        assert history.calendar.is_open.shape == (1, 10)
        assert np.flatnonzero(history.calendar.is_holiday[0]).tolist() == [9]


class TestSilenceBeforeTheRunDate:
    @pytest.mark.parametrize("empty", [NAN, 0.0])
    def test_days_after_the_last_sale_of_a_one_product_location_are_unknown_and_not_zero(self, empty):
        units = [[40.0] * 28 + [empty] * 10]
        history = history_of(keys_of(("a", "kiosk", "bread")), units, MONDAY + timedelta(38))
        assert history.panel["demand_units"][0, :28].tolist() == [40] * 28
        assert np.isnan(history.panel["demand_units"][0, 28:]).all()
        assert history.panel["is_unknown"][0].tolist() == [False] * 28 + [True] * 10
        assert not history.panel["is_inferred_closed"].any()
        assert not history.panel["is_open"][0, 28:].any()
        assert history.exceptions["code"].tolist() == ["sales_missing"]
        assert "since 2024-01-28: 10 open days" in history.exceptions["message"].iloc[0]

    def test_a_product_that_sold_yesterday_keeps_the_zeros_before(self):
        history = history_of(keys_of(("a", "kiosk", "bread")), [[3, 0, NAN, 0, 2]], MONDAY + timedelta(5))
        assert history.panel["demand_units"].tolist() == [[3, 0, 0, 0, 2]]
        assert not history.panel["is_unknown"].any()
        assert history.exceptions.empty

    def test_a_product_that_stops_selling_while_another_sells_has_real_zeros(self):
        history = history_of(PAIR, [[3, 2, 0, 0, 0], [1, 1, 1, 1, 1]], MONDAY + timedelta(5))
        assert history.panel["demand_units"][0].tolist() == [3, 2, 0, 0, 0]
        assert history.exceptions.empty

    def test_closed_days_after_the_last_sale_are_not_silent(self):
        opening = opening_of(*(("a", "kiosk", weekday) for weekday in (0, 1, 4)))
        history = history_of(keys_of(("a", "kiosk", "bread")), [[3, 2, NAN, NAN, NAN]], MONDAY + timedelta(5), opening)
        assert history.panel["is_unknown"].tolist() == [[False] * 4 + [True]]
        assert history.exceptions.empty

    def test_a_location_that_never_sold_is_not_silent(self):
        history = history_of(keys_of(("a", "kiosk", "bread")), [[NAN] * 10], MONDAY + timedelta(10))
        assert not history.panel["is_unknown"].any()
        assert history.exceptions.empty


class TestTrouble:
    @pytest.mark.parametrize(("value", "shown"), [(-3.0, "-3"), (float("inf"), "inf")])
    def test_a_tenant_with_an_impossible_quantity_is_set_aside_and_the_others_go_on(self, value, shown):
        keys = keys_of(("a", "shop", "bread"), ("b", "shop", "bread"), ("a", "shop", "cake"))
        history = history_of(keys, [[1, value, 2], [1, 2, 3], [1, 1, 1]], MONDAY + timedelta(3))
        assert history.set_aside["tenant_id"].tolist() == ["a"]
        assert f"bread at location shop on 2024-01-02: {shown} units" in history.set_aside["reason"].iloc[0]
        assert history.set_aside["remedy"].iloc[0]
        assert history.panel.keys.to_numpy().tolist() == [["b", "shop", "bread"]]
        assert history.panel["demand_units"].tolist() == [[1, 2, 3]]

    def test_an_impossible_quantity_after_the_cut_is_not_read(self):
        history = history_of(PAIR, [[1, 2, -1], [1, 1, 1]], MONDAY + timedelta(2))
        assert history.set_aside.empty

    def test_a_tenant_without_settings_is_refused_by_name(self):
        with pytest.raises(PlanningError, match="stranger"):
            build_demand_history(
                sales_of(keys_of(("stranger", "shop", "bread")), [[1, 2]]),
                tenants_of(MONDAY, "a"),
                opening_of(),
                events_of(),
                profiles_of(),
            )

    def test_sales_on_a_closed_day_are_reported(self):
        opening = opening_of(("a", "shop", 0), ("a", "shop", 1))
        history = history_of(PAIR, [[1, 2, 5], [1, 1, 0]], MONDAY + timedelta(3), opening)
        assert history.exceptions["code"].tolist() == ["sales_on_closed_day"]
        assert "2024-01-03" in history.exceptions["message"].iloc[0]
        assert np.isnan(history.panel["demand_units"][:, 2]).all()

    def test_sales_on_a_day_closed_long_ago_are_not_reported(self):
        opening = opening_of(*(("a", "shop", weekday) for weekday in (0, 1, 3, 4, 5, 6)))
        history = history_of(PAIR, [[1, 2, 5, *[1] * 40], [1] * 43], MONDAY + timedelta(32), opening)
        later = history_of(PAIR, [[1, 2, 5, *[1, 1, 1, 1, 1, 1, 0] * 5]] * 2, MONDAY + timedelta(31), opening)
        assert history.exceptions["code"].tolist() == ["sales_on_closed_day"]
        assert later.exceptions.empty

    def test_silence_up_to_the_run_date_is_reported_as_missing_sales(self):
        history = history_of(PAIR, [[1, 2, 0, 0, NAN], [1, 1, 0, 0, NAN]], MONDAY + timedelta(5))
        assert history.exceptions["code"].tolist() == ["sales_missing"]
        assert "since 2024-01-02: 3 open days" in history.exceptions["message"].iloc[0]
        shorter = history_of(PAIR, [[1, 2, 0, 0, NAN], [1, 1, 0, 0, NAN]], MONDAY + timedelta(4))
        assert shorter.exceptions.empty


UNITS = st.sampled_from([NAN, 0.0, 0.0, 1.0, 2.0, 7.0])
MATRIX = st.lists(st.lists(UNITS, min_size=12, max_size=12), min_size=4, max_size=4)
FOUR = keys_of(("a", "shop", "bread"), ("a", "shop", "cake"), ("b", "shop", "bread"), ("b", "shop", "cake"))


class TestInvariants:
    @few_examples
    @given(MATRIX, st.lists(UNITS, min_size=4, max_size=4), st.integers(1, 11))
    def test_nothing_recorded_from_the_run_date_on_changes_anything(self, units, other, cut):
        before = history_of(FOUR, units, MONDAY + timedelta(cut))
        changed = [[*row[:cut], *[value] * (12 - cut)] for row, value in zip(units, other, strict=True)]
        after = history_of(FOUR, changed, MONDAY + timedelta(cut))
        for name, matrix in before.panel.values.items():
            np.testing.assert_array_equal(matrix, after.panel[name], err_msg=name)
        assert np.isnan(after.panel["demand_units"][:, cut:]).all()

    @few_examples
    @given(MATRIX, st.permutations(range(4)))
    def test_row_order_does_not_matter(self, units, order):
        straight = history_of(FOUR, units, MONDAY + timedelta(10))
        mixed = history_of(
            FOUR.iloc[order].reset_index(drop=True), [units[row] for row in order], MONDAY + timedelta(10)
        )
        for name, matrix in straight.panel.values.items():
            np.testing.assert_array_equal(matrix[order], mixed.panel[name], err_msg=name)
        pd.testing.assert_frame_equal(straight.exceptions, mixed.exceptions)

    @few_examples
    @given(MATRIX)
    def test_known_demand_is_what_was_sold_where_nothing_sold_out(self, units):
        panel = history_of(FOUR, units, MONDAY + timedelta(12)).panel
        known = ~np.isnan(panel["demand_units"])
        np.testing.assert_array_equal(panel["demand_units"][known], np.nan_to_num(np.array(units))[known])
        assert panel["is_open"][known].all()
