"""Clients and issuers with keys of their own, and the tokens they make."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from reporting.identifiers import fhir_id
from tests.integration.reporting.fhir.conftest import BASE_URL

TOKEN_URL = f"{BASE_URL}/auth/token"
ANNA = fhir_id("Patient", "HOSPITAL-A", "ANNA")
BEN = fhir_id("Patient", "HOSPITAL-A", "BEN")


@dataclass(frozen=True, kw_only=True)
class Party:
    """Keys of a client or issuer."""

    ec: ECKey
    rsa: RSAKey

    @classmethod
    def made(cls) -> Self:
        """With new keys."""
        return cls(
            ec=ECKey.generate_key("P-384", {"kid": "ec", "use": "sig", "alg": "ES384"}, auto_kid=False),
            rsa=RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS384"}, auto_kid=False),
        )


def registered(directory: Path, party: Party) -> Path:
    """The file of an API that trusts these keys: of two clients, and of an issuer of patients' tokens."""
    (directory / "keys.jwks").write_text(json.dumps(KeySet([party.ec, party.rsa]).as_dict(private=False)))
    registry = directory / "auth.toml"
    registry.write_text(
        f"""
[[clients]]
client_id = "warehouse"
scopes = "system/*.rs system/Patient.cruds system/Subscription.cruds system/Observation.u"
jwks_file = "{directory}/keys.jwks"

[[clients]]
client_id = "registry"
scopes = "system/*.cruds"
jwks_file = "{directory}/keys.jwks"

[[issuers]]
issuer = "https://ehr.example"
audience = "{BASE_URL}"
jwks_file = "{directory}/keys.jwks"
"""
    )
    return registry


def assertion(key: Any, algorithm: str = "ES384", **claims: Any) -> str:
    body = {
        "iss": "warehouse", "sub": "warehouse", "aud": TOKEN_URL, "exp": int(time.time()) + 60,
        "jti": str(uuid4()),
    } | claims  # fmt: skip
    return jwt.encode({"alg": algorithm, "kid": key.kid}, body, key, algorithms=[algorithm])


def patient_token(party: Party, **claims: Any) -> str:
    body = {
        "iss": "https://ehr.example", "aud": BASE_URL, "sub": "user", "exp": int(time.time()) + 60,
        "scope": "patient/*.rs launch openid", "patient": ANNA, "client_id": "app",
    } | claims  # fmt: skip
    return "Bearer " + jwt.encode({"alg": "ES384", "kid": "ec"}, body, party.ec, algorithms=["ES384"])
