"""Plans are revisions: one is active, the old ones stay, a transaction writes all or nothing, and orders are placed once."""

import threading
from datetime import timedelta
from uuid import UUID

import numpy as np
import pandas as pd
import psycopg
import pytest

from planning.frames import exceptions_of, set_aside_of
from resources.store.database import Store
from resources.store.executions import add_events, finish_executions, reap, start_executions, write_step_logs
from resources.store.failures import record_failures, resolve_failures
from resources.store.inputs import read_open_orders
from resources.store.plans import (
    ensure_plan_partitions,
    lock_tenants,
    mark_reported,
    plan_id_of,
    up_to_date,
    write_forecasts,
    write_procurement,
    write_production,
    write_projection,
)
from resources.store.report import (
    read_exceptions,
    read_failures,
    read_production_sheet,
    read_purchases,
    read_stock_alerts,
)
from resources.store.versions import bump_input_version
from tests.integration.store_bakery import (
    DAY,
    NO_BACKTEST,
    NO_EXCEPTIONS,
    NOW,
    add_bakery,
    context,
    forecasts,
    production_lines,
    projections,
    purchase_lines,
    requirements,
)

LATER = NOW + timedelta(minutes=20)


def write_all(store: Store, tenant_ids: list[str], auto_approve: bool = True, units: float = 10.0) -> None:
    """The whole morning of some tenants in one transaction."""
    with store.transaction() as connection:
        lock_tenants(connection, tenant_ids)
        now = context(connection, tenant_ids)
        write_forecasts(connection, now, forecasts(tenant_ids, units=units), NO_BACKTEST, NO_EXCEPTIONS)
        write_production(connection, now, production_lines(tenant_ids, 4 * units), NO_EXCEPTIONS)
        write_procurement(
            connection, now, requirements(tenant_ids), purchase_lines(tenant_ids), NO_EXCEPTIONS,
            dict.fromkeys(tenant_ids, auto_approve),
        )  # fmt: skip
        write_projection(connection, now, projections(tenant_ids), NO_EXCEPTIONS)


def headers(store: Store, kind: str) -> pd.DataFrame:
    return store.frame(
        "SELECT * FROM plans.plan WHERE kind = %(kind)s ORDER BY tenant_id, location_id, revision", {"kind": kind}
    )


def test_a_replan_supersedes_and_keeps_the_old_lines(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"], units=10)
    write_all(store, ["a"], units=20)
    plans = headers(store, "production")
    assert plans[["location_id", "revision", "status"]].values.tolist() == [
        ["main", 1, "superseded"], ["main", 2, "active"],
    ]  # fmt: skip
    lines = store.frame("SELECT plan_id, quantity_units FROM plans.production_line ORDER BY quantity_units")
    assert [float(units) for units in lines["quantity_units"]] == [40, 80]
    assert lines["plan_id"].tolist() == plans["plan_id"].tolist()
    assert store.frame("SELECT count(*) AS n FROM plans.forecast")["n"].item() == 6


def test_a_rollback_leaves_the_old_revision_active(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"])
    before = [headers(store, kind) for kind in ("forecast", "production", "procurement", "projection")]
    broken = production_lines(["a"]).assign(quantity_units=41.0)  # not a whole number of batches
    with pytest.raises(psycopg.errors.CheckViolation), store.transaction() as connection:  # noqa: PT012
        now = context(connection, ["a"])
        write_forecasts(connection, now, forecasts(["a"]), NO_BACKTEST, NO_EXCEPTIONS)
        write_production(connection, now, broken, NO_EXCEPTIONS)
    after = [headers(store, kind) for kind in ("forecast", "production", "procurement", "projection")]
    for left, right in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(left, right)


def test_two_runs_at_once_write_one_after_the_other(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "b")
    start = threading.Barrier(2)

    def plan(tenant_ids: list[str]) -> None:
        start.wait()
        write_all(store, tenant_ids)

    # Opposite orders would deadlock if locks were taken as given.
    threads = [threading.Thread(target=plan, args=(ids,)) for ids in (["a", "b"], ["b", "a"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plans = headers(store, "production")
    assert plans[["tenant_id", "revision", "status"]].values.tolist() == [
        ["a", 1, "superseded"], ["a", 2, "active"], ["b", 1, "superseded"], ["b", 2, "active"],
    ]  # fmt: skip


def test_the_database_itself_refuses_a_second_active_plan(store: Store) -> None:
    add_bakery(store, "a")
    errors: list[psycopg.Error] = []
    start = threading.Barrier(2)

    def plan_without_lock(revision: int) -> None:
        start.wait()
        try:
            with store.transaction() as connection:
                connection.execute(
                    """
                    INSERT INTO plans.plan (tenant_id, plan_id, kind, location_id, plan_date, run_date, revision, status,
                                            inputs_hash, input_versions, is_replayed, run_id, created_at)
                    VALUES ('a', gen_random_uuid(), 'forecast', 'main', %(day)s, %(day)s, %(revision)s, 'active', 'x', '{}',
                            false, 'run', %(now)s)
                    """,
                    {"day": DAY, "now": NOW, "revision": revision},
                )
                connection.execute("SELECT pg_sleep(0.2)")
        except psycopg.errors.UniqueViolation as error:
            errors.append(error)

    threads = [threading.Thread(target=plan_without_lock, args=(revision,)) for revision in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert len(headers(store, "forecast")) == 1


def test_a_plan_cannot_name_another_tenants_location(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "b")
    with store.transaction() as connection:
        connection.execute("INSERT INTO master.location (tenant_id, location_id, name) VALUES ('b', 'annex', 'Annex')")
    foreign = production_lines(["a"]).assign(location_id="annex")
    with pytest.raises(psycopg.errors.ForeignKeyViolation), store.transaction() as connection:
        write_production(connection, context(connection, ["a"]), foreign, NO_EXCEPTIONS)
    with pytest.raises(psycopg.errors.ForeignKeyViolation), store.transaction() as connection:
        connection.execute("INSERT INTO master.assortment VALUES ('a', 'annex', 'bread', 'main')")


def test_the_views_agree_with_the_arrays(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"], units=10)
    write_all(store, ["a"], units=20)
    panel = forecasts(["a"], units=20)
    days = store.frame(
        "SELECT target_date, days_ahead, is_extended, mean_units, quantile_units FROM plans.forecast_day "
        "WHERE location_id = 'main' AND product_id = 'cake' ORDER BY target_date"
    )
    np.testing.assert_allclose(days["mean_units"].astype(float), panel["mean_units"][1])
    np.testing.assert_allclose(np.array(days["quantile_units"].tolist()), panel["quantile_units"][1], rtol=1e-6)
    assert days["target_date"].tolist() == panel.dates
    assert days["is_extended"].tolist() == [False] * 7 + [True] * 7
    made = store.frame("SELECT quantity_units FROM plans.production_day ORDER BY target_date")
    assert [float(units) for units in made["quantity_units"]] == [80.0 + n for n in range(14)]
    needed = store.frame("SELECT * FROM plans.requirement_day ORDER BY target_date")
    for name, matrix in requirements(["a"]).values.items():
        np.testing.assert_array_equal(needed[name].astype(float), matrix[0])
    ahead = store.frame("SELECT * FROM plans.projection_day ORDER BY target_date")
    for name, matrix in projections(["a"]).values.items():
        np.testing.assert_allclose(ahead[name].astype(float), matrix[0], rtol=1e-6)


def test_ids_come_from_the_key_and_nothing_else(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"])
    assert plan_id_of("a", "production", "main", DAY, 1) == UUID("9d83d28c-af08-5eac-b238-7e2194a00b6b")
    assert headers(store, "production")["plan_id"].tolist() == [plan_id_of("a", "production", "main", DAY, 1)]


def test_due_lines_are_ordered_once_and_a_replan_keeps_the_order(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"])
    with store.transaction() as connection:
        orders = read_open_orders(connection, ["a"], DAY, {"a": DAY})
        write_procurement(
            connection, context(connection, ["a"], now=LATER), requirements(["a"]), purchase_lines(["a"]).iloc[1:],
            NO_EXCEPTIONS, {"a": True},
        )  # fmt: skip
        bought = read_purchases(connection, "a", DAY)
        again = read_open_orders(connection, ["a"], DAY, {"a": DAY})

    assert orders[["item_id", "delivery_on", "quantity"]].values.tolist() == [["flour", DAY + timedelta(days=1), 25.0]]
    pd.testing.assert_frame_equal(orders, again)
    assert bought[["status", "packs", "revision", "is_earlier_revision"]].values.tolist() == [
        ["ordered", 1, 1, True], ["pending", 2, 2, False],
    ]  # fmt: skip
    line_ids = store.frame("SELECT line_id::text FROM plans.purchase_line WHERE status = 'ordered'")["line_id"]
    assert line_ids.tolist() == orders["lot_id"].tolist()
    assert headers(store, "procurement")["approval"].tolist() == ["approved", "approved"]
    events = store.frame("SELECT subject, payload FROM ops.outbox WHERE type = 'procurement.plan.approved' ORDER BY id")
    assert [payload["ordered_lines"] for payload in events["payload"]] == [1, 0]


def test_nothing_is_ordered_without_approval(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"], auto_approve=False)
    assert headers(store, "procurement")["approval"].tolist() == ["pending"]
    assert store.frame("SELECT count(*) AS n FROM facts.purchase_order_line")["n"].item() == 0
    assert store.frame("SELECT DISTINCT status FROM plans.purchase_line")["status"].tolist() == ["pending"]
    assert store.frame("SELECT type FROM ops.outbox")["type"].tolist() == ["production.plan.created"]


def test_up_to_date_until_an_input_changes_or_a_plan_is_missing(store: Store) -> None:
    for tenant_id in ("a", "b", "c"):
        add_bakery(store, tenant_id)
    run_dates = dict.fromkeys(("c", "b", "a"), DAY)

    def state() -> dict[str, tuple[bool, bool]]:
        with store.transaction() as connection:
            rows = up_to_date(connection, list(run_dates), DAY, run_dates)
        assert rows["tenant_id"].tolist() == list(run_dates)
        return {row.tenant_id: (row.is_current, row.is_reported) for row in rows.itertuples()}

    write_all(store, ["a", "b"])
    assert state() == {"a": (True, False), "b": (True, False), "c": (False, False)}
    with store.transaction() as connection:
        assert mark_reported(connection, DAY, ["a"]) == 5  # forecasts of two locations, three plans at main
        bump_input_version(connection, "b", "stock", NOW)
    assert state() == {"a": (True, True), "b": (False, False), "c": (False, False)}
    with store.transaction() as connection:
        connection.execute("INSERT INTO master.location (tenant_id, location_id, name) VALUES ('a', 'annex', 'Annex')")
        connection.execute("INSERT INTO master.assortment VALUES ('a', 'annex', 'bread', 'annex')")
    assert state()["a"] == (False, False)


def test_locations_without_lines_have_a_plan_too(store: Store) -> None:
    add_bakery(store, "a")
    only_main = forecasts(["a"]).select(np.array([0]))
    with store.transaction() as connection:
        written = write_forecasts(connection, context(connection, ["a"]), only_main, NO_BACKTEST, NO_EXCEPTIONS)
    assert written["location_id"].tolist() == ["kiosk", "main"]
    assert written["revision"].tolist() == [1, 1]


def test_the_header_tells_the_numbers_and_how_it_was_made(store: Store) -> None:
    add_bakery(store, "a", plan_lead_days=1)
    backtest = pd.DataFrame(
        [("a", "naive", 90, 31.5, np.nan, False), ("a", "mean", 90, 28.0, 1.0, True)], columns=NO_BACKTEST.columns
    )
    with store.transaction() as connection:
        early = context(connection, ["a"], lead_days=1)
        late = context(connection, ["a"], now=NOW + timedelta(hours=5), lead_days=1)
        write_forecasts(connection, early, forecasts(["a"]), backtest, NO_EXCEPTIONS)
        write_production(connection, late, production_lines(["a"]), NO_EXCEPTIONS)
    made = headers(store, "production").iloc[0]
    assert made["is_replayed"]
    assert (made["run_date"], made["run_id"], made["input_versions"]["products"]) == (
        DAY - timedelta(days=1),
        "run-1",
        1,
    )
    assert made["summary"] == {
        "rows": 1, "batches": 40, "quantity_units": 40.0, "expected_profit": None, "expected_waste_units": 2.0,
        "expected_lost_units": 1.0, "rows_without_profit": 1, "lines_overridden": 0, "late_lines": 0, "exceptions": 0,
    }  # fmt: skip
    forecast = headers(store, "forecast").iloc[1]
    assert not forecast["is_replayed"]
    assert forecast["summary"]["champion"] == "mean"
    assert forecast["summary"]["backtest"][0] == {"method": "naive", "rows": 90, "wape_pct": 31.5, "bias_pct": None}


def test_exceptions_belong_to_a_plan_and_none_is_lost(store: Store) -> None:
    add_bakery(store, "a")
    exceptions = exceptions_of(
        [
            ("a", "forecasts", "main", "product", "cake", "no_history", "Cake has no history.", "Give an estimate."),
            ("a", "forecasts", None, "supplier", "mill", "late", "The mill is late.", "Call."),
        ]
    )
    with store.transaction() as connection:
        write_forecasts(connection, context(connection, ["a"]), forecasts(["a"]), NO_BACKTEST, exceptions)
        shown = read_exceptions(connection, "a", DAY)
    assert shown[["location_id", "code"]].values.tolist() == [["kiosk", "late"], ["main", "no_history"]]
    with pytest.raises(ValueError, match="ghost"), store.transaction() as connection:
        write_forecasts(
            connection, context(connection, ["a"]), forecasts(["a"]), NO_BACKTEST, exceptions.assign(tenant_id="ghost")
        )


def test_a_tenant_without_lines_has_plans_that_say_why(store: Store) -> None:
    add_bakery(store, "a")
    why = exceptions_of([("a", "procurement_plans", "main", "product", "bread", "no_recipe", "No recipe.", "Add it.")])
    no_rows = np.array([], dtype=int)
    with store.transaction() as connection:
        now = context(connection, ["a"])
        written = [
            write_forecasts(connection, now, forecasts(["a"]).select(no_rows), NO_BACKTEST, why),
            write_production(connection, now, production_lines(["a"]).iloc[:0], why),
            write_procurement(
                connection, now, requirements(["a"]).select(no_rows), purchase_lines(["a"]).iloc[:0], why, {"a": True}
            ),
            write_projection(connection, now, projections(["a"]).select(no_rows), why),
        ]
        state = up_to_date(connection, ["a"], DAY, {"a": DAY})
    assert [len(plans) for plans in written] == [2, 1, 1, 1]
    assert state["is_current"].item()
    assert headers(store, "procurement")["summary"].item() == {"exceptions": 1}


def test_a_horizon_never_holds_an_unknown_number(store: Store) -> None:
    add_bakery(store, "a")
    panel = forecasts(["a"])
    panel["mean_units"][0, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"), store.transaction() as connection:
        write_forecasts(connection, context(connection, ["a"]), panel, NO_BACKTEST, NO_EXCEPTIONS)


def test_partitions_are_made_once(store: Store) -> None:
    assert ensure_plan_partitions(store, DAY) == 8
    assert ensure_plan_partitions(store, DAY + timedelta(days=9)) == 0


def test_a_failure_is_open_until_the_date_is_planned(store: Store) -> None:
    add_bakery(store, "a")
    set_aside = set_aside_of([("a", "forecasts", "No sales.", "Import sales.")])
    with store.transaction() as connection:
        assert record_failures(connection, "daily_operations", DAY, set_aside, "run-1", NOW) == 1
        record_failures(connection, "daily_operations", DAY, set_aside.assign(reason="Still none."), "run-2", LATER)
        assert read_failures(connection, "a", DAY)["reason"].tolist() == ["Still none."]
        assert record_failures(connection, "daily_operations", DAY, set_aside_of(), "run-3", LATER) == 0
        assert resolve_failures(connection, ["a"], DAY, LATER, ["production_plans"]) == 0
        assert resolve_failures(connection, ["a"], DAY, LATER, ["demand_history", "forecasts"]) == 1
        assert read_failures(connection, "a", DAY).empty


def test_the_sheets_show_the_active_plan(store: Store) -> None:
    add_bakery(store, "a")
    write_all(store, ["a"])
    with store.transaction() as connection:
        sheet = read_production_sheet(connection, "a", DAY)
        alerts = read_stock_alerts(connection, "a", DAY)
    assert sheet[["product_name", "batches", "quantity_units"]].values.tolist() == [["Bread", 40, 40.0]]
    assert alerts[["item_name", "stock_out_on", "shortage_quantity"]].values.tolist() == [
        ["Flour", DAY + timedelta(days=5), 28.0]
    ]


def test_executions_keep_their_steps_and_dead_runs_are_closed(store: Store) -> None:
    add_bakery(store, "a")
    add_bakery(store, "b")
    with store.transaction() as connection:
        start = ("daily_operations", "manual", "test", ["a", "b"], DAY, 5, "run-1", "host", NOW)
        ids = start_executions(connection, *start)
        log = (ids["a"], 0, "forecasts", "info", "made", {"rows": 3}, NOW)
        write_step_logs(connection, [log])
        assert start_executions(connection, *start) == ids  # the run is retried
        write_step_logs(connection, [log, (ids["a"], 1, "production_plans", "error", "failed", {}, LATER)])  # type: ignore[list-item]
        finished = pd.DataFrame(
            [(ids["a"], "a", "completed", 5, 0, None, {"plans": 4})],
            columns=["execution_id", "tenant_id", "status", "steps_completed", "steps_failed", "error", "result"],
        )
        assert finish_executions(connection, finished, LATER) == 1
        assert finish_executions(connection, pd.DataFrame([]), LATER) == 0
        assert reap(connection, ["run-1"], LATER) == 1
        assert reap(connection, ["run-1"], LATER) == 0
    rows = store.frame("SELECT tenant_id, status, duration_seconds, result FROM ops.execution ORDER BY tenant_id")
    assert rows.values.tolist() == [["a", "completed", 1200.0, {"plans": 4}], ["b", "failed", 1200.0, {}]]
    logs = store.frame("SELECT step_name, level, data FROM ops.execution_log ORDER BY step_index")
    assert logs.values.tolist() == [["forecasts", "info", {"rows": 3}], ["production_plans", "error", {}]]
    events = store.frame("SELECT type, payload FROM ops.outbox")
    assert events["type"].tolist() == ["orchestrator.workflow_failed"]
    assert events["payload"][0]["tenants_affected"] == ["b"]


def test_an_event_is_gone_with_its_fact(store: Store) -> None:
    add_bakery(store, "a")
    with pytest.raises(RuntimeError), store.transaction() as connection:  # noqa: PT012
        add_events(connection, [("model.promoted", "a", "a", {"version": "2"})], NOW)
        raise RuntimeError
    assert store.frame("SELECT * FROM ops.outbox").empty
