"""Every FHIR type we serve and everything it can be searched by: the one table behind it all.

The router, the extraction of search columns, the SQL, the CapabilityStatement and the OpenAPI document
read this table. A parameter's number is its key in the sparse search tables: never change or reuse one.
Parameters, types and expressions: FHIR R4 (4.0.1) search parameter registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from service.database.fhir_records import SearchParameter, SearchType

FHIR_VERSION = "4.0.1"


class Interaction(StrEnum):
    """RESTful interactions (R4 http.html)."""

    READ = "read"
    VREAD = "vread"
    HISTORY_INSTANCE = "history-instance"
    HISTORY_TYPE = "history-type"
    SEARCH = "search-type"
    CREATE = "create"
    UPDATE = "update"


_READABLE = (
    Interaction.READ,
    Interaction.VREAD,
    Interaction.HISTORY_INSTANCE,
    Interaction.HISTORY_TYPE,
    Interaction.SEARCH,
)
_WRITABLE = (*_READABLE, Interaction.CREATE, Interaction.UPDATE)


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """A resource type we serve."""

    name: str
    interactions: tuple[Interaction, ...]
    parameters: Mapping[str, SearchParameter]
    main_date: str = ""  # the date parameter ``_sort`` knows
    documentation: str = ""
    sort: Mapping[str, SearchParameter] = field(default_factory=dict)  # what ``_sort`` takes


def _definition(name: str) -> str:
    return f"http://hl7.org/fhir/SearchParameter/{name}"


def _token(name: str, number: int, *paths: str, system: str = "", doc: str = "") -> SearchParameter:
    return SearchParameter(
        name=name, type=SearchType.TOKEN, number=number, paths=paths, system=system, documentation=doc
    )


def _reference(
    name: str, number: int, *paths: str, targets: tuple[str, ...], doc: str = ""
) -> SearchParameter:
    return SearchParameter(
        name=name, type=SearchType.REFERENCE, number=number, paths=paths, targets=targets, documentation=doc
    )


def _date(name: str, number: int, *paths: str, doc: str = "") -> SearchParameter:
    return SearchParameter(name=name, type=SearchType.DATE, number=number, paths=paths, documentation=doc)


def _string(name: str, number: int, *paths: str, doc: str = "") -> SearchParameter:
    return SearchParameter(name=name, type=SearchType.STRING, number=number, paths=paths, documentation=doc)


def _uri(name: str, number: int, *paths: str, doc: str = "") -> SearchParameter:
    return SearchParameter(name=name, type=SearchType.URI, number=number, paths=paths, documentation=doc)


def _in_column(
    name: str,
    search_type: SearchType,
    column: str,
    *paths: str,
    targets: tuple[str, ...] = (),
    system: str = "",
    doc: str = "",
) -> SearchParameter:
    return SearchParameter(
        name=name,
        type=search_type,
        column=column,
        paths=paths,
        targets=targets,
        system=system,
        documentation=doc,
    )


COMMON = (
    _in_column("_id", SearchType.TOKEN, "b.id", "id", doc="Logical id"),
    _in_column(
        "_lastUpdated", SearchType.DATE, "b.last_updated", "meta.lastUpdated", doc="When last changed"
    ),
)

_PATIENT = ("Patient",)
_PATIENT_PARAMETERS = (
    _in_column("patient", SearchType.REFERENCE, "b.patient", "subject", "patient", targets=_PATIENT),
    _in_column("subject", SearchType.REFERENCE, "b.patient", "subject", "patient", targets=_PATIENT),
)


def _type(
    name: str,
    interactions: tuple[Interaction, ...],
    *parameters: SearchParameter,
    main_date: str = "",
    doc: str = "",
    sort: tuple[str, ...] = (),
) -> ResourceType:
    by_name: dict[str, SearchParameter] = {}
    for parameter in (*COMMON, *parameters):
        if parameter.name in by_name:
            raise ValueError(f"{name} has two search parameters {parameter.name!r}")
        by_name[parameter.name] = parameter
    sortable = ("_id", "_lastUpdated", *((main_date,) if main_date else ()), *sort)
    return ResourceType(
        name=name,
        interactions=interactions,
        parameters=by_name,
        main_date=main_date,
        documentation=doc,
        sort={key: by_name[key] for key in sortable},
    )


_PERFORMERS = ("Practitioner", "PractitionerRole", "Organization", "CareTeam", "Patient", "RelatedPerson")
_OBSERVATION_STATUS = "http://hl7.org/fhir/observation-status"

_OBSERVATION = _type(
    "Observation",
    _READABLE,
    _in_column("patient", SearchType.REFERENCE, "o.patient", "subject", targets=_PATIENT),
    _in_column("subject", SearchType.REFERENCE, "o.patient", "subject", targets=_PATIENT),
    _in_column("code", SearchType.TOKEN, "o.code", "code", doc="What was observed"),
    _in_column("status", SearchType.TOKEN, "o.status", "status", system=_OBSERVATION_STATUS),
    _in_column("date", SearchType.DATE, "o.effective", "effectiveDateTime", doc="When it was photographed"),
    _in_column("value-quantity", SearchType.QUANTITY, "o.value", "valueQuantity"),
    _in_column("device", SearchType.REFERENCE, "o.device", "device", targets=("Device",)),
    _token("category", 101, "category"),
    _token("identifier", 102, "identifier"),
    _reference("based-on", 103, "basedOn", targets=("ServiceRequest",)),
    _reference(
        "derived-from",
        104,
        "derivedFrom",
        targets=("ImagingStudy", "Media", "DocumentReference", "Observation"),
    ),
    _reference("part-of", 105, "partOf", targets=("Procedure", "ImagingStudy")),
    _reference("performer", 106, "performer", targets=_PERFORMERS),
    _token("data-absent-reason", 107, "dataAbsentReason"),
    _token("method", 108, "method"),
    _reference("has-member", 109, "hasMember", targets=("Observation",)),
    _token("interpretation", 110, "interpretation", doc="Interpretation, ours"),
    _reference("encounter", 111, "encounter", targets=("Encounter",)),
    SearchParameter(name="component-code", type=SearchType.TOKEN, paths=("component.code",)),
    SearchParameter(name="combo-code", type=SearchType.TOKEN, paths=("code", "component.code")),
    SearchParameter(
        name="component-value-quantity", type=SearchType.QUANTITY, paths=("component.valueQuantity",)
    ),
    SearchParameter(
        name="combo-value-quantity",
        type=SearchType.QUANTITY,
        paths=("valueQuantity", "component.valueQuantity"),
    ),
    SearchParameter(
        name="code-value-quantity", type=SearchType.COMPOSITE, parts=("code", "value-quantity")
    ),
    SearchParameter(
        name="component-code-value-quantity",
        type=SearchType.COMPOSITE,
        parts=("component-code", "component-value-quantity"),
    ),
    SearchParameter(
        name="combo-code-value-quantity",
        type=SearchType.COMPOSITE,
        parts=("combo-code", "combo-value-quantity"),
    ),
    main_date="date",
    sort=("value-quantity", "code", "status"),
    doc="One per appraisal of a photograph: score, rating, percentile, regions, quality.",
)  # fmt: skip

_PATIENT_TYPE = _type(
    "Patient",
    _WRITABLE,
    _token("identifier", 201, "identifier"),
    _string("name", 202, "name.text", "name.family", "name.given", "name.prefix", "name.suffix"),
    _string("family", 203, "name.family"),
    _string("given", 204, "name.given"),
    _token("gender", 205, "gender", system="http://hl7.org/fhir/administrative-gender"),
    _date("birthdate", 206, "birthDate"),
    _date("death-date", 207, "deceasedDateTime"),
    _token("active", 208, "active"),
    _token("telecom", 209, "telecom"),
    _token("phone", 210, "telecom[system=phone]"),
    _token("email", 211, "telecom[system=email]"),
    _string("address", 212, "address.text", "address.line", "address.city", "address.state",
            "address.postalCode", "address.country"),
    _string("address-city", 213, "address.city"),
    _string("address-state", 214, "address.state"),
    _string("address-postalcode", 215, "address.postalCode"),
    _string("address-country", 216, "address.country"),
    _token("language", 217, "communication.language"),
    _token("deceased", 218, "deceasedBoolean"),
    _reference("general-practitioner", 219, "generalPractitioner",
               targets=("Practitioner", "Organization", "PractitionerRole")),
    _reference("organization", 220, "managingOrganization", targets=("Organization",)),
    _reference("link", 221, "link.other", targets=("Patient", "RelatedPerson")),
    main_date="birthdate",
    doc="From the photograph's patient module, until the EHR writes its own.",
)  # fmt: skip

_PRACTITIONER = _type(
    "Practitioner",
    _WRITABLE,
    _token("identifier", 301, "identifier"),
    _string("name", 302, "name.text", "name.family", "name.given", "name.prefix", "name.suffix"),
    _string("family", 303, "name.family"),
    _string("given", 304, "name.given"),
    _token("active", 305, "active"),
    _token("gender", 306, "gender", system="http://hl7.org/fhir/administrative-gender"),
    _token("telecom", 307, "telecom"),
    _token("phone", 308, "telecom[system=phone]"),
    _token("email", 309, "telecom[system=email]"),
    _string("address", 310, "address.text", "address.line", "address.city", "address.state",
            "address.postalCode", "address.country"),
    doc="Surgeons, as the EHR writes them.",
)  # fmt: skip

_PROCEDURE = _type(
    "Procedure",
    _WRITABLE,
    *_PATIENT_PARAMETERS,
    _token("identifier", 401, "identifier"),
    _token("status", 402, "status", system="http://hl7.org/fhir/event-status"),
    _token("code", 403, "code"),
    _date("date", 404, "performedDateTime", "performedPeriod"),
    _token("category", 405, "category"),
    _reference("performer", 406, "performer.actor", targets=(*_PERFORMERS, "Device")),
    _reference("encounter", 407, "encounter", targets=("Encounter",)),
    _reference("based-on", 408, "basedOn", targets=("CarePlan", "ServiceRequest")),
    _reference("part-of", 409, "partOf", targets=("Procedure", "Observation", "MedicationAdministration")),
    _token("reason-code", 410, "reasonCode"),
    _reference("location", 411, "location", targets=("Location",)),
    main_date="date",
    doc="Surgery, as the EHR writes it: dates, kinds and surgeons for the outcome charts.",
)  # fmt: skip

_DIAGNOSTIC_REPORT = _type(
    "DiagnosticReport",
    _READABLE,
    *_PATIENT_PARAMETERS,
    _token("identifier", 501, "identifier"),
    _token("status", 502, "status", system="http://hl7.org/fhir/diagnostic-report-status"),
    _token("category", 503, "category"),
    _token("code", 504, "code"),
    _date("date", 505, "effectiveDateTime", "effectivePeriod"),
    _date("issued", 506, "issued"),
    _reference("result", 507, "result", targets=("Observation",)),
    _reference("media", 508, "media.link", targets=("Media",)),
    _reference("performer", 509, "performer", targets=_PERFORMERS),
    _reference("based-on", 510, "basedOn", targets=("ServiceRequest", "CarePlan")),
    _reference("encounter", 511, "encounter", targets=("Encounter",)),
    _reference("imaging-study", 512, "imagingStudy", targets=("ImagingStudy",)),
    main_date="date",
    doc="One per study: its results and heatmaps together.",
)  # fmt: skip

_IMAGING_STUDY = _type(
    "ImagingStudy",
    _READABLE,
    *_PATIENT_PARAMETERS,
    _token("identifier", 601, "identifier"),
    _token("status", 602, "status", system="http://hl7.org/fhir/imagingstudy-status"),
    _date("started", 603, "started"),
    _token("modality", 604, "series.modality"),
    _token("series", 605, "series.uid"),
    _token("instance", 606, "series.instance.uid"),
    _token("dicom-class", 607, "series.instance.sopClass"),
    _token("bodysite", 608, "series.bodySite"),
    _reference("basedon", 609, "basedOn", targets=("ServiceRequest", "CarePlan")),
    _reference("encounter", 610, "encounter", targets=("Encounter",)),
    _reference("endpoint", 611, "endpoint", "series.endpoint", targets=("Endpoint",)),
    main_date="started",
    doc="The study a photograph belongs to, with our result series.",
)  # fmt: skip

_MEDIA = _type(
    "Media",
    _READABLE,
    *_PATIENT_PARAMETERS,
    _token("identifier", 701, "identifier"),
    _token("status", 702, "status", system="http://hl7.org/fhir/event-status"),
    _token("type", 703, "type"),
    _token("modality", 704, "modality"),
    _token("view", 705, "view"),
    _token("site", 706, "bodySite"),
    _date("created", 707, "createdDateTime"),
    _reference("device", 708, "device", targets=("Device", "DeviceMetric")),
    _reference("based-on", 709, "basedOn", targets=("ServiceRequest", "CarePlan")),
    _reference("operator", 710, "operator", targets=_PERFORMERS),
    _reference("encounter", 711, "encounter", targets=("Encounter",)),
    main_date="created",
    doc="A photograph, or the heatmap made of it.",
)  # fmt: skip

_DEVICE = _type(
    "Device",
    _READABLE,
    _in_column("patient", SearchType.REFERENCE, "b.patient", "patient", targets=_PATIENT),
    _token("identifier", 801, "identifier"),
    _token("status", 802, "status", system="http://hl7.org/fhir/device-status"),
    _token("type", 803, "type"),
    _string("device-name", 804, "deviceName.name", "type.text", "type.coding.display"),
    _string("manufacturer", 805, "manufacturer"),
    _string("model", 806, "modelNumber"),
    _reference("organization", 807, "owner", targets=("Organization",)),
    _uri("url", 808, "url"),
    doc="One per method version: the software, its weights and its calibration.",
)

_PROVENANCE_TARGETS = (
    "Observation", "DiagnosticReport", "Media", "ImagingStudy", "Patient", "Practitioner", "Procedure",
    "Device",
)  # fmt: skip
_PROVENANCE = _type(
    "Provenance",
    _READABLE,
    _in_column(
        "patient", SearchType.REFERENCE, "b.patient", "target", targets=_PATIENT,
        doc="Patient whose records the targets are",
    ),
    _reference("target", 901, "target", targets=_PROVENANCE_TARGETS),
    _reference("agent", 902, "agent.who", targets=(*_PERFORMERS, "Device")),
    _reference("entity", 903, "entity.what", targets=("Media", "ImagingStudy", "Device")),
    _date("recorded", 904, "recorded"),
    _date("when", 905, "occurredDateTime", "occurredPeriod"),
    _token("agent-type", 906, "agent.type"),
    _token("agent-role", 907, "agent.role"),
    main_date="recorded",
    doc="How a result came about: digests of the pixels, the weights and the result.",
)  # fmt: skip

_AUDIT_EVENT = _type(
    "AuditEvent",
    (Interaction.READ, Interaction.SEARCH),
    _reference("patient", 1011, "entity.what", targets=_PATIENT, doc="Whose records were shown or written"),
    _date("date", 1001, "recorded"),
    _token("action", 1002, "action", system="http://hl7.org/fhir/audit-event-action"),
    _token("outcome", 1003, "outcome", system="http://hl7.org/fhir/audit-event-outcome"),
    _token("type", 1004, "type"),
    _token("subtype", 1005, "subtype"),
    _string("agent-name", 1006, "agent.name"),
    _token("altid", 1007, "agent.altId"),
    _string("address", 1008, "agent.network.address"),
    _reference("entity", 1009, "entity.what", targets=_PROVENANCE_TARGETS),
    _token("entity-role", 1010, "entity.role"),
    main_date="date",
    doc="Every access by this API (IHE BALP).",
)  # fmt: skip


def _canonical(name: str, first: int, *more: SearchParameter) -> ResourceType:
    return _type(
        name,
        (Interaction.READ, Interaction.VREAD, Interaction.SEARCH),
        _uri("url", first, "url"),
        _token("version", first + 1, "version"),
        _string("name", first + 2, "name"),
        _string("title", first + 3, "title"),
        _token("status", first + 4, "status", system="http://hl7.org/fhir/publication-status"),
        _token("identifier", first + 5, "identifier"),
        *more,
        doc="Our own definitions.",
    )


_CANONICAL_SUMMARY = (
    "url",
    "identifier",
    "version",
    "name",
    "title",
    "status",
    "experimental",
    "date",
    "publisher",
)
_CODE_SYSTEM = _canonical(
    "CodeSystem",
    1201,
    _token("code", 1210, "concept.code"),
    _token("content-mode", 1211, "content", system="http://hl7.org/fhir/codesystem-content-mode"),
)
_VALUE_SET = _canonical("ValueSet", 1301)
_STRUCTURE_DEFINITION = _canonical(
    "StructureDefinition",
    1401,
    _uri("type", 1410, "type"),
    _uri("base", 1411, "baseDefinition"),
    _token("kind", 1412, "kind", system="http://hl7.org/fhir/structure-definition-kind"),
)

RESOURCE_TYPES: Mapping[str, ResourceType] = {
    row.name: row
    for row in (
        _OBSERVATION,
        _DIAGNOSTIC_REPORT,
        _IMAGING_STUDY,
        _MEDIA,
        _PATIENT_TYPE,
        _PRACTITIONER,
        _PROCEDURE,
        _DEVICE,
        _PROVENANCE,
        _AUDIT_EVENT,
        _CODE_SYSTEM,
        _VALUE_SET,
        _STRUCTURE_DEFINITION,
    )
}

# Types whose resources are in a patient's compartment (R4 compartmentdefinition-patient). An AuditEvent may
# name several patients, so it is in nobody's.
IN_PATIENT_COMPARTMENT = tuple(
    row.name
    for row in RESOURCE_TYPES.values()
    if row.name == "Patient" or ("patient" in row.parameters and row.name != "AuditEvent")
)


def definition_url(resource_type: str, parameter: SearchParameter) -> str:
    """Canonical URL of a parameter in the R4 registry."""
    if parameter.name.startswith("_"):
        return _definition(f"Resource-{parameter.name.removeprefix('_')}")
    shared = {
        ("patient", True): "clinical-patient",
        ("birthdate", True): "individual-birthdate",
        ("gender", True): "individual-gender",
        ("family", True): "individual-family",
        ("given", True): "individual-given",
        ("telecom", True): "individual-telecom",
        ("phone", True): "individual-phone",
        ("email", True): "individual-email",
    }
    clinical = {"Observation", "DiagnosticReport", "ImagingStudy", "Procedure", "Patient", "Practitioner"}
    name = shared.get((parameter.name, resource_type in clinical)) or f"{resource_type}-{parameter.name}"
    return _definition(name)
