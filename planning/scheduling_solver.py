"""Start times of a place that the list scheduler leaves late, by an exact solver: OR-Tools CP-SAT, an optional extra.

What belongs here: the model of a place's night, and the one import of ortools. What does not: the list scheduler, and whether
what is found is taken (scheduling).

The model is that of planning/scheduling: steps in order with at least their waits between them, dough ready before what takes
it, resources within what they hold at every time. Its times are those of a grid in which every duration of the place is whole,
so that the plan at hand is one of its solutions, and the first that it looks at. The search is limited by CP-SAT's own count of
its work, never by a clock, with one worker and one seed: the same night has the same plan on every machine.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, floor, gcd, inf, isfinite
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from planning.scheduling import _Dough, _Job, _Place, _Step, _Timeline

EFFORT = 0.5
"""Deterministic time of CP-SAT that a place may take: half a second of one core in the middle, two at most."""

MOST_JOBS = 60
"""Batches and runs of a place beyond which it is not asked: of a hundred it improves nothing worth the time."""

SEED = 1

LEAST_GRID_S = 60
"""Durations that only a finer grid could hold are rounded up to this one."""

PARTS = 10**8
"""Amounts are whole numbers of such parts: what rounding adds up to stays below the list scheduler's tolerance."""

SLACK = PARTS // 10**6
"""That tolerance: amounts are rounded before they come here, so that what fits exactly may seem to be a little too much."""

DAY_S = 86_400


class Placed(NamedTuple):
    """A batch or run, the starts of its steps (instants), what does them (-1: nothing limits it), and when it is ready."""

    job: "_Job"
    starts: list[float]
    resources: list[int]
    ready: float


def solver_fault() -> str | None:
    """Why CP-SAT cannot be used on this machine; None when it can. Without it the list scheduler's plans stand."""
    try:
        _cp_model()
    except ImportError as error:
        return str(error)
    return None


def solve(place: "_Place", late_weight: float) -> list[Placed] | None:
    """Times for everything made at a place: fewest minutes late, each weighing late_weight minutes ready too early.

    None where CP-SAT cannot be used, where more is made than it can improve in its time, where the plan at hand leaves
    something without a time, and where the search ends without a solution. Runs, and the earlier steps of batches, may be
    earlier than they have to be.
    """
    if len(place.jobs) > MOST_JOBS or not isfinite(place.cost()) or solver_fault() is not None:
        return None
    return _Night(_cp_model(), place, late_weight).solved()


def _cp_model() -> ModuleType:
    """CP-SAT, imported where it is needed: few environments have it, and few nights need it."""
    from ortools.sat.python import cp_model  # noqa: PLC0415

    return cp_model


@dataclass(slots=True)
class _Made:
    """A job in the model: the starts of its steps, what can do them with whether it does, and when it begins and is ready;
    both also as planned now."""

    job: "_Job"
    starts: list[Any]
    doers: list[dict[int, Any]]
    begin: Any
    ready: Any
    begin_now: int
    ready_now: int


@dataclass(slots=True)
class _Resource:
    """What a resource holds when nothing is on it: (from, until, amount) without gaps; and what may be on it."""

    held: list[tuple[int, int, float]]
    uses: list[tuple[Any, "_Step"]]

    def starts(self, length: int, need: float) -> list[list[int]]:
        """The first and the last start of each time in which a step finds what it needs."""
        found: list[list[int]] = []
        for begin, end, amount in self.held:
            if _whole(amount) + SLACK < _whole(need):
                continue
            if found and found[-1][1] == begin:
                found[-1][1] = end
            else:
                found.append([begin, end])
        return [[begin, end - length] for begin, end in found if end - begin >= length]


class _Night:
    """The model of a place's night. Times are whole steps of the grid since the origin."""

    def __init__(self, cp_model: ModuleType, place: "_Place", late_weight: float) -> None:
        self.cp_model = cp_model
        self.model = cp_model.CpModel()
        runs_of = [[run for run in dough.runs if run.due != inf] for dough in place.doughs]
        groups = [group for group in (*place.batches, *runs_of) if group]
        steps = {step for group in groups for step in group[0].steps}
        timelines = {at: place.timelines[at] for at in sorted({at for step in steps for at in step.candidates})}
        edges = [at for line in timelines.values() for at in line.empty[0][1:]]
        dues = [group[0].due for group in place.batches]
        # What needs no resource is limited by nothing; it is never of use a day before everything else.
        self.origin = (min([*edges, *(job.start for group in groups for job in group)]) // DAY_S - 1) * DAY_S
        self.grid = _grid_of(steps, [at - self.origin for at in (*dues, *edges)])
        # A batch that is later than all batches now are together cannot be part of a better plan.
        slack = place.cost() * 60 / late_weight
        self.end = self._at(max(dues) + slack) + 1
        self.resources = {at: _Resource(self._held(line), []) for at, line in timelines.items()}

        self.made: dict[int, _Made] = {}
        for group in place.batches:
            earliest = 0 if group[0].steps else self._at(group[0].due)
            self._add_group(group, earliest, self._at(group[0].due + slack) + 1)
        for runs in runs_of:
            self._add_group(runs, 0, self.end)
        for resource in self.resources.values():
            self._add_resource(resource)
        for dough, runs in zip(place.doughs, runs_of, strict=True):
            self._add_dough(dough, [self.made[id(run)] for run in runs])
        self._add_cost(place.batches, late_weight)

    def solved(self) -> list[Placed] | None:
        """The best solution within the limit of effort; None where there is none."""
        solver = self.cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = SEED
        # One worker after the other searches the whole tree and the surroundings of the best plan: large nights need both.
        solver.parameters.interleave_search = True
        solver.parameters.max_deterministic_time = EFFORT
        if solver.solve(self.model) not in (self.cp_model.OPTIMAL, self.cp_model.FEASIBLE):
            return None
        found = []
        for made in self.made.values():
            starts = [self._instant(solver.value(start)) for start in made.starts]
            doers = [next((at for at, does in who.items() if solver.value(does)), -1) for who in made.doers]
            ready = self._instant(solver.value(made.ready))
            if starts:  # by the durations themselves, not as the grid rounds them
                last = made.job.steps[-1]
                ready = starts[-1] + last.seconds + last.wait_seconds
            found.append(Placed(made.job, starts, doers, ready))
        return found

    # ------------------------------------------------------------ times

    def _at(self, instant: float) -> int:
        """The last time of the grid at or before an instant."""
        return floor((instant - self.origin) / self.grid)

    def _instant(self, at: int) -> float:
        return self.origin + at * self.grid

    def _length(self, seconds: float) -> int:
        return ceil(seconds / self.grid)

    def _held(self, line: "_Timeline") -> list[tuple[int, int, float]]:
        """What a resource holds when nothing is on it; where that changes within a step of the grid, the least of it."""
        times, free = line.empty
        cuts = sorted({cut for at in times[1:] for cut in (self._at(at), ceil((at - self.origin) / self.grid))})
        held = []
        for begin, end in pairwise([*cuts, max(self.end, cuts[-1]) + 1]):
            first = bisect_right(times, self._instant(begin)) - 1
            held.append((begin, end, min(free[first : bisect_left(times, self._instant(end))])))
        return held

    # ------------------------------------------------------------ jobs

    def _add_group(self, group: Sequence["_Job"], earliest: int, latest: int) -> None:
        """Add equal jobs. They are in one order in every step: exchanging what comes after a step puts any plan into it."""
        now = [sorted((job.starts[at], job.resources[at]) for job in group) for at in range(len(group[0].steps))]
        ready_now = sorted(job.ready for job in group)
        before: list[Any] = []
        for number, job in enumerate(group):
            made = self._made(job, [step[number] for step in now], ready_now[number], earliest, latest)
            variables = made.starts or [made.begin]
            for earlier, later in zip(before, variables, strict=bool(before)):
                self.model.add(earlier <= later)
            before = variables
            self.made[id(job)] = made

    def _made(self, job: "_Job", now: list[tuple[float, int]], ready_now: float, earliest: int, latest: int) -> _Made:
        """A job with its steps in order, hinted to be as it is planned now: start and resource of each step."""
        starts, doers, at_hand = [], [], None
        for step, (start_now, doer_now) in zip(job.steps, now, strict=True):
            start = self._hinted(0, latest, self._at(start_now))
            if at_hand is not None:
                self.model.add(start >= at_hand)
            starts.append(start)
            doers.append(self._doers(step, start, doer_now))
            at_hand = start + self._length(step.seconds) + self._length(step.wait_seconds)
        if at_hand is None:
            at_hand = self._hinted(earliest, latest, self._at(ready_now))
        else:
            self.model.add(at_hand <= latest)
        begin_now = now[0][0] if now else ready_now
        return _Made(
            job, starts, doers, starts[0] if starts else at_hand, at_hand, self._at(begin_now), self._at(ready_now)
        )

    def _doers(self, step: "_Step", start: Any, doer_now: int) -> dict[int, Any]:
        """What can do a step, and whether it does; each only when it holds enough. Empty where nothing limits the step."""
        length = self._length(step.seconds)
        doers = {}
        for at in step.candidates:
            free = self.resources[at].starts(length, step.need)
            does = doers[at] = self.model.new_bool_var("")
            self.model.add_hint(does, at == doer_now)
            if free:
                within = self.cp_model.Domain.from_intervals(free)
                self.model.add_linear_expression_in_domain(start, within).only_enforce_if(does)
            else:
                self.model.add(does == 0)
            use = self.model.new_optional_fixed_size_interval_var(start, length, does, "")
            self.resources[at].uses.append((use, step))
        if doers:
            self.model.add_exactly_one(doers.values())
        return doers

    def _hinted(self, least: int, most: int, now: int) -> Any:
        variable = self.model.new_int_var(least, most, "")
        self.model.add_hint(variable, now)
        return variable

    # ------------------------------------------------------------ what they share

    def _add_resource(self, resource: _Resource) -> None:
        """A resource holds what is on it at every time; a mixer one run at a time."""
        most = max(amount for _, _, amount in resource.held)
        if any(step.take > most for _, step in resource.uses):
            self.model.add_no_overlap([use for use, _ in resource.uses])
            return
        # Where it holds less than at its best, something else takes the difference.
        less = [(begin, end, most - amount) for begin, end, amount in resource.held if amount < most]
        blocks = [self.model.new_fixed_size_interval_var(begin, end - begin, "") for begin, end, _ in less]
        takes = [_whole(step.take) for _, step in resource.uses]
        amounts = [_whole(most), *(_whole(amount) for _, _, amount in less), *takes]
        part = max(gcd(*amounts), 1)
        whole, *takes = [amount // part for amount in amounts]
        self.model.add_cumulative([*blocks, *(use for use, _ in resource.uses)], takes, whole)

    def _add_dough(self, dough: "_Dough", runs: list[_Made]) -> None:
        """What begins before a run is ready lives on stock and the runs before it. Runs are ready in their order."""
        takers = [
            (self.made[id(job)], per * (job.quantity or 1.0))
            for jobs, per in dough.products + [(parent.runs, per) for parent, per in dough.parents]
            for job in jobs
            if id(job) in self.made
        ]
        wanted = sum(_whole(quantity) for _, quantity in takers)
        at_hand = [_whole(kg) + SLACK for kg in accumulate((run.job.quantity for run in runs), initial=dough.stock)]
        after: dict[int, Any] = {}
        for run, covered in zip(runs, at_hand, strict=False):
            if wanted <= covered:
                break
            others = []
            for number, (taker, taken) in enumerate(takers):
                if covered < _whole(taken):
                    self.model.add(taker.begin >= run.ready)
                    continue
                waits = self.model.new_bool_var("")
                self.model.add_hint(waits, taker.begin_now >= run.ready_now)
                self.model.add(taker.begin >= run.ready).only_enforce_if(waits)
                if number in after:
                    self.model.add_implication(waits, after[number])
                after[number] = waits
                others.append((waits, _whole(taken)))
            if others:
                self.model.add(sum(taken * (1 - waits) for waits, taken in others) <= covered)

    def _add_cost(self, batches: Iterable[Sequence["_Job"]], late_weight: float) -> None:
        """Minutes late by their weight, and minutes ready too early, as the list scheduler compares plans."""
        cost: list[Any] = []
        for job in (job for group in batches for job in group):
            made, due = self.made[id(job)], self._at(job.due)
            late = self._hinted(0, self.end, max(made.ready_now - due, 0))
            self.model.add(late >= made.ready - due)
            # Early is due less ready, and what is late is not early: one more of it.
            cost.append((round(late_weight) + 1) * late - made.ready)
        self.model.minimize(sum(cost))


def _grid_of(steps: Iterable["_Step"], times: Iterable[float]) -> int:
    """The widest grid (seconds) in which all durations and times are whole, but a minute at least."""
    seconds = [at for step in steps for at in (step.seconds, step.wait_seconds)]
    return max(gcd(*(round(at) for at in (*seconds, *times))), LEAST_GRID_S)


def _whole(amount: float) -> int:
    """An amount in whole parts: down, but for what is only not whole by the arithmetic of floats."""
    return floor(amount * PARTS + 0.01)
