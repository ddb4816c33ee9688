"""What a browser keeps of a session, and what its forms bring back."""

from __future__ import annotations

import hashlib
import hmac
import secrets

SESSION_COOKIE = "semblance_session"
BEFORE_COOKIE = "semblance_before"  # of somebody who is not logged in yet: their form is theirs alone
OIDC_COOKIE = "semblance_oidc"  # between the way to the issuer and the way back
LANGUAGE_COOKIE = "semblance_language"
ZONE_COOKIE = "semblance_zone"
FORM_FIELD = "form_token"


def new_token() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """SHA-256 of a token, as the database keeps it: who reads the database cannot log in by it."""
    return hashlib.sha256(token.encode()).digest()


def form_token(key: bytes, token: str) -> str:
    """What the forms of a session carry; who does not know its cookie cannot make it."""
    return hmac.new(key, f"dashboard form {token}".encode(), hashlib.sha256).hexdigest()


def is_form_token(key: bytes, token: str, brought: str) -> bool:
    """Whether a form is one of a session's own."""
    return bool(token) and hmac.compare_digest(form_token(key, token).encode(), brought.encode())
