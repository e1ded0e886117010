"""The one importer: any kind of `contracts`, from CSV to the store, in one transaction per batch of files.

A file streams into a temporary table (`staging`), is judged there (`checks`) and merged (`merging`, `history`). One
tenant's file is a batch of one. Nothing about a single kind belongs here.
"""

import difflib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from resources.imports import merging
from resources.imports.checks import check, remove_bad_rows
from resources.imports.contracts import KINDS, Kind
from resources.imports.history import HISTORIES
from resources.imports.source import Source, Unreadable, inspect
from resources.imports.staging import File, Staged, create_temporary_tables, stage
from resources.store.database import Connection, Store, copy_rows
from resources.store.versions import bump_input_version

MAX_PROBLEMS = 1_000
"""Problems that a report holds; all of them are counted, and all rows go to quarantine."""

NAMESPACE = uuid.UUID("6f2d6a52-7a5c-5b0e-9f43-5d1c9a1e4d11")

OnProgress = Callable[[str, int, int], object]
"""Told the step (reading, checking, writing), and how many bytes of how many are read."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row (its line in the file) or, without a row, with the file; and what mends it."""

    row: int | None
    column: str
    value: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class ImportReport:
    """What became of one file. `status` is imported, refused or already_imported.

    `created` holds the ids made because the file named them, per product and location; `problems` the first
    MAX_PROBLEMS of `problem_count`; `imported_at` is when the content was imported, now or before.
    """

    tenant_id: str
    kind: str
    file_name: str
    status: str
    import_id: uuid.UUID | None = None
    rows_read: int = 0
    rows_written: int = 0
    rows_unchanged: int = 0
    rows_quarantined: int = 0
    created: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem_count: int = 0
    problems: Sequence[Problem] = ()
    imported_at: datetime | None = None


@dataclass(frozen=True)
class Options:
    """What the person asked for. `create` holds product or location; `again` applies a file seen before once more."""

    keep_good: bool = False
    create: frozenset[str] = frozenset()
    again: bool = False


PLAIN = Options()


class UnknownTenant(Exception):
    """No such tenant, or one whose time zone is invalid. The message carries the remedy."""


def import_file(
    store: Store,
    tenant_id: str,
    kind_name: str,
    path: Path,
    *,
    now: datetime,
    options: Options = PLAIN,
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Import one file for one tenant. Nothing is written when the report's status is refused.

    Raises UnknownTenant.
    """
    source = Source.of_path(tenant_id, path)
    return import_batch(store, kind_name, [source], now=now, options=options, on_progress=on_progress)[0]


def import_batch(
    store: Store,
    kind_name: str,
    sources: Sequence[Source],
    *,
    now: datetime,
    options: Options = PLAIN,
    on_progress: OnProgress | None = None,
) -> list[ImportReport]:
    """Import files of one kind, one per tenant and all with the same columns, in one transaction: all of them, or none.

    Returns a report per source, in their order. Raises UnknownTenant.
    """
    run = _Run(store, KINDS[kind_name], options, now, on_progress or (lambda *_: None))
    return run.reports(sources)


@dataclass(frozen=True)
class _Run:
    """One call of the importer."""

    store: Store
    kind: Kind
    options: Options
    now: datetime
    on_progress: OnProgress

    def reports(self, sources: Sequence[Source]) -> list[ImportReport]:
        with self.store.transaction() as connection:
            todays = self._todays(connection, [source.tenant_id for source in sources])
            files: list[File] = []
            done: dict[str, ImportReport] = {}
            for source in sources:
                try:
                    files.append(self._file(source, todays[source.tenant_id]))
                except Unreadable as error:
                    done[source.tenant_id] = self._unreadable(source, error)
            if not done:
                _lock(connection, files)
                done = self._seen(connection, files)
                done |= self._import(connection, [file for file in files if file.source.tenant_id not in done])
        # When one file of a batch is refused, the others are not imported either.
        return [done.get(s.tenant_id) or ImportReport(s.tenant_id, self.kind.name, s.name, "refused") for s in sources]

    def _todays(self, connection: Connection, tenant_ids: Sequence[str]) -> dict[str, date]:
        """The date of each tenant in its time zone."""
        zones: dict[str, str] = dict(connection.execute("SELECT tenant_id, timezone FROM master.tenant").fetchall())
        todays = {}
        for tenant_id in tenant_ids:
            if tenant_id not in zones:
                near = difflib.get_close_matches(tenant_id, zones, 1)
                meant = f"Did you mean {near[0]}? " if near else ""
                raise UnknownTenant(
                    f"There is no tenant {tenant_id!r}. "
                    f"Remedy: {meant}`daybreak tenant list` shows them, `daybreak tenant add` makes one."
                )
            try:
                todays[tenant_id] = self.now.astimezone(ZoneInfo(zones[tenant_id])).date()
            except (ValueError, OSError, KeyError) as error:
                raise UnknownTenant(
                    f"The time zone {zones[tenant_id]!r} of tenant {tenant_id} does not exist. "
                    "Remedy: correct it in master.tenant."
                ) from error
        return todays

    def _file(self, source: Source, today: date) -> File:
        sha, size = inspect(source)
        return File(source, sha, size, uuid.uuid5(NAMESPACE, f"{source.tenant_id}/{self.kind.name}/{sha}"), today)

    def _unreadable(self, source: Source, error: Unreadable) -> ImportReport:
        problem = Problem(error.line, error.column, "", error.problem, error.remedy)
        return ImportReport(
            source.tenant_id, self.kind.name, source.name, "refused", problem_count=1, problems=(problem,)
        )

    def _seen(self, connection: Connection, files: Sequence[File]) -> dict[str, ImportReport]:
        """Files imported before. Those with rows in quarantine are tried again: what they lacked may be there now."""
        if self.options.again:
            return {}
        rows = connection.execute(
            "SELECT import_id, rows_read, imported_at FROM ops.import WHERE import_id = ANY(%s) AND rows_quarantined = 0",
            ([file.import_id for file in files],),
        ).fetchall()
        found = {import_id: (rows_read, imported_at) for import_id, rows_read, imported_at in rows}
        reports = {}
        for file in files:
            if file.import_id in found:
                rows_read, imported_at = found[file.import_id]
                reports[file.source.tenant_id] = self._report(
                    file, "already_imported", rows_read=rows_read, rows_unchanged=rows_read, imported_at=imported_at
                )
        return reports

    def _report(self, file: File, status: str, **values: Any) -> ImportReport:
        report = ImportReport(file.source.tenant_id, self.kind.name, file.source.name, status, file.import_id)
        return replace(report, **values)

    def _import(self, connection: Connection, files: Sequence[File]) -> dict[str, ImportReport]:
        if not files:
            return {}
        create_temporary_tables(connection, self.kind, files)
        try:
            staged = stage(connection, self.kind, files, lambda done, size: self.on_progress("reading", done, size))
        except Unreadable as error:
            at_fault = next(file for file in files if file.source is error.source)
            return {at_fault.source.tenant_id: self._unreadable(at_fault.source, error)}
        self.on_progress("checking", 0, 0)
        check(connection, self.kind, self.options.create)
        refused = {
            file.source.tenant_id: self._report(
                file, "refused", import_id=None, rows_read=staged.rows[file.source.tenant_id], **found
            )
            for file in files
            if (found := _problems(connection, file.source.tenant_id))
        }
        if refused and not self.options.keep_good:
            return refused
        remove_bad_rows(connection)
        merging.ensure_partitions(self.store, connection, self.kind)
        self.on_progress("writing", 0, 0)
        try:
            with connection.transaction():
                return self._write(connection, files, staged, refused)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            # The contract should have caught it. The store's own constraints are the last line, and nothing is written.
            reason = str(error).partition("\n")[0]
            refusal = Unreadable(f"the store refuses it: {reason}", "Correct what the message names.")
            return {file.source.tenant_id: self._unreadable(file.source, refusal) for file in files}

    def _write(
        self, connection: Connection, files: Sequence[File], staged: Staged, bad: Mapping[str, ImportReport]
    ) -> dict[str, ImportReport]:
        created, touched = self._create(connection)
        for target in self.kind.targets:
            merging.merge(connection, self.kind, target, staged.columns, self.now)
        if self.kind.versions:
            HISTORIES[self.kind.versions](connection, staged.columns, self.now)
        written: dict[str, int] = dict(
            connection.execute(
                "SELECT tenant_id, count(DISTINCT row_number) FROM changed GROUP BY tenant_id"
            ).fetchall()
        )
        deleted = {t for (t,) in connection.execute("SELECT tenant_id FROM batch WHERE is_changed")}
        touched.setdefault(self.kind.input, set()).update(written, deleted)
        for input_name, tenant_ids in touched.items():
            versions = {
                tenant_id: bump_input_version(connection, tenant_id, input_name, self.now)
                for tenant_id in sorted(tenant_ids)
            }
            if self.kind.dated_by and input_name == self.kind.input:
                merging.record_changed_dates(connection, self.kind.dated_by, input_name, versions)
                if any(target.table == "facts.sales" for target in self.kind.targets):
                    merging.record_actuals(connection, versions, self.now)
        kept: dict[str, int] = dict(
            connection.execute("SELECT tenant_id, count(*) FROM staged GROUP BY tenant_id").fetchall()
        )
        reports = {}
        for file in files:
            tenant_id = file.source.tenant_id
            read, good, changed = staged.rows[tenant_id], kept.get(tenant_id, 0), written.get(tenant_id, 0)
            problems = bad.get(tenant_id)
            reports[tenant_id] = self._report(
                file,
                "imported",
                rows_read=read,
                rows_written=changed,
                rows_unchanged=good - changed,
                rows_quarantined=read - good,
                created={thing: sorted(made[tenant_id]) for thing, made in created.items() if tenant_id in made},
                problem_count=problems.problem_count if problems else 0,
                problems=problems.problems if problems else (),
                imported_at=self.now,
            )
        self._record(connection, files, reports)
        return reports

    def _create(self, connection: Connection) -> tuple[dict[str, dict[str, list[str]]], dict[str, set[str]]]:
        """Make what the rows name and the options allow; returns the ids made, and the tenants touched per input."""
        created = {}
        touched: dict[str, set[str]] = {}
        for thing, make, input_name in (
            ("location", merging.create_locations, "calendar"),
            ("product", merging.create_products, "products"),
        ):
            columns = [column.name for column in self.kind.columns if column.refers_to == thing]
            if thing in self.options.create and columns:
                created[thing] = make(connection, columns)
                touched.setdefault(input_name, set()).update(created[thing])
        if self.kind.is_widening_assortment:
            touched.setdefault("products", set()).update(merging.widen_assortment(connection))
        return created, touched

    def _record(self, connection: Connection, files: Sequence[File], reports: Mapping[str, ImportReport]) -> None:
        connection.execute("DELETE FROM ops.import WHERE import_id = ANY(%s)", ([file.import_id for file in files],))
        copy_rows(
            connection,
            "ops.import",
            (
                *("import_id", "tenant_id", "kind", "input", "file_name", "content_sha256"),
                *("rows_read", "rows_written", "rows_unchanged", "rows_quarantined", "imported_at"),
            ),
            (
                (
                    *(file.import_id, file.source.tenant_id, self.kind.name, self.kind.input),
                    *(file.source.name[:200], file.content_sha256),
                    *(report.rows_read, report.rows_written, report.rows_unchanged, report.rows_quarantined, self.now),
                )
                for file in files
                for report in (reports[file.source.tenant_id],)
            ),
        )
        connection.execute("""
            INSERT INTO ops.quarantine (import_id, tenant_id, row_number, column_name, value, problem, remedy, raw)
            SELECT b.import_id, p.tenant_id, p.row_number, p.column_name, p.value, p.problem, p.remedy, p.raw
            FROM problem AS p JOIN batch AS b USING (tenant_id) ON CONFLICT DO NOTHING
        """)


def _lock(connection: Connection, files: Sequence[File]) -> None:
    """Wait for other imports of the same tenants. The order is fixed, so that two batches cannot wait for each other."""
    for tenant_id in sorted(file.source.tenant_id for file in files):
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('daybreak.import'), hashtext(%s))", (tenant_id,))


def _problems(connection: Connection, tenant_id: str) -> dict[str, Any]:
    """The fields of a report that tell its problems; empty when there are none."""
    counted = connection.execute("SELECT count(*) FROM problem WHERE tenant_id = %s", (tenant_id,)).fetchone()
    if not counted or not counted[0]:
        return {}
    rows = connection.execute(
        """
        SELECT row_number, column_name, value, problem, remedy FROM problem WHERE tenant_id = %s
        ORDER BY row_number, column_name LIMIT %s
        """,
        (tenant_id, MAX_PROBLEMS),
    )
    return {"problem_count": counted[0], "problems": tuple(Problem(*row) for row in rows)}
