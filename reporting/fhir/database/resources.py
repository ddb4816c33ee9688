"""FHIR resources: saving versions, reading them and their histories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from reporting.fhir.database.layout.index import erase_index, write_index
from reporting.fhir.database.layout.templates import pack
from reporting.fhir.database.records import Draft, Saved, SaveOutcome, StoredResource
from reporting.fhir.database.rows import ROW_WIDTH, columns, stored
from service.database.pool import Connection, tuples
from service.errors import FhirVersionConflictError

WRITERS_LOCK = 0x46484952  # shared by writers, taken alone to see that none is under way
AUDIT_LOCK = 0x41554449  # shared by writers of AuditEvents, which every request waits for

_COLUMNS = columns("fhir_resource")
_PAST_COLUMNS = columns("fhir_history", row_id="0")


# --- reading


def read(connection: Connection, resource_type: str, resource_id: str) -> StoredResource | None:
    """Read the current version; None when there is no such resource."""
    row = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_resource WHERE type = %s AND id = %s".encode(),
            (resource_type, resource_id),
        )
        .fetchone()
    )
    return None if row is None else stored(row)


def read_for_update(connection: Connection, resource_type: str, resource_id: str) -> StoredResource | None:
    """Read the current version and lock it; None when there is no such resource."""
    row = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_resource WHERE type = %s AND id = %s FOR UPDATE".encode(),
            (resource_type, resource_id),
        )
        .fetchone()
    )
    return None if row is None else stored(row)


def lock_name(connection: Connection, name: str) -> None:
    """Hold the lock of a name until the transaction ends: what it names is changed by one at a time."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", (name,))


def read_many(connection: Connection, references: Iterable[tuple[str, str]]) -> list[StoredResource]:
    """Read the current versions of (type, id) pairs; what does not exist is left out."""
    pairs = sorted(set(references))
    if not pairs:
        return []
    rows = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_resource JOIN unnest(%s::text[], %s::text[]) AS wanted(t, i) "
            "ON type = t AND id = i ORDER BY resource_id".encode(),
            ([t for t, _ in pairs], [i for _, i in pairs]),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def numbers_of(connection: Connection, references: Iterable[tuple[str, str]]) -> list[int]:
    """Numbers that resources have in the database, by type and logical id; of those that are there."""
    wanted = list(references)
    rows = connection.execute(
        "SELECT r.resource_id FROM fhir_resource r"
        " JOIN unnest(%s::text[], %s::text[]) AS w(type, id) USING (type, id) ORDER BY 1",
        ([each for each, _ in wanted], [each for _, each in wanted]),
    )
    return [int(row["resource_id"]) for row in rows]


def read_version(
    connection: Connection, resource_type: str, resource_id: str, version_id: int
) -> StoredResource | None:
    """Read one version, current or superseded; None when there is none."""
    row = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_resource WHERE type = %s AND id = %s AND version_id = %s "
            f"UNION ALL SELECT {_PAST_COLUMNS} FROM fhir_history "
            "WHERE type = %s AND id = %s AND version_id = %s LIMIT 1".encode(),
            (resource_type, resource_id, version_id) * 2,
        )
        .fetchone()
    )
    return None if row is None else stored(row)


def history(
    connection: Connection,
    resource_type: str,
    resource_id: str | None,
    *,
    count: int,
    since: datetime | None = None,
    before: tuple[datetime, str, int] | None = None,
    until: datetime | None = None,
    patients: Sequence[str] | None = None,
) -> list[StoredResource]:
    """Read versions, newest first.

    Args:
        connection: In a transaction.
        resource_type: Of the resources.
        resource_id: Of one resource, or None for all of the type.
        count: Versions read at most.
        since: Only versions written at or after this moment.
        until: Only versions written before this moment.
        before: (lastUpdated, id, version) of the last version of the previous page.
        patients: Only versions in the compartments of these Patients, of resources that still are.
    """
    conditions = ["type = %s"]
    parameters: list[object] = [resource_type]
    if resource_id is not None:
        conditions.append("id = %s")
        parameters.append(resource_id)
    if patients is not None:  # what was once taken for theirs, and is somebody else's, is not shown
        conditions.append(
            "patient = ANY(%s) AND (type, id) IN (SELECT now.type, now.id FROM fhir_resource now"
            " WHERE now.type = %s AND now.patient = ANY(%s))"
        )
        parameters.extend((list(patients), resource_type, list(patients)))
    if since is not None:
        conditions.append("last_updated >= %s")
        parameters.append(since)
    if until is not None:
        conditions.append("last_updated < %s")
        parameters.append(until)
    if before is not None:
        conditions.append("(last_updated, id, version_id) < (%s, %s, %s)")
        parameters.extend(before)
    where = " AND ".join(conditions)
    order = "ORDER BY last_updated DESC, id DESC, version_id DESC LIMIT %s"
    parameters.append(count)
    rows = (
        tuples(connection)
        .execute(
            f"(SELECT {_COLUMNS} FROM fhir_resource WHERE {where} {order}) "
            f"UNION ALL (SELECT {_PAST_COLUMNS} FROM fhir_history WHERE {where} {order}) {order}".encode(),
            [*parameters, *parameters, count],
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def history_total(connection: Connection, resource_type: str, resource_id: str) -> int:
    """Count the versions of a resource."""
    row = (
        tuples(connection)
        .execute(
            "SELECT (SELECT count(*) FROM fhir_resource WHERE type = %s AND id = %s)"
            " + (SELECT count(*) FROM fhir_history WHERE type = %s AND id = %s)",
            (resource_type, resource_id) * 2,
        )
        .fetchone()
    )
    assert row is not None  # noqa: S101 - an aggregate always has a row
    return int(row[0])


# --- saving


def settled_now(connection: Connection) -> datetime:
    """Moment up to which every write is visible: waits for the writers under way.

    What is saved later carries a later lastUpdated, so a client that asks again ``_since`` misses nothing.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (WRITERS_LOCK,))
    return _clock(connection)


def settled_until(connection: Connection, resource_type: str) -> datetime:
    """Moment before which every write of a type is visible to the next statement; waits for nobody.

    Writers hold a lock from before they read the clock until what they wrote is visible. What is written by
    one who holds it now, or takes it from now on, is no older than the moment.

    Args:
        connection: In a transaction that reads anew with each statement (READ COMMITTED).
        resource_type: AuditEvents have writers of their own.
    """
    lock = AUDIT_LOCK if resource_type == "AuditEvent" else WRITERS_LOCK
    row = (
        tuples(connection)
        .execute(
            "SELECT date_trunc('milliseconds', least(statement_timestamp(), min(a.xact_start))),"
            " count(*) FILTER (WHERE a.xact_start IS NULL)"
            " FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = %s AND l.objsubid = 1"
            " AND l.mode = 'ShareLock' AND l.granted"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (lock,),
        )
        .fetchone()
    )
    assert row is not None  # noqa: S101 - an aggregate always has a row
    if row[1]:  # a writer of another role, whose beginning is not for us to see: waited for
        return settled_now(connection)
    moment: datetime = row[0]
    return moment.astimezone(UTC)


def save(connection: Connection, drafts: Sequence[Draft], *, author: str) -> list[Saved]:
    """Save drafts as new versions; equal content makes none.

    Args:
        connection: In a transaction, which the caller commits.
        drafts: Each resource at most once.
        author: ``semblance``, or the client that writes.

    Returns:
        One outcome per draft, in their order.

    Raises:
        FhirVersionConflictError: The current version is not the expected one.
    """
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (WRITERS_LOCK,))
    now = _clock(connection)
    saved: dict[tuple[str, str], Saved] = {}
    for draft in sorted(drafts, key=lambda d: (d.resource_type, d.resource_id)):  # one order: no deadlocks
        saved[draft.resource_type, draft.resource_id] = _save_one(connection, draft, author, now)
    return [saved[draft.resource_type, draft.resource_id] for draft in drafts]


def _clock(connection: Connection) -> datetime:
    row = tuples(connection).execute("SELECT date_trunc('milliseconds', clock_timestamp())").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    moment: datetime = row[0]
    return moment.astimezone(UTC)


def _save_one(connection: Connection, draft: Draft, author: str, now: datetime) -> Saved:
    unlocked = _current(connection, draft, lock=False)
    if unlocked is None:
        if draft.expected_version is not None:
            name = f"{draft.resource_type}/{draft.resource_id}"
            raise FhirVersionConflictError(f"{name} does not exist", name)
        created = _insert(connection, draft, author, now)
        # None: another transaction created it since; its row is visible now
        return created or _save_one(connection, draft, author, now)
    if _is_unchanged(draft, *unlocked):  # the common case of what many results share takes no lock
        return Saved(outcome=SaveOutcome.UNCHANGED, resource=unlocked[0])
    locked = _current(connection, draft, lock=True)
    assert locked is not None  # noqa: S101 - resources are never deleted
    present, _ = locked
    if draft.expected_version not in (None, present.version_id):
        name = f"{draft.resource_type}/{draft.resource_id}"
        text = f"{name} is at version {present.version_id}, not {draft.expected_version}"
        raise FhirVersionConflictError(text, name)
    if _is_unchanged(draft, *locked):
        return Saved(outcome=SaveOutcome.UNCHANGED, resource=present)
    return _update(
        connection, draft, author, max(now, present.last_updated + timedelta(milliseconds=1)), present
    )


def _current(connection: Connection, draft: Draft, *, lock: bool) -> tuple[StoredResource, bytes] | None:
    row = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS}, content_sha256 FROM fhir_resource WHERE type = %s AND id = %s"
            f"{' FOR UPDATE' if lock else ''}".encode(),
            (draft.resource_type, draft.resource_id),
        )
        .fetchone()
    )
    return None if row is None else (stored(row[:ROW_WIDTH]), bytes(row[ROW_WIDTH]))


def _is_unchanged(draft: Draft, present: StoredResource, content_sha256: bytes) -> bool:
    if draft.expected_version not in (None, present.version_id):
        return False
    return draft.only_if_absent or content_sha256 == draft.content_sha256


def _insert(connection: Connection, draft: Draft, author: str, now: datetime) -> Saved | None:
    template_id, body = pack(connection, draft.resource_type, draft.body(1, now))
    row = tuples(connection).execute(
        "INSERT INTO fhir_resource (type, id, version_id, last_updated, author, patient, occurred,"
        " content_sha256, template_id, body) VALUES (%s, %s, 1, %s, %s, %s, %s, %s, %s, %s)"
        f" ON CONFLICT (type, id) DO NOTHING RETURNING {_COLUMNS}".encode(),
        (
            draft.resource_type, draft.resource_id, now, author, draft.index.patient, draft.index.occurred,
            draft.content_sha256, template_id, body,
        ),
    ).fetchone()  # fmt: skip
    if row is None:
        return None
    present = stored(row)
    write_index(connection, present.row_id, draft.index)
    return Saved(outcome=SaveOutcome.CREATED, resource=present)


def _update(
    connection: Connection, draft: Draft, author: str, now: datetime, present: StoredResource
) -> Saved:
    connection.execute(
        "INSERT INTO fhir_history (type, id, version_id, last_updated, author, patient, template_id, body)"
        " SELECT type, id, version_id, last_updated, author, patient, template_id, body FROM fhir_resource"
        " WHERE resource_id = %s",
        (present.row_id,),
    )
    version_id = present.version_id + 1
    template_id, body = pack(connection, draft.resource_type, draft.body(version_id, now))
    row = tuples(connection).execute(
        "UPDATE fhir_resource SET version_id = %s, last_updated = %s, author = %s, patient = %s,"
        " occurred = %s, content_sha256 = %s, template_id = %s, body = %s WHERE resource_id = %s"
            f" RETURNING {_COLUMNS}".encode(),
        (
            version_id, now, author, draft.index.patient, draft.index.occurred,
            draft.content_sha256, template_id, body, present.row_id,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None  # noqa: S101 - the row is locked
    erase_index(connection, present.row_id)
    write_index(connection, present.row_id, draft.index)
    return Saved(outcome=SaveOutcome.UPDATED, resource=stored(row))
