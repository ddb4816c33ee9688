"""Whose a held study is, by the FHIR resources made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.database.pool import Connection


def patients_of(connection: Connection, imaging_study_ids: Sequence[str]) -> Mapping[str, str]:
    """Logical ids of the Patients of ImagingStudies, by the logical ids of these."""
    rows = connection.execute(
        "SELECT id, patient FROM fhir_resource WHERE type = 'ImagingStudy' AND id = ANY(%s)"
        " AND patient IS NOT NULL",
        (list(imaging_study_ids),),
    )
    return {row["id"]: row["patient"] for row in rows}


def studies_of(connection: Connection, patient: str) -> list[str]:
    """Study Instance UIDs of a Patient's ImagingStudies."""
    rows = connection.execute(
        "SELECT DISTINCT substr(each.identifier ->> 'value', 9) AS uid FROM fhir_resource AS r,"
        " jsonb_array_elements(r.body::jsonb -> 'identifier') AS each (identifier)"
        " WHERE r.type = 'ImagingStudy' AND r.patient = %s"
        " AND each.identifier ->> 'value' LIKE 'urn:oid:%%'",
        (patient,),
    )
    return [row["uid"] for row in rows]
