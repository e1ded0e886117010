"""The grid: one partition per plan date and tenant, over a window of dates. Our tables keep all history."""

from datetime import date

import dagster as dg

from planning_assets.window import END_OFFSET_DAYS

TENANTS = dg.DynamicPartitionsDefinition(name="daybreak_tenants")
"""Every tenant that has ever been planned. The name is shared by nothing else on the instance."""


def tenant_days(start: date) -> dg.MultiPartitionsDefinition:
    """The grid of dates from `start` and all tenants. Keys read `2026-03-01|tenant`."""
    return dg.MultiPartitionsDefinition(
        {
            "date": dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=END_OFFSET_DAYS),
            "tenant": TENANTS,
        }
    )


def key_of(plan_date: date, tenant_id: str) -> dg.MultiPartitionKey:
    """The partition of a tenant's day."""
    return dg.MultiPartitionKey({"date": plan_date.isoformat(), "tenant": tenant_id})
