"""The daily batch: five assets made in one run for any number of tenants, each tenant with an outcome of its own."""

import platform
from collections.abc import Iterator, Sequence
from datetime import date, datetime

import dagster as dg
import pandas as pd

from planning_assets import demand_history, forecasts, inventory_projections, procurement_plans, production_plans
from planning_assets.checks import evaluate_plan_checks, report_checks
from planning_assets.chunk import Order, Outcome, plan_chunk
from planning_assets.closing import PLANNING, close_executions, end_run
from planning_assets.dagster_events import mark_failed, report_materializations
from planning_assets.link import Link
from planning_assets.partitions import key_of, tenant_days
from planning_assets.scope import Day, DayConfig, Scope, register_tenants, scope_of
from resources import vocabulary
from resources.clock import Clock
from resources.dagster_resources import CacheResource, ClockResource, ModelCacheResource, StoreResource
from resources.forecast_cache import ForecastCache
from resources.forecast_reader import publish_current
from resources.model_cache import ModelCache
from resources.store.database import Connection, Store
from resources.store.executions import held_by_run, start_executions
from resources.store.failures import record_failures, resolve_failures
from resources.store.inputs import read_tenants
from resources.store.plans import mark_reported, up_to_date

LINKS: tuple[Link, ...] = (
    demand_history.LINK,
    forecasts.LINK,
    production_plans.LINK,
    procurement_plans.LINK,
    inventory_projections.LINK,
)
"""The chain, in order. Each link reads the ones before it."""

CHECKED = (forecasts.LINK.name, production_plans.LINK.name)
"""The assets whose checks a morning evaluates."""


def build_daily_plan(window_start: date) -> dg.AssetsDefinition:
    """The batch's assets over a window of dates that begins at `window_start`."""
    partitions = tenant_days(window_start)

    @dg.multi_asset(
        name="daily_plan",
        specs=[link.spec.replace_attributes(partitions_def=partitions) for link in LINKS],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def daily_plan(
        context: dg.AssetExecutionContext,
        config: DayConfig,
        store: StoreResource,
        cache: CacheResource,
        model_cache: ModelCacheResource,
        clock: ClockResource,
    ) -> Iterator[dg.MaterializeResult]:
        # Each tenant is reported with an event of its own; an output would be one event for all of them.
        yield from ()
        scope = scope_of(context, config, window_start, clock.now())
        selected = [link.name for link in LINKS if link.spec.key in context.selected_asset_keys]
        total = sum(len(day.tenant_ids) for day in scope.days)
        planned, failed = 0, []
        with store.open() as opened, cache.open() as forecast_cache, held_by_run(opened, context.run.run_id):
            for chunk in scope.chunks(config.chunk_tenants):
                began = clock.now()
                due = (
                    _due(context, opened, chunk, selected, began) if config.skip_up_to_date else list(chunk.tenant_ids)
                )
                planned += len(chunk.tenant_ids) - len(due)
                if due:
                    outcome = run_chunk(
                        context,
                        opened,
                        model_cache.cache,
                        clock.now,
                        Day(chunk.on, due),
                        selected,
                        scope,
                        config.workflow or vocabulary.DAILY_OPERATIONS,
                        config.skip_up_to_date,
                    )
                    _publish(context, opened, forecast_cache, chunk.on, outcome, clock.now)
                    planned += len(due) - len(outcome.set_aside)
                    failed.append(outcome.set_aside.assign(plan_date=chunk.on))
                report_checks(context, opened, chunk.tenant_ids, CHECKED, window_start, began, clock.now())
                context.log.info(f"{planned} of {total} tenant days planned, {sum(map(len, failed))} set aside")
            set_aside = pd.concat(failed, ignore_index=True) if failed else pd.DataFrame()
            workflow = config.workflow or vocabulary.DAILY_OPERATIONS
            end_run(context, opened, clock.now, workflow, PLANNING, planned, set_aside)

    return daily_plan


def run_chunk(
    context: dg.AssetExecutionContext,
    store: Store,
    model_cache: ModelCache,
    now: Clock,
    day: Day,
    selected: Sequence[str],
    scope: Scope,
    workflow: str,
    is_skipping_up_to_date: bool,
) -> Outcome:
    """Plan one chunk: executions opened, plans written, executions closed, events reported."""
    with store.transaction() as connection:
        known = list(read_tenants(connection, day.tenant_ids)["tenant_id"])
        executions = start_executions(
            connection,
            workflow,
            scope.type,
            scope.triggered_by,
            known,
            day.on,
            len(selected),
            context.run.run_id,
            platform.node(),
            now(),
        )
    register_tenants(context.instance, known)

    def settle(connection: Connection, outcome: Outcome) -> None:
        touched = outcome.settled.union(outcome.set_aside["tenant_id"], *outcome.done.values())
        close_executions(connection, {t: e for t, e in executions.items() if t in touched}, outcome, selected, now)
        at_fault = outcome.set_aside[outcome.set_aside["tenant_id"].isin(known)]
        record_failures(connection, workflow, day.on, at_fault, context.run.run_id, now())
        for name, done in outcome.done.items():
            resolve_failures(connection, sorted(done), day.on, now(), [name])

    order = Order(LINKS, selected, day.on, context.run.run_id, now(), model_cache, is_skipping_up_to_date)
    outcome = plan_chunk(store, order, day.tenant_ids, settle)
    reported_elsewhere = outcome.settled.union(outcome.set_aside["tenant_id"])
    complete = [tenant_id for tenant_id in known if tenant_id not in reported_elsewhere]
    _report(context, day.on, outcome, selected)
    with store.transaction() as connection:
        mark_reported(connection, day.on, complete, _kinds(selected))
        # Of plans that are committed: a fault of the checks takes none away, and is raised with the run.
        evaluate_plan_checks(connection, complete, day.on, context.run.run_id, now())
    return outcome


def _kinds(selected: Sequence[str]) -> list[str]:
    return [link.kind for link in LINKS if link.name in selected and link.kind is not None]


def _due(
    context: dg.AssetExecutionContext, store: Store, day: Day, selected: Sequence[str], now: datetime
) -> list[str]:
    """The tenants whose plan is not up to date. One that is, but whose event a kill swallowed, gets its event here."""
    with store.transaction() as connection:
        tenants = read_tenants(connection, day.tenant_ids)
        run_dates = {
            row.tenant_id: day.on - pd.Timedelta(days=row.plan_lead_days).to_pytimedelta()
            for row in tenants.itertuples()
        }
        state = up_to_date(connection, list(run_dates), day.on, run_dates)
    current = state[state["is_current"]]
    unreported = list(current.loc[~current["is_reported"], "tenant_id"])
    if unreported:
        context.log.info(
            f"{len(unreported)} tenants were planned by a run that died before reporting; reporting them now"
        )
        restored = {"restored": dg.MetadataValue.text("planned by an earlier run that died before reporting")}
        _report(context, day.on, Outcome({name: dict.fromkeys(unreported, restored) for name in selected}), selected)
        with store.transaction() as connection:
            mark_reported(connection, day.on, unreported, _kinds(selected))
            evaluate_plan_checks(connection, unreported, day.on, context.run.run_id, now)
    settled = set(current["tenant_id"])
    return [tenant_id for tenant_id in day.tenant_ids if tenant_id not in settled]


def _publish(
    context: dg.AssetExecutionContext, store: Store, cache: ForecastCache, on: date, outcome: Outcome, now: Clock
) -> None:
    """Put the chunk's forecasts, which are committed and reported, where readers look first. No fault of Redis is raised."""
    tenant_ids = sorted(outcome.done.get(forecasts.LINK.name, {}))
    published = publish_current(store, cache, tenant_ids, on, now().date())
    if published:
        context.log.info(f"{published} tenants' forecasts for {on} are in the cache")


def _report(context: dg.AssetExecutionContext, on: date, outcome: Outcome, selected: Sequence[str]) -> None:
    report_materializations(
        context,
        [
            dg.AssetMaterialization(name, partition=key_of(on, tenant_id), metadata=metadata)
            for name in selected
            for tenant_id, metadata in outcome.done.get(name, {}).items()
        ],
    )
    missing = [
        (dg.AssetKey(name), key_of(on, tenant_id))
        for tenant_id in outcome.set_aside["tenant_id"]
        for name in selected
        if tenant_id not in outcome.done.get(name, {})
    ]
    if missing:
        mark_failed(context, missing)
