"""Whose photographs are, for lists and for the search by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reporting.identifiers import own_patient_id
from service.database.pool import Connection


def of_photographs(connection: Connection, instance_ids: Sequence[int]) -> Mapping[int, str]:
    """Logical ids of the Patients of photographs, by instance; those of their own numbers."""
    rows = connection.execute(
        "SELECT i.instance_id, i.issuer_of_patient_id, i.patient_id, i.study_instance_uid, o.patient"
        " FROM instance i LEFT JOIN outcome_photograph o USING (instance_id) WHERE i.instance_id = ANY(%s)",
        (list(instance_ids),),
    )
    return {
        row["instance_id"]: row["patient"]
        or own_patient_id(row["issuer_of_patient_id"], row["patient_id"], row["study_instance_uid"])
        for row in rows
    }


def by_number(connection: Connection, number: str, issuer: str) -> list[str]:
    """Logical ids of the persons with a number, of one issuer or of any where none is named."""
    rows = connection.execute(
        "SELECT DISTINCT coalesce(p.person, n.patient) AS person FROM fhir_patient_number n"
        " LEFT JOIN fhir_person p ON p.patient = n.patient"
        " WHERE n.value = %(number)s AND (%(issuer)s = '' OR n.system = %(issuer)s) ORDER BY 1 LIMIT 20",
        {"number": number, "issuer": issuer},
    )
    return [row["person"] for row in rows]


def is_known(connection: Connection, patient: str) -> bool:
    """Whether a Patient of that logical id has photographs."""
    return (
        connection.execute("SELECT FROM outcome_photograph WHERE patient = %s LIMIT 1", (patient,)).rowcount
        > 0
    )


def person(connection: Connection, patient: str) -> str | None:
    """Logical id of the person of a Patient with photographs or operations; None where there is neither."""
    row = connection.execute(
        "SELECT coalesce((SELECT person FROM fhir_person WHERE patient = %(patient)s), %(patient)s)"
        " AS person",
        {"patient": patient},
    ).fetchone()
    assert row is not None  # noqa: S101 -- a SELECT without FROM has one row
    standing = str(row["person"])
    known = connection.execute(
        "WITH own AS (SELECT %(standing)s AS patient"
        " UNION ALL SELECT patient FROM fhir_person WHERE person = %(standing)s)"
        " SELECT FROM own WHERE EXISTS (SELECT FROM outcome_photograph o WHERE o.patient = own.patient)"
        " OR EXISTS (SELECT FROM procedure_case c WHERE c.patient = own.patient) LIMIT 1",
        {"standing": standing},
    ).rowcount
    return standing if known else None
