"""Pauses, holidays and weekends in real ticks of the real schedules: who is held, who is moved, what is caught up once."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.store.database import Store
from resources.store.master import MasterDataError
from resources.store.pauses import PauseError, pause, read_paused, resume
from resources.store.policies import CHOICES, Policy, PolicyError, read_special_times, remove_policies, set_policy
from tests.definitions.conftest import definitions_of
from tests.definitions.test_daily_plan import bakery, plan
from tests.definitions.test_schedules import config_of, move, tick
from tests.definitions.test_sensors import REGENERATION, evaluate, rejected
from tests.integration.store_bakery import add_bakery

MADRID = "Europe/Madrid"
HALF_PAST_FIVE = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def due(
    instance: dg.DagsterInstance,
    store: Store,
    at: datetime,
    workflow: str = "production_planning",
    zone: str = MADRID,
) -> list[tuple[str, str]]:
    """(date, tenant) that a tick requests."""
    requests, _ = tick(instance, store, workflow, zone, at)
    return [(str(config_of(r)["date"]), tenant) for r in requests for tenant in config_of(r)["tenants"]]  # type: ignore[attr-defined]


def paused(store: Store, tenant_id: str | None, at: datetime) -> None:
    """Pause at an instant."""
    with store.transaction() as connection:
        pause(connection, tenant_id, "a new oven", "ana", at)


def resumed(store: Store, tenant_id: str | None, at: datetime) -> None:
    """Resume at an instant."""
    with store.transaction() as connection:
        resume(connection, tenant_id, "ana", at)


def ruled(store: Store, tenant_id: str, **policy: object) -> None:
    """Give both plannings of a tenant a policy."""
    with store.transaction() as connection:
        for workflow in ("production_planning", "procurement_planning"):
            set_policy(connection, Policy(tenant_id, workflow, **policy))  # type: ignore[arg-type]


def local(day: str, at: str, zone: str = MADRID) -> datetime:
    """An instant from a wall clock."""
    return datetime.fromisoformat(f"{day}T{at}").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


# ---------------------------------------------------------------- pauses


def test_a_pause_holds_a_tenant_or_everybody_and_ends_once(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    paused(store, "a", HALF_PAST_FIVE - QUARTER)
    assert due(instance, store, HALF_PAST_FIVE) == [("2026-03-02", "b")]
    paused(store, None, HALF_PAST_FIVE - QUARTER)
    requests, said = tick(instance, store, "production_planning", MADRID, HALF_PAST_FIVE)
    assert not requests
    assert said == "Scheduling paused: a new oven"
    with store.transaction() as connection:
        assert read_paused(connection).holds("b")
        with pytest.raises(PauseError, match="paused already"):
            pause(connection, "a", "again", "ana", HALF_PAST_FIVE)
        with pytest.raises(PauseError, match="reason"):
            pause(connection, "b", " ", "ana", HALF_PAST_FIVE)
        with pytest.raises(MasterDataError, match="no tenant"):
            pause(connection, "nobody", "x", "ana", HALF_PAST_FIVE)
        assert resume(connection, "a", "ana", HALF_PAST_FIVE) == "a new oven", "the pause of everybody still holds it"
        assert resume(connection, None, "ana", HALF_PAST_FIVE) is None
        with pytest.raises(PauseError, match="is not paused"):
            resume(connection, "a", "ana", HALF_PAST_FIVE)
    assert due(instance, store, HALF_PAST_FIVE) == [("2026-03-02", "a"), ("2026-03-02", "b")]


def test_a_morning_missed_during_a_pause_is_planned_once_after_it(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    paused(store, "a", HALF_PAST_FIVE - QUARTER)
    ten = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    assert not due(instance, store, ten)
    resumed(store, "a", ten)
    assert due(instance, store, ten) == [("2026-03-02", "a")]
    assert plan(instance, store, ["a"], now=ten, workflow="production_planning").success
    assert not due(instance, store, ten + QUARTER)
    # Days that are over are not planned any more.
    paused(store, "a", local("2026-03-03", "05:00"))
    resumed(store, "a", local("2026-03-04", "01:00"))
    assert not due(instance, store, local("2026-03-04", "01:00"))


def test_a_night_bakery_gets_the_days_whose_evening_was_missed_and_that_are_not_over(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("held", "free"):
        add_bakery(store, tenant_id)
        move(store, tenant_id, MADRID, lead_days=1)
    paused(store, "held", local("2026-02-27", "05:00"))
    # At 04:45 on the second, the plan of that day was due at 05:30 on the first: too long ago but for the pause.
    morning = local("2026-03-02", "04:45")
    resumed(store, "held", morning)
    assert due(instance, store, morning) == [("2026-03-02", "held")]
    # At noon, that of the next day was missed too by "free", whose daemon was down.
    assert due(instance, store, local("2026-03-02", "12:00")) == [
        ("2026-03-02", "held"), ("2026-03-03", "free"), ("2026-03-03", "held"),
    ]  # fmt: skip


def test_catching_up_tries_once(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    move(store, "a", MADRID, lead_days=1)
    paused(store, "a", local("2026-03-01", "05:00"))
    resumed(store, "a", local("2026-03-02", "04:45"))
    asked = []
    at = local("2026-03-02", "04:45")
    for _ in range(8):
        for request in tick(instance, store, "production_planning", MADRID, at)[0]:
            asked.append(config_of(request)["date"])
            job = definitions_of(store.dsn, now=at).resolve_job_def("daily_plan_job")
            assert job.execute_in_process(
                instance=instance, run_config=request.run_config, partition_key=request.partition_key
            ).success
        at += QUARTER
    assert asked == ["2026-03-02", "2026-03-03"], "the missed one, and that of half past five"


def test_rejected_plans_wait_during_a_pause(instance: dg.DagsterInstance, store: Store) -> None:
    rejected(store, "a")
    paused(store, "a", HALF_PAST_FIVE)
    assert not evaluate(instance, store, REGENERATION).run_requests
    paused(store, None, HALF_PAST_FIVE)
    assert evaluate(instance, store, REGENERATION).skip_message == "Scheduling paused: a new oven"
    resumed(store, None, HALF_PAST_FIVE)
    resumed(store, "a", HALF_PAST_FIVE)
    assert len(evaluate(instance, store, REGENERATION).run_requests or []) == 1


# ---------------------------------------------------------------- holidays and weekends


@pytest.mark.parametrize(
    ("day", "policy", "expected"),
    [
        # Epiphany, a Tuesday, is a public holiday in Spain; the Wednesday after it is none.
        ("2026-01-06", {"on_holidays": "skip"}, []),
        ("2026-01-07", {"on_holidays": "skip"}, ["05:30"]),
        ("2026-01-06", {"on_weekends": "skip"}, ["05:30"]),
        ("2026-01-06", {"on_holidays": "move", "moved_to": time(7, 15)}, ["07:15"]),
        ("2026-01-07", {"on_holidays": "move", "moved_to": time(7, 15)}, ["05:30"]),
        ("2026-03-07", {"on_weekends": "move", "moved_to": time(4, 0)}, ["04:00"]),
        # The clock goes forward at 02:00 on Sunday 29 March: half past two is half past three that day.
        ("2026-03-29", {"on_weekends": "move", "moved_to": time(2, 30)}, ["03:30"]),
        ("2026-03-29", {"on_weekends": "move", "moved_to": time(7, 15)}, ["07:15"]),
        ("2026-10-25", {"on_weekends": "move", "moved_to": time(7, 15)}, ["07:15"]),
        # The Assumption 2026 is a Saturday: skipping counts before moving.
        ("2026-08-15", {"on_holidays": "skip", "on_weekends": "move", "moved_to": time(7, 15)}, []),
    ],
)
def test_a_workflow_is_skipped_or_moved_by_the_day_on_which_it_runs(
    instance: dg.DagsterInstance, store: Store, day: str, policy: dict[str, object], expected: list[str]
) -> None:
    add_bakery(store, "a")
    ruled(store, "a", **policy)
    hours = (local(day, "00:00"), *(local(day, at) for at in ("04:00", "05:30", "07:15")), local(day, "23:45"))
    if not expected:
        assert not [at for at in hours if (day, "a") in due(instance, store, at)]
        return
    at = local(day, expected[0])
    assert (day, "a") not in due(instance, store, at - QUARTER)
    assert (day, "a") in due(instance, store, at)


def test_weekends_and_holidays_are_those_of_the_tenants_country_and_region(store: Store) -> None:
    for tenant_id, country, subdivision in (("sa", "SA", None), ("es", "ES", None), ("md", "ES", "MD")):
        add_bakery(store, tenant_id)
        with store.transaction() as connection:
            connection.execute(
                "UPDATE master.tenant SET country = %s, subdivision = %s WHERE tenant_id = %s",
                (country, subdivision, tenant_id),
            )
    friday, second_of_may, saturday = date(2026, 3, 6), date(2024, 5, 2), date(2026, 3, 7)
    with store.transaction() as connection:
        for tenant_id in ("sa", "es", "md"):
            set_policy(connection, Policy(tenant_id, "production_planning", "skip", "skip"))

        def skipped(day: date) -> set[str]:
            return {t for t, _ in read_special_times(connection, "production_planning", ["sa", "es", "md"], [day])}

        assert skipped(friday) == {"sa"}
        assert skipped(saturday) == {"sa", "es", "md"}
        assert skipped(second_of_may) == {"md"}, "the day of the Community of Madrid"
        # A holiday that the tenant has imported counts like a public one, one of a single location does not.
        connection.execute(
            "INSERT INTO master.calendar_event (tenant_id, location_id, business_date, kind, name) VALUES"
            " ('es', NULL, '2026-03-04', 'holiday', 'Town'), ('md', 'main', '2026-03-04', 'holiday', 'Street')"
        )
        assert skipped(date(2026, 3, 4)) == {"es"}
        assert remove_policies(connection, "es") == 1
        assert skipped(saturday) == {"sa", "md"}


def test_an_unknown_country_stops_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    for tenant_id in ("a", "lost"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET country = 'ZZ' WHERE tenant_id = 'lost'")
        for tenant_id in ("a", "lost"):
            set_policy(connection, Policy(tenant_id, "production_planning", on_holidays="skip"))
        found = read_special_times(connection, "production_planning", ["a", "lost"], [date(2026, 1, 6)])
    assert found == {("a", date(2026, 1, 6)): None}
    assert "lost: " in caplog.text
    assert "daybreak tenant set lost" in caplog.text


def test_policies_that_make_no_sense_are_refused(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        with pytest.raises(PolicyError, match="moved to no time"):
            set_policy(connection, Policy("a", "production_planning", on_holidays="move"))
        with pytest.raises(PolicyError, match="no local time"):
            set_policy(connection, Policy("a", "model_training", on_holidays="skip"))
        with pytest.raises(MasterDataError):
            set_policy(connection, Policy("nobody", "production_planning"))


def test_with_the_policy_run_every_tick_is_as_without(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "night"):
        add_bakery(store, tenant_id)
    move(store, "night", MADRID, lead_days=1)
    # Good Friday to Sunday, a weekend with a clock change, and a Monday.
    ticks = [
        local(day, at)
        for day in ("2026-04-03", "2026-04-05", "2026-03-29", "2026-03-30")
        for at in ("00:15", "05:30", "06:00", "12:00")
    ]
    without = [due(instance, store, at) for at in ticks]
    for tenant_id in ("a", "night"):
        ruled(store, tenant_id, moved_to=time(3, 0))
    assert [due(instance, store, at) for at in ticks] == without
    assert any(without)


TIMES = st.times()


@given(TIMES, TIMES | st.none(), st.booleans(), st.booleans())
def test_run_changes_no_time(usual: time, moved_to: time | None, is_holiday: bool, is_weekend: bool) -> None:
    assert Policy("a", "w", "run", "run", moved_to).time_on(usual, is_holiday, is_weekend) == usual


@given(st.sampled_from(CHOICES), st.sampled_from(CHOICES), TIMES, TIMES)
def test_an_ordinary_day_is_never_changed_and_skip_wins(
    on_holidays: str, on_weekends: str, usual: time, moved_to: time
) -> None:
    policy = Policy("a", "w", on_holidays, on_weekends, moved_to)
    assert policy.time_on(usual, False, False) == usual
    both = policy.time_on(usual, True, True)
    alone = {policy.time_on(usual, True, False), policy.time_on(usual, False, True)}
    assert both in alone
    assert (both is None) == (None in alone)
