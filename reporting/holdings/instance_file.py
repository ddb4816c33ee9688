"""A stored Part 10 file, read piece by piece: header, frames, single values; memory does not grow with it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Self

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames, get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID, ImplicitVRLittleEndian

from service.codecs.deflated import InflatesTooFarError, read_header, read_whole
from service.errors import CorruptInstanceError, RecordNotFoundError
from service.storage.local import InstanceStore

_PIXEL_TAGS = {0x7FE00008: "OF", 0x7FE00009: "OD", 0x7FE00010: "OW"}
_UNDEFINED = 0xFFFFFFFF
_CHUNK_BYTES = 1 << 18
_ITEM_BYTES = 8  # of the header of an item, of which every compressed frame has one
_ROWS, _COLUMNS, _BITS_ALLOCATED = 0x00280010, 0x00280011, 0x00280100
READ_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, KeyError, NotImplementedError,
    struct.error, AttributeError, TypeError, InflatesTooFarError, MemoryError, RecursionError, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PixelElement:
    """Where pixel data lie."""

    tag: int  # Pixel Data, or Float or Double Float Pixel Data
    vr: str
    offset: int  # of the value, in the buffer
    length: int | None  # bytes; None of encapsulated pixel data


class InstanceFile:
    """An open instance; a context that closes it.

    Args:
        store: Holds the bytes.
        sha256: Of the Part 10 file.

    Raises:
        InstanceNotStoredError: Nothing under that SHA-256.
        CorruptInstanceError: Not a DICOM file.
    """

    def __init__(self, store: InstanceStore, sha256: str) -> None:
        self._file = store.open(sha256)
        try:
            self.header: FileDataset
            self._buffer: BinaryIO
            self.header, self._buffer = read_header(self._file)
            self.pixels = self._pixel_element()
        except READ_ERRORS as exc:
            self._file.close()
            raise CorruptInstanceError(f"{sha256} is not a DICOM file: {exc}") from exc

    def __enter__(self) -> Self:
        """Give the open file."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self._file.close()

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        at = self._file.tell()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(at)
        return size

    @property
    def transfer_syntax(self) -> UID:
        """Of the stored data set."""
        return UID(str(self.header.file_meta.TransferSyntaxUID))

    @property
    def number_of_frames(self) -> int:
        """0 without pixel data."""
        if self.pixels is None:
            return 0
        value = _text(self.header, 0x00280008)
        claimed = max(1, int(value)) if value.isascii() and value.isdigit() else 1
        return min(claimed, self._most_frames(self.pixels))

    def _most_frames(self, pixels: PixelElement) -> int:
        """What the pixel data have room for, whatever the header claims; at least 1."""
        if pixels.length is None:
            return max(1, self.size_bytes // _ITEM_BYTES)
        bits = [_number(self.header, tag) for tag in (_ROWS, _COLUMNS, _BITS_ALLOCATED)]
        return max(1, 8 * pixels.length // max(1, bits[0] * bits[1] * bits[2]))

    def chunks(self) -> Iterator[bytes]:
        """The file as stored, in pieces."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk

    def frame(self, number: int) -> bytes:
        """One frame as stored: native, or one compressed code stream.

        Args:
            number: From 1.

        Raises:
            RecordNotFoundError: There is no such frame.
            CorruptInstanceError: The pixel data do not hold what the header says.
        """
        pixels = self.pixels
        if pixels is None or not 1 <= number <= self.number_of_frames:
            raise RecordNotFoundError(f"there is no frame {number}")
        if pixels.length is None:
            self._buffer.seek(pixels.offset)
            try:
                return get_frame(self._buffer, number - 1, number_of_frames=self.number_of_frames)
            except READ_ERRORS as exc:
                raise CorruptInstanceError(f"frame {number} cannot be found: {exc}") from exc
        length = self._frame_bytes(pixels.length)
        self._buffer.seek(pixels.offset + (number - 1) * length)
        return self._buffer.read(length)

    def frames(self) -> Iterator[bytes]:
        """Every frame as stored, one at a time.

        Raises:
            CorruptInstanceError: The pixel data do not hold what the header says.
        """
        pixels = self.pixels
        if pixels is not None and pixels.length is None:
            self._buffer.seek(pixels.offset)
            try:
                yield from generate_frames(self._buffer, number_of_frames=self.number_of_frames)
            except READ_ERRORS as exc:
                raise CorruptInstanceError(f"the frames cannot be found: {exc}") from exc
            return
        for number in range(1, self.number_of_frames + 1):
            yield self.frame(number)

    def value_chunks(self, place: tuple[int | str, ...]) -> tuple[int, Iterator[bytes]]:
        """The bytes of one value.

        Args:
            place: Tags (as numbers) and, between them, item numbers from 1 as text.

        Returns:
            Length in bytes, and the bytes in pieces.

        Raises:
            RecordNotFoundError: There is no such value, or its pixel data are compressed (they have frames).
        """
        if self.pixels is not None and place == (self.pixels.tag,):
            if self.pixels.length is None:
                raise RecordNotFoundError("compressed pixel data are retrieved by frames")
            return self.pixels.length, self._native(self.pixels.offset, self.pixels.length)
        value = _value_at(self.header, place)
        return len(value), iter((value,))

    def whole(self) -> FileDataset:
        """The whole data set, in memory.

        Raises:
            CorruptInstanceError: It cannot be read, or inflates too far.
        """
        self._file.seek(0)
        try:
            return read_whole(self._file)
        except READ_ERRORS as exc:
            raise CorruptInstanceError(f"not a DICOM file: {exc}") from exc

    def _pixel_element(self) -> PixelElement | None:
        """Where the reading of the header stopped."""
        head = self._buffer.read(12)
        if len(head) < 8:
            return None
        group, element = struct.unpack_from("<HH", head)
        tag = group << 16 | element
        if tag not in _PIXEL_TAGS:
            return None
        start = self._buffer.tell() - len(head)
        if self.transfer_syntax == ImplicitVRLittleEndian:
            vr, length, offset = _PIXEL_TAGS[tag], struct.unpack_from("<I", head, 4)[0], start + 8
        else:
            vr, length, offset = head[4:6].decode("latin-1"), struct.unpack_from("<I", head, 8)[0], start + 12
        return PixelElement(tag=tag, vr=vr, offset=offset, length=None if length == _UNDEFINED else length)

    def _frame_bytes(self, length: int) -> int:
        """Length of one frame of native pixel data; there may be a byte of padding behind the last."""
        names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
        rows, columns, samples, bits = (int(self.header.get(name) or 0) for name in names)
        if self.header.get("PhotometricInterpretation") == "YBR_FULL_422":
            samples = 2
        if bits < 8:  # packed, frames not aligned: only as a whole
            return length // self.number_of_frames
        expected = rows * columns * samples * (bits // 8)
        if expected * self.number_of_frames > length or not expected:
            raise CorruptInstanceError("the pixel data are shorter than the header says")
        return expected

    def _native(self, offset: int, length: int) -> Iterator[bytes]:
        self._buffer.seek(offset)
        while length > 0:
            chunk = self._buffer.read(min(_CHUNK_BYTES, length))
            if not chunk:
                return
            length -= len(chunk)
            yield chunk


def _value_at(ds: Dataset, place: tuple[int | str, ...]) -> bytes:
    tag, rest = place[0], place[1:]
    if not isinstance(tag, int) or tag not in ds:
        raise RecordNotFoundError("there is no such value")
    if rest:
        items = ds[tag].value if ds[tag].VR == "SQ" else ()
        number = int(rest[0])
        if not 1 <= number <= len(items) or len(rest) < 2:
            raise RecordNotFoundError("there is no such item")
        return _value_at(items[number - 1], rest[1:])
    element = ds.get_item(tag)
    value = element.value
    if isinstance(element, RawDataElement) and value is None:
        return b""
    if not isinstance(value, bytes):
        raise RecordNotFoundError("the value is not bulk data")
    return value


def _number(ds: Dataset, tag: int) -> int:
    """Value of a US attribute as read, not converted; 0 when absent or malformed."""
    value = ds.get_item(tag).value if tag in ds else None
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) == 2 else 0
    return value if isinstance(value, int) else 0


def _text(ds: Dataset, tag: int) -> str:
    if tag not in ds:
        return ""
    value = ds.get_item(tag).value
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value or "").strip()
