"""Procurement plans: which ingredients are needed when, and what to order from whom."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd

from planning.frames import exceptions_of, set_aside_of
from planning.procurement import ProcurementPlans, plan_procurement
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.overrides import overrides, with_lapsed
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.stock import opening_stock
from planning_assets.summaries import sums, table
from resources.store.inputs import (
    read_items,
    read_open_orders,
    read_purchase_lines,
    read_recipes,
    read_requirements,
    read_supplier_items,
    read_supplier_prices,
    read_suppliers,
)
from resources.store.outcomes import write_stability
from resources.store.plans import write_procurement


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Everything that `plan_procurement` takes, by name, as the store has it."""
    connection, tenant_ids, run_dates = batch.connection, batch.tenant_ids, batch.run_dates
    return {
        "planned": batch.results["production_plans"].planned,
        "recipes": read_recipes(connection, tenant_ids, run_dates),
        "items": read_items(connection, tenant_ids),
        "suppliers": read_suppliers(connection, tenant_ids),
        "supplier_items": read_supplier_items(connection, tenant_ids),
        "supplier_prices": read_supplier_prices(connection, tenant_ids, run_dates),
        "opening_lots": opening_stock(batch).lots,
        "open_orders": read_open_orders(connection, tenant_ids, batch.plan_date, run_dates),
        "tenants": batch.tenants,
        "plan_date": batch.plan_date,
        "overrides": overrides(batch).purchase,
    }


def compute(batch: Batch) -> ProcurementPlans:
    """Ingredient requirements over 14 days, net of stock and orders on their way, and purchase lines per supplier."""
    result = plan_procurement(**inputs_of(batch))
    # What nobody counted matters only where it is needed.
    needed = result.requirements.keys[["tenant_id", "location_id", "item_id"]].rename(columns={"item_id": "subject_id"})
    uncounted = opening_stock(batch).exceptions.merge(needed)
    parts = [part for part in (result.exceptions, uncounted) if len(part)]
    return replace(result, exceptions=pd.concat(parts, ignore_index=True)) if parts else result


def write(batch: Batch, result: ProcurementPlans) -> None:
    """A new revision, and how much it changes; lines that must be ordered today become orders where the tenant approves
    by itself.
    """
    auto_approve = dict(zip(batch.tenants["tenant_id"], batch.tenants["auto_approve"], strict=True))
    tenant_ids = remaining(batch, result.set_aside)
    exceptions = with_lapsed(batch, "procurement_plans", result.exceptions)
    headers = write_procurement(
        batch.connection,
        batch.write_context,
        result.requirements,
        result.purchase_lines,
        exceptions[exceptions["tenant_id"].isin(tenant_ids)],
        auto_approve,
        tenant_ids,
    )
    write_stability(batch.connection, headers, batch.plan_date, "procurement")


def load(batch: Batch) -> ProcurementPlans:
    """The active requirements and purchase lines, for a run of the projection alone."""
    return ProcurementPlans(
        requirements=read_requirements(batch.connection, batch.tenant_ids, batch.plan_date),
        purchase_lines=read_purchase_lines(batch.connection, batch.tenant_ids, batch.plan_date),
        exceptions=exceptions_of(),
        set_aside=set_aside_of(),
    )


def describe(batch: Batch, result: ProcurementPlans) -> Mapping[str, Metadata]:
    """Purchase lines, suppliers, amount, what is late, safety stock, approval, and the lines to order first."""
    described = {}
    run_dates = batch.run_dates
    auto_approve = dict(zip(batch.tenants["tenant_id"], batch.tenants["auto_approve"], strict=True))
    lines_of = dict(tuple(result.purchase_lines.groupby("tenant_id")))
    exceptions = result.exceptions.groupby("tenant_id").size()
    for tenant_id, rows in result.requirements.keys.groupby("tenant_id").indices.items():
        lines = lines_of.get(tenant_id, result.purchase_lines.iloc[:0]).sort_values(
            ["order_by", "supplier_id", "item_id"]
        )
        safety = result.requirements.keys["safety_stock_quantity"].iloc[rows].astype(float)
        described[str(tenant_id)] = {
            "dagster/row_count": dg.MetadataValue.int(len(lines)),
            "approval": dg.MetadataValue.text("approved" if auto_approve[str(tenant_id)] else "pending"),
            "purchase_orders": dg.MetadataValue.int(int(lines["order_key"].nunique())),
            "items_with_safety_stock": dg.MetadataValue.int(int((safety > 0).sum())),
            "overrides": dg.MetadataValue.int(int(lines["override_by"].notna().sum())),
            "items_required": dg.MetadataValue.int(len(rows)),
            "suppliers": dg.MetadataValue.int(int(lines["supplier_id"].nunique())),
            **sums(lines, {"amount": "amount"}),
            "lines_without_price": dg.MetadataValue.int(int(lines["amount"].isna().sum())),
            "lines_to_order_today": dg.MetadataValue.int(int((lines["order_by"] <= run_dates[str(tenant_id)]).sum())),
            "late_lines": dg.MetadataValue.int(int(lines["is_late"].sum())),
            "exceptions": dg.MetadataValue.int(int(exceptions.get(tenant_id, 0))),
            "purchases": table(
                ["order by", "supplier", "item", "packs", "quantity", "delivery", "amount"],
                [
                    (
                        row.order_by,
                        row.supplier_id,
                        row.item_id,
                        row.packs,
                        float(row.quantity),
                        row.delivery_on,
                        float(row.amount),
                    )
                    for row in lines.itertuples()
                ],
            ),
        }
    return described


LINK = Link(
    spec=table_spec(
        "procurement_plans",
        table="plans.purchase_line",
        group="planning",
        deps=["production_plans", "recipes", "suppliers", "stock", "orders"],
        description=(
            "Ingredient requirements over 14 days by recipe explosion, net of usable stock and orders on their way, with "
            "safety stock beyond the frozen plan, and purchase lines per supplier by lot rule, lead days, delivery "
            "weekdays, packs and minimums, pegged to products."
        ),
        columns=[
            TENANT,
            PLAN_DATE,
            ("location_id", "text", "receiving location"),
            ("supplier_id", "text", "supplier"),
            ("item_id", "text", "ingredient or packaging"),
            ("order_by", "date", "last day to order"),
            ("delivery_on", "date", "day of delivery"),
            ("needed_on", "date", "first day whose requirement it covers"),
            ("net_quantity", "numeric", "required beyond stock and orders, base units (kg, L, unit)"),
            ("lot_rule", "text", "how the quantity was cut into deliveries"),
            ("recommended_packs", "integer", "packs before a person's override"),
            ("override_by", "text", "who changed the packs by hand"),
            ("packs", "integer", "packs to order"),
            ("quantity", "numeric", "packs times pack quantity, base units"),
            ("amount", "numeric", "tenant's currency; null where the price is unknown"),
            ("purchase_order_id", "uuid", "lines that go out in one order"),
            ("covers_quantity", "numeric[]", "net requirement of each day that it covers, base units, 14 days"),
            ("alternatives", "jsonb", "other suppliers, and why not"),
            ("peg_product_ids", "text[]", "products that need it"),
            ("peg_shares", "numeric[]", "their shares, summing to 1"),
        ],
    ),
    kind="procurement",
    compute=compute,
    write=write,
    load=load,
    describe=describe,
)
