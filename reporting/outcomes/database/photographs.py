"""What pairing knows of photographs and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from reporting.outcomes.records import Role
from service.database.pool import Connection


def note(
    connection: Connection,
    *,
    instance_id: int,
    patient: str,
    acquired_on: date | None,
    acquired_at: datetime | None,
    born_on: date | None,
    site: str,
    hint: Role | None,
    hint_source: str,
) -> bool:
    """Note a photograph's facts; the same photograph twice is one row, of the patient it is of now.

    Returns:
        Whether anything is new.
    """
    return bool(
        connection.execute(
            "INSERT INTO outcome_photograph (instance_id, patient, acquired_on, acquired_at, born_on, site,"
            " hint, hint_source) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (instance_id) DO UPDATE SET patient = EXCLUDED.patient"
            " WHERE outcome_photograph.patient <> EXCLUDED.patient",
            (
                instance_id, patient, acquired_on, acquired_at, born_on, site,
                None if hint is None else hint.value, hint_source,
            ),
        ).rowcount
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PhotographRow:
    """What was noted of a photograph, beside what its instance says."""

    instance_id: int
    sop_instance_uid: str
    patient: str  # logical id
    acquired_on: date | None
    acquired_at: datetime | None
    born_on: date | None
    site: str
    hint: Role | None
    hint_source: str
    received_at: datetime


def of_patients(connection: Connection, patients: Sequence[str]) -> list[PhotographRow]:
    """These patients' photographs, in the order they came."""
    rows = connection.execute(
        "SELECT o.instance_id, i.sop_instance_uid, o.patient, o.acquired_on, o.acquired_at, o.born_on,"
        " o.site, o.hint, o.hint_source, i.received_at"
        " FROM outcome_photograph o JOIN instance i USING (instance_id)"
        " WHERE o.patient = ANY(%s) ORDER BY o.instance_id",
        (list(patients),),
    )
    return [PhotographRow(**{**row, "hint": Role(row["hint"]) if row["hint"] else None}) for row in rows]


def withdrawn_of(connection: Connection, observation_ids: Sequence[str]) -> set[str]:
    """Which of these Observations were taken back."""
    rows = connection.execute(
        "SELECT r.id FROM fhir_resource r JOIN fhir_observation o USING (resource_id)"
        " WHERE r.type = 'Observation' AND r.id = ANY(%s) AND o.status = 'entered-in-error'",
        (list(observation_ids),),
    )
    return {row["id"] for row in rows}


def withdrawn(connection: Connection) -> set[str]:
    """Logical ids of all Observations that were taken back."""
    rows = connection.execute(
        "SELECT r.id FROM fhir_resource r JOIN fhir_observation o USING (resource_id)"
        " WHERE r.type = 'Observation' AND o.status = 'entered-in-error'"
    )
    return {row["id"] for row in rows}


def patient_of(connection: Connection, instance_id: int) -> str | None:
    """Logical id of whom a photograph is of; None when it was not noted."""
    row = connection.execute(
        "SELECT patient FROM outcome_photograph WHERE instance_id = %s", (instance_id,)
    ).fetchone()
    return None if row is None else str(row["patient"])
