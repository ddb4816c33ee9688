"""Wakes the relays after receipts were committed, so that nobody has to look whether something came.

NOTIFY takes a lock that commits queue for (PostgreSQL's ``async.c``), so it is no part of the transaction
that records a receipt: one thread notifies after the commit, on a connection of its own that need not wait
for the disk, once for all receipts that came meanwhile. Should it fail, the relays' sweep finds the
photographs.
"""

from __future__ import annotations

import threading

import psycopg
import structlog

from service.config import Settings
from service.database import outbox

_log = structlog.get_logger(__name__)

_PAUSE_AFTER_FAULT_S = 1.0


class Waker:
    """Notifies from a thread of its own; shared by the threads of a process."""

    def __init__(self, settings: Settings) -> None:
        """Neither thread nor connection before the first ``wake``.

        Args:
            settings: Uses ``database_url``.
        """
        self._database_url = settings.database_url
        self._due = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the relays look; returns at once."""
        self._due.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closed.is_set():
                    self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """End the thread after what is due was notified."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._closed.set()
            self._due.set()
        if thread is not None:
            thread.join(_PAUSE_AFTER_FAULT_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._notify_when_due()
            except psycopg.Error as exc:
                _log.warning("relays not woken", error=type(exc).__name__)
                self._closed.wait(_PAUSE_AFTER_FAULT_S)

    def _notify_when_due(self) -> None:
        with psycopg.connect(
            self._database_url, autocommit=True, connect_timeout=5, options="-c synchronous_commit=off"
        ) as connection:
            while True:
                self._due.wait()
                self._due.clear()
                connection.execute("SELECT pg_notify(%s, '')", (outbox.CHANNEL,))
                if self._closed.is_set():
                    return
