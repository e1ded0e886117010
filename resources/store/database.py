"""Opens the store: a pool of psycopg connections, transactions, COPY and frames. No statement about the domain."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import pandas as pd
import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

Connection = psycopg.Connection[Any]


class StoreError(Exception):
    """The store cannot be used as asked. The message says why and what mends it."""


class Store:
    """A pool of connections to one Postgres database.

    Raises StoreError on opening when the server does not answer within `timeout_s`.
    """

    def __init__(self, dsn: str, max_connections: int = 4, timeout_s: float = 10.0) -> None:
        self.dsn = dsn
        self._pool = ConnectionPool(
            psycopg_dsn(dsn), min_size=1, max_size=max_connections, open=False, kwargs={"options": "-c timezone=UTC"}
        )
        try:
            self._pool.open(wait=True, timeout=timeout_s)
        except Exception as error:
            self._pool.close()
            raise StoreError(
                "The database does not answer. Remedy: start it, or check DATABASE_URL with `daybreak doctor`."
            ) from error

    def close(self) -> None:
        """Return every connection."""
        self._pool.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end of the block, rolled back when it raises."""
        with self._pool.connection() as connection, connection.transaction():
            yield connection

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection outside the pool and of any transaction, for what lasts as long as its process: a lock.

        The server notices within a minute when the machine at the other end is gone.
        """
        keepalives = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
        with psycopg.connect(psycopg_dsn(self.dsn), autocommit=True, options=keepalives) as connection:
            yield connection

    def frame(self, query: LiteralString, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
        """The result of a query as a frame."""
        with self.transaction() as connection:
            return frame(connection, query, parameters)


def frame(connection: Connection, query: LiteralString, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
    """The result of a query as a frame with the query's columns, also when it has no rows."""
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        columns = [column.name for column in cursor.description or ()]
        return pd.DataFrame(cursor.fetchall(), columns=columns)


def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write rows by COPY into `schema.table`; returns how many."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
            count += 1
    return count


def psycopg_dsn(dsn: str) -> str:
    """The address as libpq reads it: SQLAlchemy's `postgresql+driver://` loses its driver."""
    scheme, separator, rest = dsn.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def sqlalchemy_dsn(dsn: str, driver: str) -> str:
    """The address as SQLAlchemy reads it, with the driver named: a bare `postgresql://` changes its meaning between versions."""
    return (
        psycopg_dsn(dsn)
        .replace("postgres://", "postgresql://", 1)
        .replace("postgresql://", f"postgresql+{driver}://", 1)
    )
