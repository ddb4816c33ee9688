"""Measures how much a score varies between real photographs of one person whose face has not changed.

A second exposure differs by everything that happens between two photographs: pose, light, focus,
distance, and what the face does. What comes of one exposure altered by a computer is far too sure of
change. The figures are those of ``service.evaluation.repeatability``, of the scores of each person's
photographs: all of them together, which is what a change is judged by; and apart, photographs of one
expression (retakes) and the means of each expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.appraisal.appraiser import BATCH, Appraiser
from service.appraisal.photograph.decode import Photograph, photograph_from_bytes, read_photograph
from service.appraisal.repeatability import RegionRepeatability, Repeatability
from service.errors import ConfigurationError
from service.evaluation.benchmark.subjects import photographs_in
from service.evaluation.repeatability import LEAST_PEOPLE, region_repeatability
from service.records import Region

RETAKE, EXPRESSION = "retake", "expression"
Scores = Mapping[Region, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """One photograph of somebody."""

    person: str
    expression: str  # "" where the expressions are not told apart
    read: Callable[[], Photograph]  # decodes it; may raise PhotographError


def exposures_in(place: Path) -> tuple[Exposure, ...]:
    """Exposures of a folder with a folder for each person, or of an archive.

    A person's folder holds photographs of one expression, or a folder for each expression. An archive is an
    ``.npz`` of `jpeg` (bytes end to end), `offset` (N+1), `person` and `expression`.

    Raises:
        ConfigurationError: There are none, one is of nobody, or too few people have two.
    """
    found = _archived(place) if place.suffix == ".npz" else _in_folder(place)
    several = {one.person for one in found if sum(other.person == one.person for other in found) > 1}
    if len(several) < LEAST_PEOPLE:
        raise ConfigurationError(
            f"{place}: {len(several)} people with two photographs; {LEAST_PEOPLE} are the least"
        )
    return tuple(one for one in found if one.person in several)


def _in_folder(folder: Path) -> list[Exposure]:
    found = []
    for path in photographs_in(folder):
        person, *rest = path.relative_to(folder).parent.parts or ("",)
        if not person:
            raise ConfigurationError(f"{path} is of nobody: photographs lie in a folder for each person")
        found.append(Exposure(person=person, expression="/".join(rest), read=_reading(path)))
    return found


def _reading(path: Path) -> Callable[[], Photograph]:
    return lambda: read_photograph(path)


def _archived(path: Path) -> list[Exposure]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            jpeg, offset = archive["jpeg"], archive["offset"]
            who, how = archive["person"], archive["expression"]
    except (OSError, KeyError, ValueError) as exc:
        raise ConfigurationError(f"{path} is not an archive of exposures: {exc}") from exc
    parts = [jpeg[start:end].tobytes() for start, end in pairwise(offset)]
    return [
        Exposure(person=str(person), expression=str(expression), read=_decoding(data))
        for data, person, expression in zip(parts, who, how, strict=True)
    ]


def _decoding(data: bytes) -> Callable[[], Photograph]:
    return lambda: photograph_from_bytes(data)


def measure_exposures(
    appraiser: Appraiser,
    exposures: Sequence[Exposure],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Repeatability:
    """Score every exposure once.

    Args:
        appraiser: Of the method.
        exposures: Of people whose faces have not changed, each several times.
        progress: Called with appraisals done and in all.

    Raises:
        ConfigurationError: Too few people could be judged twice.
        PhotographError: One cannot be decoded.
    """
    scores = {region: np.full(len(exposures), np.nan) for region in Region}
    for start in range(0, len(exposures), BATCH):
        part = [one.read() for one in exposures[start : start + BATCH]]
        for row, result in enumerate(appraiser.appraise_batch(part, with_maps=False), start=start):
            for region in result.appraisal.regions:
                if region.score is not None:
                    scores[region.region][row] = region.score
        progress(start + len(part), len(exposures))
    people = [one.person for one in exposures]
    together = _figures(scores, [(person,) for person in people])
    face = together.get(Region.FACE.value)
    if face is None:
        raise ConfigurationError(f"fewer than {LEAST_PEOPLE} people could be judged twice")
    return Repeatability(
        method=appraiser.identity,
        regions=together,
        shift=_shift(scores[Region.FACE], exposures, face.within_sd),
        rejected=_rejected(scores[Region.FACE], exposures),
        basis=_basis(exposures, face.people),
        apart=_apart(scores, exposures),
    )


def _basis(exposures: Sequence[Exposure], people: int) -> str:
    names = [name for name in dict.fromkeys(one.expression for one in exposures) if name]
    said = f" ({', '.join(names)})" if len(names) > 1 else ""
    return f"real photographs of {people} people, several of each{said}"


def _apart(scores: Scores, exposures: Sequence[Exposure]) -> Mapping[str, Mapping[str, RegionRepeatability]]:
    """Retakes of one expression, and the means of expressions; nothing unless there are both."""
    groups = [(one.person, one.expression) for one in exposures]
    retakes = _figures(scores, groups)
    kinds = list(dict.fromkeys(groups))
    where = [np.array([group == kind for group in groups]) for kind in kinds]
    means = {
        region: np.array([_mean(values[chosen]) for chosen in where]) for region, values in scores.items()
    }
    expressions = _figures(means, [(person,) for person, _ in kinds])
    return {RETAKE: retakes, EXPRESSION: expressions} if retakes and expressions else {}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _figures(scores: Scores, groups: Sequence[tuple[str, ...]]) -> Mapping[str, RegionRepeatability]:
    """Figures of each region; what varies within a group is chance. The first of a group says who it is."""
    kinds = list(dict.fromkeys(groups))
    rows = [[index for index, group in enumerate(groups) if group == kind] for kind in kinds]
    people = np.array([kind[0] for kind in kinds])
    found = {}
    for region, values in scores.items():
        table = np.full((len(rows), max(map(len, rows))), np.nan)
        for number, row in enumerate(rows):
            table[number, : len(row)] = values[row]
        figures = region_repeatability(table, people)
        if figures is not None:
            twice = np.isfinite(table).sum(1) >= 2
            found[region.value] = replace(figures, photographs=int(np.isfinite(table[twice]).sum()))
    return found


def _shift(face: NDArray[np.float64], exposures: Sequence[Exposure], within: float) -> Mapping[str, float]:
    """Mean of each expression less the person's mean, in within-subject SDs."""
    people = np.array([one.person for one in exposures])
    away = face - np.array([_mean(face[people == person]) for person in people])
    names = np.array([one.expression for one in exposures])
    shifts = {str(name): _mean(away[names == name]) / within for name in dict.fromkeys(names)}
    return {name: shift for name, shift in shifts.items() if np.isfinite(shift)}


def _rejected(face: NDArray[np.float64], exposures: Sequence[Exposure]) -> Mapping[str, int]:
    counts = dict.fromkeys((one.expression for one in exposures), 0)
    for one, value in zip(exposures, face, strict=True):
        counts[one.expression] += int(np.isnan(value))
    return counts
