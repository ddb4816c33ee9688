"""Explicit measures of the drawn face, by which it is in the middle of normal faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS
from service.appraisal.methods.localised.explicit import POINTS, Explicit, ExplicitMeasures

CALM = 0.4  # redness of a face that has no red mark


def drawn_measures(mesh: np.ndarray) -> ExplicitMeasures:
    """Measures that expect of every face the pupils' distance of this one, whatever its shape."""
    weights = np.full((POINTS, 2), 1e-12)
    weights[min(RIGHT_IRIS, LEFT_IRIS) :] = 0
    plain = ExplicitMeasures(
        weights=weights.ravel(),
        constant=0.0,
        middle=np.zeros(len(Explicit)),
        scale=np.full(len(Explicit), 0.05),
    )
    return replace(plain, middle=plain.values(np.asarray(mesh, np.float64), CALM))
