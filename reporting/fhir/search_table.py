"""Every FHIR type we serve and everything it can be searched by: the one table behind it all.

The router, the extraction of search columns, the SQL, the CapabilityStatement and the OpenAPI document
read this table. A parameter's number is its key in the sparse search tables: never change or reuse one.
Parameters, types and expressions: FHIR R4 (4.0.1) search parameter registry.
"""

from __future__ import annotations

from collections.abc import Mapping

from reporting.fhir.database.records import SearchParameter
from reporting.fhir.types.audit_event import AUDIT_EVENT
from reporting.fhir.types.base import Interaction, ResourceType, definition
from reporting.fhir.types.canonical import CODE_SYSTEM, OPERATION_DEFINITION, STRUCTURE_DEFINITION, VALUE_SET
from reporting.fhir.types.detected_issue import DETECTED_ISSUE
from reporting.fhir.types.imaging import DIAGNOSTIC_REPORT, IMAGING_STUDY, MEDIA
from reporting.fhir.types.observation import OBSERVATION
from reporting.fhir.types.origin import DEVICE, PROVENANCE
from reporting.fhir.types.people import PATIENT, PRACTITIONER
from reporting.fhir.types.procedure import PROCEDURE
from reporting.fhir.types.subscription import SUBSCRIPTION

__all__ = [
    "FHIR_VERSION",
    "IN_PATIENT_COMPARTMENT",
    "RESOURCE_TYPES",
    "Interaction",
    "ResourceType",
    "definition_url",
]

FHIR_VERSION = "4.0.1"

RESOURCE_TYPES: Mapping[str, ResourceType] = {
    row.name: row
    for row in (
        OBSERVATION,
        DIAGNOSTIC_REPORT,
        IMAGING_STUDY,
        MEDIA,
        PATIENT,
        PRACTITIONER,
        PROCEDURE,
        DEVICE,
        DETECTED_ISSUE,
        PROVENANCE,
        AUDIT_EVENT,
        CODE_SYSTEM,
        VALUE_SET,
        STRUCTURE_DEFINITION,
        OPERATION_DEFINITION,
        SUBSCRIPTION,
    )
}

# Types whose resources are in a patient's compartment (R4 compartmentdefinition-patient). An AuditEvent may
# name several patients, so it is in nobody's.
IN_PATIENT_COMPARTMENT = tuple(
    row.name
    for row in RESOURCE_TYPES.values()
    if row.name == "Patient" or ("patient" in row.parameters and row.name != "AuditEvent")
)


_CLINICAL = {
    "patient": {"DetectedIssue", "DiagnosticReport", "ImagingStudy", "Observation", "Procedure"},
    "code": {"DiagnosticReport", "Observation", "Procedure"},
    "date": {"DiagnosticReport", "Observation", "Procedure"},
    "identifier": {"DetectedIssue", "DiagnosticReport", "ImagingStudy", "Observation", "Procedure"},
    "encounter": {"DiagnosticReport", "Observation", "Procedure"},
}
_INDIVIDUAL = {
    "address", "address-city", "address-country", "address-postalcode", "address-state", "birthdate",
    "email", "family", "gender", "given", "phone", "telecom",
}  # fmt: skip
_DEFINITIONS = ("CodeSystem", "ValueSet", "StructureDefinition", "OperationDefinition")
_CONFORMANCE = {"date", "identifier", "name", "publisher", "status", "title", "url", "version"}


_OURS = frozenset(
    {
        ("Observation", "interpretation"),
        ("DiagnosticReport", "imaging-study"),
        ("StructureDefinition", "base"),  # a reference in the registry, a uri here
        ("OperationDefinition", "identifier"),
    }
)


def definition_url(resource_type: str, parameter: SearchParameter) -> str | None:
    """Canonical URL of a parameter in the R4 registry, where some are shared by several types.

    None for a parameter of our own, which the registry does not have.
    """
    name = parameter.name
    if (resource_type, name) in _OURS:
        return None
    if name.startswith("_"):
        return definition(f"Resource-{name.removeprefix('_')}")
    if resource_type in _CLINICAL.get(name, ()):
        return definition(f"clinical-{name}")
    if resource_type in ("Patient", "Practitioner") and name in _INDIVIDUAL:
        return definition(f"individual-{name}")
    if resource_type in _DEFINITIONS and name in _CONFORMANCE:
        return definition(f"conformance-{name}")
    return definition(f"{resource_type}-{name}")
