"""Whose a photograph is: two patients in one study, one person under several numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from reporting.fhir.access import Principal, parse_scopes
from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database.persons import ConflictKind
from reporting.fhir.http import Api
from reporting.http.fhir_app import FhirApp
from reporting.identifiers import fhir_id
from service.database import ledger
from service.database.pool import transaction
from service.records import LedgerEvent
from tests.integration.reporting.fhir.conftest import Client

STUDY = "2.25.4711"
SYSTEM = "urn:oid:1.2.3.4"
A, B = (fhir_id("Patient", "HOSPITAL-A", number) for number in ("A", "B"))

SavePhotograph = Callable[..., Any]


@pytest.fixture
def api(api: Api) -> Api:
    """An API that knows the identifier system of the hospital's issuer."""
    systems = {"HOSPITAL-A": SYSTEM}
    return replace(api, settings=api.settings.model_copy(update={"fhir_identifier_systems": systems}))


@dataclass(frozen=True)
class _Knows:
    """Knows one principal, whatever is asked."""

    principal_known: Principal

    def principal(self, headers: Mapping[str, str]) -> Principal:
        return self.principal_known


@pytest.fixture
def as_patient(api: Api) -> Callable[..., Client]:
    """The API as the holder of a patient's token sees it."""

    def run(patient: str, scopes: str = "patient/*.cruds") -> Client:
        principal = Principal(client_id="app", scopes=parse_scopes(scopes), patient=patient)
        return Client(FhirApp(replace(api, authorizer=_Knows(principal))))

    return run


def mixed(save_photograph: SavePhotograph, **of_second: object) -> None:
    save_photograph(1, "A", StudyInstanceUID=STUDY)
    save_photograph(2, **({"patient": "B", "StudyInstanceUID": STUDY} | of_second))


def of(client: Client, resource_type: str, patient: str) -> list[str]:
    return client.get(f"{resource_type}?patient={patient}").ids()


# --- two patients in one study


@pytest.mark.parametrize(
    ("of_first", "of_second", "first", "second"),
    [
        ({}, {}, A, B),
        ({"IssuerOfPatientID": None}, {}, fhir_id("Patient", "", "A"), B),
        ({}, {"IssuerOfPatientID": None}, A, fhir_id("Patient", "", "B")),
        ({"PatientID": None}, {}, fhir_id("Patient", "study", STUDY), B),
        ({}, {"PatientID": ""}, A, fhir_id("Patient", "study", STUDY)),
        ({"IssuerOfPatientID": None}, {"PatientID": "A"}, fhir_id("Patient", "", "A"), A),
    ],
)
def test_two_patients_in_one_study_are_two_reports_and_two_studies(
    client: Client,
    as_patient: Callable[..., Client],
    save_photograph: SavePhotograph,
    *,
    of_first: dict[str, object],
    of_second: dict[str, object],
    first: str,
    second: str,
) -> None:
    save_photograph(1, "A", StudyInstanceUID=STUDY, **of_first)
    save_photograph(2, "B", StudyInstanceUID=STUDY, **of_second)
    for resource_type in ("DiagnosticReport", "ImagingStudy", "Observation", "DetectedIssue"):
        of_both = {patient: of(client, resource_type, patient) for patient in (first, second)}
        assert [len(found) for found in of_both.values()] == [1, 1], resource_type
        assert not set(of_both[first]) & set(of_both[second])
    for patient, other in ((first, second), (second, first)):
        mine = as_patient(patient)
        for resource_type in ("DiagnosticReport", "ImagingStudy", "Media", "DetectedIssue"):
            (own, *_), (foreign, *_) = (of(client, resource_type, each) for each in (patient, other))
            body = mine.get(f"{resource_type}/{own}")
            assert body.status == 200
            owner = body.json().get("subject") or body.json()["patient"]
            assert owner["reference"] == f"Patient/{patient}"
            assert other not in body.content.decode()
            assert mine.get(f"{resource_type}/{foreign}").status == 404
            assert mine.get(f"{resource_type}/{foreign}/_history").status == 404
        report = client.get(f"DiagnosticReport/{of(client, 'DiagnosticReport', patient)[0]}").json()
        assert [each["reference"] for each in report["result"]] == [
            f"Observation/{of(client, 'Observation', patient)[0]}"
        ]
        assert report["imagingStudy"][0]["reference"] == (
            f"ImagingStudy/{of(client, 'ImagingStudy', patient)[0]}"
        )


def test_the_search_row_and_the_body_of_a_report_name_the_same_patient(
    client: Client, save_photograph: SavePhotograph
) -> None:
    mixed(save_photograph)
    save_photograph(3, "A", StudyInstanceUID=STUDY)
    for patient in (A, B):
        for each in ("DiagnosticReport", "ImagingStudy"):
            (entry,) = client.get(f"{each}?patient={patient}").json()["entry"]
            assert entry["resource"]["subject"]["reference"] == f"Patient/{patient}"
    (report,) = client.get(f"DiagnosticReport?patient={A}").json()["entry"]
    assert len(report["resource"]["result"]) == 2


def test_a_mixed_study_is_noted_in_ledger_and_status_and_flagged(
    api: Api, client: Client, save_photograph: SavePhotograph
) -> None:
    mixed(save_photograph)
    with transaction(api.pool) as connection:
        (conflict,) = fhir_persons.open_conflicts(connection)
        (line,) = [each for each in ledger.latest(connection, 50) if each.event is LedgerEvent.PATIENTS_MIXED]
    assert (conflict.kind, conflict.subject) == (ConflictKind.MIXED_STUDY, STUDY)
    assert set(conflict.patients) == {A, B}
    assert line.detail["study_instance_uid"] == STUDY
    flagged = client.get("DetectedIssue?code=mixed-study").json()["entry"]
    assert {each["resource"]["status"] for each in flagged} == {"final"}


def test_one_patient_alone_is_no_conflict(api: Api, client: Client, save_photograph: SavePhotograph) -> None:
    save_photograph(1, "A", StudyInstanceUID=STUDY)
    save_photograph(2, "A", StudyInstanceUID=STUDY)
    assert client.get("DetectedIssue").ids() == []
    with transaction(api.pool) as connection:
        assert fhir_persons.open_conflicts(connection) == []


# --- one person, one Patient


def patient(resource_id: str, *numbers: str, **more: object) -> dict[str, Any]:
    identifiers = [
        {"system": SYSTEM, "value": number.removesuffix("!")}
        | ({"use": "old"} if number.endswith("!") else {})
        for number in numbers
    ]
    return {"resourceType": "Patient", "id": resource_id, "identifier": identifiers, **more}


def put(client: Client, resource: dict[str, Any]) -> None:
    answer = client.ask("PUT", f"Patient/{resource['id']}", resource)
    assert answer.status in (200, 201), answer.content


def link(kind: str, other: str) -> list[dict[str, Any]]:
    return [{"other": {"reference": f"Patient/{other}"}, "type": kind}]


def everything(client: Client, resource_id: str) -> set[str]:
    answer = client.get(f"Patient/{resource_id}/$everything?_count=100")
    assert answer.status == 200, answer.content
    return set(answer.ids())


def found_by_every_way(client: Client, resource_id: str, *, observations: int, number: str = "A") -> None:
    for query in (
        f"patient={resource_id}",
        f"subject=Patient/{resource_id}",
        f"patient:identifier={SYSTEM}|{number}",
        f"patient.identifier={SYSTEM}|{number}",
        f"subject:Patient.identifier={SYSTEM}|{number}",
    ):
        assert len(client.get(f"Observation?{query}").ids()) == observations, query
    names = set(client.get("Observation").ids())
    assert len(everything(client, resource_id) & names) == observations
    assert len(client.get(f"Observation/$lastn?patient={resource_id}&max=10").ids()) == observations


@pytest.mark.parametrize("photograph_first", [True, False])
def test_photograph_and_ehr_are_one_patient_whichever_comes_first(
    client: Client,
    as_patient: Callable[..., Client],
    save_photograph: SavePhotograph,
    *,
    photograph_first: bool,
) -> None:
    if photograph_first:
        save_photograph(1, "A")
    put(client, patient("ehr-1", "A", name=[{"family": "Doe"}]))
    if not photograph_first:
        save_photograph(1, "A")
    save_photograph(2, "A", when="20270101120000")
    found_by_every_way(client, "ehr-1", observations=2)
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == ["ehr-1"]
    assert client.get("Patient?name=doe").ids() == ["ehr-1"]
    assert client.get("Patient?_has:Observation:patient:code=score").ids() == ["ehr-1"]
    newest = client.get("Observation?patient=ehr-1&_sort=-date").json()["entry"][0]["resource"]
    assert newest["subject"]["reference"] == "Patient/ehr-1"
    assert set(as_patient("ehr-1").get("Observation").ids()) == set(client.get("Observation").ids())
    included = client.get("Observation?patient=ehr-1&_include=Observation:patient").ids("include")
    assert "ehr-1" in included
    assert len(client.get("Patient?_id=ehr-1&_revinclude=Observation:patient").ids("include")) == 2
    if photograph_first:  # the Patient made of the photograph leads to the EHR's
        ours = client.get(f"Patient/{A}").json()
        assert (ours["active"], ours["link"]) == (False, link("replaced-by", "ehr-1"))
        found_by_every_way(client, A, observations=2)
        assert set(as_patient(A).get("Observation").ids()) == set(client.get("Observation").ids())
        assert client.get(f"Patient/{A}/_history").json()["total"] == 2


def test_a_number_of_another_issuer_is_another_patient(
    client: Client, save_photograph: SavePhotograph
) -> None:
    save_photograph(1, "A", IssuerOfPatientID="HOSPITAL-B")
    save_photograph(2, "A", IssuerOfPatientID=None)
    put(client, patient("ehr-1", "A"))
    assert of(client, "Observation", "ehr-1") == []


@pytest.mark.parametrize("way", ["replaced-by", "replaces", "old-number", "more-numbers"])
@pytest.mark.parametrize("photograph_first", [True, False])
def test_merge_and_unmerge_move_searches_tokens_and_later_photographs(
    api: Api,
    client: Client,
    as_patient: Callable[..., Client],
    save_photograph: SavePhotograph,
    way: str,
    *,
    photograph_first: bool,
) -> None:
    put(client, patient("old", "A"))
    put(client, patient("new", "B"))
    if photograph_first:
        save_photograph(1, "A")  # before surgery, under the old number
    if way == "replaced-by":
        put(client, patient("old", "A", active=False, link=link("replaced-by", "new")))
    elif way == "replaces":
        put(client, patient("new", "B", link=link("replaces", "old")))
    else:
        put(client, patient("new", "B", "A!" if way == "old-number" else "A"))
    if not photograph_first:
        save_photograph(1, "A")
    save_photograph(2, "A", when="20270101120000")  # later, still under the old number
    save_photograph(3, "B", when="20270201120000")
    for each in ("old", "new"):
        found_by_every_way(client, each, observations=3)
        assert len(as_patient(each).get("Observation").ids()) == 3
    latest = client.get("Observation?patient=new&date=2027-01-01").json()["entry"][0]["resource"]
    assert latest["subject"]["reference"] == "Patient/new"
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == ["new"]
    assert client.get("Patient/old").status == 200

    put(client, patient("new", "B"))
    put(client, patient("old", "A"))
    assert len(of(client, "Observation", "new")) >= 1
    with transaction(api.pool) as connection:
        lines = ledger.latest(connection, 100)
        assert fhir_persons.members(connection, "new") == tuple(sorted(("new", B)))
        assert fhir_persons.members(connection, "old") == tuple(sorted(("old", A)))
    events = [each.event for each in lines if each.detail.get("patient") == "old"]
    assert events == [LedgerEvent.PATIENT_UNLINKED, LedgerEvent.PATIENT_LINKED]
    audited = client.get("AuditEvent?entity=Patient/old&_count=100").content.decode()
    assert "stands for it now" in audited


def test_results_go_back_to_their_own_patient_when_a_merge_is_taken_back(
    api: Api, client: Client, save_photograph: SavePhotograph
) -> None:
    put(client, patient("new", "B"))
    put(client, patient("old", "A", link=link("replaced-by", "new")))
    save_photograph(1, "A", StudyInstanceUID=STUDY)
    save_photograph(2, "B", StudyInstanceUID=STUDY)
    assert client.get("DetectedIssue").ids() == []  # one person
    assert len(of(client, "DiagnosticReport", "new")) == 1
    put(client, patient("old", "A"))
    save_photograph(1, "A", StudyInstanceUID=STUDY)  # as report_again does
    for each, number in (("old", 1), ("new", 2)):
        (observation,) = client.get(f"Observation?patient={each}").json()["entry"]
        assert observation["resource"]["subject"]["reference"] == f"Patient/{each}"
        assert observation["resource"]["status"] == ("amended" if number == 1 else "final")
        (report,) = client.get(f"DiagnosticReport?patient={each}").json()["entry"]
        assert [r["reference"] for r in report["resource"]["result"]] == [
            f"Observation/{observation['resource']['id']}"
        ]
        (study,) = client.get(f"ImagingStudy?patient={each}").json()["entry"]
        uids = [i["uid"] for s in study["resource"]["series"] for i in s["instance"]]
        assert f"2.25.1000{number}" in uids
        assert f"2.25.1000{3 - number}" not in uids
    assert len(client.get("DetectedIssue?code=mixed-study").ids()) == 2
    assert client.get(f"Observation/{observation['resource']['id']}/_history").status == 200


def test_a_merge_ends_the_conflict_of_a_study(
    client: Client, api: Api, save_photograph: SavePhotograph
) -> None:
    mixed(save_photograph)
    put(client, patient("ehr", "A", "B!"))
    with transaction(api.pool) as connection:
        assert fhir_persons.open_conflicts(connection) == []
    states = [each["resource"]["status"] for each in client.get("DetectedIssue").json()["entry"]]
    assert states == ["cancelled", "cancelled"]


def test_two_patients_of_the_ehr_with_one_number_are_not_one(
    client: Client, api: Api, save_photograph: SavePhotograph
) -> None:
    put(client, patient("one", "A", "X"))
    save_photograph(1, "A")
    put(client, patient("two", "A", "Y"))
    assert len(of(client, "Observation", "one")) == 1  # stays with who had it
    assert of(client, "Observation", "two") == []
    with transaction(api.pool) as connection:
        kinds = {each.kind for each in fhir_persons.open_conflicts(connection)}
    assert kinds == {ConflictKind.DISPUTED_NUMBER}
    put(client, patient("two", "Y"))
    with transaction(api.pool) as connection:
        assert fhir_persons.open_conflicts(connection) == []


def test_a_link_to_a_patient_who_comes_later(client: Client, save_photograph: SavePhotograph) -> None:
    save_photograph(1, "A")
    put(client, patient("ehr-1", "A", link=link("replaced-by", "ehr-2"), active=False))
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == ["ehr-1"]
    found_by_every_way(client, "ehr-1", observations=1)
    put(client, patient("ehr-2", "B"))
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == ["ehr-2"]
    save_photograph(2, "A", when="20270101120000")
    for each in ("ehr-1", "ehr-2"):
        found_by_every_way(client, each, observations=2)


def test_links_in_a_circle_are_one_person_and_noted(client: Client, api: Api) -> None:
    put(client, patient("one", "A", link=link("replaced-by", "two")))
    put(client, patient("two", "B", link=link("replaced-by", "one")))
    with transaction(api.pool) as connection:
        assert fhir_persons.members(connection, "one") == ("one", "two")
        assert {each.kind for each in fhir_persons.open_conflicts(connection)} == {ConflictKind.DISPUTED_LINK}


def test_a_chain_of_merges_ends_at_the_last(client: Client, save_photograph: SavePhotograph) -> None:
    save_photograph(1, "A")
    put(client, patient("one", "A"))
    put(client, patient("two", "B", link=link("replaces", "one")))
    put(client, patient("three", "C"))
    put(client, patient("two", "B", link=[*link("replaces", "one"), *link("replaced-by", "three")]))
    for each in (A, "one", "two", "three"):
        assert len(of(client, "Observation", each)) == 1
    assert client.get(f"Patient?identifier={SYSTEM}|A").ids() == ["three"]


# --- what a patient's token cannot do


def test_a_patients_token_never_writes(
    client: Client, as_patient: Callable[..., Client], save_photograph: SavePhotograph
) -> None:
    put(client, patient("me", "A"))
    put(client, patient("somebody", "B"))
    mine = as_patient("me")
    stolen = patient("me", "A", "B")
    exists, absent = patient("somebody", "B"), patient("nobody", "C")
    answers = [
        mine.ask("PUT", "Patient/me", stolen),
        mine.ask("PUT", "Patient/me", patient("me", "A", link=link("replaces", "somebody"))),
        mine.ask("POST", "Patient", patient("x", "B")),
        mine.ask("POST", "Procedure", {"resourceType": "Procedure", "status": "completed",
                                       "subject": {"reference": "Patient/me"}}),
        *(mine.ask("PUT", f"Patient/{each['id']}", each, **headers)
          for each in (exists, absent)
          for headers in ({"If_None_Match": "*"}, {"If_Match": "*"}, {"If_Match": 'W/"7"'}, {})),
        *(mine.ask("POST", "Patient", each, If_None_Exist=f"identifier={SYSTEM}|{number}")
          for each, number in ((exists, "B"), (absent, "C"))),
    ]  # fmt: skip
    assert {answer.status for answer in answers} == {403}
    told = {answer.content for answer in answers if b"Patient" in answer.content}
    assert len({each.replace(b"'c'", b"'u'") for each in told}) == 1  # the same whoever is known here
    entry = {"resource": stolen, "request": {"method": "PUT", "url": "Patient/me", "ifNoneMatch": "*"}}
    for kind in ("transaction", "batch"):  # of writes alone, hence refused before the body is read
        answer = mine.ask("POST", "", {"resourceType": "Bundle", "type": kind, "entry": [entry]})
        assert answer.status == 403
    save_photograph(1, "B")
    assert mine.get("Observation").ids() == []
