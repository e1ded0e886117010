"""A day's plans as one would print them: production, doughs, times, purchases and their state, what needs attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from planning.frames import figure
from resources.clock import is_time_zone
from resources.store.approval import read_approvals
from resources.store.database import Store
from resources.store.report import (
    read_dough_sheet,
    read_downtimes,
    read_exceptions,
    read_failures,
    read_production_sheet,
    read_purchases,
    read_stock_alerts,
)
from resources.vocabulary import FORECAST_VALIDATION

PRINT_WIDTH = 128
"""Columns where the output is no terminal: wide enough for every column of a sheet."""


DECIDED = ("approved", "rejected", "sent")
"""States that are worth telling of a revision that has been superseded."""


@dataclass(frozen=True)
class Sheet:
    """Everything planned for a tenant's day; frames as resources.store.report reads them, approvals as read_approvals."""

    tenant_id: str
    tenant_name: str
    currency: str
    timezone: ZoneInfo
    plan_date: date
    downtimes: pd.DataFrame
    production: pd.DataFrame
    doughs: pd.DataFrame
    approvals: pd.DataFrame
    purchases: pd.DataFrame
    stock_alerts: pd.DataFrame
    exceptions: pd.DataFrame
    failures: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """The sheet as plain lists; unknown numbers are null."""
        frames = {
            "downtimes": self.downtimes,
            "production": self.production,
            "doughs": self.doughs,
            "approvals": self.approvals,
            "purchases": self.purchases,
            "stock_alerts": self.stock_alerts,
            "exceptions": self.exceptions,
            "failures": self.failures,
        }
        head = {
            "tenant_id": self.tenant_id,
            "name": self.tenant_name,
            "currency": self.currency,
            "timezone": self.timezone.key,
            "plan_date": self.plan_date,
        }
        return head | {name: records(frame) for name, frame in frames.items()}


def read_sheet(store: Store, tenant_id: str, plan_date: date) -> Sheet | None:
    """The active plans of a tenant's day; None when there are none and nothing failed."""
    with store.transaction() as connection:
        row = connection.execute(
            "SELECT name, currency, timezone FROM master.tenant WHERE tenant_id = %s", (tenant_id,)
        ).fetchone()
        if row is None:
            return None
        sheet = Sheet(
            tenant_id,
            row[0],
            row[1],
            zone_of(row[2]),
            plan_date,
            read_downtimes(connection, tenant_id, plan_date),
            read_production_sheet(connection, tenant_id, plan_date),
            read_dough_sheet(connection, tenant_id, plan_date),
            read_approvals(connection, tenant_id, plan_date),
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
        f"\n[bold]{escape(sheet.tenant_name)}[/] ({sheet.tenant_id}), {sheet.plan_date:%A %d %B %Y}, "
        f"money in {sheet.currency}"
    )
    for failure in sheet.failures.itertuples():
        # A plan is complete also when its day could not be scored, as when somebody asks for it before the day is over.
        undone = "Not validated" if failure.workflow == FORECAST_VALIDATION else f"Not complete: {failure.link}"
        console.print(f"[red]{undone}: {escape(f'{failure.reason} Remedy: {failure.remedy}')}[/]")
    for row in sheet.downtimes.itertuples():
        console.print(escape(_downtime(row)), highlight=False)
    columns = {
        "Bake at": "location_id",
        "Product": "product_name",
        "Batches": "batches",
        "Units": "quantity_units",
        "Expected": "mean_demand_units",
        "Waste": "expected_waste_units",
        "Lost": "expected_lost_units",
        "Profit": "expected_profit",
        "Limited by": "limit",
    }
    production = sheet.production.assign(limit=[_limit(row) for row in sheet.production.itertuples()])
    _print_table(console, "Production", production, columns, longest)
    runs = _runs(sheet)
    if len(runs):
        _print_table(console, "Doughs, by the time of mixing", runs, {name: name for name in runs}, longest)
    batches = _batches(sheet)
    if len(batches):
        _print_table(console, "Batches, by the time of baking", batches, {name: name for name in batches}, longest)
    for row in sheet.approvals.itertuples():
        console.print(f"\nPurchases at {row.location_id}: {escape(_approval(row, sheet.timezone))}")
    lengths = _short_length(sheet.purchases["line_id"])
    purchases = sheet.purchases.assign(
        line=[str(line_id)[:lengths] for line_id in sheet.purchases["line_id"]],
        note=[_purchase_note(row) for row in sheet.purchases.itertuples()],
    )
    has_places = sheet.purchases["location_id"].nunique() > 1
    columns = {
        "Line": "line",
        **({"At": "location_id"} if has_places else {}),
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
        **({"At": "location_id"} if sheet.stock_alerts["location_id"].nunique() > 1 else {}),
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
    _print_table(console, "Needs attention", _told_once(sheet.exceptions), columns, longest)


def print_overrides(tenant_id: str, plan_date: date, overrides: pd.DataFrame) -> None:
    """Print the overrides of a day, as list_overrides reads them."""
    shown = overrides.assign(
        line=[
            f"{row.subject_id} at {row.location_id}"
            + (f" from {row.supplier_id} for {row.delivery_on}" if row.kind == "purchase" else "")
            for row in overrides.itertuples()
        ],
        number=[f"{row.amount} {'batches' if row.kind == 'production' else 'packs'}" for row in overrides.itertuples()],
    )
    columns = {
        "Id": "override_id",
        "Line": "line",
        "Number": "number",
        "By": "actor",
        "Why": "reason",
        "State": "state",
    }
    _print_table(_console(), f"Overrides of {tenant_id} for {plan_date}", shown, columns, None)


def print_history(
    tenant_id: str, plan_date: date, zone: ZoneInfo, revisions: pd.DataFrame, decisions: pd.DataFrame
) -> None:
    """Print a day's revisions and decisions, as read_revisions and read_decisions read them, in the tenant's time.

    Changed is against the revision before: how many lines, and how much of what that one had announced over 14 days.
    """
    console = _console()
    revision_of = dict(zip(revisions["plan_id"], revisions["revision"], strict=True))
    shown = revisions.assign(
        plan=[f"{row.kind} {row.location_id}" for row in revisions.itertuples()],
        made=[_local(at, zone) for at in revisions["created_at"]],
        state=[
            f"superseded, {row.approval}" if row.state == "superseded" and row.approval in DECIDED else row.state
            for row in revisions.itertuples()
        ],
        # Only purchases are approved: no one decides on a version of anything else.
        version=[row.approval_version if pd.notna(row.approval) else None for row in revisions.itertuples()],
        origin=[
            f"regenerated from {revision_of.get(rejected)}" if rejected in revision_of else ""
            for rejected in revisions["regenerated_from"]
        ],
        changed=[_change(row) for row in revisions.itertuples()],
    )
    columns = {
        "Plan": "plan",
        "Revision": "revision",
        "Made": "made",
        "State": "state",
        "Version": "version",
        "By": "decided_by",
        "Origin": "origin",
        "Changed": "changed",
    }
    _print_table(console, f"Plans of {tenant_id} for {plan_date}, times of {zone.key}", shown, columns, None)
    shown = decisions.assign(
        at=[_local(at, zone) for at in decisions["decided_at"]],
        plan=[f"{row.kind} {row.location_id} {row.revision}" for row in decisions.itertuples()],
        what=[row.action.replace("_", " ") for row in decisions.itertuples()],
        state=[
            row.to_state if row.from_state == row.to_state else f"{row.from_state} -> {row.to_state}"
            for row in decisions.itertuples()
        ],
        why=[_reasons(row) for row in decisions.itertuples()],
    )
    columns = {"When": "at", "Plan": "plan", "What": "what", "Who": "actor", "State": "state", "Why": "why"}
    _print_table(console, "Decisions", shown, columns, None)


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


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name; UTC for a name that is none, so that a tenant to be mended can be shown."""
    return ZoneInfo(name if is_time_zone(name) else "UTC")


def _downtime(row: Any) -> str:
    """What a resource holds instead of the usual, from when to when and why."""
    state = (
        "is down" if row.capacity == 0 else "has less room" if row.capacity < row.usual_capacity else "has more room"
    )
    until = "24:00" if pd.isna(row.until_at) else f"{row.until_at:%H:%M}"
    why = f": {row.reason}" if row.reason else ""
    holds = f"(capacity {figure(row.capacity)} of {figure(row.usual_capacity)})"
    return f"{row.resource_id} {state} {holds} {row.from_at:%H:%M} to {until}{why}"


def _limit(row: Any) -> str:
    """What limited a line: the resource, or who overrode it, with the number that planning had recommended."""
    notes = []
    if row.limited_by == "override":
        notes.append(f"override by {row.override_by}, {row.recommended_batches:.0f} recommended")
    elif row.limited_by == "capacity":
        wanted = f", {row.unlimited_batches:.0f} wanted" if pd.notna(row.unlimited_batches) else ""
        notes.append(f"capacity of {row.limiting_resource_id or 'the workshop'}{wanted}")
    else:
        notes.append(row.limited_by)
    if row.is_late:
        notes.append("late")
    return ", ".join(notes)


def _purchase_note(row: Any) -> str:
    notes = [row.status]
    if row.is_late:
        notes.append("late: expedite")
    if pd.notna(row.override_by):
        notes.append(f"override by {row.override_by}, {row.recommended_packs:.0f} recommended")
    if row.is_earlier_revision:
        notes.append("earlier revision")
    return ", ".join(notes)


def _told_once(exceptions: pd.DataFrame) -> pd.DataFrame:
    """The exceptions without the stock-outs of items whose shortage the purchases explain, with what can be done."""
    subject = ["location_id", "subject_id"]
    explained = exceptions.loc[exceptions["code"].isin(["late_supply", "missing_supplier"]), subject]
    is_explained = pd.MultiIndex.from_frame(exceptions[subject]).isin(pd.MultiIndex.from_frame(explained))
    return exceptions[~(is_explained & exceptions["code"].eq("stock_out"))]


def _runs(sheet: Sheet) -> pd.DataFrame:
    """A row per mixer run, first to last; those without a time at the end."""
    rows = []
    for dough in sheet.doughs.itertuples():
        timed = len(dough.run_starts_at) == dough.runs
        for n, quantity in enumerate(dough.run_quantities):
            starts_at = dough.run_starts_at[n] if timed else None
            shown = {
                "Start": _moment(starts_at, sheet),
                "End": _moment(dough.run_ends_at[n] if timed else None, sheet),
                "At": dough.location_id,
                "Mixer": (dough.run_resource_ids[n] if timed else None) or "–",
                "Dough": dough.item_name,
                "Run": f"{n + 1} of {dough.runs}",
                "Quantity": f"{_cell(quantity)} {dough.base_unit}",
                "For": ", ".join(dough.product_ids),
            }
            order = (starts_at or datetime.max.replace(tzinfo=sheet.timezone), dough.location_id, dough.item_id, n)
            rows.append((order, shown))
    return _without_single_place([shown for _, shown in sorted(rows, key=lambda row: row[0])])


def _batches(sheet: Sheet) -> pd.DataFrame:
    """The batches that have times, in the order of the oven; those of a product that go through it together in one row."""
    rows = []
    for line in sheet.production.itertuples():
        together: dict[tuple[Any, ...], list[int]] = {}
        for n, times in enumerate(
            zip(line.batch_bakes_at, line.batch_resource_ids, line.batch_starts_at, line.batch_ready_at, strict=True)
        ):
            together.setdefault(times, []).append(n)
        for (bakes_at, oven, starts_at, ready_at), batches in together.items():
            gains = line.batch_marginal_values[batches[0] : batches[-1] + 1]
            shown = {
                "Start": _moment(starts_at, sheet),
                "In oven": _moment(bakes_at, sheet),
                "Ready": _moment(ready_at, sheet),
                "Needed": _moment(line.ready_by, sheet),
                "Oven": oven or "–",
                "At": line.location_id,
                "Product": line.product_name,
                "Batch": f"{_span(batches)} of {line.batches}",
                "Units": len(batches) * line.batch_size_units,
                "Gain": float(sum(gains)) if len(gains) == len(batches) else None,
            }
            rows.append(((bakes_at, line.location_id, line.product_id, batches[0]), shown))
    return _without_single_place([shown for _, shown in sorted(rows, key=lambda row: row[0])])


def _span(batches: Sequence[int]) -> str:
    """Batches counted from 1, as 3 or 1-7; those that are not in a row are listed."""
    first, last = batches[0] + 1, batches[-1] + 1
    if last - first != len(batches) - 1:
        return ", ".join(str(n + 1) for n in batches)
    return f"{first}" if first == last else f"{first}-{last}"


def _without_single_place(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a frame, without the place where there is only one."""
    shown = pd.DataFrame(rows)
    return shown.drop(columns="At") if len(shown) and shown["At"].nunique() == 1 else shown


def _moment(at: datetime | None, sheet: Sheet) -> str:
    """A time of the day as the tenant's clock shows it, with the weekday where it is another day than the plan's."""
    if at is None or at is pd.NaT:
        return "–"
    local = at.astimezone(sheet.timezone)
    return f"{local:%H:%M}" if local.date() == sheet.plan_date else f"{local:%a %H:%M}"


def _local(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def _approval(row: Any, zone: ZoneInfo) -> str:
    """The state of a procurement plan: who decided it when and why, and the version to give with a decision."""
    text = f"revision {row.revision} {row.approval}"
    if pd.notna(row.decided_by):
        text += f" by {row.decided_by} at {_local(row.decided_at, zone)}"
    reasons = [reason for reason in (row.reason_code, row.decision_notes) if pd.notna(reason) and reason]
    return text + (f" ({': '.join(reasons)})" if reasons else "") + f", version {row.approval_version}"


def _change(row: Any) -> str:
    if pd.isna(row.lines_changed):
        return "–"
    share = "" if pd.isna(row.instability) else f", {100 * row.instability:.1f} %"
    return f"{row.lines_changed:.0f} lines{share}"


def _reasons(row: Any) -> str:
    """Code, notes, what came of it, and the warnings."""
    data = row.data
    parts = [part for part in (row.reason_code, row.notes) if pd.notna(part) and part]
    if row.action == "override":
        before = f", was {data['replaced']}" if "replaced" in data else ""
        parts.append(f"{data['subject_id']}: {data['amount']}{before}")
    elif row.action == "withdraw_override":
        parts.append(f"{data['subject_id']}: {data['amount']}")
    elif row.action == "regenerate":
        parts.append(f"attempt {data['attempt']} of {data['of']}")
    elif data.get("ordered_lines"):
        parts.append(f"{data['ordered_lines']} lines ordered")
    return "; ".join([*parts, *(f"warning: {warning}" for warning in row.warnings)])


def _short_length(ids: pd.Series, least: int = 8) -> int:
    """How many characters tell the ids apart."""
    texts = [str(line_id) for line_id in ids]
    return next(n for n in range(least, 37) if len({text[:n] for text in texts}) == len(set(texts)))


def _cell(value: object) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.1f}"
    return escape(str(value))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as mappings for JSON; unknown values are None."""
    return [
        {
            str(key): None if not isinstance(value, list | dict) and pd.isna(value) else value
            for key, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PRINT_WIDTH)
