"""Damaged pictures are refused, and what cameras and telephones write is read."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from service.codecs.decode import decode_frame, read_picture
from service.codecs.frame import FrameGeometry
from service.codecs.pool import CodecPool
from service.errors import PhotographError, UndecodablePhotographError

# A picture of 64 x 48 pixels, blue with a red quarter at its upper left, as a telephone writes HEIC.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    "AAAAAERAAAEAAQAAAAABoQABAAAAAAAAAE0AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/Wlw"
    "cnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AA"
    "AAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAA"
    "QAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWB"
    "AgMFhAAAAFVtZGF0AAAASSgBrxOA5TH3/7bJP9j1P8JyZk6gxCi5Pz7e3v6essQbjdkuk/KJvj0+Vf8546YLB6rYMFG4slRkxtYWopMDBAZ4"
    "jtFErZX89kA="
)


@pytest.fixture(scope="module")
def pool():
    made = CodecPool(1)
    yield made
    made.close()


def _picture():
    rng = np.random.default_rng(0)
    rough = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((320, 240)), int)
    return np.clip(rough + rng.integers(-20, 20, rough.shape), 0, 255).astype(np.uint8)


def _jpeg(**options):
    out = io.BytesIO()
    Image.fromarray(_picture()).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def _cut(data):
    """The first half, with an end marker put behind it: no decoder asks for more."""
    return data[: len(data) // 2] + b"\xff\xd9"


def _scratched(data):
    middle = len(data) // 2
    scratch = np.random.default_rng(0).integers(0, 255, 200, dtype=np.uint8).tobytes()
    return data[:middle] + scratch + data[middle + len(scratch) :]


def _without_last_scan(data):
    return data[: data.rindex(b"\xff\xda")] + b"\xff\xd9"


@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_jpeg_is_read(pool, progressive):
    picture = read_picture(_jpeg(progressive=progressive), pool)
    assert np.abs(picture.rgb.astype(int) - _picture()).mean() < 12


@pytest.mark.parametrize(
    ("damage", "progressive"), [(_cut, False), (_scratched, False), (_cut, True), (_without_last_scan, True)]
)
def test_a_damaged_jpeg_is_refused_as_file_and_as_frame(pool, damage, progressive):
    data = damage(_jpeg(progressive=progressive))
    with Image.open(io.BytesIO(data)) as image:  # the decoder itself says nothing
        image.load()
    with pytest.raises(UndecodablePhotographError, match=r"damaged|cut short"):
        read_picture(data, pool)
    geometry = FrameGeometry(
        rows=240,
        columns=320,
        samples_per_pixel=3,
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        photometric_interpretation="YBR_FULL_422",
    )
    with pytest.raises(UndecodablePhotographError, match=r"damaged|cut short"):
        decode_frame(data, geometry, pool)


def test_heic_is_read(pool):
    picture = read_picture(HEIC, pool)
    assert picture.rgb.shape == (48, 64, 3)
    red, blue = picture.rgb[10, 10].astype(int), picture.rgb[40, 50].astype(int)
    assert red[0] - red[2] > 100
    assert blue[2] - blue[0] > 80


def test_a_damaged_heic_is_refused(pool):
    with pytest.raises(PhotographError):
        read_picture(HEIC[:430], pool)


def test_avif_is_read_and_turned_as_it_says(pool):
    out = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(_picture()).save(out, "AVIF", quality=90, exif=exif)
    picture = read_picture(out.getvalue(), pool)
    expected = np.rot90(_picture(), -1).astype(int)
    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb.astype(int) - expected).mean() < 12
