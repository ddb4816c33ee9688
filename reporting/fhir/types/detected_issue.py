"""DetectedIssue: what somebody has to look into."""

from __future__ import annotations

from reporting.fhir.database.records import SearchType
from reporting.fhir.types.base import (
    PATIENT_ONLY,
    READABLE,
    date,
    in_column,
    reference,
    resource_type,
    token,
)

DETECTED_ISSUE = resource_type(
    "DetectedIssue",
    READABLE,
    in_column("patient", SearchType.REFERENCE, "b.patient", "patient", targets=PATIENT_ONLY),
    token("identifier", 1701, "identifier"),
    token("code", 1702, "code"),
    date("identified", 1703, "identifiedDateTime", "identifiedPeriod"),
    reference("implicated", 1704, "implicated", targets=("ImagingStudy",)),
    reference("author", 1705, "author", targets=("Practitioner", "PractitionerRole", "Device")),
    main_date="identified",
    doc="A study that holds photographs of more than one patient: one for each of them.",
)  # fmt: skip
