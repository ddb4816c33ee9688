"""The explicit measures of normal faces: the pupils' distance that the rest of the face lets one expect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from service.appraisal.face.alignment import alignment_matrix, transform
from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS
from service.appraisal.methods.localised.explicit import (
    POINTS,
    Explicit,
    ExplicitMeasures,
    normed,
    towards_odd,
)
from service.appraisal.methods.localised.fusion import FaceReading
from service.training.faces import FacePool

COMPONENTS: Final = 25  # of the rest of the face
_AWAY: Final = 0.11  # of the square's side around a pupil in which points do not count
_SIDE: Final = 256
_TAIL: Final = 0.98  # quantile of normal faces by which a measure's spread is told
_NORMAL: Final = 2.054, 2.326  # standard deviations of it in a Gaussian: one-sided, two-sided


def fit_explicit(pool: FacePool) -> ExplicitMeasures:
    """Fit what pupils' distance to expect, on the meshes of normal faces.

    What is usual of the measures is found by ``usual``.

    Args:
        pool: training faces.
    """
    meshes = [pool.landmarks(number).astype(np.float64) for number in range(len(pool))]
    meshes = [transform(mesh, alignment_matrix(mesh, _SIDE)) for mesh in meshes]
    mean = np.mean(meshes, axis=0)
    pupils = mean[[RIGHT_IRIS, LEFT_IRIS]]
    away = np.hypot(*(mean[:, None] - pupils[None]).transpose(2, 0, 1)).min(axis=1)
    counted = (away > _AWAY * _SIDE) & (np.arange(POINTS) < min(RIGHT_IRIS, LEFT_IRIS))
    both = [normed(mesh, counted) for mesh in meshes]
    shapes = np.stack([shape for shape, _ in both])
    apart = np.array([np.hypot(*(mesh[LEFT_IRIS] - mesh[RIGHT_IRIS])) for mesh in meshes])
    target = np.log(apart / np.array([size for _, size in both]))
    centre = shapes.mean(axis=0)
    _, vectors = np.linalg.eigh((shapes - centre).T @ (shapes - centre))
    basis = vectors[:, -COMPONENTS:]
    table = np.c_[np.ones(len(shapes)), (shapes - centre) @ basis]
    slopes, *_ = np.linalg.lstsq(table, target, rcond=None)
    weights = np.where(np.repeat(counted, 2), basis @ slopes[1:], 0.0)
    return ExplicitMeasures(
        weights=weights,
        constant=float(slopes[0] - centre @ weights),
        middle=np.zeros(len(Explicit)),
        scale=np.ones(len(Explicit)),
    )


def usual(measures: ExplicitMeasures, shams: Sequence[FaceReading]) -> ExplicitMeasures:
    """The measures with the middle and spread of these normal faces.

    The spread is told by the tail, which is longer than a Gaussian's.

    Args:
        measures: as fitted, or of other normal faces.
        shams: readings of normal faces.
    """
    found = np.stack([measures.values(seen.landmarks, seen.redness) for seen in shams])
    middle = np.median(found, axis=0)
    tail = np.quantile(towards_odd(found - middle), _TAIL, axis=0)
    normal = np.array([_NORMAL[measure is Explicit.PUPILS] for measure in Explicit])
    return replace(measures, middle=middle, scale=np.maximum(tail / normal, 1e-6))
