"""Inventory projections: 14 days of stock, lot by lot, first expired first out."""

from collections.abc import Mapping

import dagster as dg
import pandas as pd

from planning.projection import Projections, project_inventory
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.stock import opening_stock
from planning_assets.summaries import sums, table
from resources.store.inputs import read_items, read_open_orders, read_supplier_items
from resources.store.plans import write_projection

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


def compute(batch: Batch) -> Projections:
    """Stock per item and day with planned consumption, orders on their way and the plan's own purchases."""
    connection, tenant_ids = batch.connection, batch.tenant_ids
    procurement = batch.results["procurement_plans"]
    ordered = read_open_orders(connection, tenant_ids, batch.plan_date, batch.run_dates)
    pending = procurement.purchase_lines
    if len(pending):
        # Lines that this plan has turned into orders come with the orders already; those read back say so themselves.
        auto_approve = dict(zip(batch.tenants["tenant_id"], batch.tenants["auto_approve"], strict=True))
        is_ordered = (
            pending["status"] == "ordered"
            if "status" in pending
            else (pending["order_by"] <= pending["tenant_id"].map(batch.run_dates))
            & pending["tenant_id"].map(auto_approve)
        )
        pending = pending[~is_ordered]
    return project_inventory(
        procurement.requirements,
        opening_lots=opening_stock(batch).lots,
        receipts=pd.concat([part for part in map(_receipts, (ordered, pending)) if len(part)] or [_receipts(ordered)]),
        items=read_items(connection, tenant_ids),
        supplier_items=read_supplier_items(connection, tenant_ids),
        plan_date=batch.plan_date,
    )


def _receipts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reindex(columns=RECEIPT_COLUMNS)


def write(batch: Batch, result: Projections) -> None:
    """A new revision per location supersedes the old one."""
    write_projection(
        batch.connection, batch.write_context, result.panel, result.exceptions, remaining(batch, result.set_aside)
    )


def describe(_batch: Batch, result: Projections) -> Mapping[str, Metadata]:
    """Shortages, stock-outs and expiries ahead, and the items that run out first."""
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
            "expiring_items": dg.MetadataValue.int(int((keys["expired"] > 0).sum())),
            **sums(keys, {"expired_value": "expired_value"}),
            "stock": table(
                ["location", "item", "opening", "cover days", "runs out", "order by", "short", "expires"],
                [
                    (
                        row.location_id,
                        row.item_id,
                        float(row.opening_quantity),
                        row.cover_days,
                        None if pd.isna(row.stock_out_on) else row.stock_out_on,
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
            "expiry, cover days, the day it runs out and the day by which to order."
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
        ],
    ),
    kind="projection",
    compute=compute,
    write=write,
    load=compute,
    describe=describe,
)
