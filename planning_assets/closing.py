"""Closes executions, in the transaction that wrote the plans, and ends runs: done, or in failure naming who was set aside."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
import pandas as pd

from planning_assets.chunk import Outcome
from planning_assets.summaries import table
from resources import vocabulary
from resources.clock import Clock
from resources.store.database import Connection, Store
from resources.store.executions import StepLog, add_events, finish_executions, run_totals, write_step_logs

DONE_PHRASES = {
    "demand_history": "Demand history brought up to date",
    "forecasts": "Demand forecast made",
    "production_plans": vocabulary.PRODUCTION_SCHEDULE_CREATED,
    "procurement_plans": vocabulary.PROCUREMENT_PLAN_GENERATED,
    "inventory_projections": "Inventory projected",
    "validation_metrics": "Forecasts validated",
}


def close_executions(
    connection: Connection, executions: Mapping[str, uuid.UUID], outcome: Outcome, links: Sequence[str], now: Clock
) -> None:
    """Close executions as completed or failed, with a log row per link done and one for the link that failed."""
    at_fault = outcome.set_aside.set_index("tenant_id")
    closed, logs = [], []
    for tenant_id, execution_id in executions.items():
        done = [name for name in links if tenant_id in outcome.done.get(name, {})]
        for n, name in enumerate(done):
            data = {
                key: value.value
                for key, value in outcome.done[name][tenant_id].items()
                if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue)
            }
            logs.append(StepLog(execution_id, n, name, "info", DONE_PHRASES[name], data, now()))
        error = None
        if tenant_id in at_fault.index:
            error = f"{at_fault.at[tenant_id, 'reason']} {at_fault.at[tenant_id, 'remedy']}"
            problem = {key: at_fault.at[tenant_id, key] for key in ("reason", "remedy")}
            link = at_fault.at[tenant_id, "link"]
            logs.append(
                StepLog(execution_id, len(done), link, "error", vocabulary.TENANT_PROCESSING_FAILED, problem, now())
            )
        closed.append(
            {
                "execution_id": execution_id,
                "tenant_id": tenant_id,
                "status": "failed" if error else "completed",
                "steps_completed": len(done),
                "steps_failed": 1 if error else 0,
                "error": error,
                "result": {"links": done, "is_up_to_date": tenant_id in outcome.settled},
            }
        )
    finish_executions(connection, pd.DataFrame(closed), now())
    write_step_logs(connection, logs)


@dataclass(frozen=True)
class Words:
    """What a workflow says of a run: when all went well, when nothing did, what the others are, and what it counts."""

    completed: str
    failed: str
    is_done: str
    unit: str = "tenant days"


PLANNING = Words(vocabulary.PRODUCTION_PLANNING_COMPLETED, vocabulary.PRODUCTION_PLANNING_FAILED, "planned")
VALIDATION = Words("Forecast validation completed", "Forecast validation failed completely", "validated")
TRAINING = Words(vocabulary.MODEL_TRAINING_COMPLETED, vocabulary.MODEL_TRAINING_FAILED, "done", unit="tenants")


def end_run(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    store: Store,
    now: Clock,
    workflow: str,
    words: Words,
    done: int,
    set_aside: pd.DataFrame,
) -> None:
    """Write the run's event, and end it in failure when tenants were set aside.

    done: tenant days, or tenants where the work has no date, that are in order. set_aside: one row for each that is not:
    plan_date, tenant_id, link, reason, remedy. Raises dagster.Failure that names them.
    """
    rows = [(row.plan_date, row.tenant_id, row.link, row.reason, row.remedy) for row in set_aside.itertuples()]
    named = ", ".join(f"{tenant_id} ({link}: {reason})" for _, tenant_id, link, reason, _ in rows[:10])
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    message = (
        f"{len(rows)} of {done + len(rows)} {words.unit} were set aside: {named}{more}. The others are {words.is_done}."
    )
    with store.transaction() as connection:
        payload = {
            "workflow_name": workflow,
            "execution_id": context.run.run_id,
            **run_totals(connection, context.run.run_id, now()),
            "timestamp": now().isoformat(),
            **({"error_message": message, "tenants_affected": sorted({row[1] for row in rows})} if rows else {}),
        }
        event = vocabulary.EVENT_WORKFLOW_FAILED if rows else vocabulary.EVENT_WORKFLOW_COMPLETED
        add_events(connection, [(event, context.run.run_id, None, payload)], now())
    if not rows:
        context.log.info(f"{words.completed}: {done} {words.unit}")
        return
    for on, tenant_id, link, reason, remedy in rows:
        context.log.error(f"{vocabulary.TENANT_PROCESSING_FAILED}: {tenant_id} on {on}, {link}: {reason} {remedy}")
    if not done:
        context.log.error(words.failed)
    raise dg.Failure(
        message,
        metadata={"set_aside": table(["date", "tenant", "link", "reason", "remedy"], rows)},
        allow_retries=False,
    )
