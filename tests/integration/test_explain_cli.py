"""`daybreak explain` on stored plans: the numbers of a purchase and of a batch, and what is told when there is none."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from daybreak.instance import dagster_environment
from planning.frames import PLAN_DAYS
from resources.store.database import Store
from resources.store.plans import write_forecasts, write_procurement, write_production
from tests.integration.store_bakery import (
    DAY,
    NO_BACKTEST,
    NO_EXCEPTIONS,
    NOW,
    add_bakery,
    context,
    doughs,
    forecasts,
    production_lines,
    purchase_lines,
    requirements,
)

Run = Callable[..., Result]
FLOUR_OF_A_BREAD = 0.9 * 0.6
"""kg, through the dough."""


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


def bread_lines(tenant_ids: list[str]) -> pd.DataFrame:
    """40 breads in 4 batches of 10, of a price and cost that are known, baked one after the other."""
    lines = production_lines(tenant_ids).assign(
        batch_size_units=10.0, batches=4, unit_price=2.0, variable_cost=0.8, salvage_value=0.3, critical_ratio=0.705882,
        is_default_critical_ratio=False, optimal_units=22.0, expected_profit=20.5, limited_by="capacity",
        unlimited_batches=6, recommended_batches=4, limiting_resource_id="deck", is_late=False,
    )  # fmt: skip
    begin = datetime.combine(DAY, datetime.min.time(), UTC) + timedelta(hours=2)
    starts = [begin + timedelta(minutes=15 * n) for n in range(4)]
    count = len(lines)

    def each(values: list) -> pd.Series:
        return pd.Series([values] * count, dtype=object)

    return lines.assign(
        batch_marginal_values=each([9.5, 8.0, 3.0, 0.25]),
        batch_resource_ids=each(["deck"] * 4),
        batch_starts_at=each(starts),
        batch_bakes_at=each([start + timedelta(minutes=60) for start in starts]),
        batch_ready_at=each([start + timedelta(minutes=90) for start in starts]),
        ready_by=begin + timedelta(hours=3),
    )


def flour_lines(tenant_ids: list[str]) -> pd.DataFrame:
    """A pack for the second day, 20 kg of it needed; two for the fifth, of which 2.5 kg are safety stock."""
    lines = purchase_lines(tenant_ids)
    need = (44 * FLOUR_OF_A_BREAD, 2.5)
    covers = [[0.0] * day + [amount] + [0.0] * (PLAN_DAYS - day - 1) for day, amount in ((1, 20.0), (4, sum(need)))]
    return lines.assign(
        covers_quantity=pd.Series(covers * len(tenant_ids), dtype=object),
        net_quantity=[20.0, sum(need)] * len(tenant_ids),
    )


def write_plans(store: Store, tenant_ids: list[str], now: datetime = NOW) -> None:
    units = 40.0 + np.arange(PLAN_DAYS)
    wanted = requirements(tenant_ids)
    wanted.values["gross_quantity"][:] = units * FLOUR_OF_A_BREAD
    with store.transaction() as connection:
        made = context(connection, tenant_ids, now=now)
        write_forecasts(connection, made, forecasts(tenant_ids), NO_BACKTEST, NO_EXCEPTIONS)
        write_production(connection, made, bread_lines(tenant_ids), NO_EXCEPTIONS, doughs=doughs(tenant_ids))
        write_procurement(
            connection, made, wanted, flour_lines(tenant_ids), NO_EXCEPTIONS, dict.fromkeys(tenant_ids, True)
        )


@pytest.fixture
def bakery(store: Store) -> str:
    """A bakery with the plans of a day, 30 kg of flour counted that morning, and an oven."""
    add_bakery(store, "a")
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO facts.stock_lot (tenant_id, location_id, item_id, as_of, lot_id, quantity, expires_on)
            VALUES ('a', 'main', 'flour', %(day)s, 'sack', 30, %(day)s::date + 60);
            """,
            {"day": DAY},
        )
        connection.execute(
            """
            INSERT INTO master.resource (tenant_id, resource_id, location_id, name, kind, capacity, capacity_unit)
            VALUES ('a', 'deck', 'main', 'Deck oven', 'oven', 2, 'batches')
            """
        )
    write_plans(store, ["a"])
    return "a"


def line_ids(store: Store) -> list[str]:
    """The lines of the active plan, the first to be delivered first."""
    lines = store.frame(
        """
        SELECT line.line_id FROM plans.purchase_line AS line JOIN plans.plan USING (tenant_id, plan_date, plan_id)
        WHERE plan.status = 'active' ORDER BY delivery_on
        """
    )
    return [str(line_id) for line_id in lines["line_id"]]


def told(run: Run, *arguments: str) -> dict:
    return json.loads(run("explain", *arguments, "--json").stdout)


# ---------------------------------------------------------------- purchases


def test_a_purchase_is_followed_to_products_batches_forecasts_and_model(run: Run, store: Store, bakery: str) -> None:
    story = told(run, "purchase", line_ids(store)[0])
    assert (story["purchase"]["item_id"], story["purchase"]["quantity"], story["purchase"]["packs"]) == ("flour", 25, 1)
    assert story["purchase"]["order"]["status"] == "open"
    parts = {part["purpose"]: (part["quantity"], part["share"]) for part in story["parts"]}
    assert parts == {
        "product": (pytest.approx(20), pytest.approx(0.8)),
        "rounding": (pytest.approx(5), pytest.approx(0.2)),
    }
    assert sum(share for _, share in parts.values()) == 1

    (day,) = story["days"]
    assert (day["date"], day["covered_quantity"]) == ("2026-03-03", 20)
    assert day["gross_quantity"] == pytest.approx(41 * FLOUR_OF_A_BREAD)
    (use,) = story["uses"]
    assert (use["product_id"], use["path"], use["planned_units"]) == ("bread", ["bread", "dough", "flour"], 41)
    assert use["is_tentative"]

    # Bread is expected to sell 11 at either place on that day, so either is half of what is for products.
    by_outlet = {row["location_id"]: row for row in story["demand"]}
    assert {place: row["share"] for place, row in by_outlet.items()} == {
        "main": pytest.approx(0.4),
        "kiosk": pytest.approx(0.4),
    }
    assert by_outlet["kiosk"]["mean_units"] == 11
    assert by_outlet["kiosk"]["model_version"] == "naive-1"
    assert by_outlet["kiosk"]["method_reason"] == "the best"

    (decided,) = story["decisions_on_products"]
    assert decided["mean_demand_units"] == pytest.approx(22, abs=0.5)
    assert decided["underage_cost"] == pytest.approx(1.2)
    assert decided["overage_cost"] == pytest.approx(0.5)
    assert decided["deciding_quantile_units"] > decided["mean_demand_units"]
    assert story["supplier"]["alternatives"][0]["supplier_id"] == "depot"
    assert story["made_from"]["input_versions"]["products"] == 1
    assert {plan["kind"] for plan in story["made_from"]["plans"]} == {"forecast", "production"}


def test_safety_stock_is_a_part_of_its_own(run: Run, store: Store, bakery: str) -> None:
    story = told(run, "purchase", line_ids(store)[1])
    need = 44 * FLOUR_OF_A_BREAD
    parts = {part["purpose"]: part["quantity"] for part in story["parts"]}
    assert parts == {
        "product": pytest.approx(need),
        "safety_stock": pytest.approx(2.5),
        "rounding": pytest.approx(50 - need - 2.5),
    }
    assert story["purchase"]["order"] is None
    assert story["safety_stock"] == {"quantity": 2.5, "reason": "95 % of 3 days"}


def test_the_story_is_told_in_words(run: Run, store: Store, bakery: str) -> None:
    said = " ".join(run("explain", "purchase", line_ids(store)[0]).stdout.split())
    assert "1 pack of 25 kg of Flour for Main, at 20.00 EUR a pack" in said
    assert "From: Mill (mill)" in said
    assert "not from depot: dearer" in said
    assert "20 kg (80.0%) are for 1 product; 5 kg (20.0%) round up to packs" in said
    assert "Decision: approve by auto-approve" in said
    assert "bread at kiosk, main by naive (naive-1): the best." in said
    assert "Why so many are made (money in EUR)" in said


def test_the_beginning_of_an_id_is_enough_if_no_other_begins_so(run: Run, store: Store, bakery: str) -> None:
    first = line_ids(store)[0]
    assert told(run, "purchase", first[:12].upper())["purchase"]["line_id"] == first
    twin = UUID(first[:8] + "-0000-5000-8000-000000000000")
    with store.transaction() as connection:
        connection.execute("UPDATE plans.purchase_line SET line_id = %s WHERE line_id = %s", (twin, line_ids(store)[1]))
    said = run("explain", "purchase", first[:8], expect=3).stderr
    assert "More than one" in said
    assert first in said
    assert str(twin) in said
    assert "Remedy" in said


def test_a_plan_is_explained_by_what_was_in_force_when_it_was_made(run: Run, store: Store, bakery: str) -> None:
    """Recipes, forecasts and production of later do not change what the old revision says."""
    first = line_ids(store)[0]
    before = told(run, "purchase", first)
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO master.recipe (tenant_id, output_item_id, version, output_quantity, recorded_at)
            VALUES ('a', 'bread', 2, 10, %(later)s);
            """,
            {"later": NOW + timedelta(minutes=5)},
        )
        connection.execute(
            "INSERT INTO master.recipe_line (tenant_id, output_item_id, version, item_id, quantity)"
            " VALUES ('a', 'bread', 2, 'flour', 3)"
        )
    write_plans(store, ["a"], now=NOW + timedelta(minutes=10))
    after = told(run, "purchase", first)
    assert after["plan"]["status"] == "superseded"
    for name in ("parts", "uses", "demand", "made_from", "days"):
        assert after[name] == before[name]
    assert "A newer revision has taken its place" in run("explain", "purchase", first).stdout
    assert told(run, "purchase", line_ids(store)[1])["uses"][0]["path"] == ["bread", "flour"]


def test_a_line_of_a_plan_that_did_not_keep_its_days_is_told_by_its_products(
    run: Run, store: Store, bakery: str
) -> None:
    with store.transaction() as connection:
        connection.execute("UPDATE plans.purchase_line SET covers_quantity = '{}'")
    first = line_ids(store)[0]
    story = told(run, "purchase", first)
    assert {part["purpose"]: part["share"] for part in story["parts"]} == {"product": 0.8, "rounding": 0.2}
    assert story["products"][0]["share"] == 0.8
    assert "was not kept" in run("explain", "purchase", first).stdout


# ---------------------------------------------------------------- batches


def test_a_batch_is_told_with_its_gain_its_reasons_its_times_and_what_it_takes(
    run: Run, store: Store, bakery: str
) -> None:
    story = told(run, "batch", f"a/{DAY}/main/bread/2")
    batch, line = story["batch"], story["line"]
    assert (batch["expected_gain"], batch["expected_gain_unit"], batch["batches"]) == (8.0, "EUR", 4)
    assert (batch["limited_by"], batch["limiting_resource_name"], batch["unlimited_batches"]) == (
        "capacity",
        "Deck oven",
        6,
    )
    assert (line["underage_cost"], line["overage_cost"]) == (pytest.approx(1.2), pytest.approx(0.5))
    assert line["sold_out_probability"] == 0.3
    # Demand is 20 on average and seldom below 10: most of the second ten sell, the fourth ten hardly ever.
    assert 7 < batch["expected_sold_units"] < 10
    assert told(run, "batch", f"a/{DAY}/main/bread/4")["batch"]["expected_sold_units"] < 0.01
    total = sum(told(run, "batch", f"a/{DAY}/main/bread/{n}")["batch"]["expected_sold_units"] for n in (1, 2, 3, 4))
    assert total == pytest.approx(20, abs=0.1)

    assert story["times"]["resource_id"] == "deck"
    assert story["times"]["starts_at"] == "2026-03-02T02:15:00+00:00"
    (dough,) = story["doughs"]
    assert (dough["quantity"], dough["mixed_quantity"], dough["fed_by_run"]) == (9, 36, 2)
    assert {row["location_id"]: row["mean_units"] for row in story["demand"]} == {"kiosk": 10, "main": 10}

    takes = {tuple(row["path"]): row for row in story["ingredients"]}
    flour = takes["bread", "dough", "flour"]
    assert flour["quantity"] == pytest.approx(5.4)
    assert [(lot["lot_id"], lot["quantity"]) for lot in flour["lots"]] == [("sack", pytest.approx(5.4))]
    assert takes["bread", "dough"]["is_made"]


def test_an_ingredient_that_nobody_counted_is_told_as_missing(run: Run, store: Store, bakery: str) -> None:
    story = told(run, "batch", f"a/{DAY}/main/bread/1")
    salt = next(row for row in story["ingredients"] if row["item_id"] == "salt")
    assert salt["lots"] == [{"lot_id": None, "quantity": pytest.approx(0.09), "expires_on": None}]


def test_a_batch_is_told_in_words(run: Run, bakery: str) -> None:
    said = " ".join(run("explain", "batch", f"a/{DAY}/main/bread/2").stdout.split())
    assert "+8.00 EUR expected, compared with not making it" in said
    assert "Deck oven limited it" in said
    assert "Without that 6 batches would be worth making" in said
    assert "= 1.20 / (1.20 + 0.50)" in said
    assert "started Mon 02 Mar 03:15, baked in deck from Mon 02 Mar 04:15, ready Mon 02 Mar 04:45" in said, "in Madrid"
    assert "run 2: 18 kg from Mon 02 Mar 01:10 to Mon 02 Mar 01:30: it feeds this batch" in said


def test_what_a_person_changed_and_decided_is_told(run: Run, store: Store, bakery: str) -> None:
    with store.transaction() as connection:
        connection.execute(
            """
            UPDATE plans.production_line
            SET limited_by = 'override', override_by = 'eva', override_reason = 'market day', recommended_batches = 3
            """
        )
        connection.execute(
            """
            INSERT INTO plans.plan_override
                (tenant_id, plan_date, kind, location_id, subject_id, amount, actor, reason, inputs_hash, made_at)
            VALUES ('a', %s, 'production', 'main', 'bread', 4, 'eva', 'market day', repeat('0', 64), %s)
            """,
            (DAY, NOW),
        )
    said = " ".join(run("explain", "batch", f"a/{DAY}/main/bread/1").stdout.split())
    assert "eva set it: market day. Recommended were 3 batches." in said
    assert "Override: eva set 4 batches on Mon 02 Mar 05:30: market day." in said


def test_without_price_or_cost_the_gain_is_no_money(run: Run, store: Store, bakery: str) -> None:
    with store.transaction() as connection:
        connection.execute(
            """
            UPDATE plans.production_line
            SET unit_price = NULL, variable_cost = NULL, expected_profit = NULL, is_default_critical_ratio = true
            """
        )
    story = told(run, "batch", f"a/{DAY}/main/bread/1")
    assert story["batch"]["expected_gain_unit"] == "share of Cu + Co"
    assert story["line"]["underage_cost"] is None
    said = run("explain", "batch", f"a/{DAY}/main/bread/1").stdout
    assert "the tenant's default" in said
    assert "profit unknown" in said


def test_a_batch_is_told_without_purchases_and_without_forecasts(run: Run, store: Store, bakery: str) -> None:
    with store.transaction() as connection:
        connection.execute("DELETE FROM plans.plan WHERE kind = 'procurement'")
    story = told(run, "batch", f"a/{DAY}/main/bread/1")
    flour = next(row for row in story["ingredients"] if row["item_id"] == "flour")
    assert [(lot["lot_id"], lot["quantity"]) for lot in flour["lots"]] == [("sack", pytest.approx(5.4))]
    with store.transaction() as connection:
        connection.execute("DELETE FROM plans.plan WHERE kind = 'forecast'")
    story = told(run, "batch", f"a/{DAY}/main/bread/1")
    assert story["batch"]["expected_sold_units"] is None
    assert {row["source"] for row in story["demand"]} == {"none"}
    assert "no forecast" in run("explain", "batch", f"a/{DAY}/main/bread/1").stdout


def test_a_purchase_is_told_without_forecasts_and_production(run: Run, store: Store, bakery: str) -> None:
    with store.transaction() as connection:
        connection.execute("DELETE FROM plans.plan WHERE kind = 'forecast'")
    story = told(run, "purchase", line_ids(store)[0])
    assert [(row["source"], row["share"]) for row in story["demand"]] == [("none", pytest.approx(0.8))]
    with store.transaction() as connection:
        connection.execute("DELETE FROM plans.plan WHERE kind = 'production'")
    story = told(run, "purchase", line_ids(store)[0])
    assert [part["purpose"] for part in story["parts"]] == ["unexplained", "rounding"]
    assert "do not account for" in run("explain", "purchase", line_ids(store)[0]).stdout


def test_recipes_in_a_circle_are_named_and_the_rest_is_told(run: Run, store: Store, bakery: str) -> None:
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.recipe (tenant_id, output_item_id, version, output_quantity, recorded_at)"
            " VALUES ('a', 'salt', 1, 1, '2026-01-01')"
        )
        connection.execute(
            "INSERT INTO master.recipe_line (tenant_id, output_item_id, version, item_id, quantity)"
            " VALUES ('a', 'salt', 1, 'dough', 1)"
        )
    story = told(run, "batch", f"a/{DAY}/main/bread/1")
    assert story["ingredients"] == []
    assert "circle" in story["recipe_problem"]
    assert story["batch"]["expected_gain"] == 9.5
    assert "circle" in run("explain", "batch", f"a/{DAY}/main/bread/1").stdout


def test_a_product_that_is_not_made_says_why(run: Run, store: Store, bakery: str) -> None:
    with store.transaction() as connection:
        connection.execute(
            """
            UPDATE plans.production_line
            SET batches = 0, quantity_units = 0, horizon_units[1] = 0, limited_by = 'closed', batch_marginal_values = '{}',
                batch_resource_ids = '{}', batch_starts_at = '{}', batch_bakes_at = '{}', batch_ready_at = '{}'
            """
        )
    said = run("explain", "batch", f"a/{DAY}/main/bread/1", expect=3).stderr
    assert "no batch: everything that it is made for is closed that day" in said


# ---------------------------------------------------------------- what cannot be told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("purchase", "xyz"), "no id of a purchase line"),
        (("purchase", "abc"), "no id of a purchase line"),
        (("purchase", "00000000"), "no purchase line 00000000"),
        (("batch", "a/2026-03-02/main/bread"), "no id of a batch"),
        (("batch", "a/2026-02-30/main/bread/1"), "no id of a batch"),
        (("batch", "a/2026-03-02/main/bread/x"), "no id of a batch"),
        (("batch", "a/2026-03-02/main/bread/0"), "batches 1 to 4"),
        (("batch", "a/2026-03-02/main/bread/5"), "batches 1 to 4"),
        (("batch", "a/2026-03-02/main/cake/1"), "main/bread"),
        (("batch", "a/2026-03-09/main/bread/1"), "daybreak plan run"),
        (("batch", "nobody/2026-03-02/main/bread/1"), "daybreak tenant list"),
    ],
)
def test_what_cannot_be_told_is_refused_in_words(run: Run, bakery: str, arguments: tuple[str, str], says: str) -> None:
    said = run("explain", *arguments, expect=3)
    assert says in said.stderr
    assert "Remedy" in said.stderr
    assert said.stdout == ""


@pytest.mark.parametrize("command", [("explain", "--help"), ("explain", "batch", "--help")])
def test_help_imports_nothing_that_is_slow(command: tuple[str, ...]) -> None:
    script = (
        "import sys; from daybreak.cli import main\n"
        f"try: main({list(command)!r})\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in ('dagster', 'pandas', 'numpy', 'psycopg', 'rich') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
