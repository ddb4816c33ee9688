"""Smooth displacement fields and soft brushes, from which every anomaly type is built.

Fields are computed on a grid of half the resolution and enlarged; what is returned is what is
applied, so the ground truth stays exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies.anatomy import Points
from service.appraisal.anomalies.change import Change, Field, minimum_jacobian

SMALLEST_JACOBIAN = 0.05
_STEP = 2


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The face that is to be changed."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) uint8, sRGB
    landmarks: Points  # (478, 2) float32, pixels
    unit: float  # inter-ocular distance, pixels


# A type of anomaly: its change of a face at a severity, what is open drawn by the generator.
Maker = Callable[[Canvas, float, np.random.Generator], Change]


def grid(canvas: Canvas) -> tuple[Field, Field]:
    """Pixel coordinates (x, y) of the coarse grid, each (h, w) float32."""
    height, width = canvas.image.shape[:2]
    rows, columns = np.mgrid[0:height:_STEP, 0:width:_STEP].astype(np.float32)
    return columns + (_STEP - 1) / 2, rows + (_STEP - 1) / 2


def enlarge(plane: Field, canvas: Canvas) -> Field:
    """A coarse plane at the face's resolution."""
    height, width = canvas.image.shape[:2]
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR))


def bell(canvas: Canvas, centre: Points, sigma: tuple[float, float], angle: float = 0.0) -> Field:
    """An elliptical Gaussian on the coarse grid, 1 at its centre.

    Args:
        canvas: the face.
        centre: (2,) float32, pixels.
        sigma: along the rotated x and y axis, pixels.
        angle: radians.
    """
    x, y = grid(canvas)
    dx, dy = x - float(centre[0]), y - float(centre[1])
    along = (np.cos(angle) * dx + np.sin(angle) * dy) / sigma[0]
    across = (-np.sin(angle) * dx + np.cos(angle) * dy) / sigma[1]
    return np.asarray(np.exp(-0.5 * (along**2 + across**2)), np.float32)


def plateau(
    canvas: Canvas,
    centre: Points,
    radius: tuple[float, float],
    angle: float = 0.0,
    edge: float = 0.25,
) -> Field:
    """A soft-edged ellipse on the coarse grid: 1 inside, 0 outside, ``edge`` radii wide."""
    x, y = grid(canvas)
    dx, dy = x - float(centre[0]), y - float(centre[1])
    along = (np.cos(angle) * dx + np.sin(angle) * dy) / radius[0]
    across = (-np.sin(angle) * dx + np.cos(angle) * dy) / radius[1]
    away = np.sqrt(along**2 + across**2)
    return np.asarray(np.clip((1 + edge - away) / edge, 0, 1), np.float32)


def pull(canvas: Canvas, points: Points, moves: Points, sigma: float) -> Field:
    """A smooth backward field that moves points (Gaussian interpolation, exact at the points).

    Args:
        canvas: the face.
        points: (N, 2) float32, pixels; where the points are.
        moves: (N, 2) float32, pixels; how they move, zero for anchors.
        sigma: width of the kernel, pixels.

    Returns:
        (h, w, 2) float32 on the coarse grid.
    """
    target = points + moves
    apart = ((target[:, None] - target[None]) ** 2).sum(-1)
    kernel = np.exp(-0.5 * apart / sigma**2) + 0.03 * np.eye(len(target))
    weights = np.linalg.solve(kernel, -moves.astype(np.float64)).astype(np.float32)
    x, y = grid(canvas)
    at = (x[..., None] - target[:, 0]) ** 2 + (y[..., None] - target[:, 1]) ** 2
    return np.asarray(np.exp(-0.5 * at / sigma**2, dtype=np.float32) @ weights, np.float32)


def scaled_to(plane: Field, canvas: Canvas, largest: float) -> tuple[Field, float]:
    """Give a field its largest displacement, less where it would fold.

    Args:
        plane: (h, w, 2) float32 on the coarse grid, any scale.
        canvas: the face.
        largest: wanted largest displacement, pixels.

    Returns:
        The full-resolution field (H, W, 2) and its true largest displacement in pixels.
    """
    full = enlarge(plane, canvas)
    peak = float(cv2.magnitude(full[..., 0], full[..., 1]).max())
    if peak < 1e-6:
        return np.zeros_like(full), 0.0
    full = full * np.float32(largest / peak)
    for _ in range(12):
        if minimum_jacobian(full) > SMALLEST_JACOBIAN:
            break
        full = full * np.float32(0.85)
        largest *= 0.85
    return full, largest
