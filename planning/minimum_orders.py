"""Orders below a supplier's minimum value: which later needs come with them instead."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from planning.deliveries import NOT_FIXED, DeliveryRecord, DeliveryTerms, Needs
from planning.keys import looked_up
from planning.suppliers import Market

TOP_UP_ROUNDS = 3
"""How often later needs are brought forward for a supplier's minimum order, since packs round what is brought."""


def topped_up(
    record: DeliveryRecord, needs: Needs, terms: DeliveryTerms, rows: pd.DataFrame, market: Market
) -> tuple[DeliveryRecord, DeliveryTerms]:
    """Bring later needs forward into the orders of the run date that stay below their supplier's minimum value.

    The soonest needed come first, and only what keeps until it is needed. An order that cannot be brought up to its
    minimum is left as it is. Returns the record and the terms, with the days that deliveries are to cover.
    """
    minimum = looked_up(market.offers["min_order_value"], market.at_offer, 0.0)
    if not (minimum > 0).any():
        return record, terms
    supplier = looked_up(market.offers["supplier"], market.at_offer, -1.0).astype(np.int64)
    lead, first, late = (
        looked_up(market.offers[name], market.at_offer, 0.0).astype(np.int64)
        for name in ("lead_days", "first_order_day", "is_past_cutoff")
    )
    source = rows["place"].to_numpy() * (supplier.max(initial=0) + 1) + supplier
    days = needs.gross.shape[1]
    for _ in range(TOP_UP_ROUNDS):
        row, day = record.order_row, record.order_day
        amount = terms.prices.select(row).price(record.order_packs) * record.order_packs
        is_due = np.maximum(first[row], day - lead[row]) <= first[row] - late[row]
        orders, of_line = np.unique(source[row] * days + day, return_inverse=True)
        total = np.bincount(of_line[is_due], weights=amount[is_due], minlength=len(orders))
        least = np.zeros(len(orders))
        np.maximum.at(least, of_line[is_due], minimum[row[is_due]])
        short = np.flatnonzero(total < least)
        if not len(short):
            break
        brought = _brought_forward(record, source[row], orders[short] // days, orders[short] % days, terms)
        # What joins an order has to be ordered with it: its own lead time must not put it on a later day.
        at_row = row[brought.line]
        in_time = np.maximum(first[at_row], brought.target - lead[at_row]) <= first[at_row] - late[at_row]
        value = record.order_cover[brought.line, brought.day] / terms.pack_quantity[at_row]
        value *= (amount / record.order_packs)[brought.line]
        taken = _soonest(brought, value, in_time, (least - total)[short])
        if not len(taken):
            break
        cover_through = terms.cover_through.copy()
        np.maximum.at(cover_through, (at_row[taken], brought.target[taken]), brought.day[taken])
        changed = np.unique(at_row[taken])
        terms = replace(terms, cover_through=cover_through)
        record = record.replaced(changed, needs.plan_rows(changed, terms))
    return record, terms


@dataclass(frozen=True)
class _Brought:
    """Needs that could come with an earlier delivery, all (m,): the line that covers it, its day, the short order, and
    the day of that order's delivery."""

    line: np.ndarray
    day: np.ndarray
    order: np.ndarray
    target: np.ndarray


def _brought_forward(
    record: DeliveryRecord, source: np.ndarray, short: np.ndarray, target: np.ndarray, terms: DeliveryTerms
) -> _Brought:
    """The needs of each day that lines of the short orders' suppliers cover and that would keep since an earlier delivery.

    source: place and supplier of each line; short and target: place and supplier, and delivery day, of each short order.
    """
    line, order = _matches(source, short)
    later = target[order] < record.order_day[line]
    line, order = line[later], order[later]
    entry, day = np.nonzero(record.order_cover[line])
    line, order = line[entry], order[entry]
    row, on = record.order_row[line], target[order]
    fits = terms.delivers[row, on] & (day - on < terms.keeps_days[row])
    fits &= (terms.ordered_packs[row, on] == NOT_FIXED) & (
        terms.ordered_packs[row, record.order_day[line]] == NOT_FIXED
    )
    return _Brought(line[fits], day[fits], order[fits], on[fits])


def _soonest(brought: _Brought, value: np.ndarray, in_time: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """The needs to bring forward (positions): the soonest of each order until its gap is closed; none if they do not.

    A need goes into one order, the one delivered first. Needs of unknown value are left where they are.
    """
    able = np.flatnonzero(in_time & (value > 0))
    able = able[np.lexsort((brought.target[able], brought.day[able], brought.line[able]))]
    key = np.column_stack([brought.line[able], brought.day[able]])
    able = able[np.concatenate([[True], (key[1:] != key[:-1]).any(axis=1)])] if len(able) else able
    able = able[np.lexsort((brought.line[able], brought.day[able], brought.order[able]))]
    order = brought.order[able]
    before = np.cumsum(value[able]) - value[able]
    starts = np.searchsorted(order, order)
    before = before - before[starts] if len(able) else before
    reached = np.bincount(order, weights=value[able], minlength=len(gap))[order] >= gap[order]
    return able[(before < gap[order]) & reached]


def _matches(values: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (position in values, position in wanted) of equal value."""
    by = np.argsort(wanted, kind="stable")
    left, right = (np.searchsorted(wanted[by], values, side=side) for side in ("left", "right"))
    count = right - left
    first = np.repeat(np.arange(len(values)), count)
    within = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
    return first, by[left[first] + within]
