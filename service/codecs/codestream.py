"""What a code stream says of itself, read in Python and before any decoder sees it.

JPEG: ISO/IEC 10918-1 B.2.2; JPEG-LS: ISO/IEC 14495-1 C.2.2; JPEG 2000: ISO/IEC 15444-1 A.5.1 and I.5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from service.codecs.frame import FrameGeometry
from service.errors import UndecodablePhotographError, UnsupportedPhotographError

_SOI = b"\xff\xd8"
_END_MARKER = b"\xff\xd9"  # ISO/IEC 10918-1 B.1.1.3, 14495-1 C.1.1, 15444-1 A.4.4
_J2K = b"\xff\x4f\xff\x51"  # SOC, then SIZ
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_LOSSLESS, _JPEG_LS, _START_OF_SCAN, _END = 0xC3, 0xF7, 0xDA, 0xD9
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC2})  # by discrete cosines, in one go or progressive; Huffman
_FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS}) - {0xC4, 0xC8, 0xCC}
_PARAMETERS = 0xF8  # LSE of JPEG-LS
_MOST_COMPONENTS = 4
_OVERSIZE = 4  # LSE that gives an image dimension of more than 16 bits


class Family(Enum):
    """Which decoder a code stream is for."""

    JPEG = "JPEG"
    JPEG_LOSSLESS = "JPEG Lossless"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"


@dataclass(frozen=True, kw_only=True)
class Announced:
    """The header of a code stream."""

    family: Family
    rows: int
    columns: int
    components: int
    precision: int  # bits of a sample
    is_signed: bool = False
    process: int = 0  # of a JPEG: its SOF marker's number, 0 baseline, 1 extended, 2 progressive
    component_ids: tuple[int, ...] = ()  # of a JPEG
    has_jfif: bool = False
    adobe_transform: int | None = None  # of a JPEG's APP14 segment; None without one


def announced(codestream: bytes) -> Announced:
    """Read the header.

    Raises:
        UndecodablePhotographError: It is none of a JPEG, JPEG-LS or JPEG 2000 stream, or cut short.
    """
    try:
        if codestream.startswith(_SOI):
            return _jpeg(codestream)
        if codestream.startswith(_J2K):
            return _jpeg_2000(codestream, 0)
        if codestream.startswith(_JP2):
            return _jpeg_2000(codestream, _boxed(codestream))
    except (struct.error, IndexError) as exc:
        raise UndecodablePhotographError("the compressed frame ends within its header") from exc
    raise UndecodablePhotographError("the frame is no JPEG, JPEG-LS or JPEG 2000 stream")


def check_complete(codestream: bytes) -> None:
    """Refuse a code stream without its end: decoders would fill up what is missing with grey.

    Raises:
        UndecodablePhotographError: No end marker.
    """
    if not codestream.rstrip(b"\0\xff").endswith(_END_MARKER):  # both are in use as padding
        raise UndecodablePhotographError("the compressed frame is cut short: it has no end marker")


def is_own_word(found: Announced) -> bool:
    """Whether a stream says by itself what its components are: a JPEG of 8 bits, as any viewer shows it."""
    return found.family is Family.JPEG and found.precision == 8


def check(found: Announced, geometry: FrameGeometry) -> None:
    """Refuse a code stream that would decode to something else than the data set says.

    Senders take a JPEG file's frame over and write a header of their own: three samples for a grey one or
    for printers' four colours. The JPEG itself decides then.

    Raises:
        UnsupportedPhotographError: Neither grey nor three colours, and no JPEG in printers' four.
        UndecodablePhotographError: Another size, other components, or 8 bits for more or the other way.
    """
    if (found.rows, found.columns) != (geometry.rows, geometry.columns):
        raise UndecodablePhotographError(
            f"the compressed frame has {found.columns} x {found.rows} pixels,"
            f" Columns and Rows say {geometry.columns} x {geometry.rows}"
        )
    if found.components not in ((1, 3, 4) if is_own_word(found) else (1, 3)):
        raise UnsupportedPhotographError(f"{found.components} components a pixel are no photograph's")
    if found.components != geometry.samples_per_pixel and not is_own_word(found):
        raise UndecodablePhotographError(
            f"the compressed frame has {found.components} components,"
            f" Samples per Pixel says {geometry.samples_per_pixel}"
        )
    is_deep = found.precision > 8
    if is_deep != (geometry.bits_stored > 8) or (is_deep and geometry.bits_allocated < 16):
        raise UndecodablePhotographError(
            f"the compressed frame has samples of {found.precision} bits,"
            f" Bits Stored says {geometry.bits_stored} of {geometry.bits_allocated}"
        )


def _jpeg(codestream: bytes) -> Announced:
    """Walk the segments up to the frame header."""
    position, has_jfif, adobe_transform = 2, False, None
    while True:
        marker, body, position = _segment(codestream, position)
        has_jfif |= marker == 0xE0 and body.startswith(b"JFIF\0")
        if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe_transform = body[11]
        if marker == _PARAMETERS and body[:1] == bytes((_OVERSIZE,)):
            raise UndecodablePhotographError("the JPEG-LS frame says its size twice")
        if marker in _FRAMES:
            return _frame_header(marker, body, has_jfif=has_jfif, adobe_transform=adobe_transform)


def _segment(codestream: bytes, position: int) -> tuple[int, bytes, int]:
    """The next marker with a length, what it holds, and where the one after it is."""
    while True:
        if codestream[position] != 0xFF:
            raise UndecodablePhotographError("the frame is damaged before its frame header")
        marker = codestream[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker in (_START_OF_SCAN, _END):
            raise UndecodablePhotographError("the frame has no frame header")
        else:
            (length,) = struct.unpack_from(">H", codestream, position + 2)
            end = position + 2 + max(2, length)
            return marker, codestream[position + 4 : end], end


def _frame_header(marker: int, body: bytes, *, has_jfif: bool, adobe_transform: int | None) -> Announced:
    precision, rows, columns, components = struct.unpack_from(">BHHB", body)
    if len(body) < 6 + 3 * components:
        raise UndecodablePhotographError("the compressed frame ends within its header")
    if marker == _JPEG_LS:
        family = Family.JPEG_LS
    elif marker == _LOSSLESS:
        family = Family.JPEG_LOSSLESS
    elif marker in _SEQUENTIAL:
        family = Family.JPEG
    else:
        raise UndecodablePhotographError(f"JPEG process SOF{marker - 0xC0} is not decoded")
    return Announced(
        family=family,
        rows=rows,
        columns=columns,
        components=components,
        precision=precision,
        process=marker - 0xC0,
        component_ids=tuple(body[6 : 6 + 3 * components : 3]),
        has_jfif=has_jfif,
        adobe_transform=adobe_transform,
    )


def _boxed(codestream: bytes) -> int:
    """Where the code stream begins in a JP2 file, which is against PS3.5 A.4.4 but is sent."""
    position = 0
    while True:
        length, kind = struct.unpack_from(">I4s", codestream, position)
        start = position + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", codestream, start)
            start += 8
        if kind == b"jp2c":
            return start
        if length < 8:
            raise UndecodablePhotographError("the JP2 file holds no code stream")
        position += length


def _jpeg_2000(codestream: bytes, start: int) -> Announced:
    if codestream[start : start + 4] != _J2K:
        raise UndecodablePhotographError("the JPEG 2000 stream does not begin with its size")
    right, bottom, left, top = struct.unpack_from(">4I", codestream, start + 8)
    (components,) = struct.unpack_from(">H", codestream, start + 40)
    if not 1 <= components <= _MOST_COMPONENTS:
        raise UndecodablePhotographError(f"the JPEG 2000 frame has {components} components")
    sizes = [struct.unpack_from(">3B", codestream, start + 42 + 3 * number) for number in range(components)]
    if len({depth for depth, _, _ in sizes}) != 1 or not all(1 <= s <= 4 for size in sizes for s in size[1:]):
        raise UndecodablePhotographError("the components of the JPEG 2000 frame differ in kind")
    depth = sizes[0][0]
    return Announced(
        family=Family.JPEG_2000,
        rows=bottom - top,
        columns=right - left,
        components=components,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
    )
