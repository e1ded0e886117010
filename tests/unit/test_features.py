"""What a forecast may know: against plain arithmetic, and never anything after the origin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.features import FEATURES, GROUPS, LOOK_BACK_DAYS, MAX_HORIZON_DAYS, Past, build_features, names
from tests.unit.demand_samples import day, seasonal_demand, tenant

NAN = float("nan")


def features(demand: np.ndarray, origin: int, horizon: int, events=None, series: int = 0) -> dict[str, float]:
    history, calendar = tenant(np.asarray(demand, dtype=float), events)
    past = Past.of(history["demand_units"], calendar, origin)
    rows = build_features(past, np.array([series]), np.array([origin]), np.array([[horizon]]))
    return dict(zip(FEATURES, rows.values[0].tolist(), strict=True)) | {"level": float(rows.level_units[0])}


class TestOwnHistory:
    def test_a_steady_product_has_shares_of_one(self):
        found = features(np.full((1, 120), 10.0), 100, 3)
        assert found["level"] == pytest.approx(10)
        for name in (
            "mean_7_days",
            "mean_56_days",
            "lag_1_weeks",
            "lag_4_weeks",
            "weekday_mean_8_weeks",
            "usual_1_day",
        ):
            assert found[name] == pytest.approx(1), name
        assert found["zero_share"] == found["variation"] == 0
        assert found["open_days"] == 56

    def test_lags_are_the_same_weekday_of_the_weeks_before_the_origin(self):
        demand = np.arange(120, dtype=float)[None]
        for horizon in (1, 7, 8, 14):
            found = features(demand, 100, horizon)
            last = 100 + horizon - 7 * (-(-horizon // 7))
            for week in range(4):
                expected = (last - 7 * week) / found["level"]
                assert found[f"lag_{week + 1}_weeks"] == pytest.approx(expected, rel=1e-5)

    def test_a_closed_day_is_missing_and_never_zero(self):
        demand = np.full((1, 120), 10.0)
        demand[0, 94:101] = NAN
        found = features(demand, 100, 1)
        assert np.isnan(found["lag_1_weeks"])
        assert np.isnan(found["mean_7_days"])
        assert found["level"] == pytest.approx(10)
        assert found["weekday_mean_8_weeks"] == pytest.approx(1)
        assert found["open_days"] == 49

    def test_the_level_halves_the_weight_of_a_day_every_two_weeks(self):
        demand = np.zeros((1, 57))
        demand[0, -1] = 1
        weights = 0.5 ** (np.arange(56) / 14)
        assert features(demand, 56, 1)["level"] == pytest.approx(max(1 / weights.sum(), 0.05))

    def test_a_dormant_product_tells_how_long_it_has_not_sold(self):
        demand = np.zeros((1, 120))
        demand[0, 90] = 4
        found = features(demand, 100, 1)
        assert found["days_since_sale"] == 10
        assert found["zero_share"] == pytest.approx(27 / 28)


class TestLocation:
    def test_what_all_products_sold_yesterday_is_told_to_each(self):
        demand = np.full((2, 120), 10.0)
        demand[1, 100] = 40  # the other product has a great day: 50 in all, on a weekday that has seen 20 seven times
        found = features(demand, 100, 1)
        assert found["location_usual_1_day"] == pytest.approx(50 / ((7 * 20 + 50) / 8))
        assert found["usual_1_day"] == pytest.approx(1)


class TestLastYear:
    def test_the_same_move_a_year_ago_is_seen(self):
        demand = np.full((1, 480), 10.0)
        origin = 440
        demand[0, origin - 364 + 1 : origin - 364 + 20] = 30  # a year ago demand trebled after this day
        found = features(demand, origin, 5)
        assert found["last_year"] > 2
        assert found["location_last_year"] > 2

    def test_easter_is_compared_with_easter(self):
        demand = np.full((1, 480), 10.0)
        this, last = 455, 455 - 371  # the holiday fell a week later this year
        demand[0, last] = 50
        events = [(None, None, day(this), "holiday", "Easter"), (None, None, day(last), "holiday", "Easter")]
        found = features(demand, this - 3, 3, events)
        # Last year's Easter is itself among the four weeks that it is compared with.
        assert found["location_last_year_day"] == pytest.approx(50 / ((27 * 10 + 50) / 28))
        assert found["days_to_holiday"] == 0

    def test_without_a_year_of_history_it_is_unknown(self):
        found = features(np.full((1, 120), 10.0), 100, 1)
        assert np.isnan(found["last_year"])
        assert np.isnan(found["location_last_year_day"])


class TestCalendar:
    def test_the_target_day_is_described_not_the_origin(self):
        events = [
            (None, None, day(104), "holiday", "Feast"),
            ("shop", "p00", day(103), "promotion", "Two for one"),
            (None, None, day(103), "school_holiday", "Break"),
        ]
        found = features(np.full((2, 120), 10.0), 100, 3, events)
        assert found["days_to_holiday"] == 1
        assert found["is_promotion"] == found["is_school_holiday"] == 1
        assert found["weekday"] == day(103).weekday()
        assert found["day_of_month"] == day(103).day - 1
        assert features(np.full((2, 120), 10.0), 100, 3, events, series=1)["is_promotion"] == 0

    def test_days_beyond_the_trained_horizon_claim_no_more_than_it_but_know_their_own_calendar(self):
        events = [(None, None, day(112), "holiday", "Feast")]
        found = features(np.full((1, 120), 10.0), 100, 12, events)
        assert found["horizon_days"] == 8
        assert found["days_to_holiday"] == 0


def test_every_feature_is_in_exactly_one_group():
    assert sorted(FEATURES) == sorted(set(FEATURES))
    assert names(["lags", "horizon"]) == (*GROUPS["lags"], "horizon_days")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 470), st.floats(0, 500))
def test_nothing_after_the_origin_is_read(seed, origin, later):
    demand = seasonal_demand(3, 480, seed)
    history, calendar = tenant(demand)
    changed = demand.copy()
    changed[:, origin + 1 :] = later
    horizon = np.tile(np.arange(1, MAX_HORIZON_DAYS + 1), (3, 1))
    rows = [
        build_features(Past.of(matrix, calendar, origin), np.arange(3), np.full(3, origin), horizon)
        for matrix in (history["demand_units"], changed)
    ]
    np.testing.assert_array_equal(rows[0].values, rows[1].values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(LOOK_BACK_DAYS, 470))
def test_a_longer_history_changes_nothing(seed, origin):
    """A morning reads 420 days and training years: a model must meet the features that it was trained on."""
    demand = seasonal_demand(2, 480, seed)
    _, calendar = tenant(demand)
    horizon = np.array([[1, 5, 8], [2, 3, 7]])
    whole = build_features(Past.of(demand, calendar, origin), np.arange(2), np.full(2, origin), horizon)
    short = demand.copy()
    short[:, : origin - LOOK_BACK_DAYS + 1] = NAN
    cut = build_features(Past.of(short, calendar, origin), np.arange(2), np.full(2, origin), horizon)
    np.testing.assert_array_equal(whole.values, cut.values)


def test_rows_do_not_depend_on_what_is_computed_beside_them():
    demand = seasonal_demand(4, 200)
    _, calendar = tenant(demand)
    past = Past.of(demand, calendar, 60)
    series, origin = np.array([0, 1, 2, 3, 0]), np.array([60, 90, 120, 150, 180])
    horizon = np.array([[1, 2], [3, 4], [5, 6], [7, 8], [1, 8]])
    together = build_features(past, series, origin, horizon)
    for n in range(5):
        alone = build_features(past, series[[n]], origin[[n]], horizon[[n]])
        np.testing.assert_array_equal(together.values[2 * n : 2 * n + 2], alone.values)
        assert together.level_units[n] == alone.level_units[0]
