"""Rows of FHIR resources as records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reporting.fhir.database.layout.brief import brief
from reporting.fhir.database.layout.texts import assemble
from reporting.fhir.database.records import StoredResource

ROW_WIDTH = 8  # columns that make a record


def columns(table: str, row_id: str = "") -> str:
    """The columns that ``stored`` makes a record of.

    Args:
        table: Name or alias of fhir_resource or fhir_history.
        row_id: SQL of the row's id, where the table has none.
    """
    plain = ", ".join(f"{table}.{name}" for name in ("type", "id", "version_id", "last_updated", "patient"))
    template = f"(SELECT t.text FROM fhir_template t WHERE t.number = {table}.template_id)"
    return f"{row_id or f'{table}.resource_id'}, {plain}, {table}.body, {template}"


def stored(row: Sequence[Any], *, in_brief: bool = False) -> StoredResource:
    """Make a record of a row of ``columns``, of Observations the text in brief if that is asked for."""
    row_id, resource_type, resource_id, version_id, last_updated, patient, body, template = row
    text = brief(template, body) if in_brief and template is not None else None
    if text is None:
        text = body if template is None else assemble(template, body)
    return StoredResource(
        row_id=row_id,
        resource_type=resource_type,
        resource_id=resource_id,
        version_id=version_id,
        last_updated=last_updated,
        patient=patient,
        body=text,
    )
