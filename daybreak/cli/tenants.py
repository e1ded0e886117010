"""`daybreak tenant`: add, list, show, change, suspend and resume tenants."""

import os
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from resources.clock import system_clock
from resources.vocabulary import (
    DEFAULT_TIMEZONE,
    DEFAULT_TIMEZONE_SETTING,
    TENANT_STATUSES,
    TENANT_TIERS,
    TIMEZONE_NOT_FETCHED,
)

if TYPE_CHECKING:
    from resources.store.database import Store


@click.group()
def tenant() -> None:
    """Add, list, show, change and suspend tenants (bakery businesses)."""


@tenant.command()
@click.argument("tenant_id")
@click.option("--timezone", help="IANA time zone, such as Europe/Berlin. [default: DEFAULT_TIMEZONE or Europe/Madrid]")
@click.option("--country", required=True, help="Two-letter country code, such as DE.")
@click.option("--subdivision", help="Subdivision with holidays of its own, such as BW.")
@click.option("--tier", type=click.Choice(TENANT_TIERS), default="starter", show_default=True)
@click.option("--name", help="Name for people. [default: the id]")
@click.option("--currency", default="EUR", show_default=True, help="Three-letter currency code.")
@click.option(
    "--plan-lead-days",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="1 for bakeries that bake at night and plan the evening before.",
)
@click.option("--parent", help="Parent tenant of tier enterprise.")
@click.option("--no-location", is_flag=True, help="Do not make the location 'main'.")
@json_option
def add(
    tenant_id: str,
    timezone: str | None,
    country: str,
    subdivision: str | None,
    tier: str,
    name: str | None,
    currency: str,
    plan_lead_days: int,
    parent: str | None,
    no_location: bool,
    as_json: bool,
) -> None:
    """Add a tenant, with one location 'main'."""
    from resources.store.master import Location, MasterDataError, Tenant, add_location, add_tenant, checked  # noqa: PLC0415 (keeps --help fast)

    now = system_clock()
    if timezone is None:
        timezone = os.environ.get(DEFAULT_TIMEZONE_SETTING) or DEFAULT_TIMEZONE
        click.echo(
            f"Warning: {TIMEZONE_NOT_FETCHED}: none is given, {timezone} is used. Remedy: give --timezone.",
            err=True,
        )
    new = Tenant(
        tenant_id,
        name or tenant_id,
        timezone,
        country.upper(),
        now,
        subdivision=subdivision,
        currency=currency.upper(),
        tier=tier,
        parent_tenant_id=parent,
        plan_lead_days=plan_lead_days,
    )
    try:
        checked(new)
        with opened_store() as store:
            with store.transaction() as connection:
                add_tenant(connection, new)
                if not no_location:
                    add_location(connection, Location(tenant_id, "main", new.name))
            _publish(store)
    except MasterDataError as error:
        raise InputRefused(str(error)) from error
    if as_json:
        print_json(asdict(new) | {"locations": [] if no_location else ["main"]})
    else:
        location = "without a location" if no_location else "with location main"
        click.echo(f"Added tenant {tenant_id} ({new.country}, {new.timezone}) {location}.")


@tenant.command(name="list")
@click.option("--status", type=click.Choice(TENANT_STATUSES), help="Only those of this status.")
@json_option
def list_(status: str | None, as_json: bool) -> None:
    """List the tenants."""
    from resources.store.master import list_tenants  # noqa: PLC0415 (keeps --help fast)
    from resources.store.pauses import read_paused  # noqa: PLC0415

    with opened_store() as store, store.transaction() as connection:
        tenants = list_tenants(connection, status)
        paused = read_paused(connection)
    if as_json:
        print_json([asdict(one) | {"is_paused": paused.holds(one.tenant_id)} for one in tenants])
        return
    if paused.everybody is not None:
        click.echo(f"Scheduling is paused for everybody: {paused.everybody}. To go on: daybreak resume", err=True)
    if not tenants:
        click.echo("No tenants. Remedy: `daybreak tenant add`, or `daybreak sample` for synthetic ones.")
    for one in tenants:
        place = f"{one.country}-{one.subdivision}" if one.subdivision else one.country
        state = "paused" if one.status == "active" and paused.holds(one.tenant_id) else one.status
        click.echo(f"{one.tenant_id:<32} {state:<10} {one.tier:<13} {place:<8} {one.timezone:<24} {one.name}")


@tenant.command()
@click.argument("tenant_id")
@json_option
def show(tenant_id: str, as_json: bool) -> None:
    """Show a tenant, its locations and how much is known of it."""
    from daybreak.cli.policy import line_of  # noqa: PLC0415 (keeps --help fast)
    from resources.store.master import MasterDataError, get_tenant, list_locations  # noqa: PLC0415
    from resources.store.pauses import list_pauses  # noqa: PLC0415
    from resources.store.policies import list_policies  # noqa: PLC0415

    try:
        with opened_store() as store, store.transaction() as connection:
            one = get_tenant(connection, tenant_id)
            locations = list_locations(connection, tenant_id)
            policies = list_policies(connection, tenant_id)
            pauses = [
                f"since {row.paused_at:%Y-%m-%d %H:%M} UTC by {row.actor}: {row.reason}"
                for row in list_pauses(connection).itertuples()
                if row.tenant_id in {None, tenant_id}
            ]
            known = connection.execute(
                """
                SELECT (SELECT count(*) FROM master.product WHERE tenant_id = %(id)s) AS products,
                       (SELECT count(DISTINCT output_item_id) FROM master.recipe WHERE tenant_id = %(id)s) AS recipes,
                       (SELECT count(*) FROM master.supplier WHERE tenant_id = %(id)s) AS suppliers,
                       (SELECT min(business_date) FROM facts.sales WHERE tenant_id = %(id)s) AS first_sales_on,
                       (SELECT max(business_date) FROM facts.sales WHERE tenant_id = %(id)s) AS last_sales_on
                """,
                {"id": tenant_id},
            ).fetchone()
    except MasterDataError as error:
        raise InputRefused(str(error)) from error
    counts = dict(
        zip(("products", "recipes", "suppliers", "first_sales_on", "last_sales_on"), known or (), strict=True)
    )
    shown = asdict(one) | counts
    if as_json:
        lists = {
            "locations": [asdict(location) for location in locations],
            "policies": [asdict(policy) for policy in policies],
            "pauses": pauses,
        }
        print_json(shown | lists)
        return
    for name, value in shown.items():
        click.echo(f"{name:<18} {'' if value is None else value}")
    for location in locations:
        state = "" if location.is_active else ", not active"
        click.echo(f"{'location':<18} {location.location_id} ({location.kind}{state}) {location.name}")
    for text in pauses:
        click.echo(f"{'paused':<18} {text}")
    for policy in policies:
        click.echo(f"{'policy':<18} {line_of(policy)}")


@tenant.command()
@click.argument("tenant_id")
@json_option
def suspend(tenant_id: str, as_json: bool) -> None:
    """Stop planning a tenant. Its data stay."""
    _change_status(tenant_id, "suspended", system_clock(), as_json)


@tenant.command()
@click.argument("tenant_id")
@json_option
def resume(tenant_id: str, as_json: bool) -> None:
    """Plan a suspended tenant again."""
    _change_status(tenant_id, "active", system_clock(), as_json)


@tenant.command(name="set")
@click.argument("tenant_id")
@click.option("--timezone", help="IANA time zone, such as Europe/Berlin.")
@click.option("--country", help="Two-letter country code, such as DE.")
@click.option("--subdivision", help="Subdivision with holidays of its own, such as BW.")
@click.option("--tier", type=click.Choice(TENANT_TIERS))
@click.option("--name", help="Name for people.")
@click.option("--currency", help="Three-letter currency code.")
@click.option("--plan-lead-days", type=click.IntRange(0, 1), help="1 for bakeries that bake at night.")
@click.option("--schedule-group", help="The group whose local times it follows: `daybreak settings schedule-group`.")
@click.option(
    "--auto-approve/--no-auto-approve", default=None, help="Whether purchase lines become orders by themselves."
)
@click.option("--default-critical-ratio", type=float, help="Used where a price or cost is missing, between 0 and 1.")
@json_option
def set_(tenant_id: str, as_json: bool, **options: object) -> None:
    """Change a tenant. Plans made before are then out of date."""
    changes = {
        name: value.upper() if name in {"country", "currency"} and isinstance(value, str) else value
        for name, value in options.items()
        if value is not None
    }
    if not changes:
        raise click.UsageError("Give what to change: `daybreak tenant set --help` lists it.")
    is_changed = _change(tenant_id, changes, system_clock())
    if as_json:
        print_json({"tenant_id": tenant_id, "changes": changes, "is_changed": is_changed})
    else:
        click.echo(f"Tenant {tenant_id} is {'changed' if is_changed else 'as it was'}.")


def _change_status(tenant_id: str, status: str, now: datetime, as_json: bool) -> None:
    is_changed = _change(tenant_id, {"status": status}, now)
    if as_json:
        print_json({"tenant_id": tenant_id, "status": status, "is_changed": is_changed})
    else:
        click.echo(f"Tenant {tenant_id} is {'now' if is_changed else 'already'} {status}.")


def _change(tenant_id: str, changes: dict[str, object], now: datetime) -> bool:
    from resources.store.master import MasterDataError, change_tenant  # noqa: PLC0415 (keeps --help fast)

    try:
        with opened_store() as store:
            with store.transaction() as connection:
                is_changed = change_tenant(connection, tenant_id, changes, now)
            if is_changed:
                _publish(store)
    except MasterDataError as error:
        raise InputRefused(str(error)) from error
    return is_changed


def _publish(store: "Store") -> None:
    from daybreak.fleet import publish  # noqa: PLC0415 (keeps --help fast)

    publish(store)
