"""`daybreak sales-service`: where a tenant's sales are pulled from."""

from dataclasses import asdict

import click

from daybreak.cli.common import SOME_FAILED, InputRefused, json_option, opened_store, print_json
from resources.clock import system_clock


@click.group(name="sales-service")
def sales_service() -> None:
    """Sales that are pulled over HTTP from a tenant's own service every 15 minutes.

    docs/data-contracts.md describes what the service answers.
    """


@sales_service.command(name="set")
@click.option("--tenant", "tenant_id", required=True, help="Whose sales.")
@click.option("--url", required=True, help="Address of the service; /sales is added to it.")
@click.option("--token-variable", required=True, help="Environment variable that holds the token, never the token.")
@click.option("--inactive", is_flag=True, help="Do not pull by itself.")
@json_option
def set_(tenant_id: str, url: str, token_variable: str, inactive: bool, as_json: bool) -> None:
    """Set or change the service of a tenant."""
    from resources.store.sales_services import SalesServiceError, set_sales_service  # noqa: PLC0415 (keeps --help fast)

    try:
        with opened_store() as store, store.transaction() as connection:
            set_sales_service(connection, tenant_id, url, token_variable, system_clock(), is_active=not inactive)
    except SalesServiceError as error:
        raise InputRefused(str(error)) from error
    if as_json:
        print_json({"tenant_id": tenant_id, "base_url": url.rstrip("/"), "is_active": not inactive})
        return
    click.echo(f"Sales of {tenant_id} are pulled from {url.rstrip('/')}/sales; the token comes from {token_variable}.")
    if url.startswith("http://"):
        click.echo("The address is not encrypted: the token can be read on the way. Use https.", err=True)


@sales_service.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the services, when they were pulled and what went wrong."""
    from resources.store.sales_services import read_sales_services  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store, store.transaction() as connection:
        services = read_sales_services(connection)
    rows = services.astype(object).where(services.notna(), None).to_dict("records")
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No sales are pulled. Remedy: daybreak sales-service set --tenant T --url U --token-variable V.")
    for row in rows:
        state = "" if row["is_active"] else "  inactive"
        pulled = f"{row['last_pull_at']:%Y-%m-%d %H:%M} UTC" if row["last_pull_at"] is not None else "never pulled"
        click.echo(f"{row['tenant_id']:<24} {row['base_url']}  {pulled}, next {row['next_pull_at']:%H:%M}{state}")
        if row["last_error"]:
            click.echo(f"  {row['failures']} failures in a row: {row['last_error']}")
        if row["quarantined"]:
            click.echo(f"  {row['quarantined']} answers in ops.quarantined_answer")


@sales_service.command()
@click.option("--tenant", "tenant_id", required=True, help="Whose sales.")
@json_option
def pull(tenant_id: str, as_json: bool) -> None:
    """Pull a tenant's sales now, to the end."""
    from resources import sales_service as service  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        pulled = service.pull(store, tenant_id, system_clock)
    if pulled is None:
        raise InputRefused(
            f"{tenant_id} has no sales service, or is being pulled now. Remedy: `daybreak sales-service list` shows it."
        )
    if as_json:
        print_json(asdict(pulled))
    elif pulled.problem is None:
        click.echo(f"Pulled {pulled.rows} rows on {pulled.pages} pages: {pulled.rows_written} of them are new.")
    else:
        click.echo(f"Pulled {pulled.pages} pages, then: {pulled.problem}", err=True)
    if pulled.problem is not None:
        raise SystemExit(SOME_FAILED)


@sales_service.command()
@click.option("--tenant", "tenant_id", required=True, help="Whose service.")
@json_option
def remove(tenant_id: str, as_json: bool) -> None:
    """Stop pulling and forget the service; the sales stay."""
    from resources.store.sales_services import SalesServiceError, remove_sales_service  # noqa: PLC0415

    try:
        with opened_store() as store, store.transaction() as connection:
            remove_sales_service(connection, tenant_id)
    except SalesServiceError as error:
        raise InputRefused(str(error)) from error
    if as_json:
        print_json({"tenant_id": tenant_id, "removed": True})
    else:
        click.echo(f"Sales of {tenant_id} are not pulled any more.")
