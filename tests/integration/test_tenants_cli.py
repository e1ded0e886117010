"""The commands for tenants, imports and the sample, run as a person runs them, against a real database."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from resources.imports.contracts import KINDS
from resources.store.database import Store


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line against a fresh database and home."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DEFAULT_TIMEZONE", raising=False)

    def invoke(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return invoke


BERLIN = ("--timezone", "Europe/Berlin", "--country", "DE", "--subdivision", "BW")


def test_a_tenant_is_added_listed_and_shown(run: Any, tmp_path: Path) -> None:
    assert "Added tenant krume" in run("tenant", "add", "krume", *BERLIN, "--name", "Krume").output
    (one,) = json.loads(run("tenant", "list", "--json").output)
    assert (one["tenant_id"], one["timezone"], one["subdivision"]) == ("krume", "Europe/Berlin", "BW")
    shown = json.loads(run("tenant", "show", "krume", "--json").output)
    assert [location["location_id"] for location in shown["locations"]] == ["main"]
    assert "Krume" in run("tenant", "list").output
    assert "location" in run("tenant", "show", "krume").output
    assert json.loads((tmp_path / "home" / "fleet.json").read_text())["zones"] == ["Europe/Berlin"]


def test_without_a_time_zone_the_default_is_used_with_a_warning(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("tenant", "add", "pan", "--country", "ES")
    assert "Could not fetch tenant timezone" in result.stderr
    monkeypatch.setenv("DEFAULT_TIMEZONE", "Atlantic/Canary")
    run("tenant", "add", "gofio", "--country", "ES", "--no-location")
    zones = {one["tenant_id"]: one["timezone"] for one in json.loads(run("tenant", "list", "--json").output)}
    assert zones == {"pan": "Europe/Madrid", "gofio": "Atlantic/Canary"}
    assert json.loads(run("tenant", "show", "gofio", "--json").output)["locations"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "--timezone", "Europe/Berln", "--country", "DE"), "did you mean Europe/Berlin"),
        (("x", "--timezone", "Calcutta", "--country", "IN"), "Asia/Calcutta"),
        (("x", "--timezone", "Europe", "--country", "DE"), "no time zone"),
        (("x", "--timezone", "Europe/Berlin", "--country", "XX"), "no country code"),
        (("x", "--timezone", "Europe/Berlin", "--country", "DE", "--subdivision", "BX"), "subdivision of DE"),
        (("Krume!", "--timezone", "Europe/Berlin", "--country", "DE"), "no id"),
        (("x", "--timezone", "Europe/Berlin", "--country", "DE", "--parent", "nobody"), "no tenant 'nobody'"),
        (("x", "--timezone", "Europe/Berlin", "--country", "DE", "--currency", "Euro"), "currency"),
    ],
)
def test_a_tenant_that_cannot_be_is_refused_with_the_remedy(run: Any, arguments: tuple[str, ...], words: str) -> None:
    output = run("tenant", "add", *arguments, expect=3).output
    assert words in output
    assert "Remedy" in output
    assert json.loads(run("tenant", "list", "--json").output) == []


def test_a_parent_is_of_tier_enterprise(run: Any) -> None:
    run("tenant", "add", "chain", *BERLIN, "--tier", "enterprise")
    run("tenant", "add", "shop", *BERLIN, "--parent", "chain")
    assert "tier enterprise" in run("tenant", "add", "kiosk", *BERLIN, "--parent", "shop", expect=3).output
    assert "already" in run("tenant", "add", "shop", *BERLIN, expect=3).output


def test_a_tenant_is_suspended_and_resumed(run: Any, tmp_path: Path) -> None:
    run("tenant", "add", "krume", *BERLIN)
    assert "now suspended" in run("tenant", "suspend", "krume").output
    assert json.loads((tmp_path / "home" / "fleet.json").read_text())["zones"] == []
    assert json.loads(run("tenant", "list", "--status", "active", "--json").output) == []
    assert json.loads(run("tenant", "suspend", "krume", "--json").output)["is_changed"] is False
    assert "now active" in run("tenant", "resume", "krume").output
    assert "did you mean krume" in run("tenant", "suspend", "krumme", expect=3).output


def test_files_are_imported_refused_and_quarantined(run: Any, tmp_path: Path) -> None:
    run("tenant", "add", "krume", *BERLIN)
    file = tmp_path / "sales.csv"
    bad = "".join(f"main,brezel,2024-01-{day:02d},x\n" for day in range(1, 26))
    file.write_text("location_id,product_id,business_date,quantity_units\nmain,brezel,2024-02-01,40\n" + bad)
    arguments = ("import", "sales", str(file), "--tenant", "krume")
    refused = run(*arguments, "--create-products", expect=3)
    assert "row 3, quantity_units 'x': not a number" in refused.stderr
    assert "row 22," in refused.stderr
    assert "row 23," not in refused.stderr
    assert "5 more" in refused.stderr
    report = json.loads(run(*arguments, "--create-products", "--json", expect=3).output)
    assert (report["status"], report["problem_count"], len(report["problems"])) == ("refused", 25, 25)
    kept = json.loads(run(*arguments, "--create-products", "--keep-good", "--json").output)
    assert (kept["rows_written"], kept["rows_quarantined"], kept["created"]) == (1, 25, {"product": ["brezel"]})
    assert "row 3, quantity_units 'x'" in run("quarantine", "list", "--tenant", "krume").output
    listed = json.loads(run("quarantine", "list", "--tenant", "krume", "--json").output)
    assert len(listed) == 25
    file.write_text("location_id,product_id,business_date,quantity_units\nmain,brezel,2024-02-02,41\n")
    assert "1 rows written" in run(*arguments).output
    assert "nothing to do" in run(*arguments).output


def test_an_import_on_a_terminal_shows_its_progress(run: Any, tmp_path: Path) -> None:
    run("tenant", "add", "krume", *BERLIN)
    file = tmp_path / "sales.csv"
    file.write_text("location_id,product_id,business_date,quantity_units\nmain,brezel,2024-02-01,40\n")
    command = [sys.executable, "-c", "from daybreak.cli import main; main()", "import", "sales", str(file)]
    terminal, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*command, "--tenant", "krume", "--create-products"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm"},
            timeout=60,
            check=True,
        )
        shown = os.read(terminal, 100_000)
    finally:
        os.close(theirs)
        os.close(terminal)
    assert b"1 rows written" in done.stdout
    assert b"reading" in shown or b"writing" in shown


def test_an_import_for_nobody_or_of_nothing_is_refused(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "none.csv"
    assert "no tenant" in run("import", "sales", str(file), "--tenant", "nobody", expect=3).output
    run("tenant", "add", "krume", *BERLIN)
    assert "No such file" in run("import", "sales", str(file), "--tenant", "krume", expect=3).output
    assert "'sale' is not one of" in run("import", "sale", str(file), "--tenant", "krume", expect=2).output


def test_the_sample_loads_and_loading_it_again_changes_nothing(run: Any) -> None:
    first = json.loads(run("sample", "--tenants", "2", "--days", "20", "--json").output)
    assert first["is_synthetic"] is True
    assert first["sales_rows"] > 1_000
    again = json.loads(run("sample", "--tenants", "2", "--days", "20", "--json").output)
    assert again["sales_rows"] == first["sales_rows"]
    for one in json.loads(run("tenant", "list", "--json").output):
        assert one["is_synthetic"] is True
        assert "(synthetic)" in one["name"]
    run("tenant", "add", "krume", *BERLIN)
    assert len(json.loads(run("tenant", "list", "--json").output)) == 3


def test_a_tenant_is_changed_and_its_plans_are_then_out_of_date(run: Any, store: Store) -> None:
    run("tenant", "add", "krume", *BERLIN)
    run("settings", "schedule-group", "early", "--production", "03:00", "--procurement", "03:30")
    run("tenant", "set", "krume", "--schedule-group", "early", "--timezone", "Asia/Kolkata", "--no-auto-approve")
    shown = json.loads(run("tenant", "show", "krume", "--json").output)
    assert (shown["schedule_group"], shown["timezone"], shown["auto_approve"]) == ("early", "Asia/Kolkata", False)
    versions = store.frame("SELECT version FROM ops.input_version WHERE tenant_id = 'krume' AND input = 'settings'")
    assert versions["version"].tolist() == [1]
    assert "as it was" in run("tenant", "set", "krume", "--schedule-group", "early").output
    groups = json.loads(run("settings", "schedule-group", "--json").output)
    assert groups["early"]["production_planning_at"] == "03:00:00"
    assert groups["early"]["forecast_validation_at"] == "08:00:00"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        (("tenant", "set", "krume", "--schedule-group", "erly"), 3, "no schedule group"),
        (("tenant", "set", "krume", "--timezone", "Mars/Olympus"), 3, "no time zone"),
        (("tenant", "set", "krume", "--default-critical-ratio", "1.5"), 3, "between 0 and 1"),
        (("tenant", "set", "krume"), 2, "Give what to change"),
        (("tenant", "set", "krme", "--name", "x"), 3, "did you mean krume"),
        (("settings", "schedule-group", "late", "--production", "07:00"), 3, "not later"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_the_remedy(
    run: Any, arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    run("tenant", "add", "krume", *BERLIN)
    assert words in run(*arguments, expect=exit_code).output


def test_the_help_of_import_names_every_kind() -> None:
    said = CliRunner().invoke(main, ["import", "--help"]).stdout
    named = " ".join(said.split()).replace("- ", "-").split("Kinds: ")[1].split(". ")[0]
    assert named.split(", ") == list(KINDS)
