"""Reads the active forecasts of tenants as JSON documents, made by Postgres itself, and their revision stamps.

A document's shape is what the forecast cache keeps and what its readers parse (resources/forecast_reader.py). The batch
reads forecasts as frames, in resources/store/inputs.py.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from resources.store.database import Connection

FORMAT = 1
"""Of the documents. To be raised with every change of their shape, so that a value of an older one is not read."""

Stamp = list[dict[str, Any]]
"""The active forecast plans of a tenant and date, by location: location_id, plan_id, revision, run_id, created_at.

Ids come from keys and revisions, so another database (a restored backup, a second instance) makes the same ones for
other contents; the run's id and the time of writing tell them apart.
"""


def read_stamps(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> dict[str, Stamp]:
    """The stamps of those tenants that have an active forecast for the date: headers only, by the index of active plans."""
    rows = connection.execute(
        """
        SELECT tenant_id, json_agg(json_build_object('location_id', location_id, 'plan_id', plan_id,
               'revision', revision, 'run_id', run_id, 'created_at', created_at AT TIME ZONE 'UTC') ORDER BY location_id)
        FROM plans.plan
        WHERE tenant_id = ANY(%s::text[]) AND plan_date = %s AND kind = 'forecast' AND status = 'active'
        GROUP BY tenant_id
        """,
        (list(tenant_ids), plan_date),
    )
    return dict(rows.fetchall())


def read_documents(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> dict[str, str]:
    """tenant_id -> JSON text of the tenants that have an active forecast for the date.

    Keys: format, tenant_id, plan_date, stamp (as `read_stamps` has it) and series, one per location and product. One
    statement, so that stamp and series are of one moment also while the tenant is planned again.
    """
    rows = connection.execute(
        """
        SELECT plan.tenant_id, json_build_object(
            'format', %(format)s::int, 'tenant_id', plan.tenant_id, 'plan_date', plan.plan_date,
            'stamp', json_agg(json_build_object('location_id', plan.location_id, 'plan_id', plan.plan_id,
                'revision', plan.revision, 'run_id', plan.run_id, 'created_at', plan.created_at AT TIME ZONE 'UTC')
                ORDER BY plan.location_id),
            'series', (
                SELECT coalesce(json_agg(json_build_object(
                    'location_id', line.location_id, 'product_id', line.product_id, 'method', line.method,
                    'method_reason', line.method_reason, 'model_version', line.model_version,
                    'last_history_on', line.last_history_on, 'extended_from', line.extended_from,
                    'is_open', line.is_open, 'mean_units', line.mean_units, 'quantile_levels', line.quantile_levels,
                    'quantile_units', line.quantile_units) ORDER BY line.location_id, line.product_id), '[]')
                FROM plans.forecast AS line
                WHERE line.tenant_id = plan.tenant_id AND line.plan_date = plan.plan_date
                  AND line.plan_id = ANY(array_agg(plan.plan_id))
            ))::text
        FROM plans.plan
        WHERE plan.tenant_id = ANY(%(tenant_ids)s::text[]) AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'forecast' AND plan.status = 'active'
        GROUP BY plan.tenant_id, plan.plan_date
        """,
        {"tenant_ids": list(tenant_ids), "plan_date": plan_date, "format": FORMAT},
    )
    return dict(rows.fetchall())
