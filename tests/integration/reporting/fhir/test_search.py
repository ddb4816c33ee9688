"""Searches over a small population whose answers are known."""

from __future__ import annotations

from typing import Any

import pytest

from reporting.identifiers import fhir_id
from reporting.terminology import CODE_SYSTEM
from service.records import RejectionReason
from tests.integration.reporting.fhir.conftest import BASE_URL, Client, Save
from tests.unit.reporting.photographs import rejected

ANNA = fhir_id("Patient", "HOSPITAL-A", "ANNA")
BEN = fhir_id("Patient", "HOSPITAL-A", "BEN")


@pytest.fixture
def population(save_photograph: Save) -> dict[str, str]:
    """Logical ids of Observations by a short name: three of one patient, two of another."""
    rows: dict[str, tuple[int, str, float, str, dict[str, object]]] = {
        "a1": (
            1,
            "ANNA",
            1.5,
            "20250105100000",
            {"PatientName": "Müller^Anna", "PatientBirthDate": "20180501"},
        ),
        "a2": (2, "ANNA", 2.5, "20250601120000", {}),
        "a3": (3, "ANNA", 3.5, "20260301090000", {}),
        "b1": (4, "BEN", 2.0, "20250601235959", {"PatientName": "Smith^Ben", "PatientSex": "M"}),
        "b2": (
            5,
            "BEN",
            3.0,
            "20260115",
            {"AcquisitionDateTime": None, "StudyTime": "", "StudyDate": "20260115"},
        ),
    }
    ids = {}
    for name, (number, patient, score, when, more) in rows.items():
        saved = save_photograph(number, patient, score, when, TimezoneOffsetFromUTC="+0000", **more)
        ids[name] = next(s.resource.resource_id for s in saved if s.resource.resource_type == "Observation")
    return ids


SYSTEM = CODE_SYSTEM.uri

# query, names of the Observations it finds, in order where the order is defined
OBSERVATION_SEARCHES: list[tuple[str, list[str]]] = [
    ("", ["a3", "b2", "b1", "a2", "a1"]),
    (f"patient={ANNA}", ["a3", "a2", "a1"]),
    (f"patient=Patient/{ANNA}", ["a3", "a2", "a1"]),
    (f"patient={BASE_URL}/Patient/{ANNA}", ["a3", "a2", "a1"]),
    (f"subject:Patient={BEN}", ["b2", "b1"]),
    (f"patient={ANNA},{BEN}", ["a3", "b2", "b1", "a2", "a1"]),
    ("patient=nobody", []),
    ("code=score", ["a3", "b2", "b1", "a2", "a1"]),
    (f"code={SYSTEM}|score", ["a3", "b2", "b1", "a2", "a1"]),
    (f"code={SYSTEM}|", ["a3", "b2", "b1", "a2", "a1"]),
    ("code=http://loinc.org|score", []),
    ("code=|score", []),
    ("code=score,other", ["a3", "b2", "b1", "a2", "a1"]),
    ("code:not=score", []),
    (f"patient={ANNA}&code=score&date=ge2025-06-01", ["a3", "a2"]),
    (f"patient={ANNA}&category=imaging", ["a3", "a2", "a1"]),
    (
        "category=http://terminology.hl7.org/CodeSystem/observation-category|imaging",
        ["a3", "b2", "b1", "a2", "a1"],
    ),
    ("category=vital-signs", []),
    ("category:not=imaging", []),
    ("date=2025-06-01", ["b1", "a2"]),
    ("date=eq2025-06", ["b1", "a2"]),
    ("date=2025", ["b1", "a2", "a1"]),
    ("date=ne2025", ["a3", "b2"]),
    ("date=2026-01-15T10:00:00Z", []),
    ("date=ge2025-06-01T23:59:59Z", ["a3", "b2", "b1"]),
    ("date=gt2025-06-01T23:59:59Z", ["a3", "b2"]),
    ("date=lt2025-06-01", ["a1"]),
    ("date=le2025-06-01", ["b1", "a2", "a1"]),
    ("date=sa2025-06-01", ["a3", "b2"]),
    ("date=eb2025-06-01T23:59:59Z", ["a2", "a1"]),
    ("date=ge2025-06-01&date=lt2026-01-01", ["b1", "a2"]),
    ("date=gt2026-01-15T10:00:00Z", ["a3", "b2"]),
    ("date=2025-06-01T14:00:00%2B02:00", ["a2"]),
    ("status=final", ["a3", "b2", "b1", "a2", "a1"]),
    ("status=amended,entered-in-error", []),
    ("status:not=final", []),
    ("status=http://hl7.org/fhir/observation-status|final", ["a3", "b2", "b1", "a2", "a1"]),
    ("value-quantity=gt2.5", ["b2", "a3"]),
    ("value-quantity=ge2.5", ["a2", "b2", "a3"]),
    ("value-quantity=lt2.0", ["a1"]),
    ("value-quantity=2.0", ["b1"]),
    ("value-quantity=2", ["a1", "b1"]),
    ("value-quantity=ne2.0", ["a3", "b2", "a2", "a1"]),
    ("value-quantity=ap2.1", ["b1"]),
    ("value-quantity=lt2.6|http://unitsofmeasure.org|{score}", ["a1", "b1", "a2"]),
    ("value-quantity=lt2.6||{score}", ["a1", "b1", "a2"]),
    ("value-quantity=lt2.6|http://unitsofmeasure.org|mm", []),
    (f"patient={ANNA}&value-quantity=gt2", ["a3", "a2"]),
    ("code-value-quantity=score$lt2.1", ["b1", "a1"]),
    ("component-code=rating", ["a3", "b2", "b1", "a2", "a1"]),
    (f"component-code={SYSTEM}|rating", ["a3", "b2", "b1", "a2", "a1"]),
    ("component-code=rejection-reason", []),
    ("component-code-value-quantity=percentile$gt60", ["a1", "a2", "a3", "b1", "b2"]),
    (f"patient={ANNA}&component-code-value-quantity=percentile$gt60", ["a3", "a2", "a1"]),
    ("component-code-value-quantity=percentile$gt61", []),
    ("component-value-quantity=gt200", ["a3", "b2", "b1", "a2", "a1"]),
    ("combo-code=score", ["a3", "b2", "b1", "a2", "a1"]),
    ("combo-code=rating", ["a3", "b2", "b1", "a2", "a1"]),
    ("combo-code-value-quantity=score$lt2.1", ["b1", "a1"]),
    ("combo-code-value-quantity=percentile$61", ["a3", "b2", "b1", "a2", "a1"]),
    ("combo-value-quantity=lt-3", ["a3", "b2", "b1", "a2", "a1"]),
    ("based-on:identifier=ACC-77", ["a3", "b2", "b1", "a2", "a1"]),
    ("based-on:missing=false", []),
    ("value-quantity:missing=false", ["a3", "b2", "b1", "a2", "a1"]),
    ("device:missing=true", []),
    ("patient.identifier=ANNA", ["a3", "a2", "a1"]),
    ("subject:Patient.identifier=BEN", ["b2", "b1"]),
    ("patient.name=mull", ["a3", "a2", "a1"]),
    ("patient.birthdate=2018-05-01", ["a3", "a2", "a1"]),
    ("patient:identifier=BEN", ["b2", "b1"]),
    ("device.device-name=Semblance", ["a3", "b2", "b1", "a2", "a1"]),
    ("derived-from:Media.created=2025-06", ["b1", "a2"]),
    ("_sort=date", ["a1", "a2", "b1", "b2", "a3"]),
    ("_sort=-date", ["a3", "b2", "b1", "a2", "a1"]),
    ("_sort=value-quantity", ["a1", "b1", "a2", "b2", "a3"]),
    ("_sort=-value-quantity", ["a3", "b2", "a2", "b1", "a1"]),
    ("_sort=_lastUpdated", ["a1", "a2", "a3", "b1", "b2"]),
    ("_sort=code,-date", ["a3", "b2", "b1", "a2", "a1"]),
    ("_lastUpdated=gt2000", ["a3", "b2", "b1", "a2", "a1"]),
    ("_lastUpdated=lt2000", []),
    ("nonsense=1", ["a3", "b2", "b1", "a2", "a1"]),
    ("status=", ["a3", "b2", "b1", "a2", "a1"]),
]


def test_observation_searches(client: Client, population: dict[str, str]) -> None:
    names = {resource_id: name for name, resource_id in population.items()}
    wrong = []
    for query, expected in OBSERVATION_SEARCHES:
        answer = client.get(f"Observation?{query}")
        found = [names[i] for i in answer.ids()] if answer.status == 200 else answer.content
        if found != expected:
            wrong.append((query, found, expected))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_search_pages_to_the_same_answer(client: Client, population: dict[str, str]) -> None:
    names = {resource_id: name for name, resource_id in population.items()}
    wrong = []
    for query, expected in OBSERVATION_SEARCHES:
        found: list[str] = []
        url: str | None = f"Observation?{query}&_count=2"
        while url is not None:
            answer = client.get(url)
            found += [names[i] for i in answer.ids()]
            url = answer.link("next")
        if found != expected:
            wrong.append((query, found, expected))
    assert not wrong, "\n".join(map(str, wrong))


def test_post_search_is_the_same(client: Client, population: dict[str, str]) -> None:
    form = f"patient={ANNA}&date=ge2025-06-01".encode()
    answer = client.ask(
        "POST", "Observation/_search?code=score", form, content_type="application/x-www-form-urlencoded"
    )
    assert answer.ids() == [population["a3"], population["a2"]]
    wrong = client.ask("POST", "Observation/_search", b"{}", content_type="application/json")
    assert wrong.status == 415


OTHER_SEARCHES: list[tuple[str, int]] = [
    ("Patient?identifier=ANNA", 1),
    ("Patient?name=muller", 1),
    ("Patient?name=MÜL", 1),
    ("Patient?family:exact=Müller", 1),
    ("Patient?family:exact=muller", 0),
    ("Patient?name:contains=lle", 1),
    ("Patient?family=smith&gender=male", 1),
    ("Patient?gender=female&name=smith", 0),
    ("Patient?birthdate=2018-05-01&family=m%C3%BCller", 1),
    ("Patient?birthdate=lt2019", 1),
    ("Patient?birthdate=ge2018-05&birthdate=le2018-05", 1),
    (f"Patient?_id={ANNA},{BEN}", 2),
    ("Patient?_id:not=x", 2),
    ("Patient?death-date:missing=true", 2),
    ("Patient?_sort=birthdate", 2),
    (f"ImagingStudy?patient={ANNA}", 1),
    ("ImagingStudy?modality=XC", 2),
    ("ImagingStudy?instance=2.25.10001", 1),
    ("ImagingStudy?identifier=urn:dicom:uid|urn:oid:2.25.0", 0),
    ("DiagnosticReport?status=appended", 2),
    (f"DiagnosticReport?patient={ANNA}&category=IMG&date=ge2020", 1),
    (f"DiagnosticReport?patient={ANNA}&code=http://loinc.org|18748-4", 1),
    (f"Media?patient={BEN}", 4),
    ("Media?modality=130404", 5),
    ("Device?type=123110", 1),
    ("Device?device-name=semblance", 1),
    (f"Provenance?patient={BEN}", 2),
    ("Provenance?recorded=ge2026", 5),
    ("Provenance?agent.type=123110", 5),
]


def test_searches_of_other_types(client: Client, population: dict[str, str]) -> None:
    wrong = []
    for url, expected in OTHER_SEARCHES:
        answer = client.get(f"{url}&_summary=count")
        if answer.status != 200 or answer.json()["total"] != expected:
            wrong.append((url, expected, answer.content[:300]))
    assert not wrong, "\n".join(map(str, wrong))


def test_derived_from_and_part_of(client: Client, population: dict[str, str]) -> None:
    observation: dict[str, Any] = client.get(f"Observation/{population['a1']}").json()
    media = observation["derivedFrom"][0]["reference"]
    study = observation["partOf"][0]["reference"]
    assert client.get(f"Observation?derived-from={media}").ids() == [population["a1"]]
    assert len(client.get(f"Observation?part-of={study}").ids()) == 3
    device = observation["device"]["reference"]
    assert len(client.get(f"Observation?device={device}").ids()) == 5


def test_includes(client: Client, population: dict[str, str]) -> None:
    answer = client.get(
        f"Observation?_id={population['a1']}&_include=Observation:patient&_include=Observation:derived-from"
        "&_include=Observation:device&_revinclude=Provenance:target&_revinclude=DiagnosticReport:result"
    )
    types = sorted(
        e["resource"]["resourceType"] for e in answer.json()["entry"] if e["search"]["mode"] == "include"
    )
    assert types == ["Device", "DiagnosticReport", "Media", "Patient", "Provenance"]
    backward = client.get(
        f"Patient?_id={ANNA}&_revinclude=Observation:patient&_revinclude:iterate=Provenance:target"
    )
    types = sorted(e["resource"]["resourceType"] for e in backward.json()["entry"])
    assert types == ["Observation"] * 3 + ["Patient"] + ["Provenance"] * 3
    everything = client.get(f"Observation?_id={population['a1']}&_include=*:x")
    assert everything.status == 400
    assert len(client.get(f"Observation?_id={population['a1']}&_include=Observation:*").ids("include")) == 4


def test_totals(client: Client, population: dict[str, str]) -> None:
    assert client.get("Observation?_count=2").json().get("total") is None
    assert client.get("Observation?_count=2&_total=accurate").json()["total"] == 5
    assert client.get("Observation?_count=2&_total=estimate").json()["total"] >= 1
    assert client.get("Observation?_count=9").json()["total"] == 5
    counted = client.get("Observation?_count=0&_totalMethod=count").json()
    assert counted["total"] == 5
    assert "entry" not in counted


def test_elements_and_summaries(client: Client, population: dict[str, str]) -> None:
    one = client.get("Observation?_elements=valueQuantity&_count=1").json()["entry"][0]["resource"]
    assert set(one) == {"resourceType", "id", "meta", "status", "code", "valueQuantity"}
    assert one["meta"]["tag"][0]["code"] == "SUBSETTED"
    summary = client.get("Observation?_summary=true&_count=1").json()["entry"][0]["resource"]
    assert "valueQuantity" in summary
    assert "note" not in summary
    assert "referenceRange" not in summary
    assert client.get("Observation?_elements=banana").status == 400


REFUSED = [
    "Observation?date=yesterday",
    "Observation?date=2025-13",
    "Observation?value-quantity=large",
    "Observation?value-quantity=NaN",
    "Observation?value-quantity=1|2",
    "Observation?code:above=x",
    "Observation?code:text=x",
    "Observation?status:missing=maybe",
    "Observation?_count=many",
    "Observation?_sort=banana",
    "Observation?_total=banana",
    "Observation?_summary=banana",
    "Observation?_include=Observation:banana",
    "Observation?_include=Banana:patient",
    "Observation?patient:Practitioner=1",
    "Observation?patient.banana=1",
    "Observation?code.x=1",
    "Observation?performer.name=x",
    "Observation?component-code-value-quantity=x",
    "Observation?_page=forged",
]


@pytest.mark.parametrize("url", REFUSED)
def test_malformed_searches_are_refused_with_the_parameter(client: Client, url: str) -> None:
    answer = client.get(url)
    assert answer.status == 400
    issue = answer.json()["issue"][0]
    assert issue["severity"] == "error"
    assert issue["expression"][0].startswith("http.")


def test_unknown_parameters(client: Client, population: dict[str, str]) -> None:
    lenient = client.get("Observation?banana=1&status=final")
    assert lenient.status == 200
    assert "banana" not in str(lenient.link("self"))
    outcome = lenient.json()["entry"][-1]
    assert outcome["search"]["mode"] == "outcome"
    assert outcome["resource"]["issue"][0]["severity"] == "warning"
    strict = client.get("Observation?banana=1&status=final", Prefer="handling=strict")
    assert strict.status == 400
    assert strict.json()["issue"][0]["expression"] == ["http.banana"]


def test_page_links_cannot_be_changed(client: Client, population: dict[str, str]) -> None:
    link = client.get(f"Observation?patient={ANNA}&_count=1").link("next")
    assert link is not None
    token = link.split("_page=")[1]
    assert client.get(link).ids() == [population["a2"]]
    for place in (3, len(token) // 2, len(token) - 3):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert client.get(f"Observation?_page={changed}").status == 400
    assert client.get(f"Media?_page={token}").status == 400


def test_pages_stay_stable_while_rows_arrive(
    client: Client, population: dict[str, str], save_photograph: Save
) -> None:
    first = client.get("Observation?_count=2")
    save_photograph(99, "ANNA", 1.0, "20270101000000")
    link = first.link("next")
    assert link is not None
    assert client.get(link).ids() == [population["b1"], population["a2"]]


def test_who_is_referred_to(client: Client, population: dict[str, str]) -> None:
    procedure = {
        "resourceType": "Procedure", "id": "o1", "status": "completed", "performedDateTime": "2025-04-01",
        "subject": {"reference": f"Patient/{ANNA}"},
        "performer": [{"actor": {"reference": "Practitioner/s1"}}],
    }  # fmt: skip
    surgeon = {"resourceType": "Practitioner", "id": "s1", "name": [{"family": "Lane"}]}
    assert client.ask("PUT", "Practitioner/s1", surgeon).status == 201
    assert client.ask("PUT", "Procedure/o1", procedure).status == 201
    assert client.get("Patient?_has:Procedure:patient:date=ge2025").ids() == [ANNA]
    assert client.get("Patient?_has:Procedure:patient:date=lt2025").ids() == []
    assert client.get("Patient?_has:Observation:patient:code=score&_total=accurate").json()["total"] == 2
    assert client.get("Practitioner?_has:Procedure:performer:patient=" + ANNA).ids() == ["s1"]
    assert client.get("Practitioner?_has:Procedure:performer:patient.identifier=ANNA").ids() == ["s1"]
    assert client.get("Device?_has:Observation:device:status=final").json()["total"] == 1
    media = client.get(f"Media?_has:Observation:derived-from:_has:Provenance:target:patient={ANNA}")
    observations = client.get(f"Observation?patient={ANNA}").json()["total"]
    assert media.json()["total"] == observations > 0
    assert client.get("Observation?_has:DiagnosticReport:result:status=final,appended").json()["total"] > 0
    for wrong in (
        "Patient?_has:Banana:patient:code=x", "Patient?_has:Observation:device:code=x",
        "Patient?_has:Observation:patient:banana=x", "Patient?_has:Observation:patient=x",
        "Patient?_has:Observation:patient:code=",
    ):  # fmt: skip
        assert client.get(wrong).status == 400, wrong


def test_rejected_photographs_are_found_by_their_reason(client: Client, save: Save) -> None:
    save(rejected(RejectionReason.YAW))
    assert client.get("Observation?component-value-concept=yaw").json()["total"] == 1
    assert client.get("Observation?combo-value-concept=blurred").json()["total"] == 0
    assert client.get("Observation?component-value-concept:missing=true").json()["total"] == 0
