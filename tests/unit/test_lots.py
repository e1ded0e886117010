"""First-expired-first-out over lots, against published examples, and stock rolled forward from its last count."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.frames import PlanningError
from planning.keys import NEVER
from planning.lots import LOT_COLUMNS, last_usable_days, lot_dates, lot_table, roll_forward, run_fefo, take_first

DAY_1 = date(2026, 1, 1)
KEY = {"tenant_id": "t", "location_id": "shop", "item_id": "flour"}


def on(day: int) -> date:
    return DAY_1 + timedelta(days=day - 1)


def lots(*rows, **extra) -> pd.DataFrame:
    """Rows of (lot_id, quantity, received_on, expires_on)."""
    frame = pd.DataFrame(
        [{**KEY, **dict(zip(("lot_id", "quantity", "received_on", "expires_on"), row, strict=True))} for row in rows]
    )
    return frame.assign(unit_cost=1.5, **extra) if len(frame) else pd.DataFrame(columns=[*LOT_COLUMNS, *extra])


def run_one(frame: pd.DataFrame, demand: list[float], removal_days: int = 0):
    """One group whose days start at DAY_1; a lot received before is opening stock."""
    received = np.array([(day - DAY_1).days for day in frame["received_on"]])
    count = len(frame)
    through = last_usable_days(
        frame["expires_on"], received, np.full(count, np.nan), np.full(count, removal_days), DAY_1
    )
    return run_fefo(lot_table(np.zeros(count, dtype=int), 1, frame, received, through), np.array([demand], dtype=float))


def test_lot_serves_its_expiry_day_and_expires_that_evening():
    """Oracle SCM, How On-Hand Lots Are Consumed: 48 on hand, expiring on day 4, demand 10 a day."""
    run = run_one(lots(("a", 48, on(0), on(4))), [10, 10, 10, 10])
    assert run.expired[0].tolist() == [0, 0, 0, 8]
    assert run.closing[0].tolist() == [38, 28, 18, 0]
    assert not run.shortage.any()


def test_first_expiring_lot_is_used_first_across_a_receipt():
    frame = lots(("c", 10, on(4), on(9)), ("b", 20, on(0), on(5)), ("a", 6, on(0), on(2)))
    run = run_one(frame, [4] * 7)
    assert run.closing[0].tolist() == [22, 18, 14, 20, 10, 6, 2]
    assert run.expired[0].tolist() == [0, 0, 0, 0, 6, 0, 0]
    assert not run.shortage.any()
    by_lot = dict(zip("abc", run.expired_of_lot[0], strict=True))
    assert by_lot == {"a": 0, "b": 6, "c": 0}


def test_removal_days_end_use_before_the_expiry_date():
    """Odoo: received on 1 January, expires after 30 days, removed 15 days before."""
    through = last_usable_days(pd.Series([None]), np.array([0]), np.array([31.0]), np.array([0]), DAY_1)
    assert on(int(through[0]) + 1) == date(2026, 1, 31)
    through = last_usable_days(pd.Series([date(2026, 1, 31)]), np.array([0]), np.array([np.nan]), np.array([15]), DAY_1)
    assert on(int(through[0]) + 1) == date(2026, 1, 16)


def test_a_lot_expires_and_is_removed_days_after_its_receipt():
    """Odoo: received on 1 January, expiration after 30 days, removal 15 days before that."""
    dates = lot_dates(date(2026, 1, 1), 30, 15)
    assert (dates.expires_on, dates.removal_on) == (date(2026, 1, 31), date(2026, 1, 16))
    many = lot_dates(np.array(["2026-01-01", "2024-02-01"], dtype="datetime64[D]"), [30, 28], 0)
    assert many.expires_on.tolist() == [date(2026, 1, 31), date(2024, 2, 29)]
    assert many.removal_on.tolist() == many.expires_on.tolist()


def test_equal_expiry_is_broken_by_receipt_then_lot_and_lots_that_keep_come_last():
    frame = lots(("z", 1, on(-9), None), ("b", 1, on(0), on(9)), ("a", 1, on(0), on(9)), ("c", 1, on(-1), on(9)))
    run = run_one(frame, [2.5])
    names = frame["lot_id"].to_numpy()
    table = lot_table(np.zeros(4, dtype=int), 1, frame, np.full(4, -1), np.array([NEVER, 8, 8, 8]))
    assert names[table.lot[0]].tolist() == ["c", "a", "b", "z"]
    assert run.remaining_of_lot[0].tolist() == [0, 0, 0.5, 1]


def test_receipt_is_usable_from_its_day_and_a_shortage_is_not_made_up_for():
    run = run_one(lots(("a", 10, on(2), None)), [4, 4, 4, 4])
    assert run.shortage[0].tolist() == [4, 0, 0, 2]
    assert run.consumption[0].tolist() == [0, 4, 4, 2]


lot_rows = st.lists(st.tuples(st.integers(0, 50), st.integers(-3, 9), st.none() | st.integers(-3, 12)), max_size=6)


@given(st.lists(lot_rows, min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=8, max_size=8))
@settings(max_examples=60)
def test_stock_is_conserved_and_nothing_is_used_after_its_last_day(groups, demand):
    rows = [(g, *row) for g, group in enumerate(groups) for row in group]
    if not rows:
        return
    frame = lots(*[(f"l{n}", quantity, on(day), None) for n, (_, quantity, day, _) in enumerate(rows)])
    group = np.array([row[0] for row in rows])
    start = np.array([row[2] for row in rows]) - 1
    through = np.array([NEVER if row[3] is None else row[3] for row in rows])
    demands = np.tile(np.array(demand, dtype=float), (len(groups), 1))
    run = run_fefo(lot_table(group, len(groups), frame, start, through), demands)

    opening = np.bincount(group[start < 0], weights=frame["quantity"].to_numpy()[start < 0], minlength=len(groups))
    before = np.column_stack([opening, run.closing[:, :-1]])
    assert np.allclose(before + run.receipts, run.consumption + run.expired + run.closing)
    assert np.allclose(run.consumption + run.shortage, demands)
    assert np.allclose(run.remaining_of_lot.sum(axis=1), run.closing[:, -1])
    for g in range(len(groups)):
        usable_on = [
            sum(
                q
                for k, q, s, e in zip(group, frame["quantity"], start, through, strict=True)
                if k == g and s <= day <= e
            )
            for day in range(8)
        ]
        assert (run.consumption[g] <= np.array(usable_on) + 1e-9).all()
        alone = run_fefo(lot_table(np.where(group == g, 0, -1), 1, frame, start, through), demands[:1])
        assert np.array_equal(alone.closing[0], run.closing[g])


@given(st.lists(lot_rows, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_several_paths_of_demand_run_as_each_of_them_alone(groups, seed):
    rows = [(g, *row) for g, group in enumerate(groups) for row in group]
    frame = lots(*[(f"l{n % 3}", quantity, on(day), None) for n, (_, quantity, day, _) in enumerate(rows)])
    group = np.array([row[0] for row in rows], dtype=int)
    start = np.array([row[2] for row in rows], dtype=int) - 1
    through = np.array([NEVER if row[3] is None else row[3] for row in rows], dtype=int)
    table = lot_table(group, len(groups), frame, start, through)
    demand = np.random.default_rng(seed).integers(0, 30, (3, len(groups), 8)).astype(float)
    run = run_fefo(table, demand)
    for path in range(3):
        alone = run_fefo(table, demand[path])
        for name, matrix in vars(alone).items():
            assert np.array_equal(getattr(run, name)[path], matrix), name
        assert np.allclose(np.where(alone.slack < 0, -alone.slack, 0), alone.shortage)


def test_slack_is_what_is_left_of_usable_stock_and_negative_where_short():
    run = run_one(lots(("a", 10, on(0), on(2)), ("b", 10, on(0), None)), [4, 4, 4, 10])
    assert run.slack[0].tolist() == [16, 12, 6, -4]
    assert run.expired[0].tolist() == [0, 2, 0, 0]


@pytest.mark.parametrize("as_given", [list, tuple, np.array, pd.DataFrame])
def test_a_demand_takes_stock_from_left_to_right_however_it_is_written(as_given):
    stock = as_given([[10, 5, 2.5], [0, 4, 4], [1, 1, 1]])
    demand = pd.Series([12, 0, 9]) if as_given is pd.DataFrame else as_given([12, 0, 9])
    assert take_first(stock, demand).tolist() == [[10, 2, 0], [0, 0, 0], [1, 1, 1]]


# ---------------------------------------------------------------- roll_forward


def movements(*rows) -> pd.DataFrame:
    frame = pd.DataFrame([{**KEY, "occurred_on": day, "quantity_change": change} for day, change in rows])
    return frame if len(frame) else pd.DataFrame(columns=[*KEY, "occurred_on", "quantity_change"])


def used(*rows) -> pd.DataFrame:
    frame = pd.DataFrame([{**KEY, "consumed_on": day, "quantity": quantity} for day, quantity in rows])
    return frame if len(frame) else pd.DataFrame(columns=[*KEY, "consumed_on", "quantity"])


def left(stock) -> dict[str, float]:
    return dict(zip(stock.lots["lot_id"], stock.lots["quantity"], strict=True))


def test_count_is_rolled_forward_by_receipts_consumption_and_movements():
    stock = roll_forward(
        lots(("old", 10, on(0), on(3)), ("new", 20, on(0), on(8)), as_of=on(1)),
        movements((on(2), -1.0), (on(3), 2.5)),
        lots(("po", 5, on(2), None)),
        used((on(1), 4), (on(2), 4)),
        on(4),
    )
    # old: 10 - 4 - 4 - 1 = 1, expired on day 3
    assert left(stock) == {"new": 20, "po": 5, f"movement-{on(3)}": 2.5}
    assert stock.exceptions.empty
    assert stock.lots.loc[stock.lots["lot_id"] == "new", "expires_on"].tolist() == [on(8)]
    assert stock.lots.loc[stock.lots["lot_id"] == "po", "expires_on"].tolist() == [None]


def test_what_happened_before_the_count_or_from_to_date_on_is_not_applied():
    stock = roll_forward(
        lots(("a", 10, on(0), None), as_of=on(3)),
        movements((on(2), -5.0), (on(5), -5.0)),
        lots(("before", 7, on(2), None), ("after", 7, on(5), None)),
        used((on(1), 4), (on(3), 1), (on(5), 4)),
        on(5),
    )
    assert left(stock) == {"a": 9}


def test_count_of_the_day_itself_is_the_opening_stock():
    stock = roll_forward(
        lots(("a", 10, on(0), on(5)), ("gone", 3, on(0), on(4)), as_of=on(5)), movements(), lots(), used(), on(5)
    )
    assert left(stock) == {"a": 10}


def test_stock_never_counted_starts_empty_and_lives_from_receipts():
    stock = roll_forward(lots(as_of=None), movements(), lots(("po", 25, on(1), None)), used((on(2), 5)), on(3))
    assert left(stock) == {"po": 20}
    assert stock.exceptions.empty


def test_taking_more_than_there_is_leaves_zero_and_is_reported():
    stock = roll_forward(
        lots(("a", 10, on(0), None), as_of=on(1)), movements((on(2), -8.0)), lots(), used((on(1), 5)), on(3)
    )
    assert stock.lots.empty
    (exception,) = stock.exceptions.to_dict("records")
    assert exception["code"] == "stock_below_zero"
    assert "by 3 " in exception["message"]


def test_negative_lot_counts_as_zero_and_is_reported():
    stock = roll_forward(
        lots(("a", -4, on(0), None), ("b", 6, on(0), None), as_of=on(1)), movements(), lots(), used(), on(2)
    )
    assert left(stock) == {"b": 6}
    assert stock.exceptions["code"].tolist() == ["negative_count"]


def test_items_date_receipts_by_shelf_life_and_take_lots_out_at_removal():
    items = pd.DataFrame([{"tenant_id": "t", "item_id": "flour", "shelf_life_days": 5, "removal_days": 2}])
    receipt = lots(("po", 5, on(1), None))
    count = lots(("kept", 3, on(0), None), as_of=on(1))
    stock = roll_forward(count, movements(), receipt, used(), on(3), items=items)
    assert left(stock) == {"kept": 3, "po": 5}
    assert stock.lots.set_index("lot_id").loc["po", "expires_on"] == on(5)
    assert left(roll_forward(count, movements(), receipt, used(), on(4), items=items)) == {"kept": 3}


def test_counts_of_two_days_or_of_the_future_are_refused():
    two = pd.concat([lots(("a", 1, on(0), None), as_of=on(1)), lots(("b", 1, on(0), None), as_of=on(2))])
    with pytest.raises(PlanningError, match="two days"):
        roll_forward(two, movements(), lots(), used(), on(3))
    with pytest.raises(PlanningError, match="after"):
        roll_forward(lots(("a", 1, on(0), None), as_of=on(9)), movements(), lots(), used(), on(3))


def test_rolling_day_by_day_equals_rolling_at_once():
    count = lots(("a", 30, on(0), on(4)), ("b", 30, on(0), on(9)), as_of=on(1))
    receipt, eaten = lots(("c", 10, on(3), on(6))), used(*[(on(day), 7) for day in range(1, 8)])
    at_once = roll_forward(count, movements(), receipt, eaten, on(8))
    step = count
    for day in range(2, 9):
        step = roll_forward(step, movements(), receipt[receipt["received_on"] == on(day - 1)], eaten, on(day)).lots
        step = step.assign(as_of=on(day))
    pd.testing.assert_frame_equal(at_once.lots, step.drop(columns="as_of"))
