"""Measures how much a score varies when a photograph is altered and nothing about the face has changed.

That is less than what varies between two photographs of a person (``service.evaluation.exposures``).
Each photograph is taken again in the computer: JPEG quality, scale, roll, small perspective (pose),
brightness, light from one side, white balance, and all together with noise and blur
(re-photography). From the scores come the within-subject standard deviation (the standard error
of measurement), the smallest detectable change 1.96 sqrt(2) SEM (Weir 2005) and the ICC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.appraiser import BATCH, Appraiser
from service.appraisal.photograph.decode import Photograph, photograph_from_rgb
from service.appraisal.repeatability import RegionRepeatability, Repeatability
from service.errors import ConfigurationError
from service.evaluation.retake import Picture, jpeg, light, perspective, scale
from service.evaluation.statistics import rater_agreement
from service.records import MethodIdentity, Region

LEAST_PEOPLE = 5
_DETECTABLE = 1.96 * np.sqrt(2.0)


def _rephotograph(rgb: Picture) -> Picture:
    """Everything a little, with a camera's blur and noise."""
    again = perspective(0.012, -0.008, -2.0)(light(1.06, 0.06, (1.03, 1.0, 0.97))(rgb))
    blurred = np.asarray(cv2.GaussianBlur(again, (0, 0), 0.0016 * max(rgb.shape[:2])), np.float32)
    noise = np.random.default_rng(0).normal(0, 2.5, blurred.shape)
    return jpeg(85)(np.asarray(np.clip(np.rint(blurred + noise), 0, 255), np.uint8))


CONDITIONS: Mapping[str, Callable[[Picture], Picture]] = {
    "as it is": lambda rgb: rgb,
    "JPEG 90": jpeg(90),
    "JPEG 60": jpeg(60),
    "scale 0.7": scale(0.7),
    "scale 1.4": scale(1.4),
    "roll 5": perspective(0.0, 0.0, 5.0),
    "pose right": perspective(0.02, 0.0, 0.0),
    "pose up": perspective(0.0, 0.02, 0.0),
    "brighter": light(gain=1.12),
    "darker": light(gain=0.85),
    "light from the side": light(side=0.15),
    "white balance": light(balance=(1.08, 1.0, 0.93)),
    "re-photography": _rephotograph,
}


def measure_repeatability(
    appraiser: Appraiser,
    photographs: Sequence[Photograph],
    people: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Repeatability:
    """Score every photograph under every condition.

    Args:
        appraiser: Of the method.
        photographs: All of them.
        people: Who each is of; None: all of different people.
        progress: Called with appraisals done and in all.

    Raises:
        ConfigurationError: Photographs of too few people could be judged.
    """
    tables = {region: np.full((len(photographs), len(CONDITIONS)), np.nan) for region in Region}
    total = len(photographs) * len(CONDITIONS)
    conditions = list(CONDITIONS.values())
    for row, photograph in enumerate(photographs):
        for start in range(0, len(conditions), BATCH):
            part = conditions[start : start + BATCH]
            taken = [photograph_from_rgb(again(photograph.rgb)) for again in part]
            for column, result in enumerate(appraiser.appraise_batch(taken, with_maps=False), start=start):
                for region in result.appraisal.regions:
                    if region.score is not None:
                        tables[region.region][row, column] = region.score
            progress(row * len(conditions) + start + len(part), total)
    whose = np.asarray(people if people is not None else [str(row) for row in range(len(photographs))])
    return _summarise(appraiser.identity, tables, whose)


def _summarise(
    method: MethodIdentity, tables: Mapping[Region, NDArray[np.float64]], people: NDArray[np.str_]
) -> Repeatability:
    regions = {
        region.value: found
        for region, table in tables.items()
        if (found := region_repeatability(table, people)) is not None
    }
    if Region.FACE.value not in regions:
        raise ConfigurationError(f"photographs of fewer than {LEAST_PEOPLE} people could be judged")
    face = tables[Region.FACE]
    judged = np.isfinite(face[:, 0])
    change = (face[judged] - face[judged, :1]) / regions[Region.FACE.value].within_sd
    missing = np.isnan(change).sum(0)
    return Repeatability(
        method=method,
        regions=regions,
        shift={
            name: float(np.nanmean(column))
            for name, column in zip(CONDITIONS, change.T, strict=True)
            if np.isfinite(column).any()
        },
        rejected={name: int(v) for name, v in zip(CONDITIONS, missing, strict=True)},
    )


def region_repeatability(table: NDArray[np.float64], people: NDArray[np.str_]) -> RegionRepeatability | None:
    """Repeatability of one region.

    Args:
        table: (rows, columns) float64, scores of one unchanged face a row; NaN where there is none.
        people: Who each row is of.

    Returns:
        None where fewer than LEAST_PEOPLE were judged twice.
    """
    judged = np.isfinite(table).sum(1) >= 2
    kept = table[judged]
    # more photographs of somebody say more of what varies within one, not of how people differ
    _, first = np.unique(people[judged], return_index=True)
    if len(first) < LEAST_PEOPLE:
        return None
    freedom = (np.isfinite(kept).sum(1) - 1).sum()
    within = float(np.nansum((kept - np.nanmean(kept, axis=1, keepdims=True)) ** 2) / freedom)
    deviation = max(float(np.sqrt(within)), 1e-9)
    # A hole makes it the one-way model: conditions are no raters whose means may be taken out.
    each = kept[np.sort(first)]
    holed = np.hstack([each, np.full((len(each), 1), np.nan)])
    return RegionRepeatability(
        within_sd=deviation,
        smallest_detectable_change=float(_DETECTABLE * deviation),
        icc=rater_agreement(holed).single,
        photographs=len(kept),
        people=len(first),
    )
