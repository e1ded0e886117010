"""`daybreak up` with real processes: it starts from a script, guards its web server, mends itself, and leaves nothing.

One instance serves most tests, in the order of the file: starting Dagster's processes takes seconds of processor time.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from resources.machine import free_port

DAYBREAK = [sys.executable, "-c", "from daybreak.cli import main; main()"]
PROTOCOL = [Subprotocol("graphql-ws")]
STOPS_WITHIN_S = 10.0
MUTATION = 'mutation { reloadRepositoryLocation(repositoryLocationName: "none") { __typename } }'

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into other processes' environments")


@dataclass
class Up:
    """A `daybreak up` on a home: how to start it, what it says of itself, what belongs to it."""

    home: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "DATABASE"))}
        return clean | {"DAYBREAK_HOME": str(self.home)}

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.home.name}.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def groups(self) -> dict[str, int]:
        """The process groups by name; empty while nothing is recorded."""
        try:
            found: dict[str, int] = json.loads((self.home / "instance.json").read_text())["groups"]
        except FileNotFoundError:
            return {}
        return found

    @property
    def guardian(self) -> int:
        return int(json.loads((self.home / "instance.json").read_text())["pid"])

    @property
    def dsn(self) -> str:
        return (self.home / "postgres.address").read_text()

    @property
    def postmaster(self) -> int:
        return int((self.home / "postgres/data/postmaster.pid").read_text().split()[0])

    def start_in_background(self) -> None:
        """As a script does it: from a shell that ignores SIGINT for what it starts with `&`."""
        command = " ".join(f"'{part}'" for part in [*DAYBREAK, "up", "--port", str(self.port)])
        subprocess.run(
            ["/bin/sh", "-c", f"nohup sh -c \"{command}\" > '{self.log}' 2>&1 &"], env=self.environment, check=True
        )

    def start(self) -> None:
        self.start_in_background()
        assert eventually(self.is_ready, 120), self.log.read_text()

    def is_ready(self) -> bool:
        return self.log.exists() and f"Daybreak runs at {self.url}" in self.log.read_text()

    def call(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*DAYBREAK, *arguments],
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def everything(self) -> list[psutil.Process]:
        """All processes below the guardian."""
        guardian = psutil.Process(self.guardian)
        return [guardian, *guardian.children(recursive=True)]

    def remains(self, processes: list[psutil.Process]) -> list[str]:
        """What still runs of these, and of whatever else carries this home in its environment or arguments."""
        mine = [process for process in psutil.process_iter() if process.pid != os.getpid() and self._is_mine(process)]
        return [str(process) for process in {*processes, *mine} if is_alive(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("DAYBREAK_HOME") == str(self.home) or str(self.home) in " ".join(
                process.cmdline()
            )
        except psutil.Error:
            return False


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(holds: Callable[[], object], within_s: float = 30.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """An instance on a home of its own, started from a background shell."""
    folder = Path(tempfile.mkdtemp(prefix="daybreak-test-"))
    folder.chmod(0o755)
    found = Up(folder / "home", free_port())
    try:
        found.start()
        yield found
    finally:
        found.call("down", "--quiet", "--delete-data")
        shutil.rmtree(folder)


def ask(
    url: str, path: str = "/graphql", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status and text of an answer."""
    request = urllib.request.Request(url + path, body, headers or {})  # noqa: S310 (our own address)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 (our own address)
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


JSON = {"Content-Type": "application/json"}


def test_the_web_server_answers_and_dagster_has_the_definitions(up: Up) -> None:
    query = "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } } }"
    status, text = ask(up.url, body=json.dumps({"query": query}).encode(), headers=JSON)
    assert status == 200
    entries = json.loads(text)["data"]["workspaceOrError"]["locationEntries"]
    assert entries == [{"name": "daybreak", "locationOrLoadError": {"__typename": "RepositoryLocation"}}]
    assert "definitions do not load" not in up.log.read_text()


def test_the_web_server_refuses_what_a_foreign_page_can_send(up: Up) -> None:
    document = f"?query={quote(MUTATION)}"
    mutation = json.dumps({"query": MUTATION}).encode()
    assert ask(up.url, f"/graphql{document}")[0] == 403
    assert ask(up.url, f"/graphql{document}", body=b"", headers={"Content-Type": "text/plain"})[0] == 415
    assert ask(up.url, body=mutation, headers={"Content-Type": "application/graphql"})[0] == 415
    assert ask(up.url, body=mutation, headers=JSON | {"Origin": "https://evil.example"})[0] == 403
    assert ask(up.url, body=mutation, headers=JSON | {"Sec-Fetch-Site": "same-site"})[0] == 403
    assert ask(up.url, "/", headers={"Host": "evil.example"})[0] == 403


def test_the_web_server_takes_what_its_own_pages_and_programs_send(up: Up) -> None:
    mutation = json.dumps({"query": MUTATION}).encode()
    for headers in ({}, {"Origin": up.url, "Sec-Fetch-Site": "same-origin"}):
        status, text = ask(up.url, body=mutation, headers=JSON | headers)
        assert status == 200
        assert "RepositoryLocationNotFound" in text
    assert ask(up.url, "/graphql?query=%7B%20version%20%7D")[0] == 200
    status, page = ask(up.url, "/", headers={"Accept": "text/html"})
    assert status == 200
    assert "<html" in page


def test_only_own_pages_may_listen(up: Up) -> None:
    address = f"ws://127.0.0.1:{up.port}/graphql"
    with connect(address, origin=Origin(up.url), subprotocols=PROTOCOL) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv(timeout=10)) == {"type": "connection_ack"}
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, origin=Origin("https://evil.example"), subprotocols=PROTOCOL)


def test_the_environment_is_complete_for_dagster(up: Up) -> None:
    variables = json.loads(up.call("env", "--json").stdout)
    assert variables["DATABASE_URL"] == up.dsn
    assert variables["DAYBREAK_PG_URL"] == up.dsn.replace("postgresql://", "postgresql+psycopg2://")
    assert Path(variables["DAGSTER_HOME"], "dagster.yaml").resolve() == Path(__file__).parents[2] / "dagster.yaml"
    assert variables["DAGSTER_EVENT_BATCH_SIZE"] == "1000"
    assert variables["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] == "true"
    exported = up.call("env").stdout.splitlines()
    assert exported == [f"export {name}={value}" for name, value in variables.items()]


def test_the_password_is_in_no_argument_and_no_log(up: Up) -> None:
    password = (up.home / "postgres/password").read_text()
    assert len(password) > 20
    assert not any(password in " ".join(process.cmdline()) for process in up.everything())
    logs = [up.log, up.home / "postgres/server.log", *(up.home / "logs").iterdir()]
    assert len(logs) == 6
    assert not any(password in log.read_text() for log in logs)


def test_the_doctor_finds_a_running_instance_well(up: Up) -> None:
    def findings() -> dict[str, dict[str, object]]:
        return {finding["check"]: finding for finding in json.loads(up.call("doctor", "--json").stdout)}

    assert eventually(lambda: "heartbeat" in str(findings()["daemon"]["found"]) and findings()["daemon"]["is_ok"], 60)
    assert set(findings()) == {
        *("home", "disk", "driver", "database", "migrations", "daemon", "time zones", "lightgbm", "schedule", "cache")
    }
    assert up.call("doctor").returncode == 0


def test_a_second_up_on_the_same_home_is_refused(up: Up) -> None:
    second = up.call("up", "--port", str(free_port()))
    assert second.returncode == 4
    assert re.fullmatch(rf"Error: Daybreak runs already at {up.url} .*Remedy: .*\n", second.stderr)
    assert ask(up.url, "/server_info")[0] == 200


def test_a_busy_port_is_refused(up: Up, tmp_path: Path) -> None:
    other = up.call("up", "--port", str(up.port), DAYBREAK_HOME=str(tmp_path / "other"))
    assert other.returncode == 4
    assert re.fullmatch(rf"Error: Port {up.port} is in use\. Remedy: .*\n", other.stderr)


@pytest.mark.parametrize(
    "address",
    ["", "mysql://root@127.0.0.1/x", "postgresql://daybreak@127.0.0.1:1/daybreak", "postgresql://a:b@127.0.0.1:port/x"],
)
def test_a_wrong_database_url_is_refused(up: Up, tmp_path: Path, address: str) -> None:
    other = up.call("up", "--port", "0", DAYBREAK_HOME=str(tmp_path / "other"), DATABASE_URL=address)
    assert other.returncode == 4
    assert re.fullmatch(r"Error: DATABASE_URL .*Remedy: .*\n", other.stderr)


def test_an_unwritable_home_is_refused(up: Up, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    other = up.call("up", "--port", "0", DAYBREAK_HOME=str(tmp_path / "file" / "home"))
    assert other.returncode == 4
    assert re.fullmatch(r"Error: Cannot write in .*Remedy: .*\n", other.stderr)


def test_a_killed_database_comes_back_with_every_committed_row(up: Up) -> None:
    with psycopg.connect(up.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    killed = up.postmaster
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: "The database died" in up.log.read_text())
    assert eventually(lambda: (up.home / "postgres.address").exists() and up.postmaster != killed)

    def row() -> object:
        try:
            with psycopg.connect(up.dsn, connect_timeout=5) as connection:
                return connection.execute("SELECT value FROM kept").fetchone()
        except psycopg.OperationalError:
            return None

    assert eventually(lambda: row() == (7,))


def test_killed_services_come_back(up: Up) -> None:
    before = up.groups
    names = {"code-server", "web-server", "daemon"}
    for name in names:
        os.kill(before[name], signal.SIGKILL)

    def all_are_new() -> bool:
        return all(up.groups.get(name) not in {None, before[name]} for name in names)

    def web_answers() -> bool:
        try:
            return ask(up.url, "/server_info")[0] == 200
        except OSError:
            return False

    assert eventually(all_are_new)
    assert eventually(web_answers, 60)
    assert len(re.findall(r"The (?:code-server|web-server|daemon) died \(signal SIGKILL\)", up.log.read_text())) == 3
    assert up.groups["supervisor"] == before["supervisor"]


def test_a_killed_supervisor_is_replaced_and_its_services_with_it(up: Up) -> None:
    before = up.everything()
    supervisor, guardian = up.groups["supervisor"], up.guardian
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: up.groups.get("supervisor") not in {None, supervisor})
    assert up.guardian == guardian
    assert eventually(lambda: "code-server" in up.groups, 60)
    assert [str(process) for process in before if is_alive(process) and process.pid != guardian] == []


def test_a_killed_up_leaves_nothing(up: Up) -> None:
    processes = up.everything()
    assert len(processes) > 5
    os.kill(up.guardian, signal.SIGKILL)
    assert eventually(lambda: not up.remains(processes), STOPS_WITHIN_S), up.remains(processes)


def test_the_next_up_finds_every_committed_row_and_sigterm_stops_all_of_it(up: Up) -> None:
    up.log.unlink()
    up.start()
    with psycopg.connect(up.dsn) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
    processes = up.everything()
    os.kill(up.guardian, signal.SIGTERM)
    assert eventually(lambda: not up.remains(processes), STOPS_WITHIN_S), up.remains(processes)
    assert not (up.home / "instance.json").exists()
    assert not (up.home / "postgres/data/postmaster.pid").exists()


def test_ctrl_c_stops_an_instance_that_is_still_starting(up: Up) -> None:
    up.start_in_background()
    assert eventually(lambda: "code-server" in up.groups, 60)
    processes = up.everything()
    os.kill(up.guardian, signal.SIGINT)
    assert eventually(lambda: not up.remains(processes), STOPS_WITHIN_S), up.remains(processes)


def test_down_stops_it_and_is_quiet_when_nothing_runs(up: Up) -> None:
    up.start_in_background()
    assert eventually(lambda: "code-server" in up.groups, 60)
    processes = up.everything()
    assert up.call("down").stdout == "Daybreak is stopped.\n"
    assert eventually(lambda: not up.remains(processes), 1), up.remains(processes)  # the shell around it ends last
    again = up.call("down", "--quiet")
    assert (again.returncode, again.stdout) == (0, "")
    assert up.call("env").returncode == 4


def test_deleting_the_data_leaves_no_home(up: Up) -> None:
    assert up.call("down", "--quiet", "--delete-data").returncode == 0
    assert not up.home.exists()


STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.clear()
    open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(300)
"""

SUPERVISE = """
import os, sys
from daybreak.supervisor import Supervisor

class OnlyRuns(Supervisor):
    def _start(self, stack):
        (self._folder / "logs").mkdir(parents=True)
        stack.callback(self._stop_services)
        self._add("code-server", [sys.executable, "-c", sys.argv[1], sys.argv[2]], dict(os.environ))

OnlyRuns(0, True, (), os.getppid()).run()
"""


def test_a_run_that_outlives_its_code_server_and_ignores_sigterm_is_ended(tmp_path: Path) -> None:
    home, told = tmp_path / "home", tmp_path / "run"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, STUBBORN, str(told)], env=os.environ | {"DAYBREAK_HOME": str(home)}
    )
    assert eventually(lambda: told.exists() and told.read_text())
    run = psutil.Process(int(told.read_text()))
    os.kill(run.ppid(), signal.SIGKILL)
    assert eventually(lambda: run.ppid() == supervisor.pid)
    assert run.is_running()
    supervisor.terminate()
    assert supervisor.wait(STOPS_WITHIN_S) == 0
    assert not is_alive(run)
