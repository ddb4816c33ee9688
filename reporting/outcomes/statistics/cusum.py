"""Risk-adjusted CUSUM, two-sided, with its limit from a Markov chain; and the VLAD beside it.

Steiner, Cook, Farewell and Treasure, Biostatistics 1(4): 441-452, 2000; Brook and Evans, Biometrika 59:
539-549, 1972. A case scores by how likely its outcome was for that very patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from service.errors import OutcomeError

WORSE, BETTER = 2.0, 0.5  # odds ratios that the two sides look for
_STATES = 160  # of the chain, between 0 and the limit
_GROUPS = 40  # that risks are gathered in for the chain
_LEAST_LIMIT, _MOST_LIMIT = 0.2, 20.0
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CusumSide:
    """One side of the chart."""

    odds_ratio: float  # it looks for
    limit: float
    path: Array  # (n,) 0 or more, after each case
    signals: tuple[int, ...]  # indices of the cases at which the limit was first reached since a reset


@dataclass(frozen=True, kw_only=True)
class Cusum:
    """Both sides, and the VLAD."""

    worse: CusumSide
    better: CusumSide
    vlad: Array  # (n,) poor outcomes expected less those observed; falling is worse


def weights(risks: Sequence[float] | Array, odds_ratio: float) -> tuple[Array, Array]:
    """Log likelihood ratio of an outcome under odds raised by ``odds_ratio``.

    Args:
        risks: (n,) probability of a poor outcome, more than 0 and less than 1.
        odds_ratio: More than 0, other than 1.

    Returns:
        (n,) the weight of a good outcome, and (n,) that of a poor one.

    Raises:
        OutcomeError: A risk outside (0, 1), or an odds ratio that looks for nothing.
    """
    chances = _checked(risks)
    if odds_ratio <= 0 or odds_ratio == 1:
        raise OutcomeError("the odds ratio is more than 0 and other than 1")
    denominator = 1 - chances + odds_ratio * chances
    return -np.log(denominator), np.log(odds_ratio / denominator)


def cusum_path(steps: Sequence[float] | Array, resets: Sequence[int] = ()) -> Array:
    """Sum the steps, never below 0; starts again from 0 before each case in ``resets``."""
    path = np.empty(len(steps))
    level, again = 0.0, set(resets)
    for index, step in enumerate(steps):
        level = max(0.0, (0.0 if index in again else level) + float(step))
        path[index] = level
    return path


def ra_cusum(
    poor: Sequence[bool] | NDArray[np.bool_],
    risks: Sequence[float] | Array,
    *,
    limits: tuple[float, float],
    resets: Sequence[int] = (),
) -> Cusum:
    """Follow consecutive cases.

    Args:
        poor: (n,) whether the outcome was poor, in the order of the cases.
        risks: (n,) its probability before the operation.
        limits: Of the side that looks for worse, and of the one that looks for better.
        resets: Indices of cases before which a person began anew, with a reason kept elsewhere.

    Raises:
        OutcomeError: Risks and outcomes do not match.
    """
    outcomes, chances = np.asarray(poor, bool), _checked(risks)
    if outcomes.shape != chances.shape:
        raise OutcomeError("there is one risk for each outcome")
    sides = []
    for odds_ratio, limit in zip((WORSE, BETTER), limits, strict=True):
        good_weight, poor_weight = weights(chances, odds_ratio)
        path = cusum_path(np.where(outcomes, poor_weight, good_weight), resets)
        signals = _first_reached(path, limit, resets)
        sides.append(CusumSide(odds_ratio=odds_ratio, limit=limit, path=path, signals=signals))
    return Cusum(worse=sides[0], better=sides[1], vlad=np.cumsum(chances - outcomes))


def average_run_length(risks: Sequence[float] | Array, odds_ratio: float, limit: float) -> float:
    """Cases until a false signal, on average, when outcomes come as the risks say.

    Args:
        risks: (n,) the mix of patients.
        odds_ratio: The side.
        limit: More than 0.
    """
    chain = _chain(risks, odds_ratio, limit)
    lengths = np.linalg.solve(np.eye(len(chain)) - chain, np.ones(len(chain)))
    return float(lengths[0])


def false_signal_probability(
    risks: Sequence[float] | Array, odds_ratio: float, limit: float, cases: int
) -> float:
    """Chance of a false signal within so many cases, from a start at 0."""
    chain = _chain(risks, odds_ratio, limit)
    return float(1 - np.linalg.matrix_power(chain, cases)[0].sum())


def limit_for(risks: Sequence[float] | Array, odds_ratio: float, in_control: float) -> float:
    """The limit whose false signals come once in ``in_control`` cases on average.

    Args:
        risks: (n,) the mix of patients.
        odds_ratio: The side.
        in_control: Average run length that is wanted, more than 1.

    Raises:
        OutcomeError: No limit gives it.
    """
    wanted = np.log(in_control)

    def over(limit: float) -> float:
        return float(np.log(average_run_length(risks, odds_ratio, limit)) - wanted)

    high = 2.0
    while high < _MOST_LIMIT and over(high) < 0:
        high += 1.0
    if over(_LEAST_LIMIT) > 0 or over(high) < 0:
        raise OutcomeError(f"no limit gives a run length of {in_control:g} cases for these risks")
    return float(brentq(over, _LEAST_LIMIT, high, xtol=1e-4))


def _checked(risks: Sequence[float] | Array) -> Array:
    chances = np.asarray(risks, np.float64)
    if chances.ndim != 1 or not ((chances > 0) & (chances < 1)).all():
        raise OutcomeError("risks are more than 0 and less than 1")
    return chances


def _first_reached(path: Array, limit: float, resets: Sequence[int]) -> tuple[int, ...]:
    starts = sorted({0, *resets})
    found = []
    for start, stop in zip(starts, [*starts[1:], len(path)], strict=True):
        above = np.flatnonzero(path[start:stop] >= limit)
        if len(above):
            found.append(start + int(above[0]))
    return tuple(found)


def _mix(risks: Sequence[float] | Array) -> tuple[Array, Array]:
    """Gather risks in groups of equal number: their means, and the share of each."""
    chances = np.sort(_checked(risks))
    groups = [group for group in np.array_split(chances, _GROUPS) if len(group)]
    return np.array([group.mean() for group in groups]), np.array([len(g) / len(chances) for g in groups])


def _chain(risks: Sequence[float] | Array, odds_ratio: float, limit: float) -> Array:
    """Transitions between ``_STATES`` levels from 0 to below the limit; what is missing to 1 has signalled.

    A level between two states is shared between them, so that the mean step stays as it is.
    """
    chances, shares = _mix(risks)
    good_weight, poor_weight = weights(chances, odds_ratio)
    steps = np.concatenate([good_weight, poor_weight])
    probabilities = np.concatenate([shares * (1 - chances), shares * chances])
    width = limit / _STATES
    levels = np.arange(_STATES) * width
    reached = np.clip(levels[:, None] + steps[None, :], 0, None)
    alive = np.where(reached < limit, probabilities[None, :], 0.0)
    place = np.minimum(reached / width, _STATES - 1)
    below = np.floor(place).astype(int)
    part = place - below
    chain = np.zeros((_STATES, _STATES))
    rows = np.broadcast_to(np.arange(_STATES)[:, None], below.shape)
    np.add.at(chain, (rows, below), alive * (1 - part))
    np.add.at(chain, (rows, np.minimum(below + 1, _STATES - 1)), alive * part)
    return chain
