"""FHIR elements made of our concepts, numbers and times."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from reporting.fhir.database.records import instant
from reporting.identifiers import named_uid
from reporting.terminology import UCUM, Concept

Element = dict[str, Any]

SHA_256_SYSTEM = f"urn:oid:{named_uid('identifier-system', 'sha-256')}"  # identifiers that are digests
URI_SYSTEM = "urn:ietf:rfc:3986"  # R4 identifier-registry: the value is a URI
DICOM_UID_SYSTEM = "urn:dicom:uid"  # R4 ImagingStudy.identifier
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"  # identifier types
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
DATA_ABSENT_REASON = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
DATA_ABSENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"

# The HL7 guide AI Transparency on FHIR marks what an algorithm asserted by this security label.
ASSERTED_BY_AI: Element = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}

# Its profiles AI Device and AI Provenance know an algorithm by this code.
ARTIFICIAL_INTELLIGENCE_ROLE: Element = {
    "system": "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS",
    "code": "Artificial-Intelligence",
    "display": "All kinds of Artificial Intelligence",
}

_DECIMALS = 6  # more than any measure of ours means


def coding(concept: Concept) -> Element:
    """Coding of a concept."""
    return {"system": concept.system.uri, "code": concept.code, "display": concept.display}


def codeable(concept: Concept) -> Element:
    """CodeableConcept with one coding."""
    return {"coding": [coding(concept)]}


def coded(system: str, code: str, display: str) -> Element:
    """CodeableConcept of a code of the FHIR or v3 terminologies."""
    return {"coding": [{"system": system, "code": code, "display": display}]}


def decimal(value: float) -> Decimal:
    """Decimal of a measure, to a millionth."""
    return Decimal(repr(round(float(value), _DECIMALS)))


def quantity(value: float, unit: Concept) -> Element:
    """Quantity with a UCUM unit."""
    return {"value": decimal(value), "unit": unit.display, "system": UCUM.uri, "code": unit.code}


def reference(resource_type: str, resource_id: str, display: str = "") -> Element:
    """Relative reference."""
    made = {"reference": f"{resource_type}/{resource_id}"}
    return made | ({"display": display} if display else {})


def date_time(moment: datetime | None, day: date | None) -> str | None:
    """The dateTime of a moment, or the date of a day; None when neither is known."""
    if moment is not None:
        return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")
    return day.isoformat() if day is not None else None


def issued(moment: datetime) -> str:
    """Instant of a moment."""
    return instant(moment)


def unknown_primitive() -> Element:
    """Stands in for a primitive the photograph does not say (``_element``)."""
    return {"extension": [{"url": DATA_ABSENT_EXTENSION, "valueCode": "unknown"}]}


def without_empty(resource: Element) -> Element:
    """Leave out elements that have no value."""
    return {key: value for key, value in resource.items() if value not in (None, "", [], {})}
