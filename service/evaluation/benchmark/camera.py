"""How much of a score the photograph tells, rather than the person: a regression on its quality."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.records import QualityMeasures

_FOLDS = 5
_RIDGE = 1.0
Floats = npt.NDArray[np.float64]


def camera_measures(quality: QualityMeasures) -> Floats:
    """What the photograph, not the person, may do to a score, (8,) float64."""

    def known(value: float | None) -> float:
        return 0.0 if value is None else float(value)

    return np.array(
        [
            np.log(max(known(quality.sharpness), 1.0)),
            np.log1p(known(quality.noise_sigma)),
            known(quality.blockiness),
            known(quality.mean_luminance) / 64,
            known(quality.clipped_fraction),
            np.log(max(known(quality.inter_ocular_px), 1.0)),
            abs(known(quality.yaw_deg)) / 10,
            known(quality.pitch_deg) / 10,
        ]
    )


def camera_part(measures: Floats, z: Floats) -> Floats:
    """The part of each score that its camera measures predict, from the other folds' faces.

    Args:
        measures: (N, M).
        z: (N,) scores with mean 0.

    Returns:
        (N,) ridge predictions, each from a fit that did not see the face.
    """
    scaled = (measures - measures.mean(axis=0)) / (measures.std(axis=0) + 1e-9)
    table = np.hstack([scaled, scaled**2 - 1])
    fold = np.arange(len(z)) % _FOLDS
    predicted = np.zeros(len(z))
    for held in range(_FOLDS):
        fit, out = fold != held, fold == held
        gram = table[fit].T @ table[fit] + _RIDGE * np.eye(table.shape[1])
        predicted[out] = table[out] @ np.linalg.solve(gram, table[fit].T @ z[fit])
    return predicted
