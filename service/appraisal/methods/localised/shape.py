"""Shape: how far lids, lips, nose and jaw lie from where the rest of the face lets one expect them.

A clinician judges a chin against the face it belongs to. Each measure is a height or a side of a
few points of the mesh, or the difference of two; what is usual is predicted, linearly, from the
points that the measure's own part does not touch, so that pose, age and build explain themselves
away and a displaced part stands out. The generic mesh follows gross displacement of commissures,
lids and chin and pulls subtle ones back to normal, so this is some of the evidence, and never the
only evidence for a lip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.methods.localised.views import LANDMARKS


class Axis(StrEnum):
    """Of the aligned square."""

    SIDE = "side"
    HEIGHT = "height"


class Part(StrEnum):
    """A part of the face that is displaced as one; its points predict none of its own measures."""

    EYES = "eyes"
    BROWS = "brows"
    NOSE = "nose"
    MOUTH = "mouth"
    JAW = "jaw"


_JAW: Final = frozenset({58, 132, 136, 149, 148, 152, 377, 378, 365, 288, 361})
PART_POINTS: Final[Mapping[Part, frozenset[int]]] = {
    Part.MOUTH: frozenset(LANDMARKS[:40]),
    Part.EYES: frozenset(LANDMARKS[40:56]),
    Part.BROWS: frozenset(LANDMARKS[56:66]),
    Part.NOSE: frozenset(LANDMARKS[66:78]),
    Part.JAW: _JAW,
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The mean of some points along an axis, less (or plus) that of others."""

    name: str
    part: Part
    axis: Axis
    points: tuple[int, ...]
    against: tuple[int, ...] = ()  # points taken off
    together: tuple[int, ...] = ()  # points added: the middle of both sides

    def functional(self) -> NDArray[np.float64]:
        """Weights of the coordinates, (len(LANDMARKS), 2) float64."""
        weights = np.zeros((len(LANDMARKS), 2))
        column = 0 if self.axis is Axis.SIDE else 1
        for points, sign in ((self.points, 1.0), (self.together, 1.0), (self.against, -1.0)):
            for point in points:
                weights[LANDMARKS.index(point), column] += sign / len(points)
        return weights


_LIDS_R, _LIDS_L = (160, 159, 158), (387, 386, 385)
_LOWER_R, _LOWER_L = (144, 145, 153), (373, 374, 380)

MEASURES: Final[tuple[Measure, ...]] = (
    Measure(name="upper-lids", part=Part.EYES, axis=Axis.HEIGHT, points=_LIDS_R, against=_LIDS_L),
    Measure(name="lower-lids", part=Part.EYES, axis=Axis.HEIGHT, points=_LOWER_R, against=_LOWER_L),
    Measure(
        name="eye-openings",
        part=Part.EYES,
        axis=Axis.HEIGHT,
        points=(*_LOWER_R, *_LIDS_L),
        against=(*_LOWER_L, *_LIDS_R),
    ),
    Measure(
        name="eyes-open",
        part=Part.EYES,
        axis=Axis.HEIGHT,
        points=(*_LOWER_R, *_LOWER_L),
        against=(*_LIDS_R, *_LIDS_L),
    ),
    Measure(name="brows", part=Part.BROWS, axis=Axis.HEIGHT, points=(105, 66, 63), against=(334, 296, 293)),
    Measure(name="nose-side", part=Part.NOSE, axis=Axis.SIDE, points=(1, 4)),
    Measure(name="nose-width", part=Part.NOSE, axis=Axis.SIDE, points=(358, 327), against=(129, 98)),
    Measure(name="nostrils", part=Part.NOSE, axis=Axis.HEIGHT, points=(129, 98), against=(358, 327)),
    Measure(name="commissures", part=Part.MOUTH, axis=Axis.HEIGHT, points=(61,), against=(291,)),
    Measure(name="mouth-side", part=Part.MOUTH, axis=Axis.SIDE, points=(61,), together=(291,)),
    Measure(name="mouth-width", part=Part.MOUTH, axis=Axis.SIDE, points=(291,), against=(61,)),
    Measure(
        name="upper-lip", part=Part.MOUTH, axis=Axis.HEIGHT, points=(37, 39, 40), against=(267, 269, 270)
    ),
    Measure(name="lower-lip", part=Part.MOUTH, axis=Axis.HEIGHT, points=(84, 181), against=(314, 405)),
    Measure(name="bow-side", part=Part.MOUTH, axis=Axis.SIDE, points=(37, 0, 267)),
    Measure(name="bow-height", part=Part.MOUTH, axis=Axis.HEIGHT, points=(37, 0, 267)),
    Measure(name="bow-dip", part=Part.MOUTH, axis=Axis.HEIGHT, points=(0,), against=(37, 267)),
    Measure(name="chin-height", part=Part.JAW, axis=Axis.HEIGHT, points=(148, 152, 377)),
    Measure(name="chin-side", part=Part.JAW, axis=Axis.SIDE, points=(148, 152, 377)),
    Measure(name="jaw-width", part=Part.JAW, axis=Axis.SIDE, points=(365, 288), against=(136, 58)),
    Measure(name="jaw-side", part=Part.JAW, axis=Axis.SIDE, points=(136, 58), together=(365, 288)),
)


PART_MEASURES: Final[Mapping[Part, tuple[int, ...]]] = {
    part: tuple(index for index, measure in enumerate(MEASURES) if measure.part is part) for part in Part
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """Each measure less what the rest of the face predicts, in standard deviations of normal faces."""

    residual: NDArray[np.float64]  # (len(MEASURES), 2 * len(LANDMARKS)) float64, of fractions of the side
    mean: NDArray[np.float64]  # (len(MEASURES),) of the residuals of normal faces, fractions of the side
    deviation: NDArray[np.float64]  # (len(MEASURES),), fractions of the side, > 0

    def residuals(self, landmarks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Measure less prediction, (len(MEASURES),) float64, fractions of the side.

        Args:
            landmarks: (478, 2) float64, pixels of the aligned square.
            size: its side in pixels.
        """
        at = (landmarks[list(LANDMARKS)] + 0.5) / size
        return np.asarray(self.residual @ at.ravel())

    def z(self, landmarks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Signed standard deviations from the expected, (len(MEASURES),) float64."""
        return (self.residuals(landmarks, size) - self.mean) / self.deviation


def paint(
    excess: Sequence[float] | NDArray[np.float64], landmarks: NDArray[np.float64], size: int, sigma: float
) -> NDArray[np.float32]:
    """Spread each measure's excess around its points.

    Args:
        excess: (len(MEASURES),) standard deviations over the usual; none is painted at or below 0.
        landmarks: (478, 2) float64, pixels of the square.
        size: its side in pixels.
        sigma: of the spread, fraction of the side.

    Returns:
        (size, size) float32, >= 0; the larger excess where two meet.
    """
    plane = np.zeros((size, size), np.float32)
    for height, measure in zip(excess, MEASURES, strict=True):
        if height <= 0:
            continue
        single = np.zeros((size, size), np.float32)
        points = [*measure.points, *measure.against, *measure.together]
        for column, row in np.rint(landmarks[points]).astype(int):
            if 0 <= row < size and 0 <= column < size:
                single[row, column] = 1
        spread = cv2.GaussianBlur(single, (0, 0), sigma * size)
        peak = float(spread.max())
        if peak > 0:
            plane = np.maximum(plane, np.float32(height) * spread / np.float32(peak))
    return plane
