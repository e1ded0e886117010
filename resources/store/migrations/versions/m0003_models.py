"""Forecast models: versions, backtests, artefacts and decisions."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create everything in 0003_models.sql."""
    # The statements go to the driver as they are: SQLAlchemy would read a colon as a parameter.
    statements = Path(__file__).with_name("0003_models.sql").read_text(encoding="utf-8")
    connection = op.get_bind().connection.driver_connection
    assert connection is not None  # noqa: S101 (Alembic runs migrations on an open connection)
    connection.execute(statements)
