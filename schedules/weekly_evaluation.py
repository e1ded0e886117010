"""Weekly evaluation, Sunday 22:00 local: the last 30 days of forecasts, and which models are trained on their account."""

import os
import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import dagster as dg

from planning_assets.weekly_evaluation import NAME, ZoneConfig, weekly_evaluation_job
from resources.dagster_resources import StoreResource
from resources.store.pauses import read_paused
from resources.vocabulary import SCHEDULER_DISABLED, SCHEDULER_DISABLED_SETTING, WEEKLY_WORKFLOW_CRON_DEFAULT


def weekly_schedule(zone: str) -> dg.ScheduleDefinition:
    """The schedule of the weekly evaluation in a time zone. A tick missed while the instance was down is caught up with."""

    @dg.schedule(
        name=f"{NAME}__{re.sub('[^a-z0-9]+', '_', zone.lower())}_schedule",
        cron_schedule=WEEKLY_WORKFLOW_CRON_DEFAULT,
        execution_timezone=zone,
        job=weekly_evaluation_job,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Evaluates the last 30 days of every tenant in {zone}, and queues models for retraining.",
    )
    def evaluate(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if os.environ.get(SCHEDULER_DISABLED_SETTING, "").lower() == "true":
            yield dg.SkipReason(f"{SCHEDULER_DISABLED}: {SCHEDULER_DISABLED_SETTING} is true.")
            return
        with store.open() as opened, opened.transaction() as connection:
            paused = read_paused(connection)
        if paused.everybody is not None:
            yield dg.SkipReason(f"Scheduling is paused: {paused.everybody}")
            return
        on = context.scheduled_execution_time.astimezone(ZoneInfo(zone)).date().isoformat()
        config = ZoneConfig(zone=zone, date=on, triggered_by=f"schedule {NAME} {zone}")
        yield dg.RunRequest(
            run_key=f"{NAME}|{zone}|{on}",
            run_config=dg.RunConfig(ops={NAME: config}),
            tags={"daybreak/zone": zone},
        )

    return evaluate
