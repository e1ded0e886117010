"""A small bakery in the store, and plans for it, for tests of the store. Quantities are chosen to be recognised, not real."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd

from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel, exceptions_of, frame_of
from resources.store.database import Connection, Store
from resources.store.plans import WriteContext, ensure_plan_partitions
from resources.store.versions import bump_input_version, input_versions

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
NO_BACKTEST = frame_of(["tenant_id", "method", "rows", "wape_pct", "bias_pct", "is_champion"])


def add_bakery(store: Store, tenant_id: str, days: Sequence[date] = (DAY,), plan_lead_days: int = 0) -> None:
    """A tenant that bakes bread and two-day cake at `main` and sells them there and, from `main`, at `kiosk`."""
    with store.transaction() as connection:
        connection.execute("SELECT ops.ensure_partitions('facts.sales', '2025-01-01', '2026-12-31', '1 year')")
        connection.execute(
            """
            INSERT INTO master.tenant (tenant_id, name, timezone, country, plan_lead_days, created_at)
            VALUES (%s, 'Test', 'Europe/Madrid', 'ES', %s, %s)
            """,
            (tenant_id, plan_lead_days, NOW),
        )
        for statement in MASTER.split(";"):
            connection.execute(statement, {"t": tenant_id})  # type: ignore[arg-type]
        bump_input_version(connection, tenant_id, "products", NOW)
    for day in days:
        ensure_plan_partitions(store, day)


MASTER = """
INSERT INTO master.location (tenant_id, location_id, name) VALUES (%(t)s, 'main', 'Main'), (%(t)s, 'kiosk', 'Kiosk');
INSERT INTO master.item (tenant_id, item_id, name, kind, base_unit, shelf_life_days, unit_cost) VALUES
    (%(t)s, 'bread', 'Bread', 'product', 'unit', 1, NULL), (%(t)s, 'cake', 'Cake', 'product', 'unit', 3, NULL),
    (%(t)s, 'dough', 'Dough', 'dough', 'kg', NULL, NULL), (%(t)s, 'flour', 'Flour', 'ingredient', 'kg', 90, 1.1),
    (%(t)s, 'salt', 'Salt', 'ingredient', 'kg', NULL, 0.5);
INSERT INTO master.product (tenant_id, product_id) VALUES (%(t)s, 'bread'), (%(t)s, 'cake');
INSERT INTO master.assortment (tenant_id, location_id, product_id, made_at_location_id) VALUES
    (%(t)s, 'main', 'bread', 'main'), (%(t)s, 'main', 'cake', 'main'), (%(t)s, 'kiosk', 'bread', 'main');
INSERT INTO master.recipe (tenant_id, output_item_id, version, output_quantity, recorded_at)
    VALUES (%(t)s, 'dough', 1, 10, '2026-01-01'), (%(t)s, 'bread', 1, 10, '2026-01-01');
INSERT INTO master.recipe_line (tenant_id, output_item_id, version, item_id, quantity) VALUES
    (%(t)s, 'dough', 1, 'flour', 6), (%(t)s, 'dough', 1, 'salt', 0.1), (%(t)s, 'bread', 1, 'dough', 9);
INSERT INTO master.supplier (tenant_id, supplier_id, name) VALUES (%(t)s, 'mill', 'Mill');
INSERT INTO master.supplier_item (tenant_id, supplier_id, item_id, lead_days, pack_quantity)
    VALUES (%(t)s, 'mill', 'flour', 1, 25)
"""


def add_sales(
    connection: Connection, tenant_id: str, rows: Sequence[tuple[str, str, date, float]], source: str = ""
) -> None:
    """Sales rows of location, product, day and units; the sales version moves on."""
    connection.cursor().executemany(
        """
        INSERT INTO facts.sales (tenant_id, location_id, product_id, business_date, quantity_units, source_id, recorded_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        [(tenant_id, *row, source, NOW) for row in rows],
    )
    bump_input_version(connection, tenant_id, "sales", NOW)


def context(
    connection: Connection, tenant_ids: Sequence[str], day: date = DAY, now: datetime = NOW, lead_days: int = 0
) -> WriteContext:
    """The write context of tenants that open at 07:00 UTC."""
    opens_at = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=7)
    return WriteContext(
        plan_date=day,
        run_dates=dict.fromkeys(tenant_ids, day - timedelta(days=lead_days)),
        versions=input_versions(connection, tenant_ids),
        run_id="run-1",
        now=now,
        opened_at={(tenant_id, ""): opens_at for tenant_id in tenant_ids},
    )


def forecasts(tenant_ids: Sequence[str], day: date = DAY, units: float = 10.0) -> Panel:
    """Forecasts of bread and cake at main and bread at kiosk, each rising by one a day from `units`."""
    series = [("main", "bread"), ("main", "cake"), ("kiosk", "bread")]
    keys = pd.DataFrame(
        [
            (tenant_id, *place, "naive", "the best", "naive-1", day - timedelta(days=1), 0)
            for tenant_id in tenant_ids
            for place in series
        ],
        columns=["tenant_id", "location_id", "product_id", "method", "method_reason", "model_version", "last_history_on",
                 "volume_class"],
    )  # fmt: skip
    mean = units + np.tile(np.arange(PLAN_DAYS, dtype=float), (len(keys), 1))
    return Panel(
        keys,
        {
            "mean_units": mean,
            "raw_mean_units": mean,
            "quantile_units": mean[:, :, np.newaxis] * (0.5 + np.array(QUANTILE_LEVELS)),
            "is_open": np.ones_like(mean, dtype=bool),
        },
        day,
    )


def production_lines(tenant_ids: Sequence[str], units: float = 40.0, product_id: str = "bread") -> pd.DataFrame:
    """One production line per tenant, made at main, the price unknown."""
    return pd.DataFrame(
        [
            {
                "tenant_id": tenant_id, "location_id": "main", "product_id": product_id, "orders_units": 0.0,
                "mean_demand_units": units, "critical_ratio": 0.7, "is_default_critical_ratio": True,
                "optimal_units": units, "opening_usable_units": 0.0, "batch_size_units": 1.0, "batches": int(units),
                "quantity_units": units, "expected_sales_units": units - 2, "expected_waste_units": 2.0,
                "expected_lost_units": 1.0, "expected_profit": np.nan, "sold_out_probability": 0.3,
                "limited_by": "none", "unit_price": np.nan, "variable_cost": np.nan, "salvage_value": 0.0,
                "goodwill_cost": 0.0, "batch_marginal_values": [1.5, 0.25],
                "horizon_units": [units + n for n in range(PLAN_DAYS)],
                "unlimited_batches": int(units) + 3, "recommended_batches": int(units), "limiting_resource_id": None,
                "expected_carried_units": 0.0, "deviation_units": [0.5 * n for n in range(PLAN_DAYS)],
                "override_by": None, "override_reason": None, "batch_resource_ids": [], "batch_starts_at": [],
                "batch_bakes_at": [], "batch_ready_at": [], "ready_by": None, "is_late": False,
            }
            for tenant_id in tenant_ids
        ]
    )  # fmt: skip


def doughs(tenant_ids: Sequence[str], day: date = DAY) -> pd.DataFrame:
    """36 kg of dough in two runs, the second while the first still mixes."""
    begin = datetime.combine(day, datetime.min.time(), UTC)
    return pd.DataFrame(
        [
            {
                "tenant_id": tenant_id, "location_id": "main", "item_id": "dough", "quantity": 36.0,
                "opening_usable_quantity": 1.5, "runs": 2, "run_quantities": [18.0, 18.0],
                "run_resource_ids": ["mixer", None], "run_starts_at": [begin, begin + timedelta(minutes=10)],
                "run_ends_at": [begin + timedelta(minutes=20), begin + timedelta(minutes=30)],
                "product_ids": ["bread"], "product_quantities": [36.0],
                "horizon_quantity": [36.0 + n for n in range(PLAN_DAYS)],
            }
            for tenant_id in tenant_ids
        ]
    )  # fmt: skip


def requirements(tenant_ids: Sequence[str], day: date = DAY, gross: float = 6.0) -> Panel:
    """Flour at main, `gross` kg on the first day and one kg more each day after."""
    keys = pd.DataFrame(
        [(tenant_id, "main", "flour", 30.0, 2.5, "95 % of 3 days") for tenant_id in tenant_ids],
        columns=[
            "tenant_id", "location_id", "item_id", "opening_quantity", "safety_stock_quantity", "safety_stock_reason",
        ],
    )  # fmt: skip
    gross_quantity = gross + np.tile(np.arange(PLAN_DAYS, dtype=float), (len(keys), 1))
    names = (
        "scheduled_receipts_quantity", "net_quantity", "planned_receipts_quantity", "projected_on_hand_quantity",
        "deviation_quantity",
    )  # fmt: skip
    return Panel(
        keys,
        {"gross_quantity": gross_quantity, **{name: gross_quantity * 0 + n for n, name in enumerate(names)}},
        day,
    )


def purchase_lines(tenant_ids: Sequence[str], day: date = DAY) -> pd.DataFrame:
    """Flour to be ordered on the day for the next, and flour to be ordered three days later."""
    return pd.DataFrame(
        [
            {
                "tenant_id": tenant_id, "location_id": "main", "supplier_id": "mill", "item_id": "flour",
                "order_by": day + timedelta(days=wait), "delivery_on": day + timedelta(days=wait + 1),
                "needed_on": day + timedelta(days=wait + 1), "net_quantity": 20.0, "packs": packs,
                "pack_quantity": 25.0, "quantity": 25.0 * packs, "price_per_pack": 20.0, "amount": 20.0 * packs,
                "is_late": False, "reason": "covers 3 days", "peg_product_ids": ["bread"], "peg_shares": [1.0],
                "expires_on": day + timedelta(days=90), "order_key": f"mill/{wait}", "lot_rule": "delivery_calendar",
                "recommended_packs": packs, "override_by": None, "override_reason": None,
                "covers_quantity": [0.0] * wait + [20.0] + [0.0] * (PLAN_DAYS - wait - 1),
                "alternatives": [{"supplier_id": "depot", "price_per_base_unit": 0.9, "reason": "dearer"}],
            }
            for tenant_id in tenant_ids
            for wait, packs in ((0, 1), (3, 2))
        ]
    )  # fmt: skip


def projections(tenant_ids: Sequence[str], day: date = DAY) -> Panel:
    """Flour at main, out of stock on the sixth day."""
    keys = pd.DataFrame(
        [(tenant_id, "main", "flour", 30.0, 5, day + timedelta(days=5), None, np.nan, 0.75) for tenant_id in tenant_ids],
        columns=[
            "tenant_id", "location_id", "item_id", "opening_quantity", "cover_days", "stock_out_on", "order_by",
            "expired_value", "stock_out_probability",
        ],
    )  # fmt: skip
    names = ("receipts", "consumption", "shortage", "expired", "closing")
    matrices = {f"{name}_quantity": np.full((len(keys), PLAN_DAYS), float(n)) for n, name in enumerate(names)}
    matrices |= {
        "stock_out_probability_by_day": np.tile(np.arange(PLAN_DAYS) / 20, (len(keys), 1)),
        "closing_low_quantity": matrices["closing_quantity"] - 1,
        "closing_high_quantity": matrices["closing_quantity"] + 1,
    }
    return Panel(keys, matrices, day)


NO_EXCEPTIONS = exceptions_of()
