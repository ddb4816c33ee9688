"""XmR charts by the rules of NHS England's Making Data Count.

Limits are the mean and 2.66 mean moving ranges to either side (Wheeler, Understanding Variation, 1993).
Moving ranges beyond 3.267 times their mean may be screened out before the limits are set (Nelson 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from service.errors import OutcomeError

LEAST_POINTS = 12  # under so many, limits are on trial; from then on they stand still
MAKING_DATA_COUNT = 2.66  # mean moving ranges between the mean and a limit
THREE_SIGMA = 3 / 1.128  # the same unrounded, 3 / d2 for ranges of two (Montgomery)
RANGE_LIMIT = 3.267  # D4 for ranges of two: upper limit of a moving range, in mean moving ranges
_RUN = 7  # points on one side of the mean, or rising or falling
_WINDOW, _OF_WINDOW = 3, 2  # points of which so many lie in the outer third on one side


class Rule(StrEnum):
    """What makes a point a signal."""

    BEYOND_LIMITS = "beyond-limits"
    RUN = "run"  # 7 on one side of the mean
    TREND = "trend"  # 7 rising or falling
    TWO_OF_THREE = "two-of-three"  # 2 of 3 within the outer third on one side


@dataclass(frozen=True, kw_only=True)
class XmrLimits:
    """Limits of one phase, in the unit of its values."""

    lower: float
    centre: float
    upper: float
    mean_moving_range: float  # after screening, if there was any
    moving_range_upper: float  # limit of a single moving range
    points: int  # the limits were set from
    trial: bool  # from fewer than LEAST_POINTS points


@dataclass(frozen=True, kw_only=True)
class XmrSignal:
    """One point that a rule marks."""

    index: int  # of the point, from 0
    rule: Rule
    high: bool  # above the mean, or rising


@dataclass(frozen=True, kw_only=True)
class XmrPhase:
    """A phase's limits and what they signal."""

    start: int  # index of its first point
    stop: int  # index after its last
    limits: XmrLimits
    signals: tuple[XmrSignal, ...]  # in the order of their points; indices count from the chart's first


def xmr_limits(
    values: Sequence[float] | NDArray[np.float64], *, screened: bool = True, factor: float = MAKING_DATA_COUNT
) -> XmrLimits:
    """Limits of an individuals chart.

    Args:
        values: (n,) finite, in the order of time.
        screened: Whether moving ranges beyond their own limit are left out, once.
        factor: Mean moving ranges between the mean and a limit.

    Raises:
        OutcomeError: Fewer than two values, or one that is not a number.
    """
    points = _checked(values)
    ranges = np.abs(np.diff(points))
    mean_range = float(ranges.mean())
    if screened:
        kept = ranges[ranges <= RANGE_LIMIT * mean_range]
        mean_range = float(kept.mean()) if len(kept) else mean_range
    centre = float(points.mean())
    return XmrLimits(
        lower=centre - factor * mean_range,
        centre=centre,
        upper=centre + factor * mean_range,
        mean_moving_range=mean_range,
        moving_range_upper=RANGE_LIMIT * mean_range,
        points=len(points),
        trial=len(points) < LEAST_POINTS,
    )


def xmr_signals(values: Sequence[float] | NDArray[np.float64], limits: XmrLimits) -> tuple[XmrSignal, ...]:
    """The points that the rules of Making Data Count mark.

    A point may be marked by several rules. Every point of a run, a trend or a pair is marked.

    Args:
        values: (n,) in the order of time.
        limits: That they are held against.
    """
    points = np.asarray(values, np.float64)
    side = np.sign(points - limits.centre).astype(int)
    outside = (points < limits.lower) | (points > limits.upper)
    third = (limits.upper - limits.centre) * 2 / 3
    near = ~outside & (np.abs(points - limits.centre) > third)
    found = {(int(i), Rule.BEYOND_LIMITS, bool(side[i] > 0)) for i in np.flatnonzero(outside)}
    found |= _runs(side, _RUN, Rule.RUN)
    steps = np.sign(np.diff(points)).astype(int)
    for start, _, high in _stretches(steps, _RUN - 1):
        found |= {(index, Rule.TREND, high) for index in range(start, start + _RUN)}
    for direction in (-1, 1):
        close = near & (side == direction)
        for start in range(len(points) - _WINDOW + 1):
            window = np.flatnonzero(close[start : start + _WINDOW])
            if len(window) >= _OF_WINDOW:
                found |= {(start + int(i), Rule.TWO_OF_THREE, direction > 0) for i in window}
    order = list(Rule)
    return tuple(
        XmrSignal(index=index, rule=rule, high=high)
        for index, rule, high in sorted(found, key=lambda each: (each[0], order.index(each[1]), each[2]))
    )


def xmr_chart(
    values: Sequence[float] | NDArray[np.float64],
    starts: Sequence[int] = (0,),
    *,
    baseline: int = LEAST_POINTS,
    screened: bool = True,
    factor: float = MAKING_DATA_COUNT,
) -> tuple[XmrPhase, ...]:
    """A chart in phases; the limits of each are frozen after its first ``baseline`` points.

    Rules are looked for within a phase, never across two.

    Args:
        values: (n,) finite, in the order of time.
        starts: Index of the first point of each phase; the first is 0.
        baseline: Points that a phase's limits are set from; fewer make them trial limits of all there are.
        screened: As for xmr_limits.
        factor: As for xmr_limits.

    Raises:
        OutcomeError: The starts are not increasing from 0, or a phase has fewer than two points.
    """
    points = _checked(values)
    stops = _stops(starts, len(points))
    phases = []
    for start, stop in zip(starts, stops, strict=True):
        own = points[start:stop]
        limits = xmr_limits(own[:baseline], screened=screened, factor=factor)
        signals = tuple(
            XmrSignal(index=start + each.index, rule=each.rule, high=each.high)
            for each in xmr_signals(own, limits)
        )
        phases.append(XmrPhase(start=start, stop=stop, limits=limits, signals=signals))
    return tuple(phases)


def _stops(starts: Sequence[int], points: int) -> list[int]:
    stops = [*starts[1:], points]
    if not starts or starts[0] != 0 or any(b <= a for a, b in zip(starts, stops, strict=True)):
        raise OutcomeError("phases begin at 0 and each after the one before it")
    return stops


def _checked(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.asarray(values, np.float64)
    if points.ndim != 1 or len(points) < 2 or not np.isfinite(points).all():
        raise OutcomeError("an XmR chart needs at least two values, all of them numbers")
    return points


def _runs(signs: NDArray[np.int_], least: int, rule: Rule) -> set[tuple[int, Rule, bool]]:
    return {
        (index, rule, high)
        for start, stop, high in _stretches(signs, least)
        for index in range(start, stop)
        if stop - start >= least
    }


def _stretches(signs: NDArray[np.int_], least: int) -> list[tuple[int, int, bool]]:
    """Windows of ``least`` equal signs other than 0: start, stop, positive."""
    found = []
    for start in range(len(signs) - least + 1):
        window = signs[start : start + least]
        if window[0] != 0 and (window == window[0]).all():
            found.append((start, start + least, bool(window[0] > 0)))
    return found
