"""One file of the write-ahead log: a head block and records, each at a multiple of 4096 bytes.

Head and records begin with ``<4s4xQQ32s``: magic, generation, size in bytes and SHA-256 of the content
that follows (none in the head). A record of another generation than the head's, or whose content does
not match its SHA-256, is where the log ends: records are written in order, and nobody was told of one
before the flush that made it and all before it durable.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.file_systems import sync_directory

BLOCK_BYTES = 4096
_HEAD = struct.Struct("<4s4xQQ32s")
_MAGIC = b"SWAL"
_ZEROS = bytes(BLOCK_BYTES)
_FILL_BYTES = 1 << 20
_MAX_VECTORS = 1000  # of one pwritev; Linux takes 1024


@dataclass(frozen=True, kw_only=True)
class Record:
    """An object to be written to a segment."""

    sha256: bytes  # of the content, 32 bytes
    size_bytes: int
    chunks: Sequence[bytes | bytearray]  # the content

    @property
    def room_bytes(self) -> int:
        """What it takes in a segment."""
        return -(-(_HEAD.size + self.size_bytes) // BLOCK_BYTES) * BLOCK_BYTES


class Segment:
    """A segment that is written, and locked as long as it is open."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Make it, without records, all its blocks written: to flush one of them is then no more than that.

        Args:
            path: Of the new file.
            size_bytes: Of the segment; a multiple of 4096.

        Raises:
            OSError: The disk does not take it.
        """
        self.path = path
        self.end = 0  # offset of the next record
        self.unplaced = 0  # records whose file is not there yet; the log's to count
        self._generation = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for offset in range(0, size_bytes, _FILL_BYTES):
                _write_at(self._descriptor, [bytes(min(_FILL_BYTES, size_bytes - offset))], offset)
            self.begin_again()
            sync_directory(path.parent)
        except OSError:
            self.remove()
            raise

    def begin_again(self) -> None:
        """Void the records.

        Raises:
            OSError: The disk does not take it.
        """
        self._generation += 1
        os.pwrite(self._descriptor, _HEAD.pack(_MAGIC, self._generation, 0, bytes(32)), 0)
        os.fdatasync(self._descriptor)
        self.end = BLOCK_BYTES

    def write(self, records: Sequence[Record]) -> None:
        """Append records and flush them.

        Raises:
            OSError: The disk does not take them; write no more to this segment.
        """
        vectors: list[bytes | bytearray] = []
        for record in records:
            vectors.append(_HEAD.pack(_MAGIC, self._generation, record.size_bytes, record.sha256))
            vectors += record.chunks
            vectors.append(_ZEROS[: record.room_bytes - _HEAD.size - record.size_bytes])
        for first in range(0, len(vectors), _MAX_VECTORS):
            self.end += _write_at(self._descriptor, vectors[first : first + _MAX_VECTORS], self.end)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Give it back; the file stays."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
        self.close()


def _write_at(descriptor: int, vectors: Sequence[bytes | bytearray], offset: int) -> int:
    wanted = sum(map(len, vectors))
    if os.pwritev(descriptor, vectors, offset) != wanted:
        raise OSError(errno.ENOSPC, "short write to the write-ahead log")
    return wanted


@contextmanager
def left_behind(path: Path) -> Iterator[BinaryIO | None]:
    """Open and lock a segment that no process holds; None when one does, or it is gone.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        source = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with source:
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield source if os.fstat(source.fileno()).st_nlink else None


def read_records(source: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The records of a segment, as SHA-256 in hex and content, up to where the log ends."""
    size_bytes = os.fstat(source.fileno()).st_size
    head = source.read(BLOCK_BYTES)
    if len(head) < _HEAD.size:
        return
    magic, generation, _, _ = _HEAD.unpack_from(head)
    position = BLOCK_BYTES
    while magic == _MAGIC and position + _HEAD.size <= size_bytes:
        source.seek(position)
        found, of_generation, length, sha256 = _HEAD.unpack(source.read(_HEAD.size))
        if found != _MAGIC or of_generation != generation or length > size_bytes - position:
            return
        content = source.read(length)
        if hashlib.sha256(content).digest() != sha256:
            return
        yield sha256.hex(), content
        position += -(-(_HEAD.size + length) // BLOCK_BYTES) * BLOCK_BYTES
