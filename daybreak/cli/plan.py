"""`daybreak plan` and `daybreak validate`: have days planned and scored through Dagster, and show what was planned."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import click

from daybreak.cli import approval
from daybreak.cli.common import SOME_FAILED, InputRefused, InstanceUnusable, json_option, opened_store, print_json

DATE = click.DateTime(["%Y-%m-%d"])
PLAN_ASSETS = ("demand_history", "forecasts", "production_plans", "procurement_plans", "inventory_projections")
VALIDATION_ASSETS = ("validation_metrics",)
SHOWN_VALIDATIONS = 10
"""Tenants whose figures `daybreak validate` prints."""


def tenant_choice(command: Any) -> Any:
    """The options by which a command chooses tenants: `--tenant T` once or more, or `--all`."""
    command = click.option("--all", "all_tenants", is_flag=True, help="Every active tenant.")(command)
    return click.option("--tenant", "tenants", multiple=True, help="A tenant; may be given more than once.")(command)


@click.group()
def plan() -> None:
    """Make and show the plans of a day, decide on its purchases, and put your own numbers in place."""


for _command in approval.COMMANDS:
    plan.add_command(_command)


@plan.command()
@tenant_choice
@click.option("--date", "on", type=DATE, help="The first selling day. Default: the next one of each tenant.")
@click.option("--force", is_flag=True, help="Plan again also when the inputs have not changed.")
@json_option
def run(tenants: tuple[str, ...], all_tenants: bool, on: datetime | None, force: bool, as_json: bool) -> None:
    """Plan a day through Dagster: forecasts, production, procurement and projection.

    With `daybreak up` running, its daemon runs it; else it runs here, recorded all the same.
    """
    from resources.vocabulary import DAILY_OPERATIONS  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        chosen = chosen_tenants(store, tenants, all_tenants)
        days = {on.date(): list(chosen)} if on else by_plan_date(chosen)
        ended = [
            execute_day(store, "daily_plan_job", "daily_plan", day, tenant_ids, DAILY_OPERATIONS, not force, as_json)
            for day, tenant_ids in sorted(days.items())
        ]
    _finish(ended, as_json)


@plan.command()
@tenant_choice
@click.option("--from", "first", type=DATE, required=True, help="The first day.")
@click.option("--to", "last", type=DATE, required=True, help="The last day.")
@click.option(
    "--validate", "validation", is_flag=True, help="Score the forecasts of these days instead of planning them."
)
@json_option
def backfill(
    tenants: tuple[str, ...], all_tenants: bool, first: datetime, last: datetime, validation: bool, as_json: bool
) -> None:
    """Plan (or score) a range of past days by a Dagster backfill, day after day. Needs `daybreak up` running."""
    from daybreak import dagster_client, runs  # noqa: PLC0415 (keeps --help fast)
    from daybreak.instance import InstanceError, running  # noqa: PLC0415

    instance = running()
    if instance is None:
        raise InstanceUnusable("A backfill needs the running instance. Remedy: start it with `daybreak up`.")
    if first > last:
        raise InputRefused(f"--from {first:%Y-%m-%d} is after --to {last:%Y-%m-%d}. Remedy: swap them.")
    with opened_store() as store:
        chosen = list(chosen_tenants(store, tenants, all_tenants))
    days = [(first + timedelta(days=n)).date() for n in range((last - first).days + 1)]
    keys = [f"{day}|{tenant_id}" for tenant_id in chosen for day in days]
    assets = VALIDATION_ASSETS if validation else PLAN_ASSETS
    title = f"{'Validate' if validation else 'Plan'} {days[0]} to {days[-1]}, {len(chosen)} tenants"
    began = time.monotonic()
    try:
        for tenant_id in chosen:  # a backfill takes only partitions that the grid knows already
            runs.patiently(partial(dagster_client.add_partition, instance.url, tenant_id))
        backfill_id = dagster_client.launch_backfill(instance.url, assets, keys, title)
        url = f"{instance.url}/runs/b/{backfill_id}"
        click.echo(f"Backfill of {len(keys)} partitions: {url}", err=True)
        status_of = partial(dagster_client.backfill_status, instance.url, backfill_id)
        while (status := runs.patiently(status_of)) in ("REQUESTED", "CANCELING"):
            time.sleep(1)
    except (InstanceError, dagster_client.DagsterSilent) as error:
        raise InstanceUnusable(str(error)) from error
    except dagster_client.DagsterRefused as error:
        raise InputRefused(str(error)) from error
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json(
            {"backfill_id": backfill_id, "status": status, "partitions": len(keys), "seconds": seconds, "url": url}
        )
    else:
        click.echo(f"{status} after {seconds} s")
    if status != "COMPLETED_SUCCESS":
        sys.exit(SOME_FAILED)


@plan.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option("--date", "on", type=DATE, help="The first selling day. Default: the tenant's next one.")
@json_option
def show(tenant: str, on: datetime | None, as_json: bool) -> None:
    """Print the production sheet, the doughs, the purchase lines and the state of a day."""
    from daybreak import sheets  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        chosen = chosen_tenants(store, (tenant,), False, any_status=True)
        day = on.date() if on else next(iter(by_plan_date(chosen)))
        sheet = sheets.read_sheet(store, tenant, day)
    if sheet is None:
        raise InputRefused(f"{tenant} has no plan for {day}. Remedy: daybreak plan run --tenant {tenant} --date {day}.")
    if as_json:
        print_json(sheet.as_json())
    else:
        sheets.print_sheet(sheet)


@click.command()
@tenant_choice
@click.option("--date", "on", type=DATE, help="The day to score. Default: yesterday in each tenant's time zone.")
@json_option
def validate(tenants: tuple[str, ...], all_tenants: bool, on: datetime | None, as_json: bool) -> None:
    """Score the stored forecasts of a finished day against what was sold, through Dagster."""
    from resources.vocabulary import FORECAST_VALIDATION  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        chosen = chosen_tenants(store, tenants, all_tenants)
        unfinished = _unfinished(chosen, on.date()) if on else set()
        days = {on.date(): [each for each in chosen if each not in unfinished]} if on else _by_yesterday(chosen)
        ended = [
            execute_day(
                store, "forecast_validation_job", "forecast_validation", day, ids, FORECAST_VALIDATION, False, as_json
            )
            for day, ids in sorted(days.items())
        ]
        for day in ended:
            day["validations"] = _validations(store, day["date"], day["completed"])
    _finish(ended, as_json)
    if unfinished:
        sys.exit(SOME_FAILED)


def _validations(store: Any, on: date, tenant_ids: list[str]) -> list[dict[str, Any]]:
    """The headline of each tenant's validated day, how its error developed, and the claims that do not hold."""
    from resources.store.validation_trends import read_validations  # noqa: PLC0415 (keeps --help fast)

    with store.transaction() as connection:
        return read_validations(connection, tenant_ids, on)


def _print_validations(validations: list[dict[str, Any]]) -> None:
    for each in validations[:SHOWN_VALIDATIONS]:
        figures = ", ".join(
            f"{words} {each[name]:{form}} {unit}"
            for name, words, form, unit in (
                ("wape_pct", "WAPE", ".1f", "%"),
                ("naive_wape_pct", "seasonal naive", ".1f", "%"),
                ("bias_pct", "bias", "+.1f", "%"),
                ("coverage_pct", "actuals of", ".0f", "% of forecasts"),
                ("trailing_wape_pct", "trailing WAPE", ".1f", "%"),
                ("week_over_week_points", "week over week", "+.1f", "points"),
            )
            if each[name] is not None
        )
        click.echo(f"  {each['tenant_id']}: {figures or 'nothing was open, so there is nothing to score'}")
        for words, products in (("worst", each["worst_products"]), ("best", each["best_products"])):
            if products:
                click.echo(f"    {words}: " + ", ".join(f"{p['product_id']} {p['wape_pct']:.1f} %" for p in products))
        for check in each["checks"]:
            click.echo(f"    {check['status']}: {check['check_name']}: {check['message']}")
    if len(validations) > SHOWN_VALIDATIONS:
        click.echo(f"  … and {len(validations) - SHOWN_VALIDATIONS} more tenants; --json has them all.")


def chosen_tenants(
    store: Any, tenants: Sequence[str], all_tenants: bool, any_status: bool = False
) -> dict[str, tuple[str, int]]:
    """tenant_id -> (time zone, plan lead days) of the tenants chosen. Raises InputRefused for one that is unknown."""
    if bool(tenants) == all_tenants:
        raise click.UsageError("Give --tenant T (once or more) or --all.")
    frame = store.frame("SELECT tenant_id, timezone, plan_lead_days, status FROM master.tenant ORDER BY tenant_id")
    known = {row.tenant_id: row for row in frame.itertuples()}
    if all_tenants:
        chosen = [row for row in known.values() if row.status == "active"]
        if not chosen:
            raise InputRefused("There is no active tenant. Remedy: daybreak sample, or daybreak tenant add.")
    else:
        unknown = [tenant_id for tenant_id in tenants if tenant_id not in known]
        if unknown:
            raise InputRefused(
                f"There is no tenant {', '.join(unknown)}. Remedy: `daybreak tenant list` shows them all."
            )
        chosen = [known[tenant_id] for tenant_id in tenants]
        stopped = [row.tenant_id for row in chosen if row.status != "active" and not any_status]
        if stopped:
            raise InputRefused(f"{', '.join(stopped)} is not active. Remedy: daybreak tenant resume {stopped[0]}.")
    return {row.tenant_id: (row.timezone, int(row.plan_lead_days)) for row in chosen}


def _local_dates(chosen: dict[str, tuple[str, int]]) -> Iterator[tuple[str, date, int]]:
    from resources.clock import is_time_zone, system_clock  # noqa: PLC0415 (keeps --help fast)

    now = system_clock()
    for tenant_id, (zone, lead_days) in chosen.items():
        # A tenant with a broken zone still goes into a run, which sets it aside by name.
        yield tenant_id, now.astimezone(ZoneInfo(zone if is_time_zone(zone) else "UTC")).date(), lead_days


def by_plan_date(chosen: dict[str, tuple[str, int]]) -> dict[date, list[str]]:
    """The tenants by their next plan date."""
    days: dict[date, list[str]] = {}
    for tenant_id, today, lead_days in _local_dates(chosen):
        days.setdefault(today + timedelta(days=lead_days), []).append(tenant_id)
    return days


def _by_yesterday(chosen: dict[str, tuple[str, int]]) -> dict[date, list[str]]:
    days: dict[date, list[str]] = {}
    for tenant_id, today, _ in _local_dates(chosen):
        days.setdefault(today - timedelta(days=1), []).append(tenant_id)
    return days


def _unfinished(chosen: dict[str, tuple[str, int]], day: date) -> set[str]:
    """The tenants where the day is not over, named here: a run would keep it as a failure of their day.

    Raises InputRefused when it is over nowhere.
    """
    unfinished = [tenant_id for tenant_id, today, _ in _local_dates(chosen) if today <= day]
    if unfinished:
        more = f" and {len(unfinished) - 3} more" if len(unfinished) > 3 else ""
        message = (
            f"{day} is not over for {', '.join(unfinished[:3])}{more}. Remedy: validate it when it is, "
            "or leave --date out for yesterday in each tenant's time zone."
        )
        if len(unfinished) == len(chosen):
            raise InputRefused(message)
        click.echo(message, err=True)
    return set(unfinished)


def execute_day(
    store: Any,
    job: str,
    step: str,
    on: date,
    tenant_ids: list[str],
    workflow: str,
    skip_up_to_date: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Run the job for one date and say what became of each tenant."""
    from daybreak import fleet, runs  # noqa: PLC0415 (keeps --help fast)
    from daybreak.dagster_client import DagsterRefused  # noqa: PLC0415
    from resources.store.due import read_up_to_date  # noqa: PLC0415
    from resources.store.executions import RUN_ENDED  # noqa: PLC0415

    fleet.publish(store)
    request = runs.Request(job, step, on, tenant_ids, workflow, skip_up_to_date, "command line")
    began = time.monotonic()
    try:
        with progress_bar(f"{workflow} {on}", len(tenant_ids), as_json) as progress:
            ended = runs.execute(store, request, progress)
    except DagsterRefused as error:
        raise InputRefused(str(error)) from error
    with store.transaction() as connection:
        rows = connection.execute(
            "SELECT tenant_id, status, error FROM ops.execution WHERE run_id = %s ORDER BY tenant_id", (ended.run_id,)
        ).fetchall()
        touched = {tenant_id for tenant_id, _, _ in rows}
        left = [tenant_id for tenant_id in tenant_ids if tenant_id not in touched]
        up_to_date = read_up_to_date(connection, left, on) if skip_up_to_date else []
    # A run that died leaves its executions open; a sensor closes them later.
    failed = [
        {"tenant_id": tenant_id, "error": error or RUN_ENDED}
        for tenant_id, status, error in rows
        if status != "completed"
    ]
    return {
        "run_id": ended.run_id,
        "status": ended.status,
        "url": ended.url,
        "workflow": workflow,
        "date": on,
        "completed": [tenant_id for tenant_id, status, _ in rows if status == "completed"],
        "failed": failed,
        "up_to_date": up_to_date,
        "seconds": round(time.monotonic() - began, 1),
    }


def print_ended(ended: list[dict[str, Any]]) -> None:
    """Print what became of each date's tenants."""
    for day in ended:
        unchanged = f", {len(day['up_to_date'])} up to date" if day["up_to_date"] else ""
        click.echo(
            f"{day['date']}: {len(day['completed'])} tenants done{unchanged}, {len(day['failed'])} failed "
            f"({day['seconds']} s, run {day['url'] or day['run_id']})"
        )
        _print_validations(day.get("validations", []))
        by_error: dict[str, list[str]] = {}
        for failure in day["failed"]:
            by_error.setdefault(failure["error"], []).append(failure["tenant_id"])
        for error, tenant_ids in by_error.items():
            more = f" and {len(tenant_ids) - 3} more" if len(tenant_ids) > 3 else ""
            click.echo(f"  {', '.join(tenant_ids[:3])}{more}: {error}", err=True)
        if day["status"] != "SUCCESS" and not day["failed"]:
            click.echo(
                f"  The run ended {day['status']} before planning. Remedy: read its log in the web UI.", err=True
            )


def _finish(ended: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"runs": ended})
    else:
        print_ended(ended)
    if any(day["status"] != "SUCCESS" for day in ended):
        sys.exit(SOME_FAILED)


@contextmanager
def progress_bar(title: str, total: int, as_json: bool) -> Iterator[Any]:
    """A progress bar on a terminal; nothing where one would be in the way."""
    if as_json or not sys.stderr.isatty():
        yield lambda _finished: None
        return
    from rich.console import Console  # noqa: PLC0415 (keeps --help fast)
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda finished: bar.update(task, completed=finished)
