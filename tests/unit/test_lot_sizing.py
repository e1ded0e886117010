"""Lot sizes by cost, against published examples and against every possible plan."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.lot_sizing import (
    all_units_discount,
    economic_order_quantity,
    par_order,
    periods_of_supply,
    plan_cost,
    reordering_quantity,
    replenishment,
    wagner_whitin,
)
from planning.mrp import ItemPolicy, LotRule, mrp_record

WAGNER_WHITIN_DEMAND = [69, 29, 36, 61, 61, 26, 34, 67, 45, 67, 79, 56]
WAGNER_WHITIN_SETUP = [85, 102, 102, 101, 98, 114, 105, 86, 119, 110, 98, 114]
# Heizer & Render: setup 100, holding 1 per unit and week of closing stock, 35 on hand, lead time a week.
HEIZER_RENDER_GROSS = np.array([[35, 30, 40, 0, 10, 40, 30, 0, 30, 55.0]])


@pytest.mark.parametrize(
    ("demand", "setup", "holding", "quantity", "cost"),
    [
        ([90, 120, 80, 70], 500, 2, [210, 0, 150, 0], 1380),
        ([730, 580, 445, 650, 880], 100, 0.1, [1310, 0, 1095, 0, 880], 423),
        (WAGNER_WHITIN_DEMAND, WAGNER_WHITIN_SETUP, 1, [98, 0, 97, 0, 121, 0, 0, 112, 0, 67, 135, 0], 864),
    ],
    ids=["snyder_shen_3_9", "snyder_shen_problem_3_29", "wagner_whitin_1958"],
)
def test_published_optima(demand, setup, holding, quantity, cost):
    plan = wagner_whitin(demand, setup, holding)
    assert plan.quantity.tolist() == quantity
    assert plan.cost == pytest.approx(cost)


def test_next_order_periods_are_those_of_snyder_shen():
    assert wagner_whitin([90, 120, 80, 70], 500, 2).next_order_period.tolist() == [3, 5, 5, 5]


@pytest.mark.parametrize(
    ("rule", "holding", "total"),
    [
        (LotRule(), 0, 700),
        (LotRule(minimum=73, multiple=73), 375, 775),
        (LotRule(periods=3), 195, 495),
    ],
    ids=["lot_for_lot", "economic_order_quantity", "period_order_quantity"],
)
def test_heizer_render_rules_cost_what_the_book_says(rule, holding, total):
    record = mrp_record(HEIZER_RENDER_GROSS, np.zeros((1, 10)), ItemPolicy(on_hand=35, lead_periods=1, rule=rule))
    terms = {"setup_cost": 100, "holding_cost": 1}
    assert plan_cost(record.planned_receipts, record.projected_on_hand, **terms).tolist() == [total]
    assert record.projected_on_hand.sum() == holding


def test_heizer_render_quantities_come_from_the_economic_one():
    economic = economic_order_quantity(100, HEIZER_RENDER_GROSS.mean(), 1).quantity
    assert np.floor(economic) == 73
    assert periods_of_supply(economic, HEIZER_RENDER_GROSS.mean()) == 3


def test_heizer_render_wagner_whitin_is_cheapest():
    net = mrp_record(HEIZER_RENDER_GROSS, np.zeros((1, 10)), ItemPolicy(on_hand=35, lead_periods=1)).net_requirements
    plan = wagner_whitin(net, 100, 1)
    assert {week + 1: plan.quantity[0, week] for week in np.flatnonzero(plan.quantity[0])} == {2: 80, 6: 70, 9: 85}
    assert plan.cost.tolist() == [455]
    on_hand = np.cumsum(plan.quantity - net, axis=1)
    assert plan_cost(plan.quantity, on_hand, setup_cost=100, holding_cost=1).tolist() == [455]


def test_economic_order_quantity_of_snyder_shen():
    order = economic_order_quantity(8, 1300, 0.225)
    assert order.quantity == pytest.approx(304.0467800264368, rel=1e-14)
    assert order.cost == pytest.approx(68.410525505948272, rel=1e-14)


def test_all_units_discount_of_snyder_shen():
    order = all_units_discount(8, 1300, 0.3, [0, 400, 800], [0.75, 0.72, 0.68])
    assert (order.quantity, order.tier) == (800, 2)
    assert order.cost == pytest.approx(978.60, abs=1e-9)


def test_a_discount_that_does_not_pay_is_left():
    order = all_units_discount(8, 1300, 0.3, [0, 400, 800_000], [0.75, 0.749, 0.748])
    assert (order.tier, order.quantity) == (0, pytest.approx(economic_order_quantity(8, 1300, 0.225).quantity))


def test_breaks_out_of_order_are_refused():
    with pytest.raises(ValueError, match="ascend"):
        all_units_discount(8, 1300, 0.3, [0, 400, 400], [3, 2, 1])


def test_shop_rules_of_odoo_and_marketman():
    assert reordering_quantity(0, 1, 20, 3) == 21
    assert reordering_quantity([5.0, 4.9], 5, 20, 3).tolist() == [0, 18]
    assert replenishment(60, 75, target=10, most=20) == 20
    assert replenishment(60, [75, 20, 10], target=10, fewest=5, most=30).tolist() == [25, 5, 5]
    assert par_order(6, [3.25, 3.75, 7.0]).tolist() == [3, 2, 0]


def test_a_maximum_leaves_the_rest_to_the_next_period():
    record = mrp_record(np.array([[25.0, 0, 0]]), np.zeros((1, 3)), ItemPolicy(rule=LotRule(maximum=11, multiple=5)))
    assert record.planned_receipts.tolist() == [[10, 10, 5]]
    assert record.projected_on_hand.tolist() == [[-15, -5, 0]]


# ---------------------------------------------------------------- every possible plan

numbers = st.integers(0, 9).map(float)
instances = st.integers(1, 6).flatmap(
    lambda periods: st.tuples(
        *(st.lists(numbers, min_size=periods, max_size=periods) for _ in range(4)),
        st.lists(st.booleans(), min_size=periods, max_size=periods),
        st.integers(1, periods + 1),
    )
)


def cheapest(demand, setup, holding, unit, can_order, most_periods) -> float:
    """The least cost of all sets of order periods, each order covering the needs until the next."""
    periods, best = len(demand), np.inf
    for ordered in product([False, True], repeat=periods):
        if any(is_ordered and not allowed for is_ordered, allowed in zip(ordered, can_order, strict=True)):
            continue
        last, cost = None, 0.0
        for period in range(periods):
            if ordered[period]:
                last, cost = period, cost + setup[period]
            if demand[period] > 0:
                if last is None or period - last >= most_periods:
                    cost = np.inf
                    break
                cost += demand[period] * (unit[last] + sum(holding[last:period]))
        best = min(best, cost)
    return best


@given(instances)
@settings(max_examples=150, deadline=None)
def test_wagner_whitin_is_optimal_among_all_plans(instance):
    demand, setup, holding, unit, can_order, most_periods = instance
    plan = wagner_whitin(demand, setup, holding, unit_cost=unit, can_order=can_order, most_periods=[most_periods])
    best = cheapest(*instance)
    assert plan.cost == pytest.approx(best)
    if np.isfinite(best):
        on_hand = np.cumsum(plan.quantity - demand)
        assert (on_hand >= -1e-9).all()
        assert not plan.quantity[~np.array(can_order)].any()
        assert plan_cost(
            plan.quantity, on_hand, setup_cost=setup, holding_cost=holding, unit_cost=unit
        ) == pytest.approx(best)


@given(instances, instances)
@settings(max_examples=40, deadline=None)
def test_a_row_alone_is_planned_as_in_a_batch(first, second):
    periods = min(len(first[0]), len(second[0]))
    rows = [[part[:periods] for part in instance[:5]] for instance in (first, second)]
    demand, setup, holding, unit, can_order = (np.array([row[part] for row in rows]) for part in range(5))
    both = wagner_whitin(demand, setup, holding, unit_cost=unit, can_order=can_order)
    alone = wagner_whitin(demand[0], setup[0], holding[0], unit_cost=unit[0], can_order=can_order[0])
    assert np.array_equal(both.quantity[0], alone.quantity)
    assert np.array_equal(both.next_order_period[0], alone.next_order_period)


def test_of_two_plans_that_cost_the_same_the_fresher_one_is_taken():
    plan = wagner_whitin([10.0, 5.0, 5.0], [20, 5, 5], 1)  # each 5 costs 5, held a night or ordered by itself
    assert plan.cost == 30
    assert plan.quantity.tolist() == [10, 5, 5]
    assert wagner_whitin([0.1, 0.2, 0.1], 0.3, [1.5, 3.0, 1.0]).quantity[0] == pytest.approx(0.1)


def test_a_need_that_no_order_can_cover_is_infinitely_dear_and_negative_needs_are_refused():
    plan = wagner_whitin([0, 0, 5], 1, 1, can_order=[True, False, False], most_periods=[2])
    assert plan.cost == np.inf
    assert plan.quantity.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="negative"):
        wagner_whitin([1, -1], 1, 1)


def test_values_without_an_answer_are_refused():
    for call in (
        lambda: wagner_whitin([1, np.nan], 1, 1),
        lambda: economic_order_quantity(8, 1300, 0),
        lambda: economic_order_quantity(8, -1, 1),
        lambda: periods_of_supply(73, 0),
        lambda: all_units_discount(8, 1300, 0, [0], [1]),
        lambda: all_units_discount(8, 0, 0.3, [0], [1]),
        lambda: all_units_discount(8, 1300, 0.3, [], []),
    ):
        with pytest.raises(ValueError, match=r"number|above 0|ascend"):
            call()
