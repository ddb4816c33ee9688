"""Bulk Data exports: jobs, and the resources of a type as they were at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from reporting.fhir.database.layout.templates import texts
from reporting.fhir.database.layout.texts import Frame
from reporting.fhir.database.records import StoredResource
from reporting.fhir.database.rows import columns, stored
from service.database.pool import Connection, tuples


@dataclass(frozen=True, kw_only=True)
class Export:
    """One export job."""

    export_id: UUID
    client_id: str
    request_url: str
    request: Mapping[str, Any]  # types, since, filters, as the API wrote them
    transaction_time: datetime  # what was saved later is not in it
    files: Sequence[Mapping[str, Any]] | None  # None until planned


def add(connection: Connection, export: Export, keep_s: float) -> None:
    """Keep a new job; forgets those that have expired."""
    connection.execute("DELETE FROM fhir_export WHERE expires_at < now()")
    connection.execute(
        "INSERT INTO fhir_export (export_id, client_id, request_url, request, transaction_time, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, now() + make_interval(secs => %s))",
        (
            export.export_id,
            export.client_id,
            export.request_url,
            Jsonb(export.request),
            export.transaction_time,
            keep_s,
        ),
    )


def get(connection: Connection, export_id: UUID, client_id: str) -> Export | None:
    """Read a client's job; None when there is none, or it was cancelled or has expired."""
    row = (
        tuples(connection)
        .execute(
            "SELECT request_url, request, transaction_time, files FROM fhir_export"
            " WHERE export_id = %s AND client_id = %s AND expires_at > now()",
            (export_id, client_id),
        )
        .fetchone()
    )
    if row is None:
        return None
    return Export(
        export_id=export_id,
        client_id=client_id,
        request_url=row[0],
        request=row[1],
        transaction_time=row[2],
        files=row[3],
    )


def plan_of(connection: Connection, export_id: UUID) -> Mapping[str, Any] | None:
    """Read how far a job is planned and hold it; None when it was cancelled, {} before the first step."""
    row = (
        tuples(connection)
        .execute("SELECT coalesce(plan, '{}') FROM fhir_export WHERE export_id = %s FOR UPDATE", (export_id,))
        .fetchone()
    )
    return None if row is None else dict(row[0])


def set_plan(connection: Connection, export_id: UUID, plan: Mapping[str, Any]) -> None:
    """Keep how far a job is planned."""
    connection.execute("UPDATE fhir_export SET plan = %s WHERE export_id = %s", (Jsonb(plan), export_id))


def set_files(connection: Connection, export_id: UUID, files: Sequence[Mapping[str, Any]]) -> None:
    """Keep the whole plan of a job."""
    connection.execute(
        "UPDATE fhir_export SET files = %s, plan = NULL WHERE export_id = %s",
        (Jsonb(list(files)), export_id),
    )


def cancel(connection: Connection, export_id: UUID, client_id: str) -> bool:
    """Forget a job; False when there is none."""
    row = (
        tuples(connection)
        .execute(
            "DELETE FROM fhir_export WHERE export_id = %s AND client_id = %s RETURNING 1",
            (export_id, client_id),
        )
        .fetchone()
    )
    return row is not None


def next_file(
    connection: Connection,
    resource_type: str,
    *,
    first: int,
    since: datetime | None,
    as_of: datetime,
    most: int,
) -> tuple[int, int, int] | None:
    """Find the next file of a type's resources as they were at a moment.

    Args:
        connection: In a transaction.
        resource_type: Of the resources.
        first: Row to begin at.
        since: Only what changed at or after this moment.
        as_of: What was made later is passed over.
        most: Resources at most.

    Returns:
        Its first row, last row and count; None when nothing is left.
    """
    row = (
        tuples(connection)
        .execute(
            "SELECT min(resource_id), max(resource_id), count(*) FROM ("
            " SELECT resource_id FROM fhir_resource r WHERE type = %(type)s AND resource_id >= %(first)s"
            " AND (%(since)s::timestamptz IS NULL OR last_updated >= %(since)s)"
            " AND (last_updated <= %(as_of)s OR EXISTS (SELECT 1 FROM fhir_history h"
            "  WHERE h.type = r.type AND h.id = r.id AND h.last_updated <= %(as_of)s))"
            " ORDER BY resource_id LIMIT %(most)s) AS file",
            {"type": resource_type, "first": first, "since": since, "as_of": as_of, "most": most},
        )
        .fetchone()
    )
    return None if row is None or not row[2] else (int(row[0]), int(row[1]), int(row[2]))


def changed_since(
    connection: Connection, resource_type: str, moment: datetime, *, after: int, last: int | None, count: int
) -> list[StoredResource]:
    """Read what was current at a moment, of resources that have changed since, in the order of their rows.

    Args:
        connection: In a transaction.
        resource_type: Of the resources.
        moment: Past.
        after: Row to begin after.
        last: Row to end at; None for the last there is.
        count: Resources at most.
    """
    rows = tuples(connection).execute(
        f"SELECT {columns('h', row_id='r.resource_id')} FROM fhir_resource r CROSS JOIN LATERAL ("
        " SELECT * FROM fhir_history v WHERE v.type = r.type AND v.id = r.id AND v.last_updated <= %(moment)s"
        " ORDER BY v.version_id DESC LIMIT 1) h"
        " WHERE r.type = %(type)s AND r.last_updated > %(moment)s AND r.resource_id > %(after)s"
        " AND r.resource_id <= coalesce(%(last)s, 9223372036854775807) ORDER BY r.resource_id"
        " LIMIT %(count)s".encode(),
        {"moment": moment, "type": resource_type, "after": after, "last": last, "count": count},
    )
    return [stored(row) for row in rows.fetchall()]


# COPY in binary hands the stored bytes over as they are: no aggregate, no text conversion, no row objects.
_BODIES = """COPY (
SELECT r.resource_id, v.template_id, v.body FROM fhir_resource r CROSS JOIN LATERAL (
 SELECT r.template_id, r.body WHERE r.last_updated <= %(as_of)s
 UNION ALL (SELECT h.template_id, h.body FROM fhir_history h WHERE r.last_updated > %(as_of)s
  AND h.type = r.type AND h.id = r.id AND h.last_updated <= %(as_of)s ORDER BY h.version_id DESC LIMIT 1)) v
WHERE r.type = %(type)s AND r.resource_id BETWEEN %(first)s AND %(last)s
 AND (%(since)s::timestamptz IS NULL OR r.last_updated >= %(since)s)
ORDER BY r.resource_id LIMIT %(count)s) TO STDOUT (FORMAT binary)"""


def bodies(
    connection: Connection,
    resource_type: str,
    *,
    first: int,
    last: int,
    since: datetime | None,
    as_of: datetime,
    count: int,
) -> tuple[bytes, int | None]:
    """Read resources as they were at a moment, in the order of their rows, as lines of NDJSON.

    Args:
        connection: In a transaction.
        resource_type: Of the resources.
        first: Row to start at.
        last: Row to end at.
        since: Only what changed at or after this moment.
        as_of: Versions saved later are passed over for the ones before them.
        count: Rows at most.

    Returns:
        UTF-8 lines, each with its line feed, and the row to go on at; None at the end.
    """
    wanted = {
        "as_of": as_of,
        "type": resource_type,
        "first": first,
        "last": last,
        "since": since,
        "count": count,
    }
    with connection.cursor() as cursor, cursor.copy(_BODIES.encode(), wanted) as copy:
        copy.set_types(("int8", "int4", "bytea"))  # text in binary is its bytes
        rows = list(copy.rows())
    templates = texts(connection, {row[1] for row in rows if row[1] is not None})
    frames = {number: Frame(text) for number, text in templates.items()}
    lines = [row[2] if row[1] is None else frames[row[1]].fill(row[2]) for row in rows]
    lines.append(b"")
    return b"\n".join(lines), int(rows[-1][0]) + 1 if len(rows) == count else None
