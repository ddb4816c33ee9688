"""The face's own mirror image as its normal reference.

The aligned face is reflected over the facial midline, which is estimated from pairs of landmarks,
and lit as the face itself is: smooth shading is taken from the face, so that light from one side
does not count as a difference. Needs no weights; blind to what is symmetrical.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace, transform
from service.appraisal.face.regions import face_mask
from service.appraisal.tables import Normalised, NormaliserRow, Workplace

# Mesh points (patient's right, patient's left) of bone and canthi rather than lips, lids and jaw.
PAIRS = (
    (33, 263), (133, 362), (468, 473), (70, 300), (107, 336), (105, 334), (127, 356), (234, 454),
    (93, 323), (162, 389), (193, 417), (122, 351), (118, 347), (117, 346), (129, 358), (54, 284),
)  # fmt: skip
SHADING_SIGMA = 0.10  # of the square's side


@dataclass(frozen=True, kw_only=True)
class Midline:
    """The facial midline."""

    point: tuple[float, float]  # on the line, pixels
    normal: tuple[float, float]  # unit vector across it, to the picture's right

    def reflection(self) -> NDArray[np.float64]:
        """(2, 3) float64 matrix of the reflection over the line."""
        normal = np.array(self.normal)
        linear = np.eye(2) - 2.0 * np.outer(normal, normal)
        offset = 2.0 * float(normal @ np.array(self.point)) * normal
        return np.hstack([linear, offset[:, None]])


def facial_midline(landmarks: NDArray[np.float64]) -> Midline:
    """Estimate the midline: across the median direction of the pairs, through their median middle.

    Medians, because a facial difference displaces some of the pairs.

    Args:
        landmarks: (478, 2) float64, pixels.
    """
    right, left = (landmarks[[pair[side] for pair in PAIRS]] for side in (0, 1))
    across = left - right
    angle = float(np.median(np.arctan2(across[:, 1], across[:, 0])))
    normal = np.array([np.cos(angle), np.sin(angle)])
    middle = (left + right) / 2
    offset = float(np.median(middle @ normal))
    along = np.array([-normal[1], normal[0]])
    point = offset * normal + float(np.mean(middle @ along)) * along
    return Midline(point=(float(point[0]), float(point[1])), normal=(float(normal[0]), float(normal[1])))


class SymmetryNormaliser:
    """Reflects each face over its midline."""

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Normalised]:
        """Return the reflected, relit faces."""
        return [reflect(face) for face in faces]


def reflect(face: AlignedFace) -> Normalised:
    """Reflect a face over its midline and light it as it is itself."""
    size = face.size
    reflection = facial_midline(face.landmarks).reflection()
    mirrored = cv2.warpAffine(
        face.rgb, reflection, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    known = cv2.warpAffine(face.inside.astype(np.uint8), reflection, (size, size), flags=cv2.INTER_NEAREST)
    oval = face_mask(face.landmarks, (size, size))
    oval_mirrored = face_mask(transform(face.landmarks, reflection), (size, size))
    lit = _relight(np.asarray(mirrored, dtype=np.uint8), face.rgb, oval, oval_mirrored)
    return Normalised(rgb=lit, valid=np.asarray(known).astype(bool) & oval_mirrored)


def _relight(
    rgb: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    oval_reference: NDArray[np.bool_],
    oval: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Give a picture the smooth shading of another, each measured inside its own mask."""
    wanted, own = _shading(reference, oval_reference), _shading(rgb, oval)
    gain = np.clip((wanted + 8.0) / (own + 8.0), 0.4, 2.5)
    lit: NDArray[np.uint8] = np.clip(np.rint(rgb * gain), 0, 255).astype(np.uint8)
    return lit


def _shading(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Smooth part of the picture inside the mask, (S, S, 3) float32."""
    size = rgb.shape[0]
    small = max(16, size // 4)  # smooth by far more than a coarse pixel: nothing is lost
    weight = mask.astype(np.float32)
    planes = np.dstack([rgb * weight[..., None], weight]).astype(np.float32)
    coarse = cv2.resize(planes, (small, small), interpolation=cv2.INTER_AREA)
    smooth = np.asarray(cv2.GaussianBlur(coarse, (0, 0), SHADING_SIGMA * small))
    shading = smooth[..., :3] / np.maximum(smooth[..., 3:], 1e-3)
    return np.asarray(cv2.resize(shading, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _build(workplace: Workplace) -> SymmetryNormaliser:
    return SymmetryNormaliser()


ROW = NormaliserRow(name="symmetry", version="1", models=(), build=_build)
