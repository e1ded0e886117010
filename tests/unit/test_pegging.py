"""What purchases and batches are for: shares, ways through recipes, and the lots that a day draws on."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.explosion import explode
from planning.frames import Panel, PlanningError
from planning.lots import LOT_COLUMNS
from planning.pegging import (
    BY_FORECAST,
    BY_NOBODY,
    BY_ORDERS,
    FOR_PRODUCTS,
    FOR_ROUNDING,
    FOR_SAFETY_STOCK,
    UNEXPLAINED,
    apportion,
    batch_needs,
    lots_drawn,
    peg_purchases,
    recipe_paths,
)
from tests.unit.examples import few_examples

MONDAY = date(2026, 3, 2)
DAYS = 14
T = {"tenant_id": "t", "location_id": "main"}


def on(day: int) -> date:
    return MONDAY + timedelta(days=day)


def recipe(output: str, quantity: float, yield_frac: float = 1.0, **lines: float) -> list[dict]:
    made = {"tenant_id": "t", "output_item_id": output, "output_quantity": quantity, "yield_frac": yield_frac}
    return [{**made, "item_id": item_id, "quantity": of_it, "scrap_frac": 0.0} for item_id, of_it in lines.items()]


# A kilo of dough takes 0.6 kg of flour and 0.1 kg of levain, a kilo of levain 0.5 kg of flour: 0.65 kg of flour in all.
RECIPES = pd.DataFrame(
    recipe("bread", 10, dough=10)
    + recipe("roll", 20, dough=5, butter=1)
    + recipe("cake", 1, flour=0.5)
    + recipe("dough", 10, flour=6, levain=1)
    + recipe("levain", 2, flour=1)
)
ITEMS = pd.DataFrame(
    [
        {"tenant_id": "t", "item_id": item_id, "kind": kind, "removal_days": 0}
        for item_id, kind in (
            ("bread", "product"), ("roll", "product"), ("cake", "product"), ("dough", "dough"), ("levain", "dough"),
            ("flour", "ingredient"), ("butter", "ingredient"),
        )
    ]
)  # fmt: skip


def planned(**units: list[float]) -> Panel:
    keys = pd.DataFrame([{**T, "product_id": product_id} for product_id in units])
    matrix = np.array([values + [0.0] * (DAYS - len(values)) for values in units.values()], dtype=float)
    return Panel(keys, {"horizon_units": matrix}, MONDAY)


def required(plan: Panel) -> Panel:
    return explode(plan, RECIPES, ITEMS).requirements


def lines(*rows: tuple[str, float, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**T, "item_id": item_id, "quantity": quantity, "covers_quantity": covers + [0.0] * (DAYS - len(covers))}
            for item_id, quantity, covers in rows
        ]
    )


def pegs_of(plan: Panel, rows: pd.DataFrame, **optional) -> pd.DataFrame:
    return peg_purchases(rows, required(plan), plan, RECIPES, ITEMS, **optional)


def quantities(pegs: pd.DataFrame, *by: str) -> dict:
    return {key: pytest.approx(value) for key, value in pegs.groupby(list(by))["quantity"].sum().items()}


# ---------------------------------------------------------------- shares


@given(
    st.lists(st.tuples(st.floats(0, 1e9, allow_subnormal=False), st.integers(0, 3)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200)
def test_shares_of_a_group_add_up_to_exactly_one_in_any_order(rows, random):
    weights, group = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    shares = apportion(weights, group)
    for g in np.unique(group):
        of_group = shares[group == g].tolist()
        random.shuffle(of_group)
        total = weights[group == g].sum()
        assert sum(of_group) == (1.0 if total > 0 else 0.0)
        if total > 0:
            assert np.abs(shares[group == g] - weights[group == g] / total).max() <= 2**-39
    assert (shares[weights == 0] == 0).all()


def test_equal_remainders_go_to_the_first_row():
    shares = apportion(np.ones(3), np.zeros(3))
    assert shares.sum() == 1
    assert (shares - 1 / 3 > 0).tolist() == [True, False, False]


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="weights"):
        apportion(np.array([1.0, weight]), np.zeros(2))


# ---------------------------------------------------------------- recipes


def test_every_way_from_a_product_to_an_item_is_found_with_its_quantity():
    paths = recipe_paths(RECIPES, pd.DataFrame([{"tenant_id": "t", "product_id": "bread"}]))
    found = {row.path: (row.level, row.quantity_per, row.is_made) for row in paths.itertuples()}
    assert found == {
        ("bread", "dough"): (1, 1.0, True),
        ("bread", "dough", "flour"): (2, pytest.approx(0.6), False),
        ("bread", "dough", "levain"): (2, pytest.approx(0.1), True),
        ("bread", "dough", "levain", "flour"): (3, pytest.approx(0.05), False),
    }


def test_ways_add_up_to_what_the_explosion_takes():
    plan = planned(bread=[1.0], roll=[1.0], cake=[1.0])
    paths = recipe_paths(RECIPES, plan.keys)
    exploded = explode(plan, RECIPES, ITEMS)
    keys = exploded.requirements.keys
    for use in exploded.uses.itertuples():
        product_id = exploded.planned.keys["product_id"].iloc[use.planned_row]
        ways = paths[
            (paths["item_id"] == keys["item_id"].iloc[use.requirement_row]) & (paths["product_id"] == product_id)
        ]
        assert ways["quantity_per"].sum() == pytest.approx(use.quantity_per)


def test_recipes_in_a_circle_are_refused_by_name():
    circle = pd.DataFrame(recipe("bread", 1, dough=1) + recipe("dough", 1, levain=1) + recipe("levain", 1, dough=0.1))
    with pytest.raises(PlanningError, match="circle"):
        recipe_paths(circle, pd.DataFrame([{"tenant_id": "t", "product_id": "bread"}]))


# ---------------------------------------------------------------- purchases


def test_a_line_is_split_into_products_safety_stock_and_rounding():
    """50 breads take 32.5 kg of flour, 20 cakes 10 kg; the line also restores 3 kg and rounds 45.5 up to two packs."""
    plan = planned(bread=[50.0], cake=[20.0])
    pegs = pegs_of(plan, lines(("flour", 50.0, [45.5])))
    assert quantities(pegs, "purpose", "product_id") == {
        (FOR_PRODUCTS, "bread"): 32.5,
        (FOR_PRODUCTS, "cake"): 10,
        (FOR_SAFETY_STOCK, ""): 3,
        (FOR_ROUNDING, ""): 4.5,
    }
    assert quantities(pegs[pegs["product_id"] == "bread"], "path") == {
        ("bread", "dough", "flour"): 30,
        ("bread", "dough", "levain", "flour"): 2.5,
    }
    assert pegs["share"].sum() == 1


def test_what_was_on_hand_is_shared_by_all_products_of_the_day():
    """Only 21.25 of the 42.5 kg have to be bought: every product is served half from stock."""
    pegs = pegs_of(planned(bread=[50.0], cake=[20.0]), lines(("flour", 25.0, [21.25])))
    assert quantities(pegs, "purpose", "product_id") == {
        (FOR_PRODUCTS, "bread"): 16.25,
        (FOR_PRODUCTS, "cake"): 5,
        (FOR_ROUNDING, ""): 3.75,
    }


def test_each_day_is_for_the_products_of_that_day():
    pegs = pegs_of(planned(bread=[10.0, 0.0], cake=[0.0, 4.0]), lines(("flour", 8.5, [6.5, 2.0])))
    assert quantities(pegs, "day", "product_id") == {(0, "bread"): 6.5, (1, "cake"): 2}


def test_a_day_covered_by_two_lines_is_split_between_them():
    """A need of 10 with 4 of safety stock, in two lots of 7: each is for the products and the safety stock alike."""
    pegs = pegs_of(planned(cake=[20.0]), lines(("flour", 7.0, [7.0]), ("flour", 7.0, [7.0])))
    assert quantities(pegs, "line", "purpose") == {
        (0, FOR_PRODUCTS): 5,
        (0, FOR_SAFETY_STOCK): 2,
        (1, FOR_PRODUCTS): 5,
        (1, FOR_SAFETY_STOCK): 2,
    }


def test_a_line_that_a_person_made_smaller_serves_the_first_days():
    pegs = pegs_of(planned(cake=[20.0, 20.0, 20.0]), lines(("flour", 15.0, [10.0, 10.0, 10.0])))
    assert quantities(pegs, "day") == {0: 10, 1: 5}


def test_a_requirement_that_no_product_accounts_for_is_named():
    plan = planned(cake=[20.0])
    requirements = required(plan)
    nothing = planned(cake=[0.0])
    pegs = peg_purchases(lines(("flour", 10.0, [10.0])), requirements, nothing, RECIPES, ITEMS)
    assert quantities(pegs, "purpose") == {UNEXPLAINED: 10}


def test_dough_on_hand_takes_its_part_off_the_products_that_use_it():
    """25 of the 50 kg of dough are there: bread needs half the flour, cake all of its own."""
    plan = planned(bread=[50.0], cake=[20.0])
    lot = pd.DataFrame([(*T.values(), "dough", "d1", 25.0, on(-1), None, None)], columns=LOT_COLUMNS)
    requirements = explode(plan, RECIPES, ITEMS, lot).requirements
    need = requirements["gross_quantity"][requirements.keys["item_id"] == "flour", 0].item()
    assert need == pytest.approx(26.25)
    rows = lines(("flour", need, [need]))
    pegs = peg_purchases(rows, requirements, plan, RECIPES, ITEMS, opening_lots=lot)
    assert quantities(pegs, "product_id") == {"bread": 16.25, "cake": 10}


def demand(**optional) -> dict:
    """Bread is made for main, which expects 30, and kiosk, which expects 10; kiosk has an order for 10 more."""
    keys = pd.DataFrame(
        [("t", "main", "bread", "boosting", "v3"), ("t", "kiosk", "bread", "naive", "naive-1")],
        columns=["tenant_id", "location_id", "product_id", "method", "model_version"],
    )
    assortment = keys[["tenant_id", "location_id", "product_id"]].assign(made_at_location_id="main")
    orders = pd.DataFrame([("t", "kiosk", "bread", on(0), 10.0)],
                          columns=["tenant_id", "location_id", "product_id", "due_on", "quantity_units"])  # fmt: skip
    mean = np.array([[30.0] * DAYS, [10.0] * DAYS])
    return {
        "forecasts": Panel(keys, {"mean_units": mean}, MONDAY),
        "assortment": assortment,
        "orders": orders,
    } | optional


def test_a_product_is_made_for_its_outlets_forecasts_and_orders():
    pegs = pegs_of(planned(bread=[50.0, 40.0]), lines(("flour", 58.5, [32.5, 26.0])), **demand())
    found = quantities(pegs, "day", "sold_at_location_id", "demand_source", "forecast_row")
    assert found == {
        (0, "main", BY_FORECAST, 0): 32.5 * 0.6,
        (0, "kiosk", BY_FORECAST, 1): 32.5 * 0.2,
        (0, "kiosk", BY_ORDERS, -1): 32.5 * 0.2,
        (1, "main", BY_FORECAST, 0): 26 * 0.75,
        (1, "kiosk", BY_FORECAST, 1): 26 * 0.25,
    }
    assert pegs["share"].sum() == 1


def test_what_nobody_is_expected_to_ask_for_is_for_nobody_and_still_counted():
    pegs = pegs_of(planned(cake=[20.0]), lines(("flour", 10.0, [10.0])), **demand())
    assert pegs[["sold_at_location_id", "demand_source", "forecast_row", "share"]].values.tolist() == [
        ["", BY_NOBODY, -1, 1.0]
    ]


@given(st.integers(0, 2**32 - 1))
@few_examples
def test_shares_of_every_purchase_line_add_up_to_one_and_quantities_to_the_line(seed):
    random = np.random.default_rng(seed)

    def amounts() -> list[float]:
        return (random.integers(0, 90_000, DAYS) / 1000 * (random.random(DAYS) < 0.6)).tolist()

    plan = planned(bread=amounts(), roll=amounts(), cake=amounts())
    covers = [amounts() for _ in range(random.integers(1, 4))]
    rows = lines(*[("flour", round(sum(cover) + random.uniform(0.01, 30), 6), cover) for cover in covers])
    pegs = pegs_of(plan, rows, **demand())
    assert (pegs["quantity"] > 0).all()
    for n, quantity in enumerate(rows["quantity"]):
        of_line = pegs[pegs["line"] == n]
        assert sum(of_line["share"]) == 1.0
        assert of_line["quantity"].sum() == pytest.approx(quantity, abs=1e-6)
        assert of_line["purpose"].isin([FOR_PRODUCTS, FOR_SAFETY_STOCK, FOR_ROUNDING]).all()


def test_a_tenant_alone_is_pegged_as_in_a_batch():
    plan = planned(bread=[50.0], cake=[20.0])
    alone = pegs_of(plan, lines(("flour", 50.0, [45.5])), **demand())

    def both(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([frame.assign(tenant_id="s"), frame], ignore_index=True)

    def both_of(panel: Panel) -> Panel:
        return Panel(both(panel.keys), {name: np.vstack([m, m]) for name, m in panel.values.items()}, panel.first_day)

    wide = demand()
    plans = both_of(plan)
    recipes, items = both(RECIPES), both(ITEMS)
    batch = peg_purchases(
        both(lines(("flour", 50.0, [45.5]))),
        explode(plans, recipes, items).requirements,
        plans,
        recipes,
        items,
        forecasts=both_of(wide["forecasts"]),
        assortment=both(wide["assortment"]),
        orders=both(wide["orders"]),
    )
    second = batch[batch["line"] == 1].reset_index(drop=True).assign(line=0)
    moved = second["forecast_row"].where(second["forecast_row"] < 0, second["forecast_row"] - 2)
    pd.testing.assert_frame_equal(second.assign(forecast_row=moved), alone)


# ---------------------------------------------------------------- batches


def test_a_batch_takes_its_recipe_level_by_level():
    needs = batch_needs(RECIPES, "t", "roll", 40)
    assert {row.path: (row.level, pytest.approx(row.quantity)) for row in needs.itertuples()} == {
        ("roll", "butter"): (1, 2),
        ("roll", "dough"): (1, 10),
        ("roll", "dough", "flour"): (2, 6),
        ("roll", "dough", "levain"): (2, 1),
        ("roll", "dough", "levain", "flour"): (3, 0.5),
    }


def flour(quantity: float) -> pd.DataFrame:
    return pd.DataFrame([{**T, "item_id": "flour", "quantity": quantity}])


def test_a_day_draws_on_the_lots_that_expire_first_and_everybody_takes_the_same_mixture():
    lots = pd.DataFrame(
        [
            (*T.values(), "flour", "late", 100.0, on(-1), on(9), 1.0),
            (*T.values(), "flour", "gone", 100.0, on(-9), on(-1), 1.0),
            (*T.values(), "flour", "early", 12.0, on(-5), on(0), 1.0),
        ],
        columns=LOT_COLUMNS,
    )
    drawn = lots_drawn(flour(10), flour(40), lots, ITEMS, MONDAY)
    assert dict(zip(drawn["lot_id"], drawn["quantity"], strict=True)) == {"early": 3, "late": 7}


def test_what_no_lot_holds_is_said():
    drawn = lots_drawn(flour(10), flour(40), pd.DataFrame(columns=LOT_COLUMNS), ITEMS, MONDAY)
    assert drawn[["lot_id", "quantity"]].values.tolist() == [["", 10.0]]
