"""Imports into a real Postgres: what is written, what is refused and how it is answered."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from resources.imports import source
from resources.imports.contracts import KINDS
from resources.imports.importer import ImportReport, Options, UnknownTenant, import_batch, import_file
from resources.imports.source import Source
from resources.store.database import Store
from resources.store.master import Location, Tenant, add_location, add_tenant

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)
CREATE = Options(create=frozenset({"product", "location"}))
SALES = "location_id,product_id,business_date,quantity_units\n"


@pytest.fixture
def tenant(store: Store) -> Store:
    """The store with tenant `t` and its location `main`."""
    _add(store, "t")
    return store


def _add(store: Store, tenant_id: str, timezone: str = "Europe/Madrid") -> None:
    with store.transaction() as connection:
        add_tenant(connection, Tenant(tenant_id, tenant_id, timezone, "ES", NOW))
        add_location(connection, Location(tenant_id, "main", "Main"))


def take(store: Store, kind: str, text: str, options: Options = Options(), now: datetime = NOW) -> ImportReport:  # noqa: B008
    return import_batch(store, kind, [Source.of_bytes("t", "f.csv", text.encode())], now=now, options=options)[0]


def taken(store: Store, kind: str, text: str, now: datetime = NOW) -> ImportReport:
    report = take(store, kind, text, now=now)
    assert report.status == "imported", report.problems
    return report


def rows(store: Store, query: Any, *parameters: object) -> list[tuple[Any, ...]]:
    with store.transaction() as connection:
        return connection.execute(query, parameters).fetchall()


def bakery(store: Store) -> None:
    """A croissant, its dough, flour and butter, and a mill."""
    taken(store, "products", "product_id,name,unit_price,variable_cost\ncroissant,Croissant,1.40,0.42\n")
    taken(
        store,
        "items",
        "item_id,name,kind,base_unit\ndough,Dough,dough,kg\nflour,Flour,ingredient,kg\nmilk,Milk,ingredient,L\neggs,Eggs,ingredient,unit\n",
    )
    taken(store, "suppliers", "supplier_id,name\nmill,Mill\n")


# ---------------------------------------------------------------- sales


def test_sales_with_everything_created_are_written_and_join_the_assortment(tenant: Store) -> None:
    text = (
        "location_id,product_id,business_date,quantity_units,unit_price,sold_out_at,source_id\n"
        "main,baguette,2025-03-08,40,1.20,15:30,till-1\nkiosk,baguette,2025-03-09,7.5,,,\n"
    )
    report = take(tenant, "sales", text, CREATE)
    assert (report.status, report.rows_read, report.rows_written) == ("imported", 2, 2)
    assert report.created == {"product": ["baguette"], "location": ["kiosk"]}
    stored = rows(
        tenant,
        "SELECT location_id, business_date, quantity_units, unit_price, sold_out_at::text, source_id FROM facts.sales ORDER BY 2",
    )
    assert stored == [
        ("main", date(2025, 3, 8), Decimal(40), Decimal("1.2"), "15:30:00", "till-1"),
        ("kiosk", date(2025, 3, 9), Decimal("7.5"), None, None, ""),
    ]
    assort = rows(tenant, "SELECT location_id, made_at_location_id FROM master.assortment ORDER BY 1")
    assert assort == [("kiosk", "kiosk"), ("main", "main")]
    assert rows(tenant, "SELECT count(*) FROM master.product_price") == [(0,)]
    versions = dict(rows(tenant, "SELECT input, version FROM ops.input_version"))
    assert versions == {"sales": 1, "products": 1, "calendar": 1}


def test_a_file_seen_before_is_a_no_op_that_says_so(tenant: Store) -> None:
    text = SALES + "main,baguette,2025-03-08,40\n"
    take(tenant, "sales", text, CREATE)
    report = take(tenant, "sales", text, CREATE, now=datetime(2025, 3, 11, tzinfo=UTC))
    assert (report.status, report.rows_written, report.imported_at) == ("already_imported", 0, NOW)
    assert rows(tenant, "SELECT count(*) FROM ops.import") == [(1,)]
    assert dict(rows(tenant, "SELECT input, version FROM ops.input_version"))["sales"] == 1


def test_a_later_file_replaces_what_differs_and_keeps_the_old_value(tenant: Store) -> None:
    first = take(tenant, "sales", SALES + "main,baguette,2025-03-08,40\nmain,baguette,2025-03-09,30\n", CREATE)
    later = taken(tenant, "sales", SALES + "main,baguette,2025-03-08,41\nmain,baguette,2025-03-09,30.0\n")
    assert (later.rows_written, later.rows_unchanged) == (1, 1)
    assert rows(tenant, "SELECT quantity_units, import_id FROM facts.sales ORDER BY business_date") == [
        (Decimal(41), later.import_id),
        (Decimal(30), first.import_id),
    ]
    kept = rows(
        tenant, "SELECT quantity_units, import_id, replaced_by_import_id, replaced_at FROM facts.sales_replaced"
    )
    assert kept == [(Decimal(40), first.import_id, later.import_id, NOW)]


def test_a_file_that_changes_nothing_bumps_no_version(tenant: Store) -> None:
    take(tenant, "sales", SALES + "main,baguette,2025-03-08,40\n", CREATE)
    same = taken(tenant, "sales", SALES + "main,baguette,2025-03-08,40.000\n")
    assert (same.rows_written, same.rows_unchanged) == (0, 1)
    assert dict(rows(tenant, "SELECT input, version FROM ops.input_version"))["sales"] == 1


def test_an_absent_column_leaves_what_is_stored(tenant: Store) -> None:
    text = "location_id,product_id,business_date,quantity_units,sold_out_at\nmain,baguette,2025-03-08,40,15:30\n"
    take(tenant, "sales", text, CREATE)
    taken(tenant, "sales", SALES + "main,baguette,2025-03-08,44\n")
    assert rows(tenant, "SELECT quantity_units, sold_out_at::text FROM facts.sales") == [(Decimal(44), "15:30:00")]
    taken(tenant, "sales", text.replace("40,15:30", "44,"))
    assert rows(tenant, "SELECT sold_out_at FROM facts.sales") == [(None,)]


def test_the_dates_that_an_import_changed_are_recorded_with_its_version(tenant: Store) -> None:
    recorded = "SELECT version, first_on, last_on FROM ops.input_change WHERE input = 'sales' ORDER BY 1"
    old = SALES + "main,baguette,2025-03-02,40\nmain,baguette,2025-03-08,41\n"
    take(tenant, "sales", old, CREATE)
    taken(
        tenant, "sales", SALES + "main,baguette,2025-03-02,40\nmain,baguette,2025-03-05,9\nmain,baguette,2025-03-08,7\n"
    )
    taken(tenant, "sales", SALES + "main,baguette,2025-03-02,40.0\n")
    take(tenant, "sales", old, Options(again=True))
    assert rows(tenant, recorded) == [
        (1, date(2025, 3, 2), date(2025, 3, 8)),
        (2, date(2025, 3, 5), date(2025, 3, 8)),
        (3, date(2025, 3, 8), date(2025, 3, 8)),
    ]


def test_again_applies_an_old_file_over_later_ones(tenant: Store) -> None:
    old = SALES + "main,baguette,2025-03-08,40\n"
    take(tenant, "sales", old, CREATE)
    taken(tenant, "sales", SALES + "main,baguette,2025-03-08,41\n")
    assert take(tenant, "sales", old, Options(again=True)).rows_written == 1
    assert rows(tenant, "SELECT quantity_units FROM facts.sales") == [(Decimal(40),)]
    assert rows(tenant, "SELECT count(*) FROM ops.import") == [(2,)]


def test_a_file_longer_than_a_chunk_keeps_its_line_numbers(tenant: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK_ROWS", 3)
    lines = [f"main,baguette,2025-02-{day:02d},{day}" for day in range(1, 9)]
    lines[6] = "main,baguette,2025-02-07,x"
    report = take(tenant, "sales", SALES + "\n".join(lines) + "\n", CREATE)
    assert [(p.row, p.column, p.value) for p in report.problems] == [(8, "quantity_units", "x")]
    assert report.rows_read == 8


def test_sales_of_two_tenants_in_one_batch_stay_apart(tenant: Store) -> None:
    _add(tenant, "u", "Pacific/Auckland")
    files = [
        Source.of_bytes("t", "t.csv", (SALES + "main,baguette,2025-03-08,1\n").encode()),
        Source.of_bytes("u", "u.csv", (SALES + "main,baguette,2025-03-08,2\n").encode()),
    ]
    reports = import_batch(tenant, "sales", files, now=NOW, options=CREATE)
    assert [(r.tenant_id, r.rows_written) for r in reports] == [("t", 1), ("u", 1)]
    assert rows(tenant, "SELECT tenant_id, quantity_units FROM facts.sales ORDER BY 1") == [("t", 1), ("u", 2)]


# ---------------------------------------------------------------- bad files

KNOWN = "main,croissant,2025-03-08,1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("main,croissant,2025-03-08,\n", (2, "quantity_units", "", "empty", "such as 42")),
        ("main,croissant,2025-03-08,-3\n", (2, "quantity_units", "-3", "negative", "at least 0")),
        ("main,croissant,2025-03-08,nan\n", (2, "quantity_units", "nan", "not a finite number", "leave the row out")),
        ('main,croissant,2025-03-08,"1,5"\n', (2, "quantity_units", "1,5", "a decimal comma", "1.5")),
        ("main,croissant,2025-03-08,1,5\n", (2, "", "main,croissant,2025-03-08,1,5", "5 cells where", "decimal point")),
        ("main,croissant,08.03.2025,1\n", (2, "business_date", "08.03.2025", "not a date", "two ways")),
        (
            KNOWN + "main,croissant,2025-03-12,1\n",
            (3, "business_date", "2025-03-12", "in the future", "Check the date"),
        ),
        ("main,croisant,2025-03-08,1\n", (2, "product_id", "croisant", "unknown product", "Write croissant")),
        ("mian,croissant,2025-03-08,1\n", (2, "location_id", "mian", "unknown location", "Write main")),
        ("main,Croissant,2025-03-08,1\n", (2, "product_id", "Croissant", "not an id", "such as croissant")),
        (f"main,{'c' * 49},2025-03-08,1\n", (2, "product_id", "c" * 49, "49 characters", "at most 48")),
        (
            KNOWN + "main,croissant,2025-03-09,2\n" + KNOWN,
            (2, "location_id", None, "rows 2 and 4 have the same", "Keep one"),
        ),
        ("main,=1+1,2025-03-08,1\n", (2, "product_id", "=1+1", "not an id", "small letters")),
    ],
)
def test_a_bad_row_is_refused_with_row_column_value_and_remedy(
    tenant: Store, text: str, expected: tuple[int, str, str | None, str, str]
) -> None:
    bakery(tenant)
    before = rows(tenant, "SELECT input, version FROM ops.input_version ORDER BY 1")
    report = take(tenant, "sales", SALES + text)
    assert report.status == "refused"
    problem = report.problems[0]
    row, column, value, words, remedy = expected
    assert (problem.row, problem.column) == (row, column)
    assert value is None or problem.value == value
    assert words in problem.problem
    assert remedy in problem.remedy
    assert rows(tenant, "SELECT count(*) FROM facts.sales") == [(0,)]
    assert rows(tenant, "SELECT count(*) FROM ops.import WHERE kind = 'sales'") == [(0,)]
    assert rows(tenant, "SELECT input, version FROM ops.input_version ORDER BY 1") == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (SALES.encode(), "a header without rows"),
        (b"location_id,product_id,business_date\nmain,x,2025-03-08\n", "'quantity_units' is missing"),
        (b"location,product_id,business_date,quantity_units\nmain,x,2025-03-08,1\n", "unknown column 'location'"),
        (SALES.encode() + "main,caf\xe9,2025-03-08,1\n".encode("latin-1"), "not UTF-8"),
        (SALES.encode() + b"main,x\0,2025-03-08,1\n", "NUL byte"),
        (SALES.encode() + b'main,"x,2025-03-08,1\n', "no valid CSV"),
    ],
)
def test_a_bad_file_is_refused_as_a_whole(tenant: Store, content: bytes, problem: str) -> None:
    (report,) = import_batch(tenant, "sales", [Source.of_bytes("t", "f.csv", content)], now=NOW, options=CREATE)
    assert report.status == "refused"
    assert problem in report.problems[0].problem
    assert report.problems[0].remedy
    assert rows(tenant, "SELECT count(*) FROM master.product") == [(0,)]


def test_tomorrow_is_judged_in_the_time_zone_of_the_tenant(store: Store) -> None:
    _add(store, "t", "Pacific/Kiritimati")  # 2025-03-11 there
    assert take(store, "sales", SALES + "main,x,2025-03-12,1\n", CREATE).status == "imported"
    assert take(store, "sales", SALES + "main,x,2025-03-13,1\n", CREATE).status == "refused"


def test_a_missing_file_and_an_unknown_tenant_are_answered(tenant: Store, tmp_path: Path) -> None:
    report = import_file(tenant, "t", "sales", tmp_path / "none.csv", now=NOW)
    assert "No such file" in report.problems[0].problem
    with pytest.raises(UnknownTenant, match="Did you mean t"):
        import_file(tenant, "tt", "sales", tmp_path / "none.csv", now=NOW)


def test_semicolons_and_a_byte_order_mark_are_accepted(tenant: Store) -> None:
    text = "\ufeff" + SALES.replace(",", ";") + "main;baguette;2025-03-08;1.5\n"
    assert take(tenant, "sales", text, CREATE).rows_written == 1


def test_keep_good_puts_bad_rows_into_quarantine_and_a_second_try_takes_them(tenant: Store) -> None:
    bakery(tenant)
    text = SALES + KNOWN + "main,croissant,2025-03-09,x\nmain,rye,2025-03-09,5\n" + "main,croissant,2025-03-07,2\n" * 2
    report = take(tenant, "sales", text, Options(keep_good=True))
    assert (report.status, report.rows_read, report.rows_written, report.rows_quarantined) == ("imported", 5, 1, 4)
    quarantined = rows(
        tenant, "SELECT row_number, column_name, value, raw ->> 'product_id' FROM ops.quarantine ORDER BY 1"
    )
    assert quarantined[:2] == [(3, "quantity_units", "x", "croissant"), (4, "product_id", "rye", "rye")]
    assert [row[0] for row in quarantined[2:]] == [5, 6]
    taken(tenant, "products", "product_id,name\nrye,Rye\n")
    again = take(tenant, "sales", text, Options(keep_good=True))
    assert (again.status, again.rows_written, again.rows_quarantined) == ("imported", 1, 3)
    assert rows(tenant, "SELECT count(*) FROM ops.quarantine") == [(3,)]
    assert rows(tenant, "SELECT rows_quarantined FROM ops.import WHERE kind = 'sales'") == [(3,)]


def test_create_products_does_not_turn_an_ingredient_into_a_product(tenant: Store) -> None:
    bakery(tenant)
    report = take(tenant, "sales", SALES + "main,flour,2025-03-08,1\n", CREATE)
    assert report.status == "refused"
    assert "known as ingredient" in report.problems[0].problem


# ---------------------------------------------------------------- master data and other facts


def test_a_product_price_is_a_new_version_only_when_it_changed(tenant: Store) -> None:
    def versions() -> list[tuple[Any, ...]]:
        return rows(
            tenant,
            "SELECT version, valid_from, unit_price, variable_cost FROM master.product_price ORDER BY version",
        )

    header = "product_id,name,unit_price,variable_cost\n"
    taken(tenant, "products", header + "croissant,Croissant,1.40,0.42\n")
    first = (1, date(1, 1, 1), Decimal("1.4"), Decimal("0.42"))
    renamed = taken(tenant, "products", header + "croissant,Butter croissant,1.40,0.42\n")
    assert renamed.rows_written == 1
    assert versions() == [first]
    taken(tenant, "products", "product_id,name,unit_price\ncroissant,Butter croissant,1.50\n")
    second = (2, date(2025, 3, 10), Decimal("1.5"), Decimal("0.42"))
    assert versions() == [first, second]
    taken(tenant, "products", "product_id,name,unit_price,valid_from\ncroissant,Butter croissant,1.60,2025-06-01\n")
    assert versions()[2][:2] == (3, date(2025, 6, 1))
    assert rows(tenant, "SELECT name, kind, base_unit FROM master.item") == [("Butter croissant", "product", "unit")]


def test_columns_that_a_products_file_lacks_stay_as_they_are(tenant: Store) -> None:
    taken(tenant, "products", "product_id,name,batch_size_units,made_on_weekdays\ncroissant,C,24,mon tue\n")
    taken(tenant, "products", "product_id,name\ncroissant,Croissant\n")
    stored = rows(tenant, "SELECT batch_size_units, made_on_weekdays FROM master.product")
    assert stored == [(Decimal(24), [0, 1])]


def test_a_product_without_a_shelf_life_is_one_of_the_day(tenant: Store) -> None:
    taken(tenant, "products", "product_id,name,shelf_life_days\ncroissant,Croissant,\ncake,Cake,3\n")
    taken(tenant, "products", "product_id,name\ncake,Cream cake\nrye,Rye\n")
    take(tenant, "sales", SALES + "main,baguette,2025-03-08,40\n", CREATE)
    taken(tenant, "items", "item_id,name,kind,base_unit\nflour,Flour,ingredient,kg\n")
    assert dict(rows(tenant, "SELECT item_id, shelf_life_days FROM master.item")) == {
        "baguette": 1, "cake": 3, "croissant": 1, "flour": None, "rye": 1,
    }  # fmt: skip


RECIPE = "output_item_id,output_quantity,output_unit,yield_frac,item_id,quantity,unit,scrap_frac\n"


def test_a_recipe_is_converted_to_base_units_and_versioned_as_a_whole(tenant: Store) -> None:
    bakery(tenant)
    taken(tenant, "unit-conversions", "item_id,from_unit,factor\neggs,tray,30\n")
    text = RECIPE + (
        "dough,10,kg,0.97,flour,5500,g,0.01\ndough,10,kg,0.97,milk,900,ml,0\ndough,10,kg,0.97,eggs,2,tray,0\n"
        "croissant,10,,,dough,700,g,\n"
    )
    assert taken(tenant, "recipes", text).rows_written == 4
    lines = (
        "SELECT item_id, quantity FROM master.recipe_line WHERE output_item_id = 'dough' AND version = %s ORDER BY 1"
    )
    assert rows(tenant, lines, 1) == [("eggs", 60), ("flour", Decimal("5.5")), ("milk", Decimal("0.9"))]
    same = taken(tenant, "recipes", text.replace("5500,g", "5.5,kg"))
    assert (same.rows_written, same.rows_unchanged) == (0, 4)
    changed = taken(tenant, "recipes", RECIPE + "dough,10,kg,0.97,flour,6,kg,0.01\n")
    assert changed.rows_written == 1
    assert rows(tenant, lines, 2) == [("flour", 6)]
    headers = rows(tenant, "SELECT version, valid_from FROM master.recipe WHERE output_item_id = 'dough' ORDER BY 1")
    assert headers == [(1, date(1, 1, 1)), (2, date(2025, 3, 10))]
    assert dict(rows(tenant, "SELECT input, version FROM ops.input_version"))["recipes"] == 4


@pytest.mark.parametrize(
    ("line", "column", "problem"),
    [
        ("croissant,10,,,flour,1,tray,", "unit", "no conversion from tray to kg for flour"),
        ("croissant,10,,,milk,1,kg,", "unit", "no conversion from kg to L for milk"),
        ("croissant,10,,,croissant,1,,", "item_id", "cannot go into itself"),
        ("dough,11,kg,,milk,1,L,", "output_quantity", "row 2 of the same output_item_id says 10"),
        ("croissant,10,,,flour,0.0001,g,", "quantity", "out of range"),
        ("croissant,10,,1.1,flour,1,kg,", "yield_frac", "too large"),
    ],
)
def test_a_bad_recipe_line_is_refused(tenant: Store, line: str, column: str, problem: str) -> None:
    bakery(tenant)
    report = take(tenant, "recipes", RECIPE + f"dough,10,kg,,flour,5,kg,\n{line}\n")
    found = report.problems[-1] if column == "output_quantity" else next(p for p in report.problems if p.row == 3)
    assert found.column == column
    assert problem in found.problem


def test_keep_good_leaves_out_a_recipe_with_a_bad_line_as_a_whole(tenant: Store) -> None:
    bakery(tenant)
    text = RECIPE + "dough,10,kg,,flour,5,kg,\ndough,10,kg,,milk,x,L,\ncroissant,10,,,dough,1,kg,\n"
    report = take(tenant, "recipes", text, Options(keep_good=True))
    assert (report.rows_written, report.rows_quarantined) == (1, 2)
    assert rows(tenant, "SELECT output_item_id FROM master.recipe") == [("croissant",)]


def test_price_breaks_are_versioned_as_a_set(tenant: Store) -> None:
    bakery(tenant)
    header = "supplier_id,item_id,lead_days,pack_quantity,unit,from_packs,price_per_pack\n"
    text = header + "mill,flour,2,25000,g,1,20\nmill,flour,2,25000,g,10,18\n"
    taken(tenant, "supplier-items", text)
    assert rows(tenant, "SELECT lead_days, pack_quantity FROM master.supplier_item") == [(2, Decimal(25))]
    assert taken(tenant, "supplier-items", text.replace("25000,g", "25,kg")).rows_written == 0
    taken(tenant, "supplier-items", text.replace("10,18", "10,17"))
    prices = rows(tenant, "SELECT version, from_packs, price_per_pack FROM master.supplier_price ORDER BY 1, 2")
    assert prices == [(1, 1, 20), (1, 10, 18), (2, 1, 20), (2, 10, 17)]


def test_a_stock_count_replaces_an_earlier_one_of_the_same_day(tenant: Store) -> None:
    bakery(tenant)
    header = "location_id,item_id,lot_id,as_of,quantity,unit,expires_on\n"
    taken(tenant, "stock", header + "main,flour,a,2025-03-10,5,kg,\nmain,flour,b,2025-03-10,7,kg,2025-04-01\n")
    report = taken(tenant, "stock", header + "main,flour,b,2025-03-10,7000,g,2025-04-01\n")
    assert (report.rows_written, report.rows_unchanged) == (0, 1)
    assert rows(tenant, "SELECT lot_id, quantity FROM facts.stock_lot") == [("b", 7)]
    assert dict(rows(tenant, "SELECT input, version FROM ops.input_version"))["stock"] == 2


def test_opening_hours_hold_the_whole_week(tenant: Store) -> None:
    header = "location_id,weekday,opens_at,closes_at\n"
    taken(tenant, "opening-hours", header + "main,0,07:00,19:00\nmain,1,07:00,19:00\n")
    taken(tenant, "opening-hours", header + "main,tue,08:00,19:00\n")
    assert rows(tenant, "SELECT weekday, opens_at::text FROM master.opening_hours") == [(1, "08:00:00")]
    report = take(tenant, "opening-hours", header + "main,0,19:00,07:00\n")
    assert report.problems[0].problem == "not later than opens_at"


def test_events_may_name_no_location_and_no_product(tenant: Store) -> None:
    text = "location_id,product_id,business_date,kind,name\n,,2025-12-25,holiday,Christmas\nmain,,2025-12-26,closure,Rest\n"
    assert taken(tenant, "events", text).rows_written == 2
    more = taken(tenant, "events", text + ",,2026-01-01,holiday,New Year\n")
    assert (more.rows_written, more.rows_unchanged) == (1, 2)
    twice = take(tenant, "events", text + ",,2025-12-25,holiday,Christmas\n")
    assert "rows 2 and 4" in twice.problems[0].problem


PROFILE = "location_id,product_id,weekday,hour,share\n"


def test_an_hourly_profile_holds_the_whole_day_of_what_it_names(tenant: Store) -> None:
    bakery(tenant)
    stored = "SELECT weekday, hour, share::float8 FROM master.hourly_profile ORDER BY 1, 2"
    text = PROFILE + "main,croissant,mon,7,0.6\nmain,croissant,mon,8,0.4\nmain,croissant,tue,7,1\n"
    assert taken(tenant, "hourly-profile", text).rows_written == 3
    taken(tenant, "hourly-profile", PROFILE + "main,croissant,0,9,0.7\nmain,croissant,0,10,0.295\n")
    assert rows(tenant, stored) == [(0, 9, 0.7), (0, 10, 0.295), (1, 7, 1.0)]
    versions = dict(rows(tenant, "SELECT input, version FROM ops.input_version"))
    assert versions["calendar"] == 2


def test_an_hourly_profile_that_does_not_add_up_is_refused_with_all_its_rows(tenant: Store) -> None:
    bakery(tenant)
    text = PROFILE + "main,croissant,0,7,0.6\nmain,croissant,0,8,0.3\nmain,croissant,1,7,1\n"
    report = take(tenant, "hourly-profile", text)
    assert report.status == "refused"
    assert [(problem.row, problem.column, problem.value) for problem in report.problems] == [
        (2, "share", "0.6"),
        (3, "share", "0.3"),
    ]
    problem = report.problems[0]
    assert problem.problem == "the rows of main, croissant, 0 add up to 0.9 where they must add up to 1"
    assert "add up to 1" in problem.remedy
    kept = take(tenant, "hourly-profile", text, Options(keep_good=True))
    assert (kept.rows_written, kept.rows_quarantined) == (1, 2)


def test_a_bad_share_is_named_and_not_the_sum_that_it_leaves(tenant: Store) -> None:
    bakery(tenant)
    report = take(tenant, "hourly-profile", PROFILE + "main,croissant,0,7,0.6\nmain,croissant,0,8,40%\n")
    assert [(problem.row, problem.problem) for problem in report.problems] == [
        (2, "belongs to main, croissant, 0 with row 3, which is bad"),
        (3, "not a number"),
    ]
    report = take(tenant, "hourly-profile", PROFILE + "main,croissant,0,24,0.6\nmain,croissant,0,8,1.4\n")
    assert {problem.problem for problem in report.problems} == {"too large"}


WORKSHOP = "resource_id,location_id,name,kind,capacity,capacity_unit\n"
STEPS = "item_id,step_no,resource_kind,resource_id,minutes,capacity_use,wait_minutes\n"
TIMES = "resource_id,on_date,from_at,until_at,capacity,reason\n"


def workshop(store: Store) -> None:
    """The bakery with an oven and a mixer."""
    bakery(store)
    taken(store, "resources", WORKSHOP + "oven,main,Oven,oven,12,trays\nmixer,main,Mixer,mixer,40,kg\n")


def test_a_files_steps_are_all_steps_of_the_items_it_names(tenant: Store) -> None:
    workshop(tenant)
    taken(
        tenant,
        "process-steps",
        STEPS + "croissant,1,labour,,12,,\ncroissant,2,oven,oven,18,4,20\ndough,1,mixer,,15,,30\n",
    )
    taken(tenant, "process-steps", STEPS + "croissant,1,oven,,17.5,4,\n")
    stored = rows(
        tenant,
        "SELECT item_id, step_no, resource_kind, resource_id, minutes, capacity_use, wait_minutes"
        " FROM master.process_step ORDER BY 1, 2",
    )
    assert stored == [
        ("croissant", 1, "oven", None, Decimal("17.5"), Decimal(4), Decimal(0)),
        ("dough", 1, "mixer", None, Decimal(15), Decimal(1), Decimal(30)),
    ]
    assert dict(rows(tenant, "SELECT input, version FROM ops.input_version"))["products"] == 4


@pytest.mark.parametrize(
    ("kind", "line", "column", "problem"),
    [
        ("process-steps", "flour,1,oven,,18,4,", "item_id", "it is bought, not made"),
        ("process-steps", "croissant,1,oven,mixer,18,4,", "resource_id", "the resource is of another kind"),
        ("process-steps", "croissant,1,oven,ovem,18,4,", "resource_id", "unknown resource"),
        ("process-steps", "croissant,1,oven,,0,4,", "minutes", "too small"),
        ("process-steps", "croissant,1,stove,,9,4,", "resource_kind", "not one of the words that this column takes"),
        ("process-steps", "croissant,0,oven,,9,4,", "step_no", "too small"),
        ("resource-calendar", "oven,2025-03-11,06:00,04:00,0,repair", "until_at", "not later than from_at"),
        ("resource-calendar", "oven,2025-03-11,06:00,06:00,0,repair", "until_at", "not later than from_at"),
        ("resource-calendar", "oven,2025-03-11,06:00,,-1,repair", "capacity", "negative"),
        ("resource-calendar", "stove,2025-03-11,06:00,,0,repair", "resource_id", "unknown resource"),
    ],
)
def test_a_bad_step_or_time_is_refused_with_column_and_remedy(
    tenant: Store, kind: str, line: str, column: str, problem: str
) -> None:
    workshop(tenant)
    report = take(tenant, kind, (STEPS if kind == "process-steps" else TIMES) + line + "\n")
    (found,) = report.problems
    assert (report.status, found.row, found.column, found.problem) == ("refused", 2, column, problem)
    assert found.remedy


def test_a_resources_day_is_replaced_as_a_whole_and_its_times_follow_each_other(tenant: Store) -> None:
    workshop(tenant)
    taken(tenant, "resource-calendar", TIMES + "oven,2025-03-11,04:00,06:30,0,repair\noven,2025-03-11,06:30,,6,half\n")
    taken(tenant, "resource-calendar", TIMES + "oven,2025-03-12,,,0,\noven,2025-03-11,05:00,,0,still broken\n")
    stored = "SELECT on_date, from_at::text, until_at, capacity, reason FROM master.resource_calendar ORDER BY 1, 2"
    assert rows(tenant, stored) == [
        (date(2025, 3, 11), "05:00:00", None, Decimal(0), "still broken"),
        (date(2025, 3, 12), "00:00:00", None, Decimal(0), ""),
    ]
    overlapping = TIMES + "oven,2025-03-13,04:00,06:00,0,\noven,2025-03-13,05:00,07:00,1,\n"
    report = take(tenant, "resource-calendar", overlapping)
    assert [problem.problem for problem in report.problems if problem.row == 3] == [
        "begins before an earlier row of the same day has ended"
    ]


@pytest.mark.parametrize(
    ("rule", "column", "problem"),
    [
        ("fixed,,", "lot_quantity", "a fixed lot without its quantity"),
        ("period,25,", "lot_periods", "a lot of a period without its days"),
        ("monthly,,", "lot_rule", "not one of the words that this column takes"),
        ("fixed,0,", "lot_quantity", "too small"),
    ],
)
def test_a_lot_rule_without_what_it_needs_is_refused(tenant: Store, rule: str, column: str, problem: str) -> None:
    header = "item_id,name,kind,base_unit,lot_rule,lot_quantity,lot_periods\n"
    report = take(tenant, "items", f"{header}flour,Flour,ingredient,kg,{rule}\n")
    (found,) = report.problems
    assert (found.column, found.problem) == (column, problem)


def test_a_file_without_lot_rules_leaves_them_as_they_are(tenant: Store) -> None:
    header = "item_id,name,kind,base_unit,service_level,lot_rule,lot_quantity\n"
    taken(tenant, "items", header + "flour,Flour,ingredient,kg,0.9,fixed,50\nmilk,Milk,ingredient,L,,,\n")
    taken(tenant, "items", "item_id,name,kind,base_unit\nflour,Wheat flour,ingredient,kg\n")
    stored = rows(
        tenant, "SELECT name, service_level, lot_rule, lot_quantity, lot_periods FROM master.item ORDER BY item_id"
    )
    assert stored == [
        ("Wheat flour", Decimal("0.9"), "fixed", Decimal(50), None),
        ("Milk", Decimal("0.95"), "delivery_calendar", None, None),
    ]
    report = take(tenant, "items", "item_id,name,kind,base_unit,service_level\nmilk,Milk,ingredient,L,1\n")
    assert (report.problems[0].problem, report.problems[0].remedy) == ("too large", "Write a number of at most 0.9999.")


def test_how_reliable_a_supplier_is_belongs_to_the_item_not_to_its_price_breaks(tenant: Store) -> None:
    bakery(tenant)
    header = "supplier_id,item_id,lead_days,pack_quantity,from_packs,price_per_pack,lead_sd_days,on_time_rate\n"
    report = take(tenant, "supplier-items", header + "mill,flour,2,25,1,20,0.5,0.97\nmill,flour,2,25,10,18,0.5,0.9\n")
    assert [(found.row, found.column) for found in report.problems if found.column] == [(3, "on_time_rate")]
    taken(tenant, "supplier-items", header + "mill,flour,2,25,1,20,0.5,0.97\nmill,flour,2,25,10,18,0.5,0.97\n")
    taken(tenant, "suppliers", "supplier_id,name,delivery_fee\nmill,Mill,9.50\n")
    assert rows(tenant, "SELECT lead_sd_days, on_time_rate FROM master.supplier_item") == [
        (Decimal("0.5"), Decimal("0.97"))
    ]
    assert rows(tenant, "SELECT delivery_fee FROM master.supplier") == [(Decimal("9.5"),)]


def test_the_base_unit_of_an_item_cannot_change(tenant: Store) -> None:
    bakery(tenant)
    report = take(tenant, "items", "item_id,name,kind,base_unit\nflour,Flour,ingredient,unit\n")
    assert report.problems[0].problem == "the item is kept in another unit"


def test_every_kind_takes_the_example_of_its_contract(tenant: Store) -> None:
    bakery(tenant)
    taken(
        tenant,
        "items",
        "item_id,name,kind,base_unit\nflour-wheat,Flour,ingredient,kg\nbutter,Butter,ingredient,kg\n",
    )
    for kind in KINDS.values():
        header = ",".join(column.name for column in kind.columns)
        example = ",".join(column.example for column in kind.columns)
        report = take(tenant, kind.name, f"{header}\n{example}\n")
        assert report.status == "imported", (kind.name, report.problems)
        assert report.rows_written == 1, kind.name


def test_a_rule_that_only_the_store_knows_is_answered_and_nothing_is_written(tenant: Store) -> None:
    with tenant.transaction() as connection:
        connection.execute("ALTER TABLE master.supplier ADD CHECK (name <> 'Nobody')")
    report = take(tenant, "suppliers", "supplier_id,name\nmill,Mill\nnone,Nobody\n")
    assert report.status == "refused"
    assert "the store refuses it" in report.problems[0].problem
    assert rows(tenant, "SELECT count(*) FROM master.supplier") == [(0,)]
