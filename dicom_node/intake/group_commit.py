"""Commits the receipts of several associations in one transaction.

Whoever comes while a commit is under way waits for it and then finds others waiting too; one of
them commits for all. A lone sender pays one round trip to PostgreSQL, many senders share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import dict_row

from dicom_node.intake.batches import Batches
from dicom_node.intake.waking import Waker
from service.config import Settings
from service.database import instances
from service.database.pool import Connection
from service.errors import DatabaseUnavailableError
from service.records import NewInstance, Receipt

_MAX_BATCH = 64


@dataclass(slots=True)
class _Entry:
    new: NewInstance
    receipt: Receipt | None = None
    error: Exception | None = None


class GroupCommit:
    """Records receipts durably, over a connection of its own; shared by the threads of a process."""

    def __init__(self, settings: Settings) -> None:
        """Connect at first use.

        Args:
            settings: Uses ``database_url`` and ``database_timeout_s``.
        """
        self._settings = settings
        self._waker = Waker(settings)
        self._connection: Connection | None = None
        self._batches: Batches[_Entry] = Batches(self._commit, lambda waiting: min(len(waiting), _MAX_BATCH))

    def record(self, new: NewInstance) -> Receipt:
        """Record one instance whose bytes are durable; returns after the commit.

        Raises:
            DatabaseUnavailableError: Not recorded, or not known to be.
        """
        entry = _Entry(new)
        self._batches.submit(entry)
        if entry.receipt is None:
            raise entry.error or DatabaseUnavailableError("the receipt was not recorded")
        return entry.receipt

    def close(self) -> None:
        """Give the connection back; a later ``record`` opens another."""
        self._waker.close()
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _commit(self, batch: Sequence[_Entry]) -> None:
        try:
            receipts = self._record([entry.new for entry in batch])
        except DatabaseUnavailableError as exc:
            for entry in batch:
                entry.error = exc
        except psycopg.Error as exc:
            if len(batch) == 1:
                batch[0].error = exc
                return
            for entry in batch:  # one of them is at fault; the others must not suffer for it
                self._commit([entry])
        else:
            for entry, receipt in zip(batch, receipts, strict=True):
                entry.receipt = receipt
            self._waker.wake()
        finally:  # whatever else happened: nobody waits for ever
            for entry in batch:
                if entry.receipt is None and entry.error is None:
                    entry.error = DatabaseUnavailableError("the receipt was not recorded")

    def _record(self, news: Sequence[NewInstance]) -> list[Receipt]:
        """Record on the connection kept, or on a new one where that is found broken.

        Recording again what was recorded already is harmless: same UID, same bytes.
        """
        if self._connection is not None:
            try:
                return self._record_on(self._connection, news)
            except psycopg.errors.ProgramLimitExceeded:
                raise  # a value's fault, not the connection's
            except psycopg.OperationalError:
                self._drop()
        try:
            self._connection = psycopg.Connection[dict[str, object]].connect(
                self._settings.database_url,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=max(2, int(self._settings.database_timeout_s)),
            )
            return self._record_on(self._connection, news)
        except psycopg.errors.ProgramLimitExceeded:
            raise
        except psycopg.OperationalError as exc:
            self._drop()
            raise DatabaseUnavailableError(f"PostgreSQL: {exc}") from exc

    @staticmethod
    def _record_on(connection: Connection, news: Sequence[NewInstance]) -> list[Receipt]:
        return [receipt for receipt, _ in instances.receive_many(connection, news)]
