"""The store, the caches and the clock as Dagster resources. They hold addresses, never open connections."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from resources.clock import Clock, system_clock
from resources.forecast_cache import REDIS_URL_SETTING, ForecastCache
from resources.model_cache import ModelCache, shared_cache
from resources.store.database import Store


class StoreResource(dg.ConfigurableResource):
    """Where the store is. `dsn` is a Postgres address; it comes from the environment and is never logged."""

    dsn: str

    @contextmanager
    def open(self) -> Iterator[Store]:
        """The opened store, closed at the end of the block. Raises StoreError when the server does not answer."""
        with Store(self.dsn, max_connections=2) as store:
            yield store


class CacheResource(dg.ConfigurableResource):
    """Where the forecast cache is: `url`, empty for none; by default REDIS_URL of the process that runs.

    The variable is read when a run opens the cache, since one that is not set must not keep a run from starting, and so
    that its password is in no configuration.
    """

    url: str | None = None

    @contextmanager
    def open(self) -> Iterator[ForecastCache]:
        """The cache, on or off, closed at the end of the block. Raises nothing for a server that does not answer."""
        url = os.environ.get(REDIS_URL_SETTING, "") if self.url is None else self.url
        with ForecastCache(url) as cache:
            yield cache


class ModelCacheResource(dg.ConfigurableResource):
    """Where artefacts of forecast models are kept as files: `folder`, or nowhere, so that each is read from the store."""

    folder: str | None = None

    @property
    def cache(self) -> ModelCache:
        """The cache of this process over the folder."""
        return shared_cache(None if self.folder is None else Path(self.folder))


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
