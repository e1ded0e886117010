"""Alerts: twice a minute everything is looked at, what changed is written down, and what waits is sent.

What is wrong and who is told is decided in resources/alerts. No cursor: everything is in the store or in Dagster's runs, so
that a tick which was killed is made up for by the next one.
"""

import os
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pandas as pd

from planning_assets.checks import report_instance_checks
from resources import vocabulary
from resources.alerts.delivery import deliver
from resources.alerts.observing import check_and_route, observe
from resources.alerts.targets import targets_of
from resources.dagster_resources import CacheResource, ClockResource, StoreResource

RUNS_LOOKED_AT = 500
RUNS_SINCE = timedelta(days=1)
"""A failed run of which nothing else is known counts so long, unless the same has succeeded since."""

BUDGET_S = 20.0
"""For sending, within the minute that Dagster gives a tick."""


def build_alerts_sensor(window_start: date) -> dg.SensorDefinition:
    """The sensor, over a grid of dates that begins at `window_start`."""

    @dg.sensor(
        name="alerts_sensor",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds what is wrong, keeps the state of alerts, and tells people: log, webhook, mail.",
    )
    def alerts_sensor(
        context: dg.SensorEvaluationContext, store: StoreResource, cache: CacheResource, clock: ClockResource
    ) -> dg.SkipReason:
        """Evaluate, update, deliver."""
        is_scheduling = os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() != "true"
        targets = targets_of(os.environ)
        with store.open() as opened, cache.open() as forecast_cache:
            if is_scheduling:
                report_instance_checks(context.instance, opened, window_start, clock.now())
            runs = failed_runs(context.instance, clock.now())
            observed = observe(opened, clock.now(), forecast_cache, is_scheduling, runs)
            _, routed = check_and_route(opened, observed, targets)
            delivered = deliver(opened, targets, clock.now, BUDGET_S)
        return dg.SkipReason(
            f"{routed.is_open} alerts are open; {routed.fired} began to fire and {routed.resolved} ended. "
            f"{delivered.sent} messages were sent, {delivered.failed} were not taken."
        )

    return alerts_sensor


def failed_runs(instance: dg.DagsterInstance, now: datetime) -> pd.DataFrame:
    """Runs that failed in the last day and were not made good: job_name, run_id, failed_at.

    A run is made good by a later one of the same job, partition and configuration that succeeded.
    """
    since = (now - RUNS_SINCE).astimezone(UTC)
    made_good: dict[tuple[str, ...], float] = {}
    for record in _records(instance, dg.DagsterRunStatus.SUCCESS, since):
        target = _target(record.dagster_run)
        made_good[target] = max(record.end_time or 0.0, made_good.get(target, 0.0))
    rows = [
        (record.dagster_run.job_name, record.dagster_run.run_id, datetime.fromtimestamp(record.end_time or 0.0, UTC))
        for record in _records(instance, dg.DagsterRunStatus.FAILURE, since)
        if (record.end_time or 0.0) >= made_good.get(_target(record.dagster_run), 0.0)
    ]
    return pd.DataFrame(rows, columns=["job_name", "run_id", "failed_at"])


def _records(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, since: datetime) -> list[dg.RunRecord]:
    found = instance.get_run_records(dg.RunsFilter(statuses=[status], updated_after=since), limit=RUNS_LOOKED_AT)
    return [record for record in found if (record.end_time or 0.0) >= since.timestamp()]


def _target(run: dg.DagsterRun) -> tuple[str, ...]:
    return (run.job_name, run.tags.get("dagster/partition", ""), repr(run.run_config))
