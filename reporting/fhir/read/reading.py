"""read, vread and history."""

from __future__ import annotations

import re
from datetime import datetime

from reporting.fhir.access import Grant
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Search, StoredResource
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.http import (
    Api,
    Request,
    Response,
    moment_of,
    not_modified,
    require,
    version_headers,
)
from reporting.fhir.options import whole_number
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search.bundles import bundle, history_entry, link, subset, url_with
from reporting.fhir.search.paging import PAGE_PARAMETER, opened, seal
from reporting.fhir.search.restrict import restriction
from reporting.fhir.search.search_request import DEFAULT_COUNT, MOST_COUNT, parse, shape
from reporting.fhir.search_table import Interaction
from service.database.pool import Connection, transaction

READ_OPTIONS = frozenset({"_summary", "_elements"})
HISTORY_OPTIONS = frozenset({"_count", "_since", PAGE_PARAMETER})
_VERSION = re.compile(r"[0-9]{1,9}", re.ASCII)


def read(api: Api, request: Request) -> Response:
    """``GET [type]/[id]``."""
    row = request.resource_type
    require(row, Interaction.READ)
    grant = request.principal.grant(row.name, "r")
    with transaction(api.pool) as connection:
        stored = fhir_resources.read(connection, row.name, request.parameters["id"])
        if stored is not None and not visible(connection, api, stored, grant):
            stored = None
    return _answer(api, request, stored)


def vread(api: Api, request: Request) -> Response:
    """``GET [type]/[id]/_history/[version]``."""
    row = request.resource_type
    require(row, Interaction.VREAD)
    grant = request.principal.grant(row.name, "r")
    version = request.parameters["version"]
    stored = None
    if _VERSION.fullmatch(version):
        with transaction(api.pool) as connection:
            stored = fhir_resources.read_version(connection, row.name, request.parameters["id"], int(version))
            if stored is not None and not visible(connection, api, stored, grant):
                stored = None
    return _answer(api, request, stored)


def visible(connection: Connection, api: Api, stored: StoredResource, grant: Grant) -> bool:
    """Whether a grant admits a resource; one outside it is answered as if it did not exist."""
    if grant.patients is not None and stored.patient not in grant.patients:
        return False
    if not grant.alternatives:
        return True
    wanted = Search(
        resource_type=stored.resource_type,
        criteria=parse(
            stored.resource_type, [("_id", stored.resource_id)], strict=True, site=api.site
        ).search.criteria,
        either=restriction(stored.resource_type, grant, api.site)[1],
    )
    return fhir_search.count(connection, wanted) > 0


def _answer(api: Api, request: Request, stored: StoredResource | None) -> Response:
    if stored is None:
        name = f"{request.parameters['type']}/{request.parameters['id']}"
        raise FhirProblemError(404, IssueType.NOT_FOUND, f"there is no {name}", "http.path")
    touched = (f"{stored.resource_type}/{stored.resource_id}",)
    patients = (stored.patient,) if stored.patient else ()
    summary, elements = shape(stored.resource_type, request.query)
    if not_modified(request, stored):
        return Response(status=304, headers=version_headers(stored), touched=touched, patients=patients)
    body = subset(stored, summary, elements, api.base_url)
    return Response(body=body.encode(), headers=version_headers(stored), touched=touched, patients=patients)


def instance_history(api: Api, request: Request) -> Response:
    """``GET [type]/[id]/_history``."""
    row = request.resource_type
    require(row, Interaction.HISTORY_INSTANCE)
    grant = request.principal.grant(row.name, "r")
    resource_id = request.parameters["id"]
    with transaction(api.pool) as connection:
        stored = fhir_resources.read(connection, row.name, resource_id)
        if stored is None or not visible(connection, api, stored, grant):
            raise FhirProblemError(
                404, IssueType.NOT_FOUND, f"there is no {row.name}/{resource_id}", "http.path"
            )
        total = fhir_resources.history_total(connection, row.name, resource_id)
        return _history(api, request, connection, path=f"{row.name}/{resource_id}", total=total, grant=grant)


def type_history(api: Api, request: Request) -> Response:
    """``GET [type]/_history``."""
    row = request.resource_type
    require(row, Interaction.HISTORY_TYPE)
    grant = request.principal.grant(row.name, "s")
    if grant.alternatives:
        raise FhirProblemError(
            403,
            IssueType.FORBIDDEN,
            "a scope with search constraints does not reach histories",
            "http.authorization",
        )
    with transaction(api.pool) as connection:
        return _history(api, request, connection, path=row.name, total=None, grant=grant)


def _history(
    api: Api, request: Request, connection: Connection, *, path: str, total: int | None, grant: Grant
) -> Response:
    kind = f"history {path}"
    pairs, before = list(request.query), None
    until: datetime | None = None
    opened_page = opened(api.page_key, kind, pairs)
    if opened_page is not None:
        pairs, after = opened_page
        before = (datetime.fromisoformat(str(after[0])), str(after[1]), int(str(after[2])))
        until = datetime.fromisoformat(after[3]) if after[3] else None
    options = dict(pairs)
    count = min(whole_number(options.get("_count", str(DEFAULT_COUNT)), "_count"), MOST_COUNT)
    since = moment_of(options["_since"], "_since", api.site.zone) if "_since" in options else None
    resource_type, _, resource_id = path.partition("/")
    if since is not None and before is None:  # asked on from the last one's lastUpdated
        until = fhir_resources.settled_until(connection, resource_type)
    versions = fhir_resources.history(
        connection,
        resource_type,
        resource_id or None,
        count=count + 1,
        since=since,
        before=before,
        until=until,
        patients=grant.patients,
    )
    page = versions[:count]
    used = [(name, value) for name, value in request.query if name in HISTORY_OPTIONS]
    links = [link("self", url_with(f"{api.base_url}/{path}/_history", used))]
    if len(versions) > count and page:
        last = page[-1]
        after_last = (
            last.last_updated.isoformat(),
            last.resource_id,
            str(last.version_id),
            until.isoformat() if until else None,
        )
        token = seal(api.page_key, kind, pairs, after_last)
        links.append(link("next", f"{api.base_url}/{path}/_history?{PAGE_PARAMETER}={token}"))
    entries = [history_entry(api.base_url, version) for version in page]
    return Response(
        body=bundle("history", entries, links=links, total=total),
        touched=tuple(f"{v.resource_type}/{v.resource_id}" for v in page),
        patients=tuple({v.patient for v in page if v.patient}),
    )
