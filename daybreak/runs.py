"""Has Dagster run a job for any tenants: by the running instance, or in this process when there is none.

Either way it is the same job with the same configuration, recorded in the same Dagster storage.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import psycopg

from daybreak import dagster_client, fleet
from daybreak.instance import InstanceError, dagster_environment, home, running
from planning_assets.window import outside_window
from resources.clock import system_clock
from resources.store.database import Store

POLL_S = 0.5
PATIENCE_S = 60.0
"""How long a command waits for a database or web server that died and is being started again."""

Answer = TypeVar("Answer")

Progress = Callable[[int], None]
"""Is told how many tenants are finished."""

ENDED = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class Request:
    """A job for one date: the step's configuration, and how many tenants it names."""

    job: str
    step: str
    on: date
    tenant_ids: Sequence[str]
    workflow: str
    skip_up_to_date: bool
    triggered_by: str

    @property
    def config(self) -> dict[str, Any]:
        """The run configuration as Dagster takes it."""
        step = {
            "date": self.on.isoformat(),
            "tenants": list(self.tenant_ids),
            "workflow": self.workflow,
            "skip_up_to_date": self.skip_up_to_date,
            "triggered_by": self.triggered_by,
        }
        return {"ops": {self.step: {"config": step}}}

    @property
    def dates(self) -> list[date]:
        """The dates that the grid must hold."""
        return [self.on]

    @property
    def partition_tags(self) -> dict[str, str]:
        """The tags by which Dagster knows the run's partition: that of its first tenant, see `anchor_of`."""
        return {
            "dagster/partition": f"{self.on.isoformat()}|{self.tenant_ids[0]}",
            "dagster/partition/date": self.on.isoformat(),
            "dagster/partition/tenant": self.tenant_ids[0],
        }


@dataclass(frozen=True)
class TenantRequest:
    """A job that has no date: the step's configuration, and how many tenants it names."""

    job: str
    step: str
    tenant_ids: Sequence[str]
    workflow: str
    triggered_by: str

    @property
    def config(self) -> dict[str, Any]:
        """The run configuration as Dagster takes it."""
        step = {"tenants": list(self.tenant_ids), "workflow": self.workflow, "triggered_by": self.triggered_by}
        return {"ops": {self.step: {"config": step}}}

    @property
    def dates(self) -> list[date]:
        """None: no date can be outside the grid."""
        return []

    @property
    def partition_tags(self) -> dict[str, str]:
        """The tag by which Dagster knows the run's partition: its first tenant."""
        return {"dagster/partition": self.tenant_ids[0]}


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its id, Dagster's status and, when a web server runs, its page."""

    run_id: str
    status: str
    url: str | None


def execute(store: Store, request: Request | TenantRequest, progress: Progress) -> Ended:
    """Run the request to its end.

    Raises DagsterRefused when Dagster does not take it or the grid does not hold its date, and InstanceError when the
    instance ends meanwhile.
    """
    outside = outside_window(request.dates, fleet.read(home()).partitions_start, system_clock())
    if outside is not None:
        raise dagster_client.DagsterRefused(outside)
    instance = running()
    if instance is None or "daemon" not in instance.groups:
        return _execute_here(store, request, progress)
    tags = {"user": request.triggered_by, **request.partition_tags}
    patiently(lambda: dagster_client.add_partition(instance.url, request.tenant_ids[0]))
    # A launch is not repeated, since the first one may have been heard: so its connections are tried before.
    patiently(lambda: dagster_client.wake(instance.url))
    try:
        run_id = dagster_client.launch_run(instance.url, request.job, request.config, tags)
    except dagster_client.DagsterSilent as error:
        raise InstanceError(str(error)) from error

    def look() -> str:
        status = dagster_client.run_status(instance.url, run_id)
        progress(_finished(store, run_id))
        return status

    while (status := patiently(look)) not in ENDED:
        time.sleep(POLL_S)
    return Ended(run_id, status, f"{instance.url}/runs/{run_id}")


def patiently(question: Callable[[], Answer]) -> Answer:
    """The answer to a question to the running instance that may be asked again while its database or web server restarts.

    Raises InstanceError when the instance has ended, and when nothing answers for PATIENCE_S.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return question()
        except (dagster_client.DagsterSilent, psycopg.OperationalError) as error:
            if running() is None:
                raise InstanceError(
                    "The instance ended before this was done. Remedy: start it with `daybreak up`, then give this "
                    "command again."
                ) from error
            if time.monotonic() > deadline:
                reason = str(error).partition("\n")[0]
                raise InstanceError(f"The instance does not answer: {reason} Remedy: daybreak doctor.") from error
            time.sleep(POLL_S)


def _execute_here(store: Store, request: Request | TenantRequest, progress: Progress) -> Ended:
    os.environ.update(dagster_environment(store.dsn))
    import dagster as dg  # noqa: PLC0415 (takes seconds, and reads the environment set above)

    from daybreak.definitions import local_defs  # noqa: PLC0415
    from planning_assets.scope import register_tenants  # noqa: PLC0415

    job = local_defs().resolve_job_def(request.job)
    run_id = str(uuid.uuid4())
    stopped = threading.Event()

    def follow() -> None:
        while not stopped.wait(POLL_S):
            progress(_finished(store, run_id))

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        # People read the command's own lines; everything is in the run's log.
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with dg.DagsterInstance.get() as instance:
            register_tenants(instance, request.tenant_ids[:1])
            result = job.execute_in_process(
                run_config=request.config | quiet,
                instance=instance,
                partition_key=request.partition_tags["dagster/partition"],
                run_id=run_id,
                tags={"user": request.triggered_by},
                raise_on_error=False,
            )
    finally:
        stopped.set()
        follower.join()
    progress(_finished(store, run_id))
    return Ended(run_id, "SUCCESS" if result.success else "FAILURE", None)


def _finished(store: Store, run_id: str) -> int:
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT count(*) FROM ops.execution WHERE run_id = %s AND status IN ('completed', 'failed')", (run_id,)
        ).fetchone()
    return int(row[0]) if row else 0
