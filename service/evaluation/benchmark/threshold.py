"""What a method calls low: the threshold in use, on clean faces, placebos and anomalies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from service.evaluation.benchmark.robustness import FALSE_POSITIVE_PERCENTILE
from service.evaluation.benchmark.studies import Cell, StudyTable, figure_of
from service.evaluation.benchmark.summary import ALL_TYPES, CLEAN, STRONG, SUBTLE
from service.evaluation.benchmark.trial import PLACEBO, SHAM, Verdict

FULL = 1.0  # severity
COLUMNS = ("images", "low", "low_subtle", "low_full", "better_though_larger")


def threshold_table(verdicts: Sequence[Verdict], *, repeats: int) -> StudyTable | None:
    """Shares of images under the threshold in use.

    Args:
        verdicts: of one trial, placebos included.
        repeats: of the bootstrap over people; 0 for none.

    Returns:
        None of a method whose scores nothing compares with a normal cohort.
    """
    ranked = [verdict for verdict in verdicts if verdict.percentile is not None]
    if not ranked:
        return None
    rows = [
        (name, _unchanged([verdict for verdict in ranked if verdict.kind == kind], repeats))
        for name, kind in ((CLEAN, SHAM), (PLACEBO, PLACEBO))
    ]
    kinds = dict.fromkeys(verdict.kind for verdict in ranked if verdict.severity > 0)
    for kind in (ALL_TYPES, *kinds):
        changed = [v for v in ranked if v.severity > 0 and kind in {ALL_TYPES, v.kind}]
        rows.append((kind, _changed(changed, repeats)))
    return StudyTable(
        name="threshold",
        title="At the threshold in use",
        note=(
            f"Share of images under percentile {FALSE_POSITIVE_PERCENTILE:g} of the normal cohort, where "
            f"results are marked low: of clean faces (1 less it is the specificity), of placebos ({PLACEBO}: "
            f"another normal person's lip), and of anomalies (sensitivity) of severity {STRONG:g} and more, "
            f"{SUBTLE:g} (subtle) and {FULL:g} (full). Better though larger: share of steps from one "
            "severity to the next, of one face and type, at which the score is more normal than before. "
            "Rejected images are left out."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
    )


def _unchanged(some: Sequence[Verdict], repeats: int) -> tuple[Cell, ...]:
    return (len(some), _figure(some, _low, repeats), None, None, None)


def _changed(some: Sequence[Verdict], repeats: int) -> tuple[Cell, ...]:
    strong = [verdict for verdict in some if verdict.severity >= STRONG]
    subtle = [verdict for verdict in some if verdict.severity == SUBTLE]
    full = [verdict for verdict in some if verdict.severity == FULL]
    return (
        len(strong),
        _figure(strong, _low, repeats),
        _figure(subtle, _low, repeats),
        _figure(full, _low, repeats),
        _figure(some, _better_though_larger, repeats),
    )


def _low(people: Sequence[Sequence[Verdict]]) -> float:
    ranks = [v.percentile for own in people for v in own if v.percentile is not None]
    return float(np.mean([rank < FALSE_POSITIVE_PERCENTILE for rank in ranks])) if ranks else float("nan")


def _better_though_larger(people: Sequence[Sequence[Verdict]]) -> float:
    steps = [better for own in people for better in _steps(own)]
    return float(np.mean(steps)) if steps else float("nan")


def _steps(own: Sequence[Verdict]) -> list[bool]:
    """Of each step to the next severity, of one photograph and type, whether the score became more normal."""
    series: dict[tuple[int, str], dict[float, float]] = defaultdict(dict)
    for verdict in own:
        if verdict.anomaly is not None:
            series[verdict.photograph, verdict.kind][verdict.severity] = verdict.anomaly
    ordered = [[one[severity] for severity in sorted(one)] for one in series.values()]
    return [later < earlier for one in ordered for earlier, later in pairwise(one)]


def _figure(
    some: Sequence[Verdict], of: Callable[[Sequence[Sequence[Verdict]]], float], repeats: int
) -> Cell:
    """A figure of images, with its interval over people."""
    own: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in some:
        own[verdict.subject].append(verdict)
    each = list(own.values())
    if not each:
        return None
    return figure_of(len(each), lambda drawn: of([each[who] for who in drawn]), repeats=repeats)
