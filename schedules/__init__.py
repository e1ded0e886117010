"""When workflows run: one schedule per workflow and time zone in use, each choosing the tenants that are due."""

from collections.abc import Iterable

import dagster as dg

from schedules.forecast_validation import FORECAST_VALIDATION
from schedules.procurement_planning import PROCUREMENT_PLANNING
from schedules.production_planning import PRODUCTION_PLANNING
from schedules.weekly_evaluation import weekly_schedule
from schedules.workflow import zone_schedule

WORKFLOWS = (PRODUCTION_PLANNING, PROCUREMENT_PLANNING, FORECAST_VALIDATION)


def zone_schedules(zones: Iterable[str]) -> list[dg.ScheduleDefinition]:
    """The schedules of a fleet whose tenants live in these time zones."""
    return [
        schedule
        for zone in zones
        for schedule in (*(zone_schedule(workflow, zone) for workflow in WORKFLOWS), weekly_schedule(zone))
    ]
