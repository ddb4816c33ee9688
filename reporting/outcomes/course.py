"""One patient over time: photographs with their scores, operations, and the changes between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from reporting.outcomes.database import changes, pairs
from reporting.outcomes.database.changes import StoredChange
from reporting.outcomes.following.gather import Dossier, gather
from reporting.outcomes.records import PhotographFacts, ProcedureCase, ResultSide
from service.appraisal.repeatability import find_repeatability, repeatability_places
from service.config import Settings
from service.database.pool import Connection
from service.records import MethodIdentity, Region


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A photograph of the patient, with its result by the method that is looked at."""

    photograph: PhotographFacts
    result: ResultSide | None  # None: not judged by that method, rejected, or without a day
    roles: tuple[str, ...]  # names of the windows whose photograph it is

    @property
    def is_scored(self) -> bool:
        """Whether it has a score that counts."""
        return (
            self.result is not None and self.result.appraisal.score is not None and not self.result.withdrawn
        )


@dataclass(frozen=True, kw_only=True)
class RegionPoint:
    """A score of one region."""

    on: date
    score: float
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class RegionCourse:
    """A region over time."""

    region: Region
    points: tuple[RegionPoint, ...]  # in the order of time
    baseline: float | None  # score of the last photograph before the first operation, else of the first
    smallest_detectable: float | None  # change of score; None where the method's repeatability is not known


@dataclass(frozen=True, kw_only=True)
class Course:
    """A patient over time, by one method."""

    patient: str  # logical id of the person
    born_on: date | None
    cases: tuple[ProcedureCase, ...]
    sights: tuple[Sight, ...]  # in the order of time; those without a day last
    regions: tuple[RegionCourse, ...]
    changes: tuple[StoredChange, ...]  # that were made between results of the method
    phase: str  # digest of the method that is looked at; "" while there is no result
    methods: Mapping[str, MethodIdentity]  # by phase: those there are results of, the newest first


def course_of(connection: Connection, patient: str, settings: Settings, phase: str = "") -> Course:
    """Read a patient's course.

    Args:
        connection: In a transaction, which the caller commits: what the EHR wrote meanwhile becomes cases.
        patient: Logical id of a Patient.
        settings: Uses ``model_dir``, where a site's own repeatability lies.
        phase: Digest of the method to look at; "" or one without results: that of the newest result.
    """
    (dossier,) = gather(connection, [patient])
    methods = _methods(dossier)
    chosen = phase if phase in methods else next(iter(methods), "")
    roles = _roles(connection, dossier)
    sights = sorted(
        (
            Sight(
                photograph=each,
                result=dossier.results[each.instance_id].get(chosen),
                roles=tuple(roles.get(each.instance_id, ())),
            )
            for each in dossier.photographs
        ),
        key=lambda sight: (sight.photograph.acquired_on or date.max, sight.photograph.instance_id),
    )
    return Course(
        patient=dossier.person.patient,
        born_on=dossier.person.born_on
        or next((case.born_on for case in dossier.cases if case.born_on), None),
        cases=dossier.cases,
        sights=tuple(sights),
        regions=_regions(sights, dossier.cases, methods.get(chosen), settings),
        changes=tuple(_changes(connection, dossier, sights)),
        phase=chosen,
        methods=methods,
    )


def _methods(dossier: Dossier) -> dict[str, MethodIdentity]:
    results = [(side, phase) for by_phase in dossier.results.values() for phase, side in by_phase.items()]
    newest = sorted(results, key=lambda each: each[0].made_at, reverse=True)
    found: dict[str, MethodIdentity] = {}
    for side, phase in newest:
        found.setdefault(phase, side.appraisal.method)
    return found


def _roles(connection: Connection, dossier: Dossier) -> dict[int, list[str]]:
    """Names of windows by the photograph that has their role."""
    found: dict[int, list[str]] = {}
    rows = pairs.roles_of(connection, [case.case_id for case in dossier.cases])
    for (_, window), row in rows.items():
        if row.instance_id is not None:
            found.setdefault(row.instance_id, []).append(window)
    return found


def _regions(
    sights: Sequence[Sight],
    cases: Sequence[ProcedureCase],
    method: MethodIdentity | None,
    settings: Settings,
) -> tuple[RegionCourse, ...]:
    if method is None:
        return ()
    known = find_repeatability(method, *repeatability_places(settings.model_dir))
    first = min((case.performed_on for case in cases if case.active), default=None)
    made = []
    for region in Region:
        points = [
            RegionPoint(
                on=sight.result.acquired_on,
                score=part.score,
                sop_instance_uid=sight.photograph.sop_instance_uid,
            )
            for sight in sights
            if sight.is_scored and sight.result is not None
            for part in sight.result.appraisal.regions
            if part.region is region and part.score is not None
        ]
        if not points:
            continue
        before = [point for point in points if first is None or point.on <= first]
        stored = known.regions.get(region.value) if known else None
        made.append(
            RegionCourse(
                region=region,
                points=tuple(points),
                baseline=before[-1].score if before and first else points[0].score,
                smallest_detectable=stored.smallest_detectable_change if stored else None,
            )
        )
    return tuple(made)


def _changes(connection: Connection, dossier: Dossier, sights: Sequence[Sight]) -> list[StoredChange]:
    own = {sight.result.appraisal.appraisal_id for sight in sights if sight.result is not None}
    names: dict[tuple[UUID, UUID, str], None] = {}
    for row in changes.known(connection, [case.case_id for case in dossier.cases]):
        names[row.change_id, row.case_id, row.window] = None
    found = [changes.stored(connection, *name) for name in names]
    wanted = [each for each in found if each and {each.before_appraisal, each.after_appraisal} <= own]
    return sorted(wanted, key=lambda each: (each.followed_on, each.window))
