"""Result objects on their way to their destinations."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import DictRow

from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.records import Delivery, DeliveryState
from service.steps import DELIVER

_COLUMNS = (
    "delivery_id, instance_id, appraisal_id, destination, sop_class_uid, sop_instance_uid, sha256, state,"
    " attempts, next_attempt_at, last_error"
)
# Why a delivery is given up for good: what it would bring is no more so.
CORRECTED = "the photograph was corrected"
REJECTED = "a rejection note took it back"
TAKEN_BACK = (CORRECTED, REJECTED)

_SELECT = f"SELECT {_COLUMNS} FROM delivery"  # noqa: S608 -- constant


def _delivery(row: DictRow) -> Delivery:
    return Delivery(**{**row, "state": DeliveryState(row["state"])})


def add(
    connection: Connection,
    *,
    instance_id: int,
    appraisal_id: UUID,
    destination: str,
    sop_class_uid: str,
    sop_instance_uid: str,
    sha256: str,
) -> int | None:
    """Record that a result object is due at a destination.

    Returns:
        The new delivery's id; None when that object was already due there.
    """
    row = connection.execute(
        "INSERT INTO delivery (instance_id, appraisal_id, destination, sop_class_uid, sop_instance_uid,"
        " sha256) VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (destination, sop_instance_uid) DO NOTHING"
        " RETURNING delivery_id",
        (instance_id, appraisal_id, destination, sop_class_uid, sop_instance_uid, sha256),
    ).fetchone()
    return int(row["delivery_id"]) if row else None


def get(connection: Connection, delivery_id: int) -> Delivery:
    """Read one delivery.

    Raises:
        RecordNotFoundError: No such row.
    """
    row = connection.execute(_SELECT + " WHERE delivery_id = %s", (delivery_id,)).fetchone()
    if row is None:
        raise RecordNotFoundError(f"delivery {delivery_id}")
    return _delivery(row)


def for_instance(connection: Connection, instance_id: int) -> list[Delivery]:
    """Every delivery of an instance, in the order they were made."""
    rows = connection.execute(_SELECT + " WHERE instance_id = %s ORDER BY delivery_id", (instance_id,))
    return [_delivery(row) for row in rows]


def claim(connection: Connection, delivery_id: int, lease_s: float) -> Delivery | None:
    """Take a pending delivery for one attempt, for at most ``lease_s`` seconds.

    Returns:
        The delivery with this attempt counted; None when it is done, dead, held or not due yet.
    """
    row = connection.execute(
        "UPDATE delivery SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => %s),"  # noqa: S608
        " claimed_until = now() + make_interval(secs => %s)"
        " WHERE delivery_id = %s AND state = 'pending' AND next_attempt_at <= now() RETURNING " + _COLUMNS,
        (lease_s, lease_s, delivery_id),
    ).fetchone()
    return _delivery(row) if row else None


def unclaim(connection: Connection, delivery_id: int) -> None:
    """Give back a delivery that was claimed and not attempted."""
    connection.execute(
        "UPDATE delivery SET attempts = greatest(attempts - 1, 0), next_attempt_at = now(),"
        " claimed_until = NULL WHERE delivery_id = %s AND state = 'pending'",
        (delivery_id,),
    )


def mark_delivered(connection: Connection, delivery_id: int) -> None:
    """Note that the destination took the object.

    Locks the instance's row first, so that of several deliveries that end at once, the last to commit
    sees that none is open (``open_for_instance`` in the same transaction).
    """
    connection.execute(
        "SELECT FROM instance WHERE instance_id = (SELECT instance_id FROM delivery WHERE delivery_id = %s)"
        " FOR UPDATE",
        (delivery_id,),
    )
    connection.execute(
        "UPDATE delivery SET state = 'delivered', delivered_at = now(), last_error = '', claimed_until = NULL"
        " WHERE delivery_id = %s AND state = 'pending'",
        (delivery_id,),
    )


def mark_committed(connection: Connection, delivery_id: int) -> None:
    """Note that the destination committed to the object (storage commitment)."""
    connection.execute(
        "UPDATE delivery SET state = 'committed' WHERE delivery_id = %s AND state = 'delivered'",
        (delivery_id,),
    )


def send_again(connection: Connection, delivery_id: int, delay_s: float) -> None:
    """Make a delivery pending again that the destination took but does not commit to."""
    connection.execute(
        "UPDATE delivery SET state = 'pending', next_attempt_at = now() + make_interval(secs => %s)"
        " WHERE delivery_id = %s AND state = 'delivered'",
        (delay_s, delivery_id),
    )


def mark_failed(connection: Connection, delivery_id: int, error: str, next_attempt_at: datetime) -> None:
    """Note a failed attempt and when the next is due."""
    connection.execute(
        "UPDATE delivery SET last_error = %s, next_attempt_at = %s, claimed_until = NULL"
        " WHERE delivery_id = %s AND state = 'pending'",
        (error, next_attempt_at, delivery_id),
    )


def postpone(
    connection: Connection, delivery_id: int, error: str, delay_s: float, *, count: bool = True
) -> None:
    """Note a failed attempt and hold the delivery back for ``delay_s`` seconds; see instances.postpone."""
    connection.execute(
        "UPDATE delivery SET last_error = %s, attempts = greatest(attempts - %s, 0), claimed_until = NULL,"
        " next_attempt_at = now() + make_interval(secs => %s) WHERE delivery_id = %s AND state = 'pending'",
        (error, 0 if count else 1, delay_s, delivery_id),
    )


def mark_dead(connection: Connection, delivery_id: int, error: str) -> None:
    """Give a delivery up."""
    connection.execute(
        "UPDATE delivery SET state = 'dead', last_error = %s, claimed_until = NULL"
        " WHERE delivery_id = %s AND state = 'pending'",
        (error, delivery_id),
    )


def revive(connection: Connection, instance_id: int) -> list[int]:
    """Make an instance's dead deliveries pending again, but for what was taken back; returns their ids."""
    rows = connection.execute(
        "UPDATE delivery SET state = 'pending', attempts = 0, next_attempt_at = now()"
        " WHERE instance_id = %s AND state = 'dead' AND last_error <> ALL(%s) RETURNING delivery_id",
        (instance_id, list(TAKEN_BACK)),
    )
    return [int(row["delivery_id"]) for row in rows]


def dead(connection: Connection, destination: str | None = None, limit: int = 1000) -> list[Delivery]:
    """Deliveries that were given up, oldest first; those to one destination, or all."""
    rows = connection.execute(
        _SELECT + " WHERE state = 'dead' AND (%(name)s::text IS NULL OR destination = %(name)s)"
        " ORDER BY delivery_id LIMIT %(limit)s",
        {"name": destination, "limit": limit},
    )
    return [_delivery(row) for row in rows]


def due(connection: Connection, limit: int = 1000, overdue: timedelta = timedelta(0)) -> list[Delivery]:
    """Pending deliveries that are due for ``overdue`` and have no message in the outbox, oldest first."""
    rows = connection.execute(
        _SELECT + " WHERE state = 'pending' AND next_attempt_at <= now() - %s AND NOT EXISTS"
        " (SELECT FROM outbox WHERE outbox.subject_id = delivery.delivery_id::text"
        " AND outbox.task = %s)"
        " ORDER BY next_attempt_at, delivery_id LIMIT %s FOR UPDATE SKIP LOCKED",
        (overdue, DELIVER.task, limit),
    )
    return [_delivery(row) for row in rows]


def touch(connection: Connection, delivery_ids: list[int]) -> None:
    """Note that these pending deliveries were enqueued again just now."""
    connection.execute(
        "UPDATE delivery SET next_attempt_at = now() WHERE delivery_id = ANY(%s) AND state = 'pending'",
        (delivery_ids,),
    )


def is_result(connection: Connection, sop_instance_uid: str) -> bool:
    """Whether a SOP Instance UID is that of a result which was made to be sent."""
    row = connection.execute(
        "SELECT FROM delivery WHERE sop_instance_uid = %s LIMIT 1", (sop_instance_uid,)
    ).fetchone()
    return row is not None


def open_for_instance(connection: Connection, instance_id: int) -> int:
    """How many of an instance's deliveries are pending."""
    row = connection.execute(
        "SELECT count(*) AS pending FROM delivery WHERE instance_id = %s AND state = 'pending'",
        (instance_id,),
    ).fetchone()
    return int(row["pending"]) if row else 0


def counts_by_destination(connection: Connection) -> dict[tuple[str, DeliveryState], int]:
    """How many deliveries each destination has in each state."""
    rows = connection.execute(
        "SELECT destination, state, count(*) AS deliveries FROM delivery GROUP BY destination, state"
        " ORDER BY destination, state"
    )
    return {(row["destination"], DeliveryState(row["state"])): int(row["deliveries"]) for row in rows}
