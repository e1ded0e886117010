"""`daybreak outcomes` as a person runs it, without a running instance, on a real database."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from daybreak.instance import dagster_environment
from planning.outcomes import PARTS, judge
from resources.store.database import Store
from resources.store.outcomes import write_outcomes
from resources.store.plans import plan_id_of, write_production
from tests.integration.store_bakery import DAY, NO_EXCEPTIONS, NOW, add_bakery, context, production_lines

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


def judged(on: date, product_id: str, demand: float, **facts: object) -> pd.DataFrame:
    """A day of which 120 units in batches of 24 were made, at Cu 1.2 and Co 0.5."""
    line = {
        "tenant_id": "a", "location_id": "main", "product_id": product_id,
        "plan_id": str(plan_id_of("a", "production", "main", on, 1)), "is_replayed": False, "limited_by": "batch",
        "orders_units": 0.0, "optimal_units": 113.0, "opening_usable_units": 0.0, "batch_size_units": 24.0,
        "quantity_units": 120.0, "unlimited_batches": 5.0, "recommended_batches": 5.0, "critical_ratio": 0.7,
        "is_default_critical_ratio": False, "unit_price": 1.7, "variable_cost": 0.5, "salvage_value": 0.0,
        "goodwill_cost": 0.0, "shelf_life_days": 1.0, "batch_min": 0, "batch_multiple": 1, "batch_max_per_day": np.nan,
        **facts,
    }  # fmt: skip
    actual = {"sold_units": demand, "demand_units": demand, "is_censored": demand > 120, "is_known": True}
    actuals = pd.DataFrame([{**{name: line[name] for name in ("tenant_id", "location_id", "product_id")}, **actual}])
    return judge(pd.DataFrame([line]), actuals)


def keep(store: Store, on: date, *rows: pd.DataFrame) -> None:
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO quality.validation (tenant_id, business_date, sales_version, run_id, validated_at)"
            " VALUES ('a', %s, 1, 'run-1', %s)",
            (on, NOW),
        )
        write_outcomes(connection, on, pd.concat(rows, ignore_index=True), ["a"])


def test_products_are_told_by_the_money_they_lost_with_a_total(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    keep(store, DAY, judged(DAY, "cake", 101), judged(DAY, "bread", 150))
    later = DAY + timedelta(days=1)
    keep(store, later, judged(later, "bread", 120))
    said = json.loads(run("outcomes", "--tenant", "a", "--json").stdout)
    assert (said["currency"], said["from"], said["to"], said["days"]) == ("EUR", "2026-03-02", "2026-03-03", 2)
    bread, cake = said["products"]
    assert (bread["product_id"], bread["name"], bread["days"], bread["days_censored"]) == ("bread", "Bread", 2, 1)
    # 150 asked for: 120 made cost 36, 144 would have cost 7.2.
    assert (bread["cost"], bread["regret"]) == (pytest.approx(36.0), pytest.approx(28.8))
    assert (cake["cost"], cake["regret"]) == (pytest.approx(9.5), pytest.approx(3.5))
    assert bread["service_pct"] == 50
    assert bread["critical_ratio_pct"] == pytest.approx(100 * 1.2 / 1.7)
    assert said["total"]["cost"] == pytest.approx(45.5)
    assert sum(said["total"][part] for part in PARTS) == pytest.approx(said["total"]["regret"])

    printed = run("outcomes", "--tenant", "a").stdout
    assert printed.index("Bread") < printed.index("Cake") < printed.index("All")
    assert "45.50" in printed
    assert "32.30" in printed
    assert "On 1 sold-out days demand is an estimate" in printed

    only = json.loads(run("outcomes", "--tenant", "a", "--from", str(later), "--to", str(later), "--json").stdout)
    assert [row["product_id"] for row in only["products"]] == ["bread"]
    assert only["total"]["regret"] == 0


def test_products_without_costs_are_told_apart_from_money(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    unpriced = judged(DAY, "cake", 101, unit_price=np.nan, is_default_critical_ratio=True)
    keep(store, DAY, judged(DAY, "bread", 101), unpriced)
    said = json.loads(run("outcomes", "--tenant", "a", "--json").stdout)
    cake = next(row for row in said["products"] if row["product_id"] == "cake")
    assert (cake["has_costs"], cake["cost"]) == (False, None)
    assert cake["shares"]["cost"] == pytest.approx(0.3 * 19)
    assert said["total"]["cost"] == pytest.approx(9.5)
    printed = run("outcomes", "--tenant", "a").stdout
    assert "Cake: no costs were known" in printed
    assert "import its unit_price and variable_cost" in printed


def test_costs_that_ask_for_something_else_than_what_happens_are_pointed_at(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    for n in range(14):
        on = DAY + timedelta(days=n)
        keep(store, on, judged(on, "bread", 100))
    assert (
        json.loads(run("outcomes", "--tenant", "a", "--json").stdout)["products"][0]["calibration"] == "met_too_often"
    )
    assert (
        "Bread: demand was met on 100 % of days, more often than its costs ask for (71 %)"
        in run("outcomes", "--tenant", "a").stdout
    )


def test_where_there_is_nothing_the_next_step_is_named(run: Run, store: Store) -> None:
    add_bakery(store, "a")
    assert "daybreak plan run --tenant a" in run("outcomes", "--tenant", "a", expect=3).stderr
    with store.transaction() as connection:
        write_production(connection, context(connection, ["a"]), production_lines(["a"]), NO_EXCEPTIONS)
    assert "daybreak validate --tenant a --date 2026-03-02" in run("outcomes", "--tenant", "a", expect=3).stderr
    keep(store, DAY, judged(DAY, "bread", 101))
    said = run("outcomes", "--tenant", "a", "--from", "2027-01-01", expect=3).stderr
    assert "choose days from 2026-03-02 to 2026-03-02" in said
    assert "no tenant nobody" in run("outcomes", "--tenant", "nobody", expect=3).stderr
    assert "is after" in run("outcomes", "--tenant", "a", "--from", "2026-03-03", "--to", "2026-03-02", expect=2).stderr
