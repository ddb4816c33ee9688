"""Transaction and batch Bundles: all or nothing, or each entry for itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Saved, SaveOutcome, StoredResource
from reporting.fhir.http import Api, Request, Response, expected_version, require
from reporting.fhir.outcome import FhirProblemError, IssueType, operation_outcome
from reporting.fhir.render import dumps, loads
from reporting.fhir.search_table import RESOURCE_TYPES, Interaction
from reporting.fhir.write.writing import (
    condition_at,
    matches,
    may_write,
    must_be_new,
    must_exist,
    same_id,
    same_type,
    save,
)
from service.database.pool import Connection, transaction
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
class _Entry:
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


def transaction_bundle(api: Api, request: Request) -> Response:
    """``POST [base]``: a transaction, all or nothing, or a batch, each for itself."""
    whole = request.resource()
    kind = whole.get("type")
    if whole.get("resourceType") != "Bundle" or kind not in ("transaction", "batch"):
        raise FhirProblemError(
            400, IssueType.INVALID, "the body is no Bundle of type transaction or batch", "Bundle.type"
        )
    given = whole.get("entry", [])
    if not isinstance(given, list):
        raise FhirProblemError(400, IssueType.STRUCTURE, "entry is an array", "Bundle.entry")
    if kind == "batch":
        return _batch(api, request, given)
    entries = [_entry(api, request, place, entry) for place, entry in enumerate(given)]
    _check_distinct(entries)
    with transaction(api.pool) as connection:
        saved = _run(api, request, connection, entries)
    return _bundle_answer(api, "transaction-response", [_entry_answer(api, request, s) for s in saved], saved)


def _batch(api: Api, request: Request, given: list[Any]) -> Response:
    answers: list[dict[str, Any]] = []
    done: list[Saved] = []
    for place, each in enumerate(given):
        try:
            entry = _entry(api, request, place, each)
            with transaction(api.pool) as connection:
                saved = _run(api, request, connection, [entry])[0]
        except FhirProblemError as exc:
            outcome = operation_outcome(exc.issues)
            answers.append({"response": {"status": str(exc.status), "outcome": outcome}})
        else:
            done.append(saved)
            answers.append(_entry_answer(api, request, saved))
    return _bundle_answer(api, "batch-response", answers, done)


def _bundle_answer(api: Api, kind: str, answers: list[dict[str, Any]], saved: list[Saved]) -> Response:
    made: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if answers:
        made["entry"] = answers
    return Response(
        body=dumps(made).encode(),
        touched=tuple(f"{s.resource.resource_type}/{s.resource.resource_id}" for s in saved),
        patients=tuple({s.resource.patient for s in saved if s.resource.patient}),
    )


def _entry_answer(api: Api, request: Request, saved: Saved) -> dict[str, Any]:
    stored = saved.resource
    path = f"{stored.resource_type}/{stored.resource_id}"
    whole = {"resource": loads(stored.body)} if request.prefers("return") == "representation" else {}
    return {
        "fullUrl": f"{api.base_url}/{path}",
        **whole,
        "response": {
            "status": "201 Created" if saved.outcome is SaveOutcome.CREATED else "200 OK",
            "location": f"{api.base_url}/{path}/_history/{stored.version_id}",
            "etag": f'W/"{stored.version_id}"',
            "lastModified": stored.last_updated.isoformat(timespec="milliseconds"),
        },
    }


def _entry(api: Api, request: Request, place: int, entry: Any) -> _Entry:
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
    with _within(place):
        made = _request_of(api, request, asked, resource)
        return replace(made, place=place, full_url=full_url)


def _request_of(api: Api, request: Request, asked: Mapping[str, str], resource: dict[str, Any]) -> _Entry:
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
    return _Entry(
        method=method,
        resource_type=row.name,
        resource_id=parts[1] if method == "PUT" else "",
        resource=resource,
        if_none_exist=asked.get("ifNoneExist"),
        if_none_match=asked.get("ifNoneMatch"),
        exists=tag is not None and tag.strip() == "*",
        version=version,
    )


def _check_distinct(entries: Sequence[_Entry]) -> None:
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
def _within(place: int) -> Iterator[None]:
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


def _run(api: Api, request: Request, connection: Connection, entries: Sequence[_Entry]) -> list[Saved]:
    """Process entries: first know every id, then write with the references between them resolved."""
    if any(entry.resource_type == "Patient" for entry in entries):
        fhir_persons.lock(connection)  # before any row is
    known: dict[str, str] = {}
    existing: dict[int, StoredResource] = {}
    planned: dict[int, str] = {}
    for entry in entries:
        if entry.if_none_exist is not None:
            fhir_resources.lock_name(connection, f"create {entry.resource_type}")
            with _within(entry.place), condition_at("http.if-none-exist"):
                found = matches(api, request, connection, entry.resource_type, entry.if_none_exist)
            if found:
                existing[entry.place] = found[0]
        present = existing.get(entry.place)
        resource_id = present.resource_id if present else entry.resource_id or str(uuid4())
        planned[entry.place] = resource_id
        if entry.full_url:
            known[entry.full_url] = f"{entry.resource_type}/{resource_id}"
    saved = []
    for entry in entries:
        present = existing.get(entry.place)
        if present is not None:
            saved.append(Saved(outcome=SaveOutcome.UNCHANGED, resource=present))
            continue
        with _within(entry.place):
            resolve = _Resolving(api=api, request=request, connection=connection, known=known)
            resource = resolve.value({**entry.resource, "id": planned[entry.place]}, entry.resource_type)
            saved.append(_save_entry(api, request, connection, entry, resource))
    return saved


def _save_entry(
    api: Api, request: Request, connection: Connection, entry: _Entry, resource: dict[str, Any]
) -> Saved:
    if entry.if_none_match is not None:
        must_be_new(connection, resource, entry.if_none_match)
    if entry.exists:
        must_exist(connection, resource)
    access = "c" if entry.method == "POST" else "u"
    return save(api, request, connection, resource, access=access, version=entry.version)


@dataclass(frozen=True, kw_only=True)
class _Resolving:
    """Replaces references to entries of the Bundle, and conditional ones, by what they stand for."""

    api: Api
    request: Request
    connection: Connection
    known: Mapping[str, str]  # fullUrl -> Type/id

    def value(self, value: Any, path: str) -> Any:
        """An element with its references replaced.

        Raises:
            FhirProblemError: Of a conditional reference that has not one match.
        """
        if isinstance(value, list):
            return [self.value(inner, f"{path}[{place}]") for place, inner in enumerate(value)]
        if not isinstance(value, dict):
            return value
        made = {key: self.value(inner, f"{path}.{key}") for key, inner in value.items()}
        target = made.get("reference")
        if isinstance(target, str):
            made["reference"] = self._reference(target, f"{path}.reference")
        return made

    def _reference(self, target: str, path: str) -> str:
        if target in self.known:
            return self.known[target]
        resource_type, mark, query = target.partition("?")
        if mark and resource_type in RESOURCE_TYPES:
            with condition_at(path):
                found = matches(self.api, self.request, self.connection, resource_type, query)
            if not found:
                text = f"nothing matches the reference to a {resource_type}"
                raise FhirProblemError(412, IssueType.NOT_FOUND, text, path)
            return f"{resource_type}/{found[0].resource_id}"
        if target.startswith("urn:uuid:"):
            text = "no entry of the Bundle has this fullUrl"
            raise FhirProblemError(422, IssueType.NOT_FOUND, text, path)
        return target
