"""Storage commitment that we ask of destinations, for each delivery they took."""

from __future__ import annotations

from dataclasses import dataclass

from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class WantedCommitment:
    """One delivery whose destination is to commit to it."""

    delivery_id: int
    transaction_uid: str  # the same for every attempt: a late report still finds it
    attempts: int  # at asking


def want(connection: Connection, delivery_id: int, transaction_uid: str) -> None:
    """Note that a delivery's destination is to be asked; again, after it was sent again."""
    connection.execute(
        "INSERT INTO commitment_wanted (delivery_id, transaction_uid) VALUES (%s, %s)"
        " ON CONFLICT (delivery_id) DO UPDATE SET transaction_uid = excluded.transaction_uid,"
        " settled_at = NULL, next_attempt_at = now(), last_error = ''",
        (delivery_id, transaction_uid),
    )


def claim(connection: Connection, lease_s: float) -> WantedCommitment | None:
    """Take the one due longest for an attempt at asking; it is due again after ``lease_s`` seconds."""
    row = connection.execute(
        "UPDATE commitment_wanted SET attempts = attempts + 1,"
        " next_attempt_at = now() + make_interval(secs => %s) WHERE delivery_id ="
        " (SELECT delivery_id FROM commitment_wanted WHERE settled_at IS NULL AND next_attempt_at <= now()"
        "  ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
        " RETURNING delivery_id, transaction_uid, attempts",
        (lease_s,),
    ).fetchone()
    return WantedCommitment(**row) if row else None


def lock(connection: Connection, transaction_uid: str) -> WantedCommitment | None:
    """The open one of that transaction, its row held until the transaction ends."""
    row = connection.execute(
        "SELECT delivery_id, transaction_uid, attempts FROM commitment_wanted"
        " WHERE transaction_uid = %s AND settled_at IS NULL FOR UPDATE",
        (transaction_uid,),
    ).fetchone()
    return WantedCommitment(**row) if row else None


def settle(connection: Connection, delivery_id: int) -> None:
    """Ask no more."""
    connection.execute(
        "UPDATE commitment_wanted SET settled_at = now(), last_error = '' WHERE delivery_id = %s",
        (delivery_id,),
    )


def postpone(connection: Connection, delivery_id: int, error: str, delay_s: float) -> None:
    """Note a failed attempt at asking and when the next is due."""
    connection.execute(
        "UPDATE commitment_wanted SET last_error = %s, next_attempt_at = now() + make_interval(secs => %s)"
        " WHERE delivery_id = %s",
        (error, delay_s, delivery_id),
    )
