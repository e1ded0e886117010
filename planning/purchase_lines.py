"""Purchase lines: the orders of a delivery record priced, dated, explained, grouped into orders and pegged to products.

What belongs here: the words and values of a line. What does not: when and how much is ordered (see deliveries).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from planning.deliveries import LOT_RULES, DeliveryRecord, DeliveryTerms
from planning.explosion import Explosion
from planning.frames import ROUNDING
from planning.keys import NEVER, dates_of
from planning.lots import STOCK_KEY
from planning.suppliers import alternatives_of

LINE_COLUMNS = (
    "tenant_id",
    "location_id",
    "supplier_id",
    "item_id",
    "order_by",
    "delivery_on",
    "needed_on",
    "net_quantity",
    "packs",
    "pack_quantity",
    "quantity",
    "price_per_pack",
    "amount",
    "is_late",
    "reason",
    "peg_product_ids",
    "peg_shares",
    "expires_on",
    "order_key",
    "lot_rule",
    "recommended_packs",
    "override_by",
    "override_reason",
    "covers_quantity",
    "alternatives",
)


@dataclass(frozen=True)
class Purchases:
    """The orders of a record, one entry each in the order of the lines, as numbers; `record` is sorted alike.

    row and offer: positions among the stocks and the chosen offers; order_day: day number of the last day to order;
    is_due: to be placed on the run date; price per pack and amount: NaN if unknown; order: entries of one purchase
    order (supplier, location, order day and delivery) have the same number.
    """

    record: DeliveryRecord
    offer: np.ndarray
    order_day: np.ndarray
    is_due: np.ndarray
    price: np.ndarray
    amount: np.ndarray
    order: np.ndarray

    @property
    def row(self) -> np.ndarray:
        """The stock of each order."""
        return self.record.order_row


def purchases_of(
    record: DeliveryRecord, rows: pd.DataFrame, offers: pd.DataFrame, at_offer: np.ndarray, terms: DeliveryTerms
) -> Purchases:
    """Price and date the orders, sorted by tenant, location, supplier, order day, item and delivery.

    rows: stocks with `place`, their tenant and location as a number; ascending.
    """
    offer = at_offer[record.order_row]
    lead, first = (offers[name].to_numpy(dtype=np.int64)[offer] for name in ("lead_days", "first_order_day"))
    run_day = first - offers["is_past_cutoff"].to_numpy(dtype=bool)[offer]
    order_day = np.maximum(first, record.order_day - lead)
    place, supplier = rows["place"].to_numpy()[record.order_row], offers["supplier"].to_numpy()[offer]
    days = record.order_cover.shape[1]
    days_to_order = int(np.ptp(order_day)) + 1 if len(order_day) else 1
    key = place * (supplier.max(initial=0) + 1) + supplier
    key = key * days_to_order + order_day - order_day.min(initial=0 if not len(order_day) else NEVER)
    by = np.lexsort((record.order_row * days + record.order_day, key))
    order = np.unique((key * days + record.order_day)[by], return_inverse=True)[1]
    record = record.reordered(by)
    price = terms.prices.select(record.order_row).price(record.order_packs)
    return Purchases(
        record,
        offer[by],
        order_day[by],
        (order_day <= run_day)[by],
        price,
        np.round(price * record.order_packs, 4),
        order,
    )


def purchase_lines(
    purchases: Purchases,
    rows: pd.DataFrame,
    offers: pd.DataFrame,
    ranked: pd.DataFrame,
    first_delivery: np.ndarray,
    plan_date: date,
) -> pd.DataFrame:
    """The lines, without overrides and pegs.

    offers: the chosen ones; ranked: all of them, with first_delivery (day numbers) of each.
    """
    record = purchases.record
    row, offer = record.order_row, purchases.offer
    supplier = offers["supplier_id"].to_numpy(dtype=object)[offer]
    pack_quantity = offers["pack_quantity"].astype(float).to_numpy()[offer]
    shelf = rows["shelf_life_days"].to_numpy()[row]
    expires = np.where(np.isnan(shelf), NEVER, record.order_day + np.nan_to_num(shelf).astype(np.int64) - 1)
    order_by, delivery_on = days_of(purchases.order_day, plan_date), days_of(record.order_day, plan_date)
    alternatives = alternatives_of(ranked, first_delivery, plan_date)
    lines: dict[str, object] = {
        **{name: rows[name].array.take(row) for name in STOCK_KEY},
        "supplier_id": offers["supplier_id"].array.take(offer),
        "order_by": order_by,
        "delivery_on": delivery_on,
        "needed_on": days_of(record.order_needed, plan_date),
        "net_quantity": np.round(record.order_cover.sum(axis=1), ROUNDING),
        "packs": record.order_packs,
        "pack_quantity": pack_quantity,
        "quantity": np.round(record.order_packs * pack_quantity, ROUNDING),
        "price_per_pack": purchases.price,
        "amount": purchases.amount,
        "is_late": record.order_is_late,
        "reason": _reasons(purchases, rows, offers, plan_date),
        "expires_on": days_of(expires, plan_date),
        "order_key": _order_keys(purchases, rows, supplier, plan_date),
        "lot_rule": pd.Series(np.array(LOT_RULES, dtype=object)[rows["rule"].to_numpy()[row]], dtype=object),
        "recommended_packs": record.order_recommended,
        "override_by": pd.Series(np.full(len(row), None), dtype=object),
        "override_reason": pd.Series(np.full(len(row), None), dtype=object),
        "covers_quantity": _lists(np.round(record.order_cover, ROUNDING).tolist()),
        "alternatives": _lists([alternatives[at] for at in offer.tolist()]),
    }
    return pd.DataFrame(lines)


def days_of(day_numbers: np.ndarray, plan_date: date) -> np.ndarray:
    """The dates of day numbers as objects, None for NEVER; each date is made once."""
    numbers, at = np.unique(day_numbers, return_inverse=True)
    return _objects(dates_of(numbers, plan_date))[at]


def _objects(values: Sequence[object]) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _lists(values: list[list]) -> pd.Series:
    return pd.Series(np.fromiter(values, dtype=object, count=len(values)), dtype=object)


def _order_keys(purchases: Purchases, rows: pd.DataFrame, supplier: np.ndarray, plan_date: date) -> pd.Series:
    """TENANT/LOCATION/SUPPLIER/ORDER DAY/DELIVERY, written once for each order."""
    _, first = np.unique(purchases.order, return_index=True)
    row = purchases.row[first]
    tenants, places = (rows[name].to_numpy(dtype=object)[row].tolist() for name in ("tenant_id", "location_id"))
    ordered, delivered = (
        _iso_days(day[first], plan_date).tolist() for day in (purchases.order_day, purchases.record.order_day)
    )
    keys = [
        f"{tenant}/{location}/{name}/{order_day}/{delivery}"
        for tenant, location, name, order_day, delivery in zip(
            tenants, places, supplier[first].tolist(), ordered, delivered, strict=True
        )
    ]
    return pd.Series(keys, dtype=str).take(purchases.order).reset_index(drop=True)


def _iso_days(day_numbers: np.ndarray, plan_date: date) -> np.ndarray:
    numbers, at = np.unique(day_numbers, return_inverse=True)
    return _objects([day.isoformat() if day else "" for day in dates_of(numbers, plan_date)])[at]


def _reasons(purchases: Purchases, rows: pd.DataFrame, offers: pd.DataFrame, plan_date: date) -> pd.Series:
    """Why this supplier, this day and this quantity, in words."""
    record, offer = purchases.record, purchases.offer
    days = record.order_cover.shape[1]
    last = days - 1 - (record.order_cover[:, ::-1] > 0).argmax(axis=1) if days else record.order_needed
    last = np.where((record.order_cover > 0).any(axis=1), np.maximum(last, record.order_needed), record.order_needed)
    spans, at_span = np.unique(record.order_needed * NEVER + last, return_inverse=True)
    first_on, last_on = (
        [day.isoformat() if day else "" for day in dates_of(part, plan_date)] for part in np.divmod(spans, NEVER)
    )
    covers = [f"; covers the needs of {first} to {last}" for first, last in zip(first_on, last_on, strict=True)]
    why = offers["reason"].to_numpy(dtype=object)[offer].tolist()
    reasons = [words + covers[span] for words, span in zip(why, at_span.tolist(), strict=True)]
    is_held_up = offers["is_past_cutoff"].to_numpy(dtype=bool)[offer]
    is_held_up &= purchases.order_day == offers["first_order_day"].to_numpy(dtype=np.int64)[offer]
    cutoff = offers["order_cutoff_at"].to_numpy(dtype=object)
    for at in np.flatnonzero(is_held_up).tolist():
        held = f"; missed the order cut-off at {cutoff[offer[at]]:%H:%M}, so it is ordered a day later"
        reasons[at] = why[at] + held + covers[at_span[at]]
    rule_words = rows["rule_words"].to_numpy(dtype=object)[record.order_row]
    for at in np.flatnonzero(rows["rule"].to_numpy()[record.order_row] > 0).tolist():
        reasons[at] += rule_words[at]
    for at in np.flatnonzero(record.order_raised_from > 0).tolist():
        reasons[at] += (
            f"; {record.order_raised_from[at]} packs would do, but {record.order_packs[at]} at "
            f"{purchases.price[at]:.4f} each cost less than buying the rest later"
        )
    for at in np.flatnonzero(record.order_is_topped_up).tolist():
        reasons[at] += "; later needs brought forward to reach the supplier's minimum order"
    return pd.Series(reasons, dtype=object)


# ---------------------------------------------------------------- pegs


def with_pegs(
    lines: pd.DataFrame, record: DeliveryRecord, exploded: Explosion, at_requirement: np.ndarray
) -> pd.DataFrame:
    """Add the products that each line is bought for, and their shares, which add up to one.

    A day's net requirement is split as its gross requirement is; what only restores safety stock has no product.
    at_requirement: the requirement row of each stock, -1 for none.
    """
    cover = record.order_cover
    uses = exploded.uses
    line, use = _pairs(at_requirement[record.order_row], uses["requirement_row"].to_numpy(), len(exploded.requirements))
    weight = _weights(line, use, cover, exploded) * uses["quantity_per"].to_numpy()[use]
    product = uses["planned_row"].to_numpy()[use]
    if not (weight > 0).all():
        line, product, weight = line[weight > 0], product[weight > 0], weight[weight > 0]
    share = weight / np.bincount(line, weights=weight, minlength=len(lines))[line]
    count = np.bincount(line, minlength=len(lines))
    ends = np.cumsum(count).tolist()
    starts = [0, *ends[:-1]] if ends else []
    names = exploded.planned.keys["product_id"].to_numpy(dtype=object)[product].tolist()
    shares = share.tolist()
    return lines.assign(
        peg_product_ids=_lists([names[start:end] for start, end in zip(starts, ends, strict=True)]),
        peg_shares=_lists([shares[start:end] for start, end in zip(starts, ends, strict=True)]),
    )


def _weights(line: np.ndarray, use: np.ndarray, cover: np.ndarray, exploded: Explosion) -> np.ndarray:
    """Units of the product of each (line, use) that the line's cover is for, up to a factor of the line.

    Σ over the days that a line covers of cover / gross × planned units × needed share. Most lines cover a few days, so
    the days are gone through by their rank in the line, and a rank only for the lines that have it.
    """
    units, gross = exploded.planned["horizon_units"], exploded.requirements["gross_quantity"]
    weight = np.zeros(len(line))
    if not len(line):
        return weight
    of_line = np.full(len(cover), -1, dtype=np.int64)
    of_line[line] = exploded.uses["requirement_row"].to_numpy()[use]
    entry_line, entry_day = np.nonzero((cover > 0) & (of_line >= 0)[:, None])
    needed = gross[of_line[entry_line], entry_day]
    factor = np.divide(cover[entry_line, entry_day], needed, out=np.zeros(len(needed)), where=needed > 0)
    count = np.bincount(entry_line, minlength=len(cover))
    start = np.cumsum(count) - count
    at, entry, left = np.arange(len(line)), start[line], count[line]
    product = exploded.uses["planned_row"].to_numpy()[use]
    while len(at):
        if not left.all():
            on = np.flatnonzero(left)
            at, entry, left, product, use = at[on], entry[on], left[on], product[on], use[on]
        part = factor[entry] * units[product, entry_day[entry]] if len(at) else np.zeros(0)
        if exploded.needed_shares is not None:
            part = part * exploded.needed_shares[use, entry_day[entry]]
        weight[at] += part
        entry, left = entry + 1, left - 1
    return weight


def _pairs(wanted: np.ndarray, sorted_rows: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (position in wanted, position in sorted_rows) of equal value; -1 in wanted has none."""
    counts = np.bincount(sorted_rows, minlength=rows)
    starts = np.cumsum(counts) - counts
    size = np.where(wanted >= 0, counts[wanted], 0) if rows else np.zeros(len(wanted), dtype=np.int64)
    first = np.repeat(np.arange(len(wanted)), size)
    within = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    return first, (starts[wanted[first]] + within if len(first) else within)
