"""`daybreak whatif` on a real database: what changes, what is refused, and that nothing is ever written."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql

from daybreak.cli import main
from daybreak.instance import dagster_environment
from planning_assets.chunk import Order, plan_chunk
from planning_assets.daily_plan import LINKS
from planning_assets.whatif import Adjustment, Changes, Delay, Downtime, WhatIf, WhatIfRefused, read_only, what_if
from resources.model_cache import ModelCache
from resources.store.database import Store
from tests.conftest import address_of
from tests.integration.store_bakery import DAY, NOW, add_bakery, add_sales

Run = Callable[..., Result]

WORKSHOP = """
UPDATE master.product SET batch_size_units = 6, ready_by = '07:00';
UPDATE master.item SET safety_stock_quantity = 0;
INSERT INTO master.product_price (tenant_id, product_id, version, unit_price, variable_cost, recorded_at) VALUES
    ('a', 'bread', 1, 2.5, 0.5, '2026-01-01'), ('a', 'cake', 1, 4, 1.5, '2026-01-01');
INSERT INTO master.resource (tenant_id, resource_id, location_id, name, kind, capacity, capacity_unit, available_from) VALUES
    ('a', 'big-oven', 'main', 'Big oven', 'oven', 2, 'tray', '04:00'),
    ('a', 'small-oven', 'main', 'Small oven', 'oven', 1, 'tray', '04:00');
INSERT INTO master.process_step (tenant_id, item_id, step_no, resource_kind, minutes) VALUES
    ('a', 'bread', 1, 'oven', 40), ('a', 'cake', 1, 'oven', 30);
INSERT INTO master.supplier (tenant_id, supplier_id, name) VALUES ('a', 'sea', 'Sea');
INSERT INTO master.supplier_item (tenant_id, supplier_id, item_id, lead_days, pack_quantity) VALUES ('a', 'sea', 'salt', 2, 1);
INSERT INTO master.supplier_price (tenant_id, supplier_id, item_id, version, from_packs, price_per_pack, recorded_at) VALUES
    ('a', 'mill', 'flour', 1, 1, 25, '2026-01-01'), ('a', 'sea', 'salt', 1, 1, 0.5, '2026-01-01');
INSERT INTO facts.stock_lot (tenant_id, location_id, item_id, as_of, lot_id, quantity, received_on, expires_on) VALUES
    ('a', 'main', 'flour', '2026-03-02', 'l1', 90, '2026-02-20', '2026-05-01'),
    ('a', 'main', 'salt', '2026-03-02', 'l2', 1, '2026-02-20', NULL);
INSERT INTO facts.purchase_order_line (tenant_id, order_line_id, supplier_id, item_id, location_id, quantity, amount,
                                       ordered_on, delivery_on) VALUES
    ('a', 'po-1', 'mill', 'flour', 'main', 50, 50, '2026-02-28', '2026-03-04')
"""
"""Two ovens that have room for what is wanted, one of them alone not; flour for some days and more on its way."""


def plan_day(store: Store) -> None:
    """Plan the day of tenant `a`."""
    add_bakery(store, "a")
    rows = [
        (location, product, DAY - timedelta(days=n), float(20 + n % 7))
        for n in range(1, 57)
        for location, product in (("main", "bread"), ("main", "cake"), ("kiosk", "bread"))
    ]
    with store.transaction() as connection:
        add_sales(connection, "a", rows)
        for statement in WORKSHOP.split(";"):
            connection.execute(statement)  # type: ignore[arg-type]
    order = Order(LINKS, [link.name for link in LINKS], DAY, "run-1", NOW, ModelCache())
    done = plan_chunk(store, order, ["a"], lambda _connection, _outcome: None).done
    assert set(done) == {link.name for link in LINKS}


@pytest.fixture(scope="module")
def planned_dsn(postgres_dsn_root: str, _migrated_template: str) -> Iterator[str]:
    """The address of a database in which the day is planned. Asking writes nothing, so that all tests here may share it."""
    name = sql.Identifier("whatif_shared")
    with psycopg.connect(postgres_dsn_root, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(_migrated_template)))
        dsn = address_of(postgres_dsn_root, "whatif_shared")
        with Store(dsn) as store:
            plan_day(store)
        yield dsn
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def planned(planned_dsn: str) -> Iterator[Store]:
    """The store in which the day is planned, for tests that only ask."""
    with Store(planned_dsn) as opened:
        yield opened


@pytest.fixture
def own(store: Store) -> Store:
    """A store of the test's own in which the day is planned, for tests that change what is known."""
    plan_day(store)
    return store


@pytest.fixture
def run(planned_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line against the planned day; the environment that it sets is taken back afterwards."""
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    for name, value in dagster_environment(planned_dsn).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return call


def ask(store: Store, **changes: Any) -> WhatIf:
    return what_if(store, "a", DAY, Changes(**changes), NOW)


def row_counts(store: Store) -> dict[str, int]:
    """Rows of every table of the product, with the transaction that touched each row last."""
    with store.transaction() as connection:
        tables = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables"
            " WHERE schemaname IN ('master', 'facts', 'plans', 'quality', 'ops')"
        ).fetchall()
        return {
            table: connection.execute(f"SELECT count(*), coalesce(max(xmin::text::bigint), 0) FROM {table}").fetchone()  # type: ignore[arg-type] # noqa: S608
            for (table,) in tables
        }


def test_no_change_is_no_difference_and_writes_nothing(planned: Store) -> None:
    before = row_counts(planned)
    found = ask(planned)
    assert not found.is_changed
    assert found.told == []
    assert all(base == changed for base, changed in found.totals.values())
    assert row_counts(planned) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"demand": [Adjustment(None, factor=1.3)]},
        {"downtimes": [Downtime("big-oven")]},
        {"delays": [Delay("mill", 4)]},
        {"prices": [Adjustment("bread", amount=9.0)]},
        {"costs": [Adjustment("flour", factor=1.5)]},
    ],
)
def test_what_is_asked_is_never_written(planned: Store, changes: dict[str, Any]) -> None:
    before = row_counts(planned)
    assert ask(planned, **changes).is_changed
    assert row_counts(planned) == before


def test_the_database_itself_refuses_to_write(planned: Store) -> None:
    with read_only(planned) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM plans.plan")


def test_the_base_is_what_was_planned(planned: Store) -> None:
    stored = planned.frame(
        "SELECT sum(batches) AS n, sum(expected_profit)::float8 AS profit FROM plans.production_line"
    )
    found = ask(planned)
    assert found.totals["batches"][0] == stored["n"].item()
    assert found.totals["expected_profit"][0] == pytest.approx(stored["profit"].item(), abs=1e-3)


def test_changes_that_undo_each_other_change_nothing(planned: Store) -> None:
    assert not ask(
        planned, demand=[Adjustment(None, factor=1.5), *(Adjustment(p, factor=1.0) for p in ("bread", "cake"))]
    ).is_changed


class TestDemand:
    def test_more_of_it_is_baked_for_and_bought_for(self, planned: Store) -> None:
        found = ask(planned, demand=[Adjustment(None, factor=1.2)])
        assert set(found.production["product_id"]) == {"bread", "cake"}
        for name in ("batches", "units", "expected_profit"):
            base, changed = found.totals[name]
            assert changed > base, name
        assert found.told == ["Demand of every product +20 %"]
        assert any("customer orders do not" in assumed for assumed in found.assumed)

    def test_a_product_of_its_own_leaves_the_others_as_they_are(self, planned: Store) -> None:
        found = ask(planned, demand=[Adjustment("cake", factor=0.5)])
        assert set(found.production["product_id"]) == {"cake"}
        assert (found.production["batches"] < found.production["base_batches"]).all()


class TestAnOvenDown:
    def test_takes_batches_or_time_and_says_which_oven_is_missed(self, planned: Store) -> None:
        found = ask(planned, downtimes=[Downtime("big-oven")])
        assert found.totals["batches"][1] < found.totals["batches"][0]
        assert found.totals["expected_profit"][1] < found.totals["expected_profit"][0]
        limited = found.production[found.production["limited_by"] == "capacity"]
        assert len(limited)
        assert set(limited["limiting_resource_id"]) <= {"small-oven", "big-oven"}

    def test_all_day_takes_more_than_an_hour_and_an_hour_when_nothing_bakes_takes_nothing(self, planned: Store) -> None:
        day, hour, evening = (
            ask(planned, downtimes=[downtime]).totals["batches"][1]
            for downtime in (
                Downtime("big-oven"),
                Downtime("big-oven", time(4), time(5)),
                Downtime("big-oven", time(20), time(22)),
            )
        )
        assert day <= hour <= evening
        assert day < evening
        assert not ask(planned, downtimes=[Downtime("big-oven", time(20), time(22))]).is_changed

    def test_over_midnight_lasts_until_the_morning(self, planned: Store) -> None:
        one, other = (
            ask(planned, downtimes=[downtime])
            for downtime in (Downtime("big-oven", time(22), time(6)), Downtime("big-oven", time(0), time(6)))
        )
        assert one.totals == other.totals

    def test_what_the_calendar_said_of_that_time_gives_way_and_stays_around_it(self, own: Store) -> None:
        with own.transaction() as connection:
            connection.execute(
                "INSERT INTO master.resource_calendar (tenant_id, resource_id, on_date, from_at, until_at, capacity)"
                " VALUES ('a', 'big-oven', %s, '03:00', '06:30', 0)",
                (DAY,),
            )
        covered = ask(own, downtimes=[Downtime("big-oven", time(4), time(5))])
        assert not covered.is_changed, "it is down then already"
        assert ask(own, downtimes=[Downtime("big-oven", time(4), time(7))]).is_changed


class TestALateSupplier:
    def test_delays_what_is_on_order_and_what_is_ordered_now(self, planned: Store) -> None:
        found = ask(planned, delays=[Delay("mill", 4)])
        flour = found.purchases[found.purchases["item_id"] == "flour"]
        assert len(flour)
        assert set(found.purchases["item_id"]) == {"flour"}
        assert found.totals["batches"][0] == found.totals["batches"][1]
        earliest = DAY + timedelta(days=1 + 4)
        assert flour.loc[flour["packs"].notna(), "delivery_on"].min() >= earliest
        assert any("1 order lines of mill come 4 days later" in assumed for assumed in found.assumed)

    def test_leaves_a_shortage_that_has_a_name(self, own: Store) -> None:
        with own.transaction() as connection:
            connection.execute("UPDATE facts.stock_lot SET quantity = 40 WHERE item_id = 'flour'")
        found = ask(own, delays=[Delay("mill", 10)])
        assert found.totals["stock_outs"][1] > found.totals["stock_outs"][0]
        assert "flour" in set(found.stock_outs["item_id"])
        assert "new" in set(found.problems["side"])

    def test_a_shortage_that_grows_is_one_changed_problem_with_both_sides(self, own: Store) -> None:
        with own.transaction() as connection:
            connection.execute("UPDATE facts.stock_lot SET quantity = 0 WHERE item_id = 'flour'")
        found = ask(own, demand=[Adjustment(None, factor=1.2)])
        about = ["link", "location_id", "subject_id", "code"]
        assert not found.problems.duplicated(about).any(), "not as one that is new and one that is gone"
        (late,) = found.problems.query("code == 'late_supply'").itertuples()
        assert late.side == "changed"
        was, now = (float(text.split(" kg of flour")[0]) for text in (late.base_message, late.message))
        assert was < now
        assert {row["side"] for row in found.as_json()["problems"]} >= {"changed"}


class TestMoney:
    def test_a_dearer_bread_is_baked_more_and_earns_more(self, planned: Store) -> None:
        found = ask(planned, prices=[Adjustment("bread", amount=6.0)])
        assert found.totals["units"][1] >= found.totals["units"][0]
        assert found.totals["expected_profit"][1] > found.totals["expected_profit"][0]
        assert set(found.production["product_id"]) == {"bread"}

    def test_dearer_flour_is_dearer_bread_by_the_recipe(self, planned: Store) -> None:
        found = ask(planned, costs=[Adjustment("flour", amount=2.1)])
        # A bread takes 0.9 kg of dough, and a kg of dough 0.6 kg of flour; a kg costs a euro more.
        bread = found.production.set_index("product_id").loc["bread"]
        sold = planned.frame(
            "SELECT quantity_units::float8 AS units FROM plans.production_line WHERE product_id = 'bread'"
        )
        if bread["batches"] == bread["base_batches"]:
            difference = bread["base_expected_profit"] - bread["expected_profit"]
            assert difference == pytest.approx(0.54 * sold["units"].item(), rel=0.01)
        assert bread["expected_profit"] < bread["base_expected_profit"]
        assert set(found.production["product_id"]) == {"bread"}
        flour = found.purchases[found.purchases["item_id"] == "flour"].dropna(subset=["packs", "base_packs"])
        assert (flour["amount"] / flour["packs"]).tolist() == pytest.approx([2.1 * 25] * len(flour))

    def test_a_share_of_a_price_that_nobody_knows_is_refused(self, own: Store) -> None:
        with own.transaction() as connection:
            connection.execute("DELETE FROM master.product_price WHERE product_id = 'cake'")
        with pytest.raises(WhatIfRefused, match="price of cake is not known"):
            ask(own, prices=[Adjustment("cake", factor=1.05)])
        assert ask(own, prices=[Adjustment("cake", amount=5.0)]).told == ["Price of cake 5"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"demand": [Adjustment("pie", factor=1.1)]},
            "no product with a forecast pie. Remedy: choose one of bread, cake",
        ),
        ({"downtimes": [Downtime("kiln")]}, "choose one of big-oven, small-oven"),
        ({"delays": [Delay("farm", 1)]}, "choose one of mill, sea"),
        ({"prices": [Adjustment("flour", amount=1.0)]}, "no product flour"),
        ({"costs": [Adjustment("dough", amount=1.0)]}, "choose one of bread, cake, flour, salt"),
        ({"prices": [Adjustment("bread", amount=0.0)]}, "cannot be 0"),
        ({"prices": [Adjustment("bread", amount=1.0), Adjustment("bread", amount=2.0)]}, "changed twice"),
        ({"delays": [Delay("mill", -1)]}, "cannot be -1 days late"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(planned: Store, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(WhatIfRefused, match=says):
        ask(planned, **changes)


def test_a_change_below_nothing_is_refused() -> None:
    with pytest.raises(WhatIfRefused, match="-100 %"):
        Adjustment("bread", factor=-0.2)
    with pytest.raises(WhatIfRefused, match="factor or an amount"):
        Adjustment("bread")


def test_two_askings_at_the_same_instant_answer_the_same(planned: Store) -> None:
    changes = {"demand": [Adjustment(None, factor=1.2)], "downtimes": [Downtime("small-oven")]}
    first, second = (ask(planned, **changes).as_json() for _ in range(2))
    first.pop("seconds"), second.pop("seconds")
    assert first == second


def test_a_tenant_among_others_is_answered_as_alone(own: Store) -> None:
    alone = ask(own, demand=[Adjustment("bread", factor=1.2)]).as_json()
    add_bakery(own, "b")
    beside = ask(own, demand=[Adjustment("bread", factor=1.2)]).as_json()
    alone.pop("seconds"), beside.pop("seconds")
    assert alone == beside


# ---------------------------------------------------------------- the command


def test_the_command_prints_the_difference_and_its_json_holds_it(run: Run) -> None:
    asked = ("whatif", "--tenant", "a", "--date", str(DAY), "--demand", "+20%", "--oven-down", "big-oven@04:00-06:00")
    printed = run(*asked).stdout
    for said in (
        "Nothing is written",
        "If: Demand of every product +20 %.",
        "big-oven is down from 04:00 to 06:00",
        "Expected profit",
        "bread",
    ):
        assert said in printed, said
    said = json.loads(run(*asked, "--json").stdout)
    assert said["is_changed"]
    assert said["plan_date"] == DAY.isoformat()
    assert {row["product_id"] for row in said["production"]} <= {"bread", "cake"}
    base, changed = (said["totals"]["units"][side] for side in ("base", "changed"))
    assert said["totals"]["units"]["difference"] == pytest.approx(changed - base)


def test_the_command_says_what_a_problem_was_and_is_and_cuts_no_name(
    own: Store, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oven = "main-deck-oven-by-the-window-to-the-yard"
    with own.transaction() as connection:
        connection.execute("DELETE FROM master.resource")
        connection.execute(
            "INSERT INTO master.resource (tenant_id, resource_id, location_id, name, kind, capacity, capacity_unit,"
            " available_from) VALUES ('a', %s, 'main', 'Oven', 'oven', 2, 'tray', '04:00')",
            (oven,),
        )
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    for name, value in dagster_environment(dsn).items():
        monkeypatch.setenv(name, value)
    asked = ["whatif", "--tenant", "a", "--date", str(DAY), "--oven-down", f"{oven}@04:00-06:00"]
    printed = CliRunner().invoke(main, asked, catch_exceptions=False).stdout
    assert "…" not in printed
    production = printed[printed.index("Production") : printed.index("Purchases")]
    assert f"({oven})" in production
    assert max(map(len, production.splitlines())) <= 128
    (changed,) = (line for line in printed.splitlines() if "problem" in line.lower() and "of expected profit" in line)
    assert changed.startswith(f"Problem changed: was: {oven} has no room")
    assert f"; now: {oven} has no room" in changed
    assert "Remedy: " in changed


def test_the_command_says_when_nothing_changes(run: Run) -> None:
    said = run("whatif", "--tenant", "a", "--date", str(DAY), "--supplier-late", "sea=0d").stdout
    assert "Nothing changes" in said
    assert "sea delivers 0 days late" in said


def test_a_date_without_forecasts_says_how_to_make_them(run: Run) -> None:
    said = run("whatif", "--tenant", "a", "--date", "2026-03-05", "--demand", "+20%", expect=3).stderr
    assert "daybreak plan run --tenant a --date 2026-03-05" in said


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--demand", "20"), 2, "no change"),
        (("--demand", "bread=3.5"), 2, "no change"),
        (("--demand", "+x%"), 2, "no change"),
        (("--demand", "-120%"), 3, "-100 %"),
        (("--demand", "pie=+5%"), 3, "choose one of bread, cake"),
        (("--price", "+5%"), 2, "no change"),
        (("--price", "bread=-5"), 2, "no change"),
        (("--oven-down", "kiln"), 3, "big-oven, small-oven"),
        (("--oven-down", "big-oven@25:00-26:00"), 2, "no resource with times"),
        (("--oven-down", "big-oven@04:00-04:00"), 2, "begins when it ends"),
        (("--supplier-late", "mill"), 2, "no delay"),
        (("--supplier-late", "mill=soon"), 2, "no delay"),
        (("--supplier-late", "farm=2d"), 3, "mill, sea"),
        (("--cost", "sugar=+5%"), 3, "bread, cake, flour, salt"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    said = run("whatif", "--tenant", "a", "--date", str(DAY), *arguments, expect=code)
    assert says in said.stderr
    assert said.stdout == ""


def test_an_unknown_tenant_is_refused(run: Run) -> None:
    assert "no tenant nobody" in run("whatif", "--tenant", "nobody", expect=3).stderr


def test_what_can_still_be_ordered_depends_on_the_instant(own: Store) -> None:
    with own.transaction() as connection:
        connection.execute("UPDATE master.supplier SET order_cutoff_at = '12:00'")
        connection.execute("UPDATE facts.stock_lot SET quantity = 40 WHERE item_id = 'flour'")
        connection.execute("DELETE FROM facts.purchase_order_line WHERE item_id = 'flour'")
    morning = what_if(own, "a", DAY, Changes(), NOW)
    evening = what_if(own, "a", DAY, Changes(), datetime.combine(DAY, time(20), NOW.tzinfo))
    assert morning.totals["stock_outs"] == (0, 0), "flour comes tomorrow"
    assert evening.totals["stock_outs"] == (1, 1), "the mill takes no more orders today"
    assert morning.totals["batches"] == evening.totals["batches"]
