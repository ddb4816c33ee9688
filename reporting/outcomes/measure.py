"""``Measure/facial-change/$evaluate-measure``: how many changes are better, as a FHIR MeasureReport."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from reporting.fhir.elements import Element, coded, decimal, without_empty
from reporting.fhir.http import Api, Request, Response, json_format
from reporting.fhir.options import FORM_OPTIONS, once_each, unknown_options
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.parameters import operation_pairs
from reporting.fhir.render import dumps
from reporting.identifiers import fhir_id, named_uid
from reporting.outcomes.charts.records import ChangeTable, Denominators
from reporting.outcomes.database import changes, phases
from reporting.outcomes.database.changes import Selection
from reporting.outcomes.drawing import digest_of
from service.database.pool import transaction
from service.records import Region

MEASURE_ID = "facial-change"
MEASURE_URL = f"urn:oid:{named_uid('measure', MEASURE_ID)}"
MEASURE_VERSION = "1"
OPTIONS = frozenset(
    {"periodStart", "periodEnd", "code", "window", "region", "phase", "reportType", "subject"}
)
_MOST_EVIDENCE = 1000  # changes that are named one by one; the digest is over all
_STRATIFIERS = ("site", "phenotype", "syndrome", "laterality")
_SUMMARY = "summary"
_NAMED_BY = ("code", "window", "region", "phase", "since", "until", "site", "surgeon")  # a report's id


def measure(api: Api, request: Request) -> Response:
    """``GET Measure/facial-change``: what is counted."""
    request.principal.grant("Observation", "s")
    return Response(body=dumps(measure_resource()).encode())


def measure_resource() -> Element:
    """The Measure (R4): of all changes, those better by more than the smallest detectable change."""
    return {
        "resourceType": "Measure",
        "id": MEASURE_ID,
        "url": MEASURE_URL,
        "version": MEASURE_VERSION,
        "name": "FacialChange",
        "title": "Faces that are better after surgery",
        "status": "active",
        "description": "Of the patients who were photographed before and after an operation, those whose "
        "face is more normal by more than the smallest detectable change.",
        "scoring": coded("http://terminology.hl7.org/CodeSystem/measure-scoring", "proportion", "Proportion"),
        "improvementNotation": coded(
            "http://terminology.hl7.org/CodeSystem/measure-improvement-notation",
            "increase",
            "Increased score indicates improvement",
        ),
        "group": [
            {
                "population": [
                    {
                        "code": _population(code),
                        "criteria": {"language": "text/plain", "expression": expression},
                    }
                    for code, expression in (
                        ("initial-population", "operations whose window has closed"),
                        ("denominator", "of those, with a valid change"),
                        ("numerator", "of those, better by more than the smallest detectable change"),
                    )
                ],
                "stratifier": [{"code": {"text": name}} for name in _STRATIFIERS],
            }
        ],
    }


def evaluate_measure(api: Api, request: Request) -> Response:
    """``[GET|POST] Measure/facial-change/$evaluate-measure``: ``code`` and the period; stratified."""
    grant = request.principal.grant("Observation", "s")
    if grant.patients is not None or grant.alternatives:
        raise FhirProblemError(
            403, IssueType.FORBIDDEN, "no scope grants all of Observation", "http.authorization"
        )
    pairs = operation_pairs(request)
    json_format(pairs)
    once_each(pairs, OPTIONS)
    unknown_options(pairs, OPTIONS | FORM_OPTIONS, strict=request.strict)
    options = dict(pairs)
    if options.get("reportType", _SUMMARY) not in (_SUMMARY, "population") or "subject" in options:
        raise FhirProblemError(
            400, IssueType.NOT_SUPPORTED, "reports are of the population, not of a subject", "http.reportType"
        )
    with transaction(api.pool) as connection:
        selection = _selection(options, phases.newest(connection))
        table = changes.table(connection, selection)
        counted = changes.denominators(connection, selection)
    report = measure_report(selection, table, counted, organisation=api.settings.organisation)
    return Response(body=dumps(report).encode())


def _selection(options: Mapping[str, str], newest: phases.MethodPhase | None) -> Selection:
    for name in ("code", "periodStart", "periodEnd"):
        if not options.get(name):
            raise FhirProblemError(400, IssueType.REQUIRED, f"say {name}", f"http.{name}")
    region = options.get("region", Region.FACE.value)
    if region not in set(Region):
        raise FhirProblemError(400, IssueType.VALUE, f"region is one of {', '.join(Region)}", "http.region")
    first, last = (_day(options[name], name) for name in ("periodStart", "periodEnd"))
    if first > last:
        raise FhirProblemError(400, IssueType.VALUE, "periodStart is after periodEnd", "http.periodStart")
    return Selection(
        code=options["code"],
        window=options.get("window", "12 months"),
        region=region,
        phase=options.get("phase") or (newest.phase if newest else ""),
        since=first,
        until=last,
    )


def _day(text: str, name: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError as exc:
        said = f"{name} is a day as 2024-05-31"
        raise FhirProblemError(400, IssueType.VALUE, said, f"http.{name}") from exc


def measure_report(
    selection: Selection, table: ChangeTable, counted: Denominators, *, organisation: str
) -> Element:
    """Make the MeasureReport; the same changes give the same id and content.

    Args:
        selection: What was asked for.
        table: Its valid changes.
        counted: Of whom they do not speak.
        organisation: Who reports.
    """
    evidence = sorted(map(str, table.change_id))
    parts = [str(getattr(selection, name)) for name in _NAMED_BY]
    better = int((~table.poor).sum())
    group = {
        "code": {"text": f"{selection.code}, {selection.region}, {selection.window}"},
        "population": _populations(counted.eligible, len(table), better),
        "measureScore": _score(better, len(table)),
        "stratifier": [each for name in _STRATIFIERS if (each := _stratified(table, name))],
    }
    missing = {
        "missing-before": counted.missing_before, "missing-after": counted.missing_after,
        "undecided": counted.undecided, "not-comparable": counted.not_comparable,
        "withdrawn": counted.withdrawn, "no-consent": counted.no_consent,
        **{f"rejected: {reason}": number for reason, number in counted.rejected.items()},
    }  # fmt: skip
    digest = digest_of(evidence)
    return without_empty(
        {
            "resourceType": "MeasureReport",
            "id": fhir_id("MeasureReport", MEASURE_ID, *parts, digest),
            "identifier": [
                {"system": f"urn:oid:{named_uid('identifier-system', 'evidence-sha-256')}", "value": digest},
                {"system": f"urn:oid:{named_uid('identifier-system', 'phase')}", "value": selection.phase},
            ],
            "status": "complete",
            "type": "summary",
            "measure": f"{MEASURE_URL}|{MEASURE_VERSION}",
            "period": {"start": selection.since.isoformat(), "end": selection.until.isoformat()},
            "reporter": {"display": organisation},
            "improvementNotation": coded(
                "http://terminology.hl7.org/CodeSystem/measure-improvement-notation",
                "increase",
                "Increased score indicates improvement",
            ),
            "group": [
                without_empty(group),
                {
                    "code": {"text": "not counted, and why"},
                    "population": [
                        {"code": {"text": name}, "count": number} for name, number in missing.items()
                    ],
                },
            ],
            "evaluatedResource": [
                {
                    "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{each}"},
                    "type": "Observation",
                }
                for each in evidence[:_MOST_EVIDENCE]
            ],
        }
    )


def _population(code: str) -> Element:
    names = {
        "initial-population": "Initial Population", "denominator": "Denominator", "numerator": "Numerator"
    }  # fmt: skip
    return coded("http://terminology.hl7.org/CodeSystem/measure-population", code, names[code])


def _populations(eligible: int | None, counted: int, better: int) -> list[Element]:
    numbers = (("initial-population", eligible), ("denominator", counted), ("numerator", better))
    return [{"code": _population(code), "count": number} for code, number in numbers if number is not None]


def _score(better: int, counted: int) -> Element | None:
    return {"value": decimal(better / counted)} if counted else None


def _stratified(table: ChangeTable, name: str) -> Element | None:
    values = getattr(table, name).astype(str)
    strata = [_stratum(value, table.rows(values == value)) for value in _sorted(values)]
    return {"code": [{"text": name}], "stratum": strata} if strata else None


def _stratum(value: str, own: ChangeTable) -> Element:
    better = int((~own.poor).sum())
    return without_empty(
        {
            "value": {"text": value or "unknown"},
            "population": _populations(None, len(own), better),
            "measureScore": _score(better, len(own)),
        }
    )


def _sorted(values: Iterable[Any]) -> list[str]:
    return [str(each) for each in np.unique(np.asarray(list(values), str))]
