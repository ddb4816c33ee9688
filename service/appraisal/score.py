"""From a difference map to scores: eq. (3) of paper 000, for the face and for each region."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.appraisal.calibration import Calibration
from service.records import Region, RegionScore

FLOOR = 1e-12  # mean difference under which s(D) stops growing; identical pictures
MIN_JUDGED = 0.25  # fraction of a region that must have been judged for it to have a score


def score(difference: NDArray[np.float32], where: NDArray[np.bool_]) -> float | None:
    """s(D) = -log(mean D), eq. (3) of paper 000.

    Args:
        difference: (H, W) float32, >= 0; NaN where nothing was judged.
        where: (H, W) bool: the pixels that count.

    Returns:
        The score, higher = more normal; None when no pixel counts.
    """
    values = difference[where & np.isfinite(difference)]
    if values.size == 0:
        return None
    return float(-np.log(max(float(values.mean(dtype=np.float64)), FLOOR)))


def region_scores(
    difference: NDArray[np.float32],
    masks: Mapping[Region, NDArray[np.bool_]],
    calibration: Calibration | None,
) -> tuple[RegionScore, ...]:
    """Score every region.

    Args:
        difference: (H, W) float32; NaN where nothing was judged.
        masks: Region -> (H, W) bool.
        calibration: Of the method; None leaves z out.
    """
    return tuple(_region_score(region, difference, mask, calibration) for region, mask in masks.items())


def _region_score(
    region: Region, difference: NDArray[np.float32], mask: NDArray[np.bool_], calibration: Calibration | None
) -> RegionScore:
    count = int(mask.sum())
    judged = float((mask & np.isfinite(difference)).sum()) / count if count else 0.0
    value = score(difference, mask) if judged >= MIN_JUDGED else None
    z = None if value is None or calibration is None else calibration.z(region, value)
    return RegionScore(region=region, score=value, z=z, judged=judged)
