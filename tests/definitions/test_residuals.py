"""The loop from a forecast to the next one's spread: held-out residuals, live ones, late sales and replays."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import pandas as pd

from planning.frames import FORECAST_DAYS
from planning.quantiles import Spread, forecast_curve
from planning_assets.scope import anchor_of
from resources.store.database import Store
from resources.store.residuals import read_spreads, refresh_spreads, write_residuals
from tests.definitions.conftest import definitions_of
from tests.definitions.test_forecast_models import DAY, SERIES, advertised_bakery, train
from tests.integration.store_bakery import add_bakery, add_sales


def run(instance: dg.DagsterInstance, store: Store, job: str, step: str, on: date, now: datetime) -> None:
    """Run a job for tenant `a` and a date."""
    result = (
        definitions_of(store.dsn, now)
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            partition_key=anchor_of(instance, on, ["a"]),
            run_config={"ops": {step: {"config": {"date": on.isoformat(), "tenants": ["a"]}}}},
        )
    )
    assert result.success


def plan(instance: dg.DagsterInstance, store: Store, on: date) -> pd.DataFrame:
    """Plan a morning and return its forecasts."""
    run(instance, store, "daily_plan_job", "daily_plan", on, datetime(on.year, on.month, on.day, 4, tzinfo=UTC))
    return store.frame(
        """
        SELECT line.* FROM plans.forecast AS line JOIN plans.plan USING (tenant_id, plan_date, plan_id)
         WHERE plan.status = 'active' AND plan.plan_date = %(on)s ORDER BY location_id, product_id
        """,
        {"on": on},
    )


def sell_and_validate(instance: dg.DagsterInstance, store: Store, on: date, units: float, source: str = "") -> None:
    """Sell so many of each product on a day, and score it the day after."""
    with store.transaction() as connection:
        add_sales(connection, "a", [(location, product, on, units) for location, product, _ in SERIES], source)
    validated_at = datetime(on.year, on.month, on.day, 9, tzinfo=UTC) + timedelta(days=1)
    run(instance, store, "forecast_validation_job", "forecast_validation", on, validated_at)


def test_what_is_sold_moves_the_next_forecasts_spread(instance: dg.DagsterInstance, store: Store) -> None:
    advertised_bakery(store, "a")
    assert train(instance, store, ["a"]).success
    held_out = store.frame("SELECT business_date, is_live, cardinality(residual) AS n FROM quality.residual ORDER BY 1")
    assert held_out["business_date"].max() == DAY - timedelta(days=1)
    assert not held_out["is_live"].any()
    first = plan(instance, store, DAY)
    assert set(first["method"]) == {"boosting"}
    assert first["volume_class"].notna().all()

    sell_and_validate(instance, store, DAY, units=400)
    live = store.frame("SELECT residual, volume_class FROM quality.residual WHERE is_live")
    assert len(live) == 1
    (residuals,) = live["residual"]
    assert len(residuals) == len(SERIES), "one forecast of that day, by each series"
    assert min(residuals) > 0
    second = plan(instance, store, DAY + timedelta(days=1))
    # The rows hold just what six weeks of stored residuals make of what the model says.
    kept = store.frame("SELECT volume_class, residual FROM quality.residual")
    spread = Spread.of(
        np.concatenate([np.array(row, dtype=float) for row in kept["residual"]]),
        np.concatenate([np.array(row, dtype=np.int64) for row in kept["volume_class"]]),
        widening=1.0,
    )
    raw = np.array(second["raw_mean_units"].tolist())[:, :FORECAST_DAYS]
    mean, curve = forecast_curve(raw, spread.of_classes(second["volume_class"].to_numpy(dtype=np.int64)))
    quantile_units = np.array(second["quantile_units"].tolist())[:, :FORECAST_DAYS]
    np.testing.assert_allclose(np.array(second["mean_units"].tolist())[:, :FORECAST_DAYS], mean, rtol=1e-4)
    np.testing.assert_allclose(quantile_units, curve, rtol=1e-4, atol=1e-4)
    highest = [rows["quantile_units"].map(lambda days: days[0][-1]).sum() for rows in (first, second)]
    assert highest[1] > highest[0]
    correction = [
        sum(row.mean_units[0] - row.raw_mean_units[0] for row in rows.itertuples()) for rows in (first, second)
    ]
    assert correction[1] > correction[0]


def test_a_replayed_morning_knows_neither_later_residuals_nor_a_later_model(
    instance: dg.DagsterInstance, store: Store
) -> None:
    advertised_bakery(store, "a")
    assert train(instance, store, ["a"]).success
    first = plan(instance, store, DAY)
    sell_and_validate(instance, store, DAY, units=400)
    with store.transaction() as connection:
        spreads = {on: read_spreads(connection, {"a": on}).get("a") for on in (DAY, DAY + timedelta(days=1))}
    assert spreads[DAY] is not None
    assert spreads[DAY] != spreads[DAY + timedelta(days=1)]
    again = plan(instance, store, DAY)
    pd.testing.assert_series_equal(again["quantile_units"], first["quantile_units"])
    before = plan(instance, store, DAY - timedelta(days=3))
    assert not before["method"].eq("boosting").any()
    assert before["method_reason"].str.contains("boosting@v1 has seen days up to 2026-03-01 and is not asked").all()


def test_a_table_of_an_earlier_version_gives_way_to_the_models_own(instance: dg.DagsterInstance, store: Store) -> None:
    advertised_bakery(store, "a")
    assert train(instance, store, ["a"]).success
    with store.transaction() as connection:
        connection.execute("UPDATE quality.residual_spread SET spread = jsonb_set(spread, '{scale_power}', '0.5')")
    made = plan(instance, store, DAY)
    assert set(made["method"]) == {"boosting"}
    assert made["method_reason"].str.contains("residuals").all()


def test_late_sales_correct_their_day_and_the_tables_after_it(store: Store) -> None:
    add_bakery(store, "a")
    days = [DAY + timedelta(days=n) for n in range(3)]

    def validated(on: date, residual: float) -> None:
        rows = pd.DataFrame({"tenant_id": "a", "business_date": on, "volume_class": 0, "residual": [residual] * 100})
        with store.transaction() as connection:
            write_residuals(connection, rows, is_live=True)
            refresh_spreads(connection, ["a"], on)

    def pooled_mean(run_date: date) -> float:
        with store.transaction() as connection:
            spread = Spread.from_json(read_spreads(connection, {"a": run_date})["a"])
        assert spread is not None
        return spread.pooled_mean

    for on in days:
        validated(on, 1.0)
    assert pooled_mean(days[2] + timedelta(days=1)) == 1
    validated(days[0], -2.0)
    assert pooled_mean(days[1]) == -2
    assert pooled_mean(days[2] + timedelta(days=1)) == 0


def test_held_out_days_never_replace_live_ones(store: Store) -> None:
    add_bakery(store, "a")
    for is_live, value in ((True, 1.0), (False, 9.0)):
        rows = pd.DataFrame({"tenant_id": ["a"], "business_date": [DAY], "volume_class": [0], "residual": [value]})
        with store.transaction() as connection:
            write_residuals(connection, rows, is_live=is_live)
    assert store.frame("SELECT residual FROM quality.residual")["residual"].tolist() == [[1.0]]


def test_a_table_older_than_six_weeks_is_not_used(store: Store) -> None:
    add_bakery(store, "a")
    rows = pd.DataFrame({"tenant_id": "a", "business_date": DAY, "volume_class": 0, "residual": [1.0] * 100})
    with store.transaction() as connection:
        write_residuals(connection, rows, is_live=True)
        refresh_spreads(connection, ["a"], DAY)
        assert "a" in read_spreads(connection, {"a": DAY + timedelta(days=42)})
        assert "a" not in read_spreads(connection, {"a": DAY + timedelta(days=43)})
        assert "a" not in read_spreads(connection, {"a": DAY})
