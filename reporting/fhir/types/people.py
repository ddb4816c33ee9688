"""Patient and Practitioner."""

from __future__ import annotations

from reporting.fhir.types.base import WRITABLE, date, reference, resource_type, string, token

PATIENT = resource_type(
    "Patient",
    WRITABLE,
    token("identifier", 201, "identifier"),
    string("name", 202, "name.text", "name.family", "name.given", "name.prefix", "name.suffix"),
    string("family", 203, "name.family"),
    string("given", 204, "name.given"),
    token("gender", 205, "gender", system="http://hl7.org/fhir/administrative-gender"),
    date("birthdate", 206, "birthDate", calendar=True),
    date("death-date", 207, "deceasedDateTime"),
    token("active", 208, "active"),
    token("telecom", 209, "telecom"),
    token("phone", 210, "telecom[system=phone]"),
    token("email", 211, "telecom[system=email]"),
    string("address", 212, "address.text", "address.line", "address.city", "address.state",
            "address.postalCode", "address.country"),
    string("address-city", 213, "address.city"),
    string("address-state", 214, "address.state"),
    string("address-postalcode", 215, "address.postalCode"),
    string("address-country", 216, "address.country"),
    token("language", 217, "communication.language"),
    token("deceased", 218, "deceasedBoolean"),
    reference("general-practitioner", 219, "generalPractitioner",
               targets=("Practitioner", "Organization", "PractitionerRole")),
    reference("organization", 220, "managingOrganization", targets=("Organization",)),
    reference("link", 221, "link.other", targets=("Patient", "RelatedPerson")),
    main_date="birthdate",
    doc="From the photograph's patient module, until the EHR writes its own.",
)  # fmt: skip

PRACTITIONER = resource_type(
    "Practitioner",
    WRITABLE,
    token("identifier", 301, "identifier"),
    string("name", 302, "name.text", "name.family", "name.given", "name.prefix", "name.suffix"),
    string("family", 303, "name.family"),
    string("given", 304, "name.given"),
    token("active", 305, "active"),
    token("gender", 306, "gender", system="http://hl7.org/fhir/administrative-gender"),
    token("telecom", 307, "telecom"),
    token("phone", 308, "telecom[system=phone]"),
    token("email", 309, "telecom[system=email]"),
    string("address", 310, "address.text", "address.line", "address.city", "address.state",
            "address.postalCode", "address.country"),
    doc="Surgeons, as the EHR writes them.",
)  # fmt: skip
