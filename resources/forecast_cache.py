"""The forecast cache on Redis: entries, counters and failures. Which entry is current is decided in forecast_reader.

One entry per tenant and plan date, `forecast:{tenant_id}:{plan_date}`, a JSON document that expires after KEPT_S. Hits
and misses are counted in Redis, so that all processes count together. The cache is never needed: no method but those
for operators (`ping`, `statistics`, `clear`) raises for a server that is down, slow, full or spoilt. The first failure
is logged, and the cache is then left alone until it is opened again, so that a run waits for it once at most.

The address, which may hold a password, is neither logged nor part of a message; nor are the server's own messages, since
some of them quote the commands that they refuse, AUTH among them.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from resources import vocabulary

REDIS_URL_SETTING: Final = "REDIS_URL"

CONNECT_TIMEOUT_S: Final = 0.4
ANSWER_TIMEOUT_S: Final = 0.4
BUDGET_S: Final = 2.0
"""What one call with many tenants may take in all, however the server spends it."""

KEPT_S: Final = 3 * 24 * 3600
"""Longer than a plan date matters, weekends included, and short enough that tenants who left use no memory for long."""

PIECE_BYTES: Final = 1_000_000
PIECE_KEYS: Final = 50
"""Of one pipeline or MGET: small enough for the timeout on a slow network."""

SCAN_KEYS: Final = 1000

ADDRESS_REMEDY = (
    f"Remedy: set {REDIS_URL_SETTING} to redis://[user:password@]host:port/number (rediss:// for TLS), with signs such "
    "as @ or / in the password written as %40 or %2F, or unset it to do without the cache."
)

_KEY = re.compile(r"forecast:(?P<tenant_id>[a-z0-9][a-z0-9_-]{0,47}):(?P<plan_date>\d{4}-\d{2}-\d{2})")
_TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_FAILURES = (redis.RedisError, OSError, UnicodeError)

logger = logging.getLogger("daybreak.planning")


class CacheUnusable(Exception):
    """The cache cannot do what an operator asked for. The message carries the remedy and no secret."""


@dataclass(frozen=True)
class CacheStatistics:
    """What is in the cache and how it serves. memory_bytes is None where the server does not tell."""

    address: str
    server_version: str
    keys: int
    tenants: int
    memory_bytes: int | None
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float | None:
        """Hits per look-up, 0 to 1; None before the first one."""
        looked_up = self.hits + self.misses
        return self.hits / looked_up if looked_up else None

    def as_json(self) -> dict[str, Any]:
        """The figures under the names of the metrics."""
        return {
            "address": self.address,
            "server_version": self.server_version,
            "keys": self.keys,
            "tenants": self.tenants,
            "memory_bytes": self.memory_bytes,
            vocabulary.CACHE_HITS: self.hits,
            vocabulary.CACHE_MISSES: self.misses,
            vocabulary.CACHE_HIT_RATE: None if self.hit_rate is None else round(self.hit_rate, 4),
        }


class ForecastCache:
    """The cache at an address; with an empty one it is off: it holds nothing, keeps nothing and connects to nothing.

    Opened per run or command, and closed after it. Connects with the first use.
    """

    def __init__(self, url: str = "") -> None:
        self.is_on = bool(url.strip())
        self.problem: str | None = None
        """Why the cache is left alone, without secrets; None as long as nothing failed."""

        self.address = ""
        self._client: redis.Redis | None = None
        if self.is_on:
            self._open(url.strip())

    def _open(self, url: str) -> None:
        try:
            # Not ConnectionPool.from_url, in which the address's query wins: no address may take the limits away.
            limits: dict[str, Any] = {
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
                "socket_timeout": ANSWER_TIMEOUT_S,
                "retry": Retry(NoBackoff(), 0),
                "retry_on_timeout": False,
                "health_check_interval": 0,
                "decode_responses": False,
                # The older protocol is spoken by every server, and a new connection costs one question less.
                "protocol": 2,
                "driver_info": None,
            }
            given: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call] # the library annotates all but this
            pool = redis.ConnectionPool(**{**given, **limits})
            # An option that does not exist shows here rather than in the middle of a run; nothing is connected yet.
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError):
            self._fail("the address cannot be read")
            return
        options = pool.connection_kwargs
        place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self.address = f"{place}/{options.get('db', 0)}"
        self._client = redis.Redis(connection_pool=pool)

    def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()

    def __enter__(self) -> "ForecastCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------- for readers and runs: never raises for Redis

    @property
    def is_usable(self) -> bool:
        """Whether it is worth asking: it is on and has not failed since it was opened."""
        return self._client is not None and self.problem is None

    def get_many(self, tenant_ids: Sequence[str], plan_date: date) -> dict[str, bytes]:
        """The entries as they are, by tenant; tenants without one, or with something else than text, are left out.

        Raises ValueError for an id that no tenant can have.
        """
        keys = [(tenant_id, key_of(tenant_id, plan_date)) for tenant_id in tenant_ids]
        found: dict[str, bytes] = {}
        deadline = time.monotonic() + BUDGET_S
        for first in range(0, len(keys), PIECE_KEYS):
            piece = keys[first : first + PIECE_KEYS]
            if not self._in_time(deadline):
                break
            try:
                values = self._connected().mget([key for _, key in piece])
            except _FAILURES as error:
                self._fail(_reason(error))
                break
            pairs = zip(piece, values, strict=True)
            found.update({tenant_id: value for (tenant_id, _), value in pairs if isinstance(value, bytes)})
        return found

    def put_many(self, documents: Mapping[str, str], plan_date: date) -> int:
        """Keep documents, by tenant, for KEPT_S; returns how many were. Raises ValueError for an id no tenant can have."""
        texts = {key_of(tenant_id, plan_date): text.encode() for tenant_id, text in documents.items()}
        kept = 0
        deadline = time.monotonic() + BUDGET_S
        for piece in _pieces(texts):
            if not self._in_time(deadline):
                break
            try:
                with self._connected().pipeline(transaction=False) as pipeline:
                    for key, text in piece.items():
                        pipeline.set(key, text, ex=KEPT_S)
                    pipeline.execute()
            except _FAILURES as error:
                self._fail(_reason(error))
                break
            kept += len(piece)
        return kept

    def forget(self, tenant_ids: Sequence[str], plan_date: date) -> None:
        """Remove the tenants' entries of a date. Raises ValueError for an id that no tenant can have."""
        keys = [key_of(tenant_id, plan_date) for tenant_id in tenant_ids]
        if not keys or not self.is_usable:
            return
        try:
            self._connected().unlink(*keys)
        except _FAILURES as error:
            self._fail(_reason(error))

    def count(self, hits: int, misses: int) -> None:
        """Add to the counters that all processes share."""
        if not self.is_usable:
            return
        try:
            with self._connected().pipeline(transaction=False) as pipeline:
                for name, number in ((vocabulary.CACHE_HITS, hits), (vocabulary.CACHE_MISSES, misses)):
                    if number:
                        pipeline.incrby(name, number)
                pipeline.execute()
        except _FAILURES as error:
            self._fail(_reason(error))

    # ---------------------------------------------------------------- for operators: raises CacheUnusable

    def ping(self) -> str:
        """The server's version. Raises CacheUnusable when it does not answer as it should."""
        try:
            return _version_of(self._connected().info("server"))
        except _FAILURES as error:
            raise self._unusable(error) from None

    def counters(self) -> tuple[int, int]:
        """Hits and misses so far. Raises CacheUnusable when the server does not answer or they are no numbers."""
        try:
            counters = self._connected().mget([vocabulary.CACHE_HITS, vocabulary.CACHE_MISSES])
            hits, misses = (int(counter or 0) for counter in counters)
        except ValueError:
            raise CacheUnusable(
                f"The counters {vocabulary.CACHE_HITS} and {vocabulary.CACHE_MISSES} at {self.address} are no numbers. "
                "Remedy: delete them with redis-cli; they begin again at 0."
            ) from None
        except _FAILURES as error:
            raise self._unusable(error) from None
        return hits, misses

    def statistics(self) -> CacheStatistics:
        """What our keys are and take, and the counters. Raises CacheUnusable when the server does not answer."""
        client = self._connected()
        keys = 0
        memory_bytes: int | None = 0
        tenants: set[str] = set()
        try:
            version = _version_of(client.info("server"))
            for piece in self._scan("forecast:*"):
                with client.pipeline(transaction=False) as pipeline:
                    for key in piece:
                        pipeline.memory_usage(key)
                    sizes = pipeline.execute(raise_on_error=False)
                for key, size in zip(piece, sizes, strict=True):
                    tenants.add(key.split(":")[1])
                    keys += 1
                    if isinstance(size, Exception):  # hosted servers may forbid the question
                        memory_bytes = None
                    elif memory_bytes is not None:
                        memory_bytes += size or 0  # none: it expired meanwhile
        except _FAILURES as error:
            raise self._unusable(error) from None
        hits, misses = self.counters()
        return CacheStatistics(self.address, version, keys, len(tenants), memory_bytes, hits, misses)

    def clear(self, tenant_id: str | None = None) -> int:
        """Remove the entries of one tenant, or of all; returns how many. The counters stay, and so does whatever is not ours.

        Raises ValueError for an id that no tenant can have, and CacheUnusable when the server does not answer.
        """
        client = self._connected()
        pattern = "forecast:*" if tenant_id is None else f"forecast:{checked_tenant_id(tenant_id)}:*"
        removed = 0
        try:
            for piece in self._scan(pattern):
                removed += int(client.unlink(*piece))
        except _FAILURES as error:
            raise self._unusable(error) from None
        return removed

    def _scan(self, pattern: str) -> Iterator[list[str]]:
        """Our keys that match, each once. Another program's keys may begin like ours: only the exact form counts."""
        seen: set[str] = set()
        cursor = 0
        while True:
            cursor, found = self._connected().scan(cursor, match=pattern, count=SCAN_KEYS)
            names = {name.decode(errors="replace") for name in found if isinstance(name, bytes)}
            ours = sorted(name for name in names - seen if _KEY.fullmatch(name))
            seen.update(ours)
            if ours:
                yield ours
            if cursor == 0:
                return

    # ---------------------------------------------------------------- failures

    def _connected(self) -> "redis.Redis":
        if self._client is None:
            raise CacheUnusable(
                f"{vocabulary.CACHE_CONNECTION_FAILED}: {self.problem}. {ADDRESS_REMEDY}"
                if self.is_on
                else f"The forecast cache is off: {REDIS_URL_SETTING} is not set. {ADDRESS_REMEDY}"
            )
        return self._client

    def _unusable(self, error: Exception) -> CacheUnusable:
        return CacheUnusable(
            f"{vocabulary.CACHE_CONNECTION_FAILED}: {self.address}: {_reason(error)}. Remedy: start the server or mend "
            f"{REDIS_URL_SETTING}; until then forecasts are read from Postgres. Unset it to do without the cache."
        )

    def _in_time(self, deadline: float) -> bool:
        if self.is_usable and time.monotonic() > deadline:
            self._fail(f"it took longer than {BUDGET_S:g} s")
        return self.is_usable

    def _fail(self, reason: str) -> None:
        """Note the failure and leave the cache alone from now on; said once, since it is noted once."""
        self.problem = reason
        logger.warning(
            "%s: %s%s. Forecasts are read from Postgres. Remedy: `daybreak doctor` says what to mend.",
            vocabulary.CACHE_CONNECTION_FAILED,
            f"{self.address}: " if self.address else "",
            reason,
        )
        if self._client is not None:
            # A connection on which an answer is still due must not serve anybody.
            with suppress(*_FAILURES):
                self._client.connection_pool.disconnect()


def checked_tenant_id(tenant_id: str) -> str:
    """The id, which holds no sign that means anything in a key or pattern. Raises ValueError for one no tenant can have."""
    if not _TENANT_ID.fullmatch(tenant_id):
        raise ValueError(
            f"{tenant_id!r} is no tenant id. Remedy: use lower-case letters, digits, - and _, at most 48 of them."
        )
    return tenant_id


def key_of(tenant_id: str, plan_date: date) -> str:
    """The key of a tenant's entry. Raises ValueError for an id that no tenant can have."""
    return f"forecast:{checked_tenant_id(tenant_id)}:{plan_date.isoformat()}"


def _pieces(texts: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """The entries in pieces of about PIECE_BYTES, at least one entry each."""
    piece: dict[str, bytes] = {}
    size = 0
    for key, text in texts.items():
        if piece and (size + len(text) > PIECE_BYTES or len(piece) == PIECE_KEYS):
            yield piece
            piece, size = {}, 0
        piece[key] = text
        size += len(text)
    if piece:
        yield piece


def _reason(error: Exception) -> str:
    """What failed, in our words: the server's and the library's may quote the command that failed, and so a password."""
    if isinstance(error, redis.TimeoutError):
        return f"no answer within {ANSWER_TIMEOUT_S:g} s"
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return "the user or password is refused"
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return "the server is out of memory"
    if isinstance(error, redis.ResponseError):
        return f"the server refuses the command ({type(error).__name__})"
    if isinstance(error, redis.ConnectionError | OSError):
        cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
        words = cause.strerror if isinstance(cause, OSError) else None
        return f"no connection ({words or type(cause or error).__name__})"
    return type(error).__name__


def _version_of(info: Mapping[str, Any]) -> str:
    return str(info.get("valkey_version") or info.get("redis_version") or "unknown")
