"""Keeps the residuals of model forecasts, and the residual table that a tenant's quantiles are made of.

Days of forecasts that served replace those of the model that was tried at training, so that the table follows the seasons
between trainings. What a residual is, is decided in `planning.quantiles`.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.quantiles import RESIDUAL_DAYS, UNMEASURED_WIDENING, Spread
from resources.store.database import Connection

KEPT_DAYS = 2 * RESIDUAL_DAYS
"""Residuals are kept for a table as of any day of the last weeks, since sales may come late."""


def write_residuals(connection: Connection, residuals: pd.DataFrame, *, is_live: bool) -> None:
    """Replace tenants' days: tenant_id, business_date, volume_class, residual, one row each. Live days stay live."""
    days = residuals.groupby(["tenant_id", "business_date"], sort=True)
    connection.cursor().executemany(
        """
        INSERT INTO quality.residual AS kept (tenant_id, business_date, is_live, volume_class, residual)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (tenant_id, business_date) DO UPDATE
           SET is_live = excluded.is_live, volume_class = excluded.volume_class, residual = excluded.residual
         WHERE excluded.is_live OR NOT kept.is_live
        """,
        [
            (tenant_id, on, is_live, rows["volume_class"].astype(int).tolist(), rows["residual"].tolist())
            for (tenant_id, on), rows in days
        ],
    )


def forget_live_residuals(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> None:
    """Delete a day's live residuals, before it is validated again: it may have none any more."""
    connection.execute(
        "DELETE FROM quality.residual WHERE tenant_id = ANY(%s) AND business_date = %s AND is_live",
        (list(tenant_ids), business_date),
    )


def refresh_spreads(connection: Connection, tenant_ids: Sequence[str], business_date: date) -> None:
    """Make the tables that hold a day anew: the one through it, and the tenant's later ones, each of the six weeks through.

    The extended days' widening is that of the model trained last. Tables and residuals that nothing needs are deleted.
    """
    ages = connection.execute(
        """
        SELECT kept.tenant_id, kept.through_on FROM quality.residual_spread AS kept
         WHERE kept.tenant_id = ANY(%(tenants)s) AND kept.through_on BETWEEN %(on)s AND %(on)s + %(days)s
        """,
        {"tenants": list(tenant_ids), "on": business_date, "days": RESIDUAL_DAYS},
    ).fetchall()
    wanted = sorted({*ages, *((tenant_id, business_date) for tenant_id in tenant_ids)})
    rows = connection.execute(
        """
        SELECT tenant_id, business_date, volume_class, residual FROM quality.residual
         WHERE tenant_id = ANY(%s) AND business_date > %s ORDER BY 1, 2
        """,
        (list(tenant_ids), business_date - timedelta(days=RESIDUAL_DAYS)),
    ).fetchall()
    widening = dict(
        connection.execute(
            """
            SELECT DISTINCT ON (tenant_id) tenant_id, (spread ->> 'widening')::float8 FROM quality.forecast_model
             WHERE tenant_id = ANY(%s) ORDER BY tenant_id, version DESC
            """,
            (list(tenant_ids),),
        ).fetchall()
    )
    of_tenant = defaultdict(list)
    for row in rows:
        of_tenant[row[0]].append(row)
    for tenant_id, through_on in wanted:
        first_on = through_on - timedelta(days=RESIDUAL_DAYS - 1)
        chosen = [row for row in of_tenant[tenant_id] if first_on <= row[1] <= through_on]
        if not chosen:
            continue
        spread = Spread.of(
            np.concatenate([np.asarray(row[3], dtype=float) for row in chosen]),
            np.concatenate([np.asarray(row[2], dtype=np.int64) for row in chosen]),
            widening.get(tenant_id, UNMEASURED_WIDENING),
        )
        connection.execute(
            """
            INSERT INTO quality.residual_spread (tenant_id, through_on, spread) VALUES (%s, %s, %s)
            ON CONFLICT (tenant_id, through_on) DO UPDATE SET spread = excluded.spread
            """,
            (tenant_id, through_on, json.dumps(spread.as_json(), allow_nan=False)),
        )
    for statement in (
        "DELETE FROM quality.residual WHERE tenant_id = ANY(%s) AND business_date < %s",
        "DELETE FROM quality.residual_spread WHERE tenant_id = ANY(%s) AND through_on < %s",
    ):
        connection.execute(statement, (list(tenant_ids), business_date - timedelta(days=KEPT_DAYS)))


def read_spreads(connection: Connection, run_dates: Mapping[str, date]) -> dict[str, Mapping[str, object]]:
    """The last residual table from before each tenant's run date, at most six weeks old; tenants without one are left out."""
    rows = connection.execute(
        """
        SELECT run.tenant_id, kept.spread
          FROM unnest(%(tenants)s::text[], %(run_dates)s::date[]) AS run (tenant_id, run_date)
          JOIN LATERAL (
              SELECT spread FROM quality.residual_spread AS s
               WHERE s.tenant_id = run.tenant_id AND s.through_on < run.run_date
                 AND s.through_on >= run.run_date - %(days)s
               ORDER BY s.through_on DESC LIMIT 1
          ) AS kept ON true
        """,
        {"tenants": list(run_dates), "run_dates": list(run_dates.values()), "days": RESIDUAL_DAYS},
    )
    return dict(rows.fetchall())
