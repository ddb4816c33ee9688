"""Grey values as they are shown: rescale and window where usable (PS3.3 sections C.11.1, C.11.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from service.dicom.numbers import number_of, numbers_of
from service.dicom.part10 import READ_ERRORS

_KEPT = (
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "ModalityLUTSequence", "VOILUTSequence",
)  # fmt: skip


def rescaled(pixels: NDArray[np.generic], dataset: Dataset) -> NDArray[np.generic]:
    """Grey values after the modality transformation; as they are where there is no usable one."""
    try:
        return np.asarray(apply_modality_lut(pixels, _usable(dataset)))
    except READ_ERRORS:
        return pixels


def windowed(pixels: NDArray[np.generic], dataset: Dataset) -> NDArray[np.float64] | None:
    """Grey values after rescale and window; None where there is no usable window.

    Args:
        pixels: (H, W), as stored.
        dataset: Its transformations; an empty rescale, or a window of no width, counts as none.
    """
    usable = _usable(dataset)
    if "WindowCenter" not in usable and "VOILUTSequence" not in usable:
        return None
    try:
        values = np.asarray(apply_voi_lut(apply_modality_lut(pixels, usable), usable), dtype=np.float64)
    except READ_ERRORS:
        return None
    return values if np.isfinite(values).all() else None


def _usable(dataset: Dataset) -> Dataset:
    """The transformations of a data set without those that cannot be used."""
    usable = Dataset()
    for keyword in _KEPT:
        try:
            value = dataset.get(keyword)
        except READ_ERRORS:
            continue
        if value not in (None, ""):
            setattr(usable, keyword, value)
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if slope and intercept is not None:
        usable.RescaleSlope, usable.RescaleIntercept = slope, intercept
    window = _window(dataset)
    if window is not None:
        usable.WindowCenter, usable.WindowWidth = window
        function = str(dataset.get("VOILUTFunction") or "")
        if function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            usable.VOILUTFunction = function
    return usable


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """The first window that has a width."""
    centres, widths = numbers_of(dataset, "WindowCenter"), numbers_of(dataset, "WindowWidth")
    return next(
        ((centre, width) for centre, width in zip(centres, widths, strict=False) if width >= 1.0), None
    )
