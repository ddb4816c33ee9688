"""PNG of 16 bits a sample, with as many of them used as it says (PNG 3rd edition, section 11.3.2.1, sBIT).

Pillow keeps the upper eight bits of such colours, and cameras of 12 bits leave those all but empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import UndecodablePhotographError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH = 16
_CAMERA_BITS = 12
_WHITE = 255.0


def read_deep_png(data: bytes) -> NDArray[np.uint8] | None:
    """Read a PNG of 16 bits a sample as 8 bits.

    Args:
        data: The file.

    Returns:
        (H, W, 3) uint8, what is transparent on white; None for what is no such PNG, or has a profile.

    Raises:
        UndecodablePhotographError: It is damaged.
    """
    header = data[16:29]
    if not data.startswith(_SIGNATURE) or len(header) < 13 or header[8] != _DEPTH:
        return None
    chunks = dict(_chunks(data))
    if b"iCCP" in chunks:
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise UndecodablePhotographError("the PNG cannot be decoded")
    values = pixels.astype(np.float64) if pixels.ndim == 3 else pixels.astype(np.float64)[..., None]
    alpha = values[..., 3:4] / 65535.0 if values.shape[2] in (2, 4) else np.ones((*values.shape[:2], 1))
    colours = values[..., 2::-1] if values.shape[2] >= 3 else values[..., :1]
    scaled = colours * (_WHITE / (2.0 ** _bits(chunks.get(b"sBIT", b""), float(colours.max())) - 1))
    shown = np.clip(np.rint(scaled * alpha + _WHITE * (1 - alpha)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _bits(significant: bytes, largest: float) -> int:
    """Bits in use: those of sBIT, or of a camera, where no sample goes beyond them.

    A correct file spreads its samples over all sixteen, whatever sBIT says.
    """
    said = max(significant[:3], default=_CAMERA_BITS)
    return said if 0 < said < _DEPTH and largest < 1 << said else _DEPTH


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Types and contents of the chunks before the pixels."""
    at = len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += length + 12
