"""Validation metrics: the stored forecasts of a finished day against what was sold, and its plans in money."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import pandas as pd

from planning.frames import set_aside_of
from planning.outcomes import PARTS, demand_of_day, judge
from planning.validation import live_residuals, validate_forecasts
from planning_assets.chunk import Outcome, usable_tenants
from planning_assets.closing import VALIDATION, close_executions, end_run
from planning_assets.dagster_events import mark_failed, report_materializations
from planning_assets.link import Metadata
from planning_assets.partitions import key_of, tenant_days
from planning_assets.scope import Day, DayConfig, Scope, register_tenants, scope_of
from planning_assets.specs import TENANT, table_spec
from planning_assets.summaries import number, sums, table
from resources import vocabulary
from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Connection, Store
from resources.store.executions import held_by_run, start_executions
from resources.store.inputs import read_hourly_profiles, read_tenants
from resources.store.outcomes import read_judged_lines, read_outlets, write_outcomes
from resources.store.plans import lock_tenants, read_planned, record_failures, resolve_failures
from resources.store.residuals import forget_live_residuals, refresh_spreads, write_residuals
from resources.store.validation import read_validation_rows, write_validation
from resources.store.versions import input_versions

NAME = "validation_metrics"

SPEC = table_spec(
    NAME,
    table="quality.validation_metric",
    group="quality",
    deps=["forecasts", "production_plans", "sales"],
    description=(
        "How good the forecasts of a finished day were: every stored forecast with that target date, by days ahead, "
        "overall, per location and per product, beside seasonal naive on the same rows. Null where undefined. The day's "
        "production plans are judged with them, in quality.plan_outcome: what they cost and what a better choice had saved."
    ),
    columns=[
        TENANT,
        ("business_date", "date", "the finished day, in the tenant's time zone"),
        ("scope", "text", "overall, location or product"),
        ("days_ahead", "smallint", "target date minus plan date; 0 is the headline"),
        ("wape_pct", "double precision", "absolute error in % of units sold"),
        ("mape_pct", "double precision", "mean absolute error in %, rows with sales only"),
        ("bias_pct", "double precision", "forecast minus sold in % of units sold"),
        ("naive_wape_pct", "double precision", "seasonal naive on the same rows"),
        ("coverage_pct", "double precision", "forecasts that have an actual, in %"),
    ],
)


def build_validation_metrics(window_start: date) -> dg.AssetsDefinition:
    """The asset over a window of dates that begins at `window_start`."""

    @dg.multi_asset(
        name="forecast_validation",
        specs=[SPEC.replace_attributes(partitions_def=tenant_days(window_start))],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def forecast_validation(
        context: dg.AssetExecutionContext, config: DayConfig, store: StoreResource, clock: ClockResource
    ) -> Iterator[dg.MaterializeResult]:
        # Each tenant is reported with an event of its own; an output would be one event for all of them.
        yield from ()
        scope = scope_of(context, config, window_start, clock.now())
        set_aside, validated = [], 0
        workflow = config.workflow or vocabulary.FORECAST_VALIDATION
        with store.open() as opened, held_by_run(opened, context.run.run_id):
            for chunk in scope.chunks(config.chunk_tenants):
                outcome = validate_chunk(
                    opened,
                    chunk,
                    scope,
                    workflow,
                    context.run.run_id,
                    clock.now,
                )
                register_tenants(context.instance, list(outcome.done[NAME]))
                report_materializations(
                    context,
                    [
                        dg.AssetMaterialization(NAME, partition=key_of(chunk.on, tenant_id), metadata=metadata)
                        for tenant_id, metadata in outcome.done[NAME].items()
                    ],
                )
                if len(outcome.set_aside):
                    mark_failed(
                        context,
                        [(SPEC.key, key_of(chunk.on, tenant_id)) for tenant_id in outcome.set_aside["tenant_id"]],
                    )
                validated += len(outcome.done[NAME])
                set_aside.append(outcome.set_aside.assign(plan_date=chunk.on))
                context.log.info(
                    f"{chunk.on}: {len(outcome.done[NAME])} tenants validated, {len(outcome.set_aside)} set aside"
                )
            problems = pd.concat(set_aside, ignore_index=True) if set_aside else pd.DataFrame()
            end_run(context, opened, clock.now, workflow, VALIDATION, validated, problems)

    return forecast_validation


def validate_chunk(store: Store, day: Day, scope: Scope, workflow: str, run_id: str, now: Clock) -> Outcome:
    """Score the stored forecasts of a finished day and judge its production plans, in one transaction.

    Both replace what an earlier validation of the day has kept.
    """
    with store.transaction() as connection:
        lock_tenants(connection, day.tenant_ids)
        known = read_tenants(connection, day.tenant_ids)
        tenants, unusable = usable_tenants(known, day.tenant_ids, day.on, now())
        executions = start_executions(
            connection,
            workflow,
            scope.type,
            scope.triggered_by,
            list(known["tenant_id"]),
            day.on,
            1,
            run_id,
            platform.node(),
            now(),
        )
        unfinished = [
            row.tenant_id for row in tenants.itertuples() if now().astimezone(ZoneInfo(row.timezone)).date() <= day.on
        ]
        # The versions before the rows: an import between the two reads then makes the validation stale, not wrong.
        versions = input_versions(connection, list(tenants["tenant_id"]))
        rows = read_validation_rows(connection, [t for t in tenants["tenant_id"] if t not in unfinished], day.on)
        scored = set(rows["tenant_id"])
        unscored = [t for t in tenants["tenant_id"] if t not in scored and t not in unfinished]
        # Plans with nothing to score, as of a day on which the bakery was closed, are validated and have no metrics.
        scored |= read_planned(connection, unscored, day.on, "forecast")
        unscored = [t for t in unscored if t not in scored]
        problems = [
            *((t, NAME, "The day is not over in the tenant's time zone.", "Validate it tomorrow.") for t in unfinished),
            *(
                (
                    t,
                    NAME,
                    "There is no forecast for this day.",
                    f"Plan it first: daybreak plan run --tenant {t} --date {day.on}.",
                )
                for t in unscored
            ),
        ]
        validation = validate_forecasts(rows)
        scored -= set(validation.set_aside["tenant_id"])
        parts = [
            part for part in (unusable.assign(link=NAME), set_aside_of(problems), validation.set_aside) if len(part)
        ]
        set_aside = pd.concat(parts, ignore_index=True) if parts else set_aside_of()
        metrics = validation.metrics
        residuals = live_residuals(rows[~rows["tenant_id"].isin(validation.set_aside["tenant_id"])])
        forget_live_residuals(connection, sorted(scored), day.on)
        write_residuals(connection, residuals.assign(business_date=day.on), is_live=True)
        refresh_spreads(connection, sorted(residuals["tenant_id"].unique()), day.on)
        write_validation(connection, day.on, metrics, {t: versions[t] for t in sorted(scored)}, run_id, now())
        outcomes = judge_day(connection, sorted(scored), day.on)
        write_outcomes(connection, day.on, outcomes, sorted(scored))
        described = _describe(metrics, sorted(scored))
        in_money = _describe_outcomes(outcomes)
        outcome = Outcome({NAME: {t: {**described[t], **in_money.get(t, {})} for t in sorted(scored)}}, set_aside)
        close_executions(connection, executions, outcome, [NAME], now)
        record_failures(
            connection, workflow, day.on, set_aside[set_aside["tenant_id"].isin(known["tenant_id"])], run_id, now()
        )
        resolve_failures(connection, sorted(scored), day.on, now(), [NAME])
    return outcome


def judge_day(connection: Connection, tenant_ids: Sequence[str], on: date) -> pd.DataFrame:
    """What the tenants' production plans of a finished day cost, as `planning.outcomes.judge` has it.

    A tenant without a production plan, as one that was only forecast, has no rows.
    """
    actuals = demand_of_day(read_outlets(connection, tenant_ids, on), read_hourly_profiles(connection, tenant_ids), on)
    return judge(read_judged_lines(connection, tenant_ids, on), actuals)


def _describe_outcomes(outcomes: pd.DataFrame) -> Mapping[str, Metadata]:
    """What the day cost and the parts of its regret, with the products that lost the most money first.

    Products whose costs are unknown are counted and left out of the sums: theirs are shares, not money.
    """
    described = {}
    for tenant_id, rows in outcomes.groupby("tenant_id"):
        in_money = rows[~rows["is_default_critical_ratio"]]
        worst = in_money.sort_values(["regret", "cost", "product_id"], ascending=[False, False, True])
        described[str(tenant_id)] = {
            **sums(in_money, {"mismatch_cost": "cost", "regret": "regret", **{part: part for part in PARTS}}),
            "lines_judged": dg.MetadataValue.int(len(rows)),
            "lines_judged_without_cost": dg.MetadataValue.int(len(rows) - len(in_money)),
            "lines_sold_out": dg.MetadataValue.int(int(rows["is_censored"].sum())),
            "products_by_money_lost": table(
                ["location", "product", "supply", "asked for", "best", "cost", "regret", *(_part(p) for p in PARTS)],
                [
                    (
                        row.location_id,
                        row.product_id,
                        row.made_units + row.opening_units,
                        f"{row.demand_units:,.1f}{' (sold out)' if row.is_censored else ''}",
                        row.hindsight_units,
                        row.cost,
                        row.regret,
                        *(getattr(row, part) for part in PARTS),
                    )
                    for row in worst.itertuples()
                ],
            ),
        }
    return described


def _part(name: str) -> str:
    return name.removeprefix("regret_")


def _describe(metrics: pd.DataFrame, tenant_ids: Sequence[str]) -> Mapping[str, Metadata]:
    headline = metrics[metrics["days_ahead"] == 0]
    overall = headline[headline["scope"] == "overall"].set_index("tenant_id")
    products = dict(tuple(headline[headline["scope"] == "product"].groupby("tenant_id")))
    counts = metrics.groupby("tenant_id").size()
    described = {}
    for tenant_id in tenant_ids:
        metadata: dict[str, dg.MetadataValue] = {
            "dagster/row_count": dg.MetadataValue.int(int(counts.get(tenant_id, 0)))
        }
        if tenant_id in overall.index:
            numbers = overall.loc[tenant_id]
            for name in ("wape_pct", "naive_wape_pct", "mape_pct", "bias_pct", "coverage_pct", "mae_units"):
                if np.isfinite(float(numbers[name] if numbers[name] is not None else np.nan)):
                    metadata[name] = number(numbers[name])
            metadata["rows_used"] = dg.MetadataValue.int(int(numbers["rows_used"]))
        if tenant_id in products:
            worst = products[tenant_id].sort_values("wape_pct", ascending=False)
            metadata["products_by_error"] = table(
                ["product", "forecast", "sold", "WAPE %", "naive WAPE %"],
                [
                    (row.product_id, row.forecast_units, row.actual_units, row.wape_pct, row.naive_wape_pct)
                    for row in worst.itertuples()
                ],
            )
        described[tenant_id] = metadata
    return described
