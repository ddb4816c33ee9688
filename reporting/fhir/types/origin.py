"""Device and Provenance: where a result comes from."""

from __future__ import annotations

from reporting.fhir.database.records import SearchType
from reporting.fhir.types.base import (
    PATIENT_ONLY,
    PERFORMERS,
    READABLE,
    date,
    in_column,
    reference,
    resource_type,
    string,
    token,
    uri,
)

# Types a Provenance or an AuditEvent may be about.
TRACED = (
    "Observation", "DiagnosticReport", "Media", "ImagingStudy", "Patient", "Practitioner", "Procedure",
    "Device",
)  # fmt: skip

DEVICE = resource_type(
    "Device",
    READABLE,
    in_column("patient", SearchType.REFERENCE, "b.patient", "patient", targets=PATIENT_ONLY),
    token("identifier", 801, "identifier"),
    token("status", 802, "status", system="http://hl7.org/fhir/device-status"),
    token("type", 803, "type"),
    string("device-name", 804, "deviceName.name", "type.text", "type.coding.display"),
    string("manufacturer", 805, "manufacturer"),
    string("model", 806, "modelNumber"),
    reference("organization", 807, "owner", targets=("Organization",)),
    uri("url", 808, "url"),
    doc="One per method version: the software, its weights and its calibration.",
)

PROVENANCE = resource_type(
    "Provenance",
    READABLE,
    in_column(
        "patient", SearchType.REFERENCE, "b.patient", "target", targets=PATIENT_ONLY,
        doc="Patient whose records the targets are",
    ),
    reference("target", 901, "target", targets=TRACED),
    reference("agent", 902, "agent.who", targets=(*PERFORMERS, "Device")),
    reference("entity", 903, "entity.what", targets=("Media", "ImagingStudy", "Device")),
    date("recorded", 904, "recorded"),
    date("when", 905, "occurredDateTime", "occurredPeriod"),
    token("agent-type", 906, "agent.type"),
    token("agent-role", 907, "agent.role"),
    main_date="recorded",
    doc="How a result came about: digests of the pixels, the weights and the result.",
)  # fmt: skip
