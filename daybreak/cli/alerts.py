"""`daybreak alerts`: what is wrong, who looks after it, what is silenced, and one look at everything without the daemon."""

import getpass
import os
import re
from datetime import timedelta
from typing import Any

import click

from daybreak.cli.common import SOME_FAILED, InputRefused, json_option, opened_store, print_json

by_option = click.option("--by", "actor", help="Who does it. Default: the user of this machine.")

DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
RESOLVED_SHOWN = 200


@click.group()
def alerts() -> None:
    """List, acknowledge and silence alerts; check everything now."""


@alerts.command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--all", "include_resolved", is_flag=True, help="Also the latest resolved ones.")
@json_option
def list_(tenant: str | None, include_resolved: bool, as_json: bool) -> None:
    """List the alerts that are open, and the silences in force."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.alerts import list_silences, read  # noqa: PLC0415

    with opened_store() as store, store.transaction() as connection:
        found = read(connection, include_resolved, tenant, limit=None if not include_resolved else RESOLVED_SHOWN)
        silences = list_silences(connection, system_clock())
    if as_json:
        print_json({"alerts": [one.as_json() for one in found], "silences": silences.to_dict("records")})
        return
    if not found:
        click.echo("No alert is open." if not include_resolved else "There was no alert yet.")
    for one in found:
        whose = one.tenant_id or "the instance"
        by = f" by {one.acknowledged_by}" if one.acknowledged_by else ""
        click.echo(
            f"{str(one.alert_id)[:8]}  {one.severity:<8} {one.state + by:<12} {one.name} ({whose}, {one.occurrences}x"
            f"{'' if one.about_date is None else f', {one.about_date}'})"
        )
        click.echo(f"          {one.summary}")
    for row in silences.itertuples():
        click.echo(
            f"Silence {row.silence_id}: {row.name or 'every alert'} of {row.tenant_id or 'everybody'} until "
            f"{row.ends_at:%Y-%m-%d %H:%M} UTC, {row.actor}: {row.reason}"
        )


@alerts.command()
@click.argument("alert")
@json_option
def show(alert: str, as_json: bool) -> None:
    """Show ALERT (the beginning of its id): what to do, and what was told to whom."""
    from resources.store.alerts import AlertError, read_messages, read_one  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store, store.transaction() as connection:
        try:
            one = read_one(connection, alert)
        except AlertError as error:
            raise InputRefused(str(error)) from error
        messages = read_messages(connection, one.alert_id)
    if as_json:
        rows = messages.astype(object).where(messages.notna(), None).to_dict("records")
        print_json(one.as_json() | {"messages": rows})
        return
    for name, value in one.as_json().items():
        if value not in {None, ""}:
            click.echo(f"{name:<16} {value}")
    for row in messages.itertuples():
        if row.sent_at == row.sent_at and row.sent_at is not None:
            became = f"taken at {row.sent_at:%Y-%m-%d %H:%M} UTC"
        elif row.given_up_at == row.given_up_at and row.given_up_at is not None:
            became = f"given up: {row.last_error}"
        else:
            became = f"waits until {row.send_after:%Y-%m-%d %H:%M} UTC" + (
                f": {row.last_error}" if row.last_error else ""
            )
        click.echo(f"{row.kind:<16} {row.target}, attempts {row.attempts}, {became}")


@alerts.command()
@click.argument("alert")
@by_option
@json_option
def ack(alert: str, actor: str | None, as_json: bool) -> None:
    """Acknowledge ALERT (the beginning of its id): no more reminders, no escalation; its end is still told."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.alerts import AlertError, acknowledge, read_one  # noqa: PLC0415

    with opened_store() as store, store.transaction() as connection:
        try:
            one = read_one(connection, alert)
            acknowledge(connection, one.alert_id, actor or getpass.getuser(), system_clock())
            one = read_one(connection, str(one.alert_id))
        except AlertError as error:
            raise InputRefused(str(error)) from error
    if as_json:
        print_json(one.as_json())
    else:
        click.echo(f"{one.name} is acknowledged by {one.acknowledged_by}. {one.remedy}")


@alerts.command()
@click.option("--name", help="Only alerts of this name. Default: all.")
@click.option("--tenant", help="Only this tenant's. Default: everybody's and the instance's.")
@click.option("--for", "lasting", required=True, help="How long, such as 30m, 4h or 2d.")
@click.option("--reason", required=True, help="Why, in your words.")
@by_option
@json_option
def silence(name: str | None, tenant: str | None, lasting: str, reason: str, actor: str | None, as_json: bool) -> None:
    """Tell nobody of some alerts for a while. They are still kept; what fires at the end of it is told then."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.alerts import AlertError, add_silence  # noqa: PLC0415
    from resources.vocabulary import ALERT_SEVERITY  # noqa: PLC0415

    if name is not None and name not in ALERT_SEVERITY:
        raise InputRefused(f"There is no alert {name!r}. Remedy: give one of {', '.join(sorted(ALERT_SEVERITY))}.")
    if not reason.strip():
        raise InputRefused("The reason is empty. Remedy: say why, for whoever wonders tomorrow.")
    now = system_clock()
    until = now + _duration(lasting)
    with opened_store() as store, store.transaction() as connection:
        try:
            number = add_silence(connection, name, tenant, reason, actor or getpass.getuser(), now, until)
        except AlertError as error:
            raise InputRefused(str(error)) from error
    if as_json:
        print_json({"silence_id": number, "name": name, "tenant_id": tenant, "ends_at": until})
    else:
        click.echo(
            f"Silence {number}: {name or 'every alert'} of {tenant or 'everybody'} until {until:%Y-%m-%d %H:%M} UTC."
        )


@alerts.command()
@click.argument("silence_id", type=int)
@json_option
def unsilence(silence_id: int, as_json: bool) -> None:
    """End a silence now."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.alerts import AlertError, end_silence  # noqa: PLC0415

    with opened_store() as store, store.transaction() as connection:
        try:
            end_silence(connection, silence_id, system_clock())
        except AlertError as error:
            raise InputRefused(str(error)) from error
    if as_json:
        print_json({"silence_id": silence_id, "is_ended": True})
    else:
        click.echo(f"Silence {silence_id} is over.")


@alerts.command()
@click.option("--scheduler-only", is_flag=True, help="Look at the daemon's signs of life alone.")
@json_option
@click.pass_context
def check(context: click.Context, scheduler_only: bool, as_json: bool) -> None:
    """Look at everything now and send what is due, as the sensor does twice a minute while the daemon lives.

    For a timer outside of the instance: it is what tells that the daemon is dead. Ends with exit code 1 while an alert
    that is critical or high fires.
    """
    from resources.alerts.delivery import deliver  # noqa: PLC0415 (keeps --help fast)
    from resources.alerts.observing import check_and_route, observe, observe_scheduler  # noqa: PLC0415
    from resources.alerts.targets import targets_of  # noqa: PLC0415
    from resources.clock import system_clock  # noqa: PLC0415
    from resources.forecast_cache import REDIS_URL_SETTING, ForecastCache  # noqa: PLC0415
    from resources.store.alerts import read_open  # noqa: PLC0415
    from resources.vocabulary import SCHEDULER_DISABLED_SETTING  # noqa: PLC0415

    targets = targets_of(os.environ)
    with opened_store() as store, ForecastCache(os.environ.get(REDIS_URL_SETTING, "")) as cache:
        now = system_clock()
        is_scheduling = os.environ.get(SCHEDULER_DISABLED_SETTING, "").lower() != "true"
        observed = observe_scheduler(store, now) if scheduler_only else observe(store, now, cache, is_scheduling)
        _, routed = check_and_route(store, observed, targets)
        delivered = deliver(store, targets, system_clock)
        with store.transaction() as connection:
            found = [one for one in read_open(connection) if one.state != "pending"]
    if as_json:
        print_json(
            {
                "alerts": [one.as_json() for one in found],
                "fired": routed.fired,
                "resolved": routed.resolved,
                "messages_sent": delivered.sent,
                "messages_failed": delivered.failed,
            }
        )
    else:
        for one in found:
            click.echo(f"{str(one.alert_id)[:8]}  {one.severity:<8} {one.state:<12} {one.name}: {one.summary}")
        click.echo(
            f"{len(found)} alerts are open, {routed.fired} began to fire, {routed.resolved} ended; "
            f"{delivered.sent} messages were sent, {delivered.failed} were not taken."
        )
    if any(one.severity in {"critical", "high"} and one.state == "firing" for one in found):
        context.exit(SOME_FAILED)


@alerts.command()
@json_option
@click.pass_context
def test(context: click.Context, as_json: bool) -> None:
    """Send a test message to every target that the environment names; nothing is stored."""
    from uuid import uuid4  # noqa: PLC0415 (keeps --help fast)

    from resources.alerts.records import Alert  # noqa: PLC0415
    from resources.alerts.router import payload_of  # noqa: PLC0415
    from resources.alerts.targets import DeliveryFailed, Letter, targets_of  # noqa: PLC0415
    from resources.clock import system_clock  # noqa: PLC0415

    now = system_clock()
    example = Alert(
        uuid4(), "Test", "Test", None, "", "", "low", "firing", "This is a test of the way alerts take.",
        "Nothing is to be done.", "alerts", None, 1, now, now, now,
    )  # fmt: skip
    payload = payload_of("firing", "Test", "low", [example], now)
    results: dict[str, Any] = {}
    for name, send in targets_of(os.environ).items():
        try:
            send(Letter(example.alert_id, payload, now, now))
        except DeliveryFailed as error:
            results[name] = str(error)
        else:
            results[name] = None
    if as_json:
        print_json({name: {"is_taken": reason is None, "reason": reason} for name, reason in results.items()})
    else:
        for name, reason in results.items():
            click.echo(f"{name:<8} {'taken' if reason is None else reason}")
    if any(reason is not None for reason in results.values()):
        context.exit(SOME_FAILED)


def _duration(text: str) -> timedelta:
    found = DURATION.fullmatch(text.strip())
    if found is None:
        raise InputRefused(f"{text!r} is no duration. Remedy: write it as 30m, 4h or 2d.")
    return timedelta(**{UNITS[found[2]]: int(found[1])})
