"""Which handler serves which path: one table, read by the router, the CapabilityStatement and OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reporting.fhir import smart
from reporting.fhir.access import EVERYTHING, NOBODY, Principal
from reporting.fhir.described import metadata, openapi
from reporting.fhir.http import Api, Handler, Request, Response
from reporting.fhir.options import FORM_OPTIONS, once_each, unknown_options
from reporting.fhir.outcome import FhirProblemError, IssueType, status_of
from reporting.fhir.persons.principal import known_person
from reporting.fhir.read import export, operations, reading
from reporting.fhir.search import searching
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.write import transactions, validation, withdrawal, writing
from reporting.outcomes.measure import MEASURE_ID, evaluate_measure, measure
from service.errors import DatabaseUnavailableError, FhirError


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of the table."""

    method: str
    pattern: tuple[str, ...]  # ``{name}`` takes any one segment
    handler: Handler
    public: bool = False  # needs no token
    name: str = ""  # interaction or operation, for the audit and the documents
    options: frozenset[str] | None = frozenset()  # beside the form's; None: its handler checks them


def _asked_either_way(pattern: tuple[str, ...], handler: Handler, name: str) -> tuple[Route, Route]:
    """An operation that is asked by GET or POST, and checks its parameters wherever they are."""
    get = Route(method="GET", pattern=pattern, handler=handler, name=name, options=None)
    return get, replace(get, method="POST")


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        pattern=("metadata",),
        handler=metadata.capabilities,
        public=True,
        name="capabilities",
        options=metadata.OPTIONS,
    ),
    Route(method="GET", pattern=("openapi.json",), handler=openapi.document, public=True, name="openapi"),
    Route(
        method="GET",
        pattern=(".well-known", "smart-configuration"),
        handler=smart.configuration,
        public=True,
        name="smart-configuration",
    ),
    Route(method="POST", pattern=("auth", "token"), handler=smart.token, public=True, name="token"),
    *_asked_either_way(("$export",), export.export_system, "$export"),
    *_asked_either_way(("Patient", "$export"), export.export_patients, "$export"),
    Route(method="GET", pattern=("$export-status", "{id}"), handler=export.status, name="$export-status"),
    Route(method="DELETE", pattern=("$export-status", "{id}"), handler=export.cancel, name="$export-cancel"),
    Route(
        method="GET", pattern=("$export-file", "{id}", "{place}"), handler=export.file, name="$export-file"
    ),
    Route(method="POST", pattern=(), handler=transactions.transaction_bundle, name="transaction"),
    Route(method="GET", pattern=("Binary", "{id}"), handler=operations.binary, name="read"),
    *_asked_either_way(("Observation", "$lastn"), operations.last_n, "$lastn"),
    Route(
        method="POST",
        pattern=("Observation", "{id}", "$withdraw"),
        handler=withdrawal.withdraw_operation,
        name="$withdraw",
    ),
    Route(method="GET", pattern=("Measure", MEASURE_ID), handler=measure, name="read"),
    *_asked_either_way(("Measure", MEASURE_ID, "$evaluate-measure"), evaluate_measure, "$evaluate-measure"),
    *_asked_either_way(("Patient", "{id}", "$everything"), operations.everything, "$everything"),
    Route(
        method="POST",
        pattern=("{type}", "$validate"),
        handler=validation.validate,
        name="$validate",
        options=validation.OPTIONS,
    ),
    Route(
        method="POST",
        pattern=("{type}", "{id}", "$validate"),
        handler=validation.validate,
        name="$validate",
        options=validation.OPTIONS,
    ),
    Route(method="POST", pattern=("{type}",), handler=writing.create, name="create"),
    Route(method="PUT", pattern=("{type}", "{id}"), handler=writing.update, name="update"),
    Route(method="GET", pattern=("{type}",), handler=searching.search, name="search-type", options=None),
    Route(
        method="GET",
        pattern=("Patient", "{id}", "{type}"),
        handler=searching.compartment,
        name="search-type",
        options=None,
    ),
    Route(
        method="POST",
        pattern=("Patient", "{id}", "{type}", "_search"),
        handler=searching.search_by_post,
        name="search-type",
        options=None,
    ),
    Route(
        method="POST",
        pattern=("{type}", "_search"),
        handler=searching.search_by_post,
        name="search-type",
        options=None,
    ),
    Route(
        method="GET",
        pattern=("{type}", "_history"),
        handler=reading.type_history,
        name="history-type",
        options=reading.HISTORY_OPTIONS,
    ),
    Route(
        method="GET",
        pattern=("{type}", "{id}"),
        handler=reading.read,
        name="read",
        options=reading.READ_OPTIONS,
    ),
    Route(
        method="GET",
        pattern=("{type}", "{id}", "_history"),
        handler=reading.instance_history,
        name="history-instance",
        options=reading.HISTORY_OPTIONS,
    ),
    Route(
        method="GET",
        pattern=("{type}", "{id}", "_history", "{version}"),
        handler=reading.vread,
        name="vread",
        options=reading.READ_OPTIONS,
    ),
)


def _matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> Mapping[str, str] | None:
    if len(pattern) != len(path):
        return None
    found = {}
    for wanted, segment in zip(pattern, path, strict=True):
        if wanted.startswith("{"):
            if segment.startswith(("$", "_")) or not segment:
                return None
            found[wanted[1:-1]] = segment
        elif wanted != segment:
            return None
    return found


def route_of(method: str, path: tuple[str, ...]) -> tuple[Route, Mapping[str, str]]:
    """Find the route of a path.

    Raises:
        FhirProblemError: 404, or 405 with the methods there are.
    """
    wanted = "GET" if method == "HEAD" else method
    others = set()
    for route in ROUTES:
        parameters = _matches(route.pattern, path)
        if parameters is None:
            continue
        if route.method == wanted:
            return route, parameters
        others.add(route.method)
    if others:
        allow = ", ".join(sorted(others | ({"HEAD"} if "GET" in others else set())))
        raise FhirProblemError(
            405,
            IssueType.NOT_SUPPORTED,
            f"{method} is not served here",
            "http.method",
            headers=(("Allow", allow),),
        )
    raise FhirProblemError(
        404, IssueType.NOT_SUPPORTED, f"nothing is served at /{'/'.join(path)}", "http.path"
    )


def _check_options(route: Route, request: Request) -> None:
    """Check the query of an interaction that has no search.

    Raises:
        FhirProblemError: 400: options contradict each other, or one is unknown and ``handling=strict``.
    """
    if route.options is not None:
        once_each(request.query, route.options - {"_elements"})
        unknown_options(request.query, route.options | FORM_OPTIONS, strict=request.strict)


_NEEDED = {"create": "c", "update": "uc", "search-type": "s"}  # interactions with a body: any of the letters


def check_scope(route: Route, parameters: Mapping[str, str], principal: Principal) -> None:
    """Refuse, before its body is read, what no scope of the caller allows.

    Raises:
        FhirProblemError: 403.
    """
    if route.name == "transaction":
        if any(not scope.patient_level and scope.access & set("cu") for scope in principal.scopes):
            return
        raise FhirProblemError(403, IssueType.FORBIDDEN, "no scope grants writing", "http.authorization")
    needed = "u" if route.name == "$withdraw" else _NEEDED.get(route.name, "")
    kind = parameters.get("type", "Observation" if route.name == "$withdraw" else "")
    if route.method == "GET" or not needed or kind not in RESOURCE_TYPES:
        return
    if not any(principal.may(kind, letter) for letter in needed):
        principal.grant(kind, needed[0])


def refused(api: Api, request: Request, status: int) -> None:
    """Record a request that was refused before it reached a handler.

    Raises:
        DatabaseUnavailableError: It cannot be recorded.
    """
    api.audit.record(replace(request, principal=NOBODY), "$refused", status, None)


def handle(api: Api, request: Request) -> Response:
    """Serve a request: find its route, know its principal, run its handler, record the access."""
    try:
        route, parameters = route_of(request.method, request.path)
    except FhirProblemError as exc:
        refused(api, request, exc.status)
        raise
    request = replace(request, parameters=parameters, principal=NOBODY)
    if route.public:
        return _public(api, route, request)
    status = 500  # unless it is answered or refused below
    response = None
    try:
        principal = EVERYTHING if api.authorizer is None else api.authorizer.principal(request.headers)
        request = replace(request, principal=known_person(api.pool, principal))
        check_scope(route, parameters, request.principal)
        _check_options(route, request)
        response = route.handler(api, request)
        status = response.status
    except FhirError as exc:
        status = status_of(exc)
        raise
    except DatabaseUnavailableError:
        status = 503
        raise
    finally:
        api.audit.record(request, route.name, status, response)
    return response


def _public(api: Api, route: Route, request: Request) -> Response:
    """Serve what needs no token; what is refused, as a wrong assertion, is recorded."""
    try:
        _check_options(route, request)
        response = route.handler(api, request)
    except FhirError as exc:
        refused(api, request, status_of(exc))
        raise
    if response.status >= 400:
        refused(api, request, response.status)
    return response
