"""What shape to expect of a face: each unit given all that is not displaced.

The landmarks of normal faces and of their mirror images have a mean and a covariance. Given all
other points, a unit has a conditional mean and covariance, and its squared Mahalanobis distance from
them says how odd it is (Anderson, An Introduction to Multivariate Statistical Analysis, 2.5). The
worst unit beyond what normal faces have loses its say and is put where the others let one expect it;
then the next. A face in which no unit is beyond it is left as it is.

With the precision matrix P and the deviation d of all points, those of unit S are P[S,S]^-1 (P d)[S]
from their conditional mean, and the squared distance is (P d)[S]' P[S,S]^-1 (P d)[S].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.methods.localised.counterpart.units import UNITS, Unit
from service.appraisal.methods.localised.views import LANDMARKS
from service.errors import ModelIntegrityError

Points = NDArray[np.float64]
MOST_UNITS: Final = 4  # that lose their say; a face with more is not one to draw anew
LEAST_RATIO: Final = 0.25
_COORDINATES: Final = 2 * len(LANDMARKS)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Where a face's landmarks are expected."""

    points: Points  # (len(LANDMARKS), 2) float64, as the landmarks given
    units: tuple[Unit, ...]  # that lost their say, the oddest first; their points alone moved


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedShape:
    """Landmarks of normal faces: mean, covariance, and how odd each unit of them is."""

    mean: NDArray[np.float64]  # (2 * len(LANDMARKS),) float64, fractions of the aligned square's side
    covariance: NDArray[np.float64]  # (2 * len(LANDMARKS), 2 * len(LANDMARKS)) float64, of such
    usual: NDArray[np.float64]  # (len(UNITS),) squared distance that one normal face in a hundred exceeds
    threshold: float  # largest ratio to the usual of normal faces, with what leans on it, all units together

    @cached_property
    def _precision(self) -> NDArray[np.float64]:
        return np.linalg.inv(self.covariance)

    @cached_property
    def _inverses(self) -> tuple[NDArray[np.float64], ...]:
        return tuple(np.linalg.inv(self._precision[np.ix_(s, s)]) for s in _OWN)

    def distances(self, points: Points) -> NDArray[np.float64]:
        """Squared Mahalanobis distance of each unit given all other points, (len(UNITS),) float64.

        Args:
            points: (len(LANDMARKS), 2) float64, fractions of the aligned square's side.
        """
        pull = self._precision @ (points.ravel() - self.mean)
        return np.array(
            [pull[s] @ inverse @ pull[s] for s, inverse in zip(_OWN, self._inverses, strict=True)]
        )

    def ratios(self, points: Points) -> NDArray[np.float64]:
        """Distances over the usual, (len(UNITS),) float64; more than ``threshold`` is odd."""
        return self.distances(points) / self.usual

    def given_others(self, points: Points, chosen: frozenset[int]) -> Points:
        """The points with those chosen where all others let one expect them, (len(LANDMARKS), 2) float64.

        Args:
            points: (len(LANDMARKS), 2) float64, fractions of the aligned square's side.
            chosen: positions in LANDMARKS.
        """
        own = _coordinates(tuple(sorted(chosen)))
        pull = self._precision[own] @ (points.ravel() - self.mean)
        moved = points.ravel().copy()
        moved[own] -= np.linalg.solve(self._precision[np.ix_(own, own)], pull)
        return moved.reshape(-1, 2)

    def expect(self, points: Points, leaning: NDArray[np.float64] | None = None) -> Expectation:
        """Put the units that are odder than normal faces' where the others let one expect them.

        Args:
            points: (len(LANDMARKS), 2) float64, fractions of the aligned square's side.
            leaning: (len(UNITS),) float64, added to the logarithms of the ratios, by other evidence; None
                for nothing. A ratio of less than ``LEAST_RATIO`` is not odd whatever else speaks for it.
        """
        factors = np.ones(len(UNITS)) if leaning is None else np.exp(leaning)
        silent: frozenset[int] = frozenset()
        units: list[Unit] = []
        now = points
        while len(units) < MOST_UNITS:
            ratios = self.ratios(now)
            odd = np.where(ratios < LEAST_RATIO, 0.0, ratios * factors)
            odd[[silent.issuperset(unit.points) for unit in UNITS]] = 0.0
            worst = int(np.argmax(odd))
            if odd[worst] <= self.threshold:
                break
            silent |= frozenset(UNITS[worst].points)
            units.append(UNITS[worst])
            now = self.given_others(points, silent)
        return Expectation(points=now, units=tuple(units))

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        parts = {
            "shape_mean": self.mean,
            "shape_covariance": self.covariance,
            "shape_usual": self.usual,
            "shape_threshold": np.array([self.threshold]),
        }
        return {name: torch.from_numpy(np.asarray(part)) for name, part in parts.items()}


def _coordinates(points: tuple[int, ...]) -> NDArray[np.intp]:
    positions = np.array(points, np.intp)
    return np.asarray(np.stack([2 * positions, 2 * positions + 1], axis=1).ravel(), np.intp)


_OWN: Final = tuple(_coordinates(unit.points) for unit in UNITS)


def stored(tensors: Mapping[str, torch.Tensor], name: str, *shape: int) -> NDArray[np.float64]:
    """A stored part of that shape.

    Raises:
        ModelIntegrityError: it is missing or of another shape.
    """
    if name not in tensors:
        raise ModelIntegrityError(f"the expected face lacks {name!r}")
    if tuple(tensors[name].shape) != shape:
        raise ModelIntegrityError(f"the expected face's {name!r} is of another shape")
    return tensors[name].numpy().astype(np.float64)


def expected_shape_from(tensors: Mapping[str, torch.Tensor]) -> ExpectedShape:
    """Read a stored shape.

    Raises:
        ModelIntegrityError: a tensor is missing or of another shape.
    """
    return ExpectedShape(
        mean=stored(tensors, "shape_mean", _COORDINATES),
        covariance=stored(tensors, "shape_covariance", _COORDINATES, _COORDINATES),
        usual=stored(tensors, "shape_usual", len(UNITS)),
        threshold=float(stored(tensors, "shape_threshold", 1)[0]),
    )
