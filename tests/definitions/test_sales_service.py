"""Sales pulled from a real HTTP server on loopback: pages, cuts, refusals, answers that cannot be read."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest
from click.testing import CliRunner

from daybreak.cli import main
from resources.sales_service import MAX_ATTEMPTS, PULL_EVERY, Limits, Pulled, pull
from resources.store.database import Store
from resources.store.sales_services import SalesServiceError, read_sales_services, set_sales_service
from tests.definitions.conftest import NOW, definitions_of
from tests.integration.store_bakery import add_bakery

TOKEN = "s3cret-t0ken-of-a"
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Till:
    """A service that answers what `answer` says to each cursor, and notes what it was asked."""

    url: str = ""
    answer: Callable[[str | None], Answer] = lambda _cursor: (200, {}, page([], None))
    asked: list[str | None] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)


def page(rows: list[Any], next_cursor: str | None) -> bytes:
    return json.dumps({"rows": rows, "next_cursor": next_cursor}).encode()


def row(day: int, quantity: float = 12, **more: object) -> dict[str, object]:
    made = {"business_date": f"2026-02-{day:02}", "location_id": "main", "product_id": "bread", "quantity": quantity}
    return {**made, **more}


def ok(rows: list[Any], next_cursor: str | None) -> Answer:
    return 200, {"Content-Type": "application/json"}, page(rows, next_cursor)


@pytest.fixture
def till(store: Store) -> Iterator[Till]:
    """A till of bakery `a`, whose service is set."""
    state = Till()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            cursor = query.get("cursor", [None])[0]
            state.asked.append(cursor)
            state.tokens.add(self.headers.get("Authorization"))
            assert (urlsplit(self.path).path, query["limit"]) == ("/api/sales", ["1000"])
            status, headers, body = state.answer(cursor)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/api"
    add_bakery(store, "a")
    with store.transaction() as connection:
        set_sales_service(connection, "a", f"{state.url}/", "A_TOKEN", NOW)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def pulled(store: Store, limits: Limits | None = None, token: str = TOKEN) -> Pulled:
    slept: list[float] = []
    result = pull(store, "a", lambda: NOW, limits or Limits(sleep=slept.append), {"A_TOKEN": token})
    assert result is not None
    return result


def service(store: Store) -> dict[str, Any]:
    with store.transaction() as connection:
        (found,) = read_sales_services(connection).to_dict("records")
    return found


def sold(store: Store) -> int:
    return len(store.frame("SELECT * FROM facts.sales"))


def test_pages_are_imported_one_by_one_and_a_pull_that_is_cut_off_goes_on_where_it_was(
    store: Store, till: Till
) -> None:
    pages = {
        None: ok([row(1, unit_price=1.4), row(2, 0.1)], "p2"),
        "p2": ok([row(3)], "p3"),
        "p3": ok([row(4, source_id="till-1")], None),
    }
    till.answer = pages.__getitem__
    seconds = iter([0.0, 1.0, 1.0, 100.0])  # the deadline is made, one page fits, then the time is over
    cut = pulled(store, Limits(budget_s=20, monotonic=lambda: next(seconds, 100.0)))
    assert (cut.pages, cut.rows_written, cut.is_at_end, cut.problem) == (1, 2, False, None)
    assert (service(store)["cursor"], service(store)["next_pull_at"]) == ("p2", NOW), "it is due at once"
    rest = pulled(store)
    assert (rest.pages, rest.rows_written, rest.is_at_end) == (2, 2, True)
    assert till.asked == [None, "p2", "p3"]
    assert sold(store) == 4
    exact = store.frame("SELECT quantity_units::text FROM facts.sales WHERE business_date = '2026-02-02'")
    assert float(exact.iat[0, 0]) == 0.1  # type: ignore[arg-type]
    assert service(store)["next_pull_at"] == NOW + PULL_EVERY
    # The last page is read again, with what was added to it; the rest of it changes nothing.
    pages["p3"] = ok([row(4, source_id="till-1"), row(5)], None)
    assert pulled(store).rows_written == 1
    assert till.asked[3:] == ["p3"]
    assert store.frame("SELECT version FROM facts.actuals_day ORDER BY business_date")["version"].tolist() == [
        1,
        1,
        2,
        3,
        4,
    ]


def test_a_service_that_is_busy_is_asked_again_and_its_retry_after_is_honoured(store: Store, till: Till) -> None:
    answers = iter([(429, {"Retry-After": "7"}, b""), (503, {}, b""), ok([row(1)], None)])
    till.answer = lambda _cursor: next(answers)
    slept: list[float] = []
    result = pulled(store, Limits(sleep=slept.append))
    assert (result.problem, result.rows_written) == (None, 1)
    assert slept[0] >= 7
    assert 0 <= slept[1] <= 2


@pytest.mark.parametrize("retry_after", ["3600", "Mon, 02 Mar 2026 05:30:00 GMT"])
def test_a_service_that_asks_for_longer_than_there_is_time_is_left_alone_so_long(
    store: Store, till: Till, retry_after: str
) -> None:
    till.answer = lambda _cursor: (429, {"Retry-After": retry_after}, b"")
    assert "429" in str(pulled(store, Limits(budget_s=20)).problem)
    assert len(till.asked) == 1
    assert service(store)["next_pull_at"] >= NOW + timedelta(hours=1)


def test_a_service_that_stays_down_is_asked_four_times_and_then_ever_more_seldom(store: Store, till: Till) -> None:
    till.answer = lambda _cursor: (500, {}, b"boom")
    limits = Limits(sleep=lambda _s: None, jitter=lambda _low, high: high)
    waits = []
    for n in range(1, 8):
        assert "does not answer" in str(pulled(store, limits).problem)
        assert len(till.asked) == n * MAX_ATTEMPTS
        assert service(store)["failures"] == n
        waits.append((service(store)["next_pull_at"] - NOW) / PULL_EVERY / 1.2)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 16, 16]), "up to four hours"
    till.answer = lambda _cursor: ok([row(1)], None)
    assert pulled(store).problem is None
    assert service(store)["failures"] == 0


def test_nobody_at_the_address_is_a_failure_without_the_token(store: Store, till: Till) -> None:
    with store.transaction() as connection:
        set_sales_service(connection, "a", "http://127.0.0.1:1", "A_TOKEN", NOW)
    problem = str(pulled(store).problem)
    assert "ConnectError" in problem
    assert TOKEN not in problem


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>login</html>", "no JSON"),
        (b'{"rows": []}', "lacks rows or next_cursor"),
        (b'{"rows": {}, "next_cursor": null}', "lacks rows"),
        (b'{"rows": [], "next_cursor": 7}', "neither a text nor null"),
        (page([row(2)], "p2"), "no end"),
        (page([row(2), "row"], None), "Row 2 is no object"),
        (page([row(2, colour="brown")], None), "unknown field 'colour'"),
        (page([row(2, unit_price=[1])], None), "unit_price is neither"),
        (b'{"rows": [{"quantity": NaN}], "next_cursor": null}', "no JSON"),
        (page([row(2), row(3, -4)], None), "row 2, quantity_units '-4'"),
        (page([row(2) | {"product_id": "unknown"}], None), "row 1, product_id 'unknown'"),
        (page([{"quantity": 3}], None), "is missing"),
    ],
)
def test_an_answer_that_cannot_be_taken_is_kept_whole_and_the_cursor_stays(
    store: Store, till: Till, body: bytes, told: str
) -> None:
    till.answer = lambda cursor: ok([row(1)], "p2") if cursor is None else (200, {}, body)
    for n in (1, 2):
        result = pulled(store)
        assert told in str(result.problem)
        assert service(store)["failures"] == n
    assert service(store)["cursor"] == "p2"
    assert service(store)["next_pull_at"] > NOW
    assert sold(store) == 1, "nothing of the page was imported"
    kept = store.frame("SELECT tenant_id, source, cursor, body, remedy FROM ops.quarantined_answer")
    assert len(kept) == 1, "the same answer twice is kept once"
    assert (kept.at[0, "source"], kept.at[0, "cursor"], bytes(kept.at[0, "body"])) == (f"{till.url}/sales", "p2", body)  # type: ignore[arg-type]
    assert kept.at[0, "remedy"]


def test_the_token_is_sent_and_neither_stored_nor_logged(
    store: Store, till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    till.answer = lambda cursor: ok([row(1)], "p2") if cursor is None else (401, {}, b"no")
    result = pulled(store)
    assert till.tokens == {f"Bearer {TOKEN}"}
    assert "A_TOKEN" in str(result.problem)
    everything = [
        store.frame("SELECT * FROM ops.sales_service"),
        store.frame("SELECT * FROM ops.import"),
        store.frame("SELECT * FROM ops.quarantined_answer"),
    ]
    assert not any(TOKEN in table.to_string() for table in everything)
    assert TOKEN not in caplog.text
    assert "not set" in str(pulled(store, token="").problem)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("ftp://till", "T"),
        ("https://user:password@till", "T"),
        ("https://till/?token=1", "T"),
        ("https://till", "abc-def"),
        ("till.example.com", "T"),
    ],
)
def test_addresses_and_variables_that_would_hold_a_secret_are_refused(store: Store, url: str, variable: str) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection, pytest.raises(SalesServiceError, match="Remedy") as told:
        set_sales_service(connection, "a", url, variable, NOW)
    assert "password" not in str(told.value).replace("a password", "")


def test_a_service_that_is_being_pulled_is_not_pulled_a_second_time(store: Store, till: Till) -> None:
    inside: list[Pulled | None] = []

    def answer(_cursor: str | None) -> Answer:
        inside.append(pull(store, "a", lambda: NOW, Limits(), {"A_TOKEN": TOKEN}))
        return ok([], None)

    till.answer = answer
    assert pulled(store).is_at_end
    assert inside == [None]


def test_the_sensor_pulls_what_is_due_and_leaves_paused_tenants(
    instance: dg.DagsterInstance, store: Store, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", TOKEN)
    till.answer = lambda _cursor: ok([row(1)], None)
    repository = definitions_of(store.dsn).get_repository_def()

    def tick() -> str:
        with dg.build_sensor_context(
            instance=instance,
            instance_ref=instance.get_ref(),
            repository_def=repository,
            resources=repository.get_top_level_resources(),
        ) as context:
            return repository.get_sensor_def("sales_pull_sensor").evaluate_tick(context).skip_message or ""

    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO ops.pause (tenant_id, reason, actor, paused_at) VALUES ('a', 'holiday', 'me', now())"
        )
    assert tick() == "Pulled from 0 services of 1 due; 0 failed."
    with store.transaction() as connection:
        connection.execute("UPDATE ops.pause SET resumed_at = now(), resumed_by = 'me'")
    assert tick() == "Pulled from 1 services of 1 due; 0 failed."
    assert sold(store) == 1
    assert tick() == "Pulled from 0 services of 0 due; 0 failed.", "not before a quarter of an hour"


def test_the_commands_set_list_pull_and_remove(
    store: Store, till: Till, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", store.dsn)
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("A_TOKEN", TOKEN)
    till.answer = lambda _cursor: ok([row(1)], None)

    def run(*arguments: str, expect: int = 0) -> str:
        result = CliRunner().invoke(main, ["sales-service", *arguments])
        assert result.exit_code == expect, (result.output, result.exception)
        return result.output

    address = ("--tenant", "a", "--url", till.url, "--token-variable", "A_TOKEN")
    assert "not encrypted" in run("set", *address)
    assert "1 of them are new" in run("pull", "--tenant", "a")
    (shown,) = json.loads(run("list", "--json"))
    assert (shown["tenant_id"], shown["failures"], shown["token_variable"]) == ("a", 0, "A_TOKEN")
    till.answer = lambda _cursor: (403, {}, b"")
    assert "A_TOKEN" in run("pull", "--tenant", "a", expect=1)
    assert "1 failures in a row" in run("list")
    assert "not pulled any more" in run("remove", "--tenant", "a")
    assert "Remedy" in run("remove", "--tenant", "a", expect=3)
    assert "Remedy" in run("pull", "--tenant", "a", expect=3)
    assert "Remedy" in run("set", "--tenant", "b", *address[2:], expect=3)
