"""Blanks the place a photograph was taken at inside its JPEG frames; not a byte moves.

Cameras and phones write EXIF and XMP into the JPEG stream, below anything DICOM knows of. Here the
GPS directory is taken out of the EXIF (Exif 2.32 section 4.6.6) and GPS properties out of XMP, by
overwriting them in place: pixel data, lengths, offset tables and every other byte stay as they are.
A frame may be spread over fragments (DICOM PS3.5 annex A.4), a directory over two of them.
Makers' private notes inside EXIF and place names in IPTC are left alone.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from pydicom.errors import InvalidDicomError
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

from service.codecs.deflated import InflatesTooFarError, read_header
from service.errors import UndecodablePhotographError

_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1})
_PIXEL_DATA = 0x7FE00010
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_GPS_INFO = 0x8825  # tag of the pointer to the GPS directory, in IFD0 and IFD1
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_EXIF, _EXIF_BYTES = b"Exif\0", 6  # and a filler
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_GPS = re.compile(
    rb"""[\w.-]+:GPS\w+\s*=\s*"[^"]*"|[\w.-]+:GPS\w+\s*=\s*'[^']*'|<([\w.-]+:GPS\w+)\b[^>]*?(?:/>|>.*?</\1\s*>)""",
    re.DOTALL,
)
_SOI, _SOS, _EOI, _APP1 = 0xD8, 0xDA, 0xD9, 0xE1
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


@dataclass(frozen=True, kw_only=True)
class _Span:
    """Bytes of a file that hold encoded pixels."""

    begin: int
    end: int


def without_location(content: bytes) -> bytes:
    """A Part 10 object whose JPEG frames do not say where they were taken.

    Args:
        content: The file, preamble and all.

    Returns:
        As many bytes; the same ones where there is nothing to blank.

    Raises:
        UndecodablePhotographError: Not a DICOM object, or its fragments overrun its end.
    """
    fragments = _fragments(content)
    if not fragments:
        return content
    frames = b"".join(content[each.begin : each.end] for each in fragments)
    blanked = bytearray(frames)
    for begin, end in _segments(frames):
        _blank_segment(blanked, begin, end)
    if blanked == frames:
        return content
    result, position = bytearray(content), 0
    for each in fragments:
        length = each.end - each.begin
        result[each.begin : each.end] = blanked[position : position + length]
        position += length
    return bytes(result)


def _fragments(content: bytes) -> list[_Span]:
    """Where the fragments of encapsulated JPEG lie in a file, the offset table left out."""
    stream = BytesIO(content)
    try:
        header, _ = read_header(stream)
        syntax = header.file_meta.TransferSyntaxUID
    except (InvalidDicomError, EOFError, AttributeError, InflatesTooFarError, zlib.error) as exc:
        raise UndecodablePhotographError("not a DICOM object") from exc
    position = stream.tell()
    if syntax not in _SYNTAXES or position + 12 > len(content):
        return []
    group, element, length = struct.unpack_from("<HH4xI", content, position)
    if group << 16 | element != _PIXEL_DATA or length != 0xFFFFFFFF:
        return []
    spans: list[_Span] = []
    position += 12
    while position + 8 <= len(content):
        group, element, length = struct.unpack_from("<HHI", content, position)
        position += 8
        if group << 16 | element == _SEQUENCE_END:
            return spans[1:]
        if group << 16 | element != _ITEM or position + length > len(content):
            break
        spans.append(_Span(begin=position, end=position + length))
        position += length
    raise UndecodablePhotographError("the fragments of the pixel data end early")


def _segments(frames: bytes) -> Iterator[tuple[int, int]]:
    """Where the payloads of APP1 segments begin and end, in every JPEG stream of the joined frames."""
    position = frames.find(b"\xff\xd8\xff")
    while position >= 0:
        position += 2
        while position + 4 <= len(frames) and frames[position] == 0xFF:
            marker = frames[position + 1]
            if marker in _ALONE or marker == 0xFF:
                position += 1 if marker == 0xFF else 2
                continue
            if marker in {_SOS, _EOI}:
                break
            end = position + 2 + int.from_bytes(frames[position + 2 : position + 4], "big")
            if marker == _APP1:
                yield position + 4, min(end, len(frames))
            position = end
        position = frames.find(b"\xff\xd8\xff", position)


def _blank_segment(frames: bytearray, begin: int, end: int) -> None:
    payload = bytes(frames[begin:end])
    if payload.startswith(_EXIF):
        tiff = bytearray(payload[_EXIF_BYTES:])
        _blank_exif(tiff)
        frames[begin + _EXIF_BYTES : end] = tiff
    elif payload.startswith((_XMP, _EXTENDED_XMP)):
        frames[begin:end] = _XMP_GPS.sub(lambda found: b" " * len(found[0]), payload)


def _blank_exif(tiff: bytearray) -> None:
    """Take the GPS directories out of a TIFF structure, in place; a malformed one is blanked whole."""
    try:
        order = {b"II": "<", b"MM": ">"}[bytes(tiff[:2])]
        directory = struct.unpack_from(order + "I", tiff, 4)[0]
        seen: set[int] = set()
        while directory and directory not in seen:
            seen.add(directory)
            _without_gps(tiff, order, directory)
            count = struct.unpack_from(order + "H", tiff, directory)[0]
            directory = struct.unpack_from(order + "I", tiff, directory + 2 + 12 * count)[0]
    except (KeyError, struct.error):
        tiff[:] = bytes(len(tiff))


def _without_gps(tiff: bytearray, order: str, directory: int) -> None:
    """Remove the GPS pointer from one directory: later entries move up, what is left over is zero."""
    count = struct.unpack_from(order + "H", tiff, directory)[0]
    entries = directory + 2
    for index in range(count):
        entry = entries + 12 * index
        tag, _, _, value = struct.unpack_from(order + "HHII", tiff, entry)
        if tag == _GPS_INFO:
            _blank_directory(tiff, order, value)
            tail = entries + 12 * count + 4  # the pointer to the next directory moves too
            rest = tiff[entry + 12 : tail]
            tiff[entry:tail] = rest + bytes(12)
            struct.pack_into(order + "H", tiff, directory, count - 1)
            return


def _blank_directory(tiff: bytearray, order: str, directory: int) -> None:
    """Zero a directory and the values it points to."""
    count = struct.unpack_from(order + "H", tiff, directory)[0]
    for index in range(count):
        _, kind, length, value = struct.unpack_from(order + "HHII", tiff, directory + 2 + 12 * index)
        size = _TYPE_BYTES.get(kind, 1) * length
        if size > 4:
            _zero(tiff, value, size)
    _zero(tiff, directory, 2 + 12 * count + 4)


def _zero(tiff: bytearray, begin: int, size: int) -> None:
    end = min(begin + size, len(tiff))
    if begin < end:
        tiff[begin:end] = bytes(end - begin)
