"""When workflows run on public holidays and weekends: as on other days, not at all, or at another local time.

A policy is a tenant's for one workflow, and is about the local day on which the workflow runs, not about the day that it
plans. Without one, every day is alike.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, time

from psycopg.rows import class_row

from resources import vocabulary
from resources.holidays import calendar_events, weekend_of
from resources.store.database import Connection, frame
from resources.store.master import get_tenant

WORKFLOWS = (vocabulary.PRODUCTION_PLANNING, vocabulary.PROCUREMENT_PLANNING, vocabulary.FORECAST_VALIDATION)
"""The workflows that have a local time of day."""

CHOICES = ("run", "skip", "move")
"""What a workflow does on such days. Of two that hold for the same day, the later one counts after 'run': skip over all."""

logger = logging.getLogger("daybreak.schedules")


class PolicyError(Exception):
    """A policy that cannot be taken. The message carries the remedy."""


@dataclass(frozen=True)
class Policy:
    """When a workflow of a tenant runs on special days. moved_to: the local time on days where it is moved."""

    tenant_id: str
    workflow: str
    on_holidays: str = "run"
    on_weekends: str = "run"
    moved_to: time | None = None

    def time_on(self, usual: time, is_holiday: bool, is_weekend: bool) -> time | None:
        """The local time at which the workflow runs on a day of these kinds; None: not at all."""
        says = {self.on_holidays if is_holiday else "run", self.on_weekends if is_weekend else "run"}
        if "skip" in says:
            return None
        return self.moved_to if "move" in says else usual


def set_policy(connection: Connection, policy: Policy) -> None:
    """Put a policy in force; one that says 'run' for every day is the same as none.

    Raises PolicyError for a workflow without a time, or a move without one; MasterDataError when there is no such tenant.
    """
    get_tenant(connection, policy.tenant_id)
    if policy.workflow not in WORKFLOWS:
        raise PolicyError(f"{policy.workflow!r} has no local time. Remedy: give one of {', '.join(WORKFLOWS)}.")
    if "move" in {policy.on_holidays, policy.on_weekends} and policy.moved_to is None:
        raise PolicyError("A workflow is moved to no time. Remedy: give the local time, such as 07:00.")
    connection.execute(
        """
        INSERT INTO master.workflow_policy (tenant_id, workflow, on_holidays, on_weekends, moved_to)
        VALUES (%(tenant_id)s, %(workflow)s, %(on_holidays)s, %(on_weekends)s, %(moved_to)s)
        ON CONFLICT (tenant_id, workflow) DO UPDATE
        SET on_holidays = excluded.on_holidays, on_weekends = excluded.on_weekends, moved_to = excluded.moved_to
        """,
        asdict(policy),
    )


def remove_policies(connection: Connection, tenant_id: str, workflows: Sequence[str] = WORKFLOWS) -> int:
    """Let workflows of a tenant run on every day again; returns how many policies there were."""
    return connection.execute(
        "DELETE FROM master.workflow_policy WHERE tenant_id = %s AND workflow = ANY(%s)", (tenant_id, list(workflows))
    ).rowcount


def list_policies(connection: Connection, tenant_id: str | None = None) -> list[Policy]:
    """The policies of a tenant, or all."""
    with connection.cursor(row_factory=class_row(Policy)) as cursor:
        return cursor.execute(
            """
            SELECT tenant_id, workflow, on_holidays, on_weekends, moved_to FROM master.workflow_policy
             WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s ORDER BY tenant_id, workflow
            """,
            {"tenant_id": tenant_id},
        ).fetchall()


def read_special_times(
    connection: Connection, workflow: str, tenant_ids: Sequence[str], days: Sequence[date]
) -> dict[tuple[str, date], time | None]:
    """The local times at which a workflow runs on the days that tenants' policies single out; None: not at all.

    Only these days are in it: on all others the workflow runs at the time of the tenant's schedule group. Holidays are the
    public ones of country and subdivision and those imported for the whole tenant; weekends are the country's. Where the
    country or subdivision is unknown, no day is a holiday, and a warning names the remedy.
    """
    rows = frame(
        connection,
        """
        SELECT t.tenant_id, t.country, t.subdivision, p.workflow, p.on_holidays, p.on_weekends, p.moved_to
          FROM master.workflow_policy AS p JOIN master.tenant AS t USING (tenant_id)
         WHERE p.workflow = %(workflow)s AND t.tenant_id = ANY(%(tenants)s::text[])
           AND 'run' <> ANY (ARRAY[p.on_holidays, p.on_weekends])
         ORDER BY t.tenant_id
        """,
        {"workflow": workflow, "tenants": list(tenant_ids)},
    )
    if rows.empty:
        return {}
    calendar = calendar_events(connection, rows, min(days), max(days))
    for row in calendar.unknown.itertuples():
        logger.warning("%s: %s Remedy: %s", row.tenant_id, row.problem, row.remedy)
    events = calendar.events
    whole = events[(events["kind"] == "holiday") & events["location_id"].isna() & events["product_id"].isna()]
    holidays = set(zip(whole["tenant_id"], whole["business_date"], strict=True))
    times: dict[tuple[str, date], time | None] = {}
    for row in rows.itertuples():
        policy = Policy(row.tenant_id, row.workflow, row.on_holidays, row.on_weekends, row.moved_to)
        weekend = weekend_of(row.country)
        for day in days:
            is_holiday, is_weekend = (row.tenant_id, day) in holidays, day.weekday() in weekend
            at = policy.time_on(time.max, is_holiday, is_weekend)
            if at != time.max:
                times[row.tenant_id, day] = at
    return times
