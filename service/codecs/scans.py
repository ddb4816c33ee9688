"""Whether a JPEG of 8 bits is whole, which its decoders do not say.

libjpeg fills what is missing with grey and goes on; Pillow then returns the picture as if nothing were.
The scans are counted here in Python (ISO/IEC 10918-1 B.2.3, G.1.1.1.1), and libjpeg-turbo is asked for its
warnings.
"""

from __future__ import annotations

import struct
from typing import Final

from service.errors import UndecodablePhotographError

_COEFFICIENTS: Final = 64
_START_OF_SCAN, _PROGRESSIVE, _END = 0xDA, 0xC2, 0xD9
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
_STANDALONE: Final = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xD9)})  # after 0xFF: no segment begins
_DAMAGE: Final = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")


def check_scans(codestream: bytes) -> None:
    """Refuse a JPEG some of whose scans are not there.

    Raises:
        UndecodablePhotographError: Parts of a component were never sent, or not to the last bit.
    """
    left: dict[int, list[int]] = {}  # by component, for each coefficient the lowest bit that is still to come
    progressive = False
    for marker, body in _segments(codestream):
        if marker in _FRAMES:
            progressive = marker == _PROGRESSIVE
            left = {body[6 + 3 * i]: [1] * _COEFFICIENTS for i in range(body[5])}
        elif marker == _START_OF_SCAN:
            components = body[1 : 1 + 2 * body[0] : 2]
            start, end, bits = struct.unpack_from("BBB", body, 1 + 2 * body[0])
            if not progressive:
                start, end, bits = 0, _COEFFICIENTS - 1, 0
            for component in components:
                if component in left:
                    left[component][start : end + 1] = [bits & 15] * (end + 1 - start)
    if any(any(bits) for bits in left.values()):
        raise UndecodablePhotographError("the JPEG is cut short: some of its scans are missing")


def check_data(codestream: bytes) -> None:
    """Refuse a JPEG at which libjpeg-turbo warns of damage; a few others it cannot judge pass.

    Raises:
        UndecodablePhotographError: With the decoder's own words.
    """
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(codestream, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as exc:
        if str(exc).startswith(_DAMAGE):
            raise UndecodablePhotographError(f"the JPEG is damaged: {exc}") from exc


def _segments(codestream: bytes) -> list[tuple[int, bytes]]:
    """Marker and body of every segment of the first picture; what lies between scans is passed over."""
    found: list[tuple[int, bytes]] = []
    position = 2
    while True:
        position = codestream.find(b"\xff", position)
        if position < 0 or position + 1 >= len(codestream):
            return found
        marker = codestream[position + 1]
        if marker == _END:
            return found
        if marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(codestream[position + 2 : position + 4], "big")
        found.append((marker, codestream[position + 4 : position + 2 + length]))
        position += 2 + max(length, 2)
