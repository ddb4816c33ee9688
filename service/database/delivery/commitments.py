"""Storage commitment that senders ask of us (DICOM PS3.4 annex J), kept until it is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.database.pool import Connection

_LEASE_EACH_S = 0.1  # for one reference, whose bytes are read back


@dataclass(frozen=True, kw_only=True)
class SopReference:
    """One instance somebody asks about."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class CommitmentRequest:
    """One N-ACTION that is to be answered by an N-EVENT-REPORT."""

    commitment_id: int
    transaction_uid: str
    requester_ae_title: str
    requester_address: str
    references: tuple[SopReference, ...]
    attempts: int  # at reporting it


def add(
    connection: Connection,
    *,
    transaction_uid: str,
    requester_ae_title: str,
    requester_address: str,
    references: Sequence[SopReference],
) -> int:
    """Record a request; the same transaction asked again by the same sender is due again.

    Returns:
        Its id.
    """
    row = connection.execute(
        "INSERT INTO commitment_request (transaction_uid, requester_ae_title, requester_address,"
        " sop_class_uids, sop_instance_uids) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (requester_ae_title, transaction_uid) DO UPDATE SET"
        " requester_address = excluded.requester_address, sop_class_uids = excluded.sop_class_uids,"
        " sop_instance_uids = excluded.sop_instance_uids, reported_at = NULL, attempts = 0,"
        " next_attempt_at = now() RETURNING commitment_id",
        (
            transaction_uid,
            requester_ae_title,
            requester_address,
            [each.sop_class_uid for each in references],
            [each.sop_instance_uid for each in references],
        ),
    ).fetchone()
    if row is None:
        raise AssertionError("an upsert answers a row")
    return int(row["commitment_id"])


def claim(
    connection: Connection, lease_s: float, commitment_id: int | None = None
) -> CommitmentRequest | None:
    """Take one request that is due for one attempt at reporting it, for ``lease_s`` and its references' time.

    Args:
        connection: In a transaction.
        lease_s: How long nobody else takes it.
        commitment_id: Only this one; None takes the one due longest.
    """
    row = connection.execute(
        "UPDATE commitment_request SET attempts = attempts + 1,"
        " next_attempt_at = now() + make_interval(secs => %(lease_s)s + %(lease_each_s)s *"
        "  cardinality(sop_instance_uids))"
        " WHERE commitment_id = (SELECT commitment_id FROM commitment_request"
        "  WHERE reported_at IS NULL AND next_attempt_at <= now()"
        "  AND (%(commitment_id)s::bigint IS NULL OR commitment_id = %(commitment_id)s)"
        "  ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
        " RETURNING commitment_id, transaction_uid, requester_ae_title, requester_address,"
        " sop_class_uids, sop_instance_uids, attempts",
        {"lease_s": lease_s, "lease_each_s": _LEASE_EACH_S, "commitment_id": commitment_id},
    ).fetchone()
    if row is None:
        return None
    pairs = zip(row["sop_class_uids"], row["sop_instance_uids"], strict=True)
    return CommitmentRequest(
        commitment_id=row["commitment_id"],
        transaction_uid=row["transaction_uid"],
        requester_ae_title=row["requester_ae_title"],
        requester_address=row["requester_address"],
        references=tuple(SopReference(sop_class_uid=c, sop_instance_uid=i) for c, i in pairs),
        attempts=row["attempts"],
    )


def mark_reported(connection: Connection, commitment_id: int) -> None:
    """Note that the requester took the report."""
    connection.execute(
        "UPDATE commitment_request SET reported_at = now(), last_error = '' WHERE commitment_id = %s",
        (commitment_id,),
    )


def postpone(connection: Connection, commitment_id: int, error: str, delay_s: float) -> None:
    """Note a failed report and when the next attempt is due."""
    connection.execute(
        "UPDATE commitment_request SET last_error = %s, next_attempt_at = now() + make_interval(secs => %s)"
        " WHERE commitment_id = %s",
        (error, delay_s, commitment_id),
    )
