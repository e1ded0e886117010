"""What would have sold on a day on which a product sold out."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planning.calendar import SERIES
from planning.censoring import MIN_FREE_DAYS, MIN_SHARE_SOLD, NOT_SOLD_OUT, RECENT_DAYS, estimate_demand, mean_above

NAN = float("nan")


def keys_of(n: int) -> pd.DataFrame:
    return pd.DataFrame([("a", "shop", f"p{row}") for row in range(n)], columns=SERIES)


def profiles_of(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*SERIES, "weekday", "hour", "share"])


def estimated(units, minute, profiles=None, keys=None):
    units = np.array(units, dtype=float)
    minute = np.array(minute, dtype=np.int16)
    weekday = np.arange(units.shape[1]) % 7
    return estimate_demand(
        keys_of(len(units)) if keys is None else keys,
        weekday,
        units,
        minute,
        profiles_of() if profiles is None else profiles,
    )


MORNING = profiles_of(
    *(("a", "shop", "p0", 0, hour, share) for hour, share in ((7, 0.1), (8, 0.3), (9, 0.4), (10, 0.2))),
)


class TestByTheTime:
    @pytest.mark.parametrize(
        ("minute", "share"),
        [
            (9 * 60, 0.4),  # the hours 7 and 8 have passed
            (9 * 60 + 30, 0.6),  # and half of the hour 9
            (8 * 60 + 40, 0.3),
            (11 * 60, 1.0),  # after the last hour nothing was lost
            (23 * 60 + 59, 1.0),
        ],
    )
    def test_demand_is_sales_by_the_share_of_the_day_that_had_passed(self, minute, share):
        demand, is_estimated = estimated([[30]], [[minute]], MORNING)
        assert demand[0, 0] == pytest.approx(30 / share)
        assert is_estimated.all()

    @pytest.mark.parametrize("minute", [7 * 60, 7 * 60 + 30, 0])
    def test_a_sell_out_soon_after_opening_multiplies_sales_by_five_at_most(self, minute):
        demand, _ = estimated([[30]], [[minute]], MORNING)
        assert demand[0, 0] == pytest.approx(30 / MIN_SHARE_SOLD)

    def test_shares_count_relative_to_the_sum_of_their_day(self):
        demand, _ = estimated([[30]], [[9 * 60]], MORNING.assign(share=MORNING["share"] * 0.995))
        assert demand[0, 0] == pytest.approx(30 / 0.4)

    def test_a_profile_is_that_of_its_product_and_weekday(self):
        units, minute = np.full((2, 8), 30.0), np.full((2, 8), 9 * 60)
        demand, is_estimated = estimated(units, minute, MORNING)
        assert is_estimated[0].tolist() == [True, *[False] * 6, True]
        assert not is_estimated[1].any()
        np.testing.assert_array_equal(demand[~is_estimated], 30)

    def test_days_without_a_sell_out_stay_as_they_are(self):
        demand, is_estimated = estimated([[30, 31, NAN]], [[NOT_SOLD_OUT, NOT_SOLD_OUT, 600]], MORNING)
        np.testing.assert_array_equal(demand, [[30, 31, NAN]])
        assert not is_estimated.any()


class TestMeanAbove:
    @pytest.mark.parametrize(
        ("mean", "dispersion", "least"),
        [(5, 1.5, 4), (2, 1.02, 2), (40, 4, 50), (1, 3, 1), (20, 2, 31), (100, 5, 60), (0.4, 1.2, 1)],
    )
    def test_it_is_the_conditional_mean_of_a_negative_binomial(self, mean, dispersion, least):
        units = np.arange(5_000)
        mass = stats.nbinom.pmf(units, mean / (dispersion - 1), 1 / dispersion)
        above = units >= least
        expected = (units * mass)[above].sum() / mass[above].sum()
        assert mean_above(*map(np.array, (float(least), float(mean), dispersion))) == pytest.approx(expected)

    def test_nothing_sold_says_nothing(self):
        assert mean_above(np.array(0.0), np.array(7.0), np.array(2.0)) == 7

    def test_sales_that_the_distribution_does_not_explain_are_all_that_is_known(self):
        assert mean_above(np.array(900.0), np.array(7.0), np.array(1.5)) == 900

    @settings(max_examples=100, deadline=None)
    @given(st.floats(0, 500), st.floats(0.01, 400), st.floats(1.02, 50))
    def test_it_lies_above_the_mean_and_the_sales(self, least, mean, dispersion):
        found = mean_above(np.array(least), np.array(mean), np.array(dispersion))
        assert np.isfinite(found)
        assert found >= max(least, mean if least < mean else 0) * (1 - 1e-9)


def simulated(
    mean: float, size: float, shelf: float, n: int = 60, days: int = 420, by_weekday=(1.0,) * 7, seed: int = 3
):
    """Negative binomial demand (n, days) of weekday means, the sales of a shelf of so many times the mean, and sell-outs."""
    rng = np.random.default_rng(seed)
    expected = mean * np.array(by_weekday)[np.arange(days) % 7]
    demand = rng.poisson(expected * rng.gamma(size, 1 / size, (n, days))).astype(float)
    baked = np.maximum(np.round(expected * shelf), 1)
    return demand, np.minimum(demand, baked), np.where(demand >= baked, 15 * 60, NOT_SOLD_OUT)


class TestFromDaysBefore:
    @pytest.mark.parametrize(
        ("mean", "size", "shelf"),
        [(100, 30, 1.0), (100, 30, 1.15), (40, 10, 1.05), (20, 5, 1.0), (20, 1000, 1.0), (5, 3, 1.2), (2, 1000, 1.0)],
    )
    def test_the_mean_of_censored_demand_is_recovered_much_better_than_by_sales(self, mean, size, shelf):
        demand, sales, minute = simulated(mean, size, shelf)
        found, is_estimated = estimated(sales, minute)
        later = slice(60, None)
        lost = demand[:, later].mean() - sales[:, later].mean()
        assert abs(found[:, later].mean() - demand[:, later].mean()) < 0.45 * lost
        assert is_estimated[:, later][minute[:, later] != NOT_SOLD_OUT].mean() > 0.9

    def test_weekdays_that_differ_do_not_disturb_it(self):
        demand, sales, minute = simulated(40, 10, 1.05, by_weekday=(0.5, 0.8, 0.9, 1, 1.1, 1.7, 1))
        found, _ = estimated(sales, minute)
        for weekday in range(7):
            days = np.arange(70 + weekday, 420, 7)
            truth = demand[:, days].mean()
            assert found[:, days].mean() == pytest.approx(truth, rel=0.05)
            assert sales[:, days].mean() < 0.92 * truth

    def test_a_day_is_estimated_from_itself_and_days_before_it_only(self):
        _, sales, minute = simulated(20, 5, 1.0, n=8, days=120)
        whole, is_estimated = estimated(sales, minute)
        other = np.random.default_rng(9)
        for cut in (30, 77, 119):
            part, part_estimated = estimated(sales[:, :cut], minute[:, :cut])
            np.testing.assert_array_equal(part, whole[:, :cut])
            np.testing.assert_array_equal(part_estimated, is_estimated[:, :cut])
            changed = sales.copy()
            changed[:, cut:] = other.integers(0, 90, changed[:, cut:].shape)
            np.testing.assert_array_equal(estimated(changed, minute)[0][:, :cut], whole[:, :cut])

    def test_series_do_not_influence_each_other(self):
        _, sales, minute = simulated(20, 5, 1.0, n=6, days=120)
        together = estimated(sales, minute)[0]
        for row in range(6):
            alone = estimated(sales[[row]], minute[[row]], keys=keys_of(6).iloc[[row]])[0]
            np.testing.assert_array_equal(alone[0], together[row])

    def test_a_product_that_sells_out_every_day_stays_at_its_sales(self):
        demand, is_estimated = estimated(np.full((1, 100), 20.0), np.full((1, 100), 600))
        np.testing.assert_array_equal(demand, 20)
        assert not is_estimated.any()

    def test_enough_days_without_a_sell_out_must_lie_within_reach(self):
        units = np.full((1, 200), 20.0)
        minute = np.full((1, 200), 600)
        minute[0, :MIN_FREE_DAYS] = NOT_SOLD_OUT
        _, is_estimated = estimated(units, minute)
        assert np.flatnonzero(is_estimated).tolist() == list(range(MIN_FREE_DAYS, RECENT_DAYS + 1))

    def test_a_sell_out_without_any_sale_is_estimated_at_the_usual_demand(self):
        units = np.full((1, 29), 20.0)
        minute = np.full((1, 29), NOT_SOLD_OUT)
        units[0, 28], minute[0, 28] = 0, 600
        demand, is_estimated = estimated(units, minute, MORNING)
        assert demand[0, 28] == pytest.approx(20)
        assert is_estimated[0, 28]

    def test_days_that_do_not_count_are_passed_over(self):
        _, sales, minute = simulated(20, 5, 1.0, n=4, days=140)
        closed = np.zeros(140, dtype=bool)
        closed[40:61] = True
        without, _ = estimate_demand(
            keys_of(4), (np.arange(140) % 7)[~closed], sales[:, ~closed], minute[:, ~closed], profiles_of()
        )
        sales[:, closed] = NAN
        found, is_estimated = estimated(sales, minute)
        assert np.isnan(found[:, closed]).all()
        assert not is_estimated[:, closed].any()
        np.testing.assert_allclose(found[:, 100:], without[:, 79:])

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_an_estimate_is_finite_and_never_below_the_sales(self, seed):
        rng = np.random.default_rng(seed)
        sales = np.where(rng.random((5, 90)) < 0.2, NAN, rng.negative_binomial(1, 0.05, (5, 90)) / 2)
        minute = np.where(rng.random((5, 90)) < rng.random(), 600, NOT_SOLD_OUT)
        demand, is_estimated = estimated(sales, minute)
        known = ~np.isnan(sales)
        assert np.isfinite(demand[known]).all()
        assert (demand[known] >= sales[known]).all()
        np.testing.assert_array_equal(np.isnan(demand), ~known)
        assert not (is_estimated & (minute == NOT_SOLD_OUT)).any()

    def test_no_series_is_no_estimate(self):
        demand, is_estimated = estimated(np.zeros((0, 5)), np.zeros((0, 5)))
        assert demand.shape == is_estimated.shape == (0, 5)
