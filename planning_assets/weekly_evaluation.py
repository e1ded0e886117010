"""The weekly evaluation: the last 30 days of every tenant of a time zone, and who is queued for training on their account."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, timedelta
from uuid import UUID

import dagster as dg
import numpy as np
import pandas as pd
from pydantic import Field

from planning.frames import set_aside_of
from planning.retraining import Ask, Evidence, ask_of, evidence_of_days, wape_pct
from planning_assets.closing import Words, end_run
from planning_assets.retraining import evidence_of, standing_of
from planning_assets.summaries import table
from resources import vocabulary
from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Connection, Store
from resources.store.due import read_zone_tenants
from resources.store.executions import (
    StepLog,
    finish_executions,
    held_by_run,
    start_executions,
    write_step_logs,
)
from resources.store.pauses import read_paused
from resources.store.retraining import queue_training, read_errors, read_failed_checks, read_standings

NAME = vocabulary.WEEKLY_EVALUATION

EVALUATED_DAYS = 30

CHUNK_TENANTS = 500

WORDS = Words(
    vocabulary.WEEKLY_EVALUATION_COMPLETED, "Weekly evaluation failed completely", "evaluated", unit="tenants"
)


class ZoneConfig(dg.Config):
    """Run configuration of the weekly evaluation."""

    zone: str = Field(description="The time zone whose tenants are evaluated, as Europe/Madrid.")
    date: str = Field(description="The local day on which it was due; it looks at the 30 days before.")
    triggered_by: str = Field(default="dagster", description="Who asked, for the executions' record.")


@dg.op(name=NAME)
def weekly_evaluation(
    context: dg.OpExecutionContext, config: ZoneConfig, store: StoreResource, clock: ClockResource
) -> dg.Output[None]:
    """Evaluate the zone's active tenants that are not paused, each with an execution of its own."""
    on = date.fromisoformat(config.date)
    rows: list[tuple[str, int, float, str]] = []
    with store.open() as opened, held_by_run(opened, context.run.run_id):
        with opened.transaction() as connection:
            paused = read_paused(connection)
            tenants = [t for t in read_zone_tenants(connection, config.zone)["tenant_id"] if not paused.holds(t)]
        for start in range(0, len(tenants), CHUNK_TENANTS):
            chunk = tenants[start : start + CHUNK_TENANTS]
            rows += evaluate_tenants(opened, chunk, on, config.triggered_by, context.run.run_id, clock.now)
        end_run(context, opened, clock.now, NAME, WORDS, len(rows), set_aside_of())
    first = sorted(rows, key=lambda row: (not row[-1], row[0]))
    return dg.Output(None, metadata={"tenants": table(["tenant", "open days", "WAPE %", "queued"], first)})


@dg.job(name=f"{NAME}_job", executor_def=dg.in_process_executor)
def weekly_evaluation_job() -> None:
    """Look at the last 30 days of forecasts in a time zone, and queue models for retraining on their account."""
    weekly_evaluation()


def evaluate_tenants(
    store: Store, tenant_ids: Sequence[str], on: date, triggered_by: str, run_id: str, now: Clock
) -> list[tuple[str, int, float, str]]:
    """Evaluate tenants and queue those with a reason, in one transaction: tenant, open days, WAPE %, why it is queued."""
    with store.transaction() as connection:
        executions = start_executions(
            connection, NAME, "scheduled", triggered_by, tenant_ids, on, 1, run_id, platform.node(), now()
        )
        last = on - timedelta(days=1)
        days, products = read_errors(connection, tenant_ids, on - timedelta(days=EVALUATED_DAYS), last)
        asked = _ask(connection, tenant_ids, days, products, last, now)
        rows = []
        for tenant_id in tenant_ids:
            of_tenant = days[days["tenant_id"] == tenant_id]
            error_pct = wape_pct(of_tenant["error_units"].sum(), of_tenant["actual_units"].sum())
            ask = asked.get(tenant_id)
            rows.append((tenant_id, len(of_tenant), error_pct, f"{ask.trigger}: {ask.reason}" if ask else ""))
        _close(connection, executions, rows, now)
    return rows


def _ask(
    connection: Connection,
    tenant_ids: Sequence[str],
    days: pd.DataFrame,
    products: pd.DataFrame,
    last: date,
    now: Clock,
) -> dict[str, Ask]:
    """Queue who has a reason; returns why, by tenant."""
    checks = evidence_of(read_failed_checks(connection, tenant_ids))
    queued = {}
    for row in read_standings(connection, now(), tenant_ids).itertuples():
        tenant_id = row.tenant_id
        found = evidence_of_days(
            days[days["tenant_id"] == tenant_id], products[products["tenant_id"] == tenant_id], last
        )
        # Whether the error has risen is the check's to say: it compares with days before these.
        check = checks.get(tenant_id, Evidence(last))
        evidence = replace(found, rise_points=check.rise_points, rise_reason=check.rise_reason)
        ask = ask_of(now().astimezone(UTC).date(), standing_of(row), evidence)
        if ask is not None and queue_training(
            connection, tenant_id, ask.trigger, ask.product_ids, NAME, ask.reason, now()
        ):
            queued[tenant_id] = ask
    return queued


def _close(
    connection: Connection, executions: dict[str, UUID], rows: Sequence[tuple[str, int, float, str]], now: Clock
) -> None:
    closed, logs = [], []
    for tenant_id, open_days, error_pct, reason in rows:
        known = {"wape_pct": round(float(error_pct), 3)} if np.isfinite(error_pct) else {}
        result = {"open_days": open_days, **known, "queued": reason}
        closed.append(
            {
                "execution_id": executions[tenant_id],
                "tenant_id": tenant_id,
                "status": "completed",
                "steps_completed": 1,
                "steps_failed": 0,
                "error": None,
                "result": result,
            }
        )
        message = vocabulary.RETRAINING_QUEUED if reason else vocabulary.WEEKLY_EVALUATION_COMPLETED
        logs.append(StepLog(executions[tenant_id], 0, NAME, "info", message, result, now()))
    finish_executions(connection, pd.DataFrame(closed), now())
    write_step_logs(connection, logs)
