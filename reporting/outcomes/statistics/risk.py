"""Risk models: what was to be expected of a patient before the operation, and how well that holds.

A logistic model of a poor outcome and a linear one of the change, on the same case mix, by maximum
likelihood. How well a model holds is measured by cross-validation, on cases it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata

from service.errors import OutcomeError

LEAST_CASES = 50
_LEAST_EVENTS = 10  # poor and good ones, a coefficient
_FOLDS = 10
_STEPS = 50
_CONVERGED = 1e-10
_FURTHEST = 20.0  # a coefficient beyond it in absolute value is a separation, not an effect
_BOUNDS = (0.005, 0.995)  # of a probability that is used for charts
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """How well a logistic model holds on cases that it was not fitted to."""

    calibration_slope: float  # 1: as it should be; under 1: too extreme
    calibration_intercept: float  # 0: as it should be; over 0: too few poor outcomes foreseen
    auc: float  # 0.5: none, 1: perfect
    cases: int
    events: int


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Of a model; the first is the intercept."""

    names: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Expected change and how far cases scatter about it."""

    coefficients: Coefficients
    residual_sd: float


def fit_logistic(design: Array, poor: NDArray[np.bool_], names: Sequence[str]) -> Coefficients:
    """Fit a logistic model.

    Args:
        design: (n, k) case mix, without the intercept.
        poor: (n,) outcomes.
        names: (k,) of the columns.

    Raises:
        OutcomeError: Too few cases or events, or the outcomes are separated by the case mix.
    """
    columns = _with_intercept(design)
    outcomes = np.asarray(poor, np.float64)
    events = min(int(outcomes.sum()), len(outcomes) - int(outcomes.sum()))
    if len(outcomes) < LEAST_CASES or events < _LEAST_EVENTS:
        raise OutcomeError(
            f"a risk model needs {LEAST_CASES} cases, {_LEAST_EVENTS} of them poor and as many good; "
            f"there are {len(outcomes)} with {events}"
        )
    return Coefficients(names=("intercept", *names), values=tuple(map(float, _newton(columns, outcomes))))


def fit_linear(design: Array, change: Array, names: Sequence[str]) -> LinearModel:
    """Fit a linear model of the change by least squares.

    Raises:
        OutcomeError: Too few cases.
    """
    columns = _with_intercept(design)
    if len(change) < LEAST_CASES:
        raise OutcomeError(f"a risk model needs {LEAST_CASES} cases; there are {len(change)}")
    found, _, rank, _ = np.linalg.lstsq(columns, change, rcond=None)
    residual = change - columns @ found
    return LinearModel(
        coefficients=Coefficients(names=("intercept", *names), values=tuple(map(float, found))),
        residual_sd=float(np.sqrt((residual**2).sum() / (len(change) - int(rank)))),
    )


def probabilities(coefficients: Coefficients, design: Array) -> Array:
    """(n,) probability of a poor outcome, kept off 0 and 1."""
    return np.asarray(np.clip(expit(linear(coefficients, design)), *_BOUNDS), np.float64)


def linear(coefficients: Coefficients, design: Array) -> Array:
    """(n,) linear predictor."""
    return np.asarray(_with_intercept(design) @ np.asarray(coefficients.values), np.float64)


def cross_validated(design: Array, poor: NDArray[np.bool_], names: Sequence[str]) -> Performance:
    """Measure a logistic model on tenths of the cases that it was not fitted to.

    The tenths are every tenth case, so that the same data always give the same figures.
    """
    fold = np.arange(len(poor)) % _FOLDS
    foreseen = np.empty(len(poor))
    for each in range(_FOLDS):
        rest = fold != each
        model = fit_logistic(design[rest], poor[rest], names)
        foreseen[~rest] = probabilities(model, design[~rest])
    return performance(foreseen, poor)


def performance(foreseen: Array, poor: NDArray[np.bool_]) -> Performance:
    """Calibration slope and intercept (Cox 1958) and the area under the ROC curve.

    Raises:
        OutcomeError: All outcomes are alike, or all probabilities.
    """
    outcomes = np.asarray(poor, np.float64)
    predictor = logit(np.clip(foreseen, *_BOUNDS))
    if outcomes.min() == outcomes.max() or np.ptp(predictor) == 0:
        raise OutcomeError("how well a model holds needs outcomes and probabilities that differ")
    slope = float(_newton(_with_intercept(predictor[:, None]), outcomes)[1])
    intercept = float(_newton(np.ones((len(outcomes), 1)), outcomes, offset=predictor)[0])
    return Performance(
        calibration_slope=slope,
        calibration_intercept=intercept,
        auc=auc(foreseen, poor),
        cases=len(outcomes),
        events=int(outcomes.sum()),
    )


def auc(foreseen: Array, poor: NDArray[np.bool_]) -> float:
    """Chance that a poor outcome was given the higher probability; ties count one half."""
    ranks = rankdata(foreseen)
    hits = int(np.sum(poor))
    misses = len(poor) - hits
    return float((ranks[np.asarray(poor, bool)].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _with_intercept(design: Array) -> Array:
    return np.column_stack([np.ones(len(design)), np.asarray(design, np.float64)])


def _newton(columns: Array, outcomes: Array, offset: Array | float = 0.0) -> Array:
    """Maximum likelihood by Newton's method (iteratively reweighted least squares)."""
    found = np.zeros(columns.shape[1])
    for _ in range(_STEPS):
        chances = expit(columns @ found + offset)
        information = (columns * (chances * (1 - chances))[:, None]).T @ columns
        try:
            step = np.linalg.solve(information, columns.T @ (outcomes - chances))
        except np.linalg.LinAlgError as exc:
            raise OutcomeError("the case mix is redundant: a column follows from others") from exc
        found = found + step
        if np.abs(found).max() > _FURTHEST:
            break
        if np.abs(step).max() < _CONVERGED:
            return found
    raise OutcomeError("the risk model does not converge: the case mix separates the outcomes")
