"""The store and the clock as Dagster resources. They hold addresses, never open connections."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg

from resources.clock import Clock, system_clock
from resources.store.database import Store


class StoreResource(dg.ConfigurableResource):
    """Where the store is. `dsn` is a Postgres address; it comes from the environment and is never logged."""

    dsn: str

    @contextmanager
    def open(self) -> Iterator[Store]:
        """The opened store, closed at the end of the block. Raises StoreError when the server does not answer."""
        with Store(self.dsn, max_connections=2) as store:
            yield store


class ClockResource(dg.ConfigurableResource):
    """The current time, or a fixed one for replays and tests (`fixed_at`, ISO 8601 with an offset)."""

    fixed_at: str | None = None

    @property
    def now(self) -> Clock:
        """The clock as a function."""
        if self.fixed_at is None:
            return system_clock
        fixed = datetime.fromisoformat(self.fixed_at)
        if fixed.tzinfo is None:
            raise ValueError(
                f"fixed_at {self.fixed_at!r} has no offset. Remedy: write it as 2026-03-01T05:30:00+00:00."
            )
        return lambda: fixed.astimezone(UTC)
