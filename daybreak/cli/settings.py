"""`daybreak settings`: the few things of an instance that are not a good default for everybody."""

import json
from datetime import UTC, date

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json

NAMES = ("partitions-start",)


@click.group()
def settings() -> None:
    """Show and change the instance's settings."""


@settings.command()
@json_option
def show(as_json: bool) -> None:
    """Show every setting with its value."""
    from daybreak import fleet  # noqa: PLC0415 (keeps --help fast)
    from resources.clock import system_clock  # noqa: PLC0415

    with opened_store() as store:
        outline = fleet.outline(store, system_clock())
    values = {"partitions-start": outline.partitions_start, "time-zones": list(outline.zones)}
    if as_json:
        print_json(values)
    else:
        click.echo(
            f"partitions-start  {outline.partitions_start}  first date that can be planned and shown in the grid"
        )
        click.echo(f"time-zones        {', '.join(outline.zones) or 'none yet'}  (from the tenants)")


@settings.command(name="set")
@click.argument("name", type=click.Choice(NAMES))
@click.argument("value")
def set_(name: str, value: str) -> None:
    """Change a setting. `partitions-start 2022-08-01` lets the past be planned from that date."""
    from daybreak import fleet  # noqa: PLC0415 (keeps --help fast)
    from resources.clock import system_clock  # noqa: PLC0415

    try:
        start = date.fromisoformat(value)
    except ValueError as error:
        raise InputRefused(f"{value!r} is not a date. Remedy: write it as 2022-08-01.") from error
    now = system_clock()
    if start > now.astimezone(UTC).date():
        raise InputRefused(
            f"{start} lies in the future, so nothing could be planned. Remedy: give today or an earlier date."
        )
    with opened_store() as store:
        with store.transaction() as connection:
            connection.execute(
                """
                INSERT INTO ops.setting (name, value, updated_at) VALUES (%s, %s, %s)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
                """,
                (fleet.PARTITIONS_START, json.dumps(start.isoformat()), now),
            )
        fleet.publish(store)
    click.echo(f"{name} is {start}.")


@settings.command()
def publish() -> None:
    """Write the local file of time zones and settings again and have a running instance load it."""
    from daybreak import fleet  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        changed = fleet.publish(store)
    click.echo("Published." if changed else "Already as published.")
