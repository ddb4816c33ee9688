"""The append-only history of every instance."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from service.database.pool import Connection
from service.records import LedgerEntry, LedgerEvent


def _entry(row: DictRow) -> LedgerEntry:
    return LedgerEntry(**{**row, "event": LedgerEvent(row["event"])})


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


def latest(connection: Connection, limit: int) -> list[LedgerEntry]:
    """The newest events of all, newest first."""
    rows = connection.execute(
        "SELECT ledger_id, instance_id, sop_instance_uid, event, at, detail FROM ledger"
        " ORDER BY ledger_id DESC LIMIT %s",
        (limit,),
    )
    return [_entry(row) for row in rows]
