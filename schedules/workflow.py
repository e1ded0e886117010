"""What a workflow is and which tenants of a zone are due at a tick. The zone's schedule asks every quarter of an hour."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd

from planning_assets.scope import DayConfig, anchor_of
from resources.dagster_resources import StoreResource
from resources.store.database import Connection
from resources.store.due import read_attempts, read_zone_tenants
from resources.store.pauses import read_paused, read_pauses
from resources.store.policies import read_special_times
from resources.vocabulary import SCHEDULER_DISABLED, SCHEDULER_DISABLED_SETTING, SCHEDULING_PAUSED

TICK = timedelta(minutes=15)
CRON = "*/15 * * * *"

NIGHT = timedelta(hours=6)
"""How long a time late in the evening still counts after midnight; what was missed by day counts until midnight."""

CATCH_UP = timedelta(days=2)
"""How far back a time can lie that was missed during a pause: that of yesterday, at most two days ago."""

RUN_TENANTS = 1000
"""Tenants in one run; a larger zone gets several, higher tiers first."""

TIER_PRIORITY = {"enterprise": 2, "professional": 1, "starter": 0}

DateOf = Callable[[date, int], date]
IsDue = Callable[["Due"], bool]
ReadState = Callable[[Connection, Sequence[str], date, int], pd.DataFrame]


@dataclass(frozen=True)
class Due:
    """What decides whether a tenant is due.

    is_current: the plan (or validation) has the current inputs and Dagster knows of it. exists: there is one at all.
    is_attempted: an execution of this workflow has run since its time. is_on_time: the time fell within this tick.
    """

    is_current: bool
    exists: bool
    is_attempted: bool
    is_on_time: bool


@dataclass(frozen=True)
class Workflow:
    """A job that runs at a local time of day.

    job_name: the job. op: its only step, which takes the config. due_column: the column of master.schedule_group that holds
    the time. date_of: the partition date, from the local date and the tenant's plan lead days. read_state: what exists.
    """

    name: str
    job_name: str
    op: str
    due_column: str
    date_of: DateOf
    read_state: ReadState
    is_due: IsDue
    description: str


def plan_date_of(local_date: date, lead_days: int) -> date:
    """The first selling day of a plan made today."""
    return local_date + timedelta(days=lead_days)


def yesterday_of(local_date: date, _lead_days: int) -> date:
    """The day that has ended."""
    return local_date - timedelta(days=1)


def plan_is_due(due: Due) -> bool:
    """Plan once at the workflow's time what is not up to date, and later in the day what has no plan at all.

    A plan that exists is not made again when inputs change during the day: bakers already work by it.
    """
    return not due.is_current and not due.is_attempted and (due.is_on_time or not due.exists)


def validation_is_due(due: Due) -> bool:
    """Score what has forecasts and no validation by the sales known now, from the workflow's time on."""
    return not due.is_current


def zone_schedule(workflow: Workflow, zone: str) -> dg.ScheduleDefinition:
    """The schedule of a workflow in a time zone."""

    @dg.schedule(
        name=f"{workflow.name}__{re.sub('[^a-z0-9]+', '_', zone.lower())}_schedule",
        cron_schedule=CRON,
        execution_timezone=zone,
        job_name=workflow.job_name,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"{workflow.description} Asks every 15 minutes in {zone}.",
    )
    def choose(context: dg.ScheduleEvaluationContext, store: StoreResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if os.environ.get(SCHEDULER_DISABLED_SETTING, "").lower() == "true":
            yield dg.SkipReason(f"{SCHEDULER_DISABLED}: {SCHEDULER_DISABLED_SETTING} is true.")
            return
        tick = context.scheduled_execution_time.astimezone(UTC)
        with store.open() as opened, opened.transaction() as connection:
            everybody_paused = read_paused(connection).everybody
            due = due_tenants(connection, workflow, zone, tick)
        if everybody_paused is not None:
            yield dg.SkipReason(f"{SCHEDULING_PAUSED}: {everybody_paused}")
            return
        requests = list(run_requests(context.instance, workflow, zone, due))
        if requests:
            yield from requests
        else:
            yield dg.SkipReason(
                f"No tenant in {zone} is due for {workflow.name} at {tick.astimezone(ZoneInfo(zone)):%H:%M}."
            )

    return choose


def due_tenants(connection: Connection, workflow: Workflow, zone: str, tick: datetime) -> pd.DataFrame:
    """The tenants of a zone that are due at a tick: tenant_id, tier, date (the partition's), version (of their inputs)."""
    paused = read_paused(connection)
    everybody = read_zone_tenants(connection, zone)
    going = everybody[[not paused.holds(tenant_id) for tenant_id in everybody["tenant_id"]]]
    tenants = _with_due_time(connection, going, workflow, zone, tick)
    rows = []
    for (due_day, lead_days), group in tenants.groupby(["due_day", "plan_lead_days"]):
        members = group.set_index("tenant_id")
        on = workflow.date_of(due_day, int(lead_days))
        attempts = read_attempts(connection, workflow.name, list(members.index), tick - CATCH_UP)
        for state in workflow.read_state(connection, list(members.index), on, int(lead_days)).itertuples():
            attempted_at = attempts.get((state.tenant_id, state.date))
            due_at = members.at[state.tenant_id, "due_at"]
            due = Due(
                is_current=bool(state.is_current),
                exists=bool(state.exists),
                is_attempted=attempted_at is not None and attempted_at >= due_at,
                is_on_time=tick - due_at < TICK,
            )
            if workflow.is_due(due):
                rows.append((state.tenant_id, members.at[state.tenant_id, "tier"], state.date, state.version))
    return pd.DataFrame(rows, columns=["tenant_id", "tier", "date", "version"])


def _with_due_time(
    connection: Connection, tenants: pd.DataFrame, workflow: Workflow, zone: str, tick: datetime
) -> pd.DataFrame:
    """The tenants whose workflow time has come, with due_at, that instant, and due_day, its local date.

    The time has come today, or less than NIGHT ago: one late in the evening comes due on ticks after midnight, which belong
    to the day before. One that passed yesterday during a pause comes due as long as the day that it plans is not over; a
    tenant may then have two rows. Instants are subtracted, not wall clocks: on a day with a clock change these differ by an
    hour.
    """
    local, today = ZoneInfo(zone), tick.astimezone(ZoneInfo(zone)).date()
    days = (today, today - timedelta(days=1))
    special = read_special_times(connection, workflow.name, list(tenants["tenant_id"]), days)
    pauses = read_pauses(connection, tick - CATCH_UP)
    rows: list[tuple[str, str, int, datetime, date]] = []
    for tenant in tenants.itertuples():
        is_last = True
        for day in days:
            at = special.get((tenant.tenant_id, day), getattr(tenant, workflow.due_column))
            due_at = (
                datetime.max.replace(tzinfo=UTC) if at is None else datetime.combine(day, at, local).astimezone(UTC)
            )
            if due_at > tick:
                continue
            due_day = due_at.astimezone(local).date()
            is_in_time = is_last and (due_day == today or tick - due_at < NIGHT)
            is_missed = workflow.date_of(due_day, int(tenant.plan_lead_days)) >= today and pauses.held(
                tenant.tenant_id, due_at
            )
            if is_in_time or is_missed:
                rows.append((tenant.tenant_id, tenant.tier, int(tenant.plan_lead_days), due_at, due_day))
            is_last = False
    return pd.DataFrame(rows, columns=["tenant_id", "tier", "plan_lead_days", "due_at", "due_day"], dtype=object)


def run_requests(
    instance: dg.DagsterInstance, workflow: Workflow, zone: str, due: pd.DataFrame
) -> Iterator[dg.RunRequest]:
    """One request per date and RUN_TENANTS tenants, higher tiers first; the key holds the data versions of its tenants."""
    ranked = due.assign(priority=due["tier"].map(TIER_PRIORITY)).sort_values(
        ["date", "priority", "tenant_id"], ascending=[True, False, True]
    )
    for on, group in ranked.groupby("date", sort=True):
        for start in range(0, len(group), RUN_TENANTS):
            part = group.iloc[start : start + RUN_TENANTS]
            identity = "\n".join(f"{row.tenant_id} {row.version}" for row in part.sort_values("tenant_id").itertuples())
            digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
            config = DayConfig(
                date=on.isoformat(),
                tenants=list(part["tenant_id"]),
                workflow=workflow.name,
                skip_up_to_date=True,
                triggered_by=f"schedule {workflow.name} {zone}",
            )
            yield dg.RunRequest(
                partition_key=anchor_of(instance, on, config.tenants),
                run_key=f"{workflow.name}|{on}|{digest}",
                run_config=dg.RunConfig(ops={workflow.op: config}),
                tags={"dagster/priority": str(int(part["priority"].max())), "daybreak/zone": zone},
            )
