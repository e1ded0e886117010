"""The local instance seen from outside: its home, its database and environment, and what runs in it.

Starting and watching processes is daybreak/supervisor.py. Nothing here imports Dagster: every command begins here.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from resources.machine import locked, port_is_free

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout: where dagster.yaml and workspace.yaml are."""

STOP_S = 10.0
"""After this many seconds whatever still runs is killed."""

LOCK_FILE, RECORD_FILE, CODE_PORT_FILE = "instance.lock", "instance.json", "code.port"
OLDEST_POSTGRES = 15


class InstanceError(Exception):
    """The instance cannot be used. The message is one line that says why and what mends it."""


@dataclass(frozen=True)
class Running:
    """What `daybreak up` writes about itself: its process, the web address, and the process groups it looks after by name."""

    pid: int
    url: str
    groups: dict[str, int]


def home() -> Path:
    """The folder of all state: DAYBREAK_HOME, else `.daybreak` in the project folder."""
    return Path(os.environ.get("DAYBREAK_HOME") or PROJECT / ".daybreak").absolute()


def make_home() -> Path:
    """The home, made when missing. Raises InstanceError when nothing can be written there."""
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK_FILE).open("a").close()
    except OSError as error:
        raise InstanceError(
            f"Cannot write in {folder} ({error.strerror}). "
            "Remedy: make it writable for you, or set DAYBREAK_HOME to a folder that is."
        ) from error
    return folder


@contextmanager
def database() -> Iterator[str]:
    """The address of this instance's database: DATABASE_URL, a server that runs already, else one for this block."""
    given = os.environ.get("DATABASE_URL")
    if given is not None:
        check_address(given)
        yield given
        return
    from resources.postgres_server import PostgresServerError, shared_server  # noqa: PLC0415 (a given one needs none)

    folder = make_home()
    try:
        with shared_server(folder) as dsn:
            yield dsn
    except PostgresServerError as error:
        raise InstanceError(str(error)) from error


def lasting_database() -> str:
    """The address of a database that outlives this command: DATABASE_URL, or that of the running instance.

    Raises InstanceError when there is neither.
    """
    given = os.environ.get("DATABASE_URL")
    if given is not None:
        check_address(given)
        return given
    if running() is None:
        raise InstanceError(
            "No instance runs, so there is no database. Remedy: start one with `daybreak up`, or set DATABASE_URL."
        )
    with database() as dsn:
        return dsn


def check_address(address: str) -> None:
    """Raise InstanceError, with the remedy, unless the address is a Postgres server that answers."""
    import psycopg  # noqa: PLC0415 (keeps --help fast)

    from resources.store.database import psycopg_dsn  # noqa: PLC0415 (keeps --help fast)

    form = "Remedy: set it to postgresql://user:password@host:port/name, or unset it to use the embedded server."
    if address.partition("://")[0].partition("+")[0] not in {"postgresql", "postgres"}:
        raise InstanceError(f"DATABASE_URL is not the address of a Postgres database. {form}")
    try:
        psycopg.conninfo.conninfo_to_dict(psycopg_dsn(address))
    except psycopg.ProgrammingError:
        # The parser's message quotes what it could not read, which may be the password.
        raise InstanceError(
            f"DATABASE_URL cannot be read as an address; signs such as a space or % are written as %20 or %25. {form}"
        ) from None
    try:
        with psycopg.connect(psycopg_dsn(address), connect_timeout=5) as connection:
            version = connection.info.server_version
    except (psycopg.Error, ValueError) as error:
        raise InstanceError(f"DATABASE_URL cannot be used: {_first_line(str(error))}. {form}") from error
    if version // 10_000 < OLDEST_POSTGRES:
        raise InstanceError(
            f"DATABASE_URL is Postgres {version // 10_000}; Daybreak needs {OLDEST_POSTGRES} or newer. {form}"
        )


def dagster_environment(dsn: str) -> dict[str, str]:
    """The variables that dagster.yaml, workspace.yaml and our own code read, for a database address.

    Makes DAGSTER_HOME inside the home, with the project's dagster.yaml in it. Set on every process of the instance.
    """
    from resources.store.database import psycopg_dsn, sqlalchemy_dsn  # noqa: PLC0415 (keeps --help fast)

    folder = make_home()
    return {
        "DAYBREAK_HOME": str(folder),
        "DAGSTER_HOME": str(_dagster_home(folder)),
        "DATABASE_URL": psycopg_dsn(dsn),
        # A bare postgresql:// means psycopg 3 to SQLAlchemy 2.1, with which no queued run is ever launched.
        "DAYBREAK_PG_URL": sqlalchemy_dsn(dsn, "psycopg2"),
        "DAYBREAK_CODE_PORT": str(_code_port(folder)),
        # One write per thousand events instead of one each, and none per planned partition: a batch of tenants
        # costs a thousandth of a run per tenant only with both.
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def choose_code_port() -> None:
    """Settle on the code server's port for the instance that is about to start: the last one, unless it is taken."""
    folder = make_home()
    if not port_is_free(_code_port(folder)):
        (folder / CODE_PORT_FILE).unlink()
        _code_port(folder)


def running() -> Running | None:
    """What `daybreak up` runs on this home now; None when nothing does."""
    folder = home()
    return recorded(folder) if is_held(folder) else None


def recorded(folder: Path) -> Running | None:
    """What the last `daybreak up` on this home wrote about itself, whether or not it still runs."""
    try:
        return Running(**json.loads((folder / RECORD_FILE).read_text()))
    except FileNotFoundError:
        return None


def record(folder: Path, state: Running) -> None:
    """Write what runs, whole or not at all."""
    unfinished = folder / f"{RECORD_FILE}.{os.getpid()}"
    unfinished.write_text(json.dumps(asdict(state), indent=2))
    unfinished.replace(folder / RECORD_FILE)


def is_held(folder: Path) -> bool:
    """Whether a `daybreak up` holds this home, or processes of one that was killed are still ending."""
    try:
        taken = locked(folder / LOCK_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    if taken is None:
        return True
    taken.close()
    return False


def stop() -> bool:
    """Stop the running instance and return when nothing of it is left; False when none ran.

    Raises InstanceError when it cannot be stopped.
    """
    folder = home()
    state = running()
    if state is None:
        return False
    try:
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
    except PermissionError as error:
        raise InstanceError(
            f"The instance belongs to another user (process {state.pid}). Remedy: run `daybreak down` as that user."
        ) from error
    if not _is_let_go(folder, STOP_S):
        # Asked in vain: it may be stopped itself, by a debugger or Ctrl-Z.
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGKILL)
        end(left_over(folder, state.groups.values()), grace_s=0.0)
        if not _is_let_go(folder, STOP_S):
            raise InstanceError(f"Process {state.pid} does not end. Remedy: look at it with `ps -fp {state.pid}`.")
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(state.pid).wait(1)  # it let go of the home a moment before its end
    return True


def left_over(folder: Path, groups: Iterable[int]) -> list[psutil.Process]:
    """The living members of an instance's process groups. Ids are used again, so only members of this home count."""
    wanted = set(groups)
    return [process for process in psutil.process_iter() if _belongs(process, wanted, folder)]


def end(processes: list[psutil.Process], grace_s: float) -> None:
    """SIGTERM, and SIGKILL to what is left after `grace_s` seconds. Returns when they are gone."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, STOP_S)):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, processes = psutil.wait_procs(processes, wait_s)


def reload_definitions() -> bool:
    """Let the running instance read its definitions again, for new time zones or another window; False when none runs.

    Raises InstanceError when the web server does not answer or refuses.
    """
    from daybreak import dagster_client  # noqa: PLC0415 (few commands talk to the web server)

    state = running()
    if state is None:
        return False
    try:
        dagster_client.reload_definitions(state.url)
    except dagster_client.DagsterRefused as error:
        raise InstanceError(
            f"The running instance did not read its definitions again: {error} "
            "Remedy: press Reload on the deployment page of the web UI, or restart it with `daybreak down` and `daybreak up`."
        ) from error
    return True


def _dagster_home(folder: Path) -> Path:
    """DAGSTER_HOME, whose dagster.yaml is a link to the project's, so that there is one to edit."""
    dagster_home = folder / "dagster"
    dagster_home.mkdir(exist_ok=True)
    link = dagster_home / "dagster.yaml"
    if not link.is_symlink() or link.readlink() != PROJECT / "dagster.yaml":
        unfinished = dagster_home / f"dagster.yaml.{os.getpid()}"
        unfinished.symlink_to(PROJECT / "dagster.yaml")
        unfinished.replace(link)
    return dagster_home


def _code_port(folder: Path) -> int:
    """The code server's port, kept over restarts. Chosen from the home's path below the range that systems hand out."""
    kept = folder / CODE_PORT_FILE
    with suppress(FileNotFoundError, ValueError):
        return int(kept.read_text())
    begin = int.from_bytes(hashlib.sha256(os.fsencode(folder)).digest()[:4], "big") % 10_000
    port = next(p for p in (10_000 + (begin + step) % 10_000 for step in range(10_000)) if port_is_free(p))
    kept.write_text(str(port))
    return port


def _is_let_go(folder: Path, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while is_held(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _belongs(process: psutil.Process, groups: set[int], folder: Path) -> bool:
    try:
        return os.getpgid(process.pid) in groups and process.environ().get("DAYBREAK_HOME") == str(folder)
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
