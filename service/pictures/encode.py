"""Pictures as files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from service.errors import StoredMapError

JPEG_QUALITY: Final = 90
_PNG_EFFORT: Final = 3  # of zlib; more costs several times the time for a few hundredths of the size


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What a picture's own file says of it."""

    format: str  # "JPEG" or "PNG"
    rows: int
    columns: int


def encode_jpeg(rgb: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """Encode (H, W, 3) uint8 sRGB as baseline JPEG, YCbCr 4:2:2 (ITU-T T.81 process 1)."""
    made = io.BytesIO()
    Image.fromarray(rgb).save(made, "JPEG", quality=quality, subsampling="4:2:2", optimize=True)
    return made.getvalue()


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) uint8 sRGB as PNG."""
    made = io.BytesIO()
    Image.fromarray(rgb).save(made, "PNG", compress_level=_PNG_EFFORT)
    return made.getvalue()


def describe(data: bytes) -> Encoded:
    """Read a picture's header, without decoding it.

    Raises:
        StoredMapError: Neither an RGB JPEG nor an RGB PNG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
            if image.mode != "RGB":
                raise StoredMapError(f"the picture is {image.mode}, not RGB")
            return Encoded(format=str(image.format), rows=image.height, columns=image.width)
    except (UnidentifiedImageError, OSError, SyntaxError) as exc:
        raise StoredMapError("the picture cannot be read") from exc


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG picture: (H, W, 3) uint8, sRGB.

    Raises:
        StoredMapError: Not an RGB picture.
    """
    describe(data)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError) as exc:
        raise StoredMapError("the picture cannot be decoded") from exc
