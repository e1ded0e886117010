"""Finished days whose validation is missing or was made from older sales: found, asked for once, and followed to the end.

A day of a tenant is stale when it has an active forecast plan, is over, and either has no validation a day after its time
('gap') or its sales changed since ('late_sales'). Each version of a day's sales is asked for once, in a batch; a batch is
launched again while it has days left, until it is done or given up.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, LiteralString
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pandas as pd

from resources.clock import is_time_zone
from resources.store.database import Connection, copy_rows, frame
from resources.vocabulary import FORECAST_VALIDATION

BATCH_PAIRS: Final = 1_000
"""Days of tenants that one run validates at most."""

OPEN_BATCHES: Final = 20
"""Batches that are looked at together; the others wait until these are done."""

MAX_ATTEMPTS: Final = 3
"""Runs of a batch, unless the last one still validated some of its days: a run that is killed half-way is not held against
the days that it did not come to."""

BACKOFF: Final = timedelta(seconds=60)
"""Between a run that did not finish its batch and the next one; twice as long each time."""

MAX_DOUBLINGS: Final = 5

SWEEP_AT: Final = time(9)
"""From when on in UTC the day's sweep over all dates is made."""

SWEEP_SETTING: Final = "late_sales_sweep"
LINK: Final = "validation_metrics"
NUMBER: Final = re.compile("[0-9]{1,19}")


@dataclass(frozen=True)
class Claimed:
    """What a look found. cursor: where the next one goes on; pairs: days newly asked for, in so many batches."""

    cursor: str
    pairs: int
    batches: int
    is_sweep: bool


def claim_stale(connection: Connection, cursor: str | None, paused: Collection[str], now: datetime) -> Claimed:
    """Ask for the validation of the stale days among those whose sales changed since the cursor, each version once.

    The cursor is a transaction number: every change made before it has been looked at. Days are looked at whose changing
    transaction is older than every one still open, so that one that commits late is not passed over. All days are looked at
    instead, in a sweep, at the first look after SWEEP_AT, when a tenant left out by the last sweep is not paused any more,
    and when the cursor is missing, unreadable or from another database. Tenants in `paused` are left out.
    """
    # Two daemons must not put the same days into two batches and find only one of them taken.
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('daybreak.late_sales'))")
    row = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    assert row is not None  # noqa: S101 (a SELECT without FROM has a row)
    horizon = str(row[0])
    is_readable = cursor is not None and NUMBER.fullmatch(cursor) is not None and int(cursor) <= int(horizon)
    last = _read_sweep(connection)
    is_sweep = not is_readable or last.is_due(paused, now)
    stale = _read_stale(connection, None if is_sweep else str(cursor), horizon, paused, now)
    batches = _request(connection, stale, now)
    if is_sweep:
        _write_sweep(connection, _Sweep(now, frozenset(paused)), now)
    elif not last.left_out.issuperset(paused):
        _write_sweep(connection, _Sweep(last.at, last.left_out | frozenset(paused)), now)
    return Claimed(horizon, len(stale), batches, is_sweep)


def read_open_batches(connection: Connection) -> pd.DataFrame:
    """Batches that are neither done nor given up, oldest first: batch_id, attempt, launch_after, pairs, pairs_left."""
    return frame(
        connection,
        """
        SELECT b.batch_id, b.attempt, b.launch_after, count(*)::int AS pairs,
               count(*) FILTER (WHERE v.actuals_version IS NULL OR v.actuals_version < r.actuals_version)::int AS pairs_left
          FROM (SELECT batch_id, attempt, launch_after FROM ops.validation_batch WHERE completed_at IS NULL
                 ORDER BY launch_after, requested_at, batch_id LIMIT %(limit)s) AS b
          JOIN ops.validation_request AS r USING (batch_id)
          LEFT JOIN quality.validation AS v USING (tenant_id, business_date)
         GROUP BY b.batch_id, b.attempt, b.launch_after
         ORDER BY b.launch_after, b.batch_id
        """,
        {"limit": OPEN_BATCHES},
    )


def read_batch_dates(connection: Connection, batch_id: UUID) -> list[date]:
    """The dates of a batch in order."""
    rows = connection.execute(
        "SELECT DISTINCT business_date FROM ops.validation_request WHERE batch_id = %s ORDER BY 1", (batch_id,)
    )
    return [on for (on,) in rows]


def read_left(connection: Connection, batch_id: UUID, on: date) -> list[str]:
    """The tenants of a batch whose validation of the date is missing or older than was asked for."""
    rows = connection.execute(
        """
        SELECT r.tenant_id FROM ops.validation_request AS r
          LEFT JOIN quality.validation AS v USING (tenant_id, business_date)
         WHERE r.batch_id = %s AND r.business_date = %s
           AND (v.actuals_version IS NULL OR v.actuals_version < r.actuals_version)
         ORDER BY r.tenant_id
        """,
        (batch_id, on),
    )
    return [tenant_id for (tenant_id,) in rows]


def read_progress(connection: Connection, batch_id: UUID, run_id: str) -> tuple[int, int]:
    """How many days of a batch are left, and how many the run validated."""
    row = connection.execute(
        """
        SELECT count(*) FILTER (WHERE v.actuals_version IS NULL OR v.actuals_version < r.actuals_version),
               count(*) FILTER (WHERE v.run_id = %s)
          FROM ops.validation_request AS r LEFT JOIN quality.validation AS v USING (tenant_id, business_date)
         WHERE r.batch_id = %s
        """,
        (run_id, batch_id),
    ).fetchone()
    assert row is not None  # noqa: S101 (an aggregate has a row)
    return row[0], row[1]


def complete_batches(connection: Connection, batch_ids: Sequence[UUID], now: datetime) -> int:
    """Close batches whose days are all validated; returns how many."""
    return connection.execute(
        "UPDATE ops.validation_batch SET completed_at = %s WHERE batch_id = ANY(%s) AND completed_at IS NULL",
        (now, list(batch_ids)),
    ).rowcount


def try_again(connection: Connection, batch_id: UUID, attempt: int, now: datetime) -> datetime:
    """After a run that did not finish: the next attempt, with backoff; returns when it may be launched."""
    launch_after = now + BACKOFF * 2 ** min(attempt - 1, MAX_DOUBLINGS)
    connection.execute(
        """
        UPDATE ops.validation_batch SET attempt = attempt + 1, launch_after = %s
         WHERE batch_id = %s AND attempt = %s AND completed_at IS NULL
        """,
        (launch_after, batch_id, attempt),
    )
    return launch_after


def give_up(connection: Connection, batch_id: UUID, run_id: str, now: datetime) -> int:
    """Close a batch that its runs could not finish; the days left wait for a person as failures. Returns how many."""
    left = connection.execute(
        """
        SELECT r.tenant_id, r.business_date FROM ops.validation_request AS r
          LEFT JOIN quality.validation AS v USING (tenant_id, business_date)
         WHERE r.batch_id = %s AND (v.actuals_version IS NULL OR v.actuals_version < r.actuals_version)
         ORDER BY 1, 2
        """,
        (batch_id,),
    ).fetchall()
    # What a run has said of a day is kept; a day that no run came to has no failure yet.
    reviewed: set[tuple[str, date]] = set(
        connection.execute(
            """
            UPDATE ops.failure AS f SET state = 'review', retry_at = NULL, attempts = %(attempts)s
              FROM unnest(%(tenants)s::text[], %(dates)s::date[]) AS days_left (tenant_id, business_date)
             WHERE f.tenant_id = days_left.tenant_id AND f.plan_date = days_left.business_date
               AND f.workflow = %(workflow)s AND f.link = %(link)s AND f.resolved_at IS NULL
            RETURNING f.tenant_id, f.plan_date
            """,
            {
                "attempts": MAX_ATTEMPTS,
                "tenants": [tenant_id for tenant_id, _ in left],
                "dates": [on for _, on in left],
                "workflow": FORECAST_VALIDATION,
                "link": LINK,
            },
        ).fetchall()
    )
    copy_rows(
        connection,
        "ops.failure",
        ("tenant_id", "workflow", "plan_date", "link", "reason", "remedy", "run_id", "failed_at", "attempts", "state"),
        (
            (
                *(tenant_id, FORECAST_VALIDATION, on, LINK),
                f"{MAX_ATTEMPTS} runs ended before this day was validated.",
                f"Read the log of run {run_id}, then: daybreak validate --tenant {tenant_id} --date {on}.",
                *(run_id, now, MAX_ATTEMPTS, "review"),
            )
            for tenant_id, on in left
            if (tenant_id, on) not in reviewed
        ),
    )
    connection.execute(
        "UPDATE ops.validation_batch SET completed_at = %s, error = %s WHERE batch_id = %s AND completed_at IS NULL",
        (now, f"{len(left)} days were not validated by {MAX_ATTEMPTS} runs, the last of them {run_id}.", batch_id),
    )
    return len(left)


def keep_failures(connection: Connection, run_id: str) -> int:
    """Take a run's open failures from those that are retried one by one: their batch is. Returns how many."""
    return connection.execute(
        "UPDATE ops.failure SET retry_at = NULL WHERE run_id = %s AND resolved_at IS NULL AND retry_at IS NOT NULL",
        (run_id,),
    ).rowcount


EVERY: Final[LiteralString] = """
    SELECT DISTINCT tenant_id, plan_date AS business_date FROM plans.plan WHERE kind = 'forecast' AND status = 'active'
"""
CHANGED: Final[LiteralString] = """
    SELECT tenant_id, business_date FROM facts.actuals_day
     WHERE changed_by >= %(cursor)s::text::xid8 AND changed_by < %(horizon)s::text::xid8
"""
STALE: Final[LiteralString] = """
    SELECT d.tenant_id, d.business_date, coalesce(a.version, 0) AS actuals_version,
           CASE WHEN v.tenant_id IS NULL THEN 'gap' ELSE 'late_sales' END AS reason
      FROM looked_at AS d
      JOIN master.tenant AS t USING (tenant_id)
      JOIN master.schedule_group AS g USING (schedule_group)
      JOIN unnest(%(zones)s::text[], %(local)s::timestamp[]) AS z (timezone, local_now) USING (timezone)
      LEFT JOIN facts.actuals_day AS a USING (tenant_id, business_date)
      LEFT JOIN quality.validation AS v USING (tenant_id, business_date)
     WHERE t.status = 'active' AND d.tenant_id <> ALL(%(paused)s::text[]) AND d.business_date < z.local_now::date
       AND EXISTS (SELECT FROM plans.plan AS p
                    WHERE p.tenant_id = d.tenant_id AND p.plan_date = d.business_date
                      AND p.kind = 'forecast' AND p.status = 'active')
       AND CASE WHEN v.tenant_id IS NULL THEN d.business_date + 2 + g.forecast_validation_at <= z.local_now
                ELSE a.version > v.actuals_version END
       AND NOT EXISTS (SELECT FROM ops.validation_request AS r
                        WHERE r.tenant_id = d.tenant_id AND r.business_date = d.business_date
                          AND r.actuals_version = coalesce(a.version, 0))
     ORDER BY d.business_date, d.tenant_id
"""


def _read_stale(
    connection: Connection, cursor: str | None, horizon: str, paused: Collection[str], now: datetime
) -> pd.DataFrame:
    """Stale days that have not been asked for, by date: tenant_id, business_date, actuals_version, reason.

    Without a cursor all days are looked at, else those changed since.
    """
    zones: list[tuple[str, datetime]] = []
    # A zone that does not exist is named by the runs of its tenant; here it must not stop those of all others.
    for (name,) in connection.execute("SELECT DISTINCT timezone FROM master.tenant WHERE status = 'active'"):
        if is_time_zone(name):
            zones.append((name, now.astimezone(ZoneInfo(name)).replace(tzinfo=None)))
    looked_at = EVERY if cursor is None else CHANGED
    return frame(
        connection,
        f"WITH looked_at AS ({looked_at}) {STALE}",
        {
            "cursor": cursor,
            "horizon": horizon,
            "zones": [name for name, _ in zones],
            "local": [local for _, local in zones],
            "paused": list(paused),
        },
    )


def _request(connection: Connection, stale: pd.DataFrame, now: datetime) -> int:
    """Put stale days into new batches; returns how many."""
    batches = [(uuid4(), stale.iloc[start : start + BATCH_PAIRS]) for start in range(0, len(stale), BATCH_PAIRS)]
    copy_rows(
        connection,
        "ops.validation_batch",
        ("batch_id", "launch_after", "requested_at"),
        ((batch_id, now, now) for batch_id, _ in batches),
    )
    copy_rows(
        connection,
        "ops.validation_request",
        ("batch_id", "tenant_id", "business_date", "actuals_version", "reason", "requested_at"),
        (
            (batch_id, row.tenant_id, row.business_date, row.actuals_version, row.reason, now)
            for batch_id, rows in batches
            for row in rows.itertuples()
        ),
    )
    return len(batches)


@dataclass(frozen=True)
class _Sweep:
    """The last look over all dates, and the tenants that were paused then or at a look since."""

    at: datetime
    left_out: frozenset[str]

    def is_due(self, paused: Collection[str], now: datetime) -> bool:
        latest = datetime.combine(now.astimezone(UTC).date(), SWEEP_AT, UTC)
        if latest > now:
            latest -= timedelta(days=1)
        return self.at < latest or not self.left_out <= set(paused)


def _read_sweep(connection: Connection) -> _Sweep:
    row = connection.execute("SELECT value FROM ops.setting WHERE name = %s", (SWEEP_SETTING,)).fetchone()
    if row is None:
        return _Sweep(datetime.min.replace(tzinfo=UTC), frozenset())
    return _Sweep(datetime.fromisoformat(row[0]["at"]), frozenset(row[0]["left_out"]))


def _write_sweep(connection: Connection, sweep: _Sweep, now: datetime) -> None:
    connection.execute(
        """
        INSERT INTO ops.setting (name, value, updated_at) VALUES (%s, %s, %s)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
        """,
        (SWEEP_SETTING, json.dumps({"at": sweep.at.isoformat(), "left_out": sorted(sweep.left_out)}), now),
    )
