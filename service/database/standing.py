"""How the whole installation stands: what waits and for how long, what rests, what results look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from service.database.pool import Connection
from service.errors import DatabaseUnavailableError


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Work of one queue that could be done now."""

    queue: str
    number: int
    oldest_s: float  # since it came or last made progress; 0 when nothing waits


@dataclass(frozen=True, kw_only=True)
class NewResults:
    """The newest results of the method in force, and those before them."""

    method: str
    rejected: float  # share of the newest photographs, 0..1
    reasons: dict[str, float]  # share of the newest photographs by reason of rejection, 0..1
    number: int  # of the newest photographs
    percentiles: list[float]  # of the newest, against the normal cohort, 0..100
    recent: dict[str, list[float]]  # measure to its values
    before: dict[str, list[float]]


def require_answer(database_url: str, timeout_s: int) -> None:
    """Do nothing when a database with our schema answers in time, on a connection of its own.

    Args:
        database_url: libpq URL.
        timeout_s: For the connection, and for the answer.

    Raises:
        DatabaseUnavailableError: It does not; the text holds no part of the URL.
    """
    try:
        with psycopg.connect(database_url, connect_timeout=timeout_s, autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = '{timeout_s}s'".encode())
            connection.execute("SELECT version_num FROM alembic_version")
    except psycopg.Error as exc:
        raise DatabaseUnavailableError(f"PostgreSQL: {type(exc).__name__}") from exc


@dataclass(frozen=True, kw_only=True)
class Server:
    """The PostgreSQL we are connected with."""

    version: int  # as server_version_num, 150004
    name: str  # as it says itself, "15.4"
    now: datetime  # by its clock


def server(connection: Connection) -> Server:
    """Ask the server who it is, and what time."""
    row = connection.execute(
        "SELECT current_setting('server_version_num')::int AS version,"
        " current_setting('server_version') AS name, clock_timestamp() AS now"
    ).fetchone()
    if row is None:
        raise AssertionError("a SELECT of constants answers a row")
    return Server(**row)


def waiting(connection: Connection) -> list[Waiting]:
    """What each queue has to do; photographs whose next attempt is still to come are left out."""
    rows = connection.execute(
        "SELECT CASE state WHEN 'received' THEN 'gpu' ELSE 'report' END AS queue, count(*) AS number,"
        " coalesce(extract(epoch FROM now() - min(progressed_at)), 0)::float8 AS oldest_s FROM instance"
        " WHERE state IN ('received', 'appraised', 'reported') AND state IN ('received', 'appraised')"
        " AND next_attempt_at <= now() GROUP BY 1 UNION ALL"
        " SELECT 'io', count(*), coalesce(extract(epoch FROM now() - min(next_attempt_at)), 0)::float8"
        " FROM delivery WHERE state = 'pending' AND next_attempt_at <= now()"
    )
    found = {row["queue"]: row for row in rows}
    return [
        Waiting(
            queue=queue,
            number=int(found[queue]["number"]) if queue in found else 0,
            oldest_s=float(found[queue]["oldest_s"]) if queue in found else 0.0,
        )
        for queue in ("gpu", "report", "io")
    ]


def undelivered(connection: Connection) -> dict[str, int]:
    """How many results each destination has still to get."""
    rows = connection.execute(
        "SELECT destination, count(*) AS number FROM delivery WHERE state = 'pending' GROUP BY destination"
    )
    return {row["destination"]: int(row["number"]) for row in rows}


def unsealed(connection: Connection) -> tuple[int, float]:
    """How many rows wait for their seal, and for how many seconds the oldest has."""
    row = connection.execute(
        "SELECT count(*) AS rows, coalesce(extract(epoch FROM now() - min(since)), 0)::float8 AS oldest_s"
        " FROM seal_pending"
    ).fetchone()
    return (int(row["rows"]), float(row["oldest_s"])) if row else (0, 0.0)


def resting(connection: Connection) -> dict[str, int]:
    """What waits for a person, by kind."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM dead_letter WHERE resolved_at IS NULL) AS dead,"
        " (SELECT count(*) FROM quarantine WHERE resolution IS NULL) AS quarantined,"
        " (SELECT count(*) FROM outcome_open_conflict) AS pairing_conflicts"
    ).fetchone()
    return {kind: int(number) for kind, number in row.items()} if row else {}


def newest_results(
    connection: Connection, recent: int, before: int, measures: Sequence[str]
) -> NewResults | None:
    """What came out for the newest photographs, and for those before them, by one method.

    Args:
        connection: Of the database.
        recent: How many photographs are the newest.
        before: How many of those before them are taken.
        measures: ``score`` or names of quality measures.

    Returns:
        None when there is no result yet. Results of another method than the newest one's are left out: a
        change of method is no drift.
    """
    rows = connection.execute(
        "SELECT a.method_name || ' ' || a.method_version AS method, a.method_name, a.method_version,"
        " a.weights_sha256, a.status, a.reasons, a.score, a.percentile, a.quality"
        " FROM (SELECT instance_id FROM instance ORDER BY instance_id DESC LIMIT %s) AS newest"
        " JOIN LATERAL (SELECT * FROM appraisal WHERE appraisal.instance_id = newest.instance_id"
        " AND NOT is_superseded ORDER BY created_at DESC LIMIT 1) AS a ON true"
        " ORDER BY newest.instance_id DESC",
        (recent + before,),
    ).fetchall()
    if not rows:
        return None
    of = ("method_name", "method_version", "weights_sha256")
    rows = [row for row in rows if all(row[name] == rows[0][name] for name in of)]
    new, old = rows[:recent], rows[recent:]
    reasons = sorted({reason for row in new for reason in row["reasons"]})
    return NewResults(
        method=rows[0]["method"],
        rejected=sum(row["status"] == "rejected" for row in new) / len(new),
        reasons={reason: sum(reason in row["reasons"] for row in new) / len(new) for reason in reasons},
        number=len(new),
        percentiles=[row["percentile"] for row in new if row["percentile"] is not None],
        recent={measure: _values(new, measure) for measure in measures},
        before={measure: _values(old, measure) for measure in measures},
    )


def _values(rows: Sequence[dict[str, object]], measure: str) -> list[float]:
    found = [row["score"] if measure == "score" else _of(row["quality"], measure) for row in rows]
    return [float(value) for value in found if isinstance(value, int | float)]


def _of(quality: object, measure: str) -> object:
    return quality.get(measure) if isinstance(quality, dict) else None
