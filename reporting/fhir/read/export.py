"""Bulk Data ``$export`` (HL7 Bulk Data Access 2.0): a job is a moment and a plan; files stream from the rows.

Nothing is written to disk: a file is the resources of a range of rows as they were at the job's
transaction time, so any replica serves it, it can be fetched again, and it is the same each time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

from reporting.fhir.database import exports as fhir_exports
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.exports import Export
from reporting.fhir.database.records import Search, instant
from reporting.fhir.http import NDJSON, PLAIN_JSON, Api, Request, Response, moment_of
from reporting.fhir.options import once_each, unknown_options
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.parameters import operation_pairs
from reporting.fhir.read.as_of import Chunk, search_as_of
from reporting.fhir.render import dumps
from reporting.fhir.search.bundles import WITH_URLS, absolute, url_with, with_urls
from reporting.fhir.search.restrict import may_chain
from reporting.fhir.search.search_request import RESULT_PARAMETERS, parse
from reporting.fhir.search_table import IN_PATIENT_COMPARTMENT, RESOURCE_TYPES
from service.database.pool import in_transaction, transaction

ROWS_PER_FILE = 500_000
ROWS_PER_CHUNK = 400  # about 4 MB: large for a socket, small for memory and for a connection's turn
KEPT_S = 24 * 3600.0
PLAN_S = 2.0  # of one request; a poll more goes on where it ended
_NOT_EXPORTED = ("AuditEvent", "Subscription")  # about the use of this server, not its content
_FORMATS = {"application/fhir+ndjson", "application/ndjson", "ndjson"}
_PLACE = re.compile(r"[0-9]{1,6}", re.ASCII)
_NEXT_FILTER = re.compile(r",(?=[A-Z][A-Za-z]+\?)")  # a comma may be within a filter too
_PARAMETERS = {"_outputFormat", "_since", "_type", "_typeFilter", "_format", "_pretty"}


def export_system(api: Api, request: Request) -> Response:
    """``$export``."""
    return _start(api, request, "$export", tuple(t for t in RESOURCE_TYPES if t not in _NOT_EXPORTED))


def export_patients(api: Api, request: Request) -> Response:
    """``Patient/$export``."""
    types = tuple(t for t in IN_PATIENT_COMPARTMENT if t != "AuditEvent")
    return _start(api, request, "Patient/$export", types)


def _start(api: Api, request: Request, path: str, possible: tuple[str, ...]) -> Response:
    request = replace(request, query=operation_pairs(request))
    if request.prefers("respond-async") is None:
        raise FhirProblemError(400, IssueType.REQUIRED, "send Prefer: respond-async", "http.prefer")
    # Bulk Data asks to refuse what is not served, unless the client says handling=lenient
    unknown_options(request.query, _PARAMETERS, strict=request.prefers("handling") != "lenient")
    wanted_format = (request.option("_outputFormat") or "ndjson").replace(" ", "+")
    if wanted_format not in _FORMATS:
        raise FhirProblemError(
            400, IssueType.VALUE, "_outputFormat is application/fhir+ndjson", "http._outputFormat"
        )
    once_each(request.query, ("_since", "_outputFormat"))
    types = _types(request, possible)
    since = request.option("_since")
    if since is not None:
        moment_of(since, "_since", api.site.zone)
    export = Export(
        export_id=uuid4(),
        client_id=request.principal.client_id,
        request_url=url_with(f"{api.base_url}/{path}", request.query),
        request={"types": types, "since": since, "filters": _filters(api, request, types)},
        transaction_time=datetime.min,
        files=None,
    )
    with transaction(api.pool) as connection:
        settled = fhir_resources.settled_now(connection)
        fhir_exports.add(connection, replace(export, transaction_time=settled), KEPT_S)
    status_url = f"{api.base_url}/$export-status/{export.export_id}"
    return Response(status=202, headers=(("Content-Location", status_url),))


def _types(request: Request, possible: tuple[str, ...]) -> list[str]:
    named = [t for name, value in request.query if name == "_type" for t in value.split(",") if t]
    unknown = [t for t in named if t not in possible]
    if not named and any(name == "_type" for name, _ in request.query):
        raise FhirProblemError(400, IssueType.VALUE, "_type names no type", "http._type")
    if unknown:
        raise FhirProblemError(
            400, IssueType.VALUE, f"_type: {', '.join(unknown)} is not exported", "http._type"
        )
    types = []
    for resource_type in named or possible:
        if not named and not request.principal.may(resource_type, "s"):
            continue
        grant = request.principal.grant(resource_type, "s")
        if grant.patients is not None or grant.alternatives:
            raise FhirProblemError(
                403, IssueType.FORBIDDEN, f"no scope grants all of {resource_type}", "http.authorization"
            )
        types.append(resource_type)
    if not types:
        raise FhirProblemError(403, IssueType.FORBIDDEN, "no scope grants any type", "http.authorization")
    return list(dict.fromkeys(types))


def _filters(api: Api, request: Request, types: Sequence[str]) -> dict[str, list[str]]:
    """Searches by type, any of which a resource must match."""
    filters: dict[str, list[str]] = {}
    for name, value in request.query:
        for each in _NEXT_FILTER.split(value) if name == "_typeFilter" else ():
            resource_type, _, query = each.partition("?")
            pairs = parse_qsl(query, keep_blank_values=True)
            if resource_type not in types or not pairs:
                raise FhirProblemError(
                    400, IssueType.VALUE, "_typeFilter is Type?search of an exported type", "http._typeFilter"
                )
            try:
                asked = parse(resource_type, pairs, strict=True, site=api.site)
            except FhirProblemError as exc:
                raise FhirProblemError(400, IssueType.VALUE, str(exc), "http._typeFilter") from exc
            shaping = [given for given, _ in pairs if given.partition(":")[0] in RESULT_PARAMETERS]
            if shaping:
                raise FhirProblemError(
                    400,
                    IssueType.NOT_SUPPORTED,
                    f"{', '.join(shaping)} selects no resource",
                    "http._typeFilter",
                )
            may_chain(request.principal, asked.search.criteria)
            filters.setdefault(resource_type, []).append(query)
    return filters


def status(api: Api, request: Request) -> Response:
    """``GET $export-status/[id]``: the manifest, or 202 while it is planned."""
    export = _job(api, request)
    until = time.monotonic() + PLAN_S
    files = export.files
    while files is None:
        files, progress = _plan_on(api, export)
        if files is None and time.monotonic() >= until:
            return Response(status=202, headers=(("X-Progress", progress), ("Retry-After", "1")))
    manifest: dict[str, Any] = {
        "transactionTime": instant(export.transaction_time),
        "request": export.request_url,
        "requiresAccessToken": api.authorizer is not None,
        "output": [
            {
                "type": file["type"],
                "url": f"{api.base_url}/$export-file/{export.export_id}/{place}",
                **({"count": file["count"]} if "count" in file else {}),
            }
            for place, file in enumerate(files)
        ],
        "error": [],
    }
    return Response(body=dumps(manifest).encode(), content_type=PLAIN_JSON)


def _plan_on(api: Api, export: Export) -> tuple[list[dict[str, Any]] | None, str]:
    """Plan one file more; returns all of them when none is left, and how far it is."""
    types: Sequence[str] = export.request["types"]
    with transaction(api.pool) as connection:
        plan = fhir_exports.plan_of(connection, export.export_id)
        if plan is None:
            raise _missing()
        files, done, first = list(plan.get("files", [])), plan.get("done", 0), plan.get("first", 0)
        if done < len(types):
            resource_type = types[done]
            found = None
            if resource_type in export.request["filters"]:
                files.append({"type": resource_type, "filtered": True})
            else:
                found = fhir_exports.next_file(
                    connection,
                    resource_type,
                    first=first,
                    since=_since(export, api),
                    as_of=export.transaction_time,
                    most=ROWS_PER_FILE,
                )
            if found is not None:
                first, last, count = found
                files.append({"type": resource_type, "first": first, "last": last, "count": count})
                first = last + 1
            if found is None or count < ROWS_PER_FILE:
                done, first = done + 1, 0
        if done < len(types):
            fhir_exports.set_plan(
                connection, export.export_id, {"files": files, "done": done, "first": first}
            )
            return None, f"{len(files)} files planned, at {types[done]}"
        fhir_exports.set_files(connection, export.export_id, files)
    return files, "planned"


def cancel(api: Api, request: Request) -> Response:
    """``DELETE $export-status/[id]``: forget the job; its files are gone."""
    export = _job(api, request)
    with transaction(api.pool) as connection:
        fhir_exports.cancel(connection, export.export_id, export.client_id)
    return Response(status=202)


def file(api: Api, request: Request) -> Response:
    """``GET $export-file/[id]/[place]``: one file, streamed."""
    export = _job(api, request)
    place = request.parameters["place"]
    if export.files is None or not _PLACE.fullmatch(place) or int(place) >= len(export.files):
        raise FhirProblemError(404, IssueType.NOT_FOUND, "there is no such file", "http.path")
    plan = export.files[int(place)]
    lines = _filtered(api, export, plan["type"]) if plan.get("filtered") else _rows(api, export, plan)
    return Response(chunks=lines, content_type=NDJSON, touched=(f"{plan['type']}",))


def _job(api: Api, request: Request) -> Export:
    try:
        export_id = UUID(request.parameters["id"])
    except ValueError:
        raise _missing() from None
    with transaction(api.pool) as connection:
        export = fhir_exports.get(connection, export_id, request.principal.client_id)
    if export is None:
        raise _missing()
    return export


def _missing() -> FhirProblemError:
    return FhirProblemError(404, IssueType.NOT_FOUND, "there is no such export", "http.path")


def _since(export: Export, api: Api) -> datetime | None:
    since = export.request["since"]
    return moment_of(since, "_since", api.site.zone) if since else None


def _rows(api: Api, export: Export, plan: Any) -> Iterator[bytes]:
    following: int | None = plan["first"]
    while following is not None:
        with transaction(api.pool) as connection:
            found, following = fhir_exports.bodies(
                connection,
                plan["type"],
                first=following,
                last=plan["last"],
                since=_since(export, api),
                as_of=export.transaction_time,
                count=ROWS_PER_CHUNK,
            )
        if found:
            yield _with_urls(found, plan["type"], api.base_url)


def _with_urls(lines: bytes, resource_type: str, base_url: str) -> bytes:
    """Lines with our own URLs as they are now; see ``bundles.with_urls``."""
    if resource_type not in WITH_URLS:
        return lines
    return absolute(lines.decode(), base_url).encode()


def _filtered(api: Api, export: Export, resource_type: str) -> Iterator[bytes]:
    either = tuple(
        parse(resource_type, parse_qsl(query), strict=True, site=api.site).search.criteria
        for query in export.request["filters"][resource_type]
    )
    since = _since(export, api)
    search = Search(resource_type=resource_type, either=either, count=ROWS_PER_CHUNK)
    after: int | None = 0
    while after is not None:
        chunk = _chunk(api, export, search, after)
        found = [
            with_urls(version, api.base_url)
            for version in chunk.versions
            if since is None or version.last_updated >= since
        ]
        if found:
            yield ("\n".join(found) + "\n").encode()
        after = chunk.after


def _chunk(api: Api, export: Export, search: Search, after: int) -> Chunk:
    moment = export.transaction_time
    return in_transaction(
        api.pool, lambda connection: search_as_of(connection, search, api.site, moment, after)
    )
