"""The charts find exactly what was planted."""

from __future__ import annotations

import numpy as np
import pytest

from reporting.outcomes.charts.monthly import proportion_bounds, rejected_chart
from reporting.outcomes.charts.records import ChartKind
from reporting.outcomes.charts.sums import sums_of
from reporting.outcomes.charts.units import Unit, change_funnel, ratio_funnel, suppressed
from reporting.outcomes.risk_model import fit_risk_model
from reporting.outcomes.simulation.findings import Findings, findings
from reporting.outcomes.simulation.tables import (
    changes_of,
    denominators_of,
    in_force,
    paired,
    photographs_of,
)
from reporting.outcomes.simulation.world import MONTHS, SITES, SURGEONS, World, simulate
from service.errors import OutcomeError

WORSE = SURGEONS[13]


@pytest.fixture(scope="module")
def world() -> World:
    return simulate()


@pytest.fixture(scope="module")
def found(world: World) -> Findings:
    return findings(world)


def test_the_size_of_the_world(world: World) -> None:
    photographs = photographs_of(world)
    assert len(photographs) == 8000
    assert set(world.surgeon) == set(range(20))
    assert set(photographs.site) == set(SITES)
    assert set(world.month(photographs.acquired_on)) <= set(range(-14, MONTHS + 1))


def test_the_same_seed_gives_the_same_world(world: World) -> None:
    again = simulate()
    assert (again.before == world.before).all()
    assert (simulate(21).before[:50] != world.before[:50]).any()


def test_the_funnel_finds_the_surgeon_with_and_without_over_dispersion(found: Findings) -> None:
    assert found.funnel == (WORSE,)
    assert found.funnel_dispersed == (WORSE,)


def test_the_cusum_signals_for_that_surgeon_alone(found: Findings) -> None:
    assert found.cusum == ((WORSE, "worse"),)


def test_the_change_of_method_signals_unless_the_phase_is_split(found: Findings) -> None:
    assert found.whole_at_change
    assert found.split_at_change == ()


def test_the_p_chart_finds_the_site(found: Findings) -> None:
    assert {site for site, _ in found.rejected} == {SITES[1]}
    assert all(month >= "2023-01" for _, month in found.rejected)


def test_nobody_is_left_out_of_the_denominators(world: World) -> None:
    counted = denominators_of(world)
    left_out = (
        counted.missing_before + counted.missing_after + sum(counted.rejected.values()) + counted.no_consent
    )
    assert counted.eligible == counted.paired + left_out
    assert counted.paired == len(changes_of(world))
    assert not paired(world)[world.impossible].any()


def test_every_point_carries_its_evidence(world: World, found: Findings) -> None:
    ids = set(changes_of(world).change_id) | set(photographs_of(world).sop_instance_uid)
    for chart in found.charts:
        for track in chart.tracks:
            for point in track.points:
                assert set(point.evidence) <= ids
                if chart.kind is not ChartKind.P:
                    assert len(point.evidence) == point.cases


def test_scores_of_two_methods_fit_no_risk_model(world: World) -> None:
    assert 0 < in_force(world, world.operated_on).mean() < 1
    with pytest.raises(OutcomeError, match="one method"):
        fit_risk_model(changes_of(world, newest_method=False))


def test_the_risk_model_holds(world: World) -> None:
    model = fit_risk_model(changes_of(world))
    assert model.performance.calibration_slope == pytest.approx(1, abs=0.15)
    assert model.performance.auc > 0.6
    assert model.change.residual_sd == pytest.approx(0.38, abs=0.04)


def test_no_limits_under_ten_cases_and_no_small_counts_for_those_who_may_not_see_patients(
    world: World,
) -> None:
    changes = changes_of(world).rows(np.arange(30))
    names = np.array(["a"] * 4 + ["b"] * 9 + ["c"] * 17, object)
    units = sums_of(names, changes.change, changes.poor, np.full(30, 0.3), changes.change_id)
    for chart in (
        change_funnel(units, 0.4, Unit.SURGEON, subject="", dispersed=False),
        ratio_funnel(units, Unit.SURGEON, subject="", dispersed=True),
    ):
        a, b, c = chart.tracks[0].points
        assert (a.upper, b.upper) == (None, None)
        assert c.upper is not None
        hidden = suppressed(chart).tracks[0].points
        assert [point.value is None for point in hidden] == [True, False, False]
        assert all(point.evidence == () for point in hidden)


def test_proportions_of_few_rejections_have_exact_limits() -> None:
    lower, upper = proportion_bounds(44, 0.05)
    assert (lower, upper) == (0, 8)


def test_a_chart_of_nothing_is_refused(world: World) -> None:
    photographs = photographs_of(world)
    with pytest.raises(OutcomeError):
        rejected_chart(photographs.rows(np.zeros(len(photographs), bool)), subject="")
