"""Application Activity: that a process of ours started, with which settings, and that it stopped."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime
from typing import Self

import structlog

from service.audit import events
from service.audit.codes import EventId, EventType, Role
from service.audit.from_ledger import source_of
from service.audit.message import AuditMessage, Participant
from service.audit.settings_changes import note_changes
from service.audit.trail import record
from service.config import Settings
from service.database.pool import Pool, transaction
from service.errors import DatabaseUnavailableError, SchemaError

_log = structlog.get_logger(__name__)

_AGAIN_S = 2.0
_TIMEOUT_S = 2.0  # a process that stops waits no longer for PostgreSQL


class ApplicationActivity:
    """While it is entered, the process runs.

    A start that PostgreSQL cannot take is offered again until it does; nobody waits for it. A stop is
    offered once.
    """

    def __init__(self, settings: Settings, pool: Pool, process: str) -> None:
        """Nothing is recorded before it is entered.

        Args:
            settings: Who we are.
            pool: Of this process.
            process: Its name, e.g. ``node``.
        """
        self._settings = settings
        self._pool = pool
        self._process = process
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._record_start, args=(datetime.now(UTC),), name="audit-activity", daemon=True
        )

    def __enter__(self) -> Self:
        """The process has started."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """The process stops."""
        self._stopped.set()
        self._thread.join()
        self._record(self._message(EventType.APPLICATION_STOP, datetime.now(UTC)))

    def _record_start(self, at: datetime) -> None:
        message = self._message(EventType.APPLICATION_START, at)
        while not self._record(message, settings_too=True) and not self._stopped.wait(_AGAIN_S):
            pass

    def _record(self, message: AuditMessage, *, settings_too: bool = False) -> bool:
        try:
            with transaction(self._pool, _TIMEOUT_S) as connection:
                record(connection, [message])
                if settings_too:
                    note_changes(connection, self._settings, self._process)
        except (DatabaseUnavailableError, SchemaError) as exc:
            _log.warning("audit-not-kept", event_id=message.event_id.code.meaning, error=str(exc))
            return False
        return True

    def _message(self, kind: EventType, at: datetime) -> AuditMessage:
        source = source_of(self._settings)
        host = socket.gethostname()
        application = Participant(
            user_id=f"{source.source_id}/{self._process}@{host}/{os.getpid()}",
            is_requestor=False,
            role=Role.APPLICATION,
            ae_title=self._settings.dicom_ae_title if self._process == "node" else "",
            network_access_point=host,
            access_point_type=events.access_point_type(host),
        )
        return events.message(
            EventId.APPLICATION_ACTIVITY, at, source, kind=kind, participants=(application,)
        )
