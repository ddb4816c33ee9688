"""What a browser's request says: cookies, form, address, host; and the headers of every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.requests import Request

from reporting.fhir.guard import base_url_of
from reporting.web.page import PageProblemError
from reporting.web.texts.catalogue import Texts, language_of
from reporting.web.tokens import LANGUAGE_COOKIE, ZONE_COOKIE
from service.config import LOOPBACK, Settings

PATH = "/ui"
_MOST_FORM_BYTES = 64 * 1024
_MOST_FIELDS = 100
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via")

# What a browser may do with a page: nothing comes from elsewhere, nothing inline runs, nobody frames it.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, as far as pages need it."""

    request: Request
    settings: Settings
    peer: str  # address of the browser, as far as it is known
    base_url: str  # scheme and host a browser calls us by, with the prefix of a proxy
    texts: Texts

    @property
    def root(self) -> str:
        """Path that pages lie below."""
        return urlsplit(self.base_url).path.rstrip("/") + PATH

    @property
    def is_secure(self) -> bool:
        """Whether the browser came by HTTPS, as far as is known."""
        return urlsplit(self.base_url).scheme == "https" or self.request.url.scheme == "https"

    @property
    def is_of_this_machine(self) -> bool:
        """Whether a browser on this machine called us directly, by a name of this machine."""
        headers = self.request.headers
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        client = self.request.client.host if self.request.client else ""
        forwarded = any(name in headers for name in _FORWARDED)
        return client in LOOPBACK and host in LOOPBACK and not forwarded


def asked_of(request: Request, settings: Settings, own_zone: tzinfo) -> Asked:
    """Read what a request says."""
    client = request.client.host if request.client else ""
    headers = {name.lower(): value for name, value in request.headers.items()}
    base = base_url_of(settings, client, headers).removesuffix("/fhir")
    language = language_of(
        request.cookies.get(LANGUAGE_COOKIE, ""), request.headers.get("accept-language", "")
    )
    return Asked(
        request=request,
        settings=settings,
        peer=_peer(client, headers, settings),
        base_url=base,
        texts=Texts(language=language, zone=_zone(request.cookies.get(ZONE_COOKIE, ""), own_zone)),
    )


def _peer(client: str, headers: Mapping[str, str], settings: Settings) -> str:
    """Address of the browser: what the nearest trusted proxy says, else who connected."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if any(address in ipaddress.ip_network(network) for network in settings.api_trusted_proxies):
        said = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        try:
            return str(ipaddress.ip_address(said))
        except ValueError:
            return client
    return client


def _zone(chosen: str, own: tzinfo) -> ZoneInfo:
    """The reader's zone, else the site's, else UTC."""
    for name in (chosen.replace("%2F", "/"), str(own), "UTC"):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    raise AssertionError("UTC is a zone")


async def form_of(request: Request) -> Mapping[str, str]:
    """Fields of a form that was sent, the last of each name.

    Raises:
        PageProblemError: 413: too long; 400: no form.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise PageProblemError(400, "This is no form.")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_FORM_BYTES:
            raise PageProblemError(413, "The form is too long.")
        parts.append(part)
    try:
        pairs = parse_qsl(b"".join(parts).decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as exc:
        raise PageProblemError(400, "This is no form.") from exc
    if any("\x00" in value for pair in pairs for value in pair):
        raise PageProblemError(400, "This is no form.")
    return {name: value.strip() if name != "passcode" else value for name, value in pairs}


def has_nul(request: Request) -> bool:
    """Whether an address holds a character that no text of the database may."""
    said = (request.url.path, *request.path_params.values(), *request.query_params.values())
    return any("\x00" in str(each) for each in said)


def is_own_page(asked: Asked) -> bool:
    """Whether a form was sent by a page of ours, as far as the browser says."""
    origin = asked.request.headers.get("origin")
    if origin is not None:
        own = {urlsplit(asked.base_url).netloc, asked.request.headers.get("host", "")}
        return urlsplit(origin).netloc in own
    return asked.request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def next_of(path: str) -> str:
    """Where to go after a login: a page of ours below the root, else the first."""
    parts = urlsplit(path)
    safe = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if safe and not parts.scheme and not parts.netloc and len(path) < 500 else "/"
