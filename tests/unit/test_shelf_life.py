"""What keeps for more than a day: outdating by age, and that batches are chosen as the derivation says."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.distributions import DiscreteDemand, NormalDemand, QuantileDemand
from planning.frames import QUANTILE_LEVELS
from planning.newsvendor import BatchRules, UnitCosts, batch_marginal_value, best_batches, optimal_quantity
from planning.shelf_life import (
    LATTICE_STEPS,
    PATHS,
    Outlook,
    Shelf,
    batch_gains,
    best_batches_to_keep,
    best_quantity_to_keep,
    carried_value,
    close_day,
    cover_days,
    expected_outdating,
    outlook_of,
    path_shares,
    path_units,
    step_gain,
)

TWO_DAYS = DiscreteDemand([2, 4, 6], [0.3, 0.4, 0.3])

points = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True).map(sorted)
discretes = points.flatmap(
    lambda at: st.lists(st.integers(1, 5), min_size=len(at), max_size=len(at)).map(
        lambda counts: DiscreteDemand(at, np.array(counts) / sum(counts))
    )
)
money = st.floats(0.05, 5).map(lambda value: round(value, 2))
curves = st.lists(st.floats(0, 300).map(lambda value: round(value, 2)), min_size=9, max_size=9).map(
    lambda values: QuantileDemand.from_quantiles(QUANTILE_LEVELS, [values])
)


def sold_by_age(stock: list[float], demands: tuple[float, ...]) -> tuple[list[float], list[float]]:
    """Units outdated and asked for in vain each day: one unit of age after the other, by the book and slowly."""
    stock, outdated, lost = list(stock), [], []
    for demand in demands:
        asked = demand
        for age in range(len(stock)):
            taken = min(stock[age], asked)
            stock[age] -= taken
            asked -= taken
        lost.append(asked)
        outdated.append(stock[0])
        stock = [*stock[1:], 0.0]
    return outdated, lost


def every_outcome(days: list[DiscreteDemand]) -> tuple[list[tuple[float, ...]], list[float]]:
    """All joint demands of some days, with their probabilities."""
    demands = list(product(*(day.points.tolist() for day in days)))
    chances = [float(np.prod(each)) for each in product(*(day.probabilities.tolist() for day in days))]
    return demands, chances


def outlook_by_enumeration(days: list[DiscreteDemand], held: list[float], cover: int) -> Outlook:
    """The outlook over all outcomes: exact."""
    demands, chances = every_outcome(days)
    paths = [np.array([[each[day] for each in demands]]) for day in range(len(days))]
    return outlook_of(paths, np.array([held], dtype=float), np.array([cover]), np.array(chances))


def rules_of(size: float, fewest: float = 0, multiple: float = 1, most: float = np.inf, fixed: float = 0) -> BatchRules:
    return BatchRules(*(np.array([float(value)]) for value in (size, fewest, multiple, most, fixed)))


def costs_of(underage: float, overage: float) -> UnitCosts:
    return UnitCosts(np.array([underage]), np.array([overage]))


class TestExpectedOutdating:
    def test_the_two_day_example(self) -> None:
        np.testing.assert_allclose(expected_outdating(TWO_DAYS, [3], 5), [0.3, 0.63], atol=1e-12)
        np.testing.assert_allclose(expected_outdating(TWO_DAYS, [0], 8), [0.0, 0.84], atol=1e-12)

    def test_what_is_sold_on_its_day_only_outdates_as_the_newsvendor_wastes(self) -> None:
        assert expected_outdating(TWO_DAYS, [], 5)[0] == pytest.approx(TWO_DAYS.expected_waste(5))

    @given(st.lists(discretes, min_size=1, max_size=4), st.data())
    @settings(max_examples=60)
    def test_agrees_with_selling_every_outcome_by_age(self, days: list[DiscreteDemand], data: st.DataObject) -> None:
        stock = data.draw(st.lists(st.integers(0, 9), min_size=len(days), max_size=len(days)))
        by_hand = np.zeros(len(days))
        for demands, chance in zip(*every_outcome(days), strict=True):
            by_hand += chance * np.array(sold_by_age([float(units) for units in stock], demands)[0])
        np.testing.assert_allclose(expected_outdating(days, stock[:-1], stock[-1]), by_hand, atol=1e-9)

    def test_a_day_without_demand_ages_the_stock(self) -> None:
        closed = DiscreteDemand([0], [1.0])
        np.testing.assert_allclose(expected_outdating([closed, TWO_DAYS], [3], 5), [3.0, 0.3 * 3 + 0.4 * 1])

    def test_a_demand_for_each_day_of_life_is_asked_for(self) -> None:
        with pytest.raises(ValueError, match="2 days of life"):
            expected_outdating([TWO_DAYS], [3], 5)


class TestOutlook:
    @given(st.lists(discretes, min_size=1, max_size=4), st.data())
    @settings(max_examples=60)
    def test_outdating_and_lost_units_are_those_of_selling_by_age(
        self, days: list[DiscreteDemand], data: st.DataObject
    ) -> None:
        held = [float(n) for n in data.draw(st.lists(st.integers(0, 9), min_size=len(days), max_size=len(days)))]
        cover = data.draw(st.integers(1, len(days)))
        made = float(data.draw(st.integers(0, 15)))
        outlook = outlook_by_enumeration(days, held, cover)
        lost = outdated_old = outdated_new = 0.0
        with_new, without = [*held[:-1], held[-1] + made], held
        for demands, chance in zip(*every_outcome(days), strict=True):
            lost += chance * sum(sold_by_age(with_new, demands)[1][:cover])
            old = sum(sold_by_age(without, demands)[0])
            outdated_old += chance * old
            outdated_new += chance * (sum(sold_by_age(with_new, demands)[0]) - old)
        assert outlook.expected_lost([made])[0] == pytest.approx(lost, abs=1e-9)
        assert outlook.old_waste_units[0] == pytest.approx(outdated_old, abs=1e-9)
        assert outlook.expected_outdating([made])[0] == pytest.approx(outdated_new, abs=1e-9)

    def test_the_two_day_example_is_in_the_outlook(self) -> None:
        outlook = outlook_by_enumeration([TWO_DAYS, TWO_DAYS], [3.0, 0.0], 1)
        assert outlook.old_waste_units[0] == pytest.approx(0.3)
        assert outlook.expected_outdating([5.0])[0] == pytest.approx(0.63)


class TestOneDayRule:
    """With a shelf life of one day the rule for what keeps is the newsvendor's, to the last bit that matters."""

    @given(
        discretes,
        money,
        money,
        st.sampled_from([1.0, 2.5, 7.0]),
        st.sampled_from([0.0, 0.3]),
        st.sampled_from([0, 0.1]),
    )
    def test_gains_are_those_of_the_newsvendor(
        self, demand: DiscreteDemand, underage: float, overage: float, size: float, fixed: float, aging: float
    ) -> None:
        outlook, costs = outlook_by_enumeration([demand], [0.0], 1), costs_of(underage, overage)
        rules = rules_of(size, fixed=fixed)
        carried = carried_value(outlook, costs, rules, aging)
        for k in range(1, 8):
            gain = step_gain(
                outlook, costs, carried,
                from_units=np.array([(k - 1) * size]), to_units=np.array([k * size]), fixed_cost=np.array([fixed]),
            )  # fmt: skip
            one_day = batch_marginal_value(
                demand, k, batch_size_units=size, costs=UnitCosts(underage, overage), batch_fixed_cost=fixed
            )
            assert gain[0] == pytest.approx(one_day, abs=1e-9)

    @given(
        discretes, money, money, st.sampled_from([1.0, 2.5, 7.0]),
        st.integers(0, 4), st.integers(1, 3), st.sampled_from([3, np.inf]), st.sampled_from([0.0, 0.3]),
        st.integers(0, 9),
    )  # fmt: skip
    def test_batches_are_those_of_the_newsvendor(
        self, demand: DiscreteDemand, underage: float, overage: float, size: float,
        fewest: int, multiple: int, most: float, fixed: float, ordered: int,
    ) -> None:  # fmt: skip
        rules = rules_of(size, fewest, multiple, most, fixed)
        one_day = best_batches(
            DiscreteDemand(demand.points, demand.probabilities[None]), costs_of(underage, overage), rules,
            committed_units=float(ordered),
        )  # fmt: skip
        outlook = outlook_by_enumeration([demand], [0.0], 1)
        keeping = best_batches_to_keep(outlook, costs_of(underage, overage), rules, ordered_units=[float(ordered)])
        assert keeping.batches.tolist() == one_day.batches.tolist()
        assert keeping.is_limited_by_min.tolist() == one_day.is_limited_by_min.tolist()
        assert keeping.is_limited_by_max.tolist() == one_day.is_limited_by_max.tolist()

    @given(discretes, money, money)
    def test_the_best_quantity_is_the_quantile_of_the_critical_ratio(
        self, demand: DiscreteDemand, underage: float, overage: float
    ) -> None:
        outlook, costs = outlook_by_enumeration([demand], [0.0], 1), costs_of(underage, overage)
        assert best_quantity_to_keep(outlook, costs)[0] == optimal_quantity(demand, UnitCosts(underage, overage))


class TestBatches:
    @given(
        st.lists(discretes, min_size=2, max_size=3), money, money, st.sampled_from([1.0, 3.0, 7.0]),
        st.sampled_from([0.0, 0.4, 3.0]), st.integers(0, 3), st.sampled_from([0.0, 0.1, 2.0]), st.data(),
    )  # fmt: skip
    @settings(max_examples=80)
    def test_each_batch_gains_at_most_what_the_one_before_does_and_the_last_made_is_the_last_that_gains(
        self, days: list[DiscreteDemand], underage: float, overage: float, size: float,
        fixed: float, fewest: int, aging: float, data: st.DataObject,
    ) -> None:  # fmt: skip
        held = [float(n) for n in data.draw(st.lists(st.integers(0, 9), min_size=len(days), max_size=len(days)))]
        cover = data.draw(st.integers(1, len(days)))
        outlook, costs, rules = (
            outlook_by_enumeration(days, held, cover),
            costs_of(underage, overage),
            rules_of(size, fixed=fixed),
        )
        carried = carried_value(outlook, costs, rules, aging)
        gains = batch_gains(outlook, costs, rules, carried, 40)[0]
        assert (np.diff(gains) <= 1e-9).all()
        made = best_batches_to_keep(outlook, costs, rules, aging_cost=aging).batches[0]
        assert made == (gains > 1e-9 * (underage + overage) * size).sum()
        # With a minimum, of all numbers that it allows the one with the highest sum of gains, or none.
        bounded = rules_of(size, fewest, fixed=fixed)
        gains = batch_gains(outlook, costs, bounded, carried_value(outlook, costs, bounded, aging), 40)[0]
        totals = np.concatenate([[0.0], np.cumsum(gains)])
        allowed = [0, *range(max(fewest, 1), 41)]
        chosen = best_batches_to_keep(outlook, costs, bounded, aging_cost=aging).batches[0]
        assert chosen in allowed
        assert totals[chosen] == pytest.approx(max(totals[n] for n in allowed), abs=1e-6)

    @given(curves, curves, curves, money, money, st.sampled_from([1.0, 7.0, 24.0]), st.integers(1, 3))
    @settings(max_examples=40)
    def test_more_opening_stock_never_makes_more(
        self, first: QuantileDemand, second: QuantileDemand, third: QuantileDemand,
        underage: float, overage: float, size: float, cover: int,
    ) -> None:  # fmt: skip
        paths = [path_units(day, number) for number, day in enumerate((first, second, third))]
        for age in range(3):
            made = []
            for units in (0.0, 5.0, 40.0, 200.0, 1000.0):
                held = np.zeros((1, 3))
                held[0, age] = units
                outlook = outlook_of(paths, held, np.array([cover]))
                made.append(int(best_batches_to_keep(outlook, costs_of(underage, overage), rules_of(size)).batches[0]))
            assert made == sorted(made, reverse=True)

    @given(curves, curves, money, money, st.sampled_from([1.0, 5.0, 24.0]), st.floats(-50, 900))
    @settings(max_examples=60)
    def test_where_the_search_begins_changes_nothing(
        self, first: QuantileDemand, second: QuantileDemand, underage: float, overage: float, size: float, near: float
    ) -> None:
        outlook = outlook_of([path_units(first, 0), path_units(second, 1)], np.zeros((1, 2)), np.array([1]))
        costs, rules = costs_of(underage, overage), rules_of(size)
        assert (
            best_batches_to_keep(outlook, costs, rules, near_units=np.array([near])).batches
            == best_batches_to_keep(outlook, costs, rules).batches
        )

    def test_gains_of_all_batches_at_once_are_those_of_each(self) -> None:
        rng = np.random.default_rng(4)
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.sort(rng.gamma(2, 20, (5, 9)), axis=1))
        outlook = outlook_of(
            [path_units(demand, day) for day in range(3)], rng.gamma(2, 5, (5, 3)), np.array([1, 2, 3, 1, 2])
        )
        costs, rules = (
            UnitCosts(np.full(5, 1.1), np.full(5, 0.6)),
            BatchRules(*np.array([[7, 0, 1, np.inf, 0.4]] * 5).T),
        )
        carried = carried_value(outlook, costs, rules)
        together = batch_gains(outlook, costs, rules, carried, 30)
        for k in range(30):
            alone = step_gain(
                outlook, costs, carried,
                from_units=k * rules.batch_size_units, to_units=(k + 1) * rules.batch_size_units,
                fixed_cost=rules.batch_fixed_cost,
            )  # fmt: skip
            np.testing.assert_allclose(together[:, k], alone, atol=1e-9)

    def test_nothing_is_made_beyond_what_may_be_asked_for_before_the_next_making(self) -> None:
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, [np.full(9, 10.0)])
        paths = [path_units(demand, day) for day in range(5)]
        for cover, batches in ((1, 10), (2, 20), (5, 50), (9, 50)):
            outlook = outlook_of(paths, np.zeros((1, 5)), np.array([cover]))
            assert best_batches_to_keep(outlook, costs_of(1, 1), rules_of(1)).batches[0] == batches

    def test_what_loses_freshness_is_not_made_to_the_last_unit_that_may_be_asked_for(self) -> None:
        curve = QuantileDemand.from_quantiles(QUANTILE_LEVELS, [NormalDemand(100, 20).quantile(QUANTILE_LEVELS)])
        outlook = outlook_of([path_units(curve, day) for day in range(9)], np.zeros((1, 9)), np.array([1]))
        costs, made = costs_of(1.2, 0.5), []
        for aging in (0.0, 0.085, 0.3, 5.0):
            best = best_quantity_to_keep(outlook, costs, aging)[0]
            assert best == pytest.approx(curve.quantile(1.2 / (1.2 + min(aging, 0.5)))[0], abs=0.01 * best)
            made.append(int(best_batches_to_keep(outlook, costs, rules_of(1), aging_cost=aging).batches[0]))
            assert abs(made[-1] - best) <= 1
        assert made == sorted(made, reverse=True)

    def test_orders_until_the_next_making_are_made_even_at_a_loss(self) -> None:
        nothing = QuantileDemand(np.array([0.0, 0.5, 1.0]), np.zeros((1, 4, 3)))
        orders = np.array([[0.0, 30.0, 7.0, 0.0]])
        for cover, made in ((1, 0), (2, 3), (3, 4)):
            shelf = Shelf(
                nothing.shifted(orders), orders, np.array([[5.0, 0.0, 0.0]]), np.array([[cover] * 4]),
                costs_of(0.01, 50), rules_of(10),
            )  # fmt: skip
            shelf.open(0)
            # The five units at hand are too old for an order of tomorrow.
            assert shelf.best_batches(shelf.ordered_units()).batches[0] == made

    def test_a_batch_that_sells_over_its_whole_life_is_made_although_no_day_pays_it(self) -> None:
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, [np.full(9, 3.0)])
        outlook = outlook_of([path_units(demand, day) for day in range(4)], np.zeros((1, 4)), np.array([1]))
        # 12 of 24 sell, at 3 each: 36 for 24 x 0.6 + 3.
        assert best_batches_to_keep(outlook, costs_of(2.4, 0.6), rules_of(24, fixed=3)).batches[0] == 1
        assert best_batches_to_keep(outlook, costs_of(2.4, 0.6), rules_of(24, fixed=22)).batches[0] == 0
        # The first batch's gain is the share of the profit of its life that falls to the day.
        rules, costs = rules_of(24, fixed=3), costs_of(2.4, 0.6)
        gain = batch_gains(outlook, costs, rules, carried_value(outlook, costs, rules), 1)
        assert gain[0, 0] == pytest.approx((36 - 24 * 0.6 - 3) / 4)


class TestPaths:
    @pytest.mark.parametrize("paths", LATTICE_STEPS)
    def test_each_day_takes_each_stratum_once_and_mirrors_around_the_median(self, paths: int) -> None:
        for day in range(28):
            shares = path_shares(day, paths)
            np.testing.assert_allclose(np.sort(shares), (np.arange(paths) + 0.5) / paths)
            assert shares[0] == 0.5
            np.testing.assert_allclose(shares[1:] + shares[:0:-1], 1)

    def test_days_of_a_week_are_not_correlated(self) -> None:
        normal = [NormalDemand(0, 1).quantile(path_shares(day)) for day in range(7)]
        correlations = np.corrcoef(normal) - np.eye(7)
        assert np.abs(correlations).max() < 0.08

    def test_outdating_over_two_to_five_days_comes_near_to_sampling(self) -> None:
        rng = np.random.default_rng(2)
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.quantile(rng.gamma(2, 20, 100_000), QUANTILE_LEVELS))
        row = QuantileDemand(demand.knot_shares, demand.knot_units[None])
        for life in (2, 3, 5):
            held = np.full((1, life), 12.0)
            outlook = outlook_of([path_units(row, day) for day in range(life)], held, np.array([1]))
            sampled = [demand.quantile(rng.random((1, 200_000))) for _ in range(life)]
            exact = outlook_of(sampled, held, np.array([1]))
            made = np.array([life * 30.0])
            near = 0.015 * np.sqrt(life) * 28.3  # of the standard deviation of the life's demand
            assert outlook.expected_outdating(made)[0] == pytest.approx(exact.expected_outdating(made)[0], abs=near)
            assert outlook.expected_lost(made)[0] == pytest.approx(exact.expected_lost(made)[0], abs=near)
            assert outlook.old_waste_units[0] == pytest.approx(exact.old_waste_units[0], abs=near)

    def test_a_product_alone_has_the_outlook_it_has_among_others_to_the_bit(self) -> None:
        rng = np.random.default_rng(3)
        demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.sort(rng.gamma(2, 20, (40, 9)), axis=1))
        held, cover = rng.gamma(1, 9, (40, 3)), rng.integers(1, 4, 40)
        together = outlook_of([path_units(demand, day) for day in range(3)], held, cover)
        for row in (0, 17, 39):
            at = np.array([row])
            alone = outlook_of([path_units(demand.select(at), day) for day in range(3)], held[at], cover[at])
            np.testing.assert_array_equal(alone.short_units[0], together.short_units[row])
            np.testing.assert_array_equal(alone.taken_units[0], together.taken_units[row])
            assert alone.old_waste_units[0] == together.old_waste_units[row]
            assert alone.expected_outdating([60.0])[0] == together.expected_outdating(np.full(40, 60.0))[row]


class TestStockFromDayToDay:
    @given(curves, st.lists(st.integers(0, 60), min_size=3, max_size=3))
    def test_what_is_there_is_sold_outdated_or_left(self, demand: QuantileDemand, held: list[int]) -> None:
        stock = np.array([held], dtype=float)
        following, outdated = close_day(stock, demand)
        sold = demand.mean - demand.expected_lost(stock.sum(axis=1))
        assert following.sum() + outdated[0] + sold[0] == pytest.approx(stock.sum(), abs=1e-6)
        assert following[0, -1] == 0
        assert (following >= 0).all()

    def test_what_keeps_does_not_grow_older_but_dated_lots_do(self) -> None:
        nothing = QuantileDemand(np.array([0.0, 1.0]), np.zeros((1, 2)))
        following, outdated = close_day(np.array([[1.0, 2.0, 4.0]]), nothing, keeps=True)
        np.testing.assert_array_equal(following, [[2.0, 0.0, 4.0]])
        assert outdated[0] == 1

    def test_cover_is_the_days_until_it_can_be_made_again(self) -> None:
        can_make = np.array([[True, False, False, True, True, False]])
        np.testing.assert_array_equal(cover_days(can_make)[0, :4], [3, 2, 1, 1])
        assert (cover_days(can_make)[0, 4:] >= 2).all()


def profit_of(policy: str, life: int, size: float, fixed: float, every: int, mean: float) -> float:
    """Money per day of a policy over 150 simulated days in 30 bakeries, at a price of 2 and a cost of 1."""
    rows, rng = 30, np.random.default_rng(11)
    curve = NormalDemand(mean, mean / 3).quantile(QUANTILE_LEVELS)
    demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.repeat([np.maximum(curve, 0)], rows, axis=0))
    costs = UnitCosts(np.ones(rows), np.ones(rows))
    rules = BatchRules(*np.array([[size, 0, 1, np.inf, fixed]] * rows).T)
    paths = [path_units(demand, day) for day in range(life)]
    held, profit = np.zeros((rows, life)), 0.0
    for day in range(150):
        batches = np.zeros(rows)
        if day % every == 0:
            at_hand = held.sum(axis=1)
            if policy == "one day":
                batches = best_batches(demand, costs, rules, opening_units=at_hand).batches
            elif policy == "by age":
                outlook = outlook_of(paths, held, np.full(rows, every))
                batches = best_batches_to_keep(outlook, costs, rules).batches
            else:
                batches = np.maximum(np.round((float(policy) * mean - at_hand) / size), 0)
        held[:, -1] += batches * size
        asked = demand.quantile(rng.random(rows))
        reached = np.cumsum(held, axis=1)
        sold = np.minimum(reached[:, -1], asked)
        profit += (2 * sold - batches * (size + fixed)).sum()
        left = np.diff(np.maximum(reached - asked[:, None], 0), axis=1, prepend=0.0)
        held = np.concatenate([left[:, 1:], np.zeros((rows, 1))], axis=1)
    return (profit + held.sum()) / rows / 150


@pytest.mark.parametrize(
    ("life", "size", "fixed", "every", "mean"),
    [(2, 12, 0, 1, 60), (3, 10, 2, 1, 20), (4, 24, 0, 1, 10), (4, 10, 2, 2, 20), (5, 12, 2, 1, 6)],
)
def test_batches_by_age_earn_more_than_the_one_day_rule_and_as_much_as_the_best_fixed_level(
    life: int, size: float, fixed: float, every: int, mean: float
) -> None:
    by_age = profit_of("by age", life, size, fixed, every, mean)
    assert by_age > 1.02 * profit_of("one day", life, size, fixed, every, mean)
    levels = [profit_of(str(level), life, size, fixed, every, mean) for level in (1, 1.5, 2, 2.5, 3)]
    # The level is chosen with hindsight, of the same days: no rule that looks ahead only can be asked for more.
    assert by_age > 0.99 * max(levels)


def test_the_number_of_paths_is_prime_as_strata_are_to_be_visited_once() -> None:
    for paths in LATTICE_STEPS:
        assert all(paths % divisor for divisor in range(2, int(paths**0.5) + 1))
    assert PATHS in LATTICE_STEPS


def test_stock_below_zero_does_not_outdate_but_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        expected_outdating(DiscreteDemand([2], [1.0]), [-3], 5)
