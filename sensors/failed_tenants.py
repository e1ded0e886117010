"""Failed tenants: what failed is planned or validated again, a few times, before it waits for a person.

Which failures are due, and when, is kept in the store. A tick claims those that are due, in a transaction of its own, and
then launches every claim that has no run: a claim whose tick was killed is launched by the next one, under the same key.
"""

import os
from collections.abc import Sequence
from datetime import date

import dagster as dg
import pandas as pd

from planning_assets.jobs import DAILY_PLAN_JOB, FORECAST_VALIDATION_JOB
from planning_assets.scope import RETRY_TAG, DayConfig, anchor_of
from planning_assets.window import window
from resources import vocabulary
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.failures import claim_due, read_claims, release_claims, withdraw_claims
from resources.store.pauses import read_paused

NAME = "failed_tenants_sensor"
RUN_TENANTS = 200
"""Tenants in one run: fewer than in a morning's, since one of them may be why the others' chunk has to be halved."""

RUNS_A_TICK = 20
"""Runs launched at a time; the earliest dates come first, the others at the next ticks."""

TIER_PRIORITY = {"enterprise": 2, "professional": 1, "starter": 0}


def build_failed_tenants_sensor(window_start: date) -> dg.SensorDefinition:
    """The sensor, over a window of dates that begins at `window_start`."""

    @dg.sensor(
        name=NAME,
        jobs=[DAILY_PLAN_JOB, FORECAST_VALIDATION_JOB],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Plans and validates failed tenants again, three times with growing delays; then they wait for a person.",
    )
    def failed_tenants_sensor(
        context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource
    ) -> dg.SensorResult | dg.SkipReason:
        """Release the claims of runs that have ended, claim what is due, launch what is claimed and has no run."""
        if os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() == "true":
            return dg.SkipReason(f"{vocabulary.SCHEDULER_DISABLED}: {vocabulary.SCHEDULER_DISABLED_SETTING} is true.")
        first_on, last_on = window(window_start, clock.now())
        with store.open() as opened:
            with opened.transaction() as connection:
                before = read_claims(connection)
            runs = _runs_of(context.instance, before["retry_id"].astype(str).unique())
            ended = [retry_id for retry_id in before["retry_id"].unique() if _is_ended(runs.get(str(retry_id)))]
            with opened.transaction() as connection:
                released = release_claims(connection, ended, clock.now())
                paused = read_paused(connection)
                if paused.everybody is not None:
                    return dg.SkipReason(f"{vocabulary.SCHEDULING_PAUSED}: {paused.everybody}")
                claims = claim_due(connection, first_on, last_on, sorted(paused.tenant_ids), RUN_TENANTS, clock.now())
                waiting = claims[~claims["retry_id"].astype(str).isin(runs)]
                # Claimed by a tick that was killed, and since then paused or out of the grid: such a partition is none,
                # and the request would fail the tick with all others.
                is_held = waiting["tenant_id"].isin(paused.tenant_ids) | ~waiting["plan_date"].between(
                    first_on, last_on
                )
                withdraw_claims(connection, waiting.loc[is_held, "failure_id"].tolist())
        waiting = waiting[~is_held]
        requests = [
            _run_request(context.instance, str(retry_id), claim)
            for retry_id, claim in list(waiting.groupby("retry_id", sort=False))[:RUNS_A_TICK]
        ]
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SkipReason(
            f"{released} failures were left by runs that ended early; each is tried again later, or waits for a person."
            if released
            else f"{claims['tenant_id'].nunique()} failed tenants are being tried again."
            if len(claims)
            else "No failed tenant is due."
        )

    return failed_tenants_sensor


def _runs_of(instance: dg.DagsterInstance, retry_ids: Sequence[str]) -> dict[str, dg.DagsterRun]:
    """The run of each claim that has one."""
    if not len(retry_ids):
        return {}
    keys = [_key_of(retry_id) for retry_id in retry_ids]
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": NAME, "dagster/run_key": keys}))
    return {run.tags["dagster/run_key"].rpartition("|")[2]: run for run in runs}


def _key_of(retry_id: str) -> str:
    return f"{NAME}|{retry_id}"


def _is_ended(run: dg.DagsterRun | None) -> bool:
    return run is not None and run.is_finished


def _run_request(instance: dg.DagsterInstance, retry_id: str, claim: pd.DataFrame) -> dg.RunRequest:
    first = claim.iloc[0]
    is_validation = first["workflow"] == vocabulary.FORECAST_VALIDATION
    job = FORECAST_VALIDATION_JOB if is_validation else DAILY_PLAN_JOB
    config = DayConfig(
        date=first["plan_date"].isoformat(),
        tenants=sorted(claim["tenant_id"].unique()),
        workflow=first["workflow"],
        # A tenant may have an older plan of the same inputs: what failed is made again all the same.
        skip_up_to_date=False,
        triggered_by=f"{NAME}, after {int(claim['attempts'].max())} failures",
    )
    return dg.RunRequest(
        job_name=job.name,
        partition_key=anchor_of(instance, first["plan_date"], config.tenants),
        run_key=_key_of(retry_id),
        run_config=dg.RunConfig(ops={"forecast_validation" if is_validation else "daily_plan": config}),
        tags={"dagster/priority": str(int(claim["tier"].map(TIER_PRIORITY).max())), RETRY_TAG: retry_id},
    )
