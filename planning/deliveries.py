"""The MRP record on a supplier's delivery days: when deliveries come, how much each brings, and what it covers.

Stock is used first-expired-first-out. What belongs here: lots that follow each other on delivery days, for many rows at
once. What does not: the textbook record, without delivery days and expiry (see mrp), and who delivers (see suppliers).
Column t of every matrix is the t-th day from the plan date.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from planning.frames import ROUNDING
from planning.keys import NEVER
from planning.lot_sizing import wagner_whitin
from planning.lots import NOTHING, take_first
from planning.mrp import order_packs, up_to_multiple
from planning.suppliers import PriceBreaks, next_days

LOT_RULES = ("delivery_calendar", "lot_for_lot", "fixed", "period", "wagner_whitin")
"""How much a delivery brings: the needs until the next one (delivery_calendar, and lot_for_lot, which on delivery days
is the same), whole fixed lots, the needs of a number of days, or the lots of least setup and holding cost."""

DEFAULT_RULE = 0
NOT_FIXED = -1
MATRICES = ("net", "receipts", "on_hand", "expired", "late", "lost")


@dataclass(frozen=True)
class DeliveryTerms:
    """How each of n rows is delivered. Rows without a supplier are never delivered (delivers all False, pack 1).

    delivers (n, T); keeps_days (n,): days a delivery is usable, counted with its own, NEVER if it keeps.
    rule (n,): positions in LOT_RULES; lot_quantity of fixed lots, base units; lot_periods of period lots, days.
    setup_cost (n,) of a delivery, and holding_cost (n,) of a base unit over a night, both currency; NaN if unknown.
    prices: what packs cost. ordered_packs (n, T): packs that a person fixed, NOT_FIXED where planning decides.
    cover_through (n, T): the day through which a delivery is to cover at least, beyond what its rule says; -1 for none.
    """

    delivers: np.ndarray
    keeps_days: np.ndarray
    pack_quantity: np.ndarray
    min_packs: np.ndarray
    multiple_packs: np.ndarray
    rule: np.ndarray
    lot_quantity: np.ndarray
    lot_periods: np.ndarray
    setup_cost: np.ndarray
    holding_cost: np.ndarray
    prices: PriceBreaks
    ordered_packs: np.ndarray
    cover_through: np.ndarray

    def select(self, rows: np.ndarray) -> "DeliveryTerms":
        """The terms of these rows."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return DeliveryTerms(
            **{name: part.select(rows) if name == "prices" else part[rows] for name, part in parts.items()}
        )


@dataclass(frozen=True)
class Arrivals:
    """What arrives by open order: the row, the day, the last usable day (at most T) and the quantity of each, all (m,)."""

    row: np.ndarray
    day: np.ndarray
    last_day: np.ndarray
    quantity: np.ndarray

    def select(self, rows: np.ndarray, of: int) -> "Arrivals":
        """Those of some rows out of `of`, with the positions of the rows among them."""
        place = np.full(of, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        at = np.flatnonzero(place[self.row] >= 0)
        return Arrivals(place[self.row[at]], self.day[at], self.last_day[at], self.quantity[at])


@dataclass(frozen=True)
class DeliveryRecord:
    """An MRP record planned on delivery days. Matrices (n, T) in base units, and one entry per order.

    net: on the day it is needed. late: the part of a day's gross requirement that waits for a later receipt; lost: the
    part that nothing can cover. Of each order: row, day of delivery, packs, recommended (what planning says, before a
    person's packs), needed (the first day it covers), is_late, raised_from (the packs before a price break; 0 if none),
    is_topped_up (covers more days for the sake of the supplier's minimum order), excess (base units beyond all needs
    of its shelf life) and cover (orders, T), the net requirement of each day that it covers.
    dropped (m, 3): row, day and packs of orders that a person set to none.
    """

    net: np.ndarray
    receipts: np.ndarray
    on_hand: np.ndarray
    expired: np.ndarray
    late: np.ndarray
    lost: np.ndarray
    order_row: np.ndarray
    order_day: np.ndarray
    order_packs: np.ndarray
    order_recommended: np.ndarray
    order_needed: np.ndarray
    order_is_late: np.ndarray
    order_raised_from: np.ndarray
    order_is_topped_up: np.ndarray
    order_excess: np.ndarray
    order_cover: np.ndarray
    dropped: np.ndarray

    def replaced(self, rows: np.ndarray, part: "DeliveryRecord") -> "DeliveryRecord":
        """The record with these rows from another, whose rows they are in this order."""
        return self.replaced_by([(rows, part)])

    def replaced_by(self, parts: Sequence[tuple[np.ndarray, "DeliveryRecord"]]) -> "DeliveryRecord":
        """The record with the rows of each part from it; no row is in two of them."""
        changed: dict[str, np.ndarray] = {name: getattr(self, name).copy() for name in MATRICES}
        is_kept = np.ones(len(self.net), dtype=bool)
        for rows, part in parts:
            is_kept[rows] = False
            for name in MATRICES:
                changed[name][rows] = getattr(part, name)
        kept = is_kept[self.order_row]
        for name in ORDER_FIELDS:
            theirs = [rows[part.order_row] if name == "order_row" else getattr(part, name) for rows, part in parts]
            changed[name] = np.concatenate([getattr(self, name)[kept], *theirs])
        dropped = [np.column_stack([rows[part.dropped[:, 0]], part.dropped[:, 1:]]) for rows, part in parts]
        return DeliveryRecord(**changed, dropped=np.concatenate([self.dropped[is_kept[self.dropped[:, 0]]], *dropped]))

    def reordered(self, by: np.ndarray) -> "DeliveryRecord":
        """The record with its orders in the order of these positions."""
        return replace(self, **{name: getattr(self, name)[by] for name in ORDER_FIELDS})


ORDER_FIELDS = tuple(field.name for field in fields(DeliveryRecord) if field.name.startswith("order_"))


@dataclass(frozen=True)
class Needs:
    """What the deliveries of n stocks have to meet, with what they start from; see plan_deliveries."""

    gross: np.ndarray
    safety_stock: np.ndarray
    opening: np.ndarray
    arrivals: Arrivals

    def plan(self, terms: DeliveryTerms) -> DeliveryRecord:
        """The record of all rows."""
        return plan_deliveries(self.gross, self.safety_stock, self.opening, self.arrivals, terms)

    def plan_rows(self, rows: np.ndarray, terms: DeliveryTerms) -> DeliveryRecord:
        """The record of some rows by themselves."""
        part = Needs(
            self.gross[rows],
            self.safety_stock[rows],
            self.opening[rows],
            self.arrivals.select(rows, len(self.gross)),
        )
        return part.plan(terms.select(rows))


def plan_deliveries(
    gross: np.ndarray, safety_stock: np.ndarray, opening: np.ndarray, arrivals: Arrivals, terms: DeliveryTerms
) -> DeliveryRecord:
    """The MRP record of deliveries by their rules, stock used first-expired-first-out.

    gross (n, T); safety_stock (n, T), to be left at the end of each day; opening (n, T + 1) by last usable day, the
    last column what outlasts the horizon. Each delivery covers what is short until the day before the next one, and as
    much more as its rule says, never longer than it keeps. A need before the first possible delivery waits for it (and
    is bought then); a need after it that no delivery can cover, since what was delivered has expired, is lost.
    """
    rows, days = gross.shape
    # Most items outlast the horizon: their stock is one number instead of one for each last usable day.
    expires = terms.keeps_days <= days
    expires |= (opening[:, :days] > 0).any(axis=1)
    expires[arrivals.row[arrivals.last_day < days]] = True
    parts = []
    for at in (np.flatnonzero(expires), np.flatnonzero(~expires)):
        if len(at) == 0:
            continue
        stock = opening[at] if expires[at[0]] else opening[at, days:]
        block = _Block(gross[at], safety_stock[at], stock.copy(), arrivals.select(at, rows), terms.select(at))
        parts.append((at, block.plan()))
    return _empty_record(rows, days).replaced_by(parts)


def _empty_record(rows: int, days: int) -> DeliveryRecord:
    types = {"order_is_late": bool, "order_is_topped_up": bool, "order_excess": float}
    orders = {
        name: np.zeros((0, days)) if name == "order_cover" else np.zeros(0, dtype=types.get(name, np.int64))
        for name in ORDER_FIELDS
    }
    matrices = {name: np.zeros((rows, days)) for name in MATRICES}
    return DeliveryRecord(**matrices, **orders, dropped=np.zeros((0, 3), dtype=np.int64))


class _Block:
    """Rows planned together: the stock (n, W) by last usable day, W = T + 1, or 1 where nothing expires."""

    def __init__(
        self,
        gross: np.ndarray,
        safety_stock: np.ndarray,
        stock: np.ndarray,
        arrivals: Arrivals,
        terms: DeliveryTerms,
    ) -> None:
        self.gross, self.safety_stock, self.stock, self.terms = gross, safety_stock, stock, terms
        self.rows, self.days = gross.shape
        self.is_lasting = stock.shape[1] == 1
        # A millionth of a pack is what rounding up to packs may leave open.
        self.dust = 10.0**-ROUNDING * np.maximum(terms.pack_quantity, 1.0)
        self.next_delivery = next_days(terms.delivers)
        self.needs_until = _needs_until(gross)
        order = np.argsort(arrivals.day, kind="stable")
        ends = np.searchsorted(arrivals.day[order], np.arange(self.days + 1))
        column = np.zeros_like(arrivals.last_day) if self.is_lasting else arrivals.last_day
        self.arriving = [
            (arrivals.row[at], column[at], arrivals.quantity[at])
            for at in (order[start:end] for start, end in pairwise(ends))
        ]
        self.waiting = np.zeros(self.rows)

    def plan(self) -> DeliveryRecord:
        """The record of these rows, day by day."""
        rows, days, terms = self.rows, self.days, self.terms
        made = {name: np.zeros((rows, days)) for name in MATRICES}
        orders: list[dict[str, np.ndarray]] = []
        dropped: list[np.ndarray] = [np.zeros((0, 3), dtype=np.int64)]
        missing = np.zeros(rows)
        waiting_since, is_past_first = np.full(rows, NEVER), np.zeros(rows, dtype=bool)
        for day in range(days):
            np.add.at(self.stock, self.arriving[day][:2], self.arriving[day][2])
            due = np.flatnonzero(terms.delivers[:, day])
            if len(due):
                lots = self._lots(day, due)
                cover = lots.cover
                # What was missing before the first delivery is bought with it, and belongs to the days it was missing on.
                before = np.minimum(missing[due], cover[:, day])
                cover[:, day] -= before
                made["net"][due] += cover
                late = np.flatnonzero(before > 0)
                cover[late, :day] = before[late, None] * _shares(made["net"][due[late], :day])
                orders.append(lots.orders(day, due, self.waiting[due], waiting_since[due]))
                at = orders[-1]["at"]
                bought = lots.packs[at] * terms.pack_quantity[due[at]]
                made["receipts"][due[at], day] = bought
                self.stock[due[at], 0 if self.is_lasting else np.maximum(lots.last_day[at], day)] += bought
                is_none = (lots.packs == 0) & (lots.recommended > 0)
                dropped.append(np.column_stack([due[is_none], np.full(is_none.sum(), day), lots.recommended[is_none]]))
                is_past_first[due[~is_none]] = True

            wanted = self.gross[:, day] + self.waiting
            taken = self._take(self.stock, wanted)
            self.stock -= taken
            unmet = wanted - (taken[:, 0] if self.is_lasting else taken.sum(axis=1))
            unmet[unmet <= self.dust] = 0.0
            made["late"][:, day] = np.where(is_past_first, 0.0, np.minimum(self.gross[:, day], unmet))
            made["lost"][:, day] = np.where(is_past_first, unmet, 0.0)
            self.waiting = np.where(is_past_first, 0.0, unmet)
            waiting_since = np.where(self.waiting > 0, np.minimum(waiting_since, day), NEVER)
            held = self.stock[:, 0] if self.is_lasting else self.stock.sum(axis=1)
            short = _above_zero(self.safety_stock[:, day] + self.waiting - held)
            made["net"][:, day] += np.where(is_past_first, made["lost"][:, day], np.maximum(short - missing, 0.0))
            missing = np.where(is_past_first, 0.0, short)
            if not self.is_lasting:
                made["expired"][:, day] = self.stock[:, day]
                self.stock[:, day] = 0.0
                held = self.stock.sum(axis=1)
            made["on_hand"][:, day] = held - self.waiting
        joined = _empty_record(rows, days)
        if orders:
            joined = replace(joined, **{name: np.concatenate([part[name] for part in orders]) for name in ORDER_FIELDS})
        return replace(joined, **made, dropped=np.concatenate(dropped))

    def _lots(self, day: int, due: np.ndarray) -> "_Lots":
        """What a delivery today brings to the rows due, and what it covers."""
        terms = self.terms
        pack_quantity = terms.pack_quantity[due]
        last_day = np.minimum(day + terms.keeps_days[due] - 1, self.days)
        until_next = np.minimum(self.next_delivery[due, day] - 1, last_day)
        cover = self._look_ahead(day, due, until_next, last_day)
        net = np.round(cover.sum(axis=1), ROUNDING)
        through = self._through(day, due, last_day, until_next, net)
        is_topped_up = terms.cover_through[due, day] > until_next
        longer = np.flatnonzero(through > until_next)
        if len(longer):
            cover[longer] = self._look_ahead(day, due[longer], through[longer], last_day[longer])
            net = np.round(cover.sum(axis=1), ROUNDING)
        of_life = self._needs_of_life(day, due, last_day)
        wanted = net
        fixed = np.flatnonzero((terms.rule[due] == LOT_RULES.index("fixed")) & (net > 0))
        if len(fixed):
            lot = up_to_multiple(net[fixed], terms.lot_quantity[due[fixed]])
            wanted = net.copy()
            wanted[fixed] = np.maximum(np.minimum(lot, of_life[fixed]), net[fixed])
        packs = order_packs(wanted, pack_quantity, terms.min_packs[due], terms.multiple_packs[due])
        lots = _Lots(cover, packs, packs.copy(), np.zeros_like(packs), is_topped_up, of_life, last_day, pack_quantity)
        self._use_breaks(day, due, lots)
        lots.recommended = lots.packs.copy()
        self._use_fixed_packs(day, due, lots)
        return lots

    def _through(
        self, day: int, due: np.ndarray, last_day: np.ndarray, until_next: np.ndarray, net: np.ndarray
    ) -> np.ndarray:
        """The day through which each delivery covers, by its rule: never less than until the next one, if it keeps."""
        terms = self.terms
        through = until_next.copy()
        last = np.minimum(last_day, self.days - 1)
        period = np.flatnonzero((terms.rule[due] == LOT_RULES.index("period")) & (net > 0))
        through[period] = np.maximum(
            through[period], np.minimum(day + terms.lot_periods[due[period]] - 1, last[period])
        )
        is_by_cost = (terms.rule[due] == LOT_RULES.index("wagner_whitin")) & (net > 0)
        at = np.flatnonzero(is_by_cost & ~np.isnan(terms.holding_cost[due]))
        if len(at):
            through[at] = np.maximum(through[at], np.minimum(self._least_cost_through(day, due[at]), last[at]))
        return np.maximum(through, np.minimum(terms.cover_through[due, day], last))

    def _least_cost_through(self, day: int, due: np.ndarray) -> np.ndarray:
        """The day before the next order of the Wagner-Whitin plan of what is short from today on, as if nothing came."""
        terms, outlasts = self.terms, np.full(len(due), self.days)
        needs = self._look_ahead(day, due, outlasts - 1, outlasts)[:, day:]
        # A need that no delivery reaches before it spoils is covered by none, so the plan cannot count on it.
        since = np.arange(self.days)[None, :] - _last_delivery(terms.delivers[due])
        needs = np.where((since < terms.keeps_days[due, None])[:, day:], needs, 0.0)
        plan = wagner_whitin(
            needs,
            terms.setup_cost[due, None],
            terms.holding_cost[due, None],
            can_order=terms.delivers[due, day:],
            most_periods=terms.keeps_days[due],
        )
        return day + plan.next_order_period[:, 0] - 2

    def _needs_of_life(self, day: int, due: np.ndarray, last_day: np.ndarray) -> np.ndarray:
        """What a lot delivered today can serve at most while it keeps, beside the stock there is: (m,), inf if it keeps.

        Days after the horizon need as much as an average day of it.
        """
        if self.is_lasting:
            return np.full(len(due), np.inf)
        end = day + np.clip(self.terms.keeps_days[due], 0, NEVER)
        beyond = np.maximum(end - self.days, 0) * self.needs_until[due, -1] / max(self.days, 1)
        total = self.needs_until[due, np.minimum(end, self.days)] + beyond - self.needs_until[due, day]
        needs = np.maximum(total + self.waiting[due] - self.stock[due].sum(axis=1), 0.0)
        return np.where(end >= NEVER, np.inf, needs)

    def _use_breaks(self, day: int, due: np.ndarray, lots: "_Lots") -> None:
        """Buy up to the price break that saves most, if what is bought beyond is needed while it keeps, and known.

        A break b saves (price − price at b) × b packs, less what holding the rest until it is needed costs: the rest would
        be bought anyway, later and at today's price.
        """
        terms = self.terms
        if terms.prices.from_packs.shape[1] == 1:
            return
        highest = terms.prices.from_packs[due]
        tiers = np.where(highest > lots.packs[:, None], highest, NEVER)
        first = tiers.min(axis=1)
        until = np.minimum(lots.last_day, self.days - 1)
        most = self.needs_until[due, until + 1] - self.needs_until[due, day] + self.waiting[due]
        most += self.safety_stock[due].max(axis=1)
        at = np.flatnonzero(
            (lots.packs > 0) & (first * lots.pack_quantity <= most) & ~np.isnan(terms.holding_cost[due])
        )
        if not len(at):
            return
        rows, packs = due[at], lots.packs[at]
        known = self._look_ahead(day, rows, until[at], lots.last_day[at])
        known_total = known.sum(axis=1)
        prices = terms.prices.select(rows)
        price = prices.price(packs)
        nights = np.maximum(np.arange(self.days) - day, 0)
        own = (lots.cover[at] * nights).sum(axis=1)
        saved, chosen, cover = np.zeros(len(at)), packs.copy(), lots.cover[at]
        for tier in range(prices.from_packs.shape[1]):
            asked = np.maximum(prices.from_packs[:, tier], terms.min_packs[rows])
            asked = up_to_multiple(asked.astype(float), terms.multiple_packs[rows]).astype(np.int64)
            quantity = asked * lots.pack_quantity[at]
            is_open = (prices.from_packs[:, tier] > packs) & (prices.from_packs[:, tier] < NEVER)
            is_open &= quantity <= known_total + self.dust[rows]
            taken = take_first(known, np.where(is_open, quantity, 0.0))
            holding = terms.holding_cost[rows] * np.maximum((taken * nights).sum(axis=1) - own, 0.0)
            saving = asked * (price - prices.price(asked)) - holding
            is_better = is_open & (saving > saved + NOTHING)
            saved, chosen = np.where(is_better, saving, saved), np.where(is_better, asked, chosen)
            cover = np.where(is_better[:, None], taken, cover)
        raised = np.flatnonzero(chosen > packs)
        lots.raised_from[at[raised]] = packs[raised]
        lots.packs[at[raised]] = chosen[raised]
        lots.cover[at[raised]] = cover[raised]

    def _use_fixed_packs(self, day: int, due: np.ndarray, lots: "_Lots") -> None:
        """Take the packs that a person fixed, and let them cover what they hold, in the order of the days."""
        fixed = self.terms.ordered_packs[due, day]
        at = np.flatnonzero(fixed != NOT_FIXED)
        if not len(at):
            return
        lots.packs[at] = fixed[at]
        lots.raised_from[at] = 0
        until = np.minimum(lots.last_day[at], self.days - 1)
        known = self._look_ahead(day, due[at], until, lots.last_day[at])
        lots.cover[at] = take_first(known, lots.packs[at] * lots.pack_quantity[at])

    def _look_ahead(self, day: int, due: np.ndarray, through: np.ndarray, last_day: np.ndarray) -> np.ndarray:
        """The net requirement (m, T) of each day from `day` to `through` that a lot keeping to last_day would cover,
        today's with what waits for it."""
        net = np.zeros((len(due), self.days))
        place = np.full(self.rows, -1, dtype=np.int64)
        at = np.arange(len(due))
        stock, waiting = self.stock[due], self.waiting[due]
        for ahead in range(day, int(through.max(initial=-1)) + 1):
            is_on = through[at] >= ahead
            if not is_on.all():
                at, stock, waiting = at[is_on], stock[is_on], waiting[is_on]
            rows = due[at]
            if ahead > day and len(self.arriving[ahead][0]):
                place[rows] = np.arange(len(rows))
                row, column, quantity = self.arriving[ahead]
                known = place[row] >= 0
                np.add.at(stock, (place[row[known]], column[known]), quantity[known])
                place[rows] = -1
            wanted = self.gross[rows, ahead] + waiting
            taken = self._take(stock, wanted)
            stock -= taken
            waiting = wanted - (taken[:, 0] if self.is_lasting else taken.sum(axis=1))
            held = stock[:, 0] if self.is_lasting else stock.sum(axis=1)
            short = _above_zero(self.safety_stock[rows, ahead] + waiting - held)
            net[at, ahead] = short
            served = np.minimum(waiting, short)
            waiting = waiting - served
            stock[np.arange(len(at)), 0 if self.is_lasting else last_day[at]] += short - served
            if not self.is_lasting:
                stock[:, ahead] = 0.0
        return net

    def _take(self, stock: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return np.minimum(stock, wanted[:, None]) if self.is_lasting else take_first(stock, wanted)


@dataclass
class _Lots:
    """The lots of m rows due on a day, changed step by step as they are sized."""

    cover: np.ndarray
    packs: np.ndarray
    recommended: np.ndarray
    raised_from: np.ndarray
    is_topped_up: np.ndarray
    of_life: np.ndarray
    last_day: np.ndarray
    pack_quantity: np.ndarray

    def orders(
        self, day: int, due: np.ndarray, waiting: np.ndarray, waiting_since: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The orders to be delivered on a day; `at` are their positions among the rows due."""
        at = np.flatnonzero(self.packs > 0)
        cover = self.cover[at]
        ahead = cover[:, day:] > 0
        first_needed = np.where(ahead.any(axis=1), day + ahead.argmax(axis=1), day)
        is_late = waiting[at] > 0
        beyond = self.packs[at] * self.pack_quantity[at] - np.maximum(cover.sum(axis=1), self.of_life[at])
        return {
            "at": at,
            "order_row": due[at],
            "order_day": np.full(len(at), day),
            "order_packs": self.packs[at],
            "order_recommended": self.recommended[at],
            "order_needed": np.where(is_late, waiting_since[at], first_needed),
            "order_is_late": is_late,
            "order_raised_from": self.raised_from[at],
            "order_is_topped_up": self.is_topped_up[at],
            "order_excess": _above_zero(beyond),
            "order_cover": cover,
        }


def _needs_until(gross: np.ndarray) -> np.ndarray:
    """The gross requirement before each day, (n, T + 1)."""
    return np.concatenate([np.zeros((len(gross), 1)), np.cumsum(gross, axis=1)], axis=1)


def _last_delivery(delivers: np.ndarray) -> np.ndarray:
    """For each day the last delivery up to it, (n, T); -NEVER where there is none."""
    days = np.where(delivers, np.arange(delivers.shape[1]), -NEVER)
    return np.maximum.accumulate(days, axis=1)


def _above_zero(quantity: np.ndarray) -> np.ndarray:
    return np.maximum(np.round(quantity, ROUNDING), 0.0)


def _shares(parts: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; 0 where that is 0."""
    total = parts.sum(axis=1, keepdims=True)
    return np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)
