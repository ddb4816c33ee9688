"""Single frames of a stored instance, decoded; memory holds one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, RLELossless

from reporting.holdings.instance_file import InstanceFile
from service.codecs.decode import decode_frame
from service.codecs.frame import MAX_PIXELS, geometry_of
from service.dicom.part10 import READ_ERRORS
from service.dicom.pixels import described, frame_at, photometric_of
from service.errors import (
    CorruptInstanceError,
    DecoderLostError,
    PhotographError,
    RecordNotFoundError,
    ResultError,
)

_DECODER_ERRORS = (*READ_ERRORS, ArithmeticError, RuntimeError, SyntaxError)
_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_IMAGE_PIXEL_GROUP = 0x0028


def decoded_frame(file: InstanceFile, number: int) -> tuple[NDArray[np.generic], str]:
    """Decode one frame.

    Args:
        file: Open.
        number: From 1.

    Returns:
        (rows, columns) or (rows, columns, 3), colour as RGB; and its photometric interpretation.

    Raises:
        ResultError: There is no picture or no such frame, or it cannot be decoded.
    """
    if file.pixels is None:
        raise ResultError("the instance holds no picture")
    try:
        _check_size(file.header)
        frame = file.frame(number)
        if _needs_codec(file.transfer_syntax):
            return _by_codec(file.header, frame)
        return _in_python(file, frame)
    except (CorruptInstanceError, RecordNotFoundError, PhotographError, DecoderLostError) as exc:
        raise ResultError(f"the pixel data cannot be decoded: {exc}") from exc
    except _DECODER_ERRORS as exc:
        raise ResultError(f"the pixel data cannot be decoded: {type(exc).__name__}") from exc


def decoded_frames(ds: FileDataset) -> Iterator[tuple[NDArray[np.generic], str]]:
    """Decode every frame of a data set whose pixel data are compressed, one after the other.

    Raises:
        UndecodablePhotographError, UnsupportedPhotographError, DecoderLostError: See ``decode_frame``.
        RuntimeError, ValueError and what else pydicom raises of run lengths.
    """
    count = int(ds.get("NumberOfFrames") or 1)
    syntax = UID(str(ds.file_meta.TransferSyntaxUID))
    frames = generate_frames(ds.PixelData, number_of_frames=count)
    if count == 1:
        frames = iter((frame_at(BytesIO(ds.PixelData), 0, 1),))
    for index, frame in enumerate(frames):
        if index >= count:
            return
        if _needs_codec(syntax):
            yield _by_codec(ds, frame)
        else:
            single = _single(ds, syntax, "PixelData", ds.PixelData)
            single.NumberOfFrames = count
            yield np.asarray(pixel_array(single, index=index)), photometric_of(ds)


def _needs_codec(syntax: UID) -> bool:
    return syntax.is_encapsulated and syntax != RLELossless


def _by_codec(ds: Dataset, frame: bytes) -> tuple[NDArray[np.generic], str]:
    decoded = decode_frame(frame, geometry_of(ds))
    return decoded.pixels, decoded.photometric_interpretation


def _in_python(file: InstanceFile, frame: bytes) -> tuple[NDArray[np.generic], str]:
    """Decode what is native or of run lengths: by pydicom, whose own code that is."""
    assert file.pixels is not None  # noqa: S101 -- for mypy
    syntax, keyword = file.transfer_syntax, _KEYWORDS[file.pixels.tag]
    value = encapsulate([frame]) if syntax.is_encapsulated else frame
    single = _single(file.header, syntax, keyword, value)
    array = np.asarray(pixel_array(single))
    photometric = photometric_of(file.header) or "MONOCHROME2"
    return array, "RGB" if array.ndim == 3 else photometric


def _single(ds: Dataset, syntax: UID, keyword: str, value: bytes) -> Dataset:
    """A data set of one frame, with what describes it."""
    single = Dataset()
    for element in ds.group_dataset(_IMAGE_PIXEL_GROUP):
        single.add(element)
    single.NumberOfFrames = 1
    setattr(single, keyword, value)
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = syntax
    single.set_original_encoding(syntax.is_implicit_VR, True)
    return described(single)


def _check_size(ds: Dataset) -> None:
    if int(ds.Rows) * int(ds.Columns) > MAX_PIXELS:
        raise ResultError("the picture is too large")
