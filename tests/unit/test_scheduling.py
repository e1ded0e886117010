"""Schedules of a night: what they must never do, and what they do where there is room and where there is none."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.doughs import plan_doughs
from planning.frames import Panel
from planning.scheduling import Schedule, schedule_day
from planning.workshop import Workshop
from tests.unit.examples import few_examples

DAY = date(2026, 3, 2)
MADRID = ZoneInfo("Europe/Madrid")
RECIPE_COLUMNS = ["tenant_id", "output_item_id", "output_quantity", "yield_frac", "item_id", "quantity", "scrap_frac"]
LOT_COLUMNS = ["tenant_id", "location_id", "item_id", "quantity", "expires_on"]
SIZE = 10.0


def workshop(resources, steps, calendar=()) -> Workshop:
    empty = Workshop.empty()

    def frame(rows, of):
        return pd.DataFrame([("t", *row) for row in rows], columns=of.columns)

    return Workshop(
        frame(resources, empty.resources), frame(calendar, empty.calendar), frame(steps, empty.steps), empty.opening
    )


def recipe(output, parts) -> pd.DataFrame:
    return pd.DataFrame(
        [("t", output, 1.0, 1.0, item, per, 0.0) for item, per in parts.items()], columns=RECIPE_COLUMNS
    )


NO_RECIPES = pd.DataFrame(columns=RECIPE_COLUMNS)


def at(clock, day=DAY, zone=MADRID) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)


def local(moments) -> list[str]:
    return [moment.astimezone(MADRID).strftime("%d %H:%M") for moment in moments]


def night(shop, batches, *, ready_by=time(7), recipes=NO_RECIPES, day=DAY, at_hand=()):
    """The schedule of {product: batches}, or {product: (batches, ready_by)}, with the doughs that they take."""
    rows = {product: value if isinstance(value, tuple) else (value, ready_by) for product, value in batches.items()}
    keys = pd.DataFrame(
        [("t", "shop", product) for product in rows], columns=["tenant_id", "location_id", "product_id"]
    )
    units = np.zeros((len(rows), 14))
    units[:, 0] = [count * SIZE for count, _ in rows.values()]
    lots = pd.DataFrame(list(at_hand), columns=LOT_COLUMNS)
    doughs = plan_doughs(Panel(keys, {"horizon_units": units}, day), recipes, shop, lots, day)
    lines = keys.assign(
        batches=[count for count, _ in rows.values()],
        ready_by=pd.Series([clock and at(clock, day) for _, clock in rows.values()], dtype=object),
    )
    tenants = pd.DataFrame({"tenant_id": ["t"], "timezone": ["Europe/Madrid"]})
    return schedule_day(lines, doughs, recipes, shop, tenants, day, has_timetable=True)


OVEN = ("oven", "shop", "oven", 10.0, time(0))
MIXER = ("mixer", "shop", "mixer", 50.0, time(0))
BREAD = pd.concat([recipe("bread", {"dough": 0.5}), recipe("dough", {"flour": 0.6})], ignore_index=True)
BREAD_STEPS = [("dough", 1, "mixer", None, 15.0, 1.0, 60.0), ("bread", 1, "oven", None, 30.0, 4.0, 20.0)]


# ---------------------------------------------------------------- what it does


def test_the_last_step_is_as_late_as_can_be_and_the_dough_as_late_as_that_allows():
    found = night(workshop([OVEN, MIXER], BREAD_STEPS), {"bread": 3}, recipes=BREAD)
    # The oven holds two batches of 4 trays: two are ready at 7, one is in the oven before them.
    assert local(found.batch_ready_at[0]) == ["02 06:30", "02 07:00", "02 07:00"]
    assert local(found.batch_bakes_at[0]) == ["02 05:40", "02 06:10", "02 06:10"]
    assert local(found.batch_starts_at[0]) == ["02 05:40", "02 06:10", "02 06:10"]
    assert found.batch_resource_ids[0] == ["oven"] * 3
    dough = found.doughs.iloc[0]
    assert dough["run_quantities"] == [15]
    assert dough["run_resource_ids"] == ["mixer"]
    assert local(dough["run_starts_at"]) == ["02 04:25"]  # 15 minutes, then an hour's rest, then the first batch
    assert local(dough["run_ends_at"]) == ["02 04:40"]
    assert not found.is_late.any()
    assert found.exceptions.empty


def test_runs_feed_batches_in_the_order_in_which_they_need_them():
    found = night(workshop([OVEN, MIXER], BREAD_STEPS), {"bread": 20}, recipes=BREAD)
    # 20 batches of 5 kg are two runs of 50 kg: ten batches each, two at a time in the oven.
    bakes, mixed = found.batch_bakes_at[0], found.doughs.iloc[0]["run_ends_at"]
    assert found.doughs.iloc[0]["run_quantities"] == [50, 50]
    assert mixed[0] == bakes[0] - timedelta(minutes=60)
    assert mixed[1] == bakes[10] - timedelta(minutes=60)


def test_dough_at_hand_feeds_what_is_needed_first():
    at_hand = [("t", "shop", "dough", 50.0, None)]
    found = night(workshop([OVEN, MIXER], BREAD_STEPS), {"bread": 20}, recipes=BREAD, at_hand=at_hand)
    bakes, mixed = found.batch_bakes_at[0], found.doughs.iloc[0]["run_ends_at"]
    assert len(mixed) == 1
    assert mixed[0] == bakes[10] - timedelta(minutes=60)


def test_a_starter_is_ready_before_the_dough_and_the_dough_before_the_batch():
    recipes = pd.concat(
        [recipe("bread", {"dough": 0.5}), recipe("dough", {"starter": 0.2}), recipe("starter", {"flour": 0.5})],
        ignore_index=True,
    )
    shop = workshop([OVEN, MIXER], [("starter", 1, "mixer", None, 10.0, 1.0, 120.0), *BREAD_STEPS])
    found = night(shop, {"bread": 1}, recipes=recipes)
    mixing = found.doughs.set_index("item_id")["run_starts_at"].map(local).to_dict()
    assert local(found.batch_bakes_at[0]) == ["02 06:10"]
    assert mixing == {"dough": ["02 04:55"], "starter": ["02 02:45"]}


def test_nothing_is_placed_before_its_resource_works_unless_late_is_the_answer():
    """13 batches one after the other take 6:30 hours, but the oven works from 1:00 and the last has to cool."""
    shop = workshop([("oven", "shop", "oven", 5.0, time(1))], [("bread", 1, "oven", None, 30.0, 4.0, 20.0)])
    found = night(shop, {"bread": 13})
    assert found.is_late.tolist() == [True]
    assert min(found.batch_bakes_at[0]) >= at(time(1))
    ready = local(found.batch_ready_at[0])
    assert ready[-1] == "02 07:50"
    assert sum(moment > at(time(7)) for moment in found.batch_ready_at[0]) == 2
    problem = found.exceptions.iloc[0]
    assert (problem["code"], problem["subject_id"]) == ("batch_late", "bread")
    assert "2 of 13 batches are ready after Mon 07:00, the last at Mon 07:50" in problem["message"]


def test_a_late_dough_makes_its_batches_late_but_not_those_of_others():
    shop = workshop(
        [OVEN, ("mixer", "shop", "mixer", 50.0, time(6))],
        [*BREAD_STEPS, ("cake", 1, "oven", None, 30.0, 4.0, 0.0)],
    )
    found = night(shop, {"bread": 1, "cake": 2}, recipes=BREAD)
    assert found.is_late.tolist() == [True, False]
    assert local(found.doughs.iloc[0]["run_starts_at"]) == ["02 06:00"]
    assert local(found.batch_bakes_at[0]) == ["02 07:15"]
    assert local(found.batch_ready_at[1]) == ["02 07:00", "02 07:00"]


def test_work_begins_the_evening_before():
    shop = workshop([(*OVEN[:4], time(22))], [("bread", 1, "oven", None, 60.0, 10.0, 0.0)])
    found = night(shop, {"bread": 9})
    assert local(found.batch_bakes_at[0])[0] == "01 22:00"
    assert not found.is_late.any()


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 8), (date(2026, 10, 25), 10), (date(2026, 3, 30), 9)])
def test_nights_in_which_clocks_change_have_the_hours_that_pass(day, hours):
    shop = workshop([(*OVEN[:4], time(22))], [("bread", 1, "oven", None, 60.0, 10.0, 0.0)])
    found = night(shop, {"bread": hours}, day=day)
    assert not found.is_late.any()
    assert found.batch_bakes_at[0][0] == at(time(22), day - timedelta(days=1))
    assert found.batch_ready_at[0][-1] == at(time(7), day)
    gaps = np.diff([moment.timestamp() for moment in found.batch_bakes_at[0]])
    assert (gaps == 3600).all()
    assert night(shop, {"bread": hours + 1}, day=day).is_late.all()


def test_nothing_is_in_an_oven_that_is_down():
    calendar = [("oven", DAY, time(4), time(6, 15), 0.0)]
    found = night(workshop([OVEN], [("bread", 1, "oven", None, 30.0, 6.0, 0.0)], calendar), {"bread": 3})
    assert local(found.batch_bakes_at[0]) == ["02 03:00", "02 03:30", "02 06:30"]


def test_a_mixer_with_too_little_room_is_passed_over():
    mixers = [("large", "shop", "mixer", 60.0, time(0)), ("small", "shop", "mixer", 10.0, time(0))]
    found = night(workshop([OVEN, *mixers], BREAD_STEPS), {"bread": 20}, recipes=BREAD)
    assert found.doughs.iloc[0]["run_resource_ids"] == ["large", "large"]


def test_a_line_without_steps_or_without_a_time_of_need_gets_no_times():
    shop = workshop([OVEN, MIXER], BREAD_STEPS)
    recipes = pd.concat([BREAD, recipe("roll", {"dough": 0.1})], ignore_index=True)
    found = night(shop, {"bread": (1, None), "roll": 2, "tea": 5}, recipes=recipes)
    assert found.batch_ready_at == [[], [], []]
    assert not found.is_late.any()
    # The roll has no steps of its own: its dough is needed when it is.
    assert local(found.doughs.iloc[0]["run_ends_at"]) == ["02 06:00"]


def test_dough_that_cannot_be_ready_makes_a_line_without_steps_late():
    shop = workshop([("mixer", "shop", "mixer", 50.0, time(6, 30))], BREAD_STEPS[:1])
    found = night(shop, {"bread": 1}, recipes=BREAD)
    assert found.is_late.tolist() == [True]
    assert found.batch_ready_at == [[]]
    assert "its dough is ready at Mon 07:45, after Mon 07:00" in found.exceptions.iloc[0]["message"]


def test_dough_for_what_has_no_time_of_need_gets_none():
    found = night(workshop([OVEN, MIXER], BREAD_STEPS), {"bread": (1, None), "tea": 1}, recipes=BREAD)
    assert found.doughs.iloc[0]["run_starts_at"] == []


def test_a_step_that_the_place_has_no_resource_for_takes_its_time_all_the_same():
    found = night(workshop([MIXER], BREAD_STEPS), {"bread": 30}, recipes=BREAD)
    assert set(local(found.batch_bakes_at[0])) == {"02 06:10"}
    assert set(found.batch_resource_ids[0]) == {None}


# ---------------------------------------------------------------- what it must never do


@st.composite
def bakeries(draw):
    """A place with a few ovens, mixers and a prover, doughs over a starter, and products due at two times."""
    ovens = [
        (f"oven{n}", "shop", "oven", float(draw(st.integers(2, 12))), time(draw(st.sampled_from([0, 3, 22]))))
        for n in range(draw(st.integers(1, 2)))
    ]
    mixers = [
        (f"mixer{n}", "shop", "mixer", float(draw(st.integers(10, 80))), time(draw(st.sampled_from([0, 4]))))
        for n in range(draw(st.integers(1, 2)))
    ]
    prover = [("prover", "shop", "prover", 20.0, time(0))] if draw(st.booleans()) else []
    steps, recipes, batches = [], [recipe("starter", {"flour": 0.5})], {}
    steps.append(("starter", 1, "mixer", None, 10.0, 1.0, float(draw(st.integers(0, 90)))))
    for dough in ("rye", "white"):
        recipes.append(recipe(dough, {"flour": 0.6, "starter": 0.2}))
        steps.append((dough, 1, "mixer", None, float(draw(st.integers(5, 25))), 1.0, float(draw(st.integers(0, 60)))))
    for number in range(draw(st.integers(1, 5))):
        product = f"product{number}"
        recipes.append(
            recipe(product, {draw(st.sampled_from(["rye", "white"])): draw(st.sampled_from([0.1, 0.4, 1.0]))})
        )
        step_no = 1
        if draw(st.booleans()):
            steps.append(
                (
                    product,
                    step_no,
                    "prover",
                    None,
                    float(draw(st.integers(10, 60))),
                    float(draw(st.integers(1, 8))),
                    0.0,
                )
            )
            step_no += 1
        steps.append(
            (
                product,
                step_no,
                "oven",
                None,
                float(draw(st.integers(10, 50))),
                float(draw(st.integers(1, 6))),
                float(draw(st.integers(0, 30))),
            )
        )
        batches[product] = (draw(st.integers(0, 9)), draw(st.sampled_from([time(5), time(7), time(11)])))
    calendar = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["oven0", "mixer0"]),
                st.just(DAY),
                st.integers(0, 9),
                st.integers(1, 3),
                st.sampled_from([0.0, 1.0, 5.0]),
            ),
            min_size=1,
            max_size=4,
            unique_by=lambda row: (row[0], row[2]),
        )
    )
    calendar = [
        (resource, day, time(begin), time(begin + hours), held) for resource, day, begin, hours, held in calendar
    ]
    return workshop([*ovens, *mixers, *prover], steps, calendar), pd.concat(recipes, ignore_index=True), batches


def held_at(shop, resource_id, moment) -> float:
    """What a resource holds at a moment by the workshop's frames."""
    resource = shop.resources.set_index("resource_id").loc[resource_id]
    clock = moment.astimezone(MADRID)
    held = [
        row.capacity
        for row in shop.calendar.itertuples()
        if row.resource_id == resource_id and row.on_date == clock.date() and row.from_at <= clock.time() < row.until_at
    ]
    return min(held, default=resource["capacity"])


@dataclass(frozen=True)
class Night:
    """A place, what it is asked to make, and the schedule that it got."""

    shop: Workshop
    recipes: pd.DataFrame
    batches: dict[str, tuple[int, time]]
    found: Schedule

    @property
    def timetable(self) -> pd.DataFrame:
        return self.found.timetable


def uses_of(shop) -> dict[tuple[str, int], float]:
    return {(row.item_id, row.step_no): row.capacity_use for row in shop.steps.itertuples()}


def no_resource_holds_more_than_its_capacity(made: Night) -> None:
    shop, table = made.shop, made.timetable
    largest = shop.resources.groupby("kind")["capacity"].max()
    uses = uses_of(shop)
    for resource_id, steps in table.groupby("resource_id"):
        changes = [at(row.from_at, row.on_date) for row in shop.calendar.itertuples() if row.resource_id == resource_id]
        for moment in [*steps["starts_at"], *changes]:
            running = steps[(steps["starts_at"] <= moment) & (moment < steps["ends_at"])]
            if resource_id.startswith("mixer"):
                assert len(running) <= 1
                assert (running["quantity"] <= held_at(shop, resource_id, moment) + 1e-5).all()
                continue
            taken = 0.0
            for row in running.itertuples():
                use, most = uses[row.item_id, row.step_no], largest[row.kind]
                taken += use / np.ceil(use / most)
            assert taken <= held_at(shop, resource_id, moment) + 1e-5


def nothing_runs_while_its_resource_is_down(made: Night) -> None:
    shop, table = made.shop, made.timetable
    for entry in shop.calendar[shop.calendar["capacity"] == 0].itertuples():
        begin, end = at(entry.from_at, entry.on_date), at(entry.until_at, entry.on_date)
        of_resource = table[table["resource_id"] == entry.resource_id]
        assert not ((of_resource["starts_at"] < end) & (begin < of_resource["ends_at"])).any()


def steps_follow_each_other_with_their_waits(made: Night) -> None:
    shop, table = made.shop, made.timetable
    waits = {(row.item_id, row.step_no): timedelta(minutes=row.wait_minutes) for row in shop.steps.itertuples()}
    for (item_id, _, _), unsorted_steps in table.groupby(["item_id", "is_run", "number"]):
        steps = unsorted_steps.sort_values("step_no")
        assert steps["step_no"].tolist() == list(range(1, len(steps) + 1))
        for row, following in zip(steps.itertuples(), list(steps.itertuples())[1:], strict=False):
            assert following.starts_at >= row.ends_at + waits[item_id, row.step_no]
    for product, ready in zip(made.batches, made.found.batch_ready_at, strict=True):
        steps = table[(table["item_id"] == product) & ~table["is_run"]]
        if len(steps):
            last = steps[steps["step_no"] == steps["step_no"].max()]
            ends = sorted(last["ends_at"] + waits[product, int(last["step_no"].iloc[0])])
            assert ready == ends


def nothing_begins_before_its_resource_works_for_the_plan_date(made: Night) -> None:
    latest = max(at(clock) for _, clock in made.batches.values())
    table = made.timetable
    for resource in made.shop.resources.itertuples():
        start = at(resource.available_from)
        start = start if start < latest else at(resource.available_from, DAY - timedelta(days=1))
        assert (table.loc[table["resource_id"] == resource.resource_id, "starts_at"] >= start).all()


def dough_is_ready_in_time_for_everything_made_of_it_at_every_moment(made: Night) -> None:
    """At any start, what is ready of a dough covers all that has been taken of it by then."""
    shop, recipes, table = made.shop, made.recipes, made.timetable
    waits = {(row.item_id, row.step_no): timedelta(minutes=row.wait_minutes) for row in shop.steps.itertuples()}
    for dough in ("rye", "white", "starter"):
        runs = table[(table["item_id"] == dough) & table["is_run"]]
        ready = [(row.ends_at + waits[dough, 1], row.quantity) for row in runs.itertuples()]
        takes = []
        for part in recipes[recipes["item_id"] == dough].itertuples():
            first = table[(table["item_id"] == part.output_item_id) & (table["step_no"] == 1)]
            for row in first.itertuples():
                takes.append((row.starts_at, part.quantity * (row.quantity if row.is_run else SIZE)))
        for moment, _ in takes:
            assert sum(q for when, q in takes if when <= moment) <= sum(q for when, q in ready if when <= moment) + 1e-4


def every_batch_and_run_is_made_once_and_late_is_what_is_ready_after_its_time(made: Night) -> None:
    found, table = made.found, made.timetable
    for row, (product, (count, clock)) in enumerate(made.batches.items()):
        assert len(found.batch_ready_at[row]) == len(found.batch_bakes_at[row]) == count
        assert len(found.batch_starts_at[row]) == len(found.batch_resource_ids[row]) == count
        assert found.batch_ready_at[row] == sorted(found.batch_ready_at[row])
        assert found.is_late[row] == any(moment > at(clock) for moment in found.batch_ready_at[row])
        assert len(table[(table["item_id"] == product) & (table["step_no"] == 1)]) == count
    for dough in found.doughs.itertuples():
        assert len(dough.run_starts_at) == len(dough.run_ends_at) == len(dough.run_resource_ids) == dough.runs


@settings(few_examples, max_examples=2 * few_examples.max_examples)
@given(bakeries())
def test_what_holds_for_every_night(bakery):
    """Every statement about the same nights: to schedule one takes far longer than to look at it."""
    shop, recipes, batches = bakery
    made = Night(shop, recipes, batches, night(shop, batches, recipes=recipes))
    no_resource_holds_more_than_its_capacity(made)
    nothing_runs_while_its_resource_is_down(made)
    steps_follow_each_other_with_their_waits(made)
    nothing_begins_before_its_resource_works_for_the_plan_date(made)
    dough_is_ready_in_time_for_everything_made_of_it_at_every_moment(made)
    every_batch_and_run_is_made_once_and_late_is_what_is_ready_after_its_time(made)


@few_examples
@given(bakeries())
def test_the_same_night_is_scheduled_the_same_way_again(bakery):
    shop, recipes, batches = bakery
    first, second = (night(shop, batches, recipes=recipes) for _ in range(2))
    pd.testing.assert_frame_equal(first.timetable, second.timetable)


def test_a_tenant_in_a_batch_is_scheduled_as_if_alone():
    shop = workshop([OVEN, MIXER], BREAD_STEPS)
    alone = night(shop, {"bread": 12}, recipes=BREAD)
    twice = Workshop(
        *(
            pd.concat([frame.assign(tenant_id="a"), frame], ignore_index=True) if len(frame) else frame
            for frame in (shop.resources, shop.calendar, shop.steps, shop.opening)
        )
    )
    recipes = pd.concat([BREAD.assign(tenant_id="a"), BREAD], ignore_index=True)
    keys = pd.DataFrame({"tenant_id": ["a", "t"], "location_id": "shop", "product_id": "bread"})
    units = np.zeros((2, 14))
    units[:, 0] = [200, 120]
    doughs = plan_doughs(
        Panel(keys, {"horizon_units": units}, DAY), recipes, twice, pd.DataFrame(columns=LOT_COLUMNS), DAY
    )
    lines = keys.assign(batches=[20, 12], ready_by=pd.Series([at(time(7))] * 2, dtype=object))
    zones = pd.DataFrame({"tenant_id": ["a", "t"], "timezone": ["Europe/London", "Europe/Madrid"]})
    both = schedule_day(lines, doughs, recipes, twice, zones, DAY)
    assert both.batch_bakes_at[1] == alone.batch_bakes_at[0]
    assert both.doughs.iloc[1]["run_starts_at"] == alone.doughs.iloc[0]["run_starts_at"]
