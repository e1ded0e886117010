"""Late sales: a finished day whose sales changed after its validation, or that has none, is validated again in a run.

What is to be done stands in the store: days are asked for there, in batches, before a run is requested, and a batch is open
until all its days are validated. So a daemon that is killed at any moment goes on where it was: a batch without a run is
launched at the next tick under the same key, and one whose run ended too early is launched again. What three runs could not
do waits for a person.
"""

import logging
import os
from collections.abc import Sequence
from datetime import datetime

import dagster as dg
import pandas as pd

from planning_assets.revalidation import NAME as JOB
from planning_assets.revalidation import OP, RevalidationConfig
from resources import vocabulary
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Store
from resources.store.late_sales import (
    MAX_ATTEMPTS,
    claim_stale,
    complete_batches,
    give_up,
    read_open_batches,
    read_progress,
    try_again,
)
from resources.store.pauses import read_paused

NAME = "late_sales_sensor"
RUNS_AT_ONCE = 2
"""Runs of batches that are under way together; a queue of four has room for the mornings."""

PRIORITY = -1
"""After the runs of schedules, whose tiers have 0 to 2: nobody bakes by a validation."""


@dg.sensor(
    name=NAME,
    job_name=JOB,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Validates days again whose sales came late, and once a day those that were never validated.",
)
def late_sales_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for what is stale since the cursor, then launch, repeat and close batches.

    The cursor is a transaction number of the store (`late_sales.claim_stale`). While everybody is paused it stays.
    """
    if os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() == "true":
        return dg.SkipReason(f"{vocabulary.SCHEDULER_DISABLED}: {vocabulary.SCHEDULER_DISABLED_SETTING} is true.")
    with store.open() as opened:
        with opened.transaction() as connection:
            paused = read_paused(connection)
            if paused.everybody is not None:
                return dg.SkipReason(f"Scheduling is paused: {paused.everybody}")
            claimed = claim_stale(connection, context.cursor, paused.tenant_ids, clock.now())
        if claimed.pairs:
            context.log.info(f"{claimed.pairs} days to validate again, in {claimed.batches} batches")
        requests = follow_batches(opened, context.instance, context.log, clock.now())
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=claimed.cursor)
    return dg.SensorResult(
        cursor=claimed.cursor,
        skip_reason=dg.SkipReason(
            "No day has to be validated again." if not claimed.pairs else "Batches wait for those under way."
        ),
    )


def follow_batches(
    store: Store, instance: dg.DagsterInstance, log: logging.Logger, now: datetime
) -> list[dg.RunRequest]:
    """Close batches that are done, plan the next attempt of those whose run ended too early, and request runs."""
    with store.transaction() as connection:
        batches = read_open_batches(connection)
        # Asked for before the runs: one that ends in between is seen as ended with days left, never as done without them.
        complete_batches(connection, list(batches.loc[batches["pairs_left"] == 0, "batch_id"]), now)
    batches = batches[batches["pairs_left"] > 0]
    runs = _runs(instance, [_key(row) for row in batches.itertuples()])
    under_way, waiting = 0, []
    for row in batches.itertuples():
        run = runs.get(_key(row))
        if run is None:
            waiting.append(row)
        elif not run.is_finished:
            under_way += 1
        else:
            _settle(store, log, row, run.run_id, now)
    ready = [row for row in waiting if row.launch_after <= now]
    return [_run_request(row) for row in ready[: max(RUNS_AT_ONCE - under_way, 0)]]


def _settle(store: Store, log: logging.Logger, row: pd.Series, run_id: str, now: datetime) -> None:
    """After a run that has ended: what is left of its batch is tried again later, or given up. Done since then is done."""
    with store.transaction() as connection:
        left, validated = read_progress(connection, row.batch_id, run_id)
        if not left:
            complete_batches(connection, [row.batch_id], now)
        elif row.attempt < MAX_ATTEMPTS or validated:
            at = try_again(connection, row.batch_id, int(row.attempt), now)
            log.warning(
                f"{vocabulary.RETRY_SCHEDULED}: {left} days of batch {row.batch_id} were left by run {run_id}; "
                f"attempt {row.attempt + 1} at {at:%Y-%m-%d %H:%M:%S} UTC"
            )
        else:
            give_up(connection, row.batch_id, run_id, now)
            log.error(f"{vocabulary.RETRIES_EXCEEDED}: {left} days of batch {row.batch_id}, after run {run_id}")


def _key(row: pd.Series) -> str:
    return f"late_sales|{row.batch_id}|{row.attempt}"


def _runs(instance: dg.DagsterInstance, run_keys: Sequence[str]) -> dict[str, dg.DagsterRun]:
    """The runs that were launched with these keys. One made and not launched, by a daemon that was killed, is none yet:
    asked for again, it is launched and not made a second time."""
    if not run_keys:
        return {}
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": NAME, "dagster/run_key": list(run_keys)}))
    launched = [run for run in runs if run.status != dg.DagsterRunStatus.NOT_STARTED]
    return {run.tags["dagster/run_key"]: run for run in launched}


def _run_request(row: pd.Series) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=_key(row),
        run_config=dg.RunConfig(ops={OP: RevalidationConfig(batch_id=str(row.batch_id))}),
        tags={"dagster/priority": str(PRIORITY)},
    )
