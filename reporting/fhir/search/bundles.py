"""Bundles put together from stored bytes; a resource is parsed only to leave elements out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from reporting.fhir.database.records import StoredResource
from reporting.fhir.outcome import Issue, operation_outcome
from reporting.fhir.render import dumps, loads
from reporting.fhir.search.search_request import Summary
from reporting.fhir.valid.validate import mandatory_elements, summary_elements

_SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "Resource encoded in summary mode",
}


# How resources of ours are stored: relative to the base URL (RFC 3986).
BINARY = "Binary/"
OUR_DICOMWEB = "../dicom-web"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
WITH_URLS = ("Media", "ImagingStudy", "DiagnosticReport")


def link(relation: str, url: str) -> str:
    """One link of a Bundle, as JSON."""
    return dumps({"relation": relation, "url": url})


def url_with(base: str, pairs: Sequence[tuple[str, str]]) -> str:
    """URL with a query."""
    return f"{base}?{urlencode(pairs, quote_via=quote, safe=':/|,$')}" if pairs else base


def search_entry(base_url: str, stored: StoredResource, mode: str, body: str | None = None) -> str:
    """Entry of a searchset, as JSON."""
    return (
        f'{{"fullUrl":"{base_url}/{stored.resource_type}/{stored.resource_id}",'
        f'"resource":{with_urls(stored, base_url) if body is None else body},"search":{{"mode":"{mode}"}}}}'
    )


def match_entry(base_url: str, stored: StoredResource, summary: Summary, elements: frozenset[str]) -> str:
    """Entry of a match, with the elements asked for, as JSON."""
    return search_entry(base_url, stored, "match", subset(stored, summary, elements, base_url))


def outcome_entry(issues: Sequence[Issue]) -> str:
    """Entry of a searchset that says what was left out of the search, as JSON."""
    return f'{{"resource":{dumps(operation_outcome(tuple(issues)))},"search":{{"mode":"outcome"}}}}'


def history_entry(base_url: str, stored: StoredResource) -> str:
    """Entry of a history, as JSON."""
    url = f"{stored.resource_type}/{stored.resource_id}"
    method, status = ("POST", "201 Created") if stored.version_id == 1 else ("PUT", "200 OK")
    request = dumps({"method": method, "url": stored.resource_type if method == "POST" else url})
    response = dumps(
        {
            "status": status,
            "etag": f'W/"{stored.version_id}"',
            "lastModified": stored.last_updated.isoformat(timespec="milliseconds"),
        }
    )
    shown = with_urls(stored, base_url)
    return f'{{"fullUrl":"{base_url}/{url}","resource":{shown},"request":{request},"response":{response}}}'


def bundle(
    kind: str, entries: Iterable[str], *, links: Sequence[str] = (), total: int | None = None
) -> bytes:
    """Put a Bundle together from JSON entries; an empty one has no entry element."""
    parts = [f'{{"resourceType":"Bundle","type":"{kind}"']
    if total is not None:
        parts.append(f',"total":{total}')
    if links:
        parts.append(f',"link":[{",".join(links)}]')
    joined = ",".join(entries)
    parts.append(f',"entry":[{joined}]}}' if joined else "}")
    return "".join(parts).encode()


def absolute(text: str, base_url: str) -> str:
    """Text of resources of ours with their URLs made absolute.

    Pictures stay relative to the base URL while that is this machine's own: such a name helps nobody else.
    """
    if urlsplit(base_url).hostname not in _LOOPBACK:
        text = text.replace(f'"url":"{BINARY}', f'"url":"{base_url}/{BINARY}')
    return text.replace(OUR_DICOMWEB, f"{base_url.removesuffix('/fhir')}/dicom-web")


def with_urls(stored: StoredResource, base_url: str) -> str:
    """Body with our own URLs as they are now: they are stored without our name, which may change."""
    if stored.resource_type not in WITH_URLS:
        return stored.body
    return absolute(stored.body, base_url)


def subset(stored: StoredResource, summary: Summary, elements: frozenset[str], base_url: str) -> str:
    """Body with only the elements asked for (R4 search, sections 3.1.1.5.8 and 3.1.1.5.9)."""
    if not elements and summary in (Summary.FALSE, Summary.COUNT):
        return with_urls(stored, base_url)
    resource: dict[str, Any] = loads(with_urls(stored, base_url))
    kept = _kept(stored.resource_type, summary, elements, resource)
    meta = dict(resource["meta"])
    meta["tag"] = [*meta.get("tag", []), _SUBSETTED]
    return dumps({key: (meta if key == "meta" else resource[key]) for key in resource if key in kept})


def _kept(
    resource_type: str, summary: Summary, elements: frozenset[str], resource: dict[str, Any]
) -> frozenset[str]:
    if elements:
        names = mandatory_elements(resource_type) | elements
    elif summary is Summary.TRUE:
        names = summary_elements(resource_type)
    elif summary is Summary.TEXT:
        names = mandatory_elements(resource_type) | {"text"}
    else:  # data: all but the text
        names = frozenset(resource) - {"text"}
    return names | {f"_{name}" for name in names}
