"""What we publish of our own: the CodeSystem, its ValueSets, the profile of our Observation."""

from __future__ import annotations

from typing import Any

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import draft_of
from reporting.fhir.search_table import FHIR_VERSION
from reporting.fhir.site import Site
from reporting.fhir.valid.validate import check
from reporting.identifiers import named_uid
from reporting.terminology import (
    ASYMMETRIES,
    CODE_SYSTEM,
    CODE_SYSTEM_VERSION,
    EXCLUSION_REASONS,
    OWN_CONCEPTS,
    REGION_SCORES,
    REGION_Z_SCORES,
    REJECTION_REASONS,
    SCORE,
    Concept,
)
from service.database.pool import Connection
from service.records import StudyState

WITHDRAW = f"urn:oid:{named_uid('operation-definition', 'withdraw')}"
PROFILE = f"urn:oid:{named_uid('structure-definition', 'appraisal')}"
STUDY_COMPLETENESS = f"urn:oid:{named_uid('structure-definition', 'study-completeness')}"
_DATE = "2026-11-21"


def definitions() -> list[dict[str, Any]]:
    """Every definition of ours, as it is served."""
    return [
        _code_system(),
        _value_set("rejection-reasons", "Why a photograph was not judged", tuple(REJECTION_REASONS.values())),
        _value_set("exclusion-reasons", "Why a region has no score", tuple(EXCLUSION_REASONS.values())),
        _value_set("region-scores", "Scores of regions of the face", tuple(REGION_SCORES.values())),
        _value_set("asymmetries", "Asymmetries of the face", tuple(ASYMMETRIES.values())),
        _value_set("region-z-scores", "z-scores of regions of the face", tuple(REGION_Z_SCORES.values())),
        _profile(),
        _study_completeness(),
        _withdraw(),
    ]


def publish(connection: Connection, site: Site) -> None:
    """Save the definitions; what has not changed stays at its version."""
    drafts = []
    for definition in definitions():
        check(definition)
        drafts.append(draft_of(definition, site=site))
    fhir_resources.save(connection, drafts, author="semblance")


def _code_system() -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem",
        "id": "semblance",
        "url": CODE_SYSTEM.uri,
        "version": CODE_SYSTEM_VERSION,
        "name": "Semblance",
        "title": "Semblance concepts",
        "status": "active",
        "experimental": False,
        "date": _DATE,
        "publisher": "Semblance",
        "description": "What has no public code: scores, regions, quality measures, rejection reasons.",
        "caseSensitive": True,
        "content": "complete",
        "count": len(OWN_CONCEPTS),
        "concept": [{"code": concept.code, "display": concept.display} for concept in OWN_CONCEPTS],
    }


def _value_set(name: str, title: str, concepts: tuple[Concept, ...]) -> dict[str, Any]:
    return {
        "resourceType": "ValueSet",
        "id": name,
        "url": f"urn:oid:{named_uid('value-set', name)}",
        "version": CODE_SYSTEM_VERSION,
        "name": "".join(part.capitalize() for part in name.split("-")),
        "title": title,
        "status": "active",
        "date": _DATE,
        "publisher": "Semblance",
        "compose": {
            "include": [
                {
                    "system": CODE_SYSTEM.uri,
                    "concept": [{"code": concept.code, "display": concept.display} for concept in concepts],
                }
            ]
        },
    }


def _withdraw() -> dict[str, Any]:
    return {
        "resourceType": "OperationDefinition",
        "id": "withdraw",
        "url": WITHDRAW,
        "version": CODE_SYSTEM_VERSION,
        "name": "Withdraw",
        "title": "Take a result back",
        "status": "active",
        "kind": "operation",
        "date": _DATE,
        "publisher": "Semblance",
        "description": "Marks a result entered-in-error and amends its report; answers with the Observation.",
        "affectsState": True,
        "code": "withdraw",
        "resource": ["Observation"],
        "system": False,
        "type": False,
        "instance": True,
        "parameter": [
            {"name": "reason", "use": "in", "min": 1, "max": "1", "documentation": "Why.", "type": "string"},
            {"name": "return", "use": "out", "min": 1, "max": "1", "type": "Observation"},
        ],
    }


def _profile() -> dict[str, Any]:
    def element(path: str, **rules: Any) -> dict[str, Any]:
        return {"id": path, "path": path, **rules}

    return {
        "resourceType": "StructureDefinition",
        "id": "appraisal",
        "url": PROFILE,
        "version": CODE_SYSTEM_VERSION,
        "name": "Appraisal",
        "title": "Appraisal of facial difference from a photograph",
        "status": "active",
        "date": _DATE,
        "publisher": "Semblance",
        "fhirVersion": FHIR_VERSION,
        "kind": "resource",
        "abstract": False,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
        "derivation": "constraint",
        "differential": {
            "element": [
                element("Observation"),
                element("Observation.identifier", min=1),
                element(
                    "Observation.code",
                    patternCodeableConcept={"coding": [{"system": SCORE.system.uri, "code": SCORE.code}]},
                ),
                element("Observation.subject", min=1),
                element("Observation.issued", min=1),
                element("Observation.value[x]", type=[{"code": "Quantity"}]),
                element("Observation.device", min=1),
                element("Observation.derivedFrom", min=1),
            ]
        },
    }


def _study_completeness() -> dict[str, Any]:
    """The extension by which a DiagnosticReport says whether its study is whole."""

    def part(name: str, low: int, high: str, kind: str, short: str) -> list[dict[str, Any]]:
        path, identifier = "Extension.extension", f"Extension.extension:{name}"
        return [
            {"id": identifier, "path": path, "sliceName": name, "min": low, "max": high, "short": short},
            {"id": f"{identifier}.url", "path": f"{path}.url", "fixedUri": name},
            {"id": f"{identifier}.value[x]", "path": f"{path}.value[x]", "type": [{"code": kind}]},
        ]

    states = ", ".join(state.value for state in StudyState)
    return {
        "resourceType": "StructureDefinition",
        "id": "study-completeness",
        "url": STUDY_COMPLETENESS,
        "version": CODE_SYSTEM_VERSION,
        "name": "StudyCompleteness",
        "title": "Whether the photographs of a study are all there",
        "status": "active",
        "date": _DATE,
        "publisher": "Semblance",
        "fhirVersion": FHIR_VERSION,
        "kind": "complex-type",
        "abstract": False,
        "context": [{"type": "element", "expression": "DiagnosticReport"}],
        "type": "Extension",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Extension",
        "derivation": "constraint",
        "differential": {
            "element": [
                {"id": "Extension", "path": "Extension"},
                *part("state", 1, "1", "code", f"One of {states}"),
                *part("missingInstances", 1, "1", "unsignedInt", "Announced by the sender, and not received"),
                *part("missing", 0, "*", "uri", "SOP Instance UID of one of those, as urn:oid:"),
                {"id": "Extension.url", "path": "Extension.url", "fixedUri": STUDY_COMPLETENESS},
            ]
        },
    }
