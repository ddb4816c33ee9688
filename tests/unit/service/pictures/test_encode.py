"""Pictures as files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from service.errors import StoredMapError
from service.pictures.encode import decode, describe, encode_jpeg, encode_png


def picture() -> np.ndarray:
    rows, columns = np.mgrid[0:40, 0:61]
    return np.dstack([rows * 6, columns * 4, rows + columns]).astype(np.uint8)


def as_file(mode: str, kind: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(made, kind)
    return made.getvalue()


def test_png_keeps_every_pixel() -> None:
    assert np.array_equal(decode(encode_png(picture())), picture())
    assert describe(encode_png(picture())).format == "PNG"


def test_jpeg_is_baseline_4_2_2_and_close() -> None:
    data = encode_jpeg(picture(), 90)
    found = describe(data)
    assert (found.format, found.rows, found.columns) == ("JPEG", 40, 61)
    assert b"\xff\xc0" in data
    assert b"\xff\xc2" not in data  # not progressive
    frame = data[data.index(b"\xff\xc0") :]
    assert frame[11] == 0x21  # luminance sampled twice as often across, as often down
    assert np.abs(decode(data).astype(int) - picture()).mean() < 4
    assert encode_jpeg(picture(), 90) == data
    assert len(encode_jpeg(picture(), 60)) < len(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG\r\n", encode_png(picture())[:80], as_file("L"), as_file("RGBA"), as_file("RGB", "GIF")],
)
def test_what_is_no_rgb_picture_is_refused(data: bytes) -> None:
    with pytest.raises(StoredMapError):
        decode(data)
