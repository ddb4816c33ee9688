"""Everything that is known of some persons, read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import loads
from reporting.identifiers import observation_id_of
from reporting.outcomes.database import cases, pairs, photographs
from reporting.outcomes.database.photographs import PhotographRow
from reporting.outcomes.ehr import case_of
from reporting.outcomes.pairing import Decision
from reporting.outcomes.patients import Person, persons_of
from reporting.outcomes.quality import quality_of
from reporting.outcomes.records import CaseSource, PhotographFacts, ProcedureCase, ResultSide, Window
from service.database import appraisals
from service.database.pool import Connection
from service.records import SavedAppraisal

_FROM_THE_EHR = ("code_system", "code", "performed_on", "site", "surgeon", "active", "born_on")


@dataclass(frozen=True, kw_only=True)
class Dossier:
    """One person's operations, photographs and results."""

    person: Person
    cases: tuple[ProcedureCase, ...]  # newest versions, in the order of the operations
    photographs: tuple[PhotographFacts, ...]
    results: Mapping[int, Mapping[str, ResultSide]]  # by instance, then by phase; the newest of each


def gather(connection: Connection, patients: Sequence[str]) -> list[Dossier]:
    """Read all of some Patients' persons; their EHR's Procedures become cases on the way.

    Args:
        connection: In a transaction.
        patients: Logical ids.
    """
    persons = persons_of(connection, patients)
    _take_procedures(connection, persons)
    everyone = [each for person in persons for each in person.everyone]
    rows = photographs.of_patients(connection, everyone)
    found = appraisals.for_instances(connection, [row.instance_id for row in rows])
    names = {
        each.appraisal.appraisal_id: observation_id_of(str(each.appraisal.appraisal_id))
        for saved in found.values()
        for each in saved
    }
    shared = _Shared(
        saved=found, names=names, withdrawn=photographs.withdrawn_of(connection, list(names.values()))
    )
    by_patient: dict[str, list[PhotographRow]] = {}
    for row in rows:
        by_patient.setdefault(row.patient, []).append(row)
    known: dict[str, list[ProcedureCase]] = {}
    for case in cases.of_patients(connection, everyone):
        known.setdefault(case.patient, []).append(case)
    return [_dossier(person, by_patient, known, shared) for person in persons]


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """Read for all persons at once."""

    saved: Mapping[int, Sequence[SavedAppraisal]]  # by instance; the newest first
    names: Mapping[UUID, str]  # logical id of the Observation of each
    withdrawn: set[str]  # of those


def _dossier(
    person: Person,
    by_patient: Mapping[str, Sequence[PhotographRow]],
    known: Mapping[str, Sequence[ProcedureCase]],
    shared: _Shared,
) -> Dossier:
    own = [row for each in person.everyone for row in by_patient.get(each, ())]
    own.sort(key=lambda row: row.instance_id)
    results = {row.instance_id: _results(person, row, shared) for row in own}
    operations = [
        case
        if case.patient == person.patient and case.born_on
        else replace(case, patient=person.patient, born_on=case.born_on or person.born_on)
        for each in person.everyone
        for case in known.get(each, ())
    ]
    return Dossier(
        person=person,
        cases=tuple(sorted(operations, key=lambda case: (case.performed_on, case.case_id))),
        photographs=tuple(
            _facts(person, row, shared.saved.get(row.instance_id, ()), results[row.instance_id])
            for row in own
        ),
        results=results,
    )


def _results(person: Person, row: PhotographRow, shared: _Shared) -> dict[str, ResultSide]:
    """The newest result of each method, weights and settings."""
    results: dict[str, ResultSide] = {}
    if row.acquired_on is None:
        return results
    for each in shared.saved.get(row.instance_id, ()):
        observation_id = shared.names[each.appraisal.appraisal_id]
        results.setdefault(
            each.appraisal.method.phase,
            ResultSide(
                appraisal=each.appraisal,
                instance_id=row.instance_id,
                patient=person.patient,
                acquired_on=row.acquired_on,
                acquired_at=row.acquired_at,
                made_at=each.created_at,
                withdrawn=observation_id in shared.withdrawn,
                observation_id=observation_id,
            ),
        )
    return results


def _facts(
    person: Person, row: PhotographRow, saved: Sequence[SavedAppraisal], results: Mapping[str, ResultSide]
) -> PhotographFacts:
    judged = [s for s in saved if s.appraisal.score is not None]
    usable = [r for r in results.values() if r.appraisal.score is not None and not r.withdrawn]
    newest = saved[0].appraisal if saved else None
    return PhotographFacts(
        instance_id=row.instance_id,
        sop_instance_uid=row.sop_instance_uid,
        patient=person.patient,
        acquired_on=row.acquired_on,
        acquired_at=row.acquired_at,
        received_on=row.received_at.date(),
        born_on=row.born_on or person.born_on,
        site=row.site,
        hint=row.hint,
        hint_source=row.hint_source,
        quality=quality_of(judged[0].appraisal.quality) if judged else None,
        judged=bool(usable),
        reasons=tuple(reason.value for reason in newest.reasons) if newest and not judged else (),
        withdrawn=bool(judged) and not usable,
    )


def _take_procedures(connection: Connection, persons: Sequence[Person]) -> None:
    """Make versions of cases of what the EHR wrote since."""
    names = cases.procedures_of(connection, [each for person in persons for each in person.everyone])
    by_patient = {each: person for person in persons for each in person.everyone}
    for stored in fhir_resources.read_many(connection, [("Procedure", name) for name in names]):
        person = by_patient[str(stored.patient)]
        said = case_of(loads(stored.body), str(stored.patient), person.born_on)
        if said is not None:
            _take(connection, said)


def _take(connection: Connection, said: ProcedureCase) -> None:
    """Save what the EHR says, unless it said the same before: a person may have corrected it since."""
    current = cases.of_procedure(connection, said.procedure_id)
    if current is None:
        cases.save(connection, said)
        return
    earlier = [each for each in cases.versions(connection, current.case_id) if each.source is CaseSource.EHR]
    if earlier and _of_the_ehr(earlier[-1]) == _of_the_ehr(said):
        return
    fields = {name: getattr(said, name) for name in _FROM_THE_EHR if getattr(said, name) not in ("", None)}
    more = {name: getattr(said, name) for name in ("phenotype", "laterality") if getattr(said, name)}
    cases.save(
        connection,
        replace(
            current, **fields, **more, source=CaseSource.EHR, author=said.author, reason="the EHR changed it"
        ),
    )


def _of_the_ehr(case: ProcedureCase) -> tuple[object, ...]:
    """What the EHR itself says, as far as a version kept it."""
    return tuple(getattr(case, name) for name in _FROM_THE_EHR if name != "born_on")


def windows_by_code(connection: Connection) -> list[Window]:
    """The windows that persons set; empty when none did."""
    return cases.windows(connection)


def decisions(connection: Connection, dossiers: Sequence[Dossier]) -> Mapping[UUID, Mapping[str, Decision]]:
    """What persons decided of the cases."""
    return pairs.decisions_of(connection, [case.case_id for each in dossiers for case in each.cases])


def today(connection: Connection) -> date:
    """The database's day: one for every worker."""
    row = connection.execute("SELECT current_date AS day").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    day: date = row["day"]
    return day
