"""`daybreak settings`: the few things of an instance that are not a good default for everybody."""

import json
from datetime import UTC, date, datetime

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json

PARTITIONS_START = "partitions-start"
NAMES = (PARTITIONS_START, "error-measure")
TIME = click.DateTime(["%H:%M"])


@click.group()
def settings() -> None:
    """Show and change the instance's settings."""


@settings.command()
@json_option
def show(as_json: bool) -> None:
    """Show every setting with its value."""
    from daybreak import fleet  # noqa: PLC0415 (keeps --help fast)
    from resources.clock import system_clock  # noqa: PLC0415
    from resources.store.checks import read_measure  # noqa: PLC0415

    with opened_store() as store:
        outline = fleet.outline(store, system_clock())
        with store.transaction() as connection:
            measure = read_measure(connection)
    values = {
        "partitions-start": outline.partitions_start,
        "error-measure": measure,
        "time-zones": list(outline.zones),
    }
    if as_json:
        print_json(values)
    else:
        click.echo(
            f"partitions-start  {outline.partitions_start}  first date that can be planned and shown in the grid"
        )
        click.echo(f"error-measure     {measure}  by which checks and retraining judge forecasts")
        click.echo(f"time-zones        {', '.join(outline.zones) or 'none yet'}  (from the tenants)")


@settings.command(name="set")
@click.argument("name", type=click.Choice(NAMES))
@click.argument("value")
@json_option
def set_(name: str, value: str, as_json: bool) -> None:
    """Change a setting.

    `partitions-start 2022-08-01` lets the past be planned from that date. `error-measure mape` has checks and retraining
    judge forecasts by the plain MAPE, which small bakeries cannot keep below 30 %; `wape`, the default, weighs by units.
    """
    from daybreak import fleet  # noqa: PLC0415 (keeps --help fast)
    from resources.clock import system_clock  # noqa: PLC0415

    now = system_clock()
    chosen: date | str = _start(value, now) if name == PARTITIONS_START else _measure(value)
    with opened_store() as store:
        with store.transaction() as connection:
            connection.execute(
                """
                INSERT INTO ops.setting (name, value, updated_at) VALUES (%s, %s, %s)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
                """,
                (fleet.PARTITIONS_START if name == PARTITIONS_START else name, json.dumps(str(chosen)), now),
            )
        fleet.publish(store)
    if as_json:
        print_json({name: chosen})
    else:
        click.echo(f"{name} is {chosen}.")


def _start(value: str, now: datetime) -> date:
    try:
        start = date.fromisoformat(value)
    except ValueError as error:
        raise InputRefused(f"{value!r} is not a date. Remedy: write it as 2022-08-01.") from error
    if start > now.astimezone(UTC).date():
        raise InputRefused(
            f"{start} lies in the future, so nothing could be planned. Remedy: give today or an earlier date."
        )
    return start


def _measure(value: str) -> str:
    from planning.checks import MEASURES  # noqa: PLC0415 (keeps --help fast)

    if value not in MEASURES:
        raise InputRefused(f"{value!r} is no error measure. Remedy: choose {' or '.join(MEASURES)}.")
    return value


@settings.command(name="schedule-group")
@click.argument("group", required=False)
@click.option("--production", type=TIME, help="Local time of production planning, such as 05:30.")
@click.option("--procurement", type=TIME, help="Local time of procurement planning, such as 06:00.")
@click.option("--validation", type=TIME, help="Local time of forecast validation, such as 08:00.")
@json_option
def schedule_group(
    group: str | None,
    production: datetime | None,
    procurement: datetime | None,
    validation: datetime | None,
    as_json: bool,
) -> None:
    """List the schedule groups, or add or change GROUP. Tenants follow the group that `daybreak tenant set` gives them."""
    from resources.store.master import MasterDataError, list_schedule_groups, set_schedule_group  # noqa: PLC0415

    given = (production, procurement, validation)
    if group is None and any(given):
        raise click.UsageError("Name the group whose times to set.")
    try:
        with opened_store() as store, store.transaction() as connection:
            groups = list_schedule_groups(connection)
            if group is not None:
                before = groups.get(group, groups["default"])
                production_at, procurement_at, validation_at = (
                    at.time() if at else old for at, old in zip(given, before, strict=True)
                )
                set_schedule_group(connection, group, (production_at, procurement_at, validation_at))
                groups = list_schedule_groups(connection)
    except MasterDataError as error:
        raise InputRefused(str(error)) from error
    if as_json:
        names = ("production_planning_at", "procurement_planning_at", "forecast_validation_at")
        print_json({name: dict(zip(names, times, strict=True)) for name, times in groups.items()})
    else:
        for name, times in groups.items():
            click.echo(
                f"{name:<20} production {times[0]:%H:%M}  procurement {times[1]:%H:%M}  validation {times[2]:%H:%M}"
            )


@settings.command()
@click.option("--no-reload", is_flag=True, help="Do not have a running instance load it: it is just starting.")
@json_option
def publish(no_reload: bool, as_json: bool) -> None:
    """Write the local file of time zones and settings again and have a running instance load it."""
    from daybreak import fleet  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        changed = fleet.publish(store, is_reloading=not no_reload)
    if as_json:
        print_json({"is_changed": changed})
    else:
        click.echo("Published." if changed else "Already as published.")
