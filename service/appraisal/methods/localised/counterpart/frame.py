"""The texture frame: a face bent to the mean shape, so that a place on it is the same in every face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.methods.localised.counterpart.warping import Picture, Points, Spline, border, sample

SIDE: Final = 256  # pixels of the frame
CELLS: Final = 128  # cells a side of the maps over it
_STIFF: Final = 0.05
# Pixels of the frame beside the landmarks that still show forehead and temples.
_FOREHEAD: Final = ((70, 44), (185, 44), (44, 70), (211, 70))
_EDGE: Final = 11  # cells of the face's edge left out: hair and background come in there


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8, sRGB, to (H, W, 3) float32, CIE L*a*b* (D65)."""
    scaled = rgb.astype(np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), np.float32)


def srgb(colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) float32, CIE L*a*b* (D65), to (H, W, 3) uint8, sRGB."""
    scaled = cv2.cvtColor(np.asarray(colours, np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(np.rint(np.clip(scaled * 255, 0, 255)), np.uint8)


def cells(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture of the frame by its cells, (CELLS, CELLS[, C]) float32."""
    return np.asarray(cv2.resize(plane, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32)


def pixels(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cells enlarged to a picture of the frame, (SIDE, SIDE[, C]) float32."""
    return np.asarray(cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """Takes faces of SIDE pixels to the mean shape and what is drawn there back to them."""

    mean: Points  # (len(LANDMARKS), 2) float64, pixels of the frame, the same as its mirror image

    @cached_property
    def _spline(self) -> Spline:
        return Spline(points=np.vstack([self.mean, border(0, SIDE - 1)]), side=SIDE, stiff=_STIFF)

    @cached_property
    def region(self) -> NDArray[np.bool_]:
        """Cells that show the face and nothing else, (CELLS, CELLS) bool, mirror-symmetric."""
        corners = np.vstack([self.mean, np.array(_FOREHEAD)]) * CELLS / SIDE
        plane = np.zeros((CELLS, CELLS), np.uint8)
        cv2.fillConvexPoly(plane, cv2.convexHull(np.rint(corners).astype(np.int32)), (1.0,))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_EDGE, _EDGE))
        inside = cv2.erode(plane, kernel) > 0
        return np.asarray(inside & inside[:, ::-1], np.bool_)

    def into(self, picture: Picture, points: Points) -> Picture:
        """A face's picture in the frame.

        Args:
            picture: (SIDE, SIDE[, C]), aligned.
            points: (len(LANDMARKS), 2) float64, its landmarks, pixels.
        """
        still = np.zeros((len(self._spline.points) - len(self.mean), 2))
        return sample(picture, self._spline.field(np.vstack([points - self.mean, still])))

    def back(self, picture: Picture, points: Points) -> Picture:
        """A picture of the frame on the face; the arguments are those of ``into``."""
        fixed = border(0, SIDE - 1)
        spline = Spline(points=np.vstack([points, fixed]), side=SIDE, stiff=_STIFF)
        return sample(picture, spline.field(np.vstack([self.mean - points, np.zeros_like(fixed)])))
