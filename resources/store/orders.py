"""Places orders: lines of approved procurement plans become goods on their way. When a plan is approved is `approval`'s."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import pandas as pd

from resources.store.database import Connection, frame


@dataclass(frozen=True)
class Approved:
    """A plan whose lines may be ordered, and the day on which they are."""

    tenant_id: str
    plan_id: UUID
    ordered_on: date


def place_orders(connection: Connection, plan_date: date, approved: Sequence[Approved]) -> pd.DataFrame:
    """Turn the pending lines of approved plans that must be ordered by then into open orders.

    Returns the lines: tenant_id, plan_id, line_id, supplier_id, item_id, order_by, delivery_on, amount. A line whose
    delivery day has passed cannot be ordered any more and stays pending. The order has the line's id: approving again
    cannot order twice.
    """
    return frame(
        connection,
        """
        WITH approved AS (
            SELECT * FROM unnest(%(tenant_ids)s::text[], %(plan_ids)s::uuid[], %(ordered_on)s::date[])
                AS approved (tenant_id, plan_id, ordered_on)
        ), due AS (
            UPDATE plans.purchase_line AS line SET status = 'ordered' FROM approved
            WHERE line.tenant_id = approved.tenant_id AND line.plan_id = approved.plan_id
              AND line.plan_date = %(plan_date)s AND line.status = 'pending'
              AND line.order_by <= approved.ordered_on AND line.delivery_on >= approved.ordered_on
            RETURNING line.*, approved.ordered_on
        ), ordered AS (
            INSERT INTO facts.purchase_order_line
                (tenant_id, order_line_id, supplier_id, item_id, location_id, quantity, amount, ordered_on, delivery_on,
                 expires_on, status, plan_date)
            SELECT due.tenant_id, due.line_id::text, due.supplier_id, due.item_id, due.location_id, due.quantity,
                   due.amount, due.ordered_on, due.delivery_on, due.delivery_on + item.shelf_life_days - 1, 'open',
                   due.plan_date
            FROM due JOIN master.item ON item.tenant_id = due.tenant_id AND item.item_id = due.item_id
        )
        SELECT tenant_id, plan_id, line_id, supplier_id, item_id, order_by, delivery_on, amount::float8
        FROM due ORDER BY tenant_id, order_by, supplier_id, item_id, delivery_on
        """,
        {
            "tenant_ids": [plan.tenant_id for plan in approved],
            "plan_ids": [plan.plan_id for plan in approved],
            "ordered_on": [plan.ordered_on for plan in approved],
            "plan_date": plan_date,
        },
    )
