"""Late sales through real ticks and runs: every day validated once, whatever is killed on the way."""

from datetime import date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from planning_assets.revalidation import NAME as JOB
from resources.imports.importer import Options, import_batch
from resources.imports.source import Source
from resources.store.database import Store
from resources.store.late_sales import claim_stale
from resources.store.plans import write_forecasts
from sensors.late_sales import NAME
from tests.definitions.conftest import NOW, definitions_of
from tests.integration.store_bakery import NO_BACKTEST, NO_EXCEPTIONS, add_bakery, context, forecasts

BEFORE_WINDOW = [date(2025, 12, 27) + timedelta(days=n) for n in range(5)]
IN_WINDOW = [date(2026, 2, 1) + timedelta(days=n) for n in range(5)]
DATES = [*BEFORE_WINDOW, *IN_WINDOW]
TENANTS = ["a", "b", "c", "d", "e"]
LATER = NOW + timedelta(minutes=10)


def add_forecasts(store: Store, tenants: list[str], dates: list[date]) -> None:
    """Bakeries with forecasts of these dates, made on their mornings."""
    for tenant_id in tenants:
        add_bakery(store, tenant_id, dates)
    with store.transaction() as connection:
        for day in dates:
            made_at = datetime.combine(day, NOW.timetz())
            made = context(connection, tenants, day, now=made_at)
            write_forecasts(connection, made, forecasts(tenants, day), NO_BACKTEST, NO_EXCEPTIONS)


def take_sales(store: Store, tenant_id: str, dates: list[date], units: int = 12) -> None:
    """Import what a tenant sold of bread at main on these dates."""
    lines = [f"main,bread,{day},{units}" for day in dates]
    content = "\n".join(["location_id,product_id,business_date,quantity_units", *lines, ""]).encode()
    (report,) = import_batch(
        store, "sales", [Source.of_bytes(tenant_id, "late.csv", content)], now=NOW, options=Options(again=True)
    )
    assert report.status == "imported", report.problems


def tick(
    instance: dg.DagsterInstance, store: Store, cursor: str | None = None, now: datetime = NOW
) -> SensorExecutionData:
    """Evaluate the sensor."""
    repository = definitions_of(store.dsn, now).get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as tick_context:
        return repository.get_sensor_def(NAME).evaluate_tick(tick_context)


def run(
    instance: dg.DagsterInstance, store: Store, request: dg.RunRequest, now: datetime = NOW
) -> dg.ExecuteInProcessResult:
    """Do what the daemon does with a request."""
    tags = {**request.tags, "dagster/sensor_name": NAME, "dagster/run_key": str(request.run_key)}
    job = definitions_of(store.dsn, now).resolve_job_def(JOB)
    return job.execute_in_process(instance=instance, run_config=request.run_config, tags=tags, raise_on_error=False)


def validate_everything(instance: dg.DagsterInstance, store: Store) -> str:
    """Validate all that was never validated; returns the cursor."""
    first = tick(instance, store)
    for request in first.run_requests or []:
        assert run(instance, store, request).success
    last = tick(instance, store, first.cursor)
    assert not last.run_requests
    assert last.cursor is not None
    return last.cursor


def executions(store: Store) -> dict[tuple[str, date], int]:
    """How often each day was validated."""
    rows = store.frame(
        "SELECT tenant_id, plan_date, count(*) AS n FROM ops.execution"
        " WHERE workflow = 'forecast_validation' AND status = 'completed' GROUP BY 1, 2"
    )
    return {(row.tenant_id, row.plan_date): row.n for row in rows.itertuples()}


def versions(store: Store) -> dict[tuple[str, date], int]:
    """The version of the actuals that each day was validated by."""
    rows = store.frame("SELECT tenant_id, business_date, actuals_version FROM quality.validation")
    return {(row.tenant_id, row.business_date): row.actuals_version for row in rows.itertuples()}


def open_batches(store: Store) -> int:
    """Batches neither done nor given up."""
    return int(store.frame("SELECT count(*) FROM ops.validation_batch WHERE completed_at IS NULL").iat[0, 0])  # type: ignore[arg-type]


PAIRS = {(tenant_id, day) for tenant_id in TENANTS for day in DATES}


def test_a_late_file_of_five_tenants_and_ten_days_is_validated_once_though_ticks_are_cut_off(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_forecasts(store, TENANTS, DATES)
    cursor = validate_everything(instance, store)
    assert executions(store) == dict.fromkeys(PAIRS, 1), "the sweep finds days that were never validated"
    assert set(versions(store).values()) == {0}

    for tenant_id in TENANTS:
        take_sales(store, tenant_id, DATES)
    # Killed after the claim was committed: neither the cursor nor a request came of it.
    with store.transaction() as connection:
        assert claim_stale(connection, cursor, (), LATER).pairs == 50
    # Killed after the tick had answered, before the daemon made the run.
    cut_off = tick(instance, store, cursor, LATER)
    (lost,) = cut_off.run_requests or []
    # Killed after the cursor was kept, too: the next tick knows nothing new, and launches what has no run.
    again = tick(instance, store, cut_off.cursor, LATER)
    (request,) = again.run_requests or []
    assert request.run_key == lost.run_key
    result = run(instance, store, request, LATER)
    assert result.success
    # Killed before the tick after the run: what is asked for with the oldest cursor is not asked for again.
    assert not tick(instance, store, cursor, LATER).run_requests
    assert executions(store) == dict.fromkeys(PAIRS, 2)
    assert versions(store) == dict.fromkeys(PAIRS, 1)
    assert open_batches(store) == 0
    kinds = store.frame("SELECT DISTINCT type, triggered_by FROM ops.execution").to_numpy().tolist()
    assert kinds == [["backfill", "late_sales_sensor"]]

    shown = instance.get_materialized_partitions(dg.AssetKey("validation_metrics"))
    assert shown == {f"{day}|{tenant_id}" for tenant_id in TENANTS for day in IN_WINDOW}
    (output,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    metadata = output.step_output_data.metadata
    assert (metadata["days_validated"].value, metadata["days_outside_the_grid"].value) == (50, 25)
    assert "2025-12-27" in str(metadata["outside_the_grid"].value)


def test_only_days_whose_sales_changed_are_validated_again(instance: dg.DagsterInstance, store: Store) -> None:
    add_forecasts(store, ["a"], IN_WINDOW)
    take_sales(store, "a", IN_WINDOW)
    cursor = validate_everything(instance, store)
    take_sales(store, "a", IN_WINDOW)
    assert not tick(instance, store, cursor).run_requests, "the same file again changes nothing"
    take_sales(store, "a", IN_WINDOW[1:3], units=15)
    assert store.frame("SELECT version FROM facts.actuals_day ORDER BY business_date")["version"].tolist() == [
        1,
        2,
        2,
        1,
        1,
    ]
    last = tick(instance, store, cursor)
    (request,) = last.run_requests or []
    assert run(instance, store, request).success
    assert executions(store) == {("a", day): 2 if day in IN_WINDOW[1:3] else 1 for day in IN_WINDOW}


def test_a_transaction_that_commits_late_is_not_passed_over(instance: dg.DagsterInstance, store: Store) -> None:
    add_forecasts(store, ["slow", "fast"], IN_WINDOW)
    for tenant_id in ("slow", "fast"):
        take_sales(store, tenant_id, IN_WINDOW)
    cursor = validate_everything(instance, store)
    with store.session() as session, session.transaction():
        session.execute(
            "UPDATE facts.actuals_day SET version = 2, changed_by = pg_current_xact_id() WHERE tenant_id = 'slow'"
        )
        take_sales(store, "fast", IN_WINDOW, units=9)
        while_open = tick(instance, store, cursor)
    after = tick(instance, store, while_open.cursor)
    asked = store.frame("SELECT DISTINCT tenant_id FROM ops.validation_request WHERE actuals_version = 2 ORDER BY 1")
    assert asked["tenant_id"].tolist() == ["fast", "slow"]
    assert len(after.run_requests or []) + len(while_open.run_requests or []) >= 1


@pytest.mark.parametrize("unreadable", ["", "zero", "-1", '{"xid": 1}', "²", "9" * 19, "9" * 40])
def test_an_unreadable_cursor_starts_from_what_the_store_knows(
    instance: dg.DagsterInstance, store: Store, unreadable: str
) -> None:
    add_forecasts(store, ["a"], IN_WINDOW[:2])
    validate_everything(instance, store)
    take_sales(store, "a", IN_WINDOW[:1])
    result = tick(instance, store, unreadable)
    assert len(result.run_requests or []) == 1
    assert result.cursor is not None
    assert result.cursor.isdigit()
    assert open_batches(store) == 1
    assert len(tick(instance, store, unreadable).run_requests or []) == 1, "the same run key"
    assert open_batches(store) == 1


def test_yesterday_is_left_to_the_schedule_and_a_gap_is_found_the_day_after(
    instance: dg.DagsterInstance, store: Store
) -> None:
    yesterday = NOW.date() - timedelta(days=1)
    add_forecasts(store, ["a"], [yesterday, NOW.date()])
    take_sales(store, "a", [yesterday])
    evening = NOW.replace(hour=20)
    first = tick(instance, store, None, evening)
    assert not first.run_requests
    # The sweep of the next day comes after nine; validation was due at eight.
    assert not tick(instance, store, first.cursor, NOW + timedelta(days=1)).run_requests
    swept = tick(instance, store, first.cursor, NOW.replace(hour=9, minute=1) + timedelta(days=1))
    assert len(swept.run_requests or []) == 1
    asked = store.frame("SELECT business_date, reason FROM ops.validation_request").to_numpy().tolist()
    assert asked == [[yesterday, "gap"]], "today is the schedule's"


def test_what_three_runs_could_not_do_waits_for_a_person_and_the_others_are_validated(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_forecasts(store, ["a", "gone"], IN_WINDOW[:1])
    (request,) = tick(instance, store).run_requests or []
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET status = 'suspended' WHERE tenant_id = 'gone'")
    assert not run(instance, store, request).success
    assert set(versions(store)) == {("a", IN_WINDOW[0])}
    cursor, now, keys = None, NOW, [request.run_key]
    for minutes in (1, 2):
        last = tick(instance, store, cursor, now)
        assert not last.run_requests, "the next attempt waits"
        cursor, now = last.cursor, now + timedelta(minutes=minutes)
        (request,) = tick(instance, store, cursor, now).run_requests or []
        keys.append(request.run_key)
        assert not run(instance, store, request, now).success
    assert [str(key).rpartition("|")[2] for key in keys] == ["1", "2", "3"]
    assert not tick(instance, store, cursor, now).run_requests
    assert open_batches(store) == 0
    failure = store.frame(
        "SELECT tenant_id, state, link, attempts, retry_at, reason FROM ops.failure WHERE resolved_at IS NULL"
    )
    assert failure[["tenant_id", "state", "link", "attempts"]].to_numpy().tolist() == [
        ["gone", "review", "validation_metrics", 3]
    ]
    assert failure["retry_at"].isna().all()
    assert "suspended" in failure["reason"][0]
    assert not tick(instance, store, "unreadable", now).run_requests, "what was given up is not asked for again"


def test_a_run_whose_process_died_is_launched_again_and_leaves_out_what_it_had_done(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_forecasts(store, ["a", "b"], IN_WINDOW[:2])
    first = tick(instance, store)
    (request,) = first.run_requests or []
    # Half of the batch was done when the process died.
    dead = instance.create_run_for_job(
        definitions_of(store.dsn).resolve_job_def(JOB),
        run_config=request.run_config,
        tags={"dagster/sensor_name": NAME, "dagster/run_key": str(request.run_key)},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert not tick(instance, store, first.cursor).run_requests, "it may be alive"
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO quality.validation (tenant_id, business_date, sales_version, actuals_version, run_id, validated_at)"
            " VALUES ('a', %s, 0, 0, %s, now())",
            (IN_WINDOW[0], dead.run_id),
        )
    instance.report_run_failed(dead, "lost")
    assert not tick(instance, store, first.cursor).run_requests
    (second,) = tick(instance, store, first.cursor, NOW + timedelta(minutes=1)).run_requests or []
    assert run(instance, store, second).success
    assert executions(store) == {("a", IN_WINDOW[1]): 1, ("b", IN_WINDOW[0]): 1, ("b", IN_WINDOW[1]): 1}
    tick(instance, store, first.cursor)
    assert open_batches(store) == 0


def test_paused_tenants_wait_and_are_found_when_they_are_resumed(instance: dg.DagsterInstance, store: Store) -> None:
    add_forecasts(store, ["a", "b"], IN_WINDOW[:1])
    cursor = validate_everything(instance, store)
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO ops.pause (tenant_id, reason, actor, paused_at) VALUES ('a', 'holiday', 'me', now())"
        )
    for tenant_id in ("a", "b"):
        take_sales(store, tenant_id, IN_WINDOW[:1])
    paused = tick(instance, store, cursor)
    (request,) = paused.run_requests or []
    assert run(instance, store, request).success
    assert versions(store) == {("a", IN_WINDOW[0]): 0, ("b", IN_WINDOW[0]): 1}
    with store.transaction() as connection:
        connection.execute("UPDATE ops.pause SET resumed_at = now(), resumed_by = 'me'")
    (request,) = tick(instance, store, paused.cursor).run_requests or []
    assert run(instance, store, request).success
    assert set(versions(store).values()) == {1}


def test_while_everybody_is_paused_nothing_is_launched_and_the_cursor_stays(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_forecasts(store, ["a"], IN_WINDOW[:1])
    with store.transaction() as connection:
        connection.execute("INSERT INTO ops.pause (reason, actor, paused_at) VALUES ('maintenance', 'me', now())")
    result = tick(instance, store, "5")
    assert (result.run_requests, result.cursor) == ([], "5")
    assert "maintenance" in str(result.skip_message)
    with store.transaction() as connection:
        connection.execute("UPDATE ops.pause SET resumed_at = now(), resumed_by = 'me'")
    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    assert not tick(instance, store, "5").run_requests
