"""Inventory projections: 14 days of stock, lot by lot, first expired first out."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from planning.projection import Projections, project_inventory
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.stock import opening_stock
from planning_assets.summaries import sums, table
from resources.store.inputs import read_items, read_open_orders, read_supplier_items, read_suppliers
from resources.store.plans import write_projection

RISK = 0.1
"""Probability of running out within the horizon from which on an item is counted as at risk."""

RECEIPT_COLUMNS = [
    "tenant_id",
    "location_id",
    "item_id",
    "lot_id",
    "delivery_on",
    "quantity",
    "expires_on",
    "unit_cost",
]


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Everything that `project_inventory` takes, by name, as the store and the link above have it."""
    connection, tenant_ids = batch.connection, batch.tenant_ids
    procurement = batch.results["procurement_plans"]
    # Lines that this plan has turned into orders come with the orders already.
    pending = procurement.purchase_lines[~_is_ordered(batch, procurement.purchase_lines)]
    return {
        "requirements": procurement.requirements,
        "opening_lots": opening_stock(batch).lots,
        "receipts": receipts_of(read_open_orders(connection, tenant_ids, batch.plan_date, batch.run_dates), pending),
        "items": read_items(connection, tenant_ids),
        "supplier_items": read_supplier_items(connection, tenant_ids),
        "plan_date": batch.plan_date,
        "suppliers": read_suppliers(connection, tenant_ids),
        "tenants": batch.tenants,
    }


def receipts_of(open_orders: pd.DataFrame, pending: pd.DataFrame) -> pd.DataFrame:
    """What comes in: orders on their way, and purchase lines that are not ordered yet."""
    parts = [part.reindex(columns=RECEIPT_COLUMNS) for part in (open_orders, pending)]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def compute(batch: Batch) -> Projections:
    """Stock per item and day with planned consumption, orders on their way and the plan's own purchases."""
    return project_inventory(**inputs_of(batch))


def _is_ordered(batch: Batch, lines: pd.DataFrame) -> np.ndarray:
    """Which purchase lines are orders: those that were read back say so themselves, of new ones the approval decides."""
    if "status" in lines:
        return (lines["status"] == "ordered").to_numpy(dtype=bool)
    run_dates = batch.run_dates
    auto_approve = dict(zip(batch.tenants["tenant_id"], batch.tenants["auto_approve"], strict=True))
    return np.array(
        [
            order_by <= run_dates[tenant_id] and auto_approve[tenant_id]
            for tenant_id, order_by in zip(lines["tenant_id"], lines["order_by"], strict=True)
        ],
        dtype=bool,
    )


def write(batch: Batch, result: Projections) -> None:
    """A new revision per location supersedes the old one."""
    write_projection(
        batch.connection, batch.write_context, result.panel, result.exceptions, remaining(batch, result.set_aside)
    )


def describe(_batch: Batch, result: Projections) -> Mapping[str, Metadata]:
    """Shortages, stock-outs and their chances, expiries ahead, and the items that run out first."""
    panel = result.panel
    described = {}
    for tenant_id, rows in panel.keys.groupby("tenant_id").indices.items():
        keys = panel.keys.iloc[rows].assign(
            shortage=panel["shortage_quantity"][rows].sum(axis=1), expired=panel["expired_quantity"][rows].sum(axis=1)
        )
        stock_outs = keys[keys["stock_out_on"].notna()]
        first = keys.sort_values(["cover_days", "item_id"])
        described[str(tenant_id)] = {
            "dagster/row_count": dg.MetadataValue.int(len(rows)),
            "stock_outs": dg.MetadataValue.int(len(stock_outs)),
            "items_at_risk": dg.MetadataValue.int(int((keys["stock_out_probability"] > RISK).sum())),
            "expiring_items": dg.MetadataValue.int(int((keys["expired"] > 0).sum())),
            **sums(keys, {"expired_value": "expired_value"}),
            "stock": table(
                ["location", "item", "opening", "cover days", "runs out", "chance %", "order by", "short", "expires"],
                [
                    (
                        row.location_id,
                        row.item_id,
                        float(row.opening_quantity),
                        row.cover_days,
                        None if pd.isna(row.stock_out_on) else row.stock_out_on,
                        100 * float(row.stock_out_probability),
                        None if pd.isna(row.order_by) else row.order_by,
                        float(row.shortage),
                        float(row.expired),
                    )
                    for row in first.itertuples()
                ],
            ),
        }
    return described


LINK = Link(
    spec=table_spec(
        "inventory_projections",
        table="plans.projection",
        group="planning",
        deps=["procurement_plans", "stock", "orders"],
        description=(
            "Stock of each ingredient over 14 days, lot by lot, first expired first out: receipts, consumption, shortage, "
            "expiry, cover days, the day it runs out, the day by which to order, and the chance of running out."
        ),
        columns=[
            TENANT,
            PLAN_DATE,
            ("location_id", "text", "location"),
            ("item_id", "text", "ingredient or packaging"),
            ("opening_quantity", "numeric", "usable stock at the day's start, base units"),
            ("receipts_quantity", "numeric[]", "received per day, base units"),
            ("consumption_quantity", "numeric[]", "met from stock per day, base units"),
            ("shortage_quantity", "numeric[]", "not met per day, base units"),
            ("expired_quantity", "numeric[]", "expired at the end of each day, base units"),
            ("closing_quantity", "numeric[]", "left at the end of each day, base units"),
            ("cover_days", "smallint", "days that usable stock lasts without deliveries"),
            ("stock_out_on", "date", "first day with a shortage"),
            ("order_by", "date", "last day to order against it"),
            ("stock_out_probability", "real", "that it runs out within the horizon, 0 to 1"),
            ("stock_out_probability_by_day", "real[]", "that it has run out by each day, 14 days"),
            ("closing_low_quantity", "numeric[]", "left at the end of each day if demand is high, base units"),
            ("closing_high_quantity", "numeric[]", "left at the end of each day if demand is low, base units"),
        ],
    ),
    kind="projection",
    compute=compute,
    write=write,
    load=compute,
    describe=describe,
)
