"""Brings the store's schema to the version that this code expects, by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from resources.store.database import sqlalchemy_dsn

VERSION_SCHEMA = "ops"
"""Home of our version table: in `public` it would be taken for Dagster's own."""


def _config(dsn: str | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    if dsn is not None:
        config.attributes["dsn"] = sqlalchemy_dsn(dsn, "psycopg")
    return config


def head() -> str:
    """The revision that this code expects."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 (the package ships its migrations)
    return revision


def current(dsn: str) -> str | None:
    """The revision that the database has; None before the first migration."""
    engine = create_engine(sqlalchemy_dsn(dsn, "psycopg"))
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(
                connection, opts={"version_table_schema": VERSION_SCHEMA}
            ).get_current_revision()
    finally:
        engine.dispose()


def upgrade(dsn: str) -> bool:
    """Apply the migrations that are missing, one process at a time; returns whether there were any."""
    before = current(dsn)
    if before == head():
        return False
    engine = create_engine(sqlalchemy_dsn(dsn, "psycopg"))
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('daybreak.migrate'))"))
            config = _config(dsn)
            config.attributes["connection"] = connection
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}"))
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    return True
