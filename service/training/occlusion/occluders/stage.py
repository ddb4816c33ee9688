"""What occluders are drawn on and with: exact masks, shading, texture and cast shadows.

Masks are drawn at twice the resolution and averaged, so that edges are antialiased and thin things
keep their true share of a pixel. All lengths are in inter-ocular distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies import inter_ocular_distance
from service.appraisal.anomalies.anatomy import CHEEKS, OVAL

Image = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

_FINE = 2  # subpixels a pixel and axis
_SHIFT = 4  # fractional bits of drawn coordinates


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A face to cover."""

    image: Image  # (S, S, 3) uint8, sRGB, aligned
    landmarks: Field  # (478, 2) float32, pixels
    unit: float  # inter-ocular distance, pixels

    @property
    def size(self) -> int:
        """Side in pixels."""
        return int(self.image.shape[0])

    def at(self, *points: int) -> Field:
        """Landmarks, (len(points), 2) float32."""
        return self.landmarks[list(points)]

    def skin(self) -> Field:
        """Mean colour of the cheeks, (3,) float32, 0..255."""
        points = np.clip(np.rint(self.at(*CHEEKS[0], *CHEEKS[1])), 0, self.size - 1).astype(int)
        return np.asarray(np.median(self.image[points[:, 1], points[:, 0]], axis=0), np.float32)


@dataclass(frozen=True, kw_only=True)
class Cover:
    """Something before a face."""

    alpha: Field  # (S, S) float32, 0..1, opacity of what is drawn
    colour: Field  # (S, S, 3) float32, 0..255
    covered: Field  # (S, S) float32, 0..1, what of the face may not be judged; wider than alpha for lenses
    shade: Field | None = None  # (S, S) float32, 0..1, factor of the light that still reaches the face


Maker = Callable[[Stage, np.random.Generator], Cover]


def stage_of(image: Image, landmarks: Field) -> Stage:
    """A stage of an aligned face."""
    return Stage(image=image, landmarks=landmarks, unit=inter_ocular_distance(landmarks))


def compose(stage: Stage, cover: Cover) -> Image:
    """Lay a cover over the face, (S, S, 3) uint8."""
    face = stage.image.astype(np.float32)
    if cover.shade is not None:
        face = face * cover.shade[..., None]
    mixed = face + cover.alpha[..., None] * (np.clip(cover.colour, 0, 255) - face)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def polygon(stage: Stage, *outlines: Field) -> Field:
    """Filled outlines, (S, S) float32, 0..1."""
    plane = np.zeros((stage.size * _FINE, stage.size * _FINE), np.uint8)
    for outline in outlines:
        cv2.fillPoly(plane, [_fixed(outline)], (255,), cv2.LINE_AA, _SHIFT)
    return _reduced(plane)


def stroke(stage: Stage, width: float, *lines: Field) -> Field:
    """Polylines with round ends, (S, S) float32, 0..1.

    Args:
        stage: the face.
        width: pixels.
        lines: each (N, 2) float32, pixels.
    """
    plane = np.zeros((stage.size * _FINE, stage.size * _FINE), np.uint8)
    thickness = max(round(width * _FINE), 1)
    for line in lines:
        cv2.polylines(plane, [_fixed(line)], False, (255,), thickness, cv2.LINE_AA, _SHIFT)
    faint = min(1.0, width * _FINE / thickness)
    return _reduced(plane) * np.float32(faint)


def _fixed(points: Field) -> npt.NDArray[np.int32]:
    fine = (points + 0.5) * _FINE - 0.5
    return np.asarray(np.rint(fine * (1 << _SHIFT)), np.int32)


def _reduced(plane: npt.NDArray[np.uint8]) -> Field:
    side = plane.shape[0] // _FINE
    small = cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def curve(points: Field, count: int = 40) -> Field:
    """A smooth curve through points (Catmull-Rom), (count, 2) float32."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    place = np.linspace(0, len(points) - 1 - 1e-4, count)
    index, t = place.astype(int), (place % 1)[:, None]
    p0, p1, p2, p3 = (padded[index + k] for k in range(4))
    out = (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    ) / 2
    return np.asarray(out, np.float32)


def closed(points: Field, per_side: int = 8) -> Field:
    """A smooth closed outline through points, (N, 2) float32."""
    around = np.concatenate([points[-2:], points, points[:2]])
    whole = curve(around, per_side * len(around))
    margin = 2 * per_side
    return whole[margin:-margin]


def noise(stage: Stage, rng: np.random.Generator, cells: float) -> Field:
    """Smooth noise of unit deviation with that many cells a side, (S, S) float32."""
    count = max(int(cells), 2)
    plane = rng.standard_normal((count, count), dtype=np.float32)
    way = cv2.INTER_CUBIC if count < stage.size else cv2.INTER_AREA
    return np.asarray(cv2.resize(plane, (stage.size, stage.size), interpolation=way), np.float32)


def blurred(plane: Field, sigma: float) -> Field:
    """Gaussian blur, pixels."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma, 0.3)), np.float32)


def grid(stage: Stage) -> tuple[Field, Field]:
    """Pixel coordinates x and y, each (S, S) float32."""
    rows, columns = np.mgrid[0 : stage.size, 0 : stage.size].astype(np.float32)
    return columns, rows


def plain(stage: Stage, colour: Field, variation: Field | None = None) -> Field:
    """A colour with its brightness varied, (S, S, 3) float32.

    Args:
        stage: the face.
        colour: (3,) float32, 0..255.
        variation: (S, S) float32, factor about 1.
    """
    out = np.broadcast_to(colour.astype(np.float32), (*stage.image.shape[:2], 3))
    return np.asarray(out if variation is None else out * variation[..., None], np.float32)


def light_of(stage: Stage) -> float:
    """How bright the scene is, about 1: things before a dark face are dark too."""
    oval = polygon(stage, stage.at(*OVAL)) > 0.5
    luminance = float(stage.image[oval].mean()) if oval.any() else 128.0
    return float(np.clip(0.42 + luminance / 260, 0.55, 1.05))


def shadow(stage: Stage, mask: Field, rng: np.random.Generator, reach: float = 0.05) -> Field:
    """The light left beside something that stands off the face, (S, S) float32.

    Args:
        stage: the face.
        mask: of the thing, (S, S) float32.
        rng: source of chance.
        reach: how far the shadow falls at most, inter-ocular distances.
    """
    if rng.random() < 0.2:
        return np.ones_like(mask)
    shift = rng.normal(0, 0.6, 2) * reach * stage.unit + np.array([0, 0.4 * reach * stage.unit])
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(mask, matrix, (stage.size, stage.size))
    soft = blurred(np.asarray(moved, np.float32), float(rng.uniform(0.2, 1.2)) * reach * stage.unit)
    return np.asarray(1 - np.float32(rng.uniform(0.1, 0.5)) * soft, np.float32)


def rounded(mask: Field, radius: float) -> Field:
    """Brightness of a bulging body, 1 along its middle and darker at its edges, (S, S) float32.

    Args:
        mask: (S, S) float32, 0..1.
        radius: of the bulge, pixels.
    """
    away = cv2.distanceTransform((mask > 0.4).astype(np.uint8), cv2.DIST_L2, 3) / max(radius, 1.0)
    height = np.sqrt(np.clip(1 - (1 - np.clip(away, 0, 1)) ** 2, 0, 1))
    return np.asarray(0.55 + 0.45 * height, np.float32)


def pick(rng: np.random.Generator, *colours: tuple[int, int, int]) -> Field:
    """One of some colours, slightly varied, (3,) float32."""
    chosen = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    varied = chosen * np.exp(rng.normal(0, 0.08)) * np.exp(rng.normal(0, 0.025, 3))
    return np.asarray(np.clip(varied, 3, 255), np.float32)


def any_colour(rng: np.random.Generator) -> Field:
    """Any colour, pale ones more often than gaudy ones, (3,) float32."""
    grey = rng.uniform(10, 245)
    hue = rng.uniform(10, 245, 3)
    return np.asarray(grey + rng.beta(1, 1.8) * (hue - grey), np.float32)
