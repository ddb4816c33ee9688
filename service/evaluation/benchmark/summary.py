"""From verdicts to the figures of one method."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.evaluation.benchmark.measures import auroc, bootstrap_interval, rank_correlation
from service.evaluation.benchmark.trial import Verdict

STRONG, SUBTLE = 0.5, 0.25
FIGURES = (
    "auroc_strong",
    "auroc_subtle",
    "rank_within_subject",
    "rank_pooled",
    "pixel_auroc",
    "pro",
    "rejected",
)
ALL_TYPES = "all"
CLEAN = "clean"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure with its interval over subjects."""

    value: float
    low: float  # 2.5th percentile of the bootstrap by subject; NaN when not asked for
    high: float  # 97.5th


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Figures of one method: by type ("all" first), then by name in FIGURES."""

    method: str
    subjects: int
    types: Mapping[str, Mapping[str, Figure]]
    milliseconds: float  # per image, everything included
    rejections: Mapping[str, Rejections]  # of clean images first, then by type


@dataclass(frozen=True, kw_only=True)
class Rejections:
    """How many images of one kind were rejected, and why."""

    images: int  # shown
    rejected: int
    reasons: Mapping[str, int]  # the most frequent first; an image may have several


def summarise(method: str, verdicts: Sequence[Verdict], *, repeats: int, milliseconds: float) -> Summary:
    """Compute all figures.

    Args:
        method: its name.
        verdicts: of one trial.
        repeats: of the bootstrap; 0 for none.
        milliseconds: measured per image.
    """
    by_subject: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_subject[verdict.subject].append(verdict)
    kinds = list(dict.fromkeys(v.kind for v in verdicts if v.kind != "sham"))
    types: dict[str, dict[str, Figure]] = {}
    for kind in (ALL_TYPES, *kinds):
        types[kind] = {}
        for name in FIGURES:
            figure = _on_subjects(by_subject, kind, name)
            low, high = bootstrap_interval(list(by_subject), figure, repeats=repeats)
            types[kind][name] = Figure(value=figure(list(by_subject)), low=low, high=high)
    return Summary(
        method=method,
        subjects=len(by_subject),
        types=types,
        milliseconds=milliseconds,
        rejections={
            CLEAN: _rejections([v for v in verdicts if v.kind == "sham"]),
            **{kind: _rejections([v for v in verdicts if v.kind == kind]) for kind in kinds},
        },
    )


def _rejections(verdicts: Sequence[Verdict]) -> Rejections:
    refused = [v for v in verdicts if v.anomaly is None]
    reasons = Counter(reason for v in refused for reason in v.reasons)
    return Rejections(images=len(verdicts), rejected=len(refused), reasons=dict(reasons.most_common()))


def _on_subjects(
    by_subject: Mapping[str, Sequence[Verdict]], kind: str, name: str
) -> Callable[[Sequence[str]], float]:
    def figure(subjects: Sequence[str]) -> float:
        chosen = [by_subject[s] for s in subjects]
        return _COMPUTE[name](chosen, kind)

    return figure


def _values(
    chosen: Sequence[Sequence[Verdict]], kind: str, wanted: Callable[[float], bool]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(
        [
            v.anomaly
            for verdicts in chosen
            for v in verdicts
            if v.kind != "sham"
            and kind in {ALL_TYPES, v.kind}
            and wanted(v.severity)
            and v.anomaly is not None
        ],
        np.float64,
    )


def _clean(
    chosen: Sequence[Sequence[Verdict]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = [v.anomaly for vs in chosen for v in vs if v.kind == "sham" and v.anomaly is not None]
    return np.array(values, np.float64)


def _auroc_strong(chosen: Sequence[Sequence[Verdict]], kind: str) -> float:
    return auroc(_clean(chosen), _values(chosen, kind, lambda s: s >= STRONG))


def _auroc_subtle(chosen: Sequence[Sequence[Verdict]], kind: str) -> float:
    return auroc(_clean(chosen), _values(chosen, kind, lambda s: s == SUBTLE))


def _rank_within(chosen: Sequence[Sequence[Verdict]], kind: str) -> float:
    """Mean over photographs and types of the rank correlation of severity and anomaly, sham included."""
    found = []
    for verdicts in _by_photograph(chosen):
        sham = [v for v in verdicts if v.kind == "sham"]
        kinds = {v.kind for v in verdicts if v.kind != "sham" and kind in {ALL_TYPES, v.kind}}
        for one in kinds:
            series = [*sham, *(w for w in verdicts if w.kind == one)]
            pairs = [(v.severity, v.anomaly) for v in series if v.anomaly is not None]
            if len(pairs) > 2:
                found.append(rank_correlation([p[0] for p in pairs], [p[1] for p in pairs]))
    return float(np.mean(found)) if found else float("nan")


def _by_photograph(chosen: Sequence[Sequence[Verdict]]) -> list[list[Verdict]]:
    """Verdicts of each photograph apart; those of a subject drawn twice stay twice."""
    found: list[list[Verdict]] = []
    for verdicts in chosen:
        own: dict[int, list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            own[verdict.photograph].append(verdict)
        found += own.values()
    return found


def _rank_pooled(chosen: Sequence[Sequence[Verdict]], kind: str) -> float:
    pairs = [
        (v.severity, v.anomaly)
        for verdicts in chosen
        for v in verdicts
        if v.anomaly is not None and (v.kind == "sham" or kind in {ALL_TYPES, v.kind})
    ]
    return rank_correlation([p[0] for p in pairs], [p[1] for p in pairs])


def _strong_mean(chosen: Sequence[Sequence[Verdict]], kind: str, read: Callable[[Verdict], float]) -> float:
    values = [
        read(v)
        for verdicts in chosen
        for v in verdicts
        if v.severity >= STRONG and kind in {ALL_TYPES, v.kind}
    ]
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _rejected(chosen: Sequence[Sequence[Verdict]], kind: str) -> float:
    """Share of clean images rejected for "all", of images with the anomaly for a type."""
    images = [
        v.anomaly is None
        for verdicts in chosen
        for v in verdicts
        if v.kind == ("sham" if kind == ALL_TYPES else kind)
    ]
    return float(np.mean(images)) if images else float("nan")


_COMPUTE: Mapping[str, Callable[[Sequence[Sequence[Verdict]], str], float]] = {
    "auroc_strong": _auroc_strong,
    "auroc_subtle": _auroc_subtle,
    "rank_within_subject": _rank_within,
    "rank_pooled": _rank_pooled,
    "pixel_auroc": lambda chosen, kind: _strong_mean(chosen, kind, lambda v: v.pixel_auroc),
    "pro": lambda chosen, kind: _strong_mean(chosen, kind, lambda v: v.pro),
    "rejected": _rejected,
}
