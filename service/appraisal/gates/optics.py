"""Blur, exposure and evenness of the light, in the units of a photographer.

Everything is measured on the aligned face at a fixed inter-ocular distance, so that it does not
depend on the camera's resolution.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_FINE, _COARSE = 1.0, 2.0  # pixels; scales at which detail is compared
_MOST_BLUR = 8.0  # pixels
_MIDDLE_GREY = 0.18
_DARKEST = 1e-3  # of linear luminance; clipped black


def linear_luminance(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Relative luminance of sRGB (IEC 61966-2-1), 0..1, float64."""
    value = rgb.astype(np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    luminance: NDArray[np.float64] = linear @ np.array([0.2126, 0.7152, 0.0722])
    return luminance


def blur_sigma(
    luminance: NDArray[np.float64], where: NDArray[np.bool_], noise_sigma: float = 0.0
) -> float | None:
    """Estimate the standard deviation of the blur, taken for Gaussian, in pixels.

    The power of the Laplacian of a picture whose spectrum falls as 1/f**2, as that of natural
    pictures does (Field 1987), is proportional to (s**2 + sigma**2) ** -2 when seen at scale s after
    a blur of sigma: the ratio at two scales tells sigma, whatever the contrast.

    Args:
        luminance: (H, W) float64, 0..255.
        where: (H, W) bool: the face.
        noise_sigma: Of white noise in the same picture; its power is taken off.

    Returns:
        0..8 pixels; None when the face is too small or without detail.
    """
    core = cv2.erode(where.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if int(core.sum()) < 100:
        return None
    powers = []
    for scale in (_FINE, _COARSE):
        smooth = cv2.GaussianBlur(luminance, (0, 0), scale)
        detail = np.abs(np.asarray(cv2.Laplacian(smooth, cv2.CV_64F))[core])
        # White noise through a Laplacian of Gaussian: variance 1 / (2 pi s**6) of its own.
        noise = noise_sigma**2 / (2 * np.pi * scale**6)
        # The few strongest edges alone would tell of specular spots.
        power = float(np.mean(np.minimum(detail, np.percentile(detail, 99)) ** 2))
        powers.append(max(power - noise, 0))
    if powers[1] <= 0.0:
        return None
    ratio = np.sqrt(powers[0] / powers[1])
    if ratio <= 1.0:
        return _MOST_BLUR
    variance = (_COARSE**2 - ratio * _FINE**2) / (ratio - 1)
    return float(np.clip(np.sqrt(max(variance, 0.0)), 0.0, _MOST_BLUR))


def exposure_ev(rgb: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    """Stops of the face's median luminance over 18 % grey.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        where: (H, W) bool: the face; not empty.
    """
    middle = float(np.median(linear_luminance(rgb)[where]))
    return float(np.log2(max(middle, _DARKEST) / _MIDDLE_GREY))


def light_asymmetry_ev(rgb: NDArray[np.uint8], where: NDArray[np.bool_]) -> float | None:
    """Stops by which the patient's left half of the face is brighter than the right one.

    Args:
        rgb: (H, W, 3) uint8, sRGB, aligned: the midline is the square's.
        where: (H, W) bool: the face.

    Returns:
        The difference of the halves' medians; None when a half is not in the picture.
    """
    left = np.zeros_like(where)
    left[:, rgb.shape[1] // 2 :] = True  # the patient's left is the picture's right
    luminance = linear_luminance(rgb)
    halves = [luminance[where & side] for side in (left, ~left)]
    if min(half.size for half in halves) < 50:
        return None
    bright = [float(np.median(half)) for half in halves]
    return float(np.log2(max(bright[0], _DARKEST) / max(bright[1], _DARKEST)))
