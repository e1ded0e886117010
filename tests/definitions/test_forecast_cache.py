"""Real Dagster runs with the forecast cache on, down and silent: what readers find, and that no morning suffers."""

import logging
import socket
import time
from pathlib import Path

import dagster as dg
import pytest

from daybreak.definitions import build_defs
from daybreak.fleet import Fleet
from planning_assets.scope import anchor_of
from resources.dagster_resources import CacheResource, ClockResource, StoreResource
from resources.forecast_cache import ForecastCache
from resources.forecast_reader import read_current
from resources.store.database import Store
from resources.vocabulary import CACHE_CONNECTION_FAILED
from tests.definitions.conftest import NOW, WINDOW_START
from tests.definitions.test_daily_plan import DAY, bakery, materialized, overflow_on_writing
from tests.valkey import valkey


def plan(
    instance: dg.DagsterInstance, store: Store, url: str, tenants: list[str], **config: object
) -> dg.ExecuteInProcessResult:
    """Run the daily plan with a cache at this address, one tenant in a chunk."""
    definitions = build_defs(
        Fleet(("Europe/Madrid",), WINDOW_START),
        {
            "store": StoreResource(dsn=store.dsn),
            "cache": CacheResource(url=url),
            "clock": ClockResource(fixed_at=NOW.isoformat()),
        },
    )
    step = {"date": DAY.isoformat(), "tenants": tenants, "chunk_tenants": 1, **config}
    return definitions.resolve_job_def("daily_plan_job").execute_in_process(
        instance=instance,
        partition_key=anchor_of(instance, DAY, tenants),
        run_config={"ops": {"daily_plan": {"config": step}}},
        raise_on_error=False,
    )


def connection_failures(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage().startswith(CACHE_CONNECTION_FAILED) for record in caplog.records)


def test_a_run_puts_its_tenants_forecasts_into_the_cache_also_of_one_that_fails_later(
    instance: dg.DagsterInstance, store: Store, tmp_path: Path
) -> None:
    for tenant_id in ("a", "b", "c"):
        bakery(store, tenant_id)
    with store.transaction() as connection:
        overflow_on_writing(connection, "c")
    with valkey(tmp_path) as server, ForecastCache(server.url) as cache:
        assert not plan(instance, store, server.url, ["a", "b", "c"]).success
        found = read_current(store, cache, ["a", "b", "c"], DAY)
        assert {tenant_id: current.is_cached for tenant_id, current in found.items()} == dict.fromkeys("abc", True)
        assert plan(instance, store, server.url, ["a"]).success
        (again,) = read_current(store, cache, ["a"], DAY).values()
        assert again.is_cached
        assert set(again.revisions.values()) == {2}


def test_a_run_whose_cache_is_down_plans_everybody_and_says_so_once(
    instance: dg.DagsterInstance, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    tenants = ["a", "b", "c"]
    for tenant_id in tenants:
        bakery(store, tenant_id)
    assert plan(instance, store, "redis://:secret@127.0.0.1:1/0", tenants).success
    assert materialized(instance, "inventory_projections") == {f"{DAY}|{tenant_id}" for tenant_id in tenants}
    assert connection_failures(caplog) == 1
    assert "secret" not in caplog.text


def test_a_cache_that_never_answers_costs_a_run_one_time_out(
    instance: dg.DagsterInstance, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    tenants = ["a", "b", "c"]
    for tenant_id in tenants:
        bakery(store, tenant_id)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.1)
        result = plan(instance, store, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", tenants)
        attempts = 0
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            try:
                silent.accept()[0].close()
            except TimeoutError:
                break
            attempts += 1
    assert result.success
    assert attempts == 1
    assert connection_failures(caplog) == 1


def test_a_run_in_which_everybody_is_up_to_date_leaves_the_cache_to_its_readers(
    instance: dg.DagsterInstance, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bakery(store, "a")
    assert plan(instance, store, "", ["a"]).success
    with valkey(tmp_path) as server:
        assert plan(instance, store, server.url, ["a"], skip_up_to_date=True).success
        assert server.client.dbsize() == 0, "nothing was made, so nothing is written; a reader fills it"
    assert connection_failures(caplog) == 0
