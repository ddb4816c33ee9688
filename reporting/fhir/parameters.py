"""Parameters of an operation, however they are sent: in the query, a form, or a Parameters resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from reporting.fhir.http import FORM, Request
from reporting.fhir.outcome import FhirProblemError, IssueType


def operation_pairs(request: Request) -> tuple[tuple[str, str], ...]:
    """Names and values in the order sent, those of the query first.

    Raises:
        FhirProblemError: 400 for a body that cannot be read, 415 for another format.
    """
    if request.method != "POST" or not request.body:
        return request.query
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == FORM:
        return (*request.query, *form_pairs(request.body))
    return (*request.query, *_without_nul(resource_pairs(parameters_of(request))))


def form_pairs(body: bytes) -> list[tuple[str, str]]:
    """Names and values of a form.

    Raises:
        FhirProblemError: 400: it cannot be read.
    """
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=200)
    except ValueError as exc:
        raise FhirProblemError(
            400, IssueType.STRUCTURE, f"the form cannot be read: {exc}", "http.body"
        ) from exc
    return _without_nul(pairs)


def _without_nul(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if any("\x00" in text for pair in pairs for text in pair):
        raise FhirProblemError(400, IssueType.VALUE, "a parameter has no NUL", "http.body")
    return pairs


def parameters_of(request: Request) -> list[Mapping[str, Any]]:
    """The parameter elements of a Parameters resource.

    Raises:
        FhirProblemError: 400: the body is none.
    """
    resource = request.resource()
    given = resource.get("parameter", [])
    if resource.get("resourceType") != "Parameters" or not isinstance(given, list):
        raise FhirProblemError(400, IssueType.INVALID, "the body is no Parameters", "Parameters.resourceType")
    for place, each in enumerate(given):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            where = f"Parameters.parameter[{place}]"
            raise FhirProblemError(400, IssueType.STRUCTURE, "a parameter has a name", where)
    return given


def resource_pairs(given: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Values as a query writes them: a Reference by its reference, a Coding as system|code.

    Raises:
        FhirProblemError: 400: a value is of no type that a query can hold.
    """
    pairs: list[tuple[str, str]] = []
    for place, each in enumerate(given):
        where = f"Parameters.parameter[{place}]"
        values = [value for key, value in each.items() if key.startswith("value")]
        if len(values) != 1:
            raise FhirProblemError(400, IssueType.STRUCTURE, "a parameter has one value", where)
        pairs += [(each["name"], text) for text in _texts(values[0], where)]
    return pairs


def _is_coding(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(k, ""), str) for k in ("system", "code"))


def _texts(value: Any, where: str) -> list[str]:
    if isinstance(value, bool):
        return [str(value).lower()]
    if not isinstance(value, dict | list):
        return [str(value)]
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            return [value["reference"]]
        codings = value.get("coding", [value] if "code" in value else [])
        if isinstance(codings, list) and codings and all(_is_coding(c) for c in codings):
            return [",".join(f"{c['system']}|{c.get('code', '')}" if "system" in c else str(c.get("code", ""))
                             for c in codings)]  # fmt: skip
    raise FhirProblemError(400, IssueType.NOT_SUPPORTED, "a value of a type that is not served here", where)
