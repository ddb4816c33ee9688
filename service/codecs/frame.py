"""What crosses the border between us and the decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.errors import UndecodablePhotographError, UnsupportedPhotographError

if TYPE_CHECKING:  # the child imports this module, and is to stay small
    from pydicom.dataset import Dataset

CAMERA_BITS = (8, 10, 12, 14)  # that a camera fills of samples said to be of 16, the first that holds them
MAX_PIXELS = 150_000_000  # of a frame; larger than any camera in clinical use


@dataclass(frozen=True, kw_only=True)
class FrameGeometry:
    """What the data set says of a compressed frame (PS3.3 section C.7.6.3)."""

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int  # 0: unsigned, 1: two's complement
    photometric_interpretation: str
    reduction: int = 1  # by which the sides of an 8-bit JPEG are decoded smaller: 1, 2 or 4


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedFrame:
    """Samples out of a code stream, in memory that nobody can write to any more."""

    pixels: NDArray[np.generic]  # (H, W) or (H, W, C), 8 or 16 bits, not writeable; reduced as asked for
    photometric_interpretation: str  # of these samples


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedPicture:
    """A picture file, upright and in sRGB."""

    rgb: NDArray[np.uint8]  # (H, W, 3) uint8, sRGB, not writeable
    notes: tuple[str, ...]  # what had to be assumed
    sent_size: tuple[int, int] | None = None  # rows and columns of the file; None: those of ``rgb``


def geometry_of(ds: Dataset) -> FrameGeometry:
    """Read the geometry out of a data set.

    Raises:
        UndecodablePhotographError: An attribute is missing or no number.
        UnsupportedPhotographError: More pixels than are decoded.
    """
    try:
        geometry = FrameGeometry(
            rows=int(ds.Rows),
            columns=int(ds.Columns),
            samples_per_pixel=int(ds.SamplesPerPixel),
            bits_allocated=int(ds.BitsAllocated),
            bits_stored=int(ds.BitsStored),
            pixel_representation=int(ds.get("PixelRepresentation") or 0),
            photometric_interpretation=str(ds.PhotometricInterpretation).strip(" \0").upper(),
        )
    except (AttributeError, TypeError, ValueError) as exc:
        raise UndecodablePhotographError(f"the data set does not describe its pixels: {exc}") from exc
    if geometry.rows * geometry.columns > MAX_PIXELS:
        size = f"{geometry.columns} x {geometry.rows}"
        raise UnsupportedPhotographError(f"{size} pixels are more than {MAX_PIXELS}")
    return geometry
