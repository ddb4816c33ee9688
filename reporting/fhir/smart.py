"""SMART: Backend Services for our own clients, and tokens of issuers the hospital trusts.

Clients register a key set; they prove themselves by a signed assertion (private_key_jwt, RS384 or
ES384) and get a token of five minutes. Tokens of a trusted issuer carry a patient and open that
patient's compartment only.
"""

from __future__ import annotations

import base64
import json
import math
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reporting.fhir.access import Principal, parse_scopes
from reporting.fhir.database import assertions as fhir_assertions
from reporting.fhir.http import FORM, PLAIN_JSON, Api, Request, Response
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.render import dumps
from reporting.fhir.search_table import RESOURCE_TYPES, Interaction, ResourceType
from service.config import LOOPBACK
from service.database import ledger
from service.database.pool import transaction
from service.errors import ConfigurationError
from service.records import LedgerEvent

_log = structlog.get_logger(__name__)

CLIENT_ALGORITHMS = ("RS384", "ES384")
ISSUER_ALGORITHMS = ("RS256", "RS384", "ES256", "ES384")
TOKEN_SECONDS = 300
MOST_ASSERTION_SECONDS = 300
CLOCK_SKEW_SECONDS = 30
_JWKS_SECONDS = 300
REREAD_SECONDS = 5
_MOST_JTI = 255
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Keys(BaseModel):
    """Where a party's public keys are: exactly one of file and URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jwks_file: Path | None = Field(None, description="JWKS on this machine.")
    jwks_url: str = Field("", description="JWKS over https.")

    def check(self, owner: str) -> None:
        """Check that one place is given.

        Raises:
            ConfigurationError: None or both are, or the URL is not https.
        """
        if bool(self.jwks_file) == bool(self.jwks_url):
            raise ConfigurationError(f"{owner}: give one of jwks_file and jwks_url")
        parts = urlsplit(self.jwks_url)
        if self.jwks_url and parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ConfigurationError(f"{owner}: jwks_url must be https")


class RegisteredClient(Keys):
    """A backend service that may ask for tokens."""

    client_id: str = Field(min_length=1, description="Issuer and subject of its assertions.")
    scopes: str = Field(description="Scopes it may ask for, as system/Observation.rs.")


class TrustedIssuer(Keys):
    """An authorisation server whose access tokens are taken."""

    issuer: str = Field(min_length=1, description="The iss of its tokens.")
    audience: str = Field(min_length=1, description="The aud its tokens for us have.")


class Registry(BaseModel):
    """The TOML file that ``Settings.fhir_auth_file`` names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: tuple[RegisteredClient, ...] = ()
    issuers: tuple[TrustedIssuer, ...] = ()


def load_registry(path: Path) -> Registry:
    """Read clients and issuers.

    Raises:
        ConfigurationError: The file is missing or wrong.
    """
    try:
        registry = Registry.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as exc:
        raise ConfigurationError(f"fhir_auth_file {path}: {exc}") from exc
    for client in registry.clients:
        client.check(f"client {client.client_id}")
    for issuer in registry.issuers:
        issuer.check(f"issuer {issuer.issuer}")
    return registry


@dataclass
class _CachedKeys:
    keys: KeySet
    until: float  # monotonic seconds
    again: float  # monotonic seconds: from when on they are read again for a signature that does not fit


@dataclass(kw_only=True)
class Authorizer:
    """Knows who asks; one a process."""

    registry: Registry
    token_key: bytes  # signs our own access tokens
    token_url: str
    issuer: str  # of our own tokens: the base URL
    _cache: dict[str, _CachedKeys] = field(default_factory=dict)

    def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who a request's bearer token speaks for.

        Raises:
            FhirProblemError: 401: no token, or none of ours or of a trusted issuer that is valid now.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorised("a bearer token is needed")
        try:
            issuer = _unverified_claims(token).get("iss")
            if _is_own(token):
                return self._own(token)
            for trusted in self.registry.issuers:
                if trusted.issuer == issuer:
                    return self._foreign(token, trusted)
        except (JoseError, ValueError, KeyError) as exc:
            raise _unauthorised("the token is not valid") from exc
        raise _unauthorised("the token is of no issuer trusted here")

    def _own(self, token: str) -> Principal:
        claims = jwt.decode(token, OctKey.import_key(self.token_key), algorithms=["HS256"]).claims
        _check(claims)
        return Principal(client_id=str(claims["sub"]), scopes=parse_scopes(str(claims["scope"])))

    def _foreign(self, token: str, issuer: TrustedIssuer) -> Principal:
        claims = self._verified(token, issuer, ISSUER_ALGORITHMS)
        _check(claims, aud={"essential": True, "value": issuer.audience})
        scopes = tuple(s for s in parse_scopes(str(claims.get("scope", ""))) if s.patient_level)
        patient = claims.get("patient")
        if scopes and not isinstance(patient, str):
            raise ValueError("patient scopes without a patient")
        return Principal(
            client_id=str(claims.get("client_id") or claims.get("azp") or claims["sub"]),
            scopes=scopes,
            patient=patient,
            user=str(claims.get("fhirUser", "")),
        )

    def token(self, api: Api, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer a client-credentials request (SMART Backend Services).

        Raises:
            TokenError: It is refused.
        """
        if form.get("grant_type") != "client_credentials":
            raise TokenError("unsupported_grant_type", "the grant is client_credentials")
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise TokenError("invalid_client", f"client_assertion_type is {_ASSERTION_TYPE}")
        client = self._client(api, form.get("client_assertion", ""))
        granted = _granted(form.get("scope", ""), client.scopes)
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": client.client_id, "scope": granted, "iat": now,
            "exp": now + TOKEN_SECONDS, "jti": str(uuid4()),
        }  # fmt: skip
        token = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(self.token_key))
        return {"access_token": token, "token_type": "bearer", "expires_in": TOKEN_SECONDS, "scope": granted}

    def _client(self, api: Api, assertion: str) -> RegisteredClient:
        try:
            claimed = _unverified_claims(assertion)
            client = next(c for c in self.registry.clients if c.client_id == claimed.get("iss"))
            claims = self._verified(assertion, client, CLIENT_ALGORITHMS)
            _check(claims)
            expires, jti = float(claims["exp"]), claims["jti"]
            audience = claims["aud"]
        except (JoseError, ValueError, KeyError, TypeError, StopIteration) as exc:
            raise TokenError(
                "invalid_client", "the client assertion is not valid", reason=_reason(exc)
            ) from exc
        if not isinstance(jti, str) or not jti.isprintable() or not 1 <= len(jti) <= _MOST_JTI:
            raise TokenError("invalid_client", f"jti is a text of 1 to {_MOST_JTI} characters")
        if claims.get("sub") != client.client_id:
            raise TokenError("invalid_client", "iss and sub are the client_id")
        ours = {self.token_url, f"{api.base_url}/auth/token"}
        if ours.isdisjoint(_texts(audience)):
            raise TokenError("invalid_client", f"aud is {' or '.join(sorted(ours))}")
        if expires > time.time() + MOST_ASSERTION_SECONDS + CLOCK_SKEW_SECONDS:
            raise TokenError("invalid_client", f"exp is at most {MOST_ASSERTION_SECONDS} s ahead")
        until = datetime.fromtimestamp(expires + CLOCK_SKEW_SECONDS, UTC)
        with transaction(api.pool) as connection:
            fresh = fhir_assertions.use(connection, client.client_id, jti, until)
        if not fresh:
            raise TokenError("invalid_client", "this assertion was used before")
        return client

    def _verified(self, token: str, owner: Keys, algorithms: tuple[str, ...]) -> dict[str, Any]:
        """Claims of a token signed by one of the owner's keys; a key set that lacks the key is read anew."""
        try:
            claims = jwt.decode(token, self._keys(owner), algorithms=list(algorithms)).claims
        except (JoseError, ValueError):
            cached = self._cache.get(_place(owner))
            if cached is not None and owner.jwks_url and time.monotonic() < cached.again:
                raise  # whoever sends bad tokens cannot make us ask its owner for keys at each
            self._cache.pop(_place(owner), None)
            claims = jwt.decode(token, self._keys(owner), algorithms=list(algorithms)).claims
        return claims

    def _keys(self, owner: Keys) -> KeySet:
        place = _place(owner)
        cached = self._cache.get(place)
        if cached is not None and cached.until > time.monotonic():
            return cached.keys
        try:
            if owner.jwks_file is not None:
                keys = KeySet.import_key_set(_json(owner.jwks_file.read_bytes()))
            else:
                keys = KeySet.import_key_set(httpx.get(owner.jwks_url, timeout=5).raise_for_status().json())
        except (OSError, httpx.HTTPError, ValueError) as exc:
            raise ValueError(f"the key set of {place} cannot be read") from exc
        now = time.monotonic()
        self._cache[place] = _CachedKeys(keys=keys, until=now + _JWKS_SECONDS, again=now + REREAD_SECONDS)
        return keys


def _letters(kind: ResourceType) -> str:
    """What may be asked for of a type, as letters of cruds."""
    served = kind.interactions
    return "".join(
        letter
        for letter, interaction in (
            ("c", Interaction.CREATE),
            ("r", Interaction.READ),
            ("u", Interaction.UPDATE),
            ("s", Interaction.SEARCH),
        )
        if interaction in served or (letter == "u" and kind.name == "Observation")  # $withdraw
    )


# What a client may ask for at the token endpoint. Scopes of patients come with tokens of other issuers.
SCOPES = (
    "system/*.rs",
    "system/*.cruds",
    *(f"system/{kind.name}.rs" for kind in RESOURCE_TYPES.values() if set("rs") <= set(_letters(kind))),
    *(
        f"system/{kind.name}.{_letters(kind)}"
        for kind in RESOURCE_TYPES.values()
        if _letters(kind) not in ("", "rs")
    ),
)


class TokenError(Exception):
    """A refused token request (RFC 6749 section 5.2)."""

    def __init__(self, error: str, description: str, reason: str = "") -> None:
        self.error = error
        self.reason = reason or description  # for the log: more than is told to whoever asks
        super().__init__(description)


def token(api: Api, request: Request) -> Response:
    """``POST auth/token``."""
    authorizer = _configured(api)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != FORM:
        return _refused(400, "invalid_request", f"the body is {FORM}")
    try:
        form = dict(parse_qsl(request.body.decode("utf-8"), max_num_fields=20))
    except ValueError:
        return _refused(400, "invalid_request", "the body cannot be read")
    try:
        answer = authorizer.token(api, form)
    except TokenError as exc:
        claimed = _claimed_client(form.get("client_assertion", ""))
        _log.warning("smart.token_refused", error=exc.error, reason=exc.reason, client_id=claimed)
        return _refused(401 if exc.error == "invalid_client" else 400, exc.error, str(exc))
    except ValueError:
        return _refused(400, "invalid_request", "the body cannot be read")
    client = _claimed_client(form.get("client_assertion", ""))
    detail = {"by": client, "peer_address": request.peer, "way": "token", "scope": str(answer["scope"])}
    with transaction(api.pool) as connection:
        ledger.append(connection, LedgerEvent.LOGGED_IN, sop_instance_uid="", detail=detail)
    return Response(body=dumps(answer).encode(), content_type=PLAIN_JSON)


def _refused(status: int, error: str, description: str) -> Response:
    body = dumps({"error": error, "error_description": description}).encode()
    return Response(status=status, body=body, content_type=PLAIN_JSON)


def configuration(api: Api, _request: Request) -> Response:
    """``GET .well-known/smart-configuration``."""
    _configured(api)
    body = {
        "issuer": api.base_url,
        "token_endpoint": f"{api.base_url}/auth/token",
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(CLIENT_ALGORITHMS),
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": list(SCOPES),
        "capabilities": [
            "client-confidential-asymmetric",
            "permission-v2",
            "permission-v1",
            "permission-patient",
        ],
    }
    return Response(body=dumps(body).encode(), content_type=PLAIN_JSON)


def _configured(api: Api) -> Authorizer:
    if api.authorizer is None:
        raise FhirProblemError(404, IssueType.NOT_SUPPORTED, "no authorisation is configured", "http.path")
    return cast("Authorizer", api.authorizer)


def _granted(asked: str, allowed: str) -> str:
    """Scopes asked for that the client may have."""
    limits = parse_scopes(allowed)
    granted = []
    for word in asked.split():
        scopes = parse_scopes(word)
        fits = scopes and any(
            not scopes[0].patient_level
            and limit.resource_type in ("*", scopes[0].resource_type)
            and scopes[0].access <= limit.access
            and (not limit.constraints or limit.constraints == scopes[0].constraints)
            for limit in limits
        )
        if fits:
            granted.append(word)
    if not granted:
        raise TokenError("invalid_scope", "none of the scopes may be granted")
    return " ".join(granted)


def _place(owner: Keys) -> str:
    return str(owner.jwks_file or owner.jwks_url)


def _unauthorised(why: str) -> FhirProblemError:
    return FhirProblemError(
        401, IssueType.LOGIN, why, "http.authorization", headers=(("WWW-Authenticate", "Bearer"),)
    )


def _unverified_claims(token: str) -> dict[str, Any]:
    """Claims before the signature is checked, to know whose key checks it."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("not a JWT")
    claims = _json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    if not isinstance(claims, dict):
        raise ValueError("not a JWT")  # noqa: TRY004 - what the caller handles
    return claims


def _is_own(token: str) -> bool:
    """Whether a token claims to be of our own making: no other may be signed by a shared key."""
    header = token.partition(".")[0]
    claims = _json(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    return isinstance(claims, dict) and claims.get("alg") == "HS256"


def _claimed_client(assertion: str) -> str:
    """Client that an assertion says it is of, for the log; it has not been proved."""
    try:
        return str(_unverified_claims(assertion).get("iss", ""))[:_MOST_JTI]
    except (ValueError, TypeError):
        return ""


def _reason(error: Exception) -> str:
    """Why an assertion is not valid, in words an operator can act on."""
    if isinstance(error, StopIteration):
        return "no client is registered under its iss"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return f"{type(error).__name__}: {error}"


def _texts(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc


def _check(claims: Mapping[str, Any], **expected: ClaimsOption) -> None:
    """Check the registered claims (RFC 7519 section 4.1); a token without an end is none.

    Raises:
        JoseError: One is missing, malformed or not what is expected, or the token is not valid now.
        ValueError: A time that is no moment.
    """
    if any(isinstance(time, float) and not math.isfinite(time) for time in claims.values()):
        raise ValueError("a time is a finite number of seconds")
    registry = JWTClaimsRegistry(None, CLOCK_SKEW_SECONDS, exp={"essential": True}, **expected)
    registry.validate(dict(claims))
