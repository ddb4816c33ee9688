"""FHIR resources as exact JSON text: decimals as written, elements in the order given."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import simplejson

from reporting.fhir.extract import index_of
from reporting.fhir.outcome import FhirProblemError, IssueType
from service.database.fhir_records import Draft


def dumps(value: Any) -> str:
    """Render JSON without spaces; a Decimal keeps its digits."""
    text: str = simplejson.dumps(value, ensure_ascii=False, separators=(",", ":"), use_decimal=True)
    return text


def loads(text: str | bytes) -> Any:
    """Parse JSON; numbers with a fraction become Decimal.

    Raises:
        FhirProblemError: It is not JSON, or gives a key twice.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        return simplejson.loads(
            decoded, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_once_each
        )
    except (ValueError, RecursionError) as exc:
        raise FhirProblemError(400, IssueType.STRUCTURE, f"the body is not JSON: {exc}") from exc


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice")
    return made


def draft_of(
    resource: Mapping[str, Any],
    *,
    base_url: str,
    patient: str | None = None,
    only_if_absent: bool = False,
    expected_version: int | None = None,
) -> Draft:
    """Render a valid resource for saving.

    Args:
        resource: With resourceType and id; version and lastUpdated, if any, are replaced when saved.
        base_url: Of this server.
        patient: Logical id of the Patient compartment, where the resource does not name it itself.
        only_if_absent: Leave a current version as it is.
        expected_version: The version this replaces; None for any.
    """
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
    rest = {k: v for k, v in resource.items() if k not in ("resourceType", "id", "meta")}
    resource_type, resource_id = resource["resourceType"], resource["id"]
    more_meta = "," + dumps(meta)[1:] if meta else "}"
    return Draft(
        resource_type=resource_type,
        resource_id=resource_id,
        prefix=f'{{"resourceType":"{resource_type}","id":{dumps(resource_id)},"meta":{{',
        suffix=more_meta + ("," + dumps(rest)[1:] if rest else "}"),
        index=index_of(resource, base_url=base_url, patient=patient),
        only_if_absent=only_if_absent,
        expected_version=expected_version,
    )
