"""p charts: the proportion of each month, with limits for its own number (Montgomery, chapter 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import OutcomeError

_SIGMAS = 3.0


@dataclass(frozen=True, kw_only=True)
class PChart:
    """A p chart; arrays are (n,) float64, proportions 0..1."""

    centre: float
    proportions: NDArray[np.float64]  # NaN where nothing was counted
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    signals: tuple[int, ...]  # indices of points beyond their limits


def p_chart(
    counts: Sequence[int] | NDArray[np.int_],
    totals: Sequence[int] | NDArray[np.int_],
    *,
    baseline: int | None = None,
    centre: float | None = None,
) -> PChart:
    """Proportions and their three-sigma limits.

    Args:
        counts: (n,) of those that count, in the order of time.
        totals: (n,) of all.
        baseline: Points the centre is set from; None takes all.
        centre: Known beforehand; wins over the baseline.

    Raises:
        OutcomeError: A count beyond its total, or nothing counted at all.
    """
    hits, all_of_them = np.asarray(counts, np.int64), np.asarray(totals, np.int64)
    if hits.shape != all_of_them.shape or hits.ndim != 1 or (hits < 0).any() or (hits > all_of_them).any():
        raise OutcomeError("a p chart needs counts of 0 to their total, and as many totals as counts")
    base = int(all_of_them[:baseline].sum())
    if centre is None:
        if base == 0:
            raise OutcomeError("a p chart needs something counted")
        centre = float(hits[:baseline].sum() / base)
    with np.errstate(divide="ignore", invalid="ignore"):
        proportions = np.where(all_of_them > 0, hits / all_of_them, np.nan)
        width = np.where(all_of_them > 0, _SIGMAS * np.sqrt(centre * (1 - centre) / all_of_them), np.nan)
    lower, upper = np.clip(centre - width, 0, 1), np.clip(centre + width, 0, 1)
    beyond = (proportions < lower) | (proportions > upper)
    return PChart(
        centre=centre,
        proportions=proportions,
        lower=lower,
        upper=upper,
        signals=tuple(int(i) for i in np.flatnonzero(beyond)),
    )
