"""Finished days judged in money, and revisions by what they changed: through real runs and on a real Postgres."""

from datetime import date, datetime, time, timedelta

import dagster as dg
import pandas as pd
import pytest

from planning.outcomes import PARTS
from planning_assets.partitions import TENANTS
from planning_assets.scope import anchor_of
from resources.store.database import Store
from resources.store.outcomes import read_judged_lines, read_outlets, write_stability
from resources.store.plans import write_forecasts, write_procurement, write_production
from tests.definitions.conftest import NOW, definitions_of
from tests.definitions.test_daily_plan import bakery, count, materialized, plan
from tests.integration.store_bakery import (
    NO_BACKTEST,
    NO_EXCEPTIONS,
    add_bakery,
    add_sales,
    context,
    forecasts,
    production_lines,
    purchase_lines,
    requirements,
)

DAY = date(2026, 3, 2)
AFTER_OPENING = NOW.replace(hour=11)
SOLD = [("main", "bread", DAY, 30.0), ("main", "cake", DAY, 9.0), ("kiosk", "bread", DAY, 12.0)]


def validate(instance: dg.DagsterInstance, store: Store, tenants: list[str], later: int = 1) -> None:
    """Score DAY some days later."""
    result = (
        definitions_of(store.dsn, NOW + timedelta(days=later))
        .resolve_job_def("forecast_validation_job")
        .execute_in_process(
            instance=instance,
            partition_key=anchor_of(instance, DAY, tenants),
            run_config={"ops": {"forecast_validation": {"config": {"date": DAY.isoformat(), "tenants": tenants}}}},
        )
    )
    assert result.success


def sell(store: Store, tenant_id: str, rows: list[tuple[str, str, date, float]], source: str = "") -> None:
    with store.transaction() as connection:
        add_sales(connection, tenant_id, rows, source)


def price(store: Store, tenant_id: str) -> None:
    """Bread and cake with Cu 1.2 and Co 0.5."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.product_price (tenant_id, product_id, version, unit_price, variable_cost, recorded_at)"
            " SELECT tenant_id, product_id, 1, 1.7, 0.5, now() FROM master.product WHERE tenant_id = %s",
            (tenant_id,),
        )


def outcomes(store: Store, tenant_id: str) -> pd.DataFrame:
    return store.frame(
        "SELECT * FROM quality.plan_outcome WHERE tenant_id = %(tenant)s ORDER BY product_id", {"tenant": tenant_id}
    )


def metadata(instance: dg.DagsterInstance, tenant_id: str) -> dict[str, object]:
    """What the validation of DAY shows."""
    (record,) = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("validation_metrics"), asset_partitions=[f"{DAY}|{tenant_id}"]), limit=1
    ).records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def test_a_validated_day_is_judged_in_money_and_shown(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    price(store, "a")
    assert plan(instance, store, ["a"]).success
    sell(store, "a", SOLD)
    validate(instance, store, ["a"])
    rows = outcomes(store, "a").set_index("product_id")
    assert rows.index.tolist() == ["bread", "cake"]
    bread = rows.loc["bread"]
    assert bread["demand_units"] == 42, "main and kiosk together"
    assert bread["location_id"] == "main"
    assert not bread["is_replayed"]
    assert bread["underage_cost"] == pytest.approx(1.2)
    over = bread["made_units"] - 42
    assert bread["cost"] == pytest.approx(0.5 * over if over > 0 else -1.2 * over)
    assert bread["hindsight_units"] == 42, "bread is made by the piece"
    for _, row in rows.iterrows():
        assert row["regret"] == pytest.approx(row["cost"] - row["hindsight_cost"])
        assert sum(row[part] for part in PARTS) == pytest.approx(row["regret"])
    shown = metadata(instance, "a")
    assert shown["mismatch_cost"] == pytest.approx(rows["cost"].sum(), abs=0.01)
    assert shown["regret"] == pytest.approx(rows["regret"].sum(), abs=0.01)
    assert (shown["lines_judged"], shown["lines_judged_without_cost"], shown["lines_sold_out"]) == (2, 0, 0)
    assert "bread" in str(shown["products_by_money_lost"])


def test_late_sales_replace_what_was_judged(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    price(store, "a")
    assert plan(instance, store, ["a"]).success
    sell(store, "a", SOLD)
    validate(instance, store, ["a"])
    sell(store, "a", [("kiosk", "bread", DAY, 100.0)], source="late")
    validate(instance, store, ["a"], later=2)
    bread = outcomes(store, "a").set_index("product_id").loc["bread"]
    assert bread["demand_units"] == 142
    assert bread["lost_units"] == pytest.approx(142 - bread["made_units"])
    assert count(store, "SELECT count(*) FROM quality.plan_outcome") == 2


def test_a_sold_out_day_is_an_estimate_and_says_so(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    price(store, "a")
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.hourly_profile (tenant_id, location_id, product_id, weekday, hour, share)"
            " SELECT 'a', 'main', 'bread', %s, hour, 0.1 FROM generate_series(8, 17) AS hour",
            (DAY.weekday(),),
        )
    assert plan(instance, store, ["a"]).success
    sell(store, "a", SOLD)
    with store.transaction() as connection:
        connection.execute(
            "UPDATE facts.sales SET sold_out_at = %s WHERE business_date = %s AND product_id = 'bread'", (time(14), DAY)
        )
    validate(instance, store, ["a"])
    rows = outcomes(store, "a").set_index("product_id")
    bread, cake = rows.loc["bread"], rows.loc["cake"]
    # At main six tenths of the day had passed; the kiosk has no profile, so its forecast tells what was above its sales.
    assert bread["demand_units"] > 30 / 0.6 + 12
    assert bread["sold_units"] == 42
    assert (bread["is_censored"], cake["is_censored"]) == (True, False)
    assert metadata(instance, "a")["lines_sold_out"] == 1


def test_a_tenant_with_forecasts_and_no_production_plan_is_validated_all_the_same(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    instance.add_dynamic_partitions(str(TENANTS.name), ["a"])
    job = definitions_of(store.dsn).resolve_job_def("daily_plan_job")
    assert job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey("demand_history"), dg.AssetKey("forecasts")],
        partition_key=f"{DAY}|a",
    ).success
    sell(store, "a", SOLD)
    validate(instance, store, ["a"])
    assert materialized(instance, "validation_metrics") == {f"{DAY}|a"}
    assert outcomes(store, "a").empty
    assert "mismatch_cost" not in metadata(instance, "a")


def test_a_product_without_costs_is_judged_in_shares_and_kept_out_of_the_sums(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    sell(store, "a", SOLD)
    validate(instance, store, ["a"])
    rows = outcomes(store, "a")
    assert rows["is_default_critical_ratio"].all()
    assert (rows["underage_cost"] + rows["overage_cost"]).tolist() == pytest.approx([1, 1])
    shown = metadata(instance, "a")
    assert "mismatch_cost" not in shown or shown["mismatch_cost"] == 0
    assert shown["lines_judged_without_cost"] == 2


def test_an_outlet_that_has_not_reported_leaves_its_products_unjudged(
    instance: dg.DagsterInstance, store: Store
) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    sell(store, "a", [row for row in SOLD if row[0] == "main"])
    validate(instance, store, ["a"])
    assert outcomes(store, "a")["product_id"].tolist() == ["cake"], "how much bread the kiosk sold is not known"


def make(store: Store, now: datetime, units: float) -> None:
    """A revision of bread at main, made at an instant; places open at 07:00 UTC."""
    with store.transaction() as connection:
        headers = write_production(
            connection, context(connection, ["a"], now=now), production_lines(["a"], units), NO_EXCEPTIONS
        )
        write_stability(connection, headers, DAY, "production")


def judged(store: Store) -> list[tuple[float, bool]]:
    with store.transaction() as connection:
        rows = read_judged_lines(connection, ["a"], DAY)
    return list(zip(rows["quantity_units"], rows["is_replayed"], strict=True))


def test_the_revision_that_was_live_at_opening_is_judged(store: Store) -> None:
    add_bakery(store, "a")
    assert judged(store) == []
    make(store, AFTER_OPENING, 99)
    assert judged(store) == [(99, True)], "nothing else was planned"
    make(store, NOW, 40)
    make(store, NOW + timedelta(hours=1), 44)
    make(store, AFTER_OPENING, 50)
    assert judged(store) == [(44, False)]


def test_outlets_come_with_their_sales_and_the_forecast_that_served(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        for now, units in ((NOW, 10.0), (AFTER_OPENING, 70.0)):
            write_forecasts(
                connection,
                context(connection, ["a"], now=now),
                forecasts(["a"], units=units),
                NO_BACKTEST,
                NO_EXCEPTIONS,
            )
        add_sales(connection, "a", [("main", "bread", DAY, 30.0), ("main", "bread", DAY - timedelta(days=1), 9.0)])
        add_sales(connection, "a", [("main", "bread", DAY, 5.0)], source="other till")
        connection.execute("UPDATE facts.sales SET sold_out_at = '15:30' WHERE source_id = 'other till'")
        rows = read_outlets(connection, ["a"], DAY).set_index(["location_id", "product_id"])
    bread = rows.loc[("main", "bread")]
    assert (bread["sold_units"], bread["sold_out_minute"], bread["made_at_location_id"]) == (35, 15 * 60 + 30, "main")
    assert bread["quantile_units"][4] == pytest.approx(10.0), "the median of the revision before opening"
    assert rows["has_reported"].to_dict() == {
        ("kiosk", "bread"): False,
        ("main", "bread"): True,
        ("main", "cake"): True,
    }
    assert rows.loc[("main", "cake"), "sold_units"] == 0


def stability(store: Store) -> pd.DataFrame:
    return store.frame(
        """
        SELECT s.*, p.revision FROM quality.plan_stability AS s JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
        ORDER BY s.kind, p.revision
        """
    )


def test_a_first_revision_has_no_stability_and_each_later_one_is_compared_with_the_one_before(store: Store) -> None:
    add_bakery(store, "a")
    make(store, NOW, 40)
    assert stability(store).empty
    make(store, NOW, 40)
    make(store, NOW, 42)
    rows = stability(store)
    assert rows["revision"].tolist() == [2, 3]
    same, changed = rows.to_dict("records")
    assert (same["changed_quantity"], same["instability"], same["lines_changed"]) == (0, 0, 0)
    announced = sum(40 + n for n in range(14))
    assert changed["previous_quantity"] == announced
    assert changed["changed_quantity"] == 2 * 14
    assert changed["instability"] == pytest.approx(28 / announced)
    assert changed["weighted_change"] == pytest.approx(2 * (1 - 0.5**14))
    assert changed["lines_changed"] == 1


def test_purchases_are_compared_by_packs_and_what_was_ordered_stands(store: Store) -> None:
    add_bakery(store, "a")

    def buy(lines: pd.DataFrame, auto_approve: bool) -> None:
        with store.transaction() as connection:
            headers = write_procurement(
                connection, context(connection, ["a"]), requirements(["a"]), lines, NO_EXCEPTIONS, {"a": auto_approve}
            )
            write_stability(connection, headers, DAY, "procurement")

    lines = purchase_lines(["a"])
    buy(lines, auto_approve=False)
    buy(lines.assign(packs=[4, 2], quantity=[100.0, 50.0]), auto_approve=True)
    # The four packs are on order now: planning without them takes nothing back.
    buy(lines.iloc[1:], auto_approve=False)
    first, second = stability(store).to_dict("records")
    assert (first["previous_quantity"], first["changed_quantity"], first["lines_changed"]) == (3, 3, 1)
    assert first["weighted_change"] == pytest.approx(0.25 * 3), "one day ahead"
    assert (second["previous_quantity"], second["changed_quantity"]) == (2, 0)


def test_a_plan_made_again_from_the_same_inputs_is_stable(instance: dg.DagsterInstance, store: Store) -> None:
    bakery(store, "a")
    assert plan(instance, store, ["a"]).success
    assert plan(instance, store, ["a"]).success
    rows = stability(store)
    assert rows["kind"].tolist() == ["procurement", "production"]
    assert rows["changed_quantity"].tolist() == [0, 0]
    assert (rows.loc[rows["kind"] == "production", "previous_quantity"] > 0).all()
