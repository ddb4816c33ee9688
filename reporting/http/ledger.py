"""``GET /ledger/{SOP Instance UID}``: the history of an instance over HTTP, beside the FHIR API.

It is read like the audit trail: by who may read every AuditEvent. Reading it is audited (PS3.15 A.5.3.2).
"""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from reporting.fhir.access import EVERYTHING, Principal
from reporting.fhir.http import Api
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.wire.problem import database_unavailable, problem
from service.audit import events, trail
from service.audit.codes import EventId
from service.audit.from_ledger import source_of
from service.database import instances, ledger
from service.database.pool import Connection, transaction
from service.errors import DatabaseUnavailableError
from service.records import LedgerEntry

PATH = "/ledger"


def ledger_app(api: Api) -> Mount:
    """Make the application; it is served below PATH.

    Args:
        api: Database and authorisation, shared with the FHIR API.
    """

    async def serve(request: Request) -> Response:
        return await run_in_threadpool(_serve, api, request)

    return Mount(PATH, app=Starlette(routes=[Route("/{uid}", serve)]))


def _serve(api: Api, request: Request) -> Response:
    try:
        principal = _principal(api, request)
        with transaction(api.pool) as connection:
            found = _history(connection, str(request.path_params["uid"]))
            _note_use(connection, api, principal, request)
    except FhirProblemError as exc:
        return problem(exc.status, str(exc), dict(exc.headers))
    except DatabaseUnavailableError:
        return database_unavailable()
    headers = {"Cache-Control": "no-store"}
    if not found["ledger"]:
        return problem(404, "nothing is known of that UID", headers)
    return JSONResponse(found, headers=headers)


def _principal(api: Api, request: Request) -> Principal:
    """Who asks, and may read every AuditEvent.

    Raises:
        FhirProblemError: 401, 403.
    """
    if api.authorizer is None:
        return EVERYTHING
    principal = api.authorizer.principal(dict(request.headers))
    grant = principal.grant("AuditEvent", "r")
    if grant.patients is not None or grant.alternatives:
        raise FhirProblemError(403, IssueType.FORBIDDEN, "the ledger is for who may read every AuditEvent")
    return principal


def _history(connection: Connection, uid: str) -> dict[str, object]:
    instance = instances.by_uid(connection, uid)
    return {
        "sop_instance_uid": uid,
        "state": instance.state.value if instance else None,
        "ledger": [_line(entry) for entry in ledger.chain(connection, uid)],
    }


def _line(entry: LedgerEntry) -> dict[str, object]:
    return {
        "ledger_id": entry.ledger_id,
        "at": entry.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "event": entry.event.value,
        "detail": dict(entry.detail),
    }


def _note_use(connection: Connection, api: Api, principal: Principal, request: Request) -> None:
    reader = events.node(
        "",
        request.client.host if request.client is not None else "",
        role=None,
        is_requestor=True,
        name=principal.user or principal.client_id,
    )
    used = events.message(
        EventId.AUDIT_LOG_USED,
        datetime.now(UTC),
        source_of(api.settings),
        participants=(reader,),
        objects=(events.security_log(request.url.path),),
    )
    trail.record(connection, [used])
