"""What runs beside the relay: one thread seals and makes audit messages, one sends them.

Neither touches the path of photographs. Both wait and go on after a fault that is foreseen; after any
other the thread ends, with its traceback in the log, and another takes its place.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from service.audit import syslog
from service.audit.anchoring.making import Anchor, anchor_of, make
from service.audit.syslog import SyslogServer, syslog_server
from service.audit.trail import seal_pending
from service.config import Settings
from service.database import audit_messages
from service.database.pool import Pool, transaction
from service.database.sealing import seals
from service.errors import CheckpointError, SemblanceError

_log = structlog.get_logger(__name__)

Seal = Callable[[Pool, Settings], int]  # seals what waits; answers how much it was
_LOOK_EVERY_S = 1.0
_LONGEST_PAUSE_S = 60.0
_BATCH = 200


class AuditThreads:
    """Seals, and sends to the syslog server of the settings, until stopped."""

    def __init__(self, settings: Settings, pool: Pool, seal: Seal = seal_pending) -> None:
        """Nothing runs before ``start``.

        Raises:
            ConfigurationError: The syslog server's settings are wrong.
        """
        self._settings = settings
        self._pool = pool
        self._stopped = threading.Event()
        server = syslog_server(settings)
        turns: dict[str, Callable[[], None]] = {"audit-seal": lambda: self._sealed(seal)}
        if server is not None:
            turns["audit-send"] = lambda: self._send(server)
        anchor = anchor_of(settings)
        if anchor is not None:
            turns["audit-checkpoint"] = lambda: self._checkpoint(anchor)
        self._next_checkpoint_s = 0.0
        self._threads = [
            threading.Thread(target=self._keep, args=(turn, name), name=f"{name}-keeper")
            for name, turn in turns.items()
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _sealed(self, seal: Seal) -> None:
        seal(self._pool, self._settings)

    def _send(self, server: SyslogServer) -> None:
        while not self._stopped.is_set() and send_batch(self._pool, server) == _BATCH:
            pass

    def _checkpoint(self, anchor: Anchor) -> None:
        """Sign the chain, when it is time to."""
        if time.monotonic() < self._next_checkpoint_s:
            return
        try:
            with transaction(self._pool) as connection:
                if seals.lead_checkpoints(connection):
                    make(connection, anchor)
        except CheckpointError as exc:
            _log.error("checkpoint-refused", error=str(exc))
            raise
        self._next_checkpoint_s = time.monotonic() + self._settings.audit_checkpoint_interval_s

    def _keep(self, turn: Callable[[], None], name: str) -> None:
        """Have a thread take turns, and another when that one ends by a fault nobody foresaw."""
        failures = 0
        while not self._stopped.is_set():
            thread = threading.Thread(target=self._repeat, args=(turn,), name=name)
            thread.start()
            thread.join()
            if not self._stopped.is_set():
                failures += 1
                _log.error("audit-thread-ended", thread=name, failures=failures)
                self._stopped.wait(_pause_s(failures))

    def _repeat(self, turn: Callable[[], None]) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                turn()
                failures = 0
            except (SemblanceError, psycopg.Error) as exc:
                failures += 1
                _log.warning(
                    "audit-waits",
                    thread=threading.current_thread().name,
                    failures=failures,
                    error=str(exc) if isinstance(exc, SemblanceError) else type(exc).__name__,
                )
            self._stopped.wait(_pause_s(failures))


def _pause_s(failures: int) -> float:
    longest = min(_LONGEST_PAUSE_S, _LOOK_EVERY_S * 2.0 ** min(failures, 10))
    return _LOOK_EVERY_S if not failures else random.uniform(longest / 2, longest)  # noqa: S311 -- no secret


def send_batch(pool: Pool, server: SyslogServer, limit: int = _BATCH) -> int:
    """Send the oldest messages that the server does not have; once more after a failure, never out of order.

    Returns:
        How many were sent; 0 also while another process sends.

    Raises:
        DatabaseUnavailableError, AuditServerError: They are sent again later.
    """
    with transaction(pool) as connection:
        if not audit_messages.lead(connection):
            return 0
        batch = audit_messages.unsent(connection, server.name, limit)
        if batch:
            encoded = [
                syslog.syslog_message(each.message, each.at, is_failure=each.outcome > 0) for each in batch
            ]
            syslog.send(server, encoded)
            audit_messages.mark_sent(connection, server.name, batch[-1].position)
    return len(batch)
