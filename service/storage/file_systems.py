"""Linux calls on files and file systems that Python's os module has not."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return libc


def begin_writing(descriptor: int, offset: int, size_bytes: int) -> None:
    """Have the kernel begin to write part of a file out, so that a later fsync waits less.

    A hint (sync_file_range(2)): where it fails, the fsync does all of it and tells of errors.
    """
    _libc().sync_file_range(descriptor, offset, size_bytes, _SYNC_FILE_RANGE_WRITE)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Put a directory's entries on disk.

    Raises:
        OSError: They could not be written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory that only its owner reads; one that is there, and ours, becomes so.

    Args:
        path: Of the directory; those above it are made as ever.
        mode: Of it; 0o711 lets others pass through, and see nothing.

    Raises:
        OSError: It cannot be made.
    """
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if path.stat().st_uid == os.geteuid():
        path.chmod(mode)


def open_private(path: str, flags: int) -> int:
    """Open a file, making it readable to its owner alone; an opener for ``open``."""
    return os.open(path, flags, 0o600)
