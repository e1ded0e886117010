"""What the lineage shows of an asset that is a table: group, owner, kinds, description and columns with their units."""

from collections.abc import Sequence

import dagster as dg

Column = tuple[str, str, str]
"""Name, Postgres type, meaning with unit."""

TENANT: Column = ("tenant_id", "text", "tenant")
PLAN_DATE: Column = ("plan_date", "date", "first selling day, in the tenant's time zone")


def table_spec(
    name: str, *, table: str, group: str, deps: Sequence[str], description: str, columns: Sequence[Column]
) -> dg.AssetSpec:
    """The spec of an asset stored in `table`. It may leave tenants out, so no output of it is required."""
    return dg.AssetSpec(
        name,
        deps=deps,
        description=description,
        group_name=group,
        owners=["team:daybreak"],
        kinds={"postgres", "python"},
        skippable=True,
        metadata=table_metadata(table, columns),
    )


def table_metadata(table: str, columns: Sequence[Column]) -> dict[str, object]:
    """The metadata by which Dagster shows a table and its columns."""
    return {
        "dagster/table_name": table,
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(name, type_, description=meaning) for name, type_, meaning in columns]
        ),
    }
