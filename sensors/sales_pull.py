"""Sales pulled from tenants' own services, each every quarter of an hour, within the tick."""

import os
import time

import dagster as dg

from resources import vocabulary
from resources.dagster_resources import ClockResource, StoreResource
from resources.sales_service import Limits, pull
from resources.store.pauses import read_paused
from resources.store.sales_services import read_due_services

NAME = "sales_pull_sensor"
BUDGET_S = 20.0
"""A tick of Dagster ends after 60 s, and whatever is left is pulled by the next one."""


@dg.sensor(
    name=NAME,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Pulls sales from the services that `daybreak sales-service set` names.",
)
def sales_pull_sensor(context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource) -> dg.SkipReason:
    """Pull what is due, the longest due first, until the budget is used up."""
    if os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() == "true":
        return dg.SkipReason(f"{vocabulary.SCHEDULER_DISABLED}: {vocabulary.SCHEDULER_DISABLED_SETTING} is true.")
    deadline = time.monotonic() + BUDGET_S
    pulled, failed = 0, 0
    with store.open() as opened:
        with opened.transaction() as connection:
            paused = read_paused(connection)
            due = read_due_services(connection, clock.now())
        for tenant_id in due:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if paused.holds(tenant_id):
                continue
            result = pull(opened, tenant_id, clock.now, Limits(budget_s=left))
            if result is None:
                continue
            pulled += 1
            if result.problem is not None:
                failed += 1
                context.log.warning(f"Sales of {tenant_id} were not pulled: {result.problem}")
            elif result.rows_written:
                context.log.info(f"Pulled sales of {tenant_id}: {result.rows_written} of {result.rows} rows are new")
    return dg.SkipReason(f"Pulled from {pulled} services of {len(due)} due; {failed} failed.")
