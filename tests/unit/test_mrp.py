"""The MRP record, its lot rules and the multi-level explosion, against published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.mrp import (
    BillOfMaterials,
    ItemPolicy,
    LotRule,
    explode_releases,
    low_level_codes,
    mrp_record,
    order_packs,
)

# Krajewski, Ritzman & Malhotra, item C seat subassembly.
SEAT_GROSS = np.array([[150, 0, 0, 120, 0, 150, 120, 0.0]])
SEAT_SCHEDULED = np.array([[230, 0, 0, 0, 0, 0, 0, 0.0]])
# Heizer & Render, lot-sizing example, setup 100, holding 1 per unit and week of closing stock.
LOT_SIZING_GROSS = np.array([[35, 30, 40, 0, 10, 40, 30, 0, 30, 55.0]])
# Heizer & Render "Awesome": quantity of the child in one of the parent, lead times in weeks.
AWESOME = "ABCDEFG"
AWESOME_PARTS = {"AB": 2, "AC": 3, "BD": 2, "BE": 2, "CE": 2, "CF": 2, "FD": 2, "FG": 1}
AWESOME_LEAD = np.array([1, 2, 1, 1, 2, 3, 2])


@pytest.mark.parametrize(
    ("rule", "on_hand", "receipts", "releases", "mean"),
    [
        (LotRule(minimum=230, multiple=230), [117, 117, 117, 227, 227, 77, 187, 187], {4: 230, 7: 230}, [2, 5], 157),
        (LotRule(periods=3), [117, 117, 117, 150, 150, 0, 0, 0], {4: 153, 7: 120}, [2, 5], 81.375),
        (LotRule(), [117, 117, 117, 0, 0, 0, 0, 0], {4: 3, 6: 150, 7: 120}, [2, 4, 5], 43.875),
    ],
    ids=["fixed_order_quantity", "periodic_order_quantity", "lot_for_lot"],
)
def test_record_reproduces_the_krajewski_table(rule, on_hand, receipts, releases, mean):
    record = mrp_record(SEAT_GROSS, SEAT_SCHEDULED, ItemPolicy(on_hand=37, lead_periods=2, rule=rule))
    assert record.projected_on_hand[0].tolist() == on_hand
    assert record.projected_on_hand.mean() == mean
    assert {
        week + 1: record.planned_receipts[0, week] for week in np.flatnonzero(record.planned_receipts[0])
    } == receipts
    assert (np.flatnonzero(record.planned_releases[0]) + 1).tolist() == releases
    assert record.planned_releases.sum() == sum(receipts.values())
    assert not record.past_due_receipts.any()


@pytest.mark.parametrize(
    ("rule", "receipts", "cost"),
    [
        (LotRule(), {2: 30, 3: 40, 5: 10, 6: 40, 7: 30, 9: 30, 10: 55}, 700),
        (LotRule(minimum=73, multiple=73), {2: 73, 5: 73, 7: 73, 10: 73}, 775),
        (LotRule(periods=3), {2: 70, 5: 80, 9: 85}, 495),
    ],
    ids=["lot_for_lot", "economic_order_quantity", "periodic_order_quantity"],
)
def test_lot_sizing_costs_match_heizer_render(rule, receipts, cost):
    record = mrp_record(LOT_SIZING_GROSS, np.zeros((1, 10)), ItemPolicy(on_hand=35, lead_periods=1, rule=rule))
    assert {
        week + 1: record.planned_receipts[0, week] for week in np.flatnonzero(record.planned_receipts[0])
    } == receipts
    assert 100 * np.count_nonzero(record.planned_receipts) + record.projected_on_hand.sum() == cost


def test_rules_differ_by_row_in_one_call():
    rule = LotRule(periods=np.array([1, 3, 1]), minimum=np.array([230, 0, 0]), multiple=np.array([230, 0, 0]))
    policy = ItemPolicy(on_hand=37, lead_periods=2, rule=rule)
    record = mrp_record(np.repeat(SEAT_GROSS, 3, axis=0), np.repeat(SEAT_SCHEDULED, 3, axis=0), policy)
    assert record.projected_on_hand.mean(axis=1).tolist() == [157, 81.375, 43.875]


def test_multiple_is_applied_to_the_larger_of_need_and_minimum():
    gross = np.array([[20.0], [4.0], [2.0000000001]])
    rule = LotRule(minimum=np.array([0, 10, 0]), multiple=np.array([3, 4, 1]))
    record = mrp_record(gross, np.zeros((3, 1)), ItemPolicy(rule=rule))
    assert record.planned_receipts[:, 0].tolist() == [21, 12, 2]  # 20 to a multiple of 3 is Odoo's example


def test_safety_stock_is_restored_and_late_releases_are_kept_as_past_due():
    record = mrp_record(np.array([[5.0, 5.0, 5.0]]), np.zeros((1, 3)), ItemPolicy(8, safety_stock=4, lead_periods=2))
    assert record.net_requirements.tolist() == [[1, 5, 5]]
    assert record.projected_on_hand.tolist() == [[4, 4, 4]]
    assert record.past_due_receipts.tolist() == [[1, 5, 0]]
    assert record.planned_releases.tolist() == [[5, 0, 0]]


def awesome(on_hand) -> tuple[BillOfMaterials, object]:
    parent = np.array([AWESOME.index(pair[0]) for pair in AWESOME_PARTS])
    child = np.array([AWESOME.index(pair[1]) for pair in AWESOME_PARTS])
    quantity = np.array(list(AWESOME_PARTS.values()), dtype=float)
    bill = BillOfMaterials(low_level_codes(7, parent, child), parent, child, quantity)
    gross = np.zeros((7, 8))
    gross[0, 7] = 50
    return bill, explode_releases(bill, gross, np.zeros((7, 8)), ItemPolicy(on_hand, lead_periods=AWESOME_LEAD))


def by_week(matrix: np.ndarray) -> dict[str, dict[int, float]]:
    return {
        item: {week + 1: matrix[row, week] for week in np.flatnonzero(matrix[row])} for row, item in enumerate(AWESOME)
    }


def test_gross_explosion_matches_heizer_render():
    bill, record = awesome(on_hand=np.zeros(7))
    assert bill.low_level_code.tolist() == [0, 1, 1, 3, 2, 2, 3]
    assert dict(zip(AWESOME, record.net_requirements.sum(axis=1), strict=True)) == {
        "A": 50, "B": 100, "C": 150, "D": 800, "E": 500, "F": 300, "G": 300,
    }  # fmt: skip
    assert by_week(record.planned_releases) == {
        "A": {7: 50}, "B": {5: 100}, "C": {6: 150}, "D": {2: 600, 4: 200}, "E": {3: 200, 4: 300}, "F": {3: 300}, "G": {1: 300},
    }  # fmt: skip


def test_net_explosion_matches_heizer_render():
    _, record = awesome(on_hand=np.array([10, 15, 20, 10, 10, 5, 0]))
    assert by_week(record.net_requirements) == {
        "A": {8: 40}, "B": {7: 65}, "C": {7: 100}, "D": {3: 380, 5: 130}, "E": {5: 120, 6: 200}, "F": {6: 195}, "G": {3: 195},
    }  # fmt: skip
    assert by_week(record.planned_releases) == {
        "A": {7: 40}, "B": {5: 65}, "C": {6: 100}, "D": {2: 380, 4: 130}, "E": {3: 120, 4: 200}, "F": {3: 195}, "G": {1: 195},
    }  # fmt: skip


def test_a_cycle_has_no_low_level_code_and_is_not_exploded():
    parent, child = np.array([0, 1, 2, 3]), np.array([1, 2, 1, 4])
    codes = low_level_codes(5, parent, child)
    assert codes.tolist() == [0, -1, -1, 0, 1]
    with pytest.raises(ValueError, match="cycle"):
        explode_releases(
            BillOfMaterials(codes, parent, child, np.ones(4)), np.ones((5, 1)), np.zeros((5, 1)), ItemPolicy()
        )


amounts = st.floats(0, 500).map(lambda value: round(value, 3))


@given(
    st.lists(st.tuples(amounts, amounts), min_size=1, max_size=14),
    amounts,
    amounts,
    st.integers(0, 5),
    st.builds(LotRule, st.integers(1, 5), amounts, st.sampled_from([0.0, 0.5, 7.0, 25.0])),
)
def test_projected_on_hand_follows_its_recursion_and_stays_above_safety_stock(days, on_hand, safety, lead, rule):
    gross, scheduled = np.array(days).T[:, None, :]
    record = mrp_record(gross, scheduled, ItemPolicy(on_hand, safety, lead, rule))
    before = np.concatenate([[on_hand], record.projected_on_hand[0, :-1]])
    after = before + scheduled[0] + record.planned_receipts[0] - gross[0]
    assert np.allclose(record.projected_on_hand[0], after)
    assert (record.projected_on_hand >= safety - 1e-4).all()
    assert (record.planned_receipts >= record.net_requirements - 1e-4).all()
    assert np.isclose(record.planned_releases.sum() + record.past_due_receipts.sum(), record.planned_receipts.sum())


@given(st.floats(1e-6, 1e5), st.floats(1e-3, 100), st.integers(1, 20), st.integers(1, 12))
def test_packs_hold_the_need_and_respect_minimum_and_multiple(net, pack, minimum, multiple):
    packs = order_packs(np.array([net]), np.array([pack]), np.array([minimum]), np.array([multiple]))[0]
    assert packs * pack >= net - 1e-6 * pack
    assert packs >= minimum
    assert packs % multiple == 0
    fewer = packs - multiple
    assert fewer < minimum or fewer * pack < net


def test_nothing_needed_is_nothing_ordered():
    assert order_packs(np.array([0.0]), np.array([5.0]), np.array([3]), np.array([2])).tolist() == [0]


def test_lists_and_single_rows_are_records_too():
    record = mrp_record([5, 5], policy=ItemPolicy(on_hand=8))
    assert record.planned_receipts.tolist() == [[0, 2]]
    assert order_packs([7, 0], 5).tolist() == [2, 0]
    assert low_level_codes(3, [0, 1], [1, 2]).tolist() == [0, 1, 2]


def test_what_is_no_record_is_refused():
    for call in (
        lambda: mrp_record([5, np.nan]),
        lambda: mrp_record([[5, 5]], [[1, 2, 3]]),
        lambda: mrp_record([5, 5], policy=ItemPolicy(lead_periods=-1)),
        lambda: LotRule(periods=0),
        lambda: LotRule(multiple=-2.0),
    ):
        with pytest.raises(ValueError, match=r"numbers|broadcast|negative|period"):
            call()
