"""What pairing knows of photographs and their results."""

from __future__ import annotations

from collections.abc import Sequence
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


def facts_of(connection: Connection, patients: Sequence[str]) -> list[dict[str, object]]:
    """Facts of these patients' photographs, beside what the instance says."""
    rows = connection.execute(
        "SELECT o.instance_id, i.sop_instance_uid, o.patient, o.acquired_on, o.acquired_at, o.born_on, o.site,"
        " o.hint, o.hint_source, i.received_at FROM outcome_photograph o JOIN instance i USING (instance_id)"
        " WHERE o.patient = ANY(%s) ORDER BY o.instance_id",
        (list(patients),),
    )
    return list(rows)
