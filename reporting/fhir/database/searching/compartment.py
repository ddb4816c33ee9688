"""Everything of one patient, and everything of some types, page by page in the order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reporting.fhir.database.records import StoredResource
from reporting.fhir.database.rows import columns, stored
from service.database.pool import Connection, tuples

_COLUMNS = columns("r")


def of_patient(
    connection: Connection,
    patients: Sequence[str],
    types: Sequence[str],
    *,
    since: datetime | None = None,
    before: datetime | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    after: int = 0,
    count: int,
) -> list[StoredResource]:
    """Read a page of the compartments of one person's Patients.

    Args:
        connection: In a transaction.
        patients: Logical ids.
        types: Of the resources.
        since: Only what changed at or after this moment.
        before: Only what was last changed before this moment.
        start: Only care at or after this moment; the patient, and what has no date, come along.
        end: Only care before this moment; likewise.
        after: Row of the last resource of the previous page.
        count: Resources at most.
    """
    rows = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_resource r WHERE r.patient = ANY(%s) AND r.type = ANY(%s)"
            " AND r.resource_id > %s AND (%s::timestamptz IS NULL OR r.last_updated >= %s)"
            " AND r.last_updated < coalesce(%s::timestamptz, 'infinity')"
            " AND (r.type = 'Patient' OR r.occurred IS NULL"
            " OR (r.occurred >= coalesce(%s::timestamptz, '-infinity')"
            " AND r.occurred < coalesce(%s::timestamptz, 'infinity')))"
            " ORDER BY r.resource_id LIMIT %s".encode(),
            (list(patients), list(types), after, since, since, before, start, end, count),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]


def supporting(connection: Connection, row_ids: Sequence[int], types: Sequence[str]) -> list[StoredResource]:
    """Read what resources refer to outside the compartment: devices and practitioners."""
    rows = (
        tuples(connection)
        .execute(
            f"SELECT {_COLUMNS} FROM fhir_resource r WHERE r.type = ANY(%s) AND (r.type, r.id) IN ("
            " SELECT 'Device', o.device FROM fhir_observation o WHERE o.resource_id = ANY(%s)"
            " UNION SELECT f.target_type, f.target_id FROM fhir_reference f WHERE f.resource_id = ANY(%s)"
            ") AND r.patient IS NULL ORDER BY r.resource_id".encode(),
            (list(types), list(row_ids), list(row_ids)),
        )
        .fetchall()
    )
    return [stored(row) for row in rows]
