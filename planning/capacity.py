"""How many batches the ovens, mixers, provers and hands of a place can make, and which of them are worth most.

What belongs here: resource time that batches take against the time there is, for all places of a batch of tenants, and
the choice of batches where it does not suffice. What does not: what a batch gains (newsvendor), and when in the night
each is made (scheduling).

Resource time is minutes times what is held: trays times minutes of an oven, people times minutes. A mixer takes one run
at a time, whatever is in it, so its time is minutes of runs, in whole runs of every dough. Time is added up over the
window in which a resource works; that a batch also has to wait for its dough is left to the schedule.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from planning.doughs import DoughUse, dough_use
from planning.frames import PLAN_DAYS, ROUNDING, exceptions_of
from planning.keys import code_positions, key_codes, matches, ranges
from planning.workshop import (
    MIXER,
    PLACE,
    Downtime,
    Routing,
    Workshop,
    downtime_of,
    ready_by_instants,
    routing_of,
    starts_of,
    zones_of,
)

LINK = "production_plans"

GOOD_SHARE = 0.99
"""An allocation that reaches this share of its bound is good enough; below it, the exact solver is asked."""

EXACT_GAP = 0.001
"""An allocation within this share of its bound counts as exact."""

SOLVER_NODES = 200
"""Branch-and-bound nodes that the exact solver may open: a limit that, unlike time, is the same on every machine."""

SOLVER_STEPS = 4_000
"""Problems with more steps than this are not given to the exact solver: one step of so many is far below one percent."""

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Allocation:
    """Which steps are made at one place on one day.

    steps: (n,) made of each row. limiting: (n,) the resource (column) for want of which a gainful step is not made, -1
    where none is. profit: the gains of the steps made, committed ones too; bound: what no allocation can exceed; is_exact:
    whether profit is known to be within EXACT_GAP of the best; is_solved: whether the exact solver was asked.
    """

    steps: np.ndarray
    limiting: np.ndarray
    profit: float
    bound: float
    is_exact: bool
    is_solved: bool = False


@dataclass(frozen=True)
class Fit:
    """What fits on a day: batches (n,); limiting_resource_id (n,) of what kept a row from more, or None; exception rows."""

    batches: np.ndarray
    limiting_resource_id: np.ndarray
    problems: list[tuple[object, ...]]


# ---------------------------------------------------------------- one place, one day


@dataclass(frozen=True)
class _Problem:
    """Steps still to be chosen: gains and sizes (n, k), -inf and 0 beyond the last; use of what is left of each resource
    per unit of size (n, r), as a share of it, so that every resource holds 1."""

    gains: np.ndarray
    sizes: np.ndarray
    use: np.ndarray

    @property
    def is_step(self) -> np.ndarray:
        return np.isfinite(self.gains)


def allocate(
    gains: np.ndarray,
    usage: np.ndarray,
    capacity: np.ndarray,
    *,
    sizes: np.ndarray | None = None,
    committed: np.ndarray | None = None,
    is_quick: bool = False,
) -> Allocation:
    """The steps with the highest total gain that resources have room for.

    gains: (n, K) money of the 1st, 2nd, … step of each row, made in that order, nonincreasing per unit of size; -inf beyond
    the last step of a row. usage: (n, R) resource time per unit of size; capacity: (R,). sizes: (n, K), 1 unless given.
    committed: (n,) steps that are made first whatever they gain; where not even those fit, the most valuable of them.

    Greedy by gain per weighted resource use, for several weightings of the resources that bind (each alone, all alike, and
    the prices of the Lagrangian dual), improved by exchanging single steps. The dual bounds what can be reached; where
    the greedy stays below GOOD_SHARE of it, HiGHS solves the integer programme, up to SOLVER_NODES. One resource that all
    steps use alike is filled exactly. is_quick: one weighting, by how far
    each is overfilled, no exchange, no solver, and no bound but that of endless room.

    Raises ValueError on shapes that do not go together and on numbers that cannot be, a resource without limit among them.
    """
    gains, usage, capacity = (np.asarray(values, dtype=float) for values in (gains, usage, capacity))
    sizes = np.ones_like(gains) if sizes is None else np.asarray(sizes, dtype=float)
    committed = np.zeros(gains.shape[:1], dtype=np.int64) if committed is None else np.asarray(committed)
    _refuse_impossible(gains, usage, capacity, sizes, committed)
    rows, most = gains.shape
    # A step after a gap is no step.
    is_step = np.logical_and.accumulate(np.isfinite(gains), axis=1)
    gains, sizes = np.where(is_step, gains, -np.inf), np.where(is_step, sizes, 0.0)
    steps_of_row = is_step.sum(axis=1)
    ordered = np.minimum(committed, steps_of_row)

    total_gain = np.cumsum(np.where(is_step, gains, 0.0), axis=1)
    total_gain = np.concatenate([np.zeros((rows, 1)), total_gain], axis=1)
    total_size = np.concatenate([np.zeros((rows, 1)), np.cumsum(sizes, axis=1)], axis=1)
    every = np.arange(rows)
    candidates = np.where(np.arange(most + 1) <= steps_of_row[:, None], total_gain, -np.inf)
    candidates = np.where(np.arange(most + 1) >= ordered[:, None], candidates, -np.inf)
    wanted = candidates.argmax(axis=1)
    unlimited = float(total_gain[every, wanted].sum())
    room = capacity * (1 + TOLERANCE) + TOLERANCE
    is_binding = total_size[every, wanted] @ usage > room
    if not is_binding.any():
        return Allocation(wanted, np.full(rows, -1), unlimited, unlimited, True)
    binding = np.flatnonzero(is_binding)
    usage, room = usage[:, binding], room[binding]

    steps, is_short = _committed_steps(gains, sizes, usage, room, total_size, ordered)
    left = room - total_size[every, steps] @ usage
    base_profit = float(total_gain[every, steps].sum())
    target = np.where(is_short, steps, wanted)
    problem, shown = _rest(gains, sizes, usage, left, steps, target)
    if len(shown):
        added, bound, is_exact, is_solved = _solve(problem, is_quick)
        steps = steps.copy()
        steps[shown] += added
    else:
        bound, is_exact, is_solved = 0.0, True, False
    profit = float(total_gain[every, steps].sum())
    if is_short.any():
        bound, is_exact = unlimited, False
    else:
        bound = min(base_profit + bound, unlimited)
    limiting = _limiting(usage, sizes, steps, wanted, room - total_size[every, steps] @ usage, room)
    return Allocation(
        steps, np.where(limiting >= 0, binding[limiting], -1), profit, max(bound, profit), is_exact, is_solved
    )


def _refuse_impossible(
    gains: np.ndarray, usage: np.ndarray, capacity: np.ndarray, sizes: np.ndarray, committed: np.ndarray
) -> None:
    """ValueError unless `allocate` can be asked this."""
    rows = gains.shape[:1]
    go_together = (
        gains.ndim == 2
        and capacity.ndim == 1
        and usage.shape == rows + capacity.shape
        and sizes.shape == gains.shape
        and committed.shape == rows
    )
    if not go_together:
        raise ValueError(
            f"gains (n, K) {gains.shape} need usage (n, R), capacity (R,), sizes (n, K) and committed (n,),"
            f" got {usage.shape}, {capacity.shape}, {sizes.shape} and {committed.shape}"
        )
    if np.isnan(gains).any() or (gains == np.inf).any():
        raise ValueError("gains must be numbers, or -inf where a row has no more steps")
    if not (capacity >= 0).all():
        raise ValueError("capacity must be numbers of at least 0; infinity for what does not limit")
    for name, values in (("usage", usage), ("sizes", sizes)):
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"{name} must be finite and not negative")
    if committed.dtype.kind not in "iu" or (committed < 0).any():
        raise ValueError("committed must be whole numbers of steps, not negative")


def _committed_steps(
    gains: np.ndarray,
    sizes: np.ndarray,
    usage: np.ndarray,
    room: np.ndarray,
    total_size: np.ndarray,
    ordered: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The committed steps that fit (n,), and which rows are short of theirs. Only rows in the way of each other give up."""
    every = np.arange(len(ordered))
    over = total_size[every, ordered] @ usage > room
    if not over.any():
        return ordered, np.zeros(len(ordered), dtype=bool)
    is_ordered = np.arange(gains.shape[1]) < ordered[:, None]
    values = gains[is_ordered & np.isfinite(gains)]
    # Orders are made even at a loss, so every one gets a value above zero, in the order of their gains.
    lift = max(0.0, -float(values.min())) + 1e-6 * (1.0 + float(np.abs(values).max()))
    lifted = np.where(is_ordered, gains + lift, -np.inf)
    problem, shown = _rest(lifted, sizes, usage, room, np.zeros_like(ordered), ordered)
    steps = np.zeros_like(ordered)
    if len(shown):
        steps[shown] = _solve(problem, is_quick=True)[0]
    return steps, steps < ordered


def _rest(
    gains: np.ndarray, sizes: np.ndarray, usage: np.ndarray, left: np.ndarray, steps: np.ndarray, target: np.ndarray
) -> tuple[_Problem, np.ndarray]:
    """The problem of the steps from `steps` up to `target`, of the rows (returned) whose next step could fit."""
    every = np.arange(len(steps))
    next_size = sizes[every, np.minimum(steps, sizes.shape[1] - 1)]
    shown = np.flatnonzero((target > steps) & (next_size[:, None] * usage <= left).all(axis=1))
    if not len(shown):
        return _Problem(np.zeros((0, 1)), np.zeros((0, 1)), np.zeros((0, len(left)))), shown
    most = int((target - steps)[shown].max())
    column = steps[shown, None] + np.arange(most)
    is_step = column < target[shown, None]
    column = np.minimum(column, gains.shape[1] - 1)
    share = usage[shown] / np.where(left > 0, left, 1.0)
    return (
        _Problem(
            np.where(is_step, gains[shown[:, None], column], -np.inf),
            np.where(is_step, sizes[shown[:, None], column], 0.0),
            share,
        ),
        shown,
    )


def _solve(problem: _Problem, is_quick: bool) -> tuple[np.ndarray, float, bool, bool]:
    """The steps to make (n,), the bound on their gain, whether they are exact, and whether the solver was asked."""
    resources = problem.use.shape[1]
    load = problem.sizes.sum(axis=1) @ problem.use
    binding = np.flatnonzero(load > 1.0)
    if not len(binding):
        gain = _gain(problem, problem.is_step.sum(axis=1))
        return problem.is_step.sum(axis=1), gain, True, False
    alike = np.zeros(resources)
    alike[binding] = 1.0
    by_want = np.where(load > 1.0, load - 1.0, 0.0)
    if is_quick:
        steps = _greedy(problem, by_want)
        return steps, np.inf, False, False
    weightings = [alike]
    if len(binding) > 1:
        weightings += [by_want, *np.eye(resources)[binding]]
    found = [_greedy(problem, weights) for weights in weightings]
    gains = [_gain(problem, steps) for steps in found]
    best = int(np.argmax(gains))
    steps, gain = found[best], gains[best]
    prices = _scaled(problem, weightings[best])
    bound, prices = _best_dual(problem, prices, gain)
    at_prices = _greedy(problem, prices)
    if _gain(problem, at_prices) > gain:
        at_prices, steps = steps, at_prices
    steps, gain = _exchanged(problem, steps)
    if gain < GOOD_SHARE * bound:
        other, other_gain = _exchanged(problem, at_prices)
        if other_gain > gain:
            steps, gain = other, other_gain
    is_solved = gain < GOOD_SHARE * bound and int(problem.is_step.sum()) <= SOLVER_STEPS
    if is_solved:
        solved, solver_bound = _solved(problem)
        bound = min(bound, solver_bound)
        if solved is not None and _gain(problem, solved) > gain:
            steps, gain = solved, _gain(problem, solved)
    return steps, bound, gain >= (1 - EXACT_GAP) * bound, is_solved


def _gain(problem: _Problem, steps: np.ndarray) -> float:
    is_made = np.arange(problem.gains.shape[1]) < steps[:, None]
    return float(problem.gains[is_made].sum())


def _greedy(problem: _Problem, weights: np.ndarray) -> np.ndarray:
    """Steps in the order of gain per weighted use, each if it and all before it of its row fit (n,)."""
    cost = problem.sizes * (problem.use @ weights)[:, None]
    score = np.divide(problem.gains, cost, out=np.full(cost.shape, np.inf), where=cost > 0)
    score = np.minimum.accumulate(np.where(problem.is_step, score, -np.inf), axis=1)
    row, step = np.nonzero(problem.is_step)
    order = np.argsort(-score[row, step], kind="stable")
    row, step = row[order], step[order]
    use = problem.sizes[row, step, None] * problem.use[row]
    left = np.ones(problem.use.shape[1])
    taken = np.zeros(len(problem.gains), dtype=np.int64)
    is_blocked = np.zeros(len(problem.gains), dtype=bool)
    while len(row):
        is_over = (use.cumsum(axis=0) > left + TOLERANCE).any(axis=1)
        first = int(is_over.argmax()) if is_over.any() else len(row)
        taken += np.bincount(row[:first], minlength=len(taken))
        left = left - use[:first].sum(axis=0)
        row, use = row[first:], use[first:]
        # What is left only shrinks: a step that does not fit now never will, nor what comes after it.
        is_blocked[row[(use > left + TOLERANCE).any(axis=1)]] = True
        keep = ~is_blocked[row]
        row, use = row[keep], use[keep]
    return taken


def _scaled(problem: _Problem, weights: np.ndarray) -> np.ndarray:
    """The multiple of the weights at which the steps that still pay, taken all, no longer overfill: near-dual prices."""
    cost = problem.sizes * (problem.use @ weights)[:, None]
    score = np.divide(problem.gains, cost, out=np.zeros_like(cost), where=(cost > 0) & problem.is_step)
    row, step = np.nonzero(cost > 0)
    order = np.argsort(-score[row, step], kind="stable")
    row, step = row[order], step[order]
    used = (problem.sizes[row, step, None] * problem.use[row]).cumsum(axis=0)
    is_over = (used > 1.0).any(axis=1)
    last = int(is_over.argmax()) if is_over.any() else len(row) - 1
    return weights * max(float(score[row[last], step[last]]), 0.0)


def _dual(problem: _Problem, prices: np.ndarray) -> tuple[float, np.ndarray]:
    """The Lagrangian λ·1 + Σ_rows max_k Σ_{steps ≤ k} (gain − λ·use), and what its steps leave of each resource."""
    reduced = np.where(
        problem.is_step,
        np.where(problem.is_step, problem.gains, 0.0) - problem.sizes * (problem.use @ prices)[:, None],
        0.0,
    )
    reach = reduced.cumsum(axis=1)
    best = reach.max(axis=1)
    steps = np.where(best > 0, reach.argmax(axis=1) + 1, 0)
    size = np.where(np.arange(reach.shape[1]) < steps[:, None], problem.sizes, 0.0).sum(axis=1)
    return float(prices.sum() + np.maximum(best, 0.0).sum()), 1.0 - size @ problem.use


def _best_dual(problem: _Problem, prices: np.ndarray, gain: float, rounds: int = 40) -> tuple[float, np.ndarray]:
    """The lowest bound found by subgradient steps of Polyak's length towards the gain reached, and its prices."""
    lowest, best_prices, reach, since = np.inf, prices, 1.0, 0
    for _ in range(rounds):
        bound, slack = _dual(problem, prices)
        if bound < lowest * (1 - 1e-4):
            since = 0
        else:
            since += 1
            reach /= 2
        if bound < lowest:
            lowest, best_prices = bound, prices
        elif since > 2:
            prices = best_prices
            bound, slack = _dual(problem, prices)
        direction = np.where((prices > 0) | (slack < 0), slack, 0.0)
        length = float(direction @ direction)
        if length == 0 or since > 8 or gain >= (1 - EXACT_GAP) * lowest:
            break
        prices = np.maximum(prices - reach * (bound - gain) / length * direction, 0.0)
    return lowest, best_prices


def _exchanged(problem: _Problem, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """The steps after filling what is left and giving up the last step of a row for up to three of others, while it gains."""
    steps = steps.copy()
    rows, most = problem.gains.shape
    every = np.arange(rows)
    gains = np.concatenate([problem.gains, np.full((rows, 1), -np.inf)], axis=1)
    sizes = np.concatenate([problem.sizes, np.zeros((rows, 1))], axis=1)
    for _ in range(4 * rows):
        made = np.where(np.arange(most) < steps[:, None], problem.sizes, 0.0).sum(axis=1)
        left = 1.0 + TOLERANCE - made @ problem.use
        can_add = (gains[every, steps] > 0) & (sizes[every, steps, None] * problem.use <= left).all(axis=1)
        if can_add.any():
            steps[int(np.where(can_add, gains[every, steps], -np.inf).argmax())] += 1
            continue
        # One scenario per row that could give up its last step.
        given = np.flatnonzero(steps > 0)
        if not len(given):
            break
        last = steps[given] - 1
        free = left + sizes[given, last, None] * problem.use[given]
        value = -gains[given, last]
        after = np.tile(steps, (len(given), 1))
        scenario = np.arange(len(given))
        after[scenario, given] -= 1
        for turn in range(3):
            gain = gains[every, after]
            fits = (sizes[every, after][:, :, None] * problem.use <= free[:, None, :]).all(axis=2) & (gain > 0)
            if turn == 0:
                fits[scenario, given] = False
            gain = np.where(fits, gain, -np.inf)
            taker = gain.argmax(axis=1)
            takes = fits[scenario, taker]
            if not takes.any():
                break
            who = scenario[takes]
            value[who] += gain[who, taker[who]]
            free[who] -= sizes[taker[who], after[who, taker[who]], None] * problem.use[taker[who]]
            after[who, taker[who]] += 1
        best = int(value.argmax())
        if value[best] <= TOLERANCE * max(1.0, abs(float(gains[given[best], last[best]]))):
            break
        steps = after[best]
    return steps, _gain(problem, steps)


def _solved(problem: _Problem) -> tuple[np.ndarray | None, float]:
    """The integer programme by HiGHS: steps (n,), None where it found none, and its bound."""
    row, step = np.nonzero(problem.is_step)
    count = len(row)
    use = csr_array((problem.sizes[row, step, None] * problem.use[row]).T)
    follows = np.flatnonzero(step > 0)
    entry = np.arange(len(follows))
    in_order = csr_array(
        (
            np.concatenate([np.ones(len(follows)), -np.ones(len(follows))]),
            (np.concatenate([entry, entry]), np.concatenate([follows, follows - 1])),
        ),
        shape=(len(follows), count),
    )
    upper = np.concatenate([np.ones(use.shape[0]), np.zeros(len(follows))])
    with _quiet():
        answer = milp(
            -problem.gains[row, step],
            integrality=np.ones(count),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(vstack([use, in_order]), -np.inf, upper),
            options={"mip_rel_gap": EXACT_GAP, "node_limit": SOLVER_NODES},
        )
    bound = np.inf if answer.mip_dual_bound is None else -float(answer.mip_dual_bound)
    if answer.x is None:
        return None, bound
    steps = np.bincount(row[answer.x > 0.5], minlength=len(problem.gains))
    made = np.where(np.arange(problem.gains.shape[1]) < steps[:, None], problem.sizes, 0.0).sum(axis=1)
    fits = bool((made @ problem.use <= 1.0 + 10 * TOLERANCE).all())
    return (steps if fits else None), bound


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what HiGHS prints out of the process's standard output, which may be a command's JSON.

    HiGHS of scipy 1.17 writes a line of its own debugging now and then, from C, past `disp` and past sys.stdout. What other
    threads print from C meanwhile is lost too.
    """
    c_library = ctypes.CDLL(None if os.name == "posix" else "ucrtbase")
    c_library.fflush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        c_library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _limiting(
    usage: np.ndarray, sizes: np.ndarray, steps: np.ndarray, wanted: np.ndarray, left: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """For rows with fewer steps than wanted the resource that is shortest for their next step, as a share of it; else -1."""
    every = np.arange(len(steps))
    need = sizes[every, np.minimum(steps, sizes.shape[1] - 1), None] * usage
    short = np.where(usage > 0, (need - left) / np.maximum(room, TOLERANCE), -np.inf)
    return np.where(steps < wanted, short.argmax(axis=1), -1)


# ---------------------------------------------------------------- all places


@dataclass(frozen=True)
class _Runs:
    """Mixer runs, and whatever else is done once per run, by constraint.

    constraint (k,): whose time they take; minutes (k, 14) of it per run; most (k, 14): base units of dough a run holds.
    """

    constraint: np.ndarray
    minutes: np.ndarray
    most: np.ndarray


@dataclass(frozen=True)
class _Entries:
    """What batches of rows put into slots: row (e,), slot (e,) and amount per batch (14, e), ascending by slot."""

    row: np.ndarray
    slot: np.ndarray
    amount: np.ndarray


@dataclass(frozen=True)
class Limits:
    """What the workshop can make on each of the 14 days.

    A constraint is a resource, or all of one kind at a place together, up to one of the times at which products of the
    place are due: what is due by then has to fit into the time until then. A step that names a resource counts against
    that one and, where other steps may use any of the kind, against them together. Of resources together, the first by id
    is named as the limiting one. Dough at hand is not counted, so that a plan that fits without it fits with it.

    keys: tenant_id, location_id, product_id (n,). constraint_place (numbered as places sort), resource_id (c,) and capacity
    (c, 14) in resource minutes, infinite where no time is known. run_limits: tenant_id, location_id, item_id, run_quantity:
    the most that a run of a dough holds on the plan date. use: what the rows take of every dough. exceptions: what could
    not be known.
    """

    keys: pd.DataFrame
    constraint_place: np.ndarray
    resource_id: np.ndarray
    capacity: np.ndarray
    direct: _Entries
    dough: _Entries
    runs: _Runs
    run_limits: pd.DataFrame
    use: DoughUse
    exceptions: pd.DataFrame

    @classmethod
    def of(
        cls,
        made: pd.DataFrame,
        recipes: pd.DataFrame,
        workshop: Workshop,
        tenants: pd.DataFrame,
        plan_date: date,
        batch_size_units: np.ndarray,
    ) -> "Limits":
        """Time per batch and time there is.

        made: tenant_id, location_id, product_id, ready_by (local datetime.time; None: when the place opens), (n,).
        tenants: tenant_id, timezone. batch_size_units: (n,) units of the product in a batch.

        A resource works from the last of its available_from before the place's latest ready_by, and not before the first
        that it works on can have come through the steps before; until the latest ready_by, less the shortest time that
        still follows. Calendar entries take off what they overlap, in elapsed minutes, also in the nights in which the
        clocks change. A kind of resource that is not at the place does not limit, and is an exception.
        """
        return _limits_of(made, recipes, workshop, tenants, plan_date, np.asarray(batch_size_units, dtype=float))

    def minutes_used(self, day: int, batches: np.ndarray) -> np.ndarray:
        """Resource minutes that batches (n,) take of each constraint (c,), with whole runs of each dough."""
        count = len(self.constraint_place)
        batches = np.asarray(batches, dtype=float)
        used = np.bincount(self.direct.slot, self.direct.amount[day] * batches[self.direct.row], minlength=count)
        runs = self._runs(day, batches)
        return used + np.bincount(self.runs.constraint, self.runs.minutes[:, day] * runs, minlength=count)

    def fit(
        self,
        day: int,
        wanted: np.ndarray,
        *,
        fewest: np.ndarray,
        multiple: np.ndarray,
        committed: np.ndarray,
        gains_of: Callable[[np.ndarray], np.ndarray],
    ) -> Fit:
        """The batches of a day (0 is the plan date) with the highest gain that the workshop has time for.

        wanted, committed: (n,) batches worth making, and of these ordered. A row is made in a step of `fewest` batches,
        then in steps of `multiple`. gains_of: the gains of these steps for positions of rows, (rows, K). Rows of places
        where everything fits come back as wanted. The days after the plan date are tentative and chosen quickly.
        """
        wanted = np.asarray(wanted, dtype=np.int64)
        names = np.full(len(wanted), None, dtype=object)
        if not len(self.constraint_place):
            return Fit(wanted, names, [])
        room = self.capacity[:, day] * (1 + TOLERANCE) + 1e-6
        is_over = self.minutes_used(day, wanted) > room
        if not is_over.any():
            return Fit(wanted, names, [])
        batches = wanted.copy()
        problems: list[tuple[object, ...]] = []
        bindings = [
            np.flatnonzero(is_over & (self.constraint_place == place))
            for place in np.unique(self.constraint_place[is_over])
        ]
        places = [_LocalLimits.of(self, day, binding, room[binding], wanted) for binding in bindings]
        every = np.concatenate([local.rows for local in places])
        gains = np.split(gains_of(every), np.cumsum([len(local.rows) for local in places])[:-1])
        for binding, local, gain in zip(bindings, places, gains, strict=True):
            rows = local.rows
            steps = _Steps.of(wanted[rows], fewest[rows], multiple[rows], gain)
            ordered = steps.covering(np.minimum(committed[rows], wanted[rows]))
            made, limiting = local.best(steps, ordered, is_quick=day > 0)
            batches[rows] = made
            names[rows] = np.where(limiting >= 0, self.resource_id[binding][limiting], None)
            is_short = made < np.minimum(committed[rows], wanted[rows])
            problems += self._shortages(day, rows[is_short], committed, batches, names)
        return Fit(batches, names, problems)

    def _runs(self, day: int, batches: np.ndarray) -> np.ndarray:
        mass = np.bincount(
            self.dough.slot, self.dough.amount[day] * batches[self.dough.row], minlength=len(self.runs.constraint)
        )
        return _whole_runs(mass, self.runs.most[:, day])

    def _shortages(
        self, day: int, rows: np.ndarray, committed: np.ndarray, batches: np.ndarray, names: np.ndarray
    ) -> list[tuple[object, ...]]:
        when = "" if day == 0 else f" {day} days on" if day > 1 else " the day after"
        found: list[tuple[object, ...]] = []
        for row in rows.tolist():
            tenant_id, location_id, product_id = self.keys.iloc[row]
            message = (
                f"{product_id}: {committed[row]} batches are ordered{when}, and {names[row]} has time for {batches[row]}:"
                " the most valuable orders of the place are planned"
            )
            remedy = f"give {names[row]} more time (available_from, its calendar), or move part of the orders"
            found.append(
                (tenant_id, LINK, location_id, "product", product_id, "orders_above_capacity", message, remedy)
            )
        return found


@dataclass(frozen=True)
class _Steps:
    """In which steps rows are made: sizes in batches and gains (m, K), 0 and -inf beyond what is wanted; totals (m, K+1)."""

    sizes: np.ndarray
    gains: np.ndarray
    totals: np.ndarray

    @classmethod
    def of(cls, wanted: np.ndarray, fewest: np.ndarray, multiple: np.ndarray, gains: np.ndarray) -> "_Steps":
        gains = np.asarray(gains, dtype=float)
        sizes = np.repeat(multiple[:, None], gains.shape[1], axis=1).astype(np.int64)
        sizes[:, 0] = np.minimum(fewest, wanted)
        sizes = np.where((sizes.cumsum(axis=1) <= wanted[:, None]) & (sizes > 0), sizes, 0)
        totals = np.concatenate([np.zeros((len(wanted), 1), dtype=np.int64), sizes.cumsum(axis=1)], axis=1)
        return cls(sizes, np.where(sizes > 0, gains, -np.inf), totals)

    def covering(self, batches: np.ndarray) -> np.ndarray:
        """The fewest steps that hold so many batches (m,)."""
        return np.minimum((self.totals < batches[:, None]).sum(axis=1), (self.sizes > 0).sum(axis=1))


@dataclass(frozen=True)
class _LocalLimits:
    """The constraints that bind at one place on one day, dense: rows (m,), room (c,), minutes (m, c) per batch; of the
    doughs mass (m, k) per batch, most (k,) in a run, and minutes (k, c) of a run."""

    rows: np.ndarray
    room: np.ndarray
    minutes: np.ndarray
    mass: np.ndarray
    most: np.ndarray
    run_minutes: np.ndarray

    @classmethod
    def of(cls, limits: Limits, day: int, binding: np.ndarray, room: np.ndarray, wanted: np.ndarray) -> "_LocalLimits":
        direct, dough, runs = limits.direct, limits.dough, limits.runs
        of_direct = _in_slots(direct.slot, binding)
        slots = _in_slots(runs.constraint, binding)
        of_dough = _in_slots(dough.slot, slots)
        rows = np.unique(np.concatenate([direct.row[of_direct], dough.row[of_dough]]))
        rows = rows[wanted[rows] > 0]
        at = np.full(len(wanted), -1, dtype=np.int64)
        at[rows] = np.arange(len(rows))
        minutes, mass = np.zeros((len(rows) + 1, len(binding))), np.zeros((len(rows) + 1, len(slots)))
        constraint = np.searchsorted(binding, direct.slot[of_direct])
        np.add.at(minutes, (at[direct.row[of_direct]], constraint), direct.amount[day][of_direct])
        of_slot = np.searchsorted(slots, dough.slot[of_dough])
        np.add.at(mass, (at[dough.row[of_dough]], of_slot), dough.amount[day][of_dough])
        run_minutes = np.zeros((len(slots), len(binding)))
        run_minutes[np.arange(len(slots)), np.searchsorted(binding, runs.constraint[slots])] = runs.minutes[slots, day]
        return cls(rows, room, minutes[:-1], mass[:-1], runs.most[slots, day], run_minutes)

    def _used(self, mass: np.ndarray, minutes: np.ndarray) -> np.ndarray:
        """Minutes taken (…, c) with masses of doughs (…, k), in whole runs, and minutes of the products (…, c)."""
        return minutes + _whole_runs(mass, self.most) @ self.run_minutes

    def best(self, steps: _Steps, ordered: np.ndarray, is_quick: bool) -> tuple[np.ndarray, np.ndarray]:
        """The batches (m,) that fit, and for rows with fewer than wanted the constraint that keeps them from more, else -1.

        Runs as shares of a run first, with room kept for a partly filled last run of each dough; then, while whole runs
        leave room, the step that gains most.
        """
        every = np.arange(len(self.rows))
        is_taken = (self.mass > 0).any(axis=0)
        kept = is_taken.astype(float) @ self.run_minutes
        shares = np.divide(self.mass, self.most, out=np.zeros_like(self.mass), where=np.isfinite(self.most))
        linear = self.minutes + shares @ self.run_minutes
        chosen = allocate(
            steps.gains,
            linear,
            np.maximum(self.room - kept, 0.0),
            sizes=steps.sizes,
            committed=ordered,
            is_quick=is_quick,
        ).steps
        count = (steps.sizes > 0).sum(axis=1)
        gains = np.concatenate([steps.gains, np.full((len(every), 1), -np.inf)], axis=1)
        sizes = np.concatenate([steps.sizes, np.zeros((len(every), 1))], axis=1)
        while True:
            batches = steps.totals[every, chosen]
            size, gain = sizes[every, chosen, None], gains[every, chosen]
            mass, minutes = batches @ self.mass, batches @ self.minutes
            over = self._used(mass + size * self.mass, minutes + size * self.minutes) - self.room
            is_open = (chosen < count) & (over <= 0).all(axis=1)
            first = is_open & (chosen < ordered)
            is_open = first if first.any() else is_open & (gain > 0)
            if not is_open.any():
                break
            # A step of each that has room by itself, those that gain most first, as far as they have room together.
            rows = np.flatnonzero(is_open)
            rows = rows[np.argsort(-gain[rows], kind="stable")]
            more_mass = mass + (size[rows] * self.mass[rows]).cumsum(axis=0)
            more_minutes = minutes + (size[rows] * self.minutes[rows]).cumsum(axis=0)
            fits = (self._used(more_mass, more_minutes) <= self.room).all(axis=1)
            together = len(rows) if fits.all() else max(int(fits.argmin()), 1)
            chosen = chosen.copy()
            chosen[rows[:together]] += 1
        uses = (self.minutes > 0) | ((self.mass > 0).astype(float) @ self.run_minutes > 0)
        short = np.where(uses, over / np.maximum(self.room, 1.0), -np.inf)
        return batches, np.where(chosen < count, short.argmax(axis=1), -1)


def _whole_runs(mass: np.ndarray, most: np.ndarray) -> np.ndarray:
    runs = np.maximum(np.ceil(np.round(mass / most, ROUNDING)), 1.0)
    return np.where(np.round(mass, ROUNDING) > 0, runs, 0.0)


def _in_slots(slot: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Positions of the entries (ascending by slot) of some slots (ascending)."""
    start, end = np.searchsorted(slot, wanted), np.searchsorted(slot, wanted, side="right")
    return ranges(start, end - start)[1]


# ---------------------------------------------------------------- reading the workshop


@dataclass(frozen=True)
class _Deadlines:
    """Times at which products of a place are due together: group (n,) of each row; of the groups, ascending by place,
    place (g,) and due (g, 14) instants, the place's latest where a product's own is not known; latest (p, 14)."""

    group: np.ndarray
    place: np.ndarray
    due: np.ndarray
    latest: np.ndarray

    @classmethod
    def of(cls, due: np.ndarray, ready_by: np.ndarray, place: np.ndarray, places: int) -> "_Deadlines":
        """From when rows are due (n, 14), by the ready_by (n,) which that came from."""
        latest = np.full((places, PLAN_DAYS), -np.inf)
        np.fmax.at(latest, place, due)
        latest = np.where(np.isinf(latest), np.nan, latest)
        due = np.where(np.isnan(due), latest[place], due)
        codes, distinct_times = pd.factorize(ready_by, use_na_sentinel=False)
        _, first, group = np.unique(place * (len(distinct_times) + 1) + codes, return_index=True, return_inverse=True)
        return cls(group, place[first], due[first], latest)


@dataclass(frozen=True)
class _Labels:
    """What can run short at a place: one resource, or all of a kind together where steps may take any of them.

    Ascending by place: place, resource (-1: together), pool (l,). step, label (u,): which steps count against which, by step.
    member_label, member (m,): the resources of each label, ascending by label.
    """

    place: np.ndarray
    resource: np.ndarray
    pool: np.ndarray
    step: np.ndarray
    label: np.ndarray
    member_label: np.ndarray
    member: np.ndarray

    @classmethod
    def of(cls, routing: Routing, step_place: np.ndarray) -> "_Labels":
        resource, pool = (routing.steps[name].to_numpy() for name in ("resource", "pool"))
        own = resource >= 0
        shared_pools = np.unique(pool[~own & (pool >= 0)])
        shared = np.isin(pool, shared_pools) & (pool >= 0)
        step = np.concatenate([np.flatnonzero(own), np.flatnonzero(shared)])
        named = np.concatenate([resource[own], np.full(int(shared.sum()), -1)])
        # Pools and resources are numbered below this, so the three make one number that sorts as they do.
        base = len(routing.pool) + 2
        keys, label = np.unique((step_place[step] * base + pool[step]) * base + named + 1, return_inverse=True)
        rest, label_resource = np.divmod(keys, base)
        place, label_pool = np.divmod(rest, base)
        label_resource = label_resource - 1
        order = np.lexsort((label, step))
        by_pool = np.argsort(routing.pool, kind="stable")
        together = np.flatnonzero(label_resource < 0)
        which, at = matches(label_pool[together], routing.pool[by_pool])
        alone = np.flatnonzero(label_resource >= 0)
        member_label = np.concatenate([alone, together[which]])
        member = np.concatenate([label_resource[alone], by_pool[at]])
        by_label = np.lexsort((member, member_label))
        return cls(
            place, label_resource, label_pool, step[order], label[order], member_label[by_label], member[by_label]
        )


@dataclass(frozen=True)
class _Constraints:
    """Labels up to each time at which products of their place are due: label, group (c,), ascending by label; first (l,)
    and count (l,) of a label's; capacity (c, 14) in resource minutes."""

    label: np.ndarray
    group: np.ndarray
    first: np.ndarray
    count: np.ndarray
    capacity: np.ndarray


@dataclass(frozen=True)
class _Hours:
    """When resources work: start (r, 14) of each plan date's work, usual capacity (r,), and the times that differ."""

    start: np.ndarray
    capacity: np.ndarray
    downtime: Downtime

    def available(
        self, resource: np.ndarray, since: np.ndarray, until: np.ndarray, holding: np.ndarray | None = None
    ) -> np.ndarray:
        """Minutes times capacity of resources (m,) between instants (m, 14); with `holding` (m, 14), the minutes in which
        they hold that much. NaN where an instant is not known."""
        start = np.maximum(self.start[resource], since)
        usual = self.capacity[resource][:, None]
        value = usual if holding is None else (usual >= holding).astype(float)
        total = np.maximum(until - start, 0.0) / 60 * value
        which, entry = matches(resource, self.downtime.resource)
        if len(which):
            overlap = np.minimum(until[which], self.downtime.end[entry, None]) - np.maximum(
                start[which], self.downtime.start[entry, None]
            )
            held = self.downtime.capacity[entry][:, None]
            instead = held if holding is None else (held >= holding[which]).astype(float)
            change = np.maximum(overlap, 0.0) / 60 * (instead - np.broadcast_to(value, total.shape)[which])
            np.add.at(total, which, change)
        return total


def _limits_of(
    made: pd.DataFrame,
    recipes: pd.DataFrame,
    workshop: Workshop,
    tenants: pd.DataFrame,
    plan_date: date,
    batch_size_units: np.ndarray,
) -> Limits:
    made = made.reset_index(drop=True)
    item_keys = [*PLACE, "item_id"]
    _, first, place = np.unique(key_codes(PLACE, made)[0], return_index=True, return_inverse=True)
    places = made[PLACE].iloc[first].reset_index(drop=True)
    use = dough_use(made, recipes)
    use_row = use.uses["row"].to_numpy()
    products = made.rename(columns={"product_id": "item_id"})[item_keys]
    doughs = made[PLACE].iloc[use_row].reset_index(drop=True)
    doughs["item_id"] = use.doughs["item_id"].to_numpy(dtype=object)[use.uses["dough"].to_numpy()]
    # What is made at each place: the products and their doughs, once each.
    every = pd.concat([products, doughs], ignore_index=True)
    _, first, item_of = np.unique(key_codes(item_keys, every)[0], return_index=True, return_inverse=True)
    items = every.iloc[first].reset_index(drop=True)
    item_of_product, item_of_dough = item_of[: len(products)], item_of[len(products) :]
    item_place = np.concatenate([place, place[use_row]])[first]
    routing = routing_of(items, workshop)
    steps, resources = routing.steps, routing.resources

    due = ready_by_instants(made, workshop.opening, tenants, plan_date, PLAN_DAYS)
    ready_by = made["ready_by"].to_numpy(dtype=object) if "ready_by" in made else np.full(len(made), None)
    deadlines = _Deadlines.of(due, ready_by, place, len(places))
    labels = _Labels.of(routing, item_place[steps["row"].to_numpy()])
    at = code_positions(*key_codes(PLACE, resources, places))
    latest = np.append(deadlines.latest, np.full((1, PLAN_DAYS), np.nan), axis=0)[at]
    start = np.full(latest.shape, np.nan)
    start[at >= 0] = starts_of(resources[at >= 0], latest[at >= 0], zones_of(places, tenants)[at[at >= 0]], plan_date)
    hours = _Hours(start, resources["capacity"].to_numpy(), downtime_of(workshop.calendar, resources, tenants))

    is_mixer = (resources["kind"] == MIXER).to_numpy()
    run_most = _run_sizes(labels, deadlines, hours, is_mixer)
    chains = _Chains.of(items, item_place, np.isin(np.arange(len(items)), item_of_product), use, steps)
    since, tail = chains.window(labels, hours, steps["resource"].to_numpy())
    constraints = _constraints_of(labels, deadlines, hours, run_most, since, tail)
    minutes = steps["seconds"].to_numpy() / 60 * steps["capacity_use"].to_numpy()
    # A small mixer that is named does not take the time of the larger ones which count together.
    counts = np.ones((len(labels.step), PLAN_DAYS))
    named = steps["resource"].to_numpy()[labels.step]
    too_small = (labels.resource[labels.label] < 0) & (named >= 0)
    too_small[too_small] = is_mixer[named[too_small]]
    counts[too_small] = hours.capacity[named[too_small], None] >= run_most[labels.label[too_small]]

    item_most = np.full((len(items), PLAN_DAYS), np.inf)
    mixing = (labels.resource[labels.label] == named) & (steps["kind"] == MIXER).to_numpy()[labels.step]
    np.minimum.at(item_most, steps["row"].to_numpy()[labels.step[mixing]], run_most[labels.label[mixing]])

    direct = _direct_entries(item_of_product, steps["row"].to_numpy(), minutes, labels, counts, constraints, deadlines)
    mass = use.uses["quantity_per"].to_numpy() * batch_size_units[use_row]
    taken = pd.DataFrame({"item": item_of_dough, "row": use_row, "mass": mass})
    taken = taken.sort_values(["item", "row"], ignore_index=True)
    dough, runs = _dough_entries(
        taken, steps["row"].to_numpy(), minutes, item_most, labels, counts, constraints, deadlines
    )
    first_member = labels.member[np.searchsorted(labels.member_label, np.arange(len(labels.place)))]
    is_mixed = np.isfinite(item_most[:, 0]) & np.isin(np.arange(len(items)), item_of_dough)
    return Limits(
        made[[*PLACE, "product_id"]],
        labels.place[constraints.label],
        resources["resource_id"].to_numpy(dtype=object)[first_member][constraints.label],
        constraints.capacity,
        direct,
        dough,
        runs,
        items[is_mixed].assign(run_quantity=item_most[is_mixed, 0]).reset_index(drop=True),
        use,
        exceptions_of(sorted(_missing(items, steps, np.isnan(due).all(axis=1), item_of_product))),
    )


def _run_sizes(labels: _Labels, deadlines: _Deadlines, hours: _Hours, is_mixer: np.ndarray) -> np.ndarray:
    """What a run of a label of mixers holds on each day (l, 14), infinite for other resources.

    Of the sizes that the mixers hold at some time, the one with which those that hold it get through most in their time;
    of equals the larger, which takes fewer runs.
    """
    sizes = np.full((len(labels.place), PLAN_DAYS), np.inf)
    mixing = is_mixer[labels.member]
    label, member = labels.member_label[mixing], labels.member[mixing]
    if not len(label):
        return sizes
    which, entry = matches(member, hours.downtime.resource)
    candidates = pd.DataFrame(
        {
            "label": np.concatenate([label, label[which]]),
            "size": np.concatenate([hours.capacity[member], hours.downtime.capacity[entry]]),
        }
    )
    candidates = candidates[candidates["size"] > 0].drop_duplicates()
    candidates = candidates.sort_values(["label", "size"], ascending=[True, False], ignore_index=True)
    of_label, size = candidates["label"].to_numpy(), candidates["size"].to_numpy()
    of_candidate, at = matches(of_label, label)
    holding = np.repeat(size[of_candidate, None], PLAN_DAYS, axis=1)
    until = deadlines.latest[labels.place[of_label[of_candidate]]]
    time = np.nan_to_num(hours.available(member[at], np.full(until.shape, -np.inf), until, holding))
    through = np.zeros((len(size), PLAN_DAYS))
    np.add.at(through, of_candidate, time * holding)
    for day in range(PLAN_DAYS):
        # The last of a label in this order is its best.
        order = np.lexsort((size, through[:, day], of_label))
        sizes[of_label[order], day] = size[order]
    return sizes


@dataclass(frozen=True)
class _Chains:
    """What comes before and after each step: step_item, seconds, wait (s,) of the steps by item and step_no; total (i,)
    seconds of an item's steps; is_product (i,); parent, child (e,): which item takes which at its place; level (i,)."""

    step_item: np.ndarray
    seconds: np.ndarray
    wait: np.ndarray
    total: np.ndarray
    is_product: np.ndarray
    parent: np.ndarray
    child: np.ndarray
    level: np.ndarray

    @classmethod
    def of(
        cls, items: pd.DataFrame, place: np.ndarray, is_product: np.ndarray, use: DoughUse, steps: pd.DataFrame
    ) -> "_Chains":
        step_item, seconds, wait = (steps[name].to_numpy() for name in ("row", "seconds", "wait_seconds"))
        graph = use.graph
        node = code_positions(*key_codes(["tenant_id", "item_id"], items, graph.nodes))
        order = np.argsort(graph.parent, kind="stable")
        parent, edge = matches(node, graph.parent[order])
        size = len(graph.nodes)
        child = code_positions(place[parent] * size + graph.child[order[edge]], place * size + node)
        return cls(
            step_item,
            seconds,
            wait,
            np.bincount(step_item, seconds + wait, minlength=len(items)),
            is_product,
            parent[child >= 0],
            child[child >= 0],
            # Tenants with a circle have no recipes here, so their products are not among the nodes' levels.
            graph.low_level_code[node],
        )

    def window(self, labels: _Labels, hours: _Hours, resource: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From when anything can be on a label (l, 14), and the shortest time that follows on it until it is ready (l,).

        A step follows those before it and the doughs that it takes; after it come its wait, the steps after it and those of
        what takes the dough.
        """
        tail = np.where(self.is_product, 0.0, np.inf)
        for level in range(1, int(self.level.max(initial=0)) + 1):
            here = self.level[self.child] == level
            parent, child = self.parent[here], self.child[here]
            np.minimum.at(tail, child, self.total[parent] + tail[parent])
        begun = np.cumsum(self.seconds + self.wait) - self.wait
        first = np.searchsorted(self.step_item, self.step_item)
        begun -= (np.cumsum(self.seconds + self.wait) - self.seconds - self.wait)[first]
        after = self.total[self.step_item] - begun + tail[self.step_item]

        opens = np.full((len(labels.place) + 1, PLAN_DAYS), np.inf)
        np.fmin.at(opens, labels.member_label, hours.start[labels.member])
        own = np.full(len(self.step_item), -1)
        is_own = labels.resource[labels.label] == resource[labels.step]
        own[labels.step[is_own]] = labels.label[is_own]
        opens[-1] = -np.inf
        ready = np.full((len(self.total), PLAN_DAYS), -np.inf)
        starts = np.full((len(self.step_item), PLAN_DAYS), -np.inf)
        turn = np.arange(len(first)) - first
        for level in range(int(self.level.max(initial=0)), -1, -1):
            takes = self.level[self.parent] == level
            np.maximum.at(ready, self.parent[takes], ready[self.child[takes]])
            for number in range(int(turn.max(initial=-1)) + 1):
                step = np.flatnonzero((self.level[self.step_item] == level) & (turn == number))
                item = self.step_item[step]
                starts[step] = np.maximum(ready[item], opens[own[step]])
                ready[item] = starts[step] + (self.seconds + self.wait)[step, None]
        since = np.full((len(labels.place), PLAN_DAYS), np.inf)
        np.minimum.at(since, labels.label, starts[labels.step])
        shortest = np.full(len(labels.place), np.inf)
        np.minimum.at(shortest, labels.label, after[labels.step])
        return since, shortest


def _constraints_of(
    labels: _Labels,
    deadlines: _Deadlines,
    hours: _Hours,
    run_most: np.ndarray,
    since: np.ndarray,
    tail: np.ndarray,
) -> _Constraints:
    """The constraints, with the time from `since` (l, 14) on until `tail` (l,) seconds before something is due."""
    first_group = np.searchsorted(deadlines.place, labels.place)
    count = np.searchsorted(deadlines.place, labels.place, side="right") - first_group
    label, group = ranges(first_group, count)
    first = np.cumsum(count) - count

    begin, end = since[label], deadlines.due[group] - tail[label, None]
    # Where even the last of the place cannot be ready in time, it is made all the same and is late: the time in which the
    # resource works counts. What is due earlier and cannot be ready is held to the later times only.
    is_latest = deadlines.due[group] >= deadlines.latest[labels.place[label]]
    is_hopeless = is_latest & (end <= begin)
    begin, end = np.where(is_hopeless, -np.inf, begin), np.where(is_hopeless, deadlines.due[group], end)

    constraint, at = matches(label, labels.member_label)
    member, most = labels.member[at], run_most[label[constraint]]
    is_run = np.isfinite(most[:, 0])
    time = np.empty((len(constraint), PLAN_DAYS))
    for of_kind, holding in ((is_run, most[is_run]), (~is_run, None)):
        which = constraint[of_kind]
        time[of_kind] = hours.available(member[of_kind], begin[which], end[which], holding)
    capacity = np.zeros((len(label), PLAN_DAYS))
    np.add.at(capacity, constraint, time)
    is_before = np.ones(capacity.shape, dtype=bool)
    np.logical_and.at(is_before, constraint, end[constraint] <= np.maximum(hours.start[member], begin[constraint]))
    capacity[np.isnan(capacity) | (is_before & ~is_latest)] = np.inf
    return _Constraints(label, group, first, count, capacity)


def _direct_entries(
    item_of_product: np.ndarray,
    step_item: np.ndarray,
    minutes: np.ndarray,
    labels: _Labels,
    counts: np.ndarray,
    constraints: _Constraints,
    deadlines: _Deadlines,
) -> _Entries:
    """Resource minutes of the products' own steps, per batch. A mixer takes a batch of a product as a run."""
    row, step = matches(item_of_product, step_item)
    pair, use = matches(step, labels.step)
    which, constraint = ranges(constraints.first[labels.label[use]], constraints.count[labels.label[use]])
    pair, use = pair[which], use[which]
    amount = minutes[step[pair], None] * counts[use]
    return _entries(row[pair], constraint, amount, _is_due(row[pair], constraint, constraints, deadlines))


def _dough_entries(
    taken: pd.DataFrame,
    step_item: np.ndarray,
    minutes: np.ndarray,
    item_most: np.ndarray,
    labels: _Labels,
    counts: np.ndarray,
    constraints: _Constraints,
    deadlines: _Deadlines,
) -> tuple[_Entries, _Runs]:
    """Runs of doughs by constraint, and the mass per batch that rows add to each."""
    item = taken["item"].to_numpy()
    use = np.flatnonzero(np.isin(step_item[labels.step], item))
    which, constraint = ranges(constraints.first[labels.label[use]], constraints.count[labels.label[use]])
    order = np.argsort(constraint, kind="stable")
    use, constraint = use[which[order]], constraint[order]
    step = labels.step[use]
    slot, at = matches(step_item[step], item)
    row = taken["row"].to_numpy()[at]
    mass = np.repeat(taken["mass"].to_numpy()[at, None], PLAN_DAYS, axis=1)
    return (
        _entries(row, slot, mass, _is_due(row, constraint[slot], constraints, deadlines)),
        _Runs(constraint, minutes[step, None] * counts[use], item_most[step_item[step]]),
    )


def _is_due(row: np.ndarray, constraint: np.ndarray, constraints: _Constraints, deadlines: _Deadlines) -> np.ndarray:
    """Whether rows are due by the time of a constraint (e, 14). What is due at no known time is due at the latest."""
    return ~(deadlines.due[deadlines.group[row]] > deadlines.due[constraints.group[constraint]])


def _entries(row: np.ndarray, slot: np.ndarray, amount: np.ndarray, is_due: np.ndarray) -> _Entries:
    amount = np.where(is_due, amount, 0.0)
    kept = np.flatnonzero(amount.any(axis=1))
    order = kept[np.lexsort((row[kept], slot[kept]))]
    return _Entries(row[order], slot[order], np.ascontiguousarray(amount[order].T))


def _missing(
    items: pd.DataFrame, steps: pd.DataFrame, has_no_due: np.ndarray, item_of_product: np.ndarray
) -> list[tuple[object, ...]]:
    """Steps without a resource to do them, and products with steps that nobody says when to have ready."""
    found: list[tuple[object, ...]] = []
    absent = steps[((steps["pool"] < 0) | steps["is_elsewhere"]).to_numpy()].drop_duplicates(["row", "kind"])
    for row, kind, pool in absent[["row", "kind", "pool"]].itertuples(index=False):
        tenant_id, location_id, item_id = items.iloc[row]
        subject = "product" if row in item_of_product else "item"
        if pool < 0:
            message = (
                f"{item_id} needs a resource of kind {kind}, and {location_id} has none: that does not limit the plan"
            )
            remedy = f"import the {kind} of {location_id} among the resources, or take the step out of {item_id}"
        else:
            message = f"{item_id} names a resource that is not at {location_id}: any {kind} there is used"
            remedy = f"name no resource in that step of {item_id}, or the one at {location_id}"
        found.append((tenant_id, LINK, location_id, subject, item_id, "missing_resource", message, remedy))
    has_steps = np.isin(item_of_product, steps["row"].to_numpy())
    for row in np.flatnonzero(has_steps & has_no_due).tolist():
        tenant_id, location_id, item_id = items.iloc[item_of_product[row]]
        message = f"{item_id}: neither a ready_by nor opening hours say when it is needed, so time does not limit it"
        remedy = f"import ready_by of {item_id}, or the opening hours of {location_id}"
        found.append((tenant_id, LINK, location_id, "product", item_id, "missing_ready_by", message, remedy))
    return found
