"""Asymmetries and proportions measured on the mesh: what a clinician would measure with a ruler.

The generic mesh follows gross displacement of commissures and lids and pulls subtle ones back to
normal, so these are only some of the evidence, and never the only evidence for a lip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Points of the mesh whose heights, or distances from the midline, are compared left and right."""

    name: str
    right: tuple[int, ...]  # the patient's right
    left: tuple[int, ...]
    axis: int  # 0: distance from the midline, 1: height


PAIRS: Final[tuple[Pair, ...]] = (
    Pair(name="commissure-height", right=(61,), left=(291,), axis=1),
    Pair(name="commissure-side", right=(61,), left=(291,), axis=0),
    Pair(name="upper-lid", right=(159, 158, 160), left=(386, 385, 387), axis=1),
    Pair(name="lower-lid", right=(145, 153, 144), left=(374, 380, 373), axis=1),
    Pair(name="brow-height", right=(105, 66, 63), left=(334, 296, 293), axis=1),
    Pair(name="bow-height", right=(37, 39), left=(267, 269), axis=1),
    Pair(name="bow-side", right=(37,), left=(267,), axis=0),
    Pair(name="lower-lip", right=(84, 181), left=(314, 405), axis=1),
    Pair(name="nostril-height", right=(129, 98), left=(358, 327), axis=1),
    Pair(name="nostril-side", right=(129, 98), left=(358, 327), axis=0),
    Pair(name="jaw-side", right=(172, 136, 150), left=(397, 365, 379), axis=0),
    Pair(name="cheek-side", right=(205, 50), left=(425, 280), axis=0),
)
_OPENING: Final = (((159, 145), (158, 153), (160, 144)), ((386, 374), (385, 380), (387, 373)))
_MIDLINE: Final = (6, 197, 1, 2, 0, 17, 152)
NAMES: Final = (*(pair.name for pair in PAIRS), "eye-opening", "midline-bend")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A distance between two points of the mesh."""

    name: str
    first: int
    second: int


SPANS: Final[tuple[Span, ...]] = (
    Span(name="chin-height", first=168, second=152),
    Span(name="lower-lip-to-chin", first=17, second=152),
    Span(name="nose-to-lip", first=2, second=0),
    Span(name="lips", first=0, second=17),
    Span(name="mouth-width", first=61, second=291),
    Span(name="nose-width", first=129, second=358),
    Span(name="nose-length", first=168, second=2),
    Span(name="jaw-width", first=172, second=397),
    Span(name="chin-width", first=148, second=377),
    Span(name="face-width", first=234, second=454),
    Span(name="right-eye-opening", first=159, second=145),
    Span(name="left-eye-opening", first=386, second=374),
)


def proportions(landmarks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Distances of an aligned face as fractions of the square's side, (len(SPANS),) float64.

    Args:
        landmarks: (478, 2) float64, pixels of the square.
        size: its side in pixels.
    """
    ends = np.array([(span.first, span.second) for span in SPANS])
    apart = landmarks[ends[:, 0]] - landmarks[ends[:, 1]]
    return np.asarray(np.hypot(apart[:, 0], apart[:, 1]) / size)


def measure(landmarks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Unsigned asymmetries of an aligned face as fractions of the square's side.

    Args:
        landmarks: (478, 2) float64, pixels of the square.
        size: its side in pixels.

    Returns:
        (len(NAMES),) float64, >= 0.
    """
    at = (landmarks + 0.5) / size
    at = np.stack([at[:, 0] - 0.5, at[:, 1]], axis=-1)
    found = []
    for pair in PAIRS:
        right, left = (float(at[list(side), pair.axis].mean()) for side in (pair.right, pair.left))
        found.append(abs(right + left) if pair.axis == 0 else abs(right - left))
    openings = [np.mean([at[low, 1] - at[high, 1] for high, low in eye]) for eye in _OPENING]
    found.append(abs(float(openings[0] - openings[1])))
    found.append(float(np.std(at[list(_MIDLINE), 0])))
    return np.array(found)


def paint(
    deviations: NDArray[np.float64],
    points: Sequence[Sequence[int]],
    landmarks: NDArray[np.float64],
    size: int,
    sigma: float,
) -> NDArray[np.float32]:
    """Spread each measure's excess around its points.

    Args:
        deviations: (N,) standard deviations over the usual.
        points: of each measure, indices into the mesh.
        landmarks: (478, 2) float64, pixels of the square.
        size: its side in pixels.
        sigma: of the spread, fraction of the side.

    Returns:
        (size, size) float32, >= 0; the larger excess where two meet.
    """
    plane = np.zeros((size, size), np.float32)
    for deviation, some in zip(deviations, points, strict=True):
        if deviation <= 0:
            continue
        single = np.zeros((size, size), np.float32)
        for column, row in np.rint(landmarks[list(some)]).astype(int):
            if 0 <= row < size and 0 <= column < size:
                single[row, column] = 1
        spread = cv2.GaussianBlur(single, (0, 0), sigma * size)
        peak = float(spread.max())
        if peak > 0:
            plane = np.maximum(plane, np.float32(deviation) * spread / np.float32(peak))
    return plane


_EYES: Final = tuple(point for eye in _OPENING for pair in eye for point in pair)
POINTS: Final[tuple[tuple[int, ...], ...]] = (
    *((*pair.right, *pair.left) for pair in PAIRS),
    _EYES,
    _MIDLINE,
    *((span.first, span.second) for span in SPANS),
)
