"""How much to make of what is sold within a day: the newsvendor and its batches.

What belongs here: decisions under a demand of planning.distributions, with prices and costs. What does not: rows,
calendars and master data (see production).

Notation of the formulas, as in Snyder & Shen, Fundamentals of Supply Chain Theory, chapter 4, and Cachon & Terwiesch,
Matching Supply with Demand: a unit sells for `price`, costs `cost`, brings `salvage` when left over and `goodwill` is
lost with each unit asked for in vain. Then Cu = price - cost + goodwill is the cost of being one unit short (underage)
and Co = cost - salvage that of being one unit over (overage). Arguments broadcast against the demand's leading shape.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from planning.distributions import Demand, QuantileDemand
from planning.frames import ROUNDING

GAIN_TOLERANCE = 1e-9
"""A batch is worth making when it gains more than this share of what a batch can gain: a tie wastes nothing."""

POINTS_AT_ONCE = 250_000
"""Points evaluated together when values of single batches are listed; bounds the memory of small batch sizes."""


@dataclass(frozen=True)
class UnitCosts:
    """Cu and Co in money per unit, numbers or arrays. The newsvendor needs both above zero."""

    underage: Any
    overage: Any

    def __post_init__(self) -> None:
        """Take any array-like."""
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))

    @property
    def ratio(self) -> np.ndarray:
        """Cu / (Cu + Co), the probability with which the best quantity meets demand."""
        return self.underage / (self.underage + self.overage)

    def for_each_day(self) -> "UnitCosts":
        """These costs for demands that have a last axis of days: (n,) becomes (n, 1)."""
        return UnitCosts(self.underage[..., None], self.overage[..., None])

    def select(self, rows: Any) -> "UnitCosts":
        """The costs of some rows."""
        return UnitCosts(self.underage[rows], self.overage[rows])


def unit_costs(price: ArrayLike, cost: ArrayLike, salvage: ArrayLike = 0.0, goodwill: ArrayLike = 0.0) -> UnitCosts:
    """Cu = price - cost + goodwill and Co = cost - salvage; NaN where an input is missing."""
    price, cost, salvage, goodwill = (np.asarray(money, dtype=float) for money in (price, cost, salvage, goodwill))
    return UnitCosts(price - cost + goodwill, cost - salvage)


def critical_ratio(
    price: ArrayLike, cost: ArrayLike, salvage: ArrayLike = 0.0, goodwill: ArrayLike = 0.0
) -> np.ndarray:
    """Cu / (Cu + Co). NaN where there is none: an input is missing, Cu <= 0 (a unit sold earns nothing) or Co <= 0 (one
    left over costs nothing).
    """
    costs = unit_costs(price, cost, salvage, goodwill)
    has_ratio = (costs.underage > 0) & (costs.overage > 0)
    return np.divide(
        costs.underage, costs.underage + costs.overage, out=np.full(has_ratio.shape, np.nan), where=has_ratio
    )


def optimal_quantity(demand: Demand, costs: UnitCosts) -> np.ndarray:
    """Q* = the smallest units with F(Q) >= Cu / (Cu + Co), before batches. Of equally good quantities the smaller.

    NaN where a cost is unknown. Raises ValueError where one is below zero or both are 0: then no quantity is best.
    """
    _require_stake(costs)
    return demand.quantile(costs.ratio)


def expected_mismatch_cost(demand: Demand, quantity: ArrayLike, underage: ArrayLike, overage: ArrayLike) -> np.ndarray:
    """Cu lost + Co waste, the cost that Q* makes least: what not knowing demand is expected to cost in money.

    With p, h of Snyder & Shen (stockout and holding cost): underage = p and overage = h.
    """
    return np.asarray(underage) * demand.expected_lost(quantity) + np.asarray(overage) * demand.expected_waste(quantity)


def expected_profit(
    demand: Demand,
    quantity: ArrayLike,
    price: ArrayLike,
    cost: ArrayLike,
    salvage: ArrayLike = 0.0,
    goodwill: ArrayLike = 0.0,
) -> np.ndarray:
    """(price - cost) sales - (cost - salvage) waste - goodwill lost, in money. See Outcome.profit."""
    return outcome_of(demand, quantity).profit(price, cost, salvage, goodwill)


def fill_rate(demand: Demand, quantity: ArrayLike) -> np.ndarray:
    """The share of the units asked for that are sold: 1 - lost / mean, and 1 where nothing is asked for."""
    lost, mean = np.broadcast_arrays(demand.expected_lost(quantity), demand.mean)
    return 1 - np.divide(lost, mean, out=np.zeros(mean.shape), where=mean > 0)


def in_stock_probability(demand: Demand, quantity: ArrayLike) -> np.ndarray:
    """F(Q), the probability that nobody asks in vain."""
    return demand.cdf(quantity)


@dataclass(frozen=True)
class Outcome:
    """What is expected of a quantity: units sold, left over, and asked for in vain."""

    sales_units: np.ndarray
    waste_units: np.ndarray
    lost_units: np.ndarray

    def profit(
        self, price: ArrayLike, cost: ArrayLike, salvage: ArrayLike = 0.0, goodwill: ArrayLike = 0.0
    ) -> np.ndarray:
        """(price - cost) sales - (cost - salvage) waste - goodwill lost; NaN where price or cost is missing."""
        overage = unit_costs(price, cost, salvage).overage
        margin = unit_costs(price, cost).underage
        return margin * self.sales_units - overage * self.waste_units - np.asarray(goodwill) * self.lost_units


def outcome_of(demand: Demand, quantity: ArrayLike) -> Outcome:
    """The expected outcome of a quantity in units. Sales are what is asked for less what is asked for in vain."""
    lost = demand.expected_lost(quantity)
    return Outcome(np.maximum(demand.mean - lost, 0), demand.expected_waste(quantity), lost)


@dataclass(frozen=True)
class BatchRules:
    """In which quantities a product is made. Each field broadcasts against the demand's leading shape.

    batch_size_units > 0; batch_min: fewest batches if any is made; batch_multiple: batches made together, whole, >= 1;
    batch_max: most batches a day, infinity for no limit; batch_fixed_cost: money per batch made.
    """

    batch_size_units: Any
    batch_min: Any = 0.0
    batch_multiple: Any = 1.0
    batch_max: Any = np.inf
    batch_fixed_cost: Any = 0.0

    def __post_init__(self) -> None:
        """Take any array-like. Raise ValueError for rules by which nothing can be made."""
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if not (self.batch_size_units > 0).all():
            raise ValueError("batch_size_units must be above 0")
        if not ((self.batch_multiple >= 1) & (self.batch_multiple == np.floor(self.batch_multiple))).all():
            raise ValueError("batch_multiple must be a whole number of batches from 1")
        if not ((self.batch_min >= 0).all() and (self.batch_max >= 0).all() and (self.batch_fixed_cost >= 0).all()):
            raise ValueError("batch_min, batch_max and batch_fixed_cost must not be negative")

    def for_each_day(self) -> "BatchRules":
        """These rules for demands that have a last axis of days: fields (n,) become (n, 1)."""
        return BatchRules(*(getattr(self, name)[..., None] for name in self.__dataclass_fields__))

    def select(self, rows: Any) -> "BatchRules":
        """The rules of some rows of fields that hold one value per row."""
        return BatchRules(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @property
    def step_batches(self) -> np.ndarray:
        """Batches that are added at a time."""
        return self.batch_multiple

    @property
    def step_units(self) -> np.ndarray:
        """Units that are added at a time."""
        return self.batch_size_units * self.batch_multiple

    @property
    def step_fixed_cost(self) -> np.ndarray:
        """Money per step, whatever becomes of its units."""
        return self.batch_fixed_cost * self.batch_multiple

    @property
    def fewest_steps(self) -> np.ndarray:
        """Steps that are made if any is; 0 where there is no minimum."""
        return np.ceil(self.batch_min / self.batch_multiple)

    @property
    def most_steps(self) -> np.ndarray:
        """Steps that a day holds, infinity for no limit."""
        return np.floor(self.batch_max / self.batch_multiple)


@dataclass(frozen=True)
class BatchChoice:
    """Batches to make, and what other than their size decided.

    is_limited_by_min: the minimum raised the number, or was too much to make any. is_limited_by_max: more were worth
    making, or were ordered.
    """

    batches: np.ndarray
    is_limited_by_min: np.ndarray
    is_limited_by_max: np.ndarray


def batch_marginal_value(
    demand: Demand,
    k: ArrayLike,
    *,
    batch_size_units: ArrayLike,
    costs: UnitCosts,
    batch_fixed_cost: ArrayLike = 0.0,
    opening_units: ArrayLike = 0.0,
) -> np.ndarray:
    """The expected gain of the k-th batch (k from 1), in money, exact for any demand and decreasing in k.

    Delta_k = (Cu + Co) (integral of 1 - F over the units of the batch) - Co B - K, where the integral is what the batch
    takes off the expected lost units. Stock at hand is sold first, so the first batch begins above `opening_units`.
    """
    size, opening = np.asarray(batch_size_units, dtype=float), np.asarray(opening_units, dtype=float)
    upper = opening + np.asarray(k) * size
    found_buyers = demand.expected_lost(upper - size) - demand.expected_lost(upper)
    stake = costs.underage + costs.overage
    return stake * found_buyers - costs.overage * size - np.asarray(batch_fixed_cost)


def supply_gain(
    demand: Demand, from_units: ArrayLike, to_units: ArrayLike, costs: UnitCosts, fixed_cost: ArrayLike = 0.0
) -> np.ndarray:
    """The expected gain, in money, of a supply of `to_units` over one of `from_units`, of which `fixed_cost` is spent.

    (Cu + Co) (what it takes off the expected lost units) - Co (units more) - fixed cost.
    """
    more = np.asarray(to_units, dtype=float) - np.asarray(from_units, dtype=float)
    found_buyers = demand.expected_lost(from_units) - demand.expected_lost(to_units)
    return (costs.underage + costs.overage) * found_buyers - costs.overage * more - np.asarray(fixed_cost)


def best_batches(
    demand: Demand,
    costs: UnitCosts,
    rules: BatchRules,
    *,
    opening_units: ArrayLike = 0.0,
    committed_units: ArrayLike = 0.0,
) -> BatchChoice:
    """The number of batches with the highest expected profit, of those that the rules allow, and 0.

    Batches are made while the next gains. As gains only fall, the answer is next to the quantile of the ratio that the
    fixed cost leaves, (Cu - K/B) / (Cu + Co), and only the batch above that needs its value. `committed_units` is the
    certain part of the demand: accepted orders are made whatever they earn, up to the maximum of the day. A minimum
    above the maximum gives way, because the maximum is what an oven holds. Raises ValueError where a cost is unknown (NaN)
    or below zero, or both are 0.
    """
    _require_stake(costs)
    if not np.isfinite(costs.underage + costs.overage).all():
        raise ValueError("without both Cu and Co no number of batches is best; take those of a default critical ratio")
    opening = np.asarray(opening_units, dtype=float)
    stake = costs.underage + costs.overage
    step, step_cost, fewest = rules.step_units, rules.step_fixed_cost, rules.fewest_steps
    wanted = _gainful_steps(demand, costs, step, step_cost, opening)
    is_fewest_worth_it = np.False_
    # Most products have no minimum, and nothing is to be weighed then.
    if (fewest > 0).any():
        gain_of_fewest = batch_marginal_value(
            demand,
            1,
            batch_size_units=fewest * step,
            costs=costs,
            batch_fixed_cost=fewest * step_cost,
            opening_units=opening,
        )
        is_fewest_worth_it = gain_of_fewest > GAIN_TOLERANCE * stake * step
    return choose_batches(
        rules,
        gainful_steps=wanted,
        ordered_units=np.asarray(committed_units, dtype=float) - opening,
        is_fewest_worth_it=is_fewest_worth_it,
    )


def choose_batches(
    rules: BatchRules, *, gainful_steps: ArrayLike, ordered_units: ArrayLike, is_fewest_worth_it: ArrayLike
) -> BatchChoice:
    """What the rules make of the steps that gain one after the other.

    ordered_units: units of accepted orders beyond the stock at hand, made whatever they earn (not above 0: none).
    is_fewest_worth_it: whether the fewest steps together gain, as against making none.
    """
    fewest, wanted = rules.fewest_steps, np.asarray(gainful_steps)
    ordered = np.ceil(np.round(np.maximum(ordered_units, 0) / rules.step_units, ROUNDING))
    is_worth_it = (ordered > 0) | ((wanted > 0) & np.asarray(is_fewest_worth_it))
    asked = np.maximum(wanted, ordered)
    made = np.where(is_worth_it, np.maximum(asked, fewest), np.where(wanted < fewest, 0, asked))
    return BatchChoice(
        (np.minimum(made, rules.most_steps) * rules.batch_multiple).astype(np.int64),
        is_limited_by_min=made != asked,
        is_limited_by_max=made > rules.most_steps,
    )


def batch_marginal_values(
    demand: QuantileDemand,
    batches: np.ndarray,
    costs: UnitCosts,
    rules: BatchRules,
    *,
    opening_units: np.ndarray,
    points_at_once: int = POINTS_AT_ONCE,
) -> list[list[float]]:
    """The value of the 1st, 2nd, … of `batches` (n,), as one list per demand (n,).

    costs, rules and opening_units hold one value per demand (n,). See `batch_marginal_value`. `points_at_once` trades
    memory for calls and changes no value.
    """
    ends = np.cumsum(batches)
    flat: list[float] = []
    for chunk in _chunks(ends, points_at_once):
        rows = np.repeat(np.arange(len(batches))[chunk], batches[chunk])
        before = np.cumsum(batches[chunk]) - batches[chunk]
        gains = batch_marginal_value(
            demand.select(rows),
            1 + np.arange(len(rows)) - np.repeat(before, batches[chunk]),
            batch_size_units=rules.batch_size_units[rows],
            costs=costs.select(rows),
            batch_fixed_cost=rules.batch_fixed_cost[rows],
            opening_units=opening_units[rows],
        )
        flat.extend(np.round(gains, ROUNDING).tolist())
    return [flat[end - count : end] for end, count in zip(ends.tolist(), batches.tolist(), strict=True)]


def _require_stake(costs: UnitCosts) -> None:
    """Raise ValueError for known costs without a best quantity."""
    if ((costs.underage < 0) | (costs.overage < 0) | (costs.underage + costs.overage == 0)).any():
        raise ValueError("Cu and Co must not be negative, nor both 0: see critical_ratio, which is NaN then")


def _gainful_steps(
    demand: Demand, costs: UnitCosts, step: np.ndarray, step_cost: np.ndarray, opening: np.ndarray
) -> np.ndarray:
    """How many steps of `step` units gain, one after the other."""
    stake = costs.underage + costs.overage
    ratio = (costs.underage - step_cost / step) / stake
    reach = np.maximum(demand.quantile(np.maximum(ratio, 0)) - opening, 0)
    full = np.floor(reach / step)
    gain = batch_marginal_value(
        demand,
        full + 1,
        batch_size_units=step,
        costs=costs,
        batch_fixed_cost=step_cost,
        opening_units=opening,
    )
    return np.where(ratio > 0, full + (gain > GAIN_TOLERANCE * stake * step), 0)


def _chunks(ends: np.ndarray, points_at_once: int) -> list[slice]:
    """Runs of rows of which all but the first end within the same `points_at_once`."""
    bounds = np.flatnonzero(np.diff(ends // points_at_once)) + 1
    edges = [0, *bounds.tolist(), len(ends)]
    return [slice(begin, end) for begin, end in pairwise(edges)]
