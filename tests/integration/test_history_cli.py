"""`daybreak history`, run as a person runs it, against a real database."""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from resources.store.database import Store

LAST = date(2025, 4, 22)  # the Tuesday after Easter Monday
DAYS = 40


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line against a database with a bakery in Germany whose bread sold out on some days."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))

    def invoke(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    def take(kind: str, header: str, rows: Sequence[str]) -> None:
        path = tmp_path / f"{kind}.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        invoke("import", kind, str(path), "--tenant", "krume", "--create-products")

    invoke("tenant", "add", "krume", "--timezone", "Europe/Berlin", "--country", "DE", "--subdivision", "BW")
    bread = [f"main,bread,{LAST - timedelta(n)},{20 + n % 5},{'11:30' if n in (0, 14) else ''}" for n in range(DAYS)]
    cake = [f"main,cake,{LAST - timedelta(n)},6," for n in range(DAYS)]
    take("sales", "location_id,product_id,business_date,quantity_units,sold_out_at", [*bread, *cake])
    take(
        "hourly-profile",
        "location_id,product_id,weekday,hour,share",
        [f"main,bread,1,{hour},{share}" for hour, share in ((10, 0.4), (11, 0.4), (15, 0.2))],
    )
    take(
        "events",
        "location_id,product_id,business_date,kind,name",
        [f"main,bread,{LAST},promotion,Offer", f",,{LAST - timedelta(2)},closure,Easter"],
    )
    return invoke


def test_a_series_shows_sales_demand_and_what_kind_of_day_it_was(run: Any) -> None:
    shown = json.loads(
        run(
            "history", "show", "--tenant", "krume", "--product", "bread", "--location", "main", "--days", "15", "--json"
        ).output
    )
    assert (shown["first_on"], shown["last_on"]) == ("2025-04-08", "2025-04-22")
    (series,) = shown["series"]
    by_date = {day["date"]: day for day in series["days"]}
    last = by_date["2025-04-22"]
    assert (last["sales_units"], last["sold_out_at"], last["is_estimated"]) == (20, "11:30", True)
    assert last["demand_units"] == pytest.approx(20 / 0.6, abs=0.01)
    assert last["marks"] == ["sold out 11:30", "estimated", "promotion: Offer"]
    assert by_date["2025-04-21"]["marks"] == ["holiday: Easter Monday"]
    assert by_date["2025-04-21"]["is_open"]
    closed = by_date["2025-04-20"]
    assert (closed["sales_units"], closed["demand_units"], closed["is_open"]) == (None, None, False)
    assert closed["marks"][0] == "closed"


def test_a_person_reads_a_table_and_what_the_sell_outs_cost(run: Any) -> None:
    text = run("history", "show", "--tenant", "krume", "--product", "bread").output
    assert "sold out 11:30; estimated" in text
    assert "2 sell-outs: 44.0 sold, 73.3 demanded." in text
    added_up = run("history", "show", "--tenant", "krume", "--days", "3").output
    assert "2 series of krume, added up" in added_up
    assert "1 sold out; 1 estimated" in added_up


def test_what_is_not_sold_and_a_tenant_without_sales_are_refused_with_the_remedy(run: Any) -> None:
    refused = run("history", "show", "--tenant", "krume", "--product", "brod", expect=3)
    assert "does not sell brod" in refused.output
    assert "bread at main" in refused.output
    run("tenant", "add", "leer", "--timezone", "Europe/Berlin", "--country", "DE")
    assert "daybreak import sales" in run("history", "show", "--tenant", "leer", expect=3).output


def test_rebuild_mends_a_panel_that_no_longer_equals_the_rows(run: Any, store: Store) -> None:
    run("history", "show", "--tenant", "krume")
    with store.transaction() as connection:
        connection.execute(
            "UPDATE facts.demand_panel SET sales_units = '{1}', sold_out_on = '{}', sold_out_minute = '{}'"
        )
    ended = json.loads(run("history", "rebuild", "--all", "--json").output)
    assert (ended["tenants"], ended["series"]) == (1, 2)
    with store.transaction() as connection:
        lengths = connection.execute("SELECT cardinality(sales_units) FROM facts.demand_panel").fetchall()
    assert lengths == [(DAYS,), (DAYS,)]
    assert "Built 2 series of 1 tenant in" in run("history", "rebuild", "--tenant", "krume").output
