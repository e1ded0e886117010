"""The queue of models that are to be trained again, what decides who joins it, and how promoted models do on live days.

A request is queued, claimed into a batch (one run), and closed by the run itself in the transaction of the tenant's decision.
Why a model is to be trained is decided in `planning.retraining`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID, uuid4

import numpy as np
import pandas as pd

from planning.champion import LEAST_DAYS_BETWEEN_ATTEMPTS
from planning.checks import CHECKED_ASSETS, ERROR_RISE, TRAILING_ERROR
from planning.retraining import LEAST_SALES_DAYS
from resources import vocabulary
from resources.store.database import Connection, frame

BATCH_TENANTS: Final[Mapping[int, int]] = MappingProxyType({1: 25, 2: 5, 3: 1})
"""Tenants in one run, by attempt. What ended a run without a word of which tenant it was is found by smaller runs: the last
attempt is a tenant's own."""

MAX_ATTEMPTS: Final = max(BATCH_TENANTS)

ERROR_CHECKS: Final = (TRAILING_ERROR, ERROR_RISE)


def queue_training(
    connection: Connection,
    tenant_id: str,
    trigger: str,
    product_ids: Sequence[str],
    requested_by: str,
    reason: str,
    now: datetime,
) -> bool:
    """Ask for a tenant's model to be trained; False when that is asked for already, and then nothing changes.

    trigger: manual, first, age, error or drift. product_ids: on whose account, if of any.
    """
    return bool(
        connection.execute(
            """
            INSERT INTO ops.retraining_request (tenant_id, trigger, product_ids, requested_by, reason, launch_after, requested_at)
            VALUES (%(tenant_id)s, %(trigger)s, %(product_ids)s, %(requested_by)s, %(reason)s, %(now)s, %(now)s)
            ON CONFLICT (tenant_id) WHERE status IN ('queued', 'launched') DO NOTHING
            """,
            {
                "tenant_id": tenant_id,
                "trigger": trigger,
                "product_ids": list(product_ids),
                "requested_by": requested_by,
                "reason": reason,
                "now": now,
            },
        ).rowcount
    )


def settle_request(
    connection: Connection, tenant_id: str, outcome: str, now: datetime, *, batch_id: str, is_attempt: bool = True
) -> bool:
    """Complete a tenant's open request with what came of its training; whether there was one.

    batch_id: the batch that the run works on, empty for none. An attempt settles the request whoever made it, since that is
    what was asked for; what was no attempt settles only a request of the run's own batch.
    """
    return bool(
        connection.execute(
            """
            UPDATE ops.retraining_request SET status = 'completed', outcome = %(outcome)s, completed_at = %(now)s
            WHERE tenant_id = %(tenant_id)s AND status IN ('queued', 'launched')
              AND (%(is_attempt)s OR batch_id::text = %(batch_id)s)
            """,
            {
                "tenant_id": tenant_id,
                "outcome": outcome,
                "now": now,
                "batch_id": batch_id,
                "is_attempt": is_attempt,
            },
        ).rowcount
    )


def claim_batches(connection: Connection, slots: int, paused: Collection[str], now: datetime) -> list[UUID]:
    """Put queued requests that are due into at most so many new batches; returns these.

    Higher tiers come first, then older requests. A batch holds requests of one attempt only, BATCH_TENANTS at most. Paused
    tenants wait; requests of tenants that are not active any more are cancelled.
    """
    connection.execute(
        """
        UPDATE ops.retraining_request AS request SET status = 'cancelled', completed_at = %s
        FROM master.tenant AS tenant
        WHERE tenant.tenant_id = request.tenant_id AND tenant.status <> 'active' AND request.status = 'queued'
        """,
        (now,),
    )
    waiting = connection.execute(
        """
        SELECT request.request_id, request.attempt + 1
        FROM ops.retraining_request AS request JOIN master.tenant USING (tenant_id)
        WHERE request.status = 'queued' AND launch_after <= %(now)s AND NOT tenant_id = ANY(%(paused)s::text[])
        ORDER BY array_position(%(tiers)s::text[], tier) DESC, requested_at, request_id
        LIMIT %(most)s
        FOR UPDATE OF request SKIP LOCKED
        """,
        {
            "now": now,
            "paused": sorted(paused),
            "tiers": list(vocabulary.TENANT_TIERS),
            # Enough for the batches of any one attempt, however requests of the three are mixed.
            "most": slots * sum(BATCH_TENANTS.values()),
        },
    ).fetchall()
    batches: list[UUID] = []
    while waiting and len(batches) < slots:
        attempt = waiting[0][1]
        members = [request_id for request_id, at in waiting if at == attempt][: BATCH_TENANTS[attempt]]
        waiting = [row for row in waiting if row[0] not in members]
        batch_id = uuid4()
        connection.execute(
            """
            UPDATE ops.retraining_request SET status = 'launched', batch_id = %s, attempt = %s, launched_at = %s
            WHERE request_id = ANY(%s::bigint[])
            """,
            (batch_id, attempt, now, members),
        )
        batches.append(batch_id)
    return batches


def read_launched(connection: Connection) -> pd.DataFrame:
    """The batches with requests that are not settled: batch_id, attempt, tenant_ids, triggers (by tenant), launched_at."""
    return frame(
        connection,
        """
        SELECT batch_id::text, max(attempt) AS attempt, array_agg(tenant_id::text ORDER BY request_id) AS tenant_ids,
               jsonb_object_agg(tenant_id, trigger) AS triggers, min(launched_at) AS launched_at
        FROM ops.retraining_request WHERE status = 'launched'
        GROUP BY batch_id ORDER BY min(request_id)
        """,
    )


def cancel_batch(connection: Connection, batch_id: str, now: datetime) -> int:
    """Cancel what a batch has left to do, since a person has cancelled its run; returns how many requests."""
    return connection.execute(
        """
        UPDATE ops.retraining_request SET status = 'cancelled', completed_at = %s
        WHERE batch_id = %s::uuid AND status = 'launched'
        """,
        (now, batch_id),
    ).rowcount


def requeue_batch(connection: Connection, batch_id: str, now: datetime) -> tuple[int, int]:
    """Queue again what a batch has left after its run has ended, later after each attempt; returns (queued, given up).

    After MAX_ATTEMPTS a request has failed. Why stands in the tenant's failure and in the run's log.
    """
    left = connection.execute(
        """
        UPDATE ops.retraining_request
        SET status = CASE WHEN attempt < %(most)s THEN 'queued' ELSE 'failed' END,
            launch_after = CASE WHEN attempt < %(most)s
                                THEN %(now)s + make_interval(secs => %(delay_s)s * 2 ^ (attempt - 1)) ELSE launch_after END,
            completed_at = CASE WHEN attempt < %(most)s THEN NULL ELSE %(now)s END
        WHERE batch_id = %(batch_id)s::uuid AND status = 'launched'
        RETURNING status
        """,
        {"most": MAX_ATTEMPTS, "now": now, "delay_s": vocabulary.RETRY_DELAY_SECONDS, "batch_id": batch_id},
    ).fetchall()
    failed = sum(status == "failed" for (status,) in left)
    return len(left) - failed, failed


def read_requests(connection: Connection, tenant_ids: Sequence[str], since: datetime) -> pd.DataFrame:
    """Open requests of tenants, and those closed since an instant: the table's columns, open ones first, then the newest."""
    return frame(
        connection,
        """
        SELECT request_id, tenant_id, trigger, product_ids, requested_by, reason, status, batch_id, attempt, launch_after,
               outcome, requested_at, launched_at, completed_at
        FROM ops.retraining_request
        WHERE tenant_id = ANY(%(tenant_ids)s::text[])
          AND (status IN ('queued', 'launched') OR completed_at >= %(since)s)
        ORDER BY completed_at IS NULL DESC, request_id DESC
        """,
        {"tenant_ids": list(tenant_ids), "since": since},
    )


def read_closed(connection: Connection, request_ids: Sequence[int]) -> pd.DataFrame:
    """Those of the requests that are closed, as `read_requests` has them."""
    return frame(
        connection,
        """
        SELECT request_id, tenant_id, trigger, product_ids, requested_by, reason, status, batch_id, attempt, launch_after,
               outcome, requested_at, launched_at, completed_at
        FROM ops.retraining_request
        WHERE request_id = ANY(%(request_ids)s::bigint[]) AND status NOT IN ('queued', 'launched')
        ORDER BY tenant_id
        """,
        {"request_ids": list(request_ids)},
    )


def read_standings(connection: Connection, now: datetime, tenant_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Where the training of active tenants stands, of those whose model may be asked for again; None: of all.

    Left out are tenants with an open request and those last attempted within LEAST_DAYS_BETWEEN_ATTEMPTS. Columns: tenant_id,
    attempted_at, trained_at and trained_to (None where the rules serve), sales_days (counted up to LEAST_SALES_DAYS, only where
    the rules serve), last_sale_on. A request that failed or was cancelled is an attempt too: else it came back at once.
    """
    return frame(
        connection,
        """
        SELECT tenant.tenant_id, attempt.attempted_at, model.created_at AS trained_at, model.trained_to,
               CASE WHEN model.version IS NULL THEN (
                   SELECT count(*) FROM (SELECT FROM facts.actuals_day AS sold WHERE sold.tenant_id = tenant.tenant_id
                                         LIMIT %(least_days)s) AS days
               ) END AS sales_days,
               (SELECT max(business_date) FROM facts.actuals_day AS sold WHERE sold.tenant_id = tenant.tenant_id) AS last_sale_on
        FROM master.tenant
        LEFT JOIN quality.forecast_model AS model ON model.tenant_id = tenant.tenant_id AND model.status = 'champion'
        CROSS JOIN LATERAL (
            SELECT greatest(
                (SELECT max(decided_at) FROM quality.model_decision AS decision
                  WHERE decision.tenant_id = tenant.tenant_id AND action <> 'rolled_back'),
                (SELECT max(completed_at) FROM ops.retraining_request AS request
                  WHERE request.tenant_id = tenant.tenant_id AND status IN ('failed', 'cancelled'))
            ) AS attempted_at
        ) AS attempt
        WHERE tenant.status = 'active'
          AND (%(tenant_ids)s::text[] IS NULL OR tenant.tenant_id = ANY(%(tenant_ids)s::text[]))
          AND (attempted_at IS NULL OR attempted_at <= %(attempted_by)s)
          AND NOT EXISTS (SELECT FROM ops.retraining_request AS request
                           WHERE request.tenant_id = tenant.tenant_id AND status IN ('queued', 'launched'))
        ORDER BY tenant.tenant_id
        """,
        {
            "tenant_ids": None if tenant_ids is None else list(tenant_ids),
            "least_days": LEAST_SALES_DAYS,
            # A day less, since the rule counts days and not hours.
            "attempted_by": now - timedelta(days=LEAST_DAYS_BETWEEN_ATTEMPTS - 1),
        },
    ).astype({"attempted_at": object, "trained_at": object, "trained_to": object, "last_sale_on": object})


def read_failed_checks(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """The checks of tenants' errors that fail by their latest day: tenant_id, check_name, business_date, value, message, details.

    It says what quality.check_state says, without reading the results of all days.
    """
    return frame(
        connection,
        """
        SELECT wanted.tenant_id, asked.check_name, latest.business_date, latest.value, latest.message, latest.details
        FROM unnest(%(tenant_ids)s::text[]) AS wanted (tenant_id)
        CROSS JOIN unnest(%(assets)s::text[], %(checks)s::text[]) AS asked (asset, check_name)
        CROSS JOIN LATERAL (
            SELECT business_date, status, value, message, details FROM quality.check_result AS result
            WHERE (result.tenant_id, result.asset, result.check_name) = (wanted.tenant_id, asked.asset, asked.check_name)
            ORDER BY business_date DESC LIMIT 1
        ) AS latest
        WHERE latest.status = 'failed'
        ORDER BY 1, 2
        """,
        {
            "tenant_ids": list(tenant_ids),
            "assets": [CHECKED_ASSETS[name] for name in ERROR_CHECKS],
            "checks": list(ERROR_CHECKS),
        },
    ).astype({"value": float})


def read_errors(
    connection: Connection, tenant_ids: Sequence[str], first: date, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The errors of the morning's forecasts on open days of a window: by day, and by product.

    Columns: tenant_id, business_date (the first) or product_id (the second), error_units, actual_units.
    """
    parameters = {"tenant_ids": list(tenant_ids), "first": first, "last": last}
    days = frame(
        connection,
        """
        SELECT tenant_id, business_date, mae_units * rows_used AS error_units, actual_units
        FROM quality.validation_metric
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date BETWEEN %(first)s AND %(last)s
          AND scope = 'overall' AND days_ahead = 0 AND rows_used > 0 AND actual_units > 0
        ORDER BY 1, 2
        """,
        parameters,
    )
    products = frame(
        connection,
        """
        SELECT tenant_id, product_id, sum(mae_units * rows_used) AS error_units, sum(actual_units) AS actual_units
        FROM quality.validation_metric
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date BETWEEN %(first)s AND %(last)s
          AND scope = 'product' AND days_ahead = 0 AND rows_used > 0
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        parameters,
    )
    floats = {"error_units": float, "actual_units": float}
    return days.astype(floats), products.astype(floats)


def read_promotions(connection: Connection, limit: int) -> pd.DataFrame:
    """Serving versions with live days that were not looked at yet, those that have waited longest first.

    Columns: tenant_id, timezone, plan_lead_days, version, promoted_at, verdict (the last one, or None).
    """
    return frame(
        connection,
        """
        SELECT model.tenant_id, timezone, plan_lead_days, model.version, model.promoted_at, known.verdict
        FROM quality.forecast_model AS model JOIN master.tenant AS tenant USING (tenant_id)
        LEFT JOIN quality.model_improvement AS known USING (tenant_id, version, promoted_at)
        WHERE model.status = 'champion' AND tenant.status = 'active'
          AND EXISTS (SELECT FROM quality.validation AS done
                       WHERE done.tenant_id = model.tenant_id AND done.business_date >= model.promoted_at::date
                         AND done.validated_at > coalesce(known.evaluated_at, model.promoted_at))
        ORDER BY known.evaluated_at NULLS FIRST, model.tenant_id LIMIT %(limit)s
        """,
        {"limit": limit},
    ).astype({"verdict": object})


def read_live_days(connection: Connection, tenant_ids: Sequence[str], first: date) -> pd.DataFrame:
    """Open days from `first` on whose morning's forecasts were made live, with their errors and seasonal naive's.

    Columns: tenant_id, business_date, error_units, naive_error_units, actual_units, each over the same rows: the whole day, or,
    where naive could not forecast all of it, the products that it could. A day with none of them is left out.
    """
    days = frame(
        connection,
        """
        WITH compared AS (
            SELECT tenant_id, business_date, scope, mae_units * rows_used AS error_units,
                   naive_wape_pct * actual_units / 100 AS naive_error_units, actual_units
            FROM quality.validation_metric
            WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date >= %(first)s AND scope IN ('overall', 'product')
              AND days_ahead = 0 AND NOT is_replayed AND rows_used > 0 AND naive_wape_pct IS NOT NULL
        )
        SELECT tenant_id, business_date, sum(error_units) AS error_units, sum(naive_error_units) AS naive_error_units,
               sum(actual_units) AS actual_units
        FROM compared
        WHERE scope = 'overall' OR NOT EXISTS (
            SELECT FROM compared AS whole
            WHERE (whole.tenant_id, whole.business_date, whole.scope) = (compared.tenant_id, compared.business_date, 'overall'))
        GROUP BY 1, 2 HAVING sum(actual_units) > 0 ORDER BY 1, 2
        """,
        {"tenant_ids": list(tenant_ids), "first": first},
    )
    return days.astype({"error_units": float, "naive_error_units": float, "actual_units": float})


def write_improvement(connection: Connection, improvement: Mapping[str, object], now: datetime) -> None:
    """Keep how a promotion does: the columns of quality.model_improvement but evaluated_at, NaN for undefined."""
    connection.execute(
        """
        INSERT INTO quality.model_improvement (tenant_id, version, promoted_at, days, wape_pct, naive_wape_pct,
            wape_before_pct, naive_wape_before_pct, verdict, evaluated_at)
        VALUES (%(tenant_id)s, %(version)s, %(promoted_at)s, %(days)s, %(wape_pct)s, %(naive_wape_pct)s,
            %(wape_before_pct)s, %(naive_wape_before_pct)s, %(verdict)s, %(now)s)
        ON CONFLICT (tenant_id, version, promoted_at) DO UPDATE
        SET days = excluded.days, wape_pct = excluded.wape_pct, naive_wape_pct = excluded.naive_wape_pct,
            wape_before_pct = excluded.wape_before_pct, naive_wape_before_pct = excluded.naive_wape_before_pct,
            verdict = excluded.verdict, evaluated_at = excluded.evaluated_at
        """,
        {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in {**improvement, "now": now}.items()
        },
    )


def keep_verdict(connection: Connection, tenant_id: str, version: int, promoted_at: datetime, now: datetime) -> None:
    """Note that a promotion was looked at again and its verdict stands."""
    connection.execute(
        """
        UPDATE quality.model_improvement SET evaluated_at = %s WHERE (tenant_id, version, promoted_at) = (%s, %s, %s)
        """,
        (now, tenant_id, version, promoted_at),
    )
