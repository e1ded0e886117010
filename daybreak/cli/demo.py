"""`daybreak demo`: the main job end to end on synthetic bakeries, with what was planned on the screen."""

import sys
import time

import click

from daybreak.cli.common import SOME_FAILED, opened_store


@click.command()
def demo() -> None:
    """Train forecast models for a few synthetic bakeries, plan their day and print it.

    Safe to run again, also beside your own tenants: it touches only tenants that it made itself.
    """
    from daybreak import sheets  # noqa: PLC0415 (keeps --help fast)
    from daybreak.cli.models import train_tenants  # noqa: PLC0415
    from daybreak.cli.plan import by_plan_date, chosen_tenants, execute_day, print_ended  # noqa: PLC0415
    from daybreak.sample import load_sample  # noqa: PLC0415
    from resources.clock import system_clock  # noqa: PLC0415
    from resources.store.models import read_attempts  # noqa: PLC0415
    from resources.vocabulary import DAILY_OPERATIONS  # noqa: PLC0415

    began = time.monotonic()
    with opened_store() as store:
        click.echo("Making synthetic bakeries with two years of sales …")
        tenant_ids = load_sample(store, system_clock())
        click.echo(f"{len(tenant_ids)} bakeries are ready after {time.monotonic() - began:.0f} s.")
        with store.transaction() as connection:
            attempted = read_attempts(connection, tenant_ids)
        untrained = [tenant_id for tenant_id in tenant_ids if tenant_id not in attempted]
        if untrained:
            click.echo(f"Training a forecast model for each of {len(untrained)} through Dagster …")
            _, outcomes = train_tenants(store, untrained, False)
            better = sum(outcome["action"] == "promoted" for outcome in outcomes)
            click.echo(f"{better} models are better than the rules and serve; the rules serve the others.")
        click.echo("Planning their day through Dagster …")
        chosen = chosen_tenants(store, tenant_ids, False)
        days = sorted(by_plan_date(chosen).items())
        ended = [
            execute_day(store, "daily_plan_job", "daily_plan", day, ids, DAILY_OPERATIONS, True, False)
            for day, ids in days
        ]
        print_ended(ended)
        click.echo()
        sheets.print_overview(store, [(tenant_id, day) for day, ids in days for tenant_id in ids])
        first_day, first_ids = days[0]
        sheet = sheets.read_sheet(store, first_ids[0], first_day)
        if sheet is not None:
            sheets.print_sheet(sheet, longest=12)
    click.echo(f"\nDone in {time.monotonic() - began:.0f} s. See it in the browser: make up (or .venv/bin/daybreak up)")
    if any(day["status"] != "SUCCESS" for day in ended):
        sys.exit(SOME_FAILED)
