"""A day's plans as one would print them: the production sheet, the purchase lines, what needs attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from resources.store.database import Store
from resources.store.report import (
    read_exceptions,
    read_failures,
    read_production_sheet,
    read_purchases,
    read_stock_alerts,
)

PRINT_WIDTH = 128
"""Columns where the output is no terminal: wide enough for every column of a sheet."""


@dataclass(frozen=True)
class Sheet:
    """Everything planned for a tenant's day; frames as resources.store.report reads them."""

    tenant_id: str
    tenant_name: str
    currency: str
    plan_date: date
    production: pd.DataFrame
    purchases: pd.DataFrame
    stock_alerts: pd.DataFrame
    exceptions: pd.DataFrame
    failures: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """The sheet as plain lists; unknown numbers are null."""
        frames = {
            "production": self.production,
            "purchases": self.purchases,
            "stock_alerts": self.stock_alerts,
            "exceptions": self.exceptions,
            "failures": self.failures,
        }
        head = {
            "tenant_id": self.tenant_id,
            "name": self.tenant_name,
            "currency": self.currency,
            "plan_date": self.plan_date,
        }
        return head | {name: _records(frame) for name, frame in frames.items()}


def read_sheet(store: Store, tenant_id: str, plan_date: date) -> Sheet | None:
    """The active plans of a tenant's day; None when there are none and nothing failed."""
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT name, currency FROM master.tenant WHERE tenant_id = %s", (tenant_id,)
        ).fetchone()
        if row is None:
            return None
        sheet = Sheet(
            tenant_id,
            row[0],
            row[1],
            plan_date,
            read_production_sheet(connection, tenant_id, plan_date),
            read_purchases(connection, tenant_id, plan_date),
            read_stock_alerts(connection, tenant_id, plan_date),
            read_exceptions(connection, tenant_id, plan_date),
            read_failures(connection, tenant_id, plan_date),
        )
    return sheet if len(sheet.production) or len(sheet.failures) else None


def print_sheet(sheet: Sheet, longest: int | None = None) -> None:
    """Print the sheet for people; `longest` cuts each table, with the count of what is left out."""
    console = _console()
    console.print(
        f"\n[bold]{sheet.tenant_name}[/] ({sheet.tenant_id}), {sheet.plan_date:%A %d %B %Y}, money in {sheet.currency}"
    )
    for failure in sheet.failures.itertuples():
        console.print(f"[red]Not complete: {failure.link}: {failure.reason} Remedy: {failure.remedy}[/]")
    columns = {
        "Bake at": "location_id",
        "Product": "product_name",
        "Batches": "batches",
        "Units": "quantity_units",
        "Expected": "mean_demand_units",
        "Waste": "expected_waste_units",
        "Lost": "expected_lost_units",
        "Profit": "expected_profit",
        "Limited by": "limited_by",
    }
    _print_table(console, "Production", sheet.production, columns, longest)
    purchases = sheet.purchases.assign(
        note=[
            ", ".join(
                [
                    row.status,
                    *(["late: expedite"] if row.is_late else []),
                    *(["earlier revision"] if row.is_earlier_revision else []),
                ]
            )
            for row in sheet.purchases.itertuples()
        ]
    )
    columns = {
        "Order by": "order_by",
        "Supplier": "supplier_name",
        "Item": "item_name",
        "Packs": "packs",
        "Quantity": "quantity",
        "Unit": "base_unit",
        "Delivery": "delivery_on",
        "Amount": "amount",
        "State": "note",
    }
    _print_table(console, "Purchases", purchases, columns, longest)
    columns = {
        "Item": "item_name",
        "Opening": "opening_quantity",
        "Unit": "base_unit",
        "Cover days": "cover_days",
        "Runs out": "stock_out_on",
        "Order by": "order_by",
        "Short": "shortage_quantity",
        "Expires": "expired_quantity",
    }
    _print_table(console, "Stock alerts", sheet.stock_alerts, columns, longest)
    columns = {"What": "subject_id", "Problem": "message", "Remedy": "remedy"}
    _print_table(console, "Needs attention", sheet.exceptions, columns, longest)


def print_overview(store: Store, days: Sequence[tuple[str, date]]) -> None:
    """Print one line per tenant and day: what was planned, in numbers."""
    table = Table(title="Planned", title_justify="left")
    for name in (
        "Tenant",
        "Date",
        "Products",
        "Batches",
        "Units",
        "Profit",
        "Purchases",
        "Amount",
        "Alerts",
        "To mend",
    ):
        table.add_column(
            name,
            justify="left" if name in {"Tenant", "Date"} else "right",
            no_wrap=name not in {"Products", "Purchases"},
        )
    for tenant_id, day in days:
        sheet = read_sheet(store, tenant_id, day)
        if sheet is None:
            table.add_row(tenant_id, str(day), *["–"] * 8)
            continue
        table.add_row(
            tenant_id,
            str(day),
            str(len(sheet.production)),
            "closed"
            if (sheet.production["limited_by"] == "closed").all()
            else str(int(sheet.production["batches"].sum())),
            _cell(float(sheet.production["quantity_units"].sum())),
            f"{_cell(float(sheet.production['expected_profit'].sum()))} {sheet.currency}",
            str(len(sheet.purchases)),
            f"{_cell(float(sheet.purchases['amount'].sum()))} {sheet.currency}",
            str(len(sheet.stock_alerts)),
            str(len(sheet.exceptions) + len(sheet.failures)),
        )
    _console().print(table)


def _print_table(
    console: Console, title: str, frame: pd.DataFrame, columns: dict[str, str], longest: int | None
) -> None:
    if not len(frame):
        console.print(f"\n{title}: none")
        return
    shown = frame if longest is None else frame.head(longest)
    table = Table(title=title, title_justify="left")
    for heading, name in columns.items():
        table.add_column(heading, justify="right" if pd.api.types.is_numeric_dtype(frame[name]) else "left")
    for values in shown[list(columns.values())].itertuples(index=False):
        table.add_row(*map(_cell, values))
    console.print(table)
    if len(shown) < len(frame):
        console.print(f"… and {len(frame) - len(shown)} more: daybreak plan show prints all of them.")


def _cell(value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.1f}"
    return str(value)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if not isinstance(value, list) and pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PRINT_WIDTH)
