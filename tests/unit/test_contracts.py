"""The table of kinds, the readers of its cells, and the documentation that lists them."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.imports.contracts import KINDS, Kind, documented
from resources.imports.source import Source, Unreadable, inspect, read
from resources.imports.values import TYPES, BadValue, escaped, identifier
from resources.store.versions import INPUTS

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-contracts.md"


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_the_document_lists_exactly_the_columns_of_each_kind(kind: Kind) -> None:
    _, _, section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {kind.name}\n")
    section = section.partition("\n## ")[0]
    table = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    assert table == documented(kind)
    assert all(note in section for note in kind.notes)


def test_the_document_has_a_section_for_no_other_kind() -> None:
    kinds = DOCUMENT.read_text(encoding="utf-8").partition("\n# Kinds\n")[2]
    sections = [line[3:] for line in kinds.splitlines() if line.startswith("## ")]
    assert sections == list(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_each_kind_is_consistent_in_itself(kind: Kind) -> None:
    names = [column.name for column in kind.columns]
    assert len(names) == len(set(names))
    assert kind.input in INPUTS
    assert set(kind.key) <= set(names)
    assert set(kind.agreeing) <= set(names)
    assert {rule.column for rule in kind.rules} <= set(names)
    for column in kind.columns:
        assert column.reader(column.example) is not None
        assert column.default in {None, ""} or column.reader(str(column.default)) is not None


def test_sales_and_events_have_the_headers_that_others_rely_on() -> None:
    sales = [column.name for column in KINDS["sales"].columns]
    assert sales == [
        "location_id",
        "product_id",
        "business_date",
        "quantity_units",
        "unit_price",
        "sold_out_at",
        "source_id",
    ]
    events = [column.name for column in KINDS["events"].columns]
    assert events == ["location_id", "product_id", "business_date", "kind", "name"]


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        ("quantity", "12.50", "12.50"),
        ("count", "3.0", "3"),
        ("quantity_change", "-1.5", "-1.5"),
        ("date", "2024-02-29", "2024-02-29"),
        ("time", "7:05", "07:05:00"),
        ("weekday", "Monday", "0"),
        ("weekdays", "sun 2 mon", "{0,2,6}"),
        ("flag", "No", "false"),
        ("text", '=HYPERLINK("x")\\', '=HYPERLINK("x")\\\\'),
    ],
)
def test_a_cell_is_read(type_: str, text: str, expected: str) -> None:
    assert TYPES[type_].reader(text) == expected


@pytest.mark.parametrize(
    ("type_", "text", "problem", "remedy"),
    [
        ("quantity", "1,5", "a decimal comma", "1.5"),
        ("quantity", "1,234.50", "a thousands separator", "1234.50"),
        ("quantity", "-1", "negative", "at least 0"),
        ("quantity", "nan", "not a finite number", "leave the row out"),
        ("quantity", "inf", "not a finite number", "leave the row out"),
        ("quantity", "1e3", "not a number", "12.5"),
        ("quantity", "12 €", "not a number", "without unit"),
        ("quantity", "99999999999", "too large", "at most"),
        ("quantity", "=1+1", "not a number", "digits"),
        ("positive_quantity", "0.0000001", "too small", "above 0"),
        ("positive_count", "0", "too small", "at least 1"),
        ("count", "1.5", "not a whole number", "whole"),
        ("quantity_change", "0", "zero", "Leave the row out"),
        ("yield", "1.2", "too large", "at most 1"),
        ("date", "31/12/2024", "not a date as YYYY-MM-DD", "2024-12-31"),
        ("date", "12/31/2024", "not a date as YYYY-MM-DD", "2024-12-31"),
        ("date", "01/02/2024", "not a date as YYYY-MM-DD", "two ways"),
        ("date", "20241231", "not a date as YYYY-MM-DD", "YYYY-MM-DD"),
        ("date", "2024-02-30", "no such day", "existing date"),
        ("date", "1024-02-03", "before 2000-01-01", "year"),
        ("time", "25:00", "no such time", "23:59"),
        ("time", "half past five", "not a time", "17:30"),
        ("weekday", "7", "not a weekday", "0 for Monday"),
        ("flag", "maybe", "neither yes nor no", "true or false"),
        ("id", "12 MACARON", "not an id", "12-macaron"),
        ("id", "a" * 49, "49 characters", "48"),
        ("text", "two\nlines", "line break", "one line"),
        ("text", "x" * 201, "201 characters", "200"),
    ],
)
def test_a_bad_cell_is_answered_with_problem_and_remedy(type_: str, text: str, problem: str, remedy: str) -> None:
    with pytest.raises(BadValue) as caught:
        TYPES[type_].reader(text)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@given(st.text())
def test_an_id_is_taken_only_when_the_store_would_take_it(text: str) -> None:
    try:
        taken = identifier(text)
    except BadValue:
        return
    assert taken == text
    assert 1 <= len(text) <= 48
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert text[0] not in "-_"


@given(st.text(alphabet="\\\t\n\rnrtab"))
def test_escaped_text_is_one_cell_of_copy(text: str) -> None:
    cell = escaped(text)
    assert not set("\t\n\r") & set(cell)
    plain = (
        cell.replace("\\\\", "\0").replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")
    )
    assert plain == text


def _read_all(source: Source) -> None:
    inspect(source)
    list(read(source, COLUMNS, REQUIRED)[1])


COLUMNS, REQUIRED = ("location_id", "quantity_units", "note"), ("location_id", "quantity_units")


@pytest.mark.parametrize(
    ("content", "problem", "remedy", "line"),
    [
        (b"", "empty", "first line", None),
        (b"location_id,note\nmain,x\n", "'quantity_units' is missing", "Add it", 1),
        (b"location_id,quantity_unit\nmain,1\n", "unknown column 'quantity_unit'", "quantity_units", 1),
        (b"location_id,location_id,quantity_units\n", "occurs twice", "Keep one", 1),
        (b"location_id\tquantity_units\n", "separated by tabs", "commas", 1),
        ("location_id,quantity_units\ncafé,1\n".encode("latin-1"), "not UTF-8", "iconv", 2),
        (codecs.BOM_UTF16_LE + "location_id".encode("utf-16-le"), "UTF-16", "UTF-8", None),
        (b"location_id,quantity_units\nmain,1\nma\0in,2\n", "NUL byte", "Export it", 3),
        (b'location_id,quantity_units\nmain,1\n"main,2\n', "no valid CSV", "quotes", 3),
    ],
)
def test_a_file_that_cannot_be_read_is_answered_with_line_and_remedy(
    content: bytes, problem: str, remedy: str, line: int | None
) -> None:
    source = Source.of_bytes("t", "file.csv", content)
    with pytest.raises(Unreadable) as caught:
        _read_all(source)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert caught.value.line == line


def test_a_byte_order_mark_semicolons_and_blank_lines_are_accepted() -> None:
    content = codecs.BOM_UTF8 + b'location_id;quantity_units\r\nmain;1\r\n\r\n"a\nb";2\r\n;\r\nmain;3\r\n'
    header, chunks = read(Source.of_bytes("t", "file.csv", content), COLUMNS, REQUIRED)
    (chunk,) = chunks
    assert header == ["location_id", "quantity_units"]
    assert list(zip(chunk.lines, chunk.rows, strict=True)) == [
        (2, ["main", "1"]),
        (4, ["a\nb", "2"]),
        (7, ["main", "3"]),
    ]


def test_a_missing_file_is_answered_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file"):
        inspect(Source.of_path("t", tmp_path / "none.csv"))
    with pytest.raises(Unreadable, match="Is a directory"):
        inspect(Source.of_path("t", tmp_path))
