"""Photographs that wait to be appraised again by another method; what was found before stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far re-appraisal by one method is."""

    phase: str
    requested: int
    done: int
    failed: int  # given up


def want(connection: Connection, instance_ids: Sequence[int], phase: str) -> int:
    """Ask for photographs to be appraised by another method; returns how many were not asked for before."""
    return connection.execute(
        "INSERT INTO reappraisal (instance_id, phase) SELECT unnest(%s::bigint[]), %s ON CONFLICT DO NOTHING",
        (sorted(set(instance_ids)), phase),
    ).rowcount


def due(connection: Connection, asked_before: timedelta, under_way: int) -> list[int]:
    """Instances to be asked for now, so that no more than ``under_way`` are: new photographs come first.

    Args:
        connection: In a transaction.
        asked_before: What was asked for longer ago counts as lost.
        under_way: At most so many asked for and not done.
    """
    rows = connection.execute(
        "WITH busy AS (SELECT count(*) AS n FROM reappraisal"
        " WHERE done_at IS NULL AND asked_at > now() - %(b)s),"
        " chosen AS (SELECT instance_id, phase FROM reappraisal WHERE done_at IS NULL"
        " AND (asked_at IS NULL OR asked_at <= now() - %(b)s) ORDER BY asked_at NULLS FIRST, instance_id"
        " LIMIT greatest(0, %(most)s - (SELECT n FROM busy)) FOR UPDATE SKIP LOCKED)"
        " UPDATE reappraisal r SET asked_at = now() FROM chosen c"
        " WHERE (r.instance_id, r.phase) = (c.instance_id, c.phase) RETURNING r.instance_id",
        {"b": asked_before, "most": under_way},
    )
    return sorted({int(row["instance_id"]) for row in rows})


def open_phases(connection: Connection, instance_id: int) -> list[str]:
    """Methods that a photograph waits for."""
    rows = connection.execute(
        "SELECT phase FROM reappraisal WHERE instance_id = %s AND done_at IS NULL ORDER BY phase",
        (instance_id,),
    )
    return [row["phase"] for row in rows]


def mark_done(connection: Connection, instance_id: int, phase: str) -> None:
    """Note that a photograph was appraised again."""
    connection.execute(
        "UPDATE reappraisal SET done_at = now(), error = '' WHERE instance_id = %s AND phase = %s",
        (instance_id, phase),
    )


def mark_failed(connection: Connection, instance_id: int, phase: str, error: str, most: int) -> None:
    """Note a failed attempt; after ``most`` of them it is given up, with its error."""
    connection.execute(
        "UPDATE reappraisal SET attempts = attempts + 1, error = %s,"
        " done_at = CASE WHEN attempts + 1 >= %s THEN now() END WHERE instance_id = %s AND phase = %s",
        (error, most, instance_id, phase),
    )


def progress(connection: Connection) -> list[Progress]:
    """How far re-appraisal is, by method."""
    rows = connection.execute(
        "SELECT phase, count(*) AS requested,"
        " count(*) FILTER (WHERE done_at IS NOT NULL AND error = '') AS done,"
        " count(*) FILTER (WHERE done_at IS NOT NULL AND error <> '') AS failed"
        " FROM reappraisal GROUP BY phase ORDER BY phase"
    )
    return [Progress(**row) for row in rows]
