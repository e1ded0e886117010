"""Streams files into temporary tables: the rows that can be read into `staged`, the problems of the others into `problem`.

Cells become COPY text here and are typed by the database. Each distinct text of a column is read once, so that a column of
a million ids or dates costs a look-up a cell. What needs other rows or the store is judged in `checks`.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import repeat
from typing import cast

from psycopg import sql

from resources.imports.contracts import Column, Kind
from resources.imports.source import Chunk, Source, Unreadable, read
from resources.imports.values import NULL, BadValue
from resources.store.database import Connection, copy_rows

KNOWN_CELLS = 100_000
"""Cells remembered per column, so that memory stays bounded whatever a file holds."""

OnBytes = Callable[[int, int], object]
"""Told how many bytes of how many are read."""

PROBLEM_COLUMNS = ("tenant_id", "row_number", "column_name", "value", "problem", "remedy", "raw")


@dataclass(frozen=True)
class File:
    """A source that can be read, with its identity."""

    source: Source
    content_sha256: str
    size: int
    import_id: uuid.UUID
    today: date
    """The tenant's date."""


@dataclass(frozen=True)
class Staged:
    """What the files had: the columns, and the number of rows per tenant."""

    columns: frozenset[str]
    rows: Mapping[str, int]


def create_temporary_tables(connection: Connection, kind: Kind, files: Sequence[File]) -> None:
    """Make the tables that an import works on, dropped with its transaction. `batch` holds a row per file."""
    columns = [sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.staged_as)) for c in kind.columns]
    connection.execute(
        sql.SQL("CREATE TEMP TABLE staged (tenant_id text, row_number bigint, {}) ON COMMIT DROP").format(
            sql.SQL(", ").join(columns)
        )
    )
    connection.execute("""
        CREATE TEMP TABLE batch (tenant_id text PRIMARY KEY, import_id uuid, today date, is_changed boolean DEFAULT false)
            ON COMMIT DROP;
        CREATE TEMP TABLE problem (tenant_id text, row_number bigint, column_name text, value text, problem text,
            remedy text, raw jsonb) ON COMMIT DROP;
        CREATE TEMP TABLE changed (tenant_id text, row_number bigint) ON COMMIT DROP;
    """)
    copy_rows(
        connection,
        "batch",
        ("tenant_id", "import_id", "today"),
        ((file.source.tenant_id, file.import_id, file.today) for file in files),
    )


def stage(connection: Connection, kind: Kind, files: Sequence[File], on_bytes: OnBytes) -> Staged:
    """Read all files, which have the same columns, into the temporary tables. Raises Unreadable."""
    names = [column.name for column in kind.columns]
    required = [column.name for column in kind.columns if column.is_required]
    cells = {column.name: _Cells(column) for column in kind.columns}
    columns: frozenset[str] = frozenset()
    rows: dict[str, int] = {}
    for file in files:
        tenant_id = file.source.tenant_id
        try:
            header, chunks = read(file.source, names, required)
            if columns and columns != set(header):
                raise Unreadable("not the columns of the other files of the batch", "Give all files one header.", 1)
            columns = frozenset(header)
            rows[tenant_id] = 0
            for chunk in chunks:
                rows[tenant_id] += _stage_chunk(connection, tenant_id, header, chunk, cells)
                on_bytes(chunk.bytes_read, file.size)
            if rows[tenant_id] == 0:
                raise Unreadable("a header without rows", "Export it again with its rows.")
        except Unreadable as error:
            error.source = file.source
            raise
    connection.execute("ANALYZE staged")
    return Staged(columns, rows)


class _Cells(dict[str, "str | BadValue"]):
    """What each text of one column was read as."""

    def __init__(self, column: Column) -> None:
        super().__init__()
        self._column, self._reader = column, column.reader
        self.has_errors = False

    def __missing__(self, text: str) -> "str | BadValue":
        value = self[text] = self._read(text.strip())
        return value

    def _read(self, text: str) -> "str | BadValue":
        try:
            if text:
                return self._reader(text)
            if self._column.is_required:
                raise BadValue("empty", f"Write {self._column.meaning}, such as {self._column.example}.")
            return self.absent
        except BadValue as error:
            self.has_errors = True
            return error

    @property
    def absent(self) -> str:
        """What stands in the place of an empty cell."""
        default = self._column.default
        if default is None:
            return NULL
        return self._reader(default) if default else ""

    def read(self, texts: Sequence[str]) -> "list[str | BadValue]":
        """What each cell was read as."""
        if len(self) > KNOWN_CELLS:
            self.clear()
        return list(map(self.__getitem__, texts))


def _stage_chunk(
    connection: Connection, tenant_id: str, header: Sequence[str], chunk: Chunk, cells: Mapping[str, _Cells]
) -> int:
    """Write a chunk's good rows and the problems of the others; returns how many rows it has."""
    texts = dict(zip(header, zip(*chunk.rows, strict=True), strict=False))
    problems = [_ragged(line, header, row) for line, row in chunk.ragged]
    columns: list[Iterable[str]] = []
    bad_rows: set[int] = set()
    for name, known in cells.items():
        if name not in header:
            columns.append(repeat(known.absent))
            continue
        values = known.read(texts.get(name, ()))
        if known.has_errors:
            for index, value in enumerate(values):
                if isinstance(value, BadValue):
                    bad_rows.add(index)
                    problems.append(_problem(chunk.lines[index], name, value, header, chunk.rows[index]))
        columns.append(cast("list[str]", values))  # the rows of the others are left out below
    cells_of_rows = zip(repeat(tenant_id), map(str, chunk.lines), *columns, strict=False)  # what repeats has no end
    good = (row for n, row in enumerate(cells_of_rows) if n not in bad_rows) if bad_rows else cells_of_rows
    with connection.cursor() as cursor, cursor.copy("COPY staged FROM STDIN") as copy:
        copy.write("".join("\t".join(row) + "\n" for row in good))
    if problems:
        copy_rows(connection, "problem", PROBLEM_COLUMNS, ((tenant_id, *problem) for problem in problems))
    return len(chunk.rows) + len(chunk.ragged)


def _problem(line: int, column: str, error: BadValue, header: Sequence[str], row: Sequence[str]) -> tuple[object, ...]:
    raw = json.dumps(dict(zip(header, row, strict=True)))
    return line, column, row[header.index(column)][:200], error.problem, error.remedy, raw


def _ragged(line: int, header: Sequence[str], row: Sequence[str]) -> tuple[object, ...]:
    problem = f"{len(row)} cells where the header has {len(header)}"
    remedy = "Quote texts that hold the separator, and write numbers with a decimal point instead of a comma."
    raw = json.dumps(dict(zip(header, row, strict=False)) | {"": row[len(header) :]})
    return line, "", ",".join(row)[:200], problem, remedy, raw
