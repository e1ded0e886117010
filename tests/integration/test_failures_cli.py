"""`daybreak failures`, `pause`, `resume` and `policy`, run as a person runs them, against a real database."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from planning.frames import set_aside_of
from resources.clock import system_clock
from resources.store.database import Store
from resources.store.failures import record_failures
from tests.integration.store_bakery import add_bakery


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line against a fresh database and home."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))

    def invoke(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return invoke


def fail(store: Store, tenant_id: str, times: int = 1, workflow: str = "production_planning") -> int:
    """Record a tenant as failed so many times in a row, today; returns the failure's number."""
    now = system_clock()
    for _ in range(times):
        rows = set_aside_of([(tenant_id, "forecasts", "No sales.", "Import sales.")])
        with store.transaction() as connection:
            record_failures(connection, workflow, now.date(), rows, "run", now)
    return int(store.frame("SELECT max(failure_id) AS n FROM ops.failure")["n"].item())


def test_failures_are_listed_shown_and_dismissed(run: Any, store: Store) -> None:
    assert "Nothing has failed." in run("failures", "list").output
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    waits, stuck = fail(store, "a"), fail(store, "b", times=4)
    listed = run("failures", "list").output
    assert "next retry" in listed
    assert "No sales. Remedy: Import sales." in listed
    assert "waits for a person" in listed
    rows = {row["tenant_id"]: row for row in json.loads(run("failures", "list", "--json").output)}
    assert (rows["a"]["state"], rows["a"]["attempts"], rows["b"]["state"], rows["b"]["attempts"]) == (
        "open", 1, "review", 4,
    )  # fmt: skip
    assert rows["a"]["retry_at"] is not None
    assert rows["b"]["retry_at"] is None
    assert "b " not in run("failures", "list", "--tenant", "a").output
    shown = json.loads(run("failures", "show", str(stuck), "--json").output)
    assert (shown["link"], shown["remedy"]) == ("forecasts", "Import sales.")
    assert "no failure 999" in run("failures", "show", "999", expect=3).stderr
    run("failures", "dismiss", str(stuck), "--notes", "closed for good", "--by", "ana")
    assert "dismissed by ana: closed for good" in run("failures", "list", "--state", "dismissed").output
    assert "dismissed already" in run("failures", "dismiss", str(stuck), "--notes", "again", expect=3).stderr
    assert [row["failure_id"] for row in json.loads(run("failures", "list", "--json").output)] == [waits]


def test_what_is_not_planned_by_date_is_not_tried_again_from_the_list(run: Any, store: Store) -> None:
    add_bakery(store, "a")
    number = fail(store, "a", workflow="model_training")
    (row,) = json.loads(run("failures", "list", "--json").output)
    assert (row["state"], row["retry_at"]) == ("review", None)
    assert "model_training" in run("failures", "retry", str(number), expect=3).stderr
    assert "No failure waits" in run("failures", "retry", "--all").output
    run("failures", "retry", expect=2)


def test_without_a_running_instance_a_retry_runs_here(run: Any, store: Store) -> None:
    add_bakery(store, "a")
    fail(store, "a", times=4)
    assert "0 failed" in run("failures", "retry", "--tenant", "a").output
    (row,) = json.loads(run("failures", "list", "--all", "--state", "resolved", "--json").output)[:1]
    assert (row["tenant_id"], row["state"]) == ("a", "resolved")
    assert "Nothing has failed." in run("failures", "list").output


def test_pauses_are_shown_with_the_tenants(run: Any, store: Store) -> None:
    add_bakery(store, "a")
    run("pause", "--tenant", "a", expect=2)
    said = run("pause", "--tenant", "a", "--reason", "a new oven", "--by", "ana").output
    assert "daybreak resume --tenant a" in said
    assert " paused " in run("tenant", "list").output
    (one,) = json.loads(run("tenant", "list", "--json").output)
    assert (one["is_paused"], one["status"]) == (True, "active")
    assert "by ana: a new oven" in run("tenant", "show", "a").output
    assert "paused already" in run("pause", "--tenant", "a", "--reason", "x", expect=3).stderr
    assert "no tenant" in run("pause", "--tenant", "nobody", "--reason", "x", expect=3).stderr
    run("pause", "--reason", "moving house")
    assert "paused for everybody: moving house" in run("tenant", "list").stderr
    assert len(json.loads(run("pause", "--list", "--json").output)) == 2
    assert "everybody is: moving house" in run("resume", "--tenant", "a").output
    assert "goes on" in run("resume").output
    assert "is not paused" in run("resume", expect=3).stderr
    assert "Nothing is paused." in run("pause", "--list").output
    assert "a new oven" in run("pause", "--list", "--all").output


def test_policies_are_set_for_both_plannings_and_keep_what_is_not_given(run: Any, store: Store) -> None:
    add_bakery(store, "a")
    run("policy", "set", "--tenant", "a", "--on-holidays", "skip")
    run("policy", "set", "--tenant", "a", "--on-weekends", "move", "--at", "07:15", "--workflow", "production_planning")
    found = {row["workflow"]: row for row in json.loads(run("policy", "list", "--json").output)}
    assert set(found) == {"production_planning", "procurement_planning"}
    production = found["production_planning"]
    assert (production["on_holidays"], production["on_weekends"], production["moved_to"]) == (
        "skip",
        "move",
        "07:15:00",
    )
    assert "holidays: skip, weekends: move, moved to 07:15" in run("tenant", "show", "a").output
    run("policy", "set", "--tenant", "a", expect=2)
    assert (
        "moved to no time"
        in run(
            "policy", "set", "--tenant", "a", "--workflow", "forecast_validation", "--on-holidays", "move", expect=3
        ).stderr
    )
    assert "2 policies of a removed" in run("policy", "remove", "--tenant", "a").output
    assert "every day" in run("policy", "list").output


def test_the_time_of_a_retry_is_in_the_future(run: Any, store: Store) -> None:
    add_bakery(store, "a")
    fail(store, "a")
    retry_at = store.frame("SELECT retry_at FROM ops.failure")["retry_at"].item()
    assert timedelta(seconds=120) < retry_at - system_clock() <= timedelta(seconds=360)
