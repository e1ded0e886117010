"""Late sales, checks, retraining, retries, alerts, pauses: the loop that learns and calls."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create everything in 0006_learning_loop.sql."""
    # The statements go to the driver as they are: SQLAlchemy would read a colon as a parameter.
    statements = Path(__file__).with_name("0006_learning_loop.sql").read_text(encoding="utf-8")
    connection = op.get_bind().connection.driver_connection
    assert connection is not None  # noqa: S101 (Alembic runs migrations on an open connection)
    connection.execute(statements)
