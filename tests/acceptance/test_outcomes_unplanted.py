"""Over 200 worlds with nothing planted, false signals come at the rate that the limits promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, poisson

from reporting.outcomes.charts.records import ChartKind
from reporting.outcomes.charts.units import cusum_limits
from reporting.outcomes.risk_model import fit_risk_model
from reporting.outcomes.simulation.findings import BASELINE_MONTHS, Findings, findings
from reporting.outcomes.simulation.tables import changes_of
from reporting.outcomes.simulation.world import NOTHING, SURGEONS, simulate
from reporting.outcomes.statistics.cusum import BETTER, WORSE, false_signal_probability
from reporting.outcomes.statistics.xmr import xmr_limits

SEEDS = range(1, 201)
_SURE = 0.999  # of the interval


@pytest.fixture(scope="module")
def found() -> list[Findings]:
    return [findings(simulate(seed, NOTHING)) for seed in SEEDS]


def _within(count: int, trials: int, rate: float) -> bool:
    low, high = binom.interval(_SURE, trials, rate)
    return bool(low <= count <= high)


@pytest.mark.timeout(1200)
def test_funnels(found: list[Findings]) -> None:
    points = len(SEEDS) * len(SURGEONS)
    assert _within(sum(len(each.funnel) for each in found), points, 0.002)
    dispersed = sum(len(each.funnel_dispersed) for each in found)
    assert dispersed <= binom.interval(_SURE, points, 0.002)[1]  # the limits are never narrower


@pytest.mark.timeout(1200)
def test_cusums(found: list[Findings]) -> None:
    expected = 0.0
    for seed in SEEDS[:10]:
        changes = changes_of(simulate(seed, NOTHING))
        risks = fit_risk_model(changes).risks(changes)
        limits = cusum_limits(risks)
        for name in SURGEONS:
            cases = int((changes.surgeon == name).sum())
            for odds_ratio, limit in zip((WORSE, BETTER), limits, strict=True):
                expected += false_signal_probability(risks, odds_ratio, limit, cases)
    expected *= len(SEEDS) / 10
    low, high = poisson.interval(_SURE, expected)
    assert low <= sum(len(each.cusum) for each in found) <= high


@pytest.mark.timeout(1200)
def test_rejected_photographs(found: list[Findings]) -> None:
    points = sum(
        len(chart.tracks[0].points) for each in found for chart in each.charts if chart.kind is ChartKind.P
    )
    assert sum(len(each.rejected) for each in found) <= binom.interval(_SURE, points, 0.0027)[1]


@pytest.mark.timeout(1200)
def test_xmr(found: list[Findings]) -> None:
    """Against the rate of the same limits, which are estimated from few points, on normal values."""
    random = np.random.default_rng(20)
    beyond = points = 0
    for _ in range(20_000):
        values = random.normal(0, 1, BASELINE_MONTHS + 30)
        limits = xmr_limits(values[:BASELINE_MONTHS])
        beyond += int(((values < limits.lower) | (values > limits.upper)).sum())
        points += 30
    rate = beyond / points
    counted = sum(each.xmr_beyond for each in found)
    trials = sum(each.xmr_points for each in found)
    # points of one chart share their limits, so they scatter more than independent ones
    spread = 3.3 * np.sqrt(sum((each.xmr_beyond - rate * each.xmr_points) ** 2 for each in found))
    assert abs(counted - rate * trials) <= max(spread, 1)
