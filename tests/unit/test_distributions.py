"""Demand distributions: published losses, and the identities that every distribution obeys."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.distributions import (
    Demand,
    DiscreteDemand,
    NormalDemand,
    PoissonDemand,
    QuantileDemand,
    deviation_between,
    is_crossed,
    over_periods,
    pool_independent,
    standard_normal_loss,
    sum_of_independent,
)
from planning.frames import QUANTILE_LEVELS

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
VALUES = (62.0, 70.0, 84.0, 100.0, 116.0, 130.0, 138.0)

units = st.floats(0, 500).map(lambda value: round(value, 3))
curves = st.lists(units, min_size=9, max_size=9).map(
    lambda values: QuantileDemand.from_quantiles(QUANTILE_LEVELS, values)
)
masses = st.lists(st.integers(0, 20), min_size=6, max_size=6).filter(any)
demands = st.one_of(
    curves,
    st.builds(NormalDemand, st.floats(1, 500), st.floats(0.1, 100)),
    st.builds(PoissonDemand, st.floats(0.1, 200)),
    masses.map(lambda counts: DiscreteDemand(np.arange(6) * 7.5, np.array(counts) / sum(counts))),
)


def integrated(demand: QuantileDemand, quantity: float) -> tuple[float, float, float]:
    """Mean, waste and lost by adding up a fine grid of the quantile function: another method, less exact."""
    grid = demand.quantile((np.arange(200_000) + 0.5) / 200_000)
    return grid.mean(), np.maximum(quantity - grid, 0).mean(), np.maximum(grid - quantity, 0).mean()


class TestQuantileDemand:
    demand = QuantileDemand.from_quantiles(LEVELS, VALUES)

    def test_tails_are_as_steep_as_the_outermost_segments(self) -> None:
        assert self.demand.knot_units[0] == pytest.approx(54)
        assert self.demand.highest == pytest.approx(146)
        assert self.demand.mean == pytest.approx(100)

    @pytest.mark.parametrize(
        ("quantity", "waste", "lost"),
        [(113.176471, 17.194637, 4.018166), (108, 13.75, 5.75), (96, 7.375, 11.375), (120, 22.335714, 2.335714)],
    )
    def test_waste_and_lost_units_of_the_worked_example(self, quantity: float, waste: float, lost: float) -> None:
        assert self.demand.expected_waste(quantity) == pytest.approx(waste, abs=1e-6)
        assert self.demand.expected_lost(quantity) == pytest.approx(lost, abs=1e-6)

    def test_quantile_of_the_worked_example(self) -> None:
        assert self.demand.quantile(1.2 / 1.7) == pytest.approx(113.176471, abs=5e-7)

    def test_the_given_quantiles_are_on_the_curve(self) -> None:
        np.testing.assert_allclose([self.demand.quantile(level) for level in LEVELS], VALUES, rtol=1e-12)

    def test_the_lower_tail_stops_at_zero(self) -> None:
        demand = QuantileDemand.from_quantiles((0.25, 0.5), (1.0, 9.0))
        assert demand.knot_units[0] == 0

    @pytest.mark.parametrize(
        ("levels", "waste", "lost"),
        [
            (LEVELS, 7.5437, 4.5437),
            (QUANTILE_LEVELS, 7.7269, 4.7269),
            (tuple(np.arange(1, 100) / 100), 7.5773, 4.5773),
        ],
    )
    def test_quantiles_of_a_normal_come_near_its_losses(self, levels: tuple, waste: float, lost: float) -> None:
        normal = NormalDemand(120, 15)
        demand = QuantileDemand.from_quantiles(levels, normal.quantile(levels))
        assert demand.expected_waste(123) == pytest.approx(waste, abs=5e-5)
        assert demand.expected_lost(123) == pytest.approx(lost, abs=5e-5)
        assert normal.expected_waste(123) == pytest.approx(7.6034, abs=5e-5)
        assert normal.expected_lost(123) == pytest.approx(4.6034, abs=5e-5)

    @given(curves, st.floats(-10, 700))
    @settings(max_examples=50)
    def test_agrees_with_integration_of_the_quantile_function(self, demand: QuantileDemand, quantity: float) -> None:
        mean, waste, lost = integrated(demand, quantity)
        assert demand.mean == pytest.approx(mean, abs=0.02)
        assert demand.expected_waste(quantity) == pytest.approx(waste, abs=0.02)
        assert demand.expected_lost(quantity) == pytest.approx(lost, abs=0.02)

    @given(curves, st.floats(0.001, 0.999))
    def test_the_quantile_of_a_share_reaches_it(self, demand: QuantileDemand, share: float) -> None:
        assert demand.cdf(demand.quantile(share) + 1e-9) >= share - 1e-9

    @given(curves, st.floats(0, 300), st.floats(0, 600))
    def test_a_shift_moves_the_curve_and_nothing_else(self, demand: QuantileDemand, shift: float, at: float) -> None:
        assert demand.shifted(shift).expected_lost(at + shift) == pytest.approx(demand.expected_lost(at), abs=1e-8)
        assert demand.shifted(shift).mean == pytest.approx(demand.mean + shift)

    def test_mostly_nothing_sold_is_a_mass_at_zero(self) -> None:
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, [0, 0, 0, 0, 0, 0, 1, 2, 5])
        assert demand.cdf(0) == pytest.approx(0.75)
        assert demand.cdf(-1e-9) == 0
        assert demand.quantile(0.7) == 0

    def test_no_demand_at_all_wastes_everything(self) -> None:
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.zeros(9))
        assert (demand.mean, demand.expected_waste(7), demand.expected_lost(7), demand.cdf(0)) == (0, 7, 0, 1)

    def test_rows_and_days_are_computed_together_as_each_alone(self) -> None:
        values = np.random.default_rng(1).gamma(2, 30, (4, 3, 9))
        quantity = np.random.default_rng(2).gamma(2, 30, (4, 1))
        together = QuantileDemand.from_quantiles(QUANTILE_LEVELS, values)
        for row, day in np.ndindex(4, 3):
            alone = QuantileDemand.from_quantiles(QUANTILE_LEVELS, values[row, day])
            assert together.expected_waste(quantity)[row, day] == alone.expected_waste(quantity[row, 0])
            assert together.expected_lost(quantity)[row, day] == alone.expected_lost(quantity[row, 0])
            assert together.quantile(0.7)[row, day] == alone.quantile(0.7)
            assert together.cdf(quantity)[row, day] == alone.cdf(quantity[row, 0])
            assert together.select((row, day)).mean == alone.mean

    def test_crossed_quantiles_are_sorted_and_can_be_told(self) -> None:
        crossed = [62, 84, 70, 100, 116, 130, 138]
        np.testing.assert_array_equal(QuantileDemand.from_quantiles(LEVELS, crossed).knot_units, self.demand.knot_units)
        np.testing.assert_array_equal(is_crossed([crossed, VALUES]), [True, False])

    @pytest.mark.parametrize(
        ("levels", "values", "message"),
        [
            ((0.5, 0.25), (1.0, 2.0), "levels must ascend"),
            ((0.0, 0.5), (1.0, 2.0), "levels must ascend"),
            ((0.5,), (1.0,), "two or more levels"),
            ((0.25, 0.5), (1.0, 2.0, 3.0), "two or more levels"),
            ((0.25, 0.5), (1.0, np.nan), "finite"),
            ((0.25, 0.5), (-1.0, 2.0), "not negative"),
        ],
    )
    def test_what_is_no_curve_is_refused(self, levels: tuple, values: tuple, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            QuantileDemand.from_quantiles(levels, values)


class TestPooling:
    def test_normal_demands_pool_to_the_normal_of_their_sum(self) -> None:
        each = [NormalDemand(100, 12), NormalDemand(60, 5), NormalDemand(240, 30)]
        curves = QuantileDemand.from_quantiles(QUANTILE_LEVELS, [one.quantile(QUANTILE_LEVELS) for one in each])
        pooled = pool_independent(curves, np.array([0])).knot_units[0, 1:-1]
        np.testing.assert_allclose(pooled, NormalDemand(400, np.sqrt(12**2 + 5**2 + 30**2)).quantile(QUANTILE_LEVELS))

    def test_skewed_outlets_pool_near_to_what_sampling_them_shows(self) -> None:
        rng = np.random.default_rng(5)
        shape, scale = np.array([1.5, 4.0, 9.0])[:, None], np.array([20.0, 10.0, 6.0])[:, None]
        samples = rng.gamma(shape, scale, (3, 100_000))
        curves = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.quantile(samples, QUANTILE_LEVELS, axis=1).T)
        pooled = pool_independent(curves, np.array([0]))
        shares = [0.25, 0.5, 0.75, 0.9, 0.95]
        sampled = np.quantile(samples.sum(axis=0), shares)
        np.testing.assert_allclose([pooled.quantile(share)[0] for share in shares], sampled, rtol=0.05)
        assert curves.quantile(0.95).sum() > 1.15 * sampled[-1]

    def test_a_group_of_one_is_not_changed_by_its_neighbours(self) -> None:
        values = np.random.default_rng(3).gamma(1, 20, (3, 2, 9))
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, values)
        pooled = pool_independent(demand, np.array([0, 1]))
        np.testing.assert_array_equal(pooled.knot_units[0], demand.knot_units[0])

    @given(st.lists(curves, min_size=2, max_size=5))
    def test_means_add_and_the_curve_is_inside_the_sum_of_quantiles(self, each: list[QuantileDemand]) -> None:
        demand = QuantileDemand(each[0].knot_shares, np.array([one.knot_units for one in each]))
        pooled = pool_independent(demand, np.array([0]))
        assert pooled.mean[0] == pytest.approx(demand.mean.sum(), abs=1e-6)
        assert (np.diff(pooled.knot_units) >= -1e-9).all()
        assert (pooled.knot_units >= 0).all()
        spread = pooled.knot_units[0, -1] - pooled.knot_units[0, 0]
        # The mean is kept by scaling, which widens a skewed curve a little.
        assert spread <= 1.25 * (demand.knot_units[:, -1] - demand.knot_units[:, 0]).sum() + 1e-6

    def test_independent_outlets_vary_less_together_than_their_quantiles_added(self) -> None:
        demand = QuantileDemand.from_quantiles(LEVELS, [VALUES, VALUES, VALUES, VALUES])
        pooled = pool_independent(demand, np.array([0]))
        assert pooled.quantile(0.95)[0] == pytest.approx(400 + 2 * 38)


class TestSeveralPeriods:
    def test_normal_means_add_and_deviations_by_their_squares(self) -> None:
        demand = over_periods(NormalDemand(50, 8), 5)
        assert demand.mean == 250
        assert demand.sigma == pytest.approx(8 * np.sqrt(5))

    def test_a_poisson_stays_one(self) -> None:
        np.testing.assert_allclose(over_periods(PoissonDemand(1.25), [1, 2, 4]).mean, [1.25, 2.5, 5])

    def test_a_discrete_demand_takes_every_sum(self) -> None:
        demand = over_periods(DiscreteDemand([0, 1], [0.5, 0.5]), 3)
        np.testing.assert_array_equal(demand.points, [0, 1, 2, 3])
        np.testing.assert_allclose(demand.probabilities, [1 / 8, 3 / 8, 3 / 8, 1 / 8])

    @given(st.integers(1, 5))
    def test_discrete_demands_of_rows_add_row_by_row(self, periods: int) -> None:
        rows = DiscreteDemand([2, 4, 6], [[0.3, 0.4, 0.3], [0.1, 0.1, 0.8]])
        together = over_periods(rows, periods)
        for row in range(2):
            alone = over_periods(DiscreteDemand(rows.points, rows.probabilities[row]), periods)
            np.testing.assert_allclose(together.probabilities[row], alone.probabilities)
        np.testing.assert_allclose(together.mean, periods * rows.mean)

    def test_a_curve_of_normal_quantiles_becomes_that_of_the_sum(self) -> None:
        curve = QuantileDemand.from_quantiles(QUANTILE_LEVELS, NormalDemand(100, 12).quantile(QUANTILE_LEVELS))
        summed = over_periods(curve, 4)
        np.testing.assert_allclose(summed.knot_units[1:-1], NormalDemand(400, 24).quantile(QUANTILE_LEVELS))
        assert summed.mean == pytest.approx(4 * curve.mean)

    @pytest.mark.parametrize("periods", [0, 1.5])
    def test_parts_of_a_period_are_refused_where_they_have_no_meaning(self, periods: float) -> None:
        with pytest.raises(ValueError, match="whole number"):
            over_periods(DiscreteDemand([0, 1], [0.5, 0.5]), periods)  # type: ignore[call-overload]

    def test_the_sum_of_different_demands(self) -> None:
        demand = sum_of_independent(DiscreteDemand([0, 3], [0.2, 0.8]), DiscreteDemand([1, 4], [0.5, 0.5]))
        np.testing.assert_array_equal(demand.points, [1, 4, 7])
        np.testing.assert_allclose(demand.probabilities, [0.1, 0.5, 0.4])


class TestPlainNumbers:
    """A user with a book beside him passes numbers and lists."""

    @pytest.mark.parametrize(
        "demand",
        [
            NormalDemand(50, 8),
            PoissonDemand(50),
            DiscreteDemand([40, 50, 60], [0.2, 0.6, 0.2]),
            QuantileDemand([0, 0.5, 1], [30, 50, 70]),  # type: ignore[arg-type]
            QuantileDemand.from_quantiles([0.25, 0.5, 0.75], [40, 50, 60]),
        ],
    )
    def test_give_numbers(self, demand: QuantileDemand) -> None:
        for value in (
            demand.mean, demand.quantile(0.7), demand.cdf(55), demand.expected_waste(55), demand.expected_lost(55),
        ):  # fmt: skip
            assert np.ndim(value) == 0
            assert float(value) == pytest.approx(float(np.asarray(value)))
        assert demand.mean == pytest.approx(50)
        assert demand.expected_waste(55) - demand.expected_lost(55) == pytest.approx(5)

    def test_demand_without_deviation_is_certain(self) -> None:
        demand = NormalDemand([10, 10], [0, 2])
        np.testing.assert_array_equal(demand.cdf([[9.9], [10]])[:, 0], [0, 1])
        np.testing.assert_allclose(demand.expected_waste(13), [3, NormalDemand(10, 2).expected_waste(13)])
        np.testing.assert_allclose(demand.expected_lost(7), [3, NormalDemand(10, 2).expected_lost(7)])
        np.testing.assert_array_equal(NormalDemand(10, 0).quantile([0.1, 0.9]), 10)

    def test_no_demand_is_a_poisson_too(self) -> None:
        demand = PoissonDemand(0)
        assert (demand.quantile(0.99), demand.cdf(0), demand.expected_waste(3), demand.expected_lost(0)) == (0, 1, 3, 0)

    def test_the_deviation_between_quantiles_is_that_of_a_normal(self) -> None:
        normal = NormalDemand(120, 15)
        assert deviation_between(normal.quantile(0.1), normal.quantile(0.9)) == pytest.approx(15)


class TestPublishedLosses:
    def test_standard_normal_loss(self) -> None:
        assert standard_normal_loss(0.85) == pytest.approx(0.10997, abs=5e-6)

    def test_normal_loss(self) -> None:
        assert NormalDemand(1000, 300).expected_lost(1600) == pytest.approx(2.5472, abs=5e-5)

    def test_poisson_loss(self) -> None:
        lost = PoissonDemand(1.25).expected_lost([0, 1, 2, 3])
        np.testing.assert_allclose(lost, [1.25, 0.53650, 0.18114, 0.04961], atol=5e-6)

    def test_poisson_loss_follows_its_recursion(self) -> None:
        demand, quantity = PoissonDemand(18), np.arange(60)
        lost = demand.expected_lost(quantity)
        np.testing.assert_allclose(lost[1:], lost[:-1] - (1 - demand.cdf(quantity[:-1])), atol=1e-12)


class TestEveryDemand:
    @given(demands, st.floats(0, 900))
    def test_waste_less_lost_is_quantity_less_mean(self, demand: QuantileDemand, quantity: float) -> None:
        difference = demand.expected_waste(quantity) - demand.expected_lost(quantity)
        assert difference == pytest.approx(quantity - demand.mean, abs=1e-7)

    @given(demands, st.floats(0, 900), st.floats(0.01, 50))
    def test_more_wastes_more_and_loses_less(self, demand: QuantileDemand, quantity: float, more: float) -> None:
        assert demand.expected_waste(quantity + more) >= demand.expected_waste(quantity) - 1e-9
        assert demand.expected_lost(quantity + more) <= demand.expected_lost(quantity) + 1e-9
        assert demand.expected_waste(quantity) >= -1e-9
        assert demand.expected_lost(quantity) >= -1e-9

    @given(demands, st.floats(0.001, 0.999))
    def test_a_quantile_is_the_smallest_to_reach_its_share(self, demand: QuantileDemand, share: float) -> None:
        quantile = demand.quantile(share)
        assert demand.cdf(quantile + 1e-7) >= share - 1e-6
        assert demand.cdf(quantile - 1e-7) <= share + 1e-6

    @given(st.integers(0, 40), st.floats(0.5, 30))
    def test_a_poisson_share_met_exactly_takes_the_smaller_quantity(self, at: int, rate: float) -> None:
        demand = PoissonDemand(rate)
        share = float(demand.cdf(at))
        if 1e-6 < share < 1 - 1e-6:
            assert demand.quantile(share) == at

    def test_a_discrete_share_met_exactly_takes_the_smaller_quantity(self) -> None:
        demand = DiscreteDemand(np.array([1.0, 2, 3]), np.array([0.1, 0.2, 0.7]))
        assert demand.quantile(0.1 + 0.2) == 2

    @pytest.mark.parametrize(
        ("points", "probabilities"), [([2, 1], [0.5, 0.5]), ([1, 2], [0.5, 0.4]), ([1, 2], [1.5, -0.5])]
    )
    def test_what_is_no_discrete_distribution_is_refused(self, points: list, probabilities: list) -> None:
        with pytest.raises(ValueError, match="must"):
            DiscreteDemand(np.array(points), np.array(probabilities))


class TestWhatIsNoDemand:
    """Values that describe no demand are refused, and unknown ones stay unknown."""

    @pytest.mark.parametrize(
        "demand",
        [
            NormalDemand(10, 2),
            PoissonDemand(3),
            DiscreteDemand([1, 2], [0.5, 0.5]),
            QuantileDemand.from_quantiles([0.1, 0.9], [1, 2]),
        ],
    )
    @pytest.mark.parametrize("share", [-0.1, 1.5, [0.5, 95]])
    def test_a_share_outside_zero_to_one_is_refused(self, demand: Demand, share: Any) -> None:
        with pytest.raises(ValueError, match="shares lie in"):
            demand.quantile(share)

    @pytest.mark.parametrize(
        "demand", [NormalDemand(10, 2), DiscreteDemand([1, 2], [0.5, 0.5]), QuantileDemand([0, 1], [1, 2])]
    )
    def test_the_quantile_of_an_unknown_share_is_unknown(self, demand: Demand) -> None:
        assert np.isnan(demand.quantile(np.nan))

    @pytest.mark.parametrize(
        "of",
        [
            lambda: NormalDemand([10, 10], [2, -1]),
            lambda: PoissonDemand(-1),
            lambda: DiscreteDemand([1, 2, 3], [0.5, 0.5]),
            lambda: DiscreteDemand([np.nan], [1.0]),
            lambda: QuantileDemand([0.1, 0.9], [1, 2]),
            lambda: QuantileDemand([0, 0.5, 1], [1, 2]),
            lambda: over_periods(NormalDemand(10, 1), -2),
            lambda: over_periods(PoissonDemand(10), [1, 0]),
        ],
    )
    def test_what_describes_no_demand_is_refused(self, of: Callable[[], object]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - each says something else
            of()

    def test_certain_demand_is_certain_at_every_share_and_the_ends_of_others_are_infinite(self) -> None:
        assert NormalDemand(10, 0).quantile([0.0, 0.5, 1.0]).tolist() == [10, 10, 10]
        assert NormalDemand(10, 1).quantile([0.0, 1.0]).tolist() == [-np.inf, np.inf]
        assert PoissonDemand([0, 3]).quantile(1.0).tolist() == [0, np.inf]

    def test_the_loss_far_out_is_nothing_on_the_right_and_all_on_the_left(self) -> None:
        assert standard_normal_loss([-np.inf, 50.0, np.inf]).tolist() == [np.inf, 0, 0]
        assert NormalDemand(10, 1).expected_lost(np.inf) == 0
