"""Reads what conditions are judged by, and routes what they say: the one look at everything that sensor and command share."""

import logging
from collections.abc import Iterable
from datetime import datetime

import pandas as pd

from resources import vocabulary
from resources.alerts.records import Condition
from resources.alerts.router import Routed, route
from resources.alerts.rules import CHECK_ALERTS, Observed, due_production, evaluate
from resources.forecast_cache import CacheUnusable, ForecastCache
from resources.store import alerts
from resources.store.database import Connection, Store
from resources.store.policies import read_special_times

DAEMONS = ("SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR")
"""Without any of these three nothing is planned by itself."""

logger = logging.getLogger("daybreak.alerts")


def observe(
    store: Store,
    now: datetime,
    cache: ForecastCache,
    is_scheduling: bool = True,
    failed_runs: pd.DataFrame | None = None,
) -> Observed:
    """Everything that alerts are judged by.

    is_scheduling: False in maintenance mode, in which nobody owes a plan. failed_runs: job_name, run_id, failed_at of
    Dagster's failed runs, where Dagster can be asked; those that tenants' failures explain are left out here.
    """
    lookups = _lookups(cache)
    with store.transaction() as connection:
        tenants = alerts.read_tenants_to_plan(connection)
        checks = alerts.read_checks(connection, [check.asset for check in CHECK_ALERTS.values()], list(CHECK_ALERTS))
        if failed_runs is not None:
            explained = alerts.read_runs_of_failures(connection, list(failed_runs["run_id"]))
            failed_runs = failed_runs[~failed_runs["run_id"].isin(explained)]
        return Observed(
            now=now,
            active=frozenset(tenants["tenant_id"]),
            checks=checks,
            failures=alerts.read_failures_for_review(connection),
            duties=read_duties(connection, tenants, now) if is_scheduling else None,
            durations=alerts.read_durations(connection, now),
            rejections=alerts.read_rejections(connection, now),
            heartbeats=alerts.read_heartbeats(connection, DAEMONS),
            failed_runs=failed_runs,
            lookups=lookups,
        )


def observe_scheduler(store: Store, now: datetime) -> Observed:
    """The daemon's signs of life alone, for a process that watches it."""
    with store.transaction() as connection:
        return Observed(now=now, heartbeats=alerts.read_heartbeats(connection, DAEMONS))


def read_duties(connection: Connection, tenants: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """Who owes a production plan by now and whether it is there: tenant_id, timezone, plan_date, has_plan.

    tenants: as alerts.read_tenants_to_plan gives them. Who is paused, or plans on such a day at
    another time or not at all, owes nothing.
    """
    due = due_production(tenants[~tenants["is_paused"].astype(bool)], now)
    if len(due):
        special = read_special_times(
            connection, vocabulary.PRODUCTION_PLANNING, list(due["tenant_id"]), sorted(set(due["due_day"]))
        )
        due = due[[key not in special for key in zip(due["tenant_id"], due["due_day"], strict=True)]]
    planned = alerts.read_with_production_plan(connection, list(due["tenant_id"]), list(due["plan_date"]))
    return due[["tenant_id", "timezone", "plan_date"]].assign(has_plan=due["tenant_id"].isin(planned))


def check_and_route(store: Store, observed: Observed, targets: Iterable[str]) -> tuple[list[Condition], Routed]:
    """Judge what was observed and bring the alerts to it; returns the conditions that hold, and what changed."""
    evaluation = evaluate(observed)
    return evaluation.conditions, route(store, evaluation, list(targets), observed.now)


def _lookups(cache: ForecastCache) -> tuple[int, int] | None:
    if not cache.is_on:
        return None
    try:
        return cache.counters()
    except CacheUnusable as error:
        logger.warning("The forecast cache's hit rate is not judged: %s", error)
        return None
