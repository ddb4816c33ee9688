"""Whether a method treats groups of people alike: skin tone, sex, age, source of the photographs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies import Canvas, Maker, inter_ocular_distance, render
from service.errors import ConfigurationError
from service.evaluation.benchmark.camera import camera_measures, camera_part
from service.evaluation.benchmark.measures import auroc
from service.evaluation.benchmark.robustness import FALSE_POSITIVE_PERCENTILE
from service.evaluation.benchmark.skin import skin_tone, typology_angle
from service.evaluation.benchmark.studies import Cell, Rows, StudyTable, figure_of
from service.evaluation.benchmark.trial import WOBBLE_PX, Judge, Subject
from service.records import QualityMeasures

FEWEST = 10  # faces of a group below which no figure of it is given
ANOMALIES = 2  # shown of each face, the types in turn
SEVERITY = 0.75
SKIN_TONE = "skin tone"
AGE_BANDS = ((2, "0-2"), (12, "3-12"), (17, "13-17"), (39, "18-39"), (64, "40-64"), (200, "65 and over"))
SEXES = {0: "male", 1: "female"}  # coding of the archives
COLUMNS = (
    "faces",
    "rejected",
    "offset",
    "offset_within_source",
    "offset_camera_corrected",
    "sd",
    "false_positives",
    "auroc",
)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Portrayed:
    """A normal face with what is recorded of the person."""

    subject: Subject
    age: int  # years; -1 unknown
    sex: int  # 0 male, 1 female, -1 unknown
    source: str  # collection


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What a method said of one face, clean and changed."""

    groups: Mapping[str, str]  # grouping -> group; a grouping that is not known is left out
    source: str
    score: float | None  # None when rejected
    percentile: float | None
    quality: QualityMeasures
    anomalies: tuple[float, ...]  # scores of its changed images


def age_band(age: int) -> str | None:
    """The band of an age in years; None when it is not known."""
    return next((name for most, name in AGE_BANDS if age <= most), None) if age >= 0 else None


def spread_over(people: Sequence[tuple[int, int, str]], most: int, seed: int) -> list[int]:
    """Choose people evenly over age band, sex and source, so that small groups are seen.

    Args:
        people: age, sex and source of each.
        most: how many to choose.
        seed: of the choice within a group.

    Returns:
        Positions, in their order.
    """
    strata: dict[tuple[str | None, int, str], list[int]] = defaultdict(list)
    rng = np.random.default_rng(seed)
    for position in rng.permutation(len(people)).tolist():
        age, sex, source = people[position]
        strata[age_band(age), sex, source].append(position)
    chosen: list[int] = []
    while len(chosen) < min(most, len(people)):
        for waiting in strata.values():
            if waiting and len(chosen) < most:
                chosen.append(waiting.pop())
    return sorted(chosen)


def measure_subgroups(
    people: Sequence[Portrayed],
    makers: Mapping[str, Maker],
    judge: Judge,
    *,
    repeats: int,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> StudyTable:
    """Show every face clean and with anomalies, and compare the groups.

    Args:
        people: normal faces of people kept out of training.
        makers: anomaly types.
        judge: the method; one that appraises.
        repeats: of the bootstrap over faces; 0 for none.
        seed: of all chance.
        tell: told how many of how many faces are done.

    Raises:
        ConfigurationError: fewer than FEWEST faces could be judged.
    """
    shown = []
    for number, person in enumerate(people):
        shown.append(_show(person, makers, judge, np.random.default_rng((seed, number)), number))
        tell(number + 1, len(people))
    judged = [one for one in shown if one.score is not None]
    if len(judged) < FEWEST:
        raise ConfigurationError(f"subgroups: {len(judged)} faces could be judged; {FEWEST} are needed")
    offsets = _Offsets(judged)
    rows = [("all", _row(shown, offsets, repeats))]
    for grouping, group in _groups(shown):
        members = [one for one in shown if one.groups.get(grouping) == group]
        cells = _row(members, offsets, repeats)
        if grouping == SKIN_TONE:  # measured on judged photographs only
            cells = (cells[0], None, *cells[2:])
        rows.append((f"{grouping}: {group}", cells))
    return StudyTable(
        name="subgroups",
        title="Groups of people",
        note=(
            "Clean scores of normal faces; offset: mean of the group minus mean of all, in standard "
            f"deviations of all (here {offsets.deviation:.2f} of the score), negative = scored less normal. "
            "Within source: against the mean of the same collection. Camera corrected: after a regression "
            "on sharpness, noise, blockiness, luminance, size and pose, cross-fitted, with no attribute of "
            f"a person in it. AUROC: {ANOMALIES} anomalies of severity {SEVERITY:g} a face against the "
            "group's clean faces. Skin tone: individual typology angle of the cheeks in the photograph, "
            "with its exposure and white balance; rejected photographs have none. No figure for fewer than "
            f"{FEWEST} faces."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
    )


def _groups(shown: Sequence[_Shown]) -> Iterator[tuple[str, str]]:
    """Every grouping and group there is, in a fixed order."""
    order = {name: number for number, (_, name) in enumerate(AGE_BANDS)}
    for grouping in (SKIN_TONE, "sex", "age", "source"):
        found = {one.groups[grouping] for one in shown if grouping in one.groups}
        for group in sorted(found, key=lambda name: (order.get(name, 0), name)):
            yield grouping, group


def _show(
    person: Portrayed, makers: Mapping[str, Maker], judge: Judge, rng: np.random.Generator, number: int
) -> _Shown:
    image, landmarks = person.subject.image, person.subject.landmarks
    shift = rng.uniform(-WOBBLE_PX, WOBBLE_PX, 2)
    place = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    sham = render(image, None, place).image
    clean = judge.judge(sham, sham)
    if clean.appraised is None:
        raise ConfigurationError("subgroups are of a method that appraises photographs")
    groups = _recorded(person)
    appraisal, maps = clean.appraised.appraisal, clean.appraised.maps
    angle = typology_angle(maps.face) if maps is not None else None
    if angle is not None:
        groups[SKIN_TONE] = skin_tone(angle).value
    anomalies = []
    canvas = Canvas(image=image, landmarks=landmarks, unit=inter_ocular_distance(landmarks))
    names = list(makers)
    for turn in range(ANOMALIES if clean.anomaly is not None else 0):
        make = makers[names[(number * ANOMALIES + turn) % len(names)]]
        changed = render(image, make(canvas, SEVERITY, rng), place).image
        judged = judge.judge(changed, sham)
        if judged.anomaly is not None:
            anomalies.append(-judged.anomaly)
    return _Shown(
        groups=groups,
        source=person.source,
        score=appraisal.score,
        percentile=appraisal.percentile,
        quality=appraisal.quality,
        anomalies=tuple(anomalies),
    )


def _recorded(person: Portrayed) -> dict[str, str]:
    groups = {"source": person.source}
    if person.sex in SEXES:
        groups["sex"] = SEXES[person.sex]
    band = age_band(person.age)
    if band is not None:
        groups["age"] = band
    return groups


class _Offsets:
    """Scores of clean faces on the scale of their own spread, three ways."""

    def __init__(self, judged: Sequence[_Shown]) -> None:
        scores = np.array([one.score for one in judged], np.float64)
        self.deviation = max(float(scores.std(ddof=1)), 1e-9)
        z = (scores - scores.mean()) / self.deviation
        sources = np.array([one.source for one in judged])
        centre = {name: z[sources == name].mean() for name in set(sources)}
        within = z - np.array([centre[name] for name in sources])
        camera = z - camera_part(np.stack([camera_measures(one.quality) for one in judged]), z)
        self._known = {
            id(one): (float(a), float(b), float(c))
            for one, a, b, c in zip(judged, z, within, camera, strict=True)
        }

    def of(self, members: Sequence[_Shown]) -> Floats:
        """(N, 3): overall, within source, camera corrected."""
        return np.array([self._known[id(one)] for one in members], np.float64)


def _row(members: Sequence[_Shown], offsets: _Offsets, repeats: int) -> tuple[Cell, ...]:
    judged = [one for one in members if one.score is not None]
    refused = np.array([one.score is None for one in members], np.float64)
    rejected = None
    if len(members) >= FEWEST:
        rejected = figure_of(len(members), lambda rows: float(refused[rows].mean()), repeats=repeats)
    if len(judged) < FEWEST:
        return (len(judged), rejected, *[None] * (len(COLUMNS) - 2))
    z = offsets.of(judged)

    def mean(column: int) -> Cell:
        return figure_of(len(judged), lambda rows: float(z[rows, column].mean()), repeats=repeats)

    return (
        len(judged),
        rejected,
        mean(0),
        mean(1),
        mean(2),
        figure_of(len(judged), lambda rows: float(z[rows, 0].std(ddof=1)), repeats=repeats),
        _false_positives(judged, repeats),
        _auroc(judged, repeats),
    )


def _false_positives(judged: Sequence[_Shown], repeats: int) -> Cell:
    ranks = [one.percentile for one in judged]
    if any(rank is None for rank in ranks):
        return None
    below = np.array([rank < FALSE_POSITIVE_PERCENTILE for rank in ranks if rank is not None], np.float64)
    return figure_of(len(below), lambda rows: float(below[rows].mean()), repeats=repeats)


def _auroc(judged: Sequence[_Shown], repeats: int) -> Cell:
    def figure(rows: Rows) -> float:
        clean = [-float(judged[i].score or 0.0) for i in rows]
        changed = [-value for i in rows for value in judged[i].anomalies]
        return auroc(np.array(clean), np.array(changed))

    return figure_of(len(judged), figure, repeats=repeats)
