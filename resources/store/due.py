"""What a schedule's tick asks the store: who lives in the zone, what exists already, what was tried."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import pandas as pd

from resources.store.database import Connection, frame
from resources.store.plans import read_planned, up_to_date
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
    """Per tenant: date, is_current (planned from the current inputs, and reported), exists (any active plan), version."""
    run_date = plan_date - timedelta(days=lead_days)
    state = up_to_date(connection, tenant_ids, plan_date, dict.fromkeys(tenant_ids, run_date))
    versions = input_versions(connection, tenant_ids)
    return pd.DataFrame(
        {
            "tenant_id": state["tenant_id"],
            "date": pd.Series([plan_date] * len(state), dtype=object),
            "is_current": state["is_current"] & state["is_reported"],
            "exists": state["tenant_id"].isin(read_planned(connection, tenant_ids, plan_date, "production")),
            "version": [inputs_hash(versions[tenant_id], plan_date, run_date) for tenant_id in state["tenant_id"]],
        }
    )


def read_validation_state(
    connection: Connection, tenant_ids: Sequence[str], business_date: date, _lead_days: int
) -> pd.DataFrame:
    """Per tenant with forecasts of the day: date, is_current, exists (both: any validation), version of the sales.

    A day is asked for here until it has been validated once. What comes later, sales of it or a validation that was
    missed, is asked for by the sensor of late sales (`late_sales.claim_stale`), so that no day is asked for by both.
    """
    return frame(
        connection,
        """
        SELECT f.tenant_id, %(on)s AS date, v.tenant_id IS NOT NULL AS is_current,
               v.tenant_id IS NOT NULL AS exists, coalesce(i.version, 0)::text AS version
          FROM (SELECT DISTINCT tenant_id FROM plans.plan
                 WHERE tenant_id = ANY(%(tenants)s) AND kind = 'forecast' AND status = 'active'
                   AND plan_date = %(on)s) AS f
          LEFT JOIN quality.validation AS v ON v.tenant_id = f.tenant_id AND v.business_date = %(on)s
          LEFT JOIN ops.input_version AS i ON i.tenant_id = f.tenant_id AND i.input = 'sales'
         ORDER BY 1
        """,
        {"tenants": list(tenant_ids), "on": business_date},
    )


def read_attempts(
    connection: Connection, workflow: str, tenant_ids: Sequence[str], since: datetime
) -> dict[tuple[str, date], datetime]:
    """When a workflow last began since an instant, per tenant and date that it began for."""
    rows = connection.execute(
        """
        SELECT tenant_id, plan_date, max(started_at) FROM ops.execution
         WHERE workflow = %s AND tenant_id = ANY(%s) AND started_at >= %s
         GROUP BY tenant_id, plan_date
        """,
        (workflow, list(tenant_ids), since),
    )
    return {(tenant_id, plan_date): started_at for tenant_id, plan_date, started_at in rows}


def read_up_to_date(connection: Connection, tenant_ids: Sequence[str], plan_date: date) -> list[str]:
    """Those of the tenants whose plan for the date has the current inputs."""
    leads = connection.execute(
        "SELECT tenant_id, plan_lead_days FROM master.tenant WHERE tenant_id = ANY(%s)", (list(tenant_ids),)
    )
    run_dates = {tenant_id: plan_date - timedelta(days=lead) for tenant_id, lead in leads}
    state = up_to_date(connection, list(run_dates), plan_date, run_dates)
    return sorted(state.loc[state["is_current"], "tenant_id"])
