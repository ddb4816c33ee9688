"""Whose pairs are behind, and which photographs wait to be appraised again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class PatientDue:
    """A patient whose pairs are to be made anew."""

    outcome_patient_id: int
    patient: str  # logical id
    revision: int
    paired_revision: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far re-appraisal by one method is."""

    phase: str
    requested: int
    done: int
    failed: int  # given up


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


def lock(connection: Connection, outcome_patient_id: int) -> PatientDue | None:
    """Hold a patient until the transaction ends; None when there is no such row."""
    row = connection.execute(
        "SELECT outcome_patient_id, patient, revision, paired_revision FROM outcome_patient"
        " WHERE outcome_patient_id = %s FOR UPDATE",
        (outcome_patient_id,),
    ).fetchone()
    return PatientDue(**row) if row else None


def mark_paired(connection: Connection, due_one: PatientDue) -> None:
    """Note up to which revision a patient's pairs are made."""
    connection.execute(
        "UPDATE outcome_patient SET paired_revision = greatest(paired_revision, %s) WHERE outcome_patient_id = %s",
        (due_one.revision, due_one.outcome_patient_id),
    )


def behind(connection: Connection) -> int:
    """How many patients' pairs are behind, notes that are not yet gathered among them."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM outcome_patient WHERE paired_revision < revision)"
        " + (SELECT count(*) FROM outcome_touched) AS behind"
    ).fetchone()
    return int(row["behind"]) if row else 0


def want_reappraisal(connection: Connection, instance_ids: Sequence[int], phase: str) -> int:
    """Ask for photographs to be appraised by another method; returns how many were not asked for before."""
    return connection.execute(
        "INSERT INTO reappraisal (instance_id, phase) SELECT unnest(%s::bigint[]), %s ON CONFLICT DO NOTHING",
        (sorted(set(instance_ids)), phase),
    ).rowcount


def due_reappraisals(connection: Connection, phase: str, asked_before: timedelta, limit: int) -> list[int]:
    """Instances that wait for the method in force, a few at a time; notes that they are asked for now."""
    rows = connection.execute(
        "UPDATE reappraisal SET asked_at = now() WHERE phase = %(phase)s AND instance_id IN"
        " (SELECT instance_id FROM reappraisal WHERE phase = %(phase)s AND done_at IS NULL"
        " AND (asked_at IS NULL OR asked_at <= now() - %(before)s)"
        " ORDER BY asked_at NULLS FIRST, instance_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)"
        " RETURNING instance_id",
        {"phase": phase, "before": asked_before, "limit": limit},
    )
    return sorted(int(row["instance_id"]) for row in rows)


def reappraised(connection: Connection, instance_id: int, phase: str) -> None:
    """Note that a photograph was appraised again."""
    connection.execute(
        "UPDATE reappraisal SET done_at = now(), error = '' WHERE instance_id = %s AND phase = %s",
        (instance_id, phase),
    )


def reappraisal_failed(connection: Connection, instance_id: int, phase: str, error: str, most: int) -> None:
    """Note a failed attempt; after ``most`` of them it is given up, with its error."""
    connection.execute(
        "UPDATE reappraisal SET attempts = attempts + 1, error = %s,"
        " done_at = CASE WHEN attempts + 1 >= %s THEN now() END WHERE instance_id = %s AND phase = %s",
        (error, most, instance_id, phase),
    )


def progress(connection: Connection) -> list[Progress]:
    """How far re-appraisal is, by method."""
    rows = connection.execute(
        "SELECT phase, count(*) AS requested, count(*) FILTER (WHERE done_at IS NOT NULL AND error = '') AS done,"
        " count(*) FILTER (WHERE done_at IS NOT NULL AND error <> '') AS failed"
        " FROM reappraisal GROUP BY phase ORDER BY phase"
    )
    return [Progress(**row) for row in rows]
