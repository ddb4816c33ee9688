"""Procedure: surgery."""

from __future__ import annotations

from reporting.fhir.types.base import (
    PATIENT_PARAMETERS,
    PERFORMERS,
    WRITABLE,
    date,
    reference,
    resource_type,
    token,
)

PROCEDURE = resource_type(
    "Procedure",
    WRITABLE,
    *PATIENT_PARAMETERS,
    token("identifier", 401, "identifier"),
    token("status", 402, "status", system="http://hl7.org/fhir/event-status"),
    token("code", 403, "code"),
    date("date", 404, "performedDateTime", "performedPeriod"),
    token("category", 405, "category"),
    reference("performer", 406, "performer.actor", targets=(*PERFORMERS, "Device")),
    reference("encounter", 407, "encounter", targets=("Encounter",)),
    reference("based-on", 408, "basedOn", targets=("CarePlan", "ServiceRequest")),
    reference("part-of", 409, "partOf", targets=("Procedure", "Observation", "MedicationAdministration")),
    token("reason-code", 410, "reasonCode"),
    reference("location", 411, "location", targets=("Location",)),
    main_date="date",
    doc="Surgery, as the EHR writes it: dates, kinds and surgeons for the outcome charts.",
)  # fmt: skip
