"""The demand history as the daily batch makes it: from stored sales to what the materialization shows."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from planning.frames import PLAN_DAYS
from planning_assets.demand_history import LINK, read_demand
from planning_assets.link import HISTORY_DAYS, Batch
from resources.model_cache import ModelCache
from resources.store.database import Connection, Store
from resources.store.inputs import read_tenants
from tests.integration.store_bakery import DAY, add_bakery, add_sales, context


def batch_of(connection: Connection, *tenant_ids: str) -> Batch:
    tenants = read_tenants(connection, tenant_ids)
    tenants = tenants.assign(run_date=pd.Series([DAY] * len(tenants), dtype=object))
    return Batch(connection, DAY, tenants, context(connection, tenant_ids), ModelCache())


def add_sold_out_bread(connection: Connection, tenant_id: str) -> None:
    """Eight weeks of bread and cake at main; bread sold out at 12:30 a week and a day before DAY."""
    days = [DAY - timedelta(n) for n in range(1, 57)]
    add_sales(connection, tenant_id, [("main", product, day, 20.0) for product in ("bread", "cake") for day in days])
    connection.execute(
        """
        UPDATE facts.sales SET sold_out_at = '12:30'
        WHERE tenant_id = %s AND product_id = 'bread' AND business_date = ANY(%s)
        """,
        (tenant_id, [DAY - timedelta(1), DAY - timedelta(8)]),
    )


def test_sell_outs_are_estimated_from_the_stored_profile_and_shown(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "empty")
    with store.transaction() as connection:
        add_sold_out_bread(connection, "a")
        connection.execute("DELETE FROM master.assortment WHERE tenant_id = 'empty'")
        connection.execute(
            """
            INSERT INTO master.hourly_profile
            SELECT 'a', 'main', 'bread', %s, hour, 0.25 FROM generate_series(11, 14) AS hour
            """,
            ((DAY - timedelta(1)).weekday(),),
        )
        batch = batch_of(connection, "a", "empty")
        result = LINK.compute(batch)
        described = LINK.describe(batch, result)["a"]

    assert result.set_aside["tenant_id"].tolist() == ["empty"]
    bread = 1 + np.flatnonzero((result.panel.keys["product_id"] == "bread").to_numpy()[1:])[0]
    assert result.panel.keys["location_id"].iloc[bread] == "main"
    assert result.panel["demand_units"][bread, -1] == pytest.approx(20 / 0.375)
    assert result.panel["is_estimated"][bread, -8]
    assert result.panel["demand_units"][bread, -8] == pytest.approx(20 / 0.375)
    assert result.panel["sales_units"][bread, -1] == 20
    assert described["sold_out_rows"].value == described["estimated_rows"].value == 2
    assert described["estimated_lost_units"].value == pytest.approx(2 * (20 / 0.375 - 20), abs=0.1)
    assert described["holidays"].value > 8
    assert {"open_days", "inferred_closed_days", "unknown_days", "promotion_rows"} <= set(described)


def test_the_calendar_covers_history_and_horizon(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        add_sold_out_bread(connection, "a")
        batch = batch_of(connection, "a")
        calendar = LINK.compute(batch).calendar
    assert calendar.first_day == DAY - timedelta(HISTORY_DAYS)
    assert calendar.days == HISTORY_DAYS + PLAN_DAYS
    assert calendar.window(DAY, PLAN_DAYS).is_open.all()
    # Good Friday of 2025 is compared with that of 2024, which lies before the history.
    on = calendar.column(DAY.replace(year=2025, month=4, day=18))
    assert calendar.is_holiday[0, on]
    assert calendar.last_year_days[0, on] == 385


def test_a_shorter_window_reads_the_same_days(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        add_sold_out_bread(connection, "a")
        tenants = batch_of(connection, "a").tenants
        last = DAY - timedelta(1)
        short = read_demand(connection, tenants, DAY - timedelta(30), last, last)
        long = read_demand(connection, tenants, DAY - timedelta(500), last, DAY + timedelta(13))
    np.testing.assert_array_equal(short.panel["sales_units"], long.panel["sales_units"][:, -30:])
    assert short.calendar.days == 30
    np.testing.assert_array_equal(short.calendar.is_holiday, long.calendar.is_holiday[:, 470:500])
    np.testing.assert_array_equal(short.calendar.last_year_days, long.calendar.last_year_days[:, 470:500])
