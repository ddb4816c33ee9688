"""create and update: how surgery dates, procedures and surgeons reach us from the EHR."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.database.records import Draft, Saved, SaveOutcome, Search, StoredResource
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.database.subscriptions import Subscriber
from reporting.fhir.http import Api, Request, Response, expected_version, require, version_headers
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType, operation_outcome
from reporting.fhir.persons.changing import save_patients
from reporting.fhir.render import draft_of, dumps
from reporting.fhir.search.restrict import may_chain, restriction
from reporting.fhir.search.search_request import parse
from reporting.fhir.search_table import Interaction, ResourceType
from reporting.fhir.subscriptions import rules as subscriptions
from reporting.fhir.valid.validate import ID, check
from reporting.fhir.write.references import claim, settle
from service.database.pool import Connection, in_transaction

_MOST_WARNINGS = 10  # headers of an answer; an OperationOutcome has all


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is saved of a resource that a client writes."""

    resource: dict[str, Any]
    draft: Draft
    subscriber: Subscriber | None  # of a Subscription
    notes: tuple[Issue, ...]  # about its references


@dataclass(frozen=True, kw_only=True)
class Written:
    """A resource that was saved, or was there already."""

    saved: Saved
    notes: tuple[Issue, ...] = ()


def lock_of(resource_type: str, resource_id: str = "") -> str:
    """Name of the lock that is held to create a resource, or one of a type, where there is none yet."""
    return f"create {resource_type}/{resource_id}" if resource_id else f"create {resource_type}"


def create(api: Api, request: Request) -> Response:
    """``POST [type]``, conditional with If-None-Exist."""
    row = request.resource_type
    require(row, Interaction.CREATE)
    may_write(request, row.name, "c")
    resource = request.resource()
    same_type(row, resource)
    condition = request.headers.get("if-none-exist")
    written = in_transaction(
        api.pool, lambda connection: create_in(api, request, connection, resource, condition)
    )
    return _answer(api, request, written)


def update(api: Api, request: Request) -> Response:
    """``PUT [type]/[id]``, conditional with If-Match; creates what does not exist."""
    row = request.resource_type
    require(row, Interaction.UPDATE)
    may_write(request, row.name, "u")
    resource = request.resource()
    same_type(row, resource)
    same_id(resource, request.parameters["id"])
    if "if-none-exist" in request.headers:
        raise FhirProblemError(
            400, IssueType.INVALID, "If-None-Exist is for a create by POST", "http.if-none-exist"
        )
    condition, version = request.headers.get("if-none-match"), expected_version(request)

    def work(connection: Connection) -> Written:
        if condition is not None:
            must_be_new(connection, resource, condition)
        if request.headers.get("if-match", "").strip() == "*":
            must_exist(connection, resource)
        prepared = prepare(api, request, connection, resource, access="u", version=version)
        return save(api, request, connection, [prepared])[0]

    return _answer(api, request, in_transaction(api.pool, work))


def may_write(request: Request, resource_type: str, access: str) -> None:
    """Check that a client may write a type, before anything is looked up for it.

    A patient's token never may, and a refusal must not tell who else is known here.

    Raises:
        FhirProblemError: 403.
    """
    if request.principal.grant(resource_type, access).alternatives:
        raise FhirProblemError(
            403, IssueType.FORBIDDEN, "a scope with search constraints does not write", "http.authorization"
        )


def must_exist(connection: Connection, resource: dict[str, Any]) -> None:
    """If-Match: * (RFC 9110 section 13.1.1): replace, but create nothing.

    Raises:
        FhirProblemError: 412: there is no such resource.
    """
    if fhir_resources.read(connection, resource["resourceType"], resource["id"]) is None:
        name = f"{resource['resourceType']}/{resource['id']}"
        raise FhirProblemError(412, IssueType.CONFLICT, f"{name} does not exist", "http.if-match")


def must_be_new(connection: Connection, resource: dict[str, Any], condition: str) -> None:
    """If-None-Match: * (RFC 9110 section 13.1.2): create under this id, but replace nothing.

    Raises:
        FhirProblemError: 412: the resource exists; 400: the condition is another.
    """
    if condition.strip() != "*":
        raise FhirProblemError(400, IssueType.VALUE, "If-None-Match of an update is *", "http.if-none-match")
    name = f"{resource['resourceType']}/{resource['id']}"
    fhir_resources.lock_name(connection, lock_of(resource["resourceType"], resource["id"]))
    if fhir_resources.read(connection, resource["resourceType"], resource["id"]) is not None:
        raise FhirProblemError(412, IssueType.CONFLICT, f"{name} exists", "http.if-none-match")


def same_type(row: ResourceType, resource: dict[str, Any]) -> None:
    """Check that a body is of the type in the path.

    Raises:
        FhirProblemError: 400.
    """
    if resource.get("resourceType") != row.name:
        raise FhirProblemError(
            400, IssueType.INVALID, f"the body is no {row.name}", f"{row.name}.resourceType"
        )


def same_id(resource: dict[str, Any], resource_id: str) -> None:
    """Check that a body has the id in the path.

    Raises:
        FhirProblemError: 400.
    """
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
) -> Written:
    """Create within a transaction; the only match of ``if_none_exist`` is answered instead.

    Raises:
        FhirProblemError: Invalid, not permitted, or 412 for more than one match.
    """
    resource_type = resource["resourceType"]
    if if_none_exist is not None:
        # one at a time, or two clients would both find nothing
        fhir_resources.lock_name(connection, lock_of(resource_type))
        with condition_at("http.if-none-exist"):
            found = matches(api, request, connection, resource_type, if_none_exist)
        if found:
            return Written(saved=Saved(outcome=SaveOutcome.UNCHANGED, resource=found[0]))
    new = {**resource, "id": str(uuid4())}
    return save(api, request, connection, [prepare(api, request, connection, new, access="c")])[0]


@contextmanager
def condition_at(expression: str) -> Iterator[None]:
    """Say of a condition that is refused where it was given."""
    try:
        yield
    except FhirProblemError as exc:
        if exc.status == 403:
            raise
        issues = tuple(replace(issue, expression=expression) for issue in exc.issues)
        raise FhirProblemError(exc.status, issues=issues) from exc


def matches(
    api: Api, request: Request, connection: Connection, resource_type: str, query: str
) -> list[StoredResource]:
    """The one match of a condition, or none.

    Raises:
        FhirProblemError: 412 for more than one, 400 for a condition that selects nothing.
    """
    place, _, search = query.rpartition("?")
    if place not in ("", resource_type, f"{api.base_url}/{resource_type}"):
        raise FhirProblemError(
            400, IssueType.VALUE, f"the condition is not about {resource_type}", "http.if-none-exist"
        )
    pairs = parse_qsl(search, keep_blank_values=True)
    grant = request.principal.grant(resource_type, "s")
    criteria, either = restriction(resource_type, grant, api.site)
    wanted = parse(resource_type, pairs, strict=True, site=api.site).search
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


def prepare(
    api: Api,
    request: Request,
    connection: Connection,
    resource: dict[str, Any],
    *,
    access: str,
    version: int | None = None,
    planned: Collection[tuple[str, str]] = (),
) -> Prepared:
    """Check a resource that a client writes, and make what is saved of it.

    Args:
        api: Of the process.
        request: Whose principal writes.
        connection: In the transaction that saves it.
        resource: With its id.
        access: ``c`` or ``u``.
        version: The version it replaces; None for any.
        planned: (type, id) of what is saved in the same transaction.

    Raises:
        FhirProblemError: Invalid or not permitted.
    """
    resource_type = resource["resourceType"]
    may_write(request, resource_type, access)
    check(resource)
    _must_be_whole(resource)
    issuers = api.settings.fhir_identifier_systems
    settled = settle(connection, resource, api.site, issuers, planned)
    resource, subscriber = settled.resource, None
    if resource_type == "Subscription":
        resource, subscriber = subscriptions.prepare(api, request, connection, resource)
    draft = draft_of(resource, site=api.site, expected_version=version)
    return Prepared(resource=resource, draft=draft, subscriber=subscriber, notes=settled.notes)


def _must_be_whole(resource: dict[str, Any]) -> None:
    """Check that a resource is not what a search left of one.

    Raises:
        FhirProblemError: 422: saving it would delete what it lacks.
    """
    if any(tag.get("code") == "SUBSETTED" for tag in resource.get("meta", {}).get("tag", [])):
        text = (
            "a part of a resource (SUBSETTED) is not written: read all of it, without _elements and _summary"
        )
        where = f"{resource['resourceType']}.meta.tag"
        raise FhirProblemError(422, IssueType.INCOMPLETE, text, where)


def save(api: Api, request: Request, connection: Connection, prepared: Sequence[Prepared]) -> list[Written]:
    """Save what was prepared of one type, at once: rows are locked in one order, whatever is asked for.

    Raises:
        FhirVersionConflictError: The current version is not the expected one.
    """
    author = request.principal.client_id
    drafts = [each.draft for each in prepared]
    if {draft.resource_type for draft in drafts} == {"Patient"}:
        saved = save_patients(connection, drafts, author=author, site=api.site)
    else:
        saved = fhir_resources.save(connection, drafts, author=author)
    for each, done in zip(prepared, saved, strict=True):
        if each.subscriber is not None:
            fhir_subscriptions.put(connection, each.subscriber)
        if each.draft.resource_type == "Patient" and done.outcome is not SaveOutcome.UNCHANGED:
            claim(connection, each.resource, api.site, api.settings.fhir_identifier_systems, author=author)
    return [Written(saved=done, notes=each.notes) for each, done in zip(prepared, saved, strict=True)]


def _answer(api: Api, request: Request, written: Written) -> Response:
    stored = written.saved.resource
    path = f"{stored.resource_type}/{stored.resource_id}"
    created = written.saved.outcome is SaveOutcome.CREATED
    headers = (("Location", f"{api.base_url}/{path}/_history/{stored.version_id}"), *version_headers(stored))
    headers += tuple(
        ("Warning", f"299 - {dumps(_in_header(note))}") for note in written.notes[:_MOST_WARNINGS]
    )
    preference = request.prefers("return")
    if preference == "minimal":
        body = b""
    elif preference == "operationoutcome":
        text = f"{path} is at version {stored.version_id}"
        note = Issue(code=IssueType.INFORMATIONAL, diagnostics=text, severity="information")
        body = dumps(operation_outcome((note, *written.notes))).encode()
    else:
        body = stored.body.encode()
    return Response(
        status=201 if created else 200,
        body=body,
        headers=headers,
        touched=(path,),
        patients=(stored.patient,) if stored.patient else (),
    )


def _in_header(note: Issue) -> str:
    """A note as a header can hold it."""
    return f"{note.expression}: {note.diagnostics}".encode("ascii", "replace").decode()
