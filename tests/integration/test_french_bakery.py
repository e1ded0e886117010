"""The replay of a real bakery: its import files are true to its sales, and the product plans mornings from them.

The file of sales is not part of the project; without it these tests are skipped.
"""

import csv
import itertools
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from benchmarks.french_bakery import TENANT, stock_by_day
from benchmarks.french_bakery_files import DOUGHS, INGREDIENTS, LOCATION, Prepared, prepare
from daybreak.definitions import build_defs
from daybreak.fleet import Fleet
from planning_assets.scope import anchor_of
from resources.dagster_resources import ClockResource, StoreResource
from resources.imports.importer import import_file
from resources.store.database import Store
from resources.store.master import Location, Tenant, add_location, add_tenant

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT.parent / "shared" / "data" / "french_bakery" / "daily_sales.csv"
FIRST, LAST = date(2022, 9, 2), date(2022, 9, 4)
NOW = datetime(2022, 9, 30, 20, 0, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not SOURCE.is_file(), reason="the file of a real bakery's sales is not here")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The import files for three mornings."""
    return prepare(SOURCE, tmp_path_factory.mktemp("french"), FIRST, LAST)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_units_are_revenue_by_price_and_only_food_is_left(prepared: Prepared) -> None:
    imported = {
        (row["product_id"], row["business_date"]): int(row["quantity_units"])
        for row in rows_of(prepared.files["sales"])
    }
    source = [row for row in rows_of(SOURCE) if row["unique_id"] == "TRADITIONAL BAGUETTE"]
    units = {row["ds"]: round(float(row["y"]) / float(row["unit_price"])) for row in source if float(row["y"]) > 0}
    assert {day: n for (product_id, day), n in imported.items() if product_id == "traditional-baguette"} == units
    assert len(units) == 600
    assert min(imported.values()) >= 1
    assert len(prepared.groups) == 94
    assert prepared.groups["croissant"] == "viennoiserie"
    left = ("coupe", "reduction", "article", "formule", "cafe", "boisson", "sachet", "traiteur", "divers")
    assert not [product_id for product_id in prepared.groups if product_id.startswith(left)]


def test_a_closed_day_has_no_rows_rather_than_zeros(prepared: Prepared) -> None:
    days = {row["business_date"] for row in rows_of(prepared.files["sales"])}
    assert len(prepared.closures) == 37
    assert not days & {day.isoformat() for day in prepared.closures}
    assert len(days) == 600


def test_recipes_lead_from_every_product_to_bought_ingredients(prepared: Prepared) -> None:
    lines = rows_of(prepared.files["recipes"])
    outputs = {row["output_item_id"] for row in lines}
    assert outputs == {*prepared.groups, *DOUGHS}
    assert {row["item_id"] for row in lines} - outputs == set(INGREDIENTS)
    assert all(math.isfinite(need) and need > 0 for need in prepared.daily_need.values())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory: what is tested here is in our own tables."""
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def test_three_mornings_are_planned_and_their_stock_is_carried_over(
    prepared: Prepared, store: Store, instance: dg.DagsterInstance
) -> None:
    with store.transaction() as connection:
        add_tenant(connection, Tenant(TENANT, "French bakery", "Europe/Paris", "FR", NOW))
        add_location(connection, Location(TENANT, LOCATION, "Shop"))
    for kind, path in prepared.files.items():
        report = import_file(store, TENANT, kind, path, now=NOW)
        assert report.status == "imported", report.problems
    job = build_defs(
        Fleet(("Europe/Paris",), date(2022, 8, 1)),
        {"store": StoreResource(dsn=store.dsn), "clock": ClockResource(fixed_at=NOW.isoformat())},
    ).resolve_job_def("daily_plan_job")
    mornings = [day.date() for day in pd.date_range(FIRST, LAST)]
    for day in mornings:
        config = {"date": day.isoformat(), "tenants": [TENANT]}
        assert job.execute_in_process(
            instance=instance,
            partition_key=anchor_of(instance, day, [TENANT]),
            run_config={"ops": {"daily_plan": {"config": config}}},
        ).success

    plans = store.frame("SELECT kind, plan_date FROM plans.plan WHERE status = 'active'")
    assert len(plans) == 4 * len(mornings)
    days = stock_by_day(store, FIRST, LAST)
    assert set(days["item_id"]) == set(INGREDIENTS)
    assert days.groupby("day")["consumed"].sum().gt(0).all()
    closing = days.pivot_table(index="item_id", columns="day", values="closing")
    opening = days.pivot_table(index="item_id", columns="day", values="opening")
    for before, after in itertools.pairwise(mornings):
        pd.testing.assert_series_equal(closing[before], opening[after], check_names=False, atol=1e-5)
    # What keeps four days and was counted on a Friday cannot last until Monday's delivery.
    assert set(days.loc[days["short"] > 0, "item_id"]) <= {"salad", "strawberries"}
