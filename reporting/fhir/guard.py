"""Who may call from where: the base URL behind a proxy, pages of other origins, hosts we do not answer for.

Without authorisation everybody on this machine may call, so a page in a browser must not: its Origin, and the
name it calls us by (DNS rebinding), are looked at. With authorisation a page needs a token like anybody else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from reporting.fhir.outcome import FhirProblemError, IssueType
from service.config import Settings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 - compared with, not listened on
_AUTHORITY = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_OPEN_PATHS = ("/fhir/metadata", "/fhir/.well-known/smart-configuration")  # any page may read them
_ALLOWED_HEADERS = (
    "accept, authorization, content-type, if-match, if-modified-since, if-none-exist, if-none-match, prefer,"
    " x-request-id"
)
_EXPOSED_HEADERS = (
    "content-location, etag, last-modified, location, retry-after, warning, x-progress, x-request-id"
)
_READS = ("GET", "HEAD")


def base_url_of(settings: Settings, peer: str, headers: Mapping[str, str]) -> str:
    """Base URL of the links in an answer.

    The setting ``api_base_url`` wins. Else what a trusted proxy says it was asked for; else, where the API
    listens on every address, the name it was called by.

    Args:
        settings: Uses ``api_base_url``, ``api_trusted_proxies``, ``api_host`` and ``api_port``.
        peer: Address of who connected.
        headers: Names in lower case.
    """
    if settings.api_base_url:
        return settings.fhir_base_url()
    forwarded = _last(headers.get("x-forwarded-host", "")) if _is_trusted(peer, settings) else ""
    if _AUTHORITY.fullmatch(forwarded):
        scheme = _last(headers.get("x-forwarded-proto", "")).lower()
        prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
        where = f"{scheme if scheme in ('http', 'https') else 'http'}://{forwarded}"
        return f"{where}{prefix if _PREFIX.fullmatch(prefix) else ''}/fhir"
    host = headers.get("host", "")
    if settings.api_host in _ANY_ADDRESS and _AUTHORITY.fullmatch(host) and _name(host) not in _ANY_ADDRESS:
        return f"http://{host}/fhir"
    return settings.fhir_base_url()


def _last(text: str) -> str:
    """What the nearest proxy wrote."""
    return text.rpartition(",")[2].strip()


def _is_trusted(peer: str, settings: Settings) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network) for network in settings.api_trusted_proxies)


def _name(authority: str) -> str:
    """The host of ``host[:port]``, in lower case and without brackets."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def check_caller(
    settings: Settings, method: str, headers: Mapping[str, str], allowed_origins: Sequence[str]
) -> None:
    """Refuse what a page of another origin does through the browser of somebody on this machine.

    For an API without authorisation.

    Args:
        settings: Uses ``api_host`` and ``api_base_url``.
        method: HTTP method.
        headers: Names in lower case.
        allowed_origins: Pages of these may.

    Raises:
        FhirProblemError: 421: called by a name that is not ours; 403: called by a page that may not.
    """
    host = headers.get("host")
    ours = {*_LOOPBACK, settings.api_host, urlsplit(settings.api_base_url).hostname or "localhost"}
    if host is not None and _name(host) not in ours - {"", *_ANY_ADDRESS}:
        text = "this API is called by the name of this machine alone; api_base_url gives it another"
        raise FhirProblemError(421, IssueType.SECURITY, text, "http.host")
    origin = headers.get("origin")
    if origin in allowed_origins:
        return
    if origin is not None and not _is_own(origin, host, settings):
        raise FhirProblemError(403, IssueType.SECURITY, "pages of this origin may not call", "http.origin")
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        visits = headers.get("sec-fetch-mode") == "navigate" and method in _READS
        if not visits:
            raise FhirProblemError(403, IssueType.SECURITY, "pages elsewhere may not call", "http.origin")


def _is_own(origin: str, host: str | None, settings: Settings) -> bool:
    parts = urlsplit(origin)
    base = urlsplit(settings.fhir_base_url())
    own = {base.netloc, *((host,) if host else ())}
    return parts.scheme in ("http", "https") and parts.netloc in own


def cors_headers(
    path: str, headers: Mapping[str, str], allowed_origins: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """What lets a page of another origin read an answer; nothing where it may not.

    Args:
        path: Of the request, from ``/fhir`` on.
        headers: Names in lower case.
        allowed_origins: ``Settings.fhir_allowed_origins``.
    """
    origin = headers.get("origin")
    if origin is None:
        return ()
    if path in _OPEN_PATHS:
        return (("Access-Control-Allow-Origin", "*"),)
    if origin not in allowed_origins:
        return ()
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", _EXPOSED_HEADERS),
        ("Vary", "Origin"),
    )


def preflight_headers(
    path: str, headers: Mapping[str, str], allowed_origins: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    """What a browser is told that asks before it calls; empty where the call would be refused."""
    allowed = cors_headers(path, headers, allowed_origins)
    if not allowed or "access-control-request-method" not in headers:
        return ()
    methods = "GET, HEAD" if path in _OPEN_PATHS else "GET, HEAD, POST, PUT, DELETE"
    return (
        *allowed,
        ("Access-Control-Allow-Methods", methods),
        ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
        ("Access-Control-Max-Age", "600"),
    )
