"""The one clock. Nothing else in the project asks what time it is, so that tests and replays can set it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the current instant, aware, in UTC."""


def system_clock() -> datetime:
    """The machine's time as an aware instant in UTC."""
    return datetime.now(UTC)
