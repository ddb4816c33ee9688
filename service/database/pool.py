"""Connections to PostgreSQL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import errors
from psycopg.rows import DictRow, TupleRow, dict_row, tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from service.config import Settings
from service.database.budget import TimedCursor, budget
from service.errors import (
    DatabaseUnavailableError,
    SchemaError,
    StatementTimeoutError,
    TransactionConflictError,
)

Connection = psycopg.Connection[DictRow]
Pool = ConnectionPool[Connection]
Result = TypeVar("Result")

_MISSING = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)
_ATTEMPTS = 6  # at a transaction that others get in the way of
_PAUSE_S = 0.01  # before the second attempt at most twice this; doubles with each


def open_pool(settings: Settings, *, statement_timeout_s: float | None = None) -> Pool:
    """Open the pool of this process; does not fail while PostgreSQL is down.

    Args:
        settings: Uses ``database_url``, ``database_pool_size`` and ``database_timeout_s``.
        statement_timeout_s: Longest time one statement may take, and cursors keep to the ``budget`` of
            their request; None: what the server says.

    Returns:
        An open pool whose connections answer rows as dictionaries and are checked before use,
        so that a restart of PostgreSQL costs a caller no error.
    """
    cursor = psycopg.Cursor if statement_timeout_s is None else TimedCursor
    return ConnectionPool(
        settings.database_url,
        connection_class=psycopg.Connection[DictRow],
        kwargs={"row_factory": dict_row, "cursor_factory": cursor, "connect_timeout": 5},
        min_size=1,
        max_size=settings.database_pool_size,
        timeout=settings.database_timeout_s,
        check=_checked,
        configure=None if statement_timeout_s is None else _limited(statement_timeout_s),
        open=True,
        name="semblance",
    )


def _checked(connection: Connection) -> None:
    """A request whose time is over is no reason to take a connection for broken."""
    with budget(None):
        ConnectionPool.check_connection(connection)


def _limited(statement_timeout_s: float) -> Callable[[Connection], None]:
    def configure(connection: Connection) -> None:
        milliseconds = max(1, round(statement_timeout_s * 1000))
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(milliseconds),))
        connection.commit()

    return configure


@contextmanager
def transaction(pool: Pool, timeout_s: float | None = None) -> Iterator[Connection]:
    """Run one transaction: commit at the end, roll back when the body raises.

    Args:
        pool: Where the connection comes from.
        timeout_s: Longest wait for a connection; None takes the pool's.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached, or ended the transaction for a
            reason that passes: ``TransactionConflictError`` for a deadlock or a failed serialisation,
            ``StatementTimeoutError`` for a statement that took too long, else a restart or the like.
        SchemaError: A table, column or function that this version works with is not there, or may not be
            used by this role.
    """
    try:
        with pool.connection(timeout_s) as connection:
            yield connection
    except psycopg.errors.ProgramLimitExceeded:
        raise  # a value too long for an index: the database is there, and will say so again
    except _MISSING as exc:
        raise _other_schema(exc) from exc
    except errors.InsufficientPrivilege as exc:
        raise _not_allowed(exc) from exc
    except (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable) as exc:
        raise TransactionConflictError(f"PostgreSQL: {exc}") from exc
    except errors.QueryCanceled as exc:
        raise StatementTimeoutError(f"PostgreSQL: {exc}") from exc
    except (PoolTimeout, psycopg.OperationalError) as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc}") from exc


def _other_schema(exc: psycopg.Error) -> SchemaError:
    return SchemaError(
        f"the database's schema is not that of this version ({exc.diag.message_primary});"
        " `semblance migrate` brings it up to date"
    )


def _not_allowed(exc: psycopg.Error) -> SchemaError:
    return SchemaError(
        f"the role of database_url may not do that ({exc.diag.message_primary}); `semblance migrate` with"
        " database_owner_url gives a writer its rights"
    )


def in_transaction(pool: Pool, work: Callable[[Connection], Result]) -> Result:
    """Run a function in one transaction; again, after a short pause, when another got in its way.

    Args:
        pool: Where connections come from.
        work: What to do with one; must be safe to run again after a roll-back.

    Raises:
        DatabaseUnavailableError: As ``transaction``; ``TransactionConflictError`` after the last attempt.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with transaction(pool) as connection:
                return work(connection)
        except TransactionConflictError:
            if attempt == _ATTEMPTS:
                raise
            time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))  # noqa: S311 - spreads those that collided
    raise AssertionError("unreachable")


@contextmanager
def connect(settings: Settings) -> Iterator[Connection]:
    """Run one transaction on a connection of its own, for commands that do one thing and end.

    Raises:
        DatabaseUnavailableError: See ``transaction``; does not wait for the server to come up.
        SchemaError: See ``transaction``.
    """
    try:
        with psycopg.connect(settings.database_url, row_factory=dict_row, connect_timeout=5) as connection:
            yield connection
    except _MISSING as exc:
        raise _other_schema(exc) from exc
    except errors.InsufficientPrivilege as exc:
        raise _not_allowed(exc) from exc
    except psycopg.OperationalError as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc}") from exc


def tuples(connection: Connection) -> psycopg.Cursor[TupleRow]:
    """Open a cursor whose rows are tuples: what reads much makes no dictionaries."""
    return connection.cursor(row_factory=tuple_row)
