"""`daybreak models` as a person runs it, without a running instance, on a real database."""

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from daybreak.instance import dagster_environment
from resources.store import models
from resources.store.database import Store
from tests.integration.store_bakery import add_bakery, add_sales
from tests.integration.test_store_models import cause, challenger, serve

Run = Callable[..., Result]


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line against a fresh database and home; the environment that it sets is taken back afterwards."""
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    for name, value in dagster_environment(dsn).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return call


def bakery(store: Store, tenant_id: str, days: int) -> None:
    """A tenant with sales until yesterday that follow the weekday."""
    add_bakery(store, tenant_id)
    today = datetime.now(ZoneInfo("Europe/Madrid")).date()
    random = np.random.default_rng(7)
    rows = []
    for n in range(1, days + 1):
        day = today - timedelta(days=n)
        for location, product, units in (("main", "bread", 40), ("main", "cake", 15), ("kiosk", "bread", 25)):
            level = units * (0.8 + day.weekday() / 6) * (1 + 0.3 * np.sin(n / 25))
            rows.append((location, product, day, float(random.poisson(level))))
    with store.transaction() as connection:
        connection.execute(
            "SELECT ops.ensure_partitions('facts.sales', %s::date, %s::date, '1 year')",
            (date(today.year - 1, 1, 1), date(today.year, 12, 31)),
        )
        add_sales(connection, tenant_id, rows)


def test_models_are_trained_listed_and_shown(run: Run, store: Store, tmp_path: Path) -> None:
    bakery(store, "a", days=130)
    bakery(store, "young", days=30)
    trained = json.loads(run("models", "train", "--all", "--json").stdout)
    assert trained["status"] == "SUCCESS"
    by_tenant = {outcome["tenant_id"]: outcome for outcome in trained["tenants"]}
    assert by_tenant["a"]["version"] == 1
    assert by_tenant["a"]["action"] in ("promoted", "not_improvable")
    assert by_tenant["young"]["action"] == "skipped"
    assert "90" in by_tenant["young"]["reason"]

    (listed,) = json.loads(run("models", "list", "--json").stdout)["models"]
    assert (listed["tenant_id"], listed["label"]) == ("a", "boosting@v1")
    text = run("models", "list").stdout
    assert "boosting@v1" in text
    assert "young: no model, the rules serve" in text

    shown = json.loads(run("models", "show", "--tenant", "a", "--json").stdout)
    assert {measured["candidate"] for measured in shown["backtest"]} >= {"boosting", "seasonal_naive"}
    assert shown["spread"]["levels"]
    assert shown["decisions"][0]["reason"] == by_tenant["a"]["reason"] == shown["decision"]
    printed = run("models", "show", "--tenant", "a").stdout
    for words in ("seasonal_naive", "Residual table", "Parameters", "CPU seconds", "WAPE"):
        assert words in printed
    refused = run("models", "show", "--tenant", "young", expect=3).stderr
    assert by_tenant["young"]["reason"] in refused
    assert refused.count("Remedy") == 1
    again = run("models", "train", "--tenant", "young").stdout
    assert "young: not trained." in again
    assert "1 tenants done, 0 failed" in again


def test_a_tenant_that_fails_is_named_with_exit_code_one(run: Run, store: Store) -> None:
    for tenant_id in ("good", "broken"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Mars/Olympus' WHERE tenant_id = 'broken'")
    said = run("models", "train", "--all", expect=1)
    assert "broken: failed." in said.stderr
    assert "Mars/Olympus" in said.stderr
    assert "good: not trained." in said.stdout
    trained = json.loads(run("models", "train", "--all", "--json", expect=1).stdout)
    assert {outcome["tenant_id"]: outcome["action"] for outcome in trained["tenants"]} == {
        "broken": "failed",
        "good": "skipped",
    }


def test_a_rollback_says_what_serves_and_how_to_plan_again(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    serve(store, challenger(), minutes=1)
    said = run("models", "rollback", "--tenant", "a", "--reason", "too many baguettes").stdout
    assert "boosting@v1 serves now, in place of boosting@v2" in said
    assert "daybreak plan run --tenant a" in said
    back = json.loads(run("models", "rollback", "--tenant", "a", "--version", "2", "--reason", "no", "--json").stdout)
    assert back == {"tenant_id": "a", "version": 2, "previous_version": 1}
    shown = run("models", "show", "--tenant", "a").stdout
    assert "Rolled back by hand: too many baguettes" in shown
    run("models", "rollback", "--tenant", "a", "--reason", "again")
    assert "the rules serve" not in run("models", "list").stdout
    assert "the rules serve now" in run("models", "rollback", "--tenant", "a", "--reason", "rules").stdout
    assert "a: the rules serve\n" in run("models", "list").stdout


def test_an_artefact_that_is_gone_is_refused(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    for minutes in range(4):
        serve(store, challenger(), minutes)
    said = run("models", "rollback", "--tenant", "a", "--version", "1", "--reason", "x", expect=3)
    assert "only 3 are kept" in said.stderr
    assert "Remedy" in said.stderr
    assert "artefact not kept" in run("models", "list", "--tenant", "a").stdout
    with store.transaction() as connection:
        assert models.serving_version(connection, "a") == 4


def test_a_challenger_that_was_not_promoted_is_shown_with_its_reason(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        version = models.register(
            connection, challenger(), cause(0, "Triggered, not improvable: x"), parent_version=None
        )
        models.reject(connection, "a", version, cause(0, "Triggered, not improvable: x"))
    assert "Triggered, not improvable" in run("models", "show", "--tenant", "a").stdout
    assert "challenger" in run("models", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("models", "train"), 2, "--tenant"),
        (("models", "train", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("models", "list", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("models", "show", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("models", "show", "--tenant", "a", "--version", "7"), 3, "no version 7"),
        (("models", "show", "--tenant", "a", "--version", "0"), 2, "0"),
        (("models", "rollback", "--tenant", "a"), 2, "--reason"),
        (("models", "rollback", "--tenant", "a", "--reason", " "), 3, "reason is empty"),
        (("models", "rollback", "--tenant", "a", "--version", "9", "--reason", "x"), 3, "no version 9"),
        (("models", "rollback", "--tenant", "nobody", "--reason", "x"), 3, "no tenant nobody"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    run: Run, store: Store, arguments: tuple[str, ...], code: int, says: str
) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    said = run(*arguments, expect=code)
    assert says in said.stderr
    assert said.stdout == ""
    if code != 2:
        assert "Remedy" in said.stderr
