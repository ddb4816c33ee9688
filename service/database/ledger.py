"""The append-only history of every instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from service.database.pool import Connection
from service.records import LedgerEntry, LedgerEvent


def _entry(row: DictRow) -> LedgerEntry:
    return LedgerEntry(**{**row, "event": LedgerEvent(row["event"])})


def append_many(
    connection: Connection, lines: Sequence[tuple[LedgerEvent, int | None, str, Mapping[str, str]]]
) -> None:
    """Append several events in their order, in one statement.

    Args:
        connection: In the transaction that makes the events true.
        lines: Event, row of the instance or None, SOP Instance UID, and detail of each; see ``append``.
    """
    connection.execute(
        "INSERT INTO ledger (instance_id, sop_instance_uid, event, detail)"
        " SELECT instance_id, uid, event, detail"
        " FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::jsonb[])"
        " WITH ORDINALITY AS line (instance_id, uid, event, detail, position) ORDER BY position",
        (
            [instance_id for _, instance_id, _, _ in lines],
            [uid for _, _, uid, _ in lines],
            [event.value for event, _, _, _ in lines],
            [Jsonb(dict(detail)) for _, _, _, detail in lines],
        ),
    )


def append(
    connection: Connection,
    event: LedgerEvent,
    *,
    instance_id: int | None = None,
    sop_instance_uid: str,
    detail: Mapping[str, str] | None = None,
) -> None:
    """Append one event.

    Args:
        connection: In the transaction that makes the event true.
        event: What happened.
        instance_id: Row of the instance; None for a refusal.
        sop_instance_uid: Of the photograph, as it was sent.
        detail: Ids and reasons, never patient data.
    """
    connection.execute(
        "INSERT INTO ledger (instance_id, sop_instance_uid, event, detail) VALUES (%s, %s, %s, %s)",
        (instance_id, sop_instance_uid, event.value, Jsonb(dict(detail or {}))),
    )


def entries(connection: Connection, sop_instance_uid: str) -> list[LedgerEntry]:
    """Every event of one SOP Instance UID, oldest first."""
    rows = connection.execute(
        "SELECT ledger_id, instance_id, sop_instance_uid, event, at, detail FROM ledger"
        " WHERE sop_instance_uid = %s ORDER BY ledger_id",
        (sop_instance_uid,),
    )
    return [_entry(row) for row in rows]


def chain(connection: Connection, sop_instance_uid: str) -> list[LedgerEntry]:
    """The history of one SOP Instance UID, with the associations it came by; oldest first."""
    rows = connection.execute(
        "WITH own AS (SELECT * FROM ledger WHERE sop_instance_uid = %s)"
        " SELECT ledger_id, instance_id, sop_instance_uid, event, at, detail FROM ledger"
        " WHERE event = 'associated'"
        " AND detail ->> 'association' IN (SELECT detail ->> 'association' FROM own)"
        " UNION ALL SELECT ledger_id, instance_id, sop_instance_uid, event, at, detail FROM own"
        " ORDER BY at, ledger_id",
        (sop_instance_uid,),
    )
    found = [_entry(row) for row in rows]
    return sorted(found, key=lambda entry: _place(entry, found))


def last_settings(connection: Connection, process: str) -> dict[str, str]:
    """What each setting of a process was last changed to, by name; none that never changed.

    Args:
        connection: In a transaction.
        process: Name of the process, as ``node``.
    """
    rows = connection.execute(
        "SELECT DISTINCT ON (detail ->> 'setting') detail ->> 'setting' AS name, detail ->> 'after' AS value"
        " FROM ledger WHERE event = 'setting-changed' AND detail ->> 'process' = %s"
        " ORDER BY detail ->> 'setting', ledger_id DESC",
        (process,),
    )
    return {row["name"]: row["value"] for row in rows}


def _place(entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> tuple[datetime, int, int]:
    """Where a line belongs: an association, which is noted while its first object comes, before that."""
    if entry.event is not LedgerEvent.ASSOCIATED:
        return entry.at, entry.ledger_id, 1
    came_by_it = [
        (each.at, each.ledger_id)
        for each in entries
        if each is not entry and each.detail.get("association") == entry.detail.get("association")
    ]
    return (*min(came_by_it, default=(entry.at, entry.ledger_id)), 0)


def latest(connection: Connection, limit: int) -> list[LedgerEntry]:
    """The newest events of all, newest first."""
    rows = connection.execute(
        "SELECT ledger_id, instance_id, sop_instance_uid, event, at, detail FROM ledger"
        " ORDER BY ledger_id DESC LIMIT %s",
        (limit,),
    )
    return [_entry(row) for row in rows]
