"""Reads tenants' current forecasts, from the cache where it holds them and else from Postgres. The one way for readers.

The guarantee: what a read returns was the active revision in Postgres at a moment during the read. It holds whatever
became of the writes to Redis, and by construction rather than by their order: an entry carries the stamp of the plans it
was made from, and it is used only if the stamp equals that of the active plans, asked of Postgres in one indexed query
after the entry was got. So none of these can show a superseded forecast: a write that failed after a new plan, a reader
that read the old plan and fills the cache after the new one was written, a restored database, two instances on one Redis.
A stale entry that wins such a race costs one miss, since the reader that finds it replaces it.

The price is that a hit still asks Postgres for a few headers. Without Postgres there are no forecasts.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from resources.forecast_cache import KEPT_S, ForecastCache, checked_tenant_id
from resources.store.database import Store
from resources.store.forecast_documents import FORMAT, Stamp, read_documents, read_stamps
from resources.vocabulary import CACHE_HIT, CACHE_MISS

LEVEL_TOLERANCE: Final = 1e-4

logger = logging.getLogger("daybreak.planning")


@dataclass(frozen=True)
class SeriesForecast:
    """What one product is expected to sell at one location, per day from the plan date on.

    Days from `extended_from` on are extended: beyond what forecasts are judged by, with a wider spread. method_reason says
    why the method was chosen.
    """

    location_id: str
    product_id: str
    method: str
    method_reason: str
    model_version: str
    last_history_on: date | None
    extended_from: int
    is_open: list[bool]
    mean_units: list[float]
    quantile_levels: list[float]
    quantile_units: list[list[float]]

    def quantile(self, level: float) -> list[float] | None:
        """The units that demand stays at or below with this probability, per day; None where the level is not stored."""
        for n, stored in enumerate(self.quantile_levels):
            if abs(stored - level) < LEVEL_TOLERANCE:
                return [day[n] for day in self.quantile_units]
        return None


@dataclass(frozen=True)
class TenantForecasts:
    """A tenant's current forecasts for a plan date. stamp: the plans they are from; is_cached: whether Redis had them."""

    tenant_id: str
    plan_date: date
    stamp: Stamp
    series: list[SeriesForecast]
    is_cached: bool

    @property
    def revisions(self) -> dict[str, int]:
        """The revision of each location's forecast."""
        return {plan["location_id"]: int(plan["revision"]) for plan in self.stamp}


def current_forecasts(store: Store, cache: ForecastCache, tenant_id: str, plan_date: date) -> TenantForecasts | None:
    """One tenant's current forecasts; None when it has no active plan. Raises ValueError for an id no tenant can have."""
    return read_current(store, cache, [tenant_id], plan_date).get(tenant_id)


def read_current(
    store: Store, cache: ForecastCache, tenant_ids: Sequence[str], plan_date: date
) -> dict[str, TenantForecasts]:
    """Many tenants' current forecasts, without those that have no active plan; misses fill the cache.

    Raises ValueError for an id that no tenant can have.
    """
    tenant_ids = list(dict.fromkeys(map(checked_tenant_id, tenant_ids)))
    found = _from_cache(store, cache, tenant_ids, plan_date) if cache.is_usable else {}
    missing = [tenant_id for tenant_id in tenant_ids if tenant_id not in found]
    if missing:
        with store.transaction() as connection:
            documents = read_documents(connection, missing, plan_date)
        cache.put_many(documents, plan_date)
        for tenant_id, text in documents.items():
            found[tenant_id] = _parsed(json.loads(text), is_cached=False)
    cache.count(hits=len(tenant_ids) - len(missing), misses=len(missing))
    return found


def publish_current(store: Store, cache: ForecastCache, tenant_ids: Sequence[str], plan_date: date, today: date) -> int:
    """Put what is active now into the cache, after a plan was committed; returns how many tenants' entries are new.

    Tenants whose plan was superseded without another lose their entry. Dates that are past by as long as an entry lives
    are left to their readers, if they have any: a replay of a year would only push out what is read.
    """
    if not cache.is_usable or not tenant_ids or (today - plan_date).total_seconds() > KEPT_S:
        return 0
    with store.transaction() as connection:
        documents = read_documents(connection, tenant_ids, plan_date)
    cache.forget([tenant_id for tenant_id in tenant_ids if tenant_id not in documents], plan_date)
    return cache.put_many(documents, plan_date)


def _from_cache(
    store: Store, cache: ForecastCache, tenant_ids: Sequence[str], plan_date: date
) -> dict[str, TenantForecasts]:
    """The entries that are whole, the tenant's own and of the plans that are active now."""
    entries = cache.get_many(tenant_ids, plan_date)
    documents = {tenant_id: _document(value) for tenant_id, value in entries.items()}
    stamps: dict[str, Stamp] = {}
    if entries:
        with store.transaction() as connection:
            stamps = read_stamps(connection, list(entries), plan_date)
    found = {}
    for tenant_id in tenant_ids:
        document = documents.get(tenant_id)
        reason = "no entry"
        if tenant_id in entries:
            reason = "superseded"
            if document is None or (document["tenant_id"], document["plan_date"]) != (tenant_id, plan_date.isoformat()):
                reason = "unreadable, or of another format"
            elif tenant_id in stamps and document["stamp"] == stamps[tenant_id]:
                try:
                    found[tenant_id] = _parsed(document, is_cached=True)
                except (TypeError, ValueError, KeyError):
                    reason = "unreadable, or of another format"
        if tenant_id in found:
            logger.info("%s: %s %s", CACHE_HIT, tenant_id, plan_date)
        elif tenant_id in entries or cache.is_usable:  # a cache that failed has said so once
            logger.info("%s: %s %s (%s)", CACHE_MISS, tenant_id, plan_date, reason)
    return found


def _document(value: bytes) -> dict[str, Any] | None:
    """The entry's content; None when it is no document of our format, whoever wrote it."""
    try:
        document = json.loads(value)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    return document if {"tenant_id", "plan_date", "stamp", "series"} <= document.keys() else None


def _parsed(document: dict[str, Any], is_cached: bool) -> TenantForecasts:
    series = []
    for row in document["series"]:
        last = row["last_history_on"]
        series.append(SeriesForecast(**{**row, "last_history_on": last and date.fromisoformat(last)}))
    plan_date = date.fromisoformat(document["plan_date"])
    return TenantForecasts(document["tenant_id"], plan_date, document["stamp"], series, is_cached)
