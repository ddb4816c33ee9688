"""Writes a data set anew as the standard has it, element by element (DICOM PS3.5 section 7).

The encoding rules are those by which the node takes data sets in; values are not judged here.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from service.dicom.text import character_sets
from service.dicom.vrs import KNOWN_VRS, is_short
from service.errors import SemblanceError

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = (_ITEM, _ITEM_END, _SEQUENCE_END)
_SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_TAGS = {0x7FE00008: "OF", 0x7FE00009: "OD", 0x7FE00010: "OW"}
_PIXEL_VRS = frozenset({"OB", "OW", "OF", "OD"})
_OPAQUE = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW"})  # of undefined length: fragments
_MOST_DEPTH = 64  # of sequences


class MalformedElementError(SemblanceError):
    """The encoding rules are broken, or the data set ends within an element."""


@dataclass(frozen=True, kw_only=True)
class PixelElement:
    """Where pixel data lie."""

    tag: int  # Pixel Data, or Float or Double Float Pixel Data
    vr: str  # OB, OW, OF or OD
    offset: int  # of the value
    length: int | None  # bytes; None of encapsulated pixel data
    head: bytes  # tag, VR and length as the standard has them
    is_plain: bool  # whether they came so


@dataclass(kw_only=True)
class Copy:
    """A data set up to its pixel data."""

    elements: list[bytes] = field(default_factory=list)  # of the top level, whole
    remarks: list[str] = field(default_factory=list)  # what is not as it came; tags and reasons
    pixels: PixelElement | None = None

    def remark(self, text: str) -> None:
        """Note what is not as it came, once."""
        if text not in self.remarks:
            self.remarks.append(text)


@dataclass(frozen=True, kw_only=True)
class _Head:
    """What comes before a value."""

    tag: int
    vr: bytes  # b"" in implicit VR
    length: int
    encoded: bytes

    @property
    def name(self) -> str:
        return f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"


def copied(source: BinaryIO, *, implicit: bool) -> Copy:
    """Copy a data set up to its pixel data.

    Args:
        source: At the data set's start.
        implicit: Whether it is in implicit VR; it is little endian.

    Raises:
        MalformedElementError: It ends within an element, or nests without end.
    """
    copy = Copy()
    while (first := source.read(8)) and not _is_padding(first, copy):
        if len(first) < 8:
            raise MalformedElementError("the data set ends within an element")
        head = _head(source, first, implicit=implicit)
        if head.tag in PIXEL_TAGS:
            copy.pixels = _pixel_element(head, source.tell())
            break
        if head.tag in _DELIMITERS:
            copy.remark(f"{head.name} delimits nothing: left out")
        elif head.tag >> 16 in (0x0000, 0x0002, 0xFFFE):
            _value(source, head)
            copy.remark(f"{head.name} within the data set: left out")
        else:
            copy.elements.append(_element(source, head, copy, depth=0))
    return copy


def _is_padding(first: bytes, copy: Copy) -> bool:
    """Whether nothing but zeros comes, where an element should begin."""
    if first.strip(b"\0"):
        return False
    copy.remark("zeros after the last element: left out")
    return True


def _head(source: BinaryIO, first: bytes, *, implicit: bool) -> _Head:
    group, element = struct.unpack_from("<HH", first)
    tag = group << 16 | element
    if implicit or tag in _DELIMITERS:
        return _Head(tag=tag, vr=b"", length=struct.unpack_from("<I", first, 4)[0], encoded=first)
    vr = first[4:6]
    if is_short(vr):
        return _Head(tag=tag, vr=vr, length=struct.unpack_from("<H", first, 6)[0], encoded=first)
    more = source.read(4)
    return _Head(tag=tag, vr=vr, length=struct.unpack("<I", more)[0], encoded=first + more)


def _pixel_element(head: _Head, offset: int) -> PixelElement:
    own = PIXEL_TAGS[head.tag]
    named = head.vr.decode("latin-1")
    encapsulated = head.length == _UNDEFINED
    vr = named if named in _PIXEL_VRS else "OB" if encapsulated else own
    made = _tag(head.tag) + vr.encode() + struct.pack("<HI", 0, head.length) if head.vr else head.encoded
    return PixelElement(
        tag=head.tag,
        vr=vr,
        offset=offset,
        length=None if encapsulated else head.length,
        head=made,
        is_plain=made == head.encoded,
    )


def _value(source: BinaryIO, head: _Head) -> bytes:
    """The value of an element of defined length.

    Raises:
        MalformedElementError: There is less of it.
    """
    if head.length == _UNDEFINED:
        raise MalformedElementError(f"{head.name} has no length")
    value = source.read(head.length)
    if len(value) < head.length:
        raise MalformedElementError(f"the data set ends within {head.name}")
    return value


def _element(source: BinaryIO, head: _Head, copy: Copy, *, depth: int) -> bytes:
    """One element as the standard has it."""
    if depth > _MOST_DEPTH:
        raise MalformedElementError(f"sequences nest deeper than {_MOST_DEPTH}")
    implicit = not head.vr
    if head.length == _UNDEFINED:
        items = _items(
            source, copy, implicit=implicit or head.vr == b"UN", opaque=head.vr in _OPAQUE, depth=depth
        )
        if not implicit and head.vr not in KNOWN_VRS:
            copy.remark(f"{head.name} is of an unknown VR: read as a sequence")
            return _tag(head.tag) + b"SQ\0\0" + struct.pack("<I", _UNDEFINED) + items
        return head.encoded + items
    value = _value(source, head)
    if head.tag == _SPECIFIC_CHARACTER_SET:
        return _character_set(head, value, copy)
    if implicit or head.vr in KNOWN_VRS:
        return _sequence(head, value, copy, depth=depth) if head.vr == b"SQ" else head.encoded + value
    copy.remark(f"{head.name} is of an unknown VR: kept as bytes")
    return _long(head.tag, b"UN", value)


def _sequence(head: _Head, value: bytes, copy: Copy, *, depth: int) -> bytes:
    """A sequence of defined length; what cannot be taken apart stays as bytes."""
    source = io.BytesIO(value)
    try:
        items = _items(source, copy, implicit=False, opaque=False, depth=depth, end=len(value))
    except (MalformedElementError, struct.error):
        copy.remark(f"{head.name} is no sequence of items: kept as bytes")
        return _long(head.tag, b"UN", value)
    return head.encoded + items if items == value else _long(head.tag, b"SQ", items)


def _items(
    source: BinaryIO, copy: Copy, *, implicit: bool, opaque: bool, depth: int, end: int | None = None
) -> bytes:
    """Items up to their delimiter, which is copied, or up to the end of a sequence of defined length."""
    made = bytearray()
    while end is None or source.tell() < end:
        first = source.read(8)
        if len(first) < 8:
            raise MalformedElementError("a sequence ends early")
        head = _head(source, first, implicit=True)
        if head.tag == _SEQUENCE_END:
            made += first if end is None else b""
            break
        if head.tag != _ITEM:
            raise MalformedElementError(f"{head.name} where a sequence item is due")
        if head.length == _UNDEFINED:
            made += first + _item(source, copy, implicit=implicit, depth=depth)
            continue
        content = _value(source, head)
        if not opaque and not implicit:
            content = _item(io.BytesIO(content), copy, implicit=False, depth=depth, end=len(content))
        made += struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return bytes(made)


def _item(source: BinaryIO, copy: Copy, *, implicit: bool, depth: int, end: int | None = None) -> bytes:
    """Elements of an item up to its delimiter, which is copied, or to the end of one of defined length."""
    made = bytearray()
    while end is None or source.tell() < end:
        first = source.read(8)
        if len(first) < 8:
            raise MalformedElementError("a sequence item ends early")
        head = _head(source, first, implicit=implicit)
        if head.tag == _ITEM_END:
            made += first if end is None else b""
            break
        made += _element(source, head, copy, depth=depth + 1)
    return bytes(made)


def _character_set(head: _Head, value: bytes, copy: Copy) -> bytes:
    meant = "\\".join(character_sets(value)).encode("ascii")
    if meant == value.rstrip(b" \0"):
        return head.encoded + value
    copy.remark(f"{head.name} is no defined term: read as {meant.decode() or 'the default'}")
    meant += b" " * (len(meant) % 2)
    if not head.vr:
        return _tag(head.tag) + struct.pack("<I", len(meant)) + meant
    return _tag(head.tag) + b"CS" + struct.pack("<H", len(meant)) + meant


def _long(tag: int, vr: bytes, value: bytes) -> bytes:
    return _tag(tag) + vr + struct.pack("<HI", 0, len(value)) + value


def _tag(tag: int) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)
