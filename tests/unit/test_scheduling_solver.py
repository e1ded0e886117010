"""Nights that the list scheduler leaves late, scheduled by CP-SAT: never worse, within the same bounds, the same every time."""

import sys
from datetime import time

import pandas as pd
import pytest
from hypothesis import given, settings

from daybreak import doctor
from planning import scheduling_solver
from tests.unit.examples import few_examples
from tests.unit.test_scheduling import (
    MIXER,
    Night,
    bakeries,
    dough_is_ready_in_time_for_everything_made_of_it_at_every_moment,
    every_batch_and_run_is_made_once_and_late_is_what_is_ready_after_its_time,
    local,
    night,
    no_resource_holds_more_than_its_capacity,
    nothing_begins_before_its_resource_works_for_the_plan_date,
    nothing_runs_while_its_resource_is_down,
    recipe,
    steps_follow_each_other_with_their_waits,
    workshop,
)

needs_solver = pytest.mark.skipif(
    scheduling_solver.solver_fault() is not None, reason="daybreak[schedule] is not installed"
)

# The oven holds one cake, or two of the others. Buns side by side, as late as can be, leave too little time for the stollen
# before them; one after the other, both beside the stollen, they do not.
TIGHT = workshop(
    [("oven", "shop", "oven", 10.0, time(4))],
    [
        ("cake", 1, "oven", None, 30.0, 10.0, 0.0),
        ("bun", 1, "oven", None, 60.0, 5.0, 60.0),
        ("stollen", 1, "oven", None, 90.0, 5.0, 30.0),
    ],
)
TIGHT_BATCHES = {"cake": (1, time(7)), "bun": (2, time(7)), "stollen": (1, time(6))}


def night_without_ortools(*arguments, **options):
    """A schedule by the list scheduler alone, as where the extra is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ortools", "ortools.sat.python"):
            patch.setitem(sys.modules, name, None)
        assert scheduling_solver.solver_fault() is not None
        return night(*arguments, **options)


def test_without_ortools_the_list_schedule_stands_and_the_doctor_says_so(monkeypatch):
    found = night_without_ortools(TIGHT, TIGHT_BATCHES)
    assert found.is_late.tolist() == [False, True, False]
    assert found.exceptions["code"].tolist() == ["batch_late"]
    assert len(found.timetable) == 4
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    finding = doctor.solver_finding()
    assert (finding.is_ok, finding.is_warning) == (True, False)
    assert "without OR-Tools" in finding.found


@needs_solver
def test_with_ortools_the_doctor_says_so():
    assert doctor.solver_finding().found == "nights that would be late are scheduled again by OR-Tools"


@needs_solver
def test_a_night_that_can_be_on_time_is_on_time():
    found = night(TIGHT, TIGHT_BATCHES)
    assert not found.is_late.any()
    assert found.exceptions.empty
    assert local(found.batch_bakes_at[0]) == ["02 06:30"]
    assert local(found.batch_bakes_at[1]) == ["02 04:00", "02 05:00"]
    assert local(found.batch_bakes_at[2]) == ["02 04:00"]


@needs_solver
def test_the_dough_that_rests_is_mixed_first_where_only_that_is_in_time():
    """Both rolls go into the oven at 5:30, an hour after the loaf, which is needed later: their dough has to rest."""
    shop = workshop(
        [("oven", "shop", "oven", 10.0, time(0)), (*MIXER[:4], time(4))],
        [
            ("plain", 1, "mixer", None, 15.0, 1.0, 0.0),
            ("rye", 1, "mixer", None, 15.0, 1.0, 60.0),
            ("loaf", 1, "oven", None, 60.0, 5.0, 30.0),
            ("roll", 1, "oven", None, 30.0, 5.0, 0.0),
        ],
    )
    recipes = pd.concat(
        [
            *(recipe(product, {dough: 1.0}) for product, dough in (("loaf", "plain"), ("roll", "rye"))),
            *(recipe(dough, {"flour": 0.6}) for dough in ("plain", "rye")),
        ],
        ignore_index=True,
    )
    batches = {"loaf": (1, time(7)), "roll": (2, time(6))}
    assert night_without_ortools(shop, batches, recipes=recipes).is_late.any()
    found = night(shop, batches, recipes=recipes)
    assert not found.is_late.any()
    mixing = found.doughs.set_index("item_id")["run_starts_at"].map(local).to_dict()
    assert mixing == {"rye": ["02 04:00"], "plain": ["02 04:15"]}
    assert [local(moments) for moments in found.batch_bakes_at] == [["02 04:30"], ["02 05:30", "02 05:30"]]


@needs_solver
@settings(few_examples, max_examples=2 * few_examples.max_examples // 3)
@given(bakeries())
def test_no_night_is_worse_and_everything_that_holds_for_the_list_schedule_holds(bakery):
    shop, recipes, batches = bakery
    listed = night_without_ortools(shop, batches, recipes=recipes)
    if not listed.is_late.any():
        return
    solved, again = (night(shop, batches, recipes=recipes) for _ in range(2))
    assert solved.cost <= listed.cost
    pd.testing.assert_frame_equal(solved.timetable, again.timetable)
    made = Night(shop, recipes, batches, solved)
    no_resource_holds_more_than_its_capacity(made)
    nothing_runs_while_its_resource_is_down(made)
    steps_follow_each_other_with_their_waits(made)
    nothing_begins_before_its_resource_works_for_the_plan_date(made)
    dough_is_ready_in_time_for_everything_made_of_it_at_every_moment(made)
    every_batch_and_run_is_made_once_and_late_is_what_is_ready_after_its_time(made)
