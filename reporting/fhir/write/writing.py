"""create and update: how surgery dates, procedures and surgeons reach us from the EHR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import search as fhir_search
from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.database.records import Saved, SaveOutcome, Search, StoredResource
from reporting.fhir.http import Api, Request, Response, expected_version, require, version_headers
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType, operation_outcome
from reporting.fhir.persons.changing import save_patients
from reporting.fhir.render import draft_of, dumps
from reporting.fhir.search.restrict import may_chain, restriction
from reporting.fhir.search.search_request import parse
from reporting.fhir.search_table import Interaction, ResourceType
from reporting.fhir.subscriptions import rules as subscriptions
from reporting.fhir.valid.validate import ID, check
from service.database.pool import Connection, transaction


def create(api: Api, request: Request) -> Response:
    """``POST [type]``, conditional with If-None-Exist."""
    row = request.resource_type
    require(row, Interaction.CREATE)
    may_write(request, row.name, "c")
    resource = request.resource()
    same_type(row, resource)
    with transaction(api.pool) as connection:
        saved = create_in(api, request, connection, resource, request.headers.get("if-none-exist"))
    return _written(api, request, saved)


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
    with transaction(api.pool) as connection:
        condition = request.headers.get("if-none-match")
        if condition is not None:
            must_be_new(connection, resource, condition)
        version = expected_version(request)
        if request.headers.get("if-match", "").strip() == "*":
            must_exist(connection, resource)
        saved = update_in(api, request, connection, resource, version)
    return _written(api, request, saved)


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
    fhir_resources.lock_name(connection, f"create {name}")
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
) -> Saved:
    """Create within a transaction; the only match of ``if_none_exist`` is answered instead.

    Raises:
        FhirProblemError: Invalid, not permitted, or 412 for more than one match.
    """
    resource_type = resource["resourceType"]
    if if_none_exist is not None:
        # one at a time, or two clients would both find nothing
        fhir_resources.lock_name(connection, f"create {resource_type}")
        with condition_at("http.if-none-exist"):
            found = matches(api, request, connection, resource_type, if_none_exist)
        if found:
            return Saved(outcome=SaveOutcome.UNCHANGED, resource=found[0])
    return save(api, request, connection, {**resource, "id": str(uuid4())}, access="c", version=None)


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
    return save(api, request, connection, resource, access="u", version=version)


def save(
    api: Api,
    request: Request,
    connection: Connection,
    resource: dict[str, Any],
    *,
    access: str,
    version: int | None,
) -> Saved:
    """Check and save a resource within a transaction.

    Raises:
        FhirProblemError: Invalid or not permitted.
        FhirVersionConflictError: The current version is not the expected one.
    """
    resource_type = resource["resourceType"]
    may_write(request, resource_type, access)
    check(resource)
    subscriber = None
    if resource_type == "Subscription":
        resource, subscriber = subscriptions.prepare(api, request, connection, resource)
    draft = draft_of(resource, base_url=api.base_url, expected_version=version)
    author = request.principal.client_id
    if resource_type == "Patient":
        saved = save_patients(connection, [draft], author=author, base_url=api.base_url)[0]
    else:
        saved = fhir_resources.save(connection, [draft], author=author)[0]
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
