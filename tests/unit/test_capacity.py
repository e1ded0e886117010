"""Which batches a place has time for: against the exact optimum, and limits read from a workshop."""

from datetime import date, time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from planning.capacity import GOOD_SHARE, Limits, allocate
from planning.workshop import Workshop

DAY = date(2026, 3, 2)
RECIPE_COLUMNS = ["tenant_id", "output_item_id", "output_quantity", "yield_frac", "item_id", "quantity", "scrap_frac"]
RESOURCE_COLUMNS = ["tenant_id", "resource_id", "location_id", "kind", "capacity", "available_from"]
CALENDAR_COLUMNS = ["tenant_id", "resource_id", "on_date", "from_at", "until_at", "capacity"]
STEP_COLUMNS = [
    "tenant_id",
    "item_id",
    "step_no",
    "resource_kind",
    "resource_id",
    "minutes",
    "capacity_use",
    "wait_minutes",
]


# ---------------------------------------------------------------- allocate


def instance(seed: int, resources: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gains falling in k, usage, and capacities of which each is short of what all gainful steps take."""
    rng = np.random.default_rng(seed)
    rows, most = int(rng.integers(5, 31)), int(rng.integers(2, 9))
    gains = np.sort(rng.uniform(-0.2, 1, (rows, most)) * rng.uniform(1, 40, (rows, 1)), axis=1)[:, ::-1]
    usage = rng.uniform(1, 10, (rows, resources))
    capacity = ((gains > 0).sum(axis=1) @ usage) * rng.uniform(0.3, 0.8, resources)
    return gains, usage, capacity


def optimum(gains, usage, capacity, sizes=None) -> float:
    """The highest gain, by an integer programme over all steps."""
    rows, most = gains.shape
    sizes = np.ones_like(gains) if sizes is None else sizes
    use = np.repeat(usage, most, axis=0) * sizes.ravel()[:, None]
    follows = [np.eye(1, rows * most, k)[0] - np.eye(1, rows * most, k - 1)[0] for k in range(rows * most) if k % most]
    matrix = np.vstack([use.T, *follows])
    upper = np.concatenate([capacity, np.zeros(len(follows))])
    answer = milp(
        -gains.ravel(),
        integrality=np.ones(rows * most),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, -np.inf, upper),
        options={"mip_rel_gap": 1e-6},
    )
    assert answer.status == 0
    return -answer.fun


def used(steps, usage, sizes=None) -> np.ndarray:
    made = (
        np.asarray(steps) if sizes is None else (np.arange(sizes.shape[1]) < np.asarray(steps)[:, None]).astype(float)
    )
    return made @ usage if sizes is None else (made * sizes).sum(axis=1) @ usage


def test_profit_is_at_least_99_percent_of_the_optimum_with_two_binding_resources():
    shares = []
    for seed in range(200):
        gains, usage, capacity = instance(seed)
        found = allocate(gains, usage, capacity)
        assert (used(found.steps, usage) <= capacity * (1 + 1e-8)).all(), seed
        assert found.profit == pytest.approx(sum(row[:n].sum() for row, n in zip(gains, found.steps, strict=True)))
        best = optimum(gains, usage, capacity)
        assert found.profit <= best * (1 + 1e-5)
        assert found.bound >= best * (1 - 1e-5)
        shares.append(found.profit / best)
    assert min(shares) >= GOOD_SHARE


@pytest.mark.parametrize("seed", range(20))
def test_quick_allocations_are_feasible_and_near_the_optimum(seed):
    gains, usage, capacity = instance(seed)
    found = allocate(gains, usage, capacity, is_quick=True)
    assert (used(found.steps, usage) <= capacity * (1 + 1e-8)).all()
    assert not found.is_solved
    assert found.profit >= 0.93 * optimum(gains, usage, capacity)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=4), min_size=1, max_size=5),
    st.integers(1, 7),
    st.integers(0, 60),
)
def test_one_resource_used_alike_is_allocated_exactly(rows, use, capacity):
    most = max(map(len, rows))
    gains = np.array([sorted(row, reverse=True) + [-np.inf] * (most - len(row)) for row in rows], dtype=float)
    found = allocate(gains, np.full((len(rows), 1), float(use)), np.array([float(capacity)]))
    best = np.sort(gains[np.isfinite(gains)])[::-1][: capacity // use].sum()
    assert found.profit == pytest.approx(best)
    assert found.steps.sum() * use <= capacity


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_nothing_exceeds_capacity_and_what_is_short_names_a_resource_that_has_no_room_for_it(seed, resources):
    gains, usage, capacity = instance(seed, resources)
    rng = np.random.default_rng(seed)
    sizes = np.ones_like(gains)
    sizes[:, 0] = rng.integers(1, 4, len(gains))
    gains = gains * sizes
    found = allocate(gains, usage, capacity, sizes=sizes)
    left = capacity - used(found.steps, usage, sizes)
    assert (left >= -1e-6).all()
    wanted = (gains > 0).sum(axis=1)
    for row in range(len(gains)):
        is_cut = found.steps[row] < wanted[row]
        assert (found.limiting[row] >= 0) == is_cut
        if is_cut and not found.is_solved:
            at = found.limiting[row]
            assert sizes[row, found.steps[row]] * usage[row, at] > left[at] - 1e-6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gains": [[5.0, float("nan")], [3.0, 1.0]]}, "gains must be numbers"),
        ({"gains": [[float("inf"), 1.0], [3.0, 1.0]]}, "gains must be numbers"),
        ({"gains": 5.0}, r"gains \(n, K\) \(\) need"),
        ({"gains": [5.0, 3.0]}, r"gains \(n, K\) \(2,\) need"),
        ({"capacity": [float("nan")]}, "capacity must be numbers of at least 0"),
        ({"capacity": [-1.0]}, "capacity must be numbers of at least 0"),
        ({"capacity": [3.0, 3.0]}, r"got \(2, 1\), \(2,\), \(2, 2\) and \(2,\)"),
        ({"capacity": 3.0}, r"got \(2, 1\), \(\)"),
        ({"usage": [[1.0], [float("nan")]]}, "usage must be finite and not negative"),
        ({"usage": [[1.0], [-1.0]]}, "usage must be finite and not negative"),
        ({"usage": [[1.0]]}, r"got \(1, 1\)"),
        ({"sizes": [[1.0, float("nan")], [1.0, 1.0]]}, "sizes must be finite and not negative"),
        ({"sizes": [[1.0], [1.0]]}, r"\(2, 1\) and \(2,\)"),
        ({"committed": [1]}, r"and \(1,\)"),
        ({"committed": [1, -1]}, "committed must be whole numbers"),
        ({"committed": [1.0, 0.5]}, "committed must be whole numbers"),
    ],
)
def test_what_cannot_be_allocated_is_refused(changes, words):
    asked = {"gains": [[5.0, 2.0], [3.0, 1.0]], "usage": [[1.0], [2.0]], "capacity": [3.0]}
    assert allocate(**asked).steps.tolist() == [1, 1]
    with pytest.raises(ValueError, match=words):
        allocate(**{**asked, **changes})


def test_everything_gainful_is_made_where_nothing_binds():
    gains = np.array([[5.0, 2.0, -1.0], [3.0, -np.inf, -np.inf]])
    found = allocate(gains, np.array([[1.0], [2.0]]), np.array([100.0]))
    assert found.steps.tolist() == [2, 1]
    assert found.limiting.tolist() == [-1, -1]
    assert (found.profit, found.bound, found.is_exact) == (10.0, 10.0, True)


def test_committed_steps_come_before_more_valuable_ones():
    gains = np.array([[-1.0, -2.0], [50.0, 40.0]])
    found = allocate(gains, np.ones((2, 1)), np.array([3.0]), committed=np.array([2, 0]))
    assert found.steps.tolist() == [2, 1]
    assert found.limiting.tolist() == [-1, 0]


def test_of_commitments_that_do_not_all_fit_the_most_valuable_are_made():
    gains = np.array([[4.0, 3.0], [9.0, -5.0], [8.0, 7.0]])
    usage = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = allocate(gains, usage, np.array([2.0, 2.0]), committed=np.array([2, 2, 0]))
    assert found.steps.tolist() == [1, 1, 2]  # the other resource is not the committed rows' to take
    assert found.limiting.tolist() == [0, 0, -1]
    assert not found.is_exact


def test_allocation_does_not_depend_on_the_order_of_rows_that_differ():
    gains, usage, capacity = instance(3)
    shuffled = np.random.default_rng(0).permutation(len(gains))
    first, second = allocate(gains, usage, capacity), allocate(gains[shuffled], usage[shuffled], capacity)
    assert second.profit == pytest.approx(first.profit, rel=2e-3)
    again = allocate(gains, usage, capacity)
    assert again.steps.tolist() == first.steps.tolist()


def test_the_solver_prints_nothing(capfd):
    for seed in range(12):
        gains, usage, capacity = instance(seed)
        few = allocate(gains[:4], usage[:4], capacity / len(gains) * 2)
        assert few.profit <= few.bound * (1 + 1e-9)
    assert capfd.readouterr().out == ""


# ---------------------------------------------------------------- limits of a workshop


def workshop(resources, steps, calendar=()) -> Workshop:
    return Workshop(
        pd.DataFrame([("t", *row) for row in resources], columns=RESOURCE_COLUMNS),
        pd.DataFrame([("t", *row) for row in calendar], columns=CALENDAR_COLUMNS),
        pd.DataFrame([("t", *row) for row in steps], columns=STEP_COLUMNS),
        Workshop.empty().opening,
    )


def made_of(*products, ready_by=time(7)) -> pd.DataFrame:
    rows = [
        (("t", "shop", *product) if isinstance(product, tuple) else ("t", "shop", product, ready_by))
        for product in products
    ]
    return pd.DataFrame(rows, columns=["tenant_id", "location_id", "product_id", "ready_by"])


def recipe(output, parts, makes=1.0, yields=1.0, scrap=0.0) -> pd.DataFrame:
    return pd.DataFrame(
        [("t", output, makes, yields, item, per, scrap) for item, per in parts.items()], columns=RECIPE_COLUMNS
    )


NO_RECIPES = pd.DataFrame(columns=RECIPE_COLUMNS)
OVEN = ("oven", "shop", "oven", 10.0, time(0))


def bake(product, minutes=30.0, use=2.0, resource=None):
    return (product, 1, "oven", resource, minutes, use, 0.0)


def tenants(zone="Europe/Madrid") -> pd.DataFrame:
    return pd.DataFrame({"tenant_id": ["t"], "timezone": [zone]})


def limits_of(made, shop, recipes=NO_RECIPES, plan_date=DAY, sizes=10.0) -> Limits:
    return Limits.of(made, recipes, shop, tenants(), plan_date, np.full(len(made), sizes))


def fitted(limits, wanted, *, values=None, committed=None, fewest=None, multiple=None, day=0):
    """Fit with gains falling evenly from values per batch."""
    wanted = np.array(wanted)
    values = np.ones(len(wanted)) if values is None else np.array(values, dtype=float)
    multiple = np.ones_like(wanted) if multiple is None else np.array(multiple)
    fewest = multiple if fewest is None else np.array(fewest)

    def gains_of(rows):
        most = int(wanted.max())
        gains = values[rows, None] * np.linspace(1, 0.5, most)
        gains[:, 0] *= fewest[rows]
        steps = 1 + (wanted - fewest)[rows] // multiple[rows]
        return np.where(np.arange(most) < steps[:, None], gains, -np.inf)

    committed = np.zeros_like(wanted) if committed is None else np.array(committed)
    return limits.fit(day, wanted, fewest=fewest, multiple=multiple, committed=committed, gains_of=gains_of)


def test_an_oven_makes_what_its_minutes_times_trays_hold():
    """From 00:00 to 07:00 are 420 minutes of 10 trays; a batch takes 2 trays for 30 minutes: 70 batches."""
    limits = limits_of(made_of("bread"), workshop([OVEN], [bake("bread")]))
    assert limits.capacity[0, 0] == 4200
    found = fitted(limits, [100])
    assert found.batches.tolist() == [70]
    assert found.limiting_resource_id.tolist() == ["oven"]
    assert fitted(limits, [70]).limiting_resource_id.tolist() == [None]


def test_the_batches_worth_most_are_made_where_the_oven_is_short():
    limits = limits_of(made_of("bread", "cake"), workshop([OVEN], [bake("bread"), bake("cake")]))
    found = fitted(limits, [60, 60], values=[1, 5])
    assert found.batches.tolist() == [10, 60]
    assert found.limiting_resource_id.tolist() == ["oven", None]


def test_places_that_nothing_limits_come_back_as_wanted_and_their_gains_are_not_asked_for():
    limits = limits_of(made_of("bread"), workshop([OVEN], [bake("bread")]))
    wanted = np.array([69])
    found = limits.fit(0, wanted, fewest=wanted, multiple=wanted, committed=wanted, gains_of=lambda rows: 1 / 0)
    assert found.batches.tolist() == [69]


def test_a_resource_that_starts_the_evening_before_has_the_whole_night():
    limits = limits_of(made_of("bread"), workshop([(*OVEN[:4], time(22))], [bake("bread")]))
    assert limits.capacity[0, 0] == 540 * 10


@pytest.mark.parametrize(
    ("plan_date", "minutes"), [(date(2026, 3, 29), 480), (date(2026, 10, 25), 600), (date(2026, 3, 30), 540)]
)
def test_nights_in_which_clocks_change_have_the_minutes_that_pass(plan_date, minutes):
    limits = limits_of(made_of("bread"), workshop([(*OVEN[:4], time(22))], [bake("bread")]), plan_date=plan_date)
    assert limits.capacity[0, 0] == minutes * 10


def test_calendar_entries_take_off_what_they_overlap():
    calendar = [
        ("oven", DAY, time(4), time(5), 0.0),
        ("oven", DAY, time(4, 30), time(6), 4.0),  # overlaps: down until 5, then 4 trays
        ("oven", DAY, time(6, 30), time(9), 0.0),  # half an hour of it before 7
        ("oven", date(2026, 3, 3), time(0), None, 0.0),
    ]
    limits = limits_of(made_of("bread"), workshop([OVEN], [bake("bread")], calendar))
    assert limits.capacity[0, 0] == 4200 - 60 * 10 - 60 * 6 - 30 * 10
    assert limits.capacity[0, 1] == 0
    assert limits.capacity[0, 2] == 4200
    assert fitted(limits, [5], day=1).batches.tolist() == [0]


def test_ovens_of_a_place_count_together_and_a_named_one_by_itself_too():
    shop = workshop(
        [("big", "shop", "oven", 10.0, time(0)), ("deck", "shop", "oven", 2.0, time(0))],
        [bake("bread"), bake("pizza", resource="deck")],
    )
    limits = limits_of(made_of("bread", "pizza"), shop)
    assert dict(zip(limits.resource_id, limits.capacity[:, 0], strict=True)) == {"big": 5040, "deck": 840}
    found = fitted(limits, [100, 100], values=[1, 2])
    assert found.batches.tolist() == [70, 14]  # 14 pizzas fill the deck oven, what is left of both is for bread
    assert found.limiting_resource_id.tolist() == ["big", "deck"]


def test_what_is_due_early_has_to_fit_into_the_time_until_then():
    made = made_of(("rolls", time(2)), ("cake", time(12)))
    limits = limits_of(made, workshop([OVEN], [bake("rolls"), bake("cake")]))
    found = fitted(limits, [50, 10])
    assert found.batches.tolist() == [20, 10]
    assert found.limiting_resource_id.tolist() == ["oven", None]


def test_minimum_and_multiple_of_batches_are_kept_under_limits():
    limits = limits_of(made_of("bread", "cake"), workshop([OVEN], [bake("bread"), bake("cake")]))
    found = fitted(limits, [60, 40], values=[1, 1.2], fewest=[20, 30], multiple=[4, 10])
    batches = found.batches
    assert batches[0] == 0 or (batches[0] >= 20 and (batches[0] - 20) % 4 == 0)
    assert batches[1] == 0 or (batches[1] >= 30 and (batches[1] - 30) % 10 == 0)
    assert batches.sum() <= 70


def test_orders_are_made_first_and_those_without_room_are_a_problem():
    limits = limits_of(made_of("bread", "cake"), workshop([OVEN], [bake("bread"), bake("cake")]))
    found = fitted(limits, [80, 80], values=[1, 9], committed=[60, 0])
    assert found.batches.tolist() == [60, 10]
    assert found.problems == []
    found = fitted(limits, [80, 80], values=[1, 9], committed=[60, 60])
    assert found.batches.tolist() == [10, 60]
    assert [row[:6] for row in found.problems] == [
        ("t", "production_plans", "shop", "product", "bread", "orders_above_capacity")
    ]


def test_a_kind_of_resource_that_the_place_lacks_is_an_exception_and_no_limit():
    limits = limits_of(made_of("bread", "cake"), workshop([("mixer", "shop", "mixer", 50.0, time(0))], [bake("bread")]))
    assert fitted(limits, [1000, 1000]).batches.tolist() == [1000, 1000]
    assert limits.exceptions[["subject_kind", "subject_id", "code"]].to_numpy().tolist() == [
        ["product", "bread", "missing_resource"]
    ]


def test_without_a_time_of_need_nothing_limits_and_it_is_said():
    limits = limits_of(made_of("bread", ready_by=None), workshop([OVEN], [bake("bread")]))
    assert fitted(limits, [1000]).batches.tolist() == [1000]
    assert limits.exceptions["code"].tolist() == ["missing_ready_by"]


def test_opening_hours_are_the_default_of_the_time_of_need():
    shop = workshop([OVEN], [bake("bread")])
    opening = pd.DataFrame(
        [("t", "shop", DAY.weekday(), time(6)), ("t", "shop", DAY.weekday(), time(17))],
        columns=["tenant_id", "location_id", "weekday", "opens_at"],
    )
    limits = limits_of(made_of("bread", ready_by=None), Workshop(shop.resources, shop.calendar, shop.steps, opening))
    assert limits.capacity[0, 0] == 3600
    assert limits.capacity[0, 7] == 3600
    assert np.isinf(limits.capacity[0, 1])


# ---------------------------------------------------------------- doughs and mixers

MIX = (1, "mixer", None, 20.0, 1.0, 0.0)


def doughs_shop(*mixers, doughs=("dough",), calendar=()):
    return workshop(mixers, [(dough, *MIX) for dough in doughs], calendar)


def test_mixing_takes_whole_runs_of_what_the_mixer_holds():
    """A batch of 10 pieces takes 5 kg. 21 runs of 20 minutes in 7 hours, 50 kg each: 1,050 kg, 210 batches."""
    recipes = pd.concat([recipe("bread", {"dough": 0.5}), recipe("dough", {"flour": 0.6})], ignore_index=True)
    limits = limits_of(made_of("bread"), doughs_shop(("mixer", "shop", "mixer", 50.0, time(0))), recipes)
    assert limits.minutes_used(0, np.array([210])).tolist() == [420]
    assert limits.minutes_used(0, np.array([201])).tolist() == [420]  # the 21st run holds one batch
    assert fitted(limits, [400]).batches.tolist() == [210]
    assert fitted(limits, [400], day=3).batches.tolist() == [210]
    assert fitted(limits, [400]).limiting_resource_id.tolist() == ["mixer"]


def test_partly_filled_last_runs_of_every_dough_fit():
    recipes = pd.concat(
        [
            recipe("bread", {"white": 0.5}),
            recipe("loaf", {"rye": 0.5}),
            recipe("white", {"flour": 0.6, "starter": 0.2}),
            recipe("rye", {"flour": 0.6, "starter": 0.4}),
            recipe("starter", {"flour": 0.5}),
        ],
        ignore_index=True,
    )
    shop = doughs_shop(("mixer", "shop", "mixer", 50.0, time(0)), doughs=("white", "rye", "starter"))
    limits = limits_of(made_of("bread", "loaf"), shop, recipes)
    for values in ([1, 1], [1, 3], [5, 1]):
        for day in (0, 1):
            found = fitted(limits, [150, 150], values=values, day=day)
            white, rye = found.batches * 5.0
            runs = np.ceil(white / 50) + np.ceil(rye / 50) + np.ceil((0.2 * white + 0.4 * rye) / 50)
            assert runs <= 21
            assert limits.minutes_used(day, found.batches)[0] == runs * 20
            # As much as whole runs allow: one batch more of either would not fit.
            for row in (0, 1):
                more = found.batches + np.eye(2, dtype=int)[row]
                assert more[row] > 150 or limits.minutes_used(day, more)[0] > 420


def test_yield_and_scrap_of_every_level_take_mixer_time():
    recipes = pd.concat(
        [recipe("bread", {"dough": 0.5}, yields=0.8), recipe("dough", {"flour": 1.0}, scrap=0.2)], ignore_index=True
    )
    limits = limits_of(made_of("bread"), doughs_shop(("mixer", "shop", "mixer", 50.0, time(0))), recipes)
    assert limits.minutes_used(0, np.array([8])).tolist() == [20]  # 8 · 10 · 0.5 / 0.8 = 50 kg
    assert limits.minutes_used(0, np.array([9])).tolist() == [40]


@pytest.mark.parametrize(
    ("sizes", "size", "minutes"), [((60, 40), 40, 840), ((60, 10), 60, 420), ((30, 30), 30, 840), ((40, 20), 40, 420)]
)
def test_runs_are_of_the_size_with_which_the_mixers_get_through_most(sizes, size, minutes):
    recipes = pd.concat([recipe("bread", {"dough": 0.5}), recipe("dough", {"flour": 0.6})], ignore_index=True)
    mixers = [(f"mixer{n}", "shop", "mixer", float(kg), time(0)) for n, kg in enumerate(sizes)]
    limits = limits_of(made_of("bread"), doughs_shop(*mixers), recipes)
    assert limits.run_limits["run_quantity"].tolist() == [size]
    assert limits.capacity[0, 0] == minutes


def test_the_small_mixer_takes_over_while_the_large_one_is_down():
    recipes = pd.concat([recipe("bread", {"dough": 0.5}), recipe("dough", {"flour": 0.6})], ignore_index=True)
    shop = doughs_shop(
        ("large", "shop", "mixer", 60.0, time(0)),
        ("small", "shop", "mixer", 10.0, time(0)),
        calendar=[("large", DAY, time(0), None, 0.0)],
    )
    limits = limits_of(made_of("bread"), shop, recipes)
    assert limits.run_limits["run_quantity"].tolist() == [10]
    assert fitted(limits, [400]).batches.tolist() == [42]
    assert fitted(limits, [400], day=1).batches.tolist() == [252]


def test_a_batch_too_large_for_the_oven_goes_in_loads():
    limits = limits_of(made_of("bread"), workshop([OVEN], [bake("bread", minutes=30, use=15)]))
    assert limits.minutes_used(0, np.array([1])).tolist() == [450]


def test_a_tenant_in_a_batch_is_limited_as_if_alone():
    shop = workshop([OVEN], [bake("bread"), bake("cake", use=3)])
    made = made_of("bread", "cake")
    alone = limits_of(made, shop)
    both = pd.concat([made.assign(tenant_id="a"), made], ignore_index=True)
    twice = Workshop(
        *(
            pd.concat([frame.assign(tenant_id="a"), frame], ignore_index=True) if len(frame) else frame
            for frame in (shop.resources, shop.calendar, shop.steps, shop.opening)
        )
    )
    zones = pd.DataFrame({"tenant_id": ["t", "a"], "timezone": ["Europe/Madrid", "Europe/London"]})
    together = Limits.of(both, NO_RECIPES, twice, zones, DAY, np.full(4, 10.0))
    wanted, values = [55, 55], [1.0, 1.4]
    assert (
        fitted(together, [*wanted, *wanted], values=values * 2).batches.tolist()[2:]
        == fitted(alone, wanted, values=values).batches.tolist()
    )


def test_a_resource_works_between_what_comes_before_and_what_comes_after_its_step():
    """20 minutes to mix, 60 to rest, 30 to bake, 40 to cool: mixing ends at 4:50, and baking begins at 1:20, until 6:20."""
    recipes = pd.concat([recipe("bread", {"dough": 0.5}), recipe("dough", {"flour": 0.6})], ignore_index=True)
    shop = workshop(
        [OVEN, ("mixer", "shop", "mixer", 50.0, time(0))],
        [("dough", 1, "mixer", None, 20.0, 1.0, 60.0), ("bread", 1, "oven", None, 30.0, 2.0, 40.0)],
    )
    limits = limits_of(made_of("bread"), shop, recipes)
    found = dict(zip(limits.resource_id, limits.capacity[:, 0], strict=True))
    assert found == {"mixer": 290, "oven": 300 * 10}


def test_the_shortest_way_through_a_resource_decides_its_hours():
    shop = workshop(
        [OVEN, ("prover", "shop", "prover", 10.0, time(0))],
        [("bread", 1, "prover", None, 60.0, 2.0, 0.0), ("bread", 2, "oven", None, 30.0, 2.0, 40.0), bake("cake")],
    )
    limits = limits_of(made_of("bread", "cake"), shop)
    assert dict(zip(limits.resource_id, limits.capacity[:, 0], strict=True)) == {"oven": 4200, "prover": 3500}


def test_what_cannot_be_ready_in_time_is_limited_by_the_hours_of_its_resources_only():
    """Dough that rests for 16 hours cannot be ready by 7 if the mixer works from midnight: made late, rather than not."""
    recipes = pd.concat([recipe("bread", {"dough": 0.5}), recipe("dough", {"flour": 0.6})], ignore_index=True)
    shop = workshop(
        [OVEN, ("mixer", "shop", "mixer", 50.0, time(0))],
        [("dough", 1, "mixer", None, 20.0, 1.0, 960.0), bake("bread")],
    )
    limits = limits_of(made_of("bread"), shop, recipes)
    assert dict(zip(limits.resource_id, limits.capacity[:, 0], strict=True)) == {"mixer": 420, "oven": 4200}
