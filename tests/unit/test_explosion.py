"""Recipes exploded over several levels, and what happens to those that cannot be."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.explosion import explode
from planning.frames import Panel
from tests.unit.examples import few_examples

DAY = date(2026, 1, 5)
RECIPE_COLUMNS = ["tenant_id", "output_item_id", "output_quantity", "yield_frac", "item_id", "quantity", "scrap_frac"]
KINDS = {"baguette": "product", "roll": "product", "dough": "dough", "starter": "dough", "bag": "packaging"}


def planned(rows: dict[tuple[str, str, str], list[float]]) -> Panel:
    keys = pd.DataFrame(list(rows), columns=["tenant_id", "location_id", "product_id"])
    return Panel(keys, {"horizon_units": np.array(list(rows.values()), dtype=float)}, DAY)


def recipe(
    output: str, parts: dict[str, float], makes: float = 1, yields: float = 1, scrap: float = 0, tenant: str = "t"
):
    rows = [(tenant, output, makes, yields, item, quantity, scrap) for item, quantity in parts.items()]
    return pd.DataFrame(rows, columns=RECIPE_COLUMNS).assign(version=1)


def items_of(recipes: pd.DataFrame) -> pd.DataFrame:
    pairs = {(row.tenant_id, item) for row in recipes.itertuples() for item in (row.output_item_id, row.item_id)}
    frame = pd.DataFrame(sorted(pairs), columns=["tenant_id", "item_id"])
    return frame.assign(kind=[KINDS.get(item, "ingredient") for item in frame["item_id"]])


def gross_of(exploded) -> dict[tuple[str, ...], list[float]]:
    keys = exploded.requirements.keys.itertuples(index=False, name=None)
    return dict(zip(keys, exploded.requirements["gross_quantity"].tolist(), strict=True))


BREAD = pd.concat(
    [
        recipe("baguette", {"dough": 0.35, "bag": 1}),
        recipe("roll", {"dough": 0.06}),
        recipe("dough", {"flour": 100, "water": 65, "starter": 10}, makes=175),
        recipe("starter", {"flour": 1, "water": 1}, makes=2),
    ],
    ignore_index=True,
)


def test_shared_doughs_are_exploded_through_every_level():
    exploded = explode(
        planned({("t", "shop", "baguette"): [100, 0], ("t", "shop", "roll"): [0, 50]}), BREAD, items_of(BREAD)
    )
    dough = np.array([35.0, 3.0])
    assert gross_of(exploded) == {
        ("t", "shop", "bag"): [100, 0],
        ("t", "shop", "flour"): pytest.approx((dough * 105 / 175).round(6)),
        ("t", "shop", "water"): pytest.approx((dough * 70 / 175).round(6)),
    }
    assert exploded.exceptions.empty
    assert exploded.set_aside.empty


def test_bakers_percentages_give_the_known_masses():
    """100 loaves of 0.900 kg by the formula 100/65/2/1.5."""
    parts = {"flour": 100, "water": 65, "salt": 2, "yeast": 1.5}
    recipes = pd.concat([recipe("baguette", {"dough": 0.9}), recipe("dough", parts, makes=168.5)])
    gross = gross_of(explode(planned({("t", "shop", "baguette"): [100]}), recipes, items_of(recipes)))
    found = {key[2]: round(quantity[0], 4) for key, quantity in gross.items()}
    assert found == {"flour": 53.4125, "water": 34.7181, "salt": 1.0682, "yeast": 0.8012}


def test_scrap_and_yield_raise_what_is_needed_at_each_level():
    recipes = pd.concat(
        [recipe("roll", {"dough": 2}, yields=0.8, scrap=0.5), recipe("dough", {"flour": 3}, makes=6, yields=0.5)]
    )
    gross = gross_of(explode(planned({("t", "shop", "roll"): [10]}), recipes, items_of(recipes)))
    assert gross == {("t", "shop", "flour"): [pytest.approx(10 * 2 / (0.5 * 0.8) * 3 / (6 * 0.5))]}


def test_uses_add_up_to_gross():
    exploded = explode(
        planned({("t", "shop", "baguette"): [3, 5], ("t", "shop", "roll"): [7, 1]}), BREAD, items_of(BREAD)
    )
    total = np.zeros_like(exploded.requirements["gross_quantity"])
    for use in exploded.uses.itertuples():
        total[use.requirement_row] += use.quantity_per * exploded.planned["horizon_units"][use.planned_row]
    assert np.allclose(total, exploded.requirements["gross_quantity"], atol=1e-6)


def test_tenant_with_a_cycle_is_set_aside_by_name_and_the_others_go_on():
    circle = pd.concat([recipe("roll", {"dough": 1}, tenant="x"), recipe("dough", {"starter": 1}, tenant="x"),
                        recipe("starter", {"dough": 1, "flour": 1}, tenant="x")])  # fmt: skip
    recipes = pd.concat([circle, BREAD], ignore_index=True)
    plan = planned({("x", "shop", "roll"): [1], ("t", "shop", "roll"): [1]})
    exploded = explode(plan, recipes, items_of(recipes))
    (row,) = exploded.set_aside.to_dict("records")
    assert row["tenant_id"] == "x"
    assert row["reason"].endswith("circle: dough, starter.")
    assert set(exploded.requirements.keys["tenant_id"]) == {"t"}


def test_missing_recipes_are_exceptions_with_a_remedy():
    recipes = pd.concat([recipe("baguette", {"dough": 0.35, "bag": 1}), recipe("other", {"flour": 1})])
    plan = planned({("t", "shop", "baguette"): [1], ("t", "shop", "roll"): [2], ("t", "shop", "unplanned"): [0]})
    exploded = explode(plan, recipes, items_of(recipes))
    found = exploded.exceptions.set_index("subject_id")
    assert found["code"].to_dict() == {"roll": "missing_recipe", "dough": "missing_recipe"}
    assert found["subject_kind"].to_dict() == {"roll": "product", "dough": "item"}
    assert "baguette" in found.loc["dough", "message"]
    assert found["remedy"].str.contains("Import a recipe").all()
    assert list(gross_of(exploded)) == [("t", "shop", "bag")]


def test_each_location_receives_what_it_bakes():
    exploded = explode(planned({("t", "a", "roll"): [1], ("t", "b", "roll"): [2]}), BREAD, items_of(BREAD))
    gross = gross_of(exploded)
    assert gross["t", "b", "flour"][0] == pytest.approx(2 * gross["t", "a", "flour"][0])


def test_row_order_and_other_tenants_change_nothing():
    plan = planned({("t", "shop", "baguette"): [3.3, 5.1], ("t", "shop", "roll"): [7.7, 1.9]})
    exploded = explode(plan, BREAD, items_of(BREAD))
    other = BREAD.assign(tenant_id="a", quantity=BREAD["quantity"] * 1.7)
    recipes = pd.concat([BREAD, other]).sample(frac=1, random_state=3)
    both = planned(
        {("t", "shop", "roll"): [7.7, 1.9], ("a", "shop", "roll"): [9, 9], ("t", "shop", "baguette"): [3.3, 5.1]}
    )
    mixed = explode(both, recipes, items_of(recipes))
    of_t = mixed.requirements.select((mixed.requirements.keys["tenant_id"] == "t").to_numpy())
    pd.testing.assert_frame_equal(of_t.keys, exploded.requirements.keys)
    assert np.array_equal(of_t["gross_quantity"], exploded.requirements["gross_quantity"])


def test_nothing_planned_needs_nothing():
    nothing = Panel(planned({("t", "s", "roll"): [1]}).keys.iloc[:0], {"horizon_units": np.zeros((0, 14))}, DAY)
    exploded = explode(nothing, BREAD.iloc[:0], items_of(BREAD))
    assert exploded.requirements["gross_quantity"].shape == (0, 14)


# ---------------------------------------------------------------- parts on hand


def lots_of(*lots: tuple[str, str, float, int | None]) -> pd.DataFrame:
    """Lots at a location: location, item, quantity, and days until it expires."""
    columns = ["tenant_id", "location_id", "item_id", "quantity", "expires_on"]
    rows = [
        ("t", place, item, quantity, None if n is None else DAY + timedelta(days=n))
        for place, item, quantity, n in lots
    ]
    return pd.DataFrame(rows, columns=columns)


def needs_of(plan: Panel, lots: pd.DataFrame, recipes: pd.DataFrame = BREAD) -> dict[tuple[str, ...], list[float]]:
    return gross_of(explode(plan, recipes, items_of(recipes).assign(removal_days=0), lots))


def test_dough_on_hand_is_used_on_the_first_days_and_only_its_rest_takes_flour():
    plan = planned({("t", "shop", "baguette"): [100, 100, 100]})  # 35 kg of dough a day
    gross = needs_of(plan, lots_of(("shop", "dough", 50.0, None)))
    made = np.array([0, 20, 35.0])
    assert gross["t", "shop", "flour"] == pytest.approx(made * 105 / 175)
    assert gross["t", "shop", "bag"] == [100, 100, 100]


def test_dough_that_expires_is_used_first_and_not_afterwards():
    plan = planned({("t", "shop", "baguette"): [100, 0, 100]})
    gross = needs_of(
        plan, lots_of(("shop", "dough", 10.0, None), ("shop", "dough", 60.0, 1), ("shop", "dough", 9.0, -1))
    )
    assert gross["t", "shop", "flour"] == pytest.approx(np.array([0, 0, 25]) * 105 / 175)


def test_stock_is_netted_level_by_level_where_it_is():
    plan = planned({("t", "a", "baguette"): [100], ("t", "b", "baguette"): [100], ("t", "a", "roll"): [50]})
    gross = needs_of(
        plan, lots_of(("a", "dough", 17.5, None), ("a", "starter", 0.2, None), ("elsewhere", "dough", 99, None))
    )
    made = 35 + 3 - 17.5
    starter = made * 10 / 175 - 0.2
    assert gross["t", "a", "flour"][0] == pytest.approx(made * 100 / 175 + starter / 2)
    assert gross["t", "b", "flour"][0] == pytest.approx(35 * 105 / 175)


def test_products_on_hand_are_the_production_plans_business():
    plan = planned({("t", "shop", "baguette"): [100]})
    assert needs_of(plan, lots_of(("shop", "baguette", 50.0, None))) == needs_of(plan, lots_of())


def test_a_part_needed_at_two_levels_is_netted_once():
    recipes = pd.concat(
        [recipe("roll", {"dough": 1, "starter": 1}), recipe("dough", {"starter": 1}), recipe("starter", {"flour": 1})]
    )
    gross = needs_of(planned({("t", "shop", "roll"): [10, 10]}), lots_of(("shop", "starter", 25.0, None)), recipes)
    assert gross["t", "shop", "flour"] == pytest.approx([0, 15])


def test_independent_products_add_up_their_deviations_as_squares():
    plan = planned({("t", "shop", "baguette"): [3, 5], ("t", "shop", "roll"): [7, 1]})
    plan = Panel(plan.keys, {**plan.values, "deviation_units": np.array([[0, 10.0], [0, 20.0]])}, DAY)
    exploded = explode(plan, BREAD, items_of(BREAD))
    keys = exploded.requirements.keys["item_id"].tolist()
    deviation = dict(zip(keys, exploded.requirements["deviation_quantity"].tolist(), strict=True))
    assert deviation["bag"] == [0, 10]
    assert deviation["flour"] == pytest.approx([0, round(float(np.hypot(10 * 0.35, 20 * 0.06)) * 105 / 175, 6)])
    without = explode(planned({("t", "shop", "roll"): [7, 1]}), BREAD, items_of(BREAD))
    assert not without.requirements["deviation_quantity"].any()


units = st.lists(st.lists(st.integers(0, 50).map(float), min_size=4, max_size=4), min_size=4, max_size=4)
stocks = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["dough", "starter", "flour"]),
        st.floats(0, 40).map(lambda quantity: round(quantity, 2)),
        st.none() | st.integers(-1, 4),
    ),
    max_size=5,
)


@given(units, stocks)
@few_examples
def test_gross_is_the_sum_of_its_pegged_uses_every_day_with_and_without_parts_on_hand(drawn, lots):
    rows = {
        ("t", place, item): drawn[n]
        for n, (place, item) in enumerate((p, i) for p in "ab" for i in ("baguette", "roll"))
    }
    for stock in (None, lots_of(*lots)):
        exploded = explode(planned(rows), BREAD, items_of(BREAD).assign(removal_days=0), stock)
        total = np.zeros_like(exploded.requirements["gross_quantity"])
        shares = exploded.needed_shares if exploded.needed_shares is not None else np.ones((len(exploded.uses), 4))
        assert ((shares >= 0) & (shares <= 1)).all()
        for use, share in zip(exploded.uses.itertuples(), shares, strict=True):
            total[use.requirement_row] += use.quantity_per * exploded.planned["horizon_units"][use.planned_row] * share
        assert np.allclose(total, exploded.requirements["gross_quantity"], atol=1e-5)


@given(units, stocks)
@settings(max_examples=40, deadline=None)
def test_parts_on_hand_lower_what_is_bought_by_what_is_used_of_them(drawn, lots):
    """Against the same netting by hand, a node and a day at a time."""
    rows = {
        ("t", place, item): drawn[n]
        for n, (place, item) in enumerate((p, i) for p in "ab" for i in ("baguette", "roll"))
    }
    gross = needs_of(planned(rows), lots_of(*lots))
    for place in "ab":
        held = {item: sorted([through if through is not None else 99, quantity] for where, item_of, quantity, through in lots
                             if where == place and item_of == item) for item in ("dough", "starter")}  # fmt: skip
        for day in range(4):
            dough = 0.35 * rows["t", place, "baguette"][day] + 0.06 * rows["t", place, "roll"][day]
            dough = left_open(held["dough"], dough, day)
            starter = left_open(held["starter"], dough * 10 / 175, day)
            expected = dough * 100 / 175 + starter / 2
            assert gross["t", place, "flour"][day] == pytest.approx(expected, abs=2e-6)


def left_open(lots: list[list], wanted: float, day: int) -> float:
    """What these lots (last day, quantity), first-expired first, leave open of a need; they are used up in place."""
    for lot in lots:
        taken = min(lot[1], wanted) if lot[0] >= day else 0.0
        lot[1], wanted = lot[1] - taken, wanted - taken
    return wanted
