"""Keeps executions, their step logs and the outbox of events: history that outlives the pruning of Dagster's log."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

import pandas as pd

from resources import vocabulary
from resources.store.database import Connection, Store, copy_rows, frame
from resources.store.failures import record_lost

NAMESPACE = UUID("0c8e7f0e-8f0c-5d65-8a36-0f2d5d0b4b11")
"""Of execution ids."""

RUN_ENDED = "The run ended before this tenant was finished. Remedy: run the workflow again for this date."

Event = tuple[str, str, str | None, Mapping[str, Any]]
"""Type, subject, tenant_id and payload."""


class StepLog(NamedTuple):
    """One step of an execution. level: debug, info, warning or error; data: what JSON can hold."""

    execution_id: UUID
    step_index: int
    step_name: str
    level: str
    message: str
    data: Mapping[str, Any]
    logged_at: datetime


def start_executions(
    connection: Connection,
    workflow: str,
    type_: str,
    triggered_by: str,
    tenant_ids: Sequence[str],
    plan_date: date,
    steps: int,
    run_id: str,
    instance: str,
    now: datetime,
) -> dict[str, UUID]:
    """One running execution of so many steps per tenant; returns tenant_id -> execution_id.

    The id comes from workflow, tenant, date and run: a run that starts again after a retry continues its executions.
    """
    ids = {
        tenant_id: uuid5(NAMESPACE, f"{workflow}/{tenant_id}/{plan_date.isoformat()}/{run_id}")
        for tenant_id in tenant_ids
    }
    connection.execute(
        """
        INSERT INTO ops.execution (execution_id, workflow, type, triggered_by, tenant_id, plan_date, status, started_at,
                                   steps_total, run_id, instance)
        SELECT started.execution_id, %(workflow)s, %(type)s, %(triggered_by)s, started.tenant_id, %(plan_date)s,
               'running', %(now)s, %(steps_total)s, %(run_id)s, %(instance)s
        FROM unnest(%(execution_ids)s::uuid[], %(tenant_ids)s::text[]) AS started (execution_id, tenant_id)
        ON CONFLICT (execution_id) DO UPDATE
        SET status = 'running', instance = excluded.instance, steps_total = excluded.steps_total,
            completed_at = NULL, duration_seconds = NULL, error = NULL
        """,
        {
            "workflow": workflow,
            "type": type_,
            "triggered_by": triggered_by,
            "plan_date": plan_date,
            "now": now,
            "steps_total": steps,
            "run_id": run_id,
            "instance": instance,
            "execution_ids": list(ids.values()),
            "tenant_ids": list(ids),
        },
    )
    return ids


def finish_executions(connection: Connection, finished: pd.DataFrame, now: datetime) -> int:
    """Close executions; returns how many.

    finished: execution_id, tenant_id, status (completed, failed or cancelled), steps_completed, steps_failed,
    error (missing: none), result (a mapping that JSON can hold).
    """
    if finished.empty:
        return 0
    return connection.execute(
        """
        UPDATE ops.execution AS execution
        SET status = done.status, completed_at = %(now)s, steps_completed = done.steps_completed,
            steps_failed = done.steps_failed, error = done.error, result = done.result::jsonb,
            duration_seconds = extract(epoch FROM %(now)s - execution.started_at)
        FROM unnest(%(execution_ids)s::uuid[], %(tenant_ids)s::text[], %(statuses)s::text[], %(steps_completed)s::int[],
                    %(steps_failed)s::int[], %(errors)s::text[], %(results)s::text[])
            AS done (execution_id, tenant_id, status, steps_completed, steps_failed, error, result)
        WHERE execution.execution_id = done.execution_id AND execution.tenant_id = done.tenant_id
        """,
        {
            "now": now,
            "execution_ids": finished["execution_id"].tolist(),
            "tenant_ids": finished["tenant_id"].tolist(),
            "statuses": finished["status"].tolist(),
            "steps_completed": finished["steps_completed"].tolist(),
            "steps_failed": finished["steps_failed"].tolist(),
            "errors": [error if isinstance(error, str) else None for error in finished["error"]],
            "results": [json.dumps(result, allow_nan=False) for result in finished["result"]],
        },
    ).rowcount


def write_step_logs(connection: Connection, rows: Iterable[StepLog]) -> int:
    """Write step logs by COPY; a step logged again, after a retry, replaces what it logged before. Returns how many."""
    logs = [StepLog(*row) for row in rows]
    connection.execute(
        """
        DELETE FROM ops.execution_log AS log
        USING unnest(%s::uuid[], %s::int[]) AS again (execution_id, step_index)
        WHERE log.execution_id = again.execution_id AND log.step_index = again.step_index
        """,
        ([log.execution_id for log in logs], [log.step_index for log in logs]),
    )
    return copy_rows(
        connection,
        "ops.execution_log",
        StepLog._fields,
        (log._replace(data=json.dumps(log.data, allow_nan=False)) for log in logs),  # type: ignore[arg-type]
    )


@contextmanager
def held_by_run(store: Store, run_id: str) -> Iterator[None]:
    """Show for the block that the run's process lives, by a lock which the database lets go with it, however it dies."""
    with store.session() as connection:
        connection.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", (run_id,))
        yield
        # A server ends a closed connection in its own time; this lets the lock go at once.
        connection.execute("SELECT pg_advisory_unlock_shared(hashtextextended(%s, 0))", (run_id,))


def without_process(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Those of the runs that no process holds: dead ones, and ones that have not begun or are just ending."""
    rows = connection.execute(
        "SELECT run_id FROM unnest(%s::text[]) AS run_id WHERE pg_try_advisory_xact_lock(hashtextextended(run_id, 0))",
        (list(run_ids),),
    )
    return [run_id for (run_id,) in rows]


def read_running_run_ids(connection: Connection) -> list[str]:
    """The runs that have executions which are not closed."""
    rows = connection.execute("SELECT DISTINCT run_id FROM ops.execution WHERE status IN ('pending', 'running')")
    return [run_id for (run_id,) in rows]


def run_totals(connection: Connection, run_id: str, now: datetime) -> dict[str, Any]:
    """What a run has done so far: tenants_processed, steps_completed, steps_failed and duration_seconds since its first."""
    row = connection.execute(
        """
        SELECT count(*), coalesce(sum(steps_completed), 0), coalesce(sum(steps_failed), 0),
               coalesce(extract(epoch FROM %s - min(started_at)), 0)
          FROM ops.execution WHERE run_id = %s
        """,
        (now, run_id),
    ).fetchone()
    names = ("tenants_processed", "steps_completed", "steps_failed", "duration_seconds")
    totals = dict(zip(names, row or (0, 0, 0, 0), strict=True))
    return {name: float(value) if name == "duration_seconds" else int(value) for name, value in totals.items()}


def reap(connection: Connection, run_ids: Sequence[str], now: datetime) -> int:
    """Close as failed the executions that dead runs left open, with an event per run; returns how many executions.

    What a schedule or a retry had begun is due for a retry then; what a person began is theirs to begin again.
    """
    reaped = frame(
        connection,
        """
        UPDATE ops.execution
        SET status = 'failed', completed_at = %(now)s, error = %(error)s,
            duration_seconds = extract(epoch FROM %(now)s - started_at)
        WHERE run_id = ANY(%(run_ids)s::text[]) AND status IN ('pending', 'running')
        RETURNING workflow, run_id, tenant_id, plan_date, type, steps_completed, steps_failed, duration_seconds
        """,
        {"run_ids": list(run_ids), "now": now, "error": RUN_ENDED},
    )
    by_itself = reaped[reaped["type"].isin(("scheduled", "retry"))]
    for (run_id, workflow, plan_date), lost in by_itself.groupby(["run_id", "workflow", "plan_date"]):
        record_lost(connection, workflow, plan_date, sorted(lost["tenant_id"]), RUN_ENDED, run_id, now)
    add_events(
        connection,
        (
            (
                vocabulary.EVENT_WORKFLOW_FAILED,
                run_id,
                None,
                {
                    "workflow_name": workflow,
                    "execution_id": run_id,
                    "tenants_processed": len(of_run),
                    "steps_completed": int(of_run["steps_completed"].sum()),
                    "steps_failed": int(of_run["steps_failed"].sum()),
                    "duration_seconds": float(of_run["duration_seconds"].max()),
                    "timestamp": now.isoformat(),
                    "error_message": RUN_ENDED,
                    "tenants_affected": sorted(of_run["tenant_id"]),
                },
            )
            for (run_id, workflow), of_run in reaped.groupby(["run_id", "workflow"])
        ),
        now,
    )
    return len(reaped)


def add_events(connection: Connection, rows: Iterable[Event], now: datetime) -> int:
    """Put events into the outbox, in the transaction of the fact they tell; returns how many."""
    return copy_rows(
        connection,
        "ops.outbox",
        ("event_id", "type", "subject", "tenant_id", "payload", "created_at"),
        (
            (uuid4(), type_, subject, tenant_id, json.dumps(payload, allow_nan=False), now)
            for type_, subject, tenant_id, payload in rows
        ),
    )
