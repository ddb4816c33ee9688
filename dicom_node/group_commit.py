"""Commits the receipts of several associations in one transaction.

Whoever comes while a commit is under way waits for it and then finds others waiting too; one of
them commits for all. A lone sender pays one transaction, many senders share one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.database import instances
from service.database.pool import Pool, transaction
from service.errors import DatabaseUnavailableError
from service.records import NewInstance, Receipt

_MAX_BATCH = 64


@dataclass(slots=True)
class _Entry:
    new: NewInstance
    receipt: Receipt | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class GroupCommit:
    """Records receipts durably; shared by the threads of a process."""

    pool: Pool
    timeout_s: float  # longest wait for a database connection
    on_committed: Callable[[Sequence[NewInstance]], None] = lambda _: None  # after commit; must not raise
    _waiting: list[_Entry] = field(default_factory=list)
    _waiting_lock: threading.Lock = field(default_factory=threading.Lock)
    _commit_lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, new: NewInstance) -> Receipt:
        """Record one instance whose bytes are durable; returns after the commit.

        Raises:
            DatabaseUnavailableError: Not recorded, or not known to be.
        """
        entry = _Entry(new)
        with self._waiting_lock:
            self._waiting.append(entry)
        with self._commit_lock:
            if entry.receipt is None and entry.error is None:
                self._commit(self._take())
        if entry.error is not None:
            raise entry.error
        if entry.receipt is None:
            raise DatabaseUnavailableError("the receipt was not recorded")
        return entry.receipt

    def _take(self) -> list[_Entry]:
        with self._waiting_lock:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
        return batch

    def _commit(self, batch: Sequence[_Entry]) -> None:
        try:
            self._commit_together(batch)
        except DatabaseUnavailableError as exc:
            for entry in batch:
                entry.error = exc
        except Exception as exc:  # noqa: BLE001 -- handed to the threads that wait, each raises it
            if len(batch) == 1:
                batch[0].error = exc
                return
            for entry in batch:  # one of them is at fault; the others must not suffer for it
                self._commit([entry])

    def _commit_together(self, batch: Sequence[_Entry]) -> None:
        with transaction(self.pool, self.timeout_s) as connection:
            receipts = instances.receive_many(connection, [entry.new for entry in batch])
        for entry, (receipt, _) in zip(batch, receipts, strict=True):
            entry.receipt = receipt
        self.on_committed([entry.new for entry in batch])
