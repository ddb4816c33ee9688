"""What the default method's scores mean: the normal cohort, the rating scale, the heatmap's range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.appraisal.calibration import Calibration, map_range, normal_cohort, region_statistics
from service.appraisal.face.regions import region_masks
from service.appraisal.methods.localised.fusion import Fusion
from service.appraisal.pictures.colour_scale import measure_scale
from service.appraisal.registry import METHODS
from service.appraisal.score import region_scores
from service.errors import ConfigurationError
from service.records import Region
from service.training.localised.calibrate import Sample

_SEVERE = 0.7  # severity from which an anomaly anchors the low end of the rating
_FEWEST = 10


def cohort(samples: Sequence[Sample], fusion: Fusion, *, version: str, basis: str) -> Calibration:
    """Calibrate scores on shams (the normal cohort) and severe synthetic anomalies (rating 1).

    Args:
        samples: of faces kept out of training.
        fusion: of the method.
        version: of the calibration.
        basis: what it was made from, in a sentence.

    Raises:
        ConfigurationError: too few faces, or severe anomalies do not score lower.
    """
    normal: list[float] = []
    severe: list[float] = []
    regions: dict[Region, list[float]] = {}
    maps = []
    for sample in samples:
        if not sample.seen.face.any():
            continue
        value = -fusion.total(sample.seen)
        if sample.severity >= _SEVERE:
            severe.append(value)
        if sample.severity > 0:
            continue
        normal.append(value)
        difference = np.where(sample.seen.face, fusion.difference(sample.seen), np.nan).astype(np.float32)
        maps.append(difference[::4, ::4])
        masks = region_masks(sample.seen.landmarks, (sample.seen.size, sample.seen.size))
        for region in region_scores(difference, masks, None, whole=value):
            if region.score is not None:
                regions.setdefault(region.region, []).append(region.score)
    if len(normal) < _FEWEST or len(severe) < _FEWEST:
        raise ConfigurationError("too few faces to calibrate on")
    low, high = float(np.percentile(severe, 10)), float(np.median(normal))
    if low >= high:
        raise ConfigurationError("severe synthetic anomalies do not score lower than normal faces")
    return Calibration(
        version=version,
        method="default",
        method_version=METHODS["default"].version,
        basis=basis,
        rating_knots=((low, 1.0), (high, 7.0)),
        normal_quantiles=normal_cohort(normal),
        regions=region_statistics(regions),
        map_range=map_range(maps),
        colour_scale=measure_scale(maps),
    )
