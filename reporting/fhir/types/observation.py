"""Observation: the result."""

from __future__ import annotations

from reporting.fhir.database.records import SearchParameter, SearchType
from reporting.fhir.types.base import (
    PATIENT_ONLY,
    PERFORMERS,
    READABLE,
    coding,
    in_column,
    reference,
    resource_type,
    token,
)

_OBSERVATION_STATUS = "http://hl7.org/fhir/observation-status"

OBSERVATION = resource_type(
    "Observation",
    READABLE,
    in_column("patient", SearchType.REFERENCE, "o.patient", "subject", targets=PATIENT_ONLY),
    in_column("subject", SearchType.REFERENCE, "o.patient", "subject", targets=PATIENT_ONLY),
    in_column("code", SearchType.TOKEN, "o.code", "code", doc="What was observed"),
    in_column("status", SearchType.TOKEN, "o.status", "status", system=_OBSERVATION_STATUS),
    in_column("date", SearchType.DATE, "o.effective", "effectiveDateTime", doc="When it was photographed"),
    in_column("value-quantity", SearchType.QUANTITY, "o.value", "valueQuantity"),
    in_column("device", SearchType.REFERENCE, "o.device", "device", targets=("Device",)),
    coding("category", 101, "category"),
    token("identifier", 102, "identifier"),
    reference("based-on", 103, "basedOn", targets=("ServiceRequest",)),
    reference(
        "derived-from",
        104,
        "derivedFrom",
        targets=("ImagingStudy", "Media", "DocumentReference", "Observation"),
    ),
    reference("part-of", 105, "partOf", targets=("Procedure", "ImagingStudy")),
    reference("performer", 106, "performer", targets=PERFORMERS),
    coding("data-absent-reason", 107, "dataAbsentReason"),
    coding("method", 108, "method"),
    reference("has-member", 109, "hasMember", targets=("Observation",)),
    coding("interpretation", 110, "interpretation", doc="Interpretation, ours"),
    reference("encounter", 111, "encounter", targets=("Encounter",)),
    coding("value-concept", 112, "valueCodeableConcept"),
    coding("component-value-concept", 113, "component.valueCodeableConcept", doc="Why it was not judged"),
    coding("combo-value-concept", 114, "valueCodeableConcept", "component.valueCodeableConcept"),
    coding("component-data-absent-reason", 115, "component.dataAbsentReason"),
    reference("focus", 116, "focus", targets=()),
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
    doc="One per appraisal of a photograph: score, rating, percentile, regions, quality.",
)  # fmt: skip
