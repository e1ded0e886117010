"""Real ticks of the alert sensor on a real instance: what runs, failures and missing plans become."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest

from resources.store.alerts import read
from resources.store.database import Store
from tests.definitions.conftest import NOW, definitions_of
from tests.definitions.test_daily_plan import bakery, plan
from tests.definitions.test_sensors import tick
from tests.integration.alert_receivers import SECRET, webhook
from tests.integration.store_bakery import add_bakery
from tests.integration.test_alerts import failure

SENSOR = "alerts_sensor"


def names(store: Store) -> list[str]:
    """The alerts that fire."""
    with store.transaction() as connection:
        return sorted(alert.name for alert in read(connection, include_resolved=False) if alert.state == "firing")


@dg.op
def breaks(context: dg.OpExecutionContext) -> None:
    """Fail as often as the tag says."""
    if context.run.tags["fails"] == "yes":
        raise RuntimeError("The disk is full.")


@dg.job
def breaking_job() -> None:
    """A job of one step."""
    breaks()


def run_job(instance: dg.DagsterInstance, fails: bool) -> str:
    """Run it."""
    result = breaking_job.execute_in_process(
        instance=instance, tags={"fails": "yes" if fails else "no"}, raise_on_error=False
    )
    assert result.success is not fails
    return result.run_id


def test_a_tick_finds_tells_and_ends_what_waits_for_a_person(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    with webhook() as hook:
        monkeypatch.setenv("DAYBREAK_ALERT_WEBHOOK", hook.url)
        monkeypatch.setenv("DAYBREAK_ALERT_WEBHOOK_SECRET", SECRET)
        # NOW is 05:30 in Madrid: no plan is owed yet, and the bakery's night is over.
        _, said = tick(instance, store, SENSOR)
        assert said == "1 alerts are open; 1 began to fire and 0 ended. 2 messages were sent, 0 were not taken."
        assert "0 began to fire" in tick(instance, store, SENSOR)[1]
        with store.transaction() as connection:
            connection.execute("UPDATE ops.failure SET resolved_at = now(), state = 'dismissed'")
        assert tick(instance, store, SENSOR)[1].startswith("0 alerts are open; 0 began to fire and 1 ended.")
        assert hook.told() == [
            ("firing", "DailyProductionPlanningFailed", 1), ("resolved", "DailyProductionPlanningFailed", 1),
        ]  # fmt: skip


def test_a_failed_run_fires_until_the_same_one_succeeds(instance: dg.DagsterInstance, store: Store) -> None:
    run_id = run_job(instance, fails=True)
    tick(instance, store, SENSOR)
    with store.transaction() as connection:
        (alert,) = read(connection, include_resolved=False)
    assert (alert.name, alert.severity, alert.check_name) == ("RunFailed", "high", "breaking_job")
    assert run_id in alert.summary
    run_job(instance, fails=False)
    tick(instance, store, SENSOR)
    assert names(store) == []


def test_a_failed_run_that_is_a_tenants_failure_is_told_as_that(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert not plan(instance, store, ["a", "nobody"]).success
    unexplained = names(store)
    assert unexplained == []
    tick(instance, store, SENSOR)
    # "nobody" is no tenant, so no failure of a tenant is there to explain the run.
    assert names(store) == ["RunFailed"]
    (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    failure(store, "a", state="open", run_id=run.run_id)
    tick(instance, store, SENSOR)
    assert names(store) == [], "it is tried again, and is told if that does not help"


def test_an_hour_after_its_time_a_zone_without_a_plan_fires_and_in_maintenance_it_does_not(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET created_at = '2026-01-01'")
    late = NOW + timedelta(hours=1)
    repository = definitions_of(store.dsn, late).get_repository_def()

    def at_half_past_six() -> str:
        with dg.build_sensor_context(
            instance=instance, repository_def=repository, resources=repository.get_top_level_resources()
        ) as context:
            return repository.get_sensor_def(SENSOR).evaluate_tick(context).skip_message or ""

    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    at_half_past_six()
    assert names(store) == []
    monkeypatch.delenv("SCHEDULER_DISABLED")
    at_half_past_six()
    assert "NoProductionSchedulesGenerated" in names(store)
    assert "ProductionPlanMissing" not in names(store)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET status = 'suspended'")
    at_half_past_six()
    assert names(store) == []


def test_the_daemons_real_table_is_read(instance: dg.DagsterInstance, store: Store) -> None:
    """The column types are Dagster's own: a release that changes them fails here."""
    from dagster._daemon.types import DaemonHeartbeat  # noqa: PLC0415 (private, for this test alone)

    from resources.alerts.observing import observe_scheduler  # noqa: PLC0415

    beat = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
    instance.add_daemon_heartbeat(DaemonHeartbeat(beat.timestamp(), "SENSOR", str(uuid4())))
    url = instance._schedule_storage.postgres_url  # type: ignore[union-attr]
    with Store(url) as dagsters:
        assert dict(observe_scheduler(dagsters, NOW).heartbeats) == {"SENSOR": beat}
