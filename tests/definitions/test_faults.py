"""What faults leave behind, with real processes on a real Postgres: killed runs, and two runs over the same tenants."""

import multiprocessing
import os
import signal
import time
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from daybreak import runs
from daybreak.dagster_client import DagsterSilent
from daybreak.instance import LOCK_FILE, InstanceError, Running, record
from planning_assets.scope import anchor_of
from resources.machine import locked
from resources.store.database import Store
from resources.store.executions import RUN_ENDED, held_by_run, without_process
from sensors.dead_runs import GRACE, LOST
from tests.definitions.conftest import NOW, definitions_of
from tests.definitions.test_daily_plan import bakery, count

DAY = date(2026, 3, 2)
TENANTS = [f"t{n}" for n in range(6)]
PROCESSES = multiprocessing.get_context("spawn")
LONGEST_S = 60.0


def plan_in_this_process(instance_folder: str, dsn: str, tenants: list[str], outcome: str) -> None:
    """Run the daily plan; the body of a process of its own. Writes whether it succeeded into a file."""
    os.environ["DAGSTER_EVENT_BATCH_SIZE"] = "1000"
    os.environ["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] = "true"
    config = {"date": DAY.isoformat(), "tenants": tenants}
    with dg.DagsterInstance.from_config(instance_folder) as opened:
        result = (
            definitions_of(dsn)
            .resolve_job_def("daily_plan_job")
            .execute_in_process(
                instance=opened,
                partition_key=anchor_of(opened, DAY, tenants),
                run_config={"ops": {"daily_plan": {"config": config}}},
                raise_on_error=False,
            )
        )
    Path(outcome).write_text("success" if result.success else "failure", encoding="utf-8")


def start_run(instance: dg.DagsterInstance, store: Store, tenants: list[str], outcome: Path):  # type: ignore[no-untyped-def]
    """A process that plans these tenants."""
    process = PROCESSES.Process(
        target=plan_in_this_process, args=(instance.root_directory, store.dsn, tenants, str(outcome))
    )
    process.start()
    return process


def tick(instance: dg.DagsterInstance, store: Store, cursor: str | None, later: timedelta) -> str | None:
    """Evaluate the sensor of dead runs some time after NOW; returns its cursor."""
    repository = definitions_of(store.dsn, NOW + later).get_repository_def()
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=repository, resources=repository.get_top_level_resources()
    ) as context:
        return repository.get_sensor_def("dead_runs_sensor").evaluate_tick(context).cursor


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    """The status of a run that exists."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def active_plans(store: Store) -> dict[str, int]:
    """tenant_id -> its active plans of DAY, of which a morning has six."""
    counted = store.frame(
        "SELECT tenant_id, count(*) AS plans, count(DISTINCT (kind, location_id)) AS kinds"
        " FROM plans.plan WHERE status = 'active' AND plan_date = '2026-03-02' GROUP BY tenant_id"
    )
    assert (counted["plans"] == counted["kinds"]).all()
    return dict(zip(counted["tenant_id"], counted["plans"], strict=True))


def test_a_run_killed_at_its_work_is_failed_and_closed_and_the_next_one_plans_everybody(
    instance: dg.DagsterInstance, store: Store, tmp_path: Path
) -> None:
    for tenant_id in TENANTS:
        bakery(store, tenant_id)
    with store.session() as blocker:
        # Holds the run in the middle of its step, after its executions were committed and before any plan is.
        blocker.execute("BEGIN")
        blocker.execute("SELECT 1 FROM master.tenant FOR NO KEY UPDATE")
        process = start_run(instance, store, TENANTS, tmp_path / "killed")
        deadline = time.monotonic() + LONGEST_S
        while count(store, "SELECT count(*) FROM ops.execution WHERE status = 'running'") < len(TENANTS):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        run_id = str(store.frame("SELECT DISTINCT run_id FROM ops.execution").iat[0, 0])
        cursor = tick(instance, store, None, timedelta())
        cursor = tick(instance, store, cursor, 10 * GRACE)
        assert status_of(instance, run_id) is dg.DagsterRunStatus.STARTED, "its process lives"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        blocker.execute("ROLLBACK")
    cursor = tick(instance, store, cursor, 20 * GRACE)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.STARTED, "it may be ending just now"
    tick(instance, store, cursor, 21 * GRACE)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.FAILURE
    assert LOST in [entry.dagster_event.message for entry in instance.all_logs(run_id) if entry.dagster_event]
    closed = store.frame("SELECT DISTINCT status, error FROM ops.execution")
    assert closed.to_numpy().tolist() == [["failed", RUN_ENDED]]
    assert active_plans(store) == {}

    plan_in_this_process(instance.root_directory, store.dsn, TENANTS, str(tmp_path / "again"))
    assert (tmp_path / "again").read_text(encoding="utf-8") == "success"
    assert active_plans(store) == dict.fromkeys(TENANTS, 5)


def test_a_run_that_has_begun_and_holds_nothing_yet_is_given_time(instance: dg.DagsterInstance, store: Store) -> None:
    run_id = instance.add_run(
        dg.DagsterRun(job_name="daily_plan_job", run_id="0" * 32, status=dg.DagsterRunStatus.STARTED)
    ).run_id
    cursor = tick(instance, store, None, timedelta())
    cursor = tick(instance, store, cursor, GRACE / 2)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.STARTED
    with held_by_run(store, run_id):
        cursor = tick(instance, store, cursor, GRACE)
    cursor = tick(instance, store, cursor, 3 * GRACE)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.STARTED, "seen alive, it is suspected anew"
    tick(instance, store, "not a cursor", 9 * GRACE)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.STARTED
    tick(instance, store, cursor, 4 * GRACE)
    assert status_of(instance, run_id) is dg.DagsterRunStatus.FAILURE


def test_a_run_is_held_by_every_process_that_works_on_it(store: Store) -> None:
    with held_by_run(store, "one"):
        with held_by_run(store, "one"):
            pass
        with store.transaction() as connection:
            assert without_process(connection, ["one", "other"]) == ["other"]
    with store.transaction() as connection:
        assert without_process(connection, ["one"]) == ["one"]


def test_two_runs_over_the_same_tenants_at_once_both_succeed_and_leave_one_active_plan_each(
    instance: dg.DagsterInstance, store: Store, tmp_path: Path
) -> None:
    for tenant_id in TENANTS:
        bakery(store, tenant_id)
    orders = [TENANTS, TENANTS[::-1]]
    outcomes = [tmp_path / f"run-{n}" for n in range(2)]
    processes = [
        start_run(instance, store, tenants, outcome) for tenants, outcome in zip(orders, outcomes, strict=True)
    ]
    for process in processes:
        process.join(LONGEST_S)
        assert process.exitcode == 0
    assert [outcome.read_text(encoding="utf-8") for outcome in outcomes] == ["success", "success"]
    assert active_plans(store) == dict.fromkeys(TENANTS, 5)
    assert count(store, "SELECT count(*) FROM plans.plan WHERE status = 'superseded'") == 5 * len(TENANTS)
    assert count(store, "SELECT count(*) FROM ops.execution WHERE status = 'completed'") == 2 * len(TENANTS)


def test_a_command_asks_again_while_the_instance_mends_itself_and_not_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path))
    record(tmp_path, Running(pid=os.getpid(), url="http://127.0.0.1:1", groups={}))
    troubles: list[Exception] = [DagsterSilent("HTTP 500"), psycopg.OperationalError("the server went away")]

    def question() -> str:
        if troubles:
            raise troubles.pop(0)
        return "SUCCESS"

    held = locked(tmp_path / LOCK_FILE)
    assert held is not None
    with held:
        assert runs.patiently(question) == "SUCCESS"
    troubles.append(DagsterSilent("nobody there"))
    with pytest.raises(InstanceError, match="ended before this was done"):
        runs.patiently(question)
