"""Plans a chunk of tenants: links in order, one transaction, tenants at fault set aside. No Dagster event is written here."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from textwrap import shorten
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg

from planning.frames import SET_ASIDE_COLUMNS, set_aside_of
from planning_assets.link import Batch, Link, Metadata
from resources.clock import is_time_zone
from resources.model_cache import ModelCache
from resources.store.database import Connection, Store
from resources.store.inputs import read_opening_hours, read_tenants
from resources.store.plans import WriteContext, ensure_plan_partitions, lock_tenants, read_planned, up_to_date
from resources.store.versions import input_versions
from resources.vocabulary import TENANT_PROCESSING_FAILED

ASSUMED_OPENING = time(8)
"""When a location without opening hours is taken to open: a plan made after that is a replay."""

BUG_REMEDY = "This is a fault of the program or of data it did not expect: report it with the run's log."
DATA_REMEDY = "Look for a price, cost or quantity of this tenant that is far too large, and correct it."
REASON_LENGTH = 300

logger = logging.getLogger("daybreak.planning")

Settle = Callable[[Connection, "Outcome"], None]
"""Records what became of tenants, in the transaction that wrote their plans."""


@dataclass
class Outcome:
    """What became of a chunk's tenants.

    done: link name -> tenant id -> metadata of its materialization.
    set_aside: one row per tenant: link, reason, remedy.
    settled: tenants that another run had planned from the same inputs by the time this one came to hold them.
    """

    done: dict[str, dict[str, Metadata]] = field(default_factory=dict)
    set_aside: pd.DataFrame = field(default_factory=set_aside_of)
    settled: set[str] = field(default_factory=set)

    def add(self, other: "Outcome") -> None:
        """Take over what became of other tenants."""
        for name, described in other.done.items():
            self.done.setdefault(name, {}).update(described)
        self.set_aside = _joined(self.set_aside, other.set_aside)
        self.settled |= other.settled


@dataclass(frozen=True)
class Order:
    """What a run plans: the chain of links, which of them to compute, under whose name, and whether also what is up to date.

    The results of links that are not selected are read from the store where a selected one needs them.
    """

    links: Sequence[Link]
    selected: Sequence[str]
    plan_date: date
    run_id: str
    now: datetime
    model_cache: ModelCache
    is_skipping_up_to_date: bool = False


def plan_chunk(store: Store, order: Order, tenant_ids: Sequence[str], settle: Settle) -> Outcome:
    """Plan one date for these tenants and store the plans; a tenant at fault is set aside and the others are planned.

    When a link raises, the chunk's transaction is rolled back and each half is planned for itself, down to the tenant at
    fault, whose links before the failing one are kept. A fault of the database is raised, since it is nobody's data.
    """
    ensure_plan_partitions(store, order.plan_date)
    return _plan(store, order, list(tenant_ids), settle)


def _plan(store: Store, order: Order, tenant_ids: list[str], settle: Settle) -> Outcome:
    outcome = Outcome()
    try:
        with store.transaction() as connection:
            lock_tenants(connection, tenant_ids)
            tenants, unusable = usable_tenants(
                read_tenants(connection, tenant_ids), tenant_ids, order.plan_date, order.now
            )
            outcome.set_aside = unusable.assign(link=order.selected[0])
            if order.is_skipping_up_to_date:
                # Asked again under the lock: of two runs that were launched at once, only the first plans a tenant.
                run_dates = dict(zip(tenants["tenant_id"], tenants["run_date"], strict=True))
                state = up_to_date(connection, list(run_dates), order.plan_date, run_dates)
                outcome.settled = set(state.loc[state["is_current"], "tenant_id"])
                tenants = tenants[~tenants["tenant_id"].isin(outcome.settled)].reset_index(drop=True)
            if len(tenants):
                with collector_at_rest():
                    _run_links(_batch_of(connection, order, tenants), order, outcome)
            settle(connection, outcome)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except Exception as error:
        if len(tenant_ids) == 1:
            raise
        # The tenant at fault logs the whole story, when it has been found.
        logger.warning("A chunk of %s tenants failed (%s); planning its halves.", len(tenant_ids), type(error).__name__)
    else:
        return outcome
    outcome = Outcome()
    middle = len(tenant_ids) // 2
    for half in (tenant_ids[:middle], tenant_ids[middle:]):
        outcome.add(_plan(store, order, half, settle))
    return outcome


def _batch_of(connection: Connection, order: Order, tenants: pd.DataFrame) -> Batch:
    tenant_ids = list(tenants["tenant_id"])
    context = WriteContext(
        plan_date=order.plan_date,
        run_dates=dict(zip(tenants["tenant_id"], tenants["run_date"], strict=True)),
        versions=input_versions(connection, tenant_ids),
        run_id=order.run_id,
        now=order.now,
        opened_at=opening_instants(tenants, read_opening_hours(connection, tenant_ids), order.plan_date),
    )
    return Batch(connection, order.plan_date, tenants, context, order.model_cache)


def _run_links(batch: Batch, order: Order, outcome: Outcome) -> None:
    needed = [n for n, link in enumerate(order.links) if link.name in order.selected]
    for link in order.links[max(needed[0] - 1, 0) : needed[-1] + 1]:
        if not len(batch.tenants):
            return
        if link.name not in order.selected:
            _drop(batch, outcome, _without_plan(batch, link))
            batch.results[link.name] = link.load(batch)
            continue
        with _isolated(batch, link, outcome):
            result = link.compute(batch)
            link.write(batch, result)
            batch.results[link.name] = result
            described = link.describe(batch, result)
            at_fault = set(result.set_aside["tenant_id"])
            outcome.done[link.name] = {
                tenant_id: described.get(tenant_id, {}) for tenant_id in batch.tenant_ids if tenant_id not in at_fault
            }
            _drop(batch, outcome, result.set_aside)


def _without_plan(batch: Batch, link: Link) -> pd.DataFrame:
    """The tenants whose plan of a link that is not selected does not exist, so that nothing can be built on it."""
    if link.kind is None:
        return set_aside_of()
    planned = read_planned(batch.connection, batch.tenant_ids, batch.plan_date, link.kind)
    return set_aside_of(
        (
            tenant_id,
            link.name,
            f"There is no active {link.kind} plan for {batch.plan_date}.",
            f"Make {link.name} too: daybreak plan run --tenant {tenant_id} --date {batch.plan_date}.",
        )
        for tenant_id in batch.tenant_ids
        if tenant_id not in planned
    )


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keep Python from searching for reference cycles while a chunk is planned.

    A chunk makes hundreds of thousands of lists that all live until it is written, and each search goes through all of
    them and finds nothing: a quarter of the CPU time. What is no longer referenced is freed all the same.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _isolated(batch: Batch, link: Link, outcome: Outcome) -> Iterator[None]:
    """Keep what earlier links wrote for a single tenant when this link raises; let a larger batch be halved."""
    if len(batch.tenants) > 1:
        yield
        return
    try:
        with batch.connection.transaction():
            yield
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except Exception as error:
        logger.warning("%s: %s in %s", TENANT_PROCESSING_FAILED, batch.tenant_ids[0], link.name, exc_info=True)
        _drop(batch, outcome, set_aside_of([(batch.tenant_ids[0], link.name, *_fault_of(error))]))


def _fault_of(error: Exception) -> tuple[str, str]:
    """Reason and remedy of an exception nobody foresaw, in one line each. The run's log has all of it."""
    if isinstance(error, psycopg.errors.NumericValueOutOfRange):
        # The context names table, column and value: COPY production_line, line 1, column expected_profit: "9e14".
        where = (error.diag.context or "").partition("\n")[0]
        return f"A number cannot be stored: {error.diag.message_primary} ({where}).", DATA_REMEDY
    return shorten(f"{type(error).__name__}: {error}", REASON_LENGTH, placeholder=" …"), BUG_REMEDY


def _drop(batch: Batch, outcome: Outcome, set_aside: pd.DataFrame) -> None:
    if len(set_aside):
        outcome.set_aside = _joined(outcome.set_aside, set_aside)
        batch.tenants = batch.tenants[~batch.tenants["tenant_id"].isin(set_aside["tenant_id"])].reset_index(drop=True)


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    parts = [part[list(SET_ASIDE_COLUMNS)] for part in (first, second) if len(part)]
    return pd.concat(parts, ignore_index=True).drop_duplicates("tenant_id") if parts else set_aside_of()


def usable_tenants(
    tenants: pd.DataFrame, tenant_ids: Sequence[str], plan_date: date, now: datetime
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split tenants into those that can be planned, with run_date and as_of_time, and those set aside with the remedy.

    as_of_time: the local time at which the plan is made; for a run date that is not today, the day's beginning.
    """
    problems: list[tuple[str, str, str, str]] = []
    known = tenants.set_index("tenant_id", drop=False)
    for tenant_id in tenant_ids:
        if tenant_id not in known.index:
            problems.append(
                (
                    tenant_id,
                    "",
                    "The tenant is unknown.",
                    f"Add it: daybreak tenant add {tenant_id} --timezone ZONE --country CC.",
                )
            )
        elif known.at[tenant_id, "status"] != "active":
            problems.append(
                (
                    tenant_id,
                    "",
                    f"The tenant is {known.at[tenant_id, 'status']}.",
                    f"Activate it: daybreak tenant resume {tenant_id}.",
                )
            )
        elif not is_time_zone(known.at[tenant_id, "timezone"]):
            problems.append(
                (
                    tenant_id,
                    "",
                    f"The time zone {known.at[tenant_id, 'timezone']!r} is invalid.",
                    f"Correct it: daybreak tenant set {tenant_id} --timezone ZONE.",
                )
            )
    unusable = set_aside_of(problems)
    usable = tenants[~tenants["tenant_id"].isin(unusable["tenant_id"])].reset_index(drop=True)
    run_dates = [plan_date - timedelta(days=int(lead)) for lead in usable["plan_lead_days"]]
    local = [now.astimezone(ZoneInfo(zone)) for zone in usable["timezone"]]
    as_of = [at.time() if at.date() == day else time.min for at, day in zip(local, run_dates, strict=True)]
    return (
        usable.assign(run_date=pd.Series(run_dates, dtype=object), as_of_time=pd.Series(as_of, dtype=object)),
        unusable,
    )


def opening_instants(tenants: pd.DataFrame, hours: pd.DataFrame, plan_date: date) -> Mapping[tuple[str, str], datetime]:
    """When each location with opening hours opens on a date, as instants in UTC; '' as location stands for the others."""
    zones = {row.tenant_id: ZoneInfo(row.timezone) for row in tenants.itertuples()}
    opened = {
        (tenant_id, ""): datetime.combine(plan_date, ASSUMED_OPENING, zone).astimezone(UTC)
        for tenant_id, zone in zones.items()
    }
    for row in hours[hours["weekday"] == plan_date.weekday()].itertuples():
        opened[row.tenant_id, row.location_id] = datetime.combine(
            plan_date, row.opens_at, zones[row.tenant_id]
        ).astimezone(UTC)
    return opened
