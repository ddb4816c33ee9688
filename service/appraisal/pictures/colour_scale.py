"""What the colours of a picture mean: one fixed scale for a method's version and calibration.

The unit is standard deviations above what is usual at that place of the face: the logarithm of the
difference, less its mean in normal faces there, over its standard deviation in normal faces there. Nothing
is painted below ``low``, a value that few normal faces reach anywhere; above ``high`` the colour stays the
last. Visits of one patient, and patients, can so be compared by their pictures. Neither is anything painted
that does not stand out from the rest of this face: a plain difference in one place raises the whole map of a
method that weighs the face as a whole, and is to be seen where it is.

A method without a calibration has nothing to compare with: its colours mean the picture's own differences,
and its legend says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

GRID: Final = 32  # cells a side in which what is usual is kept
PAINTED_SHARE: Final = 0.025  # of normal faces that may show any colour at all, at most
HIGH: Final = 10.0  # standard deviations painted with the last colour
_STANDS_OUT = 1.5  # standard deviations above the median of the face
_STEP = 0.5  # of standard deviations, to which ``low`` is rounded up
_LEAST_DIFFERENCE = 1e-12
_SMOOTH_CELLS = 1.0
_LEAST_FACES = 20
_LEAST_SPAN = 1e-12  # of a scale: differences of identical pictures


class ScaleUnit(StrEnum):
    """What a scale counts."""

    DEVIATIONS = "deviations"  # standard deviations above the usual at that place
    DIFFERENCE = "difference"  # the method's own differences, on a fixed scale
    RELATIVE = "relative"  # the method's own differences, on a scale of this picture alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Usual:
    """The logarithm of the difference in normal faces, by place in the method's square."""

    mean: NDArray[np.float32]  # (GRID, GRID) float32
    deviation: NDArray[np.float32]  # (GRID, GRID) float32, > 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourScale:
    """What the colours mean."""

    unit: ScaleUnit
    low: float  # not painted up to here
    high: float  # painted with the last colour from here
    usual: Usual | None = None  # of DEVIATIONS

    def __eq__(self, other: object) -> bool:
        """Whether the colours mean the same."""
        if not isinstance(other, ColourScale):
            return NotImplemented
        mine, theirs = scale_to_json(self), scale_to_json(other)
        return mine == theirs

    def __hash__(self) -> int:
        """By unit and ends."""
        return hash((self.unit, self.low, self.high))

    def values(self, difference: NDArray[np.float32]) -> NDArray[np.float32]:
        """A difference map in the scale's unit.

        Args:
            difference: (S, S) float32, >= 0, NaN where nothing was judged.

        Returns:
            (S, S) float32, NaN where nothing was judged.
        """
        if self.usual is None:
            return difference
        size = difference.shape[::-1]
        mean, deviation = (
            cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
            for plane in (self.usual.mean, self.usual.deviation)
        )
        return np.asarray((_logarithm(difference) - mean) / deviation, np.float32)

    def shown(self, difference: NDArray[np.float32]) -> NDArray[np.float32]:
        """As ``values``, but no more than ``low`` where they do not stand out from the face's own middle."""
        values = self.values(difference)
        if self.unit is not ScaleUnit.DEVIATIONS or not np.isfinite(values).any():
            return values
        common = values < np.nanmedian(values) + _STANDS_OUT
        return np.where(common, np.minimum(values, np.float32(self.low)), values).astype(np.float32)


def relative_scale(difference: NDArray[np.float32]) -> ColourScale:
    """A scale from the map itself, for methods without a calibration.

    Args:
        difference: (H, W) float32, NaN where nothing was judged.
    """
    values = difference[np.isfinite(difference)]
    if values.size == 0:
        return ColourScale(unit=ScaleUnit.RELATIVE, low=0.0, high=1.0)
    low, high = (float(value) for value in np.percentile(values, (50, 99.5)))
    # Relative: fourth powers of small differences (eq. (1) of paper 000) lie below a millionth.
    return ColourScale(unit=ScaleUnit.RELATIVE, low=low, high=max(high, low * (1 + 1e-6) + _LEAST_SPAN))


def measure_scale(maps: Sequence[NDArray[np.float32]]) -> ColourScale | None:
    """The scale of a method from its maps of normal faces.

    Args:
        maps: (S, S) float32 each, one a normal face, NaN where nothing was judged.

    Returns:
        None when there are too few.
    """
    if len(maps) < _LEAST_FACES:
        return None
    cells = np.stack([_cells(_logarithm(each)) for each in maps])
    known = np.isfinite(cells)
    enough = known.sum(0) >= max(_LEAST_FACES // 2, len(maps) // 10)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, cells, 0).sum(0) / count
    variance = np.where(known, (cells - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1)
    usual = Usual(mean=_spread(mean, enough), deviation=np.sqrt(_spread(variance, enough) + np.float32(1e-4)))
    draft = ColourScale(unit=ScaleUnit.DEVIATIONS, low=0.0, high=HIGH, usual=usual)
    most = [float(np.nanmax(draft.values(each))) for each in maps if np.isfinite(each).any()]
    low = float(np.ceil(np.quantile(most, 1 - PAINTED_SHARE) / _STEP) * _STEP)
    return ColourScale(unit=ScaleUnit.DEVIATIONS, low=low, high=max(HIGH, 2 * low), usual=usual)


def _logarithm(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.log(np.maximum(difference, np.float32(_LEAST_DIFFERENCE))), np.float32)


def _cells(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """Means over cells, (GRID, GRID); NaN where less than half a cell is known."""
    known = np.isfinite(plane)
    share = cv2.resize(known.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    total = cv2.resize(
        np.where(known, plane, 0).astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA
    )
    return np.where(share >= 0.5, total / np.maximum(share, 1e-3), np.nan).astype(np.float64)


def _spread(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A plane smoothed, and carried on from where it is known to all of the square."""
    value, weight = np.where(known, plane, 0).astype(np.float32), known.astype(np.float32)
    total, sure = np.zeros_like(value), np.zeros_like(weight)
    for sigma in (_SMOOTH_CELLS, 4 * _SMOOTH_CELLS, float(GRID)):
        near, here = (cv2.GaussianBlur(each, (0, 0), sigma) for each in (value, weight))
        share = (1 - sure) * np.clip(2 * here, 0, 1)
        total, sure = total + share * near / np.maximum(here, 1e-6), sure + share
    return np.asarray(total / np.maximum(sure, 1e-6), np.float32)


def scale_to_json(scale: ColourScale) -> Mapping[str, object]:
    """A scale of DEVIATIONS as a calibration keeps it."""
    if scale.usual is None:
        raise ValueError("only a scale of standard deviations is kept")
    return {
        "low": scale.low,
        "high": scale.high,
        "mean": [[round(float(v), 3) for v in row] for row in scale.usual.mean],
        "deviation": [[round(float(v), 3) for v in row] for row in scale.usual.deviation],
    }


def scale_from_json(raw: Mapping[str, object]) -> ColourScale:
    """Read what ``scale_to_json`` gave.

    Raises:
        ValueError: It is malformed.
    """
    mean, deviation = (np.asarray(raw[name], np.float32) for name in ("mean", "deviation"))
    low, high = (float(np.float64(raw[name])) for name in ("low", "high"))  # type: ignore[arg-type]
    if mean.shape != (GRID, GRID) or deviation.shape != mean.shape or not high > low:
        raise ValueError("the colour scale is of another shape")
    if not np.isfinite(mean).all() or not (deviation > 0).all():
        raise ValueError("the colour scale has values that are none")
    return ColourScale(
        unit=ScaleUnit.DEVIATIONS, low=low, high=high, usual=Usual(mean=mean, deviation=deviation)
    )
