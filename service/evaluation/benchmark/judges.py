"""What can be benchmarked: any method of the tables, and the oracle that shows the ceiling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.appraisal.appraiser import Appraiser
from service.appraisal.methods.pixels.comparators import multiscale
from service.appraisal.photograph.decode import photograph_from_rgb
from service.evaluation.benchmark.trial import Judged

NO_SCORE = "no-score"  # accepted, but nothing of the face could be judged


class AppraiserJudge:
    """A method as users run it: face finding, quality gates, alignment and all."""

    def __init__(self, appraiser: Appraiser) -> None:
        self._appraiser = appraiser

    def judge(self, image: NDArray[np.uint8], sham: NDArray[np.uint8]) -> Judged:
        """Judge one image; the sham is not looked at."""
        result = self._appraiser.appraise(photograph_from_rgb(image))
        if result.maps is None or result.appraisal.score is None:
            why = tuple(reason.value for reason in result.appraisal.reasons) or (NO_SCORE,)
            return Judged(anomaly=None, difference=None, appraised=result, reasons=why)
        return Judged(anomaly=-result.appraisal.score, difference=result.maps.difference, appraised=result)


class OracleJudge:
    """The true sham as the normal counterpart: what a perfect normaliser would reach."""

    def judge(self, image: NDArray[np.uint8], sham: NDArray[np.uint8]) -> Judged:
        """Judge one image against its own sham."""
        difference = multiscale(image.astype(np.float32), sham.astype(np.float32))
        return Judged(anomaly=float(difference.mean()), difference=difference)


ORACLE = "oracle"
NOT_METHODS: Mapping[str, type[OracleJudge]] = {ORACLE: OracleJudge}
