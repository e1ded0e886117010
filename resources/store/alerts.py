"""Alerts in the store: what conditions are read from, alerts, silences and the messages about them. No rule about any of them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pandas as pd
from psycopg.rows import class_row

from resources.alerts.records import Alert, Message, Silence
from resources.store.database import Connection, frame

COLUMNS = tuple(field.name for field in fields(Alert))
LOG = "log"


class AlertError(Exception):
    """What was asked of an alert or a silence cannot be done. The message carries the remedy."""


# ---------------------------------------------------------------- what conditions are read from


def read_checks(connection: Connection, assets: Sequence[str], checks: Sequence[str]) -> pd.DataFrame:
    """The latest result of each of the checks, of assets, per active tenant.

    tenant_id, asset, check_name, business_date, status, message, failed_days: failed ones since the last that did not.
    The same as quality.check_state, found by the index instead of by all results there are: it is asked twice a minute.
    """
    return frame(
        connection,
        """
        SELECT s.tenant_id, s.asset, s.check_name, s.business_date, s.status, s.message,
               CASE WHEN s.status <> 'failed' THEN 0 ELSE (
                   SELECT count(*) FROM quality.check_result AS r
                    WHERE (r.tenant_id, r.asset, r.check_name) = (s.tenant_id, s.asset, s.check_name)
                      AND r.status = 'failed' AND r.business_date > coalesce(
                          (SELECT max(p.business_date) FROM quality.check_result AS p
                            WHERE (p.tenant_id, p.asset, p.check_name) = (s.tenant_id, s.asset, s.check_name)
                              AND p.status IN ('passed', 'warned')), '-infinity')) END AS failed_days
          FROM master.tenant AS t
         CROSS JOIN unnest(%(assets)s::text[], %(checks)s::text[]) AS c (asset, check_name)
         CROSS JOIN LATERAL (
               SELECT * FROM quality.check_result AS r
                WHERE r.tenant_id = t.tenant_id AND r.asset = c.asset AND r.check_name = c.check_name
                ORDER BY r.business_date DESC LIMIT 1) AS s
         WHERE t.status = 'active'
         ORDER BY 1, 2, 3
        """,
        {"assets": list(assets), "checks": list(checks)},
    )


def read_failures_for_review(connection: Connection) -> pd.DataFrame:
    """What waits for a person: tenant_id, workflow, link, dates (how many), last_date, and reason and remedy of the last.

    A model that cannot be used is retried by nobody, so it is for a person from the beginning.
    """
    return frame(
        connection,
        """
        SELECT DISTINCT ON (tenant_id, workflow, link) tenant_id, workflow, link,
               count(*) OVER (PARTITION BY tenant_id, workflow, link) AS dates, plan_date AS last_date, reason, remedy
          FROM ops.failure
         WHERE resolved_at IS NULL AND (state = 'review' OR (state = 'open' AND link = 'forecast_models'))
         ORDER BY tenant_id, workflow, link, plan_date DESC, failure_id DESC
        """,
    )


def read_tenants_to_plan(connection: Connection) -> pd.DataFrame:
    """Active tenants with what says when they owe a production plan.

    tenant_id, timezone, plan_lead_days, production_planning_at, created_at, is_paused.
    """
    return frame(
        connection,
        """
        SELECT t.tenant_id, t.timezone, t.plan_lead_days, g.production_planning_at, t.created_at,
               EXISTS (SELECT FROM ops.pause AS p WHERE p.resumed_at IS NULL
                          AND (p.tenant_id IS NULL OR p.tenant_id = t.tenant_id)) AS is_paused
          FROM master.tenant AS t JOIN master.schedule_group AS g USING (schedule_group)
         WHERE t.status = 'active'
         ORDER BY t.tenant_id
        """,
    )


def read_with_production_plan(
    connection: Connection, tenant_ids: Sequence[str], plan_dates: Sequence[date]
) -> set[str]:
    """Those of the tenants that have an active production plan, each for its own date."""
    rows = connection.execute(
        """
        SELECT DISTINCT d.tenant_id FROM unnest(%s::text[], %s::date[]) AS d (tenant_id, plan_date)
          JOIN plans.plan AS p ON (p.tenant_id, p.plan_date) = (d.tenant_id, d.plan_date)
           AND p.kind = 'production' AND p.status = 'active'
        """,
        (list(tenant_ids), list(plan_dates)),
    )
    return {tenant_id for (tenant_id,) in rows}


def read_durations(connection: Connection, now: datetime) -> pd.DataFrame:
    """How long generations of the last day took: kind (production, procurement), tenants, p95_seconds."""
    return frame(
        connection,
        """
        SELECT CASE workflow WHEN 'procurement_planning' THEN 'procurement' ELSE 'production' END AS kind,
               count(*) AS tenants, percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) AS p95_seconds
          FROM ops.execution
         WHERE workflow IN ('production_planning', 'daily_operations', 'procurement_planning') AND status = 'completed'
           AND completed_at > %(since)s AND completed_at <= %(now)s AND duration_seconds IS NOT NULL
           AND type <> 'backfill'
         GROUP BY 1
        """,
        {"since": now - timedelta(days=1), "now": now},
    )


def read_rejections(connection: Connection, now: datetime) -> tuple[int, int]:
    """Rejected purchase plans of the last seven days, and of the seven before."""
    row = connection.execute(
        """
        SELECT count(*) FILTER (WHERE decided_at > %(week)s), count(*) FILTER (WHERE decided_at <= %(week)s)
          FROM ops.plan_decision WHERE action = 'reject' AND decided_at > %(two_weeks)s AND decided_at <= %(now)s
        """,
        {"now": now, "week": now - timedelta(days=7), "two_weeks": now - timedelta(days=14)},
    ).fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def read_heartbeats(connection: Connection, daemons: Sequence[str]) -> dict[str, datetime]:
    """When these daemons of Dagster last showed that they live; empty before Dagster's first start."""
    row = connection.execute("SELECT to_regclass('public.daemon_heartbeats') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return {}
    rows = connection.execute(
        "SELECT daemon_type, timestamp AT TIME ZONE 'utc' FROM public.daemon_heartbeats WHERE daemon_type = ANY(%s)",
        (list(daemons),),
    )
    return dict(rows.fetchall())


def read_runs_of_failures(connection: Connection, run_ids: Sequence[str]) -> set[str]:
    """Those of the runs that set tenants aside: their failures are told tenant by tenant."""
    rows = connection.execute("SELECT DISTINCT run_id FROM ops.failure WHERE run_id = ANY(%s)", (list(run_ids),))
    return {run_id for (run_id,) in rows}


# ---------------------------------------------------------------- alerts


def lock(connection: Connection) -> None:
    """Let one process at a time change alerts, until the end of the transaction."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('daybreak.alerts', 0))")


def read_open(connection: Connection) -> list[Alert]:
    """Alerts that are not resolved, oldest first."""
    return read(connection, include_resolved=False)


def read(
    connection: Connection,
    include_resolved: bool,
    tenant_id: str | None = None,
    alert_id: UUID | None = None,
    limit: int | None = None,
) -> list[Alert]:
    """Alerts, of a tenant, or the one with an id: open ones oldest first, then resolved ones latest first, at most `limit`."""
    with connection.cursor(row_factory=class_row(Alert)) as cursor:
        return cursor.execute(
            """
            SELECT alert_id, fingerprint, name, tenant_id, asset, check_name, severity, state, summary, remedy, runbook,
                   about_date, occurrences, started_at, fired_at, last_seen_at, acknowledged_at, acknowledged_by,
                   escalation, reminded_at, resolved_at
              FROM ops.alert
             WHERE (state <> 'resolved' OR %(include_resolved)s)
               AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
               AND (%(alert_id)s::uuid IS NULL OR alert_id = %(alert_id)s)
             ORDER BY state = 'resolved', CASE WHEN state = 'resolved' THEN NULL ELSE started_at END,
                      resolved_at DESC, fingerprint
             LIMIT %(limit)s
            """,
            {"include_resolved": include_resolved, "tenant_id": tenant_id, "alert_id": alert_id, "limit": limit},
        ).fetchall()


def read_one(connection: Connection, prefix: str) -> Alert:
    """The alert whose id begins so. Raises AlertError where there is none, or more than one."""
    rows = connection.execute(
        "SELECT alert_id FROM ops.alert WHERE starts_with(alert_id::text, %s) LIMIT 2", (prefix.lower(),)
    ).fetchall()
    if len(rows) != 1:
        found = "No alert" if not rows else "More than one alert"
        raise AlertError(
            f"{found} has an id that begins with {prefix!r}. Remedy: `daybreak alerts list` shows the ids."
        )
    (alert,) = read(connection, include_resolved=True, alert_id=rows[0][0])
    return alert


def read_last_resolved(connection: Connection, name: str) -> datetime | None:
    """When the last alert of a name ended."""
    row = connection.execute("SELECT max(resolved_at) FROM ops.alert WHERE name = %s", (name,)).fetchone()
    return None if row is None else row[0]


def write(connection: Connection, alerts: Sequence[Alert]) -> None:
    """Store alerts as they are now."""
    connection.cursor().executemany(
        """
        INSERT INTO ops.alert (alert_id, fingerprint, name, tenant_id, asset, check_name, severity, state, summary, remedy,
                               runbook, about_date, occurrences, started_at, fired_at, last_seen_at, acknowledged_at,
                               acknowledged_by, escalation, reminded_at, resolved_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (alert_id) DO UPDATE
        SET severity = excluded.severity, state = excluded.state, summary = excluded.summary, remedy = excluded.remedy,
            about_date = excluded.about_date, occurrences = excluded.occurrences, fired_at = excluded.fired_at,
            last_seen_at = excluded.last_seen_at, escalation = excluded.escalation, reminded_at = excluded.reminded_at,
            resolved_at = excluded.resolved_at
        """,
        # Resolved ones first: an incident that ends and begins anew must not meet itself in the index of open ones.
        [
            tuple(getattr(alert, column) for column in COLUMNS)
            for alert in sorted(alerts, key=lambda alert: alert.resolved_at is None)
        ],
    )


def drop(connection: Connection, alert_ids: Sequence[UUID]) -> None:
    """Remove pending alerts that were over before they fired."""
    connection.execute("DELETE FROM ops.alert WHERE state = 'pending' AND alert_id = ANY(%s)", (list(alert_ids),))


def acknowledge(connection: Connection, alert_id: UUID, actor: str, now: datetime) -> None:
    """Note who looks after an alert: no reminder and no escalation any more. Raises AlertError unless it fires."""
    lock(connection)
    changed = connection.execute(
        """
        UPDATE ops.alert SET state = 'acknowledged', acknowledged_at = %s, acknowledged_by = %s
         WHERE alert_id = %s AND state = 'firing'
        """,
        (now, actor, alert_id),
    ).rowcount
    if not changed:
        alert = read_one(connection, str(alert_id))
        by = f" by {alert.acknowledged_by}" if alert.acknowledged_by else ""
        raise AlertError(f"The alert is {alert.state}{by} already. Remedy: `daybreak alerts list` shows what fires.")


def read_zones(connection: Connection, tenant_ids: Collection[str | None]) -> dict[str, str]:
    """The time zones of tenants."""
    rows = connection.execute(
        "SELECT tenant_id, timezone FROM master.tenant WHERE tenant_id = ANY(%s)",
        ([tenant_id for tenant_id in tenant_ids if tenant_id is not None],),
    )
    return dict(rows.fetchall())


# ---------------------------------------------------------------- silences


def read_silences_in_force(connection: Connection, now: datetime) -> list[Silence]:
    """The silences that hold at an instant."""
    with connection.cursor(row_factory=class_row(Silence)) as cursor:
        return cursor.execute(
            "SELECT name, tenant_id FROM ops.alert_silence WHERE starts_at <= %(now)s AND ends_at > %(now)s",
            {"now": now},
        ).fetchall()


def list_silences(connection: Connection, now: datetime) -> pd.DataFrame:
    """Silences that are not over: silence_id, name, tenant_id, reason, actor, starts_at, ends_at."""
    return frame(
        connection,
        """
        SELECT silence_id, name, tenant_id, reason, actor, starts_at, ends_at
          FROM ops.alert_silence WHERE ends_at > %(now)s ORDER BY silence_id
        """,
        {"now": now},
    )


def add_silence(
    connection: Connection,
    name: str | None,
    tenant_id: str | None,
    reason: str,
    actor: str,
    starts_at: datetime,
    ends_at: datetime,
) -> int:
    """Keep a silence; returns its number. Raises AlertError for a tenant that does not exist."""
    if tenant_id is not None:
        row = connection.execute("SELECT FROM master.tenant WHERE tenant_id = %s", (tenant_id,)).fetchone()
        if row is None:
            raise AlertError(f"There is no tenant {tenant_id!r}. Remedy: `daybreak tenant list` shows the tenants.")
    (silence_id,) = connection.execute(
        """
        INSERT INTO ops.alert_silence (name, tenant_id, reason, actor, starts_at, ends_at)
        VALUES (%s, %s, %s, %s, %s, %s) RETURNING silence_id
        """,
        (name, tenant_id, reason, actor, starts_at, ends_at),
    ).fetchone() or (0,)
    return int(silence_id)


def end_silence(connection: Connection, silence_id: int, now: datetime) -> None:
    """End a silence now. Raises AlertError when none of that number holds."""
    changed = connection.execute(
        "UPDATE ops.alert_silence SET ends_at = greatest(%(now)s, starts_at + interval '1 microsecond') "
        "WHERE silence_id = %(id)s AND ends_at > %(now)s",
        {"now": now, "id": silence_id},
    ).rowcount
    if not changed:
        raise AlertError(f"No silence {silence_id} holds. Remedy: `daybreak alerts list` shows them.")


# ---------------------------------------------------------------- messages


def write_messages(connection: Connection, messages: Iterable[Message], targets: Sequence[str], now: datetime) -> int:
    """Put messages into the queue of every target, each with an id of its own; returns how many. The log needs no sleep."""
    rows = [
        (
            uuid4(), target, message.kind, message.group_key, message.alert_ids,
            json.dumps(message.payload, allow_nan=False), now, now if target == LOG else message.send_after,
        )
        for message in messages
        for target in targets
    ]  # fmt: skip
    connection.cursor().executemany(
        """
        INSERT INTO ops.alert_message (message_id, target, kind, group_key, alert_ids, payload, created_at, send_after)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        rows,
    )
    return len(rows)


def claim_message(
    connection: Connection, targets: Sequence[str], now: datetime
) -> tuple[UUID, str, Mapping[str, Any], datetime, int] | None:
    """The next message that is due, held by this transaction: message_id, target, payload, created_at, attempts.

    A message waits for an earlier one about the same alert: nobody reads of an end before the beginning.
    """
    return connection.execute(
        """
        SELECT m.message_id, m.target, m.payload, m.created_at, m.attempts
          FROM ops.alert_message AS m
         WHERE m.sent_at IS NULL AND m.given_up_at IS NULL AND m.send_after <= %(now)s AND m.target = ANY(%(targets)s)
           AND NOT EXISTS (
               SELECT FROM ops.alert_message AS e
                WHERE e.sent_at IS NULL AND e.given_up_at IS NULL AND e.target = m.target
                  AND e.alert_ids && m.alert_ids AND (e.created_at, e.message_id) < (m.created_at, m.message_id))
         ORDER BY m.created_at, m.message_id
         LIMIT 1
           FOR UPDATE OF m SKIP LOCKED
        """,
        {"now": now, "targets": list(targets)},
    ).fetchone()


def mark_sent(connection: Connection, message_id: UUID, now: datetime) -> None:
    """Note that the target has taken a message."""
    connection.execute(
        "UPDATE ops.alert_message SET sent_at = %s, attempts = attempts + 1, last_error = NULL WHERE message_id = %s",
        (now, message_id),
    )


def mark_failed(
    connection: Connection, message_id: UUID, error: str, send_after: datetime, given_up_at: datetime | None
) -> None:
    """Note why a message was not taken, and when it is sent again, or that it is not."""
    connection.execute(
        """
        UPDATE ops.alert_message SET attempts = attempts + 1, last_error = %s, send_after = %s, given_up_at = %s
         WHERE message_id = %s
        """,
        (error, send_after, given_up_at, message_id),
    )


def read_messages(connection: Connection, alert_id: UUID) -> pd.DataFrame:
    """What was told of an alert: message_id, target, kind, created_at, send_after, attempts, sent_at, given_up_at, last_error."""
    return frame(
        connection,
        """
        SELECT message_id, target, kind, created_at, send_after, attempts, sent_at, given_up_at, last_error
          FROM ops.alert_message WHERE %(alert_id)s = ANY(alert_ids) ORDER BY created_at, target
        """,
        {"alert_id": alert_id},
    )
