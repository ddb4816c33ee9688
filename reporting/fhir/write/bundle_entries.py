"""Entries of a transaction or batch: what each asks for, and where in the Bundle a fault is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from reporting.fhir.http import Api, Request, expected_version, require
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search_table import RESOURCE_TYPES, Interaction
from reporting.fhir.write.writing import may_write, same_id, same_type
from service.errors import FhirVersionConflictError

_HEADERS = {
    "method": "method",
    "url": "path",
    "ifMatch": "if-match",
    "ifNoneMatch": "if-none-match",
    "ifNoneExist": "if-none-exist",
}  # elements of a request -> what stands for them outside a Bundle
_REQUEST_ELEMENTS = tuple(_HEADERS)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a Bundle to process."""

    method: str
    resource_type: str
    resource_id: str  # "" for a create
    resource: dict[str, Any]
    if_none_exist: str | None
    if_none_match: str | None
    exists: bool  # ifMatch is *: create nothing
    version: int | None
    place: int = 0
    full_url: str = ""


def entry_of(api: Api, request: Request, place: int, entry: Any) -> Entry:
    """Read an entry.

    Args:
        api: Of the process.
        request: The Bundle's.
        place: Of the entry in the Bundle.
        entry: As parsed JSON.

    Raises:
        FhirProblemError: 400: it asks for nothing that is served.
    """
    where = f"Bundle.entry[{place}]"
    asked = entry.get("request") if isinstance(entry, dict) else None
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(asked, dict) or not isinstance(resource, dict):
        raise FhirProblemError(400, IssueType.REQUIRED, "an entry has a resource and a request", where)
    for name, value in asked.items():
        if name not in _REQUEST_ELEMENTS or not isinstance(value, str) or not value.strip():
            text = f"a request has texts for {', '.join(_REQUEST_ELEMENTS)}"
            raise FhirProblemError(400, IssueType.NOT_SUPPORTED, text, f"{where}.request.{name}")
    full_url = entry.get("fullUrl", "")
    if not isinstance(full_url, str):
        raise FhirProblemError(400, IssueType.STRUCTURE, "fullUrl is a text", f"{where}.fullUrl")
    with within(place):
        made = _request_of(api, request, asked, resource)
        return replace(made, place=place, full_url=full_url)


def _request_of(api: Api, request: Request, asked: Mapping[str, str], resource: dict[str, Any]) -> Entry:
    method = asked.get("method")
    if method not in ("POST", "PUT"):
        raise FhirProblemError(400, IssueType.NOT_SUPPORTED, "POST and PUT are served here", "http.method")
    parts = asked.get("url", "").removeprefix(api.base_url).strip("/").split("/")
    row = RESOURCE_TYPES.get(parts[0])
    if row is None or len(parts) != (1 if method == "POST" else 2):
        text = "url is Type for POST and Type/id for PUT"
        raise FhirProblemError(400, IssueType.VALUE, text, "http.path")
    require(row, Interaction.CREATE if method == "POST" else Interaction.UPDATE)
    may_write(request, row.name, "c" if method == "POST" else "u")
    same_type(row, resource)
    if method == "PUT":
        same_id(resource, parts[1])
    for name, only in (("ifMatch", "PUT"), ("ifNoneMatch", "PUT"), ("ifNoneExist", "POST")):
        if name in asked and method != only:
            raise FhirProblemError(
                400, IssueType.INVALID, f"{name} goes with {only}", f"http.{_HEADERS[name]}"
            )
    tag = asked.get("ifMatch")
    version = expected_version(replace(request, headers={"if-match": tag})) if tag else None
    return Entry(
        method=method,
        resource_type=row.name,
        resource_id=parts[1] if method == "PUT" else "",
        resource=resource,
        if_none_exist=asked.get("ifNoneExist"),
        if_none_match=asked.get("ifNoneMatch"),
        exists=tag is not None and tag.strip() == "*",
        version=version,
    )


def check_distinct(entries: Sequence[Entry]) -> None:
    """Check that no resource is written twice, and no fullUrl given twice.

    Raises:
        FhirProblemError: 400 (R4 http.html, section 3.1.0.11.2).
    """
    written: set[str] = set()
    for entry in entries:
        where = f"Bundle.entry[{entry.place}]"
        name = f"{entry.resource_type}/{entry.resource_id}"
        if entry.resource_id and name in written:
            text = "a transaction writes a resource once"
            raise FhirProblemError(400, IssueType.DUPLICATE, text, f"{where}.request.url")
        if entry.full_url and f"fullUrl {entry.full_url}" in written:
            raise FhirProblemError(400, IssueType.DUPLICATE, "fullUrl is given twice", f"{where}.fullUrl")
        written |= {name, f"fullUrl {entry.full_url}"}


@contextmanager
def within(place: int) -> Iterator[None]:
    """Say of what is refused where in the Bundle it is."""
    try:
        yield
    except FhirVersionConflictError as exc:
        where = f"Bundle.entry[{place}].request.ifMatch"
        raise FhirProblemError(412, IssueType.CONFLICT, str(exc), where) from exc
    except FhirProblemError as exc:
        issues = tuple(replace(issue, expression=_place_of(place, issue.expression)) for issue in exc.issues)
        raise FhirProblemError(exc.status, issues=issues, headers=exc.headers) from exc


def _place_of(place: int, expression: str) -> str:
    where = f"Bundle.entry[{place}]"
    if expression.startswith((where, "http.authorization")):
        return expression
    if expression.startswith("http."):
        header = expression.removeprefix("http.")
        names = {header: name for name, header in _HEADERS.items()}
        return f"{where}.request.{names[header]}" if header in names else f"{where}.request"
    _, dot, below = expression.partition(".")
    return f"{where}.resource{dot}{below}"
