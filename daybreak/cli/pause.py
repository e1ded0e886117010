"""`daybreak pause` and `daybreak resume`: stop what starts by itself, for everybody or for a tenant, and let it go on."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json, user_name

tenant_option = click.option("--tenant", help="Only this tenant. Default: everybody.")
by_option = click.option("--by", "actor", help="Who does it. Default: this machine's user.")


@click.command()
@tenant_option
@click.option("--reason", help="Why, in your words.")
@by_option
@click.option("--list", "is_list", is_flag=True, help="Show the pauses in force instead.")
@click.option("--all", "is_all", is_flag=True, help="With --list: also those that are over.")
@json_option
def pause(
    tenant: str | None, reason: str | None, actor: str | None, is_list: bool, is_all: bool, as_json: bool
) -> None:
    """Stop schedules and sensors from starting work; what you start yourself, and runs already begun, go on."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store import pauses  # noqa: PLC0415

    if is_list:
        _list(is_all, as_json)
        return
    if reason is None:
        raise click.UsageError("Give --reason, for those who wonder where the plans are; --list shows what is paused.")
    who, now = actor or user_name(), system_clock()
    with opened_store() as store, _refused(), store.transaction() as connection:
        pauses.pause(connection, tenant, reason, who, now)
    if as_json:
        print_json({"tenant_id": tenant, "is_paused": True, "reason": reason, "actor": who, "paused_at": now})
    else:
        option = "" if tenant is None else f" --tenant {tenant}"
        click.echo(f"{tenant or 'Scheduling'} is paused: {reason}. To go on: daybreak resume{option}")


@click.command()
@tenant_option
@by_option
@json_option
def resume(tenant: str | None, actor: str | None, as_json: bool) -> None:
    """Let schedules and sensors go on. Days that were missed and are not over are planned once."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store import pauses  # noqa: PLC0415

    who, now = actor or user_name(), system_clock()
    with opened_store() as store, _refused(), store.transaction() as connection:
        held_by = pauses.resume(connection, tenant, who, now)
    if as_json:
        print_json(
            {"tenant_id": tenant, "is_paused": held_by is not None, "reason": held_by, "actor": who, "resumed_at": now}
        )
    elif held_by is None:
        click.echo(f"{tenant or 'Scheduling'} goes on; what was missed and is not over is planned within 15 minutes.")
    else:
        click.echo(f"{tenant} is no longer paused by itself, but everybody is: {held_by}. To go on: daybreak resume")


def _list(is_all: bool, as_json: bool) -> None:
    from resources.store.pauses import list_pauses  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store, store.transaction() as connection:
        found = list_pauses(connection, is_all)
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("Nothing is paused.")
    for row in rows:
        until = "" if row["resumed_at"] is None else f" to {row['resumed_at']:%Y-%m-%d %H:%M} by {row['resumed_by']}"
        click.echo(
            f"{row['tenant_id'] or 'everybody':<32} since {row['paused_at']:%Y-%m-%d %H:%M} UTC by {row['actor']}{until}: "
            f"{row['reason']}"
        )


@contextmanager
def _refused() -> Iterator[None]:
    """Refusals of the store as those of the command line."""
    from resources.store.master import MasterDataError  # noqa: PLC0415 (keeps --help fast)
    from resources.store.pauses import PauseError  # noqa: PLC0415

    try:
        yield
    except (PauseError, MasterDataError) as error:
        raise InputRefused(str(error)) from error
