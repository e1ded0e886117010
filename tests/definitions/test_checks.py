"""Asset checks through real runs on a real Postgres: what is kept, what Dagster is told, and what a person sees."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from planning import checks
from planning.checks import CHECKED_ASSETS
from planning_assets.checks import evaluate_checks, evaluate_plan_checks, report_instance_checks, write_instance_checks
from planning_assets.summaries import bars
from resources.store.checks import mark_told, read_headline_days, read_untold
from resources.store.database import Store
from resources.store.validation_trends import read_trends
from tests.definitions.conftest import NOW, WINDOW_START, definitions_of
from tests.definitions.test_daily_plan import DAY, bakery, plan
from tests.definitions.test_outcomes import SOLD, metadata, sell, validate
from tests.integration.store_bakery import add_bakery

ALWAYS = datetime.min.replace(tzinfo=UTC)
GRID = (WINDOW_START, date(2026, 12, 31))


def seed(store: Store, tenant_id: str, errors: list[float], until: date, sold: float = 100.0) -> None:
    """Validated days that end on a day, oldest first, each with its absolute error; bread has it all."""
    with store.transaction() as connection:
        for n, error in enumerate(reversed(errors)):
            on = until - timedelta(days=n)
            connection.execute(
                "INSERT INTO quality.validation (tenant_id, business_date, sales_version, run_id, validated_at)"
                " VALUES (%s, %s, 1, 'seed', now())",
                (tenant_id, on),
            )
            for scope, product in (("overall", ""), ("product", "bread")):
                connection.execute(
                    """
                    INSERT INTO quality.validation_metric (tenant_id, business_date, scope, product_id, days_ahead,
                        is_replayed, rows_used, rows_zero, rows_without_actual, forecast_units, actual_units, mae_units,
                        mape_pct, wape_pct, coverage_pct)
                    VALUES (%s, %s, %s, %s, 0, false, 10, 0, 0, 100, %s, %s, %s, %s, 100)
                    """,
                    (tenant_id, on, scope, product, sold, error / 10, error, 100 * error / sold),
                )


def kept(store: Store, check_name: str, on: date = DAY) -> dict[str, Any]:
    """What a check says of tenant a on a day."""
    (row,) = store.frame(
        "SELECT * FROM quality.check_result WHERE tenant_id = 'a' AND check_name = %(name)s AND business_date = %(on)s",
        {"name": check_name, "on": on},
    ).to_dict("records")
    return {str(name): value for name, value in row.items()}


def grid(instance: dg.DagsterInstance, check_name: str) -> dict[str, str]:
    """The status per partition, as the grid of the web UI reads it."""
    key = dg.AssetCheckKey(dg.AssetKey(CHECKED_ASSETS[check_name]), check_name)
    found = instance.event_log_storage.get_asset_check_partition_info([key])
    return {str(info.partition_key): info.latest_execution_status.value for info in found}


def evaluations(instance: dg.DagsterInstance, check_name: str) -> list[dg.AssetCheckEvaluation]:
    """Every evaluation of a check that Dagster was told, the latest first."""
    key = dg.AssetCheckKey(dg.AssetKey(CHECKED_ASSETS[check_name]), check_name)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return [record.evaluation for record in records if record.evaluation is not None]


def test_every_check_has_a_grid_and_no_job_runs_one_as_a_step(store: Store) -> None:
    defs = definitions_of(store.dsn)
    graph = defs.resolve_asset_graph()
    assert {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys} == {
        (asset, name) for name, asset in CHECKED_ASSETS.items()
    }
    assert all(graph.get(key).partitions_def is not None for key in graph.asset_check_keys)
    for job in ("daily_plan_job", "forecast_validation_job", "model_training_job"):
        assert not defs.resolve_job_def(job).asset_layer.asset_graph.asset_check_keys, job


def test_a_planned_day_keeps_its_claims_and_shows_them(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    for name in (checks.FORECASTS_COMPLETE, checks.PLAN_INVARIANTS):
        result = kept(store, name)
        assert (result["status"], result["reported_status"]) == ("passed", "passed"), result["message"]
        assert result["details"]["lines"] >= 2
        assert grid(instance, name) == {f"{DAY}|a": "SUCCEEDED"}


def test_a_high_error_fails_the_check_and_not_the_run(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    seed(store, "a", [60.0] * 30, DAY - timedelta(days=1))
    sell(store, "a", SOLD)
    validate(instance, store, ["a"])
    result = kept(store, checks.TRAILING_ERROR)
    assert result["status"] == "failed"
    assert result["value"] > 30
    assert result["details"]["products"][0]["product_id"] == "bread"
    assert "cake" not in [each["product_id"] for each in result["details"]["products"][:1]]
    assert result["details"]["day_error_pct"] == pytest.approx(metadata(instance, "a")["wape_pct"], abs=0.01)
    assert kept(store, checks.COVERAGE)["status"] == "passed"
    assert kept(store, checks.MODEL_AGE)["status"] == "undefined"
    assert grid(instance, checks.TRAILING_ERROR) == {f"{DAY}|a": "FAILED"}
    assert grid(instance, checks.MODEL_AGE) == {}
    (told,) = evaluations(instance, checks.TRAILING_ERROR)
    assert told.severity == dg.AssetCheckSeverity.ERROR
    assert not told.blocking
    assert "bread" in str(told.metadata["products"].value)
    assert told.metadata["day_error_pct"].value == result["details"]["day_error_pct"]


def test_a_validation_shows_all_its_figures_and_how_the_error_developed(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    seed(store, "a", [20.0 + n % 9 for n in range(60)], DAY - timedelta(days=1))
    sell(store, "a", SOLD)
    validate(instance, store, ["a"])
    shown = metadata(instance, "a")
    for name in ("rmse_units", "accuracy_pct", "coverage_pct", "bias_pct", "mape_pct", "naive_wape_pct"):
        assert isinstance(shown[name], float), name
    assert "r2" in str(shown["undefined"]), "three rows are too few for it"
    assert (shown["rows_used"], shown["rows_zero"], shown["rows_without_actual"]) == (3, 0, 0)
    with store.transaction() as connection:
        (*_, last) = read_trends(connection, ["a"], DAY).to_dict("records")
    assert last["business_date"] == DAY
    assert shown["week_over_week_points"] == pytest.approx(last["wape_pct"] - (20.0 + 53 % 9), abs=0.01)
    assert shown["trailing_wape_pct"] == pytest.approx(last["trailing_wape_pct"], abs=0.01)
    picture = str(shown["error_of_30_days"])
    assert picture.startswith("![")
    assert len(picture) < 1000
    assert "28 open days" in str(shown["trend"])
    assert "bread" in str(shown["best_products"])
    assert "kiosk" in str(shown["locations_by_error"])


def test_the_view_and_the_checks_know_the_same_trailing_error(store: Store) -> None:
    add_bakery(store, "a")
    seed(store, "a", [5.0 + (7 * n) % 23 for n in range(70)], DAY)
    with store.transaction() as connection:
        connection.execute(
            "UPDATE quality.validation_metric SET actual_units = 0, wape_pct = NULL WHERE business_date = ANY(%s)",
            ([DAY - timedelta(days=n) for n in (1, 20, 40)],),
        )
        trend = read_trends(connection, ["a"], DAY, days=100).set_index("business_date")
        for on in (DAY, DAY - timedelta(days=3), DAY - timedelta(days=61), DAY - timedelta(days=66)):
            days = read_headline_days(connection, ["a"], on)
            error = checks.trailing_error(days, on)
            earlier = checks.trailing_error(days, on - timedelta(days=30))
            row = trend.loc[on]
            assert (None if pd.isna(row["trailing_wape_pct"]) else row["trailing_wape_pct"]) == pytest.approx(
                error.error_pct
            ), on
            assert row["trailing_days"] == error.days
            rise = checks.check_error_rise("a", error, earlier).value
            assert (None if pd.isna(row["change_in_30_days_points"]) else row["change_in_30_days_points"]) == (
                pytest.approx(rise)
            ), on
    assert DAY - timedelta(days=1) not in trend.index, "a closed day has no error"


def test_an_error_that_rose_fails_by_either_measure(store: Store) -> None:
    add_bakery(store, "a")
    seed(store, "a", [10.0] * 40 + [18.0] * 28, DAY)

    def evaluate() -> dict[str, Any]:
        with store.transaction() as connection:
            evaluate_checks(connection, ["a"], DAY, None, NOW)
        return kept(store, checks.ERROR_RISE)

    assert (evaluate()["status"], evaluate()["value"]) == ("failed", pytest.approx(8.0))
    assert kept(store, checks.TRAILING_ERROR)["status"] == "passed"
    with store.transaction() as connection:
        connection.execute("INSERT INTO ops.setting VALUES ('error-measure', '\"mape\"', now())")
        connection.execute("UPDATE quality.validation_metric SET mape_pct = 45")
    assert evaluate()["value"] == pytest.approx(0)
    assert kept(store, checks.TRAILING_ERROR)["status"] == "failed"


def test_late_sales_of_a_day_move_what_is_said_of_the_last_one(store: Store) -> None:
    add_bakery(store, "a")
    seed(store, "a", [10.0] * 28, DAY)
    early = DAY - timedelta(days=20)
    with store.transaction() as connection:
        evaluate_checks(connection, ["a"], DAY, None, NOW)
        connection.execute(
            "UPDATE quality.validation_metric SET mae_units = 100 WHERE business_date = %s AND scope = 'overall'",
            (early,),
        )
        evaluate_checks(connection, ["a"], early, None, NOW)
    assert kept(store, checks.TRAILING_ERROR)["value"] == pytest.approx((27 * 10 + 1000) / 28)
    assert kept(store, checks.TRAILING_ERROR, early)["status"] == "failed"


def test_of_a_large_batch_only_what_changes_is_told(store: Store) -> None:
    add_bakery(store, "a")
    seed(store, "a", [10.0] * 30 + [900.0, 1.0, 1.0], DAY)

    def told(on: date, is_every: bool = False) -> list[str]:
        with store.transaction() as connection:
            evaluate_checks(connection, ["a"], on, None, NOW)
            rows = read_untold(
                connection, ["a"], ["validation_metrics"], (on, on), evaluated_since=ALWAYS, is_every=is_every
            )
            mark_told(connection, rows)
        return list(rows.loc[rows["check_name"] == checks.TRAILING_ERROR, "status"])

    before = DAY - timedelta(days=4)
    assert told(before) == ["passed"], "the first is told"
    assert told(before) == [], "what was told is not told again"
    assert told(DAY - timedelta(days=3)) == [], "it says the same as the day before"
    assert told(DAY - timedelta(days=3), is_every=True) == ["passed"]
    assert told(DAY - timedelta(days=2)) == ["failed"]
    assert told(DAY - timedelta(days=1)) == []
    with store.transaction() as connection:
        connection.execute("UPDATE quality.validation_metric SET mae_units = 1 WHERE mae_units = 90")
    assert told(DAY - timedelta(days=2)) == ["passed"], "the day's own cell was told something else"


def test_a_broken_plan_is_found(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    names = {checks.FORECASTS_COMPLETE, checks.PLAN_INVARIANTS}
    for statement, check_name, fault in (
        ("UPDATE plans.forecast SET mean_units[3] = -1", checks.FORECASTS_COMPLETE, "negative"),
        ("UPDATE plans.forecast SET quantile_units[2][1] = 'NaN'", checks.FORECASTS_COMPLETE, "not a number"),
        ("DELETE FROM plans.forecast WHERE product_id = 'cake'", checks.FORECASTS_COMPLETE, "missing"),
        ("UPDATE plans.production_line SET sold_out_probability = 1.2", checks.PLAN_INVARIANTS, "not a probability"),
        ("UPDATE plans.projection SET closing_quantity[2] = -1", checks.PLAN_INVARIANTS, "negative stock"),
        ("UPDATE plans.purchase_line SET order_by = order_by", checks.PLAN_INVARIANTS, None),
    ):
        with store.transaction() as connection, connection.transaction(force_rollback=True):
            connection.execute(statement)  # type: ignore[arg-type]
            evaluate_plan_checks(connection, ["a"], DAY, None, NOW)
            rows = connection.execute(
                "SELECT check_name, status, details -> 'faults' FROM quality.check_result WHERE business_date = %s",
                (DAY,),
            ).fetchall()
        found = {name: (status, faults) for name, status, faults in rows}
        assert found[check_name][0] == ("passed" if fault is None else "failed"), statement
        assert fault is None or fault in found[check_name][1], statement
        (other,) = names - {check_name}
        assert found[other][0] == "passed", statement


def look(instance: dg.DagsterInstance, store: Store, asset: str, **asked: object) -> dg.ExecuteInProcessResult:
    """Run an asset's checks as a person does from the web UI."""
    defs = definitions_of(store.dsn, NOW + timedelta(days=1))
    job = dg.define_asset_job("look", selection=dg.AssetSelection.checks_for_assets(asset))
    return (
        dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
        .resolve_job_def("look")
        .execute_in_process(instance=instance, raise_on_error=False, **asked)  # type: ignore[arg-type]
    )


def test_a_person_has_chosen_partitions_looked_at_again(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    with store.transaction() as connection:
        connection.execute("UPDATE plans.forecast SET mean_units[3] = -1")
    assert look(instance, store, "forecasts", tags={"dagster/partition": f"{DAY}|a"}).success
    assert grid(instance, checks.FORECASTS_COMPLETE) == {f"{DAY}|a": "FAILED"}
    assert look(instance, store, "forecast_models", tags={"dagster/partition": "a"}).success
    (told,) = evaluations(instance, checks.MODEL_AGE)
    assert told.description is not None
    assert told.description.startswith("Undefined: Rules serve")
    assert (told.partition, told.passed) == ("a", True)
    assert not look(instance, store, "forecasts").success


def test_what_a_person_materializes_leaves_no_check_waiting(instance: dg.DagsterInstance, store: Store) -> None:
    """Dagster then plans the checks as well, and skips their steps, for the batch has no outputs."""
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    sell(store, "a", SOLD)
    job = definitions_of(store.dsn, NOW + timedelta(days=1)).resolve_implicit_global_asset_job_def()
    for _ in range(2):
        assert job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("validation_metrics")], partition_key=f"{DAY}|a"
        ).success
    for name in (checks.TRAILING_ERROR, checks.ERROR_RISE, checks.CALIBRATION, checks.COVERAGE):
        assert grid(instance, name) == {f"{DAY}|a": AssetCheckExecutionRecordStatus.SUCCEEDED.value}, name


def test_a_tenant_without_its_plan_by_the_deadline_is_said_once_and_passes_when_it_is_planned(
    instance: dg.DagsterInstance, store: Store
) -> None:
    for tenant_id in ("a", "paused"):
        bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET created_at = created_at - interval '2 days'")
        connection.execute(
            "INSERT INTO ops.pause (tenant_id, reason, actor, paused_at) VALUES ('paused', 'test', 'test', now())"
        )

    def tick(now: datetime) -> list[tuple[str, str]]:
        return [
            (result.tenant_id, result.status) for result in report_instance_checks(instance, store, WINDOW_START, now)
        ]

    # 05:30 in Madrid is 04:30 UTC in winter, and the hour of grace ends at 05:30 UTC.
    due = datetime(2026, 3, 2, 5, 30, tzinfo=UTC)
    tick(due - timedelta(minutes=1))
    assert (kept(store, checks.TODAYS_PLAN, DAY - timedelta(days=1)))["status"] == "failed"
    assert tick(due) == [("a", "failed")]
    assert tick(due + timedelta(minutes=1)) == []
    assert "06:30 on 2026-03-02 (Europe/Madrid)" in kept(store, checks.TODAYS_PLAN)["message"]
    assert plan(instance, store, ["a"], now=due).success
    assert tick(due + timedelta(hours=1)) == [("a", "passed")]
    assert grid(instance, checks.TODAYS_PLAN)[f"{DAY}|a"] == "SUCCEEDED"


def test_failures_that_wait_for_a_person_fail_a_check_until_none_does(
    instance: dg.DagsterInstance, store: Store
) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        connection.execute(TANGLED, (DAY, NOW))
        (result, *_) = [r for r in write_instance_checks(connection, NOW) if r.check_name == checks.STAYS_FAILED]
    assert (result.status, result.value) == ("failed", 1)
    assert "flour contains itself" in result.message
    with store.transaction() as connection:
        connection.execute("UPDATE ops.failure SET state = 'resolved', resolved_at = now()")
        later = write_instance_checks(connection, NOW + timedelta(days=2))
    assert [r.status for r in later if r.check_name == checks.STAYS_FAILED] == ["passed"]
    with store.transaction() as connection:
        assert connection.execute("SELECT status FROM quality.check_state WHERE check_name = %s",
                                  (checks.STAYS_FAILED,)).fetchall() == [("passed",)]  # fmt: skip
        assert not [
            r for r in write_instance_checks(connection, NOW + timedelta(days=3)) if r.check_name == checks.STAYS_FAILED
        ]


TANGLED = """
INSERT INTO ops.failure (tenant_id, workflow, plan_date, link, reason, remedy, run_id, failed_at, state)
VALUES ('a', 'daily_operations', %s, 'procurement_plans', 'flour contains itself.', 'Correct it.', 'r', %s, 'review')
"""


def test_the_picture_of_a_trend_is_always_shown_inline() -> None:
    generator = np.random.default_rng(7)
    for _ in range(200):
        errors, trailing = generator.gamma(2, 20, 30), generator.gamma(2, 20, 30)
        errors[generator.random(30) < 0.2] = np.nan
        assert len(str(bars(errors, trailing, "WAPE of each of the last 30 days, and trailing").value)) < 1000
    assert bars(np.full(30, np.nan), np.full(30, np.nan), "nothing yet").value


def test_days_outside_the_grid_are_kept_and_not_told(store: Store) -> None:
    add_bakery(store, "a")
    before = WINDOW_START - timedelta(days=1)
    seed(store, "a", [10.0] * 30, before)
    with store.transaction() as connection:
        evaluate_checks(connection, ["a"], before, None, NOW)
        assert read_untold(connection, ["a"], ["validation_metrics"], GRID, evaluated_since=ALWAYS).empty
    assert kept(store, checks.TRAILING_ERROR, before)["status"] == "passed"
