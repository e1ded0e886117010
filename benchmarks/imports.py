"""How fast a file of sales is imported, and in how much memory, against a row-by-row INSERT of the same rows.

Run by `python -m benchmarks.imports [--json] [--rows N] [--dsn DSN]`. Without an address it starts a server of its own in
a temporary folder. An address given must be that of an empty database: its schemas are made there and stay. The
baseline, psycopg's execute per row in one transaction, checks nothing, has all rows in memory, and is run on fewer rows;
its time for all of them is extrapolated. Both write the same table with the same constraints.
"""

import argparse
import csv
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from resources.imports.importer import Options, import_file
from resources.postgres_server import EmbeddedPostgres
from resources.store.database import Store
from resources.store.master import Location, Tenant, add_location, add_tenant
from resources.store.migrate import upgrade

NOW = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
LAST_DAY = date(2026, 3, 1)
LOCATIONS, PRODUCTS = 10, 100
BASELINE_ROWS = 20_000

INSERT = """
INSERT INTO facts.sales (tenant_id, location_id, product_id, business_date, quantity_units, unit_price, sold_out_at, recorded_at)
VALUES ('baseline', %s, %s, %s, %s, %s, %s, %s)
"""


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dsn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="daybreak-bench-") as folder, _server(options.dsn) as dsn:
        upgrade(dsn)
        path = Path(folder) / "sales.csv"
        write_sales(path, options.rows)
        with Store(dsn) as store:
            result = measure(store, path, options.rows)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:44} {value:>14,.1f}")


def measure(store: Store, path: Path, rows: int) -> dict[str, float]:
    """Seconds, rows a second and peak resident memory (MiB, this process alone) of the import and of its baseline."""
    with store.transaction() as connection:
        for tenant_id in ("import", "baseline"):
            add_tenant(connection, Tenant(tenant_id, f"{tenant_id} (synthetic)", "Europe/Madrid", "ES", NOW))
            for n in range(LOCATIONS):
                add_location(connection, Location(tenant_id, f"location-{n}", f"Location {n}"))
    before_mib = _peak_mib()
    steps: dict[str, float] = {}
    began = time.perf_counter()

    def on_progress(step: str, _done: int, _size: int) -> None:
        steps.setdefault(step, time.perf_counter() - began)

    create = frozenset({"product"})
    report = import_file(
        store, "import", "sales", path, now=NOW, options=Options(create=create), on_progress=on_progress
    )
    seconds = time.perf_counter() - began
    peak_mib = _peak_mib()
    if report.rows_written != rows:
        raise SystemExit(f"{report.rows_written} of {rows} rows were written: {report.problems[:3]}")
    baseline_rows = min(rows, BASELINE_ROWS)
    baseline_seconds = _row_by_row(store, path, baseline_rows)
    return {
        "rows": rows,
        "file_mib": path.stat().st_size / 2**20,
        "seconds": seconds,
        "seconds_reading": steps["checking"] - steps["reading"],
        "seconds_checking": steps["writing"] - steps["checking"],
        "seconds_writing": seconds - steps["writing"],
        "rows_per_second": rows / seconds,
        "peak_rss_mib_before": before_mib,
        "peak_rss_mib": peak_mib,
        "baseline_row_by_row_rows": baseline_rows,
        "baseline_row_by_row_seconds": baseline_seconds,
        "baseline_row_by_row_rows_per_second": baseline_rows / baseline_seconds,
        "baseline_row_by_row_seconds_extrapolated": baseline_seconds / baseline_rows * rows,
        "times_faster_than_extrapolated_baseline": baseline_seconds / baseline_rows * rows / seconds,
    }


def write_sales(path: Path, rows: int) -> None:
    """Write a file of sales: every location and product each day, backwards in time from the last day."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("location_id", "product_id", "business_date", "quantity_units", "unit_price", "sold_out_at"))
        for n in range(rows):
            day = LAST_DAY - timedelta(days=n // (LOCATIONS * PRODUCTS))
            product, quantity = n // LOCATIONS % PRODUCTS, n * 7919 % 97
            sold_out_at = f"{15 + n % 4}:30" if n % 11 == 0 else ""
            writer.writerow(
                (
                    f"location-{n % LOCATIONS}",
                    f"product-{product}",
                    day,
                    quantity,
                    f"{1 + product / 50:.2f}",
                    sold_out_at,
                )
            )


def _row_by_row(store: Store, path: Path, rows: int) -> float:
    with store.transaction() as connection:
        connection.execute("""
            INSERT INTO master.item (tenant_id, item_id, name, kind, base_unit)
            SELECT 'baseline', item_id, name, kind, base_unit FROM master.item WHERE tenant_id = 'import';
            INSERT INTO master.product (tenant_id, product_id)
            SELECT 'baseline', product_id FROM master.product WHERE tenant_id = 'import'
        """)
    began = time.perf_counter()
    with path.open(newline="") as stream, store.transaction() as connection:
        reader = csv.reader(stream)
        next(reader)
        for _, row in zip(range(rows), reader, strict=False):
            connection.execute(INSERT, (*row[:5], row[5] or None, NOW))
    return time.perf_counter() - began


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB here


@contextmanager
def _server(dsn: str | None) -> Iterator[str]:
    if dsn is not None:
        yield dsn
        return
    home = Path(tempfile.mkdtemp(prefix="daybreak-bench-"))
    home.chmod(0o755)  # as root the server runs as another user, who must reach it
    try:
        with EmbeddedPostgres(home) as server:
            yield server.dsn
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
