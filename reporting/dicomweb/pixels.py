"""Frames decoded: native bytes for WADO-RS, and sRGB pictures for people."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, JPEGBaseline8Bit

from reporting.dicomweb.problem import DicomwebError
from reporting.dicomweb.window import Window
from service.dicom.part10 import READ_ERRORS
from service.dicom.progressive import PROGRESSIVE_JPEG

MOST_PIXELS = 150_000_000  # of a frame that is decoded; guards memory
_DECODER_ERRORS = (*READ_ERRORS, ArithmeticError, MemoryError, RuntimeError, SyntaxError)
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})


def native_frame(ds: FileDataset, number: int) -> bytes:
    """One frame as native pixel data, little endian, colour as RGB by pixel.

    Args:
        ds: Whole.
        number: From 1.

    Raises:
        DicomwebError: 406: it cannot be decoded.
    """
    array = _decoded(ds, number)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def picture(ds: FileDataset, number: int, window: Window | None) -> Image.Image:
    """One frame as people see it: RGB or grey, 8 bits, sRGB.

    Args:
        ds: Whole.
        number: From 1.
        window: Of grey values, in place of the instance's own.

    Raises:
        DicomwebError: 406: it holds no picture, or one that cannot be decoded.
    """
    array = _decoded(ds, number)
    try:
        photometric = str(ds.get("PhotometricInterpretation", "MONOCHROME2"))
        if photometric == "PALETTE COLOR":
            array = apply_color_lut(array, ds)[..., :3]
            return Image.fromarray(_to_8_bit(array, 8 * array.dtype.itemsize))
        if array.ndim == 3:
            return _in_srgb(Image.fromarray(_to_8_bit(array, int(ds.get("BitsStored", 8)))), ds)
        return Image.fromarray(_grey(array, ds, window, inverted=photometric == "MONOCHROME1"))
    except _DECODER_ERRORS as exc:
        raise DicomwebError(406, "the pixel data cannot be shown") from exc


def _decoded(ds: FileDataset, number: int) -> NDArray[np.generic]:
    """(rows, columns) or (rows, columns, 3), colour as RGB."""
    if not any(tag in ds for tag in (0x7FE00010, 0x7FE00008, 0x7FE00009)):
        raise DicomwebError(406, "the instance holds no picture")
    try:
        if int(ds.Rows) * int(ds.Columns) > MOST_PIXELS:
            raise DicomwebError(406, "the picture is too large")
        syntax = UID(str(ds.file_meta.TransferSyntaxUID))
        if syntax == PROGRESSIVE_JPEG or (syntax == JPEGBaseline8Bit and int(ds.SamplesPerPixel) == 3):
            return _jpeg(ds, number)
        return np.asarray(pixel_array(ds, index=number - 1))
    except _DECODER_ERRORS as exc:
        raise DicomwebError(406, "the pixel data cannot be decoded") from exc


def _jpeg(ds: FileDataset, number: int) -> NDArray[np.uint8]:
    """Decode by the colour space the stream itself names (JFIF, Adobe), else by the attribute."""
    frame = get_frame(ds.PixelData, number - 1, number_of_frames=int(ds.get("NumberOfFrames") or 1))
    with Image.open(BytesIO(frame), formats=("JPEG",)) as image:
        silent = "jfif" not in image.info and "adobe" not in image.info
        if silent and ds.PhotometricInterpretation == "RGB":
            image.draft("YCbCr", image.size)  # hand the components over as they are
            return np.asarray(image)
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def _in_srgb(image: Image.Image, ds: FileDataset) -> Image.Image:
    profile = ds.get("ICCProfile")
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(bytes(profile)))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image  # a profile that cannot be used: taken as sRGB, as viewers do
    return converted or image


def _grey(
    array: NDArray[np.generic], ds: FileDataset, window: Window | None, *, inverted: bool
) -> NDArray[np.uint8]:
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)  # NaN: not judged
    elif window is None and ("WindowCenter" in ds or "VOILUTSequence" in ds):
        values = np.asarray(apply_voi_lut(apply_modality_lut(array, ds), ds), dtype=np.float64)
    else:
        values = np.asarray(apply_modality_lut(array, ds), dtype=np.float64)
    finite = values[np.isfinite(values)]
    if window is not None:
        scaled = window.apply(values)
    else:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if array.dtype == np.uint8 and "WindowCenter" not in ds and "VOILUTSequence" not in ds:
            low, high = 0.0, 255.0
        scaled = (values - low) / max(high - low, 1e-12)
    grey = np.clip(np.rint(np.nan_to_num(scaled, nan=0.0) * 255.0), 0, 255).astype(np.uint8)
    return np.asarray(255 - grey if inverted else grey, dtype=np.uint8)


def _to_8_bit(array: NDArray[np.generic], bits_stored: int) -> NDArray[np.uint8]:
    if array.dtype == np.uint8 and bits_stored == 8:
        return np.asarray(array, dtype=np.uint8)
    scaled = array.astype(np.float64) * (255.0 / (2.0**bits_stored - 1))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)
