"""Reads a CSV source as text: its identity, what makes it unreadable as a whole, and its rows in chunks with their lines.

What cells mean is no concern of this module.
"""

import codecs
import csv
import difflib
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

CHUNK_ROWS = 20_000
BLOCK_BYTES = 1 << 20


class Unreadable(Exception):
    """The source as a whole cannot be taken."""

    def __init__(self, problem: str, remedy: str, line: int | None = None, column: str = "") -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.line, self.column = problem, remedy, line, column
        self.source: Source | None = None


@dataclass(frozen=True)
class Source:
    """A CSV file of one tenant. `open` may be called repeatedly and gives the same bytes each time."""

    tenant_id: str
    name: str
    open: Callable[[], BinaryIO]

    @staticmethod
    def of_path(tenant_id: str, path: Path) -> "Source":
        """The file at a path."""
        return Source(tenant_id, path.name, lambda: path.open("rb"))

    @staticmethod
    def of_bytes(tenant_id: str, name: str, content: bytes) -> "Source":
        """Content in memory."""
        return Source(tenant_id, name, lambda: io.BytesIO(content))


@dataclass(frozen=True)
class Chunk:
    """Rows of equal width, each with the line of the file on which it starts, and the ragged ones apart."""

    lines: Sequence[int]
    rows: Sequence[Sequence[str]]
    ragged: Sequence[tuple[int, Sequence[str]]]
    bytes_read: int


def inspect(source: Source) -> tuple[str, int]:
    """The SHA-256 of the content and its size in bytes. Raises Unreadable when it is no UTF-8 text, or nothing at all."""
    digest, decoder, size, newlines = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")(), 0, 0
    try:
        with source.open() as stream:
            while block := stream.read(BLOCK_BYTES):
                if size == 0 and block[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
                    raise Unreadable("UTF-16, not UTF-8", "Save the file as CSV in UTF-8.")
                if (position := block.find(b"\0")) >= 0:
                    line = newlines + block.count(b"\n", 0, position) + 1
                    raise Unreadable(
                        "holds a NUL byte, so it is no text file", "Export it as CSV in UTF-8 again.", line
                    )
                _decode(decoder, block, newlines)
                digest.update(block)
                size += len(block)
                newlines += block.count(b"\n")
            _decode(decoder, b"", newlines, is_last=True)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Unreadable(f"cannot be read: {reason}", "Check the path and that you may read the file.") from error
    if size == 0:
        raise Unreadable("empty", "Export it again: the first line holds the names of the columns.")
    return digest.hexdigest(), size


def _decode(decoder: codecs.IncrementalDecoder, block: bytes, newlines: int, is_last: bool = False) -> None:
    try:
        decoder.decode(block, is_last)
    except UnicodeDecodeError as error:
        line = newlines + bytes(error.object).count(b"\n", 0, error.start) + 1
        raise Unreadable(
            "not UTF-8; it looks like Latin-1 (Windows-1252)",
            "Save it as CSV UTF-8, or run: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW.csv",
            line,
        ) from error


def read(source: Source, columns: Sequence[str], required: Sequence[str]) -> tuple[list[str], Iterator[Chunk]]:
    """The header, checked against the columns of the contract, and the rows in chunks.

    A byte order mark is skipped; a header with more semicolons than commas is read as separated by semicolons.
    Raises Unreadable, also while the chunks are read.
    """
    binary = source.open()
    text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
    first = text.readline()
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        text.close()
        raise Unreadable(f"its header is no CSV ({error})", f"Write the header as {','.join(columns)}.", 1) from error
    try:
        _check_header(header, columns, required, first)
    except Unreadable:
        text.close()
        raise
    return header, _chunks(text, binary, delimiter, len(header))


def _check_header(header: Sequence[str], columns: Sequence[str], required: Sequence[str], line: str) -> None:
    whole = f"The columns are {','.join(columns)}."
    if not any(header):
        raise Unreadable("its first line is empty", f"Begin with the header. {whole}", 1)
    if len(header) == 1 and "\t" in line:
        raise Unreadable("separated by tabs", "Save it as CSV separated by commas.", 1)
    for name in header:
        if name not in columns:
            near = difflib.get_close_matches(name.lower(), columns, 1, 0.6)
            remedy = f"Rename it to {near[0]}." if near and near[0] not in header else f"Remove it. {whole}"
            raise Unreadable(f"unknown column {name[:60]!r}", remedy, 1, name[:60])
        if header.count(name) > 1:
            raise Unreadable(f"column {name!r} occurs twice", "Keep one of them.", 1, name)
    for name in required:
        if name not in header:
            raise Unreadable(f"column {name!r} is missing", f"Add it. {whole}", 1, name)


def _chunks(text: io.TextIOWrapper, binary: BinaryIO, delimiter: str, width: int) -> Iterator[Chunk]:
    with text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        line = 0
        while True:
            lines: list[int] = []
            rows: list[list[str]] = []
            try:
                for row in islice(reader, CHUNK_ROWS):
                    lines.append(line + 2)  # lines count from 1, and the header is the first
                    rows.append(row)
                    line = reader.line_num
            except csv.Error as error:
                raise Unreadable(
                    f"no valid CSV ({error})", "Check the quotes: write a quote inside a text twice.", line + 2
                ) from error
            if not rows:
                return
            yield _even(lines, rows, width, binary.tell())


def _even(lines: list[int], rows: list[list[str]], width: int, bytes_read: int) -> Chunk:
    if all(len(row) == width for row in rows) and all(map(any, rows)):
        return Chunk(lines, rows, (), bytes_read)
    filled = [(line, row) for line, row in zip(lines, rows, strict=True) if any(cell.strip() for cell in row)]
    even = [(line, row) for line, row in filled if len(row) == width]
    ragged = [(line, row) for line, row in filled if len(row) != width]
    return Chunk([line for line, _ in even], [row for _, row in even], ragged, bytes_read)
