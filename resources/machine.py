"""What this machine lends: ports, lock files, private files, processes that end with their parent."""

import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import IO

from resources import _child

POLL_S = 0.02
PR_SET_CHILD_SUBREAPER = 36


def port_is_free(port: int) -> bool:
    """Whether a server can listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def port_answers(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def locked(path: Path, kind: int = fcntl.LOCK_EX, wait_s: float = 0.0) -> IO[str] | None:
    """The open file that holds the lock until it is closed or the process ends; None when others hold it for `wait_s`.

    Raises OSError when the file cannot be written.
    """
    file = path.open("a")
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                return None
        except BaseException:
            file.close()
            raise
        time.sleep(POLL_S)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    unfinished.replace(path)


def child_command(death_signal: signal.Signals, uid: int = _child.KEEP_USER, gid: int = _child.KEEP_USER) -> list[str]:
    """What to put before a program's full path so that it has its signals back and, on Linux, dies with this thread."""
    return [
        sys.executable, "-I", "-S", str(Path(_child.__file__).absolute()),
        str(os.getpid()), str(int(death_signal)), str(uid), str(gid),
    ]  # fmt: skip


def adopt_orphans() -> None:
    """Make descendants whose parent dies children of this process, so that none escapes. Only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
