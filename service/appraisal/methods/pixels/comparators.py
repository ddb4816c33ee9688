"""Comparators that need no weights: PSE, SSIM (paper 000's baselines) and both at several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.tables import Comparator, ComparatorRow, Normalised, Workplace

SSIM_SIGMA = 1.5  # px; Wang et al. 2004
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SCALES = (1, 2, 4)  # reductions of the multi-scale comparator
PSE_GAIN = 10.0  # brings squared differences of skin to the range of 1 - SSIM

Picture = NDArray[np.float32]  # (h, w, 3), 0..255


def pixel_error(one: Picture, other: Picture) -> NDArray[np.float32]:
    """Pixelwise squared error, mean over the colours, of pictures scaled to 0..1.

    Returns:
        (h, w) float32, 0..1.
    """
    error: NDArray[np.float32] = np.square((one - other) / np.float32(255)).mean(axis=2)
    return error


def dissimilarity(one: Picture, other: Picture) -> NDArray[np.float32]:
    """(1 - SSIM) / 2 per pixel, mean over the colours (Wang et al. 2004, Gaussian window).

    Returns:
        (h, w) float32, 0..1.
    """

    def smooth(values: Picture) -> Picture:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), SSIM_SIGMA), dtype=np.float32)

    mean_one, mean_other = smooth(one), smooth(other)
    variance_one = smooth(one * one) - mean_one**2
    variance_other = smooth(other * other) - mean_other**2
    covariance = smooth(one * other) - mean_one * mean_other
    luminance = (2 * mean_one * mean_other + _C1) / (mean_one**2 + mean_other**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_one + variance_other + _C2)
    ssim = np.clip(luminance * structure, -1.0, 1.0).mean(axis=2)
    return np.asarray((1.0 - ssim) / 2.0, dtype=np.float32)


def multiscale(one: Picture, other: Picture) -> NDArray[np.float32]:
    """Mean over the scales of SSIM's dissimilarity and the pixel error together.

    Returns:
        (h, w) float32, >= 0.
    """
    height, width = one.shape[:2]
    total = np.zeros((height, width), dtype=np.float32)
    for factor in SCALES:
        size = (max(11, width // factor), max(11, height // factor))
        small_one, small_other = (
            np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
            for picture in (one, other)
        )
        part = dissimilarity(small_one, small_other) + PSE_GAIN * pixel_error(small_one, small_other)
        total += np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR))
    return total / np.float32(len(SCALES))


@dataclass(frozen=True, kw_only=True)
class PixelComparator:
    """Applies one function of two pictures."""

    difference: Callable[[Picture, Picture], NDArray[np.float32]]

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one map a face."""
        return [
            self.difference(face.rgb.astype(np.float32), other.rgb.astype(np.float32))
            for face, other in zip(faces, normalised, strict=True)
        ]


def _build_pse(workplace: Workplace) -> Comparator:
    return PixelComparator(difference=pixel_error)


def _build_ssim(workplace: Workplace) -> Comparator:
    return PixelComparator(difference=dissimilarity)


def _build_multiscale(workplace: Workplace) -> Comparator:
    return PixelComparator(difference=multiscale)


ROWS = (
    ComparatorRow(name="pse", version="1", models=(), build=_build_pse),
    ComparatorRow(name="ssim", version="1", models=(), build=_build_ssim),
    ComparatorRow(name="multiscale", version="1", models=(), build=_build_multiscale),
)
