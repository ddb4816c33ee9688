"""The ASGI application of DICOMweb: paths to handlers, errors to answers, every access to the audit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from reporting.dicomweb import rendered, retrieve, search, store
from reporting.dicomweb.call import PATH, Call, Handler, Receive, Service
from reporting.dicomweb.problem import DicomwebError
from reporting.fhir import http as fhir_http
from reporting.fhir.access import EVERYTHING, NOBODY
from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.guard import base_url_of
from reporting.fhir.http import Api
from reporting.fhir.outcome import FhirProblemError
from reporting.fhir.persons.principal import known_person
from reporting.holdings.database.holding_records import Level
from reporting.holdings.recoding import Recoder
from reporting.identifiers import fhir_id
from reporting.wire.problem import database_unavailable, problem
from service.database.pool import transaction
from service.errors import (
    CorruptInstanceError,
    DatabaseUnavailableError,
    InconsistentInstanceError,
    InstanceNotStoredError,
    RecordNotFoundError,
)

_log = structlog.get_logger(__name__)

_STUDY, _SERIES = "/studies/{study}", "/studies/{study}/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_SEARCHES: tuple[tuple[str, Level], ...] = (
    ("/studies", Level.STUDY),
    ("/series", Level.SERIES),
    ("/instances", Level.IMAGE),
    (_STUDY + "/series", Level.SERIES),
    (_STUDY + "/instances", Level.IMAGE),
    (_SERIES + "/instances", Level.IMAGE),
)
_RETRIEVALS: tuple[tuple[str, Handler], ...] = (
    *((path, retrieve.instances) for path in (_STUDY, _SERIES, _INSTANCE)),
    *((path + "/metadata", retrieve.metadata) for path in (_STUDY, _SERIES, _INSTANCE)),
    *((path + "/rendered", rendered.rendered) for path in (_STUDY, _SERIES, _INSTANCE)),
    *((path + "/thumbnail", rendered.thumbnail) for path in (_STUDY, _SERIES, _INSTANCE)),
    (_INSTANCE + "/bulkdata/{place:path}", retrieve.bulk_data),
    (_INSTANCE + "/frames/{frames}", retrieve.listed_frames),
    (_INSTANCE + "/frames/{frames}/rendered", rendered.rendered),
    (_INSTANCE + "/frames/{frames}/thumbnail", rendered.thumbnail),
)
_MOST_AUDITED = 100  # studies named in one audit event


def dicomweb_app(api: Api, receive: Receive | None = None) -> Mount:
    """Make the application; it is served below PATH.

    Args:
        api: Database, store, authorisation and audit, shared with the FHIR API.
        receive: Takes instances in; None: STOW-RS answers 404.
    """
    base_url = api.base_url.removesuffix("/fhir") + PATH
    service = Service(api=api, base_url=base_url, receive=receive, recoder=Recoder(api.store))
    routes = [
        Route(path, _endpoint(service, partial(search.search, level=level), "search-type", "s"))
        for path, level in _SEARCHES
    ]
    routes += [Route(path, _endpoint(service, handler, "read", "r")) for path, handler in _RETRIEVALS]
    routes += [Route(path, _storing(service), methods=["POST"]) for path in ("/studies", "/studies/{study}")]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(api.settings.dicomweb_allowed_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["accept", "authorization", "content-type", "if-none-match", "range"],
        expose_headers=["content-range", "etag", "warning"],
    )
    middleware = [cors] if api.settings.dicomweb_allowed_origins else []
    return Mount(PATH, app=Starlette(routes=routes, middleware=middleware))


def _endpoint(
    service: Service, handler: Handler, interaction: str, access: str
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return await run_in_threadpool(_serve, service, request, handler, interaction, access)

    return serve


def _serve(service: Service, request: Request, handler: Handler, interaction: str, access: str) -> Response:
    call = None
    service = _called(service, request)
    try:
        call = _call(service, request, access)
        response = handler(call)
    except Exception as exc:  # noqa: BLE001 - the border: what fails is answered, and recorded as what it was
        response = _refusal(exc)
    return _recorded(service, request, call, interaction, response)


def _storing(service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        call = None
        try:
            call = await run_in_threadpool(_call, _called(service, request), request, "c")
            if call.patients is not None:
                response = _refusal(DicomwebError(403, "a patient's token does not store"))
            else:
                response = await store.receive(call)
        except Exception as exc:  # noqa: BLE001 - as above
            response = _refusal(exc)
        return await run_in_threadpool(_recorded, service, request, call, "create", response)

    return serve


def _called(service: Service, request: Request) -> Service:
    """The service under the base URL it was called by."""
    peer = request.client.host if request.client is not None else ""
    base_url = base_url_of(service.api.settings, peer, dict(request.headers))
    return replace(service, base_url=base_url.removesuffix("/fhir") + PATH)


def _call(service: Service, request: Request, access: str) -> Call:
    """Know who asks, and what of the studies they may see: as of ImagingStudy.

    Raises:
        FhirProblemError: 401, 403.
        DicomwebError: 403.
    """
    authorizer = service.api.authorizer
    principal = EVERYTHING if authorizer is None else authorizer.principal(dict(request.headers))
    principal = known_person(service.api.pool, principal)
    grant = principal.grant("ImagingStudy", access)
    if grant.alternatives:
        raise DicomwebError(403, "scopes with search constraints do not open DICOMweb")
    return Call(service=service, request=request, principal=principal, patients=grant.patients)


def _refusal(error: Exception) -> Response:
    if isinstance(error, DicomwebError | FhirProblemError):
        return problem(error.status, str(error), dict(error.headers))
    if isinstance(error, DatabaseUnavailableError):
        _log.warning("dicomweb.database_unavailable")
        return database_unavailable()
    if isinstance(error, RecordNotFoundError):
        return problem(404, str(error))
    if isinstance(error, InconsistentInstanceError):
        return problem(406, "the instance is not what its header says")
    if isinstance(error, InstanceNotStoredError | CorruptInstanceError):
        _log.error("dicomweb.instance_damaged", error=type(error).__name__)
        return problem(500, "the instance's bytes are missing or damaged")
    _log.error("dicomweb.failed", exc_info=error)
    return problem(500, "failed")


def _recorded(
    service: Service,
    request: Request,
    call: Call | None,
    interaction: str,
    response: Response,
) -> Response:
    """Record the access; if that fails, so does the request."""
    asked = fhir_http.Request(
        method=request.method,
        path=tuple(request.url.path.strip("/").split("/")),
        query=tuple(request.query_params.multi_items()),
        headers={},
        body=b"",
        principal=call.principal if call is not None else NOBODY,
        peer=request.client.host if request.client is not None else "",
    )
    try:
        touched, patients = _shown(service, call)
        answered = fhir_http.Response(status=response.status_code, touched=touched, patients=patients)
        service.api.audit.record(asked, interaction, response.status_code, answered)
    except DatabaseUnavailableError as exc:
        return _refusal(exc)
    response.headers.setdefault("Cache-Control", "no-cache, private")
    response.headers.setdefault("Vary", "Accept, Origin")
    return response


def _shown(service: Service, call: Call | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """References to the ImagingStudies that were shown, and logical ids of their Patients."""
    studies = sorted(call.studies)[:_MOST_AUDITED] if call is not None else []
    if not studies:
        return (), ()
    ids = [fhir_id("ImagingStudy", study) for study in studies]
    with transaction(service.api.pool) as connection:
        patients = fhir_persons.persons_of(connection, call.shown if call is not None else ())
    return tuple(f"ImagingStudy/{each}" for each in ids), tuple(sorted(set(patients.values())))
