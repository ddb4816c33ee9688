"""Whose pairs are behind, and which changes have no Observation yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class PatientDue:
    """A patient whose pairs are to be made anew."""

    outcome_patient_id: int
    patient: str  # logical id
    revision: int


def touch(connection: Connection, patients: Iterable[str]) -> None:
    """Note that something of these patients changed; waits for nobody."""
    connection.execute(
        "INSERT INTO outcome_touched (patient) SELECT unnest(%s::text[])", (sorted(set(patients)),)
    )


def gather(connection: Connection, limit: int = 5000) -> int:
    """Turn notes into patients whose pairs are behind; returns how many notes."""
    rows = connection.execute(
        "WITH taken AS (DELETE FROM outcome_touched WHERE outcome_touched_id IN"
        " (SELECT outcome_touched_id FROM outcome_touched ORDER BY 1 LIMIT %s FOR UPDATE SKIP LOCKED)"
        " RETURNING patient),"
        " noted AS (INSERT INTO outcome_patient (patient) SELECT DISTINCT patient FROM taken ORDER BY 1"
        " ON CONFLICT (patient) DO UPDATE SET revision = outcome_patient.revision + 1, asked_at = NULL)"
        " SELECT count(*) AS notes FROM taken",
        (limit,),
    ).fetchone()
    return int(rows["notes"]) if rows else 0


def due(connection: Connection, asked_before: timedelta, limit: int = 500) -> list[int]:
    """Ids of patients that are behind and were not asked for lately; notes that they are asked for now."""
    rows = connection.execute(
        "UPDATE outcome_patient SET asked_at = now() WHERE outcome_patient_id IN"
        " (SELECT outcome_patient_id FROM outcome_patient WHERE paired_revision < revision"
        " AND (asked_at IS NULL OR asked_at <= now() - %s) ORDER BY asked_at NULLS FIRST LIMIT %s"
        " FOR UPDATE SKIP LOCKED) RETURNING outcome_patient_id",
        (asked_before, limit),
    )
    return sorted(int(row["outcome_patient_id"]) for row in rows)


def take(connection: Connection, outcome_patient_id: int, limit: int = 100) -> list[PatientDue]:
    """Hold a patient that is behind, and others that are, until the transaction ends.

    Args:
        connection: In a transaction.
        outcome_patient_id: Taken first, unless another holds it or it is not behind.
        limit: At most so many; those that others hold are passed over.
    """
    rows = connection.execute(
        "SELECT outcome_patient_id, patient, revision FROM outcome_patient WHERE paired_revision < revision"
        " ORDER BY outcome_patient_id <> %s, asked_at NULLS FIRST, outcome_patient_id LIMIT %s"
        " FOR UPDATE SKIP LOCKED",
        (outcome_patient_id, limit),
    )
    return [PatientDue(**row) for row in rows]


def hold_persons(connection: Connection, persons: Iterable[str]) -> None:
    """Hold persons, named by logical ids, until the transaction ends; in one order, whatever was given."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(name, 142)) FROM unnest(%s::text[]) AS name",
        (sorted(set(persons)),),
    )


def mark_paired(connection: Connection, taken: Sequence[PatientDue]) -> None:
    """Note up to which revision patients' pairs are made."""
    connection.execute(
        "UPDATE outcome_patient SET paired_revision = greatest(paired_revision, done.revision)"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS done (id, revision) WHERE outcome_patient_id = done.id",
        ([each.outcome_patient_id for each in taken], [each.revision for each in taken]),
    )


def behind(connection: Connection) -> int:
    """How many patients' pairs are behind, notes that are not yet gathered among them."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM outcome_patient WHERE paired_revision < revision)"
        " + (SELECT count(*) FROM outcome_touched) AS behind"
    ).fetchone()
    return int(row["behind"]) if row else 0


@dataclass(frozen=True, kw_only=True)
class Unpublished:
    """A change whose Observation is behind."""

    change_id: UUID
    case_id: UUID
    window_name: str


def unpublish(connection: Connection, changes: Iterable[tuple[UUID, UUID, str]]) -> None:
    """Note that the Observations of changes (id, case, window) are behind."""
    given = sorted(set(changes))
    connection.execute(
        "INSERT INTO outcome_unpublished (change_id, case_id, window_name)"
        " SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) ON CONFLICT DO NOTHING",
        ([each[0] for each in given], [each[1] for each in given], [each[2] for each in given]),
    )


def due_unpublished(connection: Connection, asked_before: timedelta, limit: int = 500) -> list[int]:
    """Ids of those that were not asked for lately; notes that they are asked for now."""
    rows = connection.execute(
        "UPDATE outcome_unpublished SET asked_at = now() WHERE outcome_unpublished_id IN"
        " (SELECT outcome_unpublished_id FROM outcome_unpublished"
        " WHERE asked_at IS NULL OR asked_at <= now() - %s ORDER BY asked_at NULLS FIRST,"
        " outcome_unpublished_id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING outcome_unpublished_id",
        (asked_before, limit),
    )
    return sorted(int(row["outcome_unpublished_id"]) for row in rows)


def take_unpublished(connection: Connection, outcome_unpublished_id: int) -> Unpublished | None:
    """Take one off the list; None when another did."""
    row = connection.execute(
        "DELETE FROM outcome_unpublished WHERE outcome_unpublished_id = %s"
        " RETURNING change_id, case_id, window_name",
        (outcome_unpublished_id,),
    ).fetchone()
    return Unpublished(**row) if row else None


def touch_all(connection: Connection) -> None:
    """Note that something of every patient with an operation changed: a rule did."""
    connection.execute("INSERT INTO outcome_touched (patient) SELECT DISTINCT patient FROM procedure_case")
