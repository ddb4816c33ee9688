"""create, update and transaction: how surgery dates, procedures and surgeons reach us from the EHR."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

from reporting.fhir import subscriptions
from reporting.fhir.http import Api, Request, Response, expected_version, require, version_headers
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType, operation_outcome
from reporting.fhir.render import draft_of, dumps, loads
from reporting.fhir.restrict import may_chain, restriction
from reporting.fhir.search_request import parse
from reporting.fhir.search_table import RESOURCE_TYPES, Interaction, ResourceType
from reporting.fhir.validate import ID, check
from service.database import fhir_resources, fhir_search, fhir_subscriptions
from service.database.fhir_records import Saved, SaveOutcome, Search, StoredResource
from service.database.pool import Connection, transaction


def create(api: Api, request: Request) -> Response:
    """``POST [type]``, conditional with If-None-Exist."""
    row = request.resource_type
    require(row, Interaction.CREATE)
    resource = request.resource()
    _same_type(row, resource)
    with transaction(api.pool) as connection:
        saved = create_in(api, request, connection, resource, request.headers.get("if-none-exist"))
    return _written(api, request, saved)


def update(api: Api, request: Request) -> Response:
    """``PUT [type]/[id]``, conditional with If-Match; creates what does not exist."""
    row = request.resource_type
    require(row, Interaction.UPDATE)
    resource = request.resource()
    _same_type(row, resource)
    _same_id(resource, request.parameters["id"])
    with transaction(api.pool) as connection:
        if request.headers.get("if-none-match", "").strip() == "*":
            _must_be_new(connection, resource)
        saved = update_in(api, request, connection, resource, expected_version(request))
    return _written(api, request, saved)


def _must_be_new(connection: Connection, resource: dict[str, Any]) -> None:
    """If-None-Match: * (RFC 9110 section 13.1.2): create under this id, but replace nothing."""
    name = f"{resource['resourceType']}/{resource['id']}"
    fhir_resources.lock_name(connection, f"create {name}")
    if fhir_resources.read(connection, resource["resourceType"], resource["id"]) is not None:
        raise FhirProblemError(412, IssueType.CONFLICT, f"{name} exists", "http.if-none-match")


def _same_type(row: ResourceType, resource: dict[str, Any]) -> None:
    if resource.get("resourceType") != row.name:
        raise FhirProblemError(
            400, IssueType.INVALID, f"the body is no {row.name}", f"{row.name}.resourceType"
        )


def _same_id(resource: dict[str, Any], resource_id: str) -> None:
    if not ID.match(resource_id):
        raise FhirProblemError(400, IssueType.VALUE, "an id has 1 to 64 of A-Z a-z 0-9 - .", "http.path")
    if resource.get("id") != resource_id:
        raise FhirProblemError(
            400,
            IssueType.INVALID,
            "the id in the body is not the one in the path",
            f"{resource['resourceType']}.id",
        )


def create_in(
    api: Api, request: Request, connection: Connection, resource: dict[str, Any], if_none_exist: str | None
) -> Saved:
    """Create within a transaction; the only match of ``if_none_exist`` is answered instead.

    Raises:
        FhirProblemError: Invalid, not permitted, or 412 for more than one match.
    """
    resource_type = resource["resourceType"]
    if if_none_exist:
        # one at a time, or two clients would both find nothing
        fhir_resources.lock_name(connection, f"create {resource_type}")
        found = matches(api, request, connection, resource_type, if_none_exist)
        if found:
            return Saved(outcome=SaveOutcome.UNCHANGED, resource=found[0])
    return _save(api, request, connection, {**resource, "id": str(uuid4())}, access="c", version=None)


def matches(
    api: Api, request: Request, connection: Connection, resource_type: str, query: str
) -> list[StoredResource]:
    """The one match of a condition, or none.

    Raises:
        FhirProblemError: 412 for more than one, 400 for a condition that selects nothing.
    """
    pairs = parse_qsl(query.partition("?")[2] or query)
    grant = request.principal.grant(resource_type, "s")
    criteria, either = restriction(resource_type, grant, api.base_url)
    wanted = parse(resource_type, pairs, strict=True, base_url=api.base_url).search
    if not wanted.criteria:
        raise FhirProblemError(
            400, IssueType.VALUE, "the condition has no search parameter", "http.if-none-exist"
        )
    may_chain(request.principal, wanted.criteria)
    found = fhir_search.search(
        connection,
        Search(resource_type=resource_type, criteria=(*wanted.criteria, *criteria), either=either, count=2),
    ).resources
    if len(found) > 1:
        raise FhirProblemError(
            412, IssueType.MULTIPLE_MATCHES, f"more than one {resource_type} matches", "http.if-none-exist"
        )
    return list(found)


def update_in(
    api: Api, request: Request, connection: Connection, resource: dict[str, Any], version: int | None
) -> Saved:
    """Update, or create under a given id, within a transaction.

    Raises:
        FhirProblemError: Invalid or not permitted.
        FhirVersionConflictError: The current version is not the expected one.
    """
    return _save(api, request, connection, resource, access="u", version=version)


def _save(
    api: Api,
    request: Request,
    connection: Connection,
    resource: dict[str, Any],
    *,
    access: str,
    version: int | None,
) -> Saved:
    resource_type = resource["resourceType"]
    check(resource)
    grant = request.principal.grant(resource_type, access)
    if grant.alternatives:
        raise FhirProblemError(
            403, IssueType.FORBIDDEN, "a scope with search constraints does not write", "http.authorization"
        )
    subscriber = None
    if resource_type == "Subscription":
        resource, subscriber = subscriptions.prepare(api, request, connection, resource)
    draft = draft_of(resource, base_url=api.base_url, expected_version=version)
    if grant.patient is not None:
        current = fhir_resources.read(connection, resource_type, draft.resource_id)
        owners = {draft.index.patient, current.patient if current else grant.patient}
        if owners != {grant.patient}:
            raise FhirProblemError(
                403, IssueType.FORBIDDEN, "this is another patient's record", "http.authorization"
            )
    saved = fhir_resources.save(connection, [draft], author=request.principal.client_id)[0]
    if subscriber is not None:
        fhir_subscriptions.put(connection, subscriber)
    return saved


def _written(api: Api, request: Request, saved: Saved) -> Response:
    stored = saved.resource
    path = f"{stored.resource_type}/{stored.resource_id}"
    created = saved.outcome is SaveOutcome.CREATED
    headers = (("Location", f"{api.base_url}/{path}/_history/{stored.version_id}"), *version_headers(stored))
    preference = request.prefers("return")
    if preference == "minimal":
        body = b""
    elif preference == "operationoutcome":
        text = f"{path} is at version {stored.version_id}"
        note = Issue(code=IssueType.INFORMATIONAL, diagnostics=text, severity="information")
        body = dumps(operation_outcome((note,))).encode()
    else:
        body = stored.body.encode()
    return Response(
        status=201 if created else 200,
        body=body,
        headers=headers,
        touched=(path,),
        patients=(stored.patient,) if stored.patient else (),
    )


# --- transaction and batch


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
    _same_type(row, resource)
    if method == "PUT":
        _same_id(resource, parts[1])
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
        return _save(api, request, connection, resource, access=access, version=entry.version)
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
