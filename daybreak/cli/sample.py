"""`daybreak sample`: synthetic bakeries into this instance's database."""

import sys
import time

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json
from resources.clock import system_clock


@click.command()
@click.option("--tenants", type=click.IntRange(1, 100_000), default=6, show_default=True, help="How many bakeries.")
@click.option(
    "--days", type=click.IntRange(1, 3_650), default=730, show_default=True, help="Days of sales, up to yesterday."
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed makes the same bakeries."
)
@json_option
def sample(tenants: int, days: int, seed: int, as_json: bool) -> None:
    """Generate synthetic bakeries with two years of sales.

    Their ids start with "sample-" and their names say "(synthetic)". Running it again adds the days since.
    """
    from daybreak.fleet import publish  # noqa: PLC0415 (keeps --help fast)
    from daybreak.sample import SampleError, load_sample  # noqa: PLC0415

    began = time.monotonic()
    is_told = not as_json and sys.stderr.isatty()

    def on_step(kind: str, done: int, total: int) -> None:
        click.echo(f"{done}/{total} bakeries done, loading {kind} …", err=True)

    try:
        with opened_store() as store:
            tenant_ids = load_sample(store, system_clock(), tenants, days, seed, on_step if is_told else None)
            counted = store.frame(
                "SELECT count(*) AS rows, min(business_date) AS first_on, max(business_date) AS last_on "
                "FROM facts.sales WHERE tenant_id = ANY(%(ids)s)",
                {"ids": tenant_ids},
            ).to_dict("records")[0]
            publish(store)
    except SampleError as error:
        raise InputRefused(str(error)) from error
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json(
            {
                "tenants": tenant_ids,
                "is_synthetic": True,
                "seed": seed,
                "sales_rows": counted["rows"],
                "seconds": seconds,
            }
            | {"first_sales_on": counted["first_on"], "last_sales_on": counted["last_on"]}
        )
    else:
        shown = ", ".join(tenant_ids[:8]) + (" …" if len(tenant_ids) > 8 else "")
        click.echo(f"{len(tenant_ids)} synthetic bakeries are there: {shown}")
        click.echo(
            f"{counted['rows']:,} rows of sales from {counted['first_on']} to {counted['last_on']}, in {seconds} s."
        )
