"""What tests of every kind share: a real Postgres per worker, and a fresh migrated database per test that wants one."""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from resources.postgres_server import EmbeddedPostgres
from resources.store.database import Store
from resources.store.migrate import upgrade

TEMPLATE = "template_daybreak"
_numbers = itertools.count(1)


def address_of(root: str, database: str) -> str:
    """The address of another database on the server of `root`."""
    return f"{root.rpartition('/')[0]}/{database}"


@pytest.fixture(autouse=True)
def _without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis of the machine must not see what tests forecast; those of the cache name a server of their own."""
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture(scope="session")
def postgres_dsn_root() -> Iterator[str]:
    """The address of an embedded server of this test worker. Nothing is kept, so nothing is synced."""
    home = Path(tempfile.mkdtemp(prefix="daybreak-test-"))
    home.chmod(0o755)  # as root the server runs as another user, who must reach it
    try:
        with EmbeddedPostgres(home, {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}) as server:
            yield server.dsn
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def _migrated_template(postgres_dsn_root: str) -> str:
    with psycopg.connect(postgres_dsn_root, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    upgrade(address_of(postgres_dsn_root, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def dsn(postgres_dsn_root: str, _migrated_template: str) -> Iterator[str]:
    """The address of a fresh database with our schema and no rows, dropped after the test."""
    name = sql.Identifier(f"test_{next(_numbers)}")
    with psycopg.connect(postgres_dsn_root, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(_migrated_template)))
        yield address_of(postgres_dsn_root, name.as_string().strip('"'))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def store(dsn: str) -> Iterator[Store]:
    """The store over a fresh database, closed after the test."""
    with Store(dsn) as opened:
        yield opened
