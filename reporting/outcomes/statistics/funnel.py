"""Funnel plots: exact limits, and how far units vary beyond chance (Spiegelhalter 2005; SHMI).

Ratios of observed to expected have Poisson limits, proportions binomial ones, means normal ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2, norm, rankdata

from service.errors import OutcomeError

LEAST_CASES = 10  # under so many cases a unit has no limits
COVERAGES = (0.95, 0.998)
_TRIM = 10  # groups of ranks, of which the first and the last are cut off
Array = NDArray[np.float64]


class Transform(StrEnum):
    """Scale on which a ratio's deviation is measured."""

    LOG = "log"  # as SHMI: log(O/E), variance 1/E
    SQUARE_ROOT = "square-root"  # as the CQC: sqrt(O/E), variance 1/(4E)


class Adjustment(StrEnum):
    """What keeps outliers from hiding themselves in the over-dispersion."""

    TRUNCATED = "truncated"  # SHMI: the outer tenths are left out
    WINSORISED = "winsorised"  # Spiegelhalter: they are pulled in to the tenths


@dataclass(frozen=True, kw_only=True)
class Dispersion:
    """How far units vary beyond chance."""

    phi: float  # mean square of the adjusted z scores; 1 when chance explains all
    tau_squared: float  # variance between units on the scale of the z scores' numerators; 0 or more
    units: int


@dataclass(frozen=True, kw_only=True)
class FunnelLimits:
    """Limits of one coverage; arrays are (units,), NaN for a unit of too few cases."""

    coverage: float
    lower: Array
    upper: Array


def ratio_limits(expected: Sequence[float] | Array, coverage: float) -> tuple[Array, Array]:
    """Exact Poisson limits of observed over expected, about 1 (as SHMI and qicharts2 draw them).

    Args:
        expected: (units,) expected counts, more than 0.
        coverage: For example 0.95.

    Raises:
        OutcomeError: An expected count of 0 or less.
    """
    counts = np.asarray(expected, np.float64)
    if not (counts > 0).all():
        raise OutcomeError("a ratio needs an expected count of more than 0")
    tail = (1 - coverage) / 2
    lower = chi2.ppf(tail, 2 * counts) / 2 / counts
    upper = chi2.ppf(1 - tail, 2 * (counts + 1)) / 2 / counts
    return np.asarray(lower, np.float64), np.asarray(upper, np.float64)


def proportion_limits(totals: Sequence[int] | Array, target: float, coverage: float) -> tuple[Array, Array]:
    """Exact binomial (Clopper and Pearson) limits of a proportion about its target.

    Args:
        totals: (units,) numbers of cases, more than 0.
        target: Proportion over all units, 0..1.
        coverage: For example 0.95.

    Raises:
        OutcomeError: A total of 0, or a target outside 0..1.
    """
    cases = np.asarray(totals, np.float64)
    if not (cases > 0).all() or not 0 <= target <= 1:
        raise OutcomeError("a proportion needs cases, and a target of 0 to 1")
    tail, hits = (1 - coverage) / 2, cases * target
    lower = np.where(hits > 0, beta.ppf(tail, hits, cases - hits + 1), 0.0)
    upper = np.where(hits < cases, beta.ppf(1 - tail, hits + 1, cases - hits), 1.0)
    return lower.astype(np.float64), upper.astype(np.float64)


def mean_limits(totals: Sequence[int] | Array, sd: float, coverage: float) -> tuple[Array, Array]:
    """Normal limits of a mean about 0, of cases that vary by ``sd``."""
    cases = np.asarray(totals, np.float64)
    if not (cases > 0).all():
        raise OutcomeError("a mean needs cases")
    width = float(norm.ppf((1 + coverage) / 2)) * sd / np.sqrt(cases)
    return -width, width


def ratio_z(
    observed: Sequence[float] | Array, expected: Sequence[float] | Array, transform: Transform = Transform.LOG
) -> Array:
    """Z scores of ratios; on the log scale an observed 0 counts as one half."""
    found, counts = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
    if transform is Transform.LOG:
        return np.asarray(np.log(np.where(found > 0, found, 0.5) / counts) * np.sqrt(counts), np.float64)
    return np.asarray((np.sqrt(found / counts) - 1) * 2 * np.sqrt(counts), np.float64)


def ratio_variance(expected: Sequence[float] | Array, transform: Transform = Transform.LOG) -> Array:
    """Variance of a transformed ratio by chance alone."""
    counts = np.asarray(expected, np.float64)
    return 1 / counts if transform is Transform.LOG else 1 / (4 * counts)


def dispersion(
    z: Sequence[float] | Array,
    variance: Sequence[float] | Array,
    adjustment: Adjustment = Adjustment.TRUNCATED,
) -> Dispersion:
    """Over-dispersion of units.

    Args:
        z: (units,) z scores.
        variance: (units,) variance of each one's deviation by chance alone.
        adjustment: What is done about the outer tenths.

    Raises:
        OutcomeError: No unit is left.
    """
    scores, chance = np.asarray(z, np.float64), np.asarray(variance, np.float64)
    if len(scores) == 0:
        raise OutcomeError("over-dispersion needs units")
    kept = np.ones(len(scores), bool)
    if adjustment is Adjustment.TRUNCATED:
        # the tenths of SAS's PROC RANK, which SHMI is computed by
        tenth = np.floor(rankdata(scores) * _TRIM / (len(scores) + 1))
        kept = (tenth > 0) & (tenth < _TRIM - 1)
        scores = scores[kept]
    else:
        scores = np.clip(scores, *np.quantile(scores, [1 / _TRIM, 1 - 1 / _TRIM]))
    if len(scores) == 0:
        raise OutcomeError("over-dispersion needs more units")
    phi = float(np.mean(scores**2))
    weights = 1 / chance[kept]
    number = len(scores)
    spread = float(weights.sum() - (weights**2).sum() / weights.sum())
    tau_squared = max(0.0, (number * phi - (number - 1)) / spread) if spread > 0 else 0.0
    return Dispersion(phi=phi, tau_squared=tau_squared, units=number)


def dispersed_ratio_limits(
    expected: Sequence[float] | Array,
    tau_squared: float,
    coverage: float,
    transform: Transform = Transform.LOG,
) -> tuple[Array, Array]:
    """Limits of observed over expected when units vary by ``tau_squared`` beyond chance."""
    half = float(norm.ppf((1 + coverage) / 2)) * np.sqrt(ratio_variance(expected, transform) + tau_squared)
    if transform is Transform.LOG:
        return np.exp(-half), np.exp(half)
    return np.clip(1 - half, 0, None) ** 2, (1 + half) ** 2


def dispersed_mean_limits(
    totals: Sequence[int] | Array, sd: float, tau_squared: float, coverage: float
) -> tuple[Array, Array]:
    """Limits of a mean about 0 when units vary by ``tau_squared`` beyond chance."""
    cases = np.asarray(totals, np.float64)
    width = float(norm.ppf((1 + coverage) / 2)) * np.sqrt(sd**2 / cases + tau_squared)
    return -width, np.asarray(width, np.float64)


def without_small(limits: tuple[Array, Array], cases: Sequence[int] | Array, coverage: float) -> FunnelLimits:
    """Take the limits off units of fewer than LEAST_CASES cases."""
    small = np.asarray(cases, np.float64) < LEAST_CASES
    lower, upper = (np.where(small, np.nan, each) for each in limits)
    return FunnelLimits(coverage=coverage, lower=lower, upper=upper)
