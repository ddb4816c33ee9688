"""What parent and child say to each other: one JSON datagram each way, bulk data in memory files.

The child makes the memory file of its answer and seals it against growing, shrinking and writing, so that
the parent can look into it without a copy and nothing that happens to the child can change it.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DATAGRAM_BYTES = 1 << 16
_SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_DTYPES = frozenset({"|u1", "|i1", "<u2", "<i2"})


class BrokenAnswerError(Exception):
    """The child's answer is not one of ours."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One datagram."""
    return json.dumps(message).encode()


@dataclass(frozen=True, kw_only=True)
class MemoryFrame:
    """Samples in a memory file."""

    shape: tuple[int, ...]  # (H, W) or (H, W, C)
    dtype: str  # as numpy writes it, of 8 or 16 bits
    offset: int  # bytes before the samples


def publish(pixels: NDArray[np.generic] | Image.Image) -> tuple[int, MemoryFrame]:
    """Write samples into a new, sealed memory file.

    A picture is written by its library's own writer, as PNM, which spares two copies.

    Returns:
        The file's descriptor, for the caller to close, and what lies in it.

    Raises:
        OSError: No memory.
    """
    descriptor = os.memfd_create("semblance-frame", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        if isinstance(pixels, np.ndarray):
            frame = _write_array(descriptor, pixels)
        else:
            frame = _write_picture(descriptor, pixels)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, frame


def _write_array(descriptor: int, array: NDArray[np.generic]) -> MemoryFrame:
    view, written = memoryview(np.ascontiguousarray(array).data).cast("B"), 0
    while written < len(view):  # cheaper than mapping: no page is cleared first
        written += os.write(descriptor, view[written:])
    return MemoryFrame(shape=array.shape, dtype=array.dtype.str, offset=0)


def _write_picture(descriptor: int, picture: Image.Image) -> MemoryFrame:
    shape = (picture.height, picture.width, *((3,) if picture.mode == "RGB" else ()))
    with open(descriptor, "wb", closefd=False) as file:
        picture.save(file, "PPM")
        return MemoryFrame(shape=shape, dtype="|u1", offset=file.tell() - prod(shape))


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One datagram and its descriptors, which the caller closes.

    Raises:
        EOFError: The other side is gone.
        BrokenAnswerError: It is no message.
        OSError: The time-out passed, or the channel broke.
    """
    data, descriptors, _, _ = socket.recv_fds(channel, DATAGRAM_BYTES, 1)
    if not data:
        raise EOFError
    try:
        message = json.loads(data)
    except ValueError as exc:
        raise BrokenAnswerError("no message") from exc
    if not isinstance(message, dict):
        raise BrokenAnswerError("no message")
    return message, descriptors


def sealed_array(descriptor: int, frame: MemoryFrame) -> NDArray[np.generic]:
    """Look into a sealed memory file; the memory goes when the array goes.

    Args:
        descriptor: Of the file; may be closed afterwards.
        frame: As announced; the file must hold just that.

    Returns:
        An array that is not writeable.

    Raises:
        BrokenAnswerError: The file is not sealed, or holds something else.
    """
    shape, dtype = frame.shape, frame.dtype
    if dtype not in _DTYPES or not 2 <= len(shape) <= 3 or min(shape) < 1 or frame.offset < 0:
        raise BrokenAnswerError(f"{dtype} {shape} is no frame")
    size, count = os.fstat(descriptor).st_size, prod(shape)
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as exc:
        raise BrokenAnswerError("no memory file") from exc
    if seals & _SEALS != _SEALS or size != frame.offset + count * int(dtype[2]):
        raise BrokenAnswerError("the memory file is not as announced")
    memory = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    return np.frombuffer(memory, dtype=dtype, count=count, offset=frame.offset).reshape(shape)
