"""Rows of FHIR resources as records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import TupleRow, tuple_row

from service.database.fhir_records import StoredResource
from service.database.pool import Connection


def tuples(connection: Connection) -> psycopg.Cursor[TupleRow]:
    """Open a cursor whose rows are tuples: the read path makes no dictionaries."""
    return connection.cursor(row_factory=tuple_row)


def stored(row: Sequence[Any]) -> StoredResource:
    """Make a record of resource_id, type, id, version_id, last_updated, patient, body."""
    row_id, resource_type, resource_id, version_id, last_updated, patient, body = row
    return StoredResource(
        row_id=row_id,
        resource_type=resource_type,
        resource_id=resource_id,
        version_id=version_id,
        last_updated=last_updated,
        patient=patient,
        body=body,
    )
