"""Process steps, capacity, approval, overrides, and plans judged in money."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create everything in 0005_deep_plans.sql."""
    # The statements go to the driver as they are: SQLAlchemy would read a colon as a parameter.
    statements = Path(__file__).with_name("0005_deep_plans.sql").read_text(encoding="utf-8")
    connection = op.get_bind().connection.driver_connection
    assert connection is not None  # noqa: S101 (Alembic runs migrations on an open connection)
    connection.execute(statements)
