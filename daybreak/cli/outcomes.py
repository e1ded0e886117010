"""`daybreak outcomes`: what plans turned out to cost, in money, and which decisions cost it."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from daybreak.cli.plan import DATE, chosen_tenants

if TYPE_CHECKING:
    import pandas as pd

PRINT_WIDTH = 128
"""Columns where the output is no terminal."""

MONEY = ("cost", "regret", "regret_forecast", "regret_rounding", "regret_capacity", "regret_override")

CALIBRATION = {
    "as_costs_ask": "",
    "met_too_often": "more often than its costs ask for",
    "met_too_rarely": "less often than its costs ask for",
    "too_few_days": "too few days to tell",
}


@click.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option("--from", "first", type=DATE, help="The first day. Default: the first one judged.")
@click.option("--to", "last", type=DATE, help="The last day. Default: the last one judged.")
@json_option
def outcomes(tenant: str, first: datetime | None, last: datetime | None, as_json: bool) -> None:
    """Show what the production plans of finished days cost, by product, the worst first.

    Cost is what was missing and what was left over, in money; regret is the part of it that a better choice of batches
    would have saved, told apart by decision. Days are judged when they are validated.
    """
    from planning.outcomes import summarise  # noqa: PLC0415 (keeps --help fast)
    from resources.store.outcomes import read_outcomes  # noqa: PLC0415

    first_on, last_on = first and first.date(), last and last.date()
    if first_on and last_on and first_on > last_on:
        raise click.BadParameter(f"{first_on} is after {last_on}.", param_hint="--from")
    with opened_store() as store:
        chosen_tenants(store, (tenant,), False, any_status=True)
        with store.transaction() as connection:
            row = connection.execute("SELECT currency FROM master.tenant WHERE tenant_id = %s", (tenant,)).fetchone()
            found = read_outcomes(connection, [tenant], first_on, last_on)
            nothing = "" if len(found) else _why_nothing(connection, tenant, first_on, last_on)
    if nothing:
        raise InputRefused(nothing)
    names = dict(zip(found["product_id"], found["product_name"], strict=True))
    products = summarise(found)
    head = {
        "tenant_id": tenant,
        "currency": row[0],
        "from": min(found["business_date"]),
        "to": max(found["business_date"]),
        "days": int(found["business_date"].nunique()),
    }
    if as_json:
        in_money = products[~products["is_default_critical_ratio"]]
        print_json(
            {
                **head,
                "total": {name: round(float(in_money[name].sum()), 6) for name in MONEY} if len(in_money) else None,
                "products": [_as_json(each, names) for each in products.to_dict("records")],
            }
        )
    else:
        _print(head, products, names)


def _why_nothing(connection: Any, tenant: str, first_on: date | None, last_on: date | None) -> str:
    """Why there is no outcome in the days asked for, and what makes one."""
    days = connection.execute(
        "SELECT min(business_date), max(business_date) FROM quality.plan_outcome WHERE tenant_id = %s", (tenant,)
    ).fetchone()
    if days is not None and days[0] is not None:
        return (
            f"No day of {tenant} from {first_on or 'the first'} to {last_on or 'the last'} was judged. "
            f"Remedy: choose days from {days[0]} to {days[1]}, or validate others: "
            f"daybreak validate --tenant {tenant} --date DAY."
        )
    planned = connection.execute(
        "SELECT max(plan_date) FROM plans.plan WHERE tenant_id = %s AND kind = 'production' AND plan_date < current_date",
        (tenant,),
    ).fetchone()
    if planned is None or planned[0] is None:
        return (
            f"No finished day of {tenant} was planned, so nothing can be judged. Remedy: plan a day, import its sales when it "
            f"is over, and validate it: daybreak plan run --tenant {tenant}."
        )
    return (
        f"No day of {tenant} was judged yet. Remedy: import the sales of {planned[0]}, and validate it: "
        f"daybreak validate --tenant {tenant} --date {planned[0]}."
    )


def _as_json(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A product's row; money is null where its costs are unknown, and what stands for it is in `shares`."""
    is_default = bool(row.pop("is_default_critical_ratio"))
    money = {name: round(float(row.pop(name)), 6) for name in MONEY}
    row.pop("tenant_id")
    product_id = str(row.pop("product_id"))
    return {
        "product_id": product_id,
        "name": names[product_id],
        **row,
        **(dict.fromkeys(MONEY) if is_default else money),
        "has_costs": not is_default,
        "shares": money if is_default else None,
    }


def _print(head: dict[str, Any], products: "pd.DataFrame", names: dict[str, str]) -> None:
    from rich.console import Console  # noqa: PLC0415 (keeps --help fast)
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    console = console if console.is_terminal else Console(width=PRINT_WIDTH)
    in_money = products[~products["is_default_critical_ratio"]]
    table = Table(
        title=(
            f"{head['tenant_id']}, {head['from']} to {head['to']} ({head['days']} days judged), money lost in {head['currency']}"
        ),
        title_justify="left",
    )
    headings = (
        "Product",
        "Days",
        "Sold out",
        "Cost",
        "Regret",
        "Forecast",
        "Batches",
        "Capacity",
        "By hand",
        "Met %",
        "Costs ask %",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "Product" else "right")
    for row in in_money.to_dict("records"):
        table.add_row(
            names[row["product_id"]],
            str(row["days"]),
            str(row["days_censored"]),
            *(f"{row[name]:,.2f}" for name in MONEY),
            f"{row['service_pct']:.0f}",
            f"{row['critical_ratio_pct']:.0f}",
        )
    if len(in_money):
        table.add_section()
        totals = (f"{in_money[name].sum():,.2f}" for name in MONEY)
        counts = (str(int(in_money[name].sum())) for name in ("days", "days_censored"))
        table.add_row("All", *counts, *totals, "", "")
        console.print(table)
    for row in products.to_dict("records"):
        if row["is_default_critical_ratio"]:
            click.echo(
                f"{names[row['product_id']]}: no costs were known on {row['days']} days, so no money can be told; demand was "
                f"met on {row['service_pct']:.0f} % of them, the default ratio asks for {row['critical_ratio_pct']:.0f} %. "
                "Remedy: import its unit_price and variable_cost."
            )
        elif row["calibration"] in {"met_too_often", "met_too_rarely"}:
            click.echo(
                f"{names[row['product_id']]}: demand was met on {row['service_pct']:.0f} % of days, "
                f"{CALIBRATION[row['calibration']]} ({row['critical_ratio_pct']:.0f} %): look at its costs, batches and forecast."
            )
    censored = int(products["days_censored"].sum())
    if censored:
        click.echo(f"On {censored} sold-out days demand is an estimate.")
    replayed = int(products["days_replayed"].sum())
    if replayed:
        click.echo(f"{replayed} days are judged by plans made after opening.")
