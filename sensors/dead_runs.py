"""Dead runs: executions left as running by a run that was killed are closed as failed, so that nobody waits for them."""

import dagster as dg

from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Store
from resources.store.executions import read_running_run_ids, reap


@dg.sensor(
    name="dead_runs_sensor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes executions whose run has ended without closing them.",
)
def dead_runs_sensor(context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource) -> dg.SkipReason:
    """Close what dead runs left open; the tenants are due again at the next tick or by hand."""
    with store.open() as opened:
        closed = close_dead_runs(opened, context.instance, clock.now)
    return dg.SkipReason(f"Closed {closed} executions of dead runs." if closed else "No execution was left behind.")


def close_dead_runs(store: Store, instance: dg.DagsterInstance, now: Clock) -> int:
    """Close the executions of runs that Dagster knows as finished or does not know; returns how many."""
    with store.transaction() as connection:
        dead = []
        for run_id in read_running_run_ids(connection):
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                dead.append(run_id)
        return reap(connection, dead, now()) if dead else 0
