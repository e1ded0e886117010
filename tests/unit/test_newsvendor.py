"""The newsvendor: published examples, and that batches are chosen as trying them all would."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planning.distributions import DiscreteDemand, NormalDemand, PoissonDemand, QuantileDemand, over_periods
from planning.frames import QUANTILE_LEVELS
from planning.newsvendor import (
    BatchRules,
    Outcome,
    UnitCosts,
    batch_marginal_value,
    batch_marginal_values,
    best_batches,
    critical_ratio,
    expected_mismatch_cost,
    expected_profit,
    fill_rate,
    in_stock_probability,
    optimal_quantity,
    outcome_of,
    supply_gain,
    unit_costs,
)

BREAD = QuantileDemand.from_quantiles((0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95), (62, 70, 84, 100, 116, 130, 138))
BREAD_COSTS = unit_costs(1.7, 0.5)


def costs_of(underage: float, overage: float) -> UnitCosts:
    return UnitCosts(np.asarray(underage), np.asarray(overage))


def mismatch_cost(outcome: Outcome, costs: UnitCosts) -> np.ndarray:
    """Cu lost + Co waste, the figure that the published examples give."""
    return costs.underage * outcome.lost_units + costs.overage * outcome.waste_units


def rules_of(size: float, fewest: float = 0, multiple: float = 1, most: float = np.inf, fixed: float = 0) -> BatchRules:
    return BatchRules(size, fewest, multiple, most, fixed)


class TestPublishedExamples:
    """Snyder & Shen, stockpyl's documentation, Stevenson, Cachon & Terwiesch, Hillier & Lieberman, Nahmias."""

    def test_snyder_shen_example_4_3(self) -> None:
        demand, costs = NormalDemand(50, 8), costs_of(0.70, 0.18)
        best = optimal_quantity(demand, costs)
        assert best == pytest.approx(56.603955927433887, abs=1e-9)
        assert mismatch_cost(outcome_of(demand, best), costs) == pytest.approx(1.997605193176645, abs=1e-9)
        assert mismatch_cost(outcome_of(demand, 40), costs) == pytest.approx(7.356131552870388, abs=1e-9)
        assert mismatch_cost(outcome_of(demand, 60), costs) == pytest.approx(2.156131552870387, abs=1e-9)

    def test_snyder_shen_example_4_4_demand_over_a_lead_time_of_four(self) -> None:
        demand, costs = over_periods(NormalDemand(50, 8), 4 + 1), costs_of(0.70, 0.18)
        best = optimal_quantity(demand, costs)
        assert best == pytest.approx(264.7668943741548, abs=1e-9)
        assert mismatch_cost(outcome_of(demand, best), costs) == pytest.approx(4.466781004149578, abs=1e-9)

    def test_snyder_shen_problem_4_8a(self) -> None:
        demand, costs = PoissonDemand(18), costs_of(270, 200)
        assert optimal_quantity(demand, costs) == 19
        assert mismatch_cost(outcome_of(demand, 19), costs) == pytest.approx(786.0884409351115, abs=1e-8)
        assert mismatch_cost(outcome_of(demand, 13), costs) == pytest.approx(1445.751062891969, abs=1e-8)

    def test_stockpyl_readme(self) -> None:
        demand, costs = NormalDemand(120, 10), costs_of(18, 2)
        best = optimal_quantity(demand, costs)
        assert best == pytest.approx(132.815515655446, abs=1e-9)
        assert mismatch_cost(outcome_of(demand, best), costs) == pytest.approx(35.09966638649737, abs=1e-9)

    def test_stevenson_roses(self) -> None:
        demand, costs = PoissonDemand(4), costs_of(3, 2)
        assert costs.ratio == pytest.approx(0.6)
        np.testing.assert_allclose(demand.cdf(range(6)), [0.018, 0.092, 0.238, 0.433, 0.629, 0.785], atol=5e-4)
        assert optimal_quantity(demand, costs) == 4
        outcome = outcome_of(demand, [3, 4, 5])
        assert outcome.lost_units[1] == pytest.approx(0.7814672593, abs=1e-9)
        assert outcome.waste_units[1] == pytest.approx(0.7814672593, abs=1e-9)
        np.testing.assert_allclose(outcome.profit(price=5, cost=2), [7.26, 8.0927, 7.9485], atol=5e-5)

    def test_cachon_terwiesch_hammer_from_its_lost_sales(self) -> None:
        outcome = Outcome(np.asarray(3192.0 - 572), np.asarray(3000.0 - 3192 + 572), np.asarray(572.0))
        assert outcome.sales_units == 2620
        assert outcome.waste_units == 380
        assert outcome.profit(190, 110, 90) == 202_000
        assert 3192 * (190 - 110) == 255_360
        assert mismatch_cost(outcome, unit_costs(190, 110, 90)) == 255_360 - 202_000 == 53_360

    def test_cachon_terwiesch_hammer_at_its_best(self) -> None:
        demand = NormalDemand(3192, 1181)
        assert critical_ratio(190, 110, 90) == pytest.approx(0.8)
        assert optimal_quantity(demand, unit_costs(190, 110, 90)) == pytest.approx(4185.954677, abs=5e-7)
        outcome = outcome_of(demand, 4196)
        assert outcome.lost_units == pytest.approx(129.846960, abs=5e-7)
        assert outcome.sales_units == pytest.approx(3062.153040, abs=5e-7)
        assert outcome.waste_units == pytest.approx(1133.846960, abs=5e-7)
        assert outcome.profit(190, 110, 90) == pytest.approx(222295.304, abs=5e-4)

    def test_hillier_lieberman_newsboy(self) -> None:
        demand = DiscreteDemand(np.array([15, 16, 17, 18]), np.array([0.4, 0.2, 0.3, 0.1]))
        assert critical_ratio(2.5, 1.5, 0.5) == 0.5
        assert optimal_quantity(demand, unit_costs(2.5, 1.5, 0.5)) == 16
        outcome = outcome_of(demand, [15, 16, 17, 18])
        np.testing.assert_allclose(outcome.profit(2.5, 1.5, 0.5), [15.0, 15.2, 15.0, 14.2])
        assert outcome.lost_units[1] == pytest.approx(0.5)
        assert outcome.waste_units[1] == pytest.approx(0.4)

    def test_nahmias_newsstand(self) -> None:
        costs = costs_of(0.50, 0.15)
        assert costs.ratio == pytest.approx(0.7692, abs=5e-5)
        assert NormalDemand(0, 1).quantile(costs.ratio) == pytest.approx(0.7363, abs=5e-5)
        assert optimal_quantity(NormalDemand(11.73, 4.74), costs) == pytest.approx(15.2201, abs=5e-5)

    def test_bread_from_seven_quantiles(self) -> None:
        assert BREAD_COSTS.ratio == pytest.approx(0.705882, abs=5e-7)
        best = optimal_quantity(BREAD, BREAD_COSTS)
        assert best == pytest.approx(113.176471, abs=5e-7)
        profit = outcome_of(BREAD, [best, 108, 96, 120]).profit(1.7, 0.5)
        np.testing.assert_allclose(profit, [106.5809, 106.225, 102.6625, 106.0293], atol=5e-5)

    def test_bread_in_batches_of_24_is_five_and_not_the_nearest_four(self) -> None:
        assert best_batches(BREAD, BREAD_COSTS, rules_of(24)).batches == 5


class TestFiguresOfAQuantity:
    """What a book asks of a quantity, with plain numbers."""

    def test_mismatch_cost(self) -> None:
        demand = NormalDemand(50, 8)
        assert expected_mismatch_cost(demand, 56.603955927433887, 0.70, 0.18) == pytest.approx(1.997605193176645)
        np.testing.assert_allclose(
            expected_mismatch_cost(demand, [40, 60], 0.70, 0.18), [7.356131552870388, 2.156131552870387]
        )
        assert expected_mismatch_cost(PoissonDemand(18), 13, 270, 200) == pytest.approx(1445.751062891969, abs=1e-8)
        assert optimal_quantity(demand, UnitCosts(0.70, 0.18)) == pytest.approx(56.603955927433887)

    @given(st.floats(60, 90), st.floats(0, 150), st.floats(0.1, 3), st.floats(3.1, 9))
    def test_mismatch_cost_is_what_profit_falls_short_of_knowing_demand(
        self, mean: float, quantity: float, cost: float, price: float
    ) -> None:
        demand = NormalDemand(mean, 8)
        mismatch = expected_mismatch_cost(demand, quantity, price - cost, cost - 0.05)
        assert expected_profit(demand, quantity, price, cost, 0.05) == pytest.approx((price - cost) * mean - mismatch)

    def test_profit_of_the_newsboy(self) -> None:
        demand = DiscreteDemand([15, 16, 17, 18], [0.4, 0.2, 0.3, 0.1])
        np.testing.assert_allclose(expected_profit(demand, [15, 16, 17, 18], 2.5, 1.5, 0.5), [15.0, 15.2, 15.0, 14.2])

    def test_fill_rate_and_probability_of_being_in_stock(self) -> None:
        demand = NormalDemand(3192, 1181)
        assert fill_rate(demand, 4196) == pytest.approx(3062.153040 / 3192)
        assert in_stock_probability(demand, 3192) == pytest.approx(0.5)
        assert fill_rate(PoissonDemand(0), 0) == 1
        assert fill_rate(DiscreteDemand([0, 10], [0.5, 0.5]), 0) == 0

    def test_a_supply_gains_what_its_profit_is_more(self) -> None:
        demand, costs = PoissonDemand(18), unit_costs(5, 2, 0.5, 0.25)
        profit = [expected_profit(demand, units, 5, 2, 0.5, 0.25) for units in (7, 20)]
        assert supply_gain(demand, 7, 20, costs, fixed_cost=1.5) == pytest.approx(profit[1] - profit[0] - 1.5)

    def test_batches_with_plain_numbers(self) -> None:
        choice = best_batches(NormalDemand(50, 8), UnitCosts(0.70, 0.18), BatchRules(24, 0, 1, np.inf, 0))
        assert choice.batches == 2


class TestCriticalRatio:
    def test_goodwill_counts_as_cost_of_being_short(self) -> None:
        assert critical_ratio(2, 1, 0.5, goodwill=0.5) == pytest.approx(1.5 / 2)

    def test_disposal_makes_leftovers_dearer(self) -> None:
        assert critical_ratio(2, 1, -1) == pytest.approx(1 / 3)

    def test_there_is_none_without_price_cost_margin_or_loss(self) -> None:
        ratios = critical_ratio([np.nan, 2, 1, 2, 2], [1, np.nan, 1, 1, 1], [0, 0, 0, 1, 0])
        np.testing.assert_array_equal(np.isnan(ratios), [True, True, True, True, False])


quantiles = st.lists(st.floats(0, 300).map(lambda value: round(value, 2)), min_size=9, max_size=9)
curves = quantiles.map(lambda values: QuantileDemand.from_quantiles(QUANTILE_LEVELS, values))
demands = st.one_of(curves, st.floats(0.5, 80).map(PoissonDemand))
money = st.floats(0.05, 5).map(lambda value: round(value, 2))
sizes = st.sampled_from([1.0, 2.5, 7.0, 24.0, 60.0])
openings = st.sampled_from([0.0, 3.0, 40.5])


class TestBatches:
    @given(demands, sizes, money, money, openings)
    def test_each_batch_gains_less_than_the_one_before(
        self, demand: QuantileDemand, size: float, underage: float, overage: float, opening: float
    ) -> None:
        gains = batch_marginal_value(
            demand,
            np.arange(1, 40),
            batch_size_units=size,
            costs=costs_of(underage, overage),
            batch_fixed_cost=0.3,
            opening_units=opening,
        )
        assert (np.diff(gains) <= 1e-7).all()

    @given(demands, sizes, money, money, st.integers(1, 30))
    def test_gains_add_up_to_the_profit_over_making_none(
        self, demand: QuantileDemand, size: float, price: float, cost: float, count: int
    ) -> None:
        gains = batch_marginal_value(
            demand,
            np.arange(1, count + 1),
            batch_size_units=size,
            costs=unit_costs(price, cost, 0.01, 0.2),
            batch_fixed_cost=0.5,
        )
        profit = outcome_of(demand, [0.0, count * size]).profit(price, cost, 0.01, 0.2)
        assert gains.sum() == pytest.approx(profit[1] - profit[0] - 0.5 * count, abs=1e-6)

    @given(
        demands, sizes, money, money, openings,
        st.integers(0, 5), st.integers(1, 4), st.one_of(st.integers(6, 40), st.just(np.inf)), st.sampled_from([0.0, 0.7]),
    )  # fmt: skip
    def test_the_choice_is_the_best_of_all_that_the_rules_allow(
        self, demand: QuantileDemand, size: float, underage: float, overage: float, opening: float,
        fewest: int, multiple: int, most: float, fixed: float,
    ) -> None:  # fmt: skip
        costs = costs_of(underage, overage)
        assume(np.ceil(fewest / multiple) * multiple <= most)
        choice = best_batches(demand, costs, rules_of(size, fewest, multiple, most, fixed), opening_units=opening)

        allowed = np.array([n for n in range(0, 601, multiple) if n == 0 or fewest <= n <= most])
        outcome = outcome_of(demand, opening + allowed * size)
        gain = costs.underage * outcome.sales_units - costs.overage * outcome.waste_units - fixed * allowed
        assert choice.batches in allowed
        chosen = gain[allowed.tolist().index(int(choice.batches))]
        assert chosen == pytest.approx(gain.max(), abs=1e-5)

    def test_of_equal_gains_the_fewer_batches_are_made(self) -> None:
        certain = DiscreteDemand(np.array([10.0, 20]), np.array([0.5, 0.5]))
        assert best_batches(certain, costs_of(1, 1), rules_of(10)).batches == 1

    def test_stock_at_hand_takes_the_place_of_batches(self) -> None:
        batches = [
            int(best_batches(BREAD, BREAD_COSTS, rules_of(24), opening_units=n).batches) for n in (0, 24, 48, 500)
        ]
        assert batches == [5, 4, 3, 0]

    def test_a_minimum_that_does_not_pay_makes_none(self) -> None:
        choice = best_batches(BREAD, BREAD_COSTS, rules_of(24, fewest=20))
        assert (choice.batches, choice.is_limited_by_min) == (0, True)

    def test_a_minimum_that_pays_is_made(self) -> None:
        choice = best_batches(BREAD, BREAD_COSTS, rules_of(24, fewest=6))
        assert (choice.batches, choice.is_limited_by_min) == (6, True)

    def test_a_maximum_holds(self) -> None:
        choice = best_batches(BREAD, BREAD_COSTS, rules_of(24, most=3))
        assert (choice.batches, choice.is_limited_by_max) == (3, True)

    def test_a_minimum_above_the_maximum_gives_way(self) -> None:
        assert best_batches(BREAD, BREAD_COSTS, rules_of(24, fewest=6, most=4)).batches == 4

    def test_batches_made_together_are_weighed_together(self) -> None:
        assert best_batches(BREAD, BREAD_COSTS, rules_of(24, multiple=2)).batches == 4
        assert best_batches(BREAD, BREAD_COSTS, rules_of(24, multiple=5)).batches == 5

    def test_a_fixed_cost_above_all_margin_makes_none(self) -> None:
        assert best_batches(BREAD, BREAD_COSTS, rules_of(24, fixed=24 * 1.2)).batches == 0

    def test_accepted_orders_are_made_even_at_a_loss(self) -> None:
        nothing_else = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.zeros(9))
        demand, rules = nothing_else.shifted(30), rules_of(24)
        dear = costs_of(0.1, 5)
        assert best_batches(demand, dear, rules).batches == 1
        assert best_batches(demand, dear, rules, committed_units=30.0).batches == 2
        assert best_batches(demand, dear, rules, committed_units=30.0, opening_units=6.0).batches == 1
        assert best_batches(demand, dear, rules_of(24, most=1), committed_units=30.0).batches == 1

    def test_values_are_listed_for_each_batch_made(self) -> None:
        demand = QuantileDemand.from_quantiles((0.25, 0.5, 0.75), [[20, 30, 40], [5, 5, 5], [100, 110, 150]])
        batches, opening = np.array([3, 0, 8]), np.array([2.0, 0, 0])
        costs = UnitCosts(np.array([1.0, 2, 3]), np.array([1.0, 1, 0.5]))
        rules = BatchRules(np.array([10.0, 7, 16]), 0, 1, np.inf, np.array([0.1, 0, 0.2]))
        values = batch_marginal_values(demand, batches, costs, rules, opening_units=opening)
        assert [len(each) for each in values] == [3, 0, 8]
        third = batch_marginal_value(
            demand.select(2),
            np.arange(1, 9),
            batch_size_units=16,
            costs=UnitCosts(costs.underage[2], costs.overage[2]),
            batch_fixed_cost=0.2,
        )
        np.testing.assert_allclose(values[2], third, atol=1e-6)
        for points in (1, 3, 4, 11):
            again = batch_marginal_values(demand, batches, costs, rules, opening_units=opening, points_at_once=points)
            assert again == values


class TestNaturalArguments:
    """Lists and plain numbers do as well as arrays, and what has no best quantity is refused."""

    def test_lists_of_costs_and_rules_are_taken_like_arrays(self) -> None:
        costs = UnitCosts([1.2, 1], [0.5, 1])
        np.testing.assert_allclose(costs.ratio, [1.2 / 1.7, 0.5])
        choice = best_batches(NormalDemand([100, 50], [20, 5]), costs, BatchRules([24, 10], batch_max=[9, 2]))
        assert choice.batches.tolist() == [5, 2]

    def test_a_batch_size_is_all_the_rules_that_are_needed(self) -> None:
        rules, same = BatchRules(24), BatchRules(24, 0, 1, np.inf, 0)
        demand, costs = NormalDemand(100, 20), UnitCosts(1.2, 0.5)
        assert best_batches(demand, costs, rules).batches == best_batches(demand, costs, same).batches == 5

    @pytest.mark.parametrize(("underage", "overage"), [(-1, 3), (3, -1), (0, 0), ([1, -1], [1, 3])])
    def test_costs_without_a_best_quantity_are_refused(self, underage: float, overage: float) -> None:
        demand, costs = DiscreteDemand([1, 2], [0.5, 0.5]), UnitCosts(underage, overage)
        with pytest.raises(ValueError, match="critical_ratio"):
            optimal_quantity(demand, costs)
        with pytest.raises(ValueError, match="critical_ratio"):
            best_batches(demand, costs, BatchRules(1))

    def test_an_unknown_cost_leaves_the_quantity_unknown_and_is_no_zero_of_batches(self) -> None:
        demand, costs = DiscreteDemand([1, 2], [0.5, 0.5]), UnitCosts(np.nan, 0.5)
        assert np.isnan(optimal_quantity(demand, costs))
        with pytest.raises(ValueError, match="default critical ratio"):
            best_batches(demand, costs, BatchRules(1))

    @pytest.mark.parametrize(
        "rules",
        [
            {"batch_size_units": 0},
            {"batch_size_units": [24, np.nan]},
            {"batch_size_units": 24, "batch_multiple": 0},
            {"batch_size_units": 24, "batch_multiple": 0.5},
            {"batch_size_units": 24, "batch_multiple": 1.5},
            {"batch_size_units": 24, "batch_min": -1},
            {"batch_size_units": 24, "batch_max": -1},
            {"batch_size_units": 24, "batch_fixed_cost": -1},
        ],
    )
    def test_rules_by_which_nothing_can_be_made_are_refused(self, rules: dict) -> None:
        with pytest.raises(ValueError, match="batch_"):
            BatchRules(**rules)
