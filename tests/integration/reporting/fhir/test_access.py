"""Who may see what: SMART Backend Services, trusted issuers, scopes."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from reporting.fhir import smart
from reporting.fhir.access import parse_scopes
from reporting.fhir.http import Api
from reporting.fhir.outcome import FhirProblemError
from reporting.fhir.smart import Authorizer, Registry, TrustedIssuer, load_registry
from reporting.http.fhir_app import FhirApp
from reporting.http.server import make_api
from service.audit.trail import seal_pending
from service.config import Settings
from service.database import ledger
from service.database.pool import transaction
from service.errors import ConfigurationError
from service.records import LedgerEvent
from tests.audit import kept, kinds
from tests.integration.reporting.fhir.conftest import BASE_URL, Answer, Client, Save
from tests.integration.reporting.fhir.tokens import (
    ANNA,
    BEN,
    TOKEN_URL,
    Party,
    assertion,
    patient_token,
    registered,
)


@pytest.fixture
def party() -> Party:
    return Party.made()


@pytest.fixture
def api(settings: Settings, tmp_path: Path, party: Party) -> Any:
    """The API with a registered client and a trusted issuer."""
    registry = registered(tmp_path, party)
    made = make_api(settings.model_copy(update={"api_port": 8080, "fhir_auth_file": registry}))
    yield made
    made.close()


def ask_token(client: Client, signed: str, scope: str = "system/*.rs", **more: str) -> Answer:
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signed,
        "scope": scope,
    } | more
    return client.ask(
        "POST", "auth/token", urlencode(form).encode(), Content_Type="application/x-www-form-urlencoded"
    )


Bearer = Callable[..., str]


@pytest.fixture
def bearer(client: Client, party: Party) -> Bearer:
    def run(scope: str, client_id: str = "warehouse") -> str:
        answer = ask_token(client, assertion(party.ec, iss=client_id, sub=client_id), scope)
        assert answer.status == 200, answer.content
        return f"Bearer {answer.json()['access_token']}"

    return run


def test_the_configuration_is_found_without_a_token(client: Client) -> None:
    found = client.get(".well-known/smart-configuration", Accept="application/json").json()
    assert found["token_endpoint"] == TOKEN_URL
    assert set(found["token_endpoint_auth_signing_alg_values_supported"]) == {"RS384", "ES384"}
    security = client.get("metadata").json()["rest"][0]["security"]
    assert security["extension"][0]["extension"][0]["valueUri"] == TOKEN_URL


@pytest.mark.parametrize(("kind", "algorithm"), [("ec", "ES384"), ("rsa", "RS384")])
def test_a_client_gets_a_short_token(client: Client, party: Party, kind: str, algorithm: str) -> None:
    answer = ask_token(client, assertion(getattr(party, kind), algorithm))
    assert answer.status == 200, answer.content
    assert answer.json()["expires_in"] == 300
    token = answer.json()["access_token"]
    assert client.get("Observation", Authorization=f"Bearer {token}").status == 200
    assert client.get("Observation").status == 401
    assert client.get("Observation").headers["www-authenticate"] == "Bearer"


def test_a_token_that_is_given_is_a_login_in_the_trail(api: Api, client: Client, party: Party) -> None:
    assert ask_token(client, assertion(party.ec, iss="warehouse", sub="warehouse")).status == 200
    assert ask_token(client, "nonsense").status == 401
    with transaction(api.pool) as connection:
        lines = [e for e in ledger.latest(connection, 9) if e.event is LedgerEvent.LOGGED_IN]
    (line,) = lines  # what is refused is an AuditEvent
    assert (line.detail["by"], line.detail["way"]) == ("warehouse", "token")
    assert line.detail["scope"]
    seal_pending(api.pool, api.settings)
    (login,) = [each for each in kept(api.pool) if ("User Authentication", "0") in kinds([each])]
    assert login.xpath("//ActiveParticipant/@UserID")[0] == "warehouse"


def test_an_assertion_works_once(client: Client, party: Party) -> None:
    signed = assertion(party.ec)
    assert ask_token(client, signed).status == 200
    again = ask_token(client, signed)
    assert (again.status, again.json()["error"]) == (401, "invalid_client")


def test_bad_assertions(client: Client, party: Party) -> None:
    other = ECKey.generate_key("P-384", {"kid": "ec"}, auto_kid=False)
    now = int(time.time())
    bad = [
        assertion(other),
        assertion(party.ec, iss="nobody"),
        assertion(party.ec, sub="nobody"),
        assertion(party.ec, aud="https://elsewhere"),
        assertion(party.ec, exp=now - 100),
        assertion(party.ec, exp=now + 4000),
        assertion(party.ec, jti=None),
        assertion(party.ec, jti="a\x00b"),
        assertion(party.ec, jti="x" * 300),
        assertion(party.ec, jti=7),
        assertion(party.ec, exp="soon"),
        assertion(party.ec, exp=[now + 60]),
        assertion(party.ec, exp=float("nan")),
        assertion(party.ec, nbf={"a": 1}),
        f"x.{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.z",
        assertion(party.ec)[:-5] + "AAAAA",
        "x.y.z",
        "",
        jwt.encode({"alg": "HS256"}, {"iss": "warehouse"}, party_secret()),
    ]
    statuses = [ask_token(client, signed).status for signed in bad]
    assert statuses == [401] * len(bad)
    assert ask_token(client, assertion(party.ec), grant_type="password").status == 400
    assert ask_token(client, assertion(party.ec), "system/Banana.rs").json()["error"] == "invalid_scope"
    assert (
        ask_token(client, assertion(party.ec), "system/Observation.cruds").json()["error"] == "invalid_scope"
    )


def party_secret() -> Any:
    from joserfc.jwk import OctKey

    return OctKey.import_key(b"x" * 32)


def test_scopes_limit_types_and_interactions(client: Client, bearer: Bearer, save_photograph: Save) -> None:
    save_photograph(1, "ANNA")
    narrow = bearer("system/Observation.rs")
    assert client.get("Observation", Authorization=narrow).status == 200
    assert client.get("Patient", Authorization=narrow).status == 403
    assert client.get("Observation?_include=Observation:patient", Authorization=narrow).ids("include") == []
    created = client.ask("POST", "Patient", {"resourceType": "Patient"}, Authorization=narrow)
    assert created.status == 403
    wide = bearer("system/Patient.cruds")
    assert client.ask("POST", "Patient", {"resourceType": "Patient"}, Authorization=wide).status == 201
    version_1 = bearer("system/Observation.read")
    assert client.get("Observation", Authorization=version_1).status == 200


def test_scopes_with_search_constraints(client: Client, bearer: Bearer, save_photograph: Save) -> None:
    saved = [*save_photograph(1, "ANNA", 1.5), *save_photograph(2, "ANNA", 3.5)]
    low, high = [s.resource.resource_id for s in saved if s.resource.resource_type == "Observation"]
    limited = bearer("system/Observation.rs?value-quantity=lt2")
    assert client.get("Observation", Authorization=limited).ids() == [low]
    assert client.get(f"Observation/{low}", Authorization=limited).status == 200
    assert client.get(f"Observation/{high}", Authorization=limited).status == 404
    assert client.get("Observation/_history", Authorization=limited).status == 403


def test_a_scope_cannot_be_widened_by_asking_elsewhere(
    client: Client, bearer: Bearer, save_photograph: Save
) -> None:
    save_photograph(1, "ANNA", 1.5)
    save_photograph(2, "ANNA", 3.5)
    narrow = bearer("system/Observation.rs")
    assert client.get("Observation?patient.identifier=ANNA", Authorization=narrow).status == 403
    assert client.get("Observation?patient:identifier=ANNA", Authorization=narrow).status == 403
    both = bearer("system/Patient.rs system/Observation.rs?value-quantity=lt2")
    assert client.get("Observation?patient.identifier=ANNA", Authorization=both).json()["total"] == 1
    kinds = {
        e["resource"]["resourceType"]
        for e in client.get(f"Patient/{ANNA}/$everything", Authorization=both).json()["entry"]
    }
    assert kinds == {"Patient"}
    limited = bearer("system/Patient.rs?gender=male system/Observation.rs")
    assert client.get("Observation?patient.identifier=ANNA", Authorization=limited).status == 403


def test_a_report_is_for_who_may_see_all_it_shows(
    client: Client, bearer: Bearer, party: Party, save_photograph: Save
) -> None:
    saved = [*save_photograph(1, "ANNA"), *save_photograph(2, "BEN")]
    reports = [s.resource.resource_id for s in saved if s.resource.resource_type == "DiagnosticReport"]
    for lacking in ("DiagnosticReport", "Patient", "Observation", "Media"):
        parts = {"DiagnosticReport", "Patient", "Observation", "Media"} - {lacking}
        token = bearer(" ".join(f"system/{part}.rs" for part in sorted(parts)))
        assert client.get(f"Binary/{reports[0]}", Authorization=token).status in (403, 404), lacking
    limited = bearer(
        "system/DiagnosticReport.rs system/Patient.rs system/Media.rs system/Observation.rs?code=x"
    )
    assert client.get(f"Binary/{reports[0]}", Authorization=limited).status == 403
    whole = bearer("system/*.rs")
    assert client.get(f"Binary/{reports[0]}", Authorization=whole).content.startswith(b"%PDF-")
    own = patient_token(party)
    assert client.get(f"Binary/{reports[0]}", Authorization=own).status == 200
    assert client.get(f"Binary/{reports[1]}", Authorization=own).status == 404


def test_a_patient_token_opens_one_compartment(client: Client, party: Party, save_photograph: Save) -> None:
    saved = [*save_photograph(1, "ANNA"), *save_photograph(2, "BEN")]
    theirs = [s.resource for s in saved if s.resource.resource_type == "Observation"]
    token = patient_token(party)
    assert client.get("Observation", Authorization=token).ids() == [theirs[0].resource_id]
    assert client.get(f"Observation?patient={BEN}", Authorization=token).ids() == []
    assert client.get(f"Observation/{theirs[1].resource_id}", Authorization=token).status == 404
    assert client.get(f"Observation/{theirs[1].resource_id}/_history/1", Authorization=token).status == 404
    assert client.get("Patient", Authorization=token).ids() == [ANNA]
    assert client.get("Device", Authorization=token).json()["total"] == 1
    assert client.get(f"Patient/{ANNA}/$everything", Authorization=token).status == 200
    assert client.get(f"Patient/{BEN}/$everything", Authorization=token).status == 404
    assert (
        client.get("Observation/_history", Authorization=token).json()["entry"][0]["resource"]["id"]
        == theirs[0].resource_id
    )
    assert client.get("Media", Authorization=token).json()["total"] == 2
    assert client.get("AuditEvent", Authorization=token).status == 403
    assert client.get("$export", Authorization=token, Prefer="respond-async").status == 403
    procedure = {
        "resourceType": "Procedure",
        "status": "completed",
        "subject": {"reference": f"Patient/{ANNA}"},
    }
    assert client.ask("POST", "Procedure", procedure, Authorization=token).status == 403
    writer = patient_token(party, scope="patient/Procedure.cruds")
    assert client.ask("POST", "Procedure", procedure, Authorization=writer).status == 403


def test_what_reaches_beyond_a_scope(
    client: Client, api: Api, party: Party, bearer: Bearer, save_photograph: Save
) -> None:
    """Reverse chains, subscriptions and withdrawals need all of what they are about."""
    save_photograph(1, "ANNA")
    patient = patient_token(party)
    assert client.get(f"Observation?patient={ANNA}", Authorization=patient).status == 200
    # which devices measured another patient is not for this one to know
    has = f"Device?_has:Observation:device:patient={BEN}"
    assert client.get(has, Authorization=patient).status == 403
    assert client.get(has, Authorization=bearer("system/*.rs")).status == 200
    assert client.get(has, Authorization=bearer("system/Device.rs")).status == 403
    allowed = api.settings.model_copy(update={"fhir_subscription_endpoints": ("https://ehr.example",)})
    object.__setattr__(api, "settings", allowed)
    wanted = {
        "resourceType": "Subscription", "status": "requested", "reason": "x", "criteria": "Observation",
        "channel": {"type": "rest-hook", "endpoint": "https://ehr.example/hook"},
    }  # fmt: skip
    for scope in ("system/Subscription.cruds", "system/Observation.rs"):
        assert client.ask("POST", "Subscription", wanted, Authorization=bearer(scope)).status == 403
    narrow = "system/Subscription.cruds system/Observation.rs?code=score"
    assert client.ask("POST", "Subscription", wanted, Authorization=bearer(narrow)).status == 403
    assert client.ask("POST", "Subscription", wanted, Authorization=patient).status == 403
    whole = bearer("system/Subscription.cruds system/Observation.rs")
    chained = wanted | {"criteria": "Observation?patient.identifier=ANNA"}
    assert client.ask("POST", "Subscription", chained, Authorization=whole).status == 403
    made = client.ask("POST", "Subscription", wanted, Authorization=whole)
    assert made.status == 201, made.content
    mine = made.json()
    rest = bearer("system/Subscription.cruds system/Observation.rs", "registry")
    foreign = client.ask("PUT", f"Subscription/{mine['id']}", mine | {"status": "off"}, Authorization=rest)
    assert foreign.status == 403
    found = client.get("Observation", Authorization=whole).ids()[0]
    body = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "x"}]}
    path = f"Observation/{found}/$withdraw"
    for token in (whole, patient, bearer("system/Observation.u?code=score")):
        assert client.ask("POST", path, body, Authorization=token).status == 403
    assert client.ask("POST", path, body, Authorization=bearer("system/Observation.u")).status == 200


def test_bad_tokens(client: Client, party: Party, api: Api) -> None:
    now = int(time.time())
    for token in (
        patient_token(party, exp=now - 1000),
        patient_token(party, aud="https://elsewhere"),
        patient_token(party, iss="https://stranger.example"),
        patient_token(party, patient=None),
        patient_token(party, nbf=now + 1000),
        patient_token(party, nbf=[1]),
        patient_token(party, exp="never"),
        f"Bearer x.{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.z",
        patient_token(party)[:-4] + "AAAA",
        "Bearer nonsense",
        "Basic dXNlcjpwYXNz",
    ):
        assert client.get("Observation", Authorization=token).status == 401
    # an issuer cannot grant system scopes
    answer = client.get("Observation", Authorization=patient_token(party, scope="system/*.rs"))
    assert answer.status == 403


def test_keys_behind_a_url_are_read_again_but_not_for_every_bad_token(
    party: Party, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """A new key is taken at once after the pause; bad tokens meanwhile ask the issuer for nothing."""
    served = [KeySet([party.ec])]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(served[0].as_dict(private=False)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/jwks"
        issuer = TrustedIssuer(issuer="https://ehr.example", audience=BASE_URL, jwks_url=url)
        authorizer = Authorizer(
            registry=Registry(issuers=(issuer,)), token_key=b"x" * 32, token_url=TOKEN_URL, issuer=BASE_URL
        )

        def admitted(token: str) -> bool:
            try:
                return bool(authorizer.principal({"authorization": token}))
            except FhirProblemError as exc:
                return exc.status != 401

        fresh = Party(ec=ECKey.generate_key("P-384", {"kid": "ec"}, auto_kid=False), rsa=party.rsa)
        assert admitted(patient_token(party))
        assert [admitted(patient_token(fresh)) for _ in range(20)] == [False] * 20
        assert len(asked) == 1
        served[0] = KeySet([fresh.ec])
        monkeypatch.setattr(smart, "REREAD_SECONDS", 0)
        authorizer._cache.clear()
        assert admitted(patient_token(fresh))
        assert not admitted(patient_token(party))
        assert len(asked) == 3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_configuration_there_is_no_token_endpoint(settings: Settings) -> None:
    made = make_api(settings.model_copy(update={"api_port": 8080}))
    assert Client(FhirApp(made)).get(".well-known/smart-configuration").status == 404
    made.close()


@pytest.mark.parametrize(
    "text",
    [
        "clients = 3",
        '[[clients]]\nclient_id = "a"\nscopes = ""',
        '[[clients]]\nclient_id = "a"\nscopes = ""\njwks_url = "http://a.example/jwks"',
        "not toml",
    ],
)
def test_a_wrong_registry_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        load_registry(path)


def test_a_scope_is_checked_before_the_body(client: Client, bearer: Bearer) -> None:
    reader = bearer("system/*.rs")
    for method, path in (
        ("POST", "Patient"), ("PUT", "Patient/a"), ("POST", ""), ("POST", "Observation/a/$withdraw"),
    ):  # fmt: skip
        answer = client.ask(
            method, path, b"{ no JSON", Authorization=reader, Content_Type="application/fhir+json"
        )
        assert answer.status == 403, (method, path, answer.content)
    for scope in smart.SCOPES:
        assert parse_scopes(scope), scope


def test_what_is_refused_before_it_reaches_a_resource_is_audited(
    client: Client, api: Api, bearer: Bearer
) -> None:
    auditor = bearer("system/*.cruds", "registry")

    def audited() -> int:
        return int(client.get("AuditEvent?_summary=count", Authorization=auditor).json()["total"])

    before = audited()
    wrong = [
        client.get("nothing/here/at/all", Authorization=auditor).status,
        client.get("Observation?code=%ff", Authorization=auditor).status,
        client.ask("DELETE", "Patient/a", b"", Authorization=auditor).status,
        ask_token(client, "no.assertion.at all").status,
    ]
    assert wrong == [404, 400, 405, 401]
    assert audited() - before == len(wrong) + 1  # and the count before
