"""Rejection notes (IHE RAD TF-2 section 4.66): which instances are taken back, also such as never came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.database import ledger
from service.database.delivery import deliveries
from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.records import Instance, InstanceState, LedgerEvent, NewInstance


@dataclass(frozen=True, kw_only=True)
class RejectedReference:
    """One instance that a note names."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a note took back."""

    sop_instance_uid: str
    instance_id: int  # of the photograph, or of the one it is a result of
    observation_id: str | None = None  # of a result


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


@dataclass(frozen=True, kw_only=True)
class FollowedNote:
    """A note that was followed."""

    sop_instance_uid: str
    title: str  # code of its title, DCM
    calling_ae_title: str
    received_at: datetime
    names: int  # how many instances
    withdrawn: int  # how many of these are, or are results of, a photograph that is here
    lifted_at: datetime | None  # None: it stands
    lifted_by: str
    sha256: str  # key in the store


_NOTES = (
    "SELECT n.sop_instance_uid, title, calling_ae_title, received_at, count(*) AS names,"
    " count(withdrawn_at) AS withdrawn, lifted_at, lifted_by, sha256"
    " FROM rejection_note n JOIN rejected_instance USING (note_id)"
)


def find_note(connection: Connection, sop_instance_uid: str) -> FollowedNote | None:
    """The note of that UID; None when there is none."""
    row = connection.execute(
        _NOTES + " WHERE n.sop_instance_uid = %s GROUP BY note_id", (sop_instance_uid,)
    ).fetchone()
    return FollowedNote(**row) if row else None


def newest_notes(connection: Connection, limit: int = 1000) -> list[FollowedNote]:
    """The notes that were followed last, newest first."""
    rows = connection.execute(_NOTES + " GROUP BY note_id ORDER BY note_id DESC LIMIT %s", (limit,))
    return [FollowedNote(**row) for row in rows]


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
        " WHERE r.sop_instance_uid = %(uid)s AND n.lifted_at IS NULL AND (r.withdrawn_at IS NOT NULL OR"
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
    withdraw(connection, [instance.instance_id], {"note": note})
    taken = Taken(sop_instance_uid=instance.sop_instance_uid, instance_id=instance.instance_id)
    note_taken(connection, note, [taken])
    return True


def withdraw(connection: Connection, instance_ids: Sequence[int], detail: Mapping[str, str]) -> set[int]:
    """Take photographs back: they are hidden, nothing more is made of them, what did not leave stays here.

    Args:
        connection: In a transaction.
        instance_ids: Of the photographs.
        detail: For the ledger: which note, and who sent it.

    Returns:
        Those of which that was news.
    """
    rows = connection.execute(
        "UPDATE instance SET state = %(state)s, attempts = 0, progressed_at = now(), next_attempt_at = now()"
        " WHERE instance_id = ANY(%(ids)s) AND state <> %(state)s RETURNING instance_id, sop_instance_uid",
        {"state": InstanceState.WITHDRAWN.value, "ids": list(instance_ids)},
    ).fetchall()
    taken = {int(row["instance_id"]): str(row["sop_instance_uid"]) for row in rows}
    connection.execute(
        "UPDATE delivery SET state = 'dead', claimed_until = NULL, last_error = %s"
        " WHERE instance_id = ANY(%s) AND state = 'pending'",
        (deliveries.REJECTED, list(taken)),
    )
    connection.execute(
        "UPDATE dead_letter SET resolved_at = now() WHERE instance_id = ANY(%s) AND resolved_at IS NULL",
        (list(taken),),
    )
    ledger.append_many(
        connection,
        [(LedgerEvent.WITHDRAWN, instance_id, taken[instance_id], detail) for instance_id in sorted(taken)],
    )
    return set(taken)


def cancel_deliveries(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Have results that did not leave stay here."""
    connection.execute(
        "UPDATE delivery SET state = 'dead', claimed_until = NULL, last_error = %s"
        " WHERE sop_instance_uid = ANY(%s) AND state = 'pending'",
        (deliveries.REJECTED, list(sop_instance_uids)),
    )


def note_taken(connection: Connection, note: str, taken: Sequence[Taken]) -> None:
    """Write down what a note took back.

    Args:
        connection: In a transaction.
        note: Its SOP Instance UID.
        taken: Of what it names, what is here.
    """
    connection.execute(
        "UPDATE rejected_instance r SET withdrawn_at = coalesce(withdrawn_at, now()),"
        " instance_id = t.instance, observation_id = t.observation"
        " FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS t (uid, instance, observation)"
        " WHERE r.sop_instance_uid = t.uid"
        " AND r.note_id = (SELECT note_id FROM rejection_note WHERE sop_instance_uid = %s)",
        (
            [each.sop_instance_uid for each in taken],
            [each.instance_id for each in taken],
            [each.observation_id for each in taken],
            note,
        ),
    )


# --- lifted


def lift(connection: Connection, sop_instance_uid: str, by: str) -> list[int]:
    """Have a note count no more.

    Args:
        connection: In a transaction.
        sop_instance_uid: Of the note.
        by: Who lifts it.

    Returns:
        The photographs of which it took something back; each to be judged anew.

    Raises:
        RecordNotFoundError: There is no such note, it was lifted, or it is too old to be.
    """
    row = connection.execute(
        "UPDATE rejection_note n SET lifted_at = now(), lifted_by = %s"
        " WHERE sop_instance_uid = %s AND lifted_at IS NULL AND NOT EXISTS (SELECT FROM rejected_instance r"
        " WHERE r.note_id = n.note_id AND withdrawn_at IS NOT NULL AND instance_id IS NULL)"
        " RETURNING note_id",
        (by, sop_instance_uid),
    ).fetchone()
    if row is None:
        raise RecordNotFoundError(f"no rejection note {sop_instance_uid} that stands and can be lifted")
    rows = connection.execute(
        "SELECT DISTINCT instance_id FROM rejected_instance WHERE note_id = %s AND instance_id IS NOT NULL"
        " ORDER BY instance_id",
        (row["note_id"],),
    )
    return [int(each["instance_id"]) for each in rows]


def with_results_back(connection: Connection, study_instance_uids: Sequence[str]) -> list[int]:
    """The photographs of some studies of which notes took results back."""
    rows = connection.execute(
        "SELECT DISTINCT instance_id FROM note_withdrawal JOIN instance USING (instance_id)"
        " WHERE study_instance_uid = ANY(%s) ORDER BY instance_id",
        (list(study_instance_uids),),
    )
    return [int(row["instance_id"]) for row in rows]


def hold_back(connection: Connection, results: Mapping[str, int]) -> None:
    """Write down that notes, and nobody else, took results back.

    Args:
        connection: In a transaction.
        results: Row of the photograph of each, by its Observation's logical id.
    """
    connection.execute(
        "INSERT INTO note_withdrawal (observation_id, instance_id)"
        " SELECT * FROM unnest(%s::text[], %s::bigint[])"
        " ON CONFLICT (observation_id) DO UPDATE SET is_lifted = false",
        (list(results), list(results.values())),
    )


def held_back(connection: Connection, observation_ids: Sequence[str]) -> set[str]:
    """Those of some results that notes, and nobody else, took back."""
    rows = connection.execute(
        "SELECT observation_id FROM note_withdrawal WHERE observation_id = ANY(%s)", (list(observation_ids),)
    )
    return {str(row["observation_id"]) for row in rows}


def forget(connection: Connection, observation_id: str) -> None:
    """A result was issued again, or somebody took it back by hand: it comes again with no note."""
    connection.execute("DELETE FROM note_withdrawal WHERE observation_id = %s", (observation_id,))


def release(connection: Connection, instance_id: int) -> list[str]:
    """Have those results of a photograph issued again that no note holds back any more.

    Args:
        connection: In a transaction that holds the photograph's row; no note takes the photograph back.
        instance_id: Of the photograph.

    Returns:
        Their Observations' logical ids.
    """
    rows = connection.execute(
        "UPDATE note_withdrawal w SET is_lifted = true WHERE instance_id = %s AND NOT EXISTS"
        " (SELECT FROM rejected_instance r JOIN rejection_note n USING (note_id)"
        " WHERE r.observation_id = w.observation_id AND n.lifted_at IS NULL) RETURNING observation_id",
        (instance_id,),
    )
    return sorted(str(row["observation_id"]) for row in rows)


def is_released(connection: Connection, observation_id: str) -> bool:
    """Whether a result that was taken back is to be issued again."""
    row = connection.execute(
        "SELECT FROM note_withdrawal WHERE observation_id = %s AND is_lifted", (observation_id,)
    ).fetchone()
    return row is not None
