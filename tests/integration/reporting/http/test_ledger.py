"""The history of an instance over HTTP: from its association on, for who may read the audit trail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from reporting.fhir.access import Principal, parse_scopes
from reporting.fhir.http import Api
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.http.ledger import ledger_app
from reporting.http.server import make_api
from service.config import Settings
from service.database import audit_messages, instances, ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from tests.audit import faults
from tests.integration.reporting.dicomweb.conftest import Http
from tests.records import offered

UID = "1.2.3"


class Scoped:
    """Lets in whoever names scopes as a bearer token."""

    def principal(self, headers: Mapping[str, str]) -> Principal:
        """As Authorizer's."""
        scopes = headers.get("authorization", "").removeprefix("Bearer ")
        if not scopes:
            raise FhirProblemError(
                401, IssueType.LOGIN, "no token", "http", headers=(("WWW-Authenticate", "Bearer"),)
            )
        patient = "anna" if scopes.startswith("patient/") else None
        return Principal(client_id="auditor", scopes=parse_scopes(scopes), patient=patient)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    made = make_api(settings)
    yield made
    made.close()


@pytest.fixture
def known(pool: Pool) -> None:
    """An instance that came by an association, and was refused before."""
    caller = {"calling_ae_title": "CAMERA", "peer_address": "10.0.0.1", "association": "a1"}
    with transaction(pool) as connection:
        ledger.append(
            connection,
            LedgerEvent.REFUSED,
            sop_instance_uid=UID,
            detail={"reason": "disk low", "association": "a0"},
        )
        for association in ("a0", "a1", "of another"):
            ledger.append(
                connection,
                LedgerEvent.ASSOCIATED,
                sop_instance_uid="",
                detail={**caller, "association": association},
            )
        instances.receive(connection, replace(offered(UID), association_id="a1"))


@pytest.mark.usefixtures("known")
def test_the_history_begins_with_the_association(api: Api, pool: Pool) -> None:
    answer = Http(ledger_app(api)).ask("GET", f"/ledger/{UID}")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["sop_instance_uid"], found["state"]) == (UID, "received")
    assert [line["event"] for line in found["ledger"]] == ["associated", "refused", "associated", "received"]
    assert [line["detail"].get("association") for line in found["ledger"]] == ["a0", "a0", "a1", "a1"]
    assert found["ledger"][1]["detail"]["reason"] == "disk low"
    with transaction(pool) as connection:
        (kept,) = audit_messages.newest(connection, 10)
    assert "Audit Log Used" in kept.message
    assert f"/ledger/{UID}" in kept.message
    assert faults(kept.message) == []


def test_an_unknown_uid_is_not_found(api: Api) -> None:
    assert Http(ledger_app(api)).ask("GET", "/ledger/1.2.99").status_code == 404


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        ("", 401),
        ("system/Observation.rs", 403),
        ("patient/AuditEvent.rs", 403),
        ("system/AuditEvent.rs?agent=1", 403),
        ("system/AuditEvent.r", 200),
        ("system/*.rs", 200),
    ],
)
def test_it_is_for_who_may_read_every_audit_event(api: Api, scopes: str, status: int) -> None:
    client = Http(ledger_app(replace(api, authorizer=Scoped())))
    headers = {"authorization": f"Bearer {scopes}"} if scopes else {}
    answer = client.ask("GET", f"/ledger/{UID}", headers=headers)
    assert answer.status_code == status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
