"""Real ticks of the real sensors on a real instance: what imports and dead runs become."""

import threading
from datetime import date, timedelta
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.storage.dagster_run import DagsterRun

from planning_assets.partitions import TENANTS
from resources.imports.importer import Options, import_batch
from resources.imports.source import Source
from resources.store.approval import reject
from resources.store.database import Connection, Store
from resources.store.executions import RUN_ENDED, start_executions
from resources.store.plans import write_procurement
from sensors.imports import IMPORTS_A_TICK
from sensors.plan_regeneration import RUNS_A_TICK
from tests.definitions.conftest import NOW, definitions_of
from tests.definitions.test_daily_plan import ASSETS, bakery, count, materialized, plan
from tests.integration.store_bakery import NO_EXCEPTIONS, add_bakery, context, purchase_lines, requirements

SALES = "location_id,product_id,business_date,quantity_units\n"
INSERT_IMPORT = """
    INSERT INTO ops.import (import_id, tenant_id, kind, input, file_name, content_sha256, rows_read, rows_written,
                            rows_unchanged, rows_quarantined, imported_at)
    VALUES (%s, %s, 'sales', 'sales', %s, %s, 1, 1, 0, 0, now())
"""


def evaluate(instance: dg.DagsterInstance, store: Store, name: str, cursor: str | None = None) -> SensorExecutionData:
    """Evaluate a sensor."""
    repository = definitions_of(store.dsn).get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        return repository.get_sensor_def(name).evaluate_tick(context)


def tick(instance: dg.DagsterInstance, store: Store, name: str, cursor: str | None = None) -> tuple[str | None, str]:
    """Evaluate a sensor and do what the daemon does with its result; returns the new cursor and what it says."""
    result = evaluate(instance, store, name, cursor)
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return result.cursor, result.skip_message or ""


def take_sales(store: Store, tenant_id: str, *lines: str) -> None:
    """Import sales of a tenant."""
    content = (SALES + "\n".join(lines) + "\n").encode()
    (report,) = import_batch(
        store, "sales", [Source.of_bytes(tenant_id, f"{tenant_id}.csv", content)], now=NOW, options=Options()
    )
    assert report.status == "imported", report.problems


def record_import(connection: Connection, tenant_id: str) -> None:
    """Leave what an import leaves behind, without its data."""
    identity = uuid4()
    connection.execute(INSERT_IMPORT, (identity, tenant_id, f"{identity}.csv", identity.hex * 2))


def tenants_of(instance: dg.DagsterInstance) -> set[str]:
    """The tenants that the grid knows."""
    return set(instance.get_dynamic_partitions(str(TENANTS.name)))


def reported(instance: dg.DagsterInstance, asset: str = "sales") -> list[str]:
    """The partitions of all materializations of an asset, first to last."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return [str(record.partition_key) for record in reversed(records)]


def test_an_import_becomes_a_materialization_of_the_tenants_partition(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    take_sales(store, "a", "main,bread,2026-03-01,40", "main,cake,2026-03-01,7")
    cursor, _ = tick(instance, store, "imports_sensor")
    (record,) = instance.fetch_materializations(dg.AssetKey("sales"), limit=10).records
    assert record.partition_key == "a"
    assert record.asset_materialization is not None
    shown = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    assert shown == {
        "dagster/row_count": 2,
        "rows_unchanged": 0,
        "rows_quarantined": 0,
        "kind": "sales",
        "file": "a.csv",
        "imported_at": NOW.timestamp(),
    }
    assert tenants_of(instance) == {"a", "b"}, "also a tenant without imports is in the grid"
    assert instance.get_materialized_partitions(dg.AssetKey("recipes")) == set()

    take_sales(store, "b", "main,bread,2026-03-01,50")
    later, _ = tick(instance, store, "imports_sensor", cursor)
    assert int(later or 0) > int(cursor or 0)
    assert reported(instance) == ["a", "b"]


def test_nothing_new_is_a_skip_that_says_so_and_keeps_the_cursor(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "a")
    take_sales(store, "a", "main,bread,2026-03-01,40")
    cursor, skipped = tick(instance, store, "imports_sensor")
    assert skipped == "Reported 1 imports, added 1 tenants to the grid."
    assert tick(instance, store, "imports_sensor", cursor) == (
        cursor,
        "Nothing was imported, and every tenant is in the grid.",
    )
    assert reported(instance) == ["a"]


def test_a_new_tenant_becomes_a_partition_without_an_import_and_a_suspended_one_does_not(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "gone"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET status = 'suspended' WHERE tenant_id = 'gone'")
    cursor, skipped = tick(instance, store, "imports_sensor")
    assert (cursor, skipped) == ("0", "Reported 0 imports, added 1 tenants to the grid.")
    assert tenants_of(instance) == {"a"}


@pytest.mark.parametrize("unreadable", ["", "zero", "-1", "1.5", '{"seq": 1}', "²", "9" * 30])
def test_an_unreadable_cursor_starts_again_from_the_first(
    instance: dg.DagsterInstance, store: Store, unreadable: str
) -> None:
    add_bakery(store, "a")
    take_sales(store, "a", "main,bread,2026-03-01,40")
    good, _ = tick(instance, store, "imports_sensor")
    assert tick(instance, store, "imports_sensor", unreadable)[0] == good
    assert reported(instance) == ["a", "a"]
    assert instance.get_materialized_partitions(dg.AssetKey("sales")) == {"a"}


def test_more_imports_than_a_tick_takes_are_reported_by_the_next_ones_in_order(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_bakery(store, "a")
    add_bakery(store, "last")
    with store.transaction() as connection:
        for _ in range(IMPORTS_A_TICK):
            record_import(connection, "a")
        record_import(connection, "last")
    seen, cursor = [], None
    for expected in (IMPORTS_A_TICK, 1, 0):
        result = evaluate(instance, store, "imports_sensor", cursor)
        assert len(result.asset_events) == expected
        seen += [event.partition for event in result.asset_events]
        cursor = result.cursor
    assert seen == ["a"] * IMPORTS_A_TICK + ["last"]


def test_an_import_committed_after_a_later_one_is_not_lost(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("slow", "quick"):
        add_bakery(store, tenant_id)
    cursors: list[str | None] = []
    ticking = threading.Thread(target=lambda: cursors.append(tick(instance, store, "imports_sensor")[0]))
    with store.transaction() as slow:
        record_import(slow, "slow")
        with store.transaction() as quick:
            record_import(quick, "quick")
        ticking.start()
        ticking.join(1)
    ticking.join(30)
    tick(instance, store, "imports_sensor", cursors[0])
    assert sorted(reported(instance)) == ["quick", "slow"]


def test_a_plan_is_made_after_its_sources_were_materialized_by_tenant(
    instance: dg.DagsterInstance, store: Store
) -> None:
    """Dagster reads the data versions of partitioned inputs before the step: a run without a partition fails there."""
    for tenant_id in ("a", "b"):
        bakery(store, tenant_id)
        take_sales(store, tenant_id, "main,bread,2026-02-28,40")
    tick(instance, store, "imports_sensor")
    assert reported(instance) == ["a", "b"]
    result = plan(instance, store, ["a", "b"])
    assert result.success
    for asset in ASSETS:
        assert materialized(instance, asset) == {"2026-03-02|a", "2026-03-02|b"}, asset


def running_execution(store: Store, tenant_id: str, run_id: str) -> None:
    """An execution that a run began and has not closed."""
    with store.transaction() as connection:
        start_executions(
            connection, "production_planning", "scheduled", "schedule", [tenant_id], date(2026, 3, 2), 5, run_id, "h", NOW
        )  # fmt: skip


def run_of(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str:
    """A run that Dagster knows, in a status."""
    return instance.add_run(DagsterRun(job_name="daily_plan_job", run_id=str(uuid4()), status=status)).run_id


def test_executions_of_dead_runs_are_closed_as_failed_and_those_of_living_ones_are_not(
    instance: dg.DagsterInstance, store: Store
) -> None:
    runs = {
        "unknown": str(uuid4()),
        "failed": run_of(instance, dg.DagsterRunStatus.FAILURE),
        "canceled": run_of(instance, dg.DagsterRunStatus.CANCELED),
        "succeeded": run_of(instance, dg.DagsterRunStatus.SUCCESS),
        "starting": run_of(instance, dg.DagsterRunStatus.STARTING),
        "started": run_of(instance, dg.DagsterRunStatus.STARTED),
    }
    for tenant_id, run_id in runs.items():
        add_bakery(store, tenant_id)
        running_execution(store, tenant_id, run_id)
    _, said = tick(instance, store, "dead_runs_sensor")
    assert said == "Closed 4 executions of dead runs."
    found = store.frame("SELECT tenant_id, status, error, completed_at FROM ops.execution").set_index("tenant_id")
    assert set(found.index[found["status"] == "running"]) == {"starting", "started"}
    closed = found[found["status"] == "failed"]
    assert set(closed.index) == {"unknown", "failed", "canceled", "succeeded"}
    assert set(closed["error"]) == {RUN_ENDED}
    assert set(closed["completed_at"]) == {NOW}
    assert count(store, "SELECT count(*) FROM ops.outbox WHERE type = 'orchestrator.workflow_failed'") == 4
    assert tick(instance, store, "dead_runs_sensor")[1] == "No execution was left behind."


def test_what_a_run_closed_itself_stays_as_it_is(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    assert "No execution" in tick(instance, store, "dead_runs_sensor")[1]
    assert count(store, "SELECT count(*) FROM ops.execution WHERE status = 'completed'") == 1


REGENERATION = "plan_regeneration_sensor"


def rejected(store: Store, tenant_id: str, day: date = date(2026, 3, 2)) -> None:
    """A tenant whose plan of the day was rejected for stale data."""
    add_bakery(store, tenant_id, days=[day])
    with store.transaction() as connection:
        write_procurement(
            connection, context(connection, [tenant_id], day), requirements([tenant_id], day),
            purchase_lines([tenant_id], day), NO_EXCEPTIONS, {tenant_id: False},
        )  # fmt: skip
    reject(store, tenant_id, day, actor="ana", now=NOW, reason_code="stale_data")


def launch(instance: dg.DagsterInstance, result: SensorExecutionData, status: dg.DagsterRunStatus) -> None:
    """What the daemon does with run requests: a run each, with the tags by which it knows them."""
    for request in result.run_requests or []:
        tags = {**request.tags, "dagster/run_key": str(request.run_key), "dagster/sensor_name": REGENERATION}
        instance.add_run(DagsterRun(job_name="daily_plan_job", run_id=str(uuid4()), status=status, tags=tags))


def test_a_rejection_for_stale_data_becomes_one_run_of_that_tenant_and_date(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "b"):
        rejected(store, tenant_id)
    add_bakery(store, "content")
    result = evaluate(instance, store, REGENERATION)
    requests = result.run_requests or []
    assert [request.run_key for request in requests] == [
        "plan_regeneration|a|2026-03-02|1", "plan_regeneration|b|2026-03-02|1",
    ]  # fmt: skip
    assert requests[0].run_config["ops"]["daily_plan"]["config"] == {
        "date": "2026-03-02", "tenants": ["a"], "workflow": "daily_operations", "skip_up_to_date": False,
        "triggered_by": "rejection by ana, attempt 1", "chunk_tenants": 500,
    }  # fmt: skip
    assert requests[0].partition_key == "2026-03-02|a"
    assert requests[0].tags["dagster/priority"] == "3"
    assert requests[0].tags["daybreak/zone"] == "Europe/Madrid"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE])
def test_nothing_is_made_again_twice_also_when_its_run_failed(
    instance: dg.DagsterInstance, store: Store, status: dg.DagsterRunStatus
) -> None:
    rejected(store, "a")
    launch(instance, evaluate(instance, store, REGENERATION), status)
    again = evaluate(instance, store, REGENERATION)
    assert not again.run_requests
    assert again.skip_message is not None
    assert again.skip_message.startswith("1 rejected plans wait; each has had its run")


def test_a_person_who_plans_the_date_settles_the_request(instance: dg.DagsterInstance, store: Store) -> None:
    rejected(store, "a")
    with store.transaction() as connection:
        write_procurement(
            connection, context(connection, ["a"]), requirements(["a"]), purchase_lines(["a"]), NO_EXCEPTIONS, {"a": False}
        )  # fmt: skip
    result = evaluate(instance, store, REGENERATION)
    assert (result.run_requests, result.skip_message) == ([], "No rejected plan waits to be made again.")


def test_more_requests_than_a_tick_launches_follow_at_the_next_one(instance: dg.DagsterInstance, store: Store) -> None:
    rejected(store, "a")
    with store.transaction() as connection:
        for n in range(RUNS_A_TICK):
            connection.execute(
                "INSERT INTO ops.plan_regeneration VALUES ('a', %s, 1, gen_random_uuid(), 'ana', now(), NULL)",
                (date(2026, 2, 1) + timedelta(days=n),),
            )
    seen = []
    for expected in (RUNS_A_TICK, 1, 0):
        result = evaluate(instance, store, REGENERATION)
        assert len(result.run_requests or []) == expected
        seen += [request.run_key for request in result.run_requests or []]
        launch(instance, result, dg.DagsterRunStatus.FAILURE)
    assert len(set(seen)) == RUNS_A_TICK + 1


def test_a_date_outside_the_window_does_not_stop_the_others(instance: dg.DagsterInstance, store: Store) -> None:
    rejected(store, "a", date(2025, 6, 2))
    rejected(store, "b")
    result = evaluate(instance, store, REGENERATION)
    assert [request.partition_key for request in result.run_requests or []] == ["2026-03-02|b"]


def test_in_maintenance_mode_rejected_plans_wait(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected(store, "a")
    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    result = evaluate(instance, store, REGENERATION)
    assert not result.run_requests
    assert result.skip_message == "Scheduler disabled: SCHEDULER_DISABLED is true."


def test_the_run_makes_a_new_revision_that_names_the_rejected_one(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET auto_approve = false")
    assert plan(instance, store, ["a"]).success
    reject(store, "a", date(2026, 3, 2), actor="ana", now=NOW, reason_code="other", notes="outdated")
    (request,) = evaluate(instance, store, REGENERATION).run_requests or []
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    assert job.execute_in_process(
        instance=instance, partition_key=request.partition_key, run_config=request.run_config, raise_on_error=False
    ).success
    revisions = store.frame(
        "SELECT revision, approval, plan_id, regenerated_from FROM plans.plan WHERE kind = 'procurement' ORDER BY revision"
    )
    assert revisions["approval"].tolist() == ["rejected", "pending"]
    assert revisions["regenerated_from"].tolist() == [None, revisions["plan_id"][0]]
    assert evaluate(instance, store, REGENERATION).skip_message == "No rejected plan waits to be made again."
    assert count(store, "SELECT count(*) FROM ops.execution WHERE triggered_by = 'rejection by ana, attempt 1'") == 1
