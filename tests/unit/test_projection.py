"""Stock projected lot by lot over the horizon."""

import itertools
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from planning.frames import Panel, PlanningError
from planning.keys import NEVER
from planning.lots import lot_table, run_fefo
from planning.projection import Projections, demand_paths, project_inventory
from tests.unit.examples import few_examples

MONDAY = date(2026, 1, 5)
STOCK = ("t", "shop", "milk")
LOT_COLUMNS = ["tenant_id", "location_id", "item_id", "lot_id", "quantity", "received_on", "expires_on", "unit_cost"]
RECEIPT_COLUMNS = [
    "tenant_id",
    "location_id",
    "item_id",
    "lot_id",
    "delivery_on",
    "quantity",
    "expires_on",
    "unit_cost",
]


def on(day: int) -> date:
    return MONDAY + timedelta(days=day)


def project(
    demand,
    lots=(),
    receipts=(),
    cost: float | None = 2.0,
    lead_days: int | None = 2,
    removal_days: int = 0,
    shelf=None,
    deviation=None,
    weekdays=None,
    run_day: int | None = None,
) -> Projections:
    """lots: (quantity, expires, unit_cost); receipts: (day, quantity, expires, unit_cost), days as numbers from Monday.

    weekdays: those on which the dairy delivers; far delivers on any day.
    """
    keys = pd.DataFrame([STOCK], columns=["tenant_id", "location_id", "item_id"])
    gross = np.broadcast_to(np.asarray(demand, dtype=float), (1, 14)).copy()
    lot_rows = [
        (*STOCK, f"lot{n}", quantity, on(-3), None if expires is None else on(expires), unit_cost)
        for n, (quantity, expires, unit_cost) in enumerate(lots)
    ]
    receipt_rows = [
        (*STOCK, f"po{n}", on(day), quantity, None if expires is None else on(expires), unit_cost)
        for n, (day, quantity, expires, unit_cost) in enumerate(receipts)
    ]
    items = {
        "kind": "ingredient",
        "base_unit": "L",
        "shelf_life_days": shelf,
        "removal_days": removal_days,
        "unit_cost": cost,
    }
    offers = [] if lead_days is None else [("t", "far", "milk", 2, 9), ("t", "dairy", "milk", 1, lead_days)]
    values = {"gross_quantity": gross}
    if deviation is not None:
        values["deviation_quantity"] = np.broadcast_to(np.asarray(deviation, dtype=float), (1, 14)).copy()
    suppliers = pd.DataFrame(
        [("t", "dairy", weekdays), ("t", "far", list(range(7)))],
        columns=["tenant_id", "supplier_id", "delivery_weekdays"],
    )
    return project_inventory(
        Panel(keys, values, MONDAY),
        opening_lots=pd.DataFrame(lot_rows, columns=LOT_COLUMNS),
        receipts=pd.DataFrame(receipt_rows, columns=RECEIPT_COLUMNS),
        items=pd.DataFrame([{"tenant_id": "t", "item_id": "milk", **items}]),
        supplier_items=pd.DataFrame(offers, columns=["tenant_id", "supplier_id", "item_id", "priority", "lead_days"]),
        plan_date=MONDAY,
        suppliers=None if weekdays is None else suppliers,
        tenants=None if run_day is None else pd.DataFrame([{"tenant_id": "t", "run_date": on(run_day)}]),
    )


def key(projections: Projections) -> dict:
    return projections.panel.keys.iloc[0].to_dict()


def test_lots_are_used_first_expired_first_out_with_receipts():
    """Our own example: A 6 expiring on the 2nd day, B 20 on the 5th, C 10 received on the 4th, 4 used a day."""
    result = project([4] * 7 + [0] * 7, lots=[(20, 4, None), (6, 1, None)], receipts=[(3, 10, 8, None)])
    assert result.panel["closing_quantity"][0, :7].tolist() == [22, 18, 14, 20, 10, 6, 2]
    assert result.panel["expired_quantity"][0, 4] == 6
    assert result.panel["expired_quantity"][0, 8] == 2
    assert key(result)["expired_value"] == 16
    assert not result.panel["shortage_quantity"].any()


def test_stock_out_gives_the_day_and_the_last_day_to_order():
    result = project(10, lots=[(45, None, None)])
    assert key(result)["stock_out_on"] == on(4)
    assert key(result)["order_by"] == on(2)
    assert key(result)["cover_days"] == 4
    assert result.panel["shortage_quantity"][0, :6].tolist() == [0, 0, 0, 0, 5, 10]
    (exception,) = result.exceptions.to_dict("records")
    assert exception["code"] == "stock_out"
    assert "short from 2026-01-09" in exception["message"]
    assert "Order by 2026-01-07" in exception["remedy"]


def test_receipts_prevent_a_stock_out_but_are_no_cover():
    result = project(10, lots=[(45, None, None)], receipts=[(4, 100, None, None)])
    assert key(result)["stock_out_on"] is None
    assert key(result)["order_by"] is None
    assert key(result)["cover_days"] == 4
    assert result.exceptions.empty


def test_cover_does_not_count_on_expired_stock():
    assert key(project(1, lots=[(100, 2, None)]))["cover_days"] == 3
    assert key(project(1, lots=[(100, None, None)]))["cover_days"] == 14
    assert key(project(1))["cover_days"] == 0


def test_without_a_supplier_there_is_no_order_date():
    result = project(10, lead_days=None)
    assert (key(result)["stock_out_on"], key(result)["order_by"]) == (on(0), None)
    assert result.exceptions["remedy"].tolist() == ["Find a supplier"]


@pytest.mark.parametrize(
    ("lot_cost", "item_cost", "value"),
    [(3.0, 2.0, 30.0), (None, 2.0, 20.0), (None, None, None)],
    ids=["lot", "item", "unknown"],
)
def test_expired_value_takes_the_cost_of_the_lot_then_of_the_item_and_is_unknown_without(lot_cost, item_cost, value):
    result = project(0, lots=[(10, 2, lot_cost), (5, None, None)], cost=item_cost)
    assert key(result)["expired_value"] == pytest.approx(value) if value else np.isnan(key(result)["expired_value"])
    assert result.exceptions["code"].tolist() == ["stock_expires"]
    assert ("unknown cost" in result.exceptions["message"].iloc[0]) == (value is None)


def test_nothing_expired_is_worth_nothing_even_at_unknown_cost():
    assert key(project(1, lots=[(20, None, None)], cost=None))["expired_value"] == 0


def test_unusable_lots_are_reported_and_not_projected():
    result = project(1, lots=[(7, 1, None), (20, None, None)], removal_days=2)
    assert key(result)["opening_quantity"] == 20
    assert result.exceptions["code"].tolist() == ["stock_unusable"]
    assert not result.panel["expired_quantity"].any()


def test_receipt_without_expiry_keeps_for_the_shelf_life():
    result = project(0, receipts=[(1, 5, None, None)], shelf=3)
    assert result.panel["expired_quantity"][0].nonzero()[0].tolist() == [3]


def test_receipts_before_the_plan_date_are_in_the_opening_stock_already():
    assert not project(0, receipts=[(-1, 5, None, None)]).panel["receipts_quantity"].any()


days = st.none() | st.integers(-2, 16)


@given(
    st.lists(st.integers(0, 20), min_size=14, max_size=14),
    st.lists(st.tuples(st.integers(0, 60), days, st.none()), max_size=4),
    st.lists(st.tuples(st.integers(-1, 15), st.integers(1, 40), days, st.none()), max_size=4),
    st.integers(0, 3),
)
@few_examples
def test_stock_is_conserved_every_day(demand, lots, receipts, removal_days):
    result = project(demand, lots, receipts, removal_days=removal_days)
    panel = result.panel
    before = np.column_stack([panel.keys["opening_quantity"], panel["closing_quantity"][:, :-1]])
    out = panel["consumption_quantity"] + panel["expired_quantity"] + panel["closing_quantity"]
    assert np.allclose(before + panel["receipts_quantity"], out)
    assert np.allclose(panel["consumption_quantity"] + panel["shortage_quantity"], [demand])
    usable = sum(quantity for quantity, expires, _ in lots if expires is None or expires - removal_days >= 0)
    assert panel.keys["opening_quantity"].tolist() == [usable]
    assert (panel["closing_quantity"] >= 0).all()


# ---------------------------------------------------------------- when to order


@pytest.mark.parametrize(
    ("weekdays", "lead_days", "order_by"),
    [
        (list(range(7)), 2, 2),
        ([0, 3], 2, 1),  # Friday's shortage: the last delivery before is Thursday's
        ([4], 0, 4),
        ([5], 1, -3),  # only Saturdays: the delivery of the Saturday before the plan
        ([], 1, None),
    ],
)
def test_order_by_is_the_last_order_that_a_delivery_weekday_still_brings_in_time(weekdays, lead_days, order_by):
    result = project(10, lots=[(45, None, None)], lead_days=lead_days, weekdays=weekdays)
    assert key(result)["stock_out_on"] == on(4)
    assert key(result)["order_by"] == (None if order_by is None else on(order_by))


def test_no_later_order_is_delivered_in_time():
    """For all delivery weekdays, lead days and days of stock-out, by trying every order day: an order arrives on the first
    delivery weekday its lead days or more after it."""
    weekday_sets = [days for count in range(1, 8) for days in itertools.combinations(range(7), count)]
    cases = list(itertools.product(range(len(weekday_sets)), range(6), range(14)))
    names = ["tenant_id", "location_id", "item_id"]
    keys = pd.DataFrame([("t", f"shop{day}", f"milk{days}-{lead}") for days, lead, day in cases], columns=names)
    offers = [("t", f"dairy{days}", f"milk{days}-{lead}", 1, lead) for days, lead, day in cases if day == 0]
    facts = {"kind": "ingredient", "base_unit": "L", "shelf_life_days": None, "removal_days": 0, "unit_cost": 2.0}
    suppliers = [("t", f"dairy{n}", list(days)) for n, days in enumerate(weekday_sets)]
    found = project_inventory(
        Panel(keys, {"gross_quantity": np.array([np.arange(14) >= day for *_, day in cases], dtype=float)}, MONDAY),
        opening_lots=pd.DataFrame(columns=LOT_COLUMNS),
        receipts=pd.DataFrame(columns=RECEIPT_COLUMNS),
        items=pd.DataFrame([{"tenant_id": "t", "item_id": item, **facts} for item in keys["item_id"].unique()]),
        supplier_items=pd.DataFrame(offers, columns=["tenant_id", "supplier_id", "item_id", "priority", "lead_days"]),
        plan_date=MONDAY,
        suppliers=pd.DataFrame(suppliers, columns=["tenant_id", "supplier_id", "delivery_weekdays"]),
    ).panel.keys
    order_by = found.set_index(names)["order_by"].to_dict()
    for days, lead in itertools.product(range(len(weekday_sets)), range(6)):
        arrivals = {
            order_day: next(day for day in itertools.count(order_day + lead) if day % 7 in weekday_sets[days])
            for order_day in range(-20, 14)
        }
        for stock_out in range(14):
            latest = max(order_day for order_day, arrival in arrivals.items() if arrival <= stock_out)
            assert order_by["t", f"shop{stock_out}", f"milk{days}-{lead}"] == on(latest)


def test_past_the_last_order_day_the_remedy_names_who_can_still_deliver():
    result = project(10, lots=[(95, None, None)], weekdays=[0], lead_days=3, run_day=5)
    assert key(result)["order_by"] == on(4)
    (exception,) = result.exceptions.to_dict("records")
    assert "the last day to order was 2026-01-09" in exception["message"]
    assert exception["remedy"].startswith("Have a delivery brought forward"), "far needs nine days"
    result = project(10, lots=[(135, None, None)], weekdays=[0], lead_days=4, run_day=4)
    assert key(result)["order_by"] == on(3)
    assert "Order from far by 2026-01-09" in result.exceptions["remedy"].item()


def test_an_offer_of_an_unknown_supplier_is_refused():
    result = project(1, weekdays=[0])
    with pytest.raises(PlanningError, match="ghost"):
        project_inventory(
            Panel(result.panel.keys[["tenant_id", "location_id", "item_id"]], {"gross_quantity": np.ones((1, 14))}, MONDAY),
            opening_lots=pd.DataFrame(columns=LOT_COLUMNS),
            receipts=pd.DataFrame(columns=RECEIPT_COLUMNS),
            items=pd.DataFrame([{"tenant_id": "t", "item_id": "milk", "base_unit": "L", "shelf_life_days": None,
                                 "removal_days": 0, "unit_cost": 1.0}]),
            supplier_items=pd.DataFrame([("t", "ghost", "milk", 1, 1)],
                                        columns=["tenant_id", "supplier_id", "item_id", "priority", "lead_days"]),
            plan_date=MONDAY,
            suppliers=pd.DataFrame([("t", "dairy", [0])], columns=["tenant_id", "supplier_id", "delivery_weekdays"]),
        )  # fmt: skip


# ---------------------------------------------------------------- the chance of running short


def chance(result: Projections) -> list[float]:
    return result.panel["stock_out_probability_by_day"][0].tolist()


def test_demand_since_the_first_day_is_at_its_quantile_and_no_day_is_below_zero():
    paths = demand_paths(np.array([[10.0, 10.0, 1.0]]), np.array([[3.0, 0.0, 4.0]]))
    # Deviations of the sum: 3, 3 and 5.
    assert paths[1, 0].tolist() == [10, 10, 1]
    assert np.allclose(np.cumsum(paths[2, 0]), np.array([10, 20, 21]) + 1.2815515655446004 * np.array([3, 3, 5]))
    assert paths[0, 0].round(6).tolist() == [6.155345, 10, 0]


def test_a_certain_demand_runs_short_surely_or_never():
    assert chance(project(10, lots=[(45, None, None)])) == [0] * 4 + [1] * 10
    assert chance(project(10, lots=[(45, None, None)], deviation=0)) == [0] * 4 + [1] * 10
    assert key(project(10, lots=[(45, None, None)]))["stock_out_probability"] == 1
    assert key(project(10, lots=[(140, None, None)]))["stock_out_probability"] == 0


@pytest.mark.parametrize("z", [-1.2, -0.5, 0.0, 0.3, 1.0, 2.0])
def test_with_stock_of_z_deviations_it_runs_short_with_the_normal_probability_beyond_z(z):
    """One day of demand N(100, 10): stock of 100 + 10 z is too little with 1 - Phi(z), exactly, between and beyond paths."""
    demand, deviation = [100.0] + [0.0] * 13, [10.0] + [0.0] * 13
    result = project(demand, lots=[(100 + 10 * z, None, None)], deviation=deviation)
    assert key(result)["stock_out_probability"] == pytest.approx(1 - special.ndtr(z), abs=1e-9)


def test_the_deviations_of_two_days_add_by_their_squares():
    """A stock of 200 + 1.645 sqrt(10² + 10²): covered for two days at 95 % service, so short with 5 %."""
    stock = 200 + special.ndtri(0.95) * np.sqrt(200)
    result = project([100, 100] + [0] * 12, lots=[(stock, None, None)], deviation=[10, 10] + [0] * 12)
    assert chance(result)[0] == 0
    assert chance(result)[1] == pytest.approx(0.05)
    assert chance(result)[13] == chance(result)[1]


def test_the_frozen_day_is_certain_and_later_days_are_not():
    result = project(10, lots=[(35, None, None)], deviation=[0] + [2] * 13)
    assert chance(result)[0] == 0
    assert 0 < chance(result)[2] < chance(result)[3] <= 1


def test_a_chance_beyond_what_the_paths_can_tell_is_none_or_certain():
    demand, deviation = [100.0] + [0.0] * 13, [10.0] + [0.0] * 13
    assert chance(project(demand, lots=[(124, None, None)], deviation=deviation))[0] == 0
    assert chance(project(demand, lots=[(76, None, None)], deviation=deviation))[0] == 1


def test_expiring_stock_is_no_protection():
    demand, deviation = [10.0] * 14, [0.0] + [1.0] * 13
    keeps = project(demand, lots=[(150, None, None)], deviation=deviation)
    spoils = project(demand, lots=[(150, 3, None)], deviation=deviation)
    assert key(spoils)["stock_out_probability"] == 1
    assert key(keeps)["stock_out_probability"] < 0.3


uncertain = st.tuples(
    st.lists(st.integers(0, 20), min_size=14, max_size=14),
    st.lists(st.integers(0, 6), min_size=14, max_size=14),
    st.lists(st.tuples(st.integers(0, 90), days, st.none()), max_size=4),
    st.lists(st.tuples(st.integers(-1, 15), st.integers(1, 60), days, st.none()), max_size=4),
)


@given(uncertain)
@few_examples
def test_more_demand_leaves_less_stock_and_the_planned_path_lies_between(case):
    demand, deviation, lots, receipts = case
    panel = project(demand, lots, receipts, deviation=deviation).panel
    assert (panel["closing_low_quantity"] <= panel["closing_quantity"]).all()
    assert (panel["closing_quantity"] <= panel["closing_high_quantity"]).all()


@given(uncertain)
@few_examples
def test_the_middle_path_is_the_projection_without_deviation(case):
    demand, deviation, lots, receipts = case
    with_it, without = project(demand, lots, receipts, deviation=deviation), project(demand, lots, receipts)
    for name in ("closing", "consumption", "shortage", "expired", "receipts"):
        assert np.array_equal(with_it.panel[f"{name}_quantity"], without.panel[f"{name}_quantity"])
    assert key(with_it)["stock_out_on"] == key(without)["stock_out_on"]


@given(uncertain)
@few_examples
def test_the_chance_of_having_run_short_never_falls_from_day_to_day(case):
    demand, deviation, lots, receipts = case
    chances = np.array(chance(project(demand, lots, receipts, deviation=deviation)))
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.diff(chances) >= 0).all()


@given(uncertain, st.floats(1, 3))
@few_examples
def test_the_chance_rises_with_the_deviation_until_the_planned_path_itself_runs_short(case, factor):
    demand, deviation, lots, receipts = case
    narrow = project(demand, lots, receipts, deviation=deviation)
    wide = project(demand, lots, receipts, deviation=np.array(deviation) * factor)
    met = slice(0, int((np.cumsum(narrow.panel["shortage_quantity"][0]) == 0).sum()))
    assert (np.array(chance(wide))[met] >= np.array(chance(narrow))[met] - 1e-12).all()
    assert (np.array(chance(wide))[met] <= 0.5).all()
    assert (np.array(chance(wide))[met.stop :] >= 0.5).all()


@given(uncertain, uncertain)
@few_examples
def test_a_stock_alone_is_projected_as_in_a_batch(case, other):
    """Both stocks in one call, against each by itself."""
    alone = [
        project(demand, lots, receipts, deviation=deviation) for demand, deviation, lots, receipts in (case, other)
    ]
    keys = pd.DataFrame([STOCK, ("u", *STOCK[1:])], columns=["tenant_id", "location_id", "item_id"])
    lot_rows, receipt_rows = [], []
    for tenant_id, (_, _, lots, receipts) in zip(("t", "u"), (case, other), strict=True):
        stock = (tenant_id, *STOCK[1:])
        lot_rows += [
            (*stock, f"lot{n}", quantity, on(-3), None if expires is None else on(expires), None)
            for n, (quantity, expires, _) in enumerate(lots)
        ]
        receipt_rows += [
            (*stock, f"po{n}", on(day), quantity, None if expires is None else on(expires), None)
            for n, (day, quantity, expires, _) in enumerate(receipts)
        ]
    item = {"item_id": "milk", "base_unit": "L", "shelf_life_days": None, "removal_days": 0, "unit_cost": 2.0}
    both = project_inventory(
        Panel(
            keys,
            {
                "gross_quantity": np.array([case[0], other[0]], dtype=float),
                "deviation_quantity": np.array([case[1], other[1]], dtype=float),
            },
            MONDAY,
        ),
        opening_lots=pd.DataFrame(lot_rows, columns=LOT_COLUMNS),
        receipts=pd.DataFrame(receipt_rows, columns=RECEIPT_COLUMNS),
        items=pd.DataFrame([{"tenant_id": tenant_id, **item} for tenant_id in ("t", "u")]),
        supplier_items=pd.DataFrame(
            [(tenant_id, "dairy", "milk", 1, 2) for tenant_id in ("t", "u")],
            columns=["tenant_id", "supplier_id", "item_id", "priority", "lead_days"],
        ),
        plan_date=MONDAY,
    )
    for row, one in enumerate(alone):
        for name, matrix in one.panel.values.items():
            assert np.array_equal(both.panel[name][row], matrix[0]), name
        for name in ("opening_quantity", "cover_days", "stock_out_on", "order_by", "expired_value"):
            assert both.panel.keys[name].iloc[row] == one.panel.keys[name].iloc[0], name


# ---------------------------------------------------------------- words


def test_an_expiry_says_its_value_and_its_removal_date():
    result = project(0, lots=[(10, 9, 3.0)], removal_days=2)
    (exception,) = result.exceptions.to_dict("records")
    assert (
        exception["message"]
        == "milk: 10 L worth 30.00 will expire, the first on 2026-01-12, 2 days before its expiry date"
    )
    assert exception["remedy"].startswith("Use it by 2026-01-12")


@given(uncertain)
@few_examples
def test_stock_on_hand_is_the_sum_of_its_lots(case):
    """What is left of the lots that a run ends with is the closing stock of its last day, as stock on hand is of lots."""
    demand, _, lots, _ = case
    panel = project(demand, lots).panel
    table = lot_table(
        np.zeros(len(lots), dtype=int),
        1,
        pd.DataFrame(
            {
                "lot_id": [f"lot{n}" for n in range(len(lots))],
                "quantity": [quantity for quantity, _, _ in lots],
                "received_on": pd.Series([on(-3)] * len(lots), dtype=object),
                "expires_on": pd.Series([None if day is None else on(day) for _, day, _ in lots], dtype=object),
            }
        ),
        np.full(len(lots), -1),
        np.array([NEVER if day is None else day for _, day, _ in lots], dtype=int),
    )
    run = run_fefo(table, np.array([demand], dtype=float))
    assert run.remaining_of_lot.sum() == panel["closing_quantity"][0, -1]


def test_an_empty_batch_projects_nothing():
    empty = project(1).panel.select(np.zeros(1, dtype=bool))
    result = project_inventory(
        Panel(empty.keys, {"gross_quantity": empty["closing_quantity"]}, MONDAY),
        opening_lots=pd.DataFrame(columns=LOT_COLUMNS),
        receipts=pd.DataFrame(columns=RECEIPT_COLUMNS),
        items=pd.DataFrame(
            columns=["tenant_id", "item_id", "base_unit", "shelf_life_days", "removal_days", "unit_cost"]
        ),
        supplier_items=pd.DataFrame(columns=["tenant_id", "supplier_id", "item_id", "priority", "lead_days"]),
        plan_date=MONDAY,
    )
    assert len(result.panel) == 0
    assert result.exceptions.empty
