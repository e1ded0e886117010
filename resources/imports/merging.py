"""Merges checked rows into the store's tables: new keys inserted, changed values updated, the rest left alone.

Every row of `staged` that changed something is noted in `changed`. Nothing is judged here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime

from psycopg import sql

from resources.imports.contracts import Kind, Target
from resources.store.database import Connection, Store


def ensure_partitions(store: Store, connection: Connection, kind: Kind) -> None:
    """Make the yearly partitions that the staged rows need, in a short transaction of its own.

    Making one locks the whole table and those it refers to: within the import, readers would wait for its end.
    """
    for target in kind.targets:
        if target.partitioned_by is None:
            continue
        years: list[tuple[date]] = connection.execute(
            sql.SQL("SELECT DISTINCT date_trunc('year', {})::date FROM staged").format(
                sql.Identifier(target.partitioned_by)
            )
        ).fetchall()
        with store.transaction() as other:
            for (year,) in sorted(years):
                other.execute(
                    "SELECT ops.ensure_partitions(%s::regclass, %s, %s, interval '1 year')", (target.table, year, year)
                )


def create_locations(connection: Connection, columns: Sequence[str]) -> dict[str, list[str]]:
    """Make the unknown locations that these columns name; returns their ids per tenant."""
    made: dict[str, list[str]] = {}
    for column in columns:
        rows = connection.execute(
            sql.SQL("""
            INSERT INTO master.location (tenant_id, location_id, name)
            SELECT DISTINCT tenant_id, {column}, {column} FROM staged WHERE {column} IS NOT NULL
            ON CONFLICT DO NOTHING RETURNING tenant_id, location_id
            """).format(column=sql.Identifier(column))
        )
        for tenant_id, location_id in rows:
            made.setdefault(tenant_id, []).append(location_id)
    return made


def create_products(connection: Connection, columns: Sequence[str]) -> dict[str, list[str]]:
    """Make the unknown products that these columns name; returns their ids per tenant.

    They are products of the day (an unknown shelf life would mean that they keep), without prices and costs.
    """
    made: dict[str, list[str]] = {}
    for column in columns:
        rows = connection.execute(
            sql.SQL("""
            WITH named AS (SELECT DISTINCT tenant_id, {column} AS id FROM staged WHERE {column} IS NOT NULL),
            item AS (
                INSERT INTO master.item (tenant_id, item_id, name, kind, base_unit, shelf_life_days)
                SELECT tenant_id, id, id, 'product', 'unit', 1 FROM named ON CONFLICT DO NOTHING
            )
            INSERT INTO master.product (tenant_id, product_id) SELECT tenant_id, id FROM named
            ON CONFLICT DO NOTHING RETURNING tenant_id, product_id
            """).format(column=sql.Identifier(column))
        )
        for tenant_id, product_id in rows:
            made.setdefault(tenant_id, []).append(product_id)
    return made


def widen_assortment(connection: Connection) -> set[str]:
    """Add what was sold where it was not known to be sold, made there; returns the tenants for which any was."""
    rows = connection.execute("""
        INSERT INTO master.assortment (tenant_id, location_id, product_id, made_at_location_id)
        SELECT DISTINCT tenant_id, location_id, product_id, location_id FROM staged
        ON CONFLICT DO NOTHING RETURNING tenant_id
    """)
    return {tenant_id for (tenant_id,) in rows}


def merge(connection: Connection, kind: Kind, target: Target, present: Collection[str], now: datetime) -> None:
    """Merge the staged rows into one table. Columns that the file lacks are left as they are stored."""
    if target.replaces_by:
        _delete_rest(connection, target)
    updated = [name for name in target.values if name in present]
    if target.is_history_kept:
        _keep_replaced(connection, target, updated, now)
    source = dict(target.source)
    sources = {
        name: sql.SQL(source[name]) if name in source else sql.Identifier("s", name)
        for name in (*target.key, *target.values)
    }
    columns = [sql.Identifier("tenant_id"), *map(sql.Identifier, sources)]
    values: list[sql.Composable] = [sql.Identifier("s", "tenant_id"), *sources.values()]
    for name, constant in target.constants:
        columns.append(sql.Identifier(name))
        values.append(sql.Literal(constant))
    if target.is_history_kept:
        columns += [sql.Identifier("import_id"), sql.Identifier("recorded_at")]
        values += [sql.SQL("b.import_id"), sql.SQL("%(now)s")]
    one_of_each: sql.Composable = sql.SQL("")
    if len(target.key) < len(kind.key):  # several rows of the file say the same of one key
        one_of_each = sql.SQL("DISTINCT ON (s.tenant_id, {})").format(_comma(sources[name] for name in target.key))
    connection.execute(
        sql.SQL("""
        WITH written AS (
            INSERT INTO {table} AS t ({columns})
            SELECT {one_of_each} {values} FROM staged AS s JOIN batch AS b USING (tenant_id)
            ON CONFLICT (tenant_id, {key}) DO {action} RETURNING t.tenant_id, {returned}
        )
        INSERT INTO changed SELECT s.tenant_id, s.row_number FROM staged AS s JOIN written ON written.tenant_id = s.tenant_id
        AND {same}
        """).format(
            table=_table(target),
            columns=_comma(columns),
            one_of_each=one_of_each,
            values=_comma(values),
            key=_comma(map(sql.Identifier, target.key)),
            action=_update(target, updated),
            returned=_comma(sql.Identifier("t", name) for name in target.key),
            same=_all(
                sql.SQL("written.{} {} {}").format(sql.Identifier(name), _equals(kind, name), sources[name])
                for name in target.key
            ),
        ),
        {"now": now},
    )


def record_changed_dates(connection: Connection, dated_by: str, input_name: str, versions: Mapping[str, int]) -> None:
    """Note beside each tenant's new version from which to which date rows were changed."""
    connection.execute(
        sql.SQL("""
        INSERT INTO ops.input_change (tenant_id, input, version, first_on, last_on)
        SELECT bumped.tenant_id, %(input)s, bumped.version, min(s.{dated_by}), max(s.{dated_by})
        FROM unnest(%(tenant_ids)s::text[], %(versions)s::bigint[]) AS bumped (tenant_id, version)
        JOIN changed AS c USING (tenant_id) JOIN staged AS s USING (tenant_id, row_number)
        GROUP BY bumped.tenant_id, bumped.version
        """).format(dated_by=sql.Identifier(dated_by)),
        {"input": input_name, "tenant_ids": list(versions), "versions": list(versions.values())},
    )


def record_actuals(connection: Connection, versions: Mapping[str, int], now: datetime) -> None:
    """Give the days of which sales were changed the new version of their tenant's sales."""
    # The transaction stands in the row too: one that commits late is not passed over by who reads on from the last.
    connection.execute(
        """
        INSERT INTO facts.actuals_day AS day (tenant_id, business_date, version, changed_at, changed_by)
        SELECT DISTINCT bumped.tenant_id, s.business_date, bumped.version, %(now)s::timestamptz, pg_current_xact_id()
        FROM unnest(%(tenant_ids)s::text[], %(versions)s::bigint[]) AS bumped (tenant_id, version)
        JOIN changed AS c USING (tenant_id) JOIN staged AS s USING (tenant_id, row_number)
        ORDER BY 1, 2
        ON CONFLICT (tenant_id, business_date) DO UPDATE
        SET version = excluded.version, changed_at = excluded.changed_at, changed_by = excluded.changed_by
        """,
        {"now": now, "tenant_ids": list(versions), "versions": list(versions.values())},
    )


def _update(target: Target, updated: Sequence[str]) -> sql.Composable:
    if not updated:
        return sql.SQL("NOTHING")
    stamps = ["import_id", "recorded_at"] if target.is_history_kept else []
    return sql.SQL("UPDATE SET {assigned} WHERE ({old}) IS DISTINCT FROM ({new})").format(
        assigned=_comma(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in (*updated, *stamps)),
        old=_comma(sql.Identifier("t", name) for name in updated),
        new=_comma(sql.Identifier("excluded", name) for name in updated),
    )


def _delete_rest(connection: Connection, target: Target) -> None:
    """Delete the rows of the sets that the file holds and that it does not name."""
    connection.execute(
        sql.SQL("""
        WITH deleted AS (
            DELETE FROM {table} AS t USING (SELECT DISTINCT tenant_id, {group} FROM staged) AS g
            WHERE t.tenant_id = g.tenant_id AND {in_group}
              AND NOT EXISTS (SELECT FROM staged AS s WHERE s.tenant_id = t.tenant_id AND {same})
            RETURNING t.tenant_id
        )
        UPDATE batch SET is_changed = true WHERE tenant_id IN (SELECT tenant_id FROM deleted)
        """).format(
            table=_table(target),
            group=_comma(map(sql.Identifier, target.replaces_by)),
            in_group=_all(sql.SQL("t.{0} = g.{0}").format(sql.Identifier(name)) for name in target.replaces_by),
            same=_all(sql.SQL("s.{0} = t.{0}").format(sql.Identifier(name)) for name in target.key),
        )
    )


def _keep_replaced(connection: Connection, target: Target, updated: Sequence[str], now: datetime) -> None:
    """Copy the rows whose values are about to change into the table that keeps them."""
    kept = _comma(map(sql.Identifier, ("tenant_id", *target.key, *target.values, "import_id", "recorded_at")))
    connection.execute(
        sql.SQL("""
        INSERT INTO {kept_in} ({kept}, replaced_by_import_id, replaced_at)
        SELECT {old}, b.import_id, %(now)s
        FROM staged AS s JOIN batch AS b USING (tenant_id) JOIN {table} AS t ON t.tenant_id = s.tenant_id AND {same}
        WHERE ({values}) IS DISTINCT FROM ({new})
        """).format(
            kept_in=sql.Identifier(*f"{target.table}_replaced".split(".")),
            kept=kept,
            old=_comma(
                sql.Identifier("t", name)
                for name in ("tenant_id", *target.key, *target.values, "import_id", "recorded_at")
            ),
            table=_table(target),
            same=_all(sql.SQL("t.{0} = s.{0}").format(sql.Identifier(name)) for name in target.key),
            values=_comma(sql.Identifier("t", name) for name in updated),
            new=_comma(sql.Identifier("s", name) for name in updated),
        ),
        {"now": now},
    )


def _equals(kind: Kind, name: str) -> sql.SQL:
    is_nullable = any(c.name == name and not c.is_required and c.default is None for c in kind.columns)
    return sql.SQL("IS NOT DISTINCT FROM") if is_nullable else sql.SQL("=")


def _table(target: Target) -> sql.Identifier:
    return sql.Identifier(*target.table.split("."))


def _comma(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _all(conditions: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(" AND ").join(conditions)
