"""Client assertions that were used."""

from __future__ import annotations

from datetime import datetime

from service.database.pool import Connection, tuples


def use(connection: Connection, client_id: str, jti: str, expires_at: datetime) -> bool:
    """Note that an assertion is used; False when it was before. Forgets those that have expired."""
    connection.execute("DELETE FROM fhir_used_assertion WHERE expires_at < now()")
    row = (
        tuples(connection)
        .execute(
            "INSERT INTO fhir_used_assertion (client_id, jti, expires_at) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING 1",
            (client_id, jti, expires_at),
        )
        .fetchone()
    )
    return row is not None
