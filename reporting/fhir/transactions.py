"""Transaction and batch Bundles: all or nothing, or each entry for itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from reporting.fhir.http import Api, Request, Response, expected_version, require
from reporting.fhir.outcome import FhirProblemError, IssueType, operation_outcome
from reporting.fhir.render import dumps, loads
from reporting.fhir.search_table import RESOURCE_TYPES, Interaction
from reporting.fhir.writing import matches, same_id, same_type, save
from service.database import fhir_resources
from service.database.fhir_records import Saved, SaveOutcome, StoredResource
from service.database.pool import Connection, transaction


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One entry of a Bundle to process."""

    place: int
    method: str
    resource_type: str
    resource_id: str  # "" for a create
    resource: dict[str, Any]
    full_url: str
    if_none_exist: str | None
    version: int | None


def transaction_bundle(api: Api, request: Request) -> Response:
    """``POST [base]``: a transaction, all or nothing, or a batch, each for itself."""
    whole = request.resource()
    kind = whole.get("type")
    if whole.get("resourceType") != "Bundle" or kind not in ("transaction", "batch"):
        raise FhirProblemError(
            400, IssueType.INVALID, "the body is no Bundle of type transaction or batch", "Bundle.type"
        )
    given = whole.get("entry", [])
    if kind == "batch":
        return _batch(api, request, given)
    entries = [_entry(request, place, entry) for place, entry in enumerate(given)]
    with transaction(api.pool) as connection:
        saved = _run(api, request, connection, entries)
    return _bundle_answer(api, "transaction-response", [_entry_answer(api, request, s) for s in saved], saved)


def _batch(api: Api, request: Request, given: list[Any]) -> Response:
    answers: list[dict[str, Any]] = []
    done: list[Saved] = []
    for place, each in enumerate(given):
        try:
            entry = _entry(request, place, each)
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


def _entry(request: Request, place: int, entry: Any) -> _Entry:
    where = f"Bundle.entry[{place}]"
    asked = entry.get("request") if isinstance(entry, dict) else None
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(asked, dict) or not isinstance(resource, dict):
        raise FhirProblemError(400, IssueType.REQUIRED, "an entry has a resource and a request", where)
    method, url = asked.get("method"), str(asked.get("url", ""))
    if method not in ("POST", "PUT"):
        raise FhirProblemError(
            400, IssueType.NOT_SUPPORTED, "POST and PUT are served here", f"{where}.request.method"
        )
    parts = urlsplit(url).path.strip("/").split("/")
    row = RESOURCE_TYPES.get(parts[0])
    if row is None or len(parts) != (1 if method == "POST" else 2):
        raise FhirProblemError(400, IssueType.VALUE, "url is Type or Type/id", f"{where}.request.url")
    require(row, Interaction.CREATE if method == "POST" else Interaction.UPDATE)
    same_type(row, resource)
    if method == "PUT":
        same_id(resource, parts[1])
    tag = asked.get("ifMatch")
    version = expected_version(replace(request, headers={"if-match": str(tag)})) if tag else None
    return _Entry(
        place=place,
        method=method,
        resource_type=row.name,
        resource_id=parts[1] if method == "PUT" else "",
        resource=resource,
        full_url=str(entry.get("fullUrl", "")),
        if_none_exist=asked.get("ifNoneExist"),
        version=version,
    )


def _run(api: Api, request: Request, connection: Connection, entries: list[_Entry]) -> list[Saved]:
    """Process entries: first know every id, then write with the references between them resolved."""
    known: dict[str, str] = {}
    existing: dict[int, StoredResource] = {}
    planned: dict[int, str] = {}
    for entry in entries:
        if entry.method == "POST" and entry.if_none_exist:
            fhir_resources.lock_name(connection, f"create {entry.resource_type}")
            found = matches(api, request, connection, entry.resource_type, entry.if_none_exist)
            if found:
                existing[entry.place] = found[0]
        present = existing.get(entry.place)
        resource_id = present.resource_id if present else entry.resource_id or str(uuid4())
        planned[entry.place] = resource_id
        if entry.full_url:
            if entry.full_url in known:
                raise FhirProblemError(
                    400, IssueType.DUPLICATE, "fullUrl is given twice", f"Bundle.entry[{entry.place}].fullUrl"
                )
            known[entry.full_url] = f"{entry.resource_type}/{resource_id}"
    saved = []
    for entry in entries:
        present = existing.get(entry.place)
        if present is not None:
            saved.append(Saved(outcome=SaveOutcome.UNCHANGED, resource=present))
            continue
        resolved = _resolved(api, request, connection, entry.resource, known)
        saved.append(_save_entry(api, request, connection, entry, {**resolved, "id": planned[entry.place]}))
    return saved


def _save_entry(
    api: Api, request: Request, connection: Connection, entry: _Entry, resource: dict[str, Any]
) -> Saved:
    try:
        access = "c" if entry.method == "POST" else "u"
        return save(api, request, connection, resource, access=access, version=entry.version)
    except FhirProblemError as exc:
        within = f"Bundle.entry[{entry.place}].resource"
        issues = tuple(
            replace(issue, expression=f"{within}{issue.expression.removeprefix(entry.resource_type)}")
            if not issue.expression.startswith("http.")
            else issue
            for issue in exc.issues
        )
        raise FhirProblemError(exc.status, issues=issues) from exc


def _resolved(api: Api, request: Request, connection: Connection, value: Any, known: dict[str, str]) -> Any:
    """Replace references to entries of the Bundle, and conditional ones, by what they stand for."""
    if isinstance(value, list):
        return [_resolved(api, request, connection, inner, known) for inner in value]
    if not isinstance(value, dict):
        return value
    made = {key: _resolved(api, request, connection, inner, known) for key, inner in value.items()}
    target = made.get("reference")
    if isinstance(target, str):
        if target in known:
            made["reference"] = known[target]
        elif "?" in target and target.partition("?")[0] in RESOURCE_TYPES:
            resource_type, _, query = target.partition("?")
            found = matches(api, request, connection, resource_type, query)
            if not found:
                raise FhirProblemError(
                    412, IssueType.NOT_FOUND, f"nothing matches the reference to a {resource_type}", "Bundle"
                )
            made["reference"] = f"{resource_type}/{found[0].resource_id}"
    return made
