"""Surgery is found by its patient, however the patient is named; what is not says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reporting.fhir.http import Api
from reporting.http.server import make_api
from service.config import Settings
from tests.integration.reporting.fhir.conftest import BASE_URL, Answer, Client, Save
from tests.integration.reporting.fhir.write.bodies import PATIENT, bundle_of, post, procedure

EHR, BY_NUMBER = "https://ehr.example/fhir", "https://ids.example/fhir/"
SYSTEM = "urn:oid:1.2.3"


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """A server that knows two base URLs of the EHR."""
    update = {
        "api_port": 8080,
        "fhir_ehr_base_urls": {EHR: "", BY_NUMBER: SYSTEM},
        "fhir_identifier_systems": {"HOSPITAL-A": SYSTEM},
    }
    made = make_api(settings.model_copy(update=update))
    yield made
    made.close()


def put_patient(client: Client, patient_id: str = "p77") -> None:
    assert client.ask("PUT", f"Patient/{patient_id}", PATIENT | {"id": patient_id}).status == 201


def warnings(answer: Answer) -> str:
    return answer.headers.get("warning", "")


@pytest.mark.parametrize(
    "subject",
    [
        {"identifier": {"system": SYSTEM, "value": "77"}},
        {"type": "Patient", "identifier": {"system": SYSTEM, "value": "77"}},
        {"identifier": {"value": "77", "assigner": {"display": "HOSPITAL-A"}}},
        {"reference": f"{EHR}/Patient/p77"},
        {"reference": f"{EHR}/Patient/p77/_history/4"},
        {"reference": f"{BY_NUMBER}Patient/77"},
        {"reference": f"{BASE_URL}/Patient/p77"},
        {"reference": "Patient/p77/_history/1"},
        {"reference": "https://other.example/Patient/5", "identifier": {"system": SYSTEM, "value": "77"}},
    ],
)
def test_surgery_is_found_by_its_patient(client: Client, subject: dict[str, Any]) -> None:
    put_patient(client)
    created = client.ask("POST", "Procedure", procedure("") | {"subject": subject})
    assert created.status == 201, created.content
    searches = [
        "patient=p77",
        "subject=Patient/p77",
        "patient.identifier=77",
        "subject:Patient.birthdate=2019",
    ]
    searches += [
        f"patient:identifier={SYSTEM}|77",
        f"subject={EHR}/Patient/p77",
        f"patient={BY_NUMBER}Patient/77",
    ]
    for search in searches:
        assert client.get(f"Procedure?{search}").ids() == [created.json()["id"]], search
    assert created.json()["id"] in client.get("Patient/p77/$everything").ids()
    assert len(client.get("Procedure?_include=Procedure:subject").ids("include")) == 1
    assert "nothing that is known" not in warnings(created)


@pytest.mark.parametrize(
    ("subject", "search"),
    [
        ({"identifier": {"system": SYSTEM, "value": "78"}}, f"subject:identifier={SYSTEM}|78"),
        ({"identifier": {"value": "78"}}, "patient:identifier=78"),
        ({"reference": f"{EHR}/Patient/p78"}, f"subject={EHR}/Patient/p78"),
        ({"reference": "https://other.example/fhir/Patient/1"}, "patient=https://other.example/fhir/Patient/1"),
        ({"reference": "urn:uuid:6b0a1f6e-0000-4000-8000-000000000000"},
         "subject=urn:uuid:6b0a1f6e-0000-4000-8000-000000000000"),
        ({"reference": "Patient/p78"}, "subject=Patient/p78"),
    ],
)  # fmt: skip
def test_what_is_of_nobody_known_is_found_as_it_was_sent(
    client: Client, subject: dict[str, Any], search: str
) -> None:
    created = client.ask("POST", "Procedure", procedure("") | {"subject": subject})
    assert created.status == 201
    assert "nothing that is known here" in warnings(created)
    assert client.get(f"Procedure?{search}").ids() == [created.json()["id"]]
    assert client.get("Procedure?subject:missing=true").ids() == []
    outcome = client.ask(
        "POST", "Procedure", procedure("") | {"subject": subject}, Prefer="return=OperationOutcome"
    ).json()
    assert [i["severity"] for i in outcome["issue"]] == ["information", "warning"]
    answer = client.ask("POST", "", bundle_of(post(procedure("") | {"subject": subject})))
    if subject.get("reference", "").startswith("urn:"):
        assert answer.status == 422  # within a Bundle it can only be one of its entries
        return
    said = answer.json()["entry"][0]["response"]["outcome"]["issue"][0]
    assert said["expression"][0].startswith("Procedure.subject")


@pytest.mark.parametrize(
    "subject",
    [
        {"display": "Jane Doe"},
        {"reference": "Group/1"},
        {"reference": "/Patient/p77"},
        {"reference": "Patient/p77/"},
        {"reference": "Patient?identifier=77"},
        {"reference": "p77"},
        {"reference": "#p"},
    ],
)
def test_what_would_be_found_by_nothing_is_refused(client: Client, subject: dict[str, Any]) -> None:
    put_patient(client)
    contained = [{"resourceType": "Patient", "id": "p", "gender": "female"}]
    body = procedure("") | {"subject": subject} | ({"contained": contained} if "#p" in str(subject) else {})
    answer = client.ask("POST", "Procedure", body)
    assert answer.status == 422
    assert answer.json()["issue"][0]["expression"][0].startswith("Procedure.subject")


def test_a_contained_patient_is_the_one_with_its_identifier(client: Client) -> None:
    put_patient(client)
    inner = {"resourceType": "Patient", "id": "p", "identifier": PATIENT["identifier"]}
    body = procedure("#p", contained=[inner])
    assert client.ask("POST", "Procedure", body).status == 201
    assert len(client.get("Procedure?patient=p77").ids()) == 1


def test_surgery_that_came_first_is_given_to_its_patient(client: Client, save: Save) -> None:
    waiting = [
        {"identifier": {"system": SYSTEM, "value": "77"}},
        {"identifier": {"value": "77", "assigner": {"display": "HOSPITAL-A"}}},
        {"reference": f"{EHR}/Patient/p77"},
        {"reference": f"{BY_NUMBER}Patient/77"},
    ]
    for subject in waiting:
        client.ask("POST", "Procedure", procedure("") | {"subject": subject})
    client.ask(
        "POST", "Procedure", procedure("") | {"subject": {"identifier": {"system": "s", "value": "77"}}}
    )
    put_patient(client)
    assert len(client.get("Procedure?patient=p77").ids()) == 4
    client.ask(
        "POST", "Procedure", procedure("") | {"subject": {"identifier": {"system": SYSTEM, "value": "P-9"}}}
    )
    save(PatientID="P-9", IssuerOfPatientID="HOSPITAL-A")
    assert len(client.get(f"Procedure?patient.identifier={SYSTEM}|P-9").ids()) == 1


def test_two_patients_with_an_identifier_are_neither(client: Client) -> None:
    put_patient(client)
    put_patient(client, "p78")
    subject = {"identifier": {"system": SYSTEM, "value": "77"}}
    created = client.ask("POST", "Procedure", procedure("") | {"subject": subject})
    assert "nothing that is known here" in warnings(created)
    assert client.get("Procedure?patient=p77,p78").ids() == []


@pytest.mark.parametrize("own", [f"{EHR}/Procedure/9", "urn:uuid:9", ""])
def test_a_relative_reference_is_to_the_entry_of_that_name(client: Client, own: str) -> None:
    patient = post(PATIENT, "https://elsewhere.example/fhir/Patient/23")
    if own.startswith(EHR):
        patient["fullUrl"] = f"{EHR}/Patient/23"
    for entries in (
        [patient, post(procedure("Patient/23"), own)],
        [post(procedure("Patient/23"), own), patient],
    ):
        answer = client.ask("POST", "", bundle_of(*entries))
        assert answer.status == 200, answer.content
    found = client.get("Patient?identifier=77").ids()
    assert len(found) == 2
    for patient_id in found:
        assert len(client.get(f"Procedure?subject={patient_id}").ids()) == 1
    stored = client.get(f"Procedure?subject={found[0]}").json()["entry"][0]["resource"]
    assert stored["subject"]["reference"] == f"Patient/{found[0]}"


def test_a_relative_reference_from_another_root_stays(client: Client) -> None:
    put_patient(client, "23")
    entries = [
        post(PATIENT, "https://a.example/fhir/Patient/23"),
        post(procedure("Patient/23"), "https://b.example/fhir/Procedure/1"),
    ]
    assert client.ask("POST", "", bundle_of(*entries)).status == 200
    assert len(client.get("Procedure?subject=23").ids()) == 1
