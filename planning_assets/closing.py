"""Closes executions: what each tenant's workflow did, link by link, in the transaction that wrote the plans."""

import uuid
from collections.abc import Mapping, Sequence

import dagster as dg
import pandas as pd

from planning_assets.chunk import Outcome
from resources import vocabulary
from resources.clock import Clock
from resources.store.database import Connection
from resources.store.executions import StepLog, finish_executions, write_step_logs

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
                "result": {"links": done},
            }
        )
    finish_executions(connection, pd.DataFrame(closed), now())
    write_step_logs(connection, logs)
