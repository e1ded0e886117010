"""Reads what checks are made of, and keeps what they say. What holds and what does not is decided in `planning.checks`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import pandas as pd

from planning.checks import MEASURES, READ_DAYS, CheckResult, Measure
from planning.frames import PLAN_DAYS
from resources.store.database import Connection, frame
from resources.store.inputs import batch_frame

ERROR_MEASURE: Final = "error-measure"
"""The setting that says by which error forecasts are judged: wape, weighted by units, or plain mape."""


def read_measure(connection: Connection) -> Measure:
    """The error that checks and retraining go by; WAPE where nothing is set."""
    row = connection.execute("SELECT value FROM ops.setting WHERE name = %s", (ERROR_MEASURE,)).fetchone()
    found = next((measure for measure in MEASURES if row is not None and measure == row[0]), None)
    if row is not None and found is None:
        raise ValueError(
            f"The setting {ERROR_MEASURE} is {row[0]!r}. Remedy: daybreak settings set {ERROR_MEASURE} {MEASURES[0]}."
        )
    return found or "wape"


def read_headline_days(connection: Connection, tenant_ids: Sequence[str], on: date) -> pd.DataFrame:
    """The overall figures, on the day itself ahead, of each tenant's last READ_DAYS open days through `on`, and of `on`.

    tenant_id, business_date, rows_used, rows_zero, rows_without_actual, actual_units, mae_units, wape_pct, mape_pct,
    coverage_pct, quantile_coverage, quantile_below. One row a day.
    """
    return batch_frame(
        connection,
        """
        SELECT asked.tenant_id, day.*
        FROM unnest(%(tenant_ids)s::text[]) AS asked (tenant_id)
        CROSS JOIN LATERAL (
            (SELECT business_date, rows_used, rows_zero, rows_without_actual, actual_units, mae_units, wape_pct, mape_pct,
                    coverage_pct, quantile_coverage, quantile_below
               FROM quality.validation_metric AS metric
              WHERE metric.tenant_id = asked.tenant_id AND business_date <= %(on)s AND scope = 'overall' AND days_ahead = 0
                AND rows_used > 0 AND actual_units > 0
              ORDER BY business_date DESC LIMIT %(read_days)s)
            UNION ALL
            SELECT business_date, rows_used, rows_zero, rows_without_actual, actual_units, mae_units, wape_pct, mape_pct,
                   coverage_pct, quantile_coverage, quantile_below
              FROM quality.validation_metric AS metric
             WHERE metric.tenant_id = asked.tenant_id AND business_date = %(on)s AND scope = 'overall' AND days_ahead = 0
               AND NOT (rows_used > 0 AND actual_units > 0)
        ) AS day
        ORDER BY 1, 2
        """,
        tenant_ids,
        {"on": on, "read_days": READ_DAYS},
    )


def read_product_errors(
    connection: Connection, spans: Mapping[str, tuple[date, date]], measure: Measure
) -> pd.DataFrame:
    """The errors of each tenant's products over a span of days, as `planning.checks.check_trailing_error` takes them.

    spans: tenant id -> first and last day. tenant_id, location_id (''), product_id, error_pct, wape_pct, units, money: the
    regret of their production plans where their costs are known. Products that sold nothing have no error.
    """
    bound = {
        "tenant_ids": list(spans),
        "first": [first for first, _ in spans.values()],
        "last": [last for _, last in spans.values()],
        "is_plain": measure == "mape",
    }
    return frame(
        connection,
        """
        WITH span AS (
            SELECT * FROM unnest(%(tenant_ids)s::text[], %(first)s::date[], %(last)s::date[])
                AS span (tenant_id, first_on, last_on)
        ), error AS (
            SELECT metric.tenant_id, metric.product_id, sum(actual_units) AS units,
                   100 * sum(mae_units * rows_used) / sum(actual_units) AS wape_pct,
                   sum(mape_pct * (rows_used - rows_zero)) / nullif(sum(rows_used - rows_zero), 0) AS mape_pct
              FROM span JOIN quality.validation_metric AS metric
                ON metric.tenant_id = span.tenant_id AND metric.business_date BETWEEN span.first_on AND span.last_on
             WHERE metric.scope = 'product' AND metric.days_ahead = 0 AND metric.rows_used > 0
             GROUP BY 1, 2 HAVING sum(actual_units) > 0
        ), lost AS (
            SELECT outcome.tenant_id, outcome.product_id, sum(outcome.regret) AS money
              FROM span JOIN quality.plan_outcome AS outcome
                ON outcome.tenant_id = span.tenant_id AND outcome.business_date BETWEEN span.first_on AND span.last_on
             WHERE NOT outcome.is_default_critical_ratio
             GROUP BY 1, 2
        )
        SELECT tenant_id, '' AS location_id, product_id, CASE WHEN %(is_plain)s THEN mape_pct ELSE wape_pct END AS error_pct,
               wape_pct, units, money
          FROM error LEFT JOIN lost USING (tenant_id, product_id)
         ORDER BY 1, 3
        """,
        bound,
    ).astype({"error_pct": float, "wape_pct": float, "units": float, "money": float})


def read_models(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, tuple[int, date]]:
    """The version that serves each tenant and the day it was trained on; a tenant that rules serve is not in it."""
    rows = connection.execute(
        """
        SELECT tenant_id, version, created_at::date FROM quality.forecast_model
        WHERE tenant_id = ANY(%s::text[]) AND status = 'champion'
        """,
        (list(tenant_ids),),
    )
    return {tenant_id: (version, trained_on) for tenant_id, version, trained_on in rows}


def read_later_validations(connection: Connection, tenant_ids: Sequence[str], on: date) -> dict[date, list[str]]:
    """The tenants whose last validated day is later than `on`, by that day: what they sold on `on` counts in its trend."""
    rows = connection.execute(
        """
        SELECT max(business_date) AS last_on, tenant_id FROM quality.validation
        WHERE tenant_id = ANY(%s::text[]) AND business_date > %s GROUP BY tenant_id ORDER BY 1, 2
        """,
        (list(tenant_ids), on),
    )
    found: dict[date, list[str]] = {}
    for last_on, tenant_id in rows:
        found.setdefault(last_on, []).append(tenant_id)
    return found


def read_forecast_faults(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> pd.DataFrame:
    """What is wrong with the active forecasts of a date: tenant_id, fault ('' where nothing is), lines, example.

    A series of the assortment without a forecast is missing, unless the plan has an exception that names it.
    """
    return frame(
        connection,
        """
        WITH active AS (
            SELECT tenant_id, plan_date, plan_id, location_id FROM plans.plan
             WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s
               AND kind = 'forecast' AND status = 'active'
        ), line AS (
            SELECT line.tenant_id, line.location_id, line.product_id,
                   CASE WHEN cardinality(mean_units) <> %(days)s
                          OR cardinality(quantile_units) <> %(days)s * cardinality(quantile_levels) THEN 'incomplete'
                        WHEN 'NaN' = ANY(mean_units) OR 'NaN' = ANY(quantile_units) THEN 'not a number'
                        WHEN 0 > ANY(mean_units) OR 0 > ANY(quantile_units) THEN 'negative'
                        ELSE '' END AS fault
              FROM active JOIN plans.forecast AS line USING (tenant_id, plan_date, plan_id)
             WHERE line.plan_date = %(plan_date)s AND line.tenant_id = ANY(%(tenant_ids)s::text[])
        ), missing AS (
            SELECT series.tenant_id, series.location_id, series.product_id, 'missing' AS fault
              FROM active JOIN master.assortment AS series USING (tenant_id, location_id)
              JOIN master.product USING (tenant_id, product_id)
              JOIN master.location USING (tenant_id, location_id)
             WHERE series.is_active AND product.is_active AND location.is_active
               AND NOT EXISTS (SELECT FROM line WHERE (line.tenant_id, line.location_id, line.product_id)
                                                    = (series.tenant_id, series.location_id, series.product_id))
               AND NOT EXISTS (SELECT FROM plans.exception AS note
                                WHERE note.tenant_id = active.tenant_id AND note.plan_date = %(plan_date)s
                                  AND note.plan_id = active.plan_id AND note.location_id = series.location_id
                                  AND note.subject_kind = 'product' AND note.subject_id = series.product_id)
        )
        SELECT tenant_id, fault, count(*)::integer AS lines, min(product_id || ' at ' || location_id) AS example
          FROM (TABLE line UNION ALL TABLE missing) AS looked GROUP BY 1, 2 ORDER BY 1, 2
        """,
        {"tenant_ids": list(tenant_ids), "plan_date": plan_date, "days": PLAN_DAYS},
    )


def read_plan_faults(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> pd.DataFrame:
    """What is wrong with the active production, procurement and projection of a date, as `read_forecast_faults`."""
    return frame(
        connection,
        """
        WITH active AS (
            SELECT tenant_id, plan_date, plan_id, location_id, kind FROM plans.plan
             WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND plan_date = %(plan_date)s
               AND kind <> 'forecast' AND status = 'active'
        ), looked AS (
            SELECT line.tenant_id, line.product_id || ' at ' || line.location_id AS example,
                   CASE WHEN batches < 0 OR quantity_units < 0 OR 0 > ANY(horizon_units) THEN 'negative production'
                        WHEN quantity_units <> batches * batch_size_units THEN 'not whole batches'
                        WHEN sold_out_probability NOT BETWEEN 0 AND 1 OR critical_ratio NOT BETWEEN 0 AND 1
                             THEN 'not a probability'
                        WHEN least(expected_sales_units, expected_waste_units, expected_lost_units, expected_carried_units)
                             < 0 THEN 'negative expectation'
                        ELSE '' END AS fault
              FROM active JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id)
             WHERE line.plan_date = %(plan_date)s AND line.tenant_id = ANY(%(tenant_ids)s::text[])
            UNION ALL
            SELECT line.tenant_id, line.item_id || ' of ' || line.supplier_id,
                   CASE WHEN packs < 0 OR quantity < 0 THEN 'negative purchase'
                        WHEN quantity <> packs * pack_quantity THEN 'not whole packs'
                        WHEN order_by > delivery_on THEN 'ordered after its delivery'
                        ELSE '' END
              FROM active JOIN plans.purchase_line AS line USING (tenant_id, plan_date, plan_id)
             WHERE line.plan_date = %(plan_date)s AND line.tenant_id = ANY(%(tenant_ids)s::text[])
            UNION ALL
            SELECT line.tenant_id, line.item_id || ' at ' || line.location_id,
                   CASE WHEN 0 > ANY(closing_quantity) THEN 'negative stock'
                        WHEN stock_out_probability NOT BETWEEN 0 AND 1 THEN 'not a probability'
                        ELSE '' END
              FROM active JOIN plans.projection AS line USING (tenant_id, plan_date, plan_id)
             WHERE line.plan_date = %(plan_date)s AND line.tenant_id = ANY(%(tenant_ids)s::text[])
            UNION ALL
            SELECT tenant_id, kind || ' at ' || location_id, 'two active plans'
              FROM active GROUP BY tenant_id, kind, location_id HAVING count(*) > 1
        )
        SELECT tenant_id, fault, count(*)::integer AS lines, min(example) AS example FROM looked GROUP BY 1, 2 ORDER BY 1, 2
        """,
        {"tenant_ids": list(tenant_ids), "plan_date": plan_date},
    )


def read_planning_times(connection: Connection) -> pd.DataFrame:
    """When the active tenants are planned: tenant_id, timezone, plan_lead_days, planned_at (local time), created_at."""
    return frame(
        connection,
        """
        SELECT tenant_id, timezone, plan_lead_days, production_planning_at AS planned_at, created_at
          FROM master.tenant JOIN master.schedule_group USING (schedule_group)
         WHERE status = 'active' ORDER BY tenant_id
        """,
    )


def read_production_planned(connection: Connection, days: Sequence[tuple[str, date]]) -> set[tuple[str, date]]:
    """Those of the (tenant, plan date) pairs that have an active production plan."""
    rows = connection.execute(
        """
        SELECT DISTINCT plan.tenant_id, plan.plan_date
          FROM unnest(%s::text[], %s::date[]) AS asked (tenant_id, plan_date)
          JOIN plans.plan USING (tenant_id, plan_date)
         WHERE plan.kind = 'production' AND plan.status = 'active'
        """,
        ([tenant_id for tenant_id, _ in days], [on for _, on in days]),
    )
    return set(rows.fetchall())


def read_waiting_failures(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """The failures that wait for a person, by tenant, the latest first: workflow, plan_date, link, reason, remedy."""
    rows = frame(
        connection,
        """
        SELECT tenant_id, workflow, plan_date, link, reason, remedy FROM ops.failure
         WHERE state = 'review' AND resolved_at IS NULL ORDER BY tenant_id, failed_at DESC, failure_id DESC
        """,
    )
    return {str(tenant_id): of.to_dict("records") for tenant_id, of in rows.groupby("tenant_id")}


def read_statuses(connection: Connection, check_name: str) -> dict[tuple[str, date], tuple[str, float | None]]:
    """What a check says of the latest day of each tenant: (tenant, day) -> status and value."""
    rows = connection.execute(
        "SELECT tenant_id, business_date, status, value FROM quality.check_state WHERE check_name = %s", (check_name,)
    )
    return {(tenant_id, on): (status, value) for tenant_id, on, status, value in rows}


def write_results(
    connection: Connection, results: Iterable[tuple[date, CheckResult]], run_id: str | None, now: datetime
) -> None:
    """Keep results of days, each in place of what the check said of that day before. What Dagster was told is left as it is."""
    kept = list(results)
    connection.execute(
        """
        INSERT INTO quality.check_result AS kept (tenant_id, asset, check_name, business_date, status, value, threshold,
                                                  message, details, run_id, evaluated_at)
        SELECT made.*, %(run_id)s, %(now)s
          FROM unnest(%(tenant)s::text[], %(asset)s::text[], %(check)s::text[], %(day)s::date[], %(status)s::text[],
                      %(value)s::float8[], %(threshold)s::float8[], %(message)s::text[], %(details)s::jsonb[]) AS made
        ON CONFLICT (tenant_id, asset, check_name, business_date) DO UPDATE
           SET status = excluded.status, value = excluded.value, threshold = excluded.threshold,
               message = excluded.message, details = excluded.details, run_id = excluded.run_id,
               evaluated_at = excluded.evaluated_at
        """,
        {
            "tenant": [result.tenant_id for _, result in kept],
            "asset": [result.asset for _, result in kept],
            "check": [result.check_name for _, result in kept],
            "day": [on for on, _ in kept],
            "status": [result.status for _, result in kept],
            "value": [result.value for _, result in kept],
            "threshold": [result.threshold for _, result in kept],
            "message": [result.message for _, result in kept],
            "details": [json.dumps(dict(result.details), allow_nan=False) for _, result in kept],
            "run_id": run_id,
            "now": now,
        },
    )


def read_untold(
    connection: Connection,
    tenant_ids: Sequence[str],
    assets: Sequence[str],
    within: tuple[date, date],
    *,
    evaluated_since: datetime,
    is_every: bool = False,
    is_again: bool = False,
) -> pd.DataFrame:
    """The results that Dagster has to be told: tenant_id, asset, check_name, business_date, status, value, and so on.

    within: the first and last day that its grid holds. evaluated_since: older results have had their turn. These are told:
    a tenant's first result of a check, one that says something else than the day before it, and one that says something
    else than what was told of its own day. is_every: also those that say the same as the day before. is_again: also what
    has been told, and what is undefined. A model has one cell, that of its tenant: of it only the latest day is told.
    """
    return frame(
        connection,
        """
        SELECT made.*
          FROM quality.check_result AS made
          LEFT JOIN LATERAL (
              SELECT reported_status FROM quality.check_result AS before
               WHERE (before.tenant_id, before.asset, before.check_name) = (made.tenant_id, made.asset, made.check_name)
                 AND before.business_date < made.business_date AND before.reported_status IS NOT NULL
               ORDER BY before.business_date DESC LIMIT 1
          ) AS told ON made.reported_status IS NULL
         WHERE made.tenant_id = ANY(%(tenant_ids)s::text[]) AND made.asset = ANY(%(assets)s::text[])
           AND made.business_date BETWEEN %(first)s AND %(last)s AND made.evaluated_at >= %(since)s
           AND (%(is_again)s
                OR (made.reported_status IS DISTINCT FROM made.status
                    AND (made.reported_status IS NOT NULL
                         OR (made.status <> 'undefined'
                             AND (%(is_every)s OR told.reported_status IS DISTINCT FROM made.status)))))
           AND (made.asset <> 'forecast_models'
                OR NOT EXISTS (SELECT FROM quality.check_result AS later
                                WHERE (later.tenant_id, later.asset, later.check_name)
                                    = (made.tenant_id, made.asset, made.check_name)
                                  AND later.business_date > made.business_date))
         ORDER BY made.business_date, made.tenant_id, made.check_name
        """,
        {
            "tenant_ids": list(tenant_ids),
            "assets": list(assets),
            "first": within[0],
            "last": within[1],
            "since": evaluated_since,
            "is_every": is_every,
            "is_again": is_again,
        },
    )


def mark_told(connection: Connection, told: pd.DataFrame) -> None:
    """Note what Dagster was told: rows of `read_untold`, with the status that they had."""
    connection.execute(
        """
        UPDATE quality.check_result AS kept SET reported_status = told.status
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::date[], %s::text[])
            AS told (tenant_id, asset, check_name, business_date, status)
         WHERE (kept.tenant_id, kept.asset, kept.check_name, kept.business_date)
             = (told.tenant_id, told.asset, told.check_name, told.business_date)
        """,
        [list(told[name]) for name in ("tenant_id", "asset", "check_name", "business_date", "status")],
    )
