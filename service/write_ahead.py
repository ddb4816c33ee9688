"""A write-ahead log of small objects: many of them durable by one fdatasync.

An object under a megabyte costs more in flushes (its file's, its directory's) than in bytes. Here it is
appended to a log first, together with those of other threads, and one fdatasync makes them all durable;
then its file is written and renamed as ever, without a flush of its own. When a segment of the log is
full, one syncfs makes the files in it durable, and the segment is written over from its start: a flush
of blocks that exist already needs no transaction of the file system.

A crash of the machine may take such a file, never its bytes in the log: `replay`, run when the store is
opened, puts back what is missing or damaged. A live process holds its segments locked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import structlog

from service.batches import Batches
from service.file_systems import sync_file_system
from service.write_ahead_segment import BLOCK_BYTES, Record, Segment, left_behind, read_records

_log = structlog.get_logger(__name__)

SEGMENT_BYTES = 16 * 1024 * 1024
_SPARE_SEGMENTS = 64  # no log on a disk with less free space than so many segments
_PLACE_S = 10.0  # longest wait for files under way when the log is closed
_SUFFIX = ".wal"

Sync = Callable[[int], None]


@dataclass(slots=True)
class _Entry:
    record: Record
    segment: Segment | None = None


@dataclass(frozen=True, kw_only=True)
class Logged:
    """An object that is in the log and whose file is due."""

    log: WriteAheadLog = field(repr=False)
    segment: Segment = field(repr=False)

    def placed(self) -> None:
        """Tell that the file is there, or that it will not be."""
        self.log.placed(self.segment)


class WriteAheadLog:
    """The log of one process; thread-safe."""

    def __init__(
        self, root: Path, *, segment_bytes: int = SEGMENT_BYTES, sync: Sync = sync_file_system
    ) -> None:
        """Make nothing yet.

        Args:
            root: The store's directory; segments lie in its ``log``.
            segment_bytes: Size after which a segment's files are synced.
            sync: Makes durable what was written to the file system of a descriptor.

        Raises:
            OSError: The directory is not there.
        """
        self._directory = root / "log"
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._root_descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._batches: Batches[_Entry] = Batches(self._write, self._count)
        self._write_lock = threading.Lock()  # against closing meanwhile
        self._changed = threading.Condition()  # guards what follows
        self._active: Segment | None = None  # written to
        self._full: Segment | None = None  # its files are being synced
        self._clean: Segment | None = None
        self._closed = False
        self._syncer: threading.Thread | None = None

    def append(self, record: Record) -> Logged | None:
        """Make an object durable in the log.

        Returns:
            None when the log cannot take it now (full, no disk space, an error): its file is to be made
            durable by itself then.
        """
        entry = _Entry(record)
        self._batches.submit(entry)
        return Logged(log=self, segment=entry.segment) if entry.segment is not None else None

    def placed(self, segment: Segment) -> None:
        """See Logged."""
        with self._changed:
            segment.unplaced -= 1
            if not segment.unplaced:
                self._changed.notify_all()

    def close(self) -> None:
        """Make the files durable and remove the segments; where that fails, they stay for `replay`."""
        with self._write_lock:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._syncer is not None:
                self._syncer.join()
            segments = [s for s in (self._active, self._full, self._clean) if s is not None]
            self._active = self._full = self._clean = None
            removable = self._settle(segments)
            for segment in segments:
                if removable:
                    segment.remove()
                else:
                    segment.close()
            os.close(self._root_descriptor)

    def _settle(self, segments: Sequence[Segment]) -> bool:
        """Whether the segments' files are all there and durable."""
        if not segments:
            return True
        with self._changed:
            if not self._changed.wait_for(lambda: not any(s.unplaced for s in segments), _PLACE_S):
                _log.error("files-not-placed", segments=len(segments))
                return False
        try:
            self._sync(self._root_descriptor)
        except OSError as exc:
            _log.error("store-not-synced", error=str(exc))
            return False
        return True

    def _count(self, waiting: Sequence[_Entry]) -> int:
        """As many as fit in an eighth of a segment, at least one."""
        count, room = 1, waiting[0].record.room_bytes
        while count < len(waiting):
            room += waiting[count].record.room_bytes
            if room > self._segment_bytes // 8:
                break
            count += 1
        return count

    def _write(self, batch: Sequence[_Entry]) -> None:
        """Write a batch, or leave its entries without a segment."""
        records = [entry.record for entry in batch]
        with self._write_lock:
            try:
                segment = self._segment_for(sum(record.room_bytes for record in records))
                if segment is not None:
                    segment.write(records)
                    with self._changed:
                        segment.unplaced += len(batch)
                    for entry in batch:
                        entry.segment = segment
            except OSError as exc:
                _log.error("write-ahead-log-failed", error=str(exc))
                self._set_aside()

    def _segment_for(self, room: int) -> Segment | None:
        """The segment to write so much to; None while there is none."""
        with self._changed:
            if self._closed or room > self._segment_bytes - BLOCK_BYTES:
                return None
            if self._active is not None and self._active.end + room > self._segment_bytes:
                if self._full is not None:
                    return None  # the disk is behind
                self._full, self._active = self._active, None
                self._changed.notify_all()
            if self._active is None:
                self._active, self._clean = self._clean, None
            if self._active is None:
                self._active = self._new_segment()
            return self._active

    def _new_segment(self) -> Segment | None:
        free = os.fstatvfs(self._root_descriptor)
        if free.f_bavail * free.f_frsize < _SPARE_SEGMENTS * self._segment_bytes:
            return None
        self._directory.mkdir(exist_ok=True)
        if self._syncer is None:
            self._syncer = threading.Thread(target=self._sync_full, name="write-ahead-log", daemon=True)
            self._syncer.start()
        return Segment(self._directory / f"{uuid4().hex}{_SUFFIX}", self._segment_bytes)

    def _set_aside(self) -> None:
        """Write no more to a segment that failed; what it holds is synced like that of a full one."""
        with self._changed:
            if self._active is not None:
                self._active.end = self._segment_bytes

    def _sync_full(self) -> None:
        """The syncer's thread: makes the files of full segments durable, then the segments clean."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or (self._full is not None and not self._full.unplaced)
                )
                segment = self._full
                if self._closed or segment is None:
                    return
            try:
                self._sync(self._root_descriptor)
                segment.begin_again()
            except OSError as exc:  # its records are needed still; the log ends with the next segment
                _log.error("store-not-synced", error=str(exc))
                return
            with self._changed:
                self._full, self._clean = None, segment


def replay(root: Path, restore: Callable[[str, bytes], None], *, sync: Sync = sync_file_system) -> int:
    """Put back what a crash took, from segments that no process holds; then remove them.

    Args:
        root: The store's directory.
        restore: Given SHA-256 and content: sees to it that the file holds that. Need not be durable.
        sync: See WriteAheadLog.

    Returns:
        Objects looked at.

    Raises:
        OSError: A segment cannot be read, or what was restored not synced; the segment stays.
    """
    looked_at = 0
    for path in sorted((root / "log").glob(f"*{_SUFFIX}")):
        with left_behind(path) as source:
            if source is None:
                continue
            root_descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for sha256, content in read_records(source):
                    restore(sha256, content)
                    looked_at += 1
                sync(root_descriptor)
            finally:
                os.close(root_descriptor)
            path.unlink()
    return looked_at
