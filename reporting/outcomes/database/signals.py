"""Signals of charts, who saw them, and who looked at results by surgeon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from service.database.pool import Connection
from service.errors import RecordNotFoundError


@dataclass(frozen=True, kw_only=True)
class StoredSignal:
    """A point of a chart that broke a rule."""

    signal_id: UUID
    chart: str
    subject: str
    rule: str
    label: str
    evidence: tuple[str, ...]
    found_at: datetime
    acknowledged_by: str  # "" while nobody has
    reason: str


def add(
    connection: Connection,
    *,
    signal_id: UUID,
    chart: str,
    subject: str,
    rule: str,
    label: str,
    evidence: Sequence[str],
    made_from: Mapping[str, str],
) -> bool:
    """Keep a signal, once; returns whether it is new."""
    return bool(
        connection.execute(
            "INSERT INTO signal (signal_id, chart, subject, rule, label, evidence, made_from)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (signal_id, chart, subject, rule, label, list(evidence), Jsonb(dict(made_from))),
        ).rowcount
    )


def newest(connection: Connection, limit: int = 200) -> list[StoredSignal]:
    """Signals, newest first."""
    rows = connection.execute(
        "SELECT s.signal_id, s.chart, s.subject, s.rule, s.label, s.evidence, s.found_at,"
        " coalesce(a.author, '') AS acknowledged_by, coalesce(a.reason, '') AS reason FROM signal s"
        " LEFT JOIN LATERAL (SELECT author, reason FROM signal_acknowledgement WHERE signal_id = s.signal_id"
        " ORDER BY signal_acknowledgement_id DESC LIMIT 1) AS a ON true"
        " ORDER BY s.found_at DESC, s.signal_id LIMIT %s",
        (limit,),
    )
    return [StoredSignal(**{**row, "evidence": tuple(row["evidence"])}) for row in rows]


def acknowledge(
    connection: Connection, signal_id: UUID, *, reason: str, author: str, resets_on: date | None
) -> None:
    """Write down that somebody saw a signal, and whether its CUSUM begins anew.

    Raises:
        RecordNotFoundError: There is no such signal.
    """
    if not connection.execute("SELECT FROM signal WHERE signal_id = %s", (signal_id,)).rowcount:
        raise RecordNotFoundError(f"no signal {signal_id}")
    connection.execute(
        "INSERT INTO signal_acknowledgement (signal_id, resets_on, reason, author) VALUES (%s, %s, %s, %s)",
        (signal_id, resets_on, reason, author),
    )


def resets(connection: Connection, chart: str, subject: str) -> list[date]:
    """Days on which persons had a chart begin anew."""
    rows = connection.execute(
        "SELECT DISTINCT a.resets_on FROM signal_acknowledgement a JOIN signal s USING (signal_id)"
        " WHERE s.chart = %s AND s.subject = %s AND a.resets_on IS NOT NULL ORDER BY 1",
        (chart, subject),
    )
    return [row["resets_on"] for row in rows]


def note_access(connection: Connection, *, author: str, what: str, reason: str) -> None:
    """Write down who looked at results by surgeon, and why."""
    connection.execute(
        "INSERT INTO access_reason (author, what, reason) VALUES (%s, %s, %s)", (author, what, reason)
    )
