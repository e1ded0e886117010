"""Asset checks: what is claimed of a tenant's day is evaluated, kept in quality.check_result, and told to Dagster.

The table is the truth and has every result. An evaluation costs Dagster about 14 ms, which batches do not lower, so of a large
batch it is told what is new: a tenant's first result of a check, and each change. A failed check fails no run.
"""

import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd

from planning import checks
from planning.checks import CHECKED_ASSETS, CheckResult
from planning_assets.dagster_events import Context, report_check_evaluations, report_check_evaluations_without_run
from planning_assets.partitions import TENANTS, key_of, tenant_days
from planning_assets.summaries import table
from planning_assets.window import window
from resources import vocabulary
from resources.clock import is_time_zone
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.checks import (
    mark_told,
    read_forecast_faults,
    read_headline_days,
    read_later_validations,
    read_measure,
    read_models,
    read_plan_faults,
    read_planning_times,
    read_product_errors,
    read_production_planned,
    read_statuses,
    read_untold,
    read_waiting_failures,
    write_results,
)
from resources.store.database import Connection, Store
from resources.store.pauses import read_paused
from resources.store.policies import read_special_times

EVERY_RESULT_TENANTS = 10
"""Up to so many tenants of a day Dagster is told every result, so that the grid of a small installation has no holes."""

PLAN_GRACE = timedelta(hours=1)
"""After the time of production planning, until a tenant without a plan is called late."""

LEAST_SINCE = datetime.min.replace(tzinfo=UTC)

DESCRIPTIONS: Final = {
    checks.TRAILING_ERROR: (
        "The error of the last 28 open days, weighted by units, is at most 30 %; above 20 % it warns. The day's own error is "
        "shown beside it. `daybreak settings set error-measure mape` makes it the plain MAPE."
    ),
    checks.ERROR_RISE: "The error of the last 28 open days is at most 5 points above what it was 30 days before.",
    checks.CALIBRATION: (
        "Of the last 28 open days' actuals, shares below and at most the 0.1, 0.5 and 0.9 quantiles enclose these levels, "
        "give or take 5 points, where there are at least 200."
    ),
    checks.COVERAGE: "At least 90 % of the day's forecasts have an actual.",
    checks.MODEL_AGE: "The model that serves was trained at most 30 days before; undefined where rules serve.",
    checks.FORECASTS_COMPLETE: "Every series of the assortment has 14 days of forecasts, none of them negative.",
    checks.PLAN_INVARIANTS: (
        "Nothing planned is negative, quantities are whole batches and packs, probabilities lie within 0 and 1, and no plan "
        "is active twice."
    ),
    checks.TODAYS_PLAN: "The tenant had its production plan an hour after its planning time.",
    checks.STAYS_FAILED: "No failure of the tenant waits for a person.",
}


def build_checks(window_start: date) -> list[dg.AssetChecksDefinition]:
    """Every check with its grid, one step per asset. A step looks again at the partitions that a person has chosen.

    Jobs that plan and validate leave these steps out: they evaluate their whole batch themselves.
    """
    names: dict[str, list[str]] = {}
    for name, asset in CHECKED_ASSETS.items():
        names.setdefault(asset, []).append(name)
    return [_checks_of(asset, of_asset, window_start) for asset, of_asset in names.items()]


def _checks_of(asset: str, names: Sequence[str], window_start: date) -> dg.AssetChecksDefinition:
    partitions = TENANTS if asset == CHECKED_ASSETS[checks.MODEL_AGE] else tenant_days(window_start)
    with warnings.catch_warnings():
        # Partitions of checks are a preview in Dagster 1.13, and it says so each time that definitions load.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(name, asset=asset, description=DESCRIPTIONS[name], partitions_def=partitions)
            for name in names
        ]

    @dg.multi_asset_check(name=f"{asset}_checks", specs=specs, can_subset=True)
    def look_again(
        context: dg.AssetCheckExecutionContext, store: StoreResource, clock: ClockResource
    ) -> Iterator[dg.AssetCheckEvaluation]:
        run = context.op_execution_context
        if not (run.has_partition_key or run.has_partition_key_range):
            raise dg.Failure(
                "A check is of a tenant's day. Remedy: choose the partitions that it shall look at.",
                allow_retries=False,
            )
        now = clock.now()
        days = _chosen_days([str(key) for key in run.partition_keys], now)
        with store.open() as opened, opened.transaction() as connection:
            for on, tenant_ids in sorted(days.items()):
                _evaluate(connection, asset, tenant_ids, on, run.run_id, now)
                last = date.max if partitions is TENANTS else on
                rows = read_untold(
                    connection, tenant_ids, [asset], (on, last), evaluated_since=LEAST_SINCE, is_again=True
                )
                chosen = rows[rows["check_name"].isin([key.name for key in context.selected_asset_check_keys])]
                yield from (evaluation_of(row) for row in chosen.to_dict("records"))
                mark_told(connection, chosen)

    return look_again


def _chosen_days(keys: Sequence[str], now: datetime) -> dict[date, list[str]]:
    """The days and tenants of partition keys; a key that is a tenant alone, as of its model, means yesterday in UTC."""
    days: dict[date, list[str]] = {}
    for key in keys:
        day, _, tenant_id = key.rpartition("|")
        on = date.fromisoformat(day) if day else now.astimezone(UTC).date() - timedelta(days=1)
        days.setdefault(on, []).append(tenant_id)
    return days


def _evaluate(
    connection: Connection, asset: str, tenant_ids: Sequence[str], on: date, run_id: str, now: datetime
) -> None:
    if asset in (CHECKED_ASSETS[checks.TRAILING_ERROR], CHECKED_ASSETS[checks.MODEL_AGE]):
        evaluate_checks(connection, tenant_ids, on, run_id, now)
    else:
        evaluate_plan_checks(connection, tenant_ids, on, run_id, now)
        if asset == CHECKED_ASSETS[checks.TODAYS_PLAN]:
            write_instance_checks(connection, now, run_id)


def evaluate_checks(
    connection: Connection, tenant_ids: Sequence[str], on: date, run_id: str | None, now: datetime
) -> None:
    """Evaluate what is claimed of a validated day's errors, and of the models, in the transaction that validated it.

    What was sold on a day counts in the trend of the days after it, so a tenant that has been validated for a later day is
    looked at for its last one too.
    """
    measure = read_measure(connection)
    days = {on: list(tenant_ids), **read_later_validations(connection, tenant_ids, on)}
    for day, of_day in days.items():
        results = [(day, result) for result in _error_results(connection, of_day, day, measure)]
        models = read_models(connection, of_day)
        for tenant_id in of_day:
            version, trained_on = models.get(tenant_id, (None, None))
            results.append((day, checks.check_model_age(tenant_id, day, version, trained_on)))
        write_results(connection, results, run_id, now)


def _error_results(
    connection: Connection, tenant_ids: Sequence[str], on: date, measure: checks.Measure
) -> Iterator[CheckResult]:
    found = read_headline_days(connection, tenant_ids, on)
    by_tenant = dict(tuple(found.groupby("tenant_id")))
    days = {tenant_id: by_tenant.get(tenant_id, found.iloc[:0]) for tenant_id in tenant_ids}
    trailing = {tenant_id: checks.trailing_error(of, on, measure) for tenant_id, of in days.items()}
    spans = {
        tenant_id: (error.first_on, error.last_on)
        for tenant_id, error in trailing.items()
        if checks.error_level(error.error_pct) in ("warned", "failed") and error.first_on and error.last_on
    }
    products = read_product_errors(connection, spans, measure)
    of_products = dict(tuple(products.groupby("tenant_id")))
    for tenant_id, of in days.items():
        error, of_tenant = trailing[tenant_id], of_products.get(tenant_id, products.iloc[:0])
        of_day = of.loc[of["business_date"] == on, f"{measure}_pct"].dropna()
        day_error = float(of_day.iloc[0]) if len(of_day) else None
        earlier = checks.trailing_error(of, on - timedelta(days=checks.RISE_DAYS), measure)
        yield checks.check_trailing_error(tenant_id, on, error, day_error, of_tenant, measure)
        yield checks.check_error_rise(tenant_id, error, earlier, measure)
        yield checks.check_calibration(tenant_id, of, on)
        yield checks.check_coverage(tenant_id, on, of)


def evaluate_plan_checks(
    connection: Connection, tenant_ids: Sequence[str], plan_date: date, run_id: str | None, now: datetime
) -> None:
    """Evaluate what is claimed of the active forecasts and plans of a date."""
    results = []
    for name, faults in (
        (checks.FORECASTS_COMPLETE, read_forecast_faults(connection, tenant_ids, plan_date)),
        (checks.PLAN_INVARIANTS, read_plan_faults(connection, tenant_ids, plan_date)),
    ):
        by_tenant = {str(tenant_id): rows for tenant_id, rows in faults.groupby("tenant_id")}
        for tenant_id in tenant_ids:
            rows = by_tenant.get(tenant_id, faults.iloc[:0])
            broken = rows[rows["fault"] != ""]
            example = broken["example"].iloc[0] if len(broken) else ""
            counts = dict(zip(broken["fault"], broken["lines"], strict=True))
            results.append((plan_date, checks.check_faults(name, tenant_id, int(rows["lines"].sum()), counts, example)))
    write_results(connection, results, run_id, now)


def write_instance_checks(connection: Connection, now: datetime, run_id: str | None = None) -> list[CheckResult]:
    """Evaluate what is claimed of the instance, tenant by tenant: plans by their deadline, and failures left to people.

    Returns the results that are new or have changed, which alone are written. A tenant that is paused, or younger than its
    planning time, or whose policy skips the day, owes no plan.
    """
    new = [*_late_plans(connection, now), *_waiting(connection, now)]
    known = {name: read_statuses(connection, name) for name in (checks.TODAYS_PLAN, checks.STAYS_FAILED)}
    changed = [
        (on, result)
        for on, result in new
        if known[result.check_name].get((result.tenant_id, on)) != (result.status, result.value)
    ]
    write_results(connection, changed, run_id, now)
    return [result for _, result in changed]


def _late_plans(connection: Connection, now: datetime) -> Iterator[tuple[date, CheckResult]]:
    paused = read_paused(connection)
    times = read_planning_times(connection)
    # What is today and yesterday in any time zone.
    days = [now.astimezone(UTC).date() + timedelta(days=n) for n in (-2, -1, 0, 1)]
    special = read_special_times(connection, vocabulary.PRODUCTION_PLANNING, list(times["tenant_id"]), days)
    due: dict[tuple[str, date], str] = {}
    for row in times.itertuples():
        if paused.holds(row.tenant_id) or not is_time_zone(row.timezone):
            continue
        zone = ZoneInfo(row.timezone)
        today = now.astimezone(zone).date()
        # A planning time late in the evening has its deadline on the day after.
        for day in (today, today - timedelta(days=1)):
            at = special.get((row.tenant_id, day), row.planned_at)
            if at is None:
                continue
            planned_at = datetime.combine(day, at, zone).astimezone(UTC)
            if planned_at + PLAN_GRACE <= now:
                if row.created_at < planned_at:
                    plan_date = day + timedelta(days=int(row.plan_lead_days))
                    deadline = (planned_at + PLAN_GRACE).astimezone(zone)
                    due[row.tenant_id, plan_date] = f"{deadline:%H:%M} on {deadline:%Y-%m-%d} ({row.timezone})"
                break
    planned = read_production_planned(connection, list(due))
    for (tenant_id, plan_date), due_by in due.items():
        has_plan = (tenant_id, plan_date) in planned
        yield plan_date, checks.check_todays_plan(tenant_id, plan_date, has_plan, due_by)


def _waiting(connection: Connection, now: datetime) -> Iterator[tuple[date, CheckResult]]:
    """Those who have failures waiting, and those of whom it was last said that they had."""
    waiting = read_waiting_failures(connection)
    states = read_statuses(connection, checks.STAYS_FAILED)
    said = {tenant_id: on for (tenant_id, on), (status, _) in states.items() if status == "failed"}
    today = now.astimezone(UTC).date()
    for tenant_id in sorted({*waiting, *said}):
        # Of the day on which it was said last, unless more is known of a later one: one row lasts as long as the failure.
        yield said.get(tenant_id, today), checks.check_stays_failed(tenant_id, waiting.get(tenant_id, []))


def report_instance_checks(
    instance: dg.DagsterInstance, store: Store, window_start: date, now: datetime, most: int = 100
) -> list[CheckResult]:
    """Evaluate the checks of the instance, and tell Dagster of at most `most` changes; returns what is new or has changed.

    For a sensor: what is not told now is told at a later tick.
    """
    with store.transaction() as connection:
        changed = write_instance_checks(connection, now)
        tenant_ids = [row.tenant_id for row in read_planning_times(connection).itertuples()]
        untold = read_untold(
            connection,
            tenant_ids,
            [CHECKED_ASSETS[checks.TODAYS_PLAN]],
            window(window_start, now),
            evaluated_since=now - timedelta(days=1),
            is_every=len(tenant_ids) <= EVERY_RESULT_TENANTS,
        )
    of_instance = untold[untold["check_name"].isin([checks.TODAYS_PLAN, checks.STAYS_FAILED])].head(most)
    report_check_evaluations_without_run(instance, [evaluation_of(row) for row in of_instance.to_dict("records")])
    with store.transaction() as connection:
        mark_told(connection, of_instance)
    return changed


def report_checks(
    context: Context,
    store: Store,
    tenant_ids: Sequence[str],
    assets: Sequence[str],
    window_start: date,
    since: datetime,
    now: datetime,
) -> int:
    """Tell Dagster what a run has found out about these tenants since an instant; returns how many evaluations that took.

    Days outside the grid are kept in our table alone. A kill before the end tells some of it twice, which nobody sees.
    """
    # A person who materializes in the web UI has these very checks planned by Dagster, which waits for each of them.
    is_by_hand = context.run.job_name.startswith("__ASSET_JOB")
    is_every = len(tenant_ids) <= EVERY_RESULT_TENANTS
    with store.transaction() as connection:
        untold = read_untold(
            connection,
            tenant_ids,
            assets,
            window(window_start, now),
            evaluated_since=since,
            is_every=is_every,
            is_again=is_every and is_by_hand,
        )
    report_check_evaluations(context, [evaluation_of(row) for row in untold.to_dict("records")])
    with store.transaction() as connection:
        mark_told(connection, untold)
    return len(untold)


def evaluation_of(row: dict[Any, Any]) -> dg.AssetCheckEvaluation:
    """What Dagster shows of a row of quality.check_result. It has no undefined: that is shown as passed, and says so."""
    is_model = row["asset"] == CHECKED_ASSETS[checks.MODEL_AGE]
    details = dict(row["details"])
    metadata: dict[str, dg.MetadataValue] = {"status": dg.MetadataValue.text(row["status"])}
    for name in ("value", "threshold"):
        if not pd.isna(row[name]):
            metadata[name] = dg.MetadataValue.float(round(float(row[name]), 2))
    products = details.pop("products", [])
    if products:
        metadata["products"] = table(
            ["product", "WAPE %", "units sold", "money lost"],
            [(each["product_id"], each["wape_pct"], each["units"], each["money"]) for each in products],
        )
    for name, value in details.items():
        if isinstance(value, dict | list):
            metadata[name] = dg.MetadataValue.json(value)
        elif isinstance(value, str):
            metadata[name] = dg.MetadataValue.text(value)
        elif value is not None:
            metadata[name] = dg.MetadataValue.float(float(value))
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(row["asset"]),
        check_name=row["check_name"],
        passed=row["status"] in ("passed", "undefined"),
        metadata=metadata,
        severity=dg.AssetCheckSeverity.WARN if row["status"] == "warned" else dg.AssetCheckSeverity.ERROR,
        description=f"Undefined: {row['message']}" if row["status"] == "undefined" else row["message"],
        blocking=False,
        partition=row["tenant_id"] if is_model else str(key_of(row["business_date"], row["tenant_id"])),
    )
