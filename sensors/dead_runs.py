"""Dead runs: a run whose process is gone is failed, and executions that ended runs left open are closed.

Dagster's run monitoring cannot tell whether the process of a run lives that the code server of this machine started, and
such a run would count as running for ever and keep its place in the queue. Every run of ours holds a lock in the store
while its step works; the database lets it go with the process, wherever that ran and however it died.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

import dagster as dg

from planning_assets.dagster_events import fail_run
from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Store
from resources.store.executions import read_running_run_ids, reap, without_process

GRACE = timedelta(seconds=45)
"""A run that begins or ends holds no lock either, for a second or two: only one seen without it for so long is dead."""

LOST = (
    "The process of this run is gone: it was killed, or its machine was lost. What it had committed is kept. "
    "Remedy: plan the date again; `daybreak plan run` leaves out the tenants whose plan is up to date."
)


@dg.sensor(
    name="dead_runs_sensor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fails runs whose process is gone, and closes executions whose run has ended without closing them.",
)
def dead_runs_sensor(context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource) -> dg.SkipReason:
    """Fail what lost its process and close what dead runs left open; the tenants are due again at the next tick or by hand.

    The cursor holds the runs that had no process at the last tick, with the instant at which that was first seen.
    """
    with store.open() as opened:
        suspected = fail_lost_runs(opened, context.instance, clock.now(), _suspected(context.cursor))
        closed = close_dead_runs(opened, context.instance, clock.now)
    context.update_cursor(json.dumps({run_id: seen.isoformat() for run_id, seen in suspected.items()}))
    return dg.SkipReason(f"Closed {closed} executions of dead runs." if closed else "No execution was left behind.")


def fail_lost_runs(
    store: Store, instance: dg.DagsterInstance, now: datetime, suspected: Mapping[str, datetime]
) -> dict[str, datetime]:
    """Fail the started runs that have had no process for GRACE; returns the others without one: run id -> first seen."""
    started = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))]
    with store.transaction() as connection:
        lost = {run_id: suspected.get(run_id, now) for run_id in without_process(connection, started)}
    for run_id in [run_id for run_id, seen in lost.items() if now - seen >= GRACE]:
        fail_run(instance, run_id, LOST)
        del lost[run_id]
    return lost


def close_dead_runs(store: Store, instance: dg.DagsterInstance, now: Clock) -> int:
    """Close the executions of runs that Dagster knows as finished or does not know; returns how many."""
    with store.transaction() as connection:
        dead = []
        for run_id in read_running_run_ids(connection):
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                dead.append(run_id)
        return reap(connection, dead, now()) if dead else 0


def _suspected(cursor: str | None) -> dict[str, datetime]:
    """What the last tick saw. A cursor that cannot be read only makes the sensor wait once more."""
    try:
        return {run_id: datetime.fromisoformat(seen) for run_id, seen in json.loads(cursor or "{}").items()}
    except (ValueError, AttributeError, TypeError):
        return {}
