"""Thin-plate splines: pictures bent so that landmarks come to lie where they are wanted.

Bookstein, Principal warps (1989). Fields are evaluated on a coarse grid and enlarged; they are backward:
``out(x) = in(x + field(x))``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace, warp

Points = NDArray[np.float64]
Picture = NDArray[np.uint8] | NDArray[np.float32]
_STEP: Final = 8  # pixels of the coarse grid
_UNIT: Final = 100.0  # pixels, so that the equations are well scaled
_MARGIN: Final = 32  # pixels around the square that a canvas has, where chins lie
_WHOLE_UP_TO: Final = 20.0  # pixels from what moves, up to which all of the field counts
_NOTHING_FROM: Final = 56.0  # from which none of it does
_STIFF: Final = 0.3  # of a face: how little the spline bends for single points
_LEAST_MOVE: Final = 0.05  # pixels under which nothing is drawn anew


@dataclass(frozen=True, kw_only=True, eq=False)
class Spline:
    """Splines over fixed control points, for any displacements of them."""

    points: Points  # (N, 2) float64, pixels, where displacements are given
    corner: float = 0.0  # of the square that the field covers, x and y alike, pixels
    side: int  # of that square, pixels
    stiff: float = _STIFF  # >= 0; 0 passes through every displacement

    @cached_property
    def _operator(self) -> NDArray[np.float64]:
        """Displacements of the control points to those of the coarse grid, (grid, N)."""
        count = len(self.points)
        system = np.zeros((count + 3, count + 3))
        system[:count, :count] = _kernel(self.points, self.points) + 0.01 * self.stiff * np.eye(count)
        system[:count, count:] = np.c_[np.ones(count), self.points / _UNIT]
        system[count:, :count] = system[:count, count:].T
        steps = self.corner + np.arange(0, self.side + _STEP, _STEP)
        nodes = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        basis = np.c_[_kernel(nodes, self.points), np.ones(len(nodes)), nodes / _UNIT]
        return np.asarray(np.linalg.solve(system, basis.T)[:count].T)

    def field(self, displacements: Points) -> NDArray[np.float32]:
        """The field, (side, side, 2) float32, pixels.

        Args:
            displacements: (N, 2) float64, pixels.
        """
        nodes = self.side // _STEP + 1
        coarse = (self._operator @ displacements).reshape(nodes, nodes, 2).astype(np.float32)
        enlarge = np.array([[1 / _STEP, 0, 0], [0, 1 / _STEP, 0]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        fine = cv2.warpAffine(
            coarse, enlarge, (self.side, self.side), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(fine, np.float32)


def _kernel(one: Points, other: Points) -> NDArray[np.float64]:
    squared = ((one[:, None] - other[None]) ** 2).sum(axis=-1) / _UNIT**2
    return np.asarray(0.5 * squared * np.log(np.maximum(squared, 1e-18)))


def sample(picture: Picture, field: NDArray[np.float32]) -> Picture:
    """Draw a picture through a backward field of its own size, by cubic interpolation.

    Args:
        picture: (S, S[, C]) uint8 or float32.
        field: (S, S, 2) float32, pixels.
    """
    rows, columns = np.mgrid[0 : field.shape[0], 0 : field.shape[1]].astype(np.float32)
    drawn = cv2.remap(
        picture,
        columns + field[..., 0],
        rows + field[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return drawn.astype(np.uint8) if picture.dtype == np.uint8 else drawn.astype(np.float32)


def border(low: float, high: float) -> Points:
    """Control points around a square, (20, 2) float64, pixels.

    Args:
        low: smallest coordinate.
        high: largest.
    """
    along = np.linspace(low, high, 6)
    across = [(x, y) for x in along for y in (low, high)]
    down = [(x, y) for x in (low, high) for y in along[1:-1]]
    return np.array(across + down)


def moved_back(face: AlignedFace, now: Points, wanted: Points, still: Points) -> NDArray[np.uint8]:
    """Draw a face so that some of its points come to lie where they are wanted.

    Nothing changes farther than ``_NOTHING_FROM`` from them.

    Args:
        face: aligned; what lies beyond its square is taken from its photograph.
        now: (N, 2) float64, pixels of the square.
        wanted: (N, 2) float64, likewise.
        still: (M, 2) float64, points that stay.

    Returns:
        (S, S, 3) uint8, sRGB.
    """
    size = face.size
    canvas = _canvas(face)
    fixed = np.vstack([still, border(-_MARGIN, size - 1 + _MARGIN)])
    spline = Spline(points=np.vstack([wanted, fixed]), corner=-_MARGIN, side=size + 2 * _MARGIN)
    field = spline.field(np.vstack([now - wanted, np.zeros_like(fixed)]))
    field *= _window(np.vstack([now, wanted]), field.shape[0])[..., None]
    moved = np.hypot(field[..., 0], field[..., 1]) > _LEAST_MOVE
    drawn = np.where(moved[..., None], sample(canvas, field), canvas)
    return np.asarray(drawn[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN], np.uint8)


def _canvas(face: AlignedFace) -> NDArray[np.uint8]:
    """The face and what is around its square, (S + 2 * _MARGIN, S + 2 * _MARGIN, 3) uint8."""
    shifted = face.matrix + np.array([[0, 0, _MARGIN], [0, 0, _MARGIN]])
    side = face.size + 2 * _MARGIN
    canvas, _ = warp(face.photograph.rgb, shifted, (side, side), fine=True)
    canvas[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = face.rgb
    return canvas


def _window(points: Points, side: int) -> NDArray[np.float32]:
    """1 near the points, 0 far from them, smooth between, (side, side) float32."""
    away = np.ones((side, side), np.uint8)
    for column, row in np.rint(points + _MARGIN).astype(int):
        cv2.circle(away, (int(column), int(row)), 2, (0,), -1)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    fall = np.clip((_NOTHING_FROM - distance) / (_NOTHING_FROM - _WHOLE_UP_TO), 0, 1)
    return np.asarray(fall * fall * (3 - 2 * fall), np.float32)
