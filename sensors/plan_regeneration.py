"""Plans made again: the rejection of a plan for stale data becomes a run. When one is asked for is decided in approval.

A request that a run has settled is closed by the run itself, whoever launched it. One whose run failed stays open and is
not launched a second time: the tenant's failure is shown, and waits for a person.
"""

import os
from datetime import date

import dagster as dg
import pandas as pd

from planning_assets.scope import DayConfig, anchor_of
from planning_assets.window import outside_window
from resources import vocabulary
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.approval import read_open_regenerations
from resources.store.pauses import read_paused

NAME = "plan_regeneration_sensor"
RUNS_A_TICK = 20
"""Runs launched at a time; the oldest requests come first, the others at the next ticks."""

PRIORITY = 3
"""Before the runs of schedules, whose tiers have 0 to 2: somebody has rejected a plan and waits for a better one."""


def build_plan_regeneration_sensor(window_start: date) -> dg.SensorDefinition:
    """The sensor, over a window of dates that begins at `window_start`."""

    @dg.sensor(
        name=NAME,
        job_name="daily_plan_job",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Plans dates again whose plan was rejected for stale data, at most three times each.",
    )
    def plan_regeneration_sensor(
        context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
    ) -> dg.SensorResult | dg.SkipReason:
        """Launch a run for every open request that has had none."""
        if os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() == "true":
            return dg.SkipReason(f"{vocabulary.SCHEDULER_DISABLED}: {vocabulary.SCHEDULER_DISABLED_SETTING} is true.")
        with store.open() as opened, opened.transaction() as connection:
            paused = read_paused(connection)
            asked = read_open_regenerations(connection)
        if paused.everybody is not None:
            return dg.SkipReason(f"{vocabulary.SCHEDULING_PAUSED}: {paused.everybody}")
        asked = asked[~asked["tenant_id"].isin(paused.tenant_ids)]
        asked = asked.assign(
            run_key=[f"plan_regeneration|{row.tenant_id}|{row.plan_date}|{row.attempt}" for row in asked.itertuples()]
        )
        waiting = asked[~asked["run_key"].isin(_launched(context.instance, list(asked["run_key"])))]
        requests: list[dg.RunRequest] = []
        for row in waiting.itertuples():
            outside = outside_window([row.plan_date], window_start, clock.now())
            if outside is not None:
                # Such a partition is none: the request would fail the tick, and with it all others.
                context.log.warning(f"{row.tenant_id} cannot be planned again: {outside}")
            elif len(requests) < RUNS_A_TICK:
                context.log.info(
                    f"{vocabulary.PLAN_REGENERATING}: {row.tenant_id} for {row.plan_date}, attempt {row.attempt}"
                )
                requests.append(_run_request(context.instance, row))
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SkipReason(
            "No rejected plan waits to be made again."
            if asked.empty
            else f"{len(asked)} rejected plans wait; each has had its run, or a date that the grid does not hold."
        )

    return plan_regeneration_sensor


def _launched(instance: dg.DagsterInstance, run_keys: list[str]) -> set[str]:
    """Those of the run keys that have a launched run already, whatever became of it."""
    if not run_keys:
        return set()
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": NAME, "dagster/run_key": run_keys}))
    # A run that was written and not launched, since the daemon died in between, is launched when it is asked for again.
    return {run.tags["dagster/run_key"] for run in runs if run.status is not dg.DagsterRunStatus.NOT_STARTED}


def _run_request(instance: dg.DagsterInstance, row: pd.Series) -> dg.RunRequest:
    config = DayConfig(
        date=row.plan_date.isoformat(),
        tenants=[row.tenant_id],
        workflow=vocabulary.DAILY_OPERATIONS,
        # What was rejected is made again also when no import has come since.
        skip_up_to_date=False,
        triggered_by=f"rejection by {row.requested_by}, attempt {row.attempt}",
    )
    return dg.RunRequest(
        partition_key=anchor_of(instance, row.plan_date, config.tenants),
        run_key=row.run_key,
        run_config=dg.RunConfig(ops={"daily_plan": config}),
        tags={"dagster/priority": str(PRIORITY), "daybreak/zone": row.timezone},
    )
