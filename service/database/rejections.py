"""Rejection notes (IHE RAD TF-2 section 4.66): which instances are taken back, also such as never came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.database import ledger
from service.database.delivery import deliveries
from service.database.pool import Connection
from service.records import Instance, InstanceState, LedgerEvent, NewInstance


@dataclass(frozen=True, kw_only=True)
class RejectedReference:
    """One instance that a note names."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str


class _Named(Protocol):
    """What a note is compared with: an instance offered, or one that is here."""

    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def study_instance_uid(self) -> str: ...
    @property
    def patient_id(self) -> str: ...
    @property
    def issuer_of_patient_id(self) -> str: ...


def note_sha256(connection: Connection, sop_instance_uid: str) -> str:
    """Key in the store of a note that was followed; "" when there is none of that UID."""
    row = connection.execute(
        "SELECT sha256 FROM rejection_note WHERE sop_instance_uid = %s", (sop_instance_uid,)
    ).fetchone()
    return str(row["sha256"]) if row else ""


def notes(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, str]:
    """Keys in the store of the notes of those UIDs that were followed, by UID."""
    rows = connection.execute(
        "SELECT sop_instance_uid, sha256 FROM rejection_note WHERE sop_instance_uid = ANY(%s)",
        (list(sop_instance_uids),),
    )
    return {row["sop_instance_uid"]: row["sha256"] for row in rows}


def add(
    connection: Connection, note: NewInstance, title: str, references: Sequence[RejectedReference]
) -> int | None:
    """Record a note and what it names.

    Args:
        connection: In a transaction.
        note: As it was offered; its bytes are in the store.
        title: Code of its title.
        references: What it names.

    Returns:
        Its number; None when one of that UID is there.
    """
    row = connection.execute(
        "INSERT INTO rejection_note (sop_instance_uid, sha256, size_bytes, title, patient_id,"
        " issuer_of_patient_id, calling_ae_title, peer_address) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (sop_instance_uid) DO NOTHING RETURNING note_id",
        (
            note.sop_instance_uid, note.sha256, note.size_bytes, title, note.patient_id,
            note.issuer_of_patient_id, note.calling_ae_title, note.peer_address,
        ),
    ).fetchone()  # fmt: skip
    if row is None:
        return None
    connection.execute(
        "INSERT INTO rejected_instance (sop_instance_uid, note_id, sop_class_uid, study_instance_uid)"
        " SELECT uid, %s, class, study"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS n (uid, class, study)"
        " ON CONFLICT DO NOTHING",
        (
            row["note_id"],
            [each.sop_instance_uid for each in references],
            [each.sop_class_uid for each in references],
            [each.study_instance_uid for each in references],
        ),
    )
    ledger.append(
        connection,
        LedgerEvent.NOTE_TAKEN,
        sop_instance_uid=note.sop_instance_uid,
        detail={
            "title": title,
            "references": str(len(references)),
            "calling_ae_title": note.calling_ae_title,
            "peer_address": note.peer_address,
            "association": note.association_id,
            "sha256": note.sha256,
        },
    )
    return int(row["note_id"])


def rejecting_note(connection: Connection, named: _Named) -> str | None:
    """SOP Instance UID of the note that takes an instance back; None when none does.

    A note that came first counts for an instance of the study and the number that it is about: one that
    names somebody else's takes nothing from anybody.
    """
    row = connection.execute(
        "SELECT n.sop_instance_uid FROM rejected_instance r JOIN rejection_note n USING (note_id)"
        " WHERE r.sop_instance_uid = %(uid)s AND (r.withdrawn_at IS NOT NULL OR"
        " (r.study_instance_uid = %(study)s AND n.patient_id = %(number)s"
        " AND ('' IN (n.issuer_of_patient_id, %(issuer)s) OR n.issuer_of_patient_id = %(issuer)s)))"
        " ORDER BY note_id LIMIT 1",
        {
            "uid": named.sop_instance_uid,
            "study": named.study_instance_uid,
            "number": named.patient_id,
            "issuer": named.issuer_of_patient_id,
        },
    ).fetchone()
    return str(row["sop_instance_uid"]) if row else None


def withdraw_if_rejected(connection: Connection, instance: Instance) -> bool:
    """Take a photograph back that came at the same moment as the note that names it."""
    note = rejecting_note(connection, instance)
    if note is None:
        return False
    withdraw(connection, instance.instance_id, {"note": note})
    return True


def withdraw(connection: Connection, instance_id: int, detail: Mapping[str, str]) -> bool:
    """Take a photograph back: it is hidden, nothing more is made of it, and what did not leave stays here.

    Args:
        connection: In a transaction.
        instance_id: Of the photograph.
        detail: For the ledger: which note, and who sent it.

    Returns:
        Whether that was news.
    """
    row = connection.execute(
        "UPDATE instance SET state = %(state)s, attempts = 0, progressed_at = now(), next_attempt_at = now()"
        " WHERE instance_id = %(id)s AND state <> %(state)s RETURNING sop_instance_uid",
        {"state": InstanceState.WITHDRAWN.value, "id": instance_id},
    ).fetchone()
    if row is None:
        return False
    connection.execute(
        "UPDATE delivery SET state = 'dead', claimed_until = NULL, last_error = %s"
        " WHERE instance_id = %s AND state = 'pending'",
        (deliveries.REJECTED, instance_id),
    )
    connection.execute(
        "UPDATE dead_letter SET resolved_at = now() WHERE instance_id = %s AND resolved_at IS NULL",
        (instance_id,),
    )
    note_withdrawn(connection, [str(row["sop_instance_uid"])])
    ledger.append(
        connection,
        LedgerEvent.WITHDRAWN,
        instance_id=instance_id,
        sop_instance_uid=str(row["sop_instance_uid"]),
        detail=detail,
    )
    return True


def cancel_deliveries(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Have results that did not leave stay here."""
    connection.execute(
        "UPDATE delivery SET state = 'dead', claimed_until = NULL, last_error = %s"
        " WHERE sop_instance_uid = ANY(%s) AND state = 'pending'",
        (deliveries.REJECTED, list(sop_instance_uids)),
    )


def note_withdrawn(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Note that what a note names was taken back."""
    connection.execute(
        "UPDATE rejected_instance SET withdrawn_at = now()"
        " WHERE sop_instance_uid = ANY(%s) AND withdrawn_at IS NULL",
        (list(sop_instance_uids),),
    )
