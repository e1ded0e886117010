"""The one clock. Nothing else in the project asks what time it is, so that tests and replays can set it."""

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Clock = Callable[[], datetime]
"""Returns the current instant, aware, in UTC."""


def system_clock() -> datetime:
    """The machine's time as an aware instant in UTC."""
    return datetime.now(UTC)


def is_time_zone(name: str) -> bool:
    """Whether this machine has the data of a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
