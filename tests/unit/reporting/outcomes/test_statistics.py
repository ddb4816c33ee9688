"""Charts against worked examples of others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from reporting.outcomes.statistics.cusum import (
    average_run_length,
    false_signal_probability,
    limit_for,
    ra_cusum,
    weights,
)
from reporting.outcomes.statistics.funnel import (
    Adjustment,
    Transform,
    dispersed_ratio_limits,
    dispersion,
    proportion_limits,
    ratio_limits,
    ratio_variance,
    ratio_z,
    without_small,
)
from reporting.outcomes.statistics.proportions import p_chart
from reporting.outcomes.statistics.runs import crossings_limit, longest_run_limit, run_chart
from reporting.outcomes.statistics.xmr import THREE_SIGMA, Rule, xmr_chart, xmr_limits, xmr_signals
from service.errors import OutcomeError

_SPIKE = [1, 2, 1, 2, 10, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]
_WHEELER = [39, 41, 41, 41, 43, 44, 41, 42, 40, 41, 44, 40]
_VISCOSITY = [
    310, 288, 297, 298, 307, 303, 294, 297, 308, 306,
    294, 299, 297, 299, 314, 295, 293, 306, 301, 304,
]  # fmt: skip
_JUICE = [
    12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22,
    8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13, 9, 6,
]  # fmt: skip


@pytest.mark.parametrize(
    ("screened", "expected"), [(True, (-0.72, 1.94, 4.60)), (False, (-3.06, 1.94, 6.95))]
)
def test_xmr_of_nhsrplotthedots(screened: bool, expected: tuple[float, ...]) -> None:
    limits = xmr_limits(_SPIKE, screened=screened)
    assert (round(limits.lower, 2), round(limits.centre, 2), round(limits.upper, 2)) == expected


def test_xmr_of_wheeler() -> None:
    limits = xmr_limits(_WHEELER)
    assert (limits.lower, limits.centre, limits.upper) == pytest.approx((36.8221, 41.4167, 46.0112), abs=5e-5)


def test_individuals_of_montgomery() -> None:
    limits = xmr_limits(_VISCOSITY, factor=THREE_SIGMA)
    assert (limits.lower, limits.centre, limits.upper) == pytest.approx((279.783, 300.5, 321.217), abs=5e-4)
    assert limits.moving_range_upper == pytest.approx(25.448, abs=5e-4)


def test_p_chart_of_montgomery() -> None:
    chart = p_chart(_JUICE, [50] * 30)
    found = (chart.lower[0], chart.centre, chart.upper[0])
    assert found == pytest.approx((0.05243, 0.23133, 0.41024), abs=5e-6)
    assert chart.signals == (14, 22)


@pytest.mark.parametrize(("useful", "run", "crossings"), [(20, 7, 6), (24, 8, 8), (64, 9, 25)])
def test_limits_of_anhoej(useful: int, run: int, crossings: int) -> None:
    assert (longest_run_limit(useful), crossings_limit(useful)) == (run, crossings)


def test_a_run_of_seven_in_24_points_is_no_signal_and_one_of_nine_is() -> None:
    seven = [1] * 7 + [-1, 1] * 6 + [-1] * 5
    chart = run_chart(seven, median=0)
    assert (chart.useful, chart.longest_run, chart.shifted) == (24, 7, False)
    nine = [1] * 9 + [-1, 1] * 4 + [-1] * 7
    assert run_chart(nine, median=0).shifted


def test_points_on_the_median_count_for_nothing() -> None:
    chart = run_chart([1, 0, 1, 0, -1, 0, -1, 1], median=0)
    assert (chart.useful, chart.longest_run, chart.crossings) == (5, 2, 2)


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        (0.95, [(0.55969, 1.64935), (0.61083, 1.54442), (0.67470, 1.42756)]),
        (0.998, [(0.38627, 2.08291), (0.44791, 1.90209), (0.52897, 1.70277)]),
    ],
)
def test_exact_poisson_funnel(coverage: float, expected: list[tuple[float, float]]) -> None:
    lower, upper = ratio_limits([15, 20, 30], coverage)
    assert list(zip(lower, upper, strict=True)) == [pytest.approx(pair, abs=5e-6) for pair in expected]


def test_over_dispersion_of_shmi() -> None:
    observed, expected = [100, 150, 180, 80, 120, 225], [108, 112, 165, 95, 100, 220]
    found = dispersion(ratio_z(observed, expected), ratio_variance(expected), Adjustment.TRUNCATED)
    assert found.phi == pytest.approx(2.948033, abs=5e-7)
    wide = dispersed_ratio_limits(expected, found.tau_squared, 0.998)
    narrow = ratio_limits(expected, 0.998)
    assert (wide[0] < narrow[0]).all()
    assert (wide[1] > narrow[1]).all()


def test_winsorising_pulls_in_what_truncation_leaves_out() -> None:
    z = [-1, -0.5, -0.2, 0, 0.1, 0.3, 0.6, 0.9, 1.1, 9]
    variance = [0.01] * 10
    assert dispersion(z, variance, Adjustment.TRUNCATED).units == 8
    pulled = dispersion(z, variance, Adjustment.WINSORISED)
    assert pulled.units == 10
    assert dispersion(z, variance).phi < pulled.phi < np.mean(np.square(z))


def test_no_unit_varies_less_than_chance() -> None:
    assert dispersion([0.1, -0.1, 0.05, 0.02], [0.1] * 4).tau_squared == 0


def test_square_root_limits_stay_at_or_over_nothing() -> None:
    lower, upper = dispersed_ratio_limits([2.0], 0.3, 0.998, Transform.SQUARE_ROOT)
    assert lower[0] == 0
    assert upper[0] > 4


def test_binomial_limits_hold_their_coverage() -> None:
    lower, upper = proportion_limits([20], 0.5, 0.95)
    assert (lower[0], upper[0]) == pytest.approx((0.27196, 0.72804), abs=5e-6)  # Clopper-Pearson of 10/20
    none, some = proportion_limits([20], 0.0, 0.95)
    assert none[0] == 0
    assert some[0] == pytest.approx(0.16843, abs=5e-6)


def test_a_unit_of_nine_cases_has_no_limits() -> None:
    limits = without_small(ratio_limits([4.0, 4.0], 0.95), [9, 10], 0.95)
    assert np.isnan(limits.lower).tolist() == [True, False]


def test_weights_of_steiner() -> None:
    risks = expit(-3.68 + 0.077 * np.array([0, 0, 50, 50]))
    poor = np.array([False, True, False, True])
    for odds_ratio, expected in ((2, (-0.024, 0.669, -0.433, 0.26)), (0.5, (0.012, -0.681, 0.316, -0.377))):
        good_weight, poor_weight = weights(risks, odds_ratio)
        found = np.where(poor, poor_weight, good_weight)
        assert found == pytest.approx(expected, abs=5e-4)


def test_the_limit_has_the_run_length_that_was_asked_for() -> None:
    risks = np.linspace(0.05, 0.5, 60)
    for odds_ratio in (2.0, 0.5):
        limit = limit_for(risks, odds_ratio, 1500)
        assert average_run_length(risks, odds_ratio, limit) == pytest.approx(1500, rel=0.01)


def test_the_chain_agrees_with_chance() -> None:
    """2,000 series of 150 cases in control: as many reach the limit as the chain says."""
    random = np.random.default_rng(20)
    risks = np.linspace(0.1, 0.5, 41)
    cases, series, limit = 150, 2000, 2.5
    expected = false_signal_probability(risks, 2.0, limit, cases)
    chosen = random.choice(risks, (series, cases))
    poor = random.random((series, cases)) < chosen
    good_weight, poor_weight = weights(chosen.ravel(), 2.0)
    steps = np.where(poor.ravel(), poor_weight, good_weight).reshape(series, cases)
    level, reached = np.zeros(series), np.zeros(series, bool)
    for step in steps.T:
        level = np.maximum(0, level + step)
        reached |= level >= limit
    deviation = np.sqrt(expected * (1 - expected) / series)
    assert abs(reached.mean() - expected) < 4 * deviation


def test_cusum_signals_once_until_it_is_reset_and_the_vlad_falls() -> None:
    poor, risks = [True] * 12, [0.3] * 12
    chart = ra_cusum(poor, risks, limits=(2.0, 2.0))
    assert chart.worse.signals == (4,)  # 5 times log(2 / 1.3)
    assert chart.better.signals == ()
    assert chart.vlad[-1] == pytest.approx(12 * (0.3 - 1))
    again = ra_cusum(poor, risks, limits=(2.0, 2.0), resets=[6])
    assert again.worse.signals == (4, 10)


def test_every_rule_of_making_data_count() -> None:
    limits = xmr_limits([1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2])
    assert {(s.index, s.rule, s.high) for s in xmr_signals([1, 9, 2], limits)} == {
        (1, Rule.BEYOND_LIMITS, True)
    }
    run = xmr_signals([2] * 6, limits)
    assert run == ()
    assert {s.index for s in xmr_signals([2] * 7, limits) if s.rule is Rule.RUN} == set(range(7))
    rising = [0.5, 0.7, 0.9, 1.1, 1.6, 1.9, 2.2]
    assert {s.index for s in xmr_signals(rising, limits) if s.rule is Rule.TREND} == set(range(7))
    assert not [s for s in xmr_signals(rising[:6], limits) if s.rule is Rule.TREND]
    near = limits.centre + 0.9 * (limits.upper - limits.centre)
    pair = xmr_signals([near, 1.0, near, 1.0], limits)
    assert {s.index for s in pair if s.rule is Rule.TWO_OF_THREE} == {0, 2}
    opposite = 2 * limits.centre - near
    assert not [s for s in xmr_signals([near, opposite, 1.0], limits) if s.rule is Rule.TWO_OF_THREE]


def test_limits_are_on_trial_under_twelve_points_and_frozen_from_then_on() -> None:
    values = [1.0, 2.0] * 6
    assert xmr_limits(values[:11]).trial
    (phase,) = xmr_chart([*values, 30.0, 31.0])
    assert not phase.limits.trial
    assert phase.limits == xmr_limits(values)
    assert {s.index for s in phase.signals if s.rule is Rule.BEYOND_LIMITS} == {12, 13}


def test_a_phase_has_limits_of_its_own_and_rules_do_not_look_across() -> None:
    values = [1.0, 2.0] * 6 + [11.0, 12.0] * 6
    (whole,) = xmr_chart(values)
    assert whole.signals
    first, second = xmr_chart(values, [0, 12])
    assert (first.signals, second.signals) == ((), ())
    assert second.limits.centre == 11.5


def test_phases_out_of_order_are_refused() -> None:
    with pytest.raises(OutcomeError, match="phases begin"):
        xmr_chart([1.0] * 9, [0, 6, 4])
    with pytest.raises(OutcomeError, match="phases begin"):
        xmr_chart([1.0] * 9, [3])


@pytest.mark.parametrize("values", [[1.0], [1.0, float("nan")], []])
def test_no_limits_of_what_is_no_series(values: list[float]) -> None:
    with pytest.raises(OutcomeError):
        xmr_limits(values)
