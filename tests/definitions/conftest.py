"""What tests of Dagster objects share: an instance on the embedded Postgres, and definitions over a test's own store."""

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from daybreak.definitions import build_defs
from daybreak.fleet import Fleet
from resources.dagster_resources import ClockResource, StoreResource
from resources.store.database import sqlalchemy_dsn
from tests.conftest import address_of

TEMPLATE = "template_dagster"
WINDOW_START = date(2026, 1, 1)
NOW = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
_numbers = itertools.count(1)


def _instance(folder: Path, dsn: str) -> dg.DagsterInstance:
    (folder / "dagster.yaml").write_text(
        "storage:\n  postgres:\n    postgres_url: "
        + sqlalchemy_dsn(dsn, "psycopg2")
        + "\ntelemetry:\n  enabled: false\n",
        encoding="utf-8",
    )
    return dg.DagsterInstance.from_config(str(folder))


@pytest.fixture(scope="session")
def _dagster_template(postgres_dsn_root: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with Dagster's tables: making them takes seconds, copying them does not."""
    with psycopg.connect(postgres_dsn_root, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    with _instance(tmp_path_factory.mktemp("dagster"), address_of(postgres_dsn_root, TEMPLATE)) as instance:
        assert instance.get_runs_count() == 0
    return TEMPLATE


@pytest.fixture
def instance(
    postgres_dsn_root: str, _dagster_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on a fresh database, with the event settings of a real one."""
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "true")
    name = sql.Identifier(f"dagster_{next(_numbers)}")
    with psycopg.connect(postgres_dsn_root, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(_dagster_template)))
        with _instance(tmp_path, address_of(postgres_dsn_root, name.as_string().strip('"'))) as opened:
            yield opened
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def definitions_of(dsn: str, now: datetime = NOW, zones: tuple[str, ...] = ("Europe/Madrid",)) -> dg.Definitions:
    """The real definitions over a test's store, at a fixed time."""
    return build_defs(
        Fleet(zones, WINDOW_START),
        {"store": StoreResource(dsn=dsn), "clock": ClockResource(fixed_at=now.isoformat())},
    )
