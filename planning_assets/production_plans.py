"""Production plans: what to bake, in batches, each with the money it is expected to make."""

from collections.abc import Mapping

import dagster as dg

from planning.frames import PLAN_DAYS, exceptions_of, set_aside_of
from planning.production import ProductionPlans, plan_production
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.stock import opening_stock
from planning_assets.summaries import sums, table
from resources.store.inputs import (
    read_assortment,
    read_customer_orders,
    read_planned_production,
    read_products,
)
from resources.store.plans import write_production


def compute(batch: Batch) -> ProductionPlans:
    """Batches per product for the plan date by expected marginal profit, and tentative quantities for the days after."""
    connection, tenant_ids = batch.connection, batch.tenant_ids
    return plan_production(
        batch.results["forecasts"].panel,
        assortment=read_assortment(connection, tenant_ids),
        products=read_products(connection, tenant_ids, batch.run_dates),
        orders=read_customer_orders(connection, tenant_ids, batch.plan_date, PLAN_DAYS, batch.run_dates),
        opening_lots=opening_stock(batch).lots,
        tenants=batch.tenants,
        plan_date=batch.plan_date,
    )


def write(batch: Batch, result: ProductionPlans) -> None:
    """A new revision per production location supersedes the old one."""
    write_production(
        batch.connection, batch.write_context, result.lines, result.exceptions, remaining(batch, result.set_aside)
    )


def load(batch: Batch) -> ProductionPlans:
    """The active plan's quantities, for a run that starts below them."""
    planned = read_planned_production(batch.connection, batch.tenant_ids, batch.plan_date)
    return ProductionPlans(lines=planned.keys, planned=planned, exceptions=exceptions_of(), set_aside=set_aside_of())


def describe(_batch: Batch, result: ProductionPlans) -> Mapping[str, Metadata]:
    """Batches, units, expected profit, waste and lost sales, and the sheet's largest lines."""
    described = {}
    exceptions = result.exceptions.groupby("tenant_id").size()
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
        deps=["forecasts", "products", "orders", "stock"],
        description=(
            "Batches to make per product and production location for the plan date: as many as each add expected profit "
            "(newsvendor), with expected waste, lost sales and what limited the line; tentative quantities for 13 days after."
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
            ("expected_waste_units", "numeric", "units expected to be left over"),
            ("expected_lost_units", "numeric", "units of demand expected to be missed"),
            ("expected_profit", "numeric", "tenant's currency; null where a cost is unknown"),
            ("batch_marginal_values", "numeric[]", "expected gain of each batch, tenant's currency"),
            ("horizon_units", "numeric[]", "units per day, 14 days, from the second on tentative"),
        ],
    ),
    kind="production",
    compute=compute,
    write=write,
    load=load,
    describe=describe,
)
