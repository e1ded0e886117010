"""Production plans: what to bake, in batches, each with the money it is expected to make."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from planning.frames import PLAN_DAYS, exceptions_of, set_aside_of
from planning.production import ProductionPlans, plan_production
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.overrides import overrides, with_lapsed
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.stock import opening_stock
from planning_assets.summaries import sums, table
from resources.store.inputs import (
    read_assortment,
    read_customer_orders,
    read_doughs,
    read_planned_production,
    read_products,
    read_recipes,
    read_workshop,
)
from resources.store.outcomes import write_stability
from resources.store.plans import write_production


def inputs_of(batch: Batch) -> dict[str, Any]:
    """Everything that `plan_production` takes, by name, as the store has it."""
    connection, tenant_ids, run_dates = batch.connection, batch.tenant_ids, batch.run_dates
    return {
        "forecasts": batch.results["forecasts"].panel,
        "assortment": read_assortment(connection, tenant_ids),
        "products": read_products(connection, tenant_ids, run_dates),
        "orders": read_customer_orders(connection, tenant_ids, batch.plan_date, PLAN_DAYS, run_dates),
        "opening_lots": opening_stock(batch).lots,
        "tenants": batch.tenants,
        "plan_date": batch.plan_date,
        "recipes": read_recipes(connection, tenant_ids, run_dates),
        "workshop": read_workshop(connection, tenant_ids, batch.plan_date),
        "overrides": overrides(batch).production,
    }


def compute(batch: Batch) -> ProductionPlans:
    """Batches per product for the plan date by expected marginal profit, and tentative quantities for the days after."""
    return plan_production(**inputs_of(batch))


def write(batch: Batch, result: ProductionPlans) -> None:
    """A new revision per production location supersedes the old one; how much it changes is kept."""
    tenant_ids = remaining(batch, result.set_aside)
    exceptions = with_lapsed(batch, "production_plans", result.exceptions)
    headers = write_production(
        batch.connection,
        batch.write_context,
        result.lines,
        exceptions[exceptions["tenant_id"].isin(tenant_ids)],
        tenant_ids,
        doughs=result.doughs,
    )
    write_stability(batch.connection, headers, batch.plan_date, "production")


def load(batch: Batch) -> ProductionPlans:
    """The active plan's quantities, for a run that starts below them."""
    planned = read_planned_production(batch.connection, batch.tenant_ids, batch.plan_date)
    return ProductionPlans(
        lines=planned.keys,
        planned=planned,
        doughs=read_doughs(batch.connection, batch.tenant_ids, batch.plan_date),
        exceptions=exceptions_of(),
        set_aside=set_aside_of(),
    )


def late_batches(lines: pd.DataFrame) -> pd.Series:
    """How many batches of each line are ready after they are needed."""
    return pd.Series(
        [
            0 if ready_by is None or pd.isna(ready_by) else sum(ready_at > ready_by for ready_at in batches)
            for batches, ready_by in zip(lines["batch_ready_at"], lines["ready_by"], strict=True)
        ],
        index=lines.index,
        dtype="int64",
    )


def describe(_batch: Batch, result: ProductionPlans) -> Mapping[str, Metadata]:
    """Batches, units, expected profit, waste and lost sales, what the ovens held back, and the sheet's largest lines."""
    described = {}
    exceptions = result.exceptions.groupby("tenant_id").size()
    runs = result.doughs.groupby("tenant_id")["runs"].sum()
    for tenant_id, lines in result.lines.groupby("tenant_id"):
        largest = lines.sort_values(["quantity_units", "product_id"], ascending=[False, True])
        described[str(tenant_id)] = {
            "dagster/row_count": dg.MetadataValue.int(len(lines)),
            "batches": dg.MetadataValue.int(int(lines["batches"].sum())),
            **sums(
                lines,
                {
                    "units": "quantity_units",
                    "expected_profit": "expected_profit",
                    "expected_waste_units": "expected_waste_units",
                    "expected_lost_units": "expected_lost_units",
                },
            ),
            "capacity_limited_lines": dg.MetadataValue.int(int((lines["limited_by"] == "capacity").sum())),
            "late_batches": dg.MetadataValue.int(int(late_batches(lines).sum())),
            "mixer_runs": dg.MetadataValue.int(int(runs.get(tenant_id, 0))),
            "overrides": dg.MetadataValue.int(int(lines["override_by"].notna().sum())),
            "lines_without_cost": dg.MetadataValue.int(int(lines["is_default_critical_ratio"].sum())),
            "exceptions": dg.MetadataValue.int(int(exceptions.get(tenant_id, 0))),
            "sheet": table(
                ["location", "product", "batches", "units", "expected", "waste", "lost", "profit", "limited by"],
                [
                    (
                        row.location_id,
                        row.product_id,
                        row.batches,
                        float(row.quantity_units),
                        float(row.mean_demand_units),
                        float(row.expected_waste_units),
                        float(row.expected_lost_units),
                        float(row.expected_profit),
                        row.limited_by,
                    )
                    for row in largest.itertuples()
                ],
            ),
        }
    return described


LINK = Link(
    spec=table_spec(
        "production_plans",
        table="plans.production_line",
        group="planning",
        deps=["forecasts", "products", "orders", "stock", "recipes"],
        description=(
            "Batches to make per product and production location for the plan date: as many as each add expected profit "
            "(newsvendor) and the ovens and mixers have room for, with times, expected waste, lost sales and what limited "
            "the line; tentative quantities for 13 days after."
        ),
        columns=[
            TENANT,
            PLAN_DATE,
            ("location_id", "text", "where it is made"),
            ("product_id", "text", "product"),
            ("critical_ratio", "numeric", "share of days on which demand should be met, 0 to 1"),
            ("optimal_units", "numeric", "units before rounding to batches"),
            ("batches", "integer", "batches to make"),
            ("quantity_units", "numeric", "units to make"),
            ("unlimited_batches", "integer", "batches worth making if nothing else needed the ovens and mixers"),
            ("recommended_batches", "integer", "batches before a person's override"),
            ("limited_by", "text", "what kept the line from its best quantity"),
            ("limiting_resource_id", "text", "the oven or mixer that did, where one did"),
            ("override_by", "text", "who changed the batches by hand"),
            ("expected_waste_units", "numeric", "units expected to be left over"),
            ("expected_lost_units", "numeric", "units of demand expected to be missed"),
            ("expected_carried_units", "numeric", "units expected to be left and sellable the day after"),
            ("expected_profit", "numeric", "tenant's currency; null where a cost is unknown"),
            ("batch_marginal_values", "numeric[]", "expected gain of each batch, tenant's currency"),
            ("batch_starts_at", "timestamp with time zone[]", "first step of each batch; empty without process steps"),
            ("batch_ready_at", "timestamp with time zone[]", "end of each batch"),
            ("ready_by", "timestamp with time zone", "when the first units are needed"),
            ("is_late", "boolean", "whether a batch is ready after that"),
            ("horizon_units", "numeric[]", "units per day, 14 days, from the second on tentative"),
            ("deviation_units", "real[]", "one sigma by which demand may still change them, 0 on frozen days"),
        ],
    ),
    kind="production",
    compute=compute,
    write=write,
    load=load,
    describe=describe,
)
