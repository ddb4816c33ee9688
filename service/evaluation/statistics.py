"""How well scores agree with people, and how well they tell two groups apart.

Agreement is measured as in section IV of paper 000: Pearson, Spearman, and, after the scores are
brought to the rating scale by its three highest and three lowest ratings, mean absolute error
and first Wasserstein distance. Intervals are percentile bootstraps over photographs; that of the distance
is corrected for its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from service.appraisal.calibration import LEAST_RATING, MOST_RATING, linear_knots
from service.errors import ConfigurationError

Values = NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of one method's scores with the mean human ratings."""

    photographs: int
    pearson: Estimate
    spearman: Estimate
    mae: Estimate  # rating points, after scaling
    w1: Estimate  # rating points, between the two histograms, after scaling


@dataclass(frozen=True, kw_only=True)
class RaterAgreement:
    """Intraclass correlation of the raters: the ceiling for any method (Shrout and Fleiss 1979)."""

    model: str  # "ICC(2)" when every rater rated every photograph, else "ICC(1)"
    single: float  # of one rater
    mean: float  # of the mean of the raters


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Telling anomalous from normal at one threshold, and over all of them."""

    auroc: float
    eer: float  # equal error rate, 0..1
    sensitivity: float
    specificity: float
    ppv: float  # NaN when nothing was called anomalous
    npv: float


def agreement(
    scores: Sequence[float], ratings: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> Agreement:
    """Compare scores with mean ratings of the same photographs.

    Raises:
        ConfigurationError: Too few photographs, or constant scores or ratings.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    if np.ptp(y) == 0:
        raise ConfigurationError("the ratings are constant: nothing to agree with")
    if np.ptp(x) == 0:
        raise ConfigurationError("the scores are constant")
    scaled = to_ratings(x, y)
    resample = np.random.default_rng(seed).integers(0, len(x), (draws, len(x)))
    return Agreement(
        photographs=len(x),
        pearson=_bootstrap(_pearson, x, y, resample),
        spearman=_bootstrap(_spearman, x, y, resample),
        mae=_bootstrap(_mean_absolute_error, scaled, y, resample),
        w1=_bootstrap(_wasserstein, scaled, y, resample, is_distance=True),
    )


def to_ratings(scores: Values, ratings: Values) -> Values:
    """Bring scores to the rating scale by the paper's anchors, kept within 1 to 7.

    Where the highest ratings score no higher than the lowest, scores are spread over the ratings'
    range as they are: such a method agrees badly and is to show it.
    """
    try:
        (low, least), (high, most) = linear_knots(list(scores), list(ratings))
    except ConfigurationError:
        low, high = float(scores.min()), float(scores.max())
        least, most = float(ratings.min()), float(ratings.max())
    scaled = least + (scores - low) * (most - least) / (high - low)
    return np.clip(scaled, LEAST_RATING, MOST_RATING)


def rater_agreement(table: Values) -> RaterAgreement:
    """Intraclass correlation of the raters.

    Args:
        table: (photographs, raters) float64, NaN where a rater did not rate.

    Raises:
        ConfigurationError: Fewer than two photographs or two ratings each.
    """
    counts = np.isfinite(table).sum(1)
    if len(table) < 2 or counts.min() < 2:
        raise ConfigurationError("agreement of raters needs two photographs and two ratings of each")
    means = np.nanmean(table, axis=1)
    grand = float(np.nanmean(table))
    within = float(np.nansum((table - means[:, None]) ** 2))
    between = float((counts * (means - grand) ** 2).sum()) / (len(table) - 1)
    if np.isfinite(table).all():
        return _two_way(table, means, grand, between, within)
    average = float((counts.sum() - (counts**2).sum() / counts.sum()) / (len(table) - 1))
    error = within / float((counts - 1).sum())
    return RaterAgreement(
        model="ICC(1)",
        single=(between - error) / (between + (average - 1) * error),
        mean=(between - error) / between if between > 0 else 0.0,
    )


def _two_way(table: Values, means: Values, grand: float, between: float, within: float) -> RaterAgreement:
    photographs, raters = table.shape
    columns = photographs * float(((table.mean(0) - grand) ** 2).sum())
    rater = columns / (raters - 1)
    error = (within - columns) / ((photographs - 1) * (raters - 1))
    single = (between - error) / (between + (raters - 1) * error + raters * (rater - error) / photographs)
    mean = (between - error) / (between + (rater - error) / photographs)
    return RaterAgreement(model="ICC(2)", single=float(single), mean=float(mean))


def detection(
    normal: Sequence[float], anomalous: Sequence[float], threshold: float | None = None
) -> Detection:
    """Tell anomalous photographs from normal ones by a low score.

    Args:
        normal: Scores of normal photographs.
        anomalous: Scores of anomalous ones.
        threshold: Scores under it are called anomalous; None takes the one of equal error.

    Raises:
        ConfigurationError: A group is empty.
    """
    if not normal or not anomalous:
        raise ConfigurationError("both groups need at least one photograph")
    n, a = np.sort(np.asarray(normal, float)), np.sort(np.asarray(anomalous, float))
    wins = np.searchsorted(n, a, "left"), np.searchsorted(n, a, "right")
    auroc = 1.0 - float((wins[0] + wins[1]).sum()) / (2 * len(n) * len(a))
    cuts = np.unique(np.concatenate([n, a, [np.inf]]))
    false_positive = np.searchsorted(n, cuts, "left") / len(n)
    false_negative = 1.0 - np.searchsorted(a, cuts, "left") / len(a)
    best = int(np.argmin(np.abs(false_positive - false_negative)))
    cut = float(cuts[best]) if threshold is None else threshold
    called_n, called_a = float((n < cut).sum()), float((a < cut).sum())
    called, passed = called_n + called_a, len(n) + len(a) - called_n - called_a
    return Detection(
        auroc=auroc,
        eer=float((false_positive[best] + false_negative[best]) / 2),
        sensitivity=called_a / len(a),
        specificity=1.0 - called_n / len(n),
        ppv=called_a / called if called else float("nan"),
        npv=(len(n) - called_n) / passed if passed else float("nan"),
    )


def _pearson(a: Values, b: Values) -> Values:
    """Of each row of two (draws, photographs) tables."""
    a, b = (values - values.mean(1, keepdims=True) for values in (a, b))
    return np.asarray((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1)))


def _spearman(a: Values, b: Values) -> Values:
    return _pearson(stats.rankdata(a, axis=1), stats.rankdata(b, axis=1))


def _mean_absolute_error(a: Values, b: Values) -> Values:
    return np.asarray(np.abs(a - b).mean(1))


def _wasserstein(a: Values, b: Values) -> Values:
    """First Wasserstein distance of samples of one size: the mean distance of their order statistics."""
    return np.asarray(np.abs(np.sort(a, 1) - np.sort(b, 1)).mean(1))


def _bootstrap(
    figure: Callable[[Values, Values], Values],
    x: Values,
    y: Values,
    resample: NDArray[np.int64],
    *,
    is_distance: bool = False,
) -> Estimate:
    """A figure with its interval.

    A distance of distributions grows by resampling itself, so that the plain interval may lie wholly above
    the figure: what the draws are too large by on average is taken off (Efron and Tibshirani 1993, ch. 10).
    """
    drawn_x, drawn_y = x[resample], y[resample]
    varied = (np.ptp(drawn_x, axis=1) > 0) & (np.ptp(drawn_y, axis=1) > 0)
    tail = 50 * (1 - CONFIDENCE)
    value, low, high = float(figure(x[None], y[None])[0]), np.nan, np.nan
    if varied.any():
        drawn = figure(drawn_x[varied], drawn_y[varied])
        if is_distance:
            drawn = drawn - (drawn.mean() - value)
        low, high = np.percentile(drawn, [tail, 100 - tail])
    if is_distance:
        low = max(0.0, low)
    return Estimate(value=value, low=float(low), high=float(high))
