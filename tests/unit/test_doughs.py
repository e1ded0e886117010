"""Doughs of everything planned, and the runs that they are mixed in."""

from datetime import date, time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.doughs import bakers_formula, dough_mass, equal_runs, mixer_runs, plan_doughs
from planning.frames import Panel
from planning.workshop import Workshop

DAY = date(2026, 3, 2)
RECIPE_COLUMNS = ["tenant_id", "output_item_id", "output_quantity", "yield_frac", "item_id", "quantity", "scrap_frac"]
LOT_COLUMNS = ["tenant_id", "location_id", "item_id", "quantity", "expires_on"]


def test_bakers_percentages_give_the_published_masses():
    """100 loaves of 0.900 kg by the formula 100/65/2/1.5."""
    dough = dough_mass(100, 0.9)
    assert dough == 90
    masses = bakers_formula(dough, {"flour": 100, "water": 65, "salt": 2, "yeast": 1.5})
    assert {name: round(float(mass), 4) for name, mass in masses.items()} == {
        "flour": 53.4125,
        "water": 34.7181,
        "salt": 1.0682,
        "yeast": 0.8012,
    }


@given(st.floats(0.01, 1e4), st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_ingredients_of_a_formula_add_up_to_the_dough(dough, others):
    masses = bakers_formula(dough, {"flour": 100.0} | {f"part {n}": percentage for n, percentage in enumerate(others)})
    assert sum(masses.values()) == pytest.approx(dough)
    assert masses["flour"] == pytest.approx(dough / ((100 + sum(others)) / 100))


@pytest.mark.parametrize("percentages", [{}, {"flour": 0}, {"flour": 100, "water": -1}, {"flour": float("nan")}])
def test_a_formula_without_percentages_is_refused(percentages):
    with pytest.raises(ValueError, match="percentages"):
        bakers_formula(10, percentages)


def test_dough_mass_adds_products_up_and_makes_good_what_is_lost():
    assert dough_mass([100, 40], [0.9, 0.25], 0.2) == pytest.approx(100 / 0.8)
    assert dough_mass([[100, 40], [0, 4]], [0.9, 0.25], [0.1, 0.0]).tolist() == pytest.approx([110, 1])
    with pytest.raises(ValueError, match="mix_loss"):
        dough_mass(1, 1, 1.0)


def test_runs_are_as_few_as_the_mixer_allows():
    assert mixer_runs([0, 0.1, 60, 60.00000001, 61, 180.5], 60).tolist() == [0, 1, 1, 1, 2, 4]
    assert mixer_runs(500, np.inf) == 1


@pytest.mark.parametrize(
    "refused",
    [
        lambda: bakers_formula(-5, {"flour": 100}),
        lambda: dough_mass(-1, 0.9),
        lambda: dough_mass(1, float("nan")),
        lambda: mixer_runs(-1, 60),
        lambda: mixer_runs(10, 0),
        lambda: mixer_runs(10, -5),
    ],
)
def test_quantities_that_cannot_be_are_refused(refused):
    with pytest.raises(ValueError, match="must be"):
        refused()


@settings(deadline=None)
@given(st.floats(0.001, 1e4), st.floats(5, 500))
def test_runs_hold_no_more_than_the_mixer_and_add_up_to_the_dough(dough, mixer):
    dough = round(dough, 6)
    runs = int(mixer_runs(dough, mixer))
    cut = equal_runs(dough, runs)
    assert len(cut) == runs
    assert max(cut) <= mixer * (1 + 1e-6) + 1e-6
    assert sum(cut) == pytest.approx(dough, abs=1e-5)
    assert max(cut) - min(cut) <= 2e-6
    assert (runs - 1) * mixer < dough  # one fewer would not hold it


# ---------------------------------------------------------------- planned doughs


def planned(rows: dict[tuple[str, str, str], list[float]]) -> Panel:
    keys = pd.DataFrame(list(rows), columns=["tenant_id", "location_id", "product_id"])
    return Panel(keys, {"horizon_units": np.array([row + [0.0] * (14 - len(row)) for row in rows.values()])}, DAY)


def recipe(output, parts, makes=1.0, yields=1.0, scrap=0.0, tenant="t") -> pd.DataFrame:
    rows = [(tenant, output, makes, yields, item, quantity, scrap) for item, quantity in parts.items()]
    return pd.DataFrame(rows, columns=RECIPE_COLUMNS)


def lots(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=LOT_COLUMNS)


def mixers(*capacities, doughs=("dough", "starter"), tenant="t") -> Workshop:
    empty = Workshop.empty()
    return Workshop(
        pd.DataFrame(
            [(tenant, f"mixer{n}", "shop", "mixer", float(kg), time(0)) for n, kg in enumerate(capacities)],
            columns=empty.resources.columns,
        ),
        empty.calendar,
        pd.DataFrame(
            [(tenant, dough, 1, "mixer", None, 15.0, 1.0, 0.0) for dough in doughs], columns=empty.steps.columns
        ),
        empty.opening,
    )


BREAD = pd.concat(
    [
        recipe("baguette", {"dough": 0.35, "bag": 1}),
        recipe("roll", {"dough": 0.06}),
        recipe("ferment", {"starter": 0.1}),
        recipe("dough", {"flour": 100, "water": 65, "starter": 10}, makes=175),
        recipe("starter", {"flour": 1, "water": 1}, makes=2),
    ],
    ignore_index=True,
)
PLANNED = planned(
    {("t", "shop", "baguette"): [400, 200], ("t", "shop", "ferment"): [50, 0], ("t", "shop", "roll"): [500, 0]}
)


def by_item(frame: pd.DataFrame) -> dict[str, dict]:
    return frame.set_index("item_id").to_dict("index")


def test_doughs_are_added_up_over_products_before_runs_are_sized():
    found = by_item(plan_doughs(PLANNED, BREAD, mixers(60), lots(), DAY))
    assert set(found) == {"dough", "starter"}
    dough = found["dough"]
    assert dough["quantity"] == 170  # 140 for baguettes and 30 for rolls: 3 runs, not 3 + 1
    assert dough["runs"] == 3
    assert dough["run_quantities"] == pytest.approx([170 / 3] * 3, abs=1e-6)
    assert dict(zip(dough["product_ids"], dough["product_quantities"], strict=True)) == {"baguette": 140, "roll": 30}
    assert dough["horizon_quantity"] == [170, 70, *[0] * 12]
    starter = found["starter"]
    assert starter["quantity"] == pytest.approx(170 * 10 / 175 + 5, abs=1e-6)
    assert set(starter["product_ids"]) == {"baguette", "ferment", "roll"}
    assert starter["runs"] == 1
    assert starter["run_starts_at"] == []


def test_dough_at_hand_is_used_first_and_saves_its_starter():
    at_hand = lots(
        ("t", "shop", "dough", 100.0, DAY),
        ("t", "shop", "dough", 500.0, date(2026, 3, 1)),  # no longer usable
        ("t", "shop", "dough", 20.0, None),
        ("t", "other", "dough", 500.0, None),
    )
    found = by_item(plan_doughs(PLANNED, BREAD, mixers(60), at_hand, DAY))
    assert found["dough"]["opening_usable_quantity"] == 120
    assert found["dough"]["quantity"] == 50
    assert found["dough"]["runs"] == 1
    assert sum(found["dough"]["product_quantities"]) == 170
    assert found["dough"]["horizon_quantity"][:2] == [50, 70]
    assert found["starter"]["quantity"] == pytest.approx(50 * 10 / 175 + 5, abs=1e-6)


def test_stock_above_the_need_leaves_nothing_to_mix_and_a_negative_lot_adds_none():
    found = by_item(plan_doughs(PLANNED, BREAD, mixers(60), lots(("t", "shop", "dough", 300.0, None)), DAY))
    assert (found["dough"]["quantity"], found["dough"]["runs"], found["dough"]["run_quantities"]) == (0, 0, [])
    found = by_item(plan_doughs(PLANNED, BREAD, mixers(60), lots(("t", "shop", "dough", -30.0, None)), DAY))
    assert (found["dough"]["quantity"], found["dough"]["opening_usable_quantity"]) == (170, 0)


def test_yield_and_scrap_raise_what_is_mixed_at_each_level():
    recipes = pd.concat(
        [
            recipe("roll", {"dough": 2}, yields=0.8, scrap=0.5),
            recipe("dough", {"starter": 3}, makes=6, yields=0.5),
            recipe("starter", {"flour": 1}),
        ],
        ignore_index=True,
    )
    found = by_item(plan_doughs(planned({("t", "shop", "roll"): [10]}), recipes, mixers(60), lots(), DAY))
    assert found["dough"]["quantity"] == pytest.approx(10 * 2 / (0.5 * 0.8))
    assert found["starter"]["quantity"] == pytest.approx(50 * 3 / (6 * 0.5))


def test_a_dough_without_a_mixing_step_is_one_run():
    found = by_item(plan_doughs(PLANNED, BREAD, mixers(60, doughs=("starter",)), lots(), DAY))
    assert (found["dough"]["runs"], found["dough"]["run_quantities"]) == (1, [170])


def test_run_limits_of_the_day_decide_where_they_are_given():
    limits = pd.DataFrame(
        [("t", "shop", "dough", 20.0)], columns=["tenant_id", "location_id", "item_id", "run_quantity"]
    )
    found = by_item(plan_doughs(PLANNED, BREAD, mixers(60), lots(), DAY, run_limits=limits))
    assert found["dough"]["runs"] == 9
    assert found["starter"]["runs"] == 1


def test_stock_of_an_item_that_is_sold_too_is_left_to_the_product():
    recipes = pd.concat([recipe("sandwich", {"baguette": 1}), recipe("baguette", {"flour": 0.3})], ignore_index=True)
    rows = planned({("t", "shop", "baguette"): [10], ("t", "shop", "sandwich"): [4]})
    found = by_item(plan_doughs(rows, recipes, mixers(60), lots(("t", "shop", "baguette", 3.0, None)), DAY))
    assert found["baguette"]["quantity"] == 4
    assert found["baguette"]["product_ids"] == ["sandwich"]


def test_a_tenant_with_a_recipe_circle_is_left_out_and_others_are_not():
    circle = pd.concat(
        [recipe("bun", {"a": 1}, tenant="c"), recipe("a", {"b": 1}, tenant="c"), recipe("b", {"a": 1}, tenant="c")]
    )
    rows = planned({("c", "shop", "bun"): [1], ("t", "shop", "roll"): [100]})
    found = plan_doughs(rows, pd.concat([circle, BREAD], ignore_index=True), mixers(60), lots(), DAY)
    assert set(found["tenant_id"]) == {"t"}


def test_nothing_planned_is_nothing_to_mix():
    assert plan_doughs(planned({("t", "shop", "roll"): [0.0]}), BREAD, mixers(60), lots(), DAY).empty
    assert plan_doughs(PLANNED, BREAD.iloc[:0], mixers(60), lots(), DAY).empty


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 900), min_size=3, max_size=3),
    st.floats(5, 80),
    st.floats(0, 200),
    st.floats(0, 50),
)
def test_every_dough_adds_up_over_products_runs_and_stock(units, mixer, stock, starter_stock):
    names = ["baguette", "ferment", "roll"]
    rows = planned({("t", "shop", name): [count] for name, count in zip(names, units, strict=True)})
    at_hand = lots(("t", "shop", "dough", stock, None), ("t", "shop", "starter", starter_stock, None))
    for line in plan_doughs(rows, BREAD, mixers(mixer), at_hand, DAY).itertuples():
        gross = sum(line.product_quantities)
        used = min(line.opening_usable_quantity, gross)
        assert line.quantity == pytest.approx(gross - used, abs=1e-5)
        assert sum(line.run_quantities) == pytest.approx(line.quantity, abs=1e-5)
        assert all(0 < run <= mixer * (1 + 1e-6) + 1e-6 for run in line.run_quantities)
        assert len(line.run_quantities) == line.runs
        assert line.horizon_quantity[0] == line.quantity


def test_a_tenant_in_a_batch_has_the_doughs_that_it_has_alone():
    other = PLANNED.keys.assign(tenant_id="a")
    both = Panel(
        pd.concat([other, PLANNED.keys], ignore_index=True),
        {"horizon_units": np.concatenate([PLANNED["horizon_units"] * 3, PLANNED["horizon_units"]])},
        DAY,
    )
    recipes = pd.concat([BREAD.assign(tenant_id="a", quantity=BREAD["quantity"] * 2), BREAD], ignore_index=True)
    alone = plan_doughs(PLANNED, BREAD, mixers(60), lots(), DAY)
    together = plan_doughs(both, recipes, mixers(60), lots(), DAY)
    together = together[together["tenant_id"] == "t"].reset_index(drop=True)
    pd.testing.assert_frame_equal(together, alone)
