"""Tenants that were set aside: recorded, tried again by themselves a few times, then kept for a person until they are mended.

A failure is open (it is tried again at `retry_at`), in review (it waits for a person), resolved (the date was made, or a
later failure took its place) or dismissed. Runs that try again are launched by sensors/failed_tenants.py.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pandas as pd

from resources import vocabulary
from resources.store.database import Connection, copy_rows, frame

PLANNING_WORKFLOWS = (
    vocabulary.DAILY_OPERATIONS,
    vocabulary.PRODUCTION_PLANNING,
    vocabulary.PROCUREMENT_PLANNING,
    vocabulary.INVENTORY_PROJECTION,
)
"""Workflows that make the same plans by the same job, so that their failures for a date are one story."""

RETRIED_WORKFLOWS = (*PLANNING_WORKFLOWS, vocabulary.FORECAST_VALIDATION)
"""Workflows whose failures are tried again by themselves; trainings have a queue of their own."""

LOST_LINK = {
    **dict.fromkeys(PLANNING_WORKFLOWS, "demand_history"),
    vocabulary.FORECAST_VALIDATION: "validation_metrics",
}
"""The first link of what a workflow makes: where a tenant stands whose run ended before it was finished."""

JITTER = 0.2
"""Share by which a retry comes earlier or later, so that tenants which failed together do not all come back together."""

NAMESPACE = UUID("3f0e6a0b-6f0f-5b0c-8a55-1f6f5c3c2d77")
"""Of claim ids. A claim made twice from the same failures is the same claim."""

RUN_ENDED_REASON = "The run that tried it again ended before this tenant was finished"

logger = logging.getLogger("daybreak.failures")


class FailureError(Exception):
    """A failure that cannot be tried again or dismissed. The message carries the remedy."""


def retry_time(tenant_id: str, plan_date: date, attempts: int, now: datetime) -> datetime | None:
    """When a tenant that has failed so many times in a row is tried again; None: no more.

    Doubling delays from RETRY_DELAY_SECONDS on, each with a jitter that is the same whenever it is computed.
    """
    if attempts > vocabulary.MAX_RETRIES:
        return None
    digest = hashlib.sha256(f"{tenant_id}/{plan_date.isoformat()}/{attempts}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    delay = vocabulary.RETRY_DELAY_SECONDS * 2.0 ** (attempts - 1) * (1 + JITTER * (2 * share - 1))
    return now + timedelta(seconds=delay)


def record_failures(
    connection: Connection, workflow: str, plan_date: date, set_aside: pd.DataFrame, run_id: str, now: datetime
) -> int:
    """Keep who was set aside, at which link, why, and the remedy; returns how many.

    set_aside: tenant_id, link, reason, remedy, one row per tenant. A tenant that fails again has one open failure per date
    and link: the latest, which counts on from the ones before; failures of the date at other links wait with it.
    """
    if set_aside.empty:
        return 0
    before = _attempts_before(connection, workflow, plan_date, set_aside, now)
    rows = []
    for row in set_aside.itertuples():
        attempts = before.get(row.tenant_id, 0) + 1
        retry_at = retry_time(row.tenant_id, plan_date, attempts, now) if workflow in RETRIED_WORKFLOWS else None
        state = "review" if retry_at is None else "open"
        rows.append((row.tenant_id, row.link, row.reason, row.remedy, attempts, retry_at, state))
        _log(row.tenant_id, workflow, plan_date, attempts, retry_at)
    written = copy_rows(
        connection,
        "ops.failure",
        (
            "tenant_id", "link", "reason", "remedy", "attempts", "retry_at", "state", "workflow", "plan_date", "run_id",
            "failed_at",
        ),
        ((*row, workflow, plan_date, run_id, now) for row in rows),
    )  # fmt: skip
    # What failed before at another link is made by the same run: only the latest failure of a date is tried again.
    connection.execute(
        """
        UPDATE ops.failure AS other SET retry_at = NULL, retry_id = NULL, state = latest.state
          FROM unnest(%(tenant_ids)s::text[], %(links)s::text[], %(states)s::text[]) AS latest (tenant_id, link, state)
         WHERE other.tenant_id = latest.tenant_id AND other.link <> latest.link AND other.workflow = ANY(%(workflows)s)
           AND other.plan_date = %(plan_date)s AND other.resolved_at IS NULL
        """,
        {
            "tenant_ids": [row[0] for row in rows],
            "links": [row[1] for row in rows],
            "states": [row[6] for row in rows],
            "workflows": _alike(workflow),
            "plan_date": plan_date,
        },
    )
    return written


def record_lost(
    connection: Connection,
    workflow: str,
    plan_date: date,
    tenant_ids: Sequence[str],
    reason: str,
    run_id: str,
    now: datetime,
) -> int:
    """Keep tenants whose run ended before they were finished, so that they are tried again; returns how many.

    reason: with its remedy, after "Remedy: ". One that has an open failure of the date is counted by `release_claims`.
    """
    if workflow not in RETRIED_WORKFLOWS:
        return 0
    known = connection.execute(
        """
        SELECT tenant_id FROM ops.failure
         WHERE tenant_id = ANY(%s::text[]) AND workflow = ANY(%s) AND plan_date = %s AND resolved_at IS NULL
        """,
        (list(tenant_ids), _alike(workflow), plan_date),
    ).fetchall()
    new = sorted(set(tenant_ids) - {tenant_id for (tenant_id,) in known})
    why, _, remedy = reason.partition(" Remedy: ")
    lost = pd.DataFrame({"tenant_id": new, "link": LOST_LINK[workflow], "reason": why, "remedy": remedy})
    return record_failures(connection, workflow, plan_date, lost, run_id, now)


def resolve_failures(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, now: datetime, links: Sequence[str]
) -> int:
    """Close the open failures that tenants had at these links, now that they were made; returns how many."""
    resolved = connection.execute(
        """
        UPDATE ops.failure SET resolved_at = %(now)s, state = 'resolved'
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s AND resolved_at IS NULL
          AND link = ANY(%(links)s::text[])
        RETURNING tenant_id, link, attempts, retry_id
        """,
        {"tenant_ids": list(tenant_ids), "plan_date": plan_date, "now": now, "links": list(links)},
    ).fetchall()
    for tenant_id, link, attempts, retry_id in resolved:
        if retry_id is not None or attempts > 1:
            logger.info(
                "%s: %s for %s, %s, after %s failures", vocabulary.RETRY_EXECUTED, tenant_id, plan_date, link, attempts
            )
    return len(resolved)


def claim_due(
    connection: Connection, first_on: date, last_on: date, paused_ids: Sequence[str], batch_tenants: int, now: datetime
) -> pd.DataFrame:
    """Claim the failures whose time has come, in batches of a workflow and date; returns them as `read_claims` does.

    first_on, last_on: the dates that can be planned; what lies outside goes to a person. Tenants that are paused or not
    active wait, and so do days that a batch of late sales is about to validate. Everything is one transaction of the
    caller's; once committed, a claim is launched by whoever reads it, each under its own run key.
    """
    outside = connection.execute(
        """
        UPDATE ops.failure SET state = 'review', retry_at = NULL
         WHERE resolved_at IS NULL AND retry_at <= %(now)s AND retry_id IS NULL
           AND NOT plan_date BETWEEN %(first_on)s AND %(last_on)s
        RETURNING tenant_id, plan_date
        """,
        {"now": now, "first_on": first_on, "last_on": last_on},
    ).fetchall()
    for tenant_id, plan_date in outside:
        logger.warning(
            "%s for %s is not tried again by itself: the grid begins at %s. Remedy: move the window with "
            "`daybreak settings set partitions-start DATE`, then `daybreak failures retry`.",
            tenant_id,
            plan_date,
            first_on,
        )
    due = frame(
        connection,
        """
        SELECT f.failure_id, f.tenant_id, f.workflow, f.plan_date, f.attempts
          FROM ops.failure AS f JOIN master.tenant AS t USING (tenant_id)
         WHERE f.resolved_at IS NULL AND f.retry_at <= %(now)s AND f.retry_id IS NULL
           AND t.status = 'active' AND NOT f.tenant_id = ANY(%(paused)s::text[])
           AND NOT (f.workflow = %(validation)s AND EXISTS (
                SELECT FROM ops.validation_request AS r JOIN ops.validation_batch AS b USING (batch_id)
                 WHERE r.tenant_id = f.tenant_id AND r.business_date = f.plan_date AND b.completed_at IS NULL))
         ORDER BY f.plan_date, f.workflow, f.tenant_id, f.failure_id
           FOR UPDATE OF f SKIP LOCKED
        """,
        {"now": now, "paused": list(paused_ids), "validation": vocabulary.FORECAST_VALIDATION},
    )
    for _, group in due.groupby(["workflow", "plan_date"], sort=False):
        for start in range(0, len(group), batch_tenants):
            part = group.iloc[start : start + batch_tenants]
            identity = ",".join(f"{row.failure_id}:{row.attempts}" for row in part.itertuples())
            connection.execute(
                "UPDATE ops.failure SET retry_id = %s WHERE failure_id = ANY(%s::bigint[])",
                (uuid5(NAMESPACE, identity), part["failure_id"].tolist()),
            )
    return read_claims(connection)


def read_claims(connection: Connection) -> pd.DataFrame:
    """The open failures that are claimed for a run: retry_id, failure_id, tenant_id, workflow, plan_date, attempts, tier."""
    return frame(
        connection,
        """
        SELECT f.retry_id, f.failure_id, f.tenant_id, f.workflow, f.plan_date, f.attempts, t.tier
          FROM ops.failure AS f JOIN master.tenant AS t USING (tenant_id)
         WHERE f.resolved_at IS NULL AND f.retry_id IS NOT NULL
         ORDER BY f.plan_date, f.retry_id, f.tenant_id
        """,
    )


def withdraw_claims(connection: Connection, failure_ids: Sequence[int]) -> None:
    """Take back claims that have had no run; they are due again as before."""
    connection.execute(
        "UPDATE ops.failure SET retry_id = NULL WHERE failure_id = ANY(%s::bigint[])", (list(failure_ids),)
    )


def release_claims(connection: Connection, retry_ids: Sequence[UUID], now: datetime) -> int:
    """Count what is still open of claims whose run has ended as failed once more; returns how many failures.

    A run that ends in order closes what it was launched for, or records it anew. What it leaves is that of a run that was
    killed or cancelled, which must neither be forgotten nor tried for ever.
    """
    left = frame(
        connection,
        """
        SELECT failure_id, tenant_id, workflow, plan_date, attempts FROM ops.failure
         WHERE retry_id = ANY(%(retry_ids)s::uuid[]) AND resolved_at IS NULL FOR UPDATE
        """,
        {"retry_ids": list(retry_ids)},
    )
    for row in left.itertuples():
        attempts = int(row.attempts) + 1
        retry_at = retry_time(row.tenant_id, row.plan_date, attempts, now)
        connection.execute(
            "UPDATE ops.failure SET attempts = %s, retry_at = %s, state = %s, retry_id = NULL WHERE failure_id = %s",
            (attempts, retry_at, "review" if retry_at is None else "open", row.failure_id),
        )
        logger.warning("%s: %s for %s", RUN_ENDED_REASON, row.tenant_id, row.plan_date)
        _log(row.tenant_id, row.workflow, row.plan_date, attempts, retry_at)
    return len(left)


def list_failures(
    connection: Connection,
    tenant_id: str | None = None,
    state: str | None = None,
    is_all: bool = False,
) -> pd.DataFrame:
    """Failures, the latest first: open and in review, those of a state, or all (the last 1,000).

    failure_id, tenant_id, workflow, plan_date, link, reason, remedy, attempts, state, failed_at, retry_at, retry_id (of
    the run that tries again), run_id, resolved_at, dismissed_by, notes.
    """
    return _read(connection, tenant_id=tenant_id, state=state, is_all=is_all)


def get_failure(connection: Connection, failure_id: int) -> Mapping[str, Any]:
    """One failure, as `list_failures` has it. Raises FailureError when there is none."""
    rows = _read(connection, failure_id=failure_id, is_all=True)
    if rows.empty:
        raise FailureError(f"There is no failure {failure_id}. Remedy: `daybreak failures list` shows those there are.")
    return {str(name): value for name, value in rows.astype(object).iloc[0].items()}


def ask_retry(connection: Connection, failure_ids: Sequence[int], now: datetime) -> list[int]:
    """Have failures tried again at the next tick of the sensor; returns those that were not already on their way.

    The count goes on: one that fails again after its automatic retries are used up comes back to the list at once.
    Raises FailureError for one that is closed, or whose workflow is not made by date.
    """
    asked = []
    for failure_id in failure_ids:
        failure = get_failure(connection, failure_id)
        _check_open(failure)
        if failure["workflow"] not in RETRIED_WORKFLOWS:
            raise FailureError(
                f"Failure {failure_id} is of {failure['workflow']}, which is not tried again from this list. "
                f"Remedy: {failure['remedy']}"
            )
        row = connection.execute(
            """
            UPDATE ops.failure SET retry_at = %s, state = 'open'
             WHERE failure_id = %s AND resolved_at IS NULL AND retry_id IS NULL RETURNING failure_id
            """,
            (now, failure_id),
        ).fetchone()
        if row is not None:
            asked.append(failure_id)
    return asked


def dismiss(connection: Connection, failure_id: int, actor: str, notes: str, now: datetime) -> None:
    """Close a failure that needs no mending, with who says so and why. Raises FailureError when it is closed already."""
    if not notes.strip():
        raise FailureError("A dismissal needs a reason. Remedy: say why nothing has to be mended.")
    _check_open(get_failure(connection, failure_id))
    connection.execute(
        """
        UPDATE ops.failure SET state = 'dismissed', resolved_at = %s, dismissed_by = %s, notes = %s, retry_at = NULL
         WHERE failure_id = %s AND resolved_at IS NULL
        """,
        (now, actor, notes, failure_id),
    )


def _read(
    connection: Connection,
    failure_id: int | None = None,
    tenant_id: str | None = None,
    state: str | None = None,
    is_all: bool = False,
) -> pd.DataFrame:
    return frame(
        connection,
        """
        SELECT failure_id, tenant_id, workflow, plan_date, link, reason, remedy, attempts, state, failed_at, retry_at,
               retry_id, run_id, resolved_at, dismissed_by, notes
          FROM ops.failure
         WHERE (%(failure_id)s::bigint IS NULL OR failure_id = %(failure_id)s)
           AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
           AND CASE WHEN %(state)s::text IS NOT NULL THEN state = %(state)s ELSE %(is_all)s OR resolved_at IS NULL END
         ORDER BY failed_at DESC, failure_id DESC LIMIT 1000
        """,
        {"failure_id": failure_id, "tenant_id": tenant_id, "state": state, "is_all": is_all},
    )


def _attempts_before(
    connection: Connection, workflow: str, plan_date: date, set_aside: pd.DataFrame, now: datetime
) -> dict[str, int]:
    """How often in a row tenants had failed for the date; those of the same link are closed, since a new one comes."""
    rows = connection.execute(
        """
        WITH known AS (
            SELECT earlier.failure_id, earlier.tenant_id, earlier.attempts, earlier.link = failed.link AS is_same
              FROM ops.failure AS earlier
              JOIN unnest(%(tenant_ids)s::text[], %(links)s::text[]) AS failed (tenant_id, link) USING (tenant_id)
             WHERE earlier.workflow = ANY(%(workflows)s) AND earlier.plan_date = %(plan_date)s
               AND earlier.resolved_at IS NULL
        ), closed AS (
            UPDATE ops.failure SET resolved_at = %(now)s, state = 'resolved'
             WHERE failure_id IN (SELECT failure_id FROM known WHERE is_same)
        )
        SELECT tenant_id, max(attempts) FROM known GROUP BY tenant_id
        """,
        {
            "tenant_ids": set_aside["tenant_id"].tolist(),
            "links": set_aside["link"].tolist(),
            "workflows": _alike(workflow),
            "plan_date": plan_date,
            "now": now,
        },
    )
    return dict(rows.fetchall())


def _alike(workflow: str) -> list[str]:
    return list(PLANNING_WORKFLOWS) if workflow in PLANNING_WORKFLOWS else [workflow]


def _check_open(failure: Mapping[str, Any]) -> None:
    if failure["state"] not in {"open", "review"}:
        raise FailureError(
            f"Failure {failure['failure_id']} is {failure['state']} already. Remedy: `daybreak failures list` shows what waits."
        )


def _log(tenant_id: str, workflow: str, plan_date: date, attempts: int, retry_at: datetime | None) -> None:
    if retry_at is not None:
        logger.info(
            "%s: %s for %s, %s, after %s failures, at %s",
            vocabulary.RETRY_SCHEDULED, tenant_id, plan_date, workflow, attempts, retry_at.isoformat(timespec="seconds"),
        )  # fmt: skip
    elif workflow in RETRIED_WORKFLOWS:
        logger.error(
            "%s: %s for %s, %s, after %s failures",
            vocabulary.RETRIES_EXCEEDED,
            tenant_id,
            plan_date,
            workflow,
            attempts,
        )
