"""Figures of the benchmark, each a plain function of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

Floats = npt.NDArray[np.float64]
Subject = TypeVar("Subject")
_PRO_LIMIT = 0.3  # false-positive rate up to which PRO is averaged (Bergmann et al. 2020)


def auroc(clean: Floats, anomalous: Floats) -> float:
    """Area under the ROC curve: the chance that an anomalous value exceeds a clean one.

    Args:
        clean: (N,) higher = more anomalous.
        anomalous: (M,) higher = more anomalous.

    Returns:
        0..1; NaN when either is empty.
    """
    if len(clean) == 0 or len(anomalous) == 0:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([clean, anomalous]))
    wins = ranks[len(clean) :].sum() - len(anomalous) * (len(anomalous) + 1) / 2
    return float(wins / (len(clean) * len(anomalous)))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 when either does not vary."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(stats.spearmanr(one, other).statistic)


def pixel_auroc(values: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
    """AUROC of one map's judged pixels against the true mask.

    Args:
        values: (H, W) float32, NaN where nothing was judged.
        mask: (H, W) bool, True where the face was changed.
    """
    judged = np.isfinite(values)
    return auroc(values[judged & ~mask].astype(np.float64), values[judged & mask].astype(np.float64))


def region_overlap(values: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
    """PRO: mean overlap with each connected true region, up to a false-positive rate of .3.

    Args:
        values: (H, W) float32, NaN where nothing was judged.
        mask: (H, W) bool, True where the face was changed.

    Returns:
        0..1; NaN when no changed pixel was judged.
    """
    judged = np.isfinite(values)
    parts, count = ndimage.label(mask & judged)
    clean = np.sort(values[judged & ~mask])[::-1]
    if count == 0 or len(clean) == 0:
        return float("nan")
    rates = np.linspace(0.01, _PRO_LIMIT, 30)
    cuts = clean[np.minimum((rates * len(clean)).astype(int), len(clean) - 1)]
    overlaps = [[(values[parts == part] > cut).mean() for part in range(1, count + 1)] for cut in cuts]
    return float(np.mean(overlaps))


def bootstrap_interval(
    subjects: Sequence[Subject],
    figure: Callable[[Sequence[Subject]], float],
    *,
    repeats: int,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a figure over resampled subjects.

    Args:
        subjects: all of them.
        figure: computes the figure for a list of subjects, repeats included.
        repeats: resamples; 0 gives NaN.
        seed: of the resampling.
    """
    if repeats == 0 or not subjects:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    values = [
        figure([subjects[i] for i in rng.integers(len(subjects), size=len(subjects))]) for _ in range(repeats)
    ]
    if not np.isfinite(values).any():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
