"""Letters, legend and marks of pictures, in units that follow the picture's size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.appraisal.pictures.colour_scale import ColourScale, ScaleUnit
from service.appraisal.pictures.paint import colours

INK, PAPER = (225, 225, 225), (24, 24, 24)
LEGEND_WIDTH: Final = 9.0  # units
LEGEND_HEIGHT: Final = 31.0  # units; a picture that is lower makes the unit smaller
_UNITS: Final = 46.0  # of a picture's mean side
_LEAST_UNIT: Final = 9.0  # px; letters below that cannot be read
_BAR_TOP, _BAR_HEIGHT, _BAR_LEFT, _BAR_WIDTH = 3.2, 15.0, 1.0, 1.3  # units

_MEANING: Final = {
    ScaleUnit.DEVIATIONS: (
        "Standard",
        "deviations above",
        "what is usual at",
        "that place in",
        "normal faces.",
        "No colour: up to",
        "{low} SD, which few",
        "normal faces pass.",
    ),
    ScaleUnit.DIFFERENCE: ("Difference from", "the normal", "counterpart, on a", "fixed scale."),
    ScaleUnit.RELATIVE: (
        "Difference from",
        "the normal",
        "counterpart, on a",
        "scale of this",
        "picture alone:",
        "not to be",
        "compared.",
    ),
}
_UNIT_NAME: Final = {
    ScaleUnit.DEVIATIONS: "SD",
    ScaleUnit.DIFFERENCE: "difference",
    ScaleUnit.RELATIVE: "difference",
}


@dataclass(frozen=True, kw_only=True)
class Label:
    """What every picture says beside its colours."""

    method: str  # name of the method
    version: str  # which version of it, and which calibration


def unit_of(height: int, width: int) -> float:
    """Height of a letter in pixels beside a picture of that size."""
    return max(min(float(np.sqrt(height * width)) / _UNITS, height / LEGEND_HEIGHT), 0.5 * _LEAST_UNIT)


def legend(height: int, unit: float, scale: ColourScale, label: Label) -> NDArray[np.uint8]:
    """The panel beside a picture: bar, five numbers, what they mean, which method.

    Its proportions are fixed; a picture that is higher leaves room below.

    Args:
        height: Of the picture, px.
        unit: Height of a letter, px.
        scale: What the colours mean.
        label: What else it says.

    Returns:
        (height, width, 3) uint8, sRGB.
    """
    width = max(8, round(LEGEND_WIDTH * unit))
    panel = np.full((height, width, 3), PAPER, dtype=np.uint8)
    top, rows = round(_BAR_TOP * unit), max(2, round(_BAR_HEIGHT * unit))
    rows = min(rows, max(0, height - top))
    left, right = round(_BAR_LEFT * unit), round((_BAR_LEFT + _BAR_WIDTH) * unit)
    ramp = colours(np.linspace(1.0, 0.0, max(rows, 1), dtype=np.float32))
    panel[top : top + rows, left:right] = ramp[:rows, None, :]
    image = Image.fromarray(panel)
    draw = ImageDraw.Draw(image)
    draw.text((left, 1.7 * unit), _UNIT_NAME[scale.unit], fill=INK, font=font(unit), anchor="lm")
    for value in _ticks(scale):
        y = top + (rows - 1) * (1 - (value - scale.low) / (scale.high - scale.low))
        more = "+" if value == scale.high and scale.unit is not ScaleUnit.RELATIVE else ""
        draw.line((right, y, right + 0.35 * unit, y), fill=INK, width=max(1, round(unit / 12)))
        draw.text((right + 0.7 * unit, y), number(value) + more, fill=INK, font=font(unit), anchor="lm")
    small = 0.82 * unit
    lines = [line.format(low=number(scale.low)) for line in _MEANING[scale.unit]]
    y = top + rows + 1.3 * unit
    for line in (*lines, "", label.method, label.version):
        draw.text((left, y), line, fill=INK, font=font(small), anchor="lm")
        y += 1.12 * small
    return np.asarray(image, dtype=np.uint8)


def _ticks(scale: ColourScale) -> list[float]:
    """Values written beside the bar: whole standard deviations, or five evenly spaced differences."""
    if scale.unit is not ScaleUnit.DEVIATIONS:
        return [float(v) for v in np.linspace(scale.low, scale.high, 5)]
    step = max(1, math.ceil((scale.high - scale.low) / 6))
    whole = [
        v for v in range(math.ceil(scale.low), math.floor(scale.high) + 1) if (scale.high - v) % step == 0
    ]
    return [float(v) for v in whole]


def mark_sides(rgb: NDArray[np.uint8], right: tuple[float, float], left: tuple[float, float]) -> None:
    """Write R and L beside the face: the patient's right and left. Changes the picture.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        right: Where to, as x and y in pixels; moved into the picture if need be.
        left: Likewise.
    """
    height, width = rgb.shape[:2]
    size = max(_LEAST_UNIT, 1.5 * unit_of(height, width))
    for letter, place in (("R", right), ("L", left)):
        x, y = (
            float(np.clip(at, 0.8 * size, max(most - 0.8 * size, 0.8 * size)))
            for at, most in zip(place, (width, height), strict=True)
        )
        low = (max(0, round(x - size)), max(0, round(y - size)))
        part = rgb[low[1] : round(y + size), low[0] : round(x + size)]
        if not part.size:
            continue
        image = Image.fromarray(part)
        ImageDraw.Draw(image).text(
            (x - low[0], y - low[1]),
            letter,
            fill=(255, 255, 255),
            stroke_fill=(0, 0, 0),
            stroke_width=max(1, round(size / 10)),
            font=font(size),
            anchor="mm",
        )
        part[:] = np.asarray(image)


def title(width: int, unit: float, text: str) -> NDArray[np.uint8]:
    """A strip with a heading, (h, width, 3) uint8, sRGB."""
    image = Image.new("RGB", (width, round(1.9 * unit)), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((width / 2, 0.95 * unit), text, fill=INK, font=font(unit), anchor="mm")
    return np.asarray(image, dtype=np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The built-in letters at a size in pixels."""
    return _font(max(4, round(size)))


def number(value: float) -> str:
    """Two digits, short also where a difference is very small."""
    if 0 < value < 1e-3:
        return np.format_float_scientific(value, precision=1, trim="-", exp_digits=1)
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")
