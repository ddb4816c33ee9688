"""The zone that days without one are laid out by, and the resources that a change of it concerns."""

from __future__ import annotations

from reporting.fhir.database.records import StoredResource
from reporting.fhir.database.rows import columns, stored
from service.database.pool import Connection, tuples

_LOCK = 0x5A4F4E45  # held by who lays dates out anew
# A day, month or year lasts at least as long as the shortest day; a moment a minute at most.
_DAY = "interval '22 hours'"


def current(connection: Connection) -> str:
    """Name of the zone; held until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    row = tuples(connection).execute("SELECT name FROM fhir_zone").fetchone()
    assert row is not None  # noqa: S101 - the migration made it
    return str(row[0])


def change(connection: Connection, name: str) -> None:
    """Note that every day is laid out by another zone."""
    connection.execute("UPDATE fhir_zone SET name = %s", (name,))


def with_days(connection: Connection, after: int, count: int) -> list[StoredResource]:
    """Read the next resources that have a date of a day or more, or a period, in the order of their rows."""
    rows = (
        tuples(connection)
        .execute(
            f"SELECT {columns('r')} FROM fhir_resource r WHERE r.resource_id > %s AND ("
            " EXISTS (SELECT 1 FROM fhir_date d WHERE d.resource_id = r.resource_id"
            f"  AND d.high - d.low >= {_DAY})"
            " OR EXISTS (SELECT 1 FROM fhir_observation o WHERE o.resource_id = r.resource_id"
            f"  AND o.effective_high - o.effective >= {_DAY}))"
            " ORDER BY r.resource_id LIMIT %s FOR UPDATE OF r".encode(),
            (after, count),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]
