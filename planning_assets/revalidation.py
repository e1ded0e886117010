"""Finished days validated again, when their sales came late or their validation was missed: any days of any tenants.

This is a job of one op, not an asset's: a run by configuration must carry one of its partitions (ADR 0001), and a day from
before the window is none. Days inside the window are materialized like any other validation; the others are only stored.
"""

import logging
from collections.abc import Sequence
from datetime import date
from textwrap import shorten
from uuid import UUID

import dagster as dg
import pandas as pd
import psycopg
from pydantic import Field

from planning.frames import set_aside_of
from planning_assets.checks import report_checks
from planning_assets.chunk import BUG_REMEDY, REASON_LENGTH, Outcome
from planning_assets.closing import VALIDATION, end_run
from planning_assets.dagster_events import mark_failed, report_materializations
from planning_assets.partitions import key_of
from planning_assets.scope import Day, Scope, register_tenants
from planning_assets.summaries import table
from planning_assets.validation_metrics import CHECKED, SPEC, validate_chunk
from planning_assets.validation_metrics import NAME as VALIDATION_METRICS
from planning_assets.window import window
from resources import vocabulary
from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Store
from resources.store.executions import held_by_run
from resources.store.failures import record_failures
from resources.store.late_sales import keep_failures, read_batch_dates, read_left

NAME = "revalidation_job"
OP = "revalidation"
TRIGGERED_BY = "late_sales_sensor"
SHOWN_DAYS = 100
"""Days outside the grid that a run lists; all of them are counted."""

logger = logging.getLogger("daybreak.planning")


class RevalidationConfig(dg.Config):
    """Run configuration: the batch of ops.validation_request to validate."""

    batch_id: str = Field(description="The batch, as ops.validation_batch has it.")
    chunk_tenants: int = Field(default=500, ge=1, description="Tenants computed and written together.")


def build_revalidation_job(window_start: date) -> dg.JobDefinition:
    """The job, over a window of dates that begins at `window_start`."""

    @dg.op(name=OP, description="Score the stored forecasts of the days of a batch by their sales as they are now.")
    def revalidation(
        context: dg.OpExecutionContext, config: RevalidationConfig, store: StoreResource, clock: ClockResource
    ) -> None:
        batch_id = UUID(config.batch_id)
        began = clock.now()
        set_aside, already = [], 0
        inside: list[tuple[date, str]] = []
        outside: list[tuple[date, str]] = []
        with store.open() as opened, held_by_run(opened, context.run.run_id):
            with opened.transaction() as connection:
                dates = read_batch_dates(connection, batch_id)
            for on in dates:
                # Another batch may hold the same day for an older version of its sales: the second then finds it done.
                with opened.session() as session:
                    session.execute("SELECT pg_advisory_lock(hashtext('daybreak.revalidation'), %s)", (on.toordinal(),))
                    with opened.transaction() as connection:
                        tenant_ids = read_left(connection, batch_id, on)
                    day = Day(on, tenant_ids)
                    scope = Scope([day], "backfill", TRIGGERED_BY)
                    first, last = window(window_start, clock.now())
                    for chunk in scope.chunks(config.chunk_tenants):
                        outcome = _validate(opened, chunk, scope, context.run.run_id, clock.now)
                        is_inside = first <= on <= last
                        if is_inside:
                            _show(context, outcome, on)
                        done = inside if is_inside else outside
                        done += [(on, tenant_id) for tenant_id in outcome.done[VALIDATION_METRICS]]
                        set_aside.append(outcome.set_aside.assign(plan_date=on))
                already += not tenant_ids
                context.log.info(f"{on}: {len(tenant_ids)} tenants")
            with opened.transaction() as connection:
                # Their batch is launched again as a whole; nobody else retries them one by one.
                keep_failures(connection, context.run.run_id)
            # At the end, since each takes its time: no day waits for what is told of another. A tenant stands here once per
            # day, so that of many days only what changed is told.
            told_of = [tenant_id for _, tenant_id in inside]
            report_checks(context, opened, told_of, CHECKED, window_start, began, clock.now())
            validated = len(inside) + len(outside)
            context.add_output_metadata(
                {
                    "days_validated": validated,
                    "dates_done_before": already,
                    "days_outside_the_grid": len(outside),
                    "outside_the_grid": table(["date", "tenant"], outside[:SHOWN_DAYS]),
                }
            )
            problems = pd.concat(set_aside, ignore_index=True) if set_aside else set_aside_of().assign(plan_date=None)
            end_run(context, opened, clock.now, vocabulary.FORECAST_VALIDATION, VALIDATION, validated, problems)

    @dg.job(
        name=NAME,
        description="Validate finished days again: their sales came late, or their validation was missed.",
        executor_def=dg.in_process_executor,
    )
    def revalidation_job() -> None:
        revalidation()

    return revalidation_job


def _validate(store: Store, day: Day, scope: Scope, run_id: str, now: Clock) -> Outcome:
    """Validate a chunk; when it raises, each half for itself, down to the tenant at fault, who is set aside.

    A fault of the database is raised, since it is nobody's data.
    """
    try:
        return validate_chunk(store, day, scope, vocabulary.FORECAST_VALIDATION, run_id, now)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except Exception as error:
        if len(day.tenant_ids) == 1:
            logger.exception("%s: %s on %s", vocabulary.TENANT_PROCESSING_FAILED, day.tenant_ids[0], day.on)
            return _set_aside(store, day, error, run_id, now)
        logger.warning(
            "A chunk of %s tenants failed (%s); validating its halves.", len(day.tenant_ids), type(error).__name__
        )
    outcome = Outcome({VALIDATION_METRICS: {}})
    middle = len(day.tenant_ids) // 2
    for half in (day.tenant_ids[:middle], day.tenant_ids[middle:]):
        outcome.add(_validate(store, Day(day.on, half), scope, run_id, now))
    return outcome


def _set_aside(store: Store, day: Day, error: Exception, run_id: str, now: Clock) -> Outcome:
    reason = shorten(f"{type(error).__name__}: {error}", REASON_LENGTH)
    problems = set_aside_of([(day.tenant_ids[0], VALIDATION_METRICS, reason, BUG_REMEDY)])
    with store.transaction() as connection:
        record_failures(connection, vocabulary.FORECAST_VALIDATION, day.on, problems, run_id, now())
    return Outcome({VALIDATION_METRICS: {}}, problems)


def _show(context: dg.OpExecutionContext, outcome: Outcome, on: date) -> None:
    """Materialize the days of a date in the grid, and mark those that were set aside as failed."""
    done = outcome.done[VALIDATION_METRICS]
    aside: Sequence[str] = list(outcome.set_aside["tenant_id"])
    register_tenants(context.instance, [*done, *aside])
    report_materializations(
        context,
        [
            dg.AssetMaterialization(VALIDATION_METRICS, partition=key_of(on, tenant_id), metadata=metadata)
            for tenant_id, metadata in done.items()
        ],
    )
    if aside:
        mark_failed(context, [(SPEC.key, key_of(on, tenant_id)) for tenant_id in aside])
