"""How fast the store takes a morning's plans: COPY against row-by-row INSERT of the same rows, in one run.

Run by `python -m benchmarks.store [--json] [--tenants N] [--products N] [--days N] [--dsn DSN]`. Without an address it
starts a server of its own in a temporary folder. An address given must be that of an empty database: its schemas are
made there and stay.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from planning.frames import FORECAST_DAYS, PLAN_DAYS, QUANTILE_LEVELS, Panel, exceptions_of, frame_of
from resources.postgres_server import EmbeddedPostgres
from resources.store.database import Connection, Store, copy_rows
from resources.store.inputs import read_forecasts, read_sales_panel, refresh_demand_panels
from resources.store.migrate import upgrade
from resources.store.plans import WriteContext, ensure_plan_partitions, lock_tenants, write_forecasts
from resources.store.versions import input_versions

PLAN_DATE = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
REPEATS = 3

INSERT = """
INSERT INTO plans.forecast (tenant_id, plan_date, plan_id, location_id, product_id, method, method_reason, model_version,
                            last_history_on, extended_from, is_open, mean_units, quantile_levels, quantile_units)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--products", type=int, default=30)
    parser.add_argument("--days", type=int, default=90, help="days of sales behind the panels")
    parser.add_argument("--dsn")
    options = parser.parse_args()
    with empty_server(options.dsn) as dsn:
        upgrade(dsn)
        with Store(dsn) as store:
            result = measure(store, options.tenants, options.products, options.days)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:32} {value:>12,.2f}")


def measure(store: Store, tenants: int, products: int, days: int) -> dict[str, float]:
    """Rates in rows per second and their ratio, times in seconds, medians of REPEATS runs."""
    tenant_ids = [f"bench-{n:05d}" for n in range(tenants)]
    _add_tenants(store, tenant_ids, products, days)
    ensure_plan_partitions(store, PLAN_DATE)
    panel = _forecasts(tenant_ids, products)

    def by_copy(connection: Connection) -> None:
        _write(connection, panel, tenant_ids)

    def by_insert(connection: Connection) -> None:
        headers = _write(connection, panel.select(np.zeros(len(panel), dtype=bool)), tenant_ids)
        plan_ids = dict(zip(headers["tenant_id"], headers["plan_id"], strict=True))
        with connection.cursor() as cursor:
            for n, key in enumerate(panel.keys.itertuples(index=False)):
                cursor.execute(
                    INSERT,
                    (
                        key.tenant_id,
                        PLAN_DATE,
                        plan_ids[key.tenant_id],
                        *key[1:],
                        FORECAST_DAYS,
                        panel["is_open"][n].tolist(),
                        panel["mean_units"][n].tolist(),
                        list(QUANTILE_LEVELS),
                        panel["quantile_units"][n].tolist(),
                    ),
                )

    first_day = PLAN_DATE - timedelta(days=days)
    copy_s, insert_s = _seconds(store, by_copy), _seconds(store, by_insert)
    rebuild_s = _seconds(store, lambda connection: _rebuild_panels(connection, tenant_ids))
    patch_s = _seconds(store, lambda connection: _patch_panels(connection, tenant_ids))
    panel_s = _seconds(store, lambda c: read_sales_panel(c, tenant_ids, first_day, PLAN_DATE - timedelta(days=1)))
    read_s = _seconds(store, lambda c: read_forecasts(c, tenant_ids, PLAN_DATE))
    return {
        "tenants": tenants,
        "forecast_rows": len(panel),
        "copy_rows_per_s": len(panel) / copy_s,
        "insert_rows_per_s": len(panel) / insert_s,
        "copy_over_insert": insert_s / copy_s,
        "read_forecasts_s": read_s,
        "sales_rows": tenants * products * days,
        "rebuild_panels_s": rebuild_s,
        "patch_panels_s": patch_s,
        "rebuild_over_patch": rebuild_s / patch_s,
        "read_sales_panel_s": panel_s,
    }


def _seconds(store: Store, work: Callable[[Connection], object]) -> float:
    durations = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        with store.transaction() as connection:
            work(connection)
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


def _write(connection: Connection, panel: Panel, tenant_ids: list[str]) -> pd.DataFrame:
    """A revision of the forecasts, headers of all tenants included, as a morning writes it."""
    lock_tenants(connection, tenant_ids)
    context = WriteContext(
        plan_date=PLAN_DATE,
        run_dates=dict.fromkeys(tenant_ids, PLAN_DATE),
        versions=input_versions(connection, tenant_ids),
        run_id="benchmark",
        now=NOW,
        opened_at={},
    )
    backtest = frame_of(["tenant_id", "method", "rows", "wape_pct", "bias_pct", "is_champion"])
    return write_forecasts(connection, context, panel, backtest, exceptions_of(), tenant_ids)


def _rebuild_panels(connection: Connection, tenant_ids: list[str]) -> None:
    connection.execute("UPDATE ops.input_version SET version = version + 1 WHERE input = 'sales'")
    refresh_demand_panels(connection, tenant_ids)


def _patch_panels(connection: Connection, tenant_ids: list[str]) -> None:
    """What a morning does after each tenant has imported the sales of the last day."""
    connection.execute("UPDATE ops.input_version SET version = version + 1 WHERE input = 'sales'")
    connection.execute(
        """
        INSERT INTO ops.input_change (tenant_id, input, version, first_on, last_on)
        SELECT tenant_id, input, version, %(day)s, %(day)s FROM ops.input_version
        WHERE tenant_id = ANY(%(tenant_ids)s) AND input = 'sales'
        """,
        {"tenant_ids": tenant_ids, "day": PLAN_DATE - timedelta(days=1)},
    )
    refresh_demand_panels(connection, tenant_ids)


def _forecasts(tenant_ids: list[str], products: int) -> Panel:
    keys = pd.DataFrame(
        [
            (tenant_id, "main", f"p{n:03d}", "seasonal_naive", "lowest error", "naive-1", PLAN_DATE - timedelta(days=1))
            for tenant_id in tenant_ids
            for n in range(products)
        ],
        columns=[
            "tenant_id",
            "location_id",
            "product_id",
            "method",
            "method_reason",
            "model_version",
            "last_history_on",
        ],
    ).assign(volume_class=0)
    mean = np.random.default_rng(1).gamma(2, 20, (len(keys), PLAN_DAYS))
    return Panel(
        keys,
        {
            "mean_units": mean,
            "raw_mean_units": mean,
            "quantile_units": mean[:, :, np.newaxis] * (0.5 + np.array(QUANTILE_LEVELS)),
            "is_open": np.ones_like(mean, dtype=bool),
        },
        PLAN_DATE,
    )


def _add_tenants(store: Store, tenant_ids: list[str], products: int, days: int) -> None:
    series = [(tenant_id, f"p{n:03d}") for tenant_id in tenant_ids for n in range(products)]
    first_day = PLAN_DATE - timedelta(days=days)
    units = np.random.default_rng(2).poisson(20, (len(series), days)).tolist()
    with store.transaction() as connection:
        copy_rows(
            connection,
            "master.tenant",
            ("tenant_id", "name", "timezone", "country", "is_synthetic", "created_at"),
            ((tenant_id, "Synthetic", "Europe/Madrid", "ES", True, NOW) for tenant_id in tenant_ids),
        )
        copy_rows(
            connection,
            "master.location",
            ("tenant_id", "location_id", "name"),
            ((t, "main", "Main") for t in tenant_ids),
        )
        copy_rows(
            connection,
            "master.item",
            ("tenant_id", "item_id", "name", "kind", "base_unit"),
            ((*key, "Product", "product", "unit") for key in series),
        )
        copy_rows(connection, "master.product", ("tenant_id", "product_id"), series)
        copy_rows(
            connection,
            "master.assortment",
            ("tenant_id", "location_id", "product_id", "made_at_location_id"),
            ((tenant_id, "main", product_id, "main") for tenant_id, product_id in series),
        )
        copy_rows(
            connection,
            "ops.input_version",
            ("tenant_id", "input", "version", "updated_at"),
            ((tenant_id, "sales", 1, NOW) for tenant_id in tenant_ids),
        )
        connection.execute("SELECT ops.ensure_partitions('facts.sales', %s, %s, '1 year')", (first_day, PLAN_DATE))
        copy_rows(
            connection,
            "facts.sales",
            ("tenant_id", "location_id", "product_id", "business_date", "quantity_units", "recorded_at"),
            (
                (tenant_id, "main", product_id, first_day + timedelta(days=day), sold, NOW)
                for (tenant_id, product_id), row in zip(series, units, strict=True)
                for day, sold in enumerate(row)
            ),
        )
    with store.transaction() as connection:
        connection.execute("ANALYZE")


@contextmanager
def empty_server(dsn: str | None) -> Iterator[str]:
    """The address given, or that of a server of our own in a temporary folder, removed at the end."""
    if dsn is not None:
        yield dsn
        return
    home = Path(tempfile.mkdtemp(prefix="daybreak-benchmark-"))
    home.chmod(0o755)  # as root the server runs as another user, who must reach it
    try:
        with EmbeddedPostgres(home) as server:
            yield server.dsn
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
