"""Requests and answers as the FHIR handlers see them, free of any web framework."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Protocol

from reporting.fhir.access import Principal
from reporting.fhir.database.records import StoredResource
from reporting.fhir.extract import interval
from reporting.fhir.options import whole_number
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.render import check_texts, dumps, parse_body
from reporting.fhir.search_table import RESOURCE_TYPES, Interaction, ResourceType
from reporting.fhir.site import Site
from reporting.wire.accept import Accepted, accepted, media_range
from service.config import Settings
from service.database.pool import Pool
from service.errors import FhirError
from service.storage.local import InstanceStore
from service.storage.renditions import Renditions

FHIR_JSON = "application/fhir+json"
PLAIN_JSON = "application/json"
NDJSON = "application/fhir+ndjson"
FORM = "application/x-www-form-urlencoded"
_JSON_NAMES = {"json", FHIR_JSON, PLAIN_JSON, "text/json", "application/json+fhir"}
MOST_BODY_BYTES = 16 * 1024 * 1024
_VERSION_TAG = re.compile(r"(W/)?\"?(?P<version>[0-9]+)\"?", re.ASCII)


class Authorizer(Protocol):
    """Knows who asks."""

    def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who a request speaks for."""


class Audit(Protocol):
    """Records every access."""

    def record(self, request: Request, interaction: str, status: int, response: Response | None) -> None:
        """Keep the event of an access."""

    def keep(self, event: Mapping[str, Any]) -> None:
        """Keep an AuditEvent that was made elsewhere."""

    def close(self) -> None:
        """Keep what waits and end."""


@dataclass(frozen=True, kw_only=True)
class Api:
    """What every handler works with; made once at the start of the process."""

    settings: Settings
    pool: Pool
    store: InstanceStore
    renditions: Renditions  # of what the store holds
    site: Site
    page_key: bytes  # signs page links
    audit: Audit
    authorizer: Authorizer | None = None  # None: no authorisation is configured
    stopping: threading.Event = field(default_factory=threading.Event)  # set when long answers are to end

    @property
    def base_url(self) -> str:
        """Base URL of links, without a trailing slash."""
        return self.site.base_url

    def called_by(self, base_url: str) -> Api:
        """The same, for a request that came under a base URL."""
        if base_url == self.site.base_url:
            return self
        own_urls = (self.site.base_url, *self.site.own_urls)
        return replace(self, site=replace(self.site, base_url=base_url, own_urls=own_urls))

    def close(self) -> None:
        """Keep what waits to be recorded, and close the pool."""
        self.audit.close()
        self.pool.close()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request, its path below the base URL already split."""

    method: str
    path: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    principal: Principal
    peer: str = ""  # network address of the client
    parameters: Mapping[str, str] = field(default_factory=dict)  # named parts of the path

    @property
    def resource_type(self) -> ResourceType:
        """The type in the path.

        Raises:
            FhirProblemError: 404: it is not served; 405: it is read by its id alone.
        """
        name = self.parameters["type"]
        if name == "Binary":
            raise FhirProblemError(405, IssueType.NOT_SUPPORTED, "a Binary is read by its id", "http.method")
        if name not in RESOURCE_TYPES:
            raise FhirProblemError(404, IssueType.NOT_SUPPORTED, f"{name} is not served here", "http.path")
        return RESOURCE_TYPES[name]

    def option(self, name: str) -> str | None:
        """Last value of a query parameter."""
        return next((value for key, value in reversed(self.query) if key == name), None)

    def prefers(self, name: str) -> str | None:
        """Value of a preference (RFC 7240), for example ``handling``."""
        for part in self.headers.get("prefer", "").replace(",", ";").split(";"):
            key, _, value = part.strip().partition("=")
            if key.lower() == name:
                return value.strip('" ').lower()
        return None

    @property
    def strict(self) -> bool:
        """Whether parameters that are not understood are refused."""
        return self.prefers("handling") == "strict"

    def resource(self) -> dict[str, Any]:
        """Parse the body as one JSON object.

        Raises:
            FhirProblemError: 415 for another format, 400 when it is no JSON object.
        """
        given = self.headers.get("content-type", FHIR_JSON)
        content_type = media_range(given)
        if content_type.media_type not in _JSON_NAMES or not _is_r4(content_type):
            raise FhirProblemError(
                415,
                IssueType.NOT_SUPPORTED,
                f"bodies are {FHIR_JSON} of FHIR 4.0, not {given}",
                "http.content-type",
            )
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise FhirProblemError(
                415, IssueType.NOT_SUPPORTED, f"bodies are not read as {coding}", "http.content-encoding"
            )
        parsed = parse_body(self.body)
        if not isinstance(parsed, dict):
            raise FhirProblemError(400, IssueType.STRUCTURE, "the body is not a JSON object", "http.body")
        check_texts(parsed)
        return parsed


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = FHIR_JSON
    chunks: Iterator[bytes] | None = None  # a streamed body in place of ``body``
    touched: tuple[str, ...] = ()  # references to what was read or written, for the audit
    patients: tuple[str, ...] = ()  # logical ids of whose records they are


Handler = Callable[[Api, Request], Response]


def answer(
    resource: Mapping[str, Any], status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Answer with a resource that is not stored."""
    return Response(status=status, body=dumps(resource).encode(), headers=headers)


def version_headers(stored: StoredResource) -> tuple[tuple[str, str], ...]:
    """ETag and Last-Modified of a version."""
    return (
        ("ETag", f'W/"{stored.version_id}"'),
        ("Last-Modified", format_datetime(stored.last_updated.astimezone(UTC), usegmt=True)),
    )


def not_modified(request: Request, stored: StoredResource) -> bool:
    """Whether the client has this version already (RFC 9110 sections 13.1.2 and 13.1.3)."""
    known = request.headers.get("if-none-match")
    if known is not None:
        tags = {tag.strip().removeprefix("W/").strip('"') for tag in known.split(",")}
        return "*" in tags or str(stored.version_id) in tags
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        moment = parsedate_to_datetime(since)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return stored.last_updated.replace(microsecond=0) <= moment


def expected_version(request: Request) -> int | None:
    """The version of If-Match; None without one.

    Raises:
        FhirProblemError: It is malformed.
    """
    tag = request.headers.get("if-match")
    if tag is None or tag.strip() == "*":
        return None
    match = _VERSION_TAG.fullmatch(tag.strip())
    if match is None:
        raise FhirProblemError(400, IssueType.VALUE, 'If-Match is W/"<version>"', "http.if-match")
    return whole_number(match["version"], "if-match")


def _is_r4(media_type: Accepted) -> bool:
    """Whether a media type is of FHIR 4.0 or names no version (R4 http, fhirVersion)."""
    return media_type.parameters.get("fhirversion", "4.0") in ("4.0", "4.0.1")


def served_type(request: Request) -> str:
    """Content type of the answer.

    Raises:
        FhirProblemError: 406: nothing we can make is asked for.
    """
    if json_format(request.query):
        return FHIR_JSON
    names = {each.media_type for each in accepted(request.headers.get("accept", "")) if _is_r4(each)}
    if names & {FHIR_JSON, "*/*", "application/*"}:
        return FHIR_JSON
    if _JSON_NAMES & names:
        return PLAIN_JSON
    if NDJSON in names or "application/ndjson" in names:
        return NDJSON
    raise FhirProblemError(406, IssueType.NOT_SUPPORTED, f"only {FHIR_JSON} is served", "http.accept")


def json_format(pairs: Iterable[tuple[str, str]]) -> bool:
    """Whether ``_format`` asks for JSON; False where it is not given.

    Raises:
        FhirProblemError: 406: it asks for what we cannot make.
    """
    given = [value for name, value in pairs if name == "_format" and value]
    for asked in given:
        if asked.replace(" ", "+").partition(";")[0].lower() not in _JSON_NAMES:
            raise FhirProblemError(
                406, IssueType.NOT_SUPPORTED, f"_format {asked!r}: only JSON is served", "http._format"
            )
    return bool(given)


def require(row: ResourceType, interaction: Interaction) -> None:
    """Check that a type takes part in an interaction.

    Raises:
        FhirProblemError: 405.
    """
    if interaction not in row.interactions:
        raise FhirProblemError(
            405,
            IssueType.NOT_SUPPORTED,
            f"{row.name} does not take the interaction {interaction}",
            "http.method",
        )


def moment_of(text: str, name: str, zone: tzinfo) -> datetime:
    """Moment of an instant parameter, the first of a day or a month; of the zone where it names none.

    Raises:
        FhirProblemError: It is none.
    """
    try:
        return interval(text.replace(" ", "+"), zone)[0]
    except FhirError as exc:
        raise FhirProblemError(400, IssueType.VALUE, f"{name} is an instant", f"http.{name}") from exc
