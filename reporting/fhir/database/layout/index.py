"""The search columns of a FHIR resource: written with a version, replaced with the next."""

from __future__ import annotations

from datetime import datetime

from reporting.fhir.database.layout.vocabulary import lay
from reporting.fhir.database.records import SearchIndex
from service.database.pool import Connection

_TABLES = (
    "fhir_observation",
    "fhir_token",
    "fhir_reference",
    "fhir_date",
    "fhir_string",
)


def erase_index(connection: Connection, row_id: int) -> None:
    """Remove the search columns of a resource's row."""
    for table in _TABLES:
        connection.execute(f"DELETE FROM {table} WHERE resource_id = %s".encode(), (row_id,))


def replace_index(connection: Connection, row_id: int, index: SearchIndex) -> None:
    """Write the search columns of a resource's row anew, its text left as it is."""
    connection.execute(
        "UPDATE fhir_resource SET patient = %s, occurred = %s WHERE resource_id = %s",
        (index.patient, index.occurred, row_id),
    )
    erase_index(connection, row_id)
    write_index(connection, row_id, index)


def set_last_updated(connection: Connection, row_id: int, moment: datetime) -> None:
    """Write when a resource's row was last changed, its text left as it is."""
    connection.execute("UPDATE fhir_resource SET last_updated = %s WHERE resource_id = %s", (moment, row_id))


def write_index(connection: Connection, row_id: int, index: SearchIndex) -> None:
    """Write the search columns of a resource's row, which has none yet."""
    if index.observation is not None:
        _write_observation(connection, row_id, index)
    if index.tokens:
        connection.execute(
            "INSERT INTO fhir_token (resource_id, param, system, code)"
            " SELECT DISTINCT %s::bigint, * FROM unnest(%s::smallint[], %s::text[], %s::text[])",
            (
                row_id,
                [t.param for t in index.tokens],
                [t.system for t in index.tokens],
                [t.code for t in index.tokens],
            ),
        )
    if index.references:
        connection.execute(
            "INSERT INTO fhir_reference (resource_id, param, target_type, target_id)"
            " SELECT DISTINCT %s::bigint, * FROM unnest(%s::smallint[], %s::text[], %s::text[])",
            (
                row_id,
                [r.param for r in index.references],
                [r.target_type for r in index.references],
                [r.target_id for r in index.references],
            ),
        )
    if index.dates:
        connection.execute(
            "INSERT INTO fhir_date (resource_id, param, low, high)"
            " SELECT DISTINCT ON (p, l) %s::bigint, * FROM"
            " unnest(%s::smallint[], %s::timestamptz[], %s::timestamptz[]) AS d(p, l, h)",
            (
                row_id,
                [d.param for d in index.dates],
                [d.low for d in index.dates],
                [d.high for d in index.dates],
            ),
        )
    if index.strings:
        connection.execute(
            "INSERT INTO fhir_string (resource_id, param, value, folded)"
            " SELECT DISTINCT %s::bigint, * FROM unnest(%s::smallint[], %s::text[], %s::text[])",
            (
                row_id,
                [s.param for s in index.strings],
                [s.value for s in index.strings],
                [s.folded for s in index.strings],
            ),
        )


def _write_observation(connection: Connection, row_id: int, index: SearchIndex) -> None:
    hot = index.observation
    assert hot is not None  # noqa: S101 - the caller has looked
    laid = lay(connection, index.components, index.codings)
    connection.execute(
        "INSERT INTO fhir_observation (resource_id, patient, code_system, code, status, device,"
        " effective, effective_high, value, value_unit, amounts, absent, codings)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::float8[], %s::smallint[], %s::integer[])",
        (
            row_id, hot.patient, hot.code_system, hot.code, hot.status, hot.device,
            hot.effective, hot.effective_high, hot.value, hot.value_unit, laid.amounts, laid.absent,
            laid.codings,
        ),
    )  # fmt: skip
