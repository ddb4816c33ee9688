"""The difference map over the photograph, with a colour bar.

Colours are matplotlib's inferno, perceptually uniform and readable without colour vision
(Nuñez et al. 2018); nothing is painted where nothing was judged. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.appraisal.photograph.decode import Photograph

MAX_ALPHA = 0.78
_LEAST_SPAN = 1e-12  # of a scale: differences of identical pictures
_GREY = (200, 200, 200)
_PANEL = (24, 24, 24)


@dataclass(frozen=True, kw_only=True)
class HeatmapScale:
    """What the colours mean."""

    low: float  # difference that is not painted
    high: float  # difference painted with the last colour
    caption: str = "difference"


def scale_of(difference: NDArray[np.float32]) -> HeatmapScale:
    """Return a scale from the map itself, for methods without a calibration.

    Args:
        difference: (H, W) float32, NaN where nothing was judged.
    """
    values = difference[np.isfinite(difference)]
    if values.size == 0:
        return HeatmapScale(low=0.0, high=1.0)
    low, high = (float(value) for value in np.percentile(values, (50, 99.5)))
    # Relative: fourth powers of small differences (eq. (1) of paper 000) lie below a millionth.
    return HeatmapScale(low=low, high=max(high, low * (1 + 1e-6) + _LEAST_SPAN))


def render_heatmap(
    photograph: Photograph, difference: NDArray[np.float32], scale: HeatmapScale
) -> NDArray[np.uint8]:
    """Paint the difference map over the photograph and set a colour bar beside it.

    Args:
        photograph: The source.
        difference: (H, W) float32 in photograph coordinates, NaN where nothing was judged.
        scale: What the colours mean.

    Returns:
        (H, W + panel, 3) uint8, sRGB.
    """
    judged = np.isfinite(difference)
    painted = photograph.rgb.copy()
    rows, columns = np.flatnonzero(judged.any(1)), np.flatnonzero(judged.any(0))
    if rows.size:
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        painted[part] = paint(painted[part], difference[part], scale)
    _outline(painted, judged)
    return np.concatenate([painted, _colour_bar(photograph.height, scale)], axis=1)


def paint(rgb: NDArray[np.uint8], difference: NDArray[np.float32], scale: HeatmapScale) -> NDArray[np.uint8]:
    """Paint a difference map over a picture.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        difference: (H, W) float32, NaN where nothing was judged.
        scale: What the colours mean.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    judged = np.isfinite(difference)
    span = np.float32(scale.high - scale.low)
    strength = np.clip((np.where(judged, difference, scale.low) - np.float32(scale.low)) / span, 0, 1)
    strength = np.asarray(strength, dtype=np.float32)
    alpha = np.where(judged, np.float32(MAX_ALPHA) * np.sqrt(strength), np.float32(0))[..., None]
    overlay = rgb + alpha * (_colours(strength).astype(np.float32) - rgb)
    return np.asarray(np.clip(np.rint(overlay), 0, 255), dtype=np.uint8)


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 3) uint8 sRGB as PNG."""
    ok, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ValueError("the picture cannot be encoded as PNG")
    return bytes(encoded.tobytes())


def _colours(strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(..., 3) uint8 sRGB of strengths 0..1."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    # Neither nearly black, which reads as shadow, nor pale yellow, which is lost on light skin.
    index = np.rint(50 + strength * 165).astype(np.uint8)
    return np.asarray(table[index], dtype=np.uint8)


def _outline(painted: NDArray[np.uint8], judged: NDArray[np.bool_]) -> None:
    contours, _ = cv2.findContours(judged.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(painted.shape[:2]) / 700))
    cv2.drawContours(painted, contours, -1, _GREY, thickness, lineType=cv2.LINE_AA)


def _colour_bar(height: int, scale: HeatmapScale) -> NDArray[np.uint8]:
    """Panel of that height: bar from low (bottom) to high, five labels, caption."""
    unit = max(9, round(height / 38))  # text height in pixels
    width, margin, bar = round(unit * 5.6), 2 * unit, round(unit * 0.9)
    panel = np.full((height, width, 3), _PANEL, dtype=np.uint8)
    rows = max(2, height - 2 * margin)
    ramp = np.linspace(1.0, 0.0, rows, dtype=np.float32)
    panel[margin : margin + rows, unit : unit + bar] = _colours(ramp)[: height - margin, None, :]
    image = Image.fromarray(panel)
    draw = ImageDraw.Draw(image)
    font = _font(unit)
    for step in range(5):
        value = scale.low + (scale.high - scale.low) * step / 4
        y = margin + (rows - 1) * (1 - step / 4)
        draw.line((unit + bar, y, unit + bar + unit // 3, y), fill=_GREY)
        label = _label(value)
        draw.text((round(unit * 2.9), y), label, fill=_GREY, font=font, anchor="lm")
    draw.text((unit // 2, unit), scale.caption, fill=_GREY, font=font, anchor="lm")
    return np.asarray(image, dtype=np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _label(value: float) -> str:
    """Two digits, short also where a difference is very small."""
    if 0 < value < 1e-3:
        return np.format_float_scientific(value, precision=1, trim="-", exp_digits=1)
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")
