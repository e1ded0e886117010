"""Runs what `daybreak up` is made of: starts it, starts again what dies, stops all of it.

Two processes watch each other. The guardian is the `daybreak up` that a person or script started; it starts the
supervisor, which starts database, code server, daemon and web server. If the guardian is killed, the kernel tells the
supervisor, which stops everything. If the supervisor is killed, the guardian ends what is left and starts another. Both
adopt orphans, so the runs of a killed code server are found too. Each service leads a process group of its own: Ctrl-C
in a terminal reaches the guardian alone, and the order of the end is ours.
"""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import IO

import click
import psutil
import psycopg

from daybreak import instance
from daybreak.instance import PROJECT, InstanceError, Running
from resources.machine import adopt_orphans, child_command, free_port, locked, port_answers, port_is_free
from resources.postgres_server import EmbeddedPostgres, PostgresServerError
from resources.vocabulary import (
    JOBS_CONFIGURED,
    SCHEDULER_DISABLED,
    SCHEDULER_DISABLED_SETTING,
    SCHEDULER_STARTED,
)

POLL_S = 0.2
SERVICE_STOP_S = 5.0
"""Leaves the database time to stop within the ten seconds that a stop may take."""

GUARDIAN_PATIENCE_S = 9.0
READY_S = 120.0
DATABASE_WAIT_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CALM_S = 60.0
"""A service that ran this long begins again with the first pause when it dies."""

SUPERVISOR_STARTS = 3
LOG_BYTES = 5_000_000
UNUSABLE = 4


LOAD_ERRORS = """{ workspaceOrError { ... on Workspace {
  locationEntries { locationOrLoadError { ... on PythonError { message } } }
} } }"""


class Stopped(Exception):
    """The instance was asked to stop."""


class StopRequest:
    """Whether a signal asked this process to stop.

    A background shell starts its programs with SIGINT ignored, which must not make the instance unstoppable. A hang-up
    that is ignored was asked for, by nohup.
    """

    def __init__(self) -> None:
        self.came = False
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True

    def raise_if_came(self) -> None:
        """Raise Stopped when a signal came."""
        if self.came:
            raise Stopped


@dataclass
class Service:
    """One program of the instance, started again when it dies, after a pause that doubles from death to death."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _began: float = field(default=0.0, init=False)
    _pause_s: float = field(default=FIRST_PAUSE_S, init=False)
    _not_before: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start the program in a process group of its own, its output appended to its log."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*child_command(signal.SIGTERM), *self.command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=PROJECT, env=self.environment, start_new_session=True,
            )  # fmt: skip
        self._began = time.monotonic()

    def tend(self) -> bool:
        """Note a death and start again when its pause is over; returns whether the process is a new one."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            if now - self._began > CALM_S:
                self._pause_s = FIRST_PAUSE_S
            say(f"The {self.name} died ({_ending(self.process.returncode)}); it starts again. Its log is {self.log}.")
            self.process = None
            self._not_before = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self.process is None and now >= self._not_before:
            self.start()
            return True
        return False


class Supervisor:
    """Starts and watches the instance for as long as the guardian lives and no signal comes."""

    def __init__(self, port: int, with_daemon: bool, host_names: tuple[str, ...], guardian: int) -> None:
        self._folder = instance.home()
        self._port = port
        self._url = f"http://127.0.0.1:{port}"
        self._with_daemon = with_daemon
        self._host_names = host_names
        self._guardian = guardian
        self._stop = StopRequest()
        self._services: list[Service] = []
        self._database: EmbeddedPostgres | None = None
        self._database_not_before = 0.0
        self._database_pause_s = FIRST_PAUSE_S

    def run(self) -> None:
        """Start everything, watch it until asked to stop, stop everything. Raises InstanceError when it cannot start."""
        adopt_orphans()
        with ExitStack() as stack:
            stack.callback(self._clear)
            with suppress(Stopped):
                self._start(stack)
                while True:
                    self._tend()

    def _start(self, stack: ExitStack) -> None:
        began = time.monotonic()
        (self._folder / "logs").mkdir(exist_ok=True)
        dsn = os.environ.get("DATABASE_URL") or self._start_database(stack)
        environment = os.environ | instance.dagster_environment(dsn)
        stack.callback(self._stop_services)
        self._record()
        self._migrate(environment)
        code_port = int(environment["DAYBREAK_CODE_PORT"])
        dagster = [sys.executable, "-m", "dagster"]
        self._add(
            "code-server", [*dagster, "code-server", "start", "-m", "daybreak.definitions", "-h", "127.0.0.1", "-p",
            str(code_port)], environment,
        )  # fmt: skip
        # Until the code server answers, the others would show a location that failed to load.
        self._until(lambda: port_answers(code_port), "code-server")
        workspace = str(PROJECT / "workspace.yaml")
        names = [argument for name in self._host_names for argument in ("--host-name", name)]
        self._add(
            "web-server",
            [sys.executable, "-m", "daybreak.webserver", "--port", str(self._port), "--workspace", workspace, *names],
            environment,
        )
        if self._with_daemon:
            # What the dagster-daemon script runs, wherever scripts are.
            self._add("daemon", [sys.executable, "-m", "dagster._daemon", "run", "-w", workspace], environment)
        self._until(self._web_answers, "web-server")
        say(f"Daybreak runs at {self._url} (ready after {time.monotonic() - began:.0f} s). Ctrl-C stops it.")
        self._report_scheduler()
        self._report_definitions()

    def _report_scheduler(self) -> None:
        if not self._with_daemon:
            return
        if os.environ.get(SCHEDULER_DISABLED_SETTING, "").lower() == "true":
            say(f"{SCHEDULER_DISABLED}: {SCHEDULER_DISABLED_SETTING} is true.")
        else:
            from daybreak import fleet  # noqa: PLC0415 (brings pandas, which this process has no other use for)

            zones = fleet.read(self._folder).zones
            say(f"{SCHEDULER_STARTED}: {JOBS_CONFIGURED} for {len(zones)} time zones.")

    def _start_database(self, stack: ExitStack) -> str:
        server = EmbeddedPostgres(self._folder)
        try:
            dsn = server.start(DATABASE_WAIT_S)
        except PostgresServerError as error:
            raise InstanceError(str(error)) from error
        stack.callback(server.close)
        self._database = server
        return dsn

    def _migrate(self, environment: dict[str, str]) -> None:
        """Bring our schema to head; Dagster's too, when another release of Dagster made it. A new one makes itself.

        The outline of the fleet is written as well: the database may hold tenants that this home has never seen.
        """
        publish = ["settings", "publish", "--no-reload"]
        self._finish([sys.executable, "-c", "from daybreak.cli import main; main()", *publish], environment)
        mark = self._folder / "dagster" / "migrated"
        release = importlib.metadata.version("dagster")
        if mark.exists() and mark.read_text() == release:
            return
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            row = connection.execute("SELECT to_regclass('public.alembic_version')").fetchone()
        if row is not None and row[0] is not None:
            say("Dagster's tables are brought up to date.")
            self._finish([sys.executable, "-m", "dagster", "instance", "migrate"], environment)
        mark.write_text(release)

    def _finish(self, command: list[str], environment: dict[str, str]) -> None:
        """Run a command to its end. Raises InstanceError with its last line when it fails."""
        log = self._folder / "logs" / "migrate.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*child_command(signal.SIGTERM), *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=PROJECT, env=environment,
            )  # fmt: skip
        try:
            while process.poll() is None:
                self._pause()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            said = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise InstanceError(f"The database cannot be migrated: {said} The whole story is in {log}.")

    def _add(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        service = Service(name, command, environment, self._folder / "logs" / f"{name}.log")
        self._services.append(service)
        service.start()
        self._record()

    def _until(self, is_ready: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + READY_S
        while not is_ready():
            self._tend()
            if time.monotonic() > deadline:
                raise InstanceError(
                    f"The {name} does not answer within {READY_S:.0f} s. "
                    f"Remedy: see {self._folder / 'logs' / name}.log."
                )

    def _tend(self) -> None:
        """One look at everything: database first, since the others cannot live without it."""
        self._pause()
        changed = self._tend_database()
        for service in self._services:
            changed |= service.tend()
        if changed:
            self._record()
        self._reap_orphans()

    def _tend_database(self) -> bool:
        if self._database is None or self._database.pid is not None or time.monotonic() < self._database_not_before:
            return False
        say("The database died; it starts again. What was committed is kept.")
        try:
            self._database.restart()
        except (PostgresServerError, OSError) as error:
            say(str(error))
            self._database_not_before = time.monotonic() + self._database_pause_s
            self._database_pause_s = min(2 * self._database_pause_s, LONGEST_PAUSE_S)
            return False
        self._database_pause_s = FIRST_PAUSE_S
        return True

    @property
    def _database_pid(self) -> int | None:
        return self._database.pid if self._database is not None else None

    def _pause(self) -> None:
        time.sleep(POLL_S)
        self._stop.raise_if_came()
        if os.getppid() != self._guardian:  # where the kernel does not tell us
            raise Stopped

    def _reap_orphans(self) -> None:
        """Collect adopted processes that ended; the ends of our own are left to their Popen objects."""
        own = {service.process.pid for service in self._services if service.process is not None}
        with suppress(ChildProcessError):
            while sys.platform == "linux":
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in own or ended.si_pid == self._database_pid:
                    return
                os.waitpid(ended.si_pid, os.WNOHANG)

    def _web_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/server_info", timeout=5):  # noqa: S310 (our own http address)
                return True
        except (OSError, HTTPException):
            return False

    def _report_definitions(self) -> None:
        """Say it at once when the definitions do not load: the web UI would show it only on its deployment page."""
        request = urllib.request.Request(  # noqa: S310 (our own http address)
            f"{self._url}/graphql",
            json.dumps({"query": LOAD_ERRORS}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 (our own http address)
                entries = json.load(response)["data"]["workspaceOrError"]["locationEntries"]
        except (OSError, HTTPException, LookupError, ValueError) as error:
            say(f"Whether the definitions load is unknown ({error!r}). Remedy: look at the deployment page.")
            return
        for entry in entries:
            said = (entry["locationOrLoadError"] or {}).get("message", "").strip()
            if said:
                reason = textwrap.shorten(said.splitlines()[0], 300, placeholder=" ...")
                say(f"The definitions do not load: {reason} Remedy: `dg check defs` says where; then press Reload.")

    def _record(self) -> None:
        groups = {service.name: service.process.pid for service in self._services if service.process is not None}
        groups["supervisor"] = os.getpid()
        instance.record(self._folder, Running(pid=self._guardian, url=self._url, groups=groups))

    def _stop_services(self) -> None:
        """Ask all services to stop, at once; then end whatever they leave, their runs included."""
        processes = [service.process for service in self._services if service.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + SERVICE_STOP_S
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        spared = {self._database_pid, *(process.pid for process in descendants(self._database_pid))}
        left = {*descendants(os.getpid()), *instance.left_over(self._folder, [process.pid for process in processes])}
        instance.end([process for process in left if process.pid not in spared], grace_s=0.5)

    def _clear(self) -> None:
        (self._folder / instance.RECORD_FILE).unlink(missing_ok=True)


def up(port: int, with_daemon: bool = True, host_names: tuple[str, ...] = ()) -> int:
    """Run the instance in the foreground until Ctrl-C, SIGTERM or SIGHUP, as the guardian; returns the exit code.

    `port` 0 takes any free one. Raises InstanceError when the instance cannot be started.
    """
    stop = StopRequest()
    folder = instance.make_home()
    lock = _take(folder)
    with lock:
        left = instance.recorded(folder)
        if left is not None:  # guardian and supervisor were killed in one stroke
            instance.end(instance.left_over(folder, left.groups.values()), SERVICE_STOP_S)
        if "DATABASE_URL" in os.environ:
            instance.check_address(os.environ["DATABASE_URL"])
        if port and not port_is_free(port):
            raise InstanceError(f"Port {port} is in use. Remedy: end what listens there, or take another with --port.")
        instance.choose_code_port()
        adopt_orphans()
        return _guard_supervisor(stop, lock, folder, port or free_port(), with_daemon, host_names)


def _take(folder: Path) -> IO[str]:
    """The home's lock. Waits for the remains of a killed instance, which are ending; refuses a living one."""
    lock = locked(folder / instance.LOCK_FILE)
    if lock is None:
        state = instance.recorded(folder)
        if state is None or psutil.pid_exists(state.pid):
            where = f" at {state.url} (process {state.pid})" if state is not None else ""
            raise InstanceError(
                f"Daybreak runs already{where} on {folder}. Remedy: use it, or stop it with `daybreak down`."
            )
        lock = locked(folder / instance.LOCK_FILE, wait_s=2 * instance.STOP_S)
    if lock is None:
        raise InstanceError(
            f"What a killed instance left on {folder} does not end. Remedy: stop it with `daybreak down`."
        )
    return lock


def _guard_supervisor(
    stop: StopRequest, lock: IO[str], folder: Path, port: int, with_daemon: bool, host_names: tuple[str, ...]
) -> int:
    command = [
        *child_command(signal.SIGTERM), sys.executable, "-m", "daybreak.supervisor", "--port", str(port),
        *(() if with_daemon else ("--no-daemon",)),
        *(argument for name in host_names for argument in ("--host-name", name)),
    ]  # fmt: skip
    for _ in range(SUPERVISOR_STARTS):
        # The supervisor shares the lock: the home is free only when both are gone.
        supervisor = subprocess.Popen(
            command, cwd=PROJECT, env=os.environ | {"DAYBREAK_HOME": str(folder)},
            stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock.fileno()],
        )  # fmt: skip
        asked_at = None
        while supervisor.poll() is None:
            time.sleep(POLL_S)
            if stop.came and asked_at is None:
                supervisor.terminate()
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() > asked_at + GUARDIAN_PATIENCE_S:
                supervisor.kill()
        if descendants(os.getpid()):
            _end_everything(folder, 0.5 if stop.came else SERVICE_STOP_S)
        if stop.came or supervisor.returncode in {0, UNUSABLE}:
            return max(supervisor.returncode, 0)
        say(f"The supervisor died ({_ending(supervisor.returncode)}); it starts again.")
    raise InstanceError(f"The supervisor died {SUPERVISOR_STARTS} times. Remedy: see {folder / 'logs'}.")


def _end_everything(folder: Path, grace_s: float) -> None:
    state = instance.recorded(folder)
    recorded = instance.left_over(folder, state.groups.values()) if state is not None else []
    instance.end([*{*recorded, *descendants(os.getpid())}], grace_s)


def descendants(pid: int | None) -> list[psutil.Process]:
    """Every living process below one; on Linux orphans that it adopted are among them."""
    try:
        found = psutil.Process(pid).children(recursive=True) if pid is not None else []
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if process.is_running() and not _is_zombie(process)]


def say(line: str) -> None:
    """Print a line at once. A reader that went away must not take the instance with it."""
    with suppress(OSError):
        print(line, flush=True)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--no-daemon", is_flag=True)
@click.option("--host-name", "host_names", multiple=True)
def main(port: int, no_daemon: bool, host_names: tuple[str, ...]) -> None:
    """Be the supervisor of the guardian that started this process."""
    try:
        Supervisor(port, not no_daemon, host_names, guardian=os.getppid()).run()
    except InstanceError as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        sys.exit(UNUSABLE)


if __name__ == "__main__":
    main()
