"""An AuditEvent of every access (IHE Basic Audit Log Patterns), kept before the answer leaves.

Events of requests that run at the same time share one transaction. If they cannot be kept the request
fails: nothing is shown that is not recorded.
"""

from __future__ import annotations

import base64
import queue
import threading
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import structlog

from reporting.fhir.http import Request, Response
from reporting.fhir.render import draft_of
from service.database import fhir_audit
from service.database.fhir_records import Draft, instant
from service.database.pool import Pool, transaction
from service.errors import DatabaseUnavailableError

_MOST_AT_ONCE = 200
_MOST_ENTITIES = 100
_WAIT_S = 30.0
_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_OBJECT = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_SOURCE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_ACTIONS = {"create": "C", "update": "U", "transaction": "E", "read": "R", "vread": "R"}

log = structlog.get_logger(__name__)


class AuditLog:
    """Keeps AuditEvents; one a process, with a thread of its own.

    Args:
        pool: Of the database.
        base_url: Of this server.
    """

    def __init__(self, pool: Pool, base_url: str) -> None:
        self._pool = pool
        self._base_url = base_url
        self._queue: queue.SimpleQueue[tuple[Draft, datetime, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fhir-audit", daemon=True)
        self._thread.start()

    def record(self, request: Request, interaction: str, status: int, response: Response | None) -> None:
        """Keep the event of an access; returns when it is kept.

        Raises:
            DatabaseUnavailableError: It cannot be kept.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        event = audit_event(request, interaction, status, response, now)
        draft = draft_of(event, base_url=self._base_url)
        done: Future[None] = Future()
        self._queue.put((draft, now, done))
        done.result(timeout=_WAIT_S)

    def close(self) -> None:
        """Keep what waits and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < _MOST_AT_ONCE and not self._queue.empty():
                batch.append(self._queue.get())
            items = [item for item in batch if item is not None]
            if items:
                self._keep(items)
            if len(items) < len(batch):
                return

    def _keep(self, items: list[tuple[Draft, datetime, Future[None]]]) -> None:
        try:
            with transaction(self._pool) as connection:
                fhir_audit.append(connection, [i[0] for i in items], [i[1] for i in items])
        except Exception as exc:  # noqa: BLE001 - the waiting requests get it, whatever it is
            log.warning("fhir.audit_not_kept", events=len(items), error=type(exc).__name__)
            failure = DatabaseUnavailableError("the access could not be recorded")
            for _, _, done in items:
                done.set_exception(failure)
        else:
            for _, _, done in items:
                done.set_result(None)


def audit_event(
    request: Request, interaction: str, status: int, response: Response | None, now: datetime
) -> dict[str, Any]:
    """Make the AuditEvent of an access.

    Args:
        request: As it came, with its principal.
        interaction: Of the route.
        status: HTTP status of the answer.
        response: What was answered; None for a refusal.
        now: When.
    """
    client: dict[str, Any] = {
        "type": {"coding": [{"system": _DCM, "code": "110153", "display": "Source Role ID"}]},
        "who": {"identifier": {"value": request.principal.client_id or "unknown"}},
        "requestor": True,
    }
    if request.peer:
        client["network"] = {"address": request.peer, "type": "2"}
    agents = [client]
    if request.principal.user:
        agents.append({"who": {"display": request.principal.user}, "requestor": True})
        client["requestor"] = False
    agents.append(
        {
            "type": {"coding": [{"system": _DCM, "code": "110152", "display": "Destination Role ID"}]},
            "who": {"display": "Semblance"},
            "requestor": False,
        }
    )
    coded = interaction if not interaction.startswith("$") else "operation"
    return {
        "resourceType": "AuditEvent",
        "id": str(uuid4()),
        "type": {"system": _TYPE, "code": "rest", "display": "RESTful Operation"},
        "subtype": [{"system": _INTERACTION, "code": coded}],
        "action": _ACTIONS.get(interaction, "E"),
        "recorded": instant(now),
        "outcome": "0" if status < 400 else "4" if status < 500 else "8",
        "outcomeDesc": f"HTTP {status}",
        "agent": agents,
        "source": {
            "observer": {"display": "Semblance"},
            "type": [{"system": _SOURCE, "code": "4", "display": "Application Server"}],
        },
        "entity": _entities(request, interaction, response),
    }


def _entities(request: Request, interaction: str, response: Response | None) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if response is not None:
        for patient in response.patients[:_MOST_ENTITIES]:
            made.append(_entity(f"Patient/{patient}", "1", "1", "Patient"))
        # a search names the patients whose records it showed; its query tells the rest
        for touched in response.touched[:_MOST_ENTITIES] if interaction != "search-type" else ():
            if "/" in touched and not touched.startswith(("Patient/", "Binary/")):
                made.append(_entity(touched, "2", "4", "Domain Resource"))
    path = "/".join(request.path)
    asked = f"{path}?{urlencode(request.query)}" if request.query else path
    if interaction == "search-type" and request.body:
        asked += f" {request.body.decode('utf-8', 'replace')}"
    made.append(
        {
            "type": {"system": _OBJECT, "code": "2", "display": "System Object"},
            "role": {"system": _ROLE, "code": "24", "display": "Query"},
            "query": base64.b64encode(f"{request.method} {asked}".encode()).decode(),
        }
    )
    return made


def _entity(reference: str, kind: str, role: str, display: str) -> dict[str, Any]:
    names = {"1": "Person", "2": "System Object"}
    return {
        "what": {"reference": reference},
        "type": {"system": _OBJECT, "code": kind, "display": names[kind]},
        "role": {"system": _ROLE, "code": role, "display": display},
    }
