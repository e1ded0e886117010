"""The contract of planning_assets/dagster_events.py with the pinned Dagster, on a real Postgres storage.

It calls Dagster's private functions. When a release changes what they do, these tests say so before a fleet does.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from planning_assets.dagster_events import (
    mark_failed,
    report_check_evaluations,
    report_check_evaluations_without_run,
    report_materializations,
)
from planning_assets.partitions import TENANTS, key_of, tenant_days
from tests.definitions.conftest import WINDOW_START

DAY = date(2026, 3, 2)
GRID = tenant_days(WINDOW_START)
UPPER, LOWER = dg.AssetKey("upper"), dg.AssetKey("lower")


def run(
    instance: dg.DagsterInstance, done: Mapping[str, Sequence[str]], failed: Sequence[str] = (), fails: bool = False
) -> dg.ExecuteInProcessResult:
    """A run that reports tenants as materialized, per asset, and marks others as failed in both; it may end in failure."""
    specs = [dg.AssetSpec(key, partitions_def=GRID, skippable=True) for key in (UPPER, LOWER)]

    @dg.multi_asset(specs=specs, can_subset=True, backfill_policy=dg.BackfillPolicy.single_run())
    def both(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        yield from ()
        report_materializations(
            context,
            [
                dg.AssetMaterialization(name, partition=key_of(DAY, tenant_id), metadata={"units": n})
                for name, tenant_ids in done.items()
                for n, tenant_id in enumerate(tenant_ids)
            ],
        )
        mark_failed(context, [(key, key_of(DAY, tenant_id)) for key in (UPPER, LOWER) for tenant_id in failed])
        if fails:
            raise dg.Failure("some tenants were set aside", allow_retries=False)

    known = instance.get_dynamic_partitions(str(TENANTS.name))
    named = {tenant_id for tenant_ids in (*done.values(), failed) for tenant_id in tenant_ids}
    instance.add_dynamic_partitions(str(TENANTS.name), sorted(named - set(known)))
    job = dg.Definitions(assets=[both], executor=dg.in_process_executor).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, partition_key=key_of(DAY, min(named)), raise_on_error=False)


def tenants(count: int) -> list[str]:
    return [f"t{n:03}" for n in range(count)]


def grid(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[str, set[str]]:
    """The tenants per status, as the web UI computes and caches it."""
    value = get_and_update_asset_status_cache_value(instance, asset, GRID, instance)
    assert value is not None
    subsets = {
        "materialized": value.deserialize_materialized_partition_subsets(GRID),
        "failed": value.deserialize_failed_partition_subsets(GRID),
        "in_progress": value.deserialize_in_progress_partition_subsets(GRID),
    }
    return {status: {str(key).partition("|")[2] for key in s.get_partition_keys()} for status, s in subsets.items()}


def writes(instance: dg.DagsterInstance, event_type: str) -> tuple[int, int]:
    """Events of a type in the storage, and the transactions that wrote them: Postgres keeps each row's in xmin."""
    url = instance.event_log_storage.postgres_url.replace("+psycopg2", "")  # type: ignore[attr-defined]
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT xmin::text) FROM event_logs WHERE dagster_event_type = %s", (event_type,)
        ).fetchone()
    assert row is not None
    return row


def test_each_partition_carries_its_own_metadata(instance: dg.DagsterInstance) -> None:
    assert run(instance, {"upper": tenants(5)}).success
    records = instance.fetch_materializations(UPPER, limit=10).records
    assert {
        record.partition_key: record.asset_materialization.metadata["units"].value
        for record in records
        if record.asset_materialization
    } == {f"2026-03-02|t{n:03}": n for n in range(5)}
    assert {record.event_log_entry.step_key for record in records} == {"both"}


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (20, 1), (41, 3)])
def test_materializations_are_written_in_batches(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, count: int, expected: int
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "20")
    assert run(instance, {"upper": tenants(count)}).success
    assert writes(instance, "ASSET_MATERIALIZATION") == (count, expected)
    assert grid(instance, UPPER)["materialized"] == set(tenants(count))


def test_nothing_is_planned_for_partitions_that_are_reported(instance: dg.DagsterInstance) -> None:
    """The planned event per partition and asset that Dagster writes by default costs more than the planning itself."""
    assert run(instance, {"upper": tenants(30), "lower": tenants(30)}).success
    assert writes(instance, "ASSET_MATERIALIZATION_PLANNED")[0] == 2


def test_every_asset_of_a_report_shows_its_latest_materialization_and_its_grid(instance: dg.DagsterInstance) -> None:
    # Dagster remembers the last event of each asset, and reads only later ones into the grid that it keeps. A batch
    # moves that memory on for one asset alone, that of its last event.
    for count in (2, 4):
        assert run(instance, {"upper": tenants(count)}).success
        assert run(instance, {"upper": tenants(count + 1), "lower": tenants(count)}).success
        for key, expected in ((UPPER, tenants(count + 1)), (LOWER, tenants(count))):
            (record,) = instance.get_asset_records([key])
            assert record.asset_entry.last_materialization_record is not None, key
            assert record.asset_entry.last_materialization_record.partition_key == f"2026-03-02|{expected[-1]}", key
            assert grid(instance, key)["materialized"] == set(expected), key


def test_a_failed_tenant_is_shown_until_a_later_success(instance: dg.DagsterInstance) -> None:
    done = {"upper": ["a", "b"], "lower": ["a"]}
    assert not run(instance, done, failed=["c"], fails=True).success
    assert grid(instance, UPPER) == {"materialized": {"a", "b"}, "failed": {"c"}, "in_progress": set()}
    assert grid(instance, LOWER) == {"materialized": {"a"}, "failed": {"c"}, "in_progress": set()}
    assert run(instance, {"upper": ["c"]}).success
    assert grid(instance, UPPER)["failed"] == set()
    assert grid(instance, UPPER)["materialized"] == {"a", "b", "c"}
    assert grid(instance, LOWER)["failed"] == {"c"}, "only the upper asset was made again"


def test_a_tenant_fails_again_after_it_was_materialized(instance: dg.DagsterInstance) -> None:
    assert run(instance, {"upper": ["a"], "lower": ["a"]}).success
    assert grid(instance, UPPER)["failed"] == set()
    assert not run(instance, {}, failed=["a"], fails=True).success
    assert grid(instance, UPPER)["failed"] == {"a"}


def test_a_mark_in_a_run_that_succeeds_is_no_failure(instance: dg.DagsterInstance) -> None:
    assert run(instance, {"upper": ["a"]}, failed=["b"]).success
    assert grid(instance, UPPER)["failed"] == set()
    assert grid(instance, UPPER)["in_progress"] == set()


def test_marking_many_tenants_is_silent(instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]) -> None:
    """Dagster falls back to single writes, with words on stderr, when a batch holds events that it cannot batch."""
    assert not run(instance, {"upper": tenants(3), "lower": tenants(3)}, failed=["x", "y"], fails=True).success
    assert "Falling back" not in capfd.readouterr().err


def test_the_dimensions_are_read_from_the_partition_key(instance: dg.DagsterInstance) -> None:
    """Dagster's own events also carry a tag per dimension; ours do not, since nothing that shows the grid reads them.

    Two tags an event would triple the rows that a fleet of ten thousand writes each morning.
    """
    assert run(instance, {"upper": tenants(2)}).success
    assert instance.get_event_tags_for_asset(UPPER) == []
    assert set(instance.get_materialized_partitions(UPPER)) == {"2026-03-02|t000", "2026-03-02|t001"}
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(UPPER, asset_partitions=["2026-03-02|t001"]), limit=5
    ).records
    assert record.partition_key == "2026-03-02|t001"


def test_evaluations_are_told_by_any_step_or_none_and_the_last_one_of_a_partition_counts(
    instance: dg.DagsterInstance,
) -> None:
    def evaluation(tenant_id: str, passed: bool) -> dg.AssetCheckEvaluation:
        return dg.AssetCheckEvaluation(
            asset_key=UPPER, check_name="holds", passed=passed, partition=key_of(DAY, tenant_id), blocking=False
        )

    @dg.op
    def no_asset(context: dg.OpExecutionContext) -> None:
        report_check_evaluations(context, [evaluation("a", passed=False), evaluation("b", passed=True)])

    @dg.job(executor_def=dg.in_process_executor)
    def anything() -> None:
        no_asset()

    def grid_of_check() -> dict[str, str]:
        found = instance.event_log_storage.get_asset_check_partition_info([dg.AssetCheckKey(UPPER, "holds")])
        return {str(info.partition_key): info.latest_execution_status.value for info in found}

    result = anything.execute_in_process(instance=instance)
    assert result.success, "a check that fails is no failed run"
    assert grid_of_check() == {"2026-03-02|a": "FAILED", "2026-03-02|b": "SUCCEEDED"}
    for passed in (True, False, True):
        report_check_evaluations_without_run(instance, [evaluation("a", passed)])
    assert grid_of_check() == {"2026-03-02|a": "SUCCEEDED", "2026-03-02|b": "SUCCEEDED"}
    assert anything.execute_in_process(instance=instance).success
    assert grid_of_check()["2026-03-02|a"] == "FAILED"
