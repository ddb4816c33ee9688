"""$lastn, $everything, and the heatmap as a picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Criterion, Modifier, Search, TokenValue
from reporting.fhir.database.searching import compartment as fhir_compartment
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.extract import interval
from reporting.fhir.http import Api, Request, Response, json_format, moment_of
from reporting.fhir.options import FORM_OPTIONS, once_each, unknown_options, whole_number
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.parameters import operation_pairs
from reporting.fhir.presented.serving import pdf_of
from reporting.fhir.read.reading import visible
from reporting.fhir.render import dumps, loads
from reporting.fhir.search.bundles import bundle, link, match_entry, outcome_entry, search_entry, url_with
from reporting.fhir.search.paging import PAGE_PARAMETER, opened, seal
from reporting.fhir.search.restrict import may_chain, restriction
from reporting.fhir.search.search_request import DEFAULT_COUNT, MOST_COUNT, parse
from reporting.fhir.search.searching import included_with, polls
from reporting.fhir.search_table import IN_PATIENT_COMPARTMENT, RESOURCE_TYPES
from reporting.fhir.site import Site
from reporting.identifiers import observation_id_of
from reporting.pictures import pictures_of
from service.database import appraisals
from service.database.pool import transaction
from service.errors import FhirError, RecordNotFoundError
from service.pictures.encode import decode, describe, encode_png

MOST_LAST = 100
_NOT_WITHDRAWN = Criterion(
    parameter=RESOURCE_TYPES["Observation"].parameters["status"],
    values=(TokenValue(system=None, code="entered-in-error"), TokenValue(system=None, code="cancelled")),
    modifier=Modifier.NOT,
)
_SUPPORTING = ("Device", "Practitioner")
_NOT_OF_LAST_N = ("_sort", "_count", "_total")  # newest first, ``max`` of each, all of them at once
EVERYTHING_OPTIONS = frozenset({"_type", "_since", "start", "end", "_count"})


def last_n(api: Api, request: Request) -> Response:
    """``Observation/$lastn``: the newest of every code, ``max`` of each (R4)."""
    grant = request.principal.grant("Observation", "s")
    asked = operation_pairs(request)
    json_format(asked)
    once_each(asked, ("max",))
    most = whole_number(dict(asked).get("max") or "1", "max", least=1)
    if most > MOST_LAST:
        raise FhirProblemError(400, IssueType.VALUE, f"max is 1 to {MOST_LAST}", "http.max")
    unserved = [(name, value) for name, value in asked if name in _NOT_OF_LAST_N]
    known = {"max", *RESOURCE_TYPES["Observation"].parameters}
    notes = unknown_options(unserved, known, strict=request.strict)
    used = [(name, value) for name, value in asked if name not in _NOT_OF_LAST_N]
    criteria = [(name, value) for name, value in used if name != "max"]
    wanted = parse("Observation", criteria, strict=request.strict, site=api.site)
    notes = (*notes, *wanted.ignored)
    if not any(_names_patient(criterion) for criterion in wanted.search.criteria):
        raise FhirProblemError(400, IssueType.REQUIRED, "$lastn needs patient or subject", "http.patient")
    may_chain(request.principal, wanted.search.criteria)
    more, either = restriction("Observation", grant, api.site)
    if not any(each.parameter.name == "status" for each in wanted.search.criteria):
        more = (*more, _NOT_WITHDRAWN)
    search = Search(resource_type="Observation", criteria=(*wanted.search.criteria, *more), either=either)
    with transaction(api.pool) as connection:
        if polls(search):
            search = replace(search, before=fhir_resources.settled_until(connection, "Observation"))
        found = fhir_search.last_n(connection, search, most)
        included = included_with(connection, request, wanted, found)
    left_out = {issue.expression.removeprefix("http.") for issue in notes}
    self_url = url_with(
        f"{api.base_url}/Observation/$lastn", [pair for pair in used if pair[0] not in left_out]
    )
    entries = [match_entry(api.base_url, stored, wanted.summary, wanted.elements) for stored in found]
    entries += [search_entry(api.base_url, stored, "include") for stored in included]
    if notes:
        entries.append(outcome_entry(notes))
    everything = [*found, *included]
    return Response(
        body=bundle("searchset", entries, links=[link("self", self_url)], total=len(found)),
        touched=tuple(f"{stored.resource_type}/{stored.resource_id}" for stored in everything),
        patients=tuple({stored.patient for stored in everything if stored.patient}),
    )


def _names_patient(criterion: Criterion) -> bool:
    return criterion.parameter.name in ("patient", "subject") and criterion.modifier is not Modifier.MISSING


def everything(api: Api, request: Request) -> Response:
    """``Patient/[id]/$everything``: the compartment, with the devices and surgeons it refers to."""
    patient = request.parameters["id"]
    grant = request.principal.grant("Patient", "r")
    path = f"Patient/{patient}/$everything"
    pairs, after = list(operation_pairs(request)), 0
    before: datetime | None = None
    json_format(pairs)
    asked = tuple(pairs)
    page_asked = opened(api.page_key, path, pairs)
    if page_asked is not None:
        pairs, cursor = page_asked
        after, before = int(str(cursor[0])), datetime.fromisoformat(cursor[1]) if cursor[1] else None
    notes = unknown_options(pairs, EVERYTHING_OPTIONS | FORM_OPTIONS, strict=request.strict)
    once_each(pairs, EVERYTHING_OPTIONS - {"_type"})
    options = dict(pairs) | {"_type": ",".join(value for name, value in pairs if name == "_type" and value)}
    types = [t for t in _types(options.get("_type")) if request.principal.may_all(t, "r")]
    since = moment_of(options["_since"], "_since", api.site.zone) if "_since" in options else None
    start, end = _care(options, api.site)
    count = min(whole_number(options.get("_count", str(DEFAULT_COUNT)), "_count", least=1), MOST_COUNT)
    with transaction(api.pool) as connection:
        owner = fhir_resources.read(connection, "Patient", patient)
        if owner is None or not visible(connection, api, owner, grant):
            raise FhirProblemError(404, IssueType.NOT_FOUND, f"there is no Patient/{patient}", "http.path")
        if since is not None and before is None:  # asked on from the last one's lastUpdated
            before = fhir_resources.settled_until(connection, "Patient")
        found = fhir_compartment.of_patient(
            connection,
            fhir_persons.members(connection, patient),
            types,
            since=since,
            before=before,
            start=start,
            end=end,
            after=after,
            count=count + 1,
        )
        page = found[:count]
        wider = [
            t
            for t in _SUPPORTING
            if request.principal.may_all(t, "r") and (not options.get("_type") or t in types)
        ]
        others = fhir_compartment.supporting(connection, [s.row_id for s in page], wider)
    served = EVERYTHING_OPTIONS | {PAGE_PARAMETER}
    links = [link("self", url_with(f"{api.base_url}/{path}", [pair for pair in asked if pair[0] in served]))]
    if len(found) > count and page:
        token = seal(
            api.page_key, path, pairs, (str(page[-1].row_id), before.isoformat() if before else None)
        )
        links.append(link("next", f"{api.base_url}/{path}?{PAGE_PARAMETER}={token}"))
    entries = [search_entry(api.base_url, stored, "match") for stored in page]
    entries += [search_entry(api.base_url, stored, "include") for stored in others]
    if notes:
        entries.append(outcome_entry(notes))
    return Response(
        body=bundle("searchset", entries, links=links),
        touched=tuple(f"{stored.resource_type}/{stored.resource_id}" for stored in page),
        patients=(patient,),
    )


def _types(text: str | None) -> list[str]:
    if not text:
        return [t for t in IN_PATIENT_COMPARTMENT if t != "AuditEvent"]
    names = text.split(",")
    unknown = [name for name in names if name not in RESOURCE_TYPES]
    if unknown:
        raise FhirProblemError(
            400, IssueType.VALUE, f"_type: {', '.join(unknown)} is not served", "http._type"
        )
    return names


def _care(options: Mapping[str, str], site: Site) -> tuple[datetime | None, datetime | None]:
    """First moment of ``start`` and the moment after ``end``: dates as precise as they are given."""
    bounds: list[datetime | None] = []
    for name, place in (("start", 0), ("end", 1)):
        try:
            bounds.append(
                interval(options[name].replace(" ", "+"), site.zone)[place] if name in options else None
            )
        except FhirError as exc:
            raise FhirProblemError(400, IssueType.VALUE, str(exc), f"http.{name}") from exc
    if bounds[0] is not None and bounds[1] is not None and bounds[0] >= bounds[1]:
        raise FhirProblemError(400, IssueType.VALUE, "start is not after end", "http.start")
    return bounds[0], bounds[1]


def binary(api: Api, request: Request) -> Response:
    """``GET Binary/[id]``: the heatmap of an appraisal as PNG, or a report as PDF; in JSON if asked so."""
    name = request.parameters["id"]
    found = _heatmap(api, request, name) or _report(api, request, name)
    if found is None:
        raise FhirProblemError(404, IssueType.NOT_FOUND, f"there is no Binary/{name}", "http.path")
    data, content_type, patient = found
    patients = (patient,) if patient else ()
    touched = (f"Binary/{name}",)
    if "json" in request.headers.get("accept", ""):
        body = {
            "resourceType": "Binary",
            "id": name,
            "contentType": content_type,
            "data": base64.b64encode(data).decode(),
        }
        return Response(body=dumps(body).encode(), touched=touched, patients=patients)
    return Response(body=data, content_type=content_type, touched=touched, patients=patients)


def _heatmap(api: Api, request: Request, name: str) -> tuple[bytes, str, str | None] | None:
    try:
        appraisal_id = UUID(name)
    except ValueError:
        return None
    grant = request.principal.grant("Media", "r")
    with transaction(api.pool) as connection:
        observation = fhir_resources.read(connection, "Observation", observation_id_of(str(appraisal_id)))
        if (
            observation is None
            or grant.alternatives
            or (grant.patients is not None and observation.patient not in grant.patients)
        ):
            return None
        if loads(observation.body)["status"] == "entered-in-error":
            raise _withdrawn()
        try:
            saved = appraisals.get(connection, appraisal_id)
            drawn = pictures_of(connection, api.store, saved)
        except RecordNotFoundError:
            return None
    if drawn is None:
        return None
    content, content_type = _picture(
        api, saved.heatmap_sha256, drawn.picture, request.headers.get("accept", "")
    )
    return content, content_type, observation.patient


def _picture(api: Api, sha256: str, picture: bytes, accept: str) -> tuple[bytes, str]:
    """The picture as PNG, or as the JPEG it is kept as where that alone is asked for, and its media type."""
    kept = describe(picture).format
    if kept == "JPEG" and "image/jpeg" in accept and "image/png" not in accept:
        return picture, "image/jpeg"
    if kept == "PNG":
        return picture, "image/png"
    return api.renditions.get(sha256, "png", lambda: encode_png(decode(picture))), "image/png"


def _report(api: Api, request: Request, name: str) -> tuple[bytes, str, str | None] | None:
    """A report as PDF, for who may see all that it shows: patient, results and pictures."""
    if not request.principal.may("DiagnosticReport", "r"):
        return None
    grant = request.principal.grant("DiagnosticReport", "r")
    with transaction(api.pool) as connection:
        report = fhir_resources.read(connection, "DiagnosticReport", name)
        if report is None or not visible(connection, api, report, grant):
            return None
    for shown in ("Patient", "Observation", "Media"):
        part = request.principal.grant(shown, "r")
        if part.alternatives or (part.patients is not None and report.patient not in part.patients):
            text = f"the report shows every {shown}, and no scope grants that"
            raise FhirProblemError(403, IssueType.FORBIDDEN, text, "http.authorization")
    if loads(report.body)["status"] == "entered-in-error":
        raise _withdrawn()
    return pdf_of(api, report), "application/pdf", report.patient


def _withdrawn() -> FhirProblemError:
    return FhirProblemError(410, IssueType.DELETED, "this result was withdrawn", "http.path")
