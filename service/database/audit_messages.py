"""Audit messages as they are kept and sent; see service.audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.database.pool import Connection

# Arbitrary and fixed: of several relays one sends at a time, so that messages keep their order.
_FORWARD_LOCK = 5_373_170_003


@dataclass(frozen=True, kw_only=True)
class NewAuditMessage:
    """A message to be kept."""

    event_id: str  # DCM code
    outcome: int  # EventOutcomeIndicator
    at: datetime  # aware
    message: str  # XML


@dataclass(frozen=True, kw_only=True)
class KeptAuditMessage:
    """A message that is kept."""

    audit_id: int
    event_id: str
    outcome: int
    at: datetime
    message: str


@dataclass(frozen=True, kw_only=True)
class SealedAuditMessage:
    """A message and its place in the chain, which is the order messages are sent in."""

    position: int
    at: datetime
    outcome: int
    message: str


def append(connection: Connection, messages: Sequence[NewAuditMessage]) -> None:
    """Keep messages."""
    if messages:
        connection.execute(
            "INSERT INTO audit_message (event_id, outcome, at, message)"
            " SELECT * FROM unnest(%s::text[], %s::smallint[], %s::timestamptz[], %s::text[])",
            (
                [each.event_id for each in messages],
                [each.outcome for each in messages],
                [each.at for each in messages],
                [each.message for each in messages],
            ),
        )


def newest(connection: Connection, limit: int) -> list[KeptAuditMessage]:
    """The messages kept last, newest first."""
    rows = connection.execute(
        "SELECT audit_id, event_id, outcome, at, message FROM audit_message ORDER BY audit_id DESC LIMIT %s",
        (limit,),
    )
    return [KeptAuditMessage(**row) for row in rows]


def lead(connection: Connection) -> bool:
    """Whether this transaction is the one that sends."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS held", (_FORWARD_LOCK,)).fetchone()
    return bool(row and row["held"])


def unsent(connection: Connection, sink: str, limit: int) -> list[SealedAuditMessage]:
    """The oldest messages that a syslog server does not have yet, in their order."""
    rows = connection.execute(
        "SELECT s.position, m.at, m.outcome, m.message FROM seal s"
        " JOIN audit_message m ON m.audit_id = s.row_id WHERE s.source = 'audit'"
        " AND s.position > coalesce((SELECT position FROM audit_forwarded WHERE sink = %s), 0)"
        " ORDER BY s.position LIMIT %s",
        (sink, limit),
    )
    return [SealedAuditMessage(**row) for row in rows]


def mark_sent(connection: Connection, sink: str, position: int) -> None:
    """Note that a syslog server has everything up to a position of the chain."""
    connection.execute(
        "INSERT INTO audit_forwarded (sink, position) VALUES (%s, %s)"
        " ON CONFLICT (sink) DO UPDATE SET position = excluded.position",
        (sink, position),
    )
