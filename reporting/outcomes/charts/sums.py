"""What charts over months and funnels are drawn from: sums by month and by unit, with their evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reporting.outcomes.charts.records import Days, Floats, Texts


@dataclass(frozen=True, kw_only=True)
class MonthlyMeans:
    """One value a month; arrays are (months,), in the order of time."""

    months: Days
    values: Floats
    cases: NDArray[np.int_]
    evidence: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class UnitSums:
    """One row a site or surgeon; arrays are (units,)."""

    names: Texts
    cases: NDArray[np.int_]
    residual: Floats  # sum of change less expected change, in scores
    observed: Floats  # poor outcomes
    expected: Floats  # poor outcomes that the risk model expects
    evidence: tuple[tuple[str, ...], ...]
    unexpected: int = 0  # cases the risk model says nothing of, left out


def means_of(
    values: Floats, days: Days, evidence: Texts, *, median: bool = False, least_cases: int = 1
) -> MonthlyMeans:
    """Each month's mean (or median).

    Args:
        values: (n,) finite.
        days: (n,) that put a value in its month.
        evidence: (n,) ids.
        median: Whether the median is taken.
        least_cases: Months of fewer are left out; their means scatter more than the others.
    """
    months, place = np.unique(days.astype("datetime64[M]"), return_inverse=True)
    cases = np.bincount(place, minlength=len(months))
    kept = np.flatnonzero(cases >= least_cases)
    of = np.median if median else np.mean
    return MonthlyMeans(
        months=months[kept],
        values=np.array([of(values[place == i]) for i in kept], np.float64),
        cases=cases[kept],
        evidence=tuple(tuple(map(str, evidence[place == i])) for i in kept),
    )


def sums_of(
    names: Texts, residual: Floats, poor: NDArray[np.bool_], risks: Floats, evidence: Texts
) -> UnitSums:
    """Sums by unit; every array is (n,), one row a case."""
    units, place = np.unique(names.astype(str), return_inverse=True)
    number = len(units)
    return UnitSums(
        names=units.astype(object),
        cases=np.bincount(place, minlength=number),
        residual=_summed(place, residual, number),
        observed=_summed(place, poor.astype(np.float64), number),
        expected=_summed(place, risks, number),
        evidence=tuple(tuple(map(str, evidence[place == i])) for i in range(number)),
    )


def _summed(place: NDArray[np.intp], values: Floats, number: int) -> Floats:
    return np.bincount(place, weights=values, minlength=number).astype(np.float64)
