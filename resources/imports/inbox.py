"""The watched folder: files that were put into `<inbox>/<tenant>/<kind>.csv` or `<kind>-*.csv` are imported.

Afterwards a file is in the tenant's `done/`, with the date before its name, or in `refused/` beside `<file>.problems.txt`:
none is deleted, none replaced. A kill between the import and the move imports nothing twice, since the same content is a
no-op. What people who may write into the folder put there is not trusted: links are never followed.
"""

import errno
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from resources.imports.contracts import KINDS
from resources.imports.importer import ImportReport, Problem, UnknownTenant, import_batch
from resources.imports.source import Source
from resources.store.database import Store

INBOX_SETTING: Final = "DAYBREAK_INBOX"
DONE: Final = "done"
REFUSED: Final = "refused"

QUIET: Final = timedelta(seconds=5)
"""A file that has not changed for so long is taken to be whole."""

FILES_A_LOOK: Final = 20
BUDGET_S: Final = 20.0
"""After so long no further file is begun: a tick of Dagster is ended after 60 s. A file of a million rows takes about that."""

Seen = Mapping[str, tuple[str, datetime]]
"""Per file (its path below the inbox) what it looked like and since when it has looked so."""


class InboxError(Exception):
    """The inbox, or a folder in it, cannot be used; the message carries the remedy."""


@dataclass(frozen=True)
class Taken:
    """What became of a file. outcome: done, refused, or left where it is; problem: why, with the remedy."""

    tenant_id: str
    name: str
    outcome: str
    problem: str = ""
    rows_written: int = 0


@dataclass(frozen=True)
class _Waiting:
    tenant_id: str
    path: Path
    is_regular: bool
    looks: str

    @property
    def key(self) -> str:
        return f"{self.tenant_id}/{self.path.name}"


def take_in(
    store: Store, inbox: Path, seen: Seen, now: datetime
) -> tuple[list[Taken], dict[str, tuple[str, datetime]]]:
    """Import the files that have not changed for QUIET, oldest first, at most FILES_A_LOOK of them.

    seen: what the last look returned; without it every file waits for one more look, so that whether a file is still being
    written never depends on the clock of another machine. Returns what became of files and what was seen of the others.
    Raises InboxError when the inbox itself cannot be read.
    """
    waiting, taken = _waiting(inbox)
    noted = {
        file.key: seen[file.key] if file.key in seen and seen[file.key][0] == file.looks else (file.looks, now)
        for file in waiting
    }
    ready = [file for file in waiting if now - noted[file.key][1] >= QUIET]
    ready.sort(key=lambda file: (noted[file.key][1], file.key))
    deadline = time.monotonic() + BUDGET_S
    for file in ready[:FILES_A_LOOK]:
        if time.monotonic() > deadline:
            break
        try:
            outcome = _take(store, file, now)
        except (OSError, InboxError) as error:
            # One file that cannot be moved must not stop the others; it stays, and waits behind those that came since.
            outcome = Taken(file.tenant_id, file.path.name, "left", _told_of(error))
        taken.append(outcome)
        if outcome.outcome == "left":
            noted[file.key] = (file.looks, now)
        else:
            del noted[file.key]
    return taken, noted


def kind_of(file_name: str) -> str | None:
    """The kind that a file's name tells: `<kind>.csv` or `<kind>-*.csv`, the longest that fits; None when none does."""
    stem = file_name[: -len(".csv")].lower()
    fitting = [name for name in KINDS if stem == name or stem.startswith(f"{name}-")]
    return max(fitting, key=len, default=None)


def _waiting(inbox: Path) -> tuple[list[_Waiting], list[Taken]]:
    """The files below the inbox that have a CSV's name, regular or not, and the folders that cannot be read.

    Other names, as of uploads under way, are left alone.
    """
    try:
        folders = sorted(os.scandir(inbox), key=lambda entry: entry.name)
    except OSError as error:
        raise InboxError(
            f"The inbox {inbox} cannot be read: {os.strerror(error.errno or errno.EIO)}. "
            f"Remedy: make the folder, or correct {INBOX_SETTING}."
        ) from error
    waiting, unreadable = [], []
    for folder in folders:
        if not folder.is_dir(follow_symlinks=False) or folder.name.startswith("."):
            continue
        try:
            waiting += [_seen(folder.name, entry) for entry in os.scandir(folder.path) if _is_csv(entry.name)]
        except OSError as error:
            # Also a file that was moved away since: its folder is read again at the next look.
            unreadable.append(Taken(folder.name, "", "left", _told_of(error)))
    return waiting, unreadable


def _is_csv(name: str) -> bool:
    return name.lower().endswith(".csv") and not name.startswith(".")


def _seen(tenant_id: str, entry: os.DirEntry[str]) -> _Waiting:
    status = entry.stat(follow_symlinks=False)
    return _Waiting(tenant_id, Path(entry.path), stat.S_ISREG(status.st_mode), _looks(status))


def _told_of(error: OSError | InboxError) -> str:
    if isinstance(error, InboxError):
        return str(error)
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{reason}. Remedy: see that Daybreak may read and move it."


def _take(store: Store, file: _Waiting, now: datetime) -> Taken:
    kind = kind_of(file.path.name)
    if not file.is_regular:
        return _refuse(file, now, "it is a link or no regular file", "Put the file itself here.")
    if "\\" in file.path.name or not file.path.name.isprintable():
        return _refuse(file, now, "its name holds a path separator or a control character", "Rename it.")
    if kind is None:
        known = ", ".join(KINDS)
        return _refuse(file, now, "its name tells no kind", f"Name it KIND.csv or KIND-anything.csv. Kinds: {known}.")
    return _import(store, file, kind, now)


def _import(store: Store, file: _Waiting, kind: str, now: datetime) -> Taken:
    source = Source(file.tenant_id, file.path.name, lambda: _open(file.path))
    try:
        (report,) = import_batch(store, kind, [source], now=now)
    except UnknownTenant as error:
        return _refuse(file, now, str(error), "The folder's name is the tenant's id.")
    if _looks(os.stat(file.path, follow_symlinks=False)) != file.looks:
        return Taken(file.tenant_id, file.path.name, "left", "It changed while it was imported; it is imported again.")
    if report.status == "refused":
        return _refuse(file, now, *_told(report))
    file.path.rename(_folder(file, DONE) / _dated(file, DONE, now))
    return Taken(file.tenant_id, file.path.name, "done", rows_written=report.rows_written)


def _looks(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _refuse(file: _Waiting, now: datetime, problem: str, remedy: str) -> Taken:
    """Move a file aside with a text that says why. The text is written first: a kill in between only writes it again."""
    folder = _folder(file, REFUSED)
    name = _dated(file, REFUSED, now)
    text = f"{file.path.name} was not imported on {now:%Y-%m-%d %H:%M} UTC.\n\n{problem}\n\nRemedy: {remedy}\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(folder / f"{name}.problems.txt", flags, 0o644), "w", encoding="utf-8") as stream:
        stream.write(text)
    file.path.rename(folder / name)
    return Taken(file.tenant_id, file.path.name, "refused", f"{problem.splitlines()[0]} Remedy: {remedy}")


def _told(report: ImportReport) -> tuple[str, str]:
    """The problems of a report as a table, and what to do about them all."""
    lines = [f"{report.problem_count} problems. Nothing of the file was imported.", ""]
    lines += [_line(problem) for problem in report.problems]
    if report.problem_count > len(report.problems):
        lines.append(f"… and {report.problem_count - len(report.problems)} more")
    return "\n".join(lines), (
        "mend these rows and put the file back into the inbox, or import the good ones: "
        f"daybreak import {report.kind} FILE --tenant {report.tenant_id} --keep-good."
    )


def _line(problem: Problem) -> str:
    row = "file" if problem.row is None else f"row {problem.row}"
    place = f"{row}, {problem.column}" if problem.column else row
    return f"{place}{f' {problem.value!r}' if problem.value else ''}: {problem.problem}. {problem.remedy}"


def _open(path: Path) -> BinaryIO:
    """A file opened without following a link, also one that took its place since it was looked at."""
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb")


def _folder(file: _Waiting, name: str) -> Path:
    """A folder beside the file, made when it is missing. Raises InboxError when it is a link or a file."""
    folder = file.path.parent / name
    folder.mkdir(exist_ok=True)
    if not stat.S_ISDIR(os.stat(folder, follow_symlinks=False).st_mode):
        raise InboxError(f"{folder} is a link. Remedy: remove it; Daybreak makes the folder.")
    return folder


def _dated(file: _Waiting, folder: str, now: datetime) -> str:
    """The file's name with the date before it, and a number where that name is taken."""
    prefix = now.astimezone(UTC).date().isoformat()
    stem = "".join(c if c.isprintable() and c != "\\" else "_" for c in file.path.name)
    n = 1
    while os.path.lexists(
        file.path.parent / folder / (name := f"{prefix}-{stem}" if n == 1 else f"{prefix}-{n}-{stem}")
    ):
        n += 1
    return name
