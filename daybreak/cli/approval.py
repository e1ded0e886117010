"""`daybreak plan approve`, `reject`, `sent`, `override` and `history`: what people decide on plans. The rules are the store's."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

import click

from daybreak.cli.common import SOME_FAILED, InputRefused, has_daemon, json_option, opened_store, print_json, user_name

DATE = click.DateTime(["%Y-%m-%d"])
REASONS = ("stale_data", "wrong_qty", "wrong_supplier", "price", "budget", "other")

tenant_option = click.option("--tenant", required=True, help="The tenant.")
date_option = click.option("--date", "on", type=DATE, help="The first selling day. Default: the tenant's next one.")
location_option = click.option("--location", help="The location. Default: every one that receives goods.")
by_option = click.option("--by", "actor", help="Who decides. Default: the user of this machine.")
version_option = click.option(
    "--version", type=int, help="The version that you have seen (daybreak plan show). Refused when it has changed."
)
notes_option = click.option("--notes", default="", help="Why, in your words.")


@click.command()
@tenant_option
@date_option
@location_option
@by_option
@version_option
@notes_option
@json_option
def approve(
    tenant: str,
    on: datetime | None,
    location: str | None,
    actor: str | None,
    version: int | None,
    notes: str,
    as_json: bool,
) -> None:
    """Approve the purchases of a day; what must be ordered by today is ordered."""
    from resources.store import approval  # noqa: PLC0415 (keeps --help fast)

    _decide(approval.approve, tenant, on, location, actor, version, notes, as_json)


@click.command()
@tenant_option
@date_option
@location_option
@by_option
@version_option
@notes_option
@click.option("--reason", type=click.Choice(REASONS), default="other", help="Why, as a code. Default: other.")
@json_option
def reject(
    tenant: str,
    on: datetime | None,
    location: str | None,
    actor: str | None,
    version: int | None,
    notes: str,
    reason: str,
    as_json: bool,
) -> None:
    """Reject the purchases of a day. For stale data they are planned again by themselves, at most three times a day.

    "stale" or "outdated" in the notes means the same as the reason stale_data. Any other rejection waits for a person.
    """
    from resources.store import approval  # noqa: PLC0415 (keeps --help fast)

    _decide(approval.reject, tenant, on, location, actor, version, notes, as_json, reason_code=reason)


@click.command()
@tenant_option
@date_option
@location_option
@by_option
@version_option
@notes_option
@json_option
def sent(
    tenant: str,
    on: datetime | None,
    location: str | None,
    actor: str | None,
    version: int | None,
    notes: str,
    as_json: bool,
) -> None:
    """Note that the orders of an approved plan have gone out to the suppliers."""
    from resources.store import approval  # noqa: PLC0415 (keeps --help fast)

    _decide(approval.mark_sent, tenant, on, location, actor, version, notes, as_json)


@click.group()
def override() -> None:
    """Put your own number in place of a plan's. It holds until the inputs change; the day is planned again at once."""


@override.command()
@tenant_option
@date_option
@click.option("--product", required=True, help="The product.")
@click.option("--location", help="Where it is made. Default: the only place that makes it.")
@click.option("--batches", type=int, required=True, help="How many batches to make; 0 for none.")
@click.option("--reason", required=True, help="Why, in your words.")
@by_option
@json_option
def production(
    tenant: str,
    on: datetime | None,
    product: str,
    location: str | None,
    batches: int,
    reason: str,
    actor: str | None,
    as_json: bool,
) -> None:
    """Fix the batches of a product."""
    from resources.store.overrides import ProductionLine  # noqa: PLC0415 (keeps --help fast)

    _override(tenant, on, ProductionLine(product, location), batches, actor, reason, as_json)


@override.command()
@tenant_option
@date_option
@click.option("--item", required=True, help="The item.")
@click.option("--supplier", required=True, help="Who delivers it.")
@click.option("--delivery", type=DATE, required=True, help="The day of the delivery.")
@click.option("--location", help="Where it is delivered. Default: the only place that receives goods.")
@click.option("--packs", type=int, required=True, help="How many packs to order; 0 for none.")
@click.option("--reason", required=True, help="Why, in your words.")
@by_option
@json_option
def purchase(
    tenant: str,
    on: datetime | None,
    item: str,
    supplier: str,
    delivery: datetime,
    location: str | None,
    packs: int,
    reason: str,
    actor: str | None,
    as_json: bool,
) -> None:
    """Fix the packs of a delivery."""
    from resources.store.overrides import PurchaseLine  # noqa: PLC0415 (keeps --help fast)

    _override(tenant, on, PurchaseLine(item, supplier, delivery.date(), location), packs, actor, reason, as_json)


@override.command(name="list")
@tenant_option
@date_option
@json_option
def list_(tenant: str, on: datetime | None, as_json: bool) -> None:
    """List the overrides of a day: in force, lapsed since the inputs changed, or withdrawn."""
    from daybreak import sheets  # noqa: PLC0415 (keeps --help fast)
    from resources.store.overrides import list_overrides  # noqa: PLC0415

    with opened_store() as store:
        day, _ = _day_of(store, tenant, on)
        with store.transaction() as connection:
            found = list_overrides(connection, tenant, day)
    if as_json:
        print_json({"tenant_id": tenant, "plan_date": day, "overrides": sheets.records(found)})
    else:
        sheets.print_overrides(tenant, day, found)


@override.command()
@click.argument("override_id", type=int)
@tenant_option
@by_option
@json_option
def withdraw(override_id: int, tenant: str, actor: str | None, as_json: bool) -> None:
    """Take an override back; the day is planned again with the recommended number."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.overrides import withdraw_override  # noqa: PLC0415

    with opened_store() as store, _refusals():
        _day_of(store, tenant, None)
        given = withdraw_override(store, tenant, override_id, actor=actor or user_name(), now=system_clock())
        _plan_again(store, given, None, "Withdrew", as_json)


@click.command()
@tenant_option
@date_option
@json_option
def history(tenant: str, on: datetime | None, as_json: bool) -> None:
    """Show the revisions of a day's plans, what each changed, and who decided what, when and why."""
    from daybreak import sheets  # noqa: PLC0415 (keeps --help fast)
    from resources.store.decisions import read_decisions, read_revisions  # noqa: PLC0415

    with opened_store() as store:
        day, zone = _day_of(store, tenant, on)
        with store.transaction() as connection:
            revisions = read_revisions(connection, tenant, day)
            decisions = read_decisions(connection, tenant, day)
    if revisions.empty:
        raise InputRefused(f"{tenant} has no plan for {day}. Remedy: daybreak plan run --tenant {tenant} --date {day}.")
    if as_json:
        listed = {"revisions": sheets.records(revisions), "decisions": sheets.records(decisions)}
        print_json({"tenant_id": tenant, "plan_date": day, **listed})
    else:
        sheets.print_history(tenant, day, sheets.zone_of(zone), revisions, decisions)


NOT_TAKEN = {"override_not_applicable", "override_not_planned", "override_lapsed"}
"""Codes of exceptions that say that a plan has not a person's number but its own."""

COMMANDS = (approve, reject, sent, override, history)
"""What `daybreak plan` takes from here."""


def _decide(
    decide: Callable[..., Any],
    tenant: str,
    on: datetime | None,
    location: str | None,
    actor: str | None,
    version: int | None,
    notes: str,
    as_json: bool,
    **more: str,
) -> None:
    """Decide, plan again where that was asked for and nothing else will do it, and say what came of it."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)

    # The store logs what this command says itself: without a handler, Python would print it a second time.
    logging.getLogger("daybreak.approval").addHandler(logging.NullHandler())
    ended: list[dict[str, Any]] = []
    with opened_store() as store:
        day, _ = _day_of(store, tenant, on)
        with _refusals():
            decision = decide(
                store,
                tenant,
                day,
                location,
                actor=actor or user_name(),
                now=system_clock(),
                notes=notes,
                expected_version=version,
                **more,
            )
        is_asked = decision.regeneration is not None and decision.regeneration.is_requested
        if is_asked and not has_daemon():
            ended = [_plan_day(store, tenant, day, as_json)]
    if as_json:
        print_json({**asdict(decision), "runs": ended})
    else:
        _print_decision(decision)
        _print_ended(ended)
    _exit_with(ended)


def _override(
    tenant: str, on: datetime | None, line: Any, amount: int, actor: str | None, reason: str, as_json: bool
) -> None:
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.overrides import add_override  # noqa: PLC0415

    with opened_store() as store, _refusals():
        day, _ = _day_of(store, tenant, on)
        given = add_override(
            store, tenant, day, line, amount, actor=actor or user_name(), reason=reason, now=system_clock()
        )
        _plan_again(store, given, line, "Set", as_json)


def _plan_again(store: Any, given: Any, line: Any, verb: str, as_json: bool) -> None:
    """Plan the override's day again, so that everything below the line follows, and say so.

    line: what was overridden, None where an override was taken back. What the plan says of it is told; one that the plan
    could not take ends the command as one that failed.
    """
    ended = [_plan_day(store, given.tenant_id, given.plan_date, as_json)]
    told = _told_of(store, given, line) if line is not None and ended[0]["status"] == "SUCCESS" else []
    is_taken = not any(row["code"] in NOT_TAKEN for row in told)
    if as_json:
        print_json({**asdict(given), "runs": ended, "is_taken": is_taken, "exceptions": told})
    else:
        unit = "batches" if given.kind == "production" else "packs"
        before = "" if given.replaced is None else f", in place of {given.replaced}"
        click.echo(
            f"{verb} override {given.override_id}: {given.amount} {unit} of {given.subject_id} at {given.location_id} "
            f"in the plan of {given.plan_date}{before}."
        )
        for warning in given.warnings:
            click.echo(f"Warning: {warning}", err=True)
        _print_ended(ended)
        for row in told:
            verdict = "Not taken" if row["code"] in NOT_TAKEN else "Warning"
            click.echo(f"{verdict}: {row['message']}. Remedy: {row['remedy']}.".replace("..", "."), err=True)
        if not is_taken:
            click.echo(
                f"It stays until: daybreak plan override withdraw {given.override_id} --tenant {given.tenant_id}",
                err=True,
            )
    _exit_with(ended)
    if not is_taken:
        sys.exit(SOME_FAILED)


def _told_of(store: Any, given: Any, line: Any) -> list[dict[str, Any]]:
    """What the active plans say of an override: code, message and remedy."""
    from daybreak import sheets  # noqa: PLC0415 (keeps --help fast)
    from resources.store.report import read_exceptions  # noqa: PLC0415

    with store.transaction() as connection:
        rows = read_exceptions(connection, given.tenant_id, given.plan_date)
    is_line = (rows["location_id"] == given.location_id) & (rows["subject_id"] == given.subject_id)
    is_said = rows["code"].str.startswith("override_") | (rows["code"] == "orders_above_override")
    if given.kind == "purchase":
        # An item may have other overrides that are not taken either, of other deliveries: the message names them.
        delivery = f" from {line.supplier_id} for {line.delivery_on}"
        is_said &= ~rows["code"].isin(NOT_TAKEN) | rows["message"].str.contains(delivery, regex=False)
    return sheets.records(rows.loc[is_line & is_said, ["code", "message", "remedy"]])


def _plan_day(store: Any, tenant: str, day: date, as_json: bool) -> dict[str, Any]:
    from daybreak.cli.plan import execute_day  # noqa: PLC0415 (that module takes its commands from this one)
    from resources.vocabulary import DAILY_OPERATIONS  # noqa: PLC0415 (keeps --help fast)

    return execute_day(store, "daily_plan_job", "daily_plan", day, [tenant], DAILY_OPERATIONS, False, as_json)


def _print_decision(decision: Any) -> None:
    for plan in decision.plans:
        ordered = (
            f"; {plan.ordered_lines} lines ordered ({plan.ordered_amount:,.2f})" if decision.action == "approve" else ""
        )
        click.echo(
            f"{decision.plan_date} {plan.location_id}: revision {plan.revision} {plan.from_state} -> {plan.to_state} by "
            f"{decision.actor} (version {plan.approval_version}){ordered}"
        )
    for warning in decision.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if decision.regeneration is not None:
        click.echo(decision.regeneration.message)
    elif decision.action == "reject":
        click.echo(
            "It waits for a person. Remedy: override a line, or change what it was made from, then "
            f"daybreak plan run --tenant {decision.tenant_id} --date {decision.plan_date} --force."
        )


def _print_ended(ended: list[dict[str, Any]]) -> None:
    from daybreak.cli.plan import print_ended  # noqa: PLC0415 (that module takes its commands from this one)

    print_ended(ended)


def _exit_with(ended: list[dict[str, Any]]) -> None:
    if any(day["status"] != "SUCCESS" for day in ended):
        sys.exit(SOME_FAILED)


def _day_of(store: Any, tenant: str, on: datetime | None) -> tuple[date, str]:
    """The day asked for, else the tenant's next one, and its time zone. Raises InputRefused for an unknown tenant."""
    from daybreak.cli.plan import by_plan_date, chosen_tenants  # noqa: PLC0415 (that module takes its commands from this one)

    chosen = chosen_tenants(store, (tenant,), False, any_status=True)
    return on.date() if on else next(iter(by_plan_date(chosen))), chosen[tenant][0]


@contextmanager
def _refusals() -> Iterator[None]:
    """Refusals of the store as those of the command line."""
    from resources.store.decisions import DecisionError  # noqa: PLC0415 (keeps --help fast)

    try:
        yield
    except DecisionError as error:
        raise InputRefused(str(error)) from error
