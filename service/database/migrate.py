"""Bring the database's schema to the newest revision."""

from __future__ import annotations

from importlib.resources import files

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from service.errors import DatabaseUnavailableError


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


def migrate(database_url: str, revision: str = "head", *, statement_timeout: str = "60s") -> None:
    """Upgrade a database; safe to run from several places at once (they queue for an advisory lock).

    Args:
        database_url: libpq URL.
        revision: Where to go; forward only.
        statement_timeout: For migrations whose work does not grow with the data, as PostgreSQL writes it.

    Raises:
        DatabaseUnavailableError: It cannot be reached, or a lock time-out passed.
    """
    engine = _engine(database_url)
    try:
        with engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            config.attributes["statement_timeout"] = statement_timeout
            command.upgrade(config, revision)
    except OperationalError as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {exc.orig}") from exc
    finally:
        engine.dispose()
