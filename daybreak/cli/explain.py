"""`daybreak explain`: why a purchase or a batch was planned, down to the forecast and the model that made it."""

from datetime import date
from typing import Any

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json

BATCH_ID = "TENANT/DATE/LOCATION/PRODUCT/N"


@click.group()
def explain() -> None:
    """Tell why a purchase or a batch was planned, down to the forecast."""


@explain.command()
@click.argument("line_id")
@json_option
def purchase(line_id: str, as_json: bool) -> None:
    """Tell the story of a purchase line, by its id or a beginning of it that no other line has.

    `daybreak plan show --tenant T --json` lists the ids of a day.
    """
    with opened_store() as store, store.transaction() as connection:
        from daybreak import stories  # noqa: PLC0415 (keeps --help fast)
        from resources.store.pegs import find_purchase_lines, read_purchase  # noqa: PLC0415

        try:
            first, last = stories.as_line_range(line_id)
        except ValueError as error:
            raise InputRefused(
                f"{line_id!r} is no id of a purchase line. Remedy: give at least its first four digits (0 to 9, a to f), "
                "as in daybreak plan show --json."
            ) from error
        lines = find_purchase_lines(connection, first, last)
        if not lines:
            raise InputRefused(
                f"There is no purchase line {line_id}. Remedy: daybreak plan show --tenant T --date D --json lists the lines of "
                "a day; a plan made again has new ones."
            )
        if len(lines) > 1:
            listed = "".join(f"\n  {_told(line)}" for line in lines)
            raise InputRefused(
                f"More than one purchase line begins with {line_id}. Remedy: give more of the id:{listed}"
            )
        story = stories.purchase_story(_known(read_purchase(connection, lines[0]["line_id"])))
    _show(story, as_json)


@explain.command()
@click.argument("batch_id", metavar=BATCH_ID)
@json_option
def batch(batch_id: str, as_json: bool) -> None:
    """Tell the story of the Nth batch of a product on a day, N from 1."""
    tenant_id, plan_date, location_id, product_id, number = _parsed(batch_id)
    with opened_store() as store, store.transaction() as connection:
        from daybreak import stories  # noqa: PLC0415 (keeps --help fast)
        from resources.store.pegs import read_batch_line, read_made  # noqa: PLC0415

        found = read_batch_line(connection, tenant_id, plan_date, location_id, product_id)
        if found is None:
            made = [f"{row['location_id']}/{row['product_id']}" for row in read_made(connection, tenant_id, plan_date)]
            remedy = (
                f"choose one of {', '.join(made[:10])}{' …' if len(made) > 10 else ''}"
                if made
                else f"daybreak plan run --tenant {tenant_id} --date {plan_date}; `daybreak tenant list` shows the tenants"
            )
            what = f"{product_id} at {location_id}" if made else "anything"
            raise InputRefused(f"{tenant_id} has no plan to make {what} on {plan_date}. Remedy: {remedy}.")
        batches = found.line["batches"]
        if not 1 <= number <= batches:
            has = (
                f"batches 1 to {batches}"
                if batches
                else f"no batch: {stories.LIMITS[found.line['limited_by']].lower()}"
            )
            raise InputRefused(
                f"{product_id} at {location_id} has {has.rstrip('.')} on {plan_date}. Remedy: daybreak plan show --tenant "
                f"{tenant_id} --date {plan_date} shows what is made."
            )
        story = stories.batch_story(found, number)
    _show(story, as_json)


def _parsed(batch_id: str) -> tuple[str, date, str, str, int]:
    """The parts of a batch's id. Raises InputRefused where it is none."""
    parts = batch_id.strip().split("/")
    try:
        tenant_id, day, location_id, product_id, number = parts
        return tenant_id, date.fromisoformat(day), location_id, product_id, int(number)
    except ValueError as error:
        raise InputRefused(
            f"{batch_id!r} is no id of a batch. Remedy: give it as {BATCH_ID}, for example "
            "mybakery/2026-03-02/main/croissant/1."
        ) from error


def _told(line: dict[str, Any]) -> str:
    state = "" if line["status"] == "active" else f", revision {line['revision']}, {line['status']}"
    return (
        f"{line['line_id']}  {line['tenant_id']} {line['plan_date']}: {line['item_id']} from {line['supplier_id']} for "
        f"{line['delivery_on']}{state}"
    )


def _known(found: Any) -> Any:
    if found is None:
        raise InputRefused("The purchase line was deleted just now. Remedy: look it up again with daybreak plan show.")
    return found


def _show(story: Any, as_json: bool) -> None:
    from daybreak import stories  # noqa: PLC0415 (keeps --help fast)

    if as_json:
        print_json(story.facts)
    else:
        stories.print_story(story)
