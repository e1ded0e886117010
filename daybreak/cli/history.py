"""`daybreak history`: what was sold and demanded day by day, as forecasts see it, and its panels built anew."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from daybreak.cli.plan import chosen_tenants, tenant_choice

if TYPE_CHECKING:
    import pandas as pd

    from planning.demand import DemandHistory
    from planning.frames import Panel

TENANTS_AT_A_TIME = 200
"""Tenants whose panels are built in one transaction, during which their sales cannot be imported."""

PRINT_WIDTH = 128


@click.group()
def history() -> None:
    """What was sold and demanded, as forecasts see it."""


@history.command()
@tenant_choice
@json_option
def rebuild(tenants: tuple[str, ...], all_tenants: bool, as_json: bool) -> None:
    """Build the demand panels anew from all sales rows. Mornings do that by themselves where it is needed."""
    from resources.store.inputs import rebuild_demand_panels  # noqa: PLC0415 (keeps --help fast)

    began, series = time.monotonic(), 0
    with opened_store() as store:
        chosen = list(chosen_tenants(store, tenants, all_tenants, any_status=True))
        for first in range(0, len(chosen), TENANTS_AT_A_TIME):
            with store.transaction() as connection:
                series += rebuild_demand_panels(connection, chosen[first : first + TENANTS_AT_A_TIME])
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"tenants": len(chosen), "series": series, "seconds": seconds})
    else:
        click.echo(f"Built {series} series of {len(chosen)} tenant{'s' if len(chosen) != 1 else ''} in {seconds} s.")


@history.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option("--location", help="Only this location.")
@click.option("--product", help="Only this product.")
@click.option("--days", type=click.IntRange(1, 400), default=28, show_default=True, help="Days up to the last sale.")
@json_option
def show(tenant: str, location: str | None, product: str | None, days: int, as_json: bool) -> None:
    """Show sales, demand and what kind of day it was, up to the last sale.

    Demand is more than sales on days on which a product sold out. With one location and product each day has its marks;
    with several, sums and how many sold out.
    """
    with opened_store() as store:
        chosen_tenants(store, (tenant,), False, any_status=True)
        found = _read(store, tenant)
    shown = _selected(found, tenant, location, product, days)
    if as_json:
        print_json(_as_json(shown, tenant))
    else:
        _print(shown, tenant)


@dataclass(frozen=True)
class _Shown:
    """Rows and columns of a history that are shown, with the sell-out times and the names of the tenant's events."""

    history: "DemandHistory"
    sales: "Panel"
    events: "pd.DataFrame"
    rows: Sequence[int]
    columns: range

    def marks(self, row: int, column: int) -> list[str]:
        """What kind of day it was for a series."""
        panel, calendar = self.history.panel, self.history.calendar
        place, on = calendar.place[row], panel.first_day + timedelta(days=column)
        minute = int(self.sales["sold_out_minute"][row, column])
        found = [
            ("closed", not calendar.is_open[row, column]),
            ("taken for closed", panel["is_inferred_closed"][row, column]),
            ("sales missing", panel["is_unknown"][row, column]),
            (f"sold out {minute // 60:02d}:{minute % 60:02d}", panel["is_sold_out"][row, column]),
            ("estimated", panel["is_estimated"][row, column]),
            (self._named("holiday", "holiday", row, on), calendar.is_holiday[place, column]),
            ("bridge day", calendar.is_bridge[place, column]),
            ("school holiday", calendar.is_school_holiday[place, column]),
            (self._named("promotion", "promotion", row, on), calendar.is_promotion[row, column]),
        ]
        return [text for text, holds in found if holds]

    def _named(self, kind: str, word: str, row: int, on: date) -> str:
        key = self.history.panel.keys.iloc[row]
        events = self.events[(self.events["kind"] == kind) & (self.events["business_date"] == on)]
        for column in ("location_id", "product_id") if kind == "promotion" else ("location_id",):
            events = events[events[column].isna() | (events[column] == key[column])]
        return f"{word}: {', '.join(sorted(set(events['name'])))}"


def _read(store: Any, tenant_id: str) -> "tuple[DemandHistory, Panel, pd.DataFrame]":
    """The history as a morning after the last sale reads it, with the sales it was made from and the events."""
    import pandas as pd  # noqa: PLC0415 (keeps --help fast)

    from planning_assets.demand_history import IMPORT_SOMETHING, read_demand  # noqa: PLC0415
    from planning_assets.link import HISTORY_DAYS  # noqa: PLC0415
    from resources.holidays import calendar_events  # noqa: PLC0415
    from resources.store.inputs import read_sales_panel, read_tenants  # noqa: PLC0415

    with store.transaction() as connection:
        last = connection.execute(
            "SELECT max(business_date) FROM facts.sales WHERE tenant_id = %s", (tenant_id,)
        ).fetchone()[0]
        if last is None:
            raise InputRefused(f"{tenant_id} has no sales. Remedy: {IMPORT_SOMETHING} --tenant {tenant_id}.")
        first = last - timedelta(days=HISTORY_DAYS - 1)
        tenants = read_tenants(connection, [tenant_id])
        tenants = tenants.assign(run_date=pd.Series([last + timedelta(days=1)], dtype=object))
        found = read_demand(connection, tenants, first, last, last)
        sales = read_sales_panel(connection, [tenant_id], first, last)
        events = calendar_events(connection, tenants, first, last).events
    for row in found.set_aside.itertuples():
        raise InputRefused(f"{tenant_id}: {row.reason}. Remedy: {row.remedy}")
    return found, sales, events


def _selected(
    found: "tuple[DemandHistory, Panel, pd.DataFrame]",
    tenant_id: str,
    location: str | None,
    product: str | None,
    days: int,
) -> _Shown:
    demand, sales, events = found
    keys = demand.panel.keys
    is_chosen = keys["location_id"].isin([location] if location else keys["location_id"])
    is_chosen &= keys["product_id"].isin([product] if product else keys["product_id"])
    if not is_chosen.any():
        wanted = " at ".join(part for part in (product, location) if part)
        known = ", ".join(sorted({f"{row.product_id} at {row.location_id}" for row in keys.itertuples()})[:8])
        raise InputRefused(f"{tenant_id} does not sell {wanted}. Remedy: name what it sells, such as {known}.")
    rows = [row for row, holds in enumerate(is_chosen) if holds]
    return _Shown(demand, sales, events, rows, range(max(demand.panel.days - days, 0), demand.panel.days))


def _as_json(shown: _Shown, tenant_id: str) -> dict[str, Any]:
    panel, calendar = shown.history.panel, shown.history.calendar
    dates = panel.dates

    def day(row: int, column: int) -> dict[str, Any]:
        place, minute = calendar.place[row], int(shown.sales["sold_out_minute"][row, column])
        sales, demand = float(panel["sales_units"][row, column]), float(panel["demand_units"][row, column])
        is_sold_out = bool(panel["is_sold_out"][row, column])
        return {
            "date": dates[column],
            "sales_units": None if math.isnan(sales) else sales,
            "demand_units": None if math.isnan(demand) else round(demand, 2),
            "sold_out_at": f"{minute // 60:02d}:{minute % 60:02d}" if is_sold_out else None,
            **{
                name: bool(panel[name][row, column])
                for name in ("is_open", "is_inferred_closed", "is_unknown", "is_sold_out", "is_estimated")
            },
            "is_promotion": bool(calendar.is_promotion[row, column]),
            **{
                name: bool(getattr(calendar, name)[place, column])
                for name in ("is_holiday", "is_bridge", "is_school_holiday")
            },
            "marks": shown.marks(row, column),
        }

    keys = panel.keys
    return {
        "tenant_id": tenant_id,
        "first_on": dates[shown.columns[0]],
        "last_on": dates[shown.columns[-1]],
        "series": [
            {
                "location_id": keys["location_id"].iloc[row],
                "product_id": keys["product_id"].iloc[row],
                "days": [day(row, column) for column in shown.columns],
            }
            for row in shown.rows
        ],
    }


def _print(shown: _Shown, tenant_id: str) -> None:
    import numpy as np  # noqa: PLC0415 (keeps --help fast)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    panel = shown.history.panel
    rows, columns = np.array(shown.rows), np.array(shown.columns)
    sales, demand, is_out, is_estimated = (
        panel[name][np.ix_(rows, columns)] for name in ("sales_units", "demand_units", "is_sold_out", "is_estimated")
    )
    names = [f"{key.product_id} at {key.location_id}" for key in panel.keys.iloc[rows].itertuples()]
    title = f"{names[0]} of {tenant_id}" if len(rows) == 1 else f"{len(rows)} series of {tenant_id}, added up"
    table = Table(title=title, title_justify="left")
    for heading in ("Day", "", "Sold", "Demand", "What kind of day"):
        table.add_column(heading, justify="right" if heading in {"Sold", "Demand"} else "left")
    for n, column in enumerate(shown.columns):
        on = panel.dates[column]
        marks = [set(shown.marks(row, column)) for row in shown.rows]
        common = [mark for mark in shown.marks(shown.rows[0], column) if all(mark in of_row for of_row in marks)]
        if len(rows) > 1:
            common += [
                f"{int(count)} {word}"
                for word, count in (("sold out", is_out[:, n].sum()), ("estimated", is_estimated[:, n].sum()))
                if count
            ]
        is_known = not np.isnan(sales[:, n]).all()
        table.add_row(
            str(on),
            f"{on:%a}",
            f"{np.nansum(sales[:, n]):,.1f}" if is_known else "–",
            f"{np.nansum(demand[:, n]):,.1f}" if is_known else "–",
            "; ".join(common),
        )
    console = Console()
    console = console if console.is_terminal else Console(width=PRINT_WIDTH)
    console.print(table)
    counted = is_out & ~np.isnan(sales)
    if counted.any():
        times, guessed = int(counted.sum()), int(is_estimated.sum())
        of_them = "" if guessed == times else f" ({guessed} could be estimated)"
        console.print(
            f"{times} sell-out{'s' if times != 1 else ''}{of_them}: {sales[counted].sum():,.1f} sold, "
            f"{demand[counted].sum():,.1f} demanded."
        )
    for row in shown.history.exceptions.itertuples():
        console.print(f"{row.location_id}: {row.message}. {row.remedy}")
