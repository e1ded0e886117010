"""Packs that people fixed by hand: which of them apply, and what is said of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.deliveries import NOT_FIXED, DeliveryRecord, DeliveryTerms
from planning.explosion import LINK
from planning.keys import day_numbers, positions
from planning.lots import STOCK_KEY
from planning.purchase_lines import Purchases
from planning.suppliers import Market


@dataclass(frozen=True)
class FixedPacks:
    """Overrides that apply: packs (n, T), NOT_FIXED where planning decides; who and why by (row, day)."""

    packs: np.ndarray
    given: dict[tuple[int, int], tuple[str, str]]
    exceptions: list[tuple[object, ...]]


def fixed_packs(
    overrides: pd.DataFrame | None, rows: pd.DataFrame, market: Market, terms: DeliveryTerms, plan_date: date
) -> FixedPacks:
    """The packs that people fixed. One that matches no delivery day of the chosen supplier is an exception."""
    packs = np.full(terms.delivers.shape, NOT_FIXED, dtype=np.int64)
    given: dict[tuple[int, int], tuple[str, str]] = {}
    found: list[tuple[object, ...]] = []
    if overrides is None or overrides.empty:
        return FixedPacks(packs, given, found)
    at = positions(overrides, rows[STOCK_KEY].astype(str), STOCK_KEY).tolist()
    days = day_numbers(overrides["delivery_on"], plan_date).tolist()
    for override, row, day in zip(overrides.to_dict("records"), at, days, strict=True):
        offer = int(market.at_offer[row]) if row >= 0 else -1
        supplier = market.offers["supplier_id"].iat[offer] if offer >= 0 else None
        is_day = row >= 0 and 0 <= day < terms.delivers.shape[1] and bool(terms.delivers[row, day])
        if supplier == override["supplier_id"] and is_day:
            packs[row, day] = int(override["packs"])
            given[row, day] = (str(override["actor"]), str(override["reason"]))
            continue
        what = f"{override['packs']} packs of {override['item_id']} from {override['supplier_id']}"
        if row < 0:
            why = "nothing takes it and none is on hand"
        elif supplier is None:
            why = "nobody supplies it"
        elif supplier != override["supplier_id"]:
            why = f"it is bought from {supplier}"
        else:
            why = f"{supplier} cannot deliver on that day"
        found.append(
            (
                override["tenant_id"],
                LINK,
                override["location_id"],
                "item",
                override["item_id"],
                "override_not_applicable",
                f"{override['actor']} fixed {what} for {override['delivery_on']}, but {why}; it was not followed",
                "Withdraw the override and give one for a line of the plan",
            )
        )
    return FixedPacks(packs, given, found)


def with_overrides(lines: pd.DataFrame, purchases: Purchases, fixed: FixedPacks) -> pd.DataFrame:
    """Say on the lines whose packs a person fixed who did it and why."""
    record = purchases.record
    if not fixed.given:
        return lines
    who, why, reason = (lines[name].to_numpy(dtype=object) for name in ("override_by", "override_reason", "reason"))
    who, why, reason = who.copy(), why.copy(), reason.copy()
    for at in np.flatnonzero(fixed.packs[record.order_row, record.order_day] != NOT_FIXED).tolist():
        who[at], why[at] = fixed.given[record.order_row[at], record.order_day[at]]
        reason[at] += f"; {who[at]} ordered {record.order_packs[at]} packs instead of {record.order_recommended[at]}"
    return lines.assign(
        **{
            name: pd.Series(values, dtype=object)
            for name, values in (("override_by", who), ("override_reason", why), ("reason", reason))
        }
    )


def dropped_exceptions(
    record: DeliveryRecord, rows: pd.DataFrame, fixed: FixedPacks, plan_date: date
) -> Iterator[tuple[object, ...]]:
    """Orders that planning recommends and a person set to none: there is no line that could say it."""
    for row, day, packs in record.dropped.tolist():
        who, why = fixed.given[row, day]
        stock = rows.iloc[row]
        yield (
            stock["tenant_id"],
            LINK,
            stock["location_id"],
            "item",
            stock["item_id"],
            "override_drops_order",
            f"{who} ordered no {stock['item_id']} for {plan_date + timedelta(days=day)} instead of {packs} packs: {why}",
            "Withdraw the override if the need is still there",
        )
