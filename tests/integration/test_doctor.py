"""What the doctor finds in a real database."""

from pathlib import Path

import pytest

from daybreak import doctor
from daybreak.doctor import Finding
from resources import vocabulary
from resources.store.database import Store

HEARTBEATS = "CREATE TABLE public.daemon_heartbeats (daemon_type text, timestamp timestamp)"
BEAT = "INSERT INTO public.daemon_heartbeats VALUES (%s, (now() AT TIME ZONE 'utc') - make_interval(secs => %s))"


@pytest.fixture
def home(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose database is the test's."""
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.delenv("DAYBREAK_PG_URL", raising=False)
    return tmp_path


def examine() -> dict[str, Finding]:
    """The findings by check."""
    return {finding.check: finding for finding in doctor.examine()}


def beat(store: Store, age_s: float, *daemons: str) -> None:
    with store.transaction() as connection:
        connection.execute(HEARTBEATS)
        for daemon in daemons:
            connection.execute(BEAT, (daemon, age_s))


@pytest.mark.usefixtures("home")
def test_a_migrated_database_is_well(store: Store) -> None:
    beat(store, 10, *doctor.DAEMONS)
    assert [finding for finding in doctor.examine() if not finding.is_ok] == []


@pytest.mark.usefixtures("home")
def test_another_schema_version_is_found_and_named(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("UPDATE ops.alembic_version SET version_num = '0000'")
    found = examine()["migrations"]
    assert not found.is_ok
    assert vocabulary.MIGRATION_MISMATCH in found.found
    assert "daybreak migrate" in found.remedy


@pytest.mark.usefixtures("home")
def test_a_database_before_its_first_migration_is_found(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("DROP SCHEMA ops, master, facts, plans, quality CASCADE")
    found = examine()
    assert not found["migrations"].is_ok
    assert found["time zones"].is_ok


@pytest.mark.usefixtures("home")
def test_a_tenant_whose_zone_has_no_data_is_found(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.tenant (tenant_id, name, timezone, country, created_at) "
            "VALUES ('moon', 'Moon', 'Moon/Tranquility', 'DE', now())"
        )
    found = examine()["time zones"]
    assert not found.is_ok
    assert "Moon/Tranquility" in found.found


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("age_s", "daemons"), [(500, doctor.DAEMONS), (10, doctor.DAEMONS[:2])])
def test_a_silent_daemon_is_found(store: Store, age_s: float, daemons: tuple[str, ...]) -> None:
    beat(store, age_s, *daemons)
    found = examine()["daemon"]
    assert not found.is_ok
    assert found.remedy
