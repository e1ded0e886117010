"""Training through real Dagster runs on a real Postgres: what is trained, promoted, skipped, isolated and shown."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from daybreak.definitions import build_defs
from daybreak.fleet import Fleet
from planning_assets.partitions import TENANTS
from planning_assets.scope import anchor_of, tenant_anchor_of
from resources.dagster_resources import ClockResource, ModelCacheResource, StoreResource
from resources.store import models
from resources.store.database import Store
from resources.store.plans import up_to_date
from tests.definitions.conftest import NOW, WINDOW_START, definitions_of
from tests.integration.store_bakery import add_bakery, add_sales

DAY = date(2026, 3, 2)
SERIES = (("main", "bread", 40), ("main", "cake", 15), ("kiosk", "bread", 25))
WEEK = (0.8, 0.9, 1.0, 1.0, 1.3, 1.8, 1.4)


def bakery(store: Store, tenant_id: str, days: int = 150, last: date = DAY - timedelta(days=1)) -> None:
    """A tenant whose demand follows the weekday and drifts, until `last`."""
    add_bakery(store, tenant_id)
    random = np.random.default_rng(len(tenant_id))
    rows = []
    for n in range(days):
        day = last - timedelta(days=n)
        for location, product, units in SERIES:
            level = units * WEEK[day.weekday()] * (1 + 0.3 * np.sin(n / 25))
            rows.append((location, product, day, float(random.poisson(level))))
    with store.transaction() as connection:
        connection.execute(
            "SELECT ops.ensure_partitions('facts.sales', %s::date, '2026-12-31', '1 year')", (rows[-1][2],)
        )
        add_sales(connection, tenant_id, rows)


def advertised_bakery(store: Store, tenant_id: str) -> None:
    """A tenant with promotions on days of no pattern that treble its demand: only what knows the calendar can know them."""
    add_bakery(store, tenant_id)
    random = np.random.default_rng(5)
    days = [DAY - timedelta(days=n) for n in range(1, 301)]
    promoted = [day for day in days if random.random() < 0.2]
    rows = [
        (location, product, day, float(random.poisson(units * (3 if day in promoted else 1))))
        for day in days
        for location, product, units in SERIES
    ]
    with store.transaction() as connection:
        add_sales(connection, tenant_id, rows)
        connection.cursor().executemany(
            "INSERT INTO master.calendar_event (tenant_id, business_date, kind, name) VALUES (%s, %s, 'promotion', 'Offer')",
            [(tenant_id, day) for day in promoted],
        )


def fail_on_insert(store: Store, table: str, tenant_id: str) -> None:
    """Have the database refuse rows of a tenant in a table."""
    with store.transaction() as connection:
        connection.execute(
            f"""
            CREATE FUNCTION ops.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF new.tenant_id = '{tenant_id}' THEN RAISE EXCEPTION 'the test refuses %', new.tenant_id; END IF;
                RETURN new;
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION ops.refuse();
            """
        )


def train(
    instance: dg.DagsterInstance, store: Store, tenants: list[str], **config: object
) -> dg.ExecuteInProcessResult:
    """Run the training by config."""
    return (
        definitions_of(store.dsn)
        .resolve_job_def("model_training_job")
        .execute_in_process(
            instance=instance,
            partition_key=tenant_anchor_of(instance, tenants),
            run_config={"ops": {"model_training": {"config": {"tenants": tenants, **config}}}},
            raise_on_error=False,
        )
    )


def trained(instance: dg.DagsterInstance) -> set[str]:
    """The tenants whose partition has a materialization."""
    return set(instance.get_materialized_partitions(dg.AssetKey("forecast_models")))


def message(result: dg.ExecuteInProcessResult) -> str:
    """What the run says of its failure."""
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    data = event.step_failure_data
    return (data.user_failure_data.description if data.user_failure_data else "") or str(data.error)


def decisions(store: Store) -> dict[str, str]:
    """The latest action of each tenant."""
    found = store.frame("SELECT tenant_id, action FROM quality.model_decision ORDER BY decision_id")
    return dict(zip(found["tenant_id"], found["action"], strict=True))


def test_one_run_trains_many_tenants_and_shows_what_it_decided(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "bb", "ccc"):
        bakery(store, tenant_id)
    # A source with an event of its own: without an anchor Dagster then fails before the run's first step.
    instance.add_dynamic_partitions(str(TENANTS.name), ["a"])
    instance.report_runless_asset_event(dg.AssetMaterialization("sales", partition="a"))
    result = train(instance, store, ["a", "bb", "ccc"], chunk_tenants=2)
    assert result.success
    assert trained(instance) == {"a", "bb", "ccc"}
    versions = store.frame(
        "SELECT tenant_id, version, trained_to, series_count, cpu_s, run_id, trigger FROM quality.forecast_model"
    )
    assert set(versions["tenant_id"]) == {"a", "bb", "ccc"}
    assert set(versions["version"]) == {1}
    assert set(versions["trained_to"]) == {DAY - timedelta(days=1)}
    assert set(versions["series_count"]) == {3}
    assert set(versions["trigger"]) == {"manual"}
    (event,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("forecast_models"), asset_partitions=["a"]), limit=1
    ).records
    metadata = event.asset_materialization.metadata  # type: ignore[union-attr]
    assert {"decision", "candidates", "training_window", "cpu_s", "wape_pct", "bias_pct", "residuals"} <= set(metadata)
    assert "seasonal_naive" in str(metadata["candidates"].value)
    executions = store.frame("SELECT workflow, status, result FROM ops.execution")
    assert set(executions["workflow"]) == {"model_training"}
    assert set(executions["status"]) == {"completed"}
    assert {result["action"] for result in executions["result"]} <= {"promoted", "not_improvable"}
    logs = store.frame("SELECT message, data FROM ops.execution_log")
    assert list(logs["message"]) == ["Forecast model trained"] * 3
    assert all("wape_pct" in data for data in logs["data"])
    told = store.frame("SELECT type, payload FROM ops.outbox WHERE type LIKE 'orchestrator.%%'")
    assert told["payload"].iloc[0]["workflow_name"] == "model_training"


def test_a_partition_and_a_range_of_partitions_reach_the_same_code(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "bb", "ccc"):
        bakery(store, tenant_id)
    instance.add_dynamic_partitions(str(TENANTS.name), ["a", "bb", "ccc"])
    job = definitions_of(store.dsn).resolve_job_def("model_training_job")
    assert job.execute_in_process(instance=instance, partition_key="a").success
    assert trained(instance) == {"a"}
    tags = {"dagster/asset_partition_range_start": "bb", "dagster/asset_partition_range_end": "ccc"}
    assert job.execute_in_process(instance=instance, tags=tags).success
    assert trained(instance) == {"a", "bb", "ccc"}


def test_a_tenant_with_too_little_history_is_skipped_with_the_reason_and_is_no_failure(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    bakery(store, "young", days=40)
    add_bakery(store, "empty")
    result = train(instance, store, ["young", "empty", "a"])
    assert result.success
    assert trained(instance) == {"a"}
    found = decisions(store)
    assert (found["young"], found["empty"]) == ("skipped", "skipped")
    reasons = store.frame("SELECT tenant_id, reason FROM quality.model_decision").set_index("tenant_id")["reason"]
    assert "90" in reasons["young"]
    assert "daybreak import sales" in reasons["empty"]
    assert store.frame("SELECT FROM ops.failure").empty
    assert set(store.frame("SELECT status FROM ops.execution")["status"]) == {"completed"}


@pytest.mark.parametrize("table", ["quality.model_artefact", "facts.demand_panel"])
def test_a_tenant_whose_training_crashes_does_not_stop_the_others_and_is_named(
    instance: dg.DagsterInstance, store: Store, table: str
) -> None:
    for tenant_id in ("a", "broken", "ccc"):
        bakery(store, tenant_id)
    bakery(store, "zone")
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Mars/Olympus' WHERE tenant_id = 'zone'")
    fail_on_insert(store, table, "broken")
    result = train(instance, store, ["a", "broken", "zone", "nobody", "ccc"])
    assert not result.success
    for name in ("broken", "zone", "nobody"):
        assert name in message(result)
    assert "3 of 5 tenants" in message(result)
    assert trained(instance) == {"a", "ccc"}
    assert set(store.frame("SELECT tenant_id FROM quality.forecast_model")["tenant_id"]) == {"a", "ccc"}
    failures = store.frame("SELECT tenant_id, link FROM ops.failure WHERE resolved_at IS NULL ORDER BY 1")
    assert failures.to_numpy().tolist() == [["broken", "forecast_models"], ["zone", "forecast_models"]]
    with store.transaction() as connection:
        connection.execute(f"DROP TRIGGER refuse ON {table}")  # type: ignore[arg-type]
    assert train(instance, store, ["broken"]).success
    assert list(store.frame("SELECT tenant_id FROM ops.failure WHERE resolved_at IS NULL")["tenant_id"]) == ["zone"]


def test_a_model_is_not_trained_twice_a_week_except_by_hand_or_by_force(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")

    def versions() -> int:
        return len(store.frame("SELECT FROM quality.forecast_model"))

    assert train(instance, store, ["a"], trigger="age", workflow="weekly_evaluation").success
    assert train(instance, store, ["a"], trigger="error").success
    assert versions() == 1
    assert len(store.frame("SELECT FROM quality.model_decision")) == 1, "what was not tried is not an attempt"
    assert train(instance, store, ["a"], trigger="error", force=True).success
    assert train(instance, store, ["a"]).success
    assert versions() == 3
    triggers = store.frame("SELECT trigger FROM quality.forecast_model ORDER BY version")
    assert list(triggers["trigger"]) == ["age", "error", "manual"]
    workflows = store.frame("SELECT workflow FROM ops.execution ORDER BY started_at")
    assert sorted(workflows["workflow"]) == ["model_training"] * 3 + ["weekly_evaluation"]


def test_history_that_ends_long_ago_is_trained_up_to_its_end(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a", last=date(2021, 6, 30))
    bakery(store, "bb")
    assert train(instance, store, ["a", "bb"]).success
    ends = store.frame("SELECT tenant_id, trained_to FROM quality.forecast_model").set_index("tenant_id")["trained_to"]
    assert ends.to_dict() == {"a": date(2021, 6, 30), "bb": DAY - timedelta(days=1)}


def test_plans_are_out_of_date_after_a_promotion_and_are_made_again(instance: dg.DagsterInstance, store: Store) -> None:
    advertised_bakery(store, "a")
    bakery(store, "bb")
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")

    def plan() -> bool:
        config = {"date": DAY.isoformat(), "tenants": ["bb", "a"], "skip_up_to_date": True}
        return job.execute_in_process(
            instance=instance,
            partition_key=anchor_of(instance, DAY, ["bb"]),
            run_config={"ops": {"daily_plan": {"config": config}}},
            raise_on_error=False,
        ).success

    def current() -> set[str]:
        with store.transaction() as connection:
            state = up_to_date(connection, ["a", "bb"], DAY, {"a": DAY, "bb": DAY})
        return set(state.loc[state["is_current"], "tenant_id"])

    assert plan()
    assert current() == {"a", "bb"}
    assert train(instance, store, ["a"]).success
    with store.transaction() as connection:
        assert models.serving_version(connection, "a") == 1
    assert current() == {"bb"}
    # The models are an input of the forecasts now: of a run whose anchor has one, and of one whose anchor has none.
    assert plan()
    assert current() == {"a", "bb"}
    assert job.execute_in_process(instance=instance, partition_key=f"{DAY}|a").success
    tags = {"dagster/asset_partition_range_start": f"{DAY}|a", "dagster/asset_partition_range_end": f"{DAY}|bb"}
    assert job.execute_in_process(instance=instance, tags=tags).success


def test_a_challenger_that_is_better_serves_and_is_not_compared_on_days_that_it_has_seen(
    instance: dg.DagsterInstance, store: Store
) -> None:
    advertised_bakery(store, "a")
    assert train(instance, store, ["a"]).success
    assert decisions(store) == {"a": "promoted"}
    assert train(instance, store, ["a"]).success
    assert decisions(store) == {"a": "not_improvable"}
    found = store.frame("SELECT version, status, parent_version, decision FROM quality.forecast_model ORDER BY 1")
    assert list(found["status"]) == ["champion", "challenger"]
    assert found["decision"].iloc[0].startswith("Promoted: WAPE")
    assert "not seen" in found["decision"].iloc[1]
    assert found["parent_version"].iloc[1] == 1
    told = store.frame("SELECT payload FROM ops.outbox WHERE type = 'model.promoted'")
    assert len(told) == 1


def test_a_champion_that_cannot_be_loaded_is_not_compared_and_the_decision_says_so(
    instance: dg.DagsterInstance, store: Store
) -> None:
    advertised_bakery(store, "a")
    assert train(instance, store, ["a"]).success
    with store.transaction() as connection:
        connection.execute("UPDATE quality.forecast_model SET feature_schema = 'of an older version'")
    assert train(instance, store, ["a"]).success
    found = store.frame("SELECT status, decision FROM quality.forecast_model ORDER BY version")
    assert list(found["status"]) == ["archived", "champion"]
    assert "v1 was not compared: it cannot be loaded" in found["decision"].iloc[1]


def test_a_morning_with_a_damaged_artefact_is_planned_by_the_rules_and_says_so_once(
    instance: dg.DagsterInstance, store: Store, tmp_path: Path
) -> None:
    advertised_bakery(store, "a")
    assert train(instance, store, ["a"]).success
    with store.transaction() as connection:
        connection.execute("UPDATE quality.model_artefact SET content = content || 'x'::bytea")
    resources = {
        "store": StoreResource(dsn=store.dsn),
        "clock": ClockResource(fixed_at=NOW.isoformat()),
        "model_cache": ModelCacheResource(folder=str(tmp_path / "models")),
    }
    job = build_defs(Fleet(("Europe/Madrid",), WINDOW_START), resources).resolve_job_def("daily_plan_job")
    for _ in range(2):
        assert job.execute_in_process(instance=instance, partition_key=anchor_of(instance, DAY, ["a"])).success
    made = store.frame(
        "SELECT method, model_version FROM plans.forecast JOIN plans.plan USING (plan_id) WHERE status = 'active'"
    )
    assert len(made) == 3
    assert not made["model_version"].str.startswith("boosting").any()
    told = store.frame("SELECT DISTINCT message, remedy FROM plans.exception WHERE code = 'model_unusable'")
    assert "sha256 differs" in told["message"].item()
    assert "daybreak models" in told["remedy"].item()
    assert len(store.frame("SELECT FROM ops.failure WHERE resolved_at IS NULL AND link = 'forecast_models'")) == 1


def test_forecasts_depend_on_the_models_of_their_own_tenant(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(str(TENANTS.name), ["a", "bb"])
    graph = definitions_of("postgresql://nowhere.invalid/none").resolve_asset_graph()
    with dg.partition_loading_context(NOW, instance):
        parents = graph.get_parent_partition_keys_for_child(
            f"{DAY}|bb", dg.AssetKey("forecast_models"), dg.AssetKey("forecasts")
        )
    assert set(parents.partitions_subset.get_partition_keys()) == {"bb"}


def test_a_run_without_a_partition_or_against_it_is_refused_in_words(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    instance.add_dynamic_partitions(str(TENANTS.name), ["a", "bb"])
    job = definitions_of(store.dsn).resolve_job_def("model_training_job")
    result = job.execute_in_process(
        instance=instance,
        partition_key="bb",
        run_config={"ops": {"model_training": {"config": {"tenants": ["a"]}}}},
        raise_on_error=False,
    )
    assert not result.success
    assert "contradict" in message(result)
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success
