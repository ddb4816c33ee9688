"""Reads the structure of a data set while it streams past, without keeping it.

A push parser after DICOM PS3.5 section 7 and annex A: it is fed fragments of any size, walks
element by element, keeps the few values intake needs, and at the end says whether the data set
ended where an element ended. Memory does not grow with the object. Values are not judged here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from service.codecs.deflated import MOST_INFLATED_BYTES
from service.dicom import text
from service.dicom.rewriting import PIXEL_TAGS
from service.dicom.vrs import KNOWN_VRS, is_short, is_vr
from service.errors import IncompleteInstanceError

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_META_GROUP = 0x0002
_MAX_DEPTH = 64  # nested sequences of undefined length; real objects have under 10
_MAX_VALUE_BYTES = 4096  # of a value that is kept
_INFLATE_STEP = 256 * 1024

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
STUDY_DESCRIPTION = 0x00081030
PATIENT_ID = 0x00100020
ISSUER_OF_PATIENT_ID = 0x00100021
_ISSUER_QUALIFIERS = 0x00100024
BODY_PART_EXAMINED = 0x00180015
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
_KEPT = frozenset(
    {
        SPECIFIC_CHARACTER_SET,
        SOP_CLASS_UID,
        SOP_INSTANCE_UID,
        MODALITY,
        STUDY_DESCRIPTION,
        PATIENT_ID,
        ISSUER_OF_PATIENT_ID,
        BODY_PART_EXAMINED,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
    }
)


class MalformedDataSetError(IncompleteInstanceError):
    """The bytes do not follow the encoding rules of the transfer syntax."""


@dataclass(frozen=True, kw_only=True)
class KeptValues:
    """Values of the top level of a data set, raw and by tag."""

    raw: Mapping[int, bytes]  # tag number -> value as encoded, with its padding
    remarks: tuple[str, ...] = ()  # what of the encoding is not as it should be, and was borne
    has_issuer_qualifiers: bool = False  # (0010,0024) is there, which is not kept

    def text(self, tag: int) -> str:
        """The value decoded by Specific Character Set, without padding; "" when absent or empty."""
        value = self._value(tag)
        if value.isascii() and b"\x1b" not in value:
            return text.trimmed(value.decode("ascii"))
        return text.trimmed(text.decode(value, self._encodings))

    def is_declared(self, tag: int) -> bool:
        """Whether a value is in the character set that the data set declares for its texts."""
        value = self._value(tag)
        if value.isascii() and b"\x1b" not in value:
            return True
        return self._value(SPECIFIC_CHARACTER_SET) != b"" and (
            text.decode_strictly(value, self._encodings) is not None
            and not text.is_windows(value, self._encodings)
        )

    def _value(self, tag: int) -> bytes:
        return self.raw.get(tag, b"").rstrip(b" \0")

    @property
    def _encodings(self) -> list[str]:
        return text.encodings_of(self._value(SPECIFIC_CHARACTER_SET))


@dataclass(slots=True)
class _Level:
    """One open sequence or item of undefined length."""

    is_item: bool
    implicit: bool  # encoding of the elements inside


# What the walk asks of its driver: so many bytes (positive), or to pass over so many (negative).
_Walk = Generator[int, bytes, None]


class StructureReader:
    """Walks one data set as it arrives.

    Args:
        transfer_syntax_uid: What the data set is encoded in; little endian ones only.
        most_inflated_bytes: That a deflated data set may inflate to.
    """

    def __init__(self, transfer_syntax_uid: str, most_inflated_bytes: int = MOST_INFLATED_BYTES) -> None:
        self._most_inflated_bytes = most_inflated_bytes
        self._kept: dict[int, bytes] = {}
        self._implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if _is_deflated(transfer_syntax_uid) else None
        self._inflated_bytes = 0
        self._between_elements = True
        self._past_pixels = False
        self._has_issuer_qualifiers = False
        self._only_padding = False  # zeros came where an element should begin
        self._remarks: dict[str, None] = {}
        self._buffer = bytearray()
        self._walk = self._elements()
        self._wanted = next(self._walk)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next fragment, of any size.

        Raises:
            MalformedDataSetError: What has come so far breaks the encoding rules.
        """
        if self._inflate is None:
            self._take(memoryview(data))
            return
        pending: bytes = bytes(data)
        while pending and not self._inflate.eof:
            try:
                plain = self._inflate.decompress(pending, _INFLATE_STEP)
            except zlib.error as exc:
                raise MalformedDataSetError(f"deflated data set: {exc}") from exc
            self._inflated_bytes += len(plain)
            if self._inflated_bytes > self._most_inflated_bytes:
                raise MalformedDataSetError(
                    f"the deflated data set inflates to more than {self._most_inflated_bytes} bytes"
                )
            self._take(memoryview(plain))
            pending = self._inflate.unconsumed_tail
            if not pending and not plain:
                break

    def finish(self) -> KeptValues:
        """Declare the data set ended.

        Raises:
            IncompleteInstanceError: It ended within an element, a sequence or a deflated stream.
        """
        if self._inflate is not None:
            self._take(memoryview(self._inflate.flush()))
            if not self._inflate.eof:
                raise IncompleteInstanceError("the deflated data set ends early")
        if self._between_elements and self._buffer and not self._buffer.strip(b"\0"):
            self._begin_padding()
            self._buffer.clear()
        if not self._between_elements or self._buffer:
            missing = abs(self._wanted) - len(self._buffer)
            raise IncompleteInstanceError(f"the data set ends early, {missing} bytes or more are missing")
        return KeptValues(
            raw=MappingProxyType(dict(self._kept)),
            remarks=tuple(self._remarks),
            has_issuer_qualifiers=self._has_issuer_qualifiers,
        )

    def _take(self, view: memoryview) -> None:
        position, end = 0, len(view)
        while position < end:
            if self._only_padding:
                if bytes(view[position:]).strip(b"\0"):
                    raise MalformedDataSetError("element 00000000 inside a data set")
                return
            if self._wanted < 0:
                step = min(-self._wanted, end - position)
                self._wanted += step
                position += step
                if self._wanted == 0:
                    self._wanted = self._walk.send(b"")
                continue
            step = min(self._wanted - len(self._buffer), end - position)
            self._buffer += view[position : position + step]
            position += step
            if len(self._buffer) == self._wanted:
                got = bytes(self._buffer)
                self._buffer.clear()
                self._wanted = self._walk.send(got)

    def _elements(self) -> _Walk:
        """The walk over the data set; yields what it needs next, see ``_Walk``."""
        levels: list[_Level] = []
        while True:
            inside_sequence = bool(levels) and not levels[-1].is_item
            self._between_elements = not levels
            head = yield 8
            self._between_elements = False
            group, element = struct.unpack_from("<HH", head)
            tag = group << 16 | element
            if inside_sequence:
                yield from self._item(tag, struct.unpack_from("<I", head, 4)[0], levels)
                continue
            if tag == _ITEM_END and levels:
                levels.pop()
                continue
            if not levels and self._is_stray(tag, head):
                continue
            implicit = levels[-1].implicit if levels else self._implicit
            yield from self._element(tag, head, implicit, levels)

    def _is_stray(self, tag: int, head: bytes) -> bool:
        """Whether a delimiter of nothing, or padding, stands where an element should."""
        if tag in (_ITEM_END, _SEQUENCE_END):
            self._remark("delimiters that delimit nothing")
            return True
        if tag == 0 and not head.strip(b"\0"):
            self._begin_padding()
        elif tag >> 16 == _META_GROUP:
            self._remark("elements of group 0002 in the data set")
        return self._only_padding

    def _begin_padding(self) -> None:
        self._only_padding = True
        self._remark("zeros after the last element")

    def _remark(self, remark: str) -> None:
        self._remarks[remark] = None

    def _item(self, tag: int, length: int, levels: list[_Level]) -> _Walk:
        if tag == _SEQUENCE_END:
            levels.pop()
        elif tag == _ITEM and length == _UNDEFINED:
            self._descend(levels, _Level(is_item=True, implicit=levels[-1].implicit))
        elif tag == _ITEM:
            if length:
                yield -length
        else:
            raise MalformedDataSetError(f"element {tag:08X} where a sequence item is due")

    def _element(self, tag: int, head: bytes, implicit: bool, levels: list[_Level]) -> _Walk:
        if tag >> 16 in {0, 0xFFFE}:
            raise MalformedDataSetError(f"element {tag:08X} inside a data set")
        length, vr = struct.unpack_from("<I", head, 4)[0], b""
        if not implicit:
            vr = head[4:6]
            if not is_vr(vr):
                raise MalformedDataSetError(f"element {tag:08X} has no value representation")
            if vr not in KNOWN_VRS:
                self._remark("unknown value representations")
            if is_short(vr):
                length = struct.unpack_from("<H", head, 6)[0]
            else:
                length = struct.unpack("<I", (yield 4))[0]
        if not levels and tag in PIXEL_TAGS:
            self._past_pixels = True
        if not levels and tag == _ISSUER_QUALIFIERS:
            self._has_issuer_qualifiers = True
        if length == _UNDEFINED:
            # UN of undefined length holds implicit VR, PS3.5 section 6.2.2 note 4.
            self._descend(levels, _Level(is_item=False, implicit=implicit or vr == b"UN"))
        elif not levels and tag in _KEPT:
            if length > _MAX_VALUE_BYTES:
                raise MalformedDataSetError(f"element {tag:08X} has {length} bytes")
            self._keep(tag, (yield length) if length else b"")
        elif length:
            yield -length

    def _keep(self, tag: int, value: bytes) -> None:
        """Keep a value; of two, readers take the first or the last, and some stop before the pixel data.

        Raises:
            MalformedDataSetError: Who or what the object is depends on who reads it.
        """
        if tag in self._kept:
            if self._kept[tag].rstrip(b" \0") != value.rstrip(b" \0"):
                raise MalformedDataSetError(f"element {tag:08X} comes twice, with different values")
            self._remark("elements that come twice")
        elif self._past_pixels:
            raise MalformedDataSetError(f"element {tag:08X} comes after the pixel data")
        self._kept[tag] = value

    @staticmethod
    def _descend(levels: list[_Level], level: _Level) -> None:
        if len(levels) >= _MAX_DEPTH:
            raise MalformedDataSetError(f"sequences nest deeper than {_MAX_DEPTH}")
        levels.append(level)


def _is_deflated(transfer_syntax_uid: str) -> bool:
    return transfer_syntax_uid == DeflatedExplicitVRLittleEndian
