"""What every command shares: exit codes, errors in one line, JSON output, the clock and the opened store."""

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import click

SOME_FAILED = 1
INPUT_REFUSED = 3
INSTANCE_UNUSABLE = 4

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people."
)


class InputRefused(click.ClickException):
    """What was given cannot be taken; the message carries the remedy."""

    exit_code = INPUT_REFUSED


class InstanceUnusable(click.ClickException):
    """The instance or its database cannot be used; the message carries the remedy."""

    exit_code = INSTANCE_UNUSABLE


def print_json(value: object) -> None:
    """Print a value as one JSON document; dates as ISO text, decimals as numbers."""
    click.echo(json.dumps(value, default=_plain, indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


@contextmanager
def opened_store() -> Iterator[Any]:
    """The store of this instance: DATABASE_URL, or the embedded server, started for as long as the block runs.

    Migrations are applied. Raises InstanceUnusable with the remedy when there is no usable database.
    """
    from daybreak.instance import InstanceError, database  # noqa: PLC0415 (keeps --help fast)
    from resources.store.database import Store, StoreError  # noqa: PLC0415
    from resources.store.migrate import upgrade  # noqa: PLC0415

    try:
        with database() as dsn:
            upgrade(dsn)
            with Store(dsn) as store:
                yield store
    except (InstanceError, StoreError) as error:
        raise InstanceUnusable(str(error)) from error


def user_name() -> str:
    """Who calls, by this machine's name for them. Raises InputRefused where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise InputRefused("This machine does not tell its user's name. Remedy: give yours with --by NAME.") from error


def has_daemon() -> bool:
    """Whether a running instance launches by itself what is asked for."""
    from daybreak.instance import running  # noqa: PLC0415 (keeps --help fast)

    instance = running()
    return instance is not None and "daemon" in instance.groups
