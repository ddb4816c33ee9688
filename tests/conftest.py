"""Real parts for tests: PostgreSQL (a migrated template cloned per test), Redis, a store, free ports."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from pynetdicom.transport import AssociationSocket

from service.config import Settings
from service.database.migrate import migrate
from service.database.pool import Pool, open_pool
from service.stack.servers import EmbeddedPostgres, EmbeddedRedis
from service.storage.local import InstanceStore, open_store
from tests.stack import RunningStack, run_stack

_TEMPLATE = "template_semblance"


@pytest.fixture(scope="session", autouse=True)
def closing_peers() -> Iterator[None]:
    """Tests' own pynetdicom peers close what they shut down.

    pynetdicom leaves a socket open that its peer has reset, for the garbage collector to complain of
    in a later test. The node's own transports close it themselves and are left as they are.
    """
    shut_down = AssociationSocket._shutdown_socket

    def shut_down_and_close(transport: AssociationSocket) -> None:
        sock = transport.socket
        shut_down(transport)
        if type(transport) is AssociationSocket and sock is not None:
            sock.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", shut_down_and_close)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL server for the session, with a migrated template database."""
    directory = Path(tempfile.mkdtemp(prefix="semblance-pg-"))
    server = EmbeddedPostgres(directory / "data")
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    migrate(server.ensure_database(_TEMPLATE))
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """An empty directory for a PostgreSQL of this test's own, whose user can enter it.

    Not ``tmp_path``: every session of pytest takes that right away from what earlier ones made.
    """
    directory = Path(tempfile.mkdtemp(prefix="semblance-test-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def cloned_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database of its own, for as long as the context lasts."""
    name = sql.Identifier(f"test_{uuid4().hex}")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(_TEMPLATE)))
    yield postgres.url(name.as_string(None).strip('"'))
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A migrated database of this test's own."""
    with cloned_database(postgres) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database of this test's own with no schema."""
    name = f"empty_{uuid4().hex}"
    yield postgres.ensure_database(name)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def broker() -> Iterator[EmbeddedRedis]:
    """A Redis server of this test's own."""
    server = EmbeddedRedis()
    server.start()
    yield server
    server.close()


@pytest.fixture
def broker_url(broker: EmbeddedRedis) -> str:
    """Celery's URL of this test's Redis."""
    return broker.url


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives TCP ports of the loopback address that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


def settings_of(database_url: str, directory: Path) -> Settings:
    """Settings of a database and a store in a directory; the broker is not running."""
    return Settings(
        database_url=database_url,
        broker_url="memory://",
        storage_dir=directory / "store",
        storage_low_watermark_bytes=0,
        dicom_host="127.0.0.1",
        dicom_port=0,
        api_port=0,
        log_format="console",
    )


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of this test's own database and store; the broker is not running (see ``broker_url``)."""
    return settings_of(database_url, tmp_path)


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    """The pool of this test's database."""
    with open_pool(settings) as opened:
        yield opened


@pytest.fixture
def store(settings: Settings) -> InstanceStore:
    """The store of this test."""
    return open_store(settings)


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """The whole product, running, with a PACS of its own; shared by the tests of one module."""
    with run_stack() as running:
        yield running
