"""`daybreak failures`: tenants that were set aside, those tried again by themselves and those that wait for a person."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from daybreak.cli.common import SOME_FAILED, InputRefused, has_daemon, json_option, opened_store, print_json, user_name

STATES = ("open", "review", "dismissed", "resolved")
TIME = "%Y-%m-%d %H:%M"

by_option = click.option("--by", "actor", help="Who decides. Default: this machine's user.")


@click.group()
def failures() -> None:
    """Show what failed, have it tried again, or note that nothing has to be mended."""


@failures.command(name="list")
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state; 'review' waits for a person.")
@click.option("--all", "is_all", is_flag=True, help="Also those that are resolved or dismissed.")
@json_option
def list_(tenant: str | None, state: str | None, is_all: bool, as_json: bool) -> None:
    """List what failed and is not mended yet, the latest first."""
    from resources.store.failures import list_failures  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store, store.transaction() as connection:
        rows = _records(list_failures(connection, tenant, state, is_all))
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("Nothing has failed." if state is None else f"No failure is in state {state}.")
    for row in rows:
        click.echo(
            f"{row['failure_id']:>6}  {row['tenant_id']:<24} {row['plan_date']}  {row['link']:<21} "
            f"{row['attempts']}x  {_state_of(row)}"
        )
        click.echo(f"        {row['reason']} Remedy: {row['remedy']}")


@failures.command()
@click.argument("failure_id", type=int)
@json_option
def show(failure_id: int, as_json: bool) -> None:
    """Show one failure with everything that is known of it."""
    from resources.store.failures import get_failure  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store, _refused(), store.transaction() as connection:
        row = _plain(get_failure(connection, failure_id))
    if as_json:
        print_json(row)
        return
    for name, value in row.items():
        click.echo(f"{name:<13} {'' if value is None else value}")


@failures.command()
@click.argument("failure_ids", type=int, nargs=-1)
@click.option("--tenant", help="All of this tenant that wait for a person.")
@click.option("--all", "is_all", is_flag=True, help="All that wait for a person.")
@json_option
def retry(failure_ids: tuple[int, ...], tenant: str | None, is_all: bool, as_json: bool) -> None:
    """Have failures tried once more: by the running instance within a minute, else here and now.

    One that fails again after its automatic retries are used up is back in the list at once.
    """
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.failures import RETRIED_WORKFLOWS, ask_retry, get_failure, list_failures  # noqa: PLC0415

    if sum((bool(failure_ids), tenant is not None, is_all)) != 1:
        raise click.UsageError("Give the numbers of failures, --tenant T or --all.")
    with opened_store() as store, _refused():
        with store.transaction() as connection:
            chosen = list(failure_ids)
            if not chosen:
                waiting = list_failures(connection, tenant, "review")
                chosen = waiting.loc[waiting["workflow"].isin(RETRIED_WORKFLOWS), "failure_id"].tolist()
            rows = [get_failure(connection, failure_id) for failure_id in chosen]
            asked = ask_retry(connection, chosen, system_clock())
        ended = [] if has_daemon() else _run_here(store, [row for row in rows if row["failure_id"] in asked], as_json)
    if as_json:
        print_json({"asked": asked, "runs": ended})
    elif ended:
        _print_ended(ended)
    elif asked:
        click.echo(
            f"{len(asked)} failures are tried again within a minute: `daybreak failures list` shows what came of it."
        )
    else:
        click.echo("They are being tried again already." if chosen else "No failure waits for a person.")
    if any(run["status"] != "SUCCESS" for run in ended):
        sys.exit(SOME_FAILED)


@failures.command()
@click.argument("failure_ids", type=int, nargs=-1, required=True)
@click.option("--notes", required=True, help="Why nothing has to be mended.")
@by_option
@json_option
def dismiss(failure_ids: tuple[int, ...], notes: str, actor: str | None, as_json: bool) -> None:
    """Close failures that nobody has to mend. They stay in the record, with who says so and why."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store import failures as kept  # noqa: PLC0415

    who = actor or user_name()
    with opened_store() as store, _refused(), store.transaction() as connection:
        for failure_id in failure_ids:
            kept.dismiss(connection, failure_id, who, notes, system_clock())
    if as_json:
        print_json({"dismissed": failure_ids, "dismissed_by": who, "notes": notes})
    else:
        click.echo(f"Dismissed {', '.join(map(str, failure_ids))}.")


def _run_here(store: Any, rows: list[Any], as_json: bool) -> list[dict[str, Any]]:
    """Make again in this process what failed, a run per workflow and date."""
    from daybreak.cli.plan import execute_day  # noqa: PLC0415 (keeps --help fast)
    from resources.vocabulary import FORECAST_VALIDATION  # noqa: PLC0415

    groups: dict[tuple[Any, str], set[str]] = {}
    for row in rows:
        groups.setdefault((row["plan_date"], row["workflow"]), set()).add(row["tenant_id"])
    ended = []
    for (on, workflow), tenant_ids in sorted(groups.items()):
        job, step = (
            ("forecast_validation_job", "forecast_validation")
            if workflow == FORECAST_VALIDATION
            else ("daily_plan_job", "daily_plan")
        )
        ended.append(execute_day(store, job, step, on, sorted(tenant_ids), workflow, False, as_json))
    return ended


def _state_of(row: dict[str, Any]) -> str:
    if row["state"] == "dismissed":
        return f"dismissed by {row['dismissed_by']}: {row['notes']}"
    if row["state"] == "review":
        return "waits for a person: daybreak failures retry, or dismiss"
    if row["state"] == "resolved":
        return "resolved"
    if row["retry_id"] is not None:
        return "is being tried again"
    if row["retry_at"] is not None:
        return f"next retry {row['retry_at']:{TIME}} UTC"
    return "is made with the other links of the day"


def _records(rows: Any) -> list[dict[str, Any]]:
    return [_plain(row) for row in rows.astype(object).to_dict("records")]


def _plain(row: Any) -> dict[str, Any]:
    """A row with None for what is missing, instants in UTC and run ids as text."""
    import pandas as pd  # noqa: PLC0415 (keeps --help fast)

    plain = {str(name): None if pd.isna(value) else value for name, value in row.items()}
    plain |= {
        name: value.tz_convert("UTC").to_pydatetime()
        for name, value in plain.items()
        if isinstance(value, pd.Timestamp)
    }
    return plain | {"retry_id": None if plain["retry_id"] is None else str(plain["retry_id"])}


def _print_ended(ended: list[dict[str, Any]]) -> None:
    from daybreak.cli.plan import print_ended  # noqa: PLC0415 (keeps --help fast)

    print_ended(ended)


@contextmanager
def _refused() -> Iterator[None]:
    """Refusals of the store as those of the command line."""
    from resources.store.failures import FailureError  # noqa: PLC0415 (keeps --help fast)

    try:
        yield
    except FailureError as error:
        raise InputRefused(str(error)) from error
