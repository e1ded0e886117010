"""Calls of Dagster that are not public: events in batches, and the failure of a lost run. (daybreak/webserver.py has two more.)

A run over thousands of tenants writes one materialization per tenant and asset, each with metadata of its own, and marks
only the tenants it set aside as failed. tests/definitions/test_dagster_events.py is the contract test: it fails when a
Dagster release changes what these calls do.
"""

import logging
import uuid
from collections.abc import Iterable, Sequence

import dagster as dg
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventBatchMetadata,
    DagsterEventType,
)
from dagster._core.instance.utils import RUNLESS_JOB_NAME

Context = dg.AssetExecutionContext | dg.OpExecutionContext


def report_materializations(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, materializations: Sequence[dg.AssetMaterialization]
) -> None:
    """Record materializations of partitions, written in batches of DAGSTER_EVENT_BATCH_SIZE."""
    step = _op_context(context)._step_execution_context
    by_asset: dict[dg.AssetKey, list[dg.AssetMaterialization]] = {}
    for materialization in materializations:
        by_asset.setdefault(materialization.asset_key, []).append(materialization)
    # A batch of its own for each asset: Dagster notes only the last event of a batch as its asset's latest, and the grid
    # of an asset whose latest event is not noted stays as it was.
    for of_asset in by_asset.values():
        batch_id = uuid.uuid4().hex
        for n, materialization in enumerate(of_asset, start=1):
            batch = DagsterEventBatchMetadata(batch_id, n == len(of_asset))
            DagsterEvent.asset_materialization(step, materialization, batch)


def mark_failed(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, partitions: Iterable[tuple[dg.AssetKey, str]]
) -> None:
    """Show partitions as failed in the grid.

    Dagster shows a partition as failed that was planned and not materialized in a run that ended in failure, so the
    caller must end the run with one.
    """
    step_key = _op_context(context)._step_execution_context.step.key
    events = [
        DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name, step_key, AssetMaterializationPlannedData(asset_key, partition=partition)
        )
        for asset_key, partition in partitions
    ]
    batch_id = uuid.uuid4().hex
    for n, event in enumerate(events, start=1):
        context.instance.report_dagster_event(
            event,
            context.run.run_id,
            logging.DEBUG,
            batch_metadata=DagsterEventBatchMetadata(batch_id, n == len(events)),
        )


def report_check_evaluations(context: Context, evaluations: Iterable[dg.AssetCheckEvaluation]) -> None:
    """Record evaluations of asset checks, each of the partition that it names, by any step of any job.

    Written one by one: Dagster does not batch them.
    """
    step = _op_context(context)._step_execution_context
    for evaluation in evaluations:
        DagsterEvent.asset_check_evaluation(step, evaluation)


def report_check_evaluations_without_run(
    instance: dg.DagsterInstance, evaluations: Iterable[dg.AssetCheckEvaluation]
) -> None:
    """Record evaluations that no run has made, as a sensor's.

    The public `report_runless_asset_event` takes one evaluation of a partition and refuses the next: its rows are unique by
    asset, check, partition and run, and they all have the same empty run. So each call has an id of its own.
    """
    nobodys_run = str(uuid.uuid4())
    for evaluation in evaluations:
        event = DagsterEvent(
            event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
            event_specific_data=evaluation,
            job_name=RUNLESS_JOB_NAME,
        )
        instance.report_dagster_event(event, nobodys_run, logging.DEBUG)


def fail_run(instance: dg.DagsterInstance, run_id: str, message: str) -> None:
    """End a run in failure, with the reason in its log, as Dagster's run monitoring does; one that has ended stays as it is."""
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, message)


def _op_context(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> dg.OpExecutionContext:
    """What an asset's context is underneath; a job of an op, whose days may lie outside the grid, has it itself."""
    return context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context
