"""The inventory projection link: what each stock will be over the horizon, lot by lot, first-expired-first-out.

It shows what happens if the requirements and the receipts come as planned; it orders nothing.

Three paths of demand are run over the same lots: the planned requirement, which is the record, and two on which what has
been used since the first day is at its 0.1 and at its 0.9 quantile on every day. Days are independent, as they are for
safety stock: deviations add by their squares, so that a stock which was covered for a service level shows the chance of
running short that goes with it. Every day at its own 0.9 quantile would be a fortnight that never happens.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from planning.frames import ROUNDING, Panel, PlanningError, exceptions_of, figure, set_aside_of
from planning.keys import NEVER, dates_of, day_numbers, looked_up, positions
from planning.lots import NOTHING, STOCK_KEY, FefoRun, LotTable, last_usable_numbers, lot_table, run_fefo

LINK = "inventory_projections"
ITEM = ["tenant_id", "item_id"]

Z_HIGH = float(special.ndtri(0.9))
"""Standard deviations from the planned requirement to the 0.9 path; the 0.1 path lies as far below."""

SURELY = 0.99
"""Beyond this probability, and below one less it, the paths say nothing: it is taken as 1, or as 0."""


@dataclass(frozen=True)
class Projections:
    """The projection of each stock.

    panel keys: tenant_id, location_id, item_id, opening_quantity, cover_days, stock_out_on, order_by, expired_value
    (currency; NaN where the cost of something that expires is unknown), stock_out_probability (that it runs short within
    the horizon); values, (n, days) in base units: receipts, consumption (met from stock), shortage (lost, not made up for
    later), expired and closing; closing_low and closing_high on the 0.9 and the 0.1 path of demand; and
    stock_out_probability_by_day, that it has run short by the end of each day.
    """

    panel: Panel
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


def project_inventory(
    requirements: Panel,
    opening_lots: pd.DataFrame,
    receipts: pd.DataFrame,
    items: pd.DataFrame,
    supplier_items: pd.DataFrame,
    plan_date: date,
    *,
    suppliers: pd.DataFrame | None = None,
    tenants: pd.DataFrame | None = None,
) -> Projections:
    """Project every stock of the requirements over their days.

    requirements: gross_quantity, and deviation_quantity, one sigma of it (absent: certain), both (n, days).
    opening_lots: at the opening of plan_date; lots past their last usable day are not in the projection and are an
    exception. receipts: open orders and planned lines, usable from delivery_on; those due before plan_date are in
    the opening lots already. suppliers: tenant_id, supplier_id, delivery_weekdays; absent, they deliver on any day.
    tenants: tenant_id, run_date; with it, the remedy of a stock-out says whether an order can still come in time.

    cover_days: the largest n for which stock on hand alone, with no receipt, meets the first n days in full. stock_out_on:
    the first day with a shortage although all receipts come. order_by: the last day on which an order to the supplier that
    comes first (lowest priority number, then id) would be delivered by stock_out_on, on one of its delivery weekdays; it
    may be past.

    Raises PlanningError when a supplier of supplier_items is not among the suppliers.
    """
    keys = requirements.keys[STOCK_KEY]
    gross = requirements["gross_quantity"]
    deviation = requirements.values.get("deviation_quantity", np.zeros_like(gross))
    at_item = positions(keys, items, ITEM)
    lots, unusable = _lots_of(keys, at_item, opening_lots, receipts, items, plan_date)
    table = lot_table(lots["group"].to_numpy(), len(keys), lots, lots["arrives"].to_numpy(), lots["through"].to_numpy())
    runs = run_fefo(table, demand_paths(gross, deviation))
    run = FefoRun(**{name: getattr(runs, name)[1] for name in FefoRun.__dataclass_fields__})
    on_hand = _on_hand_only(table)
    stock_out = _first_day(run.shortage)
    offers = _offers(supplier_items, suppliers)
    order_by = _order_by(keys, stock_out, offers, plan_date)
    probability = stock_out_probability(runs.slack)
    closing = np.round(run.closing, ROUNDING)
    panel = Panel(
        keys.assign(
            opening_quantity=np.round(on_hand.quantity.sum(axis=1), ROUNDING),
            cover_days=_days_met(run_fefo(on_hand, gross).shortage),
            stock_out_on=_dates(stock_out, plan_date),
            order_by=_dates(order_by, plan_date),
            expired_value=_expired_value(table, run, lots),
            stock_out_probability=probability[:, -1] if probability.shape[1] else np.zeros(len(keys)),
        ),
        {
            "receipts_quantity": np.round(run.receipts, ROUNDING),
            "consumption_quantity": np.round(run.consumption, ROUNDING),
            "shortage_quantity": np.round(run.shortage, ROUNDING),
            "expired_quantity": np.round(run.expired, ROUNDING),
            "closing_quantity": closing,
            "stock_out_probability_by_day": probability,
            # More demand never leaves more stock; the bounds take off the last digit's dust only.
            "closing_low_quantity": np.minimum(np.round(runs.closing[2], ROUNDING), closing),
            "closing_high_quantity": np.maximum(np.round(runs.closing[0], ROUNDING), closing),
        },
        plan_date,
    )
    removal_days = looked_up(items["removal_days"], at_item, 0.0).astype(np.int64)
    stocks = panel.keys.assign(
        base_unit=items["base_unit"].to_numpy(dtype=object)[at_item] if len(panel) else [],
        removal_days=removal_days,
        shortage=panel["shortage_quantity"].sum(axis=1),
        expired=panel["expired_quantity"].sum(axis=1),
        last_use=_dates(_first_day(panel["expired_quantity"]), plan_date),
        unusable=unusable,
        **_rescue(keys, stock_out, order_by, offers, tenants, plan_date),
    )
    return Projections(panel, _exceptions(stocks), set_aside_of())


def demand_paths(gross: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Demand (3, n, days) whose sum from the first day is at its 0.1, 0.5 and 0.9 quantile on every day.

    The sum's deviation through day t is s_t = sqrt(Σ deviation²), so a day of the outer paths is gross -+ z (s_t - s_(t-1)),
    not below 0. The middle path is the planned requirement itself.
    """
    spread = np.sqrt(np.cumsum(np.square(deviation), axis=1))
    step = np.maximum(np.diff(spread, axis=1, prepend=0.0), 0.0)
    return np.stack([np.maximum(gross - Z_HIGH * step, 0.0), gross, gross + Z_HIGH * step])


def stock_out_probability(slack: np.ndarray) -> np.ndarray:
    """The probability (n, days) that a stock has run short by the end of each day.

    slack: (3, n, days) usable stock less demand on the 0.1, 0.5 and 0.9 path of demand, negative where short. What has been
    used by a day is z of its standard deviations from what was planned, and slack falls with z: on each day it is taken as
    linear in z from the middle path through the outer one, and beyond it. It crosses zero at some z, above which
    the stock runs short that day; by a day it has run short if z is above the lowest of these so far, the same z on all
    days. Where the paths do not differ it is 0 or 1, and so it is beyond SURELY.
    """
    low, planned, high = np.where(np.abs(slack) <= NOTHING, 0.0, slack)
    is_short = planned < 0
    # Towards the high path where the planned one suffices, towards the low one where it does not.
    change = np.where(is_short, low - planned, planned - high)
    never = np.where(is_short, -np.inf, np.inf)
    crossing = np.divide(Z_HIGH * planned, change, out=never, where=change > NOTHING)
    probability = special.ndtr(-np.minimum.accumulate(crossing, axis=1))
    return np.select([probability > SURELY, probability < 1 - SURELY], [1.0, 0.0], probability)


def _lots_of(
    keys: pd.DataFrame,
    at_item_of_key: np.ndarray,
    opening_lots: pd.DataFrame,
    receipts: pd.DataFrame,
    items: pd.DataFrame,
    plan_date: date,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Usable lots on hand and receipts of the projected stocks, and the quantity (n,) on hand that is past its use.

    Lots: group, arrives, through (day numbers), unit_cost, … A lot on hand arrives on day -1. A cost that the lot does not
    know is the item's.
    """
    parts: list[pd.DataFrame] = []
    unusable: np.ndarray = np.zeros(len(keys))
    for frame, arrival in ((opening_lots, "received_on"), (receipts, "delivery_on")):
        group = positions(frame, keys, STOCK_KEY)
        frame, group = frame[group >= 0], group[group >= 0]  # noqa: PLW2901 (only what is projected)
        at_item = at_item_of_key[group]
        is_receipt = arrival == "delivery_on"
        received = day_numbers(frame[arrival], plan_date)
        expires = day_numbers(frame["expires_on"], plan_date)
        arrives = received if is_receipt else np.full(len(frame), -1)
        shelf = looked_up(items["shelf_life_days"], at_item) if is_receipt else np.full(len(frame), np.nan)
        through = last_usable_numbers(expires, arrives, shelf, looked_up(items["removal_days"], at_item, 0.0))
        cost = frame["unit_cost"].astype(float).to_numpy()
        part = pd.DataFrame(
            {
                "group": group,
                "lot_id": frame["lot_id"].astype(str).to_numpy(),
                "quantity": frame["quantity"].astype(float).clip(lower=0.0).to_numpy(),
                "received_on": received,
                "expires_on": expires,
                "unit_cost": np.where(np.isnan(cost), looked_up(items["unit_cost"], at_item), cost),
                "arrives": arrives,
                "through": through,
            }
        )
        is_past = through < 0
        if not is_receipt:
            unusable = np.bincount(group[is_past], weights=part["quantity"].to_numpy()[is_past], minlength=len(keys))
        parts.append(part[(arrives >= 0) if is_receipt else ~is_past])
    return pd.concat(parts, ignore_index=True), unusable


def _on_hand_only(table: LotTable) -> LotTable:
    """The lots without those that are still to come."""
    is_on_hand = table.usable_from < 0
    return LotTable(np.where(is_on_hand, table.quantity, 0.0), table.usable_from, table.usable_through, table.lot)


def _first_day(quantity: np.ndarray) -> np.ndarray:
    """The first day with a quantity (n,), NEVER where there is none."""
    some = quantity > NOTHING
    return (
        np.where(some.any(axis=1), some.argmax(axis=1), NEVER) if quantity.shape[1] else np.full(len(quantity), NEVER)
    )


def _dates(numbers: np.ndarray, plan_date: date) -> pd.Series:
    """Dates of day numbers, None for NEVER, which most are."""
    dates = np.full(len(numbers), None, dtype=object)
    known = np.flatnonzero(numbers < NEVER)
    dates[known] = dates_of(numbers[known], plan_date)
    return pd.Series(dates, dtype=object)


def _days_met(shortage: np.ndarray) -> np.ndarray:
    """Days from the first that pass without a shortage, at most the horizon."""
    return np.minimum(_first_day(shortage), shortage.shape[1])


@dataclass(frozen=True)
class _Offers:
    """Who supplies each item, the first choice first: tenant_id, item_id, supplier_id, lead_days; delivers (m, 7)."""

    rows: pd.DataFrame
    delivers: np.ndarray

    def last_order_day(self, at: np.ndarray, day: np.ndarray, plan_date: date) -> np.ndarray:
        """The last day number (n,) to order from offers `at`, delivered by `day`: NEVER where -1, never, or not at all."""
        result = np.full(len(at), NEVER)
        rows = np.flatnonzero((at >= 0) & (day < NEVER))
        at, day = at[rows], day[rows]
        weekdays = (plan_date.weekday() + day[:, None] - np.arange(7)) % 7
        delivers = self.delivers[at[:, None], weekdays]
        lead_days = self.rows["lead_days"].to_numpy(dtype=np.int64)[at]
        result[rows] = np.where(delivers.any(axis=1), day - delivers.argmax(axis=1) - lead_days, NEVER)
        return result


def _offers(supplier_items: pd.DataFrame, suppliers: pd.DataFrame | None) -> _Offers:
    """The offers of each item with the weekdays of their suppliers; every weekday without suppliers."""
    rows = supplier_items.sort_values([*ITEM, "priority", "supplier_id"], ignore_index=True)
    rows = rows[[*ITEM, "supplier_id", "lead_days"]]
    if suppliers is None:
        return _Offers(rows, np.ones((len(rows), 7), dtype=bool))
    at = positions(rows, suppliers, ["tenant_id", "supplier_id"])
    if (at < 0).any():
        tenant_id, supplier_id = rows.loc[at < 0, ["tenant_id", "supplier_id"]].iloc[0]
        raise PlanningError(f"Supplier {supplier_id} of {tenant_id} offers items but is not among the suppliers")
    delivers = np.zeros((len(suppliers), 7), dtype=bool)
    lists = [list(weekdays) for weekdays in suppliers["delivery_weekdays"]]
    delivers[
        np.repeat(np.arange(len(lists)), [len(part) for part in lists]), [day for part in lists for day in part]
    ] = True
    return _Offers(rows, delivers[at])


def _order_by(keys: pd.DataFrame, stock_out: np.ndarray, offers: _Offers, plan_date: date) -> np.ndarray:
    """The last day number to order from the first choice against each stock-out, NEVER where there is none."""
    rows = np.flatnonzero(stock_out < NEVER)
    is_first = ~offers.rows.duplicated(ITEM).to_numpy()
    first = np.flatnonzero(is_first)
    found = positions(keys.iloc[rows], offers.rows[is_first], ITEM)
    at = np.full(len(keys), -1)
    at[rows[found >= 0]] = first[found[found >= 0]]
    return offers.last_order_day(at, stock_out, plan_date)


def _expired_value(table: LotTable, run: FefoRun, lots: pd.DataFrame) -> np.ndarray:
    """Cost of what expires (n,): 0 where nothing does, NaN where a lot that expires has no known cost."""
    cost = np.zeros(table.lot.shape)
    cost[table.lot >= 0] = lots["unit_cost"].to_numpy()[table.lot[table.lot >= 0]]
    value = np.where(run.expired_of_lot > NOTHING, run.expired_of_lot * cost, 0.0)
    return np.round(value.sum(axis=1), 4)


# ---------------------------------------------------------------- exceptions

SAID = (*STOCK_KEY, "base_unit")
STOCK_OUT_SAID = ("stock_out_on", "order_by", "is_too_late", "rescue_by", "rescue_on")
EXPIRY_SAID = ("expired_value", "removal_days", "last_use")


def _rescue(
    keys: pd.DataFrame,
    stock_out: np.ndarray,
    order_by: np.ndarray,
    offers: _Offers,
    tenants: pd.DataFrame | None,
    plan_date: date,
) -> dict[str, Any]:
    """Per stock is_too_late, that the first choice can no longer deliver in time, and who still can: rescue_by, rescue_on."""
    is_too_late = np.zeros(len(keys), dtype=bool)
    rescue_by, rescue_on = np.full(len(keys), "", dtype=object), np.full(len(keys), NEVER)
    rows = np.flatnonzero(order_by < NEVER)
    if tenants is not None and len(rows):
        at_tenant = positions(keys.iloc[rows], tenants, ["tenant_id"])
        run_day = np.where(at_tenant >= 0, day_numbers(tenants["run_date"], plan_date)[at_tenant], -NEVER)
        is_late = order_by[rows] < run_day
        rows, run_day = rows[is_late], run_day[is_late]
        is_too_late[rows] = True
        wanted = keys.iloc[rows][ITEM].assign(stock=rows, run_day=run_day)
        pairs = wanted.merge(offers.rows[ITEM].assign(offer=np.arange(len(offers.rows))), on=ITEM)
        offer, stock = pairs["offer"].to_numpy(dtype=np.int64), pairs["stock"].to_numpy(dtype=np.int64)
        order_on = offers.last_order_day(offer, stock_out[stock], plan_date)
        in_time = (order_on >= pairs["run_day"].to_numpy()) & (order_on < NEVER)
        # Written from the last choice to the first, so that the first stays.
        found = np.flatnonzero(in_time)[np.argsort(-offer[in_time], kind="stable")]
        rescue_by[stock[found]] = offers.rows["supplier_id"].to_numpy(dtype=object)[offer[found]]
        rescue_on[stock[found]] = order_on[found]
    return {"is_too_late": is_too_late, "rescue_by": rescue_by, "rescue_on": _dates(rescue_on, plan_date)}


def _exceptions(stocks: pd.DataFrame) -> pd.DataFrame:
    """Stock-outs, expiries and unusable stock, in words. Rows are found by array; only those are put in words."""
    found: list[tuple[object, ...]] = []
    for code, quantity, words_of, used in (
        ("stock_out", "shortage", _stock_out_words, STOCK_OUT_SAID),
        ("stock_expires", "expired", _expiry_words, EXPIRY_SAID),
        ("stock_unusable", "unusable", _unusable_words, ()),
    ):
        for stock in _records(stocks, [*SAID, *used, quantity], np.flatnonzero(stocks[quantity].to_numpy() > NOTHING)):
            amount = f"{stock['item_id']}: {figure(stock[quantity])} {stock['base_unit']}"
            key = (stock["tenant_id"], LINK, stock["location_id"], "item", stock["item_id"])
            found.append((*key, code, *words_of(amount, stock)))
    return exceptions_of(sorted(found))


def _records(frame: pd.DataFrame, names: list[str], rows: np.ndarray) -> Iterator[dict[str, Any]]:
    """Some rows as mappings; pandas' own way takes ten times as long."""
    columns = [frame[name].iloc[rows].to_numpy(dtype=object).tolist() for name in names]
    return (dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True))


def _stock_out_words(amount: str, stock: dict[str, Any]) -> tuple[str, str]:
    message = f"{amount} short from {stock['stock_out_on']}"
    if not stock["order_by"]:
        return message, "Find a supplier"
    if not stock["is_too_late"]:
        return message, f"Order by {stock['order_by']}, or have a delivery brought forward"
    message += f"; the last day to order was {stock['order_by']}"
    if stock["rescue_by"]:
        return message, f"Order from {stock['rescue_by']} by {stock['rescue_on']}, or have a delivery brought forward"
    return message, "Have a delivery brought forward, buy it elsewhere, or make less of what takes it"


def _expiry_words(amount: str, stock: dict[str, Any]) -> tuple[str, str]:
    value, removal_days = stock["expired_value"], stock["removal_days"]
    worth = "of unknown cost" if np.isnan(value) else f"worth {value:.2f}"
    rule = f", {removal_days} days before its expiry date" if removal_days else ""
    return (
        f"{amount} {worth} will expire, the first on {stock['last_use']}{rule}",
        f"Use it by {stock['last_use']}, move it to another location or offer what is made of it",
    )


def _unusable_words(amount: str, stock: dict[str, Any]) -> tuple[str, str]:
    return (
        f"{amount} on hand is past its last usable day and is not counted",
        "Take it out of stock and record it as waste, or correct its expiry date",
    )
