"""The daily batch through real Dagster runs on a real Postgres: what is planned, set aside, skipped and shown."""

from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from planning_assets.chunk import Order, plan_chunk
from planning_assets.daily_plan import LINKS
from planning_assets.partitions import TENANTS, tenant_days
from planning_assets.scope import anchor_of
from resources.model_cache import ModelCache
from resources.store.database import Connection, Store
from resources.store.overrides import ProductionLine, add_override
from tests.definitions.conftest import NOW, WINDOW_START, definitions_of
from tests.integration.store_bakery import add_bakery, add_sales

DAY = date(2026, 3, 2)
ASSETS = [link.name for link in LINKS]


def bakery(store: Store, tenant_id: str) -> None:
    """A tenant with eight weeks of sales before DAY."""
    add_bakery(store, tenant_id)
    rows = [
        (location, product, DAY - timedelta(days=n), float(20 + n % 7))
        for n in range(1, 57)
        for location, product in (("main", "bread"), ("main", "cake"), ("kiosk", "bread"))
    ]
    with store.transaction() as connection:
        add_sales(connection, tenant_id, rows)


def overflow_on_writing(connection: Connection, tenant_id: str) -> None:
    """Give a tenant prices that are valid and make an expected profit that no column holds."""
    connection.execute(
        "INSERT INTO master.product_price (tenant_id, product_id, version, unit_price, variable_cost, recorded_at)"
        " SELECT tenant_id, product_id, 99, 900000000000, 1, now() FROM master.product WHERE tenant_id = %s",
        (tenant_id,),
    )


def plan(
    instance: dg.DagsterInstance, store: Store, tenants: list[str], now: datetime = NOW, **config: object
) -> dg.ExecuteInProcessResult:
    """Run the daily plan by config."""
    return (
        definitions_of(store.dsn, now)
        .resolve_job_def("daily_plan_job")
        .execute_in_process(
            instance=instance,
            partition_key=anchor_of(instance, DAY, tenants),
            run_config={"ops": {"daily_plan": {"config": {"date": DAY.isoformat(), "tenants": tenants, **config}}}},
            raise_on_error=False,
        )
    )


def materialized(instance: dg.DagsterInstance, asset: str) -> set[str]:
    """The partitions of an asset that have a materialization."""
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def failed(instance: dg.DagsterInstance, asset: str) -> set[str]:
    """The partitions of an asset that the grid shows as failed."""
    partitions = tenant_days(WINDOW_START)
    value = get_and_update_asset_status_cache_value(instance, dg.AssetKey(asset), partitions, instance)
    assert value is not None
    return set(value.deserialize_failed_partition_subsets(partitions).get_partition_keys())


def message(result: dg.ExecuteInProcessResult) -> str:
    """What the run says of its failure."""
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    data = event.step_failure_data
    return (data.user_failure_data.description if data.user_failure_data else "") or str(data.error)


def count(store: Store, query: str) -> int:
    """The number that a query returns."""
    return int(store.frame(query).iat[0, 0])  # type: ignore[arg-type]


def test_a_run_by_config_plans_every_tenant_and_materializes_their_partitions(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "b"):
        bakery(store, tenant_id)
    result = plan(instance, store, ["a", "b"])
    assert result.success
    for asset in ASSETS:
        assert materialized(instance, asset) == {"2026-03-02|a", "2026-03-02|b"}, asset
    active = store.frame("SELECT tenant_id, kind, count(*) AS n FROM plans.plan WHERE status = 'active' GROUP BY 1, 2")
    assert set(active["kind"]) == {"forecast", "production", "procurement", "projection"}
    assert count(store, "SELECT count(*) FROM plans.forecast") == 6
    executions = store.frame("SELECT tenant_id, status, steps_completed FROM ops.execution ORDER BY tenant_id")
    assert executions.to_numpy().tolist() == [["a", "completed", 5], ["b", "completed", 5]]
    assert count(store, "SELECT count(*) FROM ops.execution_log") == 10
    assert count(store, "SELECT count(*) FROM ops.outbox WHERE type = 'orchestrator.workflow_completed'") == 1


def test_a_partition_key_and_a_key_range_reach_the_same_code(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    instance.add_dynamic_partitions(str(TENANTS.name), ["a"])
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    assert job.execute_in_process(instance=instance, partition_key="2026-03-01|a").success
    tags = {"dagster/asset_partition_range_start": "2026-02-26|a", "dagster/asset_partition_range_end": "2026-02-28|a"}
    assert job.execute_in_process(instance=instance, tags=tags).success
    expected = {f"{day}|a" for day in ("2026-02-26", "2026-02-27", "2026-02-28", "2026-03-01")}
    assert materialized(instance, "inventory_projections") == expected
    assert count(store, "SELECT count(DISTINCT plan_date) FROM plans.plan WHERE status = 'active'") == 4


def test_a_failing_tenant_is_set_aside_by_name_and_all_others_are_planned(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "cycle", "zone", "paused", "z"):
        bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.recipe (tenant_id, output_item_id, version, output_quantity, recorded_at)"
            " VALUES ('cycle', 'flour', 1, 1, now())"
        )
        connection.execute(
            "INSERT INTO master.recipe_line (tenant_id, output_item_id, version, item_id, quantity)"
            " VALUES ('cycle', 'flour', 1, 'dough', 1)"
        )
        connection.execute("UPDATE master.tenant SET timezone = 'Mars/Olympus' WHERE tenant_id = 'zone'")
        connection.execute("UPDATE master.tenant SET status = 'suspended' WHERE tenant_id = 'paused'")
    result = plan(instance, store, ["a", "cycle", "zone", "paused", "nobody", "z"])
    assert not result.success
    for name in ("cycle", "zone", "paused", "nobody"):
        assert name in message(result)
    assert "Mars/Olympus" in message(result)
    assert materialized(instance, "inventory_projections") == {"2026-03-02|a", "2026-03-02|z"}
    # A broken recipe does not take the production sheet away.
    assert "2026-03-02|cycle" in materialized(instance, "production_plans")
    assert "2026-03-02|cycle" in failed(instance, "procurement_plans")
    assert "2026-03-02|zone" in failed(instance, "forecasts")
    assert "2026-03-02|a" not in failed(instance, "forecasts")
    failures = store.frame(
        "SELECT tenant_id, link, remedy FROM ops.failure WHERE resolved_at IS NULL ORDER BY tenant_id"
    )
    assert dict(zip(failures["tenant_id"], failures["link"], strict=True)) == {
        "cycle": "procurement_plans",
        "paused": "demand_history",
        "zone": "demand_history",
    }
    assert all(failures["remedy"].str.len() > 0)
    assert count(store, "SELECT count(*) FROM ops.execution WHERE status = 'failed'") == 3

    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Europe/Madrid' WHERE tenant_id = 'zone'")
    assert plan(instance, store, ["zone"]).success
    assert "2026-03-02|zone" not in failed(instance, "forecasts")
    assert "zone" not in set(store.frame("SELECT tenant_id FROM ops.failure WHERE resolved_at IS NULL")["tenant_id"])


def test_an_exception_in_a_link_is_narrowed_down_to_the_tenant_at_fault(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in "abcde":
        bakery(store, tenant_id)
    with store.transaction() as connection:
        # No validation foresees a numeric overflow on writing: the batch must find the tenant by halving.
        overflow_on_writing(connection, "c")
    result = plan(instance, store, list("abcde"))
    assert not result.success
    assert materialized(instance, "production_plans") == {f"2026-03-02|{t}" for t in "abde"}
    assert materialized(instance, "forecasts") == {f"2026-03-02|{t}" for t in "abcde"}
    row = store.frame("SELECT tenant_id, link, reason FROM ops.failure").iloc[0]
    assert (row["tenant_id"], row["link"]) == ("c", "production_plans")
    assert "overflow" in row["reason"]


def test_an_up_to_date_tenant_is_skipped_until_its_inputs_change(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    assert plan(instance, store, ["a"], skip_up_to_date=True).success
    revisions = "SELECT max(revision) FROM plans.plan WHERE kind = 'forecast'"
    assert count(store, revisions) == 1
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", DAY - timedelta(days=1), 77.0)], source="late")
    assert plan(instance, store, ["a"], skip_up_to_date=True).success
    assert count(store, revisions) == 2
    assert count(store, "SELECT count(*) FROM plans.plan WHERE kind = 'forecast' AND status = 'active'") == 2
    assert plan(instance, store, ["a"]).success, "a run by hand always plans again"
    assert count(store, revisions) == 3


def test_a_tenant_that_another_run_has_just_planned_is_not_planned_again_under_the_lock(store: Store) -> None:
    bakery(store, "a")
    closed = []
    for run_id in ("first", "second"):
        order = Order(LINKS, ASSETS, DAY, run_id, NOW, ModelCache(), is_skipping_up_to_date=True)
        closed.append(plan_chunk(store, order, ["a"], lambda _connection, _outcome: None))
    assert set(closed[0].done) == set(ASSETS)
    assert (closed[1].done, closed[1].settled) == ({}, {"a"})
    assert count(store, "SELECT max(revision) FROM plans.plan") == 1


def test_a_plan_whose_event_was_lost_gets_it_without_being_made_again(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    first = plan(instance, store, ["a"])
    # As after a kill between the commit of the plan and the writing of its event.
    instance.delete_run(first.run_id)
    with store.transaction() as connection:
        connection.execute("UPDATE plans.plan SET is_reported = false")
    assert materialized(instance, "forecasts") == set()
    assert plan(instance, store, ["a"], skip_up_to_date=True).success
    assert materialized(instance, "forecasts") == {"2026-03-02|a"}
    assert count(store, "SELECT max(revision) FROM plans.plan") == 1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"date": "2026-02-30", "tenants": ["a"]}, "2026-02-30"),
        ({"date": "2025-06-01", "tenants": ["a"]}, "outside the partition window"),
        ({"date": "2026-03-02"}, "lacks its date or its tenants"),
        ({}, "Neither"),
    ],
)
def test_a_scope_that_cannot_be_planned_is_refused_with_the_remedy(
    instance: dg.DagsterInstance, store: Store, config: dict[str, object], says: str
) -> None:
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    result = job.execute_in_process(
        instance=instance, run_config={"ops": {"daily_plan": {"config": config}}}, raise_on_error=False
    )
    assert not result.success
    assert says in message(result)
    assert "Remedy" in message(result)


def test_a_partition_that_contradicts_the_configuration_is_refused(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    instance.add_dynamic_partitions(str(TENANTS.name), ["a"])
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    result = job.execute_in_process(
        instance=instance,
        partition_key="2026-03-02|a",
        run_config={"ops": {"daily_plan": {"config": {"date": "2026-03-01", "tenants": ["a"]}}}},
        raise_on_error=False,
    )
    assert not result.success
    assert "contradict" in message(result)
    assert count(store, "SELECT count(*) FROM plans.plan") == 0


def test_the_same_inputs_make_the_same_plan(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    plan(instance, store, ["a"])
    plan(instance, store, ["a"])
    for table in ("forecast", "production_line"):
        rows = store.frame(
            f"SELECT p.revision, (to_jsonb(l) - 'plan_id')::text AS line FROM plans.{table} AS l"  # type: ignore[arg-type] # noqa: S608
            " JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id) ORDER BY 1, 2"
        )
        first, second = (list(rows.loc[rows["revision"] == n, "line"]) for n in (1, 2))
        assert first == second, table


def test_each_partition_shows_its_own_numbers_and_an_inline_picture(instance: dg.DagsterInstance, store: Store) -> None:
    for tenant_id in ("a", "b"):
        bakery(store, tenant_id)
    with store.transaction() as connection:
        add_sales(
            connection, "b", [("main", "bread", DAY - timedelta(days=n), 400.0) for n in range(1, 57)], source="x"
        )
    plan(instance, store, ["a", "b"])
    units = {}
    for tenant_id in ("a", "b"):
        (record,) = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey("forecasts"), asset_partitions=[f"2026-03-02|{tenant_id}"]), limit=1
        ).records
        materialization = record.asset_materialization
        assert materialization is not None
        units[tenant_id] = float(materialization.metadata["units_today"].value)  # type: ignore[arg-type]
        picture = str(materialization.metadata["horizon"].value)
        assert picture.startswith("![")
        assert len(picture) < 1000
    assert units["b"] > units["a"] + 300


def test_a_link_below_reads_the_active_revisions_of_those_above(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("inventory_projections")],
        partition_key="2026-03-02|a",
        run_config={"ops": {"daily_plan": {"config": {"date": DAY.isoformat(), "tenants": ["a"]}}}},
    )
    assert result.success
    revisions = store.frame("SELECT kind, max(revision) AS revision FROM plans.plan GROUP BY kind").set_index("kind")
    assert revisions["revision"].to_dict() == {"forecast": 1, "production": 1, "procurement": 1, "projection": 2}


def test_a_day_that_was_closed_is_validated_without_metrics(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.calendar_event (tenant_id, business_date, kind, name) VALUES ('a', %s, 'closure', 'Shut')",
            (DAY,),
        )
    assert plan(instance, store, ["a"]).success
    job = definitions_of(store.dsn, NOW + timedelta(days=1)).resolve_job_def("forecast_validation_job")
    config = {"date": DAY.isoformat(), "tenants": ["a"]}
    result = job.execute_in_process(
        instance=instance,
        partition_key=anchor_of(instance, DAY, ["a"]),
        run_config={"ops": {"forecast_validation": {"config": config}}},
    )
    assert result.success
    assert materialized(instance, "validation_metrics") == {"2026-03-02|a"}
    assert count(store, "SELECT count(*) FROM quality.validation") == 1
    assert count(store, "SELECT count(*) FROM quality.validation_metric") == 0


def test_a_tenant_that_sells_nothing_is_named_instead_of_reported_as_planned(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    add_bakery(store, "empty")
    with store.transaction() as connection:
        connection.execute("UPDATE master.assortment SET is_active = false WHERE tenant_id = 'empty'")
    result = plan(instance, store, ["a", "empty"])
    assert not result.success
    assert "empty" in message(result)
    assert materialized(instance, "forecasts") == {"2026-03-02|a"}


def test_a_link_without_the_plan_above_it_is_not_reported_as_made(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    instance.add_dynamic_partitions(str(TENANTS.name), ["a"])
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("procurement_plans")],
        partition_key="2026-03-02|a",
        raise_on_error=False,
    )
    assert not result.success
    assert "no active production plan" in message(result)
    assert materialized(instance, "procurement_plans") == set()


def test_products_that_were_given_up_leave_the_plan(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    with store.transaction() as connection:
        connection.execute("UPDATE master.assortment SET is_active = false WHERE location_id = 'kiosk'")
    assert plan(instance, store, ["a"]).success
    active = store.frame("SELECT location_id, revision FROM plans.plan WHERE kind = 'forecast' AND status = 'active'")
    assert active.to_numpy().tolist() == [["main", 2]]


def test_a_failure_stays_open_until_its_own_link_is_made(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    with store.transaction() as connection:
        overflow_on_writing(connection, "a")
    assert not plan(instance, store, ["a"]).success
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    forecasts_only = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("demand_history"), dg.AssetKey("forecasts")],
        partition_key="2026-03-02|a",
    )
    assert forecasts_only.success
    assert count(store, "SELECT count(*) FROM ops.failure WHERE resolved_at IS NULL") == 1
    with store.transaction() as connection:
        connection.execute("DELETE FROM master.product_price WHERE version = 99")
    assert plan(instance, store, ["a"]).success
    assert count(store, "SELECT count(*) FROM ops.failure WHERE resolved_at IS NULL") == 0


def test_a_persons_number_is_planned_until_the_inputs_change_and_its_lapse_is_told(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    bread = ProductionLine("bread")
    add_override(store, "a", DAY, bread, 7, actor="ana", reason="school fair", now=NOW)
    assert plan(instance, store, ["a"]).success
    query = """
        SELECT line.batches, line.limited_by, line.override_by, line.recommended_batches
          FROM plans.production_line AS line JOIN plans.plan USING (tenant_id, plan_date, plan_id)
         WHERE plan.status = 'active' AND line.product_id = 'bread'
    """
    (line,) = store.frame(query).to_dict("records")
    assert (line["batches"], line["limited_by"], line["override_by"]) == (7, "override", "ana")
    assert line["recommended_batches"] != 7
    assert shown(instance, "production_plans")["overrides"] == 1

    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", DAY - timedelta(days=1), 77.0)], source="late")
    assert plan(instance, store, ["a"]).success
    (line,) = store.frame(query).to_dict("records")
    assert line["override_by"] is None
    told = store.frame(
        "SELECT e.subject_id, e.code, p.kind, e.remedy FROM plans.exception AS e JOIN plans.plan AS p USING (plan_id)"
        " WHERE p.status = 'active' AND e.code LIKE '%%override%%'"
    )
    assert told[["subject_id", "kind"]].to_numpy().tolist() == [["bread", "production"]]
    assert told["remedy"].str.len().item() > 0


def test_an_oven_without_room_is_seen_in_the_plan_and_in_its_partition(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.resource (tenant_id, resource_id, location_id, name, kind, capacity, capacity_unit,"
            " available_from) VALUES ('a', 'oven', 'main', 'Oven', 'oven', 1, 'tray', '05:00'),"
            " ('a', 'mixer', 'main', 'Mixer', 'mixer', 12, 'kg', '02:00')"
        )
        connection.execute("UPDATE master.product SET batch_size_units = 6, ready_by = '07:00'")
        connection.execute(
            "INSERT INTO master.process_step (tenant_id, item_id, step_no, resource_kind, minutes)"
            " VALUES ('a', 'bread', 1, 'oven', 30), ('a', 'cake', 1, 'oven', 30), ('a', 'dough', 1, 'mixer', 15)"
        )
    assert plan(instance, store, ["a"]).success
    numbers = shown(instance, "production_plans")
    assert numbers["capacity_limited_lines"] >= 1
    assert numbers["mixer_runs"] >= 1
    assert numbers["batches"] == 4, "four half hours from five to seven"
    lines = store.frame("SELECT * FROM plans.production_line WHERE limited_by = 'capacity'")
    assert set(lines["limiting_resource_id"]) == {"oven"}
    assert (lines["unlimited_batches"] > lines["batches"]).all()
    doughs = store.frame("SELECT item_id, runs, product_ids FROM plans.dough_line WHERE runs > 0")
    assert doughs["item_id"].tolist() == ["dough"]
    assert doughs["product_ids"].tolist() == [["bread"]]
    (approval,) = store.frame("SELECT DISTINCT approval FROM plans.plan WHERE kind = 'procurement'")["approval"]
    assert shown(instance, "procurement_plans")["approval"] == approval
    at_risk = count(store, "SELECT count(*) FROM plans.projection WHERE stock_out_probability > 0.1")
    assert shown(instance, "inventory_projections")["items_at_risk"] == at_risk > 0, "nothing was ever counted"


def shown(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    """What the materialization of an asset's partition of DAY and tenant `a` shows."""
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=["2026-03-02|a"]), limit=1
    ).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}
