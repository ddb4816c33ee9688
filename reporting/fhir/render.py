"""FHIR resources as exact JSON text: decimals as written, elements in the order given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

import simplejson

from reporting.fhir.database.records import Draft
from reporting.fhir.extract import index_of
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.site import Site
from service.errors import StoredResourceError

_MOST_DEPTH = 64  # real resources stay below 20
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_MOST_NUMBER = 100  # characters of a number, and its exponent


def dumps(value: Any) -> str:
    """Render JSON without spaces; a Decimal keeps its digits."""
    text: str = simplejson.dumps(value, ensure_ascii=False, separators=(",", ":"), use_decimal=True)
    return text


def parse_body(body: bytes) -> Any:
    """Parse what a client sent; numbers with a fraction become Decimal.

    Raises:
        FhirProblemError: 400: it is not JSON, or gives a key twice.
    """
    try:
        return _parsed(body)
    except (ValueError, RecursionError) as exc:
        text_of = f"the body is not JSON: {exc}"
        raise FhirProblemError(400, IssueType.STRUCTURE, text_of, "http.body") from exc


def loads(text: str | bytes) -> Any:
    """Parse a resource as it is kept; numbers with a fraction become Decimal.

    Raises:
        StoredResourceError: It is not JSON: nobody but we wrote it, so it was damaged.
    """
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as exc:
        raise StoredResourceError("a stored resource is not JSON any more") from exc


def _parsed(text: str | bytes) -> Any:
    decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    return simplejson.loads(
        decoded, parse_float=_decimal, parse_constant=_no_constant, object_pairs_hook=_once_each
    )


def check_texts(value: Any) -> None:
    """Check what of a parsed body no column and no validator could hold.

    Raises:
        FhirProblemError: 400: a text with NUL or half a surrogate pair, or elements nested too deep.
    """
    waiting = [(value, 0)]
    while waiting:
        inner, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            raise FhirProblemError(
                400, IssueType.STRUCTURE, f"elements are nested more than {_MOST_DEPTH} deep", "http.body"
            )
        if isinstance(inner, dict):
            waiting += [(each, depth + 1) for pair in inner.items() for each in pair]
        elif isinstance(inner, list):
            waiting += [(each, depth + 1) for each in inner]
        elif isinstance(inner, str) and _NO_TEXT.search(inner):
            raise FhirProblemError(
                400, IssueType.VALUE, "a text holds NUL or half a surrogate pair", "http.body"
            )


def _decimal(text: str) -> Decimal:
    """A number, within what a decimal of R4 can be: beyond it, what reads an integer of it never ends."""
    value = Decimal(text)
    if len(text) > _MOST_NUMBER or abs(value.adjusted()) > _MOST_NUMBER:
        raise ValueError("a number is out of range")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice")
    return made


def content_digest(resource: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of a resource's exact text without the version and lastUpdated saving adds."""
    prefix, suffix = _around_version(resource)
    return sha256((prefix + suffix.removeprefix(",")).encode()).hexdigest()


def _around_version(resource: Mapping[str, Any]) -> tuple[str, str]:
    """JSON text up to and including the opening of meta, and after meta.lastUpdated."""
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
    rest = {k: v for k, v in resource.items() if k not in ("resourceType", "id", "meta")}
    more_meta = "," + dumps(meta)[1:] if meta else "}"
    prefix = f'{{"resourceType":"{resource["resourceType"]}","id":{dumps(resource["id"])},"meta":{{'
    return prefix, more_meta + ("," + dumps(rest)[1:] if rest else "}")


def draft_of(
    resource: Mapping[str, Any],
    *,
    site: Site,
    patient: str | None = None,
    only_if_absent: bool = False,
    expected_version: int | None = None,
) -> Draft:
    """Render a valid resource for saving.

    Args:
        resource: With resourceType and id; version and lastUpdated, if any, are replaced when saved.
        site: Of this server.
        patient: Logical id of the Patient compartment, where the resource does not name it itself.
        only_if_absent: Leave a current version as it is.
        expected_version: The version this replaces; None for any.
    """
    prefix, suffix = _around_version(resource)
    return Draft(
        resource_type=resource["resourceType"],
        resource_id=resource["id"],
        prefix=prefix,
        suffix=suffix,
        index=index_of(resource, site=site, patient=patient),
        only_if_absent=only_if_absent,
        expected_version=expected_version,
    )
