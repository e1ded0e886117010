"""What the lineage says of itself: its assets, what they depend on, and columns that the store really has."""

import dagster as dg

from planning_assets.daily_plan import LINKS
from resources.store.database import Store
from tests.definitions.conftest import definitions_of


def test_definitions_hold_the_lineage_and_connect_to_nothing() -> None:
    definitions = definitions_of("postgresql://nowhere.invalid/none")
    keys = {key.to_user_string() for key in definitions.resolve_all_asset_keys()}
    assert keys == {
        *("sales", "stock", "recipes", "suppliers", "orders", "calendar", "products"),
        *(link.name for link in LINKS),
        "forecast_models",
        "validation_metrics",
    }
    graph = definitions.resolve_asset_graph()
    assert {k.to_user_string() for k in graph.get(dg.AssetKey("procurement_plans")).parent_keys} == {
        *("production_plans", "recipes", "suppliers", "stock", "orders")
    }
    assert {k.to_user_string() for k in graph.get(dg.AssetKey("production_plans")).parent_keys} == {
        *("forecasts", "products", "recipes", "stock", "orders")
    }
    assert {k.to_user_string() for k in graph.get(dg.AssetKey("validation_metrics")).parent_keys} == {
        *("forecasts", "production_plans", "sales")
    }
    parents = graph.get(dg.AssetKey("forecasts")).parent_keys
    assert dg.AssetKey("forecast_models") in parents
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.group_name, key


def test_the_columns_shown_are_those_of_the_table(store: Store) -> None:
    stored = {
        (row.table_schema, row.table_name, row.column_name): row.type
        for row in store.frame(
            """
            SELECT n.nspname AS table_schema, c.relname AS table_name, a.attname AS column_name,
                   format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS type
              FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
              JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_type AS t ON t.oid = a.atttypid
             WHERE a.attnum > 0 AND NOT a.attisdropped
            """
        ).itertuples()
    }
    for spec in definitions_of(store.dsn).resolve_all_asset_specs():
        schema, table = spec.metadata["dagster/table_name"].split(".")
        columns = spec.metadata["dagster/column_schema"].columns
        assert columns[0].name == "tenant_id", spec.key
        for column in columns:
            found = stored.get((schema, table, column.name), "no such column")
            assert found.startswith(column.type), f"{spec.key.to_user_string()}: {column.name} is {found}"
            assert column.description, column.name
