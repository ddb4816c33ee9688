"""Results are found, shown and linked to from FHIR, also where no destination gets them."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from urllib.parse import urljoin

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from reporting.fhir.http import Api
from reporting.report import report
from service.database.pool import transaction
from service.pipeline.context import Context
from tests.integration.reporting.dicomweb.conftest import BASE_URL, Web
from tests.integration.reporting.judging import judge, keep_npy, keep_png
from tests.unit.reporting.photographs import SOP_UID, STUDY_UID, appraised

JSON = "application/dicom+json"
STUDY = f"/studies/{STUDY_UID}"


@pytest.fixture(scope="module")
def reported(api: Api) -> Context:
    """A photograph with its heatmap, structured report and parametric map."""
    settings = api.settings.model_copy(
        update={"api_base_url": "http://127.0.0.1:8080/fhir", "parametric_map": True, "destinations": ()}
    )
    context = Context(settings=settings, pool=api.pool, store=api.store)
    saved = appraised(heatmap_sha256=keep_png(api.store), difference_map_sha256=keep_npy(api.store))
    report(context, judge(context, saved))
    return context


def headers(web: Web) -> dict[str, dict[str, dict[str, list[object]]]]:
    """Headers of the study's instances by modality."""
    answer = web.get(f"{STUDY}/metadata", JSON)
    return {each["00080060"]["Value"][0]: each for each in answer.json()}


def test_results_are_in_the_study(web: Web, reported: Context) -> None:
    (study,) = web.get("/studies", JSON).json()
    assert set(study["00080061"]["Value"]) >= {"XC", "SR"}
    assert study["00201208"]["Value"] == [4]
    found = web.get(f"{STUDY}/instances", JSON).json()
    assert len(found) == 4
    assert found[0]["00080018"]["Value"][0] in {each["00080018"]["Value"][0] for each in found}


def test_the_structured_report_can_be_read_but_not_shown(web: Web, reported: Context) -> None:
    sr = headers(web)["SR"]
    assert sr["0040A730"]["Value"]
    path = f"{STUDY}/series/{sr['0020000E']['Value'][0]}/instances/{sr['00080018']['Value'][0]}"
    assert web.get(f"{path}/rendered").status_code == 406
    assert web.get(path, 'multipart/related; type="application/dicom"').status_code == 200


def test_what_cannot_be_compressed_comes_as_it_can(web: Web, reported: Context) -> None:
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={JPEGLSLossless}'
    answer = web.get(STUDY, accept)
    assert answer.content.count(f"transfer-syntax={JPEGLSLossless}\r\n".encode()) == 2  # photograph, heatmap
    assert answer.content.count(f"transfer-syntax={ExplicitVRLittleEndian}\r\n".encode()) == 2


def test_heatmap_and_map_are_shown(web: Web, reported: Context) -> None:
    shown = 0
    for each in web.get(f"{STUDY}/metadata", JSON).json():
        if each["00080060"]["Value"][0] in ("SR", "XC"):
            continue
        path = f"{STUDY}/series/{each['0020000E']['Value'][0]}/instances/{each['00080018']['Value'][0]}"
        answer = web.get(f"{path}/rendered", "image/png")
        assert answer.status_code == 200, answer.text
        assert np.asarray(Image.open(BytesIO(answer.content))).size
        shown += 1
    assert shown == 2


def test_fhir_links_to_it(web: Web, reported: Context) -> None:
    with transaction(web.api.pool) as connection:
        rows = connection.execute(
            "SELECT fhir_text(template_id, body) AS body FROM fhir_resource"
            " WHERE type IN ('ImagingStudy', 'Media')"
        ).fetchall()
    bodies = [json.loads(row["body"]) for row in rows]
    (study,) = (each for each in bodies if each["resourceType"] == "ImagingStudy")
    assert study["endpoint"] == [{"reference": "#wado"}]
    stored_at = BASE_URL.replace("/dicom-web", "/fhir/")  # URLs of our own are kept without the host
    assert urljoin(stored_at, study["contained"][0]["address"]) == BASE_URL
    notes = [note["text"] for each in bodies for note in each.get("note", [])]
    (rendered,) = (note.partition(": ")[2] for note in notes if note.startswith("Rendered"))
    assert web.get(urljoin(stored_at, rendered).removeprefix(BASE_URL), "image/png").status_code == 200
    photographs = [each["content"]["url"] for each in bodies if each["resourceType"] == "Media"]
    assert any(url.endswith(SOP_UID) for url in photographs)


def test_a_patients_token_opens_that_patients_studies(web: Web, reported: Context) -> None:
    from reporting.fhir.access import Principal, parse_scopes

    with transaction(web.api.pool) as connection:
        row = connection.execute("SELECT patient FROM fhir_resource WHERE type = 'ImagingStudy'").fetchone()
    assert row is not None

    class Patients:
        def principal(self, _headers: object) -> Principal:
            return Principal(client_id="app", scopes=parse_scopes("patient/*.rs"), patient=row["patient"])  # type: ignore[index]

    mine = Web(replace(web.api, authorizer=Patients()), None)
    assert len(mine.get("/studies", JSON).json()) == 1
    assert mine.get(f"{STUDY}/metadata", JSON).status_code == 200
    assert Dataset.from_json(mine.get(f"{STUDY}/series", JSON).json()[0]).SeriesInstanceUID
