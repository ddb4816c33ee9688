"""Who is whom: numbers that photographs came under, Patients of the same person, and open questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.database.pool import Connection, tuples

_LOCK = 0x50455253  # who is whom is changed by one transaction at a time
_IDENTIFIER, _LINK = 201, 221  # parameters of Patient in the search table


class ConflictKind(StrEnum):
    """What somebody has to decide."""

    MIXED_STUDY = "mixed-study"  # a study holds photographs of more than one person
    DISPUTED_NUMBER = "disputed-number"  # more than one Patient claims the number of a photograph
    DISPUTED_LINK = "disputed-link"  # links of Patients lead to more than one, or in a circle


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """One open question."""

    kind: ConflictKind
    subject: str  # Study Instance UID, or logical id of a Patient
    patients: tuple[str, ...]  # logical ids
    noticed_at: datetime


def lock(connection: Connection) -> None:
    """Hold who is whom until the transaction ends; taken before a row of a Patient is."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


# --- persons


def person_of(connection: Connection, patient: str) -> str:
    """The Patient that stands for a Patient's person; itself when it is the only one."""
    return persons_of(connection, [patient])[patient]


def persons_of(connection: Connection, patients: Iterable[str]) -> dict[str, str]:
    """The Patient that stands for the person of each."""
    wanted = sorted(set(patients))
    found = {patient: patient for patient in wanted}
    if wanted:
        rows = tuples(connection).execute(
            "SELECT patient, person FROM fhir_person WHERE patient = ANY(%s)", (wanted,)
        )
        found.update({row[0]: row[1] for row in rows})
    return found


def members(connection: Connection, patient: str) -> tuple[str, ...]:
    """Every Patient of the same person, by logical ids, sorted; the one asked about among them."""
    return members_of(connection, [patient])[patient]


def members_of(connection: Connection, patients: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """For each Patient, every Patient of the same person, itself among them."""
    wanted = sorted(set(patients))
    found: dict[str, list[str]] = {patient: [patient] for patient in wanted}
    if wanted:
        rows = tuples(connection).execute(
            "SELECT asked.patient, every.patient FROM fhir_person asked JOIN fhir_person every USING (person)"
            " WHERE asked.patient = ANY(%s)",
            (wanted,),
        )
        for patient, other in rows:
            found[patient].append(other)
    return {patient: tuple(sorted(set(others))) for patient, others in found.items()}


def set_persons(connection: Connection, persons: Mapping[str, str]) -> None:
    """Say of whole groups who stands for whom; a Patient that is the only one of its person has no row."""
    connection.execute("DELETE FROM fhir_person WHERE patient = ANY(%s)", (sorted(persons),))
    rows = {patient: person for patient, person in persons.items() if patient != person}
    rows |= {person: person for person in rows.values()}
    connection.execute(
        "INSERT INTO fhir_person (patient, person) SELECT * FROM unnest(%s::text[], %s::text[])"
        " ON CONFLICT (patient) DO UPDATE SET person = excluded.person",
        (list(rows), list(rows.values())),
    )


# --- numbers, identifiers and links


def number_of(connection: Connection, patient: str) -> tuple[str, str] | None:
    """System and value of the number a Patient was derived of; None when no photograph came under it."""
    row = (
        tuples(connection)
        .execute("SELECT system, value FROM fhir_patient_number WHERE patient = %s", (patient,))
        .fetchone()
    )
    return None if row is None else (row[0], row[1])


def put_number(connection: Connection, patient: str, system: str, value: str) -> None:
    """Note the number a Patient is derived of."""
    connection.execute(
        "INSERT INTO fhir_patient_number (patient, system, value) VALUES (%s, %s, %s)"
        " ON CONFLICT (patient) DO UPDATE SET system = excluded.system, value = excluded.value",
        (patient, system, value),
    )


def numbers_of(connection: Connection, identifiers: Iterable[tuple[str, str]]) -> list[str]:
    """Patients derived of numbers that are one of these (system, value) pairs, sorted."""
    pairs = sorted({pair for pair in identifiers if all(pair)})
    rows = tuples(connection).execute(
        "SELECT DISTINCT n.patient FROM fhir_patient_number n"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted (s, v) ON n.value = v AND n.system = s ORDER BY 1",
        ([system for system, _ in pairs], [value for _, value in pairs]),
    )
    return [row[0] for row in rows]


def claimants(connection: Connection, identifiers: Iterable[tuple[str, str]]) -> list[str]:
    """Patients that have one of these identifiers, as (system, value) pairs, sorted."""
    pairs = sorted({pair for pair in identifiers if all(pair)})
    rows = tuples(connection).execute(
        "SELECT DISTINCT r.id FROM unnest(%s::text[], %s::text[]) AS wanted (s, v)"
        " JOIN fhir_token t ON t.param = %s AND t.code = v AND t.system = s"
        " JOIN fhir_resource r ON r.resource_id = t.resource_id AND r.type = 'Patient' ORDER BY 1",
        ([system for system, _ in pairs], [value for _, value in pairs], _IDENTIFIER),
    )
    return [row[0] for row in rows]


def linking(connection: Connection, patient: str) -> list[str]:
    """Patients with a link to a Patient, sorted."""
    rows = tuples(connection).execute(
        "SELECT DISTINCT r.id FROM fhir_reference f JOIN fhir_resource r USING (resource_id)"
        " WHERE f.target_id = %s AND f.target_type = 'Patient' AND f.param = %s ORDER BY 1",
        (patient, _LINK),
    )
    return [row[0] for row in rows]


def author_of(connection: Connection, patient: str) -> str | None:
    """Who wrote the current version of a Patient; None when there is none."""
    row = (
        tuples(connection)
        .execute("SELECT author FROM fhir_resource WHERE type = 'Patient' AND id = %s", (patient,))
        .fetchone()
    )
    return None if row is None else str(row[0])


def photographs_under(connection: Connection, patients: Sequence[str]) -> list[tuple[int, str, str]]:
    """(row, SOP Instance UID, Patient of its own number) of photographs that came under numbers."""
    rows = tuples(connection).execute(
        "SELECT instance_id, sop_instance_uid, patient FROM held_instance"
        " WHERE NOT is_result AND patient = ANY(%s) ORDER BY instance_id",
        (list(patients),),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def studies_named(
    connection: Connection, study_instance_uid: str, resource_type: str, param: int
) -> list[tuple[str, str]]:
    """(logical id, Patient) of the resources of a type that a study's UID identifies, oldest first.

    Args:
        connection: In a transaction.
        study_instance_uid: Of the study.
        resource_type: ImagingStudy or DiagnosticReport.
        param: Number of its parameter ``identifier``.
    """
    rows = tuples(connection).execute(
        "SELECT r.id, r.patient FROM fhir_token t JOIN fhir_resource r USING (resource_id)"
        " WHERE t.param = %s AND t.code = %s AND r.type = %s AND r.patient IS NOT NULL"
        " ORDER BY r.resource_id",
        (param, f"urn:oid:{study_instance_uid}", resource_type),
    )
    return [(row[0], row[1]) for row in rows]


# --- conflicts


def note_conflict(connection: Connection, kind: ConflictKind, subject: str, patients: Sequence[str]) -> bool:
    """Note an open question; answers whether it, or whom it is about, is news."""
    row = connection.execute(
        "INSERT INTO patient_conflict AS known (kind, subject, patients) VALUES (%s, %s, %s)"
        " ON CONFLICT (kind, subject) DO UPDATE SET patients = excluded.patients, resolved_at = NULL,"
        " noticed_at = CASE WHEN known.resolved_at IS NULL THEN known.noticed_at ELSE now() END"
        " WHERE known.resolved_at IS NOT NULL OR known.patients <> excluded.patients RETURNING kind",
        (kind.value, subject, sorted(patients)),
    ).fetchone()
    return row is not None


def resolve_conflict(connection: Connection, kind: ConflictKind, subject: str) -> bool:
    """Note that a question is answered; False when it was not open."""
    return bool(
        connection.execute(
            "UPDATE patient_conflict SET resolved_at = now()"
            " WHERE kind = %s AND subject = %s AND resolved_at IS NULL",
            (kind.value, subject),
        ).rowcount
    )


def open_conflicts(connection: Connection, limit: int = 50) -> list[Conflict]:
    """Open questions, the newest first."""
    rows = connection.execute(
        "SELECT kind, subject, patients, noticed_at FROM patient_conflict WHERE resolved_at IS NULL"
        " ORDER BY patient_conflict_id DESC LIMIT %s",
        (limit,),
    )
    return [
        Conflict(
            kind=ConflictKind(row["kind"]),
            subject=row["subject"],
            patients=tuple(row["patients"]),
            noticed_at=row["noticed_at"],
        )
        for row in rows
    ]


def mixed_studies_of(connection: Connection, patients: Sequence[str]) -> list[str]:
    """Studies noted as mixed in which one of these Patients has a part."""
    rows = connection.execute(
        "SELECT subject FROM patient_conflict WHERE kind = %s AND resolved_at IS NULL AND patients && %s"
        " ORDER BY subject",
        (ConflictKind.MIXED_STUDY.value, list(patients)),
    )
    return [row["subject"] for row in rows]
