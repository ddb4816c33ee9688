"""Explicit measures, where the picture's networks are blind: redness, and how far apart the pupils are.

A network that was not shown marks as bright as the skin, eyes set wide or one that squints does not see
them; a ruler does. Each measure is in standard deviations of normal faces, and speaks as a Gaussian would
of an anomaly that moves it by ``SHIFT`` of them: log likelihood ratio SHIFT z - SHIFT^2 / 2. Nothing in it
was fitted to anomalies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS

SHIFT: Final = 2.5  # standard deviations by which an anomaly moves a measure
LEAST, MOST = -3.0, 6.0  # standard deviations beyond which a measure says no more
POINTS: Final = 478  # of the mesh
_SIDES: Final = (234, 454)  # points of the mesh at the face's sides
_NOTHING: Final = 1e-3  # redness under which there is none


class Explicit(StrEnum):
    """What is measured."""

    REDNESS = (
        "redness"  # the reddest mark against the face's own skin, over what normal faces have; high is odd
    )
    PUPILS = "distance of the pupils"  # against all of the face but the eyes; both ways are odd
    WIDTH = "pupils over face width"  # high is odd


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplicitMeasures:
    """The measures of normal faces."""

    # (2 * POINTS,) float64: weights of the mesh's coordinates, brought to mean 0 and size 1, in the expected
    # logarithm of the pupils' distance; 0 of points that do not count
    weights: NDArray[np.float64]
    constant: float
    middle: NDArray[np.float64]  # (len(Explicit),) medians of normal faces
    scale: NDArray[np.float64]  # (len(Explicit),) standard deviations towards the odd, > 0

    def values(self, mesh: NDArray[np.float64], redness: float) -> NDArray[np.float64]:
        """The measures, (len(Explicit),) float64, logarithms.

        Args:
            mesh: (POINTS, 2) float64, any unit, upright.
            redness: of the face, >= 0, over that of normal faces.
        """
        shape, size = normed(mesh, self.weights.reshape(-1, 2).any(axis=1))
        apart = float(np.hypot(*(mesh[LEFT_IRIS] - mesh[RIGHT_IRIS])))
        wide = float(np.hypot(*(mesh[_SIDES[1]] - mesh[_SIDES[0]])))
        expected = self.constant + float(shape @ self.weights)
        return np.array(
            [np.log(redness + _NOTHING), np.log(apart / size) - expected, np.log(apart / wide)], np.float64
        )

    def log_ratios(self, mesh: NDArray[np.float64], redness: float) -> NDArray[np.float64]:
        """Log likelihood ratio of each measure, (len(Explicit),) float64.

        The arguments are those of ``values``.
        """
        z = towards_odd(self.values(mesh, redness) - self.middle) / self.scale
        return np.asarray(SHIFT * np.clip(z, LEAST, MOST) - SHIFT**2 / 2, np.float64)


def towards_odd(away: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far measures are from the middle in the way that is odd, (..., len(Explicit)) float64."""
    two_sided = np.array([measure is Explicit.PUPILS for measure in Explicit])
    return np.where(two_sided, np.abs(away), away)


def normed(mesh: NDArray[np.float64], counted: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """The counted points brought to mean 0 and size 1, (2 * POINTS,) float64, 0 of others; and their size.

    Args:
        mesh: (POINTS, 2) float64, any unit.
        counted: (POINTS,) bool.
    """
    centred = np.where(counted[:, None], mesh - mesh[counted].mean(axis=0), 0.0)
    size = float(np.sqrt((centred**2).sum()))
    return (centred / size).ravel(), size
