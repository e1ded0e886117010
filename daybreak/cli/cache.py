"""`daybreak cache`: what the forecast cache on Redis holds, how it serves, and how to empty it. Needs no database."""

import os

import click

from daybreak.cli.common import InputRefused, InstanceUnusable, json_option, print_json

OFF = (
    "The forecast cache is off: REDIS_URL is not set, so forecasts are read from Postgres. "
    "To switch it on, set REDIS_URL=redis://[user:password@]host:port/number for `daybreak up` and for readers."
)


@click.group()
def cache() -> None:
    """Show and clear the forecast cache on Redis."""


@cache.command()
@json_option
def stats(as_json: bool) -> None:
    """Print how many entries there are, the memory they take, and the hits and misses."""
    from resources.forecast_cache import REDIS_URL_SETTING, CacheUnusable, ForecastCache  # noqa: PLC0415 (keeps --help fast)
    from resources.vocabulary import CACHE_HIT_RATE, CACHE_HITS, CACHE_MISSES  # noqa: PLC0415

    with ForecastCache(os.environ.get(REDIS_URL_SETTING, "")) as opened:
        if not opened.is_on:
            _say_off(as_json)
            return
        try:
            found = opened.statistics()
        except CacheUnusable as error:
            raise InstanceUnusable(str(error)) from error
    if as_json:
        print_json({"is_on": True} | found.as_json())
        return
    memory = "unknown" if found.memory_bytes is None else f"{found.memory_bytes / 1e6:.1f} MB"
    click.echo(f"The forecast cache at {found.address} (version {found.server_version})")
    click.echo(f"  entries                      {found.keys} of {found.tenants} tenants, {memory}")
    click.echo(f"  {CACHE_HITS:<28} {found.hits}")
    click.echo(f"  {CACHE_MISSES:<28} {found.misses}")
    rate = "none looked up yet" if found.hit_rate is None else f"{found.hit_rate:.3f}"
    click.echo(f"  {CACHE_HIT_RATE:<28} {rate}")


@cache.command()
@click.option("--tenant", help="Clear this tenant's entries.")
@click.option("--all", "all_tenants", is_flag=True, help="Clear every tenant's entries.")
@json_option
def clear(tenant: str | None, all_tenants: bool, as_json: bool) -> None:
    """Remove entries; readers fill the cache again from Postgres. The counters and other programs' keys stay."""
    from resources.forecast_cache import REDIS_URL_SETTING, CacheUnusable, ForecastCache  # noqa: PLC0415 (keeps --help fast)

    if (tenant is not None) == all_tenants:
        raise click.UsageError("Give --tenant T or --all.")
    with ForecastCache(os.environ.get(REDIS_URL_SETTING, "")) as opened:
        if not opened.is_on:
            _say_off(as_json)
            return
        try:
            removed = opened.clear(tenant)
        except ValueError as error:
            raise InputRefused(str(error)) from error
        except CacheUnusable as error:
            raise InstanceUnusable(str(error)) from error
    if as_json:
        print_json({"is_on": True, "tenant_id": tenant, "removed": removed})
    else:
        click.echo(f"{removed} entries of {tenant or 'all tenants'} removed.")


def _say_off(as_json: bool) -> None:
    if as_json:
        print_json({"is_on": False, "remedy": OFF})
    else:
        click.echo(OFF)
