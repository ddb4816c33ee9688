"""Page links: opaque to clients, proof against tampering, good for as long as the key is.

A link holds the whole search and the place the page ends at, signed; nobody can widen a search or
move it to another patient by editing one. The key is made once and kept in the database, so every
replica of the API reads every other's links.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from collections.abc import Sequence

from reporting.fhir.options import FORM_OPTIONS
from reporting.fhir.outcome import FhirProblemError, IssueType

_TAG_BYTES = 16
PAGE_PARAMETER = "_page"
_COUNT = "_count"


def seal(key: bytes, kind: str, pairs: Sequence[tuple[str, str]], after: Sequence[object]) -> str:
    """Make the token of a next page.

    Args:
        key: Secret of this server.
        kind: What is paged, for example ``search Observation``.
        pairs: Parameters of the first page's request.
        after: Keyset values of the last row served.
    """
    payload = zlib.compress(json.dumps([kind, list(pairs), list(after)], separators=(",", ":")).encode())
    tag = hmac.new(key, payload, hashlib.sha256).digest()[:_TAG_BYTES]
    return base64.urlsafe_b64encode(tag + payload).rstrip(b"=").decode()


def unseal(key: bytes, kind: str, token: str) -> tuple[list[tuple[str, str]], tuple[str | None, ...]]:
    """Read a token back.

    Raises:
        FhirProblemError: It is not one of ours, or of another kind.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError as exc:
        raise _refused() from exc
    tag, payload = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
    if not hmac.compare_digest(hmac.new(key, payload, hashlib.sha256).digest()[:_TAG_BYTES], tag):
        raise _refused()
    sealed_kind, pairs, after = json.loads(zlib.decompress(payload))
    if sealed_kind != kind:
        raise _refused()
    return [(name, value) for name, value in pairs], tuple(after)


def opened(
    key: bytes, kind: str, given: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, str]], tuple[str | None, ...]] | None:
    """Parameters and place of the page that is asked for; None for a first page.

    Raises:
        FhirProblemError: The link is not one of ours, or something was added to it: a link is followed as it
            is, but for the form of the answer. A _count is let pass and changes nothing: @medplum/core adds
            one that nobody asked for.
    """
    tokens = [value for name, value in given if name == PAGE_PARAMETER]
    if not tokens:
        return None
    others = [name for name, _ in given if name not in FORM_OPTIONS | {PAGE_PARAMETER, _COUNT}]
    if others or len(tokens) > 1:
        name = (others or [PAGE_PARAMETER])[0]
        raise FhirProblemError(
            400, IssueType.INVALID, f"a page link is followed as it is: it takes no {name}", f"http.{name}"
        )
    return unseal(key, kind, tokens[0])


def _refused() -> FhirProblemError:
    return FhirProblemError(
        400, IssueType.VALUE, "this is no page link of this server", f"http.{PAGE_PARAMETER}"
    )
