"""$lastn, $everything, the heatmap and our own definitions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reporting.fhir.http import Api
from reporting.identifiers import fhir_id
from reporting.terminology import CODE_SYSTEM, OWN_CONCEPTS
from service.database import appraisals, instances
from service.database.pool import transaction
from service.records import NewInstance
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.unit.reporting.photographs import appraised

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
    png = b"\x89PNG\r\n\x1a\n rest"
    sha256 = api.store.put(png).sha256
    saved = replace(appraised(), heatmap_sha256=sha256)
    with transaction(api.pool) as connection:
        received, instance_id = instances.receive(
            connection,
            NewInstance(
                sop_instance_uid=saved.appraisal.sop_instance_uid, sop_class_uid="1.2",
                study_instance_uid="1.3", series_instance_uid="1.4", transfer_syntax_uid="1.5",
                patient_id="P", issuer_of_patient_id="", calling_ae_title="A", called_ae_title="B",
                peer_address="127.0.0.1", sha256="0" * 64, size_bytes=1,
            ),
        )  # fmt: skip
        assert received == "new"
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=saved.appraisal,
            heatmap_sha256=sha256,
            difference_map_sha256="",
        )
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
