"""What is done by pages, written down before the answer leaves: an AuditEvent, and lines of the ledger."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from reporting.fhir.database.records import instant
from reporting.fhir.elements import without_empty
from reporting.fhir.http import Api
from reporting.terminology import DCM, PURPOSE_OF_USE, PURPOSES
from reporting.web.page import Deed, Seen
from service.database import instances, ledger
from service.database.pool import transaction
from service.records import LedgerEvent

_MOST_NAMED = 100  # patients or resources of one event
_OBJECT = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE = "http://terminology.hl7.org/CodeSystem/security-source-type"

# Deed: type of the AuditEvent (DCM, as PS3.16 CID 400), action, event of the ledger.
_TOLD: Mapping[Deed, tuple[str, str, str, LedgerEvent]] = MappingProxyType(
    {
        Deed.LOOK: ("110112", "Query", "E", LedgerEvent.SEARCHED),
        Deed.VIEW: ("110110", "Patient Record", "R", LedgerEvent.VIEWED),
        Deed.ACT: ("110110", "Patient Record", "U", LedgerEvent.ACTED),
        Deed.EXPORT: ("110106", "Export", "R", LedgerEvent.EXPORTED),
    }
)
_LOGINS: Mapping[LedgerEvent, tuple[str, str]] = MappingProxyType(
    {
        LedgerEvent.LOGGED_IN: ("110122", "Login"),
        LedgerEvent.LOGGED_OUT: ("110123", "Logout"),
        LedgerEvent.LOGIN_REFUSED: ("110122", "Login"),
    }
)


def note(api: Api, *, who: str, peer: str, page: str, deed: Deed, seen: Seen, status: int = 200) -> None:
    """Write down what somebody saw or did by a page.

    Args:
        api: Keeps it.
        who: Name of the user.
        peer: Their address.
        page: Its method and path, without the host.
        deed: What it was.
        seen: Of whom.
        status: HTTP status of the answer.

    Raises:
        DatabaseUnavailableError: It cannot be kept; then nothing is shown.
    """
    code, display, action, event = _TOLD[deed]
    happened = {
        "type": {"system": DCM.uri, "code": code, "display": display},
        "action": action,
        "purposeOfEvent": [_purpose(seen.purpose)] if seen.purpose else [],
        "entity": [
            *(_entity(f"Patient/{each}", "1", "1", "Patient") for each in seen.patients[:_MOST_NAMED]),
            *(_entity(each, "2", "4", "Domain Resource") for each in seen.resources[:_MOST_NAMED]),
            _query(f"{page} {seen.query}".strip(), seen.note),
        ],
    }
    api.audit.keep(_event(happened, who, peer, status))
    detail = {"by": who, "peer_address": peer, "page": page}
    detail |= {"purpose": seen.purpose} if seen.purpose else {}
    detail |= {"note": seen.note} if seen.note else {}
    detail |= {"status": str(status)} if status >= 400 else {}
    with transaction(api.pool) as connection:
        known = instances.by_uids(connection, seen.photographs)
        lines: list[tuple[LedgerEvent, int | None, str, Mapping[str, str]]] = [
            (event, known[uid].instance_id if uid in known else None, uid, detail) for uid in seen.photographs
        ]
        ledger.append_many(connection, lines or [(event, None, "", detail)])


def note_login(api: Api, event: LedgerEvent, *, who: str, peer: str, way: str, reason: str = "") -> None:
    """Write down that somebody logged in or out, or was not let in.

    Raises:
        DatabaseUnavailableError: It cannot be kept.
    """
    code, display = _LOGINS[event]
    happened = {
        "type": {"system": DCM.uri, "code": "110114", "display": "User Authentication"},
        "subtype": [{"system": DCM.uri, "code": code, "display": display}],
        "action": "E",
        "entity": [],
    }
    status = 403 if event is LedgerEvent.LOGIN_REFUSED else 200
    api.audit.keep(_event(happened, who, peer, status, reason))
    detail = {"by": who, "peer_address": peer, "way": way, **({"reason": reason} if reason else {})}
    with transaction(api.pool) as connection:
        ledger.append(connection, event, sop_instance_uid="", detail=detail)


def _event(happened: Mapping[str, Any], who: str, peer: str, status: int, reason: str = "") -> dict[str, Any]:
    agent: dict[str, Any] = {"who": {"display": who or "unknown"}, "requestor": True}
    if peer:
        agent["network"] = {"address": peer, "type": "2"}
    ours = {
        "type": {"coding": [{"system": DCM.uri, "code": "110152", "display": "Destination Role ID"}]},
        "who": {"display": "Semblance"},
        "requestor": False,
    }
    return without_empty(
        {
            "resourceType": "AuditEvent",
            "id": str(uuid4()),
            **happened,
            "recorded": instant(datetime.now(UTC)),
            "outcome": "0" if status < 400 else "4" if status < 500 else "8",
            "outcomeDesc": reason or f"HTTP {status}",
            "agent": [agent, ours],
            "source": {
                "observer": {"display": "Semblance dashboard"},
                "type": [{"system": _SOURCE, "code": "3", "display": "Web Server"}],
            },
        }
    )


def _purpose(code: str) -> dict[str, Any]:
    return {"coding": [{"system": PURPOSE_OF_USE, "code": code, "display": PURPOSES[code]}]}


def _entity(reference: str, kind: str, role: str, display: str) -> dict[str, Any]:
    names = {"1": "Person", "2": "System Object"}
    return {
        "what": {"reference": reference},
        "type": {"system": _OBJECT, "code": kind, "display": names[kind]},
        "role": {"system": _ROLE, "code": role, "display": display},
    }


def _query(text: str, said: str) -> dict[str, Any]:
    return {
        "type": {"system": _OBJECT, "code": "2", "display": "System Object"},
        "role": {"system": _ROLE, "code": "24", "display": "Query"},
        "description": said,
        "query": base64.b64encode(text.encode()).decode(),
    }
