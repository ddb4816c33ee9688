"""Bundles put together from stored bytes; a resource is parsed only to leave elements out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

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
        f'"resource":{stored.body if body is None else body},"search":{{"mode":"{mode}"}}}}'
    )


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
    return (
        f'{{"fullUrl":"{base_url}/{url}","resource":{stored.body},"request":{request},"response":{response}}}'
    )


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


def subset(stored: StoredResource, summary: Summary, elements: frozenset[str]) -> str:
    """Body with only the elements asked for (R4 search, sections 3.1.1.5.8 and 3.1.1.5.9)."""
    if not elements and summary in (Summary.FALSE, Summary.COUNT):
        return stored.body
    resource: dict[str, Any] = loads(stored.body)
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
