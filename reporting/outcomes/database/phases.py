"""Phases of charts: by a change of method, or by a person's word; and notes on days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from reporting.outcomes.charts.records import Phase
from service.database.pool import Connection


def begin(
    connection: Connection,
    *,
    phase: str,
    method: str,
    begins_on: date,
    reason: str,
    author: str,
    code: str = "",
) -> bool:
    """Begin a phase.

    Args:
        connection: In a transaction.
        phase: Digest of method, weights and settings; "" for one that a person begins.
        method: Its name and version.
        begins_on: First day.
        reason: Why.
        author: Who.
        code: Of the procedure it is for; "" for every one.

    Returns:
        Whether it is new. One of a method begins once.
    """
    if phase and connection.execute("SELECT FROM phase WHERE phase = %s", (phase,)).rowcount:
        return False
    return bool(
        connection.execute(
            "INSERT INTO phase (begins_on, phase, method, procedure_code, reason, author)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (begins_on, phase, method, code, reason, author),
        ).rowcount
    )


def all_of(connection: Connection, code: str) -> list[Phase]:
    """Phases of charts of a procedure, in the order of their days."""
    rows = connection.execute(
        "SELECT begins_on, method, reason, author FROM phase WHERE procedure_code IN ('', %s)"
        " ORDER BY begins_on, phase_id",
        (code,),
    )
    return [Phase(**row) for row in rows]


def of_persons(connection: Connection, code: str) -> list[Phase]:
    """Those that persons began."""
    rows = connection.execute(
        "SELECT begins_on, method, reason, author FROM phase WHERE procedure_code IN ('', %s) AND phase = ''"
        " ORDER BY begins_on, phase_id",
        (code,),
    )
    return [Phase(**row) for row in rows]


@dataclass(frozen=True, kw_only=True)
class MethodPhase:
    """A method that scores were made by."""

    phase: str
    method: str
    begins_on: date


def newest(connection: Connection) -> MethodPhase | None:
    """The method that began last; None while there is no result."""
    row = connection.execute(
        "SELECT phase, method, begins_on FROM phase WHERE phase <> '' ORDER BY phase_id DESC LIMIT 1"
    ).fetchone()
    return MethodPhase(**row) if row else None


def annotate(connection: Connection, *, on_day: date, code: str, note: str, author: str) -> None:
    """Write a note to a day."""
    connection.execute(
        "INSERT INTO annotation (on_day, procedure_code, note, author) VALUES (%s, %s, %s, %s)",
        (on_day, code, note, author),
    )


def notes(connection: Connection, code: str) -> list[tuple[date, str]]:
    """Notes on days of a procedure's charts."""
    rows = connection.execute(
        "SELECT on_day, note FROM annotation WHERE procedure_code IN ('', %s) ORDER BY on_day, annotation_id",
        (code,),
    )
    return [(row["on_day"], row["note"]) for row in rows]


def listed(connection: Connection) -> list[dict[str, object]]:
    """Every phase as it is kept, in the order of the days."""
    rows = connection.execute(
        "SELECT begins_on, phase, method, procedure_code, reason, author, created_at FROM phase"
        " ORDER BY begins_on, phase_id"
    )
    return list(rows)


def noted(connection: Connection, limit: int = 100) -> list[dict[str, object]]:
    """The notes written last, newest first."""
    rows = connection.execute(
        "SELECT on_day, procedure_code, note, author, created_at FROM annotation"
        " ORDER BY annotation_id DESC LIMIT %s",
        (limit,),
    )
    return list(rows)
