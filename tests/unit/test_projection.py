"""Stock projected lot by lot over the horizon."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.frames import Panel
from planning.projection import Projections, project_inventory

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
    demand, lots=(), receipts=(), cost: float | None = 2.0, lead_days: int | None = 2, removal_days: int = 0, shelf=None
) -> Projections:
    """lots: (quantity, expires, unit_cost); receipts: (day, quantity, expires, unit_cost), days as numbers from Monday."""
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
    return project_inventory(
        Panel(keys, {"gross_quantity": gross}, MONDAY),
        opening_lots=pd.DataFrame(lot_rows, columns=LOT_COLUMNS),
        receipts=pd.DataFrame(receipt_rows, columns=RECEIPT_COLUMNS),
        items=pd.DataFrame([{"tenant_id": "t", "item_id": "milk", **items}]),
        supplier_items=pd.DataFrame(offers, columns=["tenant_id", "supplier_id", "item_id", "priority", "lead_days"]),
        plan_date=MONDAY,
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
@settings(max_examples=60, deadline=None)
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
