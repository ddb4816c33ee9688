"""Who is referred to: what exists, who has an identifier, and what waits for somebody not known yet."""

from __future__ import annotations

from collections.abc import Sequence

from reporting.fhir.database.records import StoredResource
from reporting.fhir.database.rows import columns, stored
from service.database.pool import Connection, tuples


def existing(connection: Connection, references: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of (type, id) pairs are resources of ours."""
    if not references:
        return set()
    rows = tuples(connection).execute(
        "SELECT type, id FROM fhir_resource JOIN unnest(%s::text[], %s::text[]) AS wanted(t, i)"
        " ON type = t AND id = i",
        ([t for t, _ in references], [i for _, i in references]),
    )
    return {(str(resource_type), str(resource_id)) for resource_type, resource_id in rows}


def with_identifier(
    connection: Connection, resource_type: str, number: int, identifier: tuple[str, str], most: int
) -> list[str]:
    """Ids of the resources of a type that have an identifier.

    Args:
        connection: In a transaction.
        resource_type: Of the resources.
        number: Of the type's search parameter ``identifier``.
        identifier: Its system and value.
        most: Ids at most.
    """
    rows = tuples(connection).execute(
        "SELECT r.id FROM fhir_token x JOIN fhir_resource r USING (resource_id)"
        " WHERE x.param = %s AND x.system = %s AND x.code = %s AND r.type = %s"
        " ORDER BY r.resource_id LIMIT %s",
        (number, *identifier, resource_type, most),
    )
    return [str(resource_id) for (resource_id,) in rows]


def waiting(
    connection: Connection, number: int, identifiers: Sequence[tuple[str, str]], urls: Sequence[str]
) -> list[StoredResource]:
    """Read and lock the resources of nobody that refer to somebody by an identifier or a URL.

    Args:
        connection: In a transaction.
        number: Of the references, in the sparse tables.
        identifiers: (system, value) of who is now known.
        urls: Under which others know who is now known.
    """
    rows = tuples(connection).execute(
        f"SELECT {columns('r')} FROM fhir_resource r WHERE r.patient IS NULL AND r.resource_id IN ("
        " SELECT x.resource_id FROM fhir_token x JOIN unnest(%s::text[], %s::text[]) AS wanted(s, c)"
        "  ON x.system = s AND x.code = c WHERE x.param = %s"
        " UNION SELECT x.resource_id FROM fhir_reference x"
        "  WHERE x.param = %s AND x.target_type = '' AND x.target_id = ANY(%s))"
        " ORDER BY r.type, r.id FOR UPDATE OF r".encode(),
        ([s for s, _ in identifiers], [v for _, v in identifiers], number, number, list(urls)),
    )
    return [stored(row) for row in rows.fetchall()]
