"""An AuditEvent of every access (IHE Basic Audit Log Patterns), kept before the answer leaves.

If it cannot be kept the request fails: nothing is shown that is not recorded.
"""

from __future__ import annotations

import base64
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import structlog

from reporting.fhir.database import audit as fhir_audit
from reporting.fhir.database.audit import NewEvent
from reporting.fhir.database.records import StoredResource, instant
from reporting.fhir.http import Request, Response
from reporting.fhir.render import draft_of
from reporting.fhir.site import Site
from service.errors import DatabaseUnavailableError

_MOST_AT_ONCE = 200
_MOST_ENTITIES = 100
_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_OBJECT = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_SOURCE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_SOURCE_OF_EVENTS = {
    "observer": {"display": "Semblance"},
    "type": [{"system": _SOURCE, "code": "4", "display": "Application Server"}],
}
_ASKED_IN_BODY = ("search-type", "$lastn", "$everything", "$export", "$withdraw")
_ACTIONS = {"create": "C", "update": "U", "transaction": "E", "read": "R", "vread": "R"}

log = structlog.get_logger(__name__)


@dataclass
class _Waiting:
    """An event that is to be kept."""

    event: NewEvent
    kept: bool = False
    failure: DatabaseUnavailableError | None = None


class AuditLog:
    """Keeps AuditEvents; one a process, used by all its threads.

    Whoever gets the turn keeps everything that waits, so that requests at the same time share one
    transaction and one alone costs no change of threads.

    Args:
        database_url: Of PostgreSQL.
        site: Of this server.
    """

    def __init__(self, database_url: str, site: Site) -> None:
        self._site = site
        self._appender = fhir_audit.Appender(database_url)
        self._turn = threading.Lock()
        self._waiting: deque[_Waiting] = deque()

    def record(self, request: Request, interaction: str, status: int, response: Response | None) -> None:
        """Keep the event of an access; returns when it is kept.

        Raises:
            DatabaseUnavailableError: It cannot be kept.
        """
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self.keep(audit_event(request, interaction, status, response, now))

    def keep(self, event: Mapping[str, Any]) -> None:
        """Keep an AuditEvent; returns when it is kept.

        Args:
            event: A valid resource with an id of its own.

        Raises:
            DatabaseUnavailableError: It cannot be kept.
        """
        mine = _Waiting(NewEvent(draft=draft_of(event, site=self._site)))
        self._waiting.append(mine)
        with self._turn:
            while not mine.kept and mine.failure is None:
                self._keep([self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))])
        if mine.failure is not None:
            raise DatabaseUnavailableError("the access could not be recorded") from mine.failure

    def _keep(self, batch: list[_Waiting]) -> None:
        failure: DatabaseUnavailableError | None = DatabaseUnavailableError("not tried to the end")
        try:
            self._appender.append([each.event for each in batch])
            failure = None
        except DatabaseUnavailableError as exc:
            log.warning("fhir.audit_not_kept", events=len(batch), error=str(exc))
            failure = exc
        finally:  # whatever ended it, nobody waits for ever
            for each in batch:
                each.kept, each.failure = failure is None, failure

    def close(self) -> None:
        """Close the connection once nobody writes."""
        with self._turn:
            self._appender.close()


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
        "source": _SOURCE_OF_EVENTS,
        "entity": _entities(request, interaction, response),
    }


def disclosure(version: StoredResource, client_id: str, endpoint: str, *, full: bool) -> dict[str, Any]:
    """Make the AuditEvent of a notification that left for a subscriber.

    Args:
        version: What it is about.
        client_id: Who subscribed.
        endpoint: Where it went; its query is left out, it may hold a secret.
        full: Whether the resource itself went.
    """
    entities = [_entity(f"{version.resource_type}/{version.resource_id}", "2", "4", "Domain Resource")]
    if version.patient:
        entities.insert(0, _entity(f"Patient/{version.patient}", "1", "1", "Patient"))
    us: dict[str, Any] = {
        "type": {"coding": [{"system": _DCM, "code": "110153", "display": "Source Role ID"}]},
        "who": {"display": "Semblance"},
        "requestor": True,
    }
    them: dict[str, Any] = {
        "type": {"coding": [{"system": _DCM, "code": "110152", "display": "Destination Role ID"}]},
        "who": {"identifier": {"value": client_id}},
        "requestor": False,
        "network": {"address": endpoint.partition("?")[0], "type": "5"},
    }
    return {
        "resourceType": "AuditEvent",
        "id": str(uuid4()),
        "type": {"system": _DCM, "code": "110106", "display": "Export"},
        "subtype": [{"system": _INTERACTION, "code": "update" if full else "operation"}],
        "action": "R",
        "recorded": instant(datetime.now(UTC)),
        "outcome": "0",
        "outcomeDesc": "notified",
        "agent": [us, them],
        "source": _SOURCE_OF_EVENTS,
        "entity": entities,
    }


def withdrawal(
    observation_ids: Sequence[str], patient: str | None, who: str, command: str, outcome: str
) -> dict[str, Any]:
    """Make the AuditEvent of results that were taken back by command or note, or are issued again after it.

    Over HTTP the request has its own.

    Args:
        observation_ids: Logical ids of the results.
        patient: Logical id of whose they are.
        who: User who did it.
        command: What was run, with the reason.
        outcome: What became of the results, in words.
    """
    entities = [_entity(f"Observation/{each}", "2", "4", "Domain Resource") for each in observation_ids]
    entities.append(_query(command))
    if patient:
        entities.insert(0, _entity(f"Patient/{patient}", "1", "1", "Patient"))
    return {
        "resourceType": "AuditEvent",
        "id": str(uuid4()),
        "type": {"system": _DCM, "code": "110110", "display": "Patient Record"},
        "subtype": [{"system": _INTERACTION, "code": "operation"}],
        "action": "U",
        "recorded": instant(datetime.now(UTC)),
        "outcome": "0",
        "outcomeDesc": outcome,
        "agent": [{"who": {"identifier": {"value": who}}, "requestor": True}],
        "source": _SOURCE_OF_EVENTS,
        "entity": entities,
    }


def identity_change(patient: str, before: str, after: str, who: str) -> dict[str, Any]:
    """Make the AuditEvent of a Patient that another one stands for now.

    Args:
        patient: Logical id.
        before: Logical id of who stood for it before.
        after: Logical id of who stands for it now; itself where it is alone again.
        who: Client, sender of the message or user that brought it about.
    """
    entities = [
        _entity(f"Patient/{each}", "1", "1", "Patient") for each in dict.fromkeys((patient, before, after))
    ]
    done = f"Patient/{patient}: Patient/{before} stood for it, Patient/{after} stands for it now"
    return {
        "resourceType": "AuditEvent",
        "id": str(uuid4()),
        "type": {"system": _DCM, "code": "110110", "display": "Patient Record"},
        "subtype": [{"system": _INTERACTION, "code": "update"}],
        "action": "U",
        "recorded": instant(datetime.now(UTC)),
        "outcome": "0",
        "outcomeDesc": done,
        "agent": [{"who": {"identifier": {"value": who}}, "requestor": True}],
        "source": _SOURCE_OF_EVENTS,
        "entity": entities,
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
    if interaction in _ASKED_IN_BODY and request.body:
        asked += f" {request.body.decode('utf-8', 'replace')}"
    made.append(_query(f"{request.method} {asked}"))
    return made


def _query(text: str) -> dict[str, Any]:
    return {
        "type": {"system": _OBJECT, "code": "2", "display": "System Object"},
        "role": {"system": _ROLE, "code": "24", "display": "Query"},
        "query": base64.b64encode(text.encode()).decode(),
    }


def _entity(reference: str, kind: str, role: str, display: str) -> dict[str, Any]:
    names = {"1": "Person", "2": "System Object"}
    return {
        "what": {"reference": reference},
        "type": {"system": _OBJECT, "code": kind, "display": names[kind]},
        "role": {"system": _ROLE, "code": role, "display": display},
    }
