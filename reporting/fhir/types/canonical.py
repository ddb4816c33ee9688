"""CodeSystem, ValueSet, StructureDefinition and OperationDefinition: our own definitions."""

from __future__ import annotations

from reporting.fhir.database.records import SearchParameter
from reporting.fhir.types.base import Interaction, ResourceType, date, resource_type, string, token, uri


def _canonical(name: str, first: int, *more: SearchParameter) -> ResourceType:
    return resource_type(
        name,
        (Interaction.READ, Interaction.VREAD, Interaction.SEARCH),
        uri("url", first, "url"),
        token("version", first + 1, "version"),
        string("name", first + 2, "name"),
        string("title", first + 3, "title"),
        token("status", first + 4, "status", system="http://hl7.org/fhir/publication-status"),
        token("identifier", first + 5, "identifier"),
        date("date", first + 6, "date"),
        string("publisher", first + 7, "publisher"),
        *more,
        doc="Our own definitions.",
    )


CODE_SYSTEM = _canonical(
    "CodeSystem",
    1201,
    token("code", 1210, "concept.code"),
    token("content-mode", 1211, "content", system="http://hl7.org/fhir/codesystem-content-mode"),
)
VALUE_SET = _canonical("ValueSet", 1301)
OPERATION_DEFINITION = _canonical(
    "OperationDefinition",
    1601,
    token("code", 1610, "code"),
    token("kind", 1611, "kind", system="http://hl7.org/fhir/operation-kind"),
)
STRUCTURE_DEFINITION = _canonical(
    "StructureDefinition",
    1401,
    uri("type", 1410, "type"),
    uri("base", 1411, "baseDefinition"),
    token("kind", 1412, "kind", system="http://hl7.org/fhir/structure-definition-kind"),
)
