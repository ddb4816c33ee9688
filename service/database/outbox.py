"""Messages to the broker, written in the transaction that made them necessary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.database.pool import Connection

CHANNEL = "semblance_outbox"


@dataclass(frozen=True, kw_only=True)
class OutboxMessage:
    """One message that is to be published."""

    outbox_id: int
    task: str  # name of the Celery task
    queue: str
    subject_id: str  # the only argument of the task


def put(
    connection: Connection, task: str, queue: str, subject_id: int | str, not_before: datetime | None = None
) -> None:
    """Write a message.

    Args:
        connection: In the transaction that made the message necessary.
        task: Name of the Celery task.
        queue: Queue it goes to.
        subject_id: The task's only argument.
        not_before: Aware time it is held back until; None: at once.
    """
    connection.execute(
        "INSERT INTO outbox (task, queue, subject_id, not_before)"
        " VALUES (%s, %s, %s, coalesce(%s::timestamptz, now()))",
        (task, queue, str(subject_id), not_before),
    )


def put_after(connection: Connection, task: str, queue: str, subject_id: int | str, delay_s: float) -> None:
    """Write a message that is held back for ``delay_s`` seconds of the database's clock."""
    connection.execute(
        "INSERT INTO outbox (task, queue, subject_id, not_before)"
        " VALUES (%s, %s, %s, now() + make_interval(secs => %s))",
        (task, queue, str(subject_id), delay_s),
    )
    nudge(connection)  # relays sleep until the next message that they know of is due


def take_due(connection: Connection, limit: int) -> list[OutboxMessage]:
    """Lock the oldest due messages for this transaction, passing over those another relay holds."""
    rows = connection.execute(
        "SELECT outbox_id, task, queue, subject_id FROM outbox WHERE not_before <= now()"
        " ORDER BY not_before, outbox_id LIMIT %s FOR UPDATE SKIP LOCKED",
        (limit,),
    )
    return [OutboxMessage(**row) for row in rows]


def next_due_s(connection: Connection) -> float:
    """Seconds until the next message that is held back is due; infinite when none is."""
    row = connection.execute(
        "SELECT extract(epoch FROM min(not_before) - now())::float8 AS due_s FROM outbox"
    ).fetchone()
    return float(row["due_s"]) if row and row["due_s"] is not None else math.inf


def delete(connection: Connection, outbox_ids: Sequence[int]) -> None:
    """Delete published messages."""
    connection.execute("DELETE FROM outbox WHERE outbox_id = ANY(%s)", (list(outbox_ids),))


def waiting(connection: Connection) -> int:
    """How many messages are not yet published."""
    row = connection.execute("SELECT count(*) AS waiting FROM outbox").fetchone()
    return int(row["waiting"]) if row else 0


def nudge(connection: Connection) -> None:
    """Wake the relays when this transaction commits; without it the message waits for their next sweep.

    Takes a lock that commits queue for: the receiving path does it after its own transaction.
    """
    connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
