"""Pulls sales from a service over HTTP, page by page, into the importer.

GET {base_url}/sales?cursor=…&limit=1000 with `Authorization: Bearer TOKEN` answers {"rows": [{business_date, location_id,
product_id, quantity, …}], "next_cursor": text or null}. The cursor is kept after a page was imported: a pull that is cut
off reads one page again, which changes nothing. With null the end is reached, and the next pull reads the last page again.
An answer that cannot be taken is kept whole, the cursor stays, and the service waits. The token is neither stored nor told.
"""

import csv
import io
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from resources.clock import Clock
from resources.imports.contracts import KINDS
from resources.imports.importer import UnknownTenant, import_batch
from resources.imports.source import Source
from resources.store.database import Store
from resources.store.sales_services import keep_cursor, note_pull, quarantine_answer, read_sales_services

PULL_EVERY: Final = timedelta(minutes=15)
MAX_WAIT: Final = timedelta(hours=4)
"""Between pulls of a service that fails again and again; twice as long each time up to it."""

PAGE_ROWS: Final = 1_000
MAX_BODY_BYTES: Final = 16 << 20
MAX_ATTEMPTS: Final = 4
BACKOFF_S: Final = 0.5
MAX_BACKOFF_S: Final = 8.0
TIMEOUT_S: Final = 10.0
FIELDS: Final = {
    "quantity": "quantity_units",
    **{column.name: column.name for column in KINDS["sales"].columns if column.name != "quantity_units"},
}
"""What a row of an answer may hold, and the column of the import that it is."""


class Malformed(Exception):
    """An answer that cannot be taken: problem, remedy, and the answer."""

    def __init__(self, problem: str, remedy: str, body: bytes) -> None:
        super().__init__(f"{problem} Remedy: {remedy}")
        self.problem, self.remedy, self.body = problem, remedy, body


class NotPulled(Exception):
    """The service gave no answer. wait: how long it asks to be left alone, if it does."""

    def __init__(self, message: str, wait: timedelta | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class Pulled:
    """What a pull did. problem: None when it went well; is_at_end: whether there is nothing more to pull now."""

    tenant_id: str
    pages: int
    rows: int
    rows_written: int
    is_at_end: bool
    problem: str | None = None


@dataclass(frozen=True)
class Limits:
    """How long a pull may take, and what it waits by."""

    budget_s: float = 600.0
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[float, float], float] = random.SystemRandom().uniform


def pull(
    store: Store,
    tenant_id: str,
    now: Clock,
    limits: Limits = Limits(),
    environment: Mapping[str, str] = os.environ,
) -> Pulled | None:
    """Pull a tenant's sales until the end or the budget; None when it has no service or another process pulls it.

    Raises nothing for a service that fails: that is noted in ops.sales_service, with the time of the next pull.
    """
    with store.session() as session:
        key = ("SELECT pg_try_advisory_lock(hashtext('daybreak.sales_service'), hashtext(%s))", (tenant_id,))
        row = session.execute(*key).fetchone()
        if row is None or not row[0]:
            return None
        with store.transaction() as connection:
            services = read_sales_services(connection, tenant_id)
        return _Pull(store, services.iloc[0].to_dict(), now, limits, environment).run() if len(services) else None


class _Pull:
    """One pull of one service."""

    def __init__(
        self, store: Store, service: Mapping[str, Any], now: Clock, limits: Limits, environment: Mapping[str, str]
    ) -> None:
        self._store, self._now, self._limits = store, now, limits
        self._tenant_id, self._base_url = service["tenant_id"], service["base_url"]
        self._variable, self._cursor, self._failures = service["token_variable"], service["cursor"], service["failures"]
        self._token = environment.get(self._variable, "")
        self._deadline = limits.monotonic() + limits.budget_s
        self._pages = self._rows = self._rows_written = 0

    def run(self) -> Pulled:
        problem: str | None = None
        wait: timedelta | None = None
        is_at_end = False
        try:
            is_at_end = self._pull()
        except Malformed as error:
            problem = str(error)
            with self._store.transaction() as connection:
                quarantine_answer(
                    *(connection, self._tenant_id, f"{self._base_url}/sales", self._cursor),
                    *(error.problem, error.remedy, error.body, self._now()),
                )
        except NotPulled as error:
            problem, wait = str(error), error.wait
        now = self._now()
        if problem is None:
            next_pull_at = now + PULL_EVERY if is_at_end else now
        else:
            doubled = min(PULL_EVERY * 2 ** min(self._failures, 10), MAX_WAIT)
            next_pull_at = now + max(wait or timedelta(), doubled * self._limits.jitter(0.8, 1.2))
        with self._store.transaction() as connection:
            note_pull(connection, self._tenant_id, self._base_url, problem, next_pull_at, now)
        return Pulled(self._tenant_id, self._pages, self._rows, self._rows_written, is_at_end, problem)

    def _pull(self) -> bool:
        """Import pages; whether the end was reached before the budget."""
        if not self._token:
            raise NotPulled(
                f"The environment variable {self._variable} is not set. "
                "Remedy: set it for the process that pulls, and start that again."
            )
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        with httpx.Client(headers=headers, timeout=TIMEOUT_S, follow_redirects=False) as client:
            while self._left() > 0:
                body = self._get(client)
                rows, next_cursor = _read(body, self._cursor)
                self._import(rows, body)
                self._pages += 1
                if next_cursor is None:
                    return True
                with self._store.transaction() as connection:
                    keep_cursor(connection, self._tenant_id, self._base_url, next_cursor)
                self._cursor = next_cursor
        return False

    def _left(self) -> float:
        return self._deadline - self._limits.monotonic()

    def _get(self, client: httpx.Client) -> bytes:
        """One page, asked for MAX_ATTEMPTS times at most. Raises NotPulled and Malformed."""
        reason, wait = "", None
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                backoff = self._limits.jitter(0.0, min(BACKOFF_S * 2**attempt, MAX_BACKOFF_S))
                pause = max(backoff, wait.total_seconds() if wait else 0.0)
                if pause >= self._left():
                    break
                self._limits.sleep(pause)
            try:
                body, reason, wait = self._ask(client)
            except httpx.TransportError as error:
                # The message of the library may quote the request; its name says enough.
                body, reason, wait = None, f"{type(error).__name__} after {TIMEOUT_S:g} s at most", None
            if body is not None:
                return body
        raise NotPulled(f"The service does not answer: {reason}. Remedy: it is asked again; see that it runs.", wait)

    def _ask(self, client: httpx.Client) -> tuple[bytes | None, str, timedelta | None]:
        """The answer, or why there is none and how long the service asks to be left alone."""
        query = {"limit": str(PAGE_ROWS), **({} if self._cursor is None else {"cursor": self._cursor})}
        with client.stream("GET", f"{self._base_url}/sales", params=query) as response:
            if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
                asked = _retry_after(response.headers.get("Retry-After"), self._now())
                return None, f"status {response.status_code}", asked
            if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
                raise NotPulled(
                    f"The service refuses the token (status {response.status_code}). "
                    f"Remedy: renew it in the environment variable {self._variable}."
                )
            body = self._body(response)
            if response.status_code != httpx.codes.OK:
                raise Malformed(
                    f"The service answers with status {response.status_code}.",
                    "Correct the address: daybreak sales-service set.",
                    body,
                )
            return body, "", None

    def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise Malformed(
                    f"The answer is larger than {MAX_BODY_BYTES >> 20} MiB.",
                    f"Have the service give {PAGE_ROWS} rows a page.",
                    bytes(body[:MAX_BODY_BYTES]),
                )
            if self._left() <= 0:
                raise NotPulled(
                    "The answer comes too slowly. Remedy: it is asked for again; see that the service runs."
                )
        return bytes(body)

    def _import(self, rows: list[dict[str, str]], body: bytes) -> None:
        if not rows:
            return
        columns = [column for column in FIELDS.values() if any(column in row for row in rows)]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        source = Source.of_bytes(self._tenant_id, f"{self._base_url}/sales", text.getvalue().encode())
        try:
            (report,) = import_batch(self._store, "sales", [source], now=self._now())
        except UnknownTenant as error:
            raise NotPulled(str(error)) from error
        if report.status == "refused":
            first = report.problems[0]
            # The header is line 1 of the page as it was imported.
            place = f"row {first.row - 1}, {first.column}" if first.row else first.column
            raise Malformed(
                f"{report.problem_count} problems, the first at {place} {first.value!r}: {first.problem}.",
                first.remedy,
                body,
            )
        self._rows += report.rows_read
        self._rows_written += report.rows_written


def _read(body: bytes, cursor: str | None) -> tuple[list[dict[str, str]], str | None]:
    """The rows of an answer as cells of an import, and the next cursor. Raises Malformed."""
    shape = 'Have the service answer {"rows": [{…}], "next_cursor": "…" or null}.'
    try:
        answer = json.loads(body, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Malformed("The answer is no JSON.", shape, body) from error
    if not isinstance(answer, dict) or not isinstance(answer.get("rows"), list) or "next_cursor" not in answer:
        raise Malformed("The answer lacks rows or next_cursor.", shape, body)
    next_cursor = answer["next_cursor"]
    if next_cursor is not None and (not isinstance(next_cursor, str) or not next_cursor):
        raise Malformed("next_cursor is neither a text nor null.", shape, body)
    if next_cursor is not None and next_cursor == cursor:
        raise Malformed(
            "next_cursor is the cursor that was asked for, so that there would be no end.",
            "Have the service answer null on the last page.",
            body,
        )
    return [_row(n, row, body) for n, row in enumerate(answer["rows"], start=1)], next_cursor


def _row(n: int, row: Any, body: bytes) -> dict[str, str]:
    known = f"The fields are {', '.join(FIELDS)}."
    if not isinstance(row, dict):
        raise Malformed(f"Row {n} is no object.", known, body)
    cells = {}
    for name, value in row.items():
        if name not in FIELDS:
            raise Malformed(f"Row {n} has the unknown field {name[:60]!r}.", known, body)
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal | None):
            raise Malformed(f"Row {n}: {name} is neither a text nor a number.", known, body)
        cells[FIELDS[name]] = "" if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)
    return cells


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _retry_after(value: str | None, now: datetime) -> timedelta | None:
    """How long a service asks to be left alone: seconds, or a date; None when it does not say."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return timedelta(seconds=min(int(value), int(MAX_WAIT.total_seconds())))
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return min(max(at.replace(tzinfo=at.tzinfo or UTC) - now, timedelta()), MAX_WAIT)
