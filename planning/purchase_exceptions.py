"""What a purchase plan could not do or know, in words, with the remedy. Rows are found by array; only those get words."""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.deliveries import LOT_RULES, NOT_FIXED, Arrivals, DeliveryRecord, DeliveryTerms
from planning.explosion import LINK
from planning.frames import ROUNDING, exceptions_of, figure
from planning.item_safety import SafetyStocks
from planning.keys import NEVER
from planning.lots import NOTHING, STOCK_KEY
from planning.purchase_lines import Purchases, days_of
from planning.suppliers import Market, first_days


def supply_exceptions(
    record: DeliveryRecord,
    rows: pd.DataFrame,
    market: Market,
    terms: DeliveryTerms,
    arrivals: Arrivals,
    plan_date: date,
) -> list[tuple[object, ...]]:
    """What cannot be supplied, or not in time. Rows of each kind are found by array; only those are put in words."""
    is_offered, is_delivered = market.at_offer >= 0, terms.delivers.any(axis=1)
    is_fixed = (terms.ordered_packs != NOT_FIXED).any(axis=1)
    words = _SupplyWords(rows, market, terms, arrivals, plan_date)
    found: list[tuple[object, ...]] = []
    for code, is_concerned, missing, words_of in (
        ("missing_supplier", ~is_offered, record.net, words.no_supplier),
        ("no_delivery_in_horizon", is_offered & ~is_delivered, record.net, words.no_delivery),
        ("late_supply", is_delivered, record.late, words.late),
        ("override_shortage", is_delivered & is_fixed, record.lost, words.overridden),
        ("shelf_life_cap", is_delivered & ~is_fixed, record.lost, words.spoilt),
    ):
        total = np.round(missing.sum(axis=1), ROUNDING)
        at = np.flatnonzero(is_concerned & (total > 0))
        days = (missing[at] > 0).argmax(axis=1) if len(at) else at
        for row, quantity, day in zip(at.tolist(), total[at].tolist(), days.tolist(), strict=True):
            found.append((*words.key(row), code, *words_of(row, words.amount(row, quantity), day)))
    return found


class _SupplyWords:
    """What cannot be supplied in words: the message and the remedy of a stock, an amount and the day it is first missed."""

    def __init__(
        self, rows: pd.DataFrame, market: Market, terms: DeliveryTerms, arrivals: Arrivals, plan_date: date
    ) -> None:
        self.tenants, self.places, self.items, self.units = (
            rows[name].to_numpy(dtype=object) for name in (*STOCK_KEY, "base_unit")
        )
        self.at_offer = market.at_offer.tolist()
        by = np.lexsort((arrivals.day, arrivals.row))
        by = by[arrivals.quantity[by] > 0]
        self.arrivals: dict[int, list[tuple[int, float]]] = {}
        for row, day, quantity in zip(
            *(part[by].tolist() for part in (arrivals.row, arrivals.day, arrivals.quantity)), strict=True
        ):
            self.arrivals.setdefault(row, []).append((day, quantity))
        self.names = market.ranked["supplier_id"].to_numpy(dtype=object)
        self.first_delivery = market.first_delivery.tolist()
        self.chosen = [*np.flatnonzero(market.ranked["rank"].to_numpy() == 0).tolist(), len(market.ranked)]
        self.first = first_days(terms.delivers).tolist()
        self.dates = [(plan_date + timedelta(days=day)).isoformat() for day in range(terms.delivers.shape[1])]

    def key(self, row: int) -> tuple[object, ...]:
        return (self.tenants[row], LINK, self.places[row], "item", self.items[row])

    def amount(self, row: int, quantity: float) -> str:
        return f"{figure(quantity)} {self.units[row]} of {self.items[row]}"

    def supplier(self, row: int) -> str:
        return str(self.names[self.chosen[self.at_offer[row]]])

    def others(self, row: int, day: int) -> str:
        """Who else could deliver by a day, in words."""
        offer = self.at_offer[row]
        others = range(self.chosen[offer] + 1, self.chosen[offer + 1])
        able = [at for at in others if self.first_delivery[at] <= day]
        if able:
            names = " or ".join(
                f"{self.names[at]}, who can deliver on {self.dates[self.first_delivery[at]]}" for at in able
            )
            return f"buy it from {names}"
        return "no other supplier can deliver before it is needed"

    def no_supplier(self, row: int, amount: str, day: int) -> tuple[str, str]:
        message = f"{amount} is needed from {self.dates[day]}, but nobody supplies it"
        return message, f"Import a supplier for {self.items[row]}"

    def no_delivery(self, row: int, amount: str, day: int) -> tuple[str, str]:
        name = self.supplier(row)
        message = f"{amount} is needed from {self.dates[day]}, but {name} cannot deliver within the horizon"
        remedy = f"Check the lead days and delivery weekdays of {name}; {self.others(row, day)}"
        return message, remedy

    def late(self, row: int, amount: str, day: int) -> tuple[str, str]:
        name, first = self.supplier(row), self.dates[self.first[row]]
        message = f"{amount} is missing from {self.dates[day]}; the first new delivery by {name} is on {first}"
        what = f"the delivery by {name} of {first}"
        coming = [arrival for arrival in self.arrivals.get(row, ()) if arrival[0] > day]
        if coming:
            due, quantity = coming[0]
            what = f"the open order of {figure(quantity)} {self.units[row]} due on {self.dates[due]}"
        remedy = f"Expedite {what}; {self.others(row, day)}; or make less of the products that take it"
        return message, remedy

    def overridden(self, row: int, amount: str, day: int) -> tuple[str, str]:
        message = f"{amount} is missing from {self.dates[day]}, since packs were fixed by hand"
        return message, "Withdraw the override or raise its packs, or make less of the products that take it"

    def spoilt(self, row: int, amount: str, day: int) -> tuple[str, str]:
        message = (
            f"{amount} is missing from {self.dates[day]}: what {self.supplier(row)} delivers before does not keep, "
            "and the next delivery is later"
        )
        remedy = f"Agree on more delivery days, or find an item that keeps longer; {self.others(row, day)}"
        return message, remedy


def stock_exceptions(
    purchases: Purchases, rows: pd.DataFrame, safety: SafetyStocks, terms: DeliveryTerms, plan_date: date
) -> Iterator[tuple[object, ...]]:
    """Stock that would spoil: safety stock held down, lots beyond what is used; and lots whose cost is unknown."""
    tenants, places, items, units = (rows[name].to_numpy(dtype=object) for name in (*STOCK_KEY, "base_unit"))

    def row_of(row: int, code: str, message: str, remedy: str) -> tuple[object, ...]:
        return (tenants[row], LINK, places[row], "item", items[row], code, message, remedy)

    for row in np.flatnonzero(safety.uncapped > safety.quantity + NOTHING).tolist():
        yield row_of(
            row,
            "safety_stock_capped",
            f"{items[row]}: a safety stock of {figure(safety.uncapped[row])} {units[row]} would spoil before it is used, "
            f"so {figure(safety.quantity[row])} {units[row]} are kept",
            "Agree on more delivery days, or accept the lower service",
        )
    record = purchases.record
    excess = np.bincount(record.order_row, weights=record.order_excess, minlength=len(rows))
    first = np.full(len(rows), NEVER)
    too_much = np.flatnonzero(record.order_excess > 0)
    np.minimum.at(first, record.order_row[too_much], record.order_day[too_much])
    for row in np.flatnonzero(excess > NOTHING).tolist():
        yield row_of(
            row,
            "lot_exceeds_shelf_life",
            f"{items[row]}: {figure(excess[row])} {units[row]} of what is bought will not be used in its "
            f"{terms.keeps_days[row]} days, first of the delivery on {plan_date + timedelta(days=int(first[row]))}",
            "Ask for a smaller pack or minimum, or buy it together with another location",
        )
    is_by_cost = terms.rule == LOT_RULES.index("wagner_whitin")
    for row in np.flatnonzero(is_by_cost & np.isnan(terms.holding_cost) & rows["is_taken"].to_numpy()).tolist():
        yield row_of(
            row,
            "missing_unit_cost",
            f"{items[row]} is to be ordered at least cost, but neither its unit cost nor a price is known",
            f"Import the unit cost of {items[row]}",
        )


def price_exceptions(lines: pd.DataFrame) -> pd.DataFrame:
    """One exception per stock with lines that have no price."""
    unpriced = lines[lines["price_per_pack"].isna()].drop_duplicates([*STOCK_KEY, "supplier_id"])
    return exceptions_of(
        (
            line.tenant_id,
            LINK,
            line.location_id,
            "item",
            line.item_id,
            "missing_price",
            f"{line.supplier_id} has no price for {line.packs} packs of {line.item_id}, so the amount is unknown",
            f"Import the price per pack of {line.item_id} from {line.supplier_id}",
        )
        for line in unpriced.sort_values(STOCK_KEY).itertuples()
    )


def order_value_exceptions(
    purchases: Purchases, rows: pd.DataFrame, offers: pd.DataFrame, plan_date: date
) -> pd.DataFrame:
    """Orders to place on the run date that stay below the supplier's minimum value. Unknown amounts are left alone."""
    due = np.flatnonzero(purchases.is_due)
    orders, first, of_line = np.unique(purchases.order[due], return_index=True, return_inverse=True)
    amount = np.bincount(of_line, weights=purchases.amount[due], minlength=len(orders))
    line = due[first]
    minimum = offers["min_order_value"].astype(float).to_numpy()[purchases.offer[line]]
    supplier, tenants, places = (
        frame[name].to_numpy(dtype=object)
        for frame, name in ((offers, "supplier_id"), (rows, "tenant_id"), (rows, "location_id"))
    )
    delivery = days_of(purchases.record.order_day[line], plan_date)
    found = []
    for at in np.flatnonzero(amount < minimum).tolist():
        row, name = purchases.row[line[at]], supplier[purchases.offer[line[at]]]
        message = f"The order for {delivery[at]} comes to {amount[at]:.2f}, below the minimum of {minimum[at]:.2f}"
        remedy = (
            f"Add items from {name}, or wait for a later delivery: all later needs that keep come to less than that"
        )
        found.append((tenants[row], LINK, places[row], "supplier", name, "below_min_order_value", message, remedy))
    return exceptions_of(sorted(found))
