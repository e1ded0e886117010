"""The days of a production plan, one after the other: what is worth making, what there is room for, what people set.

What belongs here: which batches are made on each day of the horizon, and what those of the plan date are expected to
bring. What does not: rows and master data (production_input), one product's choice (newsvendor, shelf_life), and the room
in ovens and mixers (capacity).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planning.capacity import Limits
from planning.frames import PLAN_DAYS, ROUNDING
from planning.newsvendor import (
    BatchChoice,
    batch_marginal_values,
    best_batches,
    optimal_quantity,
    supply_gain,
)
from planning.production_input import DEMAND_DAYS, Making
from planning.shelf_life import Shelf, cover_days

ROWS_AT_ONCE = 512
"""Products of one shelf life that are followed together, so that their paths stay in the processor's cache."""


@dataclass(frozen=True)
class Asked:
    """What people set for the plan date: batches (n,), -1 where nobody did; by and reason (n,), None there."""

    batches: np.ndarray
    by: np.ndarray
    reason: np.ndarray

    @property
    def is_set(self) -> np.ndarray:
        return self.batches >= 0


@dataclass(frozen=True)
class Held:
    """What the plan date cannot take: at most so many batches (n,), for want of this resource (n,)."""

    most: np.ndarray
    resource_id: np.ndarray


@dataclass(frozen=True)
class Days:
    """What is made, and what the plan date is expected to bring.

    batches, horizon_units, unmet_orders, is_short (for want of capacity) (n, 14). Of the plan date (n,): unlimited and
    recommended batches, limiting_resource_id, given_up (expected profit that capacity costs), what the rules decided, and
    the expected figures of the lines. values: of each batch made, as lists.
    """

    batches: np.ndarray
    horizon_units: np.ndarray
    unmet_orders: np.ndarray
    is_short: np.ndarray
    unlimited: np.ndarray
    recommended: np.ndarray
    limiting_resource_id: np.ndarray
    given_up: np.ndarray
    is_limited_by_min: np.ndarray
    is_limited_by_max: np.ndarray
    has_demand: np.ndarray
    optimal_units: np.ndarray
    waste_units: np.ndarray
    carried_units: np.ndarray
    values: np.ndarray
    problems: list[tuple]


class _Decisions:
    """Makes of every product on a day, those of the day and those that keep: what it is worth making, and what it brings."""

    def __init__(self, making: Making) -> None:
        self._making = making
        self.demand = making.demand
        self._fresh = np.flatnonzero(making.life_days == 1)
        fresh = making.demand.select(self._fresh)
        self._fresh_choice = best_batches(
            fresh,
            making.costs.select(self._fresh).for_each_day(),
            making.rules.select(self._fresh).for_each_day(),
            committed_units=making.orders_units[self._fresh],
        )
        self._shelves = _shelves_of(making)
        self._shelf_of = np.full(len(making.keys), -1)
        self._row_in_shelf = np.full(len(making.keys), -1)
        for number, (rows, _) in enumerate(self._shelves):
            self._shelf_of[rows], self._row_in_shelf[rows] = number, np.arange(len(rows))

    def choose(self, day: int) -> tuple[BatchChoice, np.ndarray]:
        """The batches worth making (n,) and the units of orders that have to be made (n,)."""
        count, can_make = len(self._making.keys), self._making.can_make[:, day]
        batches, ordered = np.zeros(count, dtype=np.int64), np.zeros(count)
        by_min, by_max = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        choice = self._fresh_choice
        batches[self._fresh] = choice.batches[:, day]
        ordered[self._fresh] = self._making.orders_units[self._fresh, day]
        by_min[self._fresh], by_max[self._fresh] = choice.is_limited_by_min[:, day], choice.is_limited_by_max[:, day]
        for rows, shelf in self._shelves:
            # Nobody looks at a tentative day on which nothing can be made.
            if day > 0 and not can_make[rows].any():
                continue
            shelf.open(day)
            ordered[rows] = shelf.ordered_units()
            choice = shelf.best_batches(ordered[rows])
            batches[rows], by_min[rows], by_max[rows] = (
                choice.batches,
                choice.is_limited_by_min,
                choice.is_limited_by_max,
            )
        return BatchChoice(np.where(can_make, batches, 0), by_min, by_max), np.where(can_make, ordered, 0)

    def gain(self, day: int, rows: np.ndarray, from_batches: np.ndarray, to_batches: np.ndarray) -> np.ndarray:
        """The expected gain of making `to_batches` instead of `from_batches` of rows (m,), which may be in steps (m, k).

        In money; of products without prices or costs in an estimate of it, see Making.money_scale.
        """
        making = self._making
        from_batches, to_batches = np.broadcast_arrays(from_batches, to_batches)
        gains = np.zeros(from_batches.shape)
        is_fresh = self._shelf_of[rows] < 0
        fresh, extra = rows[is_fresh], (1,) * (from_batches.ndim - 1)
        size = making.rules.batch_size_units[fresh].reshape(-1, *extra)
        from_fresh, to_fresh = from_batches[is_fresh], to_batches[is_fresh]
        fixed_cost = making.rules.batch_fixed_cost[fresh].reshape(-1, *extra)
        demand = self.demand.select((fresh, day))
        costs = making.costs.select(fresh)
        if extra:
            demand, costs = demand.select((slice(None), None)), costs.for_each_day()
        gains[is_fresh] = supply_gain(
            demand, from_fresh * size, to_fresh * size, costs, fixed_cost * (to_fresh - from_fresh)
        )
        for number in np.unique(self._shelf_of[rows[~is_fresh]]).tolist():
            is_here = self._shelf_of[rows] == number
            shelf, at = self._shelves[number][1], self._row_in_shelf[rows[is_here]]
            steps_from, steps_to = from_batches[is_here], to_batches[is_here]
            if not extra:
                gains[is_here] = shelf.gains(at, steps_from, steps_to)
            else:
                columns = [shelf.gains(at, low, high) for low, high in zip(steps_from.T, steps_to.T, strict=True)]
                gains[is_here] = np.array(columns).T
        return gains * making.money_scale[rows].reshape(-1, *extra)

    def unmet_orders(self, day: int, units: np.ndarray) -> np.ndarray:
        """Units (n,) of accepted orders of a day that it does not meet with the `units` made."""
        unmet = np.maximum(self._making.orders_units[:, day] - units, 0)
        for rows, shelf in self._shelves:
            unmet[rows] = shelf.unmet_orders(day, units[rows], self._making.can_make[rows, day])
        return np.where(unmet > 10.0**-ROUNDING, unmet, 0)

    def close(self, day: int, units: np.ndarray) -> None:
        """End a day on which `units` (n,) are made."""
        for rows, shelf in self._shelves:
            shelf.close(day, units[rows])

    def outlook(self, batches: np.ndarray, units: np.ndarray) -> dict[str, np.ndarray]:
        """What the plan date is expected to bring with the batches and units made (n,): figures of Days."""
        making, count = self._making, len(self._making.keys)
        today = self.demand.select((slice(None), 0))
        has_demand = today.highest > 0
        optimal, carried = optimal_quantity(today, making.costs), np.zeros(count)
        waste = today.expected_waste(units)
        values = np.empty(count, dtype=object)
        fresh = self._fresh
        values[fresh] = _listed(
            batch_marginal_values(
                today.select(fresh),
                batches[fresh],
                making.costs.select(fresh),
                making.rules.select(fresh),
                opening_units=np.zeros(len(fresh)),
            )
        )
        for rows, shelf in self._shelves:
            has_demand[rows] = shelf.has_demand()
            optimal[rows] = np.where(making.is_open[rows, 0], shelf.best_supply(), 0)
            waste[rows] = shelf.expected_outdating(units[rows])
            carried[rows] = shelf.expected_carried(units[rows])
            gains = np.round(shelf.batch_gains(int(batches[rows].max(initial=0))), ROUNDING).tolist()
            values[rows] = _listed([each[:made] for each, made in zip(gains, batches[rows].tolist(), strict=True)])
        return {
            "has_demand": has_demand,
            "optimal_units": optimal,
            "waste_units": waste,
            "carried_units": carried,
            "values": values,
        }


def _shelves_of(making: Making) -> list[tuple[np.ndarray, Shelf]]:
    """The products that keep, by their shelf life, in handy numbers: their rows and shelves."""
    known = making.can_make[:, DEMAND_DAYS]
    cover = cover_days(known)
    shelves = []
    kinds, kind = np.unique(np.stack([making.life_days, making.keeps], axis=1), axis=0, return_inverse=True)
    for number, (life, keeps) in enumerate(kinds.tolist()):
        if life == 1:
            continue
        of_kind = np.flatnonzero(kind.ravel() == number)
        for begin in range(0, len(of_kind), ROWS_AT_ONCE):
            rows = of_kind[begin : begin + ROWS_AT_ONCE]
            orders = np.zeros((len(rows), len(DEMAND_DAYS)))
            orders[:, :PLAN_DAYS] = making.orders_units[rows]
            walk_in = making.walk_in.select((rows[:, None], np.array(DEMAND_DAYS)))
            shelf = Shelf(
                walk_in.shifted(orders),
                orders,
                making.held_units[rows, :life],
                cover[rows],
                making.costs.select(rows),
                making.rules.select(rows),
                aging_cost=making.aging_cost[rows],
                keeps=bool(keeps),
            )
            shelves.append((rows, shelf))
    return shelves


def take_days(making: Making, limits: Limits | None, asked: Asked, held: Held | None = None) -> Days:
    """Each day's batches: what is worth making, what there is room for, what people set; and the stock of the next day."""
    count, rules = len(making.keys), making.rules
    decisions = _Decisions(making)
    batches, is_short = np.zeros((count, PLAN_DAYS), dtype=np.int64), np.zeros((count, PLAN_DAYS), dtype=bool)
    unmet = np.zeros((count, PLAN_DAYS))
    multiple = rules.batch_multiple.astype(np.int64)
    fewest = np.maximum(rules.fewest_steps, 1).astype(np.int64) * multiple
    of_plan_date: dict[str, np.ndarray] = {}
    problems: list[tuple] = []
    for day in range(PLAN_DAYS):
        choice, ordered = decisions.choose(day)
        wanted, fits = choice.batches, choice.batches
        limiting = np.full(count, None, dtype=object)
        if limits is not None:
            steps = np.ceil(np.round(ordered / rules.step_units, ROUNDING)).astype(np.int64)
            fit = limits.fit(
                day,
                wanted,
                fewest=fewest,
                multiple=multiple,
                committed=np.minimum(steps * multiple, wanted),
                gains_of=_gains_of(decisions, day, wanted, fewest, multiple),
            )
            fits, limiting = fit.batches, fit.limiting_resource_id
            problems += fit.problems
        if day == 0 and held is not None:
            is_held = fits > held.most
            steps_held = np.floor_divide(np.minimum(held.most, fits) - fewest, multiple)
            fits = np.where(is_held, np.where(steps_held >= 0, fewest + steps_held * multiple, 0), fits)
            limiting = np.where(is_held, held.resource_id, limiting)
        is_short[:, day] = fits < wanted
        batches[:, day] = np.where(asked.is_set, asked.batches, fits) if day == 0 else fits
        units = np.round(batches[:, day] * rules.batch_size_units, ROUNDING)
        if day == 0:
            given_up = np.zeros(count)
            short = np.flatnonzero(is_short[:, 0])
            given_up[short] = decisions.gain(0, short, fits[short], wanted[short])
            of_plan_date = {
                "unlimited": wanted,
                "recommended": fits,
                "limiting_resource_id": limiting,
                "given_up": given_up,
                "is_limited_by_min": choice.is_limited_by_min,
                "is_limited_by_max": choice.is_limited_by_max,
                **decisions.outlook(batches[:, 0], units),
            }
        unmet[:, day] = decisions.unmet_orders(day, units)
        decisions.close(day, units)
    horizon_units = np.round(batches * rules.batch_size_units[:, None], ROUNDING)
    return Days(batches, horizon_units, unmet, is_short, **of_plan_date, problems=problems)


def _gains_of(
    decisions: _Decisions, day: int, wanted: np.ndarray, fewest: np.ndarray, multiple: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """What capacity asks for: of rows, the gains of the first step of `fewest` batches and of those after it (m, k)."""

    def gains(rows: np.ndarray) -> np.ndarray:
        most, first, more = wanted[rows], np.minimum(fewest[rows], wanted[rows]), multiple[rows]
        steps = max(int((1 + np.ceil((most - first) / more)).max(initial=1)), 1)
        ends = np.minimum(first[:, None] + np.arange(steps) * more[:, None], most[:, None])
        starts = np.concatenate([np.zeros((len(rows), 1), dtype=np.int64), ends[:, :-1]], axis=1)
        return np.where(ends > starts, decisions.gain(day, rows, starts, ends), -np.inf)

    return gains


def _listed(lists: list[list[float]]) -> np.ndarray:
    """Lists as the elements of an array."""
    listed = np.empty(len(lists), dtype=object)
    listed[:] = lists
    return listed
