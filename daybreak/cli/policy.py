"""`daybreak policy`: workflows of a tenant that are skipped or moved on public holidays and weekends."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from resources.vocabulary import FORECAST_VALIDATION, PROCUREMENT_PLANNING, PRODUCTION_PLANNING

PLANNING = (PRODUCTION_PLANNING, PROCUREMENT_PLANNING)
choice = click.Choice(("run", "skip", "move"))
workflow_option = click.option(
    "--workflow",
    "workflows",
    multiple=True,
    type=click.Choice((*PLANNING, FORECAST_VALIDATION)),
    help="May be given more than once. Default: both plannings.",
)


@click.group()
def policy() -> None:
    """Have workflows skipped or moved on public holidays and weekends, by the day on which they run."""


@policy.command(name="set")
@click.option("--tenant", required=True, help="The tenant.")
@workflow_option
@click.option("--on-holidays", type=choice, help="On public holidays, and on imported ones of the whole tenant.")
@click.option("--on-weekends", type=choice, help="On the weekend of the tenant's country.")
@click.option("--at", "moved_to", type=click.DateTime(["%H:%M"]), help="Local time on days where it is moved.")
@json_option
def set_(
    tenant: str,
    workflows: tuple[str, ...],
    on_holidays: str | None,
    on_weekends: str | None,
    moved_to: datetime | None,
    as_json: bool,
) -> None:
    """Say what workflows do on such days. What is not given stays as it is, at first 'run'."""
    from resources.store.policies import Policy, list_policies, set_policy  # noqa: PLC0415 (keeps --help fast)

    if on_holidays is None and on_weekends is None and moved_to is None:
        raise click.UsageError("Give --on-holidays, --on-weekends or --at.")
    given = []
    with opened_store() as store, _refused(), store.transaction() as connection:
        known = {one.workflow: one for one in list_policies(connection, tenant)}
        for workflow in workflows or PLANNING:
            before = known.get(workflow, Policy(tenant, workflow))
            one = Policy(
                tenant,
                workflow,
                on_holidays or before.on_holidays,
                on_weekends or before.on_weekends,
                moved_to.time() if moved_to else before.moved_to,
            )
            set_policy(connection, one)
            given.append(one)
    if as_json:
        print_json([asdict(one) for one in given])
    else:
        for one in given:
            click.echo(line_of(one))


@policy.command(name="list")
@click.option("--tenant", help="Only this tenant's.")
@json_option
def list_(tenant: str | None, as_json: bool) -> None:
    """List what is not done on every day at the same time."""
    from resources.store.policies import list_policies  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store, store.transaction() as connection:
        found = list_policies(connection, tenant)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        click.echo("Every workflow runs on every day.")
    for one in found:
        click.echo(line_of(one))


@policy.command()
@click.option("--tenant", required=True, help="The tenant.")
@workflow_option
@json_option
def remove(tenant: str, workflows: tuple[str, ...], as_json: bool) -> None:
    """Let workflows run on every day again."""
    from resources.store.master import get_tenant  # noqa: PLC0415 (keeps --help fast)
    from resources.store.policies import WORKFLOWS, remove_policies  # noqa: PLC0415

    with opened_store() as store, _refused(), store.transaction() as connection:
        get_tenant(connection, tenant)
        removed = remove_policies(connection, tenant, workflows or WORKFLOWS)
    if as_json:
        print_json({"tenant_id": tenant, "removed": removed})
    else:
        click.echo(f"{removed} policies of {tenant} removed." if removed else f"{tenant} has no such policy.")


def line_of(one: object) -> str:
    """A policy in one line."""
    values = asdict(one)  # type: ignore[call-overload]
    moved = f", moved to {values['moved_to']:%H:%M}" if values["moved_to"] else ""
    return (
        f"{values['tenant_id']} {values['workflow']}: holidays: {values['on_holidays']}, "
        f"weekends: {values['on_weekends']}{moved}"
    )


@contextmanager
def _refused() -> Iterator[None]:
    """Refusals of the store as those of the command line."""
    from resources.store.master import MasterDataError  # noqa: PLC0415 (keeps --help fast)
    from resources.store.policies import PolicyError  # noqa: PLC0415

    try:
        yield
    except (PolicyError, MasterDataError) as error:
        raise InputRefused(str(error)) from error
