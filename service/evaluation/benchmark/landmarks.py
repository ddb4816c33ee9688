"""Whether landmarks follow a displaced structure, and how far the network's lie from the mesh's."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.anomalies import forward_points, inter_ocular_distance
from service.appraisal.face.alignment import AlignedFace, transform
from service.appraisal.methods.localised.reading import Restored, found_landmarks
from service.appraisal.methods.localised.views import LANDMARKS
from service.evaluation.benchmark.studies import Cell, StudyTable, figure_of
from service.evaluation.benchmark.summary import STRONG
from service.evaluation.benchmark.trial import Sheet

MOVED_SHARE = 0.25  # of the largest displacement, from which a landmark counts as moved
MOVED_LEAST = 0.01  # inter-ocular distances, likewise
Points = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """Landmarks of one image in photograph pixels, (len(LANDMARKS), 2) float64 each."""

    network: Points
    mesh: Points


@dataclass(frozen=True, kw_only=True)
class _Recovered:
    """Shares of one image's displacement that were found."""

    subject: str
    kind: str
    network: float
    mesh: float


class LandmarkStudy:
    """Collects, from the images of a trial, where the landmarks were found."""

    def __init__(self) -> None:
        self._shams: dict[str, _Found] = {}
        self._recovered: list[_Recovered] = []
        self._distances: list[NDArray[np.float64]] = []  # of each sham, (len(LANDMARKS),)

    @property
    def empty(self) -> bool:
        """True while no image came with landmarks of the network."""
        return not self._shams

    def see(self, sheet: Sheet) -> None:
        """Take one image; of each subject the sham comes first."""
        found = _found(sheet)
        if found is None:
            return
        who = sheet.subject.identity
        unit = inter_ocular_distance(sheet.subject.landmarks)
        if sheet.kind == "sham":
            self._shams[who] = found
            self._distances.append(np.hypot(*(found.network - found.mesh).T) / unit)
        elif who in self._shams and sheet.severity >= STRONG:
            self._compare(sheet, self._shams[who], found, unit)

    def _compare(self, sheet: Sheet, before: _Found, after: _Found, unit: float) -> None:
        points = sheet.subject.landmarks[list(LANDMARKS)].astype(np.float32)
        true = (forward_points(points, sheet.rendered.displacement) - points).astype(np.float64)
        size = np.hypot(*true.T)
        moved = size > max(MOVED_SHARE * float(size.max()), MOVED_LEAST * unit)
        if not moved.any():
            return
        power = float((true[moved] ** 2).sum())

        def share(there: Points, here: Points) -> float:
            return float(((there - here)[moved] * true[moved]).sum()) / power

        self._recovered.append(
            _Recovered(
                subject=sheet.subject.identity,
                kind=sheet.kind,
                network=share(after.network, before.network),
                mesh=share(after.mesh, before.mesh),
            )
        )

    def tables(self, *, repeats: int) -> tuple[StudyTable, StudyTable]:
        """Displacement recovered by type, and distance from the mesh on normal faces."""
        return self._recovery(repeats), self._distance(repeats)

    def _recovery(self, repeats: int) -> StudyTable:
        kinds: dict[str, list[_Recovered]] = defaultdict(list)
        for one in self._recovered:
            kinds[one.kind].append(one)
        return StudyTable(
            name="landmarks",
            title="Displacement that landmarks recover",
            note=(
                f"Anomalies that move landmarks, severity {STRONG:g} and more: component of the found along "
                "the true displacement over the true one, squares summed over the landmarks that moved; 1 is "
                "all of it. Mean over images, intervals by subject."
            ),
            columns=("images", "network", "mesh"),
            rows=tuple((kind, _recovery_row(some, repeats)) for kind, some in kinds.items()),
        )

    def _distance(self, repeats: int) -> StudyTable:
        apart = 100 * np.stack(self._distances)
        faces = len(apart)

        def mean(rows: NDArray[np.intp]) -> float:
            return float(apart[rows].mean())

        def worst(rows: NDArray[np.intp]) -> float:
            return float(np.percentile(apart[rows].mean(axis=1), 95))

        return StudyTable(
            name="landmark_distance",
            title="Landmarks of normal faces",
            note="Distance of the network's landmarks from the mesh's, in % of the inter-ocular distance.",
            columns=("faces", "mean", "percentile_95_of_faces"),
            rows=(
                (
                    "normal faces",
                    (
                        faces,
                        figure_of(faces, mean, repeats=repeats),
                        figure_of(faces, worst, repeats=repeats),
                    ),
                ),
            ),
        )


def _recovery_row(some: list[_Recovered], repeats: int) -> tuple[Cell, ...]:
    subjects = list(dict.fromkeys(one.subject for one in some))

    def cell(values: dict[str, list[float]]) -> Cell:
        def mean(rows: NDArray[np.intp]) -> float:
            return float(np.mean([v for row in rows for v in values[subjects[row]]]))

        return figure_of(len(subjects), mean, repeats=repeats)

    network: dict[str, list[float]] = defaultdict(list)
    mesh: dict[str, list[float]] = defaultdict(list)
    for one in some:
        network[one.subject].append(one.network)
        mesh[one.subject].append(one.mesh)
    return len(some), cell(network), cell(mesh)


def _found(sheet: Sheet) -> _Found | None:
    """Landmarks in photograph pixels; None when rejected or by a method that finds none."""
    maps = sheet.judged.appraised.maps if sheet.judged.appraised is not None else None
    if maps is None or not isinstance(maps.counterpart, Restored):
        return None
    face: AlignedFace = maps.face
    back = np.asarray(cv2.invertAffineTransform(face.matrix), np.float64)
    there = found_landmarks(maps.counterpart.reading, face.landmarks, face.size)[list(LANDMARKS)]
    mesh = face.landmarks[list(LANDMARKS)]
    return _Found(network=transform(there, back), mesh=transform(mesh, back))
