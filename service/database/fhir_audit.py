"""AuditEvents, appended in batches: they are never changed, so nothing is looked up first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from service.database.fhir_records import Draft
from service.database.fhir_rows import tuples
from service.database.pool import Connection

# One statement, so one round trip: the foreign keys are checked at its end.
_APPEND = b"""
WITH resources AS (
    INSERT INTO fhir_resource (resource_id, type, id, version_id, last_updated, author, patient, occurred,
        content_sha256, body) OVERRIDING SYSTEM VALUE
    SELECT r, t, i, 1, m, 'semblance', p, o, c, b
    FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::timestamptz[],
        %s::bytea[], %s::text[]) AS made(r, t, i, m, p, o, c, b)
), tokens AS (
    INSERT INTO fhir_token (resource_id, param, system, code)
    SELECT DISTINCT * FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::text[])
), reference_values AS (
    INSERT INTO fhir_reference (resource_id, param, target_type, target_id)
    SELECT DISTINCT * FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::text[])
), dates AS (
    INSERT INTO fhir_date (resource_id, param, low, high)
    SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::timestamptz[], %s::timestamptz[])
)
INSERT INTO fhir_string (resource_id, param, value, folded)
SELECT DISTINCT * FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::text[])
"""


def append(connection: Connection, drafts: Sequence[Draft], moments: Sequence[datetime]) -> None:
    """Insert new resources with their search columns, in a few statements however many they are.

    Args:
        connection: In a transaction.
        drafts: New resources without hot columns.
        moments: lastUpdated of each.
    """
    cursor = tuples(connection)
    rows = [
        int(row[0])
        for row in cursor.execute(
            "SELECT nextval(pg_get_serial_sequence('fhir_resource', 'resource_id'))"
            " FROM generate_series(1, %s)",
            (len(drafts),),
        ).fetchall()
    ]
    numbered = list(zip(rows, drafts, strict=True))
    tokens = [(row, t) for row, d in numbered for t in d.index.tokens]
    references = [(row, x) for row, d in numbered for x in d.index.references]
    dates = [(row, x) for row, d in numbered for x in d.index.dates]
    strings = [(row, x) for row, d in numbered for x in d.index.strings]
    cursor.execute(
        _APPEND,
        (
            rows,
            [d.resource_type for d in drafts],
            [d.resource_id for d in drafts],
            list(moments),
            [d.index.patient for d in drafts],
            [d.index.occurred for d in drafts],
            [d.content_sha256 for d in drafts],
            [d.body(1, moment) for d, moment in zip(drafts, moments, strict=True)],
            [row for row, _ in tokens],
            [t.param for _, t in tokens],
            [t.system for _, t in tokens],
            [t.code for _, t in tokens],
            [row for row, _ in references],
            [x.param for _, x in references],
            [x.target_type for _, x in references],
            [x.target_id for _, x in references],
            [row for row, _ in dates],
            [x.param for _, x in dates],
            [x.low for _, x in dates],
            [x.high for _, x in dates],
            [row for row, _ in strings],
            [x.param for _, x in strings],
            [x.value for _, x in strings],
            [x.folded for _, x in strings],
        ),
    )
