"""What shape to expect: each measure of the mesh predicted from the rest of the face, on normal faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import alignment_matrix, transform
from service.appraisal.methods.localised.shape import MEASURES, PART_POINTS, Measure, Shape
from service.appraisal.methods.localised.views import LANDMARKS, MIRRORED
from service.errors import ConfigurationError
from service.training.faces import FacePool

COMPONENTS = 12  # of the rest of the face; more would predict a part from its own displacement
FEWEST = 300  # normal faces for a prediction
_RIDGE = 30.0
_SIZE = 256


def fit_shape(pool: FacePool) -> Shape:
    """Fit the predictions on the meshes of normal faces and of their mirror images.

    Args:
        pool: training faces.

    Raises:
        ConfigurationError: fewer than FEWEST faces.
    """
    if len(pool) < FEWEST:
        raise ConfigurationError(f"{len(pool)} faces are too few for a model of shape; it takes {FEWEST}")
    points = np.stack([_aligned(pool.landmarks(number)) for number in range(len(pool))])
    mirrored = points[:, list(MIRRORED)] * np.array([-1, 1]) + np.array([1, 0])
    faces = np.concatenate([points, mirrored]).reshape(2 * len(points), -1)
    residual = np.stack([_residual(measure, faces) for measure in MEASURES])
    found = faces @ residual.T
    return Shape(residual=residual, mean=found.mean(axis=0), deviation=found.std(axis=0))


def _aligned(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """The points of LANDMARKS as fractions of the aligned square, (len(LANDMARKS), 2)."""
    mesh = landmarks.astype(np.float64)
    return (transform(mesh, alignment_matrix(mesh, _SIZE))[list(LANDMARKS)] + 0.5) / _SIZE


def _residual(measure: Measure, faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the coordinates that give the measure less its prediction, (2 * len(LANDMARKS),).

    Principal components regression with a ridge, on the points of all other parts.
    """
    own = PART_POINTS[measure.part]
    rest = np.repeat([point not in own for point in LANDMARKS], 2)
    others = faces[:, rest]
    centre = others.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((others - centre).T))
    basis = vectors[:, -COMPONENTS:]
    scores = (others - centre) @ basis
    scale = scores.std(axis=0)
    functional = measure.functional().ravel()
    values = faces @ functional
    standard = scores / scale
    gram = standard.T @ standard + _RIDGE * np.eye(COMPONENTS)
    slopes = np.linalg.solve(gram, standard.T @ (values - values.mean()))
    weights = functional.copy()
    weights[rest] -= basis @ (slopes / scale)
    return weights
