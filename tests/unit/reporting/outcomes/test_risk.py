"""Risk models: found again from data that were made by them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from reporting.outcomes.statistics.risk import (
    auc,
    cross_validated,
    fit_linear,
    fit_logistic,
    performance,
    probabilities,
)
from service.errors import OutcomeError


def _cases(number: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    design = np.column_stack([random.normal(0, 1, number), random.random(number) < 0.2]).astype(float)
    poor = random.random(number) < expit(-1.0 + 0.8 * design[:, 0] + 1.2 * design[:, 1])
    return design, poor


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    design, poor = _cases(800)
    found = fit_logistic(design, poor, ["severity", "syndrome"])
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(design, poor)
    assert found.names == ("intercept", "severity", "syndrome")
    assert found.values == pytest.approx([*peer.intercept_, *peer.coef_[0]], abs=1e-4)
    assert auc(probabilities(found, design), poor) == pytest.approx(
        roc_auc_score(poor, probabilities(found, design))
    )


def test_how_well_it_holds_is_measured_on_cases_it_was_not_fitted_to() -> None:
    design, poor = _cases(2000)
    held = cross_validated(design, poor, ["severity", "syndrome"])
    assert held.calibration_slope == pytest.approx(1, abs=0.15)
    assert held.calibration_intercept == pytest.approx(0, abs=0.1)
    assert 0.65 < held.auc < 0.8
    assert held == cross_validated(design, poor, ["severity", "syndrome"])


def test_a_model_that_is_too_extreme_shows_in_the_slope() -> None:
    design, poor = _cases(2000)
    extreme = expit(2 * (-1.0 + 0.8 * design[:, 0] + 1.2 * design[:, 1]))
    assert performance(extreme, poor).calibration_slope == pytest.approx(0.5, abs=0.1)


def test_no_model_of_too_few_or_separated_cases() -> None:
    design, poor = _cases(800)
    with pytest.raises(OutcomeError, match="needs 50 cases"):
        fit_logistic(design[:40], poor[:40], ["severity", "syndrome"])
    with pytest.raises(OutcomeError, match="needs 50 cases"):
        fit_logistic(design, np.zeros(800, bool), ["severity", "syndrome"])
    with pytest.raises(OutcomeError, match="does not converge"):
        fit_logistic(design, design[:, 0] > 0, ["severity", "syndrome"])
    with pytest.raises(OutcomeError, match="redundant"):
        fit_logistic(np.column_stack([design[:, 0], np.ones(800)]), poor, ["severity", "one"])


def test_the_linear_model_and_its_scatter() -> None:
    design, _ = _cases(4000)
    change = 2 - 0.5 * design[:, 0] + np.random.default_rng(1).normal(0, 0.7, 4000)
    found = fit_linear(design, change, ["severity", "syndrome"])
    assert found.coefficients.values == pytest.approx((2, -0.5, 0), abs=0.07)
    assert found.residual_sd == pytest.approx(0.7, abs=0.03)
