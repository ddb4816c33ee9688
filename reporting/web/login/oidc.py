"""Login by the hospital's own issuer: OpenID Connect Core 1.0, authorization code flow with PKCE (RFC 7636).

What is kept between the way out and the way back lies with the browser, signed by us; the issuer's answer
must bring its state, and the ID token its nonce.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from joserfc.jwt import JWTClaimsRegistry

from reporting.web.people import Role, roles_of
from service.config import LOOPBACK, Settings
from service.errors import ConfigurationError, SemblanceError
from service.peers import LoginIssuer

ALGORITHMS = ("RS256", "PS256", "ES256", "RS384", "PS384", "ES384", "EdDSA")  # none shared, none "none"
WAY_S = 600  # from the way out to the way back
_TIMEOUT_S = 8.0
_FACTS_S = 600.0  # what the issuer says of itself, and its keys, are kept so long
_AGAIN_S = 10.0  # keys are read again for a signature that does not fit, at most so often
_SKEW_S = 60
_MOST_BYTES = 256 * 1024


class OidcError(SemblanceError):
    """The issuer does not vouch for somebody, or cannot be asked; ``reason`` is for the ledger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Outward:
    """The way to the issuer."""

    url: str
    cookie: str  # what the browser keeps until it comes back


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """Somebody whom the issuer vouches for."""

    name: str
    full_name: str
    roles: frozenset[Role]
    next: str  # page that was asked for


@dataclass(kw_only=True)
class _Facts:
    metadata: Mapping[str, Any]
    keys: KeySet
    until_s: float  # monotonic
    again_s: float


@dataclass(kw_only=True)
class Issuer:
    """The issuer that the settings name; one a process."""

    settings: LoginIssuer
    key: bytes  # ours, that signs what the browser keeps
    _facts: _Facts | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, redirect_uri: str, next_path: str) -> Outward:
        """The way to the issuer's login.

        Args:
            redirect_uri: Where it sends the browser back to, as it is registered there.
            next_path: Page of ours that is shown in the end.

        Raises:
            OidcError: The issuer cannot be asked.
        """
        metadata = self._known().metadata
        verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.settings.scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": next_path}
        kept |= {"redirect_uri": redirect_uri}
        claims: dict[str, Any] = {**kept, "exp": int(time.time()) + WAY_S}
        cookie = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(self.key))
        place = str(metadata["authorization_endpoint"])
        return Outward(url=f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}", cookie=cookie)

    def back(self, query: Mapping[str, str], cookie: str) -> Vouched:
        """Who comes back from the issuer.

        Args:
            query: That it sent the browser back with.
            cookie: What the browser kept.

        Raises:
            OidcError: It is not the way that was begun, or the issuer vouches for nobody.
        """
        kept = self._kept(cookie)
        if not hmac.compare_digest(query.get("state", "").encode(), str(kept["state"]).encode()):
            raise OidcError("state of another login")
        if "iss" in query and query["iss"] != self.settings.issuer:
            raise OidcError("answer of another issuer")  # RFC 9207
        if "error" in query:
            raise OidcError(f"issuer refused: {query['error'][:80]}")
        token = self._token(query.get("code", ""), kept)
        claims = self._claims(token, str(kept["nonce"]))
        roles = self._roles(claims)
        name = str(claims.get("preferred_username") or claims["sub"])[:200]
        if not roles:
            raise OidcError(f"no role for {name}")
        full_name = str(claims.get("name") or "")[:200]
        return Vouched(name=name, full_name=full_name, roles=roles, next=str(kept["next"]))

    def _kept(self, cookie: str) -> Mapping[str, Any]:
        try:
            claims = jwt.decode(cookie, OctKey.import_key(self.key), algorithms=["HS256"]).claims
            JWTClaimsRegistry(exp={"essential": True}).validate(claims)
        except (JoseError, ValueError) as exc:
            raise OidcError("login not begun here, or too long ago") from exc
        return claims

    def _token(self, code: str, kept: Mapping[str, Any]) -> str:
        metadata = self._known().metadata
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": str(kept["redirect_uri"]),
            "code_verifier": str(kept["verifier"]),
            "client_id": self.settings.client_id,
        }
        secret = self._secret()
        login = httpx.BasicAuth(self.settings.client_id, secret) if secret else None
        try:
            answer = httpx.post(
                str(metadata["token_endpoint"]), data=asked, auth=login or httpx.Auth(), timeout=_TIMEOUT_S
            )
            token = answer.raise_for_status().json()["id_token"]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as exc:
            raise OidcError(f"issuer gave no token: {type(exc).__name__}") from exc
        return str(token)

    def _secret(self) -> str:
        path = self.settings.client_secret_file
        if path is None:
            return ""
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ConfigurationError(f"web_oidc: client_secret_file: {exc}") from exc

    def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        """Claims of an ID token that is the issuer's, for us, and of now (OpenID Connect Core 3.1.3.7)."""
        client = self.settings.client_id
        try:
            claims = dict(self._verified(token))
            JWTClaimsRegistry(
                leeway=_SKEW_S,
                iss={"essential": True, "value": self.settings.issuer},
                aud={"essential": True, "value": client},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, KeyError, TypeError) as exc:
            raise OidcError(f"token not valid: {type(exc).__name__}") from exc
        audience = claims["aud"]
        several = isinstance(audience, list) and len(audience) > 1
        if claims.get("azp", client) != client or (several and "azp" not in claims):
            raise OidcError("token not valid: of another client")
        return claims

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            return jwt.decode(token, self._known().keys, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError):
            if time.monotonic() < self._known().again_s:
                raise
            with self._lock:
                self._facts = None
            return jwt.decode(token, self._known().keys, algorithms=list(ALGORITHMS)).claims

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        """Roles by what the settings say of the values of a claim; ``a.b`` is ``b`` within ``a``."""
        found: Any = claims
        for name in self.settings.roles_claim.split("."):
            found = found.get(name, ()) if isinstance(found, Mapping) else ()
        values = found.split() if isinstance(found, str) else found if isinstance(found, list) else ()
        wanted = self.settings.roles
        return roles_of(wanted[each] for each in map(str, values) if each in wanted)

    def _known(self) -> _Facts:
        with self._lock:
            now_s = time.monotonic()
            if self._facts is None or self._facts.until_s < now_s:
                metadata = self._metadata()
                self._facts = _Facts(
                    metadata=metadata,
                    keys=_keys(str(metadata["jwks_uri"])),
                    until_s=now_s + _FACTS_S,
                    again_s=now_s + _AGAIN_S,
                )
            return self._facts

    def _metadata(self) -> Mapping[str, Any]:
        """What the issuer says of itself (OpenID Connect Discovery 1.0)."""
        issuer = self.settings.issuer
        metadata = _read(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if metadata.get("issuer") != issuer:
            raise OidcError("the issuer says that it is another")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not is_safe(str(metadata.get(name, ""))):
                raise OidcError(f"the issuer's {name} is no https URL")
        return metadata


def is_safe(url: str) -> bool:
    """Whether a URL is of https, or of this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _read(url: str) -> Mapping[str, Any]:
    try:
        with httpx.stream("GET", url, timeout=_TIMEOUT_S) as answer:
            answer.raise_for_status()
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise OidcError("the issuer says too much")
        found = httpx.Response(200, content=body).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        raise OidcError(f"the issuer cannot be asked: {type(exc).__name__}") from exc
    if not isinstance(found, dict):
        raise OidcError("the issuer's answer is no object")
    return found


def _keys(url: str) -> KeySet:
    found = _read(url)
    try:
        return KeySet.import_key_set(found)  # type: ignore[arg-type]  # a key set, as far as it says
    except (JoseError, ValueError, KeyError, TypeError) as exc:
        raise OidcError("the issuer's keys cannot be read") from exc


def issuer_of(settings: Settings, key: bytes) -> Issuer | None:
    """The issuer that the settings name; None where people log in otherwise.

    Args:
        settings: Uses ``web_login`` and ``web_oidc``.
        key: Ours, that signs what the browser keeps.

    Raises:
        ConfigurationError: It is missing, not of https, or gives a role that there is not.
    """
    if settings.web_login != "oidc":
        return None
    named = settings.web_oidc
    if named is None:
        raise ConfigurationError("web_login is oidc: set web_oidc too")
    if not is_safe(named.issuer):
        raise ConfigurationError("web_oidc: the issuer is no https URL")
    unknown = sorted(set(named.roles.values()) - {role.value for role in Role})
    if unknown:
        raise ConfigurationError(f"web_oidc: no role {', '.join(unknown)}; there are {', '.join(Role)}")
    return Issuer(settings=named, key=key)
