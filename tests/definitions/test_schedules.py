"""Real ticks of the real schedules: who is due when, on days with a clock change, across the date line, in odd zones."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from resources.store.database import Store
from schedules import WORKFLOWS
from tests.definitions.conftest import definitions_of
from tests.definitions.test_daily_plan import bakery, overflow_on_writing, plan
from tests.integration.store_bakery import add_bakery, add_sales


def tick(
    instance: dg.DagsterInstance, store: Store, workflow: str, zone: str, at: datetime
) -> tuple[list[dg.RunRequest], str | None]:
    """Evaluate a schedule at an instant; returns its run requests and why it skipped."""
    name = f"{workflow}__{zone.lower().replace('/', '_')}_schedule"
    repository = definitions_of(store.dsn, zones=(zone,)).get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        result = repository.get_schedule_def(name).evaluate_tick(context)
    return list(result.run_requests or []), result.skip_message


def config_of(request: dg.RunRequest) -> dict[str, object]:
    """The step's configuration in a run request."""
    (step,) = request.run_config["ops"].values()
    return dict(step["config"])


def move(store: Store, tenant_id: str, zone: str, lead_days: int = 0) -> None:
    """Put a tenant into a time zone."""
    with store.transaction() as connection:
        connection.execute(
            "UPDATE master.tenant SET timezone = %s, plan_lead_days = %s WHERE tenant_id = %s",
            (zone, lead_days, tenant_id),
        )


# Instants written by hand from the zones' published offsets, not computed by the code under test.
@pytest.mark.parametrize(
    ("zone", "before", "due", "plan_date"),
    [
        ("Europe/Madrid", "2026-03-02T04:15Z", "2026-03-02T04:30Z", "2026-03-02"),
        # The clock goes forward at 02:00 on 29 March: 05:30 is UTC+2 that day.
        ("Europe/Madrid", "2026-03-29T03:15Z", "2026-03-29T03:30Z", "2026-03-29"),
        # And back at 03:00 on 25 October: 05:30 is UTC+1 again.
        ("Europe/Madrid", "2026-10-25T04:15Z", "2026-10-25T04:30Z", "2026-10-25"),
        ("America/New_York", "2026-03-08T09:15Z", "2026-03-08T09:30Z", "2026-03-08"),
        # Half an hour off the others.
        ("Asia/Kolkata", "2026-03-01T23:45Z", "2026-03-02T00:00Z", "2026-03-02"),
        # Both sides of the date line: the local date is a day ahead of, or the same as, the one in UTC.
        ("Pacific/Kiritimati", "2026-03-01T15:15Z", "2026-03-01T15:30Z", "2026-03-02"),
        ("Pacific/Pago_Pago", "2026-03-02T16:15Z", "2026-03-02T16:30Z", "2026-03-02"),
    ],
)
def test_production_planning_is_due_at_half_past_five_local(
    instance: dg.DagsterInstance, store: Store, zone: str, before: str, due: str, plan_date: str
) -> None:
    add_bakery(store, "a")
    move(store, "a", zone)
    requests, skipped = tick(instance, store, "production_planning", zone, datetime.fromisoformat(before))
    assert not requests
    assert zone in (skipped or "")
    (request,) = tick(instance, store, "production_planning", zone, datetime.fromisoformat(due))[0]
    assert config_of(request)["date"] == plan_date
    assert config_of(request)["tenants"] == ["a"]
    assert config_of(request)["skip_up_to_date"] is True


@pytest.mark.parametrize("on", [date(2026, 3, 29), date(2026, 10, 25), date(2026, 6, 1)])
def test_a_tenant_is_planned_exactly_once_on_a_day_with_a_clock_change(
    instance: dg.DagsterInstance, store: Store, on: date
) -> None:
    bakery(store, "a")
    start = datetime(on.year, on.month, on.day, tzinfo=UTC) - timedelta(hours=2)
    asked = []
    for n in range(26 * 4):
        at = start + n * timedelta(minutes=15)
        for request in tick(instance, store, "production_planning", "Europe/Madrid", at)[0]:
            asked.append((config_of(request)["date"], at))
            job = definitions_of(store.dsn, now=at).resolve_job_def("daily_plan_job")
            assert job.execute_in_process(
                instance=instance, run_config=request.run_config, partition_key=request.partition_key
            ).success
    assert [day for day, _ in asked].count(on.isoformat()) == 1
    # The tick of half past five local, whatever the offset that day.
    assert [
        at.astimezone(ZoneInfo("Europe/Madrid")).strftime("%H:%M") for day, at in asked if day == on.isoformat()
    ] == ["05:30"]


def test_a_time_late_in_the_evening_comes_due_after_midnight_for_the_day_before(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_bakery(store, "night")
    move(store, "night", "Europe/Madrid", lead_days=1)
    with store.transaction() as connection:
        connection.execute("INSERT INTO master.schedule_group VALUES ('late', '23:50', '23:55', '08:00')")
        connection.execute("UPDATE master.tenant SET schedule_group = 'late'")
    midnight = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)
    (request,), _ = tick(instance, store, "production_planning", "Europe/Madrid", midnight)
    assert config_of(request)["date"] == "2026-03-03"


def test_maintenance_mode_stops_scheduling(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bakery(store, "a")
    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    at = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
    requests, skipped = tick(instance, store, "production_planning", "Europe/Madrid", at)
    assert not requests
    assert "Scheduler disabled" in (skipped or "")


def test_a_night_bakery_plans_the_day_after(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "day")
    add_bakery(store, "night")
    move(store, "night", "Europe/Madrid", lead_days=1)
    requests, _ = tick(instance, store, "production_planning", "Europe/Madrid", datetime(2026, 3, 2, 4, 30, tzinfo=UTC))
    assert {str(config_of(r)["date"]): config_of(r)["tenants"] for r in requests} == {
        "2026-03-02": ["day"],
        "2026-03-03": ["night"],
    }


def test_only_active_tenants_are_due_and_higher_tiers_come_first(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "b", "c"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET status = 'suspended' WHERE tenant_id = 'a'")
        connection.execute("UPDATE master.tenant SET tier = 'enterprise' WHERE tenant_id = 'c'")
    ((request,), _) = tick(
        instance, store, "production_planning", "Europe/Madrid", datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
    )
    assert config_of(request)["tenants"] == ["c", "b"]
    assert request.tags["dagster/priority"] == "2"


def test_a_group_of_tenants_can_have_times_of_its_own(instance: dg.DagsterInstance, store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        connection.execute("INSERT INTO master.schedule_group VALUES ('early', '03:00', '03:30', '07:00')")
        connection.execute("UPDATE master.tenant SET schedule_group = 'early'")
    assert not tick(instance, store, "production_planning", "Europe/Madrid", datetime(2026, 3, 2, 1, 45, tzinfo=UTC))[0]
    assert tick(instance, store, "production_planning", "Europe/Madrid", datetime(2026, 3, 2, 2, 0, tzinfo=UTC))[0]


def test_a_planned_tenant_is_left_alone_until_its_inputs_change_before_the_second_workflow(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"], workflow="production_planning").success
    six = datetime(2026, 3, 2, 5, 0, tzinfo=UTC)
    assert not tick(instance, store, "procurement_planning", "Europe/Madrid", six)[0]
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", date(2026, 3, 1), 55.0)], source="late")
    (request,), _ = tick(instance, store, "procurement_planning", "Europe/Madrid", six)
    assert config_of(request)["workflow"] == "procurement_planning"
    # By noon bakers work by the plan: a change of inputs no longer replaces it.
    assert not tick(instance, store, "procurement_planning", "Europe/Madrid", datetime(2026, 3, 2, 11, 0, tzinfo=UTC))[
        0
    ]


def test_a_missed_morning_is_caught_up_and_a_failed_attempt_is_not_repeated(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    ten = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    assert tick(instance, store, "production_planning", "Europe/Madrid", ten)[0], "the daemon was down at 05:30"
    with store.transaction() as connection:
        overflow_on_writing(connection, "a")
    assert not plan(instance, store, ["a"], now=ten, workflow="production_planning").success
    assert not tick(instance, store, "production_planning", "Europe/Madrid", ten + timedelta(minutes=15))[0]


def test_validation_is_due_from_eight_until_it_was_made_once(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    eight = datetime(2026, 3, 3, 7, 0, tzinfo=UTC)

    def due(at: datetime) -> list[dg.RunRequest]:
        return tick(instance, store, "forecast_validation", "Europe/Madrid", at)[0]

    def validate(request: dg.RunRequest, at: datetime) -> None:
        job = definitions_of(store.dsn, now=at).resolve_job_def("forecast_validation_job")
        assert job.execute_in_process(
            instance=instance, run_config=request.run_config, partition_key=request.partition_key
        ).success

    assert not due(eight), "there is no forecast yet"
    assert plan(instance, store, ["a"]).success
    assert not due(eight - timedelta(minutes=15))
    (request,) = due(eight)
    assert config_of(request)["date"] == "2026-03-02"
    validate(request, eight)
    assert not due(eight + timedelta(minutes=15)), "scored, if without a single actual"

    # The till's file comes at ten: the sensor of late sales has the day validated again, not the schedule.
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", date(2026, 3, 2), 31.0)], source="late")
    assert not due(datetime(2026, 3, 3, 9, 15, tzinfo=UTC))
    assert not due(datetime(2026, 3, 4, 7, 0, tzinfo=UTC)), "the day before has no forecast"


def test_the_run_key_holds_the_data_versions(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    at = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
    first = tick(instance, store, "production_planning", "Europe/Madrid", at)[0][0].run_key
    assert tick(instance, store, "production_planning", "Europe/Madrid", at)[0][0].run_key == first
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", date(2026, 3, 1), 9.0)], source="more")
    assert tick(instance, store, "production_planning", "Europe/Madrid", at)[0][0].run_key != first


def test_a_new_zone_gets_its_own_schedules() -> None:
    zones = ("Europe/Madrid", "Asia/Kolkata")
    names = {s.name for s in definitions_of("postgresql://unused", zones=zones).get_repository_def().schedule_defs}
    assert names == {
        f"{name}__{zone}_schedule"
        for name in (*(workflow.name for workflow in WORKFLOWS), "weekly_evaluation")
        for zone in ("europe_madrid", "asia_kolkata")
    }
