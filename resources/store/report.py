"""Reads for showing one tenant's plan: the sheets that a baker or a buyer would print. Nothing here is computed on."""

from datetime import date

import pandas as pd

from resources.store.database import Connection, frame


def read_production_sheet(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """What to make on the plan date, per location and product, with the expected result in the tenant's currency."""
    return frame(
        connection,
        """
        SELECT line.location_id, location.name AS location_name, line.product_id, item.name AS product_name,
               line.batches, line.batch_size_units::float8, line.quantity_units::float8, line.orders_units::float8,
               line.mean_demand_units::float8, line.opening_usable_units::float8, line.expected_sales_units::float8,
               line.expected_waste_units::float8, line.expected_lost_units::float8, line.expected_profit::float8,
               line.expected_carried_units::float8, line.sold_out_probability::float8, line.critical_ratio::float8,
               line.is_default_critical_ratio, line.limited_by, line.limiting_resource_id, line.unlimited_batches,
               line.recommended_batches, line.override_by, line.override_reason, line.ready_by, line.is_late,
               line.batch_marginal_values::float8[], line.batch_resource_ids, line.batch_starts_at, line.batch_bakes_at,
               line.batch_ready_at, plan.revision
        FROM plans.plan
        JOIN plans.production_line AS line USING (tenant_id, plan_date, plan_id)
        JOIN master.location ON location.tenant_id = line.tenant_id AND location.location_id = line.location_id
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.product_id
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'production' AND plan.status = 'active'
        ORDER BY line.location_id, line.quantity_units DESC, line.product_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_dough_sheet(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """What to mix for the plan date, per location and dough, in its base unit: the runs with their times, and what for."""
    return frame(
        connection,
        """
        SELECT line.location_id, line.item_id, item.name AS item_name, item.base_unit, line.quantity::float8,
               line.opening_usable_quantity::float8, line.runs, line.run_quantities::float8[], line.run_resource_ids,
               line.run_starts_at, line.run_ends_at, line.product_ids, line.product_quantities::float8[], plan.revision
        FROM plans.plan
        JOIN plans.dough_line AS line USING (tenant_id, plan_date, plan_id)
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.item_id
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'production' AND plan.status = 'active'
        ORDER BY line.location_id, line.item_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_purchases(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """What to buy and what was bought on the plan date: the active lines, and orders that earlier revisions placed.

    is_earlier_revision marks the latter: they stand although the plan was made again.
    """
    return frame(
        connection,
        """
        SELECT line.line_id, line.purchase_order_id, line.location_id, line.supplier_id,
               supplier.name AS supplier_name, line.item_id, item.name AS item_name,
               item.base_unit, line.order_by, line.delivery_on, line.needed_on, line.packs, line.pack_quantity::float8,
               line.quantity::float8, line.price_per_pack::float8, line.amount::float8, line.status, line.is_late,
               line.reason, line.lot_rule, line.recommended_packs, line.override_by, line.override_reason,
               line.alternatives, line.peg_product_ids, line.peg_shares::float8[], plan.revision, plan.approval,
               plan.status <> 'active' AS is_earlier_revision
        FROM plans.plan
        JOIN plans.purchase_line AS line USING (tenant_id, plan_date, plan_id)
        JOIN master.supplier ON supplier.tenant_id = line.tenant_id AND supplier.supplier_id = line.supplier_id
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.item_id
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s AND plan.kind = 'procurement'
          AND (plan.status = 'active' OR line.status = 'ordered')
        ORDER BY line.order_by, line.supplier_id, line.delivery_on, line.item_id, plan.revision
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_stock_alerts(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """Items that run out or expire within the projection's 14 days, the most urgent first."""
    return frame(
        connection,
        """
        SELECT line.location_id, line.item_id, item.name AS item_name, item.base_unit, line.opening_quantity::float8,
               line.cover_days, line.stock_out_on, line.order_by, total.shortage_quantity, total.expired_quantity,
               line.expired_value::float8
        FROM plans.plan
        JOIN plans.projection AS line USING (tenant_id, plan_date, plan_id)
        JOIN master.item ON item.tenant_id = line.tenant_id AND item.item_id = line.item_id
        CROSS JOIN LATERAL (
            SELECT sum(shortage)::float8 AS shortage_quantity, sum(expired)::float8 AS expired_quantity
            FROM unnest(line.shortage_quantity, line.expired_quantity) AS day (shortage, expired)
        ) AS total
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s
          AND plan.kind = 'projection' AND plan.status = 'active'
          AND (line.stock_out_on IS NOT NULL OR total.expired_quantity > 0)
        ORDER BY line.stock_out_on NULLS LAST, line.expired_value DESC NULLS LAST, line.location_id, line.item_id
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_downtimes(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """When resources hold something else than usual on the date, local time; until_at is none to the end of the day."""
    return frame(
        connection,
        """
        SELECT resource.location_id, calendar.resource_id, calendar.from_at, calendar.until_at,
               calendar.capacity::float8, resource.capacity::float8 AS usual_capacity, calendar.reason
        FROM master.resource_calendar AS calendar JOIN master.resource USING (tenant_id, resource_id)
        WHERE calendar.tenant_id = %(tenant_id)s AND calendar.on_date = %(plan_date)s
          AND calendar.capacity <> resource.capacity
        ORDER BY resource.location_id, calendar.resource_id, calendar.from_at
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_exceptions(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """What the active plans could not know or do, with the remedy."""
    return frame(
        connection,
        """
        SELECT plan.kind, note.link, note.location_id, note.subject_kind, note.subject_id, note.code, note.message,
               note.remedy
        FROM plans.plan JOIN plans.exception AS note USING (tenant_id, plan_date, plan_id)
        WHERE plan.tenant_id = %(tenant_id)s AND plan.plan_date = %(plan_date)s AND plan.status = 'active'
        ORDER BY array_position(ARRAY['forecast', 'production', 'procurement', 'projection'], plan.kind),
                 note.location_id, note.exception_no
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )


def read_failures(connection: Connection, tenant_id: str, plan_date: date) -> pd.DataFrame:
    """Why the tenant was set aside on the date, as far as it is not resolved; the latest first."""
    return frame(
        connection,
        """
        SELECT workflow, link, reason, remedy, run_id, failed_at FROM ops.failure
        WHERE tenant_id = %(tenant_id)s AND plan_date = %(plan_date)s AND resolved_at IS NULL
        ORDER BY failed_at DESC, failure_id DESC
        """,
        {"tenant_id": tenant_id, "plan_date": plan_date},
    )
