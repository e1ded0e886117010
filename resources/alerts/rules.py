"""What is wrong: conditions over frames that somebody else has read. Names, severities and numbers are the vocabulary's.

No condition names a date in its identity, so that a month of bad days of one tenant is one incident.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pandas as pd

from resources import vocabulary
from resources.alerts.records import Condition, Evaluation, fingerprint_of

DEADLINE = timedelta(hours=1)
"""After its production time a tenant has had its tick, and a run that tried."""

RATE_DELAY_MINUTES = 10
"""Rates dip while a run is at work; what lasts so long is no dip."""

SUCCESS_RATE_MIN_TENANTS = 20
"""Below that one tenant's failure, which has an alert of its own, would already be a rate below 95 %."""

CACHE_MIN_LOOKUPS = 100
"""After a flush the first look-ups are misses."""

REJECTIONS_MIN = 3
"""In a week: fewer are no trend."""

REMEDY_FAILURE = "Follow the remedy; then `daybreak failures retry`, or `daybreak failures dismiss`."


@dataclass(frozen=True)
class CheckAlert:
    """The asset that a check is of, the alert that its failure becomes, and what to do.

    is_over_where_undefined: an undefined result ends the alert, since the check cannot apply any more.
    """

    asset: str
    name: str
    remedy: str
    is_over_where_undefined: bool = False


CHECK_ALERTS: Mapping[str, CheckAlert] = MappingProxyType(
    {
        "trailing_error_is_below_threshold": CheckAlert(
            "validation_metrics",
            vocabulary.FORECAST_ACCURACY_LOW,
            "`daybreak validate --tenant T` names the worst products; retraining is queued by itself.",
        ),
        "error_has_not_risen": CheckAlert(
            "validation_metrics",
            vocabulary.FORECAST_ACCURACY_LOW,
            "Look for a change in the bakery, such as prices, hours or products; retraining is queued by itself.",
        ),
        "actuals_cover_forecasts": CheckAlert(
            "validation_metrics",
            vocabulary.VALIDATION_COVERAGE_LOW,
            "Import the missing sales: `daybreak import sales FILE --tenant T`.",
        ),
        "quantiles_are_calibrated": CheckAlert(
            "validation_metrics",
            vocabulary.QUANTILES_NOT_CALIBRATED,
            "Residual tables adapt within weeks; if it lasts, `daybreak retrain --tenant T`.",
        ),
        "model_is_younger_than_30_days": CheckAlert(
            "forecast_models",
            vocabulary.FORECAST_MODEL_OLD,
            "Retraining is queued by itself; `daybreak retrain --list` shows why it has not run.",
            is_over_where_undefined=True,
        ),
        "forecasts_are_complete_and_not_negative": CheckAlert(
            "forecasts",
            vocabulary.FORECASTS_INVALID,
            "Plan again with `--force`; if it returns, report it with the run's log.",
        ),
        "plans_meet_their_invariants": CheckAlert(
            "production_plans",
            vocabulary.PLANS_INVALID,
            "Plan again with `--force`; if it returns, report it with the run's log.",
        ),
        "every_active_tenant_has_todays_plan": CheckAlert(
            "production_plans",
            vocabulary.PRODUCTION_PLAN_MISSING,
            "`daybreak failures list --tenant T`, then `daybreak plan run --tenant T`.",
        ),
    }
)
"""By check. no_partition_stays_failed is not here: the failures that it counts have alerts of their own."""

PLANNING_WORKFLOWS = (
    vocabulary.DAILY_OPERATIONS,
    vocabulary.PRODUCTION_PLANNING,
    vocabulary.PROCUREMENT_PLANNING,
    vocabulary.INVENTORY_PROJECTION,
)

GENERATION = MappingProxyType(
    {
        "production": (vocabulary.PRODUCTION_GENERATION_SLOW, vocabulary.PRODUCTION_GENERATION_DURATION),
        "procurement": (vocabulary.PROCUREMENT_GENERATION_SLOW, vocabulary.PROCUREMENT_GENERATION_DURATION),
    }
)

CHECKED_NAMES = frozenset(alert.name for alert in CHECK_ALERTS.values())


@dataclass(frozen=True)
class Observed:
    """What was read. None: not looked at, so that nothing of it fires or ends.

    checks: tenant_id, asset, check_name, business_date, status, message, failed_days (in a row, to business_date).
    failures: tenant_id, workflow, link, dates (how many), last_date, attempts, reason, remedy: open, waiting for a person.
    duties: tenant_id, timezone, plan_date, has_plan: active tenants whose deadline has passed.
    durations: kind (production, procurement), tenants, p95_seconds, of the last day.
    rejections: this week's and those of the week before.
    heartbeats: daemon -> its last sign of life; empty: Dagster has never run here.
    failed_runs: job_name, run_id, failed_at, runs that failed in the last day without a tenant's failure to show for it.
    lookups: hits and misses of the forecast cache.
    """

    now: datetime
    active: frozenset[str] | None = None
    checks: pd.DataFrame | None = None
    failures: pd.DataFrame | None = None
    duties: pd.DataFrame | None = None
    durations: pd.DataFrame | None = None
    rejections: tuple[int, int] | None = None
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)
    failed_runs: pd.DataFrame | None = None
    lookups: tuple[int, int] | None = None


def evaluate(observed: Observed) -> Evaluation:
    """What is wrong now, and what is known to be well again."""
    conditions: list[Condition] = []
    settled: set[str] = set()
    passes: dict[str, object] = {}
    if observed.heartbeats:
        settled.add(vocabulary.SCHEDULER_UNHEALTHY)
        conditions += _heartbeat(observed.heartbeats, observed.now)
    if observed.failures is not None:
        settled |= {
            vocabulary.DAILY_PRODUCTION_PLANNING_FAILED,
            vocabulary.FORECAST_MODEL_UNUSABLE,
            vocabulary.MODEL_TRAINING_NEEDS_REVIEW,
            vocabulary.FORECAST_VALIDATION_FAILED,
        }
        conditions += _failures(observed.failures)
    if observed.duties is not None:
        settled |= {vocabulary.NO_PRODUCTION_SCHEDULES_GENERATED, vocabulary.TENANT_SUCCESS_RATE_LOW}
        conditions += _zones(observed.duties)
        conditions += _success_rate(observed.duties)
    if observed.durations is not None:
        settled |= {name for name, _ in GENERATION.values()}
        conditions += _slow(observed.durations)
    if observed.rejections is not None:
        settled.add(vocabulary.PLAN_REJECTIONS_INCREASING)
        conditions += _rejections(*observed.rejections)
    if observed.failed_runs is not None:
        settled.add(vocabulary.RUN_FAILED)
        conditions += _runs(observed.failed_runs)
    if observed.lookups is not None:
        settled.add(vocabulary.FORECAST_CACHE_HIT_RATE_LOW)
        conditions += _cache(*observed.lookups)
    if observed.checks is not None:
        explained = _explained(conditions, observed.duties)
        conditions += _checks(observed.checks, explained)
        passes = _passes(observed.checks)
    return Evaluation(conditions, frozenset(settled), passes, observed.active)  # type: ignore[arg-type] # pandas knows no dates


def due_production(tenants: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """The last production time of each tenant whose deadline has passed: due_day (local) and plan_date; later ones left out.

    tenants: tenant_id, timezone, plan_lead_days, production_planning_at (local time), created_at. A tenant that was added
    after its time owes nothing before the next. Instants are compared, not wall clocks, for days with a clock change.
    """
    days = []
    for row in tenants.itertuples():
        zone = ZoneInfo(row.timezone)
        today = now.astimezone(zone).date()
        candidates = (
            (day, datetime.combine(day, row.production_planning_at, zone).astimezone(UTC))
            for day in (today, today - timedelta(days=1))
        )
        days.append(next((day for day, at in candidates if at + DEADLINE <= now and row.created_at <= at), None))
    due = tenants.assign(due_day=pd.Series(days, dtype=object, index=tenants.index))
    due = due[due["due_day"].notna()].reset_index(drop=True)
    plan_dates = [
        day + timedelta(days=int(lead)) for day, lead in zip(due["due_day"], due["plan_lead_days"], strict=True)
    ]
    return due.assign(plan_date=pd.Series(plan_dates, dtype=object))


def _condition(name: str, summary: str, remedy: str, **others: object) -> Condition:
    return Condition(name, vocabulary.ALERT_SEVERITY[name], summary, remedy, **others)  # type: ignore[arg-type]


def _heartbeat(heartbeats: Mapping[str, datetime], now: datetime) -> Iterator[Condition]:
    daemon, last = min(heartbeats.items(), key=lambda item: item[1])
    age = now - last
    if age > timedelta(minutes=vocabulary.HEARTBEAT_MAX_AGE_MINUTES):
        yield _condition(
            vocabulary.SCHEDULER_UNHEALTHY,
            f"The daemon ({daemon}) last showed a sign of life at {last:%Y-%m-%d %H:%M} UTC, "
            f"{age.total_seconds() / 60:.0f} minutes ago; nothing is planned by itself.",
            "`daybreak doctor`; then `daybreak down` and `daybreak up`. The next tick plans what is missing.",
        )


def _failures(failures: pd.DataFrame) -> Iterator[Condition]:
    names = [_failure_name(row.workflow, row.link) for row in failures.itertuples()]
    for (tenant_id, name), group in failures.assign(name=names).groupby(["tenant_id", "name"], sort=True):
        last = group.sort_values("last_date").iloc[-1]
        dates = int(group["dates"].sum())
        more = f", and {dates - 1} more" if dates > 1 else ""
        yield _condition(
            str(name),
            f"{tenant_id}: {last['link']} of {last['last_date']}{more}: {last['reason']}",
            f"{last['remedy']} {REMEDY_FAILURE}",
            tenant_id=tenant_id,
            about_date=last["last_date"],
            occurrences=dates,
        )


def _failure_name(workflow: str, link: str) -> str:
    if workflow == vocabulary.MODEL_TRAINING:
        return vocabulary.MODEL_TRAINING_NEEDS_REVIEW
    if link == "forecast_models":
        return vocabulary.FORECAST_MODEL_UNUSABLE
    if workflow == vocabulary.FORECAST_VALIDATION:
        return vocabulary.FORECAST_VALIDATION_FAILED
    return vocabulary.DAILY_PRODUCTION_PLANNING_FAILED


def _zones(duties: pd.DataFrame) -> Iterator[Condition]:
    for zone, group in duties.groupby("timezone", sort=True):
        if not group["has_plan"].any():
            yield _condition(
                vocabulary.NO_PRODUCTION_SCHEDULES_GENERATED,
                f"{zone}: the production time passed an hour ago, and none of {len(group)} tenants has a plan "
                f"for {max(group['plan_date'])}.",
                "`daybreak doctor`, then the last run in the web UI; `daybreak plan run --all` plans by hand.",
                asset="production_plans",
                check_name=zone,
                about_date=max(group["plan_date"]),
            )


def _success_rate(duties: pd.DataFrame) -> Iterator[Condition]:
    planned, total = int(duties["has_plan"].sum()), len(duties)
    if total >= SUCCESS_RATE_MIN_TENANTS and 100.0 * planned / total < vocabulary.TENANT_SUCCESS_MIN_PCT:
        yield _condition(
            vocabulary.TENANT_SUCCESS_RATE_LOW,
            f"{planned} of {total} tenants have their plan by its deadline ({100.0 * planned / total:.1f} %).",
            "`daybreak failures list` shows whether one cause is behind them.",
            asset="production_plans",
            about_date=max(duties["plan_date"]),
            delay_minutes=RATE_DELAY_MINUTES,
        )


def _slow(durations: pd.DataFrame) -> Iterator[Condition]:
    for row in durations.itertuples():
        name, metric = GENERATION[row.kind]
        if row.tenants and row.p95_seconds > vocabulary.GENERATION_SLOW_SECONDS:
            yield _condition(
                name,
                f"95 % of {row.tenants} generations of the last day took up to {row.p95_seconds:.0f} s ({metric}); "
                f"the target is {vocabulary.GENERATION_TARGET_SECONDS} s.",
                "Look at the machine's load and at the slowest executions (runbook).",
                delay_minutes=RATE_DELAY_MINUTES,
            )


def _rejections(this_week: int, week_before: int) -> Iterator[Condition]:
    if this_week >= REJECTIONS_MIN and this_week > 2 * week_before:
        yield _condition(
            vocabulary.PLAN_REJECTIONS_INCREASING,
            f"{this_week} purchase plans were rejected in the last 7 days, {week_before} in the 7 before "
            f"({vocabulary.PROCUREMENT_REJECTIONS}).",
            "`daybreak plan history` has the reasons; stale data and wrong quantities are ours to mend.",
            delay_minutes=RATE_DELAY_MINUTES,
        )


def _runs(failed_runs: pd.DataFrame) -> Iterator[Condition]:
    for job, group in failed_runs.groupby("job_name", sort=True):
        last = group.sort_values("failed_at").iloc[-1]
        yield _condition(
            vocabulary.RUN_FAILED,
            f"{len(group)} runs of {job} failed in the last day for a reason that is no tenant's; "
            f"the last is {last['run_id']} at {last['failed_at']:%Y-%m-%d %H:%M} UTC.",
            "Read the run's log in the web UI, mend the cause, run it again; `daybreak plan run --all` plans what is missing.",
            check_name=job,
            about_date=last["failed_at"].date(),
            occurrences=len(group),
        )


def _cache(hits: int, misses: int) -> Iterator[Condition]:
    total = hits + misses
    if total >= CACHE_MIN_LOOKUPS and 100.0 * hits / total < vocabulary.CACHE_HIT_RATE_MIN_PCT:
        yield _condition(
            vocabulary.FORECAST_CACHE_HIT_RATE_LOW,
            f"{hits} of {total} look-ups found their forecast in the cache ({vocabulary.CACHE_HIT_RATE} {hits / total:.2f}).",
            "Compare the address of `daybreak doctor` on readers and runs, and the server's memory (`daybreak cache stats`).",
            delay_minutes=RATE_DELAY_MINUTES,
        )


def _explained(conditions: list[Condition], duties: pd.DataFrame | None) -> set[str]:
    """The tenants whose missing plan another alert tells already: their own failure, or their zone's."""
    tenants = {
        str(condition.tenant_id)
        for condition in conditions
        if condition.name == vocabulary.DAILY_PRODUCTION_PLANNING_FAILED
    }
    zones = {
        condition.check_name
        for condition in conditions
        if condition.name == vocabulary.NO_PRODUCTION_SCHEDULES_GENERATED
    }
    if duties is not None:
        tenants |= set(duties.loc[duties["timezone"].isin(zones), "tenant_id"])
    return tenants


def _checks(checks: pd.DataFrame, explained: set[str]) -> Iterator[Condition]:
    failed = checks[(checks["status"] == "failed") & checks["check_name"].isin(CHECK_ALERTS)]
    for row in failed.itertuples():
        alert = CHECK_ALERTS[row.check_name]
        yield _condition(
            alert.name,
            f"{row.tenant_id}: {row.message}",
            alert.remedy.replace("--tenant T", f"--tenant {row.tenant_id}"),
            tenant_id=row.tenant_id,
            asset=row.asset,
            check_name=row.check_name,
            about_date=row.business_date,
            occurrences=max(int(row.failed_days), 1),
            is_explained=alert.name == vocabulary.PRODUCTION_PLAN_MISSING and row.tenant_id in explained,
        )


def _passes(checks: pd.DataFrame) -> dict[str, object]:
    """Fingerprint -> the day of the latest result that ends an alert: passed, or no longer bad enough to fire."""
    found: dict[str, object] = {}
    for row in checks[checks["check_name"].isin(CHECK_ALERTS)].itertuples():
        alert = CHECK_ALERTS[row.check_name]
        if row.status in {"passed", "warned"} or (row.status == "undefined" and alert.is_over_where_undefined):
            found[fingerprint_of(alert.name, row.tenant_id, row.asset, row.check_name)] = row.business_date
    return found
