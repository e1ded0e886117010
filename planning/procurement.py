"""The procurement link: time-phased requirements of bought items and the purchase lines that cover them.

What products take is planning/explosion; the textbook MRP record, without delivery days and expiry, is planning/mrp.
Column t of every matrix is the t-th day from plan_date.
"""

from dataclasses import dataclass
from datetime import date, time

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from planning.explosion import BOUGHT_KINDS, LINK, Explosion, explode
from planning.frames import ROUNDING, Panel, PlanningError, exceptions_of
from planning.keys import NEVER, dates_of, day_numbers, distinct, looked_up, positions
from planning.lots import STOCK_KEY, last_usable_days, take_first
from planning.mrp import order_packs

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
)
OFFER_KEY = ["tenant_id", "supplier_id", "item_id"]


@dataclass(frozen=True)
class ProcurementPlans:
    """Requirements (days x bought items) and the purchase lines that cover them.

    requirements, base units: gross, scheduled receipts, net (on the day it is needed), planned receipts, projected on
    hand (end of day; negative while a need waits for its delivery), expired, and lost (a need that no delivery can
    cover, because what is delivered before it has expired by then):
    on hand = on hand of the day before + scheduled + planned receipts − gross − expired + lost.
    """

    requirements: Panel
    purchase_lines: pd.DataFrame
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


@dataclass(frozen=True)
class DeliveryTerms:
    """How each of n rows is delivered. Rows without a supplier are never delivered (delivers all False, pack 1).

    delivers (n, T); keeps_days (n,): days a delivery is usable, counted with its own, NEVER if it keeps.
    """

    delivers: np.ndarray
    keeps_days: np.ndarray
    pack_quantity: np.ndarray
    min_packs: np.ndarray
    multiple_packs: np.ndarray


@dataclass(frozen=True)
class DeliveryRecord:
    """An MRP record planned on delivery days. Matrices (n, T) in base units, and one entry per order.

    net: on the day it is needed. late: the part of a day's gross requirement that waits for a later receipt; lost: the
    part that nothing can cover. order_cover (orders, T): the net requirement of each day that the order covers.
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
    order_needed: np.ndarray
    order_is_late: np.ndarray
    order_cover: np.ndarray


def plan_procurement(
    planned: Panel,
    recipes: pd.DataFrame,
    items: pd.DataFrame,
    suppliers: pd.DataFrame,
    supplier_items: pd.DataFrame,
    supplier_prices: pd.DataFrame,
    opening_lots: pd.DataFrame,
    open_orders: pd.DataFrame,
    tenants: pd.DataFrame,
    plan_date: date,
) -> ProcurementPlans:
    """Buy what the planned products take over the horizon, for every tenant of the batch.

    opening_lots are on hand at the opening of plan_date; those past their last usable day do not count. Open orders due
    before plan_date are in them already, and orders due after the horizon do not help within it. Orders go out from
    run_date on, or from the day after where the supplier's order_cutoff_at lies before as_of_time, the tenant's local
    time (datetime.time) at which the plan is made. A delivery comes on a delivery weekday of the supplier, not before
    the first order day + lead_days, and covers the net requirement until the day before the next one, or as long as it
    keeps. Nothing is bought for days beyond the horizon but by rounding to packs.

    tenants: tenant_id, run_date, as_of_time.

    Raises PlanningError when a tenant has no row in `tenants`.
    """
    exploded = explode(planned, recipes, items)
    rows = _requirement_rows(exploded, items, opening_lots, open_orders, exploded.set_aside["tenant_id"])
    offers = choose_suppliers(suppliers, supplier_items, supplier_prices, items)
    run_days = _run_days(offers, tenants, plan_date)
    is_past_cutoff = _is_past_cutoff(offers, tenants)
    offers = offers.assign(is_past_cutoff=is_past_cutoff, first_order_day=run_days + is_past_cutoff)
    at_offer = positions(rows, offers, ["tenant_id", "item_id"])
    gross, days = _spread_gross(exploded, rows), planned.days

    terms = _delivery_terms(rows, offers, at_offer, plan_date, days)
    opening = _opening_by_last_day(rows, opening_lots, plan_date, days)
    scheduled = _scheduled(rows, open_orders, plan_date, days)
    record = plan_deliveries(gross, rows["safety_stock_quantity"].to_numpy(), opening, scheduled, terms)
    requirements = Panel(
        rows[STOCK_KEY].assign(
            opening_quantity=np.round(opening.sum(axis=1), ROUNDING),
            safety_stock_quantity=rows["safety_stock_quantity"],
        ),
        {
            "gross_quantity": gross,
            "scheduled_receipts_quantity": _rounded(np.stack([part.sum(axis=1) for part in scheduled], axis=1)),
            "net_quantity": _rounded(record.net),
            "planned_receipts_quantity": _rounded(record.receipts),
            "projected_on_hand_quantity": _rounded(record.on_hand),
            "expired_quantity": _rounded(record.expired),
            "lost_quantity": _rounded(record.lost),
        },
        plan_date,
    )
    lines = _purchase_lines(
        record,
        rows=rows,
        offers=offers,
        at_offer=at_offer,
        supplier_prices=supplier_prices,
        plan_date=plan_date,
    )
    lines = _with_pegs(lines, record, exploded, rows, gross)
    exceptions = [
        exploded.exceptions,
        _supply_exceptions(record, rows=rows, offers=offers, at_offer=at_offer, terms=terms, plan_date=plan_date),
        _price_exceptions(lines),
        _order_value_exceptions(lines, suppliers, tenants),
    ]
    return ProcurementPlans(
        requirements,
        lines.sort_values(
            ["tenant_id", "location_id", "supplier_id", "order_by", "item_id", "delivery_on"], ignore_index=True
        )[list(LINE_COLUMNS)],
        pd.concat([part for part in exceptions if len(part)] or exceptions[:1], ignore_index=True),
        exploded.set_aside,
    )


# ---------------------------------------------------------------- suppliers


def choose_suppliers(
    suppliers: pd.DataFrame, supplier_items: pd.DataFrame, supplier_prices: pd.DataFrame, items: pd.DataFrame
) -> pd.DataFrame:
    """The offer to buy each item by: one row per tenant_id and item_id, ascending, with `reason` in words.

    The lowest priority number wins, then the lowest price per base unit of the smallest order (an unknown price loses),
    then the supplier id. Adds price_per_base_unit, delivery_weekdays, order_cutoff_at and reason to the columns
    of supplier_items.
    """
    offers = supplier_items.sort_values(["tenant_id", "item_id", "supplier_id"], ignore_index=True)
    at_supplier = positions(offers, suppliers, ["tenant_id", "supplier_id"])
    if (at_supplier < 0).any():
        tenant_id, supplier_id = offers.loc[at_supplier < 0, ["tenant_id", "supplier_id"]].iloc[0]
        raise PlanningError(f"Supplier {supplier_id} of {tenant_id} offers items but is not among the suppliers")
    at_item = positions(offers, items, ["tenant_id", "item_id"])
    smallest = order_packs(
        np.ones(len(offers)),
        np.full(len(offers), np.inf),
        offers["min_packs"].to_numpy(dtype=float),
        offers["multiple_packs"].to_numpy(dtype=float),
    )
    price = price_per_pack(offers[OFFER_KEY], smallest, supplier_prices)
    per_base_unit = np.round(price / offers["pack_quantity"].astype(float).to_numpy(), 9)
    offers = offers.assign(
        price_per_base_unit=per_base_unit,
        delivery_weekdays=suppliers["delivery_weekdays"].to_numpy(dtype=object)[at_supplier],
        order_cutoff_at=suppliers["order_cutoff_at"].to_numpy(dtype=object)[at_supplier],
        base_unit=items["base_unit"].to_numpy(dtype=object)[at_item] if len(items) else "unit",
    )
    order = ["tenant_id", "item_id", "priority", "price_per_base_unit", "supplier_id"]
    offers = offers.sort_values(order, na_position="last", ignore_index=True)
    of_item = offers.groupby(["tenant_id", "item_id"])
    first = offers.drop_duplicates(["tenant_id", "item_id"])
    rivals = of_item["supplier_id"].transform("size").loc[first.index]
    at_priority = offers.groupby(["tenant_id", "item_id", "priority"])["supplier_id"].transform("size").loc[first.index]
    columns = ["tenant_id", "item_id", "priority", "price_per_base_unit"]
    at_price = offers.groupby(columns, dropna=False)["supplier_id"].transform("size").loc[first.index]
    reasons = [
        _why(priority=priority, price=price, base_unit=unit, rivals=rival, at_priority=equal, at_price=same)
        for priority, price, unit, rival, equal, same in zip(
            first["priority"],
            first["price_per_base_unit"],
            first["base_unit"],
            rivals,
            at_priority,
            at_price,
            strict=True,
        )
    ]
    return first.assign(reason=reasons).reset_index(drop=True)


def _why(*, priority: int, price: float, base_unit: str, rivals: int, at_priority: int, at_price: int) -> str:
    """Why this supplier, in words."""
    if rivals == 1:
        return "the only supplier"
    if at_priority == 1:
        return f"priority {priority}, the first of {rivals} suppliers"
    if np.isnan(price):
        return f"first by id of {at_price} suppliers with priority {priority}, none of them with a price"
    if at_price == 1:
        return f"lowest price ({price:.4f} per {base_unit}) of {at_priority} suppliers with priority {priority}"
    return (
        f"first by id of {at_price} suppliers with priority {priority} and the same price ({price:.4f} per {base_unit})"
    )


def price_per_pack(offers: pd.DataFrame, packs: np.ndarray, supplier_prices: pd.DataFrame) -> np.ndarray:
    """The price of each of `packs` packs (n,) by the highest break they reach (all-units discount); NaN if unknown."""
    asked = offers[OFFER_KEY].assign(asked=np.arange(len(offers)), packs=packs)
    found = asked.merge(supplier_prices[[*OFFER_KEY, "from_packs", "price_per_pack"]], on=OFFER_KEY)
    found = found[found["from_packs"] <= found["packs"]].sort_values(["asked", "from_packs"])
    found = found.drop_duplicates("asked", keep="last")
    prices = np.full(len(offers), np.nan)
    prices[found["asked"].to_numpy(dtype=np.int64)] = found["price_per_pack"].to_numpy(dtype=float)
    return prices


def _run_days(offers: pd.DataFrame, tenants: pd.DataFrame, plan_date: date) -> np.ndarray:
    """The day number of each offer's tenant's run date."""
    at = positions(offers, tenants, ["tenant_id"])
    if (at < 0).any():
        raise PlanningError(f"Tenant {offers['tenant_id'].to_numpy()[at < 0][0]} has no row among the tenants")
    return day_numbers(tenants["run_date"], plan_date)[at] if len(offers) else np.zeros(0, dtype=np.int64)


def _is_past_cutoff(offers: pd.DataFrame, tenants: pd.DataFrame) -> np.ndarray:
    """Whether each offer's supplier takes no more orders on the run date: (n,) bool. Every tenant must be known."""
    at = positions(offers, tenants, ["tenant_id"])
    times = zip(offers["order_cutoff_at"], tenants["as_of_time"].to_numpy(dtype=object)[at], strict=True)
    return np.array([cutoff < as_of for cutoff, as_of in times] if len(offers) else [], dtype=bool)


# ---------------------------------------------------------------- what the record starts from


def _requirement_rows(
    exploded: Explosion,
    items: pd.DataFrame,
    opening_lots: pd.DataFrame,
    open_orders: pd.DataFrame,
    set_aside: pd.Series,
) -> pd.DataFrame:
    """A row per stock of a bought item that products take, or that is on hand or on order, with the item's values.

    Safety stock is kept only where products take the item.
    """
    bought = items[items["kind"].isin(BOUGHT_KINDS)]
    stocked = [
        frame[(positions(frame, bought, ["tenant_id", "item_id"]) >= 0) & ~frame["tenant_id"].isin(set_aside)]
        for frame in (opening_lots, open_orders)
    ]
    rows = distinct((exploded.requirements.keys, *stocked), STOCK_KEY)
    is_taken = positions(rows, exploded.requirements.keys, STOCK_KEY) >= 0
    at = positions(rows, items, ["tenant_id", "item_id"])
    return rows.assign(
        safety_stock_quantity=np.where(is_taken, looked_up(items["safety_stock_quantity"], at, 0.0), 0.0),
        shelf_life_days=looked_up(items["shelf_life_days"], at),
        removal_days=looked_up(items["removal_days"], at, 0.0),
        base_unit=items["base_unit"].to_numpy(dtype=object)[at] if len(rows) else [],
    )


def _spread_gross(exploded: Explosion, rows: pd.DataFrame) -> np.ndarray:
    gross = np.zeros((len(rows), exploded.requirements.days))
    gross[positions(exploded.requirements.keys, rows, STOCK_KEY)] = exploded.requirements["gross_quantity"]
    return gross


def _delivery_terms(
    rows: pd.DataFrame, offers: pd.DataFrame, at_offer: np.ndarray, plan_date: date, days: int
) -> DeliveryTerms:
    weekday = np.zeros((len(offers), 7), dtype=bool)
    lists = [np.asarray(weekdays, dtype=np.int64) for weekdays in offers["delivery_weekdays"]]
    weekday[
        np.repeat(np.arange(len(offers)), [len(part) for part in lists]), np.concatenate([*lists, []]).astype(int)
    ] = True
    first = offers["first_order_day"].to_numpy(dtype=np.int64) + offers["lead_days"].to_numpy(dtype=np.int64)
    column = np.arange(days)
    delivers = weekday[:, (plan_date.weekday() + column) % 7] & (column >= first[:, None])
    keeps = rows["shelf_life_days"].to_numpy() - rows["removal_days"].to_numpy()
    has_offer = at_offer >= 0
    none = np.zeros((len(rows), days), dtype=bool)
    return DeliveryTerms(
        np.where(has_offer[:, None], delivers[at_offer], none) if len(offers) else none,
        np.where(np.isnan(keeps), NEVER, keeps).astype(np.int64),
        looked_up(offers["pack_quantity"], at_offer, 1.0),
        looked_up(offers["min_packs"], at_offer, 1.0),
        looked_up(offers["multiple_packs"], at_offer, 1.0),
    )


def _opening_by_last_day(rows: pd.DataFrame, opening_lots: pd.DataFrame, plan_date: date, days: int) -> np.ndarray:
    """Usable opening stock by last usable day: (n, days + 1); the last column holds what outlasts the horizon."""
    stock = np.zeros((len(rows), days + 1))
    at = positions(opening_lots, rows, STOCK_KEY)
    lots, at = opening_lots[at >= 0], at[at >= 0]
    unknown = np.full(len(lots), np.nan)
    last = last_usable_days(
        lots["expires_on"], np.zeros(len(lots), dtype=np.int64), unknown, rows["removal_days"].to_numpy()[at], plan_date
    )
    usable = last >= 0
    quantity = lots["quantity"].astype(float).clip(lower=0.0).to_numpy()
    np.add.at(stock, (at[usable], np.minimum(last[usable], days)), quantity[usable])
    return stock


def _scheduled(rows: pd.DataFrame, open_orders: pd.DataFrame, plan_date: date, days: int) -> list[csr_array]:
    """For each day, what arrives by open order, by last usable day: (n, days + 1)."""
    at, arrives = positions(open_orders, rows, STOCK_KEY), day_numbers(open_orders["delivery_on"], plan_date)
    due = (at >= 0) & (arrives >= 0) & (arrives < days)
    orders, at, arrives = open_orders[due], at[due], arrives[due]
    shelf, removal = rows["shelf_life_days"].to_numpy()[at], rows["removal_days"].to_numpy()[at]
    last = last_usable_days(orders["expires_on"], arrives, shelf, removal, plan_date)
    quantity = orders["quantity"].astype(float).to_numpy()
    # An order that arrives past its last usable day expires on arrival: column `arrives` is cleared that evening.
    column = np.clip(last, arrives, days)
    quantity = np.where(last >= arrives, quantity, 0.0)
    return [
        csr_array((quantity[now], (at[now], column[now])), shape=(len(rows), days + 1))
        for now in (arrives == day for day in range(days))
    ]


# ---------------------------------------------------------------- the record on delivery days


def plan_deliveries(
    gross: np.ndarray, safety_stock: np.ndarray, opening: np.ndarray, scheduled: list[csr_array], terms: DeliveryTerms
) -> DeliveryRecord:
    """The MRP record with a delivery-calendar period order quantity, stock used first-expired-first-out.

    gross (n, T); safety_stock (n,); opening (n, T + 1) by last usable day; scheduled: T matrices of that shape.
    A need before the first possible delivery waits for it (and is bought then); a need after it that no delivery can
    cover, since what was delivered has expired, is lost.
    """
    rows, days = gross.shape
    made = {name: np.zeros((rows, days)) for name in ("net", "receipts", "on_hand", "expired", "late", "lost")}
    orders: list[dict[str, np.ndarray]] = []
    next_delivery = _next_delivery(terms.delivers)
    # A millionth of a pack is what rounding up to packs may leave open.
    dust = 10.0**-ROUNDING * np.maximum(terms.pack_quantity, 1.0)
    stock, waiting, missing = opening.copy(), np.zeros(rows), np.zeros(rows)
    waiting_since, covered_until = np.full(rows, NEVER), np.full(rows, -1)
    is_past_first = np.zeros(rows, dtype=bool)
    for day in range(days):
        stock += scheduled[day].toarray()
        due = np.flatnonzero(terms.delivers[:, day])
        last_day = np.minimum(day + terms.keeps_days[due] - 1, days)
        covered_until[due] = np.minimum(next_delivery[due, day] - 1, last_day)
        cover = _cover(
            _Outlook(gross[due], safety_stock[due], stock[due], waiting[due], last_day, covered_until[due]),
            [part[due] for part in scheduled[day + 1 :]],
            day,
        )
        # What was missing before the first delivery is bought with it, and belongs to the days on which it was missing.
        before = np.minimum(missing[due], cover[:, day])
        cover[:, day] -= before
        made["net"][due] += cover
        cover[:, :day] = before[:, None] * _shares(made["net"][due, :day])
        orders.append(_orders_of(due, day, terms, cover=cover, waiting=waiting[due], waiting_since=waiting_since[due]))
        bought = orders[-1]["at"]
        made["receipts"][due[bought], day] = orders[-1]["quantity"]
        stock[due[bought], last_day[bought]] += orders[-1]["quantity"]
        is_past_first[due] = True

        wanted = gross[:, day] + waiting
        taken = take_first(stock, wanted)
        stock -= taken
        unmet = wanted - taken.sum(axis=1)
        unmet = np.where(unmet > dust, unmet, 0.0)
        made["late"][:, day] = np.where(is_past_first, 0.0, np.minimum(gross[:, day], unmet))
        made["lost"][:, day] = np.where(is_past_first, unmet, 0.0)
        waiting = np.where(is_past_first, 0.0, unmet)
        waiting_since = np.where(waiting > 0, np.minimum(waiting_since, day), NEVER)
        short = np.clip(np.round(safety_stock + waiting - stock.sum(axis=1), ROUNDING), 0.0, None)
        made["net"][:, day] += np.where(is_past_first, made["lost"][:, day], np.clip(short - missing, 0.0, None))
        missing = np.where(is_past_first, 0.0, short)
        made["expired"][:, day] = stock[:, day]
        stock[:, day] = 0.0
        made["on_hand"][:, day] = stock.sum(axis=1) - waiting
    joined = {
        name: np.concatenate([part[name] for part in orders]) if orders else np.zeros(0)
        for name in ("row", "day", "packs", "needed", "is_late", "cover")
    }
    return DeliveryRecord(**made, **{f"order_{name}": values for name, values in joined.items()})


@dataclass(frozen=True)
class _Outlook:
    """Rows with a delivery today: what a lot delivered now would have to cover, and through which day it keeps."""

    gross: np.ndarray
    safety_stock: np.ndarray
    stock: np.ndarray
    waiting: np.ndarray
    last_day: np.ndarray
    covered_until: np.ndarray


def _cover(outlook: _Outlook, scheduled: list[csr_array], day: int) -> np.ndarray:
    """The net requirement (m, T) of each day from `day` that the delivery covers, today's with what waits for it."""
    rows = np.arange(len(outlook.gross))
    stock, waiting = outlook.stock.copy(), outlook.waiting
    net = np.zeros_like(outlook.gross)
    for ahead in range(day, int(outlook.covered_until.max(initial=-1)) + 1):
        if ahead > day:
            stock += scheduled[ahead - day - 1].toarray()
        wanted = outlook.gross[:, ahead] + waiting
        taken = take_first(stock, wanted)
        stock -= taken
        waiting = wanted - taken.sum(axis=1)
        short = np.clip(np.round(outlook.safety_stock + waiting - stock.sum(axis=1), ROUNDING), 0.0, None)
        net[:, ahead] = np.where(outlook.covered_until >= ahead, short, 0.0)
        served = np.minimum(waiting, net[:, ahead])
        waiting = waiting - served
        stock[rows, outlook.last_day] += net[:, ahead] - served
        stock[:, ahead] = 0.0
    return net


def _orders_of(
    due: np.ndarray,
    day: int,
    terms: DeliveryTerms,
    *,
    cover: np.ndarray,
    waiting: np.ndarray,
    waiting_since: np.ndarray,
) -> dict[str, np.ndarray]:
    """The orders to be delivered on a day; `at` are their positions among the rows due."""
    net = np.round(cover.sum(axis=1), ROUNDING)
    packs = order_packs(net, terms.pack_quantity[due], terms.min_packs[due], terms.multiple_packs[due])
    at = np.flatnonzero(packs > 0)
    first_needed = np.where(cover[:, day:].any(axis=1), day + (cover[:, day:] > 0).argmax(axis=1), day)
    return {
        "at": at,
        "quantity": packs[at] * terms.pack_quantity[due[at]],
        "row": due[at],
        "day": np.full(len(at), day),
        "packs": packs[at],
        "needed": np.where(waiting > 0, waiting_since, first_needed)[at],
        "is_late": (waiting > 0)[at],
        "cover": cover[at],
    }


def _next_delivery(delivers: np.ndarray) -> np.ndarray:
    """For each day the next delivery after it, (n, T); T where there is none in the horizon."""
    rows, days = delivers.shape
    result = np.full((rows, days), days)
    for day in range(days - 2, -1, -1):
        result[:, day] = np.where(delivers[:, day + 1], day + 1, result[:, day + 1])
    return result


def _shares(parts: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; 0 where that is 0."""
    total = parts.sum(axis=1, keepdims=True)
    return np.divide(parts, total, out=np.zeros_like(parts), where=total > 0)


def _rounded(quantity: np.ndarray) -> np.ndarray:
    return np.round(quantity, ROUNDING) + 0.0  # no negative zero


# ---------------------------------------------------------------- purchase lines and their pegs


def _purchase_lines(
    record: DeliveryRecord,
    *,
    rows: pd.DataFrame,
    offers: pd.DataFrame,
    at_offer: np.ndarray,
    supplier_prices: pd.DataFrame,
    plan_date: date,
) -> pd.DataFrame:
    """A line per delivery, priced; with the position of its row and of its record, for pegs."""
    stock = rows.iloc[record.order_row].reset_index(drop=True)
    offer = offers.iloc[at_offer[record.order_row]].reset_index(drop=True)
    first_order_day, lead_days = (offer[name].to_numpy(dtype=np.int64) for name in ("first_order_day", "lead_days"))
    order_day = np.maximum(first_order_day, record.order_day - lead_days)
    is_held_up = offer["is_past_cutoff"].to_numpy(dtype=bool) & (order_day == first_order_day)
    price = price_per_pack(offer, record.order_packs, supplier_prices)
    shelf = stock["shelf_life_days"].to_numpy()
    keeps = np.isnan(shelf)
    expires = np.where(keeps, NEVER, record.order_day + np.where(keeps, 0, shelf).astype(np.int64) - 1)
    pack_quantity = offer["pack_quantity"].astype(float).to_numpy()
    last_covered = record.order_cover.shape[1] - 1 - (record.order_cover[:, ::-1] > 0).argmax(axis=1)
    needed_on = dates_of(record.order_needed, plan_date)
    through = dates_of(np.maximum(last_covered, record.order_needed), plan_date)
    return stock[STOCK_KEY].assign(
        supplier_id=offer["supplier_id"],
        order_by=_objects(dates_of(order_day, plan_date)),
        delivery_on=_objects(dates_of(record.order_day, plan_date)),
        needed_on=_objects(needed_on),
        net_quantity=np.round(record.order_cover.sum(axis=1), ROUNDING),
        packs=record.order_packs,
        pack_quantity=pack_quantity,
        quantity=np.round(record.order_packs * pack_quantity, ROUNDING),
        price_per_pack=price,
        amount=np.round(price * record.order_packs, 4),
        is_late=record.order_is_late,
        reason=pd.Series(
            [
                f"{why}{_held_up(cutoff) if is_late else ''}; covers the needs of {first} to {last}"
                for why, is_late, cutoff, first, last in zip(
                    offer["reason"], is_held_up, offer["order_cutoff_at"], needed_on, through, strict=True
                )
            ],
            dtype=str,  # also when there are no lines
        ),
        expires_on=_objects(dates_of(expires, plan_date)),
        row=record.order_row,
        order=np.arange(len(stock)),
        base_unit=stock["base_unit"],
    )


def _held_up(order_cutoff_at: time) -> str:
    return f"; missed the order cut-off at {order_cutoff_at:%H:%M}, so it is ordered a day later"


def _objects(values: list[date | None]) -> pd.Series:
    return pd.Series(values, dtype=object)


def _with_pegs(
    lines: pd.DataFrame, record: DeliveryRecord, exploded: Explosion, rows: pd.DataFrame, gross: np.ndarray
) -> pd.DataFrame:
    """Add the products that each line is bought for, and their shares.

    A day's net requirement is split as its gross requirement is; what only restores safety stock has no product.
    """
    row = lines["row"].to_numpy(dtype=np.int64)
    at_requirement = positions(rows, exploded.requirements.keys, STOCK_KEY)[row]
    line, use = _pairs(at_requirement, exploded.uses["requirement_row"].to_numpy(), len(exploded.requirements))
    product = exploded.uses["planned_row"].to_numpy()[use]
    units = exploded.planned["horizon_units"]
    per_gross = np.divide(record.order_cover, gross[row], out=np.zeros_like(record.order_cover), where=gross[row] > 0)
    weight = np.zeros(len(line))
    for day in range(gross.shape[1]):
        weight += per_gross[line, day] * units[product, day]
    weight *= exploded.uses["quantity_per"].to_numpy()[use]
    line, product, weight = line[weight > 0], product[weight > 0], weight[weight > 0]
    share = weight / np.bincount(line, weights=weight, minlength=len(lines))[line]
    ends = np.cumsum(np.bincount(line, minlength=len(lines)))
    names = exploded.planned.keys["product_id"].to_numpy(dtype=object)[product].tolist()
    shares = share.tolist()
    spans = (
        list(zip(np.concatenate([[0], ends[:-1]]).astype(int).tolist(), ends.tolist(), strict=True))
        if len(lines)
        else []
    )
    return lines.assign(
        peg_product_ids=pd.Series([names[start:end] for start, end in spans], dtype=object),
        peg_shares=pd.Series([shares[start:end] for start, end in spans], dtype=object),
    )


def _pairs(wanted: np.ndarray, sorted_rows: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (position in wanted, position in sorted_rows) of equal value; -1 in wanted has none."""
    counts = np.bincount(sorted_rows, minlength=rows)
    starts = np.cumsum(counts) - counts
    size = np.where(wanted >= 0, counts[wanted], 0) if rows else np.zeros(len(wanted), dtype=np.int64)
    first = np.repeat(np.arange(len(wanted)), size)
    within = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    return first, (starts[wanted[first]] + within if len(first) else within)


# ---------------------------------------------------------------- exceptions


def _supply_exceptions(
    record: DeliveryRecord,
    *,
    rows: pd.DataFrame,
    offers: pd.DataFrame,
    at_offer: np.ndarray,
    terms: DeliveryTerms,
    plan_date: date,
) -> pd.DataFrame:
    """What cannot be supplied, or not in time. Rows of each kind are found by array; only those are put in words."""
    is_offered, is_delivered = at_offer >= 0, terms.delivers.any(axis=1)
    suppliers = np.full(len(rows), "", dtype=object)
    suppliers[is_offered] = offers["supplier_id"].to_numpy(dtype=object)[at_offer[is_offered]]
    stocks = rows[[*STOCK_KEY, "base_unit"]].assign(
        supplier_id=suppliers,
        first_delivery=_objects(dates_of(terms.delivers.argmax(axis=1), plan_date)),
    )
    found: list[tuple[object, ...]] = []
    for code, is_concerned, missing, message, remedy in (
        (
            "missing_supplier",
            ~is_offered,
            record.net,
            "{amount} is needed from {day}, but nobody supplies it",
            "Import a supplier for {item_id}",
        ),
        (
            "no_delivery_in_horizon",
            is_offered & ~is_delivered,
            record.net,
            "{amount} is needed from {day}, but {supplier_id} cannot deliver within the horizon",
            "Buy it elsewhere, or check the lead days and delivery weekdays of {supplier_id} and raise the safety stock",
        ),
        (
            "late_supply",
            is_delivered,
            record.late,
            "{amount} is missing from {day}; the first new delivery by {supplier_id} is on {first_delivery}",
            "Have a delivery brought forward, buy it elsewhere, or make less of the products that take it",
        ),
        (
            "shelf_life_cap",
            is_delivered,
            record.lost,
            "{amount} is missing from {day}: what {supplier_id} delivers before does not keep, and the next delivery is later",
            "Agree on more delivery days, or find a supplier or an item that keeps longer",
        ),
    ):
        total = np.round(missing.sum(axis=1), ROUNDING)
        at = np.flatnonzero(is_concerned & (total > 0))
        days = dates_of((missing[at] > 0).argmax(axis=1), plan_date) if len(at) else []
        for stock, quantity, day in zip(stocks.iloc[at].to_dict("records"), total[at], days, strict=True):
            amount = f"{quantity:.6g} {stock['base_unit']} of {stock['item_id']}"
            words = (part.format(**stock, amount=amount, day=day) for part in (message, remedy))
            key = (stock["tenant_id"], LINK, stock["location_id"], "item", stock["item_id"])
            found.append((*key, code, *words))
    return exceptions_of(sorted(found))


def _price_exceptions(lines: pd.DataFrame) -> pd.DataFrame:
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


def _order_value_exceptions(lines: pd.DataFrame, suppliers: pd.DataFrame, tenants: pd.DataFrame) -> pd.DataFrame:
    """Orders to place on the run date that stay below the supplier's minimum value. Unknown amounts are left alone."""
    if lines.empty:
        return exceptions_of()
    run_date = tenants["run_date"].to_numpy()[positions(lines, tenants, ["tenant_id"])]
    due = lines[lines["order_by"].to_numpy() <= run_date]
    columns = ["tenant_id", "location_id", "supplier_id", "delivery_on"]
    orders = due.groupby(columns, as_index=False)["amount"].agg(lambda amounts: amounts.sum(skipna=False))
    minimum = looked_up(suppliers["min_order_value"], positions(orders, suppliers, ["tenant_id", "supplier_id"]), 0.0)
    orders = orders.assign(minimum=minimum)
    return exceptions_of(
        (
            order.tenant_id,
            LINK,
            order.location_id,
            "supplier",
            order.supplier_id,
            "below_min_order_value",
            f"The order for {order.delivery_on} comes to {order.amount:.2f}, below the minimum of {order.minimum:.2f}",
            f"Add items needed soon from {order.supplier_id}, or order for a later delivery too",
        )
        for order in orders[orders["amount"] < orders["minimum"]].itertuples()
    )
