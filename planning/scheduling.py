"""When each batch and each dough is made: schedules of a night, backward from when products are needed.

What belongs here: start times on the resources of a place. What does not: how many batches are made (production,
capacity) and how doughs are cut into runs (doughs).

A batch goes through its steps in order, with at least their waits between them, after the runs that hold its dough. Ovens,
provers and hands hold several batches up to their capacity, a mixer one run at a time. Times are instants (see
planning/workshop), so that elapsed minutes are right also in the nights in which the clocks change.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import pairwise
from math import inf
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from planning.doughs import dough_parts, dough_use
from planning.explosion import RecipeGraph
from planning.frames import exceptions_of, frame_of
from planning.keys import code_positions, key_codes
from planning.scheduling_solver import solve
from planning.workshop import MIXER, PLACE, Routing, Workshop, as_instants, downtime_of, routing_of, starts_of, zones_of

LINK = "production_plans"
ITEM = [*PLACE, "item_id"]
ITEM_OF_LINE = [*PLACE, "product_id"]

LATE_WEIGHT = 100.0
"""A minute late weighs as much as this many minutes ready too early."""

WHOLE_MIXER = float(2**20)
"""What a run takes of a mixer: more than any holds, so that it takes one run at a time. A power of two keeps kg exact."""

TOLERANCE = 1e-6

ATTEMPTS = 3
"""Orders in which a place is scheduled again where something is late."""

OVEN = "oven"

TIMETABLE_COLUMNS = (
    "tenant_id",
    "location_id",
    "item_id",
    "is_run",
    "number",
    "step_no",
    "kind",
    "resource_id",
    "starts_at",
    "ends_at",
    "quantity",
)


@dataclass(frozen=True)
class Schedule:
    """When batches and dough runs are made.

    Per line, in the order of the lines asked for, a list with one value per batch, in the order in which they are ready;
    empty for a line without steps or without a time at which it is needed: batch_resource_ids (the oven; without one, what
    does the last step; None where the place has none), batch_starts_at (of the first step), batch_bakes_at (into the oven;
    without one, the last step), batch_ready_at (after the last wait): aware datetimes in UTC. is_late: (n,) something is
    ready after it is needed. doughs: as given, with run_resource_ids, run_starts_at and run_ends_at of the mixing step.
    cost: minutes late times LATE_WEIGHT, and minutes ready too early, over all batches. timetable: where it was asked for,
    every step of every batch and run with TIMETABLE_COLUMNS, by start: number counts the batches of a line and the runs of a
    dough from 1, resource_id is None where the place has none, quantity is that of a run.
    """

    batch_resource_ids: list[list[str | None]]
    batch_starts_at: list[list[datetime]]
    batch_bakes_at: list[list[datetime]]
    batch_ready_at: list[list[datetime]]
    is_late: np.ndarray
    doughs: pd.DataFrame
    exceptions: pd.DataFrame
    cost: float
    timetable: pd.DataFrame = field(repr=False)


def schedule_day(
    lines: pd.DataFrame,
    doughs: pd.DataFrame,
    recipes: pd.DataFrame,
    workshop: Workshop,
    tenants: pd.DataFrame,
    plan_date: date,
    *,
    graph: RecipeGraph | None = None,
    has_timetable: bool = False,
) -> Schedule:
    """Start times of everything made for a plan date, as late as possible, by a greedy backward list scheduler.

    lines: tenant_id, location_id, product_id, batches, ready_by (aware datetime, None: not known), (n,). doughs: as
    planning.doughs.plan_doughs gives them. recipes: as it takes them; graph: theirs, where it is known (dough_use).
    tenants: tenant_id, timezone.

    What is needed last is placed first: its last step as late as possible, then the steps before it, then the run of
    dough that feeds it; runs feed batches in the order in which these need it, dough at hand the first of all. Nothing is
    placed before its resource works for the plan date (Limits). What has no room goes forward from there, as early as
    possible, and what depends on it after it: it may be late. A place that is late that way is scheduled again in other
    orders, and forward as a whole, and the best is taken: less lateness, then less earliness. What is late even so is asked of
    planning.scheduling_solver, where that is installed.
    """
    graph = dough_use(lines, recipes).graph if graph is None else graph
    day = _Day.of(lines, doughs, graph, workshop, tenants, plan_date)
    # One place at a time, and nothing of it is kept but its times: jobs are many, and short-lived ones cost least.
    for at in range(len(day.lines_of)):
        place = day.place(at)
        if place is not None:
            _greedy(place)
            if place.is_late():
                _solve(place)
            day.times.take(place, day, has_timetable)
    return day.times.schedule(doughs)


# ---------------------------------------------------------------- a place and its jobs


_Placement = tuple[Sequence[float], Sequence[int], float, float, tuple["_Job", ...], float]


class _Timeline:
    """What a resource has free: free[k] from times[k] to times[k + 1], nothing before it works."""

    __slots__ = ("empty", "free", "searched", "times")

    def __init__(self, start: float, capacity: float, downtime: Iterable[tuple[float, float, float]]) -> None:
        self.times = [-inf, start]
        self.free = [0.0, capacity]
        self.searched: dict[tuple[float, float], tuple[float, float]] = {}
        for begin, end, held in downtime:
            if end > start:
                self.take(max(begin, start), end, capacity - held)
        self.empty = (tuple(self.times), tuple(self.free))

    def clear(self) -> None:
        """Give everything back."""
        self.times, self.free = list(self.empty[0]), list(self.empty[1])
        self.searched.clear()

    def latest_start(self, end: float, seconds: float, need: float) -> float:
        """The latest start of a time with that much free that ends by `end`; minus infinity where there is none."""
        times, free = self.times, self.free
        start = end - seconds
        # What had no room when it was looked at has none now: only giving back makes room.
        searched_end, searched_start = self.searched.get((seconds, need), (-inf, -inf))
        if end <= searched_end and searched_start < start:
            start = searched_start
        at = bisect_left(times, start + seconds) - 1
        while at >= 0:
            if free[at] < need - TOLERANCE:
                start = times[at] - seconds
            elif times[at] <= start:
                break
            at -= 1
        self.searched[seconds, need] = (max(end, searched_end) if end >= searched_start + seconds else end, start)
        return start

    def earliest_start(self, begin: float, seconds: float, need: float) -> float:
        """The earliest start from `begin` on of a time with that much free; infinity where there is none."""
        times, free = self.times, self.free
        last = len(times) - 1
        at = bisect_right(times, begin) - 1
        start = begin
        while True:
            if free[at] < need - TOLERANCE:
                if at == last:
                    return inf
                start = times[at + 1]
            elif at == last or times[at + 1] >= start + seconds:
                return start
            at += 1

    def least_free(self, start: float, end: float) -> float:
        """The least that is free at any time between two instants."""
        return min(self.free[bisect_right(self.times, start) - 1 : bisect_left(self.times, end)])

    def take(self, start: float, end: float, amount: float) -> None:
        """Take an amount from start to end; a negative amount gives it back."""
        if amount < 0:
            self.searched.clear()
        first, last = self._cut(start), self._cut(end)
        free = self.free
        for at in range(first, last):
            free[at] -= amount

    def _cut(self, at: float) -> int:
        """The position of the piece that begins at an instant, made if there is none."""
        position = bisect_left(self.times, at)
        if position == len(self.times) or self.times[position] != at:
            self.times.insert(position, at)
            self.free.insert(position, self.free[position - 1])
        return position


@dataclass(frozen=True, slots=True)
class _Step:
    """One step: the resources that can do it (none: nothing limits it), what must be free, and what it takes of that."""

    candidates: tuple[int, ...]
    kind: str
    seconds: float
    wait_seconds: float
    need: float
    take: float


class _Job:
    """A batch or a run: its steps, when it is needed, and the runs that it takes dough from. Placed where start is set.

    There are hundreds for every tenant, so lists are shared between equal jobs, and replaced rather than changed.
    """

    __slots__ = (
        "due",
        "number",
        "owner",
        "quantity",
        "ready",
        "resources",
        "shortest",
        "sources",
        "start",
        "starts",
        "steps",
    )

    def __init__(
        self, owner: int, number: int, steps: tuple[_Step, ...], due: float, shortest: float, quantity: float = 0.0
    ) -> None:
        self.owner, self.number, self.steps, self.due, self.quantity = owner, number, steps, due, quantity
        self.shortest = shortest  # seconds that it takes without waiting for anything
        self.sources: tuple[_Job, ...] = ()
        self.starts: Sequence[float] = ()
        self.resources: Sequence[int] = ()
        self.start = self.ready = inf

    @property
    def is_placed(self) -> bool:
        return self.start != inf

    @property
    def release(self) -> float:
        """When all its dough is ready."""
        return max((run.ready for run in self.sources), default=-inf)


def _seconds_of(steps: tuple[_Step, ...]) -> float:
    return sum(step.seconds + step.wait_seconds for step in steps)


@dataclass(slots=True)
class _Dough:
    """A dough of a place: its runs, what stock covers, and who takes it: batches with kg of each, doughs with kg per kg."""

    runs: list[_Job]
    stock: float
    products: list[tuple[list[_Job], float]]
    parents: list[tuple["_Dough", float]]
    level: int


@dataclass(slots=True)
class _Place:
    """Everything made at one place: timelines by resource, batches by line, doughs by level."""

    timelines: dict[int, _Timeline]
    batches: list[list[_Job]]
    doughs: list[_Dough]

    @property
    def jobs(self) -> list[_Job]:
        """The batches, and the runs that somebody is known to need at some time."""
        runs = [run for dough in self.doughs for run in dough.runs if run.due != inf]
        return [job for group in self.batches for job in group] + runs

    def clear(self) -> None:
        """Take everything off the timelines, and the dough from those that it was given to."""
        for timeline in self.timelines.values():
            timeline.clear()
        for jobs in (*self.batches, *(dough.runs for dough in self.doughs)):
            for job in jobs:
                job.starts, job.resources, job.sources, job.start, job.ready = (), (), (), inf, inf
        for dough in self.doughs:
            for run in dough.runs:
                run.due = inf

    def cost(self) -> float:
        """Minutes late times LATE_WEIGHT and minutes early, over the batches."""
        total = 0.0
        for group in self.batches:
            for job in group:
                late = job.ready - job.due
                total += late * LATE_WEIGHT if late > 0 else -late
        return total / 60

    def is_late(self) -> bool:
        return any(job.ready > job.due + TOLERANCE for group in self.batches for job in group)

    def put(self, job: _Job, starts: Sequence[float], resources: Sequence[int], ready: float) -> None:
        self.put_all([job], starts, resources, ready)

    def put_all(self, jobs: list[_Job], starts: Sequence[float], resources: Sequence[int], ready: float) -> None:
        """Place equal jobs at the same starts. They share the lists, which are replaced and never changed."""
        for step, start, resource in zip(jobs[0].steps, starts, resources, strict=True):
            if resource >= 0:
                self.timelines[resource].take(start, start + step.seconds, step.take * len(jobs))
        first = starts[0] if starts else ready
        for job in jobs:
            job.starts, job.resources, job.ready, job.start = starts, resources, ready, first

    def remove(self, job: _Job) -> None:
        if job.is_placed:
            for step, start, resource in zip(job.steps, job.starts, job.resources, strict=True):
                if resource >= 0:
                    self.timelines[resource].take(start, start + step.seconds, -step.take)
            job.starts, job.resources, job.start, job.ready = (), (), inf, inf

    def backward(self, steps: tuple[_Step, ...], ready: float) -> tuple[list[float], list[int]] | None:
        """Starts and resources of steps that are ready by an instant, each as late as possible; None without room."""
        starts, resources, end = [0.0] * len(steps), [-1] * len(steps), ready
        for at in range(len(steps) - 1, -1, -1):
            step = steps[at]
            end -= step.wait_seconds
            latest = -inf if step.candidates else end - step.seconds
            for resource in step.candidates:
                start = self.timelines[resource].latest_start(end, step.seconds, step.need)
                if start > latest:
                    latest, resources[at] = start, resource
            if latest == -inf:
                return None
            starts[at] = end = latest
        return starts, resources

    def forward(self, steps: tuple[_Step, ...], release: float) -> tuple[list[float], list[int], float]:
        """Starts and resources of steps from an instant on, each as early as possible, and when they are ready."""
        starts, resources, at_hand = [], [], release
        for step in steps:
            earliest, doer = (inf, -1) if step.candidates else (at_hand, -1)
            for resource in step.candidates:
                start = self.timelines[resource].earliest_start(at_hand, step.seconds, step.need)
                if start < earliest:
                    earliest, doer = start, resource
            starts.append(earliest)
            resources.append(doer)
            at_hand = earliest + step.seconds + step.wait_seconds
        return starts, resources, at_hand

    def room(self, steps: tuple[_Step, ...], starts: list[float], resources: list[int], most: int) -> int:
        """How many equal batches fit at the same starts, 1 … most."""
        for step, start, resource in zip(steps, starts, resources, strict=True):
            if most > 1 and resource >= 0:
                free = self.timelines[resource].least_free(start, start + step.seconds)
                most = min(most, max(int((free + TOLERANCE) / step.take), 1))
        return most


def _greedy(place: _Place) -> None:
    """Place everything backward; where that leaves something late, look for an order of the lines that is less so.

    In the first order the longest time after the oven decides who goes into it first, and the longest way to it who goes
    last. The next puts the shortest way last; the others put those that were late before the rest, which gives them the
    latest places. Each order is also scheduled forward, with the pegs that it had backward.
    """
    orders = [sorted(place.batches, key=_need_of_oven)]
    tried: set[tuple[int, ...]] = set()
    best, kept = inf, list[_Placement]()
    best_order: list[list[_Job]] = []
    late: dict[int, float] = {}
    while orders and len(tried) < ATTEMPTS:
        order = orders.pop(0)
        if tried:
            place.clear()
        tried.add(_owners(order))
        _backward(place, order)
        if not place.is_late():
            return
        if len(tried) == 1:
            orders.append(sorted(place.batches, key=_need_of_oven_reversed))
        for is_forward in (False, True):
            if is_forward:
                _all_forward(place)
            if place.cost() < best:
                best, kept, best_order = place.cost(), _placements(place), order
                late = {group[0].owner: sum(max(job.ready - job.due, 0.0) for job in group) for group in order}
        orders += [_moved(best_order, {owner: float(at > 0) for owner, at in late.items()}), _moved(best_order, late)]
        orders = [order for order in orders if _owners(order) not in tried]
    _restore(place, kept)


def _solve(place: _Place) -> None:
    """Take the times that the solver finds where they are better; everything is then made as late as these allow."""
    found = solve(place, LATE_WEIGHT)
    if found is None:
        return
    cost, kept = place.cost(), _placements(place)
    place.clear()
    for placed in found:
        place.put(*placed)
    for dough in place.doughs:
        _peg(dough)
    _repair(place)
    _delay(place)
    if place.cost() >= cost - TOLERANCE:
        _restore(place, kept)


def _moved(order: list[list[_Job]], late: dict[int, float]) -> list[list[_Job]]:
    """The lines that are latest before the others, otherwise in the order that they were in."""
    return sorted(order, key=lambda group: -late[group[0].owner])


def _owners(order: list[list[_Job]]) -> tuple[int, ...]:
    return tuple(group[0].owner for group in order)


def _need_of_oven(group: list[_Job]) -> tuple[float, float, int]:
    """The order in which equal batches are placed backward: by when they have to be out of the oven, latest first."""
    steps = group[0].steps
    oven = max((at for at, step in enumerate(steps) if step.kind == OVEN), default=len(steps) - 1)
    after = sum(step.seconds + step.wait_seconds for step in steps[oven + 1 :])
    after += steps[oven].wait_seconds if steps else 0.0
    return after - group[0].due, -group[0].shortest, group[0].owner


def _need_of_oven_reversed(group: list[_Job]) -> tuple[float, float, int]:
    after, shortest, owner = _need_of_oven(group)
    return after, -shortest, owner


def _backward(place: _Place, order: list[list[_Job]]) -> None:
    """Place the batches of each line as late as possible, then the runs that feed them, and the rest forward."""
    is_whole = True
    for group in order:
        is_whole &= _place_backward(place, group)
    for dough in place.doughs:
        _peg(dough)
        for run in reversed(dough.runs):
            # What nobody is known to need at any time gets none.
            is_whole &= run.due == inf or _place_backward(place, [run])
    if not is_whole:
        _repair(place)


def _place_backward(place: _Place, jobs: list[_Job]) -> bool:
    """Place equal jobs as late as possible, the last of them first; whether all fit. The others are left unplaced."""
    left = len(jobs)
    while left:
        last = jobs[left - 1]
        found = place.backward(last.steps, last.due)
        if found is None:
            return False
        starts, resources = found
        count = place.room(last.steps, starts, resources, left)
        place.put_all(jobs[left - count : left], starts, resources, _ready(last.steps, starts, last.due))
        left -= count
    return True


def _ready(steps: tuple[_Step, ...], starts: Sequence[float], otherwise: float) -> float:
    return starts[-1] + steps[-1].seconds + steps[-1].wait_seconds if steps else otherwise


def _peg(dough: _Dough) -> None:
    """Give the runs of a dough to those that need it, in the order in which they do, and say when each run is needed."""
    if not dough.runs:
        return
    takers = dough.products + [(parent.runs, per) for parent, per in dough.parents]
    if len(dough.runs) == 1 and dough.stock <= TOLERANCE:
        _peg_to_one(dough.runs[0], takers)
        return
    needs: list[tuple[float, int, _Job, float]] = []
    for jobs, per in takers:
        for job in jobs:
            # A run takes per kg of its own, a batch (of no quantity) what a batch takes.
            needed_at = job.start if job.start != inf else job.due - job.shortest
            needs.append((needed_at, len(needs), job, per * (job.quantity or 1.0)))
    needs.sort()  # by time, then as listed
    at, taken, filled = 0, -dough.stock, 0.0
    for needed_at, _, job, quantity in needs:
        taken += quantity
        if taken <= TOLERANCE:
            continue
        begun = max(taken - quantity, 0.0)
        while at < len(dough.runs) - 1 and filled + dough.runs[at].quantity <= begun + TOLERANCE:
            filled += dough.runs[at].quantity
            at += 1
        reach, reached = at, filled
        while True:
            run = dough.runs[reach]
            run.due = min(run.due, needed_at)
            job.sources = (*job.sources, run)
            reached += run.quantity
            if reached >= taken - TOLERANCE or reach == len(dough.runs) - 1:
                break
            reach += 1
    # A run that rounding left without a taker is needed with the one before it.
    for earlier, run in pairwise(dough.runs):
        run.due = earlier.due if run.due == inf else run.due


def _peg_to_one(run: _Job, takers: list[tuple[list[_Job], float]]) -> None:
    """One run for all that take it, as most doughs of most places have: nothing to share out."""
    only = (run,)
    for jobs, _ in takers:
        for job in jobs:
            job.sources = job.sources + only if job.sources else only
            run.due = min(run.due, job.start if job.start != inf else job.due - job.shortest)


def _repair(place: _Place) -> None:
    """Place forward what had no room, and what would begin before its dough is ready, from the first dough up."""
    for dough in reversed(place.doughs):
        _move_forward(place, [run for run in dough.runs if run.due != inf])
    _move_forward(place, [job for group in place.batches for job in group])


def _move_forward(place: _Place, jobs: list[_Job]) -> None:
    moved = [job for job in jobs if job.start == inf or job.start < job.release - TOLERANCE]
    for job in moved:
        place.remove(job)
    for job in sorted(moved, key=_urgency):
        _place_forward(place, job)


def _urgency(job: _Job) -> tuple[float, float, int, int]:
    return job.due, job.release, job.owner, job.number


def _place_forward(place: _Place, job: _Job) -> None:
    """As early as possible, then its earlier steps as late as they can be for that, so that nothing waits longer than it
    must. A job without steps is ready when it is needed, or when its dough is."""
    if not job.steps:
        place.put(job, [], [], max(job.due, job.release))
        return
    starts, resources, ready = place.forward(job.steps, job.release)
    later = place.backward(job.steps, max(ready, job.due))
    if later is not None and later[0][0] >= job.release - TOLERANCE:
        starts, resources = later
    place.put(job, starts, resources, _ready(job.steps, starts, ready))


def _all_forward(place: _Place) -> None:
    """Everything forward: doughs from the first up, then batches, what is needed first before the rest; then each as late
    as it can be without making anything late, or later. Runs feed the batches that they fed before."""
    for timeline in place.timelines.values():
        timeline.clear()
    for job in place.jobs:
        job.start = job.ready = inf
    for dough in reversed(place.doughs):
        for run in sorted((run for run in dough.runs if run.due != inf), key=_urgency):
            _place_first(place, run)
    for job in sorted((job for group in place.batches for job in group), key=_urgency):
        _place_first(place, job)
    _delay(place)


def _place_first(place: _Place, job: _Job) -> None:
    starts, resources, ready = place.forward(job.steps, job.release)
    place.put(job, starts, resources, ready if job.steps else max(job.due, job.release))


def _delay(place: _Place) -> None:
    """Move everything as late as its time of need, its takers and its own lateness allow."""
    for job in sorted((job for group in place.batches for job in group), key=lambda job: (-job.start, *_urgency(job))):
        _put_late(place, job, max(job.due, job.ready))
    takers: dict[int, float] = {}
    for dough in place.doughs:
        for jobs in [jobs for jobs, _ in dough.products] + [parent.runs for parent, _ in dough.parents]:
            for job in jobs:
                for run in job.sources:
                    takers[id(run)] = min(takers.get(id(run), inf), job.start)
        for run in sorted((run for run in dough.runs if run.due != inf), key=lambda run: -run.start):
            _put_late(place, run, takers.get(id(run), run.ready))


def _put_late(place: _Place, job: _Job, ready: float) -> None:
    if not job.steps:
        return
    kept = (job.starts, job.resources, job.ready)
    place.remove(job)
    later = place.backward(job.steps, ready)
    if later is not None and later[0][0] >= kept[0][0]:
        kept = (*later, _ready(job.steps, later[0], ready))
    place.put(job, *kept)


def _placements(place: _Place) -> list[_Placement]:
    return [
        (job.starts, job.resources, job.start, job.ready, job.sources, job.due)
        for jobs in (*place.batches, *(dough.runs for dough in place.doughs))
        for job in jobs
    ]


def _restore(place: _Place, kept: list[_Placement]) -> None:
    place.clear()
    jobs = [job for jobs in (*place.batches, *(dough.runs for dough in place.doughs)) for job in jobs]
    for job, placement in zip(jobs, kept, strict=True):
        job.starts, job.resources, job.start, job.ready, job.sources, job.due = placement
        if job.is_placed:
            place.put(job, job.starts, job.resources, job.ready)


# ---------------------------------------------------------------- input


@dataclass
class _Day:
    """What is made on a day, as lists by row of the lines and of the doughs, and the rows of each place."""

    lines_of: list[list[int]]
    doughs_of: list[list[int]]
    resources_of: list[list[int]]
    keys: list[tuple[str, str, str]]
    item_of: list[int]
    counts: list[int]
    due: list[float]
    zones: list[str]
    hours: dict[int, tuple[float, float, list[tuple[float, float, float]]]]
    resource_ids: list[str | None]
    steps: "_StepTable"
    doughs: "_DoughTable"
    times: "_Times"

    @classmethod
    def of(
        cls,
        lines: pd.DataFrame,
        doughs: pd.DataFrame,
        graph: RecipeGraph,
        workshop: Workshop,
        tenants: pd.DataFrame,
        plan_date: date,
    ) -> "_Day":
        every = pd.concat(
            [lines[ITEM_OF_LINE].rename(columns={"product_id": "item_id"}), doughs[ITEM]], ignore_index=True
        )
        _, first, item_of = np.unique(key_codes(ITEM, every)[0], return_index=True, return_inverse=True)
        items = every.iloc[first].reset_index(drop=True)
        routing = routing_of(items, workshop)
        place_codes, dough_codes, resource_codes = key_codes(PLACE, lines, doughs, routing.resources)
        of_place, first, place_of_line = np.unique(place_codes, return_index=True, return_inverse=True)
        places = lines[PLACE].iloc[first].reset_index(drop=True)
        place_of_dough = code_positions(dough_codes, of_place)
        place_of_resource = code_positions(resource_codes, of_place)
        due = as_instants(lines["ready_by"])
        counts = np.where(np.isnan(due), 0, lines["batches"].to_numpy(dtype=np.int64))
        latest = np.full((len(places), 1), -np.inf)
        np.fmax.at(latest[:, 0], place_of_line, due)
        latest = np.where(np.isinf(latest), np.nan, latest)
        return cls(
            _rows_by_place(place_of_line, len(places)),
            _rows_by_place(place_of_dough, len(places)),
            _rows_by_place(place_of_resource, len(places)),
            list(zip(*(every[name].to_numpy(dtype=object).tolist() for name in ITEM), strict=True)),
            item_of.tolist(),
            counts.tolist(),
            due.tolist(),
            zones_of(places, tenants)[place_of_line].tolist(),
            _hours(routing, place_of_resource, latest, workshop, tenants, plan_date),
            [*routing.resources["resource_id"].to_numpy(dtype=object).tolist(), None],
            _StepTable.of(routing, len(items)),
            _DoughTable.of(doughs, graph),
            _Times(len(lines), len(doughs)),
        )

    def place(self, at: int) -> _Place | None:
        """A place with its jobs; None where nothing has steps, or a time at which it is needed."""
        made = [row for row in self.lines_of[at] if self.counts[row]]
        first_dough = len(self.counts)
        doughs = self.doughs_of[at]
        if not made or not any(
            self.steps.has_steps(self.item_of[row]) for row in (*made, *(first_dough + row for row in doughs))
        ):
            return None
        batches = {}
        for row in made:
            steps = self.steps.of_item(self.item_of[row])
            shortest, due = _seconds_of(steps), self.due[row]
            batches[row] = [_Job(row, number, steps, due, shortest) for number in range(self.counts[row])]
        runs = {}
        for row in doughs:
            quantities = self.doughs.run_quantities[row]
            # Runs of a dough are equal, so what the mixer must hold is the largest of them.
            steps = self.steps.of_item(self.item_of[first_dough + row], max(quantities, default=0.0))
            shortest = _seconds_of(steps)
            runs[row] = [_Job(row, number, steps, inf, shortest, amount) for number, amount in enumerate(quantities)]
        of_product = {self.keys[row][2]: jobs for row, jobs in batches.items()}
        timelines = {
            resource: _Timeline(*self.hours[resource]) for resource in self.resources_of[at] if resource in self.hours
        }
        return _Place(timelines, list(batches.values()), self.doughs.of_place(doughs, runs, of_product))


@dataclass
class _StepTable:
    """The steps of items as lists by step, with the first and the last of each item and the members of each pool."""

    first: list[int]
    columns: list[tuple[str, int, int, float, float, float]]
    members: dict[int, tuple[int, ...]]

    @classmethod
    def of(cls, routing: Routing, items: int) -> "_StepTable":
        members: dict[int, tuple[int, ...]] = {}
        for resource, pool in enumerate(routing.pool.tolist()):
            members[pool] = (*members.get(pool, ()), resource)
        names = ("kind", "resource", "pool", "seconds", "wait_seconds", "capacity_use")
        columns = [routing.steps[name].tolist() for name in names]
        first = np.searchsorted(routing.steps["row"].to_numpy(), np.arange(items + 1))
        return cls(first.tolist(), list(zip(*columns, strict=True)), members)

    def has_steps(self, item: int) -> bool:
        return self.first[item] < self.first[item + 1]

    def of_item(self, item: int, quantity: float = 2 * TOLERANCE) -> tuple[_Step, ...]:
        """The steps of an item; a mixer must hold `quantity`."""
        found = []
        for kind, resource, pool, seconds, wait_seconds, use in self.columns[self.first[item] : self.first[item + 1]]:
            candidates = (resource,) if resource >= 0 else self.members.get(pool, ())
            need, take = (quantity, WHOLE_MIXER) if kind == MIXER else (use, use)
            found.append(_Step(candidates, kind, seconds, wait_seconds, need, take))
        return tuple(found)


@dataclass
class _DoughTable:
    """Doughs as lists by row: what products take and what is mixed, the kind of dough (tenant and item) and its level, and
    of each kind what else takes how much of it."""

    run_quantities: list[list[float]]
    amounts: list[dict[str, float]]
    quantity: list[float]
    kind: list[int]
    level: list[int]
    takers: dict[int, list[tuple[int, float]]]

    @classmethod
    def of(cls, doughs: pd.DataFrame, graph: RecipeGraph) -> "_DoughTable":
        if doughs.empty:
            return cls([], [], [], [], [], {})
        taken = zip(doughs["product_ids"].tolist(), doughs["product_quantities"].tolist(), strict=True)
        codes = key_codes(["tenant_id", "item_id"], doughs)[0]
        _, first, kind = np.unique(codes, return_index=True, return_inverse=True)
        parts = dough_parts(doughs[["tenant_id", "item_id"]].iloc[first].reset_index(drop=True), graph)
        takers: dict[int, list[tuple[int, float]]] = {}
        edges = zip(parts.parent.tolist(), parts.child.tolist(), parts.quantity_per.tolist(), strict=True)
        for parent, child, per in edges:
            takers.setdefault(child, []).append((parent, per))
        return cls(
            [[float(amount) for amount in quantities] for quantities in doughs["run_quantities"].tolist()],
            [dict(zip(names, quantities, strict=True)) for names, quantities in taken],
            doughs["quantity"].astype(float).tolist(),
            kind.tolist(),
            parts.level[kind].tolist(),
            takers,
        )

    def of_place(self, rows: list[int], runs: dict[int, list[_Job]], batches: dict[str, list[_Job]]) -> list[_Dough]:
        """The doughs of a place, by level, with those that take them. runs: by row; batches: by product."""
        gross = {row: sum(self.amounts[row].values()) for row in rows}
        found = {
            row: _Dough(runs[row], max(gross[row] - self.quantity[row], 0.0), [], [], self.level[row]) for row in rows
        }
        row_of = {self.kind[row]: row for row in rows}
        for row, dough in found.items():
            direct = dict(self.amounts[row])
            for kind, per in self.takers.get(self.kind[row], ()):
                above = row_of.get(kind)
                if above is None:
                    continue
                dough.parents.append((found[above], per))
                mixed = per * self.quantity[above] / gross[above] if gross[above] > 0 else 0.0
                for product, amount in self.amounts[above].items():
                    if product in direct:
                        direct[product] -= amount * mixed
            for product, amount in direct.items():
                jobs = batches.get(product)
                # Both sides are rounded to 6 decimals; what is left of a product that takes it through another dough is 0.
                if jobs and amount > 1e-5 * max(1.0, self.amounts[row][product]):
                    dough.products.append((jobs, amount / len(jobs)))
        return sorted(found.values(), key=lambda dough: dough.level)


def _rows_by_place(place: np.ndarray, places: int) -> list[list[int]]:
    """The rows of each place, in their order; those of no place (-1) are left out."""
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(places + 1)).tolist()
    rows = order.tolist()
    return [rows[begin:end] for begin, end in pairwise(bounds)]


def _hours(
    routing: Routing,
    at: np.ndarray,
    latest: np.ndarray,
    workshop: Workshop,
    tenants: pd.DataFrame,
    plan_date: date,
) -> dict[int, tuple[float, float, list[tuple[float, float, float]]]]:
    """From when each resource works for the plan date, what it holds, and the times at which it holds something else (from,
    until, capacity). `at` is the place of each resource, -1 for another; latest (p, 1) when its last product is needed."""
    used = np.flatnonzero((at >= 0) & ~np.isnan(np.append(latest[:, 0], np.nan))[at])
    resources = routing.resources.iloc[used]
    starts = starts_of(resources, latest[at[used]], zones_of(resources, tenants), plan_date)[:, 0]
    downtime = downtime_of(workshop.calendar, routing.resources, tenants)
    columns = (downtime.resource, downtime.start, downtime.end, downtime.capacity)
    entries: dict[int, list[tuple[float, float, float]]] = {}
    for resource, begin, end, held in zip(*(column.tolist() for column in columns), strict=True):
        entries.setdefault(resource, []).append((begin, end, held))
    return {
        resource: (start, capacity, entries.get(resource, []))
        for resource, start, capacity in zip(
            used.tolist(), starts.tolist(), resources["capacity"].tolist(), strict=True
        )
    }


# ---------------------------------------------------------------- output


class _Times:
    """The times of all places, as they come in."""

    def __init__(self, lines: int, doughs: int) -> None:
        self.resource_ids: list[list[str | None]] = [[] for _ in range(lines)]
        self.starts_at: list[list[datetime]] = [[] for _ in range(lines)]
        self.bakes_at: list[list[datetime]] = [[] for _ in range(lines)]
        self.ready_at: list[list[datetime]] = [[] for _ in range(lines)]
        self.is_late = np.zeros(lines, dtype=bool)
        self.run_resource_ids: list[list[str | None]] = [[] for _ in range(doughs)]
        self.run_starts_at: list[list[datetime]] = [[] for _ in range(doughs)]
        self.run_ends_at: list[list[datetime]] = [[] for _ in range(doughs)]
        self.problems: list[tuple[object, ...]] = []
        self.rows: list[tuple[object, ...]] = []
        self.cost = 0.0

    def take(self, place: _Place, day: _Day, has_timetable: bool) -> None:
        """Take the times of a place."""
        self.cost += place.cost()
        names = day.resource_ids  # the last, None, for a step that the place has no resource for
        for jobs in place.batches:
            row, steps = jobs[0].owner, jobs[0].steps
            late = [job for job in jobs if job.ready > job.due + TOLERANCE]
            if late:
                self.is_late[row] = True
                self.problems.append(_late_problem(day.keys[row], late, len(jobs), day.zones[row]))
            if steps:
                oven = max((at for at, step in enumerate(steps) if step.kind == OVEN), default=len(steps) - 1)
                in_order = sorted(jobs, key=_by_ready)
                self.resource_ids[row] = [names[job.resources[oven]] for job in in_order]
                self.starts_at[row] = [_moment(job.start) for job in in_order]
                self.bakes_at[row] = [_moment(job.starts[oven]) for job in in_order]
                self.ready_at[row] = [_moment(job.ready) for job in in_order]
        for runs in (dough.runs for dough in place.doughs if dough.runs):
            row, steps = runs[0].owner, runs[0].steps
            mixing = next((at for at, step in enumerate(steps) if step.kind == MIXER), None)
            if mixing is not None and runs[0].is_placed:
                seconds = steps[mixing].seconds
                self.run_resource_ids[row] = [names[run.resources[mixing]] for run in runs]
                self.run_starts_at[row] = [_moment(run.starts[mixing]) for run in runs]
                self.run_ends_at[row] = [_moment(run.starts[mixing] + seconds) for run in runs]
        if has_timetable:
            for is_run, groups in ((False, place.batches), (True, [dough.runs for dough in place.doughs])):
                for job in (job for jobs in groups for job in jobs if job.is_placed):
                    key = day.keys[job.owner + (len(day.counts) if is_run else 0)]
                    placed = zip(job.steps, job.starts, job.resources, strict=True)
                    for step_no, (step, start, resource) in enumerate(placed, start=1):
                        about = (*key, is_run, job.number + 1, step_no, step.kind, names[resource])
                        until = _moment(start + step.seconds)
                        self.rows.append((*about, _moment(start), until, job.quantity if is_run else None))

    def schedule(self, doughs: pd.DataFrame) -> Schedule:
        """All of them together."""
        runs = {
            "run_resource_ids": self.run_resource_ids,
            "run_starts_at": self.run_starts_at,
            "run_ends_at": self.run_ends_at,
        }
        order = ["tenant_id", "location_id", "starts_at", "is_run", "item_id", "number", "step_no"]
        return Schedule(
            self.resource_ids,
            self.starts_at,
            self.bakes_at,
            self.ready_at,
            self.is_late,
            doughs.assign(
                **{name: pd.Series(values, index=doughs.index, dtype=object) for name, values in runs.items()}
            ),
            exceptions_of(sorted(self.problems)),
            self.cost,
            frame_of(TIMETABLE_COLUMNS, self.rows).sort_values(order, ignore_index=True),
        )


def _by_ready(job: _Job) -> tuple[float, float]:
    return job.ready, job.start


@lru_cache(maxsize=65_536)
def _moment(instant: float) -> datetime:
    return datetime.fromtimestamp(instant, UTC)


def _late_problem(key: tuple[str, str, str], late: list[_Job], batches: int, zone: str) -> tuple[object, ...]:
    last = max(job.ready for job in late)
    wanted, ready = (datetime.fromtimestamp(at, ZoneInfo(zone)).strftime("%a %H:%M") for at in (late[0].due, last))
    tenant_id, location_id, product_id = key
    message = (
        f"{product_id}: {len(late)} of {batches} batches are ready after {wanted}, the last at {ready}"
        if late[0].steps
        else f"{product_id}: its dough is ready at {ready}, after {wanted}"
    )
    remedy = "let the resources work from earlier on (available_from), move its ready_by, or make fewer batches"
    return tenant_id, LINK, location_id, "product", product_id, "batch_late", message, remedy
