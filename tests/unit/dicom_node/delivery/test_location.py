"""The place of taking goes out of the JPEG frames; nothing else changes, not even a length."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames, itemize_fragment
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.delivery.location import without_location
from service.errors import UndecodablePhotographError
from tests.dicom_objects import photograph
from tests.jpeg_files import jpeg


def part10(*frames: bytes, fragments_per_frame: int = 1) -> bytes:
    ds = photograph()
    ds.add_new(0x00991001, "UN", b"\x00\x01\xfe\xff")
    ds.NumberOfFrames = len(frames)
    ds.PixelData = encapsulate(list(frames), fragments_per_frame=fragments_per_frame)
    ds["PixelData"].is_undefined_length = True
    return written(ds)


def written(ds: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def frames(content: bytes) -> list[bytes]:
    ds = dcmread(BytesIO(content))
    return list(generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames)))


@pytest.mark.parametrize("endian", ["<", ">"])
def test_gps_is_gone_and_the_rest_of_the_exif_stays(endian: str) -> None:
    (frame,) = frames(without_location(part10(jpeg(endian=endian))))
    exif = Image.open(BytesIO(frame)).getexif()
    assert exif.get_ifd(ExifTags.IFD.GPSInfo) == {}
    assert ExifTags.IFD.GPSInfo not in exif
    assert exif[ExifTags.Base.Make] == "CAMERA"
    assert exif[ExifTags.Base.Orientation] == 6
    assert exif[ExifTags.Base.Artist] == "after the pointer no entry may be lost"
    assert b"FELLOWSHIP-OF-GPS" not in frame


def test_gps_is_gone_from_xmp_and_the_rest_of_it_stays() -> None:
    (frame,) = frames(without_location(part10(jpeg(place=False))))
    assert b"51,13.62N" not in frame
    assert b"6,46.86E" not in frame
    assert b"1233/10" not in frame
    assert b"GPS" not in frame
    assert b'tiff:Make="CAMERA"' in frame


def test_every_other_byte_stays_and_so_do_the_pixels() -> None:
    before = part10(jpeg())
    after = without_location(before)
    assert len(after) == len(before)
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    scan = before.index(b"\xff\xda")
    header = before.index(b"\xff\xd8")
    assert changed
    assert header < min(changed)
    assert max(changed) < scan
    old, new = dcmread(BytesIO(before)), dcmread(BytesIO(after))
    assert old.file_meta == new.file_meta
    assert (old.pixel_array == new.pixel_array).all()
    assert new[0x0099, 0x1001].value == b"\x00\x01\xfe\xff"


@pytest.mark.parametrize("fragments", [1, 2, 3, 40])
def test_a_directory_may_lie_over_fragments_and_frames_are_many(fragments: int) -> None:
    content = part10(*(jpeg(seed) for seed in range(3)), fragments_per_frame=fragments)
    after = without_location(content)
    assert len(after) == len(content)
    for frame in frames(after):
        assert Image.open(BytesIO(frame)).getexif().get_ifd(ExifTags.IFD.GPSInfo) == {}
    old, new = dcmread(BytesIO(content)), dcmread(BytesIO(after))
    assert [f[: f.index(b"\xff\xda")] for f in frames(after)] != [
        f[: f.index(b"\xff\xda")] for f in frames(content)
    ]
    assert (old.pixel_array == new.pixel_array).all()


def test_without_a_place_the_bytes_are_the_same_object() -> None:
    content = part10(jpeg(place=False, xmp=False))
    assert without_location(content) is content
    plain = written(photograph(transfer_syntax=ExplicitVRLittleEndian))
    assert without_location(plain) is plain


def test_twice_is_as_once() -> None:
    once = without_location(part10(jpeg()))
    assert without_location(once) == once


def test_a_broken_exif_is_blanked_whole() -> None:
    frame = bytearray(jpeg(xmp=False))
    tiff = frame.index(b"Exif\0\0") + 6
    frame[tiff + 4 : tiff + 8] = b"\xff\xff\xff\x7f"  # the first directory lies nowhere
    (after,) = frames(without_location(part10(bytes(frame))))
    assert b"FELLOWSHIP-OF-GPS" not in after
    assert b"CAMERA" not in after


def test_a_cut_object_is_an_error() -> None:
    content = part10(jpeg())
    with pytest.raises(UndecodablePhotographError, match="end early"):
        without_location(content[:-200])
    with pytest.raises(UndecodablePhotographError, match="not a DICOM object"):
        without_location(b"no DICOM at all")


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_damaged_headers_never_raise_nor_change_a_length(seed: int, damage: int) -> None:
    chance = np.random.default_rng(seed)
    frame = bytearray(jpeg())
    for _ in range(damage):
        frame[chance.integers(2, 700)] = int(chance.integers(256))
    ds = photograph()
    padded = bytes(frame) + b"\0" * (len(frame) % 2)
    ds.PixelData = itemize_fragment(b"") + itemize_fragment(padded) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    ds["PixelData"].is_undefined_length = True
    content = written(ds)
    assert len(without_location(content)) == len(content)
