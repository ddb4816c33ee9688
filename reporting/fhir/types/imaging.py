"""DiagnosticReport, ImagingStudy and Media."""

from __future__ import annotations

from reporting.fhir.types.base import (
    PATIENT_PARAMETERS,
    PERFORMERS,
    READABLE,
    date,
    reference,
    resource_type,
    token,
)

DIAGNOSTIC_REPORT = resource_type(
    "DiagnosticReport",
    READABLE,
    *PATIENT_PARAMETERS,
    token("identifier", 501, "identifier"),
    token("status", 502, "status", system="http://hl7.org/fhir/diagnostic-report-status"),
    token("category", 503, "category"),
    token("code", 504, "code"),
    date("date", 505, "effectiveDateTime", "effectivePeriod"),
    date("issued", 506, "issued"),
    reference("result", 507, "result", targets=("Observation",)),
    reference("media", 508, "media.link", targets=("Media",)),
    reference("performer", 509, "performer", targets=PERFORMERS),
    reference("based-on", 510, "basedOn", targets=("ServiceRequest", "CarePlan")),
    reference("encounter", 511, "encounter", targets=("Encounter",)),
    reference("imaging-study", 512, "imagingStudy", targets=("ImagingStudy",)),
    main_date="date",
    doc="One per study: its results and heatmaps together.",
)  # fmt: skip

IMAGING_STUDY = resource_type(
    "ImagingStudy",
    READABLE,
    *PATIENT_PARAMETERS,
    token("identifier", 601, "identifier"),
    token("status", 602, "status", system="http://hl7.org/fhir/imagingstudy-status"),
    date("started", 603, "started"),
    token("modality", 604, "series.modality"),
    token("series", 605, "series.uid"),
    token("instance", 606, "series.instance.uid"),
    token("dicom-class", 607, "series.instance.sopClass"),
    token("bodysite", 608, "series.bodySite"),
    reference("basedon", 609, "basedOn", targets=("ServiceRequest", "CarePlan")),
    reference("encounter", 610, "encounter", targets=("Encounter",)),
    reference("endpoint", 611, "endpoint", "series.endpoint", targets=("Endpoint",)),
    main_date="started",
    doc="The study a photograph belongs to, with our result series.",
)  # fmt: skip

MEDIA = resource_type(
    "Media",
    READABLE,
    *PATIENT_PARAMETERS,
    token("identifier", 701, "identifier"),
    token("status", 702, "status", system="http://hl7.org/fhir/event-status"),
    token("type", 703, "type"),
    token("modality", 704, "modality"),
    token("view", 705, "view"),
    token("site", 706, "bodySite"),
    date("created", 707, "createdDateTime"),
    reference("device", 708, "device", targets=("Device", "DeviceMetric")),
    reference("based-on", 709, "basedOn", targets=("ServiceRequest", "CarePlan")),
    reference("operator", 710, "operator", targets=PERFORMERS),
    reference("encounter", 711, "encounter", targets=("Encounter",)),
    main_date="created",
    doc="A photograph, or the heatmap made of it.",
)  # fmt: skip
