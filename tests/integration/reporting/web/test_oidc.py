"""Login by an issuer of OpenID Connect: a real one over HTTP, which can be made to err."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from reporting.fhir.http import Api
from reporting.web.login.oidc import issuer_of
from service.config import Settings, load_settings
from service.database import ledger
from service.database.pool import transaction
from service.errors import ConfigurationError
from service.peers import LoginIssuer
from service.records import LedgerEvent
from tests.integration.reporting.web.browsing import BASE, Browser


@dataclass
class IssuerUnderTest:
    """What the issuer says; a test changes it before the browser comes."""

    url: str = ""
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "a"}))
    signs_with: Any = None  # another key than the published one
    header: dict[str, str] = field(default_factory=lambda: {"alg": "RS256", "kid": "a"})
    claims: dict[str, Any] = field(default_factory=dict)  # in place of the right ones; None leaves one out
    metadata: dict[str, Any] = field(default_factory=dict)
    secret: str = ""
    token_status: int = 200
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    jwks_read: int = 0

    def authorise(self, query: dict[str, str]) -> str:
        """Let the browser's user log in; returns the code."""
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        self.codes["code-1"] = query
        return "code-1"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if asked is None or challenge.rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        wanted = base64.b64encode(f"dashboard:{self.secret}".encode()).decode()
        if self.secret and authorization != f"Basic {wanted}":
            return 401, {"error": "invalid_client"}
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "dashboard", "sub": "u-17", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], "preferred_username": "anna", "name": "Anna Example",
            "realm": {"groups": ["doctors", "choir"]},
        }  # fmt: skip
        claims |= self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        return self.token_status, {"id_token": jwt.encode(self.header, claims, self.signs_with or self.key)}


def serve(issuer: IssuerUnderTest) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def _send(self, status: int, found: object) -> None:
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/.well-known/openid-configuration":
                places = {
                    "issuer": issuer.url,
                    "authorization_endpoint": f"{issuer.url}/login",
                    "token_endpoint": f"{issuer.url}/token",
                    "jwks_uri": f"{issuer.url}/keys",
                }
                self._send(200, places | issuer.metadata)
            else:
                issuer.jwks_read += 1
                self._send(200, KeySet([issuer.key]).as_dict(private=False))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(*issuer.token(dict(parse_qsl(body)), self.headers.get("Authorization", "")))

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def issuer() -> Iterator[IssuerUnderTest]:
    made = IssuerUnderTest()
    server = serve(made)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def oidc_api(api: Api, issuer: IssuerUnderTest) -> Api:
    named = LoginIssuer(
        issuer=issuer.url,
        client_id="dashboard",
        roles_claim="realm.groups",
        roles={"doctors": "clinician", "auditors": "auditor"},
    )
    update = {"web_login": "oidc", "web_oidc": named}
    return replace(api, settings=api.settings.model_copy(update=update))


def changed_issuer(api: Api, **changed: object) -> Api:
    assert api.settings.web_oidc is not None
    named = api.settings.web_oidc.model_copy(update=changed)
    return replace(api, settings=api.settings.model_copy(update={"web_oidc": named}))


def go(browser: Browser, issuer: IssuerUnderTest, path: str = "/worklist", **changed: str) -> int:
    """Ask for a page, follow to the issuer, log in there, and come back."""
    browser.get(path)
    assert browser.page.url.path == "/ui/login"
    target = browser.page.text.partition("/ui/oidc/begin?")[2].partition('"')[0]
    answer = browser.get(f"/oidc/begin?{target}", follow=False)
    assert answer.status_code == 303, browser.text
    place = urlsplit(answer.headers["location"])
    query = {name: values[0] for name, values in parse_qs(place.query).items()}
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{issuer.url}/login"
    assert query["redirect_uri"] == f"{BASE}/ui/oidc/back"
    back = {"code": issuer.authorise(query), "state": query["state"], **changed}
    return browser.get("/oidc/back", params=back).status_code


def newest(api: Api) -> Any:
    with transaction(api.pool) as connection:
        return ledger.latest(connection, 1)[0]


def test_somebody_logs_in_by_the_issuer_with_the_role_it_gives(
    oidc_api: Api, issuer: IssuerUnderTest
) -> None:
    browser = Browser(oidc_api)
    assert go(browser, issuer, "/worklist?show=dead") == 200
    assert (browser.page.url.path, browser.page.url.query) == ("/ui/worklist", b"show=dead")
    assert "Anna Example" in browser.text
    assert browser.get("/system").status_code == 403
    with transaction(oidc_api.pool) as connection:
        events = [(each.event, each.detail["by"]) for each in ledger.latest(connection, 10)]
    assert (LedgerEvent.LOGGED_IN, "anna") in events
    assert browser.send("/logout", {}).url.path == "/ui/login"


def test_a_client_with_a_secret_shows_it(oidc_api: Api, issuer: IssuerUnderTest, tmp_path: Path) -> None:
    issuer.secret = "shared"
    assert go(Browser(oidc_api), issuer) == 403
    kept = tmp_path / "secret"
    kept.write_text("shared\n")
    api = changed_issuer(oidc_api, client_secret_file=kept)
    assert go(Browser(api), issuer) == 200


NOW = int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another login"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": ["dashboard", "another"], "azp": None},
        {"azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": NOW - 600},
        {"exp": None},
        {"iat": None},
        {"sub": None},
    ],
)
def test_a_token_that_is_not_of_this_login_lets_nobody_in(
    oidc_api: Api, issuer: IssuerUnderTest, claims: dict[str, Any]
) -> None:
    issuer.claims = claims
    browser = Browser(oidc_api)
    assert go(browser, issuer) == 403
    assert "semblance_session" not in browser.cookies
    assert newest(oidc_api).event is LedgerEvent.LOGIN_REFUSED
    assert "token not valid" in newest(oidc_api).detail["reason"]


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (RSAKey.generate_key(2048, {"kid": "a"}), {"alg": "RS256", "kid": "a"}),
        (OctKey.import_key("x" * 32), {"alg": "HS256", "kid": "a"}),
        (ECKey.generate_key("P-256", {"kid": "b"}), {"alg": "ES256", "kid": "b"}),
    ],
    ids=["forged", "shared", "unknown"],
)
def test_a_token_that_the_issuer_did_not_sign_lets_nobody_in(
    oidc_api: Api, issuer: IssuerUnderTest, key: Any, header: dict[str, str]
) -> None:
    issuer.signs_with, issuer.header = key, header
    assert go(Browser(oidc_api), issuer) == 403


def test_keys_that_the_issuer_changed_are_read_again(oidc_api: Api, issuer: IssuerUnderTest) -> None:
    browser = Browser(oidc_api)
    assert go(browser, issuer) == 200
    browser.cookies.clear()
    issuer.key, issuer.header = ECKey.generate_key("P-256", {"kid": "b"}), {"alg": "ES256", "kid": "b"}
    before = issuer.jwks_read
    assert go(browser, issuer) == 403, "not again within seconds, whoever asks"
    assert issuer.jwks_read == before
    fresh = Browser(oidc_api)
    assert go(fresh, issuer) == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"state": "guessed"},
        {"code": "guessed"},
        {"iss": "https://evil.example"},
        {"error": "access_denied"},
    ],
)
def test_an_answer_that_is_not_of_this_login_lets_nobody_in(
    oidc_api: Api, issuer: IssuerUnderTest, changed: dict[str, str]
) -> None:
    assert go(Browser(oidc_api), issuer, **changed) == 403


def test_an_answer_in_another_browser_lets_nobody_in(oidc_api: Api, issuer: IssuerUnderTest) -> None:
    victim, attacker = Browser(oidc_api), Browser(oidc_api)
    answer = attacker.get("/oidc/begin", follow=False)
    query = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    back = {"code": issuer.authorise(query), "state": query["state"]}
    assert victim.get("/oidc/back", params=back).status_code == 403


@pytest.mark.parametrize("groups", [["choir"], [], None, "cooks", {"a": 1}])
def test_who_has_no_role_is_not_let_in(oidc_api: Api, issuer: IssuerUnderTest, groups: object) -> None:
    issuer.claims = {"realm": {"groups": groups}}
    assert go(Browser(oidc_api), issuer) == 403
    assert newest(oidc_api).detail["reason"] == "no role for anna"


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://other.example"}, {"token_endpoint": "http://evil.example/"}, {"jwks_uri": ""}],
)
def test_an_issuer_that_is_not_itself_is_not_asked(
    oidc_api: Api, issuer: IssuerUnderTest, metadata: dict[str, str]
) -> None:
    issuer.metadata = metadata
    browser = Browser(oidc_api)
    assert browser.get("/oidc/begin", follow=False).status_code == 502
    assert "does not answer" in browser.text


def test_an_issuer_that_is_away_is_said(oidc_api: Api) -> None:
    api = changed_issuer(oidc_api, issuer="http://127.0.0.1:9")
    assert Browser(api).get("/oidc/begin", follow=False).status_code == 502


def test_a_passcode_is_not_taken_where_the_issuer_logs_in(oidc_api: Api, issuer: IssuerUnderTest) -> None:
    browser = Browser(oidc_api)
    browser.log_in("clinician")
    assert browser.get("/", follow=False).status_code == 303


def test_a_session_by_passcode_is_none_where_the_issuer_logs_in(oidc_api: Api, clinician: Browser) -> None:
    browser = Browser(oidc_api)
    browser.cookies = clinician.cookies
    assert browser.get("/", follow=False).status_code == 303


def test_without_the_setting_there_is_no_such_way(browser: Browser) -> None:
    assert browser.get("/oidc/begin", follow=False).status_code == 404
    assert browser.get("/oidc/back?code=1&state=2").status_code == 404


WHOLE = {"issuer": "https://idp.example", "client_id": "x", "roles": {"a": "admin"}}


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, "web_oidc"),
        ({**WHOLE, "issuer": "http://idp.example"}, "https"),
        ({**WHOLE, "roles": {"a": "king"}}, "king"),
    ],
)
def test_settings_that_are_not_whole_are_refused(named: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        issuer_of(Settings(web_login="oidc", web_oidc=named), b"key")


@pytest.mark.parametrize("left_out", ["issuer", "client_id", "roles"])
def test_an_issuer_is_named_as_a_whole(monkeypatch: pytest.MonkeyPatch, left_out: str) -> None:
    for name, value in WHOLE.items():
        if name != left_out:
            said = json.dumps(value) if isinstance(value, dict) else str(value)
            monkeypatch.setenv(f"SEMBLANCE_WEB_OIDC__{name.upper()}", said)
    with pytest.raises(ConfigurationError, match=left_out):
        load_settings()
