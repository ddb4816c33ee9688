"""The migrations: one head, any number of runners, and the schema they are expected to make."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from service.commands.failures import tell
from service.database.migrate import current, head, migrate
from service.errors import DatabaseUnavailableError, SchemaLockedError, StatementTimeoutError
from service.exit_codes import ExitCode

EXPECTED = Path(__file__).with_name("schema.txt")
_SCHEMA = """
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type
       || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
       || coalesce(' default ' || column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
UNION ALL
SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function ' || oid::regprocedure FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS
      (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
"""


def schema(database_url: str) -> list[str]:
    """Every column, index, constraint, trigger and function, sorted in the same way everywhere."""
    with psycopg.connect(database_url) as connection:
        return sorted(str(line) for (line,) in connection.execute(_SCHEMA))


def test_the_migrated_schema_is_the_expected_one(database_url: str) -> None:
    """To renew schema.txt after a migration: python -m tests.migration.test_migrations."""
    assert schema(database_url) == EXPECTED.read_text().splitlines()


def test_there_is_one_head_and_a_migrated_database_is_at_it(database_url: str) -> None:
    assert current(database_url) == head()


def test_an_empty_database_has_no_revision(empty_database_url: str) -> None:
    assert current(empty_database_url) is None


def test_several_runners_at_once_take_turns(empty_database_url: str) -> None:
    environment = {**os.environ, "SEMBLANCE_DATABASE_URL": empty_database_url}
    command = [sys.executable, "-c", "from service.commands.main import main; main()", "migrate"]
    runners = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for runner in runners:
        output, errors = runner.communicate(timeout=60)
        assert runner.returncode == 0, errors
        assert f"schema at {head()}" in output
    assert current(empty_database_url) == head()


def test_each_migration_can_be_taken_alone(empty_database_url: str) -> None:
    migrate(empty_database_url, "0001")
    assert current(empty_database_url) == "0001"
    migrate(empty_database_url)
    migrate(empty_database_url)
    assert current(empty_database_url) == head()


def test_a_table_in_use_is_not_waited_for_long(empty_database_url: str) -> None:
    """The lock time-out ends the migration, which then can be run again; nothing is half done."""
    migrate(empty_database_url, "0001")
    with psycopg.connect(empty_database_url, application_name="a report") as busy:
        busy.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(
            SchemaLockedError, match=r"lock timeout.*a report, idle in transaction, for \d+ s"
        ):
            migrate(empty_database_url, patience_s=0)
    migrate(empty_database_url)
    assert current(empty_database_url) == head()


def test_a_reader_that_ends_meanwhile_does_not_end_the_migration(empty_database_url: str) -> None:
    migrate(empty_database_url, "0001")
    with psycopg.connect(empty_database_url) as busy:
        busy.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        release = threading.Timer(6, busy.rollback)
        release.start()
        migrate(empty_database_url)
        release.join()
    assert current(empty_database_url) == head()


def test_a_lock_is_told_as_such_and_not_as_a_wrong_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(SchemaLockedError("tables are kept busy by process 7")) is ExitCode.UNAVAILABLE
    assert "SEMBLANCE_DATABASE_URL" not in capsys.readouterr().err
    tell(DatabaseUnavailableError("PostgreSQL: connection refused"))
    assert "SEMBLANCE_DATABASE_URL" in capsys.readouterr().err


def _slow(tag: str, body: str = "PERFORM pg_sleep(.3);") -> str:
    """Makes every statement of a kind take longer than the time-out below, as on a large database."""
    return f"""
        CREATE FUNCTION takes_long() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
        CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('{tag}') EXECUTE FUNCTION takes_long();
    """


@pytest.mark.parametrize(
    ("before", "revision", "tag"),
    [
        ("0021", "0040", "ALTER TABLE"),
        ("0040", "0060", "ALTER TABLE"),
        ("0060", "0061", "CREATE INDEX"),
        ("0070", "0071", "ALTER TABLE"),
        ("0071", "0072", "ALTER TABLE"),
        ("0072", "0073", "CREATE INDEX"),
        ("0074", "0075", "CREATE INDEX"),
        ("0075", "0076", "CREATE INDEX"),
    ],
)
def test_a_migration_that_rewrites_rows_has_no_time_out(
    empty_database_url: str, before: str, revision: str, tag: str
) -> None:
    migrate(empty_database_url, before)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(_slow(tag).encode())
    migrate(empty_database_url, revision, statement_timeout="200ms")
    assert current(empty_database_url) == revision


def test_another_migration_is_stopped_and_nothing_of_it_is_done(empty_database_url: str) -> None:
    """0074 comes after one without a time-out, in the same run: it has its own again."""
    migrate(empty_database_url, "0072")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(_slow("ALTER TABLE").encode())
    with pytest.raises(StatementTimeoutError, match="statement timeout"):
        migrate(empty_database_url, statement_timeout="200ms")
    assert current(empty_database_url) == "0073"
    migrate(empty_database_url)
    assert current(empty_database_url) == head()


def test_a_migration_that_rewrites_rows_gives_way_before_it_has_begun(empty_database_url: str) -> None:
    """A reader holds the table that it drops late: it is not found out after an hour's work."""
    migrate(empty_database_url, "0071")
    with psycopg.connect(empty_database_url) as busy:
        busy.execute(_slow("CREATE TABLE", "RAISE EXCEPTION 'work was begun';").encode())
        busy.commit()
        busy.execute("SELECT FROM fhir_component")
        with pytest.raises(SchemaLockedError, match="lock timeout"):
            migrate(empty_database_url, patience_s=0)
    assert current(empty_database_url) == "0071"


def test_a_server_that_is_not_there(free_port: Callable[[], int]) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with pytest.raises(DatabaseUnavailableError):
        migrate(nowhere)
    with pytest.raises(DatabaseUnavailableError):
        current(nowhere)


def _renew() -> None:
    import tempfile

    from service.stack.servers import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="semblance-pg-") as directory:
        server = EmbeddedPostgres(Path(directory) / "data")
        server.start()
        url = server.ensure_database("renew")
        migrate(url)
        EXPECTED.write_text("\n".join(schema(url)) + "\n")
        server.stop()


if __name__ == "__main__":
    _renew()
