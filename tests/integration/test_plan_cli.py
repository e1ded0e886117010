"""`daybreak plan`, `validate` and `settings` as a person runs them, without a running instance, on a real database."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from daybreak.instance import dagster_environment
from resources.store.database import Store
from tests.integration.store_bakery import add_bakery, add_sales

ZONE = "Europe/Madrid"
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


def today() -> date:
    return datetime.now(ZoneInfo(ZONE)).date()


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


def test_a_day_is_planned_shown_left_alone_and_planned_again(run: Run, store: Store) -> None:
    for tenant_id in ("a", "b"):
        bakery(store, tenant_id)
    (first,) = json.loads(run("plan", "run", "--tenant", "a", "--json").stdout)["runs"]
    assert set(first) == {
        *("run_id", "status", "url", "workflow", "date", "completed", "failed", "up_to_date", "seconds")
    }
    assert (first["status"], first["url"], first["date"]) == ("SUCCESS", None, today().isoformat())
    assert (first["completed"], first["failed"], first["up_to_date"]) == (["a"], [], [])

    (second,) = json.loads(run("plan", "run", "--all", "--json").stdout)["runs"]
    assert (second["completed"], second["failed"], second["up_to_date"]) == (["b"], [], ["a"])

    assert f"{today()}: 1 tenants done, 0 failed" in run("plan", "run", "--tenant", "a", "--force").stdout
    revisions = store.frame("SELECT tenant_id, max(revision) AS n FROM plans.plan GROUP BY 1").set_index("tenant_id")
    assert revisions["n"].to_dict() == {"a": 2, "b": 1}

    sheet = json.loads(run("plan", "show", "--tenant", "a", "--json").stdout)
    assert (sheet["tenant_id"], sheet["plan_date"]) == ("a", today().isoformat())
    assert {line["product_id"] for line in sheet["production"]} == {"bread", "cake"}
    assert "NaN" not in json.dumps(sheet)
    printed = run("plan", "show", "--tenant", "a").stdout
    assert "Bread" in printed


def test_a_failing_tenant_is_named_and_the_others_are_planned(run: Run, store: Store) -> None:
    for tenant_id in ("good", "broken"):
        bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Mars/Olympus' WHERE tenant_id = 'broken'")
    arguments = ("plan", "run", "--all", "--date", today().isoformat())
    done = run(*arguments, expect=1)
    assert "1 tenants done, 1 failed" in done.stdout
    assert "broken" in done.stderr
    assert "Mars/Olympus" in done.stderr
    (day,) = json.loads(run(*arguments, "--json", expect=1).stdout)["runs"]
    assert day["status"] == "FAILURE"
    (failure,) = day["failed"]
    assert failure["tenant_id"] == "broken"
    assert "Mars/Olympus" in failure["error"]
    revisions = store.frame("SELECT max(revision) AS n FROM plans.plan WHERE tenant_id = 'good'")
    assert revisions["n"].item() == 1, "it is not planned again"


def test_stored_forecasts_are_scored_and_a_day_without_any_is_a_failure(run: Run, store: Store) -> None:
    bakery(store, "a")
    yesterday = today() - timedelta(days=1)
    said = run("validate", "--tenant", "a", expect=1)
    assert "no forecast" in said.stderr
    run("plan", "run", "--tenant", "a", "--date", yesterday.isoformat())
    (day,) = json.loads(run("validate", "--tenant", "a", "--json").stdout)["runs"]
    assert (day["date"], day["completed"], day["workflow"]) == (yesterday.isoformat(), ["a"], "forecast_validation")
    scored = store.frame("SELECT DISTINCT business_date FROM quality.validation_metric")
    assert list(scored["business_date"]) == [yesterday]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("plan", "run", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "run", "--all"), 3, "no active tenant"),
        (("plan", "run"), 2, "--tenant"),
        (("plan", "run", "--all", "--tenant", "x"), 2, "--tenant"),
        (("plan", "run", "--all", "--date", "2026-02-30"), 2, "2026-02-30"),
        (("plan", "show", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "show"), 2, "--tenant"),
        (("plan", "backfill", "--all", "--from", "2026-01-01", "--to", "2026-01-02"), 4, "daybreak up"),
        (("validate", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "bake"), 2, "bake"),
        (("settings", "set", "colour", "blue"), 2, "colour"),
        (("settings", "set", "partitions-start", "2022-02-30"), 3, "2022-02-30"),
        (("settings", "set", "partitions-start", "2999-01-01"), 3, "future"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    said = run(*arguments, expect=code)
    assert says in said.stderr
    assert said.stdout == ""
    if code != 2:
        assert "Remedy" in said.stderr


def test_a_tenant_without_a_plan_or_not_active_is_told_what_to_do(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    assert "daybreak plan run --tenant a" in run("plan", "show", "--tenant", "a", expect=3).stderr
    run("tenant", "suspend", "a")
    assert "daybreak tenant resume a" in run("plan", "run", "--tenant", "a", expect=3).stderr


def test_a_day_outside_the_window_is_refused_until_the_window_is_moved(run: Run, store: Store, tmp_path: Path) -> None:
    bakery(store, "a")
    past = today() - timedelta(days=500)
    said = run("plan", "run", "--tenant", "a", "--date", past.isoformat(), expect=3)
    assert "daybreak settings set partitions-start" in said.stderr
    assert f"partitions-start is {past}" in run("settings", "set", "partitions-start", past.isoformat()).stdout
    shown = json.loads(run("settings", "show", "--json").stdout)
    assert shown == {"partitions-start": past.isoformat(), "time-zones": [ZONE]}
    assert json.loads((tmp_path / "home" / "fleet.json").read_text()) == {
        "zones": [ZONE],
        "partitions_start": past.isoformat(),
    }
    assert "Already" in run("settings", "publish").stdout
    assert f"{past}: 1 tenants done" in run("plan", "run", "--tenant", "a", "--date", past.isoformat()).stdout
    distant = date(2999, 1, 1)
    assert "outside the partition window" in run("plan", "run", "--all", "--date", str(distant), expect=3).stderr


def test_help_imports_nothing_that_is_slow() -> None:
    script = (
        "import sys; from daybreak.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('dagster', 'pandas', 'numpy', 'psycopg', 'rich', 'httpx') if m in sys.modules))"
    )
    lines = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert lines[-1] == "[]"
    assert any(line.strip().startswith("plan ") for line in lines)


@pytest.mark.parametrize("command", [("plan", "--help"), ("plan", "run", "--help"), ("validate", "--help")])
def test_help_of_a_command_does_not_import_dagster(command: tuple[str, ...]) -> None:
    script = (
        "import sys; from daybreak.cli import main\n"
        f"try: main({list(command)!r})\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('dagster', 'pandas') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
