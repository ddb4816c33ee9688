"""AuditEvents, appended in batches: they are never changed, so nothing is looked up first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from reporting.fhir.database.records import Draft
from reporting.fhir.database.resources import AUDIT_LOCK
from service.errors import DatabaseUnavailableError

_CONNECT_TIMEOUT_S = 5

# One statement, so one round trip and a transaction of its own; foreign keys are checked at its end. One JSON
# parameter, because the server takes it apart for less than the client puts many arrays together.
_APPEND = b"""
WITH held AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(%s)  -- before the clock is read: see settled_until
), now AS MATERIALIZED (
    SELECT date_trunc('milliseconds', clock_timestamp()) AS m FROM held
), made AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('fhir_resource', 'resource_id')) AS r, e.*, now.m,
        e.before || '"versionId":"1","lastUpdated":"'
        || to_char(now.m AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"' || e.after AS b
    FROM now, json_to_recordset(%s::json) AS e(t text, i text, p text, o timestamptz, c text,
        before text, after text, tokens json, targets json, dates json, strings json)
), resources AS (
    INSERT INTO fhir_resource (resource_id, type, id, version_id, last_updated, author, patient, occurred,
        content_sha256, body) OVERRIDING SYSTEM VALUE
    SELECT r, t, i, 1, m, 'semblance', p, o, decode(c, 'hex'), b FROM made
), token_values AS (
    INSERT INTO fhir_token (resource_id, param, system, code)
    SELECT DISTINCT r, (x ->> 0)::smallint, x ->> 1, x ->> 2 FROM made, json_array_elements(tokens) AS x
), reference_values AS (
    INSERT INTO fhir_reference (resource_id, param, target_type, target_id)
    SELECT DISTINCT r, (x ->> 0)::smallint, x ->> 1, x ->> 2 FROM made, json_array_elements(targets) AS x
), date_values AS (
    INSERT INTO fhir_date (resource_id, param, low, high)
    SELECT r, (x ->> 0)::smallint, (x ->> 1)::timestamptz, (x ->> 2)::timestamptz
    FROM made, json_array_elements(dates) AS x
)
INSERT INTO fhir_string (resource_id, param, value, folded)
SELECT DISTINCT r, (x ->> 0)::smallint, x ->> 1, x ->> 2 FROM made, json_array_elements(strings) AS x
"""


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """A new resource without hot columns; its lastUpdated is the moment it is appended."""

    draft: Draft


class Appender:
    """Appends over a connection of its own, which it opens again when it was lost; one caller at a time.

    Args:
        database_url: Of PostgreSQL.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: psycopg.Connection | None = None

    def append(self, events: Sequence[NewEvent]) -> None:
        """Insert new resources with their search columns, all or none.

        Raises:
            DatabaseUnavailableError: They are not kept, as far as is known.
        """
        document = json.dumps([_row(event) for event in events], ensure_ascii=False)
        try:
            self._execute(document)
        except psycopg.Error as exc:
            raise DatabaseUnavailableError(f"PostgreSQL: {type(exc).__name__}") from exc

    def _execute(self, document: str) -> None:
        reused = self._connection is not None
        try:
            self._open().execute(_APPEND, (AUDIT_LOCK, document))
        except psycopg.OperationalError:
            self.close()
            if not reused:
                raise
            try:
                self._open().execute(_APPEND, (AUDIT_LOCK, document))
            except psycopg.errors.UniqueViolation:
                return  # the first attempt was kept, only its answer was lost

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _row(event: NewEvent) -> dict[str, object]:
    draft, index = event.draft, event.draft.index
    return {
        "t": draft.resource_type,
        "i": draft.resource_id,
        "p": index.patient,
        "o": index.occurred.isoformat() if index.occurred else None,
        "c": draft.content_sha256.hex(),
        "before": draft.prefix,
        "after": draft.suffix,
        "tokens": [(x.param, x.system, x.code) for x in index.tokens],
        "targets": [(x.param, x.target_type, x.target_id) for x in index.references],
        "dates": [(x.param, x.low.isoformat(), x.high.isoformat()) for x in index.dates],
        "strings": [(x.param, x.value, x.folded) for x in index.strings],
    }
