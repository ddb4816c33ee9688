"""Work that was given up, with its traceback, until somebody resolves it."""

from __future__ import annotations

from service.database.pool import Connection
from service.records import DeadLetter


def add(connection: Connection, *, instance_id: int, step: str, error: str, traceback: str) -> None:
    """Record that a step (name of its task) was given up for an instance."""
    connection.execute(
        "INSERT INTO dead_letter (instance_id, step, error, traceback) VALUES (%s, %s, %s, %s)",
        (instance_id, step, error, traceback),
    )


def all_open(connection: Connection) -> list[DeadLetter]:
    """Every unresolved dead letter, oldest first."""
    rows = connection.execute(
        "SELECT instance_id, sop_instance_uid, step, error, traceback, at FROM dead_letter"
        " JOIN instance USING (instance_id) WHERE resolved_at IS NULL ORDER BY dead_letter_id"
    )
    return [DeadLetter(**row) for row in rows]


def resolve(connection: Connection, instance_id: int) -> int:
    """Close an instance's open dead letters; returns how many there were."""
    return connection.execute(
        "UPDATE dead_letter SET resolved_at = now() WHERE instance_id = %s AND resolved_at IS NULL",
        (instance_id,),
    ).rowcount
