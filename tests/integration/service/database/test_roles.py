"""Owner, writer and reader: what the writer cannot do, whatever statement it tries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql

from service.audit.trail import seal_pending, verify
from service.config import Settings
from service.database import instances
from service.database.pool import open_pool, transaction
from service.database.roles import APPENDED, CHANGED, SECRET, share
from service.errors import ConfigurationError, DatabaseUnavailableError
from service.stack.servers import EmbeddedPostgres
from tests.conftest import cloned_database
from tests.records import offered
from tests.seals import UNSEALED, columns_of


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A database with its roles."""

    owner_url: str
    writer_url: str
    reader: str


@pytest.fixture
def shared(postgres: EmbeddedPostgres) -> Iterator[Shared]:
    name = uuid4().hex
    writer, reader = f"writer_{name}", f"reader_{name}"
    with cloned_database(postgres) as url:
        roles = Shared(
            owner_url=url,
            writer_url=url.replace("postgres@", f"{writer}:secret@", 1),
            reader=reader,
        )
        share(roles.owner_url, roles.writer_url, roles.reader)
        yield roles
        with psycopg.connect(url, autocommit=True) as connection:
            for role in map(sql.Identifier, (writer, reader)):
                connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
                connection.execute(sql.SQL("DROP ROLE {}").format(role))


def refused(url: str, statement: str, role: str = "") -> bool:
    """Whether PostgreSQL says that this role may not."""
    with psycopg.connect(url) as connection:
        if role:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        try:
            connection.execute(statement.encode())
        except errors.InsufficientPrivilege:
            return True
        finally:
            connection.rollback()
    return False


@pytest.mark.parametrize("table", sorted(APPENDED | set(CHANGED)))
def test_the_writer_takes_nothing_out_of_what_is_sealed(shared: Shared, table: str) -> None:
    assert refused(shared.writer_url, f"DELETE FROM {table}")  # noqa: S608 - names of ours
    assert refused(shared.writer_url, f"TRUNCATE {table} CASCADE")
    with psycopg.connect(shared.owner_url, row_factory=psycopg.rows.dict_row) as connection:
        columns = set(columns_of(connection, table))
    assert set(CHANGED.get(table, ())) <= columns
    for column in columns:
        change = f"UPDATE {table} SET {column} = DEFAULT"  # noqa: S608 - names of ours
        assert refused(shared.writer_url, change) == (column not in CHANGED.get(table, ())), column


def test_what_is_sealed_is_never_the_writers_to_change_as_it_likes() -> None:
    assert set(UNSEALED) | {"seal"} <= APPENDED | set(CHANGED)
    assert not APPENDED & set(CHANGED)
    work = {table: set(UNSEALED[table]) for table in APPENDED & set(UNSEALED)}
    assert {table for table, columns in work.items() if columns} <= {
        "fhir_history", "fhir_template", "former_rating", "instance_version",
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "ALTER TABLE ledger DISABLE TRIGGER ALL",
        "DROP TRIGGER ledger_append_only ON ledger",
        "CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RETURN NULL; END $$",
        "DROP TABLE seal",
        "CREATE TABLE beside (a int)",
        "TRUNCATE outbox",
        "UPDATE alembic_version SET version_num = '0001'",
        "GRANT UPDATE ON ledger TO current_user WITH GRANT OPTION",
        "SET ROLE postgres",
        "ALTER ROLE current_user SUPERUSER",
    ],
)
def test_the_writer_cannot_go_around_it(shared: Shared, statement: str) -> None:
    if statement.startswith("GRANT"):  # PostgreSQL warns, and grants nothing
        with psycopg.connect(shared.writer_url, autocommit=True) as connection:
            connection.execute(statement.encode())
        assert refused(shared.writer_url, "UPDATE ledger SET event = event")
    else:
        assert refused(shared.writer_url, statement)


def test_the_writer_receives_seals_and_verifies(shared: Shared, settings: Settings) -> None:
    as_writer = settings.model_copy(update={"database_url": shared.writer_url})
    with open_pool(as_writer) as pool:
        with transaction(pool) as connection:
            instances.receive(connection, offered("1.2.1"))
        assert seal_pending(pool, as_writer) > 0
        seal_pending(pool, as_writer)
        with transaction(pool) as connection:
            verdict = verify(connection)
    assert (verdict.faults, verdict.waiting) == ((), 0)


def test_the_reader_reads_all_but_secrets_and_writes_nothing(shared: Shared) -> None:
    with psycopg.connect(shared.owner_url) as connection:
        tables = [
            row[0]
            for row in connection.execute("SELECT table_name FROM information_schema.tables"
                                          " WHERE table_schema = 'public'")
        ]  # fmt: skip
    assert set(tables) >= SECRET
    hidden = {t for t in tables if refused(shared.owner_url, f"SELECT FROM {t}", shared.reader)}
    assert hidden == SECRET
    for table in tables:
        assert refused(shared.owner_url, f"DELETE FROM {table}", shared.reader)  # noqa: S608
        assert refused(shared.owner_url, f"INSERT INTO {table} DEFAULT VALUES", shared.reader)


def test_what_was_granted_by_hand_is_taken_back(shared: Shared) -> None:
    writer = psycopg.conninfo.conninfo_to_dict(shared.writer_url)["user"]
    with psycopg.connect(shared.owner_url) as connection:
        connection.execute(f"GRANT ALL ON ledger TO {writer}".encode())
        connection.execute(f"GRANT UPDATE (score) ON appraisal TO {writer}".encode())
    assert not refused(shared.writer_url, "UPDATE appraisal SET score = score")
    share(shared.owner_url, shared.writer_url, shared.reader)
    assert refused(shared.writer_url, "UPDATE ledger SET event = event")
    assert refused(shared.writer_url, "UPDATE appraisal SET score = score")


def test_the_password_of_the_url_is_kept_as_a_digest(shared: Shared) -> None:
    writer = psycopg.conninfo.conninfo_to_dict(shared.writer_url)["user"]
    with psycopg.connect(shared.owner_url) as connection:
        kept = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (writer,)
        ).fetchone()
    assert kept is not None
    assert kept[0].startswith("SCRAM-SHA-256$")


def test_a_writer_that_could_change_what_is_sealed_is_refused(shared: Shared) -> None:
    with pytest.raises(ConfigurationError, match="superuser, or owns tables"):
        share(shared.owner_url, shared.owner_url)
    with pytest.raises(ConfigurationError, match="names no user"):
        share(shared.owner_url, "postgresql:///semblance")
    with pytest.raises(ConfigurationError, match="may make none"):
        share(shared.writer_url, shared.writer_url.replace("writer_", "another_"))
    with pytest.raises(DatabaseUnavailableError):
        share("postgresql://nobody@127.0.0.1:1/none", shared.writer_url)


def test_a_writer_of_the_owners_group_is_refused(shared: Shared) -> None:
    writer = psycopg.conninfo.conninfo_to_dict(shared.writer_url)["user"]
    with psycopg.connect(shared.owner_url, autocommit=True) as connection:
        connection.execute(f"GRANT postgres TO {writer}".encode())
        with pytest.raises(ConfigurationError, match="superuser, or owns tables"):
            share(shared.owner_url, shared.writer_url)
        connection.execute(f"REVOKE postgres FROM {writer}".encode())
