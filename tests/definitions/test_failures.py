"""Failed tenants through real runs and real ticks: tried again with growing delays, then kept for a person."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.storage.dagster_run import DagsterRun

from planning.frames import set_aside_of
from planning_assets.daily_plan import LINKS
from planning_assets.validation_metrics import NAME as VALIDATION
from resources.store.database import Store
from resources.store.executions import reap, start_executions
from resources.store.failures import (
    LOST_LINK,
    RETRIED_WORKFLOWS,
    ask_retry,
    claim_due,
    dismiss,
    record_failures,
    release_claims,
    resolve_failures,
    retry_time,
)
from resources.store.pauses import pause, resume
from sensors.failed_tenants import NAME, RUNS_A_TICK
from tests.definitions.conftest import NOW, WINDOW_START, definitions_of
from tests.definitions.test_daily_plan import DAY, bakery, overflow_on_writing, plan
from tests.integration.store_bakery import add_bakery

FOREVER = date(2100, 1, 1)


def tick(instance: dg.DagsterInstance, store: Store, at: datetime) -> SensorExecutionData:
    """Evaluate the sensor at an instant."""
    repository = definitions_of(store.dsn, now=at).get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        return repository.get_sensor_def(NAME).evaluate_tick(context)


def tags_of(request: dg.RunRequest) -> dict[str, str]:
    """The tags by which the daemon knows the run of a request."""
    return {**request.tags, "dagster/run_key": str(request.run_key), "dagster/sensor_name": NAME}


def execute(
    instance: dg.DagsterInstance, store: Store, request: dg.RunRequest, at: datetime
) -> dg.ExecuteInProcessResult:
    """Run what a tick requested, as the daemon does."""
    return (
        definitions_of(store.dsn, now=at)
        .resolve_job_def(str(request.job_name))
        .execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            run_config=request.run_config,
            tags=tags_of(request),
            raise_on_error=False,
        )
    )


def launched(instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
    """A run of the request in a status, that does nothing."""
    instance.add_run(
        DagsterRun(job_name=str(request.job_name), run_id=str(uuid4()), status=status, tags=tags_of(request))
    )


def fail(store: Store, tenant_ids: list[str], on: date = DAY, at: datetime = NOW, link: str = "forecasts") -> None:
    """Record tenants as failed."""
    with store.transaction() as connection:
        rows = set_aside_of([(tenant_id, link, "No sales.", "Import sales.") for tenant_id in tenant_ids])
        record_failures(connection, "production_planning", on, rows, "run", at)


def open_failures(store: Store) -> dict[str, tuple[str, int, bool]]:
    """Tenant -> state, attempts and whether a retry is due, of failures that are not closed."""
    rows = store.frame("SELECT tenant_id, state, attempts, retry_at FROM ops.failure WHERE resolved_at IS NULL")
    return {row.tenant_id: (row.state, row.attempts, pd.notna(row.retry_at)) for row in rows.itertuples()}  # type: ignore[misc]


def config_of(request: dg.RunRequest) -> dict[str, object]:
    """The step's configuration."""
    (step,) = request.run_config["ops"].values()
    return dict(step["config"])


def test_delays_double_with_a_jitter_of_a_fifth_and_end_after_three() -> None:
    for n, seconds in enumerate((300, 600, 1200), start=1):
        delays = set()
        for tenant_id in "abcdefghij":
            at = retry_time(tenant_id, DAY, n, NOW)
            assert at == retry_time(tenant_id, DAY, n, NOW)
            assert at is not None
            delays.add((at - NOW).total_seconds())
        assert min(delays) >= 0.8 * seconds
        assert max(delays) <= 1.2 * seconds
        assert max(delays) - min(delays) > 0.1 * seconds
    assert retry_time("a", DAY, 4, NOW) is None


def test_links_of_lost_tenants_are_the_first_ones() -> None:
    assert set(LOST_LINK) == set(RETRIED_WORKFLOWS)
    assert set(LOST_LINK.values()) == {LINKS[0].name, VALIDATION}


def test_a_tenant_is_planned_again_three_times_and_then_waits_for_a_person(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "broken"):
        bakery(store, tenant_id)
    with store.transaction() as connection:
        overflow_on_writing(connection, "broken")
    assert not plan(instance, store, ["a", "broken"], workflow="production_planning").success
    at = NOW
    for attempts in (1, 2, 3):
        assert open_failures(store) == {"broken": ("open", attempts, True)}
        retry_at = store.frame("SELECT retry_at FROM ops.failure WHERE resolved_at IS NULL")["retry_at"].item()
        assert not tick(instance, store, retry_at - timedelta(seconds=1)).run_requests
        at = retry_at
        (request,) = tick(instance, store, at).run_requests or []
        assert config_of(request)["tenants"] == ["broken"]
        assert config_of(request)["workflow"] == "production_planning"
        assert not execute(instance, store, request, at).success
    assert open_failures(store) == {"broken": ("review", 4, False)}
    assert not tick(instance, store, at + timedelta(days=1)).run_requests
    types = store.frame("SELECT type FROM ops.execution WHERE tenant_id = 'broken' ORDER BY started_at")["type"]
    assert types.tolist() == ["manual", "retry", "retry", "retry"]


def test_a_retry_that_succeeds_resolves_the_failure(
    instance: dg.DagsterInstance, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    bakery(store, "a")
    with store.transaction() as connection:
        overflow_on_writing(connection, "a")
    assert not plan(instance, store, ["a"], workflow="production_planning").success
    with store.transaction() as connection:
        connection.execute("DELETE FROM master.product_price WHERE version = 99")
    at = NOW + timedelta(minutes=7)
    (request,) = tick(instance, store, at).run_requests or []
    with caplog.at_level("INFO", logger="daybreak.failures"):
        assert execute(instance, store, request, at).success
    assert "Retry executed successfully: a" in caplog.text
    assert open_failures(store) == {}
    assert tick(instance, store, at).skip_message == "No failed tenant is due."


def test_failures_due_go_in_one_run_per_workflow_and_date_and_never_in_two(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "b", "c"):
        add_bakery(store, tenant_id)
    fail(store, ["a", "b"])
    fail(store, ["c"], on=DAY - timedelta(days=1))
    at = NOW + timedelta(minutes=7)
    requests = tick(instance, store, at).run_requests or []
    assert [(config_of(r)["date"], config_of(r)["tenants"]) for r in requests] == [
        ("2026-03-01", ["c"]),
        ("2026-03-02", ["a", "b"]),
    ]
    # The daemon was killed before it made the runs: the same keys come again, and a failure since then in a run of its own.
    fail(store, ["c"], at=NOW - timedelta(hours=1))
    again = tick(instance, store, at).run_requests or []
    assert {r.run_key for r in requests} <= {r.run_key for r in again}
    assert len(again) == 3
    for request in again:
        launched(instance, request, dg.DagsterRunStatus.STARTED)
    assert not tick(instance, store, at).run_requests
    assert not tick(instance, store, at + timedelta(days=1)).run_requests, "its run has not ended"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_retry_whose_run_was_killed_counts_and_is_not_repeated_for_ever(
    instance: dg.DagsterInstance, store: Store, status: dg.DagsterRunStatus
) -> None:
    add_bakery(store, "a")
    fail(store, ["a"])
    at, keys = NOW, set()
    for attempts in (1, 2, 3):
        assert open_failures(store) == {"a": ("open", attempts, True)}
        at += timedelta(hours=1)
        (request,) = tick(instance, store, at).run_requests or []
        keys.add(request.run_key)
        launched(instance, request, status)
        assert not tick(instance, store, at).run_requests
    assert open_failures(store) == {"a": ("review", 4, False)}
    assert len(keys) == 3


def test_tenants_of_a_dead_run_are_tried_again_unless_a_person_had_begun_it(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("scheduled", "manual"):
        add_bakery(store, tenant_id)
        with store.transaction() as connection:
            start_executions(
                connection, "production_planning", tenant_id, "x", [tenant_id], DAY, 5, f"run {tenant_id}", "h", NOW
            )  # fmt: skip
    with store.transaction() as connection:
        assert reap(connection, ["run scheduled", "run manual"], NOW) == 2
        assert reap(connection, ["run scheduled"], NOW) == 0
    assert open_failures(store) == {"scheduled": ("open", 1, True)}
    (request,) = tick(instance, store, NOW + timedelta(minutes=7)).run_requests or []
    assert config_of(request)["tenants"] == ["scheduled"]


def test_paused_and_suspended_tenants_wait_and_dates_outside_the_grid_go_to_a_person(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "paused", "suspended", "old"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET status = 'suspended' WHERE tenant_id = 'suspended'")
        pause(connection, "paused", "oven", "ana", NOW)
    fail(store, ["a", "paused", "suspended"])
    fail(store, ["old"], on=WINDOW_START - timedelta(days=1))
    at = NOW + timedelta(minutes=7)
    (request,) = tick(instance, store, at).run_requests or []
    assert config_of(request)["tenants"] == ["a"]
    assert open_failures(store)["old"] == ("review", 1, False)
    launched(instance, request, dg.DagsterRunStatus.STARTED)
    with store.transaction() as connection:
        resume(connection, "paused", "ana", at)
        pause(connection, None, "moving house", "ana", at)
    assert tick(instance, store, at).skip_message == "Scheduling paused: moving house"
    with store.transaction() as connection:
        resume(connection, None, "ana", at)
    (request,) = tick(instance, store, at).run_requests or []
    assert config_of(request)["tenants"] == ["paused"]
    # Claimed, and paused before the run was made: it waits, without losing one of its tries.
    with store.transaction() as connection:
        pause(connection, "paused", "oven", "ana", at)
    assert not tick(instance, store, at).run_requests
    with store.transaction() as connection:
        resume(connection, "paused", "ana", at)
    (request,) = tick(instance, store, at).run_requests or []
    assert config_of(request)["tenants"] == ["paused"]
    assert open_failures(store)["paused"] == ("open", 1, True)


def test_a_claim_that_left_the_grid_does_not_stop_the_others(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "old"):
        add_bakery(store, tenant_id)
    before = WINDOW_START - timedelta(days=1)
    fail(store, ["old"], on=before)
    at = NOW + timedelta(minutes=7)
    with store.transaction() as connection:
        assert len(claim_due(connection, before, FOREVER, [], 200, at)) == 1  # by a tick that was killed
    fail(store, ["a"])
    (request,) = tick(instance, store, at).run_requests or []
    assert config_of(request)["tenants"] == ["a"]
    tick(instance, store, at)
    assert open_failures(store)["old"] == ("review", 1, False)


def test_maintenance_mode_stops_retries(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bakery(store, "a")
    fail(store, ["a"])
    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    result = tick(instance, store, NOW + timedelta(hours=1))
    assert not result.run_requests
    assert result.skip_message == "Scheduler disabled: SCHEDULER_DISABLED is true."


def test_many_dates_are_launched_some_at_a_time(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "a")
    for n in range(RUNS_A_TICK + 2):
        fail(store, ["a"], on=DAY - timedelta(days=n))
    at, seen = NOW + timedelta(minutes=7), []
    for expected in (RUNS_A_TICK, 2, 0):
        requests = tick(instance, store, at).run_requests or []
        assert len(requests) == expected
        for request in requests:
            launched(instance, request, dg.DagsterRunStatus.STARTED)
            seen.append(config_of(request)["date"])
    assert len(set(seen)) == RUNS_A_TICK + 2
    assert seen[0] == min(seen)  # type: ignore[type-var]


def test_days_that_a_batch_of_late_sales_validates_are_left_to_it(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "a")
    batch_id = uuid4()
    with store.transaction() as connection:
        rows = set_aside_of([("a", VALIDATION, "No forecast.", "Plan it.")])
        record_failures(connection, "forecast_validation", DAY, rows, "run", NOW)
        connection.execute(
            "INSERT INTO ops.validation_batch (batch_id, launch_after, requested_at) VALUES (%s, %s, %s)",
            (batch_id, NOW, NOW),
        )
        connection.execute(
            "INSERT INTO ops.validation_request VALUES ('a', %s, 1, %s, 'late_sales', %s)", (DAY, batch_id, NOW)
        )
    at = NOW + timedelta(hours=1)
    assert not tick(instance, store, at).run_requests
    with store.transaction() as connection:
        connection.execute("UPDATE ops.validation_batch SET completed_at = %s", (at,))
    (request,) = tick(instance, store, at).run_requests or []
    assert request.job_name == "forecast_validation_job"
    assert list(request.run_config["ops"]) == ["forecast_validation"]


def test_failures_in_a_row_are_counted_over_workflows_and_links_of_the_same_plan(store: Store) -> None:
    add_bakery(store, "a")
    fail(store, ["a"], link="production_plans")
    fail(store, ["a"], link="forecasts")
    rows = store.frame("SELECT link, attempts, retry_at FROM ops.failure WHERE resolved_at IS NULL ORDER BY failure_id")
    assert rows["link"].tolist() == ["production_plans", "forecasts"]
    assert rows["attempts"].tolist() == [1, 2]
    assert rows["retry_at"].notna().tolist() == [False, True], "only the latest is tried again"
    with store.transaction() as connection:
        assert resolve_failures(connection, ["a"], DAY, NOW, ["production_plans", "forecasts"]) == 2
    fail(store, ["a"])
    assert open_failures(store)["a"] == ("open", 1, True), "a success ends the row"


def test_a_person_has_it_tried_once_more_or_dismisses_it(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "a")
    for _ in range(4):
        fail(store, ["a"])
    failure_id = int(store.frame("SELECT max(failure_id) AS n FROM ops.failure")["n"].item())
    assert open_failures(store) == {"a": ("review", 4, False)}
    with store.transaction() as connection:
        assert ask_retry(connection, [failure_id], NOW) == [failure_id]
    (request,) = tick(instance, store, NOW).run_requests or []
    assert config_of(request)["triggered_by"] == "failed_tenants_sensor, after 4 failures"
    with store.transaction() as connection:
        assert ask_retry(connection, [failure_id], NOW) == [], "it is on its way"
        assert release_claims(connection, [], NOW) == 0
    fail(store, ["a"])
    assert open_failures(store) == {"a": ("review", 5, False)}
    with store.transaction() as connection:
        dismiss(connection, failure_id + 1, "ana", "closed for good", NOW)
    assert open_failures(store) == {}
    row = store.frame("SELECT state, dismissed_by, notes FROM ops.failure ORDER BY failure_id DESC LIMIT 1").iloc[0]
    assert row.tolist() == ["dismissed", "ana", "closed for good"]


def test_a_day_that_is_over_utc_is_still_in_the_grid(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "a")
    fail(store, ["a"])
    assert tick(instance, store, datetime(2026, 3, 20, tzinfo=UTC)).run_requests
