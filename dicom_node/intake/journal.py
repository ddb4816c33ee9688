"""Lines of the ledger that no photograph's transaction carries: associations and refusals.

While the database is away they wait here, up to a limit, with the time they happened; the log has them
in any case.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import structlog

from service.database import ledger
from service.database.pool import Connection, Pool, transaction
from service.errors import DatabaseUnavailableError
from service.records import LedgerEvent

_log = structlog.get_logger(__name__)

_AGAIN_S = 1.0
_BATCH = 100


@dataclass(frozen=True, kw_only=True)
class _Line:
    event: LedgerEvent
    sop_instance_uid: str
    detail: Mapping[str, str]


class Journal:
    """Writes such lines, now or when the database is back; shared by the threads of a process."""

    def __init__(self, pool: Pool, *, timeout_s: float = 2.0, limit: int = 10_000) -> None:
        """Nothing waits yet.

        Args:
            pool: Of this process.
            timeout_s: Longest a caller waits for the database, once; while lines wait nobody does.
            limit: Lines that may wait; the oldest make room.
        """
        self._pool = pool
        self._timeout_s = timeout_s
        self._waiting: deque[_Line] = deque(maxlen=limit)
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal")

    def start(self) -> None:
        """Begin to write what waits."""
        self._thread.start()

    def stop(self) -> None:
        """Try what waits once more, and end."""
        self._stopped.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._flush():
            _log.error("lines-not-in-ledger", lines=len(self._waiting))

    def write(self, event: LedgerEvent, sop_instance_uid: str, detail: Mapping[str, str]) -> None:
        """Write one line; returns when it is written or waits."""
        if not self._waiting:
            try:
                with transaction(self._pool, self._timeout_s) as connection:
                    ledger.append(connection, event, sop_instance_uid=sop_instance_uid, detail=detail)
            except DatabaseUnavailableError as exc:
                _log.warning("ledger-line-waits", ledger_event=event.value, error=str(exc))
            except psycopg.Error as exc:  # it would be refused again
                _log.error("line-not-in-ledger", ledger_event=event.value, error=type(exc).__name__)
                return
            else:
                return
        occurred = {"occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with self._lock:
            self._waiting.append(
                _Line(event=event, sop_instance_uid=sop_instance_uid, detail={**detail, **occurred})
            )
        self._due.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.wait()
            self._due.clear()
            while not self._flush() and not self._stopped.wait(_AGAIN_S):
                pass

    def _flush(self) -> bool:
        """Write what waits, in its order; False when the database does not take it."""
        while True:
            with self._lock:
                batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
            if not batch:
                return True
            try:
                with transaction(self._pool, self._timeout_s) as connection:
                    for line in batch:
                        _append(connection, line)
            except DatabaseUnavailableError:
                return False
            with self._lock:
                for line in batch:
                    if self._waiting and self._waiting[0] is line:  # else it made room meanwhile
                        self._waiting.popleft()


def _append(connection: Connection, line: _Line) -> None:
    """Append one line; one that PostgreSQL refuses must not hold up the others."""
    try:
        with connection.transaction():
            ledger.append(connection, line.event, sop_instance_uid=line.sop_instance_uid, detail=line.detail)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as exc:
        _log.error("line-not-in-ledger", ledger_event=line.event.value, error=type(exc).__name__)
