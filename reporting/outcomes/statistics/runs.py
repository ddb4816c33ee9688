"""Run charts by Anhoej's rules: an unusually long run, or unusually few crossings of the median.

Anhoej and Olesen, PLoS ONE 9(11): e113825, 2014. Points on the median count for neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from service.errors import OutcomeError

_CHANCE = 0.05  # lower quantile of the number of crossings


@dataclass(frozen=True, kw_only=True)
class RunChart:
    """A run chart's numbers."""

    median: float
    useful: int  # points off the median
    longest_run: int
    longest_run_limit: int  # a longer one is a signal
    crossings: int
    crossings_limit: int  # fewer are a signal

    @property
    def shifted(self) -> bool:
        """Whether a run is unusually long."""
        return self.longest_run > self.longest_run_limit

    @property
    def clustered(self) -> bool:
        """Whether the median is crossed unusually seldom."""
        return self.crossings < self.crossings_limit

    @property
    def signals(self) -> bool:
        """Whether the variation is other than by chance."""
        return self.shifted or self.clustered


def longest_run_limit(useful: int) -> int:
    """The longest run to be expected of so many points off the median: log2(n) + 3, rounded."""
    return 0 if useful < 1 else round(log2(useful) + 3)


def crossings_limit(useful: int) -> int:
    """The least crossings to be expected: 5 % quantile of a binomial of n - 1 and one half."""
    return 0 if useful < 2 else int(binom.ppf(_CHANCE, useful - 1, 0.5))


def run_chart(values: Sequence[float] | NDArray[np.float64], median: float | None = None) -> RunChart:
    """Judge a run chart.

    Args:
        values: (n,) finite, in the order of time.
        median: Frozen from an earlier baseline; None takes that of the values.

    Raises:
        OutcomeError: No value, or one that is not a number.
    """
    points = np.asarray(values, np.float64)
    if points.ndim != 1 or len(points) == 0 or not np.isfinite(points).all():
        raise OutcomeError("a run chart needs values, all of them numbers")
    centre = float(np.median(points)) if median is None else median
    sides = np.sign(points - centre)
    sides = sides[sides != 0]
    changes = np.flatnonzero(np.diff(sides)) + 1
    runs = np.diff([0, *changes, len(sides)])
    return RunChart(
        median=centre,
        useful=len(sides),
        longest_run=int(runs.max()) if len(sides) else 0,
        longest_run_limit=longest_run_limit(len(sides)),
        crossings=len(changes),
        crossings_limit=crossings_limit(len(sides)),
    )
