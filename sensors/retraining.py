"""Retraining: models whose live forecasts say so are queued, and what is queued is trained, few runs at a time.

All state is in the store. A batch of requests is claimed and committed before its run is asked for; a batch without a run, since
the daemon was killed in between, is asked for again at the next tick under the same run key.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime

import dagster as dg
import pandas as pd

from planning_assets.improvements import follow_promotions, told
from planning_assets.retraining import queue_due
from planning_assets.scope import TenantConfig, tenant_anchor_of
from resources import vocabulary
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Connection
from resources.store.pauses import read_paused
from resources.store.retraining import (
    cancel_batch,
    claim_batches,
    read_launched,
    requeue_batch,
)

NAME = "retraining_sensor"
JOB = "model_training_job"
OP = "model_training"

PRIORITY = -1
"""After the runs of every morning: a model trained an hour later costs nothing."""


@dg.sensor(
    name=NAME,
    job_name=JOB,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Queues models for retraining when checks of their live forecasts fail, trains them, and judges promotions.",
)
def retraining_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SensorResult | dg.SkipReason:
    """Close the batches whose run has ended, judge promotions, queue what is due, claim batches, ask for their runs."""
    if os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() == "true":
        return dg.SkipReason(f"{vocabulary.SCHEDULER_DISABLED}: {vocabulary.SCHEDULER_DISABLED_SETTING} is true.")
    most = training_runs()
    with store.open() as opened:
        with opened.transaction() as connection:
            for line in close_ended(connection, context.instance, clock.now()):
                context.log.info(line)
        for line in told(follow_promotions(opened, clock.now())):
            context.log.warning(f"{vocabulary.MODEL_ROLLED_BACK}: {line}")
        with opened.transaction() as connection:
            paused = read_paused(connection)
            if paused.everybody is not None:
                return dg.SkipReason(f"Scheduling is paused: {paused.everybody}")
            for line in queue_due(connection, paused, clock.now(), NAME):
                context.log.info(f"{vocabulary.RETRAINING_QUEUED}: {line}")
        with opened.transaction() as connection:
            in_flight = len(read_launched(connection))
            claim_batches(connection, max(most - in_flight, 0), paused.tenant_ids, clock.now())
        with opened.transaction() as connection:
            launched = read_launched(connection)
    has_run = runs_of(context.instance, [_run_key(row) for row in launched.itertuples()])
    waiting = [row for row in launched.itertuples() if _run_key(row) not in has_run]
    for row in waiting:
        context.log.info(
            f"{vocabulary.RETRAINING_LAUNCHED}: {', '.join(row.tenant_ids)}, attempt {row.attempt}, batch {row.batch_id}"
        )
    if waiting:
        return dg.SensorResult(run_requests=[_run_request(context.instance, row) for row in waiting])
    return dg.SkipReason(
        f"{len(launched)} training runs are under way." if len(launched) else "No model waits to be trained."
    )


def training_runs() -> int:
    """How many training runs there may be at once. Raises ValueError with the remedy for a setting that is no number."""
    text = os.environ.get(vocabulary.TRAINING_RUNS_SETTING, "") or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"{vocabulary.TRAINING_RUNS_SETTING} is {text!r}, not a number from 1. Remedy: set it to 1, or unset it."
        )
    return int(text)


def close_ended(connection: Connection, instance: dg.DagsterInstance, now: datetime) -> Iterator[str]:
    """Queue again, or give up, what batches have left whose run has ended; what a person cancelled stays so. What was done."""
    launched = read_launched(connection)
    runs = runs_of(instance, [_run_key(row) for row in launched.itertuples()])
    for row in launched.itertuples():
        run = runs.get(_run_key(row))
        if run is None or not run.is_finished:
            continue
        if run.status is dg.DagsterRunStatus.CANCELED:
            count = cancel_batch(connection, row.batch_id, now)
            yield f"Batch {row.batch_id}: {count} requests cancelled with run {run.run_id}."
            continue
        queued, failed = requeue_batch(connection, row.batch_id, now)
        if queued:
            yield f"{vocabulary.RETRY_SCHEDULED}: {queued} models that run {run.run_id} did not finish."
        if failed:
            yield f"{vocabulary.RETRIES_EXCEEDED}: {failed} models that run {run.run_id} did not finish."


def runs_of(instance: dg.DagsterInstance, run_keys: Sequence[str]) -> dict[str, dg.DagsterRun]:
    """The launched runs by run key. One that was written and not launched is none: Dagster launches it when asked again."""
    if not run_keys:
        return {}
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": NAME, "dagster/run_key": list(run_keys)}))
    return {run.tags["dagster/run_key"]: run for run in runs if run.status is not dg.DagsterRunStatus.NOT_STARTED}


def _run_key(row: pd.Series) -> str:
    return f"retraining|{row.batch_id}|{row.attempt}"


def _run_request(instance: dg.DagsterInstance, row: pd.Series) -> dg.RunRequest:
    config = TenantConfig(
        tenants=list(row.tenant_ids),
        triggers=dict(row.triggers),
        batch_id=row.batch_id,
        triggered_by=f"{NAME}, attempt {row.attempt}",
    )
    return dg.RunRequest(
        partition_key=tenant_anchor_of(instance, config.tenants),
        run_key=_run_key(row),
        run_config=dg.RunConfig(ops={OP: config}),
        tags={"dagster/priority": str(PRIORITY)},
    )
