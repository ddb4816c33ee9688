"""Results saved by the reporting step, read as an EHR reads them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from reporting.fhir.database.records import SaveOutcome
from reporting.fhir.http import Api
from reporting.fhir.results import save_results
from reporting.fhir.valid.validate import issues_of
from reporting.fhir.write.withdrawal import withdraw
from service.database.pool import transaction
from service.records import ExclusionReason, Region, RegionScore, RejectionReason
from tests.integration.reporting.fhir.conftest import Client, Save, secondary_capture
from tests.unit.reporting.photographs import appraised, context, photograph, rejected


def test_an_appraisal_is_eight_resources_that_can_be_read(client: Client, save: Save) -> None:
    saved = save()
    types = sorted(s.resource.resource_type for s in saved)
    assert types == [
        "Device", "DiagnosticReport", "ImagingStudy", "Media", "Media", "Observation", "Patient",
        "Provenance",
    ]  # fmt: skip
    for each in saved:
        answer = client.get(f"{each.resource.resource_type}/{each.resource.resource_id}")
        assert answer.status == 200
        assert answer.content.decode() == each.resource.body
        assert answer.json()["meta"]["versionId"] == "1"


def test_the_picture_of_the_references_is_what_is_saved(save: Save) -> None:
    """The diagram in docs/fhir.md; the two Media are told apart by what they hold."""
    page = (Path(__file__).resolve().parents[4] / "docs" / "fhir.md").read_text()
    drawn = re.findall(r"^    (\w+)(?:\[[^]]*\])? -->\|([\w.]+)\| (\w+)$", page, re.MULTILINE)
    bodies = [json.loads(s.resource.body) for s in save()]
    names = {
        f"{body['resourceType']}/{body['id']}": {
            "image/png": "Heatmap",
            "application/dicom": "Photograph",
        }.get(body.get("content", {}).get("contentType"), body["resourceType"])
        for body in bodies
    }

    def references(node: object, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for key, value in node.items() if isinstance(node, dict) else ():
            if key == "reference":
                yield ".".join(path), names[value]
            for part in value if isinstance(value, list) else [value]:
                yield from references(part, (*path, key))

    saved = {
        (names[f"{body['resourceType']}/{body['id']}"], *found)
        for body in bodies
        for found in references(body, ())
    }

    assert set(drawn) == saved
    assert len(drawn) == len(saved)


def test_saving_again_makes_no_version(save: Save) -> None:
    save()
    assert {s.outcome for s in save()} == {SaveOutcome.UNCHANGED}


def test_a_second_photograph_grows_study_and_report(
    client: Client, save: Save, save_photograph: Save
) -> None:
    study = {"StudyInstanceUID": "2.25.77"}
    save_photograph(1, **study)
    grown = save_photograph(2, **study)
    by_type = {s.resource.resource_type: s for s in grown}
    report = json.loads(by_type["DiagnosticReport"].resource.body)
    assert by_type["DiagnosticReport"].outcome is SaveOutcome.UPDATED
    assert report["status"] == "appended"
    assert len(report["result"]) == 2
    assert len(report["media"]) == 2
    imaging = json.loads(by_type["ImagingStudy"].resource.body)
    assert imaging["numberOfInstances"] == 4
    assert "Patient" not in by_type  # who it is was known
    # the first one again, out of order: nothing changes
    assert {s.outcome for s in save_photograph(1, **study)} == {SaveOutcome.UNCHANGED}


def test_a_rejected_photograph_is_a_result_without_value(client: Client, save: Save) -> None:
    saved = save(rejected(RejectionReason.YAW, RejectionReason.BLURRED))
    observation = json.loads(
        next(s.resource.body for s in saved if s.resource.resource_type == "Observation")
    )
    assert observation["status"] == "final"
    assert "valueQuantity" not in observation
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert observation["interpretation"][0]["coding"][0]["code"] == "QCF"
    reasons = [c["code"] for c in observation["component"][0]["valueCodeableConcept"]["coding"]]
    assert reasons == ["yaw", "blurred"]
    assert client.get("Observation?data-absent-reason=not-performed").ids() == [observation["id"]]
    assert client.get("Observation?value-quantity:missing=true").ids() == [observation["id"]]


def test_a_region_that_was_left_out_says_why(save: Save) -> None:
    observation = json.loads(
        next(s.resource.body for s in save() if s.resource.resource_type == "Observation")
    )
    absent = [part for part in observation["component"] if "dataAbsentReason" in part]
    assert [part["code"]["coding"][0]["code"] for part in absent] == ["s-forehead"]
    assert "valueQuantity" not in absent[0]
    standard, own = absent[0]["dataAbsentReason"]["coding"]
    assert standard["code"] == "not-performed"
    assert own["code"] == "r-occluded"
    assert "z-forehead" not in json.dumps(observation)


def test_a_photograph_without_patient_id_has_a_patient_of_its_study(client: Client, save: Save) -> None:
    saved = save(PatientID="", IssuerOfPatientID=None)
    patient = json.loads(next(s.resource.body for s in saved if s.resource.resource_type == "Patient"))
    assert "identifier" not in patient
    assert client.get(f"Observation?patient={patient['id']}").json()["total"] == 1


def test_a_photograph_without_any_date_is_found_by_no_date(client: Client, save: Save) -> None:
    saved = save(AcquisitionDateTime=None, StudyDate="", StudyTime="")
    observation = json.loads(
        next(s.resource.body for s in saved if s.resource.resource_type == "Observation")
    )
    assert "effectiveDateTime" not in observation
    assert observation["_effectiveDateTime"]["extension"][0]["valueCode"] == "unknown"
    assert client.get("Observation?date=lt2100").ids() == []
    assert client.get("Observation?date=gt1900").ids() == []
    assert client.get("Observation?date:missing=true").ids() == [observation["id"]]
    assert client.get("Observation").ids() == [observation["id"]]


def test_names_keep_their_scripts(save: Save) -> None:
    saved = save(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    patient = json.loads(next(s.resource.body for s in saved if s.resource.resource_type == "Patient"))
    assert [n["family"] for n in patient["name"]] == ["Yamada", "山田", "やまだ"]


def test_a_withdrawn_result_keeps_its_history(api: Api, client: Client, save: Save) -> None:
    observation_id = next(s.resource.resource_id for s in save() if s.resource.resource_type == "Observation")
    with transaction(api.pool) as connection:
        withdraw(connection, observation_id, reason="mistaken", who="operator", settings=api.settings)
    now = client.get(f"Observation/{observation_id}").json()
    before = client.get(f"Observation/{observation_id}/_history/1").json()
    assert (now["status"], now["meta"]["versionId"]) == ("entered-in-error", "2")
    assert (before["status"], before["meta"]["versionId"]) == ("final", "1")
    assert client.get("Observation?status=entered-in-error").ids() == [observation_id]
    report = client.get("DiagnosticReport").json()["entry"][0]["resource"]
    assert report["status"] == "amended"


def test_photographs_of_one_study_at_the_same_time_lose_nothing(
    client: Client, save_photograph: Save
) -> None:
    threads = [
        threading.Thread(target=save_photograph, args=(number,), kwargs={"StudyInstanceUID": "2.25.88"})
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = client.get("DiagnosticReport").json()["entry"][0]["resource"]
    assert len(report["result"]) == 6
    assert len(report["media"]) == 6
    study = client.get("ImagingStudy").json()["entry"][0]["resource"]
    assert study["numberOfInstances"] == 12
    assert client.get("Patient").json()["total"] == 1
    assert client.get("Device").json()["total"] == 1


def test_the_sides_are_compared_where_both_have_a_score(client: Client, save: Save) -> None:
    scores = {Region.LEFT_EYE: 1.25, Region.RIGHT_EYE: 2.0, Region.LEFT_CHEEK: 3.0, Region.RIGHT_CHEEK: None}
    made = tuple(
        RegionScore(
            region=region, score=score, z=None, judged=1.0 if score else 0.0,
            reason=None if score else ExclusionReason.OCCLUDED,
        )
        for region, score in scores.items()
    )  # fmt: skip
    saved = appraised()
    save(replace(saved, appraisal=replace(saved.appraisal, regions=made)))
    (entry,) = client.get("Observation?component-code-value-quantity=d-eye$-0.75").json()["entry"]
    components = {c["code"]["coding"][0]["code"]: c for c in entry["resource"]["component"]}
    assert components["d-eye"]["valueQuantity"]["value"] == -0.75
    reasons = components["d-cheek"]["dataAbsentReason"]["coding"]
    assert [reason["code"] for reason in reasons] == ["not-performed", "r-occluded"]
    rated = {c["code"] for c in client.get("CodeSystem/semblance").json()["concept"]}
    assert {"d-eye", "d-cheek"} <= rated


def test_an_observation_says_what_it_is_measured_against_by_and_on(client: Client, save: Save) -> None:
    by_type = {s.resource.resource_type: s.resource for s in save()}
    observation = client.get(f"Observation/{by_type['Observation'].resource_id}").json()
    assert observation["bodySite"]["coding"][0]["code"] == "89545001"
    assert observation["method"]["text"] == "symmetry 1"
    assert observation["device"]["reference"] == f"Device/{by_type['Device'].resource_id}"
    assert observation["partOf"] == [{"reference": f"ImagingStudy/{by_type['ImagingStudy'].resource_id}"}]
    (source,) = observation["derivedFrom"]
    assert client.get(source["reference"]).json()["resourceType"] == "Media"
    (normal,) = observation["referenceRange"]
    assert normal["appliesTo"] == [{"text": "normal cohort of calibration 2026-1"}]
    assert observation["interpretation"][0]["coding"][0]["code"] in ("L", "N")
    codes = {c["code"]["coding"][0]["code"] for c in observation["component"]}
    assert {"rating", "percentile", "s-upper-lip", "z-upper-lip", "q-sharpness"} <= codes
    (rating,) = [c for c in observation["component"] if c["code"]["coding"][0]["code"] == "rating"]
    assert rating["referenceRange"][0]["text"].endswith(
        "; calibrated on computed scores, not on human ratings"
    )


def test_a_provenance_has_the_digest_of_what_came_in_and_went_out(client: Client, save: Save) -> None:
    saved = appraised()
    method = replace(saved.appraisal.method, weights_sha256="12" * 32)
    saved = replace(saved, appraisal=replace(saved.appraisal, method=method))
    all_saved = save(saved)
    (made,) = (s.resource for s in all_saved if s.resource.resource_type == "Provenance")
    provenance = client.get(f"Provenance/{made.resource_id}").json()
    came_in = [entity["what"]["identifier"]["value"] for entity in provenance["entity"]]
    assert came_in == [saved.appraisal.pixel_sha256, "12" * 32, method.config_sha256]
    went_out = [t["identifier"]["value"] for t in provenance["target"] if "identifier" in t]
    (result,) = (s.resource for s in all_saved if s.resource.resource_type == "Observation")
    text = client.get(f"Observation/{result.resource_id}").content.decode()
    as_issued = re.sub(r'"versionId":"1","lastUpdated":"[^"]*",', "", text, count=1)
    digest = hashlib.sha256(as_issued.encode()).hexdigest()
    assert went_out == [digest, saved.heatmap_sha256, saved.difference_map_sha256]
    assert all(len(digest) == 64 for digest in (*came_in, *went_out))


def test_photograph_and_heatmap_are_reached_by_dicomweb(api: Api, client: Client) -> None:
    """From the report to the heatmap: its picture, and the instance in the archive."""
    settings = api.settings.model_copy(update={"dicomweb_url": "https://pacs.example/dicom-web/"})
    made_from = context(photograph(), appraised())
    with transaction(api.pool) as connection:
        save_results(connection, made_from, (secondary_capture(made_from),), settings)
    report = client.get("DiagnosticReport").json()["entry"][0]["resource"]
    heatmap = client.get(report["media"][0]["link"]["reference"]).json()
    appraisal_id = made_from.saved.appraisal.appraisal_id
    assert heatmap["content"]["contentType"] == "image/png"
    assert heatmap["content"]["url"].endswith(f"Binary/{appraisal_id}")
    study = client.get(report["imagingStudy"][0]["reference"]).json()
    assert study["contained"][0]["address"] == "https://pacs.example/dicom-web"
    assert list(issues_of(study)) == []
    uid = secondary_capture(made_from).sop_instance_uid
    assert uid in [instance["uid"] for series in study["series"] for instance in series["instance"]]
    taken = [
        e["resource"] for e in client.get("Media").json()["entry"] if e["resource"]["id"] != heatmap["id"]
    ]
    assert taken[0]["content"]["url"].startswith("https://pacs.example/dicom-web/studies/")
