"""Texts that many resources have alike, kept once: a resource's row holds what is its own.

Resources of a type differ in identifiers, moments and numbers. What is between these is a template, with
a separator in each place; the row holds the resource's own texts, separated alike. PostgreSQL puts them
together too (``fhir_text``), so that records can be read without this program.
"""

from __future__ import annotations

import hashlib

from reporting.fhir.database.layout.texts import SEPARATOR, split
from service.database.pool import Connection, tuples

# Types of which every appraisal makes one. A text that is alone costs no more than it did whole.
TEMPLATED = frozenset({"Observation", "Media", "Provenance"})


def pack(connection: Connection, resource_type: str, text: str) -> tuple[int | None, str]:
    """Part a text that is to be saved, its template kept if it is new.

    Args:
        connection: In the transaction that saves it.
        resource_type: Of the resource.
        text: Exactly as it is to be served.

    Returns:
        Number of the template and the resource's own texts; None and the whole text without a template.
    """
    if resource_type not in TEMPLATED or SEPARATOR in text:
        return None, text
    template, own = split(text)
    return _number(connection, template), own


def _number(connection: Connection, template: str) -> int:
    digest = hashlib.sha256(template.encode()).digest()
    find = "SELECT number FROM fhir_template WHERE digest = %s"
    row = tuples(connection).execute(find, (digest,)).fetchone()
    if row is None:
        row = (
            tuples(connection)
            .execute(
                "INSERT INTO fhir_template (digest, text) VALUES (%s, %s) ON CONFLICT DO NOTHING"
                " RETURNING number",
                (digest, template),
            )
            .fetchone()
        )
    if row is None:  # another transaction has kept it since
        row = tuples(connection).execute(find, (digest,)).fetchone()
    assert row is not None  # noqa: S101 - templates are never deleted
    return int(row[0])


def texts(connection: Connection, numbers: set[int]) -> dict[int, str]:
    """Read templates by their numbers."""
    rows = tuples(connection).execute(
        "SELECT number, text FROM fhir_template WHERE number = ANY(%s)", (list(numbers),)
    )
    return {int(number): str(text) for number, text in rows}
