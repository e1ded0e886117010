"""How much to make of what is sold for more than a day: what it adds to the sales, and what outdates, by its age.

What belongs here: stock by age under a demand of planning.distributions, and decisions with the money of newsvendor.
What does not: rows, calendars and master data (see production), and lots of ingredients (see lots).

Customers take the oldest first (FIFO). What can be sold for `m` days is sold on the day it is made and through day m;
what is left then has outdated. Stock is told by the days it can still be sold: X_j are the units at hand that can be
sold through day j at the latest, counted from today as day 1, so that X_m is all of it.

The queue of units moves by what is sold and by what outdates. With D_j the demand of day j and V_0 = 0,

    W_j = V_(j-1) + D_j            how far the customers of day j reach into the queue
    V_j = max(W_j, X_j)            what has left it by the end of day j: sold, or too old

so that max(X_j - W_j, 0) outdates at the end of day j. It follows that, of y units made today and put behind X_m,

    (y - T)+   outdates at the end of day m, T = (W_m - X_m)+   (m = 2, x old: (y - (D1 - x)+ - D2)+)
    (U - y)+   is asked for in vain through day c,  U = W_c - X_m

whatever is made later, because that stands further back in the queue. So a decision on y needs two distributions and
nothing else: the newsvendor, whose demand is U for what it sells and T for what it keeps from outdating.

The worth of the k-th batch of q units, F its fixed cost. It is made today instead of waiting for the next day on which
the product can be made, c days on (c at most m: the cover period). Then a unit of it
  - sells within the cover period, where without it nobody had been served: Cu;
  - outdates: -Co;
  - or sells later. A unit made then had stood in its place, so it saves what that had cost.
What is saved is the cost of a unit and the share of what making such units costs beyond: a run of r units (the fewest
that are made), of which O outdate when it is alone on the shelf, sells r - O units and loses Co O + its fixed cost. Per
unit sold later this is v = (F_r + Co O) / (r - O), at most Cu, since one would rather not make the unit than pay more.

But it is c days older than that unit would be, and loses h of its worth with each. So it saves w = v - h c, at least -Co,
as at the worst it is given away for its salvage.

    gain_k = (Cu - w) dS_k - (Co + w) dO_k + w q - F,
    dS_k = E(U - (k-1) q)+ - E(U - k q)+    units sold sooner,   dO_k = E(k q - T)+ - E((k-1) q - T)+    units outdated

dS falls and dO grows with k and -Co <= w <= Cu, so gains fall with k. If m = 1, then U = T = D, dS + dO = q, w cancels
out and gain_k = (Cu + Co) dS_k - Co q - F: the one-day rule of newsvendor. Where batches are small beside a day's demand
O is 0, v = F / q and for h = 0 gain_k = Cu dS_k - Co dO_k - F (dS_k + dO_k) / q: a fixed cost is lost on what sells
sooner or outdates, and saved later on the rest; with h > 0 what is made daily is made up to the share Cu / (Cu + h) of a
day's demand, and not to the last unit that anybody may ask for. Where one batch is more than its whole life sells, gain_1
is the share of that life's profit that falls to the cover period (h = 0); with v = 0 such a batch, made in vain only if
it is not made again and again, would never be made.

An expectation over U and T is exact for discrete demand, by adding up all outcomes. For quantile curves it is taken over
some paths of independent days: the points of a lattice rule (Sloan & Joe, Lattice Methods for Multiple Integration), the
same for every product and tenant. Each day's demand takes each of its strata once, and any run of days is laid out
alike, so a plan depends neither on a seed nor on what else is planned with it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from planning.distributions import DiscreteDemand, QuantileDemand
from planning.frames import PLAN_DAYS, ROUNDING
from planning.newsvendor import GAIN_TOLERANCE, BatchChoice, BatchRules, UnitCosts, choose_batches

PATHS = 257
"""Paths of a demand over days, for the plan date; a prime, so that every day's strata are visited once each."""

TENTATIVE_PATHS = 101
"""The same for the days after it, which are planned again before they are made."""

LATTICE_STEPS = {PATHS: 20, TENTATIVE_PATHS: 18}
"""From one day's strata to the next. Of all steps those whose sums over 2 to 14 days come nearest to those of normal and
exponential demand: mean overshoots within 0.3 % of a standard deviation for 2 and 3 days and 1.5 % for up to 14, and within
1 and 3.5 % on the days after."""

LONGEST_LIFE_DAYS = PLAN_DAYS
"""What keeps for longer is weighed over so many days: what two weeks of demand do not take is not worth making."""


# ---------------------------------------------------------------- exact, for discrete demand


def expected_outdating(
    demand: DiscreteDemand | Sequence[DiscreteDemand], old_units: ArrayLike, new_units: float
) -> np.ndarray:
    """Units expected to outdate at the end of each day of the life of what is made today, exact.

    demand: of every day alike, or one per day. old_units: (m - 1,) units at hand that can be sold through day 1, 2, …,
    m - 1. new_units are sold through day m. Returns (m,); the last entry is the outdating of the new units. Nothing made
    later changes it, since the oldest are sold first. Every outcome of the days is added up, so there is no sampling.

    Raises ValueError unless there is one demand for each of the m days, and for stock below zero.
    """
    by_age = np.append(np.asarray(old_units, dtype=float), new_units)
    if not (by_age >= 0).all():
        raise ValueError("units at hand and made must not be negative")
    held = np.cumsum(by_age)
    days = [demand] * len(held) if isinstance(demand, DiscreteDemand) else list(demand)
    if len(days) != len(held):
        raise ValueError(f"{len(held)} days of life need as many demands, got {len(days)}")
    removed: np.ndarray = np.zeros(1)
    chance: np.ndarray = np.ones(1)
    outdated = []
    for units, of_day in zip(held, days, strict=True):
        reached, at = np.unique(np.add.outer(removed, of_day.points), return_inverse=True)
        joint = np.multiply.outer(chance, of_day.probabilities)
        chance = np.bincount(at.ravel(), weights=joint.ravel(), minlength=len(reached))
        outdated.append(float(chance @ np.maximum(units - reached, 0)))
        removed = np.maximum(reached, units)
    return np.array(outdated)


# ---------------------------------------------------------------- paths of quantile curves


def path_shares(day: int, paths: int = PATHS) -> np.ndarray:
    """The share of demand on each path (paths,) on a day, counted from any first day: each stratum's middle once.

    paths: one of LATTICE_STEPS. Path 0 is the median of every day, and paths i and n - i mirror each other around it.
    """
    ranks = (np.arange(paths) * pow(LATTICE_STEPS[paths], day, paths) + paths // 2) % paths
    return (ranks + 0.5) / paths


def path_units(demand: QuantileDemand, day: int, paths: int = PATHS) -> np.ndarray:
    """Units asked for on each path of one day's demands (n,): (n, paths)."""
    shares, knots = path_shares(day, paths), demand.knot_shares
    left = np.searchsorted(knots, shares, side="right") - 1
    part = (shares - knots[left]) / (knots[left + 1] - knots[left])
    # Paths lie side by side in memory, so that sums over them add up in the same order whatever else is planned.
    knot_units = np.ascontiguousarray(demand.knot_units)
    from_units = knot_units.take(left, axis=1)
    return from_units + part * (knot_units.take(left + 1, axis=1) - from_units)


@dataclass(frozen=True)
class Outlook:
    """What a day's decision needs to know of n products, on each of the paths or outcomes (n, P).

    short_units (U): asked for in vain before it can be made again, if none is made today; below 0: to spare.
    taken_units (T): of what is made today, so much finds a buyer within its life; more outdates.
    lone_taken_units: the same for what is made for an empty shelf.
    old_waste_by_day (n, m): expected outdating of what is at hand at the end of each day.
    cover_days (n,): until it can be made again, at most its life.
    probabilities: (P,) of the outcomes; None: all alike.
    """

    short_units: np.ndarray
    taken_units: np.ndarray
    lone_taken_units: np.ndarray
    old_waste_by_day: np.ndarray
    cover_days: np.ndarray
    probabilities: np.ndarray | None = None

    @property
    def old_waste_units(self) -> np.ndarray:
        """Expected outdating of what is at hand (n,)."""
        return self.old_waste_by_day.sum(axis=1)

    def select(self, rows: np.ndarray) -> "Outlook":
        """The outlook of some products."""
        return Outlook(
            self.short_units[rows],
            self.taken_units[rows],
            self.lone_taken_units[rows],
            self.old_waste_by_day[rows],
            self.cover_days[rows],
            self.probabilities,
        )

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """Units expected to be asked for in vain within the cover period if `units` (n,) are made today."""
        return self._mean(np.maximum(self.short_units - np.asarray(units)[..., None], 0))

    def expected_outdating(self, units: ArrayLike) -> np.ndarray:
        """Of `units` (n,) made today, those expected to outdate."""
        return self._mean(np.maximum(np.asarray(units)[..., None] - self.taken_units, 0))

    def sold_sooner(self, from_units: np.ndarray, to_units: np.ndarray) -> np.ndarray:
        """dS: units that making `to_units` instead of `from_units` is expected to sell within the cover period."""
        above = self.short_units - from_units[:, None]
        return self._mean(np.minimum(np.maximum(above, 0, out=above), (to_units - from_units)[:, None], out=above))

    def outdated(self, from_units: np.ndarray, to_units: np.ndarray) -> np.ndarray:
        """dO: units by which making `to_units` instead of `from_units` is expected to outdate more."""
        above = to_units[:, None] - self.taken_units
        return self._mean(np.minimum(np.maximum(above, 0, out=above), (to_units - from_units)[:, None], out=above))

    def lone_outdating(self, units: np.ndarray) -> np.ndarray:
        """O: of `units` (n,) made for an empty shelf, those expected to outdate."""
        return self._mean(np.maximum(units[:, None] - self.lone_taken_units, 0))

    def _mean(self, values: np.ndarray) -> np.ndarray:
        if self.probabilities is None:
            return values.sum(axis=-1) / values.shape[-1]
        return (values * self.probabilities).sum(axis=-1)


def outlook_of(
    demand_paths: Sequence[np.ndarray],
    held_units: np.ndarray,
    cover_days: np.ndarray,
    probabilities: np.ndarray | None = None,
) -> Outlook:
    """The outlook at the opening of day 1.

    demand_paths: for each of the m days of life, units asked for (n, P). held_units: (n, m) at hand that can be sold for
    1, 2, …, m more days, today counted. cover_days: (n,) from 1: days until it can be made again, at most m count.
    """
    life = len(demand_paths)
    by_age = np.cumsum(held_units, axis=1)
    cover = np.minimum(cover_days, life)
    short = reached = demand_paths[0]
    lone = demand_paths[0]
    old_waste = np.zeros(held_units.shape)
    for day in range(1, life):
        limit = by_age[:, day - 1, None]
        removed = np.maximum(reached, limit)
        old_waste[:, day - 1] = _weighted(removed - reached, probabilities)
        reached = removed + demand_paths[day]
        lone = lone + demand_paths[day]
        is_covered = cover > day
        short = reached if is_covered.all() else np.where(is_covered[:, None], reached, short)
    all_held = by_age[:, -1:]
    # What is at hand may itself be sold through day m: then what is left of it outdates on that evening.
    old_waste[:, -1] = _weighted(np.maximum(all_held - reached, 0), probabilities)
    taken = np.maximum(reached - all_held, 0)
    return Outlook(short - all_held, taken, lone, old_waste, cover, probabilities)


# ---------------------------------------------------------------- what to make


def carried_value(outlook: Outlook, costs: UnitCosts, rules: BatchRules, aging_cost: ArrayLike = 0.0) -> np.ndarray:
    """w (n,): what a unit that sells after the cover period saves beyond its own cost. See the module's derivation.

    aging_cost: h, money that a unit is worth less with each day that it is older.
    """
    runs = np.maximum(rules.fewest_steps, 1)
    run_units, run_cost = runs * rules.step_units, runs * rules.step_fixed_cost
    wasted = outlook.lone_outdating(run_units)
    sold = run_units - wasted
    beyond = np.divide(run_cost + costs.overage * wasted, sold, out=np.full(sold.shape, np.inf), where=sold > 0)
    return np.maximum(np.minimum(beyond, costs.underage) - aging_cost * outlook.cover_days, -np.asarray(costs.overage))


def step_gain(
    outlook: Outlook,
    costs: UnitCosts,
    carried: np.ndarray,
    *,
    from_units: np.ndarray,
    to_units: np.ndarray,
    fixed_cost: np.ndarray,
) -> np.ndarray:
    """The expected gain in money of making `to_units` (n,) instead of `from_units`, of which `fixed_cost` is spent.

    carried: w of carried_value.
    """
    return (
        (costs.underage - carried) * outlook.sold_sooner(from_units, to_units)
        - (costs.overage + carried) * outlook.outdated(from_units, to_units)
        + carried * (to_units - from_units)
        - fixed_cost
    )


def best_batches_to_keep(
    outlook: Outlook,
    costs: UnitCosts,
    rules: BatchRules,
    *,
    aging_cost: ArrayLike = 0.0,
    ordered_units: ArrayLike = 0.0,
    near_units: np.ndarray | None = None,
    carried: np.ndarray | None = None,
) -> BatchChoice:
    """The number of batches while the next gains, of those that the rules allow, for products sold for several days.

    costs and rules hold one value per product (n,), and so does aging_cost (see carried_value). ordered_units: units of
    accepted orders of the cover period that the stock at hand does not meet; they are made whatever they earn.
    near_units (n,), where to look first, and carried, if carried_value is known, save time and change nothing. See
    newsvendor.best_batches for the rules.
    """
    stake = costs.underage + costs.overage
    least = GAIN_TOLERANCE * stake * rules.step_units
    carried = carried_value(outlook, costs, rules, aging_cost) if carried is None else carried
    near = best_quantity_to_keep(outlook, costs, aging_cost) if near_units is None else near_units
    is_fewest_worth_it = np.False_
    if rules.fewest_steps.any():
        gain_of_fewest = step_gain(
            outlook,
            costs,
            carried,
            from_units=np.zeros(len(carried)),
            to_units=rules.fewest_steps * rules.step_units,
            fixed_cost=rules.fewest_steps * rules.step_fixed_cost,
        )
        is_fewest_worth_it = gain_of_fewest > least
    return choose_batches(
        rules,
        gainful_steps=_gainful_steps(outlook, costs, rules, carried, least, near),
        ordered_units=np.asarray(ordered_units, dtype=float),
        is_fewest_worth_it=is_fewest_worth_it,
    )


def batch_gains(outlook: Outlook, costs: UnitCosts, rules: BatchRules, carried: np.ndarray, most: int) -> np.ndarray:
    """The gain of the 1st, 2nd, … of `most` batches, one batch at a time (n, most). See step_gain.

    Paths are counted by the batch that they end in, so that all batches cost no more than one pass over the paths.
    """
    size = rules.batch_size_units[:, None]
    numbers = np.arange(most + 1)
    count, units = _by_batch(outlook.short_units, size, most, outlook.probabilities)
    above_count, above_units = (values[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] for values in (count, units))
    lost = above_units - above_count * numbers * size
    count, units = _by_batch(outlook.taken_units, size, most, outlook.probabilities)
    below_count, below_units = (values.cumsum(axis=1)[:, :-1] for values in (count, units))
    outdated = below_count * numbers * size - below_units
    underage, overage = np.broadcast_arrays(costs.underage, costs.overage)
    return (
        (underage - carried)[:, None] * -np.diff(lost, axis=1)
        - (overage + carried)[:, None] * np.diff(outdated, axis=1)
        + carried[:, None] * size
        - rules.batch_fixed_cost[:, None]
    )


def _by_batch(
    units: np.ndarray, size: np.ndarray, most: int, probabilities: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Probability and expected units (n, most + 2) by whole batches in the units: below 0, 0, 1, …, `most` or more."""
    rows, paths = units.shape
    chance = np.full(paths, 1 / paths) if probabilities is None else probabilities
    number = np.clip(np.floor(units / size), -1, most).astype(np.int64) + 1
    cell = (number + np.arange(rows)[:, None] * (most + 2)).ravel()
    chances = np.broadcast_to(chance, units.shape)
    shape, cells = (rows, most + 2), rows * (most + 2)
    return (
        np.bincount(cell, chances.ravel(), minlength=cells).reshape(shape),
        np.bincount(cell, (units * chances).ravel(), minlength=cells).reshape(shape),
    )


def best_quantity_to_keep(outlook: Outlook, costs: UnitCosts, aging_cost: ArrayLike = 0.0) -> np.ndarray:
    """Units (n,) to make today if any quantity could be made, at no cost but that of its units.

    The smallest y with Cu <= (Cu - w) P(U <= y) + (Co + w) P(T <= y), w = -h c: from there on a unit more is too likely
    to outdate, or to sell when it is old, for what it may sell sooner.
    """
    points = np.concatenate([outlook.short_units, outlook.taken_units], axis=1)
    count = outlook.short_units.shape[1]
    chance = np.full(count, 1 / count) if outlook.probabilities is None else outlook.probabilities
    aged = np.minimum(aging_cost * outlook.cover_days, costs.overage)
    underage, sooner, too_old = np.broadcast_arrays(costs.underage, costs.underage + aged, costs.overage - aged)
    weights = np.concatenate([sooner[:, None] * chance, too_old[:, None] * chance], axis=1)
    order = np.argsort(points, axis=1, kind="stable")
    reached = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    first = np.argmax(reached >= underage[:, None] * (1 - 1e-12), axis=1)
    at = np.take_along_axis(points, np.take_along_axis(order, first[:, None], axis=1), axis=1)[:, 0]
    return np.maximum(at, 0)


def _gainful_steps(
    outlook: Outlook, costs: UnitCosts, rules: BatchRules, carried: np.ndarray, least: np.ndarray, near: np.ndarray
) -> np.ndarray:
    """How many steps gain, one after the other (n,).

    None beyond what the busiest path asks for within the cover period gains: it would only carry over or outdate. As
    gains fall, the last that gains is looked for near `near` units, in widening strides, and then by halves.
    """
    step = rules.step_units
    high = np.maximum(np.ceil(np.round(outlook.short_units.max(axis=1, initial=0) / step, ROUNDING)), 0)
    low = np.zeros(len(high))
    probe = np.clip(np.floor(near / step) + 1, 1, np.maximum(high, 1))
    stride, side = np.ones(len(high)), np.zeros(len(high), dtype=np.int8)
    while len(rows := np.flatnonzero(low < high)):
        is_part = len(rows) < len(high)
        part = outlook.select(rows) if is_part else outlook
        k = probe[rows]
        gain = step_gain(
            part,
            costs.select(rows),
            carried[rows],
            from_units=(k - 1) * step[rows],
            to_units=k * step[rows],
            fixed_cost=rules.step_fixed_cost[rows],
        )
        gains = gain > least[rows]
        low[rows], high[rows] = np.where(gains, k, low[rows]), np.where(gains, high[rows], k - 1)
        went = np.where(gains, 1, -1)
        has_turned = (side[rows] != 0) & (side[rows] != went)
        side[rows] = np.where(has_turned, 2, np.where(side[rows] == 2, 2, went))
        outward = np.where(gains, low[rows] + stride[rows], high[rows] - stride[rows] + 1)
        halfway = np.ceil((low[rows] + high[rows]) / 2)
        probe[rows] = np.clip(np.where(side[rows] == 2, halfway, outward), low[rows] + 1, high[rows])
        stride[rows] *= 2
    return low


def _weighted(values: np.ndarray, probabilities: np.ndarray | None) -> np.ndarray:
    if probabilities is None:
        return values.sum(axis=-1) / values.shape[-1]
    return (values * probabilities).sum(axis=-1)


# ---------------------------------------------------------------- stock from day to day


def cover_days(can_make: np.ndarray) -> np.ndarray:
    """From each day (n, days) the days until the next on which it can be made; from the last, as many as there are."""
    days = can_make.shape[1]
    cover = np.empty(can_make.shape, dtype=np.int64)
    cover[:, -1] = days
    for day in range(days - 2, -1, -1):
        cover[:, day] = np.where(can_make[:, day + 1], 1, cover[:, day + 1] + 1)
    return cover


def close_day(held_units: np.ndarray, demand: QuantileDemand, keeps: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Expected stock of the next opening, and what is expected to outdate tonight (n,).

    held_units: (n, m) that can be sold for 1, 2, …, m more days, today and what is made today counted. demand: (n,), of
    today. keeps: what can be sold for m days or more does not grow older. The oldest are sold first, so that
    E(X_j - D)+ is left of the units that can be sold through day j.
    """
    left = demand.select((slice(None), None)).expected_waste(np.cumsum(held_units, axis=1))
    by_age = np.maximum(np.diff(left, axis=1, prepend=0.0), 0)
    return _a_day_older(by_age, keeps), by_age[:, 0]


def _a_day_older(by_age: np.ndarray, keeps: bool) -> np.ndarray:
    """Stock by days left (n, m), on the day after."""
    following = np.zeros(by_age.shape)
    following[:, :-1] = by_age[:, 1:]
    if keeps:
        following[:, -2], following[:, -1] = 0.0, by_age[:, -1]
    return following


class Shelf:
    """Products of one shelf life, from day to day: what is at hand, and what is to be made.

    Days are taken in order, and each is closed; one of which nothing is asked need not be opened. Stock of the days after
    the first is the expected one: what is left of the expected stock of the day before, and of what was made then.
    """

    def __init__(
        self,
        demand: QuantileDemand,
        orders_units: np.ndarray,
        held_units: np.ndarray,
        cover_days: np.ndarray,
        costs: UnitCosts,
        rules: BatchRules,
        *,
        aging_cost: ArrayLike = 0.0,
        keeps: bool = False,
    ) -> None:
        """Of n products, one row each.

        demand: (n, days) with orders, orders_units: (n, days), for as many days as plans are made for and a life beyond.
        held_units: (n, m) at hand on the first day that can be sold for 1, 2, …, m more days. cover_days: (n, days).
        costs, rules, aging_cost (see carried_value): one value per product. keeps: what can be sold for m days
        or more does not grow older, and is not expected to outdate.
        """
        self.held_units = held_units
        self.life = held_units.shape[1]
        self._demand, self._orders_units, self._cover_days = demand, orders_units, cover_days
        self._costs, self._rules, self._aging_cost, self._keeps = costs, rules, aging_cost, keeps
        self._day = -1
        self._kept_for_orders = held_units
        self._paths: deque[np.ndarray] = deque(maxlen=self.life)
        self._path_count = PATHS
        self._outlook: Outlook
        self._carried: np.ndarray
        self._best_units: np.ndarray | None = None
        self._usual_supply: np.ndarray | None = None

    def open(self, day: int) -> None:
        """Look at a day, the one after that closed last, and at what can happen to what is made then."""
        count = PATHS if day == 0 else TENTATIVE_PATHS
        if count != self._path_count:
            self._paths.clear()
            self._path_count = count
        first_unknown = self._day + len(self._paths) if self._paths else day
        for following in range(first_unknown, day + self.life):
            self._paths.append(path_units(self._demand.select((slice(None), following)), following, count))
        self._day, self._best_units = day, None
        self._outlook = outlook_of(tuple(self._paths), self.held_units, self._cover_days[:, day])
        self._carried = carried_value(self._outlook, self._costs, self._rules, self._aging_cost)

    def ordered_units(self) -> np.ndarray:
        """Units of accepted orders until it can be made again that stock does not meet, if nobody else buys any (n,)."""
        of_life = self._orders_units[:, self._day : self._day + self.life]
        if not of_life.any():
            return np.zeros(len(of_life))
        orders = [units[:, None] for units in of_life.T]
        short = outlook_of(orders, self.held_units, self._cover_days[:, self._day]).short_units[:, 0]
        return np.maximum(short, 0)

    def best_batches(self, ordered_units: np.ndarray) -> BatchChoice:
        """The batches to make today. ordered_units: see the method of that name."""
        at_hand = self.held_units.sum(axis=1)
        choice = best_batches_to_keep(
            self._outlook,
            self._costs,
            self._rules,
            ordered_units=ordered_units,
            near_units=self._best_quantity() if self._usual_supply is None else self._usual_supply - at_hand,
            carried=self._carried,
        )
        self._usual_supply = at_hand + choice.batches * self._rules.batch_size_units
        return choice

    def best_supply(self) -> np.ndarray:
        """Units (n,) of the best supply if any quantity could be made, stock at hand included."""
        return self.held_units.sum(axis=1) + self._best_quantity()

    def _best_quantity(self) -> np.ndarray:
        if self._best_units is None:
            self._best_units = best_quantity_to_keep(self._outlook, self._costs, self._aging_cost)
        return self._best_units

    def has_demand(self) -> np.ndarray:
        """Whether anybody may ask for it before it can be made again (n,)."""
        most = self._outlook.short_units.max(axis=1, initial=-np.inf) + self.held_units.sum(axis=1)
        return most > 10.0**-ROUNDING

    def gains(self, rows: np.ndarray, from_batches: np.ndarray, to_batches: np.ndarray) -> np.ndarray:
        """The expected gain, in the money of the costs, of making `to_batches` instead of `from_batches` of some rows."""
        size = self._rules.batch_size_units[rows]
        return step_gain(
            self._outlook.select(rows),
            self._costs.select(rows),
            self._carried[rows],
            from_units=from_batches * size,
            to_units=to_batches * size,
            fixed_cost=self._rules.batch_fixed_cost[rows] * (to_batches - from_batches),
        )

    def batch_gains(self, most: int) -> np.ndarray:
        """The expected gain of the 1st, 2nd, … of `most` batches, in the money of the costs (n, most)."""
        return batch_gains(self._outlook, self._costs, self._rules, self._carried, most)

    def expected_outdating(self, units: np.ndarray) -> np.ndarray:
        """Of what is at hand and `units` (n,) made today, those expected to outdate in their life."""
        if self._keeps:
            return self._outlook.old_waste_units - self._unsold_in_the_end()
        return self._outlook.old_waste_units + self._outlook.expected_outdating(units)

    def expected_carried(self, units: np.ndarray) -> np.ndarray:
        """Units expected to be left tonight that can be sold tomorrow, of what is at hand and `units` made today."""
        return self._closing(self._day, units).sum(axis=1)

    def unmet_orders(self, day: int, units: np.ndarray, can_make: np.ndarray) -> np.ndarray:
        """Units ordered for a day (n,) that neither stock nor the `units` made then meet, orders being kept for.

        What was at hand and made when it was last made is first for the orders until it can be made again.
        """
        stock = np.where(can_make[:, None], self.held_units, self._kept_for_orders)
        stock[:, -1] += units
        ordered = self._orders_units[:, day]
        left = np.maximum(np.cumsum(stock, axis=1) - ordered[:, None], 0)
        self._kept_for_orders = _a_day_older(np.diff(left, axis=1, prepend=0.0), self._keeps)
        return np.maximum(ordered - stock.sum(axis=1), 0)

    def close(self, day: int, units: np.ndarray) -> None:
        """End a day, on which `units` (n,) were made."""
        self.held_units = self._closing(day, units)

    def _closing(self, day: int, units: np.ndarray) -> np.ndarray:
        stock = self.held_units.copy()
        stock[:, -1] += units
        return close_day(stock, self._demand.select((slice(None), day)), self._keeps)[0]

    def _unsold_in_the_end(self) -> np.ndarray:
        """What of the stock at hand outlasts all the days looked at: it keeps."""
        return self._outlook.old_waste_by_day[:, -1]
