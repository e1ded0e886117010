"""Real ticks of the retraining sensor and real training runs: who is queued, launched once, tried again, judged and rolled back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRun
from dagster._utils.schedules import schedule_execution_time_iterator
from psycopg.types.json import Jsonb

from planning.checks import ERROR_RISE, TRAILING_ERROR
from planning_assets.partitions import TENANTS
from resources.store import models
from resources.store.database import Store
from resources.store.retraining import queue_training, read_launched
from schedules.weekly_evaluation import weekly_schedule
from tests.definitions.conftest import NOW, definitions_of
from tests.definitions.test_forecast_models import advertised_bakery, bakery
from tests.integration.store_bakery import DAY, add_bakery
from tests.integration.test_store_models import artefact, challenger, serve

ERROR, DRIFT = TRAILING_ERROR, ERROR_RISE
SENSOR = "retraining_sensor"


def tick(instance: dg.DagsterInstance, store: Store, now: datetime = NOW) -> tuple[list[dg.RunRequest], str]:
    """Evaluate the sensor; returns its run requests and why it skipped."""
    repository = definitions_of(store.dsn, now=now).get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        result = repository.get_sensor_def(SENSOR).evaluate_tick(context)
    return list(result.run_requests or []), result.skip_message or ""


def config_of(request: dg.RunRequest) -> dict[str, object]:
    """The step's configuration in a run request."""
    return dict(request.run_config["ops"]["model_training"]["config"])


def tags_of(request: dg.RunRequest) -> dict[str, str]:
    """The tags that the daemon gives to the request's run."""
    return {**request.tags, "dagster/sensor_name": SENSOR, "dagster/run_key": str(request.run_key)}


def run(instance: dg.DagsterInstance, store: Store, request: dg.RunRequest, now: datetime = NOW) -> bool:
    """Do what a request asks for; whether it succeeded."""
    job = definitions_of(store.dsn, now=now).resolve_job_def("model_training_job")
    return job.execute_in_process(
        instance=instance,
        run_config=request.run_config,
        partition_key=request.partition_key,
        tags=tags_of(request),
        raise_on_error=False,
    ).success


def record_run(instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
    """A run of a request that has come so far, and has trained nobody."""
    instance.add_run(DagsterRun("model_training_job", status=status, tags=tags_of(request)))


def know_sales(store: Store) -> None:
    """Note the days with sales, as imports do."""
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO facts.actuals_day (tenant_id, business_date, version, changed_at)
            SELECT tenant_id, business_date, 1, %s FROM facts.sales GROUP BY 1, 2 ON CONFLICT DO NOTHING
            """,
            (NOW,),
        )


def check(
    store: Store,
    tenant_id: str,
    name: str,
    value: float,
    on: date = DAY - timedelta(days=1),
    status: str = "failed",
    products: Sequence[str] = (),
) -> None:
    """What a check said of a day."""
    details = {"products": [{"location_id": "main", "product_id": product} for product in products]}
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO quality.check_result (tenant_id, asset, check_name, business_date, status, value, threshold, message,
                                              details, evaluated_at)
            VALUES (%s, 'validation_metrics', %s, %s, %s, %s, 30, %s, %s, %s)
            """,
            (tenant_id, name, on, status, value, f"It is {value} %.", Jsonb(details), NOW),
        )


def model(store: Store, tenant_id: str, days_ago: int) -> None:
    """A serving model that was made so many days ago."""
    serve(store, challenger(tenant_id), minutes=-days_ago * 24 * 60)
    with store.transaction() as connection:
        connection.execute(
            "UPDATE quality.forecast_model SET created_at = %s, trained_to = %s WHERE tenant_id = %s",
            (NOW - timedelta(days=days_ago), DAY - timedelta(days=days_ago + 1), tenant_id),
        )


def requests(store: Store) -> dict[str, tuple[str, str]]:
    """Trigger and status of each tenant's latest request."""
    found = store.frame("SELECT tenant_id, trigger, status FROM ops.retraining_request ORDER BY request_id")
    return {row.tenant_id: (row.trigger, row.status) for row in found.itertuples()}


def queue(store: Store, *tenant_ids: str, now: datetime = NOW) -> None:
    """Ask by hand."""
    with store.transaction() as connection:
        for tenant_id in tenant_ids:
            assert queue_training(connection, tenant_id, "manual", (), "someone", "Because.", now)


def tenants(store: Store, *tenant_ids: str, **tiers: str) -> None:
    """Tenants without sales, these of the starter tier and those of the tiers named."""
    with store.transaction() as connection:
        for tenant_id in (*tenant_ids, *tiers):
            connection.execute(
                """
                INSERT INTO master.tenant (tenant_id, name, timezone, country, tier, created_at)
                VALUES (%s, 'Test', 'Europe/Madrid', 'ES', %s, %s)
                """,
                (tenant_id, tiers.get(tenant_id, "starter"), NOW),
            )


def test_checks_age_and_want_of_a_model_queue_tenants_and_one_run_takes_them(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("wrong", "drifting", "old", "calm", "mended", "warned"):
        bakery(store, tenant_id, days=20)
        model(store, tenant_id, days_ago=31 if tenant_id == "old" else 10)
    bakery(store, "new", days=95)
    bakery(store, "young", days=60)
    know_sales(store)
    check(store, "wrong", ERROR, 41.5, products=("bread", "cake", "bread"))
    check(store, "wrong", DRIFT, 7)
    check(store, "drifting", DRIFT, 6)
    check(store, "mended", ERROR, 41.5, on=DAY - timedelta(days=2))
    check(store, "mended", ERROR, 25, status="warned")
    check(store, "warned", ERROR, 25, status="warned")
    (request,), _ = tick(instance, store)
    assert config_of(request)["triggers"] == {"wrong": "error", "drifting": "drift", "old": "age", "new": "first"}
    assert set(config_of(request)["tenants"]) == {"wrong", "drifting", "old", "new"}  # type: ignore[call-overload]
    assert str(request.run_key).startswith("retraining|")
    found = store.frame("SELECT * FROM ops.retraining_request").set_index("tenant_id")
    assert found.at["wrong", "product_ids"] == ["bread", "cake"]
    assert found.at["wrong", "reason"] == "It is 41.5 %."
    assert set(found["requested_by"]) == {SENSOR}
    assert set(found["status"]) == {"launched"}


def test_a_failed_check_becomes_a_training_whose_outcome_is_kept_and_no_second_one_for_a_week(
    instance: dg.DagsterInstance, store: Store
) -> None:
    advertised_bakery(store, "a")
    know_sales(store)
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO quality.model_decision (tenant_id, action, trigger, reason, decided_at)
            VALUES ('a', 'skipped', 'first', 'Too few days.', %s)
            """,
            (NOW - timedelta(days=8),),
        )
    check(store, "a", ERROR, 44, products=("bread",))
    (request,), _ = tick(instance, store)
    assert run(instance, store, request)
    found = store.frame("SELECT * FROM ops.retraining_request").iloc[0]
    decision = store.frame("SELECT * FROM quality.model_decision ORDER BY decision_id").iloc[-1]
    assert (found["status"], found["outcome"]) == ("completed", decision["action"]) == ("completed", "promoted")
    assert decision["trigger"] == "error"
    assert store.frame("SELECT trigger FROM quality.forecast_model")["trigger"].item() == "error"
    assert found["completed_at"] == NOW
    for days in (0, 6, 7):
        # The live error of the new model is not known yet: the check of the day before it says nothing about it.
        assert tick(instance, store, NOW + timedelta(days=days))[0] == []
    check(store, "a", ERROR, 43, on=DAY + timedelta(days=5))
    assert tick(instance, store, NOW + timedelta(days=6))[0] == []
    (again,), _ = tick(instance, store, NOW + timedelta(days=7))
    assert config_of(again)["triggers"] == {"a": "error"}


def test_a_claim_without_a_run_is_launched_under_the_same_key_and_with_a_run_never_again(
    instance: dg.DagsterInstance, store: Store
) -> None:
    tenants(store, "a", "b")
    queue(store, "a")
    (first,), _ = tick(instance, store)
    # Killed before the run was written: the request is as good as never returned.
    (second,), _ = tick(instance, store)
    assert second.run_key == first.run_key
    # Killed between writing the run and launching it: Dagster launches what it is asked for again.
    record_run(instance, second, dg.DagsterRunStatus.NOT_STARTED)
    (third,), _ = tick(instance, store)
    assert third.run_key == first.run_key
    (written,) = instance.get_runs()
    instance.delete_run(written.run_id)
    record_run(instance, third, dg.DagsterRunStatus.STARTING)
    queue(store, "b")
    assert tick(instance, store) == ([], "1 training runs are under way.")
    assert requests(store)["b"] == ("manual", "queued")


def test_higher_tiers_come_first_in_runs_of_25_and_one_after_the_other(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"t{n:02}" for n in range(54)]
    tenants(store, *names, big="enterprise", middle="professional")
    queue(store, *names, "middle", "big")
    (first,), _ = tick(instance, store)
    asked = list(config_of(first)["tenants"])  # type: ignore[call-overload]
    assert len(asked) == 25
    with store.transaction() as connection:
        waiting = connection.execute(
            "SELECT count(*) FROM ops.retraining_request WHERE status = 'queued' AND tenant_id IN ('big', 'middle')"
        ).fetchone()
    assert waiting == (0,)
    record_run(instance, first, dg.DagsterRunStatus.STARTED)
    assert tick(instance, store)[0] == []
    monkeypatch.setenv("DAYBREAK_TRAINING_RUNS", "2")
    (second,), _ = tick(instance, store)
    assert set(config_of(second)["tenants"]).isdisjoint(asked)  # type: ignore[call-overload]
    record_run(instance, second, dg.DagsterRunStatus.STARTED)
    assert tick(instance, store)[0] == []
    monkeypatch.setenv("DAYBREAK_TRAINING_RUNS", "3")
    (third,), _ = tick(instance, store)
    assert len(config_of(third)["tenants"]) == 6  # type: ignore[arg-type]
    monkeypatch.setenv("DAYBREAK_TRAINING_RUNS", "many")
    with pytest.raises(ValueError, match=r"DAYBREAK_TRAINING_RUNS is 'many'.*Remedy: set it to 1"):
        tick(instance, store)


def test_runs_that_end_without_training_are_tried_three_times_and_single_out_the_tenant(
    instance: dg.DagsterInstance, store: Store
) -> None:
    names = [f"t{n}" for n in range(7)]
    tenants(store, *names)
    queue(store, *names)
    (request,), _ = tick(instance, store)
    record_run(instance, request, dg.DagsterRunStatus.FAILURE)
    now = NOW
    assert tick(instance, store, now)[0] == []
    assert tick(instance, store, now + timedelta(seconds=299))[0] == []
    now += timedelta(seconds=300)
    seen: list[str] = []
    for size in (5, 2):  # the second attempt in runs of five
        (request,), _ = tick(instance, store, now)
        assert len(config_of(request)["tenants"]) == size  # type: ignore[arg-type]
        assert str(request.run_key).endswith("|2")
        seen += config_of(request)["tenants"]  # type: ignore[arg-type]
        record_run(instance, request, dg.DagsterRunStatus.FAILURE)
    assert sorted(seen) == names
    assert tick(instance, store, now)[0] == []
    now += timedelta(seconds=600)
    for n in range(7):  # the third alone
        (request,), _ = tick(instance, store, now)
        (tenant_id,) = config_of(request)["tenants"]  # type: ignore[misc]
        with store.transaction() as connection:
            if n < 6:
                connection.execute(
                    "UPDATE ops.retraining_request SET status = 'completed', outcome = 'skipped' WHERE tenant_id = %s",
                    (tenant_id,),
                )
        record_run(instance, request, dg.DagsterRunStatus.SUCCESS if n < 6 else dg.DagsterRunStatus.FAILURE)
    assert tick(instance, store, now)[0] == []
    statuses = [status for _, status in requests(store).values()]
    assert sorted(statuses) == ["completed"] * 6 + ["failed"]


def test_a_tenant_whose_training_failed_for_good_is_left_alone_for_a_week(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a", days=95)
    know_sales(store)
    now = NOW
    for wait in (0, 300, 600):
        now += timedelta(seconds=wait)
        (request,), _ = tick(instance, store, now)
        record_run(instance, request, dg.DagsterRunStatus.FAILURE)
        assert tick(instance, store, now)[0] == []
    assert requests(store) == {"a": ("first", "failed")}
    assert tick(instance, store, now + timedelta(hours=1))[0] == []
    check(store, "a", ERROR, 50, on=DAY + timedelta(days=6))
    assert len(tick(instance, store, now + timedelta(days=7))[0]) == 1


def test_a_tenant_at_fault_is_trained_again_and_the_others_are_done(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a", days=95)
    bakery(store, "broken", days=95)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Mars/Olympus' WHERE tenant_id = 'broken'")
    queue(store, "broken", "a")
    (request,), _ = tick(instance, store)
    assert not run(instance, store, request)
    assert requests(store)["a"] == ("manual", "completed")
    assert tick(instance, store)[0] == []
    (again,), _ = tick(instance, store, NOW + timedelta(seconds=300))
    assert config_of(again)["tenants"] == ["broken"]
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Europe/Madrid' WHERE tenant_id = 'broken'")
    assert run(instance, store, again, NOW + timedelta(seconds=300))
    assert requests(store)["broken"] == ("manual", "completed")


def test_what_a_person_cancels_or_pauses_is_not_launched(
    instance: dg.DagsterInstance, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants(store, "a", "b", "gone")
    queue(store, "a")
    (request,), _ = tick(instance, store)
    record_run(instance, request, dg.DagsterRunStatus.CANCELED)
    assert tick(instance, store)[0] == []
    assert requests(store) == {"a": ("manual", "cancelled")}
    queue(store, "a", "b", "gone")
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET status = 'suspended' WHERE tenant_id = 'gone'")
        connection.execute(
            """
            INSERT INTO ops.pause (tenant_id, reason, actor, paused_at)
            VALUES ('a', 'Moving.', 'me', %s), (NULL, 'All.', 'me', %s)
            """,
            (NOW, NOW),
        )
    assert "All." in tick(instance, store)[1]
    with store.transaction() as connection:
        connection.execute("UPDATE ops.pause SET resumed_at = %s WHERE tenant_id IS NULL", (NOW,))
    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    assert "Scheduler disabled" in tick(instance, store)[1]
    monkeypatch.delenv("SCHEDULER_DISABLED")
    (request,), _ = tick(instance, store)
    assert config_of(request)["tenants"] == ["b"]
    assert requests(store) == {
        "a": ("manual", "queued"),
        "b": ("manual", "launched"),
        "gone": ("manual", "cancelled"),
    }


def test_a_training_by_hand_settles_what_is_queued_and_one_too_soon_only_its_own(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a", days=95)
    queue(store, "a")
    job = definitions_of(store.dsn).resolve_job_def("model_training_job")

    def train(**config: object) -> None:
        instance.add_dynamic_partitions(str(TENANTS.name), ["a"])
        assert job.execute_in_process(
            instance=instance,
            partition_key="a",
            run_config={"ops": {"model_training": {"config": {"tenants": ["a"], **config}}}},
        ).success

    train()
    assert requests(store)["a"] == ("manual", "completed")
    queue(store, "a")
    train(trigger="age")  # less than a week later: no attempt
    assert requests(store)["a"] == ("manual", "queued")
    tick(instance, store)
    with store.transaction() as connection:
        (batch_id,) = read_launched(connection)["batch_id"]
    train(trigger="age", batch_id=batch_id)
    assert requests(store)["a"] == ("manual", "completed")
    assert store.frame("SELECT outcome FROM ops.retraining_request")["outcome"].iloc[-1] == "skipped"


def validated(store: Store, tenant_id: str, figures: Mapping[int, tuple[float, float]], now: datetime = NOW) -> None:
    """Validations of days before DAY, by days before it: WAPE of the model and of naive, in %, of 100 units."""
    with store.transaction() as connection:
        for days, (wape, naive) in figures.items():
            on = DAY - timedelta(days=days)
            connection.execute(
                """
                INSERT INTO quality.validation (tenant_id, business_date, sales_version, run_id, validated_at)
                VALUES (%s, %s, 1, 'run', %s)
                """,
                (tenant_id, on, now),
            )
            for scope, product in (("overall", ""), ("product", "bread")):
                connection.execute(
                    """
                    INSERT INTO quality.validation_metric (tenant_id, business_date, scope, product_id, days_ahead, is_replayed,
                        rows_used, rows_zero, rows_without_actual, forecast_units, actual_units, mae_units, naive_wape_pct)
                    VALUES (%s, %s, %s, %s, 0, false, 2, 0, 0, 100, 100, %s, %s)
                    """,
                    (tenant_id, on, scope, product, wape / 2, naive),
                )


def improvements(store: Store) -> dict[str, tuple[str, int, float | None]]:
    found = store.frame("SELECT * FROM quality.model_improvement ORDER BY evaluated_at")
    return {row.tenant_id: (row.verdict, row.days, row.wape_pct) for row in found.itertuples()}


def test_promotions_are_judged_on_live_days_and_bad_ones_rolled_back(
    instance: dg.DagsterInstance, store: Store
) -> None:
    before = dict.fromkeys(range(16, 30), (30.0, 30.0))
    live = range(1, 15)
    for tenant_id in ("good", "bad", "worse", "fresh", "planned"):
        add_bakery(store, tenant_id)
        serve(store, challenger(tenant_id, artefact(1)), minutes=-60 * 24 * 60)
        serve(store, challenger(tenant_id, artefact(2)), minutes=-15 * 24 * 60)
    with store.transaction() as connection:
        connection.execute("DELETE FROM quality.model_artefact WHERE tenant_id = 'worse' AND version = 1")
        connection.execute("UPDATE master.tenant SET plan_lead_days = 1 WHERE tenant_id = 'planned'")
    validated(store, "good", before | dict.fromkeys(live, (20.0, 30.0)))
    validated(store, "bad", before | dict.fromkeys(live, (33.1, 30.0)))
    validated(store, "worse", before | dict.fromkeys(live, (90.0, 30.0)))
    validated(store, "fresh", before | dict.fromkeys(range(2, 15), (90.0, 30.0)))
    # The first of the days was planned before the promotion, a day ahead.
    validated(store, "planned", before | dict.fromkeys(live, (90.0, 30.0)))
    tick(instance, store)
    assert improvements(store) == {
        "good": ("improved", 14, 20.0),
        "bad": ("rolled_back", 14, pytest.approx(33.1)),
        "worse": ("rolled_back", 14, 90.0),
        "fresh": ("waiting", 13, 90.0),
        "planned": ("waiting", 13, 90.0),
    }
    with store.transaction() as connection:
        serving = {t: models.serving_version(connection, t) for t in ("good", "bad", "worse", "fresh", "planned")}
    assert serving == {"good": 2, "bad": 1, "worse": None, "fresh": 2, "planned": 2}
    done = store.frame(
        "SELECT tenant_id, trigger, reason FROM quality.model_decision WHERE action = 'rolled_back' ORDER BY tenant_id"
    )
    assert list(done["tenant_id"]) == ["bad", "worse"]
    assert set(done["trigger"]) == {"error"}
    assert "33.1 %" in done["reason"].iloc[0]
    assert "by the system" in done["reason"].iloc[0]
    told = store.frame("SELECT payload FROM ops.outbox WHERE type = 'model.promoted' AND tenant_id = 'bad' ORDER BY id")
    assert told["payload"].iloc[-1]["action"] == "rolled_back"
    tick(instance, store, NOW + timedelta(hours=1))
    assert len(store.frame("SELECT FROM quality.model_decision WHERE action = 'rolled_back'")) == 2


def test_a_verdict_stands_and_a_model_that_gets_worse_later_is_still_rolled_back(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_bakery(store, "a")
    serve(store, challenger("a"), minutes=-29 * 24 * 60)
    validated(store, "a", dict.fromkeys(range(15, 29), (20.0, 30.0)))
    tick(instance, store)
    assert improvements(store) == {"a": ("improved", 14, 20.0)}
    validated(store, "a", dict.fromkeys(range(2, 15), (50.0, 30.0)), NOW + timedelta(hours=1))
    tick(instance, store, NOW + timedelta(hours=2))
    found = store.frame("SELECT * FROM quality.model_improvement").iloc[0]
    assert (found["verdict"], found["wape_pct"]) == ("rolled_back", pytest.approx((13 * 50 + 20) / 14))
    with store.transaction() as connection:
        assert models.serving_version(connection, "a") is None


def schedule_tick(instance: dg.DagsterInstance, store: Store, zone: str, at: datetime) -> list[dg.RunRequest]:
    """Evaluate the weekly schedule of a zone at an instant."""
    repository = definitions_of(store.dsn, zones=(zone,)).get_repository_def()
    name = f"weekly_evaluation__{zone.lower().replace('/', '_')}_schedule"
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=at,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        return list(repository.get_schedule_def(name).evaluate_tick(context).run_requests or [])


SUNDAYS = [
    ("Europe/Madrid", "2026-02-26T00:00Z", "2026-03-01T21:00Z", "2026-03-01"),
    # The clock has gone forward on that Sunday: 22:00 is UTC+2. And back on the other one.
    ("Europe/Madrid", "2026-03-26T00:00Z", "2026-03-29T20:00Z", "2026-03-29"),
    ("Europe/Madrid", "2026-10-22T00:00Z", "2026-10-25T21:00Z", "2026-10-25"),
    # Sunday evening there is Sunday morning in UTC, and the Monday after.
    ("Pacific/Kiritimati", "2026-02-26T00:00Z", "2026-03-01T08:00Z", "2026-03-01"),
    ("Pacific/Pago_Pago", "2026-02-26T00:00Z", "2026-03-02T09:00Z", "2026-03-01"),
]


def test_the_weekly_evaluation_is_due_on_sunday_at_22_local(instance: dg.DagsterInstance, store: Store) -> None:
    for zone, after, due, on in SUNDAYS:
        # As the daemon walks through the schedule's times.
        start = datetime.fromisoformat(after).timestamp()
        schedule = weekly_schedule(zone)
        times = schedule_execution_time_iterator(start, schedule.cron_schedule, schedule.execution_timezone, True)
        first = next(iter(times))
        assert first.astimezone(UTC) == datetime.fromisoformat(due)
        (request,) = schedule_tick(instance, store, zone, first)
        assert request.run_config["ops"]["weekly_evaluation"]["config"]["date"] == on
        assert request.run_key == f"weekly_evaluation|{zone}|{on}"


def test_the_weekly_evaluation_looks_at_30_days_and_queues_who_has_a_reason(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("wrong", "calm", "long_ago", "paused"):
        add_bakery(store, tenant_id)
        model(store, tenant_id, days_ago=20)
    validated(store, "wrong", dict.fromkeys(range(2, 32), (35.0, 36.0)))
    validated(store, "calm", dict.fromkeys(range(2, 32), (20.0, 36.0)))
    validated(store, "long_ago", dict.fromkeys(range(32, 60), (90.0, 36.0)))
    validated(store, "paused", dict.fromkeys(range(2, 32), (90.0, 36.0)))
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO ops.pause (tenant_id, reason, actor, paused_at) VALUES ('paused', 'Moving.', 'me', %s)", (NOW,)
        )
    sunday = datetime(2026, 3, 1, 21, 0, tzinfo=UTC)
    (request,) = schedule_tick(instance, store, "Europe/Madrid", sunday)
    job = definitions_of(store.dsn, now=sunday).resolve_job_def("weekly_evaluation_job")
    assert job.execute_in_process(instance=instance, run_config=request.run_config).success
    found = store.frame("SELECT * FROM ops.retraining_request")
    assert list(found["tenant_id"]) == ["wrong"]
    assert found["requested_by"].item() == "weekly_evaluation"
    assert "35.0 %" in found["reason"].item()
    assert found["product_ids"].item() == ["bread"]
    executions = store.frame("SELECT tenant_id, status, plan_date, result FROM ops.execution ORDER BY 1")
    assert list(executions["tenant_id"]) == ["calm", "long_ago", "wrong"]
    assert set(executions["status"]) == {"completed"}
    assert executions["result"].iloc[0] == {"open_days": 30, "wape_pct": 20.0, "queued": ""}
    assert executions["result"].iloc[1] == {"open_days": 0, "queued": ""}
    events = store.frame("SELECT payload FROM ops.outbox WHERE type = 'orchestrator.workflow_completed'")
    assert events["payload"].item()["workflow_name"] == "weekly_evaluation"
    assert events["payload"].item()["tenants_processed"] == 3
