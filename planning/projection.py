"""The inventory projection link: what each stock will be over the horizon, lot by lot, first-expired-first-out.

It shows what happens if the requirements and the receipts come as planned; it orders nothing.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from planning.frames import ROUNDING, Panel, exceptions_of, set_aside_of
from planning.keys import NEVER, dates_of, day_numbers, looked_up, positions
from planning.lots import NOTHING, STOCK_KEY, FefoRun, LotTable, last_usable_days, lot_table, run_fefo

LINK = "inventory_projections"


@dataclass(frozen=True)
class Projections:
    """The projection of each stock.

    panel keys: tenant_id, location_id, item_id, opening_quantity, cover_days, stock_out_on, order_by, expired_value
    (currency; NaN where the cost of something that expires is unknown); values, base units (n, days): receipts,
    consumption (met from stock), shortage (lost, not made up for later), expired and closing.
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
) -> Projections:
    """Project every stock of the requirements over their days.

    opening_lots: at the opening of plan_date; lots past their last usable day are not in the projection and are an
    exception. receipts: open orders and planned lines, usable from delivery_on; those due before plan_date are in
    the opening lots already.

    cover_days: the largest n for which stock on hand alone, with no receipt, meets the first n days in full. stock_out_on:
    the first day with a shortage although all receipts come. order_by: stock_out_on less the supplier's lead days
    (lowest priority number, then id), so the last day on which an ordinary order could have prevented it; it may be past.
    """
    keys = requirements.keys[STOCK_KEY]
    gross = requirements["gross_quantity"]
    lots = _lots_of(keys, opening_lots, receipts, items, plan_date)
    table = _table(lots, len(keys))
    run = run_fefo(table, gross)
    on_hand = _table(lots[lots["arrives"] < 0].reset_index(drop=True), len(keys))
    cover_days = _days_met(run_fefo(on_hand, gross).shortage)
    stock_out = _first_day(run.shortage)
    order_by = np.where(stock_out < NEVER, stock_out - _lead_days(keys, supplier_items), NEVER)
    expired_value = _expired_value(table, run, lots)
    panel = Panel(
        keys.assign(
            opening_quantity=np.round(on_hand.quantity.sum(axis=1), ROUNDING),
            cover_days=cover_days,
            stock_out_on=pd.Series(dates_of(stock_out, plan_date), dtype=object),
            order_by=pd.Series(dates_of(order_by, plan_date), dtype=object),
            expired_value=expired_value,
        ),
        {
            "receipts_quantity": np.round(run.receipts, ROUNDING),
            "consumption_quantity": np.round(run.consumption, ROUNDING),
            "shortage_quantity": np.round(run.shortage, ROUNDING),
            "expired_quantity": np.round(run.expired, ROUNDING),
            "closing_quantity": np.round(run.closing, ROUNDING),
        },
        plan_date,
    )
    unusable = _unusable(keys, opening_lots, items, plan_date)
    return Projections(panel, _exceptions(panel, unusable, items), set_aside_of())


def _lots_of(
    keys: pd.DataFrame, opening_lots: pd.DataFrame, receipts: pd.DataFrame, items: pd.DataFrame, plan_date: date
) -> pd.DataFrame:
    """Usable lots on hand and receipts of the projected stocks: group, arrives, through (day numbers), unit_cost, …

    A lot on hand arrives on day -1. A cost that the lot does not know is the item's.
    """
    parts = []
    for frame, arrival in ((opening_lots, "received_on"), (receipts, "delivery_on")):
        group, at_item = positions(frame, keys, STOCK_KEY), positions(frame, items, ["tenant_id", "item_id"])
        is_receipt = frame is receipts
        arrives = day_numbers(frame[arrival], plan_date) if is_receipt else np.full(len(frame), -1)
        shelf = looked_up(items["shelf_life_days"], at_item) if is_receipt else np.full(len(frame), np.nan)
        removal = looked_up(items["removal_days"], at_item, 0.0)
        through = last_usable_days(frame["expires_on"], arrives, shelf, removal, plan_date)
        cost = frame["unit_cost"].astype(float).to_numpy()
        part = pd.DataFrame(
            {
                "group": group,
                "lot_id": frame["lot_id"].astype(str).to_numpy(),
                "quantity": frame["quantity"].astype(float).clip(lower=0.0).to_numpy(),
                "received_on": frame[arrival].astype(object).to_numpy(),
                "expires_on": frame["expires_on"].astype(object).to_numpy(),
                "unit_cost": np.where(np.isnan(cost), looked_up(items["unit_cost"], at_item), cost),
                "arrives": arrives,
                "through": through,
            }
        )
        parts.append(part[(group >= 0) & ((arrives >= 0) if is_receipt else (through >= 0))])
    return pd.concat(parts, ignore_index=True)


def _table(lots: pd.DataFrame, groups: int) -> LotTable:
    return lot_table(lots["group"].to_numpy(), groups, lots, lots["arrives"].to_numpy(), lots["through"].to_numpy())


def _first_day(quantity: np.ndarray) -> np.ndarray:
    """The first day with a quantity (n,), NEVER where there is none."""
    some = quantity > NOTHING
    return (
        np.where(some.any(axis=1), some.argmax(axis=1), NEVER) if quantity.shape[1] else np.full(len(quantity), NEVER)
    )


def _days_met(shortage: np.ndarray) -> np.ndarray:
    """Days from the first that pass without a shortage, at most the horizon."""
    return np.minimum(_first_day(shortage), shortage.shape[1])


def _lead_days(keys: pd.DataFrame, supplier_items: pd.DataFrame) -> np.ndarray:
    """Lead days of the supplier that comes first; NEVER where there is none, so that no order-by date is given."""
    first = supplier_items.sort_values(["tenant_id", "item_id", "priority", "supplier_id"])
    first = first.drop_duplicates(["tenant_id", "item_id"], ignore_index=True)
    lead = looked_up(first["lead_days"], positions(keys, first, ["tenant_id", "item_id"]), -float(NEVER))
    return lead.astype(np.int64)


def _expired_value(table: LotTable, run: FefoRun, lots: pd.DataFrame) -> np.ndarray:
    """Cost of what expires (n,): 0 where nothing does, NaN where a lot that expires has no known cost."""
    cost = np.zeros(table.lot.shape)
    cost[table.lot >= 0] = lots["unit_cost"].to_numpy()[table.lot[table.lot >= 0]]
    value = np.where(run.expired_of_lot > NOTHING, run.expired_of_lot * cost, 0.0)
    return np.round(value.sum(axis=1), 4)


def _unusable(keys: pd.DataFrame, opening_lots: pd.DataFrame, items: pd.DataFrame, plan_date: date) -> np.ndarray:
    """Quantity on hand that is past its last usable day, (n,)."""
    group, at_item = positions(opening_lots, keys, STOCK_KEY), positions(opening_lots, items, ["tenant_id", "item_id"])
    unknown = np.full(len(opening_lots), np.nan)
    removal = looked_up(items["removal_days"], at_item, 0.0)
    through = last_usable_days(
        opening_lots["expires_on"], np.zeros(len(opening_lots), dtype=np.int64), unknown, removal, plan_date
    )
    dead = (group >= 0) & (through < 0)
    return np.bincount(
        group[dead], weights=opening_lots["quantity"].astype(float).to_numpy()[dead], minlength=len(keys)
    )


def _exceptions(panel: Panel, unusable: np.ndarray, items: pd.DataFrame) -> pd.DataFrame:
    """Stock-outs, expiries and unusable stock, in words. Rows are found by array; only those are put in words."""
    at_item = positions(panel.keys, items, ["tenant_id", "item_id"])
    stocks = panel.keys.assign(
        base_unit=items["base_unit"].to_numpy(dtype=object)[at_item] if len(panel) else [],
        shortage=panel["shortage_quantity"].sum(axis=1),
        expired=panel["expired_quantity"].sum(axis=1),
        expires_first=pd.Series(dates_of(_first_day(panel["expired_quantity"]), panel.first_day), dtype=object),
        unusable=unusable,
    )
    found: list[tuple[object, ...]] = []
    for code, quantity, words_of in (
        ("stock_out", "shortage", _stock_out_words),
        ("stock_expires", "expired", _expiry_words),
        ("stock_unusable", "unusable", _unusable_words),
    ):
        for stock in stocks[stocks[quantity] > NOTHING].to_dict("records"):
            amount = f"{stock['item_id']}: {stock[quantity]:.6g} {stock['base_unit']}"
            key = (stock["tenant_id"], LINK, stock["location_id"], "item", stock["item_id"])
            found.append((*key, code, *words_of(amount, stock)))
    return exceptions_of(sorted(found))


def _stock_out_words(amount: str, stock: dict[str, Any]) -> tuple[str, str]:
    remedy = (
        f"Order by {stock['order_by']}, or have a delivery brought forward" if stock["order_by"] else "Find a supplier"
    )
    return f"{amount} short from {stock['stock_out_on']}", remedy


def _expiry_words(amount: str, stock: dict[str, Any]) -> tuple[str, str]:
    value = stock["expired_value"]
    worth = "of unknown cost" if np.isnan(value) else f"worth {value:.2f}"
    return (
        f"{amount} {worth} will expire, the first on {stock['expires_first']}",
        "Use it first, move it to another location or offer what is made of it",
    )


def _unusable_words(amount: str, stock: dict[str, Any]) -> tuple[str, str]:
    return (
        f"{amount} on hand is past its last usable day and is not counted",
        "Take it out of stock and record it as waste, or correct its expiry date",
    )
