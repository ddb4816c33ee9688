"""Secrets of the FHIR API, made once and shared by its replicas."""

from __future__ import annotations

from service.database.pool import Connection, tuples


def get_or_make(connection: Connection, name: str, fresh: bytes) -> bytes:
    """Read a secret; the first caller's fresh one becomes it.

    Args:
        connection: In a transaction.
        name: Of the secret.
        fresh: Kept when there is none yet.
    """
    connection.execute(
        "INSERT INTO fhir_key (name, secret) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING", (name, fresh)
    )
    row = tuples(connection).execute("SELECT secret FROM fhir_key WHERE name = %s", (name,)).fetchone()
    assert row is not None  # noqa: S101 - inserted above
    return bytes(row[0])
