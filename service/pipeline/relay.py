"""The relay: ``python -m service.pipeline.relay`` moves the outbox to the broker and enqueues what stalled.

Beside that it seals the ledger and sends audit messages, see service.audit.processes.

Several may run at once. It wakes by PostgreSQL's NOTIFY and looks by itself ten times a second.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType

import psycopg
import structlog

from service.audit.activity import ApplicationActivity
from service.audit.processes import AuditThreads
from service.config import Settings, load_settings
from service.database import outbox
from service.database.pool import Pool, open_pool
from service.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    DatabaseUnavailableError,
    SemblanceError,
)
from service.exit_codes import ExitCode
from service.logs import announce_ready, configure_logging
from service.pipeline.celery_app import CeleryPublisher, make_app
from service.pipeline.progress import Publisher, publish_due, sweep

_log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.1
_PAUSE_AFTER_FAULT_S = 1.0
_BATCH = 200


class Relay:
    """Publishes and sweeps until it is stopped."""

    def __init__(self, settings: Settings, pool: Pool, publisher: Publisher) -> None:
        """Nothing runs before ``run``."""
        self._settings = settings
        self._pool = pool
        self._publisher = publisher
        self._stopped = threading.Event()
        self._next_sweep = 0.0

    def stop(self) -> None:
        """End ``run`` after the batch in hand."""
        self._stopped.set()

    def run(self) -> None:
        """Move messages until stopped; database and broker may come and go."""
        while not self._stopped.is_set():
            try:
                self._listen()
            except (DatabaseUnavailableError, BrokerUnavailableError, psycopg.OperationalError) as exc:
                _log.warning("relay waits", error=str(exc))
                self._stopped.wait(_PAUSE_AFTER_FAULT_S)

    def _listen(self) -> None:
        """Move messages over one listening connection until stopped or an error ends it."""
        with psycopg.connect(self._settings.database_url, autocommit=True, connect_timeout=5) as listener:
            listener.execute(f"LISTEN {outbox.CHANNEL}")
            while not self._stopped.is_set():
                self.turn()
                for _ in listener.notifies(timeout=_LOOK_EVERY_S, stop_after=1):
                    pass

    def turn(self) -> None:
        """Publish everything due, and sweep when it is time to.

        Raises:
            DatabaseUnavailableError, BrokerUnavailableError: To be tried again.
        """
        if time.monotonic() >= self._next_sweep:
            again = sweep(self._pool, self._publisher, self._settings)
            self._next_sweep = time.monotonic() + self._settings.sweep_interval_s
            if again:
                _log.warning("stalled work enqueued again", messages=again)
        while publish_due(self._pool, self._publisher, _BATCH) == _BATCH and not self._stopped.is_set():
            pass


def main() -> int:
    """Entry point; returns the exit code."""
    try:
        settings = load_settings()
        configure_logging(settings)
        _run(settings)
    except SemblanceError as exc:
        sys.stderr.write(f"semblance relay: {exc}\n")
        return ExitCode.USAGE if isinstance(exc, ConfigurationError) else ExitCode.FAILED
    return ExitCode.DONE


def _run(settings: Settings) -> None:
    """Move messages until SIGTERM or SIGINT."""
    with open_pool(settings) as pool:
        relay = Relay(settings, pool, CeleryPublisher(make_app(settings)))
        audit = AuditThreads(settings, pool)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            relay.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        with ApplicationActivity(settings, pool, "relay"):
            audit.start()
            announce_ready("relay")
            try:
                relay.run()
            finally:
                audit.stop()


if __name__ == "__main__":
    sys.exit(main())
