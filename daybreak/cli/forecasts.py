"""`daybreak forecast`: the current forecasts of a tenant, from the cache or from Postgres."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from daybreak.cli.plan import DATE, by_plan_date, chosen_tenants

if TYPE_CHECKING:
    from resources.forecast_reader import SeriesForecast, TenantForecasts

LOW, HIGH = 0.1, 0.9
PRINT_WIDTH = 128
"""Columns where the output is no terminal."""


@click.group()
def forecast() -> None:
    """Show a tenant's current forecasts."""


@forecast.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option("--date", "on", type=DATE, help="The first selling day. Default: the tenant's next one.")
@click.option("--location", help="Only this location.")
@click.option("--product", help="Only this product; the text then shows day by day, and why the method was chosen.")
@json_option
def show(tenant: str, on: datetime | None, location: str | None, product: str | None, as_json: bool) -> None:
    """Print what a plan date's forecasts expect: mean, 10 % and 90 % quantiles, method and model."""
    from resources.dagster_resources import CacheResource  # noqa: PLC0415 (keeps --help fast)
    from resources.forecast_reader import current_forecasts  # noqa: PLC0415

    with opened_store() as store:
        chosen = chosen_tenants(store, (tenant,), False, any_status=True)
        day = on.date() if on else next(iter(by_plan_date(chosen)))
        with CacheResource().open() as cache:
            current = current_forecasts(store, cache, tenant, day)
            state = "off" if not cache.is_on else "unreachable" if cache.problem else "on"
    if current is None:
        raise InputRefused(
            f"{tenant} has no forecast for {day}. Remedy: daybreak plan run --tenant {tenant} --date {day}."
        )
    series = _chosen_series(current, location, product)
    if as_json:
        print_json(_as_json(current, series, state))
    elif product is None:
        _print_overview(current, series, state)
    else:
        _print_days(current, series, state)


def _chosen_series(current: "TenantForecasts", location: str | None, product: str | None) -> "list[SeriesForecast]":
    series = current.series
    for name, wanted in (("location_id", location), ("product_id", product)):
        if wanted is None:
            continue
        known = sorted({getattr(row, name) for row in series})
        series = [row for row in series if getattr(row, name) == wanted]
        if not series:
            raise InputRefused(
                f"There is no forecast of {name.removesuffix('_id')} {wanted} for {current.plan_date}. "
                f"Remedy: choose one of {', '.join(known[:10])}{' …' if len(known) > 10 else ''}; what is missing there has "
                f"its reason in: daybreak plan show --tenant {current.tenant_id} --date {current.plan_date}."
            )
    return series


def _as_json(current: "TenantForecasts", series: "Sequence[SeriesForecast]", state: str) -> dict[str, Any]:
    return {
        "tenant_id": current.tenant_id,
        "plan_date": current.plan_date,
        "is_cached": current.is_cached,
        "source": "cache" if current.is_cached else "postgres",
        "cache": state,
        "revisions": current.revisions,
        "series": [
            {
                "location_id": row.location_id,
                "product_id": row.product_id,
                "method": row.method,
                "method_reason": row.method_reason,
                "model_version": row.model_version,
                "last_history_on": row.last_history_on,
                "days": [
                    {
                        "target_date": current.plan_date + timedelta(days=n),
                        "is_open": row.is_open[n],
                        "is_extended": n >= row.extended_from,
                        "mean_units": mean,
                        "quantile_units": {
                            f"{level:g}": units
                            for level, units in zip(row.quantile_levels, row.quantile_units[n], strict=True)
                        },
                    }
                    for n, mean in enumerate(row.mean_units)
                ],
            }
            for row in series
        ],
    }


def _print_overview(current: "TenantForecasts", series: "Sequence[SeriesForecast]", state: str) -> None:
    """One line per series: the plan date with its band, and the week's mean, which alone may be summed."""
    rows = [
        (
            row.location_id,
            row.product_id,
            _units(row.mean_units[0]) if row.is_open[0] else "closed",
            *(
                _units(units and units[0]) if row.is_open[0] else ""
                for units in (row.quantile(LOW), row.quantile(HIGH))
            ),
            _units(sum(row.mean_units[: row.extended_from])),
            row.method,
            row.model_version,
        )
        for row in sorted(series, key=lambda row: (row.location_id, -row.mean_units[0], row.product_id))
    ]
    headings = ("Location", "Product", f"{current.plan_date:%d %b}", "10 %", "90 %", "Week", "Method", "Model")
    _print(_title(current, state), headings, rows)


def _print_days(current: "TenantForecasts", series: "Sequence[SeriesForecast]", state: str) -> None:
    """Each series day by day, with the reason for its method."""
    headings = ("Day", "Mean", "10 %", "90 %", "")
    for row in series:
        low, high = row.quantile(LOW), row.quantile(HIGH)
        days = [
            (
                f"{current.plan_date + timedelta(days=n):%a %d %b}",
                _units(mean) if row.is_open[n] else "closed",
                _units(low and low[n]) if row.is_open[n] else "",
                _units(high and high[n]) if row.is_open[n] else "",
                "extended, less certain" if n >= row.extended_from else "",
            )
            for n, mean in enumerate(row.mean_units)
        ]
        _print(f"{row.product_id} at {row.location_id}: {_title(current, state)}", headings, days)
        history = f", history until {row.last_history_on}" if row.last_history_on else ", no history"
        click.echo(f"By {row.method} ({row.model_version}{history}): {row.method_reason}")


def _title(current: "TenantForecasts", state: str) -> str:
    source = "from the cache" if current.is_cached else "from Postgres"
    why = {"off": ", the cache is off", "unreachable": ", the cache does not answer", "on": ""}[state]
    return f"Forecasts of {current.tenant_id} for {current.plan_date}, {source}{'' if current.is_cached else why}"


def _units(units: "float | Sequence[float] | None") -> str:
    return "–" if units is None else f"{units:,.1f}"


def _print(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 (keeps --help fast)
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in {"Location", "Product", "Method", "Model", "Day", ""} else "right"
        )
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=PRINT_WIDTH)).print(table)
