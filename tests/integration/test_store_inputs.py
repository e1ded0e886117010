"""What a batch reads from the store: the rows as they are, as they were known on the run date, and nothing of the future."""

from datetime import date, time, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planning.censoring import NOT_SOLD_OUT
from planning.frames import PLAN_DAYS, Panel
from planning.workshop import Workshop
from resources.imports.importer import Options, import_batch
from resources.imports.source import Source
from resources.store.database import Store
from resources.store.due import read_validation_state
from resources.store.inputs import (
    read_assortment,
    read_customer_orders,
    read_doughs,
    read_events,
    read_forecasts,
    read_items,
    read_open_orders,
    read_planned_production,
    read_products,
    read_purchase_lines,
    read_recipes,
    read_requirements,
    read_sales_panel,
    read_stock_history,
    read_supplier_items,
    read_supplier_prices,
    read_suppliers,
    read_tenants,
    read_workshop,
    rebuild_demand_panels,
    refresh_demand_panels,
)
from resources.store.plans import (
    ensure_plan_partitions,
    write_forecasts,
    write_procurement,
    write_production,
)
from resources.store.validation import read_validation_rows, write_validation
from resources.store.versions import bump_input_version
from tests.integration.store_bakery import (
    DAY,
    NO_BACKTEST,
    NO_EXCEPTIONS,
    NOW,
    add_bakery,
    add_sales,
    context,
    doughs,
    forecasts,
    production_lines,
    purchase_lines,
    requirements,
)

ON = {"a": DAY, "b": DAY}


def days_before(count: int) -> date:
    return DAY - timedelta(days=count)


def plan_days(store: Store, tenant_id: str, days: list[date], gross: float = 6.0) -> None:
    """Production of 40 cakes and procurement of `gross` kg of flour, planned on each of the days; nothing is ordered."""
    for day in days:
        ensure_plan_partitions(store, day)
        with store.transaction() as connection:
            write_production(
                connection,
                context(connection, [tenant_id], day),
                production_lines([tenant_id], product_id="cake"),
                NO_EXCEPTIONS,
            )
            write_procurement(
                connection, context(connection, [tenant_id], day), requirements([tenant_id], day, gross),
                purchase_lines([tenant_id], day).iloc[:0], NO_EXCEPTIONS, {tenant_id: True},
            )  # fmt: skip


def test_the_panel_equals_the_rows(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "b")
    rng = np.random.default_rng(7)
    expected = np.full((3, 40), np.nan)  # kiosk bread, main bread, main cake
    names = [("kiosk", "bread"), ("main", "bread"), ("main", "cake")]
    with store.transaction() as connection:
        rows = []
        for n, (location_id, product_id) in enumerate(names):
            for day in np.flatnonzero(rng.random(40) < 0.6):
                units = float(rng.integers(0, 50))
                rows.append((location_id, product_id, days_before(40 - int(day)), units))
                expected[n, day] = units
        add_sales(connection, "a", rows)
        add_sales(connection, "a", [("main", "bread", days_before(1), 2.5)], source="till-2")
        expected[1, 39] = np.nan_to_num(expected[1, 39]) + 2.5
        connection.execute("UPDATE facts.sales SET sold_out_at = '11:00' WHERE business_date = %s", (days_before(1),))
        refresh_demand_panels(connection, ["a", "b"])
        panel = read_sales_panel(connection, ["a", "b"], days_before(40), days_before(1))
        later = read_sales_panel(connection, ["a"], days_before(10), DAY + timedelta(days=2))

    assert panel.keys.loc[:2, ["location_id", "product_id"]].apply(tuple, axis=1).tolist() == names
    np.testing.assert_allclose(panel["sales_units"][:3], expected)
    assert np.isnan(panel["sales_units"][3:]).all()
    assert list(panel.keys["tenant_id"]) == ["a"] * 3 + ["b"] * 3
    np.testing.assert_array_equal(panel["sold_out_minute"][:3, :-1], NOT_SOLD_OUT)
    np.testing.assert_array_equal(
        panel["sold_out_minute"][:3, -1], np.where(np.isnan(expected[:, -1]), NOT_SOLD_OUT, 11 * 60)
    )
    np.testing.assert_allclose(later["sales_units"][:, :10], expected[:, -10:])
    assert np.isnan(later["sales_units"][:, 10:]).all()


def test_a_panel_is_written_when_sales_or_the_assortment_moved_on_and_only_then(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", days_before(3), 5), ("kiosk", "cake", days_before(2), 4)])
        assert refresh_demand_panels(connection, ["a"]) == 1
        assert refresh_demand_panels(connection, ["a"]) == 0
        add_sales(connection, "a", [("main", "bread", days_before(1), 6)])
        assert refresh_demand_panels(connection, ["a"]) == 1
        connection.execute("INSERT INTO master.assortment VALUES ('a', 'kiosk', 'cake', 'main')")
        assert refresh_demand_panels(connection, ["a"]) == 1
        panel = read_sales_panel(connection, ["a"], days_before(3), days_before(1))
        connection.execute("UPDATE master.product SET is_active = false WHERE product_id = 'cake'")
        without_cake = read_sales_panel(connection, ["a"], days_before(3), days_before(1))

    np.testing.assert_array_equal(
        panel["sales_units"], [[np.nan] * 3, [np.nan, 4, np.nan], [5, np.nan, 6], [np.nan] * 3]
    )
    assert set(without_cake.keys["product_id"]) == {"bread"}


HEADER = "location_id,product_id,business_date,quantity_units,sold_out_at,source_id\n"
CREATE = Options(create=frozenset({"product", "location"}))


def import_sales(store: Store, *rows: tuple[str, str, date, float, str, str]) -> None:
    text = HEADER + "".join(",".join(map(str, row)) + "\n" for row in rows)
    report = import_batch(store, "sales", [Source.of_bytes("a", "f.csv", text.encode())], now=NOW, options=CREATE)[0]
    assert report.status in {"imported", "already_imported"}, report.problems


def stored_panels(store: Store) -> list[tuple[object, ...]]:
    """Everything that the panels hold."""
    with store.transaction() as connection:
        return connection.execute(
            """
            SELECT location_id, product_id, first_on, sales_units, sold_out_on, sold_out_minute, sales_version
            FROM facts.demand_panel ORDER BY 1, 2
            """
        ).fetchall()


def test_a_patched_panel_holds_a_late_row_a_correction_and_a_sell_out_taken_back(store: Store) -> None:
    add_bakery(store, "a")
    first = ("main", "bread", days_before(5), 5, "11:30", "")
    import_sales(
        store, first, ("main", "bread", days_before(3), 6, "12:00", ""), ("main", "cake", days_before(4), 2, "", "")
    )
    with store.transaction() as connection:
        assert refresh_demand_panels(connection, ["a"]) == 2
    import_sales(store, ("main", "bread", days_before(7), 4, "", ""), ("main", "bread", days_before(3), 7, "", ""))
    import_sales(
        store, ("main", "bread", days_before(1), 8, "", ""), ("main", "bread", days_before(1), 1, "15:05", "till-2")
    )
    with store.transaction() as connection:
        assert refresh_demand_panels(connection, ["a"]) == 2
        assert connection.execute("SELECT count(*) FROM ops.input_change").fetchone() == (0,)
    bread, cake = stored_panels(store)
    assert bread[2:] == (
        days_before(7),
        [4.0, None, 5.0, None, 7.0, None, 9.0],
        [days_before(5), days_before(1)],
        [690, 905],
        3,
    )
    assert cake[2:] == (days_before(4), [2.0], [], [], 3)


def test_only_the_dates_that_imports_changed_are_read_again(store: Store) -> None:
    add_bakery(store, "a")
    import_sales(store, *(("main", "bread", days_before(n), n, "", "") for n in range(1, 9)))
    with store.transaction() as connection:
        refresh_demand_panels(connection, ["a"])
        # What no import changed is not looked at: a row altered behind the importer's back stays as it was.
        connection.execute("UPDATE facts.sales SET quantity_units = 99 WHERE business_date = %s", (days_before(8),))
    import_sales(store, ("main", "bread", DAY, 3, "", ""), ("main", "bread", days_before(2), 2, "", ""))
    with store.transaction() as connection:
        refresh_demand_panels(connection, ["a"])
    assert stored_panels(store)[0][3] == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 3.0]
    with store.transaction() as connection:
        assert rebuild_demand_panels(connection, ["a"]) == 1
    assert stored_panels(store)[0][3][0] == 99


def test_a_gap_in_the_record_of_changes_has_the_panel_built_anew(store: Store) -> None:
    add_bakery(store, "a")
    import_sales(store, ("main", "bread", days_before(9), 5, "", ""), ("main", "bread", days_before(2), 6, "", ""))
    with store.transaction() as connection:
        refresh_demand_panels(connection, ["a"])
        connection.execute("DELETE FROM facts.sales WHERE business_date = %s", (days_before(9),))
        bump_input_version(connection, "a", "sales", NOW)
    import_sales(store, ("main", "bread", days_before(1), 7, "", ""))
    with store.transaction() as connection:
        refresh_demand_panels(connection, ["a"])
    assert stored_panels(store)[0][2:] == (days_before(2), [6.0, 7.0], [], [], 3)


ROW = st.tuples(
    st.sampled_from(["main", "kiosk"]),
    st.sampled_from(["bread", "cake", "tart"]),
    st.integers(0, 420).map(days_before),
    st.integers(0, 60),
    st.sampled_from(["", "", "", "11:00", "15:45"]),
    st.sampled_from(["", "", "till-2"]),
)
STEP = st.tuples(
    st.lists(ROW, min_size=1, max_size=12, unique_by=lambda row: (row[0], row[1], row[2], row[5])), st.booleans()
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=7))
def test_a_panel_kept_by_patches_equals_one_built_from_the_rows(
    store: Store, steps: list[tuple[list[tuple[str, str, date, float, str, str]], bool]]
) -> None:
    with store.transaction() as connection:  # each example starts from nothing
        connection.execute("TRUNCATE master.tenant CASCADE")
    add_bakery(store, "a")
    for rows, is_refreshed in steps:
        import_sales(store, *rows)
        if is_refreshed:
            with store.transaction() as connection:
                refresh_demand_panels(connection, ["a"])
    with store.transaction() as connection:
        refresh_demand_panels(connection, ["a"])
    kept = stored_panels(store)
    with store.transaction() as connection:
        rebuild_demand_panels(connection, ["a"])
        rows_of_days = connection.execute(
            """
            SELECT location_id, product_id, business_date, sum(quantity_units)::float8, max(sold_out_at) FROM facts.sales
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """
        ).fetchall()
        first = min(row[2] for row in rows_of_days)
        panel = read_sales_panel(connection, ["a"], first, DAY)
    assert kept == stored_panels(store)

    # And both equal the rows, told by another way.
    series = {
        key: n for n, key in enumerate(panel.keys[["location_id", "product_id"]].itertuples(index=False, name=None))
    }
    units = np.full_like(panel["sales_units"], np.nan)
    minute = np.full_like(panel["sold_out_minute"], NOT_SOLD_OUT)
    for location_id, product_id, on, quantity, sold_out_at in rows_of_days:
        at = series[location_id, product_id], panel.column(on)
        units[at] = quantity
        if sold_out_at is not None:
            minute[at] = sold_out_at.hour * 60 + sold_out_at.minute
    np.testing.assert_array_equal(panel["sales_units"], units)
    np.testing.assert_array_equal(panel["sold_out_minute"], minute)


def test_later_versions_are_not_seen_by_earlier_run_dates(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "b")
    with store.transaction() as connection:
        for version, valid_from, price in ((1, "0001-01-01", 3), (2, DAY, 4), (3, DAY + timedelta(days=1), 5)):
            for tenant_id in ("a", "b"):
                connection.execute(
                    """
                    INSERT INTO master.product_price (tenant_id, product_id, version, valid_from, unit_price, recorded_at)
                    VALUES (%s, 'bread', %s, %s, %s, %s)
                    """,
                    (tenant_id, version, valid_from, price, NOW),
                )
                connection.execute(
                    """
                    INSERT INTO master.supplier_price
                        (tenant_id, supplier_id, item_id, version, valid_from, price_per_pack, recorded_at)
                    VALUES (%s, 'mill', 'flour', %s, %s, %s, %s)
                    """,
                    (tenant_id, version, valid_from, 10 * price, NOW),
                )
        # The first version had a price break that the later ones dropped.
        connection.execute(
            "INSERT INTO master.supplier_price VALUES ('a', 'mill', 'flour', 10, 1, '0001-01-01', 28, %s)", (NOW,)
        )
        connection.execute("INSERT INTO master.recipe VALUES ('a', 'dough', 2, %s, 20, 1, %s)", (DAY, NOW))
        connection.execute("INSERT INTO master.recipe_line VALUES ('a', 'dough', 2, 'flour', 13, 0)")
        run_dates = {"a": days_before(1), "b": DAY}
        products = read_products(connection, ["a", "b"], run_dates).set_index(["tenant_id", "product_id"])
        prices = read_supplier_prices(connection, ["a", "b"], run_dates)
        prices_now = read_supplier_prices(connection, ["a"], ON)
        recipes = read_recipes(connection, ["a"], run_dates)
        recipes_now = read_recipes(connection, ["a"], ON)

    assert products.loc[("a", "bread"), "unit_price"] == 3
    assert products.loc[("b", "bread"), "unit_price"] == 4
    assert np.isnan(products.loc[("b", "cake"), "unit_price"])
    assert products.loc[("a", "cake"), "made_on_weekdays"] == [0, 1, 2, 3, 4, 5, 6]
    columns = ["tenant_id", "from_packs", "price_per_pack"]
    assert prices[columns].values.tolist() == [["a", 1, 30.0], ["a", 10, 28.0], ["b", 1, 40.0]]
    assert prices_now[columns].values.tolist() == [["a", 1, 40.0]]
    assert set(recipes["version"]) == {1}
    assert set(recipes_now.loc[recipes_now["output_item_id"] == "dough", "quantity"]) == {13}


def test_orders_add_up_and_those_placed_later_are_unknown(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        for order_id, quantity, ordered_on in (
            ("1", 5, days_before(2)),
            ("2", 7, DAY),
            ("3", 100, DAY + timedelta(days=1)),
        ):
            connection.execute(
                "INSERT INTO facts.customer_order VALUES ('a', %s, 'main', 'bread', %s, %s, %s)",
                (order_id, DAY + timedelta(days=1), quantity, ordered_on),
            )
        connection.execute(
            "INSERT INTO facts.standing_order VALUES ('a', 's', 'main', 'bread', 1, 3, %s, %s)",
            (days_before(30), DAY + timedelta(days=5)),
        )  # DAY is a Monday; the second Tuesday lies after the last day of validity
        orders = read_customer_orders(connection, ["a"], DAY, PLAN_DAYS, ON)
    assert orders[["due_on", "quantity_units"]].values.tolist() == [[DAY + timedelta(days=1), 15.0]]


def test_stock_moves_from_the_last_count_by_orders_movements_and_planned_use(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO facts.stock_lot (tenant_id, location_id, item_id, as_of, lot_id, quantity) VALUES
            ('a', 'main', 'flour', %(old)s, 'l0', 99), ('a', 'main', 'flour', %(counted)s, 'l1', 50),
            ('a', 'main', 'flour', %(next)s, 'l2', 77)
            """,
            {"old": days_before(20), "counted": days_before(5), "next": DAY + timedelta(days=1)},
        )
        connection.execute(
            """
            INSERT INTO facts.stock_movement VALUES ('a', 'm1', 'main', 'flour', %s, -2, 'waste'),
            ('a', 'm2', 'main', 'flour', %s, -3, 'waste'), ('a', 'm3', 'main', 'flour', %s, -4, 'waste')
            """,
            (days_before(6), days_before(4), DAY),
        )
        for line, delivery_on, ordered_on, plan_date, status in (
            ("arrived", days_before(1), days_before(3), None, "open"),
            ("before the count", days_before(6), days_before(7), None, "open"),
            ("cancelled", days_before(1), days_before(3), None, "cancelled"),
            ("on its way", DAY, days_before(1), None, "open"),
            ("of a later plan", DAY + timedelta(days=2), DAY, DAY + timedelta(days=1), "open"),
        ):
            connection.execute(
                """
                INSERT INTO facts.purchase_order_line
                    (tenant_id, order_line_id, supplier_id, item_id, location_id, quantity, amount, ordered_on, delivery_on,
                     status, plan_date)
                VALUES ('a', %s, 'mill', 'flour', 'main', 25, 20, %s, %s, %s, %s)
                """,
                (line, ordered_on, delivery_on, status, plan_date),
            )
    plan_days(store, "a", [days_before(7), days_before(4), days_before(3)])
    with store.transaction() as connection:
        stock = read_stock_history(connection, ["a"], DAY, ON)
        orders = read_open_orders(connection, ["a"], DAY, ON)

    flour = stock.lots[stock.lots["item_id"] == "flour"]
    assert flour[["lot_id", "quantity", "as_of"]].values.tolist() == [["l1", 50.0, days_before(5)]]
    assert stock.movements[["occurred_on", "quantity_change"]].values.tolist() == [[days_before(4), -3.0]]
    assert stock.receipts.loc[stock.receipts["item_id"] == "flour", "lot_id"].tolist() == ["arrived"]
    assert stock.receipts.loc[stock.receipts["item_id"] == "flour", "unit_cost"].tolist() == [0.8]
    used = stock.consumption[stock.consumption["item_id"] == "flour"]
    # The plan of 7 days before covers the day of the count with its third day; the last plan covers until yesterday.
    assert used[["consumed_on", "quantity"]].values.tolist() == [
        [days_before(5), 8.0], [days_before(4), 6.0], [days_before(3), 6.0], [days_before(2), 7.0], [days_before(1), 8.0],
    ]  # fmt: skip
    assert orders["lot_id"].tolist() == ["on its way"]
    assert stock.never_counted[["location_id", "item_id"]].values.tolist() == [["main", "salt"]]


def test_products_are_received_by_production_and_consumed_by_what_was_sold(store: Store) -> None:
    add_bakery(store, "a")
    plan_days(store, "a", [days_before(2), days_before(1)])
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "cake", days_before(2), 31), ("main", "cake", days_before(5), 9)])
        stock = read_stock_history(connection, ["a"], DAY, ON)

    cake = stock.receipts[stock.receipts["item_id"] == "cake"]
    assert cake[["received_on", "quantity", "expires_on"]].values.tolist() == [
        [days_before(2), 40.0, DAY], [days_before(1), 40.0, DAY + timedelta(days=1)],
    ]  # fmt: skip
    used = stock.consumption[stock.consumption["item_id"] == "cake"]
    # Yesterday's sales have not come in: the plan's expectation stands in for them.
    assert used[["consumed_on", "quantity"]].values.tolist() == [[days_before(2), 31.0], [days_before(1), 38.0]]
    opening = stock.lots[stock.lots["item_id"] == "cake"]
    assert opening[["as_of", "quantity"]].values.tolist() == [[days_before(2), 0.0]]


def count(store: Store, item_id: str, as_of: date, quantity: float = 50) -> None:
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO facts.stock_lot (tenant_id, location_id, item_id, as_of, lot_id, quantity)
            VALUES ('a', 'main', %s, %s, 'l1', %s)
            """,
            (item_id, as_of, quantity),
        )


def consumed(store: Store, item_id: str) -> list[list[object]]:
    with store.transaction() as connection:
        used = read_stock_history(connection, ["a"], DAY, ON).consumption
    return used.loc[used["item_id"] == item_id, ["consumed_on", "quantity"]].values.tolist()


def test_an_outlet_whose_till_is_late_takes_its_share_of_the_expected_sales(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        connection.execute("INSERT INTO master.assortment VALUES ('a', 'kiosk', 'cake', 'main')")
    plan_days(store, "a", [days_before(3), days_before(2), days_before(1)])  # of 40 cakes, 38 are expected to be sold
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "cake", days_before(3), 20), ("kiosk", "cake", days_before(3), 5)])
        add_sales(connection, "a", [("main", "cake", days_before(2), 21), ("main", "cake", days_before(1), 22)])
        panel = forecasts(["a"], days_before(1))
        keys = panel.keys.assign(product_id="cake").drop_duplicates(["location_id", "product_id"])
        panel = Panel(
            keys.reset_index(drop=True),
            {name: matrix[keys.index] for name, matrix in panel.values.items()},
            panel.first_day,
        )
        panel["mean_units"][(panel.keys["location_id"] == "main").to_numpy()] *= 3  # so the kiosk sells a quarter
        write_forecasts(connection, context(connection, ["a"], days_before(1)), panel, NO_BACKTEST, NO_EXCEPTIONS)

    # All reported; the kiosk late and nothing forecast: half of 38; the kiosk late: a quarter of 38.
    expected = [[days_before(3), 25.0], [days_before(2), 21 + 19.0], [days_before(1), 22 + 9.5]]
    assert consumed(store, "cake") == expected
    with store.transaction() as connection:
        add_sales(connection, "a", [("kiosk", "bread", days_before(1), 4)])  # its till works, and sold no cake
    assert consumed(store, "cake")[2] == [days_before(1), 22.0]


def test_what_a_counted_product_sold_is_taken_from_stock_without_a_plan(store: Store) -> None:
    add_bakery(store, "a")
    count(store, "cake", days_before(3))
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "cake", days_before(n), 10 + n) for n in (4, 3, 1)])
        add_sales(connection, "a", [("main", "cake", DAY, 99)])
    assert consumed(store, "cake") == [[days_before(3), 13.0], [days_before(1), 11.0]]


def test_what_happens_on_the_run_date_is_not_known_when_the_next_day_is_planned(store: Store) -> None:
    add_bakery(store, "a")
    count(store, "flour", days_before(3))
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO facts.stock_movement VALUES ('a', 'm1', 'main', 'flour', %s, -2, 'waste'),
            ('a', 'm2', 'main', 'flour', %s, -3, 'waste')
            """,
            (days_before(2), days_before(1)),
        )
        moved = read_stock_history(connection, ["a"], DAY, {"a": days_before(1)}).movements
    assert moved["occurred_on"].tolist() == [days_before(2)]


def test_a_time_since_the_count_that_no_plan_covers_is_told(store: Store) -> None:
    def uncovered() -> list[list[object]]:
        with store.transaction() as connection:
            found = read_stock_history(connection, ["a"], DAY, ON).uncovered
        assert list(found.columns[:3]) == ["tenant_id", "location_id", "item_id"]
        return found[["item_id", "counted_on", "first_on", "last_on"]].values.tolist()

    add_bakery(store, "a", [DAY, days_before(30)])
    count(store, "flour", days_before(1))
    count(store, "bread", days_before(9))
    assert uncovered() == [], "a day is let pass, and products are no ingredients"
    count(store, "salt", days_before(5))
    assert uncovered() == [["salt", days_before(5), days_before(5), days_before(1)]]
    plan_days(store, "a", [days_before(3)])
    assert uncovered() == [["salt", days_before(5), days_before(5), days_before(4)]]
    plan_days(store, "a", [days_before(4)])
    assert uncovered() == []


def test_a_time_between_two_plans_that_neither_covers_is_told(store: Store) -> None:
    add_bakery(store, "a")
    count(store, "flour", days_before(30))
    plan_days(store, "a", [days_before(30), days_before(10)])
    with store.transaction() as connection:
        found = read_stock_history(connection, ["a"], DAY, ON).uncovered
    # A plan covers 14 days.
    columns = ["item_id", "counted_on", "first_on", "last_on"]
    assert found[columns].values.tolist() == [["flour", days_before(30), days_before(16), days_before(11)]]


def test_what_was_written_is_read_back(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "b")
    tenants, lines = ["a", "b"], purchase_lines(["a", "b"])
    with store.transaction() as connection:
        write_forecasts(connection, context(connection, tenants), forecasts(tenants), NO_BACKTEST, NO_EXCEPTIONS)
        write_production(
            connection, context(connection, tenants), production_lines(tenants), NO_EXCEPTIONS, doughs=doughs(tenants)
        )
        write_procurement(
            connection,
            context(connection, tenants),
            requirements(tenants),
            lines,
            NO_EXCEPTIONS,
            dict.fromkeys(tenants, False),
        )
        forecast = read_forecasts(connection, tenants, DAY)
        planned = read_planned_production(connection, tenants, DAY)
        needed = read_requirements(connection, tenants, DAY)
        bought = read_purchase_lines(connection, tenants, DAY)
        mixed = read_doughs(connection, tenants, DAY)
        nothing = read_forecasts(connection, tenants, DAY + timedelta(days=1))

    order = forecasts(tenants).keys.sort_values(["tenant_id", "location_id", "product_id"]).index.to_numpy()
    written = forecasts(tenants).select(order)
    for name in ("mean_units", "quantile_units", "is_open"):
        np.testing.assert_allclose(forecast[name], written[name], rtol=1e-6)
    pd.testing.assert_frame_equal(forecast.keys, written.keys, check_dtype=False)
    np.testing.assert_array_equal(planned["horizon_units"], [np.arange(40.0, 54)] * 2)
    np.testing.assert_array_equal(planned["deviation_units"], [np.arange(14) / 2] * 2)
    assert set(needed.keys["safety_stock_reason"]) == {"95 % of 3 days"}
    pd.testing.assert_frame_equal(mixed, doughs(tenants), check_dtype=False)
    for name, matrix in requirements(tenants).values.items():
        np.testing.assert_array_equal(needed[name], matrix)
    overridden = ["override_by", "override_reason"]
    assert bought[overridden].isna().all(axis=None)
    shared = [column for column in lines.columns if column not in ("expires_on", "order_key", *overridden)]
    pd.testing.assert_frame_equal(bought[shared], lines[shared], check_dtype=False)
    assert bought["purchase_order_id"].nunique() == 4, "an order per tenant and order key"
    assert nothing["quantile_units"].shape == (0, 14, 9)


def test_times_of_batches_are_stored_as_instants_beside_each_other(store: Store) -> None:
    add_bakery(store, "a")
    at = [NOW + timedelta(minutes=n) for n in range(40)]
    lines = production_lines(["a"]).assign(
        batch_resource_ids=[["deck-oven"] * 40], batch_starts_at=[at], batch_bakes_at=[at], batch_ready_at=[at],
        ready_by=[NOW + timedelta(hours=1)], is_late=True,
    )  # fmt: skip
    with store.transaction() as connection:
        write_production(connection, context(connection, ["a"]), lines, NO_EXCEPTIONS)
        batches = connection.execute(
            "SELECT batch_no, resource_id, ready_at, expected_gain::float8 FROM plans.production_batch ORDER BY 1"
        ).fetchall()
    assert batches[:3] == [(1, "deck-oven", at[0], 1.5), (2, "deck-oven", at[1], 0.25), (3, "deck-oven", at[2], None)]
    assert len(batches) == 40
    naive = lines.assign(batch_ready_at=[[moment.replace(tzinfo=None) for moment in at]])
    with pytest.raises(ValueError, match="no time zone"), store.transaction() as connection:
        write_production(connection, context(connection, ["a"]), naive, NO_EXCEPTIONS)


def test_a_plan_made_before_deviations_were_kept_has_none(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        write_production(connection, context(connection, ["a"]), production_lines(["a"]), NO_EXCEPTIONS)
        connection.execute("UPDATE plans.production_line SET deviation_units = '{}'")
        planned = read_planned_production(connection, ["a"], DAY)
    np.testing.assert_array_equal(planned["deviation_units"], np.zeros((1, PLAN_DAYS)))


def test_the_workshop_is_read_in_four_queries_with_the_calendar_of_the_horizon(store: Store) -> None:
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    statements = """
        INSERT INTO master.resource VALUES ('a', 'oven', 'main', 'Oven', 'oven', 12, 'trays', '03:30');
        INSERT INTO master.resource (tenant_id, resource_id, location_id, name, kind, capacity, capacity_unit)
            VALUES ('b', 'mixer', 'main', 'Mixer', 'mixer', 40, 'kg');
        INSERT INTO master.process_step VALUES
            ('a', 'bread', 2, 'oven', 'oven', 45, 4, 10), ('a', 'bread', 1, 'labour', NULL, 5, 1, 0);
        INSERT INTO master.opening_hours VALUES ('a', 'main', 0, '07:30', '19:00');
    """
    with store.transaction() as connection:
        for statement in statements.split(";")[:-1]:
            connection.execute(statement)  # type: ignore[arg-type]
        for offset in (-2, -1, 13, 14):
            connection.execute(
                "INSERT INTO master.resource_calendar VALUES ('a', 'oven', %s, '04:00', NULL, 0, 'repair')",
                (DAY + timedelta(days=offset),),
            )
        workshop = read_workshop(connection, ["a", "b"], DAY)
        alone = read_workshop(connection, ["b"], DAY)
    oven = workshop.resources.iloc[0]
    assert (oven["kind"], oven["capacity"], oven["available_from"]) == ("oven", 12.0, time(3, 30))
    assert workshop.resources["available_from"].tolist()[1] == time(0)
    assert workshop.calendar["on_date"].tolist() == [days_before(1), DAY + timedelta(days=13)]
    assert workshop.calendar.loc[0, ["from_at", "until_at", "capacity"]].tolist() == [time(4), None, 0.0]
    assert workshop.steps[["step_no", "resource_kind", "resource_id", "minutes"]].values.tolist() == [
        [1, "labour", None, 5.0], [2, "oven", "oven", 45.0],
    ]  # fmt: skip
    assert workshop.opening[["weekday", "opens_at"]].values.tolist() == [[0, time(7, 30)]]
    assert [len(frame) for frame in (alone.resources, alone.calendar, alone.steps, alone.opening)] == [1, 0, 0, 0]
    assert list(alone.steps.columns) == list(Workshop.empty().steps.columns)
    assert list(alone.calendar.columns) == list(Workshop.empty().calendar.columns)
    assert list(alone.resources.columns) == list(Workshop.empty().resources.columns)


def test_settings_of_the_workshop_and_of_buying_are_read(store: Store) -> None:
    add_bakery(store, "a")
    statements = """
        UPDATE master.product SET ready_by = '06:15' WHERE product_id = 'bread';
        UPDATE master.item SET lot_rule = 'fixed', lot_quantity = 50, service_level = 0.9 WHERE item_id = 'flour';
        UPDATE master.supplier SET delivery_fee = 7.5;
        UPDATE master.supplier_item SET lead_sd_days = 0.5, on_time_rate = 0.93;
    """
    with store.transaction() as connection:
        for statement in statements.split(";")[:-1]:
            connection.execute(statement)  # type: ignore[arg-type]
        products = read_products(connection, ["a"], ON)
        items = read_items(connection, ["a"]).set_index("item_id")
        suppliers = read_suppliers(connection, ["a"])
        offers = read_supplier_items(connection, ["a"])
    assert products["ready_by"].tolist() == [time(6, 15), None]
    assert items.loc["flour", ["service_level", "lot_rule", "lot_quantity"]].tolist() == [0.9, "fixed", 50.0]
    assert items.loc["salt", ["service_level", "lot_rule"]].tolist() == [0.95, "delivery_calendar"]
    assert items["lot_periods"].isna().all()
    assert suppliers["delivery_fee"].tolist() == [7.5]
    assert offers.loc[0, ["lead_sd_days", "on_time_rate"]].tolist() == [0.5, 0.93]


def test_tenants_events_and_assortment_have_their_types_without_rows(store: Store) -> None:
    with store.transaction() as connection:
        tenants = read_tenants(connection, ["nobody"])
        events = read_events(connection, ["nobody"], DAY, DAY)
        assortment = read_assortment(connection, ["nobody"])
    assert (len(tenants), len(events), len(assortment)) == (0, 0, 0)
    assert tenants["default_critical_ratio"].dtype == float


def test_validation_scores_the_revision_that_was_live_at_opening(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        week = [("main", "bread", days_before(n), 20.0 + (n % 14 >= 7) * 4) for n in range(1, 60)]
        add_sales(connection, "a", [*week, ("main", "bread", DAY, 12), ("kiosk", "bread", days_before(7), 3)])
        for units, hours in ((10.0, 0), (11.0, 1), (99.0, 6)):  # the last one is made after opening
            now = NOW + timedelta(hours=hours)
            write_forecasts(
                connection,
                context(connection, ["a"], now=now),
                forecasts(["a"], units=units),
                NO_BACKTEST,
                NO_EXCEPTIONS,
            )
        rows = read_validation_rows(connection, ["a"], DAY).set_index(["location_id", "product_id"])
        tomorrow = read_validation_rows(connection, ["a"], DAY + timedelta(days=1))

    bread = rows.loc[("main", "bread")]
    assert (bread["mean_units"], bread["is_replayed"], bread["days_ahead"]) == (11.0, False, 0)
    assert (bread["actual_units"], bread["naive_units"], bread["scale_units"]) == (12.0, 24.0, pytest.approx(4.0))
    np.testing.assert_allclose(bread["quantile_units"][4], 11.0, rtol=1e-6)
    assert rows.loc[("main", "cake"), "actual_units"] == 0
    assert np.isnan(rows.loc[("main", "cake"), "naive_units"])
    assert np.isnan(rows.loc[("kiosk", "bread"), "actual_units"])
    assert rows.loc[("kiosk", "bread"), "naive_units"] == 3
    assert set(tomorrow["days_ahead"]) == {1}
    assert tomorrow["actual_units"].isna().all()


def test_a_product_that_sold_long_ago_has_a_seasonal_naive_of_zero(store: Store) -> None:
    add_bakery(store, "a")
    with store.transaction() as connection:
        add_sales(connection, "a", [("main", "bread", days_before(n), 20.0) for n in range(100)])
        add_sales(connection, "a", [("main", "cake", days_before(n), 5.0) for n in range(90, 100)])
        refresh_demand_panels(connection, ["a"])
        write_forecasts(connection, context(connection, ["a"]), forecasts(["a"]), NO_BACKTEST, NO_EXCEPTIONS)
        rows = read_validation_rows(connection, ["a"], DAY).set_index(["location_id", "product_id"])

    assert rows.loc[("main", "cake"), ["actual_units", "naive_units", "scale_units"]].tolist() == [0, 0, 0]
    assert rows.loc[("main", "bread"), "naive_units"] == 20
    assert np.isnan(rows.loc[("kiosk", "bread"), "naive_units"]), "it never sold anything"


def test_a_forecast_made_only_after_opening_is_marked_and_a_closed_day_is_left_out(store: Store) -> None:
    add_bakery(store, "a")
    panel = forecasts(["a"])
    panel["is_open"][panel.keys["location_id"] == "kiosk"] = False
    with store.transaction() as connection:
        late = context(connection, ["a"], now=NOW + timedelta(hours=9))
        write_forecasts(connection, late, panel, NO_BACKTEST, NO_EXCEPTIONS)
        rows = read_validation_rows(connection, ["a"], DAY)
    assert rows["is_replayed"].all()
    assert set(rows["location_id"]) == {"main"}


def test_validation_is_replaced_and_sales_that_come_later_are_not_the_schedules_concern(store: Store) -> None:
    add_bakery(store, "a")
    numbers = {
        "rows_used": 2, "rows_zero": 0, "rows_without_actual": 0, "forecast_units": 10.0, "actual_units": 9.0,
        "mae_units": 1.0, "rmse_units": 1.0, "mape_pct": np.nan, "wape_pct": 11.1, "accuracy_pct": 88.9, "bias_pct": 11.1,
        "r2": np.nan, "mase": np.nan, "pinball_units": 0.4, "naive_wape_pct": 20.0, "coverage_pct": 100.0,
    }  # fmt: skip
    metrics = pd.DataFrame(
        [
            {
                "tenant_id": "a", "scope": "overall", "location_id": "", "product_id": "", "days_ahead": 0,
                "is_replayed": False, "quantile_coverage": {"0.9": 1.0}, "quantile_below": {}, **numbers,
            }
        ]
    )  # fmt: skip
    with store.transaction() as connection:
        write_forecasts(connection, context(connection, ["a"]), forecasts(["a"]), NO_BACKTEST, NO_EXCEPTIONS)
        bump_input_version(connection, "a", "sales", NOW)
        before = read_validation_state(connection, ["a"], DAY, 0)
        write_validation(connection, DAY, metrics, {"a": {"sales": 1}}, {}, "run-1", NOW)
        write_validation(connection, DAY, metrics, {"a": {"sales": 1}}, {}, "run-2", NOW)
        validated = read_validation_state(connection, ["a"], DAY, 0)
        bump_input_version(connection, "a", "sales", NOW)
        later = read_validation_state(connection, ["a"], DAY, 0)
    assert [frame["is_current"].item() for frame in (before, validated, later)] == [False, True, True]
    stored = store.frame("SELECT mape_pct, wape_pct, quantile_coverage FROM quality.validation_metric")
    assert stored.values.tolist() == [[None, 11.1, {"0.9": 1.0}]]
    events = store.frame("SELECT payload FROM ops.outbox WHERE type = 'forecast.validated'")
    assert events["payload"][0]["wape_pct"] == 11.1
    assert "mape_pct" not in events["payload"][0]
