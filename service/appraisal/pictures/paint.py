"""Values painted over a picture so that what lies below stays visible.

Colours are matplotlib's plasma without its ends, perceptually uniform and told apart without colour vision
(Nuñez et al. 2018): blue, magenta, orange. The paint is thin, and thinnest where the values are highest in
area; lines of equal value carry the shape.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.pictures.colour_scale import ColourScale

ALPHA: Final = 0.42  # of the paint, everywhere
LINES: Final = (0.0, 0.25, 0.5, 0.75)  # of the scale, at which lines of equal value are drawn
_FIRST, _LAST = 20, 215  # of the 256 colours: neither nearly black nor pale yellow
_LINE_SHARE = 1 / 420  # of a line's width in the picture's shorter side
_HALO = (255, 255, 255)


def colours(strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(..., 3) uint8 sRGB of strengths 0..1."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_PLASMA)[:, 0, ::-1]
    index = np.rint(_FIRST + strength * (_LAST - _FIRST)).astype(np.uint8)
    return np.asarray(table[index], dtype=np.uint8)


def strength_of(values: NDArray[np.float32], scale: ColourScale) -> NDArray[np.float32]:
    """Where values lie on a scale: 0 at ``low`` and below, 1 at ``high`` and above; NaN stays NaN."""
    return np.asarray(np.clip((values - scale.low) / (scale.high - scale.low), 0, 1), np.float32)


def paint(rgb: NDArray[np.uint8], values: NDArray[np.float32], scale: ColourScale) -> NDArray[np.uint8]:
    """Paint values over a picture, with a line round what is painted and lines of equal value inside.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        values: (H, W) float32 in the scale's unit, NaN where nothing was judged.
        scale: What the colours mean.

    Returns:
        (H, W, 3) uint8, sRGB; the same where nothing reaches the scale.
    """
    above = np.nan_to_num(values, nan=-np.inf) > scale.low
    if not above.any():
        return rgb.copy()
    strength = np.where(above, strength_of(values, scale), np.float32(0)).astype(np.float32)
    alpha = np.where(above, np.float32(ALPHA), np.float32(0))[..., None]
    mixed = rgb + alpha * (colours(strength).astype(np.float32) - rgb)
    painted = np.ascontiguousarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    _draw_lines(painted, values, scale)
    return painted


def _draw_lines(painted: NDArray[np.uint8], values: NDArray[np.float32], scale: ColourScale) -> None:
    """The edge in its colour with a light halo, then one thin line a level in the level's colour."""
    width = max(1, round(min(painted.shape[:2]) * _LINE_SHARE))
    known = np.nan_to_num(values, nan=-np.inf)
    for share in LINES:
        level = scale.low + share * (scale.high - scale.low)
        found, _ = cv2.findContours((known > level).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        colour = tuple(int(v) for v in colours(np.array(share, np.float32)))
        if share == 0.0:
            cv2.drawContours(painted, found, -1, _HALO, 3 * width, lineType=cv2.LINE_AA)
        cv2.drawContours(painted, found, -1, colour, width, lineType=cv2.LINE_AA)
