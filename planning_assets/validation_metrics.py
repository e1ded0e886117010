"""Validation metrics: the stored forecasts of a finished day against what was sold, and its plans in money."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd

from planning.frames import set_aside_of
from planning.outcomes import PARTS, demand_of_day, judge
from planning.validation import live_residuals, validate_forecasts
from planning_assets.checks import evaluate_checks, report_checks
from planning_assets.chunk import Outcome, usable_tenants
from planning_assets.closing import VALIDATION, close_executions, end_run
from planning_assets.dagster_events import mark_failed, report_materializations
from planning_assets.link import Metadata
from planning_assets.partitions import key_of, tenant_days
from planning_assets.scope import Day, DayConfig, Scope, register_tenants, scope_of
from planning_assets.specs import TENANT, table_spec
from planning_assets.summaries import bars, number, sums, table
from resources import vocabulary
from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import Connection, Store
from resources.store.executions import held_by_run, start_executions
from resources.store.failures import record_failures, resolve_failures
from resources.store.inputs import read_hourly_profiles, read_tenants
from resources.store.outcomes import read_judged_lines, read_outlets, write_outcomes
from resources.store.plans import lock_tenants, read_planned
from resources.store.residuals import forget_live_residuals, refresh_spreads, write_residuals
from resources.store.validation import read_actuals_versions, read_validation_rows, write_validation
from resources.store.validation_trends import SHOWN_DAYS, read_trends
from resources.store.versions import input_versions

NAME = "validation_metrics"

CHECKED = (NAME, "forecast_models")
"""The assets whose checks a validation evaluates."""

HEADLINE = (
    "wape_pct",
    "naive_wape_pct",
    "mape_pct",
    "accuracy_pct",
    "bias_pct",
    "coverage_pct",
    "mae_units",
    "rmse_units",
    "r2",
    "mase",
    "pinball_units",
)
"""The overall figures that a materialization shows, and Dagster plots over the days."""

BEST_PRODUCTS = 5

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
                began = clock.now()
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
                validated_ids = list(outcome.done[NAME])
                report_checks(context, opened, validated_ids, CHECKED, window_start, began, clock.now())
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
        actuals_versions = read_actuals_versions(connection, list(tenants["tenant_id"]), day.on)
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
        of_scored = {t: versions[t] for t in sorted(scored)}
        write_validation(connection, day.on, metrics, of_scored, actuals_versions, run_id, now())
        outcomes = judge_day(connection, sorted(scored), day.on)
        write_outcomes(connection, day.on, outcomes, sorted(scored))
        described = _describe(metrics, read_trends(connection, sorted(scored), day.on), sorted(scored), day.on)
        in_money = _describe_outcomes(outcomes)
        outcome = Outcome({NAME: {t: {**described[t], **in_money.get(t, {})} for t in sorted(scored)}}, set_aside)
        close_executions(connection, executions, outcome, [NAME], now)
        record_failures(
            connection, workflow, day.on, set_aside[set_aside["tenant_id"].isin(known["tenant_id"])], run_id, now()
        )
        resolve_failures(connection, sorted(scored), day.on, now(), [NAME])
        evaluate_checks(connection, sorted(scored), day.on, run_id, now())
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


def _describe(
    metrics: pd.DataFrame, trends: pd.DataFrame, tenant_ids: Sequence[str], on: date
) -> Mapping[str, Metadata]:
    """The day's headline with what it is made of, the best and the worst products, and how the error developed."""
    headline = metrics[metrics["days_ahead"] == 0]
    overall = headline[headline["scope"] == "overall"].set_index("tenant_id")
    products = dict(tuple(headline[headline["scope"] == "product"].groupby("tenant_id")))
    locations = dict(tuple(headline[headline["scope"] == "location"].groupby("tenant_id")))
    counts = metrics.groupby("tenant_id").size()
    trend = dict(tuple(trends.groupby("tenant_id")))
    described = {}
    for tenant_id in tenant_ids:
        metadata: dict[str, dg.MetadataValue] = {
            "dagster/row_count": dg.MetadataValue.int(int(counts.get(tenant_id, 0)))
        }
        if tenant_id in overall.index:
            metadata |= _headline(overall.loc[tenant_id])
        if tenant_id in products:
            metadata |= _products(products[tenant_id])
        if len(locations.get(tenant_id, ())) > 1:
            metadata["locations_by_error"] = _errors("location", locations[tenant_id], "location_id", ascending=False)
        if tenant_id in trend:
            metadata |= _trend(trend[tenant_id], on)
        described[tenant_id] = metadata
    return described


def _headline(numbers: pd.Series) -> Metadata:
    """The overall figures that are defined, the names of those that are not, and the rows that they are made of."""
    known = {name: float(numbers[name]) for name in HEADLINE if pd.notna(numbers[name])}
    undefined = [name for name in HEADLINE if name not in known]
    covered, below = numbers["quantile_coverage"], numbers["quantile_below"]
    return {
        **{name: number(value) for name, value in known.items()},
        **({"undefined": dg.MetadataValue.text(", ".join(undefined))} if undefined else {}),
        **{
            name: dg.MetadataValue.int(int(numbers[name])) for name in ("rows_used", "rows_zero", "rows_without_actual")
        },
        "quantiles": table(
            ["quantile", "demand below it %", "demand at most it %"],
            [(level, 100 * below[level], 100 * share) for level, share in covered.items()],
        ),
    }


def _products(products: pd.DataFrame) -> Metadata:
    """The best and the worst products; those of which nothing was sold have no error and are neither."""
    ranked = products[products["wape_pct"].notna()]
    return {
        "products_by_error": _errors("product", ranked, "product_id", ascending=False),
        "best_products": _errors("product", ranked, "product_id", ascending=True, most=BEST_PRODUCTS),
        "products_without_error": dg.MetadataValue.int(len(products) - len(ranked)),
    }


def _errors(
    title: str, rows: pd.DataFrame, column: str, *, ascending: bool, most: int | None = None
) -> dg.MetadataValue:
    ranked = rows.sort_values(["wape_pct", column], ascending=[ascending, True]).head(
        len(rows) if most is None else most
    )
    return table(
        [title, "forecast", "sold", "rows", "WAPE %", "naive WAPE %", "bias %"],
        [
            (
                row[column],
                row["forecast_units"],
                row["actual_units"],
                row["rows_used"],
                row["wape_pct"],
                row["naive_wape_pct"],
                row["bias_pct"],
            )
            for row in ranked.to_dict("records")
        ],
    )


def _trend(days: pd.DataFrame, on: date) -> Metadata:
    """How the error developed: against the same weekday a week before, over the trailing days, and as a picture.

    days: the open days of the last month through the day, as `read_trends` has them.
    """
    metadata: dict[str, dg.MetadataValue] = {}
    (*_, last) = days.to_dict("records")
    if last["business_date"] == on:
        week_before = days[days["business_date"] == on - timedelta(days=7)]
        before = last["trailing_wape_pct"] - last["change_in_30_days_points"]
        for name in ("trailing_wape_pct", "week_over_week_points", "change_in_30_days_points"):
            if pd.notna(last[name]):
                metadata[name] = number(last[name])
        metadata["trend"] = table(
            ["", "WAPE %", "made of"],
            [
                ("this day", last["wape_pct"], f"{last['rows_used']} forecasts"),
                *(("a week before", row.wape_pct, f"{row.rows_used} forecasts") for row in week_before.itertuples()),
                ("trailing", last["trailing_wape_pct"], f"{last['trailing_days']} open days"),
                ("trailing, 30 days before", before, "28 open days at most"),
            ],
        )
    of_days = days.set_index("business_date").reindex([on - timedelta(days=n) for n in reversed(range(SHOWN_DAYS))])
    metadata["error_of_30_days"] = bars(
        of_days["wape_pct"].to_numpy(dtype=float),
        of_days["trailing_wape_pct"].to_numpy(dtype=float),
        "WAPE of each of the last 30 days, and trailing",
    )
    return metadata
