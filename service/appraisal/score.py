"""From a difference map to scores: eq. (3) of paper 000, for the face and for each region.

A method may know more of the whole face than its map tells; then the face has the method's own score, and
each region that of what the map shows in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.appraisal.calibration import Calibration
from service.records import ExclusionReason, Region, RegionScore

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
    *,
    whole: float | None = None,
    excluded: Mapping[Region, ExclusionReason] | None = None,
    occluded: Mapping[Region, float] | None = None,
) -> tuple[RegionScore, ...]:
    """Score every region.

    Args:
        difference: (H, W) float32; NaN where nothing was judged.
        masks: Region -> (H, W) bool.
        calibration: Of the method; None leaves z out.
        whole: Score of the whole face where it is not eq. (3) of the map.
        excluded: Regions that get no score, and why.
        occluded: Fraction of each region that something lies before.
    """
    reasons, shares = excluded or {}, occluded or {}
    scores = []
    for region, mask in masks.items():
        judged = _judged(difference, mask)
        value = None
        if judged >= MIN_JUDGED and region not in reasons:
            value = whole if whole is not None and region is Region.FACE else score(difference, mask)
        scores.append(
            RegionScore(
                region=region,
                score=value,
                z=None if value is None or calibration is None else calibration.z(region, value),
                judged=judged,
                reason=reasons.get(region, ExclusionReason.NO_REFERENCE) if value is None else None,
                occluded=shares.get(region, 0.0),
            )
        )
    return tuple(scores)


def _judged(difference: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    count = int(mask.sum())
    return float((mask & np.isfinite(difference)).sum()) / count if count else 0.0
