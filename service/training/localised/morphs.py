"""New normal people from two: a face with some of another's proportions, and some of its skin.

The archives hold few people of good resolution; a network comes to know them and judges strangers
more harshly. What lies between two normal faces is normal, so every draw can be a new person.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies import (
    Change,
    forward_points,
    inter_ocular_distance,
    minimum_jacobian,
    render,
)
from service.appraisal.anomalies.anatomy import OVAL
from service.training.faces import FacePool, NormalFace

Field = npt.NDArray[np.float32]
_MORPHED = 0.7  # share of the faces that are given another's proportions
_MOST = 0.8  # of the other's proportions
_BLENDED = 0.4  # share of the morphed that get some of the other's skin too
_STEP = 4  # pixels of the grid the warp is made on
_REACH = 0.08  # of a landmark's pull, inter-ocular distances
_FADE = 0.05  # of a landmark's weight at its own place, at which the pull is halved
_SMALLEST_JACOBIAN = 0.1
_TRIES = 4


def stranger(face: NormalFace, pool: FacePool, rng: np.random.Generator) -> NormalFace:
    """The face itself, or one between it and another of the pool.

    Args:
        face: S pixels a side.
        pool: where the other comes from.
        rng: source of all chance.
    """
    if rng.random() > _MORPHED:
        return face
    other = pool.face(pool.draw(rng), face.image.shape[0])
    share = float(rng.uniform(0.1, _MOST))
    blend = float(rng.uniform(0.1, 0.4)) if rng.random() < _BLENDED else 0.0
    return between(face, other, share, blend)


def between(face: NormalFace, other: NormalFace, share: float, blend: float) -> NormalFace:
    """A face with some of the proportions and of the skin of another.

    Args:
        face: S pixels a side.
        other: likewise.
        share: of the other's proportions, 0..1; less where the face would fold.
        blend: of the other's skin, 0..1; its light and colour are first made the face's own.
    """
    for _ in range(_TRIES):
        field = _warp(face, face.landmarks + np.float32(share) * (other.landmarks - face.landmarks))
        if minimum_jacobian(field) > _SMALLEST_JACOBIAN:
            break
        share /= 2
    else:
        return face
    image = render(face.image, _moving(field)).image
    landmarks = forward_points(face.landmarks, field)
    if blend:
        image = _blended(image, render(other.image, _moving(_warp(other, landmarks))).image, landmarks, blend)
    return replace(face, image=image, landmarks=landmarks)


def _moving(field: Field) -> Change:
    return Change(kind="morph", severity=0.0, magnitude=0.0, displacement=field)


def _warp(face: NormalFace, goal: Field) -> Field:
    """A smooth backward displacement that takes the landmarks towards a goal, (S, S, 2) float32."""
    size = face.image.shape[0]
    axis = np.arange(0, size, _STEP, dtype=np.float32) + (_STEP - 1) / 2
    width = _REACH * inter_ocular_distance(face.landmarks)
    near = np.exp(-0.5 * ((axis[:, None, None] - goal[:, ::-1]) / width) ** 2)  # (n, 478, 2)
    weights = np.einsum("rk,ck->rck", near[..., 0], near[..., 1])
    pull = weights @ (face.landmarks - goal)
    plane = pull / (weights.sum(-1, keepdims=True) + _FADE)
    return np.asarray(cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def _blended(
    image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], landmarks: Field, share: float
) -> npt.NDArray[np.uint8]:
    mask = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(mask, [np.rint(landmarks[list(OVAL)]).astype(np.int32)], (1.0,))
    inside = mask > 0
    soft = cv2.GaussianBlur(cv2.erode(mask, np.ones((9, 9))), (0, 0), 6.0)[..., None] * np.float32(share)
    own, theirs = image.astype(np.float32), other.astype(np.float32)
    spread = own[inside].std(0) / np.maximum(theirs[inside].std(0), 1.0)
    matched = (theirs - theirs[inside].mean(0)) * np.clip(spread, 0.5, 2.0) + own[inside].mean(0)
    return np.asarray(np.clip(np.rint(own + soft * (matched - own)), 0, 255), np.uint8)
