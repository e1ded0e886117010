"""The forecast cache on a real server: what readers get while entries are missing, stale, spoilt, or nobody answers."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from daybreak import doctor
from daybreak.cli import main
from daybreak.instance import dagster_environment
from resources.forecast_cache import CacheUnusable, ForecastCache
from resources.forecast_reader import TenantForecasts, current_forecasts, publish_current, read_current
from resources.store.database import Store
from resources.store.forecast_documents import read_documents
from resources.store.plans import write_forecasts
from resources.vocabulary import (
    CACHE_CONNECTION_FAILED,
    CACHE_HIT,
    CACHE_HIT_RATE,
    CACHE_HITS,
    CACHE_MISS,
    CACHE_MISSES,
)
from tests.integration.store_bakery import (
    DAY,
    NO_BACKTEST,
    NO_EXCEPTIONS,
    add_bakery,
    add_sales,
    context,
    forecasts,
)
from tests.valkey import Valkey, valkey

KEY = f"forecast:a:{DAY}"
PATIENCE_S = 1.0
"""What a reader may lose to a cache that does not answer; well above the time-out, for a busy machine."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server with nothing in it."""
    with valkey(tmp_path) as started:
        yield started


@pytest.fixture
def cache(server: Valkey) -> Iterator[ForecastCache]:
    """The cache on the server."""
    with ForecastCache(server.url) as opened:
        yield opened


@pytest.fixture
def planned(store: Store) -> Store:
    """A store in which tenants a and b have forecasts of 10 units and more."""
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
        plan(store, tenant_id, 10.0)
    return store


def plan(store: Store, tenant_id: str, units: float) -> None:
    """A new revision, committed, and nothing said to the cache."""
    with store.transaction() as connection:
        panel = forecasts([tenant_id], units=units)
        write_forecasts(connection, context(connection, [tenant_id]), panel, NO_BACKTEST, NO_EXCEPTIONS)


def read(store: Store, cache: ForecastCache, tenant_id: str = "a") -> TenantForecasts:
    """The tenant's current forecasts, which there are."""
    current = current_forecasts(store, cache, tenant_id, DAY)
    assert current is not None
    return current


def first_units(current: TenantForecasts) -> float:
    return current.series[0].mean_units[0]


def test_a_miss_fills_the_cache_and_the_next_read_has_the_same_forecasts_from_it(
    planned: Store, cache: ForecastCache, server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    missed, hit = read(planned, cache), read(planned, cache)
    assert (missed.is_cached, hit.is_cached) == (False, True)
    assert (missed.series, missed.stamp) == (hit.series, hit.stamp)
    phrases = [record.getMessage() for record in caplog.records]
    assert phrases == [f"{CACHE_MISS}: a {DAY} (no entry)", f"{CACHE_HIT}: a {DAY}"]
    assert 2 * 24 * 3600 < server.client.ttl(KEY) < 7 * 24 * 3600
    assert json.loads(server.client.get(KEY))["tenant_id"] == "a"


def test_a_cached_forecast_is_what_the_store_holds(planned: Store, cache: ForecastCache) -> None:
    read(planned, cache)
    current = read(planned, cache)
    rows = planned.frame(
        "SELECT location_id, product_id, method, method_reason, model_version, last_history_on, extended_from, is_open,"
        " mean_units, quantile_levels, quantile_units FROM plans.forecast WHERE tenant_id = 'a' ORDER BY 1, 2"
    )
    assert [vars(row) for row in current.series] == rows.to_dict("records")
    bread = current.series[0]
    assert (bread.location_id, bread.product_id, current.revisions) == ("kiosk", "bread", {"kiosk": 1, "main": 1})
    assert bread.quantile(0.9) == [pytest.approx(mean * 1.4) for mean in bread.mean_units]
    assert bread.quantile(0.123) is None


def test_a_new_plan_is_read_although_its_write_to_redis_failed(
    planned: Store, cache: ForecastCache, server: Valkey
) -> None:
    read(planned, cache)
    plan(planned, "a", 50.0)
    current = read(planned, cache)
    assert (first_units(current), current.is_cached, current.revisions["main"]) == (50.0, False, 2)
    assert read(planned, cache).is_cached, "the reader replaced the stale entry"
    assert json.loads(server.client.get(KEY))["stamp"][0]["revision"] == 2


def test_a_reader_that_was_overtaken_by_a_new_plan_cannot_make_it_look_current(
    planned: Store, cache: ForecastCache
) -> None:
    with planned.transaction() as connection:
        old = read_documents(connection, ["a"], DAY)
    plan(planned, "a", 50.0)
    assert publish_current(planned, cache, ["a"], DAY, DAY) == 1
    assert cache.put_many(old, DAY) == 1
    assert first_units(read(planned, cache)) == 50.0
    assert first_units(read(planned, cache)) == 50.0


def test_readers_see_a_plan_that_was_committed_before_they_began_whoever_writes_meanwhile(
    planned: Store, server: Valkey
) -> None:
    last = [10.0]
    ended = threading.Event()
    seen: list[tuple[float, float]] = []

    def keep_reading() -> None:
        with ForecastCache(server.url) as own:
            while not ended.is_set():
                committed = last[0]
                seen.append((committed, first_units(read(planned, own))))

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        with ForecastCache(server.url) as own:
            for units in range(11, 41):
                plan(planned, "a", float(units))
                last[0] = float(units)
                if units % 2:
                    publish_current(planned, own, ["a"], DAY, DAY)
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert len(seen) > 30
    assert [pair for pair in seen if pair[1] < pair[0]] == []


def test_a_restored_database_that_makes_the_same_revision_again_does_not_read_the_old_one(
    planned: Store, cache: ForecastCache
) -> None:
    before = read(planned, cache)
    with planned.transaction() as connection:
        connection.execute("DELETE FROM plans.plan WHERE tenant_id = 'a'")
        again = context(connection, ["a"], now=datetime(2026, 3, 2, 5, 0, tzinfo=ZoneInfo("UTC")))
        write_forecasts(connection, again, forecasts(["a"], units=99.0), NO_BACKTEST, NO_EXCEPTIONS)
    after = read(planned, cache)
    assert [plan["plan_id"] for plan in after.stamp] == [plan["plan_id"] for plan in before.stamp]
    assert first_units(after) == 99.0


def test_a_tenant_whose_plan_was_taken_back_has_no_forecast_and_loses_its_entry(
    planned: Store, cache: ForecastCache, server: Valkey
) -> None:
    read(planned, cache)
    with planned.transaction() as connection:
        connection.execute("UPDATE plans.plan SET status = 'superseded', superseded_at = now() WHERE tenant_id = 'a'")
    assert current_forecasts(planned, cache, "a", DAY) is None
    assert publish_current(planned, cache, ["a"], DAY, DAY) == 0
    assert server.client.exists(KEY) == 0


def test_a_replay_of_the_past_does_not_fill_the_cache(planned: Store, cache: ForecastCache, server: Valkey) -> None:
    assert publish_current(planned, cache, ["a"], DAY, DAY + timedelta(days=30)) == 0
    assert server.client.dbsize() == 0


def test_a_flushed_cache_is_filled_again(planned: Store, cache: ForecastCache, server: Valkey) -> None:
    read(planned, cache)
    server.client.flushall()
    assert [read(planned, cache).is_cached for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda client, _good: client.set(KEY, b"\xff\xfe not JSON"),
        lambda client, _good: client.set(KEY, b"[1, 2]"),
        lambda client, _good: client.set(KEY, b"null"),
        lambda client, good: client.set(KEY, json.dumps({**good, "format": 0})),
        lambda client, good: client.set(KEY, json.dumps({**good, "series": [{"units": 1}]})),
        lambda client, good: client.set(KEY, json.dumps({**good, "series": None})),
        lambda client, good: client.set(KEY, json.dumps({k: v for k, v in good.items() if k != "stamp"})),
        lambda client, _good: (client.delete(KEY), client.rpush(KEY, "a list")),
    ],
)
def test_an_entry_that_cannot_be_read_is_a_miss_and_is_replaced(
    planned: Store, cache: ForecastCache, server: Valkey, spoil: Callable[..., object]
) -> None:
    read(planned, cache)
    spoil(server.client, json.loads(server.client.get(KEY)))
    current = read(planned, cache)
    assert (first_units(current), current.is_cached) == (10.0, False)
    assert read(planned, cache).is_cached


def test_a_tenant_never_gets_an_entry_of_another(planned: Store, cache: ForecastCache, server: Valkey) -> None:
    plan(planned, "b", 70.0)
    read(planned, cache, "b")
    server.client.copy(f"forecast:b:{DAY}", KEY)
    current = read(planned, cache, "a")
    assert (current.tenant_id, first_units(current), current.is_cached) == ("a", 10.0, False)


@pytest.mark.parametrize("tenant_id", ["*", "a:b", "A", "", "a b", "a\n", "?", "[ab]"])
def test_an_id_that_no_tenant_can_have_never_enters_a_key(planned: Store, cache: ForecastCache, tenant_id: str) -> None:
    for refused in (
        lambda: current_forecasts(planned, cache, tenant_id, DAY),
        lambda: cache.get_many([tenant_id], DAY),
        lambda: cache.put_many({tenant_id: "{}"}, DAY),
        lambda: cache.forget([tenant_id], DAY),
        lambda: cache.clear(tenant_id),
    ):
        with pytest.raises(ValueError, match="is no tenant id"):
            refused()


def test_many_tenants_are_read_and_written_in_pieces(store: Store, cache: ForecastCache, server: Valkey) -> None:
    tenant_ids = [f"t{n}" for n in range(120)]
    for tenant_id in tenant_ids:
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        panel = forecasts(tenant_ids)
        write_forecasts(connection, context(connection, tenant_ids), panel, NO_BACKTEST, NO_EXCEPTIONS)
    assert publish_current(store, cache, tenant_ids, DAY, DAY) == 120
    found = read_current(store, cache, [*tenant_ids, "nobody"], DAY)
    assert list(found) == tenant_ids
    assert all(current.is_cached and current.tenant_id == tenant_id for tenant_id, current in found.items())
    statistics = cache.statistics()
    assert (statistics.keys, statistics.tenants, statistics.hits, statistics.misses) == (120, 120, 120, 1)
    assert statistics.memory_bytes is not None
    assert statistics.memory_bytes > 120 * 1000
    assert server.client.dbsize() == 122


# ---------------------------------------------------------------- servers that fail


@contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[str, list[float]]]:
    """A server that accepts and answers everything with this, or never; yields host:port and when it was connected to."""
    connected: list[float] = []
    opened: list[socket.socket] = []
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        try:
            while connection.recv(65536):
                if answer is not None:
                    connection.sendall(answer)
        except OSError:
            return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                connected.append(time.monotonic())
                opened.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}", connected
        finally:
            ended.set()
            threads[0].join()
            for connection in opened:
                with suppress(OSError):  # the other end may have hung up
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            for thread in threads[1:]:
                thread.join()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_is_killed_between_two_reads_is_said_once_and_missed_by_nobody(
    planned: Store, cache: ForecastCache, server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    read(planned, cache)
    server.kill()
    for _ in range(3):
        current = read(planned, cache)
        assert (first_units(current), current.is_cached) == (10.0, False)
    assert publish_current(planned, cache, ["a", "b"], DAY, DAY) == 0
    (warning,) = warnings_in(caplog)
    assert warning.startswith(f"{CACHE_CONNECTION_FAILED}: 127.0.0.1:{server.port}/0: no connection (")
    server.start()
    assert not read(planned, cache).is_cached, "left alone until it is opened again"
    with ForecastCache(server.url) as again:
        assert [read(planned, again).is_cached for _ in range(2)] == [False, True]


@pytest.mark.parametrize("options", ["", "?socket_timeout=60&socket_connect_timeout=60&retry_on_timeout=yes"])
def test_a_server_that_never_answers_costs_a_run_less_than_a_second_once(
    planned: Store, caplog: pytest.LogCaptureFixture, options: str
) -> None:
    with answering(None) as (place, connected), ForecastCache(f"redis://{place}/0{options}") as cache:
        began = time.monotonic()
        assert first_units(read(planned, cache)) == 10.0
        assert time.monotonic() - began < PATIENCE_S
        for _ in range(5):
            read(planned, cache)
            publish_current(planned, cache, ["a", "b"], DAY, DAY)
        assert len(connected) == 1
        assert cache.problem == "no answer within 0.4 s"
    assert len(warnings_in(caplog)) == 1


def test_a_server_that_answers_nonsense_is_no_cache(planned: Store, caplog: pytest.LogCaptureFixture) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (place, _), ForecastCache(f"redis://{place}") as cache:
        assert first_units(read(planned, cache)) == 10.0
    assert len(warnings_in(caplog)) == 1


def test_a_full_server_is_left_alone(planned: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with valkey(tmp_path, "--maxmemory", "1") as full, ForecastCache(full.url) as cache:
        assert publish_current(planned, cache, ["a", "b"], DAY, DAY) == 0
        assert first_units(read(planned, cache)) == 10.0
    (warning,) = warnings_in(caplog)
    assert "out of memory" in warning


@pytest.mark.parametrize(
    "address",
    [
        "redis://:hidden-secret@127.0.0.1:{port}/0",  # wrong password
        "redis://:hidden/secret@127.0.0.1:{port}/0",  # an unescaped sign: the rest becomes a port or path
        "redis://:hidden-secret@127.0.0.1:{port}/0?unknown_option=1",
        "redis://:hidden-secret@127.0.0.1:not-a-port/0",
        "http://:hidden-secret@127.0.0.1:{port}/0",
        "hidden-secret",
        "redis://:hidden-secret@[::1/0",
        "redis://user:hidden-secret@127.0.0.1:1/0",  # nobody listens
    ],
)
def test_what_is_wrong_with_the_address_is_said_without_its_password(
    planned: Store,
    tmp_path: Path,
    address: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with valkey(tmp_path, password="right") as server, ForecastCache(address.format(port=server.port)) as cache:
        assert first_units(read(planned, cache)) == 10.0
        assert cache.problem
        with pytest.raises(CacheUnusable, match="Remedy") as refused:
            cache.ping()
    assert len(warnings_in(caplog)) == 1
    told = "\n".join([*warnings_in(caplog), str(refused.value), cache.address, cache.problem])
    assert CACHE_CONNECTION_FAILED in told
    assert "hidden" not in told
    assert "secret" not in told


def test_a_server_whose_refusal_quotes_the_password_does_not_bring_it_into_the_log(
    planned: Store, caplog: pytest.LogCaptureFixture
) -> None:
    quoting = b"-ERR unknown command `AUTH`, with args beginning with: `hidden-secret`\r\n"
    with answering(quoting) as (place, _), ForecastCache(f"redis://:hidden-secret@{place}/0") as cache:
        assert first_units(read(planned, cache)) == 10.0
        with pytest.raises(CacheUnusable) as refused:
            cache.statistics()
    assert "hidden-secret" not in "\n".join([*warnings_in(caplog), str(refused.value), str(cache.problem)])


def test_the_right_password_opens_the_cache_also_on_a_unix_socket(planned: Store, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with valkey(tmp_path, "--unixsocket", str(path), password="right") as server:
        with ForecastCache(server.url) as cache:
            assert [read(planned, cache).is_cached for _ in range(2)] == [False, True]
        with ForecastCache(f"unix://{path}?password=right") as local:
            assert read(planned, local).is_cached
            assert local.address == f"{path}/0"


def test_without_an_address_nothing_is_attempted_or_said(planned: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with ForecastCache("") as cache:
        assert not cache.is_on
        assert [read(planned, cache).is_cached for _ in range(2)] == [False, False]
        assert publish_current(planned, cache, ["a"], DAY, DAY) == 0
    assert caplog.records == []


# ---------------------------------------------------------------- operators

Run = Callable[..., Result]


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line on a fresh database and home; the environment that it sets is taken back afterwards."""
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REDIS_URL", raising=False)
    for name, value in dagster_environment(dsn).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return call


def test_clearing_one_tenant_leaves_its_neighbours_the_counters_and_other_programs(
    run: Run, planned: Store, cache: ForecastCache, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    add_bakery(planned, "a-b")
    plan(planned, "a-b", 10.0)
    read_current(planned, cache, ["a", "b", "a-b"], DAY)
    theirs = ("forecast:weather", "forecast:a:hourly", "forecast:a:2026-03-02:x", "other")
    for key in theirs:
        server.client.set(key, "theirs")
    removed = json.loads(run("cache", "clear", "--tenant", "a", "--json").stdout)
    assert removed == {"is_on": True, "tenant_id": "a", "removed": 1}
    assert {name.decode() for name in server.client.keys("forecast:*:2026-03-02")} == {
        f"forecast:b:{DAY}",
        f"forecast:a-b:{DAY}",
    }
    assert json.loads(run("cache", "clear", "--all", "--json").stdout)["removed"] == 2
    assert {name.decode() for name in server.client.keys("*")} == {*theirs, CACHE_MISSES}
    run("cache", "clear", "--tenant", "*", expect=3)
    run("cache", "clear", expect=2)
    run("cache", "clear", "--all", "--tenant", "a", expect=2)


def test_the_counters_are_shared_and_shown(
    run: Run, planned: Store, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    empty = json.loads(run("cache", "stats", "--json").stdout)
    assert (empty["keys"], empty[CACHE_HITS], empty[CACHE_MISSES], empty[CACHE_HIT_RATE]) == (0, 0, 0, None)
    for _ in range(4):
        with ForecastCache(server.url) as one_of_many:
            read(planned, one_of_many)
    shown = json.loads(run("cache", "stats", "--json").stdout)
    assert (shown["keys"], shown["tenants"], shown[CACHE_HITS], shown[CACHE_MISSES]) == (1, 1, 3, 1)
    assert shown[CACHE_HIT_RATE] == 0.75
    assert shown["address"] == f"127.0.0.1:{server.port}/0"
    text = run("cache", "stats").stdout
    assert "0.750" in text
    assert CACHE_HIT_RATE in text


def test_without_redis_url_the_commands_say_how_to_switch_the_cache_on(run: Run) -> None:
    for arguments in (("stats",), ("clear", "--all")):
        assert "REDIS_URL=redis://" in run("cache", *arguments).stdout
    assert json.loads(run("cache", "stats", "--json").stdout)["is_on"] is False


def test_commands_and_doctor_name_a_server_that_is_down(
    run: Run, store: Store, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    assert store.dsn
    cached = {finding.check: finding for finding in doctor.examine()}["cache"]
    assert cached.is_ok
    assert str(server.port) in cached.found
    server.kill()
    for arguments in (("stats",), ("clear", "--all")):
        result = run("cache", *arguments, expect=4)
        assert CACHE_CONNECTION_FAILED in result.stderr
        assert "Remedy" in result.stderr
    down = {finding.check: finding for finding in doctor.examine()}["cache"]
    assert down.is_warning, "nothing depends on the cache"
    assert down.remedy
    monkeypatch.delenv("REDIS_URL")
    off = {finding.check: finding for finding in doctor.examine()}["cache"]
    assert off.is_ok
    assert "off" in off.found


def today() -> date:
    return datetime.now(ZoneInfo("Europe/Madrid")).date()


def bakery(store: Store, tenant_id: str) -> None:
    """A tenant with eight weeks of sales until yesterday."""
    add_bakery(store, tenant_id, days=())
    last = today()
    rows = [
        (location, product, last - timedelta(days=n), float(20 + n % 7))
        for n in range(1, 57)
        for location, product in (("main", "bread"), ("main", "cake"), ("kiosk", "bread"))
    ]
    with store.transaction() as connection:
        connection.execute(
            "SELECT ops.ensure_partitions('facts.sales', %s::date, %s::date, '1 year')",
            (date(last.year - 1, 1, 1), date(last.year, 12, 31)),
        )
        add_sales(connection, tenant_id, rows)


def test_a_planned_day_is_shown_from_the_cache_and_a_new_plan_at_once(
    run: Run, store: Store, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", server.url)
    bakery(store, "a")
    run("plan", "run", "--tenant", "a")
    shown = json.loads(run("forecast", "show", "--tenant", "a", "--json").stdout)
    assert (shown["source"], shown["cache"], shown["is_cached"]) == ("cache", "on", True)
    assert (shown["plan_date"], set(shown["revisions"].values())) == (today().isoformat(), {1})
    assert len(shown["series"]) == 3
    day = shown["series"][0]["days"][0]
    assert day["target_date"] == today().isoformat()
    assert day["quantile_units"]["0.1"] <= day["mean_units"] <= day["quantile_units"]["0.9"]
    assert shown["series"][0]["method_reason"]
    assert [d["is_extended"] for d in shown["series"][0]["days"]] == [False] * 7 + [True] * 7

    run("plan", "run", "--tenant", "a", "--force")
    again = json.loads(run("forecast", "show", "--tenant", "a", "--json").stdout)
    assert (again["source"], set(again["revisions"].values())) == ("cache", {2})

    server.kill()
    down = run("forecast", "show", "--tenant", "a", "--json")
    fallen_back = json.loads(down.stdout)
    assert (fallen_back["source"], fallen_back["cache"]) == ("postgres", "unreachable")
    assert fallen_back["series"] == again["series"]


def test_the_forecast_is_shown_to_people_for_one_place_and_product(run: Run, store: Store) -> None:
    bakery(store, "a")
    run("plan", "run", "--tenant", "a")
    overview = run("forecast", "show", "--tenant", "a", "--location", "main").stdout
    assert "from Postgres, the cache is off" in overview
    assert "cake" in overview
    assert "kiosk" not in overview
    days = run("forecast", "show", "--tenant", "a", "--product", "cake").stdout
    assert "cake at main" in days
    assert f"{today():%a %d %b}" in days
    assert "extended, less certain" in days
    unknown = run("forecast", "show", "--tenant", "a", "--product", "pie", expect=3)
    assert "bread, cake" in unknown.stderr
    assert f"daybreak plan show --tenant a --date {today()}" in unknown.stderr
    unplanned = run("forecast", "show", "--tenant", "a", "--date", "2026-01-05", expect=3)
    assert "daybreak plan run --tenant a --date 2026-01-05" in unplanned.stderr
