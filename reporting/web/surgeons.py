"""Surgeons on pages: a name of letters and digits that stands for them, the same on every page of a site."""

from __future__ import annotations

import hashlib
import hmac

from reporting.fhir.http import Api


def shown_as(api: Api, surgeon: str) -> str:
    """What stands for a surgeon; "" for nobody. Who does not have the server's key cannot undo it."""
    if not surgeon:
        return ""
    made = hmac.new(api.page_key, f"surgeon {surgeon}".encode(), hashlib.sha256).hexdigest()
    return f"S-{made[:6].upper()}"
