"""The same face photographed again, in the computer: what a camera, a format or the light may change.

Each maker returns a function from one picture to another, both (H, W, 3) uint8, sRGB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Picture: TypeAlias = NDArray[np.uint8]
Retake: TypeAlias = Callable[[Picture], Picture]


def mirror(rgb: Picture) -> Picture:
    """Left and right exchanged."""
    return np.ascontiguousarray(rgb[:, ::-1])


def jpeg(quality: int) -> Retake:
    """Compressed and decoded."""

    def again(rgb: Picture) -> Picture:
        _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])

    return again


def noise(sigma: float, seed: int = 0) -> Retake:
    """White noise of a standard deviation, 0..255 scale; the same for every picture of a size."""

    def again(rgb: Picture) -> Picture:
        grain = np.random.default_rng(seed).normal(0, sigma, rgb.shape)
        return np.asarray(np.clip(np.rint(rgb + grain), 0, 255), np.uint8)

    return again


def scale(factor: float) -> Retake:
    """Another number of pixels."""

    def again(rgb: Picture) -> Picture:
        size = (round(rgb.shape[1] * factor), round(rgb.shape[0] * factor))
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(rgb, size, interpolation=method), np.uint8)

    return again


def perspective(yaw: float, pitch: float, roll_deg: float) -> Retake:
    """Turn the picture plane a little: corner shifts as parts of the side, and a roll."""

    def again(rgb: Picture) -> Picture:
        height, width = rgb.shape[:2]
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        moves = np.array([[yaw, pitch], [yaw, -pitch], [-yaw, pitch], [-yaw, -pitch]], np.float32)
        signs = np.array([[1, 1], [1, 1], [-1, -1], [-1, -1]], np.float32)
        moved = corners + moves * signs * np.array([width, height], np.float32)
        turn = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), roll_deg, 1.0), [0, 0, 1]])
        matrix = turn @ cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
        out = cv2.warpPerspective(
            rgb, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(out, np.uint8)

    return again


def shear(share: float) -> Retake:
    """Narrow one half of the picture and widen the other, as a turned head does.

    Args:
        share: by which the width of the narrow side changes; the midline stays.
    """

    def again(rgb: Picture) -> Picture:
        height, width = rgb.shape[:2]
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        x = (columns - (width - 1) / 2) / (width / 2)
        bent = x + np.float32(share) * (1 - x**2)
        source = bent * np.float32(width / 2) + np.float32((width - 1) / 2)
        out = cv2.remap(rgb, source, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(out, np.uint8)

    return again


def gamma(exponent: float) -> Retake:
    """A power of the intensity: over 1 darker, under 1 brighter middle tones."""
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)

    def again(rgb: Picture) -> Picture:
        return np.asarray(cv2.LUT(rgb, table), np.uint8)

    return again


def light(
    gain: float = 1.0, side: float = 0.0, balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Retake:
    """Multiply linear-looking light: overall, as a ramp from left to right, and by colour."""

    def again(rgb: Picture) -> Picture:
        ramp = np.linspace(1 - side, 1 + side, rgb.shape[1], dtype=np.float32)[None, :, None]
        lit = rgb * ramp * (gain * np.array(balance, np.float32))
        return np.asarray(np.clip(np.rint(lit), 0, 255), np.uint8)

    return again
