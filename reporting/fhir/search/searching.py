"""Search of a type, by GET and by POST ``_search``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Search, StoredResource
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.http import FORM, Api, Request, Response, json_format, require
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType
from reporting.fhir.parameters import form_pairs
from reporting.fhir.search.bundles import bundle, link, match_entry, outcome_entry, search_entry, url_with
from reporting.fhir.search.paging import PAGE_PARAMETER, opened, seal
from reporting.fhir.search.restrict import may_chain, of_patients, restriction
from reporting.fhir.search.search_request import Include, SearchRequest, Summary, Total, parse
from reporting.fhir.search_table import IN_PATIENT_COMPARTMENT, RESOURCE_TYPES, Interaction
from service.database.pool import Connection, transaction

MOST_INCLUDED = 1000
MOST_ROUNDS = 4  # of :iterate
_SETTLED = "_settled"  # in a page link alone: what a polling search ends before
CUT_SHORT = (
    Issue(
        code=IssueType.INCOMPLETE,
        diagnostics=f"more than {MOST_INCLUDED - 1} resources to include: ask for fewer matches at once",
        expression="http._include",
        severity="warning",
    ),
)


def search(api: Api, request: Request) -> Response:
    """``GET [type]?...``."""
    return _search(api, request, list(request.query))


def compartment(api: Api, request: Request) -> Response:
    """``GET Patient/[id]/[type]?...``: a search within what is the patient's (R4 compartmentdefinition)."""
    return _search(api, request, list(request.query), within=request.parameters["id"])


def search_by_post(api: Api, request: Request) -> Response:
    """``POST [type]/_search``: parameters in the query and the form together."""
    content_type = request.headers.get("content-type", FORM).partition(";")[0].strip().lower()
    if content_type != FORM:
        raise FhirProblemError(415, IssueType.NOT_SUPPORTED, f"_search takes {FORM}", "http.content-type")
    pairs = [*request.query, *form_pairs(request.body)]
    json_format(pairs)
    return _search(api, request, pairs, within=request.parameters.get("id", ""))


def _search(api: Api, request: Request, pairs: list[tuple[str, str]], within: str = "") -> Response:
    row = request.resource_type
    require(row, Interaction.SEARCH)
    if within and row.name not in IN_PATIENT_COMPARTMENT:
        text = f"{row.name} is in no patient's compartment"
        raise FhirProblemError(404, IssueType.NOT_SUPPORTED, text, "http.path")
    grant = request.principal.grant(row.name, "s")
    path = f"Patient/{within}/{row.name}" if within else row.name
    kind = f"search {path}"
    after: tuple[str | None, ...] = ()
    given = pairs
    page = opened(api.page_key, kind, given)
    settled: datetime | None = None
    if page is not None:
        pairs, after = page
        settled = next((datetime.fromisoformat(value) for name, value in pairs if name == _SETTLED), None)
        pairs = [pair for pair in pairs if pair[0] != _SETTLED]
    wanted = parse(row.name, pairs, strict=request.strict, site=api.site)
    may_chain(request.principal, wanted.search.criteria)
    criteria, either = restriction(row.name, grant, api.site)
    if within:
        criteria = (*criteria, of_patients(row.name, (within,)))
    wanted = replace(
        wanted,
        search=replace(
            wanted.search, criteria=(*wanted.search.criteria, *criteria), either=either, after=after
        ),
    )
    if _is_list(wanted, pairs):
        wanted = replace(wanted, search=replace(wanted.search, in_brief=True))
    self_url = url_with(f"{api.base_url}/{path}", wanted.used if page is None else given)
    with transaction(api.pool) as connection:
        if polls(wanted.search):
            settled = settled or fhir_resources.settled_until(connection, row.name)
            wanted = replace(wanted, search=replace(wanted.search, before=settled))
            pairs = [*pairs, (_SETTLED, settled.isoformat())]  # the pages of a walk are of one moment
        if wanted.summary is Summary.COUNT or wanted.search.count == 0:
            total = fhir_search.count(connection, wanted.search)
            return Response(body=bundle("searchset", (), links=[link("self", self_url)], total=total))
        return _page(api, request, connection, wanted, pairs=pairs, path=path, self_url=self_url)


def _is_list(wanted: SearchRequest, pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether a search asks for nothing of its matches in particular: neither their form nor components."""
    if wanted.elements or any(name == "_summary" for name, _ in pairs):
        return False
    return not any(
        each.parameter.name.startswith(("component-", "combo-")) for each in wanted.search.criteria
    )


def polls(search: Search) -> bool:
    """Whether a client may ask on from the greatest lastUpdated of what it is answered.

    What is shown then ends before the oldest write that is still under way: it will have an earlier one.
    """
    asked = [each.parameter for each in search.criteria] + [key.parameter for key in search.sort]
    return any(parameter.name == "_lastUpdated" for parameter in asked)


def _page(
    api: Api,
    request: Request,
    connection: Connection,
    wanted: SearchRequest,
    *,
    pairs: Sequence[tuple[str, str]],
    path: str,
    self_url: str,
) -> Response:
    page = fhir_search.search(connection, wanted.search)
    total = _total(connection, wanted, len(page.resources), whole=not page.after and not wanted.search.after)
    included = included_with(connection, request, wanted, page.resources)
    links = [link("self", self_url)]
    if page.after:
        token = seal(api.page_key, f"search {path}", pairs, page.after)
        links.append(link("next", f"{api.base_url}/{path}?{PAGE_PARAMETER}={token}"))
    entries = [
        match_entry(api.base_url, stored, wanted.summary, wanted.elements) for stored in page.resources
    ]
    entries += [search_entry(api.base_url, stored, "include") for stored in included]
    notes = (*wanted.ignored, *(CUT_SHORT if len(included) >= MOST_INCLUDED else ()))
    if notes:
        entries.append(outcome_entry(notes))
    everything = [*page.resources, *included]
    return Response(
        body=bundle("searchset", entries, links=links, total=total),
        touched=tuple(f"{s.resource_type}/{s.resource_id}" for s in everything),
        patients=tuple({s.patient for s in everything if s.patient}),
    )


def _total(connection: Connection, wanted: SearchRequest, found: int, *, whole: bool) -> int | None:
    if whole:
        return found  # the first page is the only one: counted for nothing
    if wanted.total is Total.ACCURATE:
        return fhir_search.count(connection, wanted.search)
    if wanted.total is Total.ESTIMATE:
        return max(fhir_search.estimate(connection, wanted.search), found)
    return None


# --- _include and _revinclude


def included_with(
    connection: Connection, request: Request, wanted: SearchRequest, matches: Sequence[StoredResource]
) -> list[StoredResource]:
    """What ``_include`` and ``_revinclude`` add to matches, ``MOST_INCLUDED`` at most."""
    if not (wanted.includes or wanted.revincludes) or not matches:
        return []
    seen = {(s.resource_type, s.resource_id) for s in matches}
    found: list[StoredResource] = []
    frontier = list(matches)
    for round_number in range(MOST_ROUNDS):
        fresh: list[StoredResource] = []
        for include in wanted.includes:
            if round_number == 0 or include.iterate:
                fresh += _forward(connection, include, frontier)
        for include in wanted.revincludes:
            if round_number == 0 or include.iterate:
                fresh += _backward(connection, include, frontier)
        frontier = []
        for stored in fresh:
            key = (stored.resource_type, stored.resource_id)
            if key not in seen and _may_see(request, stored):
                seen.add(key)
                frontier.append(stored)
        found += frontier
        if not frontier or len(found) >= MOST_INCLUDED:
            break
    return found[:MOST_INCLUDED]


def _forward(
    connection: Connection, include: Include, sources: Sequence[StoredResource]
) -> list[StoredResource]:
    rows = [s.row_id for s in sources if s.resource_type == include.source_type]
    if not rows:
        return []
    parameter = include.parameter
    if not parameter.column:
        return fhir_search.including(connection, rows, parameter.number, include.target_type, MOST_INCLUDED)
    target = parameter.targets[0]
    if include.target_type not in (None, target):
        return []
    return fhir_search.including_column(connection, rows, parameter.column, target, MOST_INCLUDED)


def _backward(
    connection: Connection, include: Include, targets: Sequence[StoredResource]
) -> list[StoredResource]:
    parameter = include.parameter
    wanted_types = {include.target_type} if include.target_type else set(parameter.targets)
    pairs = [(s.resource_type, s.resource_id) for s in targets if s.resource_type in wanted_types]
    if not pairs:
        return []
    if not parameter.column:
        return fhir_search.referring(connection, pairs, include.source_type, parameter.number, MOST_INCLUDED)
    ids = [resource_id for _, resource_id in pairs]
    return fhir_search.referring_column(connection, ids, include.source_type, parameter.column, MOST_INCLUDED)


def _may_see(request: Request, stored: StoredResource) -> bool:
    if stored.resource_type not in RESOURCE_TYPES or not request.principal.may(stored.resource_type, "r"):
        return False
    grant = request.principal.grant(stored.resource_type, "r")
    if grant.alternatives:
        return False  # constrained scopes admit what they find themselves, not what is included
    return grant.patients is None or stored.patient in grant.patients
