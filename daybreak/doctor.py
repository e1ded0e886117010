"""Examines the local instance: what is looked at, what was found, what mends it. Changes nothing."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psycopg
import yaml

from daybreak import instance
from daybreak.instance import PROJECT, InstanceError
from planning.boosting import lightgbm_fault
from planning.scheduling_solver import solver_fault
from resources import vocabulary
from resources.forecast_cache import REDIS_URL_SETTING, CacheUnusable, ForecastCache
from resources.store import migrate
from resources.store.database import Store, StoreError

DRIVER = "postgresql+psycopg2://"
STALE_S = 120
"""Daemons beat every 30 seconds; four missed beats are a fault."""

DAEMONS = ("SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR")
LEAST_FREE_BYTES = 1_000_000_000
NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and what mends it ('' when nothing is to be done).

    A warning is something that works less well than it could: the instance is well all the same.
    """

    check: str
    is_ok: bool
    found: str
    remedy: str = ""
    is_warning: bool = False


def examine() -> list[Finding]:
    """Every check in the order in which to mend. What needs the database is left out when there is none."""
    findings = [_home(), _disk(), _driver(), _cache(), lightgbm_finding(), solver_finding()]
    if not findings[0].is_ok:
        return findings
    with ExitStack() as stack:
        try:
            dsn = stack.enter_context(instance.database())
            store = stack.enter_context(Store(dsn))
        except (InstanceError, StoreError) as error:
            return [*findings, _from_error("database", error)]
        findings += [Finding("database", True, _server(store)), _migrations(dsn), _daemon(store)]
        findings.append(_time_zones(store))
    return findings


def unknown_zones(zones: list[str], load: Callable[[str], object] = ZoneInfo) -> Iterator[str]:
    """The zones that this machine has no data for."""
    for zone in zones:
        try:
            load(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield zone


def driver_finding(configured: str | None, given: str | None) -> Finding:
    """Whether Dagster reaches Postgres by psycopg2: `configured` in dagster.yaml (None: the variable), `given` by hand."""
    for place, address in (("dagster.yaml", configured), ("DAYBREAK_PG_URL", given)):
        if address is not None and not address.startswith(DRIVER):
            return Finding(
                "driver",
                False,
                f"{place} names {address.partition('://')[0]}://, with which queued runs are never launched",
                f"begin the address with {DRIVER}"
                + (", or unset it: `daybreak env` prints the right one" if given else ""),
            )
    return Finding("driver", True, f"Dagster uses {DRIVER}")


def _home() -> Finding:
    try:
        return Finding("home", True, str(instance.make_home()))
    except InstanceError as error:
        return _from_error("home", error)


def _from_error(check: str, error: Exception) -> Finding:
    found, _, remedy = str(error).partition(" Remedy: ")
    return Finding(check, False, found, remedy)


def _disk() -> Finding:
    folder = next(path for path in (instance.home(), *instance.home().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free at {folder}"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", False, found, "free at least 1 GB, or set DAYBREAK_HOME to a folder on another disk")
    return Finding("disk", True, found)


def _driver() -> Finding:
    url = yaml.safe_load((PROJECT / "dagster.yaml").read_text())["storage"]["postgres"]["postgres_url"]
    return driver_finding(url if isinstance(url, str) else None, os.environ.get("DAYBREAK_PG_URL"))


def _cache() -> Finding:
    """Whether the forecast cache answers, if there is to be one. Nothing depends on it."""
    url = os.environ.get(REDIS_URL_SETTING, "")
    with ForecastCache(url) as cache:
        if not cache.is_on:
            return Finding("cache", True, f"off, {REDIS_URL_SETTING} is not set: forecasts are read from Postgres")
        try:
            return Finding("cache", True, f"{cache.address} answers, version {cache.ping()}")
        except CacheUnusable as error:
            found = _from_error("cache", error)
            return Finding("cache", True, found.found, found.remedy, is_warning=True)


def lightgbm_finding(fault_of: Callable[[], str | None] = lightgbm_fault, platform: str = sys.platform) -> Finding:
    """Whether LightGBM can be used. Without its system library, models are trained by scikit-learn meanwhile."""
    fault = fault_of()
    if fault is None:
        return Finding("lightgbm", True, "forecast models are trained by LightGBM")
    package, install = (
        ("libomp", "brew install libomp") if platform == "darwin" else ("libgomp1", "apt-get install libgomp1")
    )
    return Finding(
        "lightgbm",
        True,
        f"{fault} Models are trained by scikit-learn's HistGradientBoosting meanwhile, which is a little less accurate, and "
        "those that LightGBM trained cannot serve on this machine",
        f"install the package {package} ({install}), then restart: `daybreak down`, `daybreak up`",
        is_warning=True,
    )


def solver_finding(fault_of: Callable[[], str | None] = solver_fault) -> Finding:
    """Whether nights that the list scheduler leaves late are solved exactly: an optional extra, so nothing is amiss without."""
    fault = fault_of()
    if fault is None:
        return Finding("schedule", True, "nights that would be late are scheduled again by OR-Tools")
    return Finding("schedule", True, f"without OR-Tools ({fault}): late nights stay as the list scheduler leaves them")


def _server(store: Store) -> str:
    version = store.frame("SELECT current_setting('server_version') AS version")["version"].iloc[0]
    return f"Postgres {version} by {'DATABASE_URL' if 'DATABASE_URL' in os.environ else 'the embedded server'}"


def _migrations(dsn: str) -> Finding:
    current, head = migrate.current(dsn), migrate.head()
    if current == head:
        return Finding("migrations", True, f"at {head}")
    return Finding(
        "migrations",
        False,
        f"{vocabulary.MIGRATION_MISMATCH}: the database is at {current or 'nothing'}, the code expects {head}",
        "run `daybreak migrate`; if the database is ahead, update the code",
    )


def _daemon(store: Store) -> Finding:
    """Whether the daemon that launches runs and ticks schedules is alive. None is expected when nothing is up."""
    ages = _heartbeat_ages(store)
    state = instance.running()
    if state is not None and "daemon" not in state.groups:
        return Finding("daemon", True, "not started (--no-daemon): schedules do not tick")
    if state is None and ("DATABASE_URL" not in os.environ or not ages):
        return Finding("daemon", True, "no instance runs, so schedules do not tick; `daybreak up` starts one")
    oldest = max(ages.values()) if len(ages) == len(DAEMONS) else None
    if oldest is not None and oldest <= STALE_S:
        return Finding("daemon", True, f"last heartbeat {oldest:.0f} s ago")
    found = "no heartbeat yet" if oldest is None else f"last heartbeat {oldest:.0f} s ago"
    return Finding(
        "daemon",
        False,
        found,
        f"wait a minute after a start; then see {instance.home() / 'logs' / 'daemon.log'} and restart: "
        "`daybreak down`, `daybreak up`",
    )


def _heartbeat_ages(store: Store) -> dict[str, float]:
    """Seconds since each daemon's last heartbeat, as Dagster records them; empty before Dagster's first start."""
    try:
        rows = store.frame(
            "SELECT daemon_type, extract(epoch FROM (now() AT TIME ZONE 'utc') - timestamp)::float8 AS age "
            "FROM public.daemon_heartbeats WHERE daemon_type = ANY(%(daemons)s)",
            {"daemons": list(DAEMONS)},
        )
    except psycopg.errors.UndefinedTable:
        return {}
    return dict(zip(rows["daemon_type"], rows["age"], strict=True))


def _time_zones(store: Store) -> Finding:
    """Whether this machine has the data of every tenant's zone, and of the default one."""
    try:
        tenants = store.frame("SELECT DISTINCT timezone FROM master.tenant")["timezone"].tolist()
    except psycopg.errors.UndefinedTable:  # before the first migration there are none
        tenants = []
    zones = {vocabulary.DEFAULT_TIMEZONE, *tenants}
    unknown = list(unknown_zones(sorted(zones)))
    if not unknown:
        return Finding("time zones", True, f"{len(zones)} known")
    named = ", ".join(unknown[:NAMED_AT_MOST]) + (" and others" if len(unknown) > NAMED_AT_MOST else "")
    return Finding(
        "time zones",
        False,
        f"no data for {named}",
        "correct the tenant's time zone; if it is right, update the package tzdata in the virtual environment",
    )
