"""Public holidays beside imported events."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from planning.calendar import build_calendar, event_window
from planning_assets.demand_history import read_demand
from resources.holidays import calendar_events, public_holidays
from resources.store.database import Store
from resources.store.inputs import read_tenants
from tests.integration.store_bakery import DAY, add_bakery, add_sales

GOOD_FRIDAY = date(2026, 4, 3)


def set_region(store: Store, tenant_id: str, country: str, subdivision: str | None) -> None:
    with store.transaction() as connection:
        connection.execute(
            "UPDATE master.tenant SET country = %s, subdivision = %s WHERE tenant_id = %s",
            (country, subdivision, tenant_id),
        )


def events_of(store: Store, tenant_ids: Sequence[str], first: date, last: date):
    with store.transaction() as connection:
        return calendar_events(connection, read_tenants(connection, tenant_ids), first, last)


def names(events: pd.DataFrame, tenant_id: str) -> list[tuple[date, str]]:
    rows = events[(events["tenant_id"] == tenant_id) & (events["kind"] == "holiday")]
    return sorted(zip(rows["business_date"], rows["name"], strict=True))


def test_each_tenant_has_the_holidays_of_its_subdivision_in_one_language(store: Store) -> None:
    for tenant_id in ("bw", "by", "es"):
        add_bakery(store, tenant_id)
    set_region(store, "bw", "DE", "BW")
    set_region(store, "by", "DE", None)
    found = events_of(store, ["bw", "by", "es"], date(2026, 1, 2), date(2026, 4, 6))
    epiphany, friday, monday = (date(2026, 1, 6), "Epiphany"), (GOOD_FRIDAY, "Good Friday"), date(2026, 4, 6)
    assert names(found.events, "bw") == [epiphany, friday, (monday, "Easter Monday")]
    assert names(found.events, "by") == [friday, (monday, "Easter Monday")]
    assert names(found.events, "es") == [epiphany, friday]
    assert found.unknown.empty
    assert found.events["location_id"].isna().all()


def test_imported_events_stay_beside_them_and_a_holiday_imported_too_changes_nothing(store: Store) -> None:
    add_bakery(store, "a")
    window = event_window(DAY, DAY + timedelta(60))
    keys = pd.DataFrame([("a", "main", "bread")], columns=["tenant_id", "location_id", "product_id"])
    opening = pd.DataFrame(columns=["tenant_id", "location_id", "weekday"])
    before = build_calendar(keys, DAY, 60, opening, events_of(store, ["a"], *window).events)
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO master.calendar_event (tenant_id, location_id, business_date, kind, name) VALUES
                ('a', NULL, %(friday)s, 'holiday', 'Good Friday'), ('a', 'main', %(day)s, 'promotion', 'Offer')
            """,
            {"friday": GOOD_FRIDAY, "day": DAY},
        )
    events = events_of(store, ["a"], *window).events
    after = build_calendar(keys, DAY, 60, opening, events)
    assert names(events, "a").count((GOOD_FRIDAY, "Good Friday")) == 2
    for name in ("is_holiday", "is_bridge", "days_to_holiday", "last_year_days", "is_open"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert before.is_holiday[0, (GOOD_FRIDAY - DAY).days]
    assert after.is_open.all(), "a public holiday closes nothing"
    assert np.flatnonzero(after.is_promotion[0]).tolist() == [0]


@pytest.mark.parametrize("region", [("XX", None), ("DE", "ZZ")])
def test_an_unknown_region_is_an_exception_with_the_remedy_and_the_tenant_is_planned(store: Store, region) -> None:
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    set_region(store, "a", *region)
    with store.transaction() as connection:
        for tenant_id in ("a", "b"):
            sales = [(place, "bread", DAY - timedelta(n), 5.0) for n in range(1, 9) for place in ("main", "kiosk")]
            add_sales(connection, tenant_id, sales)
        tenants = read_tenants(connection, ["a", "b"]).assign(run_date=pd.Series([DAY, DAY], dtype=object))
        found = read_demand(connection, tenants, DAY - timedelta(60), DAY - timedelta(1), DAY + timedelta(13))
    assert found.set_aside.empty
    shown = found.exceptions[["tenant_id", "location_id", "code"]].to_numpy().tolist()
    assert shown == [["a", "kiosk", "holidays_unknown"], ["a", "main", "holidays_unknown"]]
    assert "daybreak tenant set a --country" in found.exceptions["remedy"].iloc[0]
    assert str(region[1] or region[0]) in found.exceptions["message"].iloc[0]
    assert (found.calendar.first_day, found.calendar.days) == (DAY - timedelta(60), 74)
    assert np.nansum(found.panel["demand_units"]) == 4 * 8 * 5


def test_a_holiday_whose_date_is_estimated_keeps_its_name() -> None:
    known = {name for year in range(2020, 2031) for _, name in public_holidays("TR", None, year)}
    assert any(name.startswith("Eid al-Fitr") for name in known)
    assert not any("estimated" in name for name in known)


def test_two_holidays_on_one_day_are_two() -> None:
    days = public_holidays("DE", "BW", 2008)  # Ascension Day fell on the first of May
    assert [name for day, name in days if day == date(2008, 5, 1)] == ["Ascension Day", "Labor Day"]
