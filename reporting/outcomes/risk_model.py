"""The risk model of one kind of procedure: what case mix it takes in, fitted to the cases there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reporting.outcomes.charts.records import ChangeTable, Floats, Texts
from reporting.outcomes.statistics.risk import (
    Coefficients,
    LinearModel,
    Performance,
    cross_validated,
    fit_linear,
    fit_logistic,
    linear,
    probabilities,
)
from service.errors import OutcomeError

_LEAST_OF_A_LEVEL = 10  # cases; rarer ones join the commonest


@dataclass(frozen=True, kw_only=True)
class CaseMix:
    """How case mix becomes columns of numbers."""

    phenotypes: tuple[str, ...]  # with a column of their own; the others share the intercept
    lateralities: tuple[str, ...]
    has_syndrome: bool
    age_mean: float | None  # years; stands in where the age is unknown; None: no column
    before_mean: float  # score

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return (
            "score before",
            *(("age",) if self.age_mean is not None else ()),
            *(("syndrome",) if self.has_syndrome else ()),
            *(f"phenotype {each}" for each in self.phenotypes),
            *(f"laterality {each}" for each in self.lateralities),
        )

    def design(self, changes: ChangeTable) -> Floats:
        """(n, columns) of some cases."""
        columns = [changes.before - self.before_mean]
        if self.age_mean is not None:
            columns.append(np.where(np.isfinite(changes.age), changes.age, self.age_mean) - self.age_mean)
        if self.has_syndrome:
            columns.append(changes.syndrome.astype(float))
        columns += [(changes.phenotype == each).astype(float) for each in self.phenotypes]
        columns += [(changes.laterality == each).astype(float) for each in self.lateralities]
        return np.column_stack(columns)


@dataclass(frozen=True, kw_only=True)
class RiskModel:
    """Both models of one kind of procedure and region, and how well the logistic one holds."""

    case_mix: CaseMix
    poor: Coefficients
    change: LinearModel
    performance: Performance

    def risks(self, changes: ChangeTable) -> Floats:
        """(n,) probability of a poor outcome."""
        return probabilities(self.poor, self.case_mix.design(changes))

    def expected(self, changes: ChangeTable) -> Floats:
        """(n,) expected change of the score."""
        return linear(self.change.coefficients, self.case_mix.design(changes))


def fit_risk_model(changes: ChangeTable) -> RiskModel:
    """Fit the model to changes of one region within one method.

    Args:
        changes: Consecutive cases.

    Raises:
        OutcomeError: They are of several methods, too few, or the case mix separates the outcomes.
    """
    if len(set(changes.method)) > 1:
        raise OutcomeError("a risk model is fitted to scores of one method")
    if len(changes) == 0:
        raise OutcomeError("there is no case to fit a risk model to")
    mix = _case_mix(changes)
    design = mix.design(changes)
    return RiskModel(
        case_mix=mix,
        poor=fit_logistic(design, changes.poor, mix.names),
        change=fit_linear(design, changes.change, mix.names),
        performance=cross_validated(design, changes.poor, mix.names),
    )


def _case_mix(changes: ChangeTable) -> CaseMix:
    known = np.isfinite(changes.age)
    varies = (
        known.sum() * 2 >= len(changes) and float(np.ptp(changes.age[known])) > 0 if known.any() else False
    )
    phenotypes = _levels(changes.phenotype)
    syndromic = int(changes.syndrome.sum())
    return CaseMix(
        phenotypes=phenotypes,
        # which side a bilateral cleft is on follows from its phenotype
        lateralities=() if phenotypes else _levels(changes.laterality),
        has_syndrome=_LEAST_OF_A_LEVEL <= syndromic <= len(changes) - _LEAST_OF_A_LEVEL,
        age_mean=float(changes.age[known].mean()) if varies else None,
        before_mean=float(changes.before.mean()),
    )


def _levels(values: Texts) -> tuple[str, ...]:
    """Levels with enough cases, without the commonest."""
    names, counts = np.unique(values.astype(str), return_counts=True)
    commonest = int(np.argmax(counts))
    return tuple(
        str(name)
        for i, (name, count) in enumerate(zip(names, counts, strict=True))
        if i != commonest and count >= _LEAST_OF_A_LEVEL
    )
