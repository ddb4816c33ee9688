"""How far apart two sets of values are: the two-sample distance of Kolmogorov and Smirnov."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

# sqrt(-ln(alpha / 2) / 2) for alpha = 0.001 (Smirnov 1948): asked so often, it has to be wide.
_CRITICAL = 1.9495


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Greatest difference of the two cumulative distributions, 0..1.

    Args:
        first: At least one finite value.
        second: At least one finite value.

    Raises:
        ValueError: Either is empty.
    """
    if not first or not second:
        raise ValueError("both sets need values")
    a, b = sorted(first), sorted(second)
    return max(abs(bisect_right(a, x) / len(a) - bisect_right(b, x) / len(b)) for x in {*a, *b})


def distance_limit(first: int, second: int) -> float:
    """Distance that sets of these sizes pass once in a thousand times by chance alone."""
    return _CRITICAL * math.sqrt((first + second) / (first * second))


def share_below(percentiles: Sequence[float], limit: float) -> float:
    """Share of percentiles below a limit, 0..1; in the normal cohort it is ``limit / 100``.

    Args:
        percentiles: 0..100, at least one.
        limit: 0..100.
    """
    return sum(value < limit for value in percentiles) / len(percentiles)
