"""How much to order at a time: economic quantities, quantity discounts and the optimal plan of known needs.

What belongs here: sizes decided by cost, for many rows at once, and the small rules that shops order by. What does
not: the record that nets stock (see mrp), and delivery days, packs and expiry (see procurement).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from planning.frames import ROUNDING
from planning.mrp import up_to_multiple

TIE = 1e-9
"""Costs closer than this share of the larger one are equal, so that rounding does not decide between two plans."""


@dataclass(frozen=True)
class LotPlan:
    """The cheapest orders for known needs, of n rows over T periods, or of a single row without the first axis.

    quantity (n, T) is ordered, and arrives, in each period; cost (n,). next_order_period (n, T), periods numbered from
    1: if there is an order in a period, when the following one is; T + 1 for none. A row that no plan can cover has an
    infinite cost and orders nothing.
    """

    quantity: np.ndarray
    cost: np.ndarray
    next_order_period: np.ndarray


@dataclass(frozen=True)
class EconomicOrder:
    """An economic order: quantity per order and cost per period, both of any shape."""

    quantity: np.ndarray
    cost: np.ndarray


@dataclass(frozen=True)
class DiscountedOrder:
    """The cheapest order under quantity discounts: quantity, tier (0 for the smallest quantities) and cost per period."""

    quantity: float
    tier: int
    cost: float


def wagner_whitin(
    demand: ArrayLike,
    setup_cost: ArrayLike,
    holding_cost: ArrayLike,
    *,
    unit_cost: ArrayLike = 0.0,
    can_order: ArrayLike = True,
    most_periods: ArrayLike | None = None,
) -> LotPlan:
    """The orders of least cost for known needs without stock, by dynamic programming in O(T²) steps over all rows.

    demand: (n, T), or (T,) for a single row, which the plan then is too; not negative. setup_cost, unit_cost and holding_cost
    (of a unit held over the end of a period): one number, one per period (T,) or one per row and period (n, T).
    can_order: the periods that allow an order.
    most_periods: (n,), how many periods an order may cover, counted with its own (what it keeps); None for any number.

    Of plans that cost the same, the one whose orders cover fewer periods is taken, period by period: what is fresher.
    Wagner & Whitin (1958), backward as in Snyder & Shen, Fundamentals of Supply Chain Theory, section 3.7.
    """
    needs = np.atleast_2d(np.asarray(demand, dtype=float))
    rows, periods = needs.shape
    if not (needs >= 0).all():
        raise ValueError("a need must be a number and cannot be negative")
    setup, holding, unit = (
        np.broadcast_to(np.asarray(value, dtype=float), needs.shape) for value in (setup_cost, holding_cost, unit_cost)
    )
    allowed = np.broadcast_to(np.asarray(can_order, dtype=bool), needs.shape)
    longest = np.broadcast_to(periods if most_periods is None else np.asarray(most_periods), (rows,))
    to_go = np.zeros((rows, periods + 1))  # the least cost from each period on, without stock at its beginning
    covers_until = np.zeros((rows, periods), dtype=np.int64)
    orders_next = np.full((rows, periods + 1), periods)  # the first period from each on that has an order
    is_ordering = np.zeros((rows, periods), dtype=bool)
    for period in range(periods - 1, -1, -1):
        best, until = np.full(rows, np.inf), np.full(rows, period + 1)
        held_cost, cost = np.zeros(rows), np.where(allowed[:, period], setup[:, period], np.inf)
        for after in range(period + 1, periods + 1):
            if after - 1 > period:
                held_cost = held_cost + holding[:, after - 2]
            cost = cost + needs[:, after - 1] * (unit[:, period] + held_cost)
            total = np.where(after - period <= longest, cost + to_go[:, after], np.inf)
            is_better = _is_cheaper(total, best)
            best, until = np.where(is_better, total, best), np.where(is_better, after, until)
        covers_until[:, period] = until
        can_wait = needs[:, period] == 0
        is_ordering[:, period] = ~can_wait | _is_cheaper(best, to_go[:, period + 1])
        to_go[:, period] = np.where(is_ordering[:, period], best, to_go[:, period + 1])
        orders_next[:, period] = np.where(is_ordering[:, period], period, orders_next[:, period + 1])
    plan = (
        _quantities(needs, is_ordering & np.isfinite(to_go[:, :1]), covers_until),
        to_go[:, 0],
        np.take_along_axis(orders_next, covers_until, axis=1) + 1,
    )
    return LotPlan(*(part[0] for part in plan) if np.ndim(demand) == 1 else plan)


def _is_cheaper(cost: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether a cost is below another by more than rounding; any known cost is below an infinite one."""
    return cost < other - TIE * np.abs(np.where(np.isfinite(other), other, 0.0))


def _quantities(needs: np.ndarray, is_ordering: np.ndarray, covers_until: np.ndarray) -> np.ndarray:
    """Follow the orders from the first period on: each covers the needs up to its end."""
    rows, periods = needs.shape
    before = np.concatenate([np.zeros((rows, 1)), np.cumsum(needs, axis=1)], axis=1)
    quantity, covered = np.zeros((rows, periods)), np.zeros(rows, dtype=np.int64)
    for period in range(periods):
        at = np.flatnonzero((covered <= period) & is_ordering[:, period])
        covered[at] = covers_until[at, period]
        quantity[at, period] = before[at, covered[at]] - before[at, period]
    return np.round(quantity, ROUNDING)


def plan_cost(
    receipts: ArrayLike,
    on_hand: ArrayLike,
    *,
    setup_cost: ArrayLike,
    holding_cost: ArrayLike,
    unit_cost: ArrayLike = 0.0,
) -> np.ndarray:
    """What a plan costs, (n,) or one number: a setup per period with a receipt, the closing stock held, and the units.

    receipts and on_hand (closing stock; what is missing costs nothing here): (..., T).
    """
    quantity, stock = np.asarray(receipts, dtype=float), np.asarray(on_hand, dtype=float)
    cost = np.where(quantity > 0, setup_cost, 0.0) + quantity * unit_cost + np.clip(stock, 0.0, None) * holding_cost
    return cost.sum(axis=-1)


def economic_order_quantity(setup_cost: ArrayLike, demand: ArrayLike, holding_cost: ArrayLike) -> EconomicOrder:
    """Q = √(2Kλ/h) and its setup and holding cost √(2Kλh) per period. demand λ and holding cost h are per period."""
    setup, rate, holding = (np.asarray(value, dtype=float) for value in (setup_cost, demand, holding_cost))
    if not ((setup >= 0).all() and (rate >= 0).all() and (holding > 0).all()):
        raise ValueError("an economic order needs a holding cost above 0, and no negative setup cost or demand")
    return EconomicOrder(np.sqrt(2 * setup * rate / holding), np.sqrt(2 * setup * rate * holding))


def periods_of_supply(order_quantity: ArrayLike, mean_demand: ArrayLike) -> np.ndarray:
    """The period order quantity's P: how many periods an order covers, order quantity / mean demand, half up, at least 1."""
    if not (np.asarray(mean_demand) > 0).all():
        raise ValueError("periods of supply need a mean demand above 0")
    ratio = np.asarray(order_quantity, dtype=float) / np.asarray(mean_demand, dtype=float)
    return np.maximum(np.floor(np.round(ratio, ROUNDING) + 0.5), 1).astype(np.int64)


def all_units_discount(
    setup_cost: float, demand: float, holding_rate: float, breaks: ArrayLike, unit_costs: ArrayLike
) -> DiscountedOrder:
    """The cheapest order quantity where every unit costs what the tier of the order says.

    breaks: the smallest quantity of each tier, ascending. holding_rate: the share of a unit's cost that holding it for a
    period takes. Of each tier the quantity nearest its economic one counts: K·λ/Q + c·λ + i·c·Q/2, the lowest of all
    tiers wins, the smaller quantity of two equal ones.
    """
    lowest, unit = np.asarray(breaks, dtype=float), np.asarray(unit_costs, dtype=float)
    if lowest.ndim != 1 or not len(lowest) or lowest.shape != unit.shape or (np.diff(lowest) <= 0).any():
        raise ValueError("breaks must ascend, with a unit cost for each")
    if not (setup_cost > 0 and demand > 0 and holding_rate > 0 and (unit > 0).all()):
        raise ValueError("setup cost, demand, holding rate and unit costs must be above 0")
    below = np.append(lowest[1:], np.inf)
    economic = economic_order_quantity(setup_cost, demand, holding_rate * unit).quantity
    quantity = np.clip(economic, lowest, below)
    # Where a tier's economic quantity lies beyond the tier, the next tier has that quantity at a lower unit cost.
    cost = setup_cost * demand / quantity + unit * demand + holding_rate * unit * quantity / 2
    cost = np.where(economic < below, cost, np.inf)
    tier = int(np.argmin(np.where(cost <= cost.min() * (1 + TIE), 0, 1)))
    return DiscountedOrder(float(quantity[tier]), tier, float(cost[tier]))


# ---------------------------------------------------------------- rules that shops order by


def reordering_quantity(
    available: ArrayLike, minimum: ArrayLike, maximum: ArrayLike, multiple: ArrayLike = 0.0
) -> np.ndarray:
    """Minimum and maximum stock: below the minimum, up to the maximum, rounded up to a multiple (0 for any quantity).

    available: on hand and on order. Rounding up may lead above the maximum, as Odoo's reordering rules do.
    """
    stock = np.asarray(available, dtype=float)
    gap = np.clip(np.asarray(maximum, dtype=float) - stock, 0.0, None)
    return np.where(
        stock < np.asarray(minimum, dtype=float), up_to_multiple(gap, np.asarray(multiple, dtype=float)), 0.0
    )


def replenishment(
    opening: ArrayLike,
    demand: ArrayLike,
    *,
    target: ArrayLike = 0.0,
    fewest: ArrayLike = 0.0,
    most: ArrayLike = np.inf,
) -> np.ndarray:
    """What brings the closing stock to its target, within the fewest and the most that is replenished in a period.

    The rule of Odoo's master production schedule: target − (opening − demand), within those limits.
    """
    wanted = np.asarray(target, dtype=float) - (np.asarray(opening, dtype=float) - np.asarray(demand, dtype=float))
    return np.minimum(np.maximum(wanted, fewest), most)


def par_order(par_level: ArrayLike, on_hand: ArrayLike) -> np.ndarray:
    """Whole packs up to a par level, the nearest number of them (a half counts up), none above it. Both are in packs."""
    gap = np.asarray(par_level, dtype=float) - np.asarray(on_hand, dtype=float)
    return np.floor(np.round(np.clip(gap, 0.0, None), ROUNDING) + 0.5).astype(np.int64)
