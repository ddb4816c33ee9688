"""Charts over months: XmR and run chart of a mean, p chart of rejections, time to a result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from reporting.outcomes.charts.records import (
    Chart,
    ChartKind,
    ChartPhase,
    Days,
    Phase,
    PhotographTable,
    Point,
    Texts,
    Track,
)
from reporting.outcomes.charts.sums import MonthlyMeans, means_of
from reporting.outcomes.statistics.proportions import p_chart
from reporting.outcomes.statistics.runs import run_chart
from reporting.outcomes.statistics.xmr import LEAST_POINTS, XmrPhase, xmr_chart
from service.errors import OutcomeError

_TAIL = 0.00135  # of a normal distribution beyond three sigma, on either side


def mean_chart(
    data: MonthlyMeans,
    phases: Sequence[Phase] = (),
    *,
    title: str,
    subject: str,
    unit: str,
    baseline: int = LEAST_POINTS,
    screened: bool = True,
    kind: ChartKind = ChartKind.XMR,
) -> Chart:
    """XmR chart of one value a month, in phases.

    Args:
        data: The months.
        phases: In the order of their days; a phase without two months joins the one before it.
        title: Of the chart.
        subject: What it is of.
        unit: Of the values.
        baseline: Months that a phase's limits are frozen after.
        screened: Whether large moving ranges are left out.
        kind: XMR or TIME.

    Raises:
        OutcomeError: Fewer than two months with values.
    """
    if len(data.months) < 2:
        raise OutcomeError("a chart over months needs two months with values")
    starts, reasons = _starts(data.months, phases)
    judged = xmr_chart(data.values, starts, baseline=baseline, screened=screened)
    points = tuple(_point(data, index, judged) for index in range(len(data.months)))
    return Chart(
        kind=kind,
        title=title,
        subject=subject,
        x_label="month",
        tracks=(Track(name="value", unit=unit, points=points),),
        phases=tuple(
            ChartPhase(start=p.start, label=str(data.months[p.start]), reason=why, trial=p.limits.trial)
            for p, why in zip(judged, reasons, strict=True)
        ),
    )


def _starts(months: Days, phases: Sequence[Phase]) -> tuple[list[int], list[str]]:
    """Index of each phase's first month, and its reason; a phase of fewer than two months is passed over."""
    starts, reasons = [0], ["first"]
    for phase in phases:
        begins = int(np.searchsorted(months, np.datetime64(phase.begins_on, "M")))
        if begins <= 0:
            reasons[0] = phase.reason
        elif begins - starts[-1] >= 2 and len(months) - begins >= 2:
            starts.append(begins)
            reasons.append(phase.reason)
    return starts, reasons


def _point(data: MonthlyMeans, index: int, judged: Sequence[XmrPhase]) -> Point:
    phase = next(each for each in judged if each.start <= index < each.stop)
    return Point(
        label=str(data.months[index]),
        x=float(index),
        value=float(data.values[index]),
        cases=int(data.cases[index]),
        evidence=data.evidence[index],
        lower=phase.limits.lower,
        centre=phase.limits.centre,
        upper=phase.limits.upper,
        signals=tuple(s.rule.value for s in phase.signals if s.index == index),
    )


def median_run_chart(data: MonthlyMeans, *, title: str, subject: str, unit: str) -> Chart:
    """Run chart of one value a month by Anhoej's rules; a signal is of the whole chart, on its last point.

    Raises:
        OutcomeError: No value.
    """
    judged = run_chart(data.values)
    said = [name for name, is_so in (("shifted", judged.shifted), ("clustered", judged.clustered)) if is_so]
    last = len(data.months) - 1
    points = tuple(
        Point(
            label=str(data.months[i]),
            x=float(i),
            value=float(data.values[i]),
            cases=int(data.cases[i]),
            evidence=data.evidence[i],
            centre=judged.median,
            signals=tuple(said) if i == last else (),
        )
        for i in range(last + 1)
    )
    notes = (
        f"longest run {judged.longest_run}, limit {judged.longest_run_limit}",
        f"crossings {judged.crossings}, least {judged.crossings_limit}",
    )
    track = Track(name="value", unit=unit, points=points)
    return Chart(
        kind=ChartKind.RUN, title=title, subject=subject, x_label="month", tracks=(track,), notes=notes
    )


def rejected_chart(photographs: PhotographTable, *, subject: str, baseline: int | None = None) -> Chart:
    """P chart of the photographs that could not be judged, with exact binomial limits.

    Three sigma miss the tail of few rejections; the limits here are those of its chance, 0.27 % in all.

    Args:
        photographs: Of one place.
        subject: What it is of.
        baseline: Months that the centre is set from; None takes all.

    Raises:
        OutcomeError: No photograph.
    """
    months, place = np.unique(photographs.acquired_on.astype("datetime64[M]"), return_inverse=True)
    rejected = np.asarray(photographs.reason != "", bool)
    totals = np.bincount(place, minlength=len(months))
    counts = np.bincount(place[rejected], minlength=len(months))
    centre = p_chart(counts, totals, baseline=baseline).centre
    points = tuple(
        _proportion(
            str(months[i]),
            i,
            int(counts[i]),
            int(totals[i]),
            centre=centre,
            evidence=photographs.sop_instance_uid[(place == i) & rejected],
        )
        for i in range(len(months))
    )
    track = Track(name="rejected", unit="proportion", points=points)
    return Chart(
        kind=ChartKind.P, title="Rejected photographs", subject=subject, x_label="month", tracks=(track,)
    )


def _proportion(label: str, index: int, count: int, total: int, *, centre: float, evidence: Texts) -> Point:
    lower, upper = proportion_bounds(total, centre)
    signals = ("beyond-limits",) if not lower <= count <= upper else ()
    return Point(
        label=label,
        x=float(index),
        value=count / total,
        cases=total,
        evidence=tuple(map(str, evidence)),
        lower=lower / total,
        centre=centre,
        upper=upper / total,
        signals=signals,
    )


def proportion_bounds(total: int, centre: float) -> tuple[int, int]:
    """Least and most counts that chance explains: beyond either lies at most 0.135 %."""
    lower = int(binom.ppf(_TAIL, total, centre))
    upper = int(binom.isf(_TAIL, total, centre))
    return lower, upper


def time_chart(
    photographs: PhotographTable, *, subject: str, baseline: int = LEAST_POINTS, phases: Sequence[Phase] = ()
) -> Chart:
    """XmR chart of each month's median time from receipt to result, in seconds.

    Raises:
        OutcomeError: Fewer than two months with results.
    """
    own = photographs.rows(np.isfinite(photographs.waited_s))
    data = means_of(own.waited_s, own.acquired_on, own.sop_instance_uid, median=True)
    return mean_chart(
        data,
        phases,
        title="Time to result",
        subject=subject,
        unit="s",
        baseline=baseline,
        kind=ChartKind.TIME,
    )
