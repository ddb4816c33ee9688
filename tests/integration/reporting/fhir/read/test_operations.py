"""$lastn, $everything, the heatmap and our own definitions."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from reporting.fhir.http import Api
from reporting.identifiers import fhir_id
from reporting.terminology import CODE_SYSTEM, OWN_CONCEPTS
from service.database.pool import transaction
from service.pictures.encode import encode_png
from tests.integration.reporting.fhir.conftest import Client, Save, keep_appraisal
from tests.unit.reporting.photographs import appraised, pixels

ANNA = fhir_id("Patient", "HOSPITAL-A", "ANNA")


def test_last_n(client: Client, save_photograph: Save) -> None:
    for number in range(4):
        save_photograph(number, "ANNA", 2.0 + number, f"202501{10 + number}100000")
        save_photograph(100 + number, "BEN", 2.0, f"202501{20 + number}100000")
    values = [
        e["resource"]["valueQuantity"]["value"]
        for e in client.get(f"Observation/$lastn?patient={ANNA}&max=2").json()["entry"]
    ]
    assert values == [5.0, 4.0]
    assert len(client.get(f"Observation/$lastn?patient={ANNA}&category=imaging").ids()) == 1
    assert client.get("Observation/$lastn?code=score").status == 400
    assert client.get(f"Observation/$lastn?patient={ANNA}&max=0").status == 400


def test_everything_pages_over_the_compartment(client: Client, save_photograph: Save) -> None:
    for number in range(3):
        save_photograph(number, "ANNA", 2.0, f"202501{10 + number}100000")
    save_photograph(9, "BEN")
    found: list[tuple[str, str]] = []
    url: str | None = f"Patient/{ANNA}/$everything?_count=4"
    while url is not None:
        answer = client.get(url)
        for entry in answer.json()["entry"]:
            if entry["search"]["mode"] == "match":
                found.append((entry["resource"]["resourceType"], entry["resource"]["id"]))
        url = answer.link("next")
    assert len(found) == len(set(found))
    types = sorted({t for t, _ in found})
    assert types == ["DiagnosticReport", "ImagingStudy", "Media", "Observation", "Patient", "Provenance"]
    assert len(found) == 1 + 1 + 1 + 3 * 4
    devices = [
        e
        for e in client.get(f"Patient/{ANNA}/$everything").json()["entry"]
        if e["search"]["mode"] == "include"
    ]
    assert [d["resource"]["resourceType"] for d in devices] == ["Device"]
    only = client.get(f"Patient/{ANNA}/$everything?_type=Observation").json()["entry"]
    assert {e["resource"]["resourceType"] for e in only} == {"Observation"}
    assert "entry" not in client.get(f"Patient/{ANNA}/$everything?_since=2999-01-01T00:00:00Z").json()
    assert client.get("Patient/nobody/$everything").status == 404
    assert client.get(f"Patient/{ANNA}/$everything?_type=Banana").status == 400


def test_the_heatmap_is_a_picture(api: Api, client: Client, save: Save) -> None:
    png = encode_png(pixels(60, 50))
    sha256 = api.store.put(png).sha256
    saved = replace(appraised(), heatmap_sha256=sha256)
    with transaction(api.pool) as connection:
        keep_appraisal(connection, saved)
    results = save(saved)
    media = [json.loads(s.resource.body) for s in results if s.resource.resource_type == "Media"]
    url = next(m["content"]["url"] for m in media if m["content"]["contentType"] == "image/png")
    picture = client.get(url, Accept="image/png")
    assert (picture.status, picture.headers["content-type"], picture.content) == (200, "image/png", png)
    wrapped = client.get(url, Accept="application/fhir+json").json()
    assert (wrapped["resourceType"], wrapped["contentType"]) == ("Binary", "image/png")
    for wrong in ("Binary/nothing", f"Binary/{fhir_id('Binary', 'x')}"):
        assert client.get(wrong).status == 404


def test_our_code_system_is_served_at_its_url(client: Client) -> None:
    found = client.get(f"CodeSystem?url={CODE_SYSTEM.uri}").json()
    assert found["total"] == 1
    assert len(found["entry"][0]["resource"]["concept"]) == len(OWN_CONCEPTS)
    assert client.get("CodeSystem?code=no-face").json()["total"] == 1
    assert client.get("ValueSet?name=rejection").json()["total"] == 1
    profile = client.get("StructureDefinition?type=Observation").json()["entry"][0]["resource"]
    assert profile["derivation"] == "constraint"


@pytest.mark.parametrize(
    "path", ["CodeSystem/semblance", "StructureDefinition/appraisal", "ValueSet/region-scores"]
)
def test_definitions_are_published_once(client: Client, path: str) -> None:
    assert client.get(path).json()["meta"]["versionId"] == "1"


def test_last_n_by_post(client: Client, save_photograph: Save) -> None:
    for number in range(3):
        save_photograph(number, "ANNA", 2.0 + number, f"202501{10 + number}100000")
    asked = [
        {"name": "max", "valuePositiveInt": 2},
        {"name": "patient", "valueReference": {"reference": f"Patient/{ANNA}"}},
        {"name": "code", "valueCoding": {"system": CODE_SYSTEM.uri, "code": "score"}},
    ]
    body = {"resourceType": "Parameters", "parameter": asked}
    answer = client.ask("POST", "Observation/$lastn", body)
    assert [e["resource"]["valueQuantity"]["value"] for e in answer.json()["entry"]] == [4.0, 3.0]
    form = f"patient={ANNA}".encode()
    by_form = client.ask("POST", "Observation/$lastn", form, Content_Type="application/x-www-form-urlencoded")
    assert len(by_form.ids()) == 1
    for wrong in ([{"valueString": "x"}], [{"name": "max"}], [{"name": "patient", "valuePeriod": {}}]):
        spoiled = {"resourceType": "Parameters", "parameter": wrong}
        assert client.ask("POST", "Observation/$lastn", spoiled).status == 400
    # what was asked in the body is in the audit
    queries = [
        base64.b64decode(e["query"]).decode()
        for entry in client.get("AuditEvent?subtype=operation").json()["entry"]
        for e in entry["resource"]["entity"]
        if "query" in e
    ]
    assert any(query.endswith(f"$lastn {form.decode()}") for query in queries)


def test_everything_between_dates(client: Client, save_photograph: Save) -> None:
    for number in range(3):
        save_photograph(number, "ANNA", 2.0, f"202501{10 + number}100000")

    def dates(query: str) -> list[str]:
        entries = client.get(f"Patient/{ANNA}/$everything?{query}").json()["entry"]
        assert "Patient" in {e["resource"]["resourceType"] for e in entries}
        return sorted(
            e["resource"]["effectiveDateTime"][:10]
            for e in entries
            if e["resource"]["resourceType"] == "Observation"
        )

    assert dates("start=2025-01-11") == ["2025-01-11", "2025-01-12"]
    assert dates("end=2025-01-11") == ["2025-01-10", "2025-01-11"]
    assert dates("start=2025-01-11&end=2025-01-11") == ["2025-01-11"]
    assert dates("start=2025-02") == []
    assert client.get(f"Patient/{ANNA}/$everything?start=soon").status == 400
    body = {"resourceType": "Parameters", "parameter": [{"name": "start", "valueDate": "2025-01-12"}]}
    posted = client.ask("POST", f"Patient/{ANNA}/$everything", body).json()["entry"]
    assert sum(e["resource"]["resourceType"] == "Observation" for e in posted) == 1


def diagnose(client: Client, path: str, body: object) -> list[tuple[str, str]]:
    answer = client.ask("POST", path, body)
    assert answer.status == 200, answer.content
    return [(i["code"], i.get("expression", [""])[0]) for i in answer.json()["issue"]]


def test_validate_by_profile_and_mode(client: Client, save: Save) -> None:
    saved = save()
    observation = json.loads(
        next(s.resource.body for s in saved if s.resource.resource_type == "Observation")
    )
    path = "Observation/$validate"
    assert diagnose(client, path, observation) == [("informational", "")]
    bare = {k: v for k, v in observation.items() if k != "derivedFrom"}
    assert diagnose(client, path, bare) == [("required", "Observation.derivedFrom")]
    other = observation | {"code": {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}}
    assert diagnose(client, path, other) == [("value", "Observation.code")]
    text = {k: v for k, v in observation.items() if k != "valueQuantity"} | {"valueString": "well"}
    assert diagnose(client, path, text) == [("structure", "Observation.value[x]")]
    assert diagnose(client, f"{path}?profile=http://nobody", observation) == [
        ("not-supported", "Observation.meta.profile")
    ]
    assert diagnose(client, f"{path}?mode=create", observation) == [("not-supported", "Observation")]
    assert client.ask("POST", f"{path}?mode=banana", observation).status == 400


def test_validate_what_is_stored_and_what_would_be(client: Client) -> None:
    client.ask("PUT", "Patient/p1", {"resourceType": "Patient", "id": "p1"})
    assert diagnose(client, "Patient/p1/$validate", None) == [("informational", "")]
    assert client.ask("POST", "Patient/p2/$validate").status == 404
    assert client.ask("POST", "Patient/$validate").status == 400
    given = {"resourceType": "Patient", "id": "p2", "gender": "banana"}
    asked = [{"name": "resource", "resource": given}, {"name": "mode", "valueCode": "update"}]
    body = {"resourceType": "Parameters", "parameter": asked}
    assert diagnose(client, "Patient/p1/$validate", body) == [
        ("invalid", "Patient.id"),
        ("value", "Patient.gender"),
    ]
    assert diagnose(client, "Patient/p1/$validate?mode=delete", None) == [("not-supported", "Patient")]
