"""What a schedule's tick asks the store: who lives in the zone, what exists already, what was tried."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import pandas as pd

from resources.store.database import Connection, frame
from resources.store.plans import up_to_date
from resources.store.versions import input_versions, inputs_hash


def read_zone_tenants(connection: Connection, zone: str) -> pd.DataFrame:
    """Active tenants of a time zone: tenant_id, tier, plan_lead_days and the local times of their workflows."""
    return frame(
        connection,
        """
        SELECT t.tenant_id, t.tier, t.plan_lead_days,
               g.production_planning_at, g.procurement_planning_at, g.forecast_validation_at
          FROM master.tenant AS t JOIN master.schedule_group AS g USING (schedule_group)
         WHERE t.status = 'active' AND t.timezone = %(zone)s
         ORDER BY t.tenant_id
        """,
        {"zone": zone},
    )


def read_plan_state(connection: Connection, tenant_ids: Sequence[str], plan_date: date, lead_days: int) -> pd.DataFrame:
    """Per tenant: is_current (planned from the current inputs, and reported), exists (any active plan), version."""
    run_date = plan_date - timedelta(days=lead_days)
    state = up_to_date(connection, tenant_ids, plan_date, dict.fromkeys(tenant_ids, run_date))
    planned = frame(
        connection,
        """
        SELECT DISTINCT tenant_id FROM plans.plan
         WHERE tenant_id = ANY(%(tenants)s) AND plan_date = %(plan_date)s AND kind = 'production' AND status = 'active'
        """,
        {"tenants": list(tenant_ids), "plan_date": plan_date},
    )
    versions = input_versions(connection, tenant_ids)
    return pd.DataFrame(
        {
            "tenant_id": state["tenant_id"],
            "is_current": state["is_current"] & state["is_reported"],
            "exists": state["tenant_id"].isin(planned["tenant_id"]),
            "version": [inputs_hash(versions[tenant_id], plan_date, run_date) for tenant_id in state["tenant_id"]],
        }
    )


def read_validation_state(
    connection: Connection, tenant_ids: Sequence[str], business_date: date, _lead_days: int
) -> pd.DataFrame:
    """Per tenant with forecasts for the day: is_current (validated from the current sales), exists, version of the sales."""
    return frame(
        connection,
        """
        SELECT f.tenant_id, coalesce(v.sales_version = coalesce(i.version, 0), false) AS is_current,
               v.tenant_id IS NOT NULL AS exists, coalesce(i.version, 0)::text AS version
          FROM (SELECT DISTINCT tenant_id FROM plans.plan
                 WHERE tenant_id = ANY(%(tenants)s) AND kind = 'forecast' AND status = 'active'
                   AND plan_date BETWEEN %(business_date)s - 13 AND %(business_date)s) AS f
          LEFT JOIN quality.validation AS v ON v.tenant_id = f.tenant_id AND v.business_date = %(business_date)s
          LEFT JOIN ops.input_version AS i ON i.tenant_id = f.tenant_id AND i.input = 'sales'
         ORDER BY f.tenant_id
        """,
        {"tenants": list(tenant_ids), "business_date": business_date},
    )


def read_attempts(
    connection: Connection, workflow: str, tenant_ids: Sequence[str], plan_date: date
) -> dict[str, datetime]:
    """When a workflow last began for a date, per tenant that it began for."""
    rows = connection.execute(
        """
        SELECT tenant_id, max(started_at) FROM ops.execution
         WHERE workflow = %s AND tenant_id = ANY(%s) AND plan_date = %s AND started_at IS NOT NULL
         GROUP BY tenant_id
        """,
        (workflow, list(tenant_ids), plan_date),
    )
    return dict(rows.fetchall())
