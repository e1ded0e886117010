"""Judges staged rows against each other and against the store, and converts their units.

Each check adds rows to `problem`; none of them removes a row. Statements are built from the contract.
"""

import difflib
from collections.abc import Sequence

from psycopg import sql

from resources.imports.contracts import Column, Kind, Rule, Total
from resources.store.database import Connection

REFERENCES = {
    "location": ("master.location", "location_id", "locations"),
    "product": ("master.product", "product_id", "products"),
    "item": ("master.item", "item_id", "items"),
    "supplier": ("master.supplier", "supplier_id", "suppliers"),
    "resource": ("master.resource", "resource_id", "resources"),
}
"""Per thing that a column refers to: its table, its id there, and the kind of file that makes it."""

UNITS = sql.SQL("""
    (VALUES ('kg', 'kg', 1), ('g', 'kg', 0.001), ('L', 'L', 1), ('l', 'L', 1), ('cl', 'L', 0.01), ('ml', 'L', 0.001),
            ('unit', 'unit', 1)) AS built_in (from_unit, base_unit, factor)
""")
"""Base units in one of each unit that needs no conversion of the tenant's own."""

PROBLEM = sql.SQL("INSERT INTO problem (tenant_id, row_number, column_name, value, problem, remedy, raw)")
RAW = sql.SQL("jsonb_strip_nulls(to_jsonb(s) - 'tenant_id' - 'row_number')")


def check(connection: Connection, kind: Kind, create: frozenset[str]) -> None:
    """Add to `problem` what is wrong with the staged rows. Unknown ids of what `create` names are no problem."""
    _find_duplicates(connection, kind)
    for column in kind.columns:
        if column.refers_to:
            _find_unknown(connection, column, column.refers_to, is_created=column.refers_to in create)
    if kind.agreeing:
        _find_disagreement(connection, kind)
    for rule in kind.rules:
        _find_breach(connection, rule)
    if kind.total:
        _find_wrong_totals(connection, kind.total)
    for column in kind.columns:
        if column.measured_in:
            _convert(connection, column, *column.measured_in)
    if kind.group:
        _leave_out_whole_groups(connection, kind)


def remove_bad_rows(connection: Connection) -> None:
    """Delete the staged rows that have a problem."""
    connection.execute(
        "DELETE FROM staged USING problem"
        " WHERE staged.tenant_id = problem.tenant_id AND staged.row_number = problem.row_number"
    )


def _names(columns: Sequence[str], table: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(table, name) if table else sql.Identifier(name) for name in columns)


def _find_duplicates(connection: Connection, kind: Kind) -> None:
    """Two rows of one key contradict or repeat each other: neither is taken, and each names the other."""
    key = kind.key
    connection.execute(
        sql.SQL("""
        WITH twice AS (
            SELECT tenant_id, {key}, (array_agg(row_number ORDER BY row_number))[:5] AS row_numbers
            FROM staged GROUP BY tenant_id, {key} HAVING count(*) > 1
        )
        {problem} SELECT s.tenant_id, s.row_number, %(column)s, concat_ws(', ', {values}),
            'rows ' || array_to_string(twice.row_numbers, ' and ') || ' have the same ' || %(names)s,
            'Keep one of them; give their sum where both were meant.', {raw}
        FROM twice JOIN staged AS s ON s.tenant_id = twice.tenant_id AND {same}
        """).format(
            key=_names(key),
            problem=PROBLEM,
            values=_names(key, "s"),
            raw=RAW,
            same=sql.SQL(" AND ").join(
                sql.SQL("s.{0} IS NOT DISTINCT FROM twice.{0}").format(sql.Identifier(name)) for name in key
            ),
        ),
        {"column": key[0], "names": ", ".join(key)},
    )


def _find_unknown(connection: Connection, column: Column, thing: str, *, is_created: bool) -> None:
    table, id_column, kind_name = REFERENCES[thing]
    rows = connection.execute(
        sql.SQL("""
        SELECT named.tenant_id, named.id, i.kind
        FROM (SELECT DISTINCT tenant_id, {column} AS id FROM staged WHERE {column} IS NOT NULL) AS named
        LEFT JOIN {table} AS known ON known.tenant_id = named.tenant_id AND known.{id_column} = named.id
        LEFT JOIN master.item AS i ON i.tenant_id = named.tenant_id AND i.item_id = named.id
        WHERE known.tenant_id IS NULL
        """).format(
            column=sql.Identifier(column.name),
            table=sql.Identifier(*table.split(".")),
            id_column=sql.Identifier(id_column),
        )
    ).fetchall()
    is_taken = thing == "product"  # an id that is an item already cannot become a product
    unknown = [
        (tenant, id_, kind if is_taken else None) for tenant, id_, kind in rows if not is_created or (is_taken and kind)
    ]
    if not unknown:
        return
    known_ids: dict[str, list[str]] = {}
    for tenant_id, known in connection.execute(
        sql.SQL("SELECT tenant_id, {} FROM {} WHERE tenant_id = ANY(%s)").format(
            sql.Identifier(id_column), sql.Identifier(*table.split("."))
        ),
        ([tenant_id for tenant_id, _, _ in unknown],),
    ):
        known_ids.setdefault(tenant_id, []).append(known)
    judged = [
        (tenant_id, id_, *_unknown(thing, kind_name, id_, item_kind, known_ids.get(tenant_id, [])))
        for tenant_id, id_, item_kind in unknown
    ]
    tenants, ids, problems, remedies = (list(values) for values in zip(*judged, strict=True))
    connection.execute(
        sql.SQL("""
        {problem} SELECT s.tenant_id, s.row_number, %(column)s, s.{column}, u.problem, u.remedy, {raw}
        FROM staged AS s JOIN unnest(%(tenants)s::text[], %(ids)s::text[], %(problems)s::text[], %(remedies)s::text[])
             AS u (tenant_id, id, problem, remedy) ON u.tenant_id = s.tenant_id AND u.id = s.{column}
        """).format(problem=PROBLEM, column=sql.Identifier(column.name), raw=RAW),
        {"column": column.name, "tenants": tenants, "ids": ids, "problems": problems, "remedies": remedies},
    )


def _unknown(thing: str, kind_name: str, id_: str, item_kind: str | None, known: Sequence[str]) -> tuple[str, str]:
    if item_kind is not None:
        return f"it is known as {item_kind}, not as a product", "Give the product an id of its own."
    near = difflib.get_close_matches(id_, known, 1)
    option = f" or use --create-{thing}s" if thing in {"product", "location"} else ""
    remedy = f"import it with kind {kind_name}{option}"
    return f"unknown {thing}", f"Write {near[0]}, or {remedy}." if near else f"{remedy[0].upper()}{remedy[1:]}."


def _find_disagreement(connection: Connection, kind: Kind) -> None:
    """Columns that say something of the whole group must say the same in each of its rows."""
    for name in kind.agreeing:
        connection.execute(
            sql.SQL("""
            WITH first AS (
                SELECT DISTINCT ON (tenant_id, {group}) * FROM staged ORDER BY tenant_id, {group}, row_number
            )
            {problem} SELECT s.tenant_id, s.row_number, %(column)s, coalesce(s.{column}::text, ''),
                'row ' || first.row_number || ' of the same ' || %(group)s || ' says '
                    || coalesce(first.{column}::text, 'nothing'), 'Write the same in all of its rows.', {raw}
            FROM staged AS s JOIN first USING (tenant_id, {group}) WHERE s.{column} IS DISTINCT FROM first.{column}
            """).format(group=_names(kind.agreeing_by), problem=PROBLEM, column=sql.Identifier(name), raw=RAW),
            {"column": name, "group": " and ".join(kind.agreeing_by)},
        )


def _find_breach(connection: Connection, rule: Rule) -> None:
    connection.execute(
        sql.SQL("""
        {problem} SELECT s.tenant_id, s.row_number, %(column)s, coalesce(s.{column}::text, ''), %(problem)s, %(remedy)s, {raw}
        FROM staged AS s JOIN batch AS b USING (tenant_id) WHERE NOT ({holds})
        """).format(problem=PROBLEM, column=sql.Identifier(rule.column), raw=RAW, holds=sql.SQL(rule.holds)),
        {"column": rule.column, "problem": rule.problem, "remedy": rule.remedy},
    )


def _find_wrong_totals(connection: Connection, total: Total) -> None:
    """Report all rows of a group that does not add up. A group with a bad row is not added up: that row is to be mended."""
    group = [sql.Identifier(name) for name in total.by]
    connection.execute(
        sql.SQL("""
        WITH wrong AS (
            SELECT tenant_id, {group}, sum({column}) AS found FROM staged AS s
            WHERE NOT EXISTS (SELECT FROM problem AS p WHERE p.tenant_id = s.tenant_id AND {in_problem})
            GROUP BY tenant_id, {group} HAVING abs(sum({column}) - %(total)s) > %(tolerance)s
        )
        {problem} SELECT s.tenant_id, s.row_number, %(column)s, s.{column}::float8::text,
            'the rows of ' || concat_ws(', ', {values}) || ' add up to ' || wrong.found::float8
                || ' where they must add up to ' || %(total)s::float8, %(remedy)s, {raw}
        FROM wrong JOIN staged AS s USING (tenant_id, {group})
        """).format(
            group=sql.SQL(", ").join(group),
            values=_names(total.by, "s"),
            column=sql.Identifier(total.column),
            in_problem=_same_in_problem(total.by),
            problem=PROBLEM,
            raw=RAW,
        ),
        {"total": total.total, "tolerance": total.tolerance, "column": total.column, "remedy": total.remedy},
    )


def _same_in_problem(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("trim(p.raw ->> {}) = s.{}::text").format(sql.Literal(name), sql.Identifier(name)) for name in columns
    )


def _convert(connection: Connection, column: Column, item_column: str, unit_column: str) -> None:
    """Turn a quantity into the item's base unit; report the rows for whose unit nothing is known."""
    names = {
        "quantity": sql.Identifier(column.name),
        "item": sql.Identifier(item_column),
        "unit": sql.Identifier(unit_column),
    }
    connection.execute(
        sql.SQL("""
        CREATE TEMP TABLE conversion ON COMMIT DROP AS
        SELECT named.tenant_id, named.item_id, named.unit, i.base_unit, coalesce(built_in.factor, own.factor) AS factor
        FROM (SELECT DISTINCT tenant_id, {item} AS item_id, {unit} AS unit FROM staged WHERE {unit} IS NOT NULL) AS named
        JOIN master.item AS i USING (tenant_id, item_id)
        LEFT JOIN {units} ON built_in.from_unit = named.unit AND built_in.base_unit = i.base_unit
        LEFT JOIN master.unit_conversion AS own
               ON (own.tenant_id, own.item_id, own.from_unit) = (named.tenant_id, named.item_id, named.unit)
        """).format(units=UNITS, **names)
    )
    matches = sql.SQL("c.tenant_id = s.tenant_id AND c.item_id = s.{item} AND c.unit = s.{unit}").format(**names)
    connection.execute(
        sql.SQL("""
        {problem} SELECT s.tenant_id, s.row_number, {unit_name}, c.unit,
            'no conversion from ' || c.unit || ' to ' || c.base_unit || ' for ' || c.item_id,
            'Write the quantity in ' || c.base_unit || ', or import the conversion with kind unit-conversions.', {raw}
        FROM staged AS s JOIN conversion AS c ON {matches} WHERE c.factor IS NULL
        """).format(problem=PROBLEM, unit_name=sql.Literal(unit_column), raw=RAW, matches=matches)
    )
    connection.execute(
        sql.SQL("""
        {problem} SELECT s.tenant_id, s.row_number, {name}, s.{quantity}::text,
            'out of range: ' || (s.{quantity} * c.factor)::float8 || ' ' || c.base_unit, 'Check quantity and unit.', {raw}
        FROM staged AS s JOIN conversion AS c ON {matches}
        WHERE abs(s.{quantity} * c.factor) >= 1e10 OR (s.{quantity} <> 0 AND round(s.{quantity} * c.factor, 6) = 0)
        """).format(problem=PROBLEM, name=sql.Literal(column.name), raw=RAW, matches=matches, **names)
    )
    connection.execute(
        sql.SQL("""
        UPDATE staged AS s SET {quantity} = s.{quantity} * c.factor FROM conversion AS c
        WHERE {matches} AND c.factor <> 1 AND abs(s.{quantity} * c.factor) < 1e10
        """).format(matches=matches, **names)
    )
    connection.execute("DROP TABLE conversion")


def _leave_out_whole_groups(connection: Connection, kind: Kind) -> None:
    """A recipe, week or count with a row missing would be a wrong one: its good rows are left out with the bad one."""
    connection.execute(
        sql.SQL("""
        {problem} SELECT DISTINCT ON (s.tenant_id, s.row_number) s.tenant_id, s.row_number, '', '',
            'belongs to ' || concat_ws(', ', {group}) || ' with row ' || p.row_number || ', which is bad', 'Mend that row.', {raw}
        FROM staged AS s JOIN problem AS p ON p.tenant_id = s.tenant_id AND p.row_number <> s.row_number AND {same}
        WHERE NOT EXISTS (SELECT FROM problem AS own WHERE own.tenant_id = s.tenant_id AND own.row_number = s.row_number)
        ORDER BY s.tenant_id, s.row_number, p.row_number
        """).format(problem=PROBLEM, group=_names(kind.group, "s"), raw=RAW, same=_same_in_problem(kind.group))
    )
