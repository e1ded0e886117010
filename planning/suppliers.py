"""Suppliers: who is bought from and why, at what price, on which days, and who else could deliver.

What belongs here: offers, their prices and their order and delivery days. What does not: how much is needed (see
procurement) and how deliveries cover it (see deliveries).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import isnan

import numpy as np
import pandas as pd

from planning.frames import PlanningError
from planning.keys import NEVER, day_numbers, looked_up, positions
from planning.mrp import order_packs

OFFER_KEY = ["tenant_id", "supplier_id", "item_id"]
ITEM_KEY = ["tenant_id", "item_id"]
OFFER_DEFAULTS = {"lead_sd_days": 0.0, "on_time_rate": 1.0}
SUPPLIER_DEFAULTS = {"delivery_fee": 0.0, "min_order_value": 0.0}


@dataclass(frozen=True)
class PriceBreaks:
    """Prices of n offers, all-units: from_packs (n, B) ascending and price_per_pack (n, B), padded with NEVER and NaN."""

    from_packs: np.ndarray
    price_per_pack: np.ndarray

    @classmethod
    def of(cls, offers: pd.DataFrame, supplier_prices: pd.DataFrame) -> "PriceBreaks":
        """The breaks of each offer. Raises ValueError when an offer occurs twice."""
        at = positions(supplier_prices, offers, OFFER_KEY)
        known = at >= 0
        at = at[known]
        from_packs = supplier_prices["from_packs"].to_numpy(dtype=np.int64)[known]
        price = supplier_prices["price_per_pack"].astype(float).to_numpy()[known]
        order = np.lexsort((from_packs, at))
        at, from_packs, price = at[order], from_packs[order], price[order]
        count = np.bincount(at, minlength=len(offers))
        rank = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        shape = (len(offers), int(count.max(initial=1)))
        breaks = cls(np.full(shape, NEVER, dtype=np.int64), np.full(shape, np.nan))
        breaks.from_packs[at, rank] = from_packs
        breaks.price_per_pack[at, rank] = price
        return breaks

    def select(self, rows: np.ndarray) -> "PriceBreaks":
        """The breaks of these rows; of -1 there are none."""
        if not len(self.from_packs):
            return PriceBreaks(np.full((len(rows), 1), NEVER, dtype=np.int64), np.full((len(rows), 1), np.nan))
        known = (rows >= 0)[:, None]
        return PriceBreaks(
            np.where(known, self.from_packs[rows], NEVER), np.where(known, self.price_per_pack[rows], np.nan)
        )

    def price(self, packs: np.ndarray) -> np.ndarray:
        """The price of each of `packs` packs (n,) by the highest break that they reach; NaN where none is reached."""
        tier = (self.from_packs <= packs[:, None]).sum(axis=1) - 1
        found = np.take_along_axis(self.price_per_pack, np.maximum(tier, 0)[:, None], axis=1)[:, 0]
        return np.where(tier >= 0, found, np.nan)


@dataclass(frozen=True)
class Market:
    """Who delivers to n stocks: ranked offers with first_delivery (day numbers) of each; the chosen ones; at_offer (n,)."""

    ranked: pd.DataFrame
    first_delivery: np.ndarray
    offers: pd.DataFrame
    at_offer: np.ndarray


def with_defaults(frame: pd.DataFrame, defaults: Mapping[str, float | str]) -> pd.DataFrame:
    """The frame with the columns it lacks, each with its default."""
    missing = {column: value for column, value in defaults.items() if column not in frame}
    return frame.assign(**missing) if missing else frame


def rank_offers(
    suppliers: pd.DataFrame, supplier_items: pd.DataFrame, supplier_prices: pd.DataFrame, items: pd.DataFrame
) -> pd.DataFrame:
    """All offers, ranked, as ranked_offers gives them, without their prices."""
    return ranked_offers(suppliers, supplier_items, supplier_prices, items)[0]


def ranked_offers(
    suppliers: pd.DataFrame, supplier_items: pd.DataFrame, supplier_prices: pd.DataFrame, items: pd.DataFrame
) -> tuple[pd.DataFrame, PriceBreaks]:
    """All offers by tenant_id and item_id, and their prices; the one to buy by first: `rank` 0, its `reason` in words.

    The lowest priority number wins, then the lowest expected price per base unit of the smallest order, then the
    supplier id. The expected price is the price / on_time_rate: what is to be paid for a unit that comes when it is
    needed, if one that does not has to be bought again. An unknown price loses.

    Adds to the columns of supplier_items: price_per_base_unit, expected_price, those of the supplier (delivery_weekdays,
    order_cutoff_at, delivery_fee, min_order_value), base_unit, rank and reason.

    Raises PlanningError for an offer of a supplier that is not among the suppliers.
    """
    offers = with_defaults(supplier_items, OFFER_DEFAULTS).reset_index(drop=True)
    suppliers = with_defaults(suppliers, SUPPLIER_DEFAULTS)
    at_supplier = positions(offers, suppliers, ["tenant_id", "supplier_id"])
    if (at_supplier < 0).any():
        tenant_id, supplier_id = (
            offers.loc[at_supplier < 0, ["tenant_id", "supplier_id"]].sort_values(["tenant_id", "supplier_id"]).iloc[0]
        )
        raise PlanningError(f"Supplier {supplier_id} of {tenant_id} offers items but is not among the suppliers")
    smallest = order_packs(
        np.ones(len(offers)),
        np.full(len(offers), np.inf),
        offers["min_packs"].to_numpy(dtype=float),
        offers["multiple_packs"].to_numpy(dtype=float),
    )
    breaks = PriceBreaks.of(offers, supplier_prices)
    price = breaks.price(smallest)
    per_base_unit = np.round(price / offers["pack_quantity"].astype(float).to_numpy(), 9)
    expected = np.round(per_base_unit / offers["on_time_rate"].astype(float).to_numpy(), 9)
    priority = offers["priority"].to_numpy(dtype=np.int64)
    codes = {name: pd.factorize(offers[name], sort=True)[0] for name in OFFER_KEY}
    order = np.lexsort((codes["supplier_id"], expected, priority, codes["item_id"], codes["tenant_id"]))
    at_item = positions(offers, items, ITEM_KEY)[order]
    offers = offers.take(order).reset_index(drop=True)
    at_supplier = at_supplier[order]
    starts = np.ones(len(offers), dtype=bool)
    item, tenant = codes["item_id"][order], codes["tenant_id"][order]
    starts[1:] = (item[1:] != item[:-1]) | (tenant[1:] != tenant[:-1])
    group = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    unit = _looked_up_names(items, "base_unit", at_item, "unit")
    offers = offers.assign(
        price_per_base_unit=per_base_unit[order],
        expected_price=expected[order],
        delivery_weekdays=suppliers["delivery_weekdays"].to_numpy(dtype=object)[at_supplier],
        order_cutoff_at=suppliers["order_cutoff_at"].to_numpy(dtype=object)[at_supplier],
        delivery_fee=looked_up(suppliers["delivery_fee"], at_supplier, 0.0),
        min_order_value=looked_up(suppliers["min_order_value"], at_supplier, 0.0),
        base_unit=unit,
        rank=np.arange(len(offers)) - first[group] if len(offers) else np.zeros(0, dtype=np.int64),
    )
    priority, expected = priority[order], expected[order]
    is_equal = priority == priority[first][group]
    is_same = is_equal & (
        (expected == expected[first][group]) | (np.isnan(expected) & np.isnan(expected[first][group]))
    )
    reasons = [
        _why(priority=int(number), price=paid, rate=rate, base_unit=base_unit, rivals=rivals, at_priority=equal, at_price=same)
        for number, paid, rate, base_unit, rivals, equal, same in zip(
            priority[first].tolist(),
            expected[first].tolist(),
            offers["on_time_rate"].astype(float).to_numpy()[first].tolist(),
            unit[first].tolist(),
            np.bincount(group).tolist(),
            np.bincount(group, weights=is_equal).astype(int).tolist(),
            np.bincount(group, weights=is_same).astype(int).tolist(),
            strict=True,
        )
    ]  # fmt: skip
    reason = np.full(len(offers), "", dtype=object)
    reason[first] = reasons
    return offers.assign(reason=reason), breaks.select(order)


def choose_suppliers(
    suppliers: pd.DataFrame, supplier_items: pd.DataFrame, supplier_prices: pd.DataFrame, items: pd.DataFrame
) -> pd.DataFrame:
    """The offer to buy each item by, as rank_offers has it: one row per tenant_id and item_id, ascending."""
    offers = rank_offers(suppliers, supplier_items, supplier_prices, items)
    return offers[offers["rank"] == 0].reset_index(drop=True)


def _looked_up_names(frame: pd.DataFrame, column: str, at: np.ndarray, default: str) -> np.ndarray:
    """The names of a column at positions, `default` at -1."""
    if not len(frame):
        return np.full(len(at), default, dtype=object)
    return np.where(at >= 0, frame[column].to_numpy(dtype=object)[at], default)


def _why(
    *, priority: int, price: float, rate: float, base_unit: str, rivals: int, at_priority: int, at_price: int
) -> str:
    """Why this supplier, in words. price: the expected one."""
    if rivals == 1:
        return "the only supplier"
    if at_priority == 1:
        return f"priority {priority}, the first of {rivals} suppliers"
    if np.isnan(price):
        return f"first by id of {at_price} suppliers with priority {priority}, none of them with a price"
    paid = (
        f"{price:.4f} per {base_unit}" if rate >= 1 else f"{price:.4f} per {base_unit} expected at {rate:.0%} on time"
    )
    if at_price == 1:
        return f"lowest price ({paid}) of {at_priority} suppliers with priority {priority}"
    return f"first by id of {at_price} suppliers with priority {priority} and the same price ({paid})"


def price_per_pack(offers: pd.DataFrame, packs: np.ndarray, supplier_prices: pd.DataFrame) -> np.ndarray:
    """The price of each of `packs` packs (n,) by the highest break they reach (all-units discount); NaN if unknown.

    offers: tenant_id, supplier_id, item_id; the same offer may occur more than once.
    """
    distinct_offers = offers[OFFER_KEY].drop_duplicates(ignore_index=True)
    at = positions(offers, distinct_offers, OFFER_KEY)
    return PriceBreaks.of(distinct_offers, supplier_prices).select(at).price(np.asarray(packs))


# ---------------------------------------------------------------- order days and delivery days


def with_order_days(offers: pd.DataFrame, tenants: pd.DataFrame, plan_date: date) -> pd.DataFrame:
    """Add is_past_cutoff, whether the supplier takes no more orders on the run date, and first_order_day (day number).

    Raises PlanningError when a tenant has no row in `tenants` (tenant_id, run_date, as_of_time).
    """
    at = positions(offers, tenants, ["tenant_id"])
    if (at < 0).any():
        raise PlanningError(f"Tenant {offers['tenant_id'].to_numpy()[at < 0][0]} has no row among the tenants")
    if not len(offers):
        return offers.assign(is_past_cutoff=np.zeros(0, dtype=bool), first_order_day=np.zeros(0, dtype=np.int64))
    times = zip(offers["order_cutoff_at"], tenants["as_of_time"].to_numpy(dtype=object)[at].tolist(), strict=True)
    is_past = np.array([cutoff < as_of for cutoff, as_of in times], dtype=bool)
    run_day = day_numbers(tenants["run_date"], plan_date)[at]
    return offers.assign(is_past_cutoff=is_past, first_order_day=run_day + is_past)


def delivery_days(offers: pd.DataFrame, plan_date: date, days: int) -> np.ndarray:
    """The days on which each offer can be delivered, (n, days) bool.

    A delivery comes on a delivery weekday of the supplier, not before the first order day + lead_days.
    """
    weekday = np.zeros((len(offers), 7), dtype=bool)
    weekdays = offers["delivery_weekdays"].tolist()
    count = [len(part) for part in weekdays]
    weekday[np.repeat(np.arange(len(offers)), count), [day for part in weekdays for day in part]] = True
    first = offers["first_order_day"].to_numpy(dtype=np.int64) + offers["lead_days"].to_numpy(dtype=np.int64)
    column = np.arange(days)
    return weekday[:, (plan_date.weekday() + column) % 7] & (column >= first[:, None])


def next_days(delivers: np.ndarray) -> np.ndarray:
    """For each day the next delivery after it, (n, T); T where there is none in the horizon."""
    rows, days = delivers.shape
    result = np.full((rows, days), days)
    for day in range(days - 2, -1, -1):
        result[:, day] = np.where(delivers[:, day + 1], day + 1, result[:, day + 1])
    return result


def first_days(delivers: np.ndarray) -> np.ndarray:
    """The first delivery day of each row, (n,); NEVER where there is none in the horizon."""
    if not delivers.shape[1]:
        return np.full(len(delivers), NEVER)
    return np.where(delivers.any(axis=1), delivers.argmax(axis=1), NEVER)


def alternatives_of(offers: pd.DataFrame, first_delivery: np.ndarray, plan_date: date) -> list[list[dict[str, object]]]:
    """For each offer of rank 0, in order, the other suppliers: supplier_id, price_per_base_unit (None if unknown),
    first_delivery_on (ISO date; None if not within the horizon) and reason, why it was not chosen.

    offers: as ranked; first_delivery: (n,) day numbers.
    """
    rank = offers["rank"].to_numpy()
    group = np.cumsum(rank == 0) - 1
    chosen = np.flatnonzero(rank == 0)
    found: list[list[dict[str, object]]] = [[] for _ in chosen]
    other = np.flatnonzero(rank > 0)
    dates: dict[int, str | None] = {
        day: (plan_date + timedelta(days=day)).isoformat() if day < NEVER else None
        for day in np.unique(first_delivery[other]).tolist()
    }
    names = offers["supplier_id"].to_numpy(dtype=object)
    priority, expected = offers["priority"].to_numpy(dtype=np.int64), offers["expected_price"].to_numpy()
    first = chosen[group[other]]
    for row, name, winner, number, ours, paid, theirs, price, unit, day in zip(
        group[other].tolist(),
        names[other].tolist(),
        names[first].tolist(),
        priority[other].tolist(),
        priority[first].tolist(),
        expected[other].tolist(),
        expected[first].tolist(),
        offers["price_per_base_unit"].to_numpy()[other].tolist(),
        offers["base_unit"].to_numpy(dtype=object)[other].tolist(),
        first_delivery[other].tolist(),
        strict=True,
    ):
        if number != ours:
            why = f"priority {number} comes after {ours} of {winner}"
        elif isnan(paid):
            why = "its price is unknown"
        elif paid != theirs:
            why = f"expected price {paid:.4f} per {unit}, {winner} {theirs:.4f}"
        else:
            why = f"the same price as {winner}, which comes first by id"
        found[row].append(
            {
                "supplier_id": name,
                "price_per_base_unit": None if isnan(price) else price,
                "first_delivery_on": dates[day],
                "reason": why,
            }
        )
    return found
