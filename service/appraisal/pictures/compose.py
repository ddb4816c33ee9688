"""The two pictures of a result: the heatmap over the photograph, and the triptych.

Both fit into a given number of pixels; what is drawn costs what the picture is, not what the photograph was.
Deterministic: the same arrays give the same picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.pictures.colour_scale import ColourScale
from service.appraisal.pictures.layout import LEGEND_WIDTH, PAPER, Label, legend, mark_sides, title, unit_of
from service.appraisal.pictures.paint import paint
from service.appraisal.pictures.placing import place

LONG_SIDE: Final = 2048  # px, of pictures unless otherwise asked for
_LEAST_SIDE = 64  # px, of a panel
_MARK_INSET = 0.02  # of the square's side, from its edge
_GAP_UNITS = 0.5
_HEADINGS = ("Photograph", "Normal counterpart", "Difference")
_WITHOUT = ("Photograph", "No counterpart", "Difference")


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a picture is made from."""

    photograph: NDArray[np.uint8]  # (H, W, 3) uint8, sRGB, at any resolution
    difference: NDArray[np.float32]  # (S, S) float32 in the method's square, NaN where nothing was judged
    to_photograph: NDArray[np.float64]  # (2, 3) float64: pixels of the square -> pixels of ``photograph``
    # (S, S, 3) uint8, sRGB: the face as it would normally be; None where it cannot be drawn
    counterpart: NDArray[np.uint8] | None
    scale: ColourScale  # what the colours mean
    label: Label  # what the legend says of the method


def heatmap(judged: Judged, long_side: int = LONG_SIDE) -> NDArray[np.uint8]:
    """Paint the difference over the photograph and set a legend beside it.

    Args:
        judged: What to show.
        long_side: Most pixels of the picture's longer side, legend and all.

    Returns:
        (h, w + legend, 3) uint8, sRGB, no larger than the photograph in the photograph's part.
    """
    rgb, scale = _shown(judged.photograph, long_side)
    matrix = _scaled(judged.to_photograph, scale)
    rgb = np.ascontiguousarray(rgb) if rgb is not judged.photograph else rgb.copy()
    _paint_face(rgb, judged, matrix)
    _mark(rgb, judged.difference.shape[0], matrix)
    height, width = rgb.shape[:2]
    return np.concatenate([rgb, legend(height, unit_of(height, width), judged.scale, judged.label)], axis=1)


def triptych(judged: Judged, long_side: int = LONG_SIDE) -> NDArray[np.uint8]:
    """Set the face, its normal counterpart and the heatmap side by side, in the method's square.

    Args:
        judged: What to show.
        long_side: Most pixels of the picture's longer side, legend and all.

    Returns:
        (h, w, 3) uint8, sRGB.
    """
    side = _panel_side(long_side)
    size = judged.difference.shape[0]
    enlarge = np.array([[side / size, 0, 0.5 * side / size - 0.5], [0, side / size, 0.5 * side / size - 0.5]])
    face = _cut(judged.photograph, _after(enlarge, _inverse(judged.to_photograph)), side)
    other, headings = np.full((side, side, 3), PAPER, np.uint8), _WITHOUT
    if judged.counterpart is not None:
        drawn = cv2.resize(judged.counterpart, (side, side), interpolation=_way(size, side))
        other, headings = np.asarray(drawn, np.uint8), _HEADINGS
    painted = face.copy()
    _paint_face(painted, judged, enlarge)
    unit = unit_of(side, side)
    panels = []
    for heading, picture in zip(headings, (face, other, painted), strict=True):
        shown = np.ascontiguousarray(picture)
        _mark(shown, size, enlarge)
        panels.append(np.concatenate([title(side, unit, heading), shown], axis=0))
    height = panels[0].shape[0]
    gap = np.full((height, max(2, round(_GAP_UNITS * unit)), 3), PAPER, np.uint8)
    key = legend(height, unit, judged.scale, judged.label)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2], key], axis=1)


def _panel_side(long_side: int) -> int:
    """The largest panel of which three, two gaps and the legend fit."""
    side = long_side // 3
    while side > _LEAST_SIDE:
        unit = unit_of(side, side)
        gap = max(2, round(_GAP_UNITS * unit))
        if 3 * side + 2 * gap + max(8, round(LEGEND_WIDTH * unit)) <= long_side:
            break
        side -= 1
    return side


def _shown(rgb: NDArray[np.uint8], long_side: int) -> tuple[NDArray[np.uint8], float]:
    """The photograph as large as fits beside a legend, and its scale; never enlarged."""
    height, width = rgb.shape[:2]
    scale = min(1.0, long_side / max(height, width))
    for _ in range(16):
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        whole = columns + max(8, round(LEGEND_WIDTH * unit_of(rows, columns)))
        if max(whole, rows) <= long_side:
            break
        scale *= max(0.5, min(long_side / whole, 0.999))
    if scale >= 1.0:
        return rgb, 1.0
    small = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), scale


def _paint_face(rgb: NDArray[np.uint8], judged: Judged, matrix: NDArray[np.float64]) -> None:
    """Paint in place, where the method's square lies."""
    placed = place(judged.scale.shown(judged.difference), matrix, (rgb.shape[0], rgb.shape[1]))
    if placed is not None:
        rgb[placed.window] = paint(rgb[placed.window], placed.values, judged.scale)


def _mark(rgb: NDArray[np.uint8], size: int, matrix: NDArray[np.float64]) -> None:
    """Write R and L at the sides of the method's square, whichever way the head is turned."""
    inset = _MARK_INSET * size
    ends = np.array([[inset, 0.5 * size], [size - 1 - inset, 0.5 * size]]) @ matrix[:, :2].T + matrix[:, 2]
    (rx, ry), (lx, ly) = ends.tolist()
    mark_sides(rgb, (rx, ry), (lx, ly))


def _cut(rgb: NDArray[np.uint8], matrix: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """The square at a panel's resolution, averaged first where it is reduced."""
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    if scale < 0.5:
        small = cv2.resize(rgb, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        fx, fy = rgb.shape[1] / small.shape[1], rgb.shape[0] / small.shape[0]
        matrix = _after(matrix, np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5]]))
        rgb = np.asarray(small, np.uint8)
    cut = cv2.warpAffine(
        rgb, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=PAPER
    )
    return np.asarray(cut, np.uint8)


def _scaled(matrix: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """The transform into a picture reduced by ``scale``, on pixel centres."""
    shift = 0.5 * scale - 0.5
    return _after(np.array([[scale, 0, shift], [0, scale, shift]]), matrix)


def _after(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """First one affine transform, then another."""
    linear = second[:, :2] @ first[:, :2]
    return np.hstack([linear, (second[:, :2] @ first[:, 2] + second[:, 2])[:, None]])


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)


def _way(size: int, side: int) -> int:
    return cv2.INTER_AREA if size > side else cv2.INTER_CUBIC
