"""Connections to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from service.config import Settings
from service.errors import DatabaseUnavailableError

Connection = psycopg.Connection[DictRow]
Pool = ConnectionPool[Connection]


def open_pool(settings: Settings) -> Pool:
    """Open the pool of this process; does not fail while PostgreSQL is down.

    Args:
        settings: Uses ``database_url``, ``database_pool_size`` and ``database_timeout_s``.

    Returns:
        An open pool whose connections answer rows as dictionaries and are checked before use,
        so that a restart of PostgreSQL costs a caller no error.
    """
    return ConnectionPool(
        settings.database_url,
        connection_class=psycopg.Connection[DictRow],
        kwargs={"row_factory": dict_row, "connect_timeout": 5},
        min_size=1,
        max_size=settings.database_pool_size,
        timeout=settings.database_timeout_s,
        check=ConnectionPool.check_connection,
        open=True,
        name="semblance",
    )


@contextmanager
def transaction(pool: Pool, timeout_s: float | None = None) -> Iterator[Connection]:
    """Run one transaction: commit at the end, roll back when the body raises.

    Args:
        pool: Where the connection comes from.
        timeout_s: Longest wait for a connection; None takes the pool's.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached, or ended the transaction for a
            reason that passes (restart, deadlock, lock or statement time-out).
    """
    try:
        with pool.connection(timeout_s) as connection:
            yield connection
    except psycopg.errors.ProgramLimitExceeded:
        raise  # a value too long for an index: the database is there, and will say so again
    except (PoolTimeout, psycopg.OperationalError) as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc}") from exc


@contextmanager
def connect(settings: Settings) -> Iterator[Connection]:
    """Run one transaction on a connection of its own, for commands that do one thing and end.

    Raises:
        DatabaseUnavailableError: See ``transaction``; does not wait for the server to come up.
    """
    try:
        with psycopg.connect(settings.database_url, row_factory=dict_row, connect_timeout=5) as connection:
            yield connection
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc}") from exc
