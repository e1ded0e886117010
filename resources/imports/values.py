"""Reads one cell of a CSV file: its text in, the database's COPY text out, or the problem and its remedy.

What a cell means for its row, other rows or the store is no concern of this module.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, time

Reader = Callable[[str], str]
"""Takes a stripped cell that is not empty; returns COPY text or raises BadValue."""

NULL = r"\N"
FIRST_DAY = date(2000, 1, 1)
"""Dates before it are taken for typing errors: every year imported makes a partition."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_OTHER_DATE = re.compile(r"([0-9]{1,4})[-/. ]([0-9]{1,2})[-/. ]([0-9]{1,4})")
_TIME = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BadValue(ValueError):
    """A cell that its column does not take."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def escaped(text: str) -> str:
    """Text as COPY reads it back unchanged."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def identifier(text: str) -> str:
    """An id: small letters, digits, - and _, at most 48 of them."""
    if _IDENTIFIER.fullmatch(text):
        return text
    slug = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:48]
    if len(text) > 48:
        raise BadValue(f"the id has {len(text)} characters", "Use at most 48 characters.")
    suggestion = f", such as {slug}" if slug else ""
    raise BadValue("not an id", f"Use small letters a-z, digits, - and _, starting with a letter or digit{suggestion}.")


def free_text(text: str) -> str:
    """A name or foreign key of up to 200 characters. Formulas of spreadsheets are text like any other."""
    if len(text) > 200:
        raise BadValue(f"the text has {len(text)} characters", "Use at most 200 characters.")
    if _CONTROL.search(text):
        raise BadValue("the text holds a line break or control character", "Write it in one line of plain text.")
    return escaped(text)


@dataclass(frozen=True)
class Number:
    """Reads a number from `least` (itself excluded when `is_above`) to `most`, a whole one when `is_whole`."""

    least: float = 0.0
    most: float = 9_999_999_999.0
    is_above: bool = False
    is_whole: bool = False
    decimals: int = 6

    def __call__(self, text: str) -> str:
        """The number, written with a decimal point."""
        if not _NUMBER.fullmatch(text):
            raise self._not_a_number(text)
        number = float(text)
        if self.is_whole and number != int(number):
            raise BadValue("not a whole number", "Write a whole number, such as 12.")
        if number < self.least or (self.is_above and round(number, self.decimals) <= self.least):
            problem = "negative" if number < 0 <= self.least else "too small"
            raise BadValue(problem, f"Write a number {'above' if self.is_above else 'of at least'} {self.least:g}.")
        if number > self.most:
            raise BadValue("too large", f"Write a number of at most {self.most:,.12g}.")
        return str(int(number)) if self.is_whole else text

    @staticmethod
    def _not_a_number(text: str) -> BadValue:
        if _DECIMAL_COMMA.fullmatch(text):
            return BadValue("a decimal comma", f"Write a decimal point: {text.replace(',', '.')}.")
        if "," in text and _NUMBER.fullmatch(text.replace(",", "")):
            return BadValue("a thousands separator", f"Write the number without it: {text.replace(',', '')}.")
        if text.lower().lstrip("+-") in {"nan", "inf", "infinity", "n/a", "na", "null", "none", "-"}:
            return BadValue("not a finite number", "Write a number, or leave the row out where nothing is known.")
        return BadValue("not a number", "Write digits with a decimal point, such as 12.5, without unit or currency.")


@dataclass(frozen=True)
class Change:
    """Reads a number that is not 0, positive or negative."""

    number: Number = Number(least=-9_999_999_999.0)

    def __call__(self, text: str) -> str:
        """The number, written with a decimal point."""
        value = self.number(text)
        if float(value) == 0:
            raise BadValue("zero", "Leave the row out: it changes nothing.")
        return value


def day(text: str) -> str:
    """A date as YYYY-MM-DD, from 2000-01-01 on."""
    if not _DATE.fullmatch(text):
        raise BadValue("not a date as YYYY-MM-DD", _date_remedy(text))
    try:
        value = date.fromisoformat(text)
    except ValueError as error:
        raise BadValue("no such day in the calendar", "Write an existing date as YYYY-MM-DD.") from error
    if value < FIRST_DAY:
        raise BadValue(f"before {FIRST_DAY}", "Check the year, which looks mistyped.")
    return text


def _date_remedy(text: str) -> str:
    match = _OTHER_DATE.match(text)
    if match is None:
        return "Write the date as YYYY-MM-DD, such as 2025-01-31."
    first, second, third = (int(part) for part in match.groups())
    year, month, day_of_month = (first, second, third) if first > 31 else (third, second, first)
    if first <= 31 and second > 12:
        month, day_of_month = first, second  # only the order of the United States is possible
    elif first <= 12 and first != second:
        return "Write the date as YYYY-MM-DD; this one could be read in two ways."
    try:
        return f"Write the date as YYYY-MM-DD: {date(year, month, day_of_month).isoformat()}."
    except ValueError:
        return "Write the date as YYYY-MM-DD, such as 2025-01-31."


def clock_time(text: str) -> str:
    """A local time as HH:MM or HH:MM:SS."""
    if not _TIME.fullmatch(text):
        raise BadValue("not a time as HH:MM", "Write the local time as HH:MM, such as 17:30.")
    padded = text.zfill(5 if text.count(":") == 1 else 8)
    try:
        return time.fromisoformat(padded).isoformat()
    except ValueError as error:
        raise BadValue("no such time of day", "Write a time from 00:00 to 23:59.") from error


def weekday(text: str) -> str:
    """A weekday: 0 is Monday and 6 is Sunday, or its English name."""
    if text in {"0", "1", "2", "3", "4", "5", "6"}:
        return text
    name = text.lower()[:3]
    if name in WEEKDAYS:
        return str(WEEKDAYS.index(name))
    raise BadValue("not a weekday", "Write 0 for Monday to 6 for Sunday, or mon, tue, wed, thu, fri, sat, sun.")


def weekdays(text: str) -> str:
    """Weekdays separated by spaces; returned as an array in ascending order."""
    days = sorted({weekday(part) for part in re.split(r"[\s,;|]+", text) if part})
    if not days:
        raise BadValue("no weekday", "List weekdays separated by spaces, such as 0 2 4.")
    return "{" + ",".join(days) + "}"


def flag(text: str) -> str:
    """Yes or no."""
    word = text.lower()
    if word in {"true", "t", "yes", "y", "1"}:
        return "true"
    if word in {"false", "f", "no", "n", "0"}:
        return "false"
    raise BadValue("neither yes nor no", "Write true or false.")


@dataclass(frozen=True)
class OneOf:
    """Reads one of a few words."""

    words: Sequence[str]

    def __call__(self, text: str) -> str:
        """The word as it is stored."""
        if text in self.words:
            return text
        raise BadValue("not one of the words that this column takes", f"Write one of: {', '.join(self.words)}.")


@dataclass(frozen=True)
class ValueType:
    """How a column's cells are read and staged, and how the documentation names them."""

    reader: Reader
    staged_as: str
    described_as: str


QUANTITY, MONEY = "numeric(16, 6)", "numeric(16, 4)"

TYPES = {
    "id": ValueType(identifier, "text", "id"),
    "text": ValueType(free_text, "text", "text"),
    "quantity": ValueType(Number(), QUANTITY, "number ≥ 0"),
    "positive_quantity": ValueType(Number(is_above=True), QUANTITY, "number > 0"),
    "quantity_change": ValueType(Change(), QUANTITY, "number, not 0"),
    "factor": ValueType(Number(is_above=True, most=99_999_999, decimals=8), "numeric(16, 8)", "number > 0"),
    "capacity": ValueType(Number(is_above=True, most=999_999_999, decimals=3), "numeric(12, 3)", "number > 0"),
    "money": ValueType(Number(), MONEY, "amount ≥ 0"),
    "positive_money": ValueType(Number(is_above=True, decimals=4), MONEY, "amount > 0"),
    "signed_money": ValueType(Number(least=-9_999_999_999.0), MONEY, "amount, may be negative"),
    "count": ValueType(Number(most=32_767, is_whole=True), "integer", "whole number ≥ 0"),
    "positive_count": ValueType(Number(least=1, most=32_767, is_whole=True), "integer", "whole number ≥ 1"),
    "yield": ValueType(Number(is_above=True, most=1, decimals=5), "numeric(6, 5)", "share > 0 and ≤ 1"),
    "share": ValueType(Number(most=1, decimals=8), "numeric(9, 8)", "share ≥ 0 and ≤ 1"),
    "scrap": ValueType(Number(most=0.99999), "numeric(6, 5)", "share ≥ 0 and < 1"),
    "service_level": ValueType(Number(least=0.5, most=0.9999), "numeric(5, 4)", "share ≥ 0.5 and < 1"),
    "rate": ValueType(Number(is_above=True, most=1, decimals=4), "numeric(5, 4)", "share > 0 and ≤ 1"),
    "minutes": ValueType(Number(is_above=True, most=10_080, decimals=2), "numeric(8, 2)", "number > 0"),
    "wait": ValueType(Number(most=10_080), "numeric(8, 2)", "number ≥ 0"),
    "held": ValueType(Number(most=999_999_999), "numeric(12, 3)", "number ≥ 0"),
    "deviation_days": ValueType(Number(most=365), "numeric(6, 3)", "number ≥ 0"),
    "date": ValueType(day, "date", "date YYYY-MM-DD"),
    "time": ValueType(clock_time, "time", "local time HH:MM"),
    "hour": ValueType(Number(most=23, is_whole=True), "smallint", "hour, 0 to 23"),
    "weekday": ValueType(weekday, "smallint", "weekday, 0 = Monday"),
    "weekdays": ValueType(weekdays, "smallint[]", "weekdays, separated by spaces, 0 = Monday"),
    "flag": ValueType(flag, "boolean", "true or false"),
}
"""Every type of column by its name."""
