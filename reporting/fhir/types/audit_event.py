"""AuditEvent: who saw what."""

from __future__ import annotations

from reporting.fhir.types.base import PATIENT_ONLY, Interaction, date, reference, resource_type, string, token
from reporting.fhir.types.origin import TRACED

AUDIT_EVENT = resource_type(
    "AuditEvent",
    (Interaction.READ, Interaction.SEARCH),
    reference("patient", 1011, "entity.what", targets=PATIENT_ONLY, doc="Whose records were concerned"),
    date("date", 1001, "recorded"),
    token("action", 1002, "action", system="http://hl7.org/fhir/audit-event-action"),
    token("outcome", 1003, "outcome", system="http://hl7.org/fhir/audit-event-outcome"),
    token("type", 1004, "type"),
    token("subtype", 1005, "subtype"),
    string("agent-name", 1006, "agent.name"),
    token("altid", 1007, "agent.altId"),
    string("address", 1008, "agent.network.address"),
    reference("entity", 1009, "entity.what", targets=TRACED),
    token("entity-role", 1010, "entity.role"),
    main_date="date",
    doc="Every access by this API (IHE BALP).",
)  # fmt: skip
