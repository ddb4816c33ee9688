"""The CapabilityStatement, made of the tables that serve."""

from __future__ import annotations

from typing import Any

import service
from reporting.fhir.database.records import SearchParameter, SearchType
from reporting.fhir.http import FHIR_JSON, PLAIN_JSON, Api, Request, Response, answer
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search_table import (
    FHIR_VERSION,
    RESOURCE_TYPES,
    Interaction,
    ResourceType,
    definition_url,
)
from reporting.fhir.valid.definitions import WITHDRAW
from reporting.identifiers import named_uid

OPTIONS = frozenset({"mode"})
RELEASE_DATE = "2026-11-21"  # of the capabilities, not of the process

_PATIENT_EXPORT = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export"
_EVALUATE_MEASURE = "http://hl7.org/fhir/OperationDefinition/Measure-evaluate-measure"
_EXPORT = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"

_BULK_DATA = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"

# What R4 has no element to list.
_RESULTS = (
    "Every search takes _sort, _count, _include, _revinclude (both with :iterate), _summary, _total,"
    " _elements, _has, _format and _pretty. Every parameter but a composite takes :missing; a token :not;"
    " a string :exact and :contains; a reference :identifier, a type, and a chain."
)
_BINARY: dict[str, Any] = {
    "type": "Binary",
    "profile": "http://hl7.org/fhir/StructureDefinition/Binary",
    "documentation": "Heatmaps as PNG and reports as PDF, at the URLs that Media and DiagnosticReport give.",
    "interaction": [{"code": "read"}],
    "versioning": "no-version",
    "readHistory": False,
    "updateCreate": False,
}

# Operations, their definitions in R4, and the types they are of; () for every type.
OPERATIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("lastn", "http://hl7.org/fhir/OperationDefinition/Observation-lastn", ("Observation",)),
    ("export", _PATIENT_EXPORT, ("Patient",)),
    ("everything", "http://hl7.org/fhir/OperationDefinition/Patient-everything", ("Patient",)),
    ("withdraw", WITHDRAW, ("Observation",)),
    ("validate", "http://hl7.org/fhir/OperationDefinition/Resource-validate", ()),
)


def capabilities(api: Api, request: Request) -> Response:
    """``GET metadata``: in full, whatever part of it ``mode`` asks for; terminology is not served."""
    if (request.option("mode") or "full") not in ("full", "normative"):
        raise FhirProblemError(400, IssueType.NOT_SUPPORTED, "mode is full or normative", "http.mode")
    return answer(capability_statement(api))


def capability_statement(api: Api) -> dict[str, Any]:
    """Make the CapabilityStatement of this server."""
    return {
        "resourceType": "CapabilityStatement",
        "id": "semblance",
        "url": f"urn:oid:{named_uid('capability-statement')}",
        "version": service.__version__,
        "name": "Semblance",
        "title": "Semblance FHIR API",
        "status": "active",
        "date": RELEASE_DATE,
        "kind": "instance",
        "instantiates": [_BULK_DATA],
        "software": {"name": "Semblance", "version": service.__version__},
        "implementation": {"description": "Scores of facial appearance for EHRs", "url": api.base_url},
        "fhirVersion": FHIR_VERSION,
        "format": [FHIR_JSON, PLAIN_JSON, "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": _RESULTS,
                "resource": [*(_resource(row) for row in RESOURCE_TYPES.values()), _BINARY],
                "interaction": [{"code": "transaction"}, {"code": "batch"}],
                "operation": [
                    {"name": "export", "definition": _EXPORT},
                    {"name": "evaluate-measure", "definition": _EVALUATE_MEASURE},
                ],
                **_security(api),
            }
        ],
    }


def _security(api: Api) -> dict[str, Any]:
    if api.authorizer is None:
        return {}
    urls = {"url": "token", "valueUri": f"{api.base_url}/auth/token"}
    service_type = "http://terminology.hl7.org/CodeSystem/restful-security-service"
    return {
        "security": {
            "extension": [
                {
                    "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                    "extension": [urls],
                }
            ],
            "service": [{"coding": [{"system": service_type, "code": "SMART-on-FHIR"}]}],
        }
    }


def _resource(row: ResourceType) -> dict[str, Any]:
    references = [p for p in row.parameters.values() if p.type is SearchType.REFERENCE]
    made: dict[str, Any] = {
        "type": row.name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{row.name}",
        "documentation": f"{row.documentation} Sort keys: {', '.join(row.sort)}.".strip(),
        "interaction": [{"code": interaction.value} for interaction in row.interactions],
        "versioning": "versioned" if Interaction.VREAD in row.interactions else "no-version",
        "readHistory": Interaction.VREAD in row.interactions,
        "updateCreate": Interaction.UPDATE in row.interactions,
        "conditionalCreate": Interaction.CREATE in row.interactions,
        "conditionalRead": "full-support",
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchInclude": [f"{row.name}:{p.name}" for p in references],
        "searchRevInclude": _reverse(row.name),
        "searchParam": [_search_parameter(row.name, p) for p in row.parameters.values()],
        "operation": [
            {"name": name, "definition": definition}
            for name, definition, types in OPERATIONS
            if not types or row.name in types
        ],
    }
    return {key: value for key, value in made.items() if value != []}


def _search_parameter(resource_type: str, parameter: SearchParameter) -> dict[str, Any]:
    """A parameter as the CapabilityStatement lists it; one of our own has no definition, and says so."""
    listed: dict[str, Any] = {"name": parameter.name, "type": parameter.type.value}
    documentation, url = parameter.documentation, definition_url(resource_type, parameter)
    if url is not None:
        listed["definition"] = url
    elif not documentation.endswith("ours"):
        documentation = f"{documentation or parameter.name}, ours"
    return listed | ({"documentation": documentation} if documentation else {})


def _reverse(name: str) -> list[str]:
    return [
        f"{row.name}:{p.name}"
        for row in RESOURCE_TYPES.values()
        for p in row.parameters.values()
        if p.type is SearchType.REFERENCE and name in p.targets
    ]
