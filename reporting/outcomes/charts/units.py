"""Charts by site or surgeon: funnels with and without over-dispersion, RA-CUSUM with VLAD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np

from reporting.outcomes.charts.records import (
    ChangeTable,
    Chart,
    ChartKind,
    Floats,
    Point,
    Track,
)
from reporting.outcomes.charts.sums import UnitSums
from reporting.outcomes.statistics.cusum import BETTER, WORSE, Cusum, CusumSide, limit_for, ra_cusum
from reporting.outcomes.statistics.funnel import (
    COVERAGES,
    LEAST_CASES,
    Adjustment,
    dispersed_mean_limits,
    dispersed_ratio_limits,
    dispersion,
    mean_limits,
    ratio_limits,
    ratio_variance,
    ratio_z,
)
from service.errors import OutcomeError

IN_CONTROL_CASES = 20_000.0  # between false signals of one side of a unit's CUSUM, on average
SMALL = 5  # counts under it are suppressed for roles that may not see patients


class Unit(StrEnum):
    """Whose results are compared."""

    SITE = "site"
    SURGEON = "surgeon"


def change_funnel(units: UnitSums, residual_sd: float, by: Unit, *, subject: str, dispersed: bool) -> Chart:
    """Funnel of the mean change beyond what was expected of each patient, in standard deviations.

    Args:
        units: Of the time that is charted.
        residual_sd: Scatter of changes about what the risk model expects.
        by: What the units are.
        subject: What it is of.
        dispersed: Whether the limits allow for over-dispersion (tau squared added to the variance by
            chance, never less than nothing; Spiegelhalter's winsorising).

    Raises:
        OutcomeError: No change.
    """
    cases = _cases(units)
    means = units.residual / residual_sd / cases
    big = cases >= LEAST_CASES
    tau_squared = 0.0
    notes: tuple[str, ...] = ()
    if dispersed and big.any():
        found = dispersion(means[big] * np.sqrt(cases[big]), 1 / cases[big], Adjustment.WINSORISED)
        tau_squared = found.tau_squared
        notes = (f"over-dispersion phi {found.phi:.4f}, tau squared {tau_squared:.6f}, winsorised",)
    bounds = [
        dispersed_mean_limits(cases, 1.0, tau_squared, coverage)
        if dispersed
        else mean_limits(cases, 1.0, coverage)
        for coverage in COVERAGES
    ]
    return Chart(
        kind=ChartKind.FUNNEL,
        title=f"Change beyond expectation by {by}",
        subject=subject,
        x_label="cases",
        tracks=(Track(name="mean", unit="SD", points=_marks(units, means, cases, bounds, 0.0)),),
        notes=(*notes, *_left_out(units)),
    )


def ratio_funnel(units: UnitSums, by: Unit, *, subject: str, dispersed: bool) -> Chart:
    """Funnel of poor outcomes observed over those expected: exact Poisson, or with SHMI's over-dispersion.

    Args:
        units: Of the time that is charted.
        by: What the units are.
        subject: What it is of.
        dispersed: Whether the limits allow for over-dispersion.

    Raises:
        OutcomeError: No change.
    """
    big = _cases(units) >= LEAST_CASES
    notes: tuple[str, ...] = ()
    bounds = [ratio_limits(units.expected, coverage) for coverage in COVERAGES]
    if dispersed and big.any():
        z = ratio_z(units.observed[big], units.expected[big])
        found = dispersion(z, ratio_variance(units.expected[big]), Adjustment.TRUNCATED)
        notes = (f"over-dispersion phi {found.phi:.4f}, tau squared {found.tau_squared:.6f}, truncated",)
        bounds = [
            dispersed_ratio_limits(units.expected, found.tau_squared, coverage) for coverage in COVERAGES
        ]
    ratios = units.observed / units.expected
    return Chart(
        kind=ChartKind.FUNNEL,
        title=f"Poor outcomes over expected by {by}",
        subject=subject,
        x_label="expected",
        tracks=(
            Track(name="ratio", unit="ratio", points=_marks(units, ratios, units.expected, bounds, 1.0)),
        ),
        notes=(*notes, *_left_out(units)),
    )


def _cases(units: UnitSums) -> Floats:
    if len(units.names) == 0:
        raise OutcomeError("there is no change to chart")
    return units.cases.astype(np.float64)


def _left_out(units: UnitSums) -> tuple[str, ...]:
    return (
        (f"{units.unexpected} cases left out: the risk model is older than they are",)
        if units.unexpected
        else ()
    )


def _marks(
    units: UnitSums, values: Floats, x: Floats, bounds: Sequence[tuple[Floats, Floats]], centre: float
) -> tuple[Point, ...]:
    (inner_lower, inner_upper), (lower, upper) = bounds
    points = []
    for i, name in enumerate(units.names):
        point = Point(
            label=str(name),
            x=float(x[i]),
            value=float(values[i]),
            cases=int(units.cases[i]),
            evidence=units.evidence[i],
            centre=centre,
        )
        if units.cases[i] >= LEAST_CASES:
            beyond = [
                f"beyond-{coverage:.1%}"
                for coverage, (low, high) in zip(COVERAGES, bounds, strict=True)
                if not low[i] <= values[i] <= high[i]
            ]
            point = replace(
                point,
                lower=float(lower[i]),
                upper=float(upper[i]),
                inner_lower=float(inner_lower[i]),
                inner_upper=float(inner_upper[i]),
                signals=tuple(beyond),
            )
        points.append(point)
    return tuple(points)


def cusum_limits(risks: Floats, in_control: float = IN_CONTROL_CASES) -> tuple[float, float]:
    """Limits of both sides for a mix of patients, from the in-control run length of each side.

    Raises:
        OutcomeError: No limit gives it.
    """
    return limit_for(risks, WORSE, in_control), limit_for(risks, BETTER, in_control)


def cusum_chart(
    changes: ChangeTable,
    risks: Floats,
    name: str,
    *,
    limits: tuple[float, float],
    subject: str,
    resets: Sequence[np.datetime64] = (),
) -> Chart:
    """Two-sided RA-CUSUM and VLAD of one unit's consecutive cases.

    Args:
        changes: Of the unit.
        risks: (n,) of a poor outcome, before the operation.
        name: Of the unit.
        limits: Of both sides.
        subject: What it is of.
        resets: Days on which a person began anew.

    Raises:
        OutcomeError: No case.
    """
    if len(changes) == 0:
        raise OutcomeError(f"{name} has no case to chart")
    order = np.lexsort((changes.change_id.astype(str), changes.operated_on))
    own, chances = changes.rows(order), risks[order]
    anew = [int(np.searchsorted(own.operated_on, day)) for day in resets]
    judged = ra_cusum(own.poor, chances, limits=limits, resets=[i for i in anew if 0 < i < len(own)])
    return Chart(
        kind=ChartKind.CUSUM,
        title=f"RA-CUSUM and VLAD of {name}",
        subject=subject,
        x_label="case",
        tracks=(
            _side("worse", judged.worse, own),
            _side("better", judged.better, own),
            _vlad(judged, own),
        ),
        notes=(f"odds ratios {WORSE:g} and {BETTER:g}; limits {limits[0]:.3f} and {limits[1]:.3f}",),
    )


def _side(name: str, side: CusumSide, own: ChangeTable) -> Track:
    points = tuple(
        Point(
            label=str(own.operated_on[i]),
            x=float(i + 1),
            value=float(side.path[i]),
            cases=1,
            evidence=(str(own.change_id[i]),),
            lower=0.0,
            upper=side.limit,
            signals=("limit-reached",) if i in side.signals else (),
        )
        for i in range(len(own))
    )
    return Track(name=name, unit="log likelihood ratio", points=points)


def _vlad(judged: Cusum, own: ChangeTable) -> Track:
    points = tuple(
        Point(
            label=str(own.operated_on[i]),
            x=float(i + 1),
            value=float(judged.vlad[i]),
            cases=1,
            evidence=(str(own.change_id[i]),),
            centre=0.0,
        )
        for i in range(len(own))
    )
    return Track(name="VLAD", unit="poor outcomes fewer than expected", points=points)


def suppressed(chart: Chart) -> Chart:
    """The chart for a role that may not see patients: no evidence, and no figure of fewer than five cases."""

    def hidden(point: Point) -> Point:
        if point.cases < SMALL:
            return Point(label=point.label, x=point.x, value=None, cases=0, evidence=())
        return replace(point, evidence=())

    if chart.kind is ChartKind.CUSUM:
        raise OutcomeError("a chart of single cases is not for a role that may not see patients")
    tracks = tuple(replace(t, points=tuple(map(hidden, t.points))) for t in chart.tracks)
    return replace(chart, tracks=tracks)
