"""Code streams of every family, whole and damaged, and what a data set says of them."""

from __future__ import annotations

import io

import numpy as np
from imagecodecs import jpeg8_encode
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from service.codecs.frame import FrameGeometry
from tests.unit.appraisal.photographs import encoded, jpeg

FAMILIES = ("jpeg", "progressive", "jpeg-12", "lossless", "lossless-12", "jpeg-ls", "jpeg-2000")


def pixels(side: int = 48) -> np.ndarray:
    """(side, side + 16, 3) uint8: gradients and a disc."""
    down, across = np.mgrid[0:side, 0 : side + 16]
    disc = ((down - side / 2) ** 2 + (across - side / 2) ** 2 < (side / 3) ** 2) * 90
    return (
        np.stack((down * 3 + disc, across * 2 + disc, (down + across)), axis=-1).clip(0, 255).astype(np.uint8)
    )


def geometry(array: np.ndarray, bits: int = 8, photometric: str = "RGB") -> FrameGeometry:
    """What a truthful data set says of these pixels."""
    return FrameGeometry(
        rows=array.shape[0],
        columns=array.shape[1],
        samples_per_pixel=1 if array.ndim == 2 else 3,
        bits_allocated=8 if bits == 8 else 16,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation=photometric,
    )


def stream(family: str, array: np.ndarray | None = None) -> tuple[bytes, FrameGeometry]:
    """A code stream of a family, and its geometry."""
    array = pixels() if array is None else array
    deep = array.astype(np.uint16) * 16
    made = {
        "jpeg": lambda: (jpeg(array), geometry(array, photometric="YBR_FULL_422")),
        "progressive": lambda: (jpeg(array, progressive=True), geometry(array, photometric="YBR_FULL_422")),
        "jpeg-12": lambda: (
            jpeg8_encode(deep, level=95, bitspersample=12),
            geometry(array, 12, "YBR_FULL_422"),
        ),
        "lossless": lambda: (jpeg8_encode(array, lossless=True), geometry(array)),
        "lossless-12": lambda: (jpeg8_encode(deep, lossless=True, bitspersample=12), geometry(array, 12)),
        "jpeg-ls": lambda: (_by_pydicom(array, JPEGLSLossless), geometry(array)),
        "jpeg-2000": lambda: (_by_pydicom(array, JPEG2000Lossless), geometry(array, photometric="YBR_RCT")),
    }
    return made[family]()  # type: ignore[return-value]


def _by_pydicom(array: np.ndarray, syntax: str) -> bytes:
    dataset = dcmread(io.BytesIO(encoded(array, syntax)))
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """Damage a stream: bytes changed, cut out, doubled, or the end moved up."""
    damaged = bytearray(whole)
    for _ in range(int(rng.integers(1, 9))):
        at = int(rng.integers(2, len(damaged)))
        match int(rng.integers(0, 6)):
            case 0 | 1 | 2:
                damaged[at] = int(rng.integers(0, 256))
            case 3:
                damaged[at] ^= 1 << int(rng.integers(0, 8))
            case 4:
                del damaged[at : at + int(rng.integers(1, 17))]
            case _:
                damaged[at:at] = damaged[at : at + int(rng.integers(1, 17))]
        if len(damaged) < 8:
            return bytes(damaged)
    return bytes(damaged[:-2]) + b"\xff\xd9" if rng.integers(0, 2) else bytes(damaged)
