"""How a method's score holds when the face is the same and the photograph is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from service.evaluation.benchmark.studies import Cell, Rows, StudyTable, figure_of
from service.evaluation.benchmark.trial import Judge, Subject
from service.evaluation.retake import Retake, gamma, jpeg, light, mirror, noise, perspective, scale, shear
from service.evaluation.statistics import rater_agreement

CHANGES: Mapping[str, Retake] = {
    "mirrored": mirror,
    "JPEG 90": jpeg(90),
    "JPEG 60": jpeg(60),
    "JPEG 20": jpeg(20),
    "noise, sigma 4": noise(4),
    "noise, sigma 8": noise(8),
    "half the size": scale(0.5),
    "twice the size": scale(2.0),
    "turned by 3 degrees": perspective(0.0, 0.0, 3.0),
    "sheared as by yaw, 3 %": shear(0.03),
    "gamma 1.3": gamma(1.3),
    "gamma 0.77": gamma(0.77),
    "light from the side, 15 %": light(side=0.15),
}
COLUMNS = ("faces", "icc", "median_change", "mean_change", "false_positives", "rejected")
FALSE_POSITIVE_PERCENTILE = 5.0
Floats = npt.NDArray[np.float64]


def measure_robustness(
    subjects: Sequence[Subject],
    judge: Judge,
    *,
    repeats: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> StudyTable:
    """Score normal faces as they are and changed in every way of CHANGES.

    Args:
        subjects: normal faces.
        judge: the method.
        repeats: of the bootstrap over people; 0 for none.
        tell: told how many of how many images are done.
    """
    ways: Mapping[str, Retake] = {"none": lambda rgb: rgb, **CHANGES}
    scores = np.full((len(subjects), len(ways)), np.nan)
    percentiles = np.full_like(scores, np.nan)
    for row, subject in enumerate(subjects):
        for column, again in enumerate(ways.values()):
            image = again(subject.image)
            judged = judge.judge(image, image)
            if judged.anomaly is not None:
                scores[row, column] = -judged.anomaly
            if judged.appraised is not None and judged.appraised.appraisal.percentile is not None:
                percentiles[row, column] = judged.appraised.appraisal.percentile
            tell(row * len(ways) + column + 1, scores.size)
    people = np.array([subject.identity for subject in subjects])
    spread = float(np.nanstd(scores[:, 0])) if np.isfinite(scores[:, 0]).any() else float("nan")
    return StudyTable(
        name="robustness",
        title="The same face, another photograph",
        note=(
            f"Scores of normal faces (standard deviation between faces {spread:.2f}) against those of the "
            "same photographs changed. ICC: ICC(2,1), absolute agreement. Changes in units of the score. "
            f"False positives: share under percentile {FALSE_POSITIVE_PERCENTILE:g} of the normal cohort."
        ),
        columns=COLUMNS,
        rows=tuple(
            (name, _row(scores, percentiles, column, _Draws(people=people, repeats=repeats)))
            for column, name in enumerate(ways)
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Draws:
    """Bootstraps over people: all photographs of one are drawn together."""

    people: npt.NDArray[np.str_]  # (photographs,) who each is of
    repeats: int

    def count(self, chosen: npt.NDArray[np.bool_]) -> int:
        """How many people the chosen photographs are of."""
        return len(np.unique(self.people[chosen]))

    def figure(self, chosen: npt.NDArray[np.bool_], of: Callable[[Rows], float]) -> Cell:
        """A figure of the chosen photographs, by their numbers among them."""
        _, person = np.unique(self.people[chosen], return_inverse=True)
        own = [np.flatnonzero(person == number) for number in range(int(person.max(initial=-1)) + 1)]
        return figure_of(
            len(own),
            lambda drawn: of(np.concatenate([own[number] for number in drawn])),
            repeats=self.repeats,
        )


def _row(scores: Floats, percentiles: Floats, column: int, draws: _Draws) -> tuple[Cell, ...]:
    judged = np.isfinite(scores[:, column]) & np.isfinite(scores[:, 0])
    both = scores[judged][:, [0, column]]
    rejected = int((np.isfinite(scores[:, 0]) & ~np.isfinite(scores[:, column])).sum())
    ranks = percentiles[judged, column]
    positive = None
    if len(ranks) and np.isfinite(ranks).all():
        below = ranks < FALSE_POSITIVE_PERCENTILE
        positive = draws.figure(judged, lambda rows: float(below[rows].mean()))
    people = draws.count(judged)
    if column == 0:
        return (people, None, None, None, positive, int((~np.isfinite(scores[:, 0])).sum()))
    if people < 2:
        return (people, None, None, None, positive, rejected)
    change = both[:, 1] - both[:, 0]
    return (
        people,
        draws.figure(judged, partial(_agreement, both)),
        draws.figure(judged, lambda rows: float(np.median(np.abs(change[rows])))),
        draws.figure(judged, lambda rows: float(change[rows].mean())),
        positive,
        rejected,
    )


def _agreement(both: Floats, rows: Rows) -> float:
    """ICC(2,1) of the two photographs of each face; NaN when the faces do not differ."""
    chosen = both[rows]
    if np.ptp(chosen.mean(axis=1)) == 0:
        return float("nan")
    return rater_agreement(chosen).single
