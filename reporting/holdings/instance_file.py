"""A stored Part 10 file, read piece by piece: header, frames, single values; memory does not grow with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Self

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from service.dicom.part10 import READ_ERRORS, UnreadablePart10Error, read_header, read_whole
from service.dicom.pixels import frame_at, photometric_of
from service.dicom.rewriting import PixelElement
from service.errors import CorruptInstanceError, InconsistentInstanceError, RecordNotFoundError
from service.storage.local import InstanceStore

_CHUNK_BYTES = 1 << 18
_ITEM_BYTES = 8  # of the header of an item, of which every compressed frame has one
_ROWS, _COLUMNS, _BITS_ALLOCATED = 0x00280010, 0x00280011, 0x00280100


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
            read = read_header(self._file)
        except UnreadablePart10Error as exc:
            self._file.close()
            raise CorruptInstanceError(f"{sha256} is not a DICOM file: {exc}") from exc
        self.header: FileDataset = read.dataset
        self.pixels = read.pixels
        self.remarks = read.remarks  # what of the header was put right or left out
        self._buffer = read.source

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
        claimed = max(1, int(value)) if value.isascii() and value.isdigit() and len(value) < 12 else 1
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
            InconsistentInstanceError: The pixel data do not hold what the header says.
        """
        pixels = self.pixels
        if pixels is None or not 1 <= number <= self.number_of_frames:
            raise RecordNotFoundError(f"there is no frame {number}")
        if pixels.length is None:
            self._buffer.seek(pixels.offset)
            try:
                return frame_at(self._buffer, number - 1, self.number_of_frames)
            except READ_ERRORS as exc:
                raise InconsistentInstanceError(f"frame {number} cannot be found: {exc}") from exc
        length = self._frame_bytes(pixels.length)
        self._buffer.seek(pixels.offset + (number - 1) * length)
        return self._buffer.read(length)

    def frames(self) -> Iterator[bytes]:
        """Every frame as stored, one at a time.

        Raises:
            InconsistentInstanceError: The pixel data do not hold what the header says.
        """
        pixels = self.pixels
        if pixels is not None and pixels.length is None and self.number_of_frames > 1:
            self._buffer.seek(pixels.offset)
            try:
                yield from generate_frames(self._buffer, number_of_frames=self.number_of_frames)
            except READ_ERRORS as exc:
                raise InconsistentInstanceError(f"the frames cannot be found: {exc}") from exc
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
            InconsistentInstanceError: It ends within an element.
        """
        self._file.seek(0)
        try:
            return read_whole(self._file)
        except UnreadablePart10Error as exc:
            raise InconsistentInstanceError(str(exc)) from exc

    def _frame_bytes(self, length: int) -> int:
        """Length of one frame of native pixel data; there may be a byte of padding behind the last."""
        names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
        try:
            rows, columns, samples, bits = (int(self.header.get(name) or 0) for name in names)
            if photometric_of(self.header) == "YBR_FULL_422":
                samples = 2
        except READ_ERRORS as exc:
            raise InconsistentInstanceError("the header does not say how large a frame is") from exc
        if min(rows, columns, samples, bits) < 0:
            raise InconsistentInstanceError("the header does not say how large a frame is")
        if bits < 8:  # packed, frames not aligned: only as a whole
            return length // self.number_of_frames
        expected = rows * columns * samples * (bits // 8)
        if expected * self.number_of_frames > length or not expected:
            raise InconsistentInstanceError("the pixel data are shorter than the header says")
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
        try:
            items = ds[tag].value if ds[tag].VR == "SQ" else ()
        except READ_ERRORS as exc:
            raise RecordNotFoundError("the value is no sequence") from exc
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
