"""The dates that the grid holds. Apart from the partitions themselves, so that a date can be judged without Dagster."""

from datetime import UTC, date, datetime, timedelta

END_OFFSET_DAYS = 3
"""Days that the window reaches beyond yesterday in UTC: at UTC+14 a bakery that bakes at night plans two UTC days ahead."""


def window(start: date, now: datetime) -> tuple[date, date]:
    """The first and last date that the grid holds at an instant."""
    return start, now.astimezone(UTC).date() + timedelta(days=END_OFFSET_DAYS - 1)


def outside_window(days: list[date], start: date, now: datetime) -> str | None:
    """Which of these dates the grid does not hold, with the remedy; None when it holds all of them."""
    first, last = window(start, now)
    outside = [day.isoformat() for day in days if not first <= day <= last]
    if not outside:
        return None
    return (
        f"{', '.join(outside)} is outside the partition window {first} to {last}. "
        "Remedy: move the window with `daybreak settings set partitions-start DATE`."
    )
