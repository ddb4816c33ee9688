"""Pictures made from stored objects for whoever asks, made once: a cache that may be emptied at any time.

An entry is named by what it is made from (the object's SHA-256) and how, so that it can never be stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import structlog

from service.config import Settings

_log = structlog.get_logger(__name__)

_DIGEST_BYTES = 32
_KEPT_SHARE = 0.8  # of the most bytes, down to which the oldest entries are removed


class Renditions:
    """A bounded cache in a directory, for the threads and processes that share it."""

    def __init__(self, root: Path, most_bytes: int) -> None:
        """Make the directory at first use.

        Args:
            root: The cache's own directory.
            most_bytes: What it may hold; 0 keeps nothing.
        """
        self._root = root
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._held_bytes = -1  # not counted yet

    def get(self, sha256: str, how: str, make: Callable[[], bytes]) -> bytes:
        """Give a rendition, made now if it is not there or not whole.

        Args:
            sha256: Of the object it is made from.
            how: Everything else that decides its bytes.
            make: Makes it.
        """
        name = hashlib.sha256(f"{sha256}|{how}".encode()).hexdigest()
        path = self._root / name[:2] / name
        kept = _read(path)
        if kept is not None:
            return kept
        made = make()
        if 0 < len(made) <= self._most_bytes:
            self._keep(path, made)
        return made

    def _keep(self, path: Path, made: bytes) -> None:
        """Write an entry; a cache that cannot be written to costs time and nothing else."""
        temporary = path.with_name(f"{path.name}.{uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(made).digest() + made)
            temporary.replace(path)
            self._make_room(len(made))
        except OSError as exc:
            _log.warning("rendition not kept", error=exc.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make_room(self, added_bytes: int) -> None:
        with self._lock:
            if self._held_bytes >= 0:
                self._held_bytes += added_bytes
            if 0 <= self._held_bytes <= self._most_bytes:
                return
            entries = sorted(self._entries())
            self._held_bytes = sum(size for _, size, _ in entries)
            if self._held_bytes <= self._most_bytes:
                return
            for _, size, path in entries:
                if self._held_bytes <= _KEPT_SHARE * self._most_bytes:
                    break
                path.unlink(missing_ok=True)
                self._held_bytes -= size

    def _entries(self) -> list[tuple[float, int, Path]]:
        """When each was last asked for, its size and its place."""
        found = []
        for path in self._root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # removed by another process meanwhile
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found


def _read(path: Path) -> bytes | None:
    """An entry, if it is there and whole; notes that it was asked for."""
    try:
        kept = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    made = kept[_DIGEST_BYTES:]
    return made if hashlib.sha256(made).digest() == kept[:_DIGEST_BYTES] else None


def open_renditions(settings: Settings) -> Renditions:
    """The cache the settings name, beside the store's objects."""
    return Renditions(settings.storage_dir / "renditions", settings.rendition_cache_bytes)
