"""PNG of 16 bits a sample, with as many of them used as it says (PNG 3rd edition, section 11.3.2.1, sBIT).

Pillow keeps the upper eight bits of such colours, and cameras of 12 bits leave those all but empty.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from service.codecs.frame import CAMERA_BITS

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH = 16
_WHITE = 255.0


def is_deep_png(data: bytes) -> bool:
    """Whether a file is a PNG of 16 bits a sample, without a colour profile."""
    header = data[16:29]
    return (
        data.startswith(_SIGNATURE)
        and len(header) == 13
        and header[8] == _DEPTH
        and b"iCCP" not in dict(_chunks(data))
    )


def eight_bits(pixels: NDArray[np.generic], data: bytes) -> NDArray[np.uint8]:
    """Bring the samples of such a file to 8 bits.

    Args:
        pixels: (H, W) or (H, W, C), grey or colour, perhaps with transparency as the last component.
        data: The file.

    Returns:
        (H, W, 3) uint8, what is transparent on white.
    """
    values = pixels.astype(np.float64)
    values = values[..., None] if values.ndim == 2 else values
    has_alpha = values.shape[2] in (2, 4)
    alpha = values[..., -1:] / 65535.0 if has_alpha else np.ones((*values.shape[:2], 1))
    colours = values[..., :-1] if has_alpha else values
    bits = _bits(dict(_chunks(data)).get(b"sBIT", b""), float(colours.max()))
    scaled = colours * (_WHITE / (2.0**bits - 1))
    shown = np.clip(np.rint(scaled * alpha + _WHITE * (1 - alpha)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _bits(significant: bytes, largest: float) -> int:
    """Bits in use: those of sBIT, or of a camera, where no sample goes beyond them.

    A correct file spreads its samples over all sixteen, whatever sBIT says.
    """
    if not significant:
        return next((bits for bits in CAMERA_BITS if largest < 1 << bits), _DEPTH)
    said = max(significant[:3])
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
