"""Frames decoded: native bytes for WADO-RS, and sRGB pictures for people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.pixels.processing import apply_color_lut

from reporting.dicomweb.problem import DicomwebError
from reporting.dicomweb.window import Window
from reporting.holdings.frames import decoded_frame
from reporting.holdings.instance_file import InstanceFile
from service.codecs.decode import to_srgb
from service.dicom.grey import rescaled, windowed
from service.dicom.part10 import READ_ERRORS
from service.errors import DecoderLostError, PhotographError, ResultError

_DECODER_ERRORS = (*READ_ERRORS, ArithmeticError, RuntimeError, SyntaxError)


def native_frame(file: InstanceFile, number: int) -> bytes:
    """One frame as native pixel data, little endian, colour as RGB by pixel.

    Args:
        file: Open.
        number: From 1.

    Raises:
        DicomwebError: 406: it cannot be decoded.
    """
    array, _ = _decoded(file, number)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def picture(file: InstanceFile, number: int, window: Window | None) -> Image.Image:
    """One frame as people see it: RGB or grey, 8 bits, sRGB.

    Args:
        file: Open.
        number: From 1.
        window: Of grey values, in place of the instance's own.

    Raises:
        DicomwebError: 406: it holds no picture, or one that cannot be decoded.
    """
    array, photometric = _decoded(file, number)
    ds = file.header
    try:
        if photometric == "PALETTE COLOR":
            array = apply_color_lut(array, ds)[..., :3]
            return Image.fromarray(_to_8_bit(array, 8 * array.dtype.itemsize))
        if array.ndim == 3:
            return _in_srgb(_to_8_bit(array, int(ds.get("BitsStored", 8))), ds)
        return Image.fromarray(_grey(array, ds, window, inverted=photometric == "MONOCHROME1"))
    except _DECODER_ERRORS as exc:
        raise DicomwebError(406, "the pixel data cannot be shown") from exc


def _decoded(file: InstanceFile, number: int) -> tuple[NDArray[np.generic], str]:
    """(rows, columns) or (rows, columns, 3), colour as RGB; and the photometric interpretation."""
    try:
        return decoded_frame(file, number)
    except ResultError as exc:
        raise DicomwebError(406, str(exc)) from exc


def _in_srgb(rgb: NDArray[np.uint8], ds: FileDataset) -> Image.Image:
    profile = ds.get("ICCProfile")
    if not profile:
        return Image.fromarray(rgb)
    try:
        return Image.fromarray(to_srgb(rgb, bytes(profile)).rgb)
    except (PhotographError, DecoderLostError) as exc:
        raise DicomwebError(406, "the pixel data cannot be shown in their colours") from exc


def _grey(
    array: NDArray[np.generic], ds: FileDataset, window: Window | None, *, inverted: bool
) -> NDArray[np.uint8]:
    own = None
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)  # NaN: not judged
    else:
        own = windowed(array, ds) if window is None else None
        values = own if own is not None else np.asarray(rescaled(array, ds), dtype=np.float64)
    finite = values[np.isfinite(values)]
    if window is not None:
        scaled = window.apply(values)
    else:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if array.dtype == np.uint8 and own is None:
            low, high = 0.0, 255.0
        scaled = (values - low) / max(high - low, 1e-12)
    grey = np.clip(np.rint(np.nan_to_num(scaled, nan=0.0) * 255.0), 0, 255).astype(np.uint8)
    return np.asarray(255 - grey if inverted else grey, dtype=np.uint8)


def _to_8_bit(array: NDArray[np.generic], bits_stored: int) -> NDArray[np.uint8]:
    if array.dtype == np.uint8 and bits_stored == 8:
        return np.asarray(array, dtype=np.uint8)
    scaled = array.astype(np.float64) * (255.0 / (2.0**bits_stored - 1))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)
