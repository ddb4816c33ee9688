"""The instance store: bytes under their own SHA-256, on disk for good before anybody is told so."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self, runtime_checkable
from uuid import uuid4

from service.config import Settings
from service.errors import CorruptInstanceError, InstanceNotStoredError, StorageError, StorageFullError
from service.storage.file_systems import begin_writing, open_private, private_directory, sync_directory

_CHUNK_BYTES = 1 << 20
_WRITE_OUT_BYTES = 1 << 20  # of a large object, after which the kernel is told to begin writing


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What the store holds for some bytes."""

    sha256: str  # lower-case hex; the key
    size_bytes: int


@runtime_checkable
class StoreWriter(Protocol):
    """Streams one object into the store; leaving the context without ``commit`` keeps nothing."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append bytes."""

    def commit(self) -> StoredObject:
        """Make the object durable under its SHA-256 and return its key."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *exc_info: object) -> None:
        """Drop what was not committed."""


@runtime_checkable
class InstanceStore(Protocol):
    """Content-addressed bytes."""

    def put(self, content: bytes | Path) -> StoredObject:
        """Keep bytes, or a file's bytes; durable on return."""

    def writer(self) -> StoreWriter:
        """A context that keeps what is written to it, once committed."""

    def open(self, sha256: str) -> BinaryIO:
        """Open an object for reading, unverified.

        Raises:
            InstanceNotStoredError: Nothing under that SHA-256.
        """

    def read(self, sha256: str) -> bytes:
        """Read an object and verify it.

        Raises:
            InstanceNotStoredError: Nothing under that SHA-256.
            CorruptInstanceError: The bytes do not match it.
        """

    def verify(self, sha256: str) -> None:
        """Read an object through, as ``read``, but keep none of it.

        Raises:
            InstanceNotStoredError: Nothing under that SHA-256.
            CorruptInstanceError: The bytes do not match it.
        """

    def contains(self, sha256: str) -> bool:
        """Whether there are bytes under that SHA-256."""

    def free_bytes(self) -> int:
        """Space left."""


class LocalStore:
    """An InstanceStore in a directory: ``ab/abcd....``, written temp, fsync, rename, fsync(directory)."""

    def __init__(self, root: Path, *, low_watermark_bytes: int = 0) -> None:
        """Make the directory and those in it that are not there, durably: a writer need not look.

        Args:
            root: The store's directory; its own file system is best.
            low_watermark_bytes: Free space under which nothing more is accepted.

        Raises:
            StorageError: The directory cannot be made or written to.
        """
        self._root = root.resolve()
        self._incoming = self._root / "incoming"
        self._low_watermark_bytes = low_watermark_bytes
        try:
            private_directory(self._root)
            private_directory(self._incoming)
            for number in range(256):
                (self._root / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._root)
            sync_directory(self._root.parent)
        except OSError as exc:
            raise StorageError(f"instance store {self._root}: {exc}") from exc

    def put(self, content: bytes | Path) -> StoredObject:
        """See InstanceStore."""
        with self.writer() as writer:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    while chunk := source.read(_CHUNK_BYTES):
                        writer.write(chunk)
            else:
                writer.write(content)
            return writer.commit()

    def writer(self) -> LocalWriter:
        """See InstanceStore.

        Raises:
            StorageFullError: Free space is under the low watermark.
        """
        if self.free_bytes() < self._low_watermark_bytes:
            raise StorageFullError(f"less than {self._low_watermark_bytes} bytes are free in {self._root}")
        return LocalWriter(self._root, self._incoming / uuid4().hex)

    def open(self, sha256: str) -> BinaryIO:
        """See InstanceStore."""
        try:
            return path_of(self._root, sha256).open("rb")
        except FileNotFoundError as exc:
            raise InstanceNotStoredError(f"no bytes under SHA-256 {sha256} in {self._root}") from exc
        except OSError as exc:
            raise StorageError(f"{sha256}: {exc}") from exc

    def read(self, sha256: str) -> bytes:
        """See InstanceStore."""
        with self.open(sha256) as source:
            content = source.read()
        _require(sha256, hashlib.sha256(content).hexdigest())
        return content

    def verify(self, sha256: str) -> None:
        """See InstanceStore."""
        with self.open(sha256) as source:
            try:
                found = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
            except OSError as exc:
                raise StorageError(f"{sha256}: {exc}") from exc
        _require(sha256, found)

    def contains(self, sha256: str) -> bool:
        """See InstanceStore."""
        return path_of(self._root, sha256).is_file()

    def free_bytes(self) -> int:
        """See InstanceStore."""
        try:
            return shutil.disk_usage(self._root).free
        except OSError as exc:
            raise StorageError(f"instance store {self._root}: {exc}") from exc

    def path_of(self, sha256: str) -> Path:
        """Where an object lies."""
        return path_of(self._root, sha256)

    def sweep_incoming(self, older_than_s: float = 0.0) -> int:
        """Remove what killed processes left half written.

        Args:
            older_than_s: Only what nothing was written to for so long; 0 only while nobody writes.

        Returns:
            How many files were removed.
        """
        removed = 0
        for leftover in self._incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):  # committed or swept by another process meanwhile
                if time.time() - leftover.stat().st_mtime >= older_than_s:
                    leftover.unlink()
                    removed += 1
        return removed


class LocalWriter:
    """Streams one object into a LocalStore; see StoreWriter."""

    def __init__(self, root: Path, temporary: Path) -> None:
        """Name the files; nothing is opened before the context is entered."""
        self._root = root
        self._temporary = temporary
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._begun_bytes = 0  # of which the kernel was told to write them out
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        """Open the temporary file."""
        try:
            self._file = open(self._temporary, "xb", opener=open_private)
        except OSError as exc:
            raise StorageError(f"instance store: {exc}") from exc
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close, and remove the temporary file unless it was committed."""
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append bytes and hash them.

        Raises:
            StorageError: The disk did not take them.
        """
        if self._file is None:
            raise StorageError("the writer is not open")
        try:
            self._file.write(chunk)
        except OSError as exc:
            raise StorageError(f"instance store: {exc}") from exc
        self._hash.update(chunk)
        self._size_bytes += len(chunk)
        if self._size_bytes - self._begun_bytes >= _WRITE_OUT_BYTES:
            begin_writing(self._file.fileno(), self._begun_bytes, self._size_bytes - self._begun_bytes)
            self._begun_bytes = self._size_bytes

    def commit(self) -> StoredObject:
        """Make the object durable: fsync the file, rename it, fsync its directory.

        Raises:
            StorageError: The disk did not take it; nothing is kept.
        """
        if self._file is None:
            raise StorageError("the writer is not open")
        sha256 = self._hash.hexdigest()
        target = path_of(self._root, sha256)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(target)
            sync_directory(target.parent)
        except OSError as exc:
            raise StorageError(f"instance store: {exc}") from exc
        self._file = None
        return StoredObject(sha256=sha256, size_bytes=self._size_bytes)


def _require(sha256: str, found: str) -> None:
    if found != sha256:
        raise CorruptInstanceError(f"bytes kept as {sha256} hash to {found}")


def path_of(root: Path, sha256: str) -> Path:
    """Where an object lies in a LocalStore.

    Raises:
        InstanceNotStoredError: Not a SHA-256, so nothing can be stored under it.
    """
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise InstanceNotStoredError(f"{sha256!r} is not a SHA-256")
    return root / sha256[:2] / sha256


def open_store(settings: Settings) -> InstanceStore:
    """The instance store the settings name.

    Raises:
        StorageError: It cannot be opened.
    """
    return LocalStore(settings.storage_dir, low_watermark_bytes=settings.storage_low_watermark_bytes)
