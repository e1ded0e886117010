"""Who is bought from and why, at what price, and who else could deliver."""

from datetime import date, time, timedelta

import numpy as np
import pandas as pd
import pytest

from planning.frames import PlanningError
from planning.keys import NEVER
from planning.suppliers import (
    PriceBreaks,
    alternatives_of,
    choose_suppliers,
    delivery_days,
    first_days,
    next_days,
    price_per_pack,
    rank_offers,
    with_order_days,
)

MONDAY = date(2026, 1, 5)


def offers_of(*rows: dict) -> pd.DataFrame:
    base = {"tenant_id": "t", "item_id": "flour", "priority": 1, "lead_days": 0, "pack_quantity": 1.0,
            "min_packs": 1, "multiple_packs": 1}  # fmt: skip
    return pd.DataFrame([{**base, **row} for row in rows])


def suppliers_of(*names: str, weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6), tenant: str = "t") -> pd.DataFrame:
    rows = [(tenant, name, list(weekdays), time(12), 0.0) for name in names]
    columns = ["tenant_id", "supplier_id", "delivery_weekdays", "order_cutoff_at", "min_order_value"]
    return pd.DataFrame(rows, columns=columns)


def prices_of(**per_pack: float) -> pd.DataFrame:
    columns = ["tenant_id", "supplier_id", "item_id", "from_packs", "price_per_pack"]
    return pd.DataFrame([("t", name, "flour", 1, price) for name, price in per_pack.items()], columns=columns)


ITEMS = pd.DataFrame({"tenant_id": ["t"], "item_id": ["flour"], "base_unit": ["kg"]})


def ranked(offers: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    return rank_offers(suppliers_of(*offers["supplier_id"]), offers, prices, ITEMS)


def test_an_unreliable_supplier_is_as_dear_as_what_has_to_be_bought_again():
    offers = offers_of({"supplier_id": "cheap", "on_time_rate": 0.8}, {"supplier_id": "sure", "on_time_rate": 1.0})
    best = ranked(offers, prices_of(cheap=0.9, sure=1.0)).iloc[0]
    assert best["supplier_id"] == "sure"  # 0.9 / 0.8 = 1.125
    assert best["reason"] == "lowest price (1.0000 per kg) of 2 suppliers with priority 1"
    best = ranked(offers, prices_of(cheap=0.7, sure=1.0)).iloc[0]
    assert best["supplier_id"] == "cheap"
    assert best["reason"] == "lowest price (0.8750 per kg expected at 80% on time) of 2 suppliers with priority 1"


def test_choice_is_the_first_of_the_ranking_of_each_item():
    offers = offers_of(
        {"supplier_id": "b"}, {"supplier_id": "a", "priority": 2}, {"supplier_id": "a", "item_id": "salt"}
    )
    suppliers = suppliers_of("a", "b")
    chosen = choose_suppliers(suppliers, offers, prices_of(b=1.0), ITEMS)
    assert list(zip(chosen["item_id"], chosen["supplier_id"], strict=True)) == [("flour", "b"), ("salt", "a")]
    assert chosen["reason"].tolist() == ["priority 1, the first of 2 suppliers", "the only supplier"]


def test_an_offer_of_nobody_is_an_error():
    with pytest.raises(PlanningError, match="ghost of t offers items but is not among the suppliers"):
        rank_offers(suppliers_of("a"), offers_of({"supplier_id": "ghost"}), prices_of(), ITEMS)


def test_price_is_that_of_the_highest_break_reached():
    columns = ["tenant_id", "supplier_id", "item_id", "from_packs", "price_per_pack"]
    prices = pd.DataFrame([("t", "a", "flour", 10, 1.5), ("t", "a", "flour", 2, 2.0)], columns=columns)
    offers = offers_of(*[{"supplier_id": "a"}] * 4, {"supplier_id": "b"})
    found = price_per_pack(offers, np.array([1, 2, 9, 10, 5]), prices)
    assert np.array_equal(found, [np.nan, 2.0, 2.0, 1.5, np.nan], equal_nan=True)
    breaks = PriceBreaks.of(offers_of({"supplier_id": "a"}), prices).select(np.array([-1, 0]))
    assert np.array_equal(breaks.price(np.array([20, 20])), [np.nan, 1.5], equal_nan=True)


def test_deliveries_come_on_weekdays_after_lead_time_and_cut_off():
    offers = offers_of({"supplier_id": "a", "lead_days": 2})
    table = rank_offers(suppliers_of("a", weekdays=(0, 2, 3)), offers, prices_of(a=1.0), ITEMS)
    expected = {time(12): [2, 3, 7, 9], time(12, 1): [3, 7, 9]}
    for as_of, days in expected.items():
        tenants = pd.DataFrame({"tenant_id": ["t"], "run_date": [MONDAY], "as_of_time": [as_of]})
        delivers = delivery_days(with_order_days(table, tenants, MONDAY), MONDAY, 10)
        assert np.flatnonzero(delivers[0]).tolist() == days
        assert first_days(delivers).tolist() == days[:1]
        assert next_days(delivers)[0, days].tolist() == [*days[1:], 10]
    assert first_days(np.zeros((1, 10), dtype=bool)).tolist() == [NEVER]


def test_alternatives_say_why_not_and_when_they_could_deliver():
    offers = offers_of(
        {"supplier_id": "best"},
        {"supplier_id": "dear"},
        {"supplier_id": "same"},
        {"supplier_id": "second", "priority": 2},
        {"supplier_id": "silent"},
    )
    table = ranked(offers, prices_of(best=1.0, dear=2.0, same=1.0, second=0.5))
    assert table["supplier_id"].tolist() == ["best", "same", "dear", "silent", "second"]
    (others,) = alternatives_of(table, np.array([0, 0, 3, NEVER, 1]), MONDAY)
    assert [other["supplier_id"] for other in others] == ["same", "dear", "silent", "second"]
    assert [other["price_per_base_unit"] for other in others] == [1.0, 2.0, None, 0.5]
    days = [None if day is None else (MONDAY + timedelta(days=day)).isoformat() for day in (0, 3, None, 1)]
    assert [other["first_delivery_on"] for other in others] == days
    assert [other["reason"] for other in others] == [
        "the same price as best, which comes first by id",
        "expected price 2.0000 per kg, best 1.0000",
        "its price is unknown",
        "priority 2 comes after 1 of best",
    ]
