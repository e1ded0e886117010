"""`daybreak plan`, `validate` and `settings` as a person runs them, without a running instance, on a real database."""

import json
import logging
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


def asking_bakery(store: Store, tenant_id: str) -> None:
    """A tenant that approves its purchases by hand, with an oven for four batches, a mixer for 12 kg and flour in stock."""
    bakery(store, tenant_id)
    statements = f"""
        UPDATE master.tenant SET auto_approve = false, timezone = 'Etc/GMT+12' WHERE tenant_id = '{tenant_id}';
        UPDATE master.product SET batch_size_units = 10;
        INSERT INTO master.resource VALUES ('{tenant_id}', 'oven', 'main', 'Oven', 'oven', 4, 'trays', '02:00'),
            ('{tenant_id}', 'mixer', 'main', 'Mixer', 'mixer', 12, 'kg', '00:00');
        INSERT INTO master.process_step VALUES ('{tenant_id}', 'bread', 1, 'oven', NULL, 30, 1, 10),
            ('{tenant_id}', 'dough', 1, 'mixer', NULL, 15, 1, 60);
        UPDATE master.supplier SET order_cutoff_at = '23:59:59';
    """  # noqa: S608
    with store.transaction() as connection:
        for statement in statements.split(";")[:-1]:
            connection.execute(statement)  # type: ignore[arg-type]
        connection.execute(
            "INSERT INTO facts.stock_lot VALUES (%s, 'main', 'flour', %s, 'L1', 30, NULL, NULL, 1.1)",
            (tenant_id, asking_day()),
        )


def asking_day() -> date:
    """The date where the asking bakery is: behind all others, so that no test meets its midnight."""
    return datetime.now(ZoneInfo("Etc/GMT+12")).date()


def test_a_plan_goes_through_rejection_regeneration_and_approval(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking_bakery(store, "a")
    day = str(asking_day())
    run("plan", "run", "--tenant", "a")
    shown = run("plan", "show", "--tenant", "a").stdout
    assert "Purchases at main: revision 1 pending, version 1" in shown
    assert "Doughs, by the time of mixing" in shown
    assert "1 of 3" in shown
    assert max(map(len, shown.splitlines())) <= 128
    sheet = json.loads(run("plan", "show", "--tenant", "a", "--json").stdout)
    bread = next(line for line in sheet["production"] if line["product_id"] == "bread")
    assert len(bread["batch_bakes_at"]) == bread["batches"] > 0
    assert sheet["doughs"][0]["run_quantities"] == [12.0, 12.0, 12.0]
    line_id = sheet["purchases"][0]["line_id"]
    assert line_id[:8] in shown

    decide = ("--tenant", "a", "--by", "ana")
    said = run("plan", "reject", *decide, "--notes", "The count is Outdated").stdout
    assert f"{day} main: revision 1 pending -> rejected by ana (version 2)" in said
    assert f"Auto-regenerating plan of a for {day}, attempt 1 of 3." in said
    assert f"{day}: 1 tenants done" in said, "without a running instance it is made again at once"

    conflict = run("plan", "approve", *decide, "--version", "1", expect=3)
    assert "has changed meanwhile: revision 2 was made at" in conflict.stderr
    assert "version 3, not 1" in conflict.stderr
    with store.transaction() as connection:
        connection.execute("UPDATE plans.plan SET created_at = created_at - interval '30 hours'")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as outside of pytest, where nobody takes what is logged
    late = run("plan", "approve", *decide, "--version", "3")
    assert late.stderr.count("older than 24 hours") == 1, "it is said once"
    assert "revision 2 pending -> approved by ana (version 4); 1 lines ordered" in late.stdout
    assert "Warning: Approving plan older than 24 hours: revision 2 at main" in late.stderr
    assert "is approved by ana" in run("plan", "reject", *decide, "--reason", "price", expect=3).stderr
    assert "approved -> sent" in run("plan", "sent", *decide).stdout

    told = run("plan", "history", "--tenant", "a").stdout
    assert max(map(len, told.splitlines())) <= 128
    for words in (
        "superseded, rejected",
        "regenerated from 1",
        "Outdated",
        "attempt 1 of 3",
        "warning: Approving plan",
    ):
        assert words in " ".join(told.split()), words
    history = json.loads(run("plan", "history", "--tenant", "a", "--json").stdout)
    assert [row["action"] for row in history["decisions"]] == ["reject", "regenerate", "approve", "send"]
    revisions = [row for row in history["revisions"] if row["kind"] == "procurement"]
    assert [row["state"] for row in revisions] == ["superseded", "sent"]
    assert revisions[1]["regenerated_from"] == revisions[0]["plan_id"]
    assert revisions[1]["lines_changed"] == 0


def test_any_other_rejection_waits_for_a_person(run: Run, store: Store) -> None:
    asking_bakery(store, "a")
    run("plan", "run", "--tenant", "a")
    decision = json.loads(run("plan", "reject", "--tenant", "a", "--reason", "budget", "--json").stdout)
    assert (decision["action"], decision["regeneration"], decision["runs"]) == ("reject", None, [])
    assert store.frame("SELECT max(revision) AS n FROM plans.plan")["n"].item() == 1
    assert "make it again: daybreak plan run" in run("plan", "approve", "--tenant", "a", expect=3).stderr


def test_an_override_is_followed_by_everything_below_it_until_the_inputs_change(run: Run, store: Store) -> None:
    asking_bakery(store, "a")
    run("plan", "run", "--tenant", "a")

    def bread() -> dict[str, object]:
        sheet = json.loads(run("plan", "show", "--tenant", "a", "--json").stdout)
        line = next(line for line in sheet["production"] if line["product_id"] == "bread")
        return {**line, "dough": sheet["doughs"][0]["quantity"], "codes": {row["code"] for row in sheet["exceptions"]}}

    recommended = bread()
    arguments = ("--tenant", "a", "--product", "bread", "--reason", "school trip", "--by", "ana")
    said = run("plan", "override", "production", *arguments, "--batches", "7").stdout
    assert "Set override 1: 7 batches of bread at main" in said
    overridden = bread()
    assert (overridden["batches"], overridden["limited_by"], overridden["override_by"]) == (7, "override", "ana")
    assert overridden["recommended_batches"] == recommended["batches"] != 7
    assert overridden["dough"] == 63, "0.9 kg for each of 70 loaves"

    run("plan", "run", "--tenant", "a", "--force")
    again = bread()
    assert (again["batches"], again["override_reason"]) == (7, "school trip"), (
        "it survives planning the same inputs again"
    )
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", asking_day() - timedelta(days=1), 23.0)], source="till-2")
    run("plan", "run", "--tenant", "a")
    lapsed = bread()
    assert lapsed["override_by"] is None
    assert "override_lapsed" in lapsed["codes"]  # type: ignore[operator]
    listed = json.loads(run("plan", "override", "list", "--tenant", "a", "--json").stdout)["overrides"]
    assert [(row["amount"], row["state"]) for row in listed] == [(7, "lapsed")]

    said = run("plan", "override", "production", *arguments, "--batches", "2").stdout
    assert "in place of 7" in said
    assert bread()["batches"] == 2
    run("plan", "override", "withdraw", "2", "--tenant", "a", "--by", "ben")
    assert bread()["override_by"] is None
    assert "withdrawn" in run("plan", "override", "list", "--tenant", "a").stdout


def test_a_purchase_override_fixes_the_packs_of_its_delivery(run: Run, store: Store) -> None:
    asking_bakery(store, "a")
    run("plan", "run", "--tenant", "a")

    def lines() -> dict[str, dict[str, object]]:
        sheet = json.loads(run("plan", "show", "--tenant", "a", "--json").stdout)
        return {line["delivery_on"]: line for line in sheet["purchases"]}

    before = lines()
    delivery = sorted(before)[1]
    arguments = ("--tenant", "a", "--item", "flour", "--supplier", "mill", "--reason", "cheap now", "--by", "ana")
    run("plan", "override", "purchase", *arguments, "--delivery", delivery, "--packs", "6")
    after = lines()
    assert (after[delivery]["packs"], after[delivery]["override_by"]) == (6, "ana")
    assert after[delivery]["recommended_packs"] == before[delivery]["packs"]
    assert sum(int(str(line["packs"])) for line in after.values()) <= 6 + sum(
        int(str(line["packs"])) for line in before.values()
    )


def test_a_purchase_override_that_the_plan_cannot_take_fails_in_words(run: Run, store: Store) -> None:
    asking_bakery(store, "a")
    delivery = asking_day() + timedelta(days=3)
    with store.transaction() as connection:
        connection.execute(
            "UPDATE master.supplier SET delivery_weekdays = %s",
            ([day for day in range(7) if day != delivery.weekday()],),
        )
    run("plan", "run", "--tenant", "a")
    arguments = ("--tenant", "a", "--item", "flour", "--supplier", "mill", "--reason", "cheap", "--by", "ana")
    none = ("plan", "override", "purchase", *arguments, "--packs", "6", "--delivery", str(delivery))
    said = run(*none, expect=1)
    assert "Set override 1: 6 packs of flour at main" in said.stdout
    assert f"Not taken: ana fixed 6 packs of flour from mill for {delivery}, but mill cannot deliver" in said.stderr
    assert "Remedy: Withdraw the override" in said.stderr
    assert "daybreak plan override withdraw 1 --tenant a" in said.stderr
    answer = json.loads(run(*none, "--json", expect=1).stdout)
    assert (answer["override_id"], answer["is_taken"]) == (2, False)
    assert [row["code"] for row in answer["exceptions"]] == ["override_not_applicable"]
    assert answer["runs"][0]["status"] == "SUCCESS"

    other = (
        "plan",
        "override",
        "purchase",
        *arguments,
        "--packs",
        "6",
        "--delivery",
        str(delivery + timedelta(days=1)),
    )
    taken = json.loads(run(*other, "--json").stdout)
    assert (taken["is_taken"], taken["exceptions"]) == (True, []), "the other delivery's override is not its own"
    assert "Not taken" not in run("plan", "override", "withdraw", "2", "--tenant", "a", "--by", "ana").stderr


def test_what_is_down_on_the_day_is_told_at_the_top_of_its_sheet(run: Run, store: Store) -> None:
    asking_bakery(store, "a")
    day = asking_day()
    with store.transaction() as connection:
        connection.cursor().executemany(
            "INSERT INTO master.resource_calendar (tenant_id, resource_id, on_date, from_at, until_at, capacity, reason)"
            " VALUES ('a', %s, %s, %s, %s, %s, %s)",
            [
                ("oven", day, "04:00", "12:00", 0, "burner [gas]"),
                ("oven", day, "20:00", None, 2, ""),
                ("mixer", day, "01:00", "02:00", 12, "as usual"),
                ("mixer", day + timedelta(days=1), "01:00", "02:00", 0, "tomorrow"),
            ],
        )
    run("plan", "run", "--tenant", "a")
    shown = run("plan", "show", "--tenant", "a").stdout.strip().splitlines()
    assert shown[1:3] == [
        "oven is down (capacity 0 of 4) 04:00 to 12:00: burner [gas]",
        "oven has less room (capacity 2 of 4) 20:00 to 24:00",
    ]
    assert "mixer is" not in "".join(shown)
    assert "mixer has" not in "".join(shown)
    downtimes = json.loads(run("plan", "show", "--tenant", "a", "--json").stdout)["downtimes"]
    assert [(row["resource_id"], row["from_at"], row["until_at"], row["capacity"]) for row in downtimes] == [
        ("oven", "04:00:00", "12:00:00", 0),
        ("oven", "20:00:00", None, 2),
    ]


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
    (figures,) = day["validations"]
    assert figures["wape_pct"] == 0
    assert (figures["trailing_wape_pct"], figures["trailing_days"]) == (None, 1)
    assert (figures["best_products"][0]["wape_pct"], figures["checks"]) == (0, [])
    said = run("validate", "--tenant", "a").stdout
    assert "a: WAPE 0.0 %" in said
    assert "actuals of 100 % of forecasts" in said
    assert "best: " in said


def test_a_day_that_is_not_over_is_not_scored_and_leaves_no_mark_on_its_plan(run: Run, store: Store) -> None:
    bakery(store, "a")
    run("plan", "run", "--tenant", "a")
    said = run("validate", "--tenant", "a", "--date", str(today()), expect=3)
    assert f"{today()} is not over for a. Remedy: validate it when it is" in said.stderr
    assert store.frame("SELECT FROM ops.failure").empty
    assert "Not " not in run("plan", "show", "--tenant", "a").stdout

    # One that a run was asked for, as in the web UI, is kept; it is no fault of the plan.
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO ops.failure (tenant_id, workflow, plan_date, link, reason, remedy, run_id, failed_at) VALUES"
            " ('a', 'forecast_validation', %s, 'validation_metrics', 'The day is not over.', 'Wait.', 'r', now())",
            (today(),),
        )
    shown = run("plan", "show", "--tenant", "a").stdout
    assert "Not validated: The day is not over. Remedy: Wait." in shown
    assert "Not complete" not in shown


def test_of_several_tenants_those_whose_day_is_over_are_scored(run: Run, store: Store) -> None:
    for tenant_id in ("a", "behind"):
        bakery(store, tenant_id)
    day = asking_day()
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Etc/GMT+12' WHERE tenant_id = 'behind'")
        connection.execute("UPDATE master.tenant SET timezone = 'Pacific/Kiritimati' WHERE tenant_id = 'a'")
    run("plan", "run", "--all", "--date", str(day))
    said = run("validate", "--all", "--date", str(day), expect=1)
    assert f"{day} is not over for behind." in said.stderr
    assert "1 tenants done, 0 failed" in said.stdout


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
        (("plan", "approve", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "approve"), 2, "--tenant"),
        (("plan", "reject", "--tenant", "nobody", "--reason", "dislike"), 2, "stale_data"),
        (("plan", "override", "list", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "override", "withdraw", "1", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "history", "--tenant", "nobody"), 3, "no tenant nobody"),
        (("plan", "bake"), 2, "bake"),
        (("settings", "set", "colour", "blue"), 2, "colour"),
        (("settings", "set", "error-measure", "smape"), 3, "wape or mape"),
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
    for command in ("show", "approve", "reject", "sent", "history"):
        assert "daybreak plan run --tenant a" in run("plan", command, "--tenant", "a", expect=3).stderr
    override = ("plan", "override", "production", "--tenant", "a", "--product", "bread", "--batches", "1")
    assert "daybreak plan run --tenant a" in run(*override, "--reason", "x", expect=3).stderr
    run("tenant", "suspend", "a")
    assert "daybreak tenant resume a" in run("plan", "run", "--tenant", "a", expect=3).stderr


def test_a_day_outside_the_window_is_refused_until_the_window_is_moved(run: Run, store: Store, tmp_path: Path) -> None:
    bakery(store, "a")
    past = today() - timedelta(days=500)
    said = run("plan", "run", "--tenant", "a", "--date", past.isoformat(), expect=3)
    assert "daybreak settings set partitions-start" in said.stderr
    assert f"partitions-start is {past}" in run("settings", "set", "partitions-start", past.isoformat()).stdout
    shown = json.loads(run("settings", "show", "--json").stdout)
    assert shown == {"partitions-start": past.isoformat(), "error-measure": "wape", "time-zones": [ZONE]}
    run("settings", "set", "error-measure", "mape")
    assert json.loads(run("settings", "show", "--json").stdout)["error-measure"] == "mape"
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


@pytest.mark.parametrize(
    "command", [("plan", "--help"), ("plan", "override", "--help"), ("plan", "run", "--help"), ("validate", "--help")]
)
def test_help_of_a_command_does_not_import_dagster(command: tuple[str, ...]) -> None:
    script = (
        "import sys; from daybreak.cli import main\n"
        f"try: main({list(command)!r})\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('dagster', 'pandas') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
