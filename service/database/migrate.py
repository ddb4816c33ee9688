"""Bring the database's schema to the newest revision."""

from __future__ import annotations

import time
from importlib.resources import files

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from service.errors import DatabaseUnavailableError, SchemaLockedError, StatementTimeoutError

_LONGEST_PAUSE_S = 10.0


def _config() -> Config:
    """Alembic's configuration; the scripts are a package of their own, found wherever it is installed."""
    config = Config()
    config.set_main_option("script_location", str(files("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _engine(database_url: str) -> Engine:
    return create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(database_url, connect_timeout=5)
    )


def head() -> str:
    """The newest revision; there is exactly one.

    Raises:
        alembic.util.CommandError: The scripts have several heads.
    """
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the migrations package holds no revision")
    return revision


def current(database_url: str) -> str | None:
    """The revision a database is at; None for an empty one.

    Raises:
        DatabaseUnavailableError: It cannot be reached.
    """
    engine = _engine(database_url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except OperationalError as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc.orig}") from exc
    finally:
        engine.dispose()


def migrate(
    database_url: str, revision: str = "head", *, statement_timeout: str = "60s", patience_s: float = 120.0
) -> None:
    """Upgrade a database; safe to run from several places at once (they queue for an advisory lock).

    A table that somebody reads is waited for a few seconds only, so that nobody queues behind the wait. Then
    it is tried again; what was migrated before stays.

    Args:
        database_url: libpq URL.
        revision: Where to go; forward only.
        statement_timeout: For migrations whose work does not grow with the data, as PostgreSQL writes it.
        patience_s: How long tables that others keep busy are tried for.

    Raises:
        SchemaLockedError: They are busy still; its text says who keeps them so.
        StatementTimeoutError: A migration took longer than it may.
        DatabaseUnavailableError: The database cannot be reached.
    """
    until = time.monotonic() + patience_s
    pause_s = 1.0
    while True:
        try:
            _upgrade(database_url, revision, statement_timeout)
        except SchemaLockedError:
            if time.monotonic() + pause_s >= until:
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            return


def _upgrade(database_url: str, revision: str, statement_timeout: str) -> None:
    engine = _engine(database_url)
    try:
        with engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            config.attributes["statement_timeout"] = statement_timeout
            command.upgrade(config, revision)
    except OperationalError as exc:
        if isinstance(exc.orig, errors.LockNotAvailable):
            busy = _busy_sessions(database_url)
            raise SchemaLockedError(
                f"PostgreSQL: {exc.orig.diag.message_primary}; tables are kept busy by {busy}"
            ) from exc
        if isinstance(exc.orig, errors.QueryCanceled):
            raise StatementTimeoutError(f"PostgreSQL: {exc.orig}") from exc
        raise DatabaseUnavailableError(f"PostgreSQL: {exc.orig}") from exc
    finally:
        engine.dispose()


def _busy_sessions(database_url: str) -> str:
    """Who has held locks on our tables longest, in words, without what they ask."""
    with psycopg.connect(database_url, connect_timeout=5, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'no name'), coalesce(a.state, 'hidden'),"
            " coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::int"
            " FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
            " AND EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = a.pid"
            " AND l.granted AND c.relnamespace = 'public'::regnamespace)"
            " ORDER BY a.xact_start NULLS LAST LIMIT 3"
        ).fetchall()
    named = [f"process {pid} ({name}, {state}, for {age} s)" for pid, name, state, age in rows]
    return ", ".join(named) or "sessions that have ended since"
