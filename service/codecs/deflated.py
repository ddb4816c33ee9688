"""Deflated data sets (PS3.5 section A.5) read as they are inflated: a megabyte may hold a gigabyte."""

from __future__ import annotations

import io
import os
import zlib
from typing import BinaryIO, cast

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from service.errors import UndecodablePhotographError

MOST_INFLATED_BYTES = 500_000_000  # of a data set; as much as the largest photograph, with its header
_MOST_HEADER_BYTES = 64 << 20  # before the pixel data
_STEP_BYTES = 1 << 18
_SOURCE_STEP_BYTES = 1 << 16
_PIXEL_DATA = {0x7FE00008, 0x7FE00009, 0x7FE00010}


class InflatesTooFarError(UndecodablePhotographError):
    """A deflated data set inflates to more than a photograph can have."""


class InflatingFile(io.BufferedIOBase):
    """The inflated bytes as a file; what lies behind is inflated again when it is asked for."""

    def __init__(self, source: BinaryIO, most_bytes: int = MOST_INFLATED_BYTES) -> None:
        """Nothing is inflated yet.

        Args:
            source: At the beginning of the deflated bytes; stays the caller's to close.
            most_bytes: That may come out.
        """
        self._source = source
        self._start = source.tell()
        self.most_bytes = most_bytes
        self._restart()

    def _restart(self) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._source_at = self._start
        self._pending = b""
        self._before = self._now = b""  # the last two pieces inflated
        self._now_at = 0
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes, backwards at the price of inflating again."""
        return True

    def tell(self) -> int:
        """Of the inflated bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; past the end, to the end.

        Raises:
            InflatesTooFarError, zlib.error: See ``read``.
        """
        if whence == os.SEEK_END:
            while self._more():
                pass
            offset += self._now_at + len(self._now)
        elif whence == os.SEEK_CUR:
            offset += self._at
        if offset < self._now_at - len(self._before):
            self._restart()
        while offset > self._now_at + len(self._now) and self._more():
            pass
        self._at = min(offset, self._now_at + len(self._now))
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, or all.

        Raises:
            InflatesTooFarError: More comes out than may, or is asked for at once than may be.
            zlib.error: It is no deflated stream.
        """
        wanted = self.most_bytes if size is None or size < 0 else size
        if wanted > self.most_bytes:
            raise InflatesTooFarError(f"one value of a deflated data set has {size} bytes")
        parts: list[bytes] = []
        while wanted > 0:
            part = self._held(wanted)
            if not part:
                if not self._more():
                    break
                continue
            parts.append(part)
            wanted -= len(part)
            self._at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _held(self, wanted: int) -> bytes:
        """What is inflated already at the present place."""
        at = self._at - self._now_at
        if at < 0:
            at += len(self._before)
            return self._before[at : at + wanted]
        return self._now[at : at + wanted]

    def _more(self) -> bool:
        """Inflate a further piece; False at the end."""
        while not self._inflate.eof:
            if not self._pending:
                self._source.seek(self._source_at)
                self._pending = self._source.read(_SOURCE_STEP_BYTES)
                self._source_at += len(self._pending)
            is_last = not self._pending
            piece = self._inflate.decompress(self._pending, _STEP_BYTES)
            self._pending = self._inflate.unconsumed_tail
            if is_last and not piece:
                return False
            if piece:
                self._now_at += len(self._now)
                self._before, self._now = self._now, piece
                if self._now_at + len(piece) > self.most_bytes:
                    raise InflatesTooFarError(f"the data set inflates to more than {self.most_bytes} bytes")
                return True
        return False


def read_header(stream: BinaryIO) -> tuple[FileDataset, BinaryIO]:
    """Read a Part 10 file up to its pixel data.

    Args:
        stream: At its beginning.

    Returns:
        The header, and a stream that stands at the pixel data: the one given, or its inflated bytes.

    Raises:
        InflatesTooFarError: See ``InflatingFile``.
        InvalidDicomError and what else pydicom raises: It is no such file.
    """
    inflated = _inflating(stream)
    if inflated is None:
        return dcmread(stream, stop_before_pixels=True), stream
    inflated.most_bytes = _MOST_HEADER_BYTES
    header = _data_set(stream, inflated, whole=False)
    inflated.most_bytes = MOST_INFLATED_BYTES
    return header, cast(BinaryIO, inflated)


def read_whole(stream: BinaryIO) -> FileDataset:
    """Read a Part 10 file with its pixel data; arguments and errors as of ``read_header``."""
    inflated = _inflating(stream)
    return dcmread(stream) if inflated is None else _data_set(stream, inflated, whole=True)


def is_deflated(stream: BinaryIO) -> bool:
    """Whether a Part 10 file's data set is deflated; the stream is where it was.

    Raises:
        InvalidDicomError and what else pydicom raises: It is no such file.
    """
    begin = stream.tell()
    deflated = _inflating(stream) is not None
    stream.seek(begin)
    return deflated


def _inflating(stream: BinaryIO) -> InflatingFile | None:
    """The inflated bytes of a file that is deflated; else None, and the stream is where it was."""
    begin = stream.tell()
    read_preamble(stream, False)
    meta = _read_file_meta_info(stream)
    if str(meta.get("TransferSyntaxUID", "")) == DeflatedExplicitVRLittleEndian:
        return InflatingFile(stream)
    stream.seek(begin)
    return None


def _data_set(stream: BinaryIO, inflated: InflatingFile, *, whole: bool) -> FileDataset:
    stream.seek(0)
    preamble = read_preamble(stream, False)
    meta = _read_file_meta_info(stream)
    found = read_dataset(cast(BinaryIO, inflated), False, True, stop_when=None if whole else _at_pixel_data)
    return FileDataset(
        cast(BinaryIO, inflated), found, preamble, meta, is_implicit_VR=False, is_little_endian=True
    )


def _at_pixel_data(tag: BaseTag, vr: str | None, length: int) -> bool:
    return int(tag) in _PIXEL_DATA
