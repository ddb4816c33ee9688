"""The instance store as the receiving node writes it: small objects by way of a write-ahead log."""

from __future__ import annotations

import hashlib
from typing import Protocol, Self

from service.storage import InstanceStore, LocalStore, LocalWriter, StoredObject, StoreWriter
from service.write_ahead import WriteAheadLog
from service.write_ahead_segment import Record

MAX_LOGGED_BYTES = 1 << 20  # larger objects are flushed by themselves; so much of each is held in memory


class WriterSource(Protocol):
    """Where a receiver gets its writers from."""

    def writer(self) -> StoreWriter:
        """As InstanceStore's."""

    def close(self) -> None:
        """Make everything written durable, where it is not yet; no writer is used any more."""


def receiving_store(store: InstanceStore) -> WriterSource:
    """What a receiving process writes into a store by."""
    return LoggedStore(store, store.log()) if isinstance(store, LocalStore) else DirectStore(store)


class DirectStore:
    """Writers into a store that has no log."""

    def __init__(self, store: InstanceStore) -> None:
        """Write into ``store``."""
        self._store = store

    def writer(self) -> StoreWriter:
        """See WriterSource."""
        return self._store.writer()

    def close(self) -> None:
        """Nothing is held back."""


class LoggedStore:
    """Writers into a LocalStore that share one log; of one process."""

    def __init__(self, store: LocalStore, log: WriteAheadLog) -> None:
        """Take both over.

        Args:
            store: Where objects go.
            log: Of this process, closed by ``close``.
        """
        self._store = store
        self._log = log

    def writer(self) -> LoggedWriter:
        """As LocalStore's.

        Raises:
            StorageFullError: Free space is under the low watermark.
        """
        return LoggedWriter(self._store.writer(), self._log)

    def close(self) -> None:
        """Make every file durable."""
        self._log.close()


class LoggedWriter:
    """Streams one object; see StoreWriter. It touches the disk when it is committed, or no longer small."""

    def __init__(self, writer: LocalWriter, log: WriteAheadLog) -> None:
        """Write to ``writer`` in the end."""
        self._writer = writer
        self._log = log
        self._chunks: list[bytes] = []
        self._size_bytes = 0
        self._is_small = True

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Drop what was not committed."""
        self._chunks.clear()
        self._writer.__exit__(*exc_info)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            StorageError: The disk did not take them.
        """
        if not self._is_small:
            self._writer.write(chunk)
            return
        self._chunks.append(bytes(chunk))
        self._size_bytes += len(chunk)
        if self._size_bytes > MAX_LOGGED_BYTES:
            self._is_small = False
            self._spill()

    def commit(self) -> StoredObject:
        """Make the object durable, by the log if it is small and the log takes it.

        Raises:
            StorageError: The disk did not take it.
        """
        if not self._is_small:
            return self._writer.commit()
        digest = hashlib.sha256()
        for chunk in self._chunks:
            digest.update(chunk)
        logged = self._log.append(
            Record(sha256=digest.digest(), size_bytes=self._size_bytes, chunks=self._chunks)
        )
        if logged is None:
            self._spill()
            return self._writer.commit()
        try:
            self._writer.__enter__()
            return self._writer.place(digest.hexdigest(), self._chunks)
        finally:
            logged.placed()

    def _spill(self) -> None:
        """Have the file take over what is held in memory."""
        self._writer.__enter__()
        for chunk in self._chunks:
            self._writer.write(chunk)
        self._chunks.clear()
