"""Alignment of a face to a canonical square, and back to the photograph.

The similarity is the least-squares one (Umeyama 1991) that takes the iris centres to
(.32, .38) and (.68, .38) and the middle of the commissures to (.5, .745) of the square. It is
continuous in the landmarks and commutes with mirroring, so that a photograph taken again, or
mirrored, is aligned alike; a least-median fit of three points jumps between pairs of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.finder import LEFT_COMMISSURE, LEFT_IRIS, RIGHT_COMMISSURE, RIGHT_IRIS, Face
from service.appraisal.photograph.decode import Photograph

CANONICAL_POINTS = ((0.32, 0.38), (0.68, 0.38), (0.5, 0.745))  # right iris, left iris, mouth
CANONICAL_INTER_OCULAR = 0.36  # of the square's side


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedFace:
    """A face in the canonical square, with the way back."""

    rgb: NDArray[np.uint8]  # (S, S, 3) uint8, sRGB; edge pixels repeated outside the photograph
    landmarks: NDArray[np.float64]  # (478, 2) float64, pixels of the square
    matrix: NDArray[np.float64]  # (2, 3) float64: photograph pixels -> pixels of the square
    inside: NDArray[np.bool_]  # (S, S): the pixel lies in the photograph
    photograph: Photograph  # the source, for passes at another resolution
    face: Face  # in photograph pixels

    @property
    def size(self) -> int:
        """Side of the square in pixels."""
        return int(self.rgb.shape[0])

    @property
    def to_photograph(self) -> NDArray[np.float64]:
        """(2, 3) float64: pixels of the square -> pixels of the photograph."""
        return _inverse(self.matrix)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares similarity without reflection (Umeyama 1991).

    Args:
        source: (N, 2) float64.
        target: (N, 2) float64.

    Returns:
        (2, 3) float64, taking source to target.
    """
    p, q = source - source.mean(0), target - target.mean(0)
    power = float((p**2).sum())
    cosine = float((p * q).sum()) / power
    sine = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / power
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack([linear, (target.mean(0) - linear @ source.mean(0))[:, None]])


def alignment_matrix(landmarks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Similarity from photograph pixels to pixels of the canonical square.

    Args:
        landmarks: (478, 2) float64, photograph pixels.
        size: Side of the square in pixels.

    Returns:
        (2, 3) float64.
    """
    mouth = (landmarks[RIGHT_COMMISSURE] + landmarks[LEFT_COMMISSURE]) / 2
    source = np.stack([landmarks[RIGHT_IRIS], landmarks[LEFT_IRIS], mouth])
    return similarity(source, np.array(CANONICAL_POINTS) * size - 0.5)


def align(photograph: Photograph, face: Face, size: int = 256, *, fine: bool = False) -> AlignedFace:
    """Cut the face out of the photograph into the canonical square.

    Args:
        photograph: The source.
        face: A face found in it.
        size: Side of the square in pixels.
        fine: Whether to interpolate with cubics, which keep what linear interpolation blurs.
    """
    matrix = alignment_matrix(face.landmarks, size)
    rgb, inside = warp(photograph.rgb, matrix, (size, size), fine=fine)
    return AlignedFace(
        rgb=rgb,
        landmarks=transform(face.landmarks, matrix),
        matrix=matrix,
        inside=inside,
        photograph=photograph,
        face=face,
    )


def transform(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply a (2, 3) affine matrix to (N, 2) points."""
    moved: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def warp(
    rgb: NDArray[np.uint8], matrix: NDArray[np.float64], shape: tuple[int, int], *, fine: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Resample part of a photograph, averaging first where it is reduced.

    Args:
        rgb: (H, W, 3) uint8.
        matrix: (2, 3) float64: photograph pixels -> output pixels; a similarity.
        shape: Rows and columns of the output.
        fine: Whether to interpolate with cubics rather than linearly.

    Returns:
        (h, w, 3) uint8 with edge pixels repeated outside the photograph, and (h, w) bool, true inside it.
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    part, left, top = _needed_part(rgb, matrix, shape)
    reduction = min(1.0, 1.5 * scale)
    size = (max(1, round(part.shape[1] * reduction)), max(1, round(part.shape[0] * reduction)))
    small = part if reduction == 1.0 else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    fx, fy = part.shape[1] / small.shape[1], part.shape[0] / small.shape[0]
    # small pixel -> photograph pixel, on pixel centres
    back = np.array([[fx, 0, 0.5 * fx - 0.5 + left], [0, fy, 0.5 * fy - 0.5 + top], [0, 0, 1.0]])
    whole = np.vstack([matrix, [0, 0, 1.0]])
    out = cv2.warpAffine(
        small,
        (whole @ back)[:2],
        (shape[1], shape[0]),
        flags=cv2.INTER_CUBIC if fine else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(out, dtype=np.uint8), _inside(matrix, shape, rgb.shape[:2])


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)


def _needed_part(
    rgb: NDArray[np.uint8], matrix: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], int, int]:
    """Return the part of the photograph an output of that shape draws from, its left and its top."""
    height, width = rgb.shape[:2]
    rows, columns = shape
    corners = np.array([[-1, -1], [columns, -1], [-1, rows], [columns, rows]], dtype=np.float64)
    reach = transform(corners, _inverse(matrix))
    left, top = (int(v) for v in np.clip(np.floor(reach.min(0)) - 2, 0, (width - 1, height - 1)))
    right, bottom = (int(v) for v in np.clip(np.ceil(reach.max(0)) + 3, (left + 1, top + 1), (width, height)))
    return rgb[top:bottom, left:right], left, top


def _inside(
    matrix: NDArray[np.float64], shape: tuple[int, int], source: tuple[int, ...]
) -> NDArray[np.bool_]:
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
    inverse = _inverse(matrix)
    x = inverse[0, 0] * columns + (inverse[0, 1] * rows + inverse[0, 2])
    y = inverse[1, 0] * columns + (inverse[1, 1] * rows + inverse[1, 2])
    inside: NDArray[np.bool_] = (x >= -0.5) & (y >= -0.5) & (x <= source[1] - 0.5) & (y <= source[0] - 0.5)
    return inside


def resized(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """An aligned face at another resolution, (size, size, 3) uint8, sRGB.

    Args:
        rgb: (S, S, 3) uint8, sRGB.
        size: Side wanted, pixels.
    """
    if rgb.shape[0] == size:
        return rgb
    way = cv2.INTER_AREA if rgb.shape[0] > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (size, size), interpolation=way), np.uint8)
