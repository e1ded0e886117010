"""Imports: each becomes a materialization of its source asset, and new tenants become partitions of the grid.

An import is committed to the store alone, so that it never waits for Dagster; this sensor tells Dagster afterwards. Its
cursor is the number of the last import reported. An unreadable cursor starts again from the first import: reporting one
twice does no harm.
"""

import re

import dagster as dg

from planning_assets.partitions import TENANTS
from resources.dagster_resources import StoreResource
from resources.store.imports import read_active_tenants, read_imports

IMPORTS_A_TICK = 500
KEYS_A_TICK = 1000
CURSOR = re.compile("[0-9]{1,18}")


@dg.sensor(
    name="imports_sensor",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Records imports as materializations of the source assets and adds new tenants to the grid.",
)
def imports_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Report imports since the cursor and tenants that the grid does not know."""
    text = context.cursor or ""
    cursor = int(text) if CURSOR.fullmatch(text) else 0
    with store.open() as opened, opened.transaction() as connection:
        imports = read_imports(connection, cursor, IMPORTS_A_TICK)
        active = read_active_tenants(connection)
    known = set(context.instance.get_dynamic_partitions(str(TENANTS.name)))
    new = [tenant_id for tenant_id in active if tenant_id not in known][:KEYS_A_TICK]
    return dg.SensorResult(
        asset_events=[
            dg.AssetMaterialization(
                row.input,
                partition=row.tenant_id,
                metadata={
                    "dagster/row_count": dg.MetadataValue.int(int(row.rows_written)),
                    "rows_unchanged": dg.MetadataValue.int(int(row.rows_unchanged)),
                    "rows_quarantined": dg.MetadataValue.int(int(row.rows_quarantined)),
                    "kind": dg.MetadataValue.text(row.kind),
                    "file": dg.MetadataValue.text(row.file_name),
                    "imported_at": dg.MetadataValue.timestamp(row.imported_at),
                },
            )
            for row in imports.itertuples()
        ],
        dynamic_partitions_requests=[TENANTS.build_add_request(new)] if new else [],
        cursor=str(int(imports["seq"].max()) if len(imports) else cursor),
        # A tick that launches no run is shown as skipped, with these words.
        skip_reason=dg.SkipReason(
            f"Reported {len(imports)} imports, added {len(new)} tenants to the grid."
            if len(imports) or new
            else "Nothing was imported, and every tenant is in the grid."
        ),
    )
