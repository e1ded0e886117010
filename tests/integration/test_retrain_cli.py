"""`daybreak retrain` as a person runs it, on a real database."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from daybreak.instance import dagster_environment
from resources.store.database import Store
from resources.store.retraining import claim_batches, queue_training, settle_request
from tests.integration.store_bakery import add_bakery

Run = Callable[..., Result]


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line against a fresh database and home."""
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    for name, value in dagster_environment(dsn).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return call


def test_a_tenant_is_queued_once_and_told_what_happens(run: Run, store: Store) -> None:
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        queue_training(connection, "b", "error", ("bread",), "retraining_sensor", "WAPE is 44 %.", datetime.now(UTC))
    said = run("retrain", "--all", "--reason", "new menu").stdout.splitlines()
    assert said[0].startswith("a: queued; trained once the instance runs: daybreak up.")
    assert said[1].startswith("b: is queued already (error: WAPE is 44 %.)")
    found = store.frame(
        "SELECT tenant_id, trigger, reason, requested_by, status FROM ops.retraining_request ORDER BY 1"
    )
    assert list(found["trigger"]) == ["manual", "error"]
    assert found["reason"].iloc[0] == "new menu"
    again = json.loads(run("retrain", "--tenant", "a", "--json").stdout)
    assert again["queued"] == []
    assert [row["status"] for row in again["requests"]] == ["queued"]
    assert len(store.frame("SELECT FROM ops.retraining_request")) == 2


def test_the_list_shows_what_waits_and_what_came_of_it(run: Run, store: Store) -> None:
    for tenant_id in ("a", "b", "c"):
        add_bakery(store, tenant_id)
    assert run("retrain", "--list").stdout.startswith("Nothing is queued")
    now = datetime.now(UTC)
    with store.transaction() as connection:
        queue_training(connection, "a", "error", ("bread", "cake"), "retraining_sensor", "WAPE is 44 %.", now)
        claim_batches(connection, 1, (), now)
        settle_request(connection, "a", "not_improvable", now, batch_id="")
        queue_training(connection, "b", "age", (), "weekly_evaluation", "31 days old.", now)
        queue_training(connection, "c", "age", (), "weekly_evaluation", "Long ago.", now)
        connection.execute(
            "UPDATE ops.retraining_request SET status = 'failed', completed_at = %s WHERE tenant_id = 'c'",
            (now - timedelta(days=31),),
        )
    lines = run("retrain", "--list").stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("b: queued, age since ")
    assert lines[1].startswith("a: completed (not_improvable), error since ")
    assert lines[1].endswith("WAPE is 44 %. Products: bread, cake.")
    shown = json.loads(run("retrain", "--list", "--tenant", "a", "--json").stdout)["requests"]
    assert [(row["tenant_id"], row["outcome"], row["product_ids"]) for row in shown] == [
        ("a", "not_improvable", ["bread", "cake"])
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        ((), 2, "--tenant"),
        (("--list", "--wait"), 2, "not both"),
        (("--tenant", "nobody"), 3, "no tenant nobody"),
        (("--tenant", "a", "--reason", " "), 3, "reason is empty"),
        (("--tenant", "a", "--wait"), 4, "daybreak models train --tenant a"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_remedy(
    run: Run, store: Store, arguments: tuple[str, ...], exit_code: int, says: str
) -> None:
    add_bakery(store, "a")
    assert says in run("retrain", *arguments, expect=exit_code).output
    assert store.frame("SELECT FROM ops.retraining_request").empty
