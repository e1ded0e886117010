"""`daybreak whatif`: what a day's plans would be if something were different. Nothing is written."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from daybreak.cli.plan import DATE, by_plan_date, chosen_tenants

if TYPE_CHECKING:
    from planning_assets.whatif import Adjustment, Changes, Delay, Downtime, WhatIf

PRINT_WIDTH = 128
"""Columns where the output is no terminal."""

PERCENT = re.compile(r"[+-]\d+(\.\d+)?%")
AMOUNT = re.compile(r"\d+(\.\d+)?")
DAYS = re.compile(r"(\d+)d?")

SAID = {
    "batches": "Batches",
    "units": "Units",
    "expected_profit": "Expected profit",
    "expected_waste_units": "Expected waste, units",
    "expected_lost_units": "Expected lost sales, units",
    "late_batches": "Late batches",
    "purchase_lines": "Purchase lines",
    "purchase_amount": "Purchase amount",
    "late_purchases": "Late purchases",
    "stock_outs": "Items running out",
    "items_at_risk": "Items at risk of it",
}

PROBLEM_SAID = {"new": "New problem", "changed": "Problem changed", "gone": "Problem gone"}

NAMES = {"Bake at", "Product", "Supplier", "Item", "For", "At"}
"""Headings of columns that hold ids, which are never broken."""

TEXTS = {"", *NAMES, "Limited by", "Delivery", "Order by", "Runs out", "Late"}
"""Headings of columns that are read from the left."""

MONEY = {"expected_profit", "purchase_amount"}


@click.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option("--date", "on", type=DATE, help="The plan date. Default: the tenant's next one.")
@click.option("--demand", multiple=True, metavar="[PRODUCT=]+20%", help="Demand of every product, or of one.")
@click.option("--oven-down", multiple=True, metavar="RESOURCE[@HH:MM[-HH:MM]]", help="An oven, or a mixer, is down.")
@click.option("--supplier-late", multiple=True, metavar="SUPPLIER=2d", help="A supplier delivers so many days late.")
@click.option("--price", multiple=True, metavar="PRODUCT=1.60|+5%", help="What a product sells for.")
@click.option(
    "--cost", multiple=True, metavar="WHAT=0.95|+5%", help="What a product, or a base unit of an item, costs."
)
@json_option
def whatif(
    tenant: str,
    on: datetime | None,
    demand: tuple[str, ...],
    oven_down: tuple[str, ...],
    supplier_late: tuple[str, ...],
    price: tuple[str, ...],
    cost: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show how the plans of a day would change: production, purchases, stock. Nothing is written."""
    from planning_assets.whatif import Changes, WhatIfRefused, what_if  # noqa: PLC0415 (keeps --help fast)
    from resources.clock import system_clock  # noqa: PLC0415

    try:
        changes = Changes(
            demand=[_adjustment("--demand", text, is_share_only=True) for text in demand],
            downtimes=[_downtime(text) for text in oven_down],
            delays=[_delay(text) for text in supplier_late],
            prices=[_adjustment("--price", text) for text in price],
            costs=[_adjustment("--cost", text) for text in cost],
        )
        with opened_store() as store:
            chosen = chosen_tenants(store, (tenant,), False, any_status=True)
            day = on.date() if on else next(iter(by_plan_date(chosen)))
            found = what_if(store, tenant, day, changes, system_clock())
    except WhatIfRefused as error:
        raise InputRefused(str(error)) from error
    if as_json:
        print_json(found.as_json())
    else:
        _print(found, changes)


def _adjustment(option: str, text: str, *, is_share_only: bool = False) -> "Adjustment":
    """A change as a person writes it: `+20%`, `croissant=-10%`, `croissant=1.60`."""
    from planning_assets.whatif import Adjustment  # noqa: PLC0415 (keeps --help fast)

    subject, separator, value = text.rpartition("=")
    if PERCENT.fullmatch(value) and (subject or (is_share_only and not separator)):
        return Adjustment(subject or None, factor=1 + float(value[:-1]) / 100)
    if AMOUNT.fullmatch(value) and subject and not is_share_only:
        return Adjustment(subject, amount=float(value))
    example = "+20%, or PRODUCT=-10%" if is_share_only else "NAME=1.60, or NAME=+5%"
    raise click.BadParameter(f"{text!r} is no change. Write it as {example}.", param_hint=option)


def _downtime(text: str) -> "Downtime":
    """`oven-1`, `oven-1@04:00` (to the end of the day), `oven-1@22:00-03:30` (over midnight)."""
    from planning_assets.whatif import Downtime  # noqa: PLC0415 (keeps --help fast)

    resource, separator, span = text.partition("@")
    first, _, last = span.partition("-")
    try:
        if not resource or (separator and not first):
            raise ValueError(text)
        if not separator:
            return Downtime(resource)
        from_at, until_at = time.fromisoformat(first), time.fromisoformat(last) if last else None
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no resource with times. Write it as oven-1, oven-1@04:00 or oven-1@04:00-06:30.",
            param_hint="--oven-down",
        ) from error
    if from_at == until_at:
        raise click.BadParameter(f"{text!r} begins when it ends.", param_hint="--oven-down")
    return Downtime(resource, from_at, until_at)


def _delay(text: str) -> "Delay":
    from planning_assets.whatif import Delay  # noqa: PLC0415 (keeps --help fast)

    supplier, _, days = text.rpartition("=")
    found = DAYS.fullmatch(days)
    if not supplier or found is None:
        raise click.BadParameter(f"{text!r} is no delay. Write it as SUPPLIER=2d.", param_hint="--supplier-late")
    return Delay(supplier, int(found.group(1)))


def _print(found: "WhatIf", changes: "Changes") -> None:
    from rich.console import Console  # noqa: PLC0415 (keeps --help fast)

    console = Console()
    console = console if console.is_terminal else Console(width=PRINT_WIDTH)
    click.echo(f"{found.tenant_id}, {found.plan_date:%A %d %B %Y}, money in {found.currency}. Nothing is written.")
    for told in found.told or ["no change was asked for"]:
        click.echo(f"  If: {told}.")
    for assumed in found.assumed:
        click.echo(f"  Assumed: {assumed}")
    if not found.is_changed:
        click.echo(f"Nothing changes ({found.seconds:.2f} s).")
        return
    _table(
        console,
        "In sum",
        ("", "Now", "Then", "Difference"),
        [
            (
                SAID[name],
                *((_money if name in MONEY else _number)(side) for side in (base, changed)),
                _signed(base, changed),
            )
            for name, (base, changed) in found.totals.items()
        ],
    )
    _table(
        console,
        "Production",
        ("Bake at", "Product", "Batches", "Units", "Limited by", "Profit", "Late"),
        [
            (
                row.location_id,
                row.product_id,
                _both(_number, row.base_batches, row.batches),
                _both(_number, row.base_quantity_units, row.quantity_units),
                _change(
                    _limit(row.base_limited_by, row.base_limiting_resource_id),
                    _limit(row.limited_by, row.limiting_resource_id),
                ),
                _both(_money, row.base_expected_profit, row.expected_profit),
                _both(_number, row.base_late_batches, row.late_batches),
            )
            for row in found.production.itertuples()
        ],
    )
    _table(
        console,
        "Purchases",
        ("Supplier", "Item", "For", "Delivery", "Order by", "Packs", "Amount", "Late"),
        [
            (
                row.supplier_id,
                row.item_id,
                row.location_id,
                str(row.delivery_on),
                _text(row.order_by if not _is_missing(row.order_by) else row.base_order_by),
                _both(_number, row.base_packs, row.packs),
                _both(_money, row.base_amount, row.amount),
                "yes" if row.is_late is True else "",
            )
            for row in found.purchases.itertuples()
        ],
    )
    _table(
        console,
        "Stock-outs",
        ("At", "Item", "Runs out", "Chance %", "Short"),
        [
            (
                row.location_id,
                row.item_id,
                _both(_text, row.base_stock_out_on, row.stock_out_on),
                _both(_number, 100 * row.base_stock_out_probability, 100 * row.stock_out_probability),
                _both(_number, row.base_shortage_quantity, row.shortage_quantity),
            )
            for row in found.stock_outs.itertuples()
        ],
    )
    for row in found.problems.itertuples():
        remedy = f" Remedy: {row.remedy}" if row.side != "gone" else ""
        message = f"was: {row.base_message}; now: {row.message}" if row.side == "changed" else row.message
        click.echo(f"{PROBLEM_SAID[row.side]}: {message}.{remedy}".replace("..", "."))
    click.echo(f"In {found.seconds:.2f} s.")


def _table(console: Any, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose words are never cut: what does not fit goes on in the next line, other than ids."""
    from rich.table import Table  # noqa: PLC0415 (keeps --help fast)

    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in TEXTS else "right", overflow="fold", no_wrap=heading in NAMES
        )
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 (NaN and NaT differ from themselves)


def _text(value: Any) -> str:
    return "–" if _is_missing(value) else str(value)


def _limit(reason: Any, resource: Any) -> str:
    return _text(reason) if _is_missing(resource) else f"{reason} ({resource})"


def _number(value: Any) -> str:
    if _is_missing(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def _money(value: Any) -> str:
    return "–" if _is_missing(value) else f"{value:,.2f}"


def _both(form: Callable[[Any], str], base: Any, changed: Any) -> str:
    return _change(form(base), form(changed))


def _change(base: str, changed: str) -> str:
    """What is and what would be; once where they are the same."""
    return base if base == changed else f"{base} → {changed}"


def _signed(base: float | None, changed: float | None) -> str:
    if base is None or changed is None:
        return "–"
    difference = changed - base
    if abs(difference) < 0.005:
        return ""
    return f"{difference:+,.0f}" if float(difference).is_integer() else f"{difference:+,.2f}"
