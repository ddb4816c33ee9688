"""Reads Part 10 files as they come, not as they should be (DICOM PS3.10 section 7.1).

pydicom reads what is correct, and some of what is not. Where it differs from what the node takes in (the
length of an unknown VR, group 0002 within the data set, delimiters that delimit nothing) the header is
written anew first. What cannot be read at all is left out: one element, never the file.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, cast

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from service.codecs.deflated import MOST_INFLATED_BYTES, InflatesTooFarError, InflatingFile
from service.dicom.rewriting import Copy, MalformedElementError, PixelElement, copied
from service.dicom.vrs import is_vr
from service.errors import SemblanceError

_PREAMBLE_BYTES, _PREFIX_BYTES = 128, 132
_GROUP_LENGTH = struct.pack("<HH2sH", 2, 0, b"UL", 4)
_MOST_META_BYTES = 1 << 20
_MOST_HEADER_BYTES = 32 << 20  # of a deflated data set, before its pixel data
_STRAY_GROUPS = frozenset({0x0000, 0x0002, 0xFFFE})
READ_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, OSError, ValueError, LookupError,
    NotImplementedError, struct.error, AttributeError, TypeError, zlib.error, RecursionError, MemoryError,
    InflatesTooFarError,
)  # fmt: skip


class UnreadablePart10Error(SemblanceError):
    """No Part 10 file, or one that ends within an element."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A file up to its pixel data."""

    dataset: FileDataset  # with the file meta information
    pixels: PixelElement | None
    source: BinaryIO  # what the pixel element's offset counts in: the file, or what it inflates to
    remarks: tuple[str, ...]  # what was put right or left out: tags and reasons, no values


@dataclass(frozen=True, kw_only=True)
class _Start:
    """The beginning of a file."""

    meta: FileMetaDataset
    data_set_at: int  # bytes from the start
    first: bytes  # eight bytes of the data set

    @property
    def syntax(self) -> str:
        """Transfer Syntax UID; "" when the file does not say."""
        return str(self.meta.get("TransferSyntaxUID", ""))

    @property
    def is_ours_to_read(self) -> bool:
        """Whether it is encoded as the node takes it; of what is not, pydicom judges alone."""
        if self.syntax in ("", ExplicitVRBigEndian):
            return False
        is_explicit = self.syntax not in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
        return not is_explicit or len(self.first) < 8 or is_vr(self.first[4:6])


def read_header(source: BinaryIO) -> Header:
    """Read a file up to its pixel data.

    Args:
        source: A Part 10 file, at its start.

    Raises:
        UnreadablePart10Error: No Part 10 file, or it ends within an element.
    """
    start = _start(source)
    if not start.is_ours_to_read:
        dataset = _read_by_pydicom(source, stop_before_pixels=True)
        return Header(dataset=dataset, pixels=None, source=source, remarks=())
    stream, copy = _copy(source, start)
    dataset = _data_set(start, copy)
    return Header(dataset=dataset, pixels=copy.pixels, source=stream, remarks=tuple(copy.remarks))


def read_whole(source: BinaryIO) -> FileDataset:
    """Read a file with its pixel data, into memory.

    Args:
        source: A Part 10 file, at its start.

    Raises:
        UnreadablePart10Error: No Part 10 file, or it ends within an element.
    """
    start = _start(source)
    if not start.is_ours_to_read:
        return _read_by_pydicom(source)
    stream, copy = _copy(source, start)
    pixels = copy.pixels
    _check_end(stream, copy)
    if stream is source and not copy.remarks and (pixels is None or pixels.is_plain):
        return _read_by_pydicom(source)
    if pixels is not None:
        copy.elements.append(pixels.head + _rest(stream, pixels.offset))
    return _without_strays(_data_set(start, copy))


def _check_end(stream: BinaryIO, copy: Copy) -> None:
    """Refuse a file that ends within its native pixel data.

    Raises:
        UnreadablePart10Error: It does, or inflates too far.
    """
    at_least = 0 if copy.pixels is None else copy.pixels.offset + (copy.pixels.length or 0)
    try:
        end = stream.seek(0, os.SEEK_END)
    except (InflatesTooFarError, zlib.error) as exc:
        raise UnreadablePart10Error(f"the deflated data set is damaged: {exc}") from exc
    if end < at_least:
        raise UnreadablePart10Error("the file ends within its pixel data")


def _rest(stream: BinaryIO, offset: int) -> bytes:
    try:
        stream.seek(offset)
        return stream.read()
    except (InflatesTooFarError, zlib.error) as exc:
        raise UnreadablePart10Error(f"the deflated data set is damaged: {exc}") from exc


def _read_by_pydicom(source: BinaryIO, *, stop_before_pixels: bool = False) -> FileDataset:
    source.seek(0)
    try:
        return _without_strays(dcmread(source, stop_before_pixels=stop_before_pixels))
    except READ_ERRORS as exc:
        raise UnreadablePart10Error(f"not a readable DICOM file: {exc}") from exc


def _without_strays(dataset: FileDataset) -> FileDataset:
    """Without what trails the pixel data and is none of the data set's: padding, delimiters."""
    for tag in [tag for tag in dataset.keys() if tag >> 16 in _STRAY_GROUPS]:  # noqa: SIM118 -- tags alone
        del dataset[tag]
    return dataset


def _start(source: BinaryIO) -> _Start:
    """Read the file meta information, by its group length if it has one.

    Raises:
        UnreadablePart10Error: No Part 10 file.
    """
    prefix = source.read(_PREFIX_BYTES)
    if prefix[_PREAMBLE_BYTES:] != b"DICM":
        raise UnreadablePart10Error("not a DICOM Part 10 file")
    first = source.read(12)
    if first[:8] == _GROUP_LENGTH and len(first) == 12:
        length = min(struct.unpack("<I", first[8:])[0], _MOST_META_BYTES)
        encoded = first + source.read(length)
    else:
        encoded = first + source.read(_MOST_META_BYTES)
    stream = io.BytesIO(encoded)
    try:
        meta = FileMetaDataset(
            read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
        )
        meta.get("TransferSyntaxUID")
    except READ_ERRORS as exc:
        raise UnreadablePart10Error(f"the file meta information cannot be read: {exc}") from exc
    source.seek(_PREFIX_BYTES + stream.tell())
    return _Start(meta=meta, data_set_at=source.tell(), first=source.read(8))


def _copy(source: BinaryIO, start: _Start) -> tuple[BinaryIO, Copy]:
    """The header written anew, and the stream that its offsets count in."""
    source.seek(start.data_set_at)
    inflating = None
    if start.syntax == DeflatedExplicitVRLittleEndian:
        inflating = InflatingFile(source, _MOST_HEADER_BYTES)
        source = cast(BinaryIO, inflating)
    try:
        copy = copied(source, implicit=start.syntax == ImplicitVRLittleEndian)
    except (MalformedElementError, InflatesTooFarError, struct.error, zlib.error) as exc:
        raise UnreadablePart10Error(f"not a readable data set: {exc}") from exc
    if inflating is not None:
        inflating.most_bytes = MOST_INFLATED_BYTES
    return source, copy


def _data_set(start: _Start, copy: Copy) -> FileDataset:
    implicit = start.syntax == ImplicitVRLittleEndian
    try:
        dataset = read_dataset(io.BytesIO(b"".join(copy.elements)), implicit, True)
    except READ_ERRORS:
        dataset = _one_by_one(copy, implicit=implicit)
    made = FileDataset(io.BytesIO(), dataset, b"\0" * _PREAMBLE_BYTES, start.meta, implicit, True)
    made.set_original_encoding(implicit, True, dataset._character_set)
    return made


def _one_by_one(copy: Copy, *, implicit: bool) -> Dataset:
    """What can be read of a data set whose elements pydicom does not read together."""
    dataset = Dataset()
    for encoded in copy.elements:
        try:
            dataset.update(read_dataset(io.BytesIO(encoded), implicit, True))
        except READ_ERRORS as exc:
            group, element = struct.unpack_from("<HH", encoded)
            copy.remark(f"({group:04X},{element:04X}) left out: {type(exc).__name__}")
    return dataset
