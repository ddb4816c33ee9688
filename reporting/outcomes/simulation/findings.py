"""What the charts say of a world, in short: which units and months signal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from reporting.outcomes.charts.monthly import mean_chart, rejected_chart
from reporting.outcomes.charts.records import Chart, Phase
from reporting.outcomes.charts.sums import means_of, sums_of
from reporting.outcomes.charts.units import (
    IN_CONTROL_CASES,
    Unit,
    change_funnel,
    cusum_chart,
    cusum_limits,
)
from reporting.outcomes.risk_model import fit_risk_model
from reporting.outcomes.simulation.tables import METHODS, changes_of, photographs_of
from reporting.outcomes.simulation.world import BEGINS_ON, MONTHS, SITES, SURGEONS, World

FUNNEL_YEARS = 3
BASELINE_MONTHS = 24
_SUBJECT = "simulated, face"
_LEAST_OF_A_MONTH = 30  # photographs; the first and the last months have few, whose mean scatters more
_OUTER = "beyond-99.8%"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Signals of one world's charts, and the charts."""

    funnel: tuple[str, ...]  # surgeons beyond 99.8 %
    funnel_dispersed: tuple[str, ...]  # the same with over-dispersion allowed for
    cusum: tuple[tuple[str, str], ...]  # surgeon, side
    rejected: tuple[tuple[str, str], ...]  # site, month
    whole_at_change: tuple[str, ...]  # months that signal within half a year of the method's change
    split_at_change: tuple[str, ...]  # the same with the phase split there
    xmr_beyond: int  # points of the split chart beyond their limits
    xmr_points: int  # judged against frozen limits, beyond the baseline
    charts: tuple[Chart, ...]


def findings(world: World, *, in_control: float = IN_CONTROL_CASES) -> Findings:
    """Fit the risk model, draw every chart, and gather what signals.

    Args:
        world: As simulated.
        in_control: Run length of the CUSUMs.

    Raises:
        OutcomeError: Too little in the world to chart.
    """
    changes = changes_of(world)
    model = fit_risk_model(changes)
    risks, expected = model.risks(changes), model.expected(changes)
    recent = changes.operated_on >= changes.operated_on.max() - np.timedelta64(FUNNEL_YEARS * 365, "D")
    of_recent = changes.rows(recent)
    units = sums_of(
        of_recent.surgeon,
        of_recent.change - expected[recent],
        of_recent.poor,
        risks[recent],
        of_recent.change_id,
    )
    funnels = [
        change_funnel(units, model.change.residual_sd, Unit.SURGEON, subject=_SUBJECT, dispersed=dispersed)
        for dispersed in (False, True)
    ]
    limits = cusum_limits(risks, in_control)
    cusums = []
    for name in SURGEONS:
        own = changes.surgeon == name
        if own.any():
            cusums.append(cusum_chart(changes.rows(own), risks[own], name, limits=limits, subject=_SUBJECT))
    photographs = photographs_of(world)
    rejected = [
        rejected_chart(photographs.rows(photographs.site == site), subject=site, baseline=BASELINE_MONTHS)
        for site in SITES
    ]
    whole, split = (_score_chart(world, phases) for phases in ((), _phases(world)))
    return Findings(
        funnel=_beyond(funnels[0]),
        funnel_dispersed=_beyond(funnels[1]),
        cusum=tuple(
            (name, track)
            for name, chart in zip([n for n in SURGEONS if (changes.surgeon == n).any()], cusums, strict=True)
            for track in dict.fromkeys(track for track, _ in chart.signals)
        ),
        rejected=tuple((chart.subject, point.label) for chart in rejected for _, point in chart.signals),
        whole_at_change=_near_change(world, whole),
        split_at_change=_near_change(world, split),
        xmr_beyond=sum("beyond-limits" in point.signals for _, point in split.signals),
        xmr_points=max(0, len(split.tracks[0].points) - BASELINE_MONTHS),
        charts=(*funnels, *cusums, *rejected, whole, split),
    )


def _beyond(funnel: Chart) -> tuple[str, ...]:
    return tuple(point.label for _, point in funnel.signals if _OUTER in point.signals)


def _phases(world: World) -> tuple[Phase, ...]:
    changes_in = world.planted.method_changes_in_month
    if changes_in is None:
        return ()
    years, months = divmod(changes_in, 12)
    begins_on = date(BEGINS_ON.year + years, BEGINS_ON.month + months, 1)
    return (Phase(begins_on=begins_on, method=METHODS[1], reason="new method", author="semblance"),)


def _score_chart(world: World, phases: tuple[Phase, ...]) -> Chart:
    """XmR of the score after surgery by the method in force, by month of the photograph."""
    changes = changes_of(world, newest_method=False)
    return mean_chart(
        means_of(changes.after, changes.followed_on, changes.change_id, least_cases=_LEAST_OF_A_MONTH),
        phases,
        title="Score after surgery",
        subject=_SUBJECT,
        unit="score",
        baseline=BASELINE_MONTHS,
    )


def _near_change(world: World, chart: Chart) -> tuple[str, ...]:
    changes_in = world.planted.method_changes_in_month
    if changes_in is None:
        return ()
    near = {
        str(np.datetime64(BEGINS_ON, "M") + np.timedelta64(m, "M"))
        for m in range(changes_in, min(changes_in + 6, MONTHS))
    }
    return tuple(point.label for _, point in chart.signals if point.label in near)
