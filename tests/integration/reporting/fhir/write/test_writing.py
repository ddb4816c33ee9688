"""What the EHR writes: patients, surgeons, operations."""

from __future__ import annotations

import threading
from typing import Any

from tests.integration.reporting.fhir.conftest import BASE_URL, Answer, Client, Save
from tests.integration.reporting.fhir.write.bodies import PATIENT, bundle_of, post, procedure


def test_create_read_update(client: Client) -> None:
    created = client.ask("POST", "Patient", PATIENT)
    assert created.status == 201
    patient_id = created.json()["id"]
    assert created.headers["location"] == f"{BASE_URL}/Patient/{patient_id}/_history/1"
    assert created.headers["etag"] == 'W/"1"'
    changed = created.json() | {"gender": "female"}
    assert client.ask("PUT", f"Patient/{patient_id}", changed, If_Match='W/"1"').status == 200
    stale = client.ask("PUT", f"Patient/{patient_id}", changed | {"gender": "male"}, If_Match='W/"1"')
    assert stale.status == 412
    assert stale.json()["issue"][0]["code"] == "conflict"
    assert client.get("Patient?gender=female").ids() == [patient_id]
    history = client.get(f"Patient/{patient_id}/_history").json()
    assert history["total"] == 2
    assert [e["resource"]["meta"]["versionId"] for e in history["entry"]] == ["2", "1"]
    assert [e["request"]["method"] for e in history["entry"]] == ["PUT", "POST"]


def test_the_same_update_again_makes_no_version(client: Client) -> None:
    body = PATIENT | {"id": "p1"}
    assert client.ask("PUT", "Patient/p1", body).status == 201
    again = client.ask("PUT", "Patient/p1", body)
    assert (again.status, again.headers["etag"]) == (200, 'W/"1"')


def test_decimals_are_kept_as_written(client: Client) -> None:
    extension = [{"url": "http://example.org/length", "valueDecimal": 0}]
    body = str(PATIENT | {"id": "p1", "extension": extension}).replace("'", '"').replace(": 0}", ": 3.250}")
    assert client.ask("PUT", "Patient/p1", body.encode()).status == 201
    assert b'"valueDecimal":3.250' in client.get("Patient/p1").content


def test_if_none_exist(client: Client) -> None:
    condition = "identifier=urn:oid:1.2.3|77"
    first = client.ask("POST", "Patient", PATIENT, If_None_Exist=condition)
    second = client.ask("POST", "Patient", PATIENT, If_None_Exist=condition)
    assert (first.status, second.status) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    client.ask("POST", "Patient", PATIENT)
    assert client.ask("POST", "Patient", PATIENT, If_None_Exist=condition).status == 412


def test_if_none_exist_by_many_at_once_creates_one(client: Client) -> None:
    answers: list[Answer] = []

    def post() -> None:
        answers.append(client.ask("POST", "Patient", PATIENT, If_None_Exist="identifier=urn:oid:1.2.3|77"))

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status for a in answers) == [200] * 5 + [201]


def test_preferences(client: Client) -> None:
    minimal = client.ask("POST", "Patient", PATIENT, Prefer="return=minimal")
    assert (minimal.status, minimal.content) == (201, b"")
    outcome = client.ask("POST", "Patient", PATIENT, Prefer="return=OperationOutcome").json()
    assert outcome["resourceType"] == "OperationOutcome"


def test_invalid_resources_are_refused_where_they_are_wrong(client: Client) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("Patient", PATIENT | {"gender": "banana"}, "Patient.gender"),
        ("Patient", PATIENT | {"name": []}, "Patient.name"),
        ("Patient", PATIENT | {"name": [{"family": ""}]}, "Patient.name[0].family"),
        ("Patient", PATIENT | {"birthDate": "soon"}, "Patient.birthDate"),
        ("Patient", PATIENT | {"bananas": 3}, "Patient.bananas"),
        ("Procedure", procedure("Device/1"), "Procedure.subject.reference"),
        ("Procedure", procedure("Patient/1", status="done"), "Procedure.status"),
    ]
    for resource_type, body, expression in cases:
        answer = client.ask("POST", resource_type, body)
        assert answer.status == 422, body
        assert expression in [x for i in answer.json()["issue"] for x in i["expression"]]
        checked = client.ask("POST", f"{resource_type}/$validate", body)
        assert checked.status == 200
        assert checked.json()["issue"][0]["severity"] == "error"
    missing = client.ask("POST", "Procedure", {"resourceType": "Procedure", "status": "completed"})
    assert missing.status == 422
    assert client.ask("POST", "Patient/$validate", PATIENT).json()["issue"][0]["severity"] == "information"


def test_wrong_bodies(client: Client) -> None:
    assert client.ask("POST", "Patient", b"{").status == 400
    assert client.ask("POST", "Patient", b"[]").status == 400
    assert client.ask("POST", "Patient", b'{"resourceType":"Patient","id":"1","id":"2"}').status == 400
    assert client.ask("POST", "Patient", procedure("Patient/1")).status == 400
    assert client.ask("PUT", "Patient/p1", PATIENT | {"id": "p2"}).status == 400
    assert client.ask("PUT", "Patient/p_1", PATIENT | {"id": "p_1"}).status == 400
    assert client.ask("POST", "Patient", b"<Patient/>", Content_Type="application/fhir+xml").status == 415
    assert client.ask("POST", "Observation", {"resourceType": "Observation"}).status == 405
    assert client.ask("DELETE", "Patient/p1").status == 405
    assert client.ask("POST", "Banana", {"resourceType": "Banana"}).status == 404


def test_a_transaction_links_its_entries(client: Client) -> None:
    surgeon = {"resourceType": "Practitioner", "name": [{"family": "Lane"}]}
    operation = procedure("urn:uuid:1", performer=[{"actor": {"reference": "urn:uuid:2"}}])
    answer = client.ask(
        "POST", "", bundle_of(post(operation), post(PATIENT, "urn:uuid:1"), post(surgeon, "urn:uuid:2"))
    )
    assert answer.status == 200, answer.content
    assert [e["response"]["status"] for e in answer.json()["entry"]] == ["201 Created"] * 3
    found = client.get(
        "Procedure?performer:Practitioner.name=lane&patient.identifier=77&date=2025-04-01"
    ).json()
    assert found["total"] == 1
    again = bundle_of(
        post(PATIENT, "urn:uuid:1", ifNoneExist="identifier=77"),
        post(procedure("urn:uuid:1", performedDateTime="2026")),
    )
    assert client.ask("POST", "", again).status == 200
    assert client.get("Patient?identifier=77").json()["total"] == 1
    assert client.get("Procedure?patient.identifier=77").json()["total"] == 2
    conditional = bundle_of(post(procedure("Patient?identifier=77", performedDateTime="2027")))
    assert client.ask("POST", "", conditional).status == 200
    assert client.get("Procedure?patient.identifier=77&date=2027").json()["total"] == 1


def test_a_transaction_is_all_or_nothing(client: Client) -> None:
    answer = client.ask("POST", "", bundle_of(post(PATIENT), post(procedure("Patient/1", status="banana"))))
    assert answer.status == 422
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1].resource.status"]
    assert client.get("Patient").json()["total"] == 0
    unknown = client.ask("POST", "", bundle_of(post(procedure("Patient?identifier=none"))))
    assert unknown.status == 412


def test_a_batch_is_each_for_itself(client: Client) -> None:
    answer = client.ask(
        "POST", "", bundle_of(post(PATIENT), post(procedure("Patient/1", status="banana")), kind="batch")
    )
    assert [e["response"]["status"] for e in answer.json()["entry"]] == ["201 Created", "422"]
    assert client.get("Patient").json()["total"] == 1


def test_the_ehrs_patient_wins_over_the_photographs(client: Client, save: Save) -> None:
    saved = save(IssuerOfPatientID="H")
    ours = next(s.resource for s in saved if s.resource.resource_type == "Patient")
    identifier = client.get(f"Patient/{ours.resource_id}").json()["identifier"][0]
    client.ask(
        "PUT", f"Patient/{ours.resource_id}", PATIENT | {"id": ours.resource_id, "identifier": [identifier]}
    )
    save(IssuerOfPatientID="H", PatientName="Wrong^Name", SOPInstanceUID="2.25.5")
    assert client.get(f"Patient/{ours.resource_id}").json()["name"][0]["family"] == "Doe"
    # a patient the EHR wrote first, under its own id, takes our results
    system = client.get(f"Patient/{ours.resource_id}").json()["identifier"][0]["system"]
    mine = PATIENT | {"id": "ehr-1", "identifier": [{"system": system, "value": "NEW"}]}
    client.ask("PUT", "Patient/ehr-1", mine)
    save(IssuerOfPatientID="H", PatientID="NEW", SOPInstanceUID="2.25.6", StudyInstanceUID="2.25.66")
    assert client.get("ImagingStudy?patient=ehr-1").json()["total"] == 1


def test_if_none_match_replaces_nothing(client: Client) -> None:
    body = PATIENT | {"id": "p1"}
    assert client.ask("PUT", "Patient/p1", body, If_None_Match="*").status == 201
    again = client.ask("PUT", "Patient/p1", body | {"gender": "male"}, If_None_Match="*")
    assert again.status == 412
    assert again.json()["issue"][0]["expression"] == ["http.if-none-match"]
    assert "gender" not in client.get("Patient/p1").json()


def test_a_transaction_answers_with_what_it_saved_when_asked(client: Client) -> None:
    entry = {"resource": PATIENT, "request": {"method": "POST", "url": "Patient"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    plain = client.ask("POST", "", bundle).json()["entry"][0]
    assert "resource" not in plain
    whole = client.ask("POST", "", bundle, Prefer="return=representation").json()["entry"][0]
    assert whole["resource"]["birthDate"] == PATIENT["birthDate"]
    assert whole["fullUrl"].endswith(whole["resource"]["id"])
