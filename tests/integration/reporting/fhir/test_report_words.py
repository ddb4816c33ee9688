"""A DiagnosticReport says what was found, in words, in a narrative and as PDF."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np

from reporting.fhir.http import Api
from reporting.fhir.presented.pdf import Finding, Pages, render
from reporting.fhir.valid.validate import issues_of
from service.database.pool import transaction
from service.pictures.encode import encode_jpeg, encode_png
from service.pictures.native_map import NativeMap, encode_map
from service.records import RejectionReason
from tests.integration.reporting.fhir.conftest import Client, Save, keep_appraisal
from tests.unit.reporting.photographs import appraised, pixels, rejected

REASON = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "wrong patient"}]}


def report(client: Client) -> Any:
    (entry,) = client.get("DiagnosticReport").json()["entry"]
    return entry["resource"]


def beyond_norm() -> Any:
    saved = appraised()
    regions = tuple(
        replace(each, z=3.14) if each.region == "upper_lip" or each.region.value == "upper-lip" else each
        for each in saved.appraisal.regions
    )
    appraisal = replace(saved.appraisal, regions=regions)
    return replace(saved, appraisal=appraisal)


def test_the_conclusion_says_what_was_found(client: Client, save: Save) -> None:
    save(beyond_norm())
    made = report(client)
    assert list(issues_of(made)) == []
    said = made["conclusion"]
    for words in (
        "score 2.34",
        "Rating 5.5 (1 least to 7 most normal; calibrated on computed scores, not on human ratings)",
        "61 % of the normal cohort", "within its range", "upper lip (3.1)",
        "Not judged: forehead (region covered)", "hair", "Picture quality", "Method: symmetry 1",
        "not a diagnosis",
    ):  # fmt: skip
        assert words in said, (words, said)
    assert "upper lip (3.1)" in made["text"]["div"]
    assert made["result"][0]["display"].startswith("Score 2.34, rating 5.5 of 7: photograph of")


def test_what_could_not_be_judged_says_why(client: Client, save: Save) -> None:
    save(rejected(RejectionReason.BLURRED))
    made = report(client)
    assert "could not be judged" in made["conclusion"]
    assert made["result"][0]["display"].startswith("Not judged")


def test_a_report_of_several_photographs_says_what_is_left(client: Client, save: Save) -> None:
    save()
    save(rejected(RejectionReason.BLURRED), SOPInstanceUID="2.25.77")
    assert report(client)["conclusion"].count("hotograph of") == 2
    again = report(client)
    save()
    assert report(client)["meta"]["versionId"] == again["meta"]["versionId"]  # the same words make no version
    scored = next(
        e["resource"] for e in client.get("Observation").json()["entry"] if "valueQuantity" in e["resource"]
    )
    assert client.ask("POST", f"Observation/{scored['id']}/$withdraw", REASON).status == 200
    said = report(client)["conclusion"]
    assert "withdrawn and is not to be used" in said
    assert "2.34" not in said


def test_the_pdf_is_made_once_and_shows_the_patient(api: Api, client: Client, save: Save) -> None:
    save()
    made = report(client)
    (form,) = made["presentedForm"]
    assert form["contentType"] == "application/pdf"
    first = client.get(form["url"])
    assert (first.status, first.headers["content-type"]) == (200, "application/pdf")
    assert first.content.startswith(b"%PDF-")
    assert client.get(form["url"]).content == first.content
    as_json = client.get(form["url"], Accept="application/fhir+json").json()
    assert as_json["contentType"] == "application/pdf"
    assert client.get(f"Binary/{uuid4()}").status == 404
    save(rejected(RejectionReason.BLURRED), SOPInstanceUID="2.25.77")
    assert client.get(form["url"]).content != first.content  # of the version there is now


def test_the_pdf_shows_the_heatmap_and_the_normal_counterpart(api: Api, client: Client, save: Save) -> None:
    native = NativeMap(
        difference=np.zeros((32, 32), np.float32), to_photograph=np.eye(2, 3), rows=32, columns=32,
        counterpart=encode_jpeg(pixels(32, 32), 95),
    )  # fmt: skip
    picture = api.store.put(encode_png(pixels(60, 50))).sha256
    saved = replace(
        appraised(),
        heatmap_sha256=picture,
        difference_map_sha256=api.store.put(encode_map(native)).sha256,
    )
    with transaction(api.pool) as connection:
        keep_appraisal(connection, saved)
    save(saved)
    url = report(client)["presentedForm"][0]["url"]
    assert client.get(url).content.count(b"/Subtype /Image") == 2


def test_a_picture_that_is_lost_is_said_and_the_pdf_is_not_kept(api: Api, client: Client, save: Save) -> None:
    png = encode_png(pixels(60, 50))
    saved = replace(appraised(), heatmap_sha256=hashlib.sha256(png).hexdigest(), difference_map_sha256="")
    with transaction(api.pool) as connection:
        keep_appraisal(connection, saved)
    save(saved)
    url = report(client)["presentedForm"][0]["url"]
    without = client.get(url).content
    assert b"/Subtype /Image" not in without
    api.store.put(png)
    assert client.get(url).content.count(b"/Subtype /Image") == 1


def test_pages_are_the_same_bytes_each_time_and_hold_every_script() -> None:
    pages = Pages(
        title="Report",
        facts=[("Patient", "山田 太郎 Müller <b>&"), ("Patient ID", "P-1")],
        findings=[Finding(text="Score 2.3 < 3")],
        caution="Decision support.",
    )
    assert render(pages) == render(pages)


def test_regions_and_percentile_have_ranges(client: Client, save: Save) -> None:
    save(beyond_norm())
    (observation_id,) = client.get("Observation").ids()
    observation = client.get(f"Observation/{observation_id}").json()
    parts = {c["code"]["coding"][0]["code"]: c for c in observation["component"]}
    assert parts["percentile"]["referenceRange"][0]["low"]["value"] == 5
    assert parts["z-upper-lip"]["interpretation"][0]["coding"][0]["code"] == "H"
    assert parts["z-nose"]["interpretation"][0]["coding"][0]["code"] == "N"
    assert parts["z-nose"]["referenceRange"][0]["high"]["value"] == 2
    assert observation["code"]["text"]
    assert observation["method"]["coding"][0]["code"] == "symmetry-1"
    assert client.get("Observation?method=symmetry-1").ids() == [observation_id]


def test_a_page_of_twenty_is_small_and_the_rest_is_asked_for(
    client: Client, save_photograph: Callable[..., Any]
) -> None:
    for number in range(20):
        save_photograph(number)
    page = client.get("Observation?patient.identifier=P-001&_count=20")
    assert len(page.ids()) == 20
    assert len(page.content) <= 60_000
    first = page.json()["entry"][0]["resource"]
    assert {c["code"]["coding"][0]["code"] for c in first["component"]} == {"rating", "percentile"}
    whole = client.get(f"Observation/{first['id']}").json()
    for asked in ("_summary=false", "_elements=component", "component-code=rating"):
        (entry,) = client.get(f"Observation?_id={first['id']}&{asked}").json()["entry"]
        assert entry["resource"]["component"] == whole["component"], asked
