"""The append-only histories that imports extend: prices of products, recipes, prices of suppliers.

A new version is written only where the file differs from the last one. The first version holds from the beginning of time,
a later one from the day of the import, unless the file says from when. A version in force on a day is the highest whose
`valid_from` has come. All statements read the temporary tables that `importer` fills.
"""

from collections.abc import Collection
from datetime import datetime
from typing import LiteralString

from psycopg import sql

from resources.store.database import Connection

VALID_FROM: LiteralString = """
    coalesce(new.valid_from, CASE WHEN last.version IS NULL THEN date '0001-01-01' ELSE b.today END)
"""

PRICES = ("unit_price", "variable_cost", "salvage_value", "goodwill_cost")


def extend_product_prices(connection: Connection, present: Collection[str], now: datetime) -> None:
    """Write a version of the prices of each product whose prices changed. Absent columns keep the last values."""
    if not any(name in present for name in PRICES):
        return
    values = sql.SQL(", ").join(
        sql.SQL("new.{0}").format(sql.Identifier(name))
        if name in present
        else sql.SQL("CASE WHEN last.version IS NULL THEN new.{0} ELSE last.{0} END").format(sql.Identifier(name))
        for name in PRICES
    )
    _run(
        connection,
        sql.SQL("""
        WITH written AS (
            INSERT INTO master.product_price (tenant_id, product_id, valid_from, version, {columns}, recorded_at)
            SELECT new.tenant_id, new.product_id, {valid_from}, coalesce(last.version, 0) + 1, {values}, %(now)s
            FROM staged AS new JOIN batch AS b USING (tenant_id)
            LEFT JOIN LATERAL (
                SELECT * FROM master.product_price AS p
                WHERE p.tenant_id = new.tenant_id AND p.product_id = new.product_id ORDER BY p.version DESC LIMIT 1
            ) AS last ON true
            WHERE CASE WHEN last.version IS NULL THEN ({values}) IS DISTINCT FROM (NULL, NULL, 0, 0)
                  ELSE ({values}) IS DISTINCT FROM ({last}) OR coalesce(new.valid_from, last.valid_from) <> last.valid_from
                  END
            RETURNING tenant_id, product_id
        )
        INSERT INTO changed SELECT s.tenant_id, s.row_number FROM staged AS s JOIN written USING (tenant_id, product_id)
        """).format(
            columns=sql.SQL(", ").join(map(sql.Identifier, PRICES)),
            last=sql.SQL(", ").join(sql.Identifier("last", name) for name in PRICES),
            values=values,
            valid_from=sql.SQL(VALID_FROM),
        ),
        now,
    )


def extend_recipes(connection: Connection, _present: Collection[str], now: datetime) -> None:
    """Write a version, with all its lines, of each recipe that changed."""
    _run(
        connection,
        sql.SQL("""
        WITH new AS (
            SELECT tenant_id, output_item_id, min(output_quantity) AS output_quantity, min(yield_frac) AS yield_frac,
                   min(valid_from) AS valid_from, jsonb_object_agg(item_id, jsonb_build_array(quantity, scrap_frac)) AS lines
            FROM staged GROUP BY tenant_id, output_item_id
        ), recipe AS (
            INSERT INTO master.recipe
                (tenant_id, output_item_id, version, valid_from, output_quantity, yield_frac, recorded_at)
            SELECT new.tenant_id, new.output_item_id, coalesce(last.version, 0) + 1, {valid_from},
                   new.output_quantity, new.yield_frac, %(now)s
            FROM new JOIN batch AS b USING (tenant_id)
            LEFT JOIN LATERAL (
                SELECT r.version, r.valid_from, r.output_quantity, r.yield_frac,
                       (SELECT jsonb_object_agg(l.item_id, jsonb_build_array(l.quantity, l.scrap_frac))
                        FROM master.recipe_line AS l WHERE l.tenant_id = r.tenant_id
                        AND l.output_item_id = r.output_item_id AND l.version = r.version) AS lines
                FROM master.recipe AS r
                WHERE r.tenant_id = new.tenant_id AND r.output_item_id = new.output_item_id
                ORDER BY r.version DESC LIMIT 1
            ) AS last ON true
            WHERE (new.output_quantity, new.yield_frac, new.lines)
                  IS DISTINCT FROM (last.output_quantity, last.yield_frac, last.lines)
               OR coalesce(new.valid_from, last.valid_from) <> last.valid_from
            RETURNING tenant_id, output_item_id, version
        ), lines AS (
            INSERT INTO master.recipe_line (tenant_id, output_item_id, version, item_id, quantity, scrap_frac)
            SELECT s.tenant_id, s.output_item_id, recipe.version, s.item_id, s.quantity, s.scrap_frac
            FROM staged AS s JOIN recipe USING (tenant_id, output_item_id)
        )
        INSERT INTO changed SELECT s.tenant_id, s.row_number FROM staged AS s JOIN recipe USING (tenant_id, output_item_id)
        """).format(valid_from=sql.SQL(VALID_FROM)),
        now,
    )


def extend_supplier_prices(connection: Connection, present: Collection[str], now: datetime) -> None:
    """Write a version, with all its price breaks, of each supplier's item whose prices changed."""
    if "price_per_pack" not in present:
        return
    _run(
        connection,
        sql.SQL("""
        WITH new AS (
            SELECT tenant_id, supplier_id, item_id, min(valid_from) AS valid_from,
                   jsonb_object_agg(from_packs, price_per_pack) AS prices
            FROM staged WHERE price_per_pack IS NOT NULL GROUP BY tenant_id, supplier_id, item_id
        ), changed_set AS (
            SELECT new.*, coalesce(last.version, 0) + 1 AS version, {valid_from} AS holds_from
            FROM new JOIN batch AS b USING (tenant_id)
            LEFT JOIN LATERAL (
                SELECT p.version, min(p.valid_from) AS valid_from, jsonb_object_agg(p.from_packs, p.price_per_pack) AS prices
                FROM master.supplier_price AS p
                WHERE p.tenant_id = new.tenant_id AND p.supplier_id = new.supplier_id AND p.item_id = new.item_id
                GROUP BY p.version ORDER BY p.version DESC LIMIT 1
            ) AS last ON true
            WHERE new.prices IS DISTINCT FROM last.prices OR coalesce(new.valid_from, last.valid_from) <> last.valid_from
        ), written AS (
            INSERT INTO master.supplier_price
                (tenant_id, supplier_id, item_id, from_packs, version, valid_from, price_per_pack, recorded_at)
            SELECT c.tenant_id, c.supplier_id, c.item_id, s.from_packs, c.version, c.holds_from, s.price_per_pack, %(now)s
            FROM staged AS s JOIN changed_set AS c USING (tenant_id, supplier_id, item_id)
            WHERE s.price_per_pack IS NOT NULL
        )
        INSERT INTO changed
        SELECT s.tenant_id, s.row_number FROM staged AS s JOIN changed_set USING (tenant_id, supplier_id, item_id)
        """).format(valid_from=sql.SQL(VALID_FROM)),
        now,
    )


def _run(connection: Connection, statement: sql.Composed, now: datetime) -> None:
    connection.execute(statement, {"now": now})


HISTORIES = {
    "product_price": extend_product_prices,
    "recipe": extend_recipes,
    "supplier_price": extend_supplier_prices,
}
"""The function of each history that a kind names."""
