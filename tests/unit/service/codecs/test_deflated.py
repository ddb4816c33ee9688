"""Deflated data sets: read as they are inflated, and no further than a photograph can be."""

from __future__ import annotations

import io
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from service.appraisal.photograph.decode import photograph_from_bytes
from service.codecs.deflated import InflatesTooFarError, InflatingFile, read_header, read_whole
from service.errors import UndecodablePhotographError
from tests.unit.appraisal.photographs import native, part10, portrait

MOST_BYTES = 40 << 20  # of memory, for reading the header of whatever inflates to a gigabyte


def deflated(**elements: object) -> bytes:
    ds = native(portrait(), **elements)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return part10(ds)


def bomb(element: bytes, size: int = 1 << 30) -> bytes:
    """A deflated file whose last element inflates to zeros without end."""
    plain = native(portrait())
    del plain.PixelData
    plain.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    start = part10(plain)
    header = io.BytesIO(start)
    read_header(header)
    at = start.index(zlib_start(start))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [packer.compress(zlib.decompress(start[at:], -zlib.MAX_WBITS)), packer.compress(element)]
    zeros = bytes(1 << 20)
    pieces += [packer.compress(zeros) for _ in range(size >> 20)]
    return start[:at] + b"".join(pieces) + packer.flush()


def zlib_start(content: bytes) -> bytes:
    """The deflated part of a Part 10 file."""
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


PIXEL_DATA = b"\xe0\x7f\x10\x00OW\0\0" + (1 << 30).to_bytes(4, "little")
PRIVATE = b"\x31\x00\x10\x00OB\0\0" + (1 << 30).to_bytes(4, "little")


def test_what_is_read_is_what_pydicom_reads():
    content = deflated()
    assert read_whole(io.BytesIO(content)) == dcmread(io.BytesIO(content))
    header, stream = read_header(io.BytesIO(content))
    assert header == dcmread(io.BytesIO(content), stop_before_pixels=True)
    assert stream.read(4) == b"\xe0\x7f\x10\x00"
    assert np.array_equal(photograph_from_bytes(content).rgb, portrait())


def test_going_back_inflates_again():
    plain = np.random.default_rng(0).bytes(3 << 20)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    file = InflatingFile(io.BytesIO(packer.compress(plain) + packer.flush()))
    for at in (0, 2 << 20, 100, (3 << 20) - 10, 1 << 20):
        file.seek(at)
        assert file.read(1000) == plain[at : at + 1000]
    assert file.seek(0, 2) == len(plain)
    assert file.read(1) == b""


@pytest.mark.parametrize("element", [PIXEL_DATA, PRIVATE], ids=["pixel data", "a private value"])
def test_a_bomb_costs_no_memory(element):
    content = bomb(element)
    assert len(content) < 2 << 20
    tracemalloc.start()
    try:
        with pytest.raises(UndecodablePhotographError):
            photograph_from_bytes(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


def test_the_whole_of_a_bomb_is_refused():
    with pytest.raises(InflatesTooFarError):
        read_whole(io.BytesIO(bomb(PIXEL_DATA)))


def test_a_million_frames_that_are_not_there_are_refused():
    with pytest.raises(UndecodablePhotographError):
        photograph_from_bytes(deflated(NumberOfFrames=1_000_000))
