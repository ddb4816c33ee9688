"""Which bytes of the store present which version of a report."""

from __future__ import annotations

from service.database.pool import Connection, tuples


def sha256_of(connection: Connection, report_id: str, version_id: int) -> str | None:
    """Key in the store of a version's PDF; None when it was not made yet."""
    row = (
        tuples(connection)
        .execute(
            "SELECT sha256 FROM fhir_presented WHERE report_id = %s AND version_id = %s",
            (report_id, version_id),
        )
        .fetchone()
    )
    return None if row is None else str(row[0])


def keep(connection: Connection, report_id: str, version_id: int, sha256: str) -> None:
    """Note a version's PDF; who comes second changes nothing."""
    connection.execute(
        "INSERT INTO fhir_presented (report_id, version_id, sha256) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (report_id, version_id, sha256),
    )
