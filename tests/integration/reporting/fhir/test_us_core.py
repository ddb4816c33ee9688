"""What US Core 6.1.0 lists for the types served here, each SHALL and SHOULD: pass, or a written reason.

The lists are those the US Core test kit has for the profiles Patient, Practitioner, Procedure,
DiagnosticReport for Report and Note Exchange, Observation Clinical Result, Implantable Device and
Provenance (``lib/us_core_test_kit/generated/v6.1.0/*/metadata.yml``). A search is asked with values taken
from a resource that exists, which must then be what is found.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.reporting.fhir.conftest import Client, Save

# Type, expectation and parameters of each.
SEARCHES: list[tuple[str, str, tuple[str, ...]]] = [
    ("Patient", "SHALL", ("_id",)),
    ("Patient", "SHALL", ("identifier",)),
    ("Patient", "SHALL", ("name",)),
    ("Patient", "SHALL", ("birthdate", "name")),
    ("Patient", "SHALL", ("gender", "name")),
    ("Patient", "SHOULD", ("birthdate", "family")),
    ("Patient", "SHOULD", ("family", "gender")),
    ("Patient", "SHOULD", ("death-date", "family")),
    ("Practitioner", "SHALL", ("name",)),
    ("Practitioner", "SHALL", ("identifier",)),
    ("Practitioner", "SHOULD", ("_id",)),
    ("Procedure", "SHALL", ("patient",)),
    ("Procedure", "SHALL", ("patient", "date")),
    ("Procedure", "SHOULD", ("patient", "code", "date")),
    ("Procedure", "SHOULD", ("patient", "status")),
    ("DiagnosticReport", "SHALL", ("patient",)),
    ("DiagnosticReport", "SHALL", ("patient", "category")),
    ("DiagnosticReport", "SHALL", ("patient", "code")),
    ("DiagnosticReport", "SHALL", ("patient", "category", "date")),
    ("DiagnosticReport", "SHOULD", ("patient", "code", "date")),
    ("DiagnosticReport", "SHOULD", ("patient", "status")),
    ("Observation", "SHALL", ("patient", "category")),
    ("Observation", "SHALL", ("patient", "code")),
    ("Observation", "SHALL", ("patient", "category", "date")),
    ("Observation", "SHOULD", ("patient", "category", "status")),
    ("Observation", "SHOULD", ("patient", "code", "date")),
]

# Parameters of which several values separated by commas SHALL or SHOULD be taken.
OR_LISTS = [
    ("Procedure", "SHALL", "status", "completed,not-done"),
    ("Procedure", "SHOULD", "code", "http://snomed.info/sct|172735006,http://snomed.info/sct|1"),
    ("DiagnosticReport", "SHALL", "status", "final,amended,appended"),
    ("DiagnosticReport", "SHOULD", "code", "http://loinc.org|18748-4,http://loinc.org|1-8"),
    ("Observation", "SHALL", "status", "final,amended"),
    ("Observation", "SHOULD", "code", "score,none"),
]

# Interactions: SHALL and SHOULD, beside search.
INTERACTIONS = ("read", "vread", "history-instance")
PROFILED = ("Patient", "Practitioner", "Procedure", "DiagnosticReport", "Observation", "Device", "Provenance")

# ``_revinclude=Provenance:target``, SHALL.
WITH_PROVENANCE = ("Patient", "Procedure", "DiagnosticReport", "Observation")

# Demanded of a type we serve, but not applicable here, with the reason.
NOT_HERE = {
    ("Device", ("patient",)): "US Core's Device is an implant of a patient; ours is software and has none",
    ("Device", ("patient", "type")): "the same",
}
NOT_TAKEN = {
    ("DiagnosticReport", "create"): "reports are made of our results only; an EHR's notes belong to the EHR",
}


@pytest.fixture
def values(client: Client, save: Save) -> dict[str, dict[str, str]]:
    """A value of every parameter, by type, taken from resources that exist."""
    save()
    patient = client.get("Patient").json()["entry"][0]["resource"]
    patient |= {"deceasedDateTime": "2026-02-01"}
    client.ask("PUT", f"Patient/{patient['id']}", patient)
    surgeon = {"resourceType": "Practitioner", "id": "s1", "name": [{"family": "Lane"}],
               "identifier": [{"system": "urn:oid:1.2", "value": "9"}]}  # fmt: skip
    client.ask("PUT", "Practitioner/s1", surgeon)
    operation: dict[str, Any] = {
        "resourceType": "Procedure", "id": "o1", "status": "completed", "performedDateTime": "2025-04-01",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "172735006"}]},
        "subject": {"reference": f"Patient/{patient['id']}"},
    }  # fmt: skip
    assert client.ask("PUT", "Procedure/o1", operation).status == 201
    loinc, category = (
        "http://loinc.org|18748-4",
        "http://terminology.hl7.org/CodeSystem/observation-category|imaging",
    )
    of_patient = {"patient": patient["id"]}
    return {
        "Patient": {"_id": patient["id"], "identifier": "P-001", "name": "doe", "birthdate": "2019-02-12",
                    "gender": "female", "family": "Doe", "death-date": "2026-02-01"},
        "Practitioner": {"name": "lane", "identifier": "urn:oid:1.2|9", "_id": "s1"},
        "Procedure": of_patient | {"date": "ge2025-01-01", "code": "http://snomed.info/sct|172735006",
                                   "status": "completed"},
        "DiagnosticReport": of_patient | {"category": "http://terminology.hl7.org/CodeSystem/v2-0074|IMG",
                                          "code": loinc, "date": "ge2026-01-01", "status": "final"},
        "Observation": of_patient | {"category": category, "code": "score", "date": "ge2026-01-01",
                                     "status": "final"},
    }  # fmt: skip


def test_every_search_finds_what_is_there(client: Client, values: dict[str, dict[str, str]]) -> None:
    wrong = []
    for resource_type, expectation, parameters in SEARCHES:
        query = "&".join(f"{name}={values[resource_type][name]}" for name in parameters)
        answer = client.get(f"{resource_type}?{query}", Prefer="handling=strict")
        if answer.status != 200 or len(answer.ids()) != 1:
            wrong.append((resource_type, expectation, parameters, answer.content[:200]))
    assert not wrong


def test_dates_take_every_comparator_us_core_demands(
    client: Client, values: dict[str, dict[str, str]]
) -> None:
    patient = values["Observation"]["patient"]
    for comparator, expected in (("gt", 1), ("ge", 1), ("lt", 0), ("le", 0)):
        for resource_type in ("Observation", "DiagnosticReport", "Procedure"):
            answer = client.get(f"{resource_type}?patient={patient}&date={comparator}2025-01-01")
            assert len(answer.ids()) == expected, (resource_type, comparator)


def test_several_values_are_alternatives(client: Client, values: dict[str, dict[str, str]]) -> None:
    for resource_type, _, name, several in OR_LISTS:
        patient = values[resource_type]["patient"]
        query = f"{resource_type}?patient={patient}&{name}={several}"
        assert len(client.get(query, Prefer="handling=strict").ids()) == 1, query


def test_interactions(client: Client) -> None:
    served = {
        row["type"]: {i["code"] for i in row["interaction"]}
        for row in client.get("metadata").json()["rest"][0]["resource"]
    }
    for resource_type in PROFILED:
        assert {"search-type", *INTERACTIONS} <= served[resource_type], resource_type
    for (resource_type, interaction), reason in NOT_TAKEN.items():
        assert reason
        assert interaction not in served[resource_type]
        answer = client.ask("POST", resource_type, {"resourceType": resource_type})
        assert answer.status == 405


def test_provenance_of_every_type_may_be_asked_for(client: Client, values: dict[str, dict[str, str]]) -> None:
    for resource_type in WITH_PROVENANCE:
        name = "_id" if resource_type == "Patient" else "patient"
        patient = values["Observation"]["patient"]
        answer = client.get(
            f"{resource_type}?{name}={patient}&_revinclude=Provenance:target", Prefer="handling=strict"
        )
        assert answer.status == 200
        assert len(answer.ids()) == 1, resource_type


def test_provenance_comes_along(client: Client, values: dict[str, dict[str, str]]) -> None:
    patient = values["Observation"]["patient"]
    answer = client.get(f"Observation?patient={patient}&code=score&_revinclude=Provenance:target")
    kinds = [e["resource"]["resourceType"] for e in answer.json()["entry"]]
    assert kinds == ["Observation", "Provenance"]


def test_what_is_not_served_has_a_reason(client: Client) -> None:
    for (resource_type, parameters), reason in NOT_HERE.items():
        assert reason
        query = "&".join(f"{name}=x" for name in parameters)
        assert client.get(f"{resource_type}?{query}").json()["total"] == 0
