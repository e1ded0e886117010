"""Reads how errors developed: the view quality.validation_trend, for pictures, tables and the command line."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pandas as pd

from resources.store.database import Connection, frame
from resources.store.inputs import batch_frame

SHOWN_DAYS = 30
"""Calendar days of a trend that people are shown."""


def read_trends(connection: Connection, tenant_ids: Sequence[str], on: date, days: int = SHOWN_DAYS) -> pd.DataFrame:
    """The open days of the last `days` calendar days through `on`: the columns of quality.validation_trend.

    Errors in %, changes in points, NaN where undefined; ordered by tenant and day.
    """
    return batch_frame(
        connection,
        """
        SELECT * FROM quality.validation_trend
         WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date BETWEEN %(first)s AND %(on)s
         ORDER BY tenant_id, business_date
        """,
        tenant_ids,
        {"first": on - timedelta(days=days - 1), "on": on},
    )


TREND_COLUMNS = ("trailing_days", "trailing_wape_pct", "week_over_week_points", "change_in_30_days_points")

SHOWN_PRODUCTS = 3
"""Products named as the best and the worst of a day."""


def read_validations(connection: Connection, tenant_ids: Sequence[str], on: date) -> list[dict[str, Any]]:
    """What the validation of a day says of each tenant, None where undefined: the headline, the trend, the best and the
    worst products, and the claims that do not hold."""
    headlines = frame(
        connection,
        """
        SELECT v.tenant_id, m.rows_used, m.wape_pct, m.naive_wape_pct, m.mape_pct, m.accuracy_pct, m.bias_pct, m.rmse_units,
               m.r2, m.coverage_pct
          FROM quality.validation AS v
          LEFT JOIN quality.validation_metric AS m
                 ON m.tenant_id = v.tenant_id AND m.business_date = v.business_date AND m.scope = 'overall'
                AND m.days_ahead = 0
         WHERE v.tenant_id = ANY(%(tenant_ids)s::text[]) AND v.business_date = %(on)s
         ORDER BY 1
        """,
        {"tenant_ids": list(tenant_ids), "on": on},
    )
    trends = read_trends(connection, tenant_ids, on, days=1)[["tenant_id", *TREND_COLUMNS]]
    headlines = headlines.merge(trends, how="left", on="tenant_id")
    products = frame(
        connection,
        """
        SELECT tenant_id, product_id, wape_pct, rows_used, actual_units FROM quality.validation_metric
         WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date = %(on)s AND scope = 'product' AND days_ahead = 0
           AND wape_pct IS NOT NULL
         ORDER BY tenant_id, wape_pct, product_id
        """,
        {"tenant_ids": list(tenant_ids), "on": on},
    )
    broken = frame(
        connection,
        """
        SELECT tenant_id, check_name, status, value, threshold, message FROM quality.check_result
         WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND business_date = %(on)s AND status IN ('warned', 'failed')
           AND asset IN ('validation_metrics', 'forecast_models')
         ORDER BY tenant_id, check_name
        """,
        {"tenant_ids": list(tenant_ids), "on": on},
    )
    ranked = {tenant_id: _records(rows) for tenant_id, rows in products.groupby("tenant_id")}
    failing = {tenant_id: _records(rows) for tenant_id, rows in broken.groupby("tenant_id")}
    return [
        {
            "tenant_id": tenant_id,
            **numbers,
            "worst_products": ranked.get(tenant_id, [])[::-1][:SHOWN_PRODUCTS],
            "best_products": ranked.get(tenant_id, [])[:SHOWN_PRODUCTS],
            "checks": failing.get(tenant_id, []),
        }
        for tenant_id, numbers in zip(headlines["tenant_id"], _records(headlines), strict=True)
    ]


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows without their tenant, what is missing as None."""
    plain = rows.drop(columns="tenant_id").astype(object)
    return [
        {str(name): value for name, value in row.items()} for row in plain.where(plain.notna(), None).to_dict("records")
    ]
