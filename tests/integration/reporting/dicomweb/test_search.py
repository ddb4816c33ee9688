"""QIDO-RS."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from reporting.dicomweb import search as search_module
from reporting.holdings.database import holdings
from service.database.pool import transaction
from tests.integration.reporting.dicomweb.conftest import BASE_URL, Web

JSON = "application/dicom+json"


def values(element: dict[str, object]) -> list[object]:
    found = element.get("Value", [])
    assert isinstance(found, list)
    return found


def uids(web: Web, path: str, tag: str = "0020000D") -> list[object]:
    answer = web.get(path, JSON)
    assert answer.status_code in (200, 204), answer.text
    return [values(each[tag])[0] for each in answer.json()] if answer.status_code == 200 else []


def test_studies(web: Web, held: list[Dataset]) -> None:
    answer = web.get("/studies", JSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    first, second = answer.json()
    assert values(first["0020000D"]) == [held[0].StudyInstanceUID]
    assert values(first["00100010"]) == [{"Alphabetic": "Doe^Jane"}]
    assert values(first["00080061"]) == ["XC"]
    assert (values(first["00201206"]), values(first["00201208"])) == ([2], [3])
    assert values(first["00081190"]) == [f"{BASE_URL}/studies/{held[0].StudyInstanceUID}"]
    assert first["00080050"] == {"vr": "SH"}  # asked for by the standard, empty here
    assert values(second["00100010"]) == [{"Alphabetic": "Müller^Jörg"}]
    assert "00080005" not in second


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientID=P1", [0]),
        ("00100020=P2", [3]),
        ("PatientName=doe*", [0]),
        ("PatientName=MULLER*", [3]),
        ("StudyDate=20250101-20251231", [3]),
        ("StudyDate=20260102", [0]),
        ("ModalitiesInStudy=CT,XC", [0, 3]),
        ("ModalitiesInStudy=CT", []),
        ("StudyDescription=Cleft*", [0]),
        ("limit=1", [0]),
        ("limit=1&offset=1", [3]),
        ("offset=2", []),
    ],
)
def test_study_keys(web: Web, held: list[Dataset], query: str, found: list[int]) -> None:
    assert uids(web, f"/studies?{query}") == [held[i].StudyInstanceUID for i in found]


def test_a_list_of_studies(web: Web, held: list[Dataset]) -> None:
    listed = ",".join((held[0].StudyInstanceUID, held[3].StudyInstanceUID, "1.2.3"))
    assert len(uids(web, f"/studies?StudyInstanceUID={listed}")) == 2


def test_series_and_instances(web: Web, held: list[Dataset]) -> None:
    study, series = held[0].StudyInstanceUID, held[0].SeriesInstanceUID
    answer = web.get(f"/studies/{study}/series", JSON).json()
    assert {values(each["0020000E"])[0]: values(each["00201209"])[0] for each in answer} == {
        series: 2,
        held[2].SeriesInstanceUID: 1,
    }
    assert "00100010" not in answer[0]  # the path says the study
    everywhere = web.get("/series", JSON).json()
    assert len(everywhere) == 3
    assert "00100010" in everywhere[0]
    found = web.get(f"/studies/{study}/series/{series}/instances?InstanceNumber=2", JSON).json()
    assert [values(each["00080018"])[0] for each in found] == [held[1].SOPInstanceUID]
    assert values(found[0]["00280010"]) == [48]
    assert len(uids(web, f"/studies/{study}/instances", "00080018")) == 3
    assert len(uids(web, "/instances?Modality=XC", "00080018")) == 4


def test_included_fields(web: Web, held: list[Dataset]) -> None:
    path = f"/studies?StudyInstanceUID={held[0].StudyInstanceUID}&includefield="
    first = web.get(path + "StudyDescription,00081060", JSON).json()[0]
    assert first["00081060"] == {"vr": "PN"}
    study, series = held[0].StudyInstanceUID, held[0].SeriesInstanceUID
    everything = web.get(f"/studies/{study}/series/{series}/instances?includefield=all", JSON).json()[0]
    assert values(everything["00280004"])
    url = everything["7FE00010"]["BulkDataURI"]
    assert url.startswith(f"{BASE_URL}/studies/{study}/series/{series}/instances/")


def test_what_is_not_supported_is_said(web: Web, held: list[Dataset]) -> None:
    warned = web.get("/studies?fuzzymatching=true&PatientName=Doe*", JSON)
    assert "Only literal matching" in warned.headers["warning"]
    more = web.get("/studies?limit=1", JSON)
    assert "more results" in more.headers["warning"]
    below = web.get("/studies?InstanceNumber=1", JSON)
    assert "not compared" in below.headers["warning"]
    assert len(below.json()) == 2


def test_parameters_nobody_knows_are_ignored_and_named(web: Web, held: list[Dataset]) -> None:
    """PS3.18 section 8.3.1; hospitals' proxies add some of their own."""
    plain = web.get("/studies", JSON)
    for query in ("NoSuchKey=1", "_=1733000000", "includefield=NoSuchField", "x%22%0d%0a=1"):
        odd = web.get(f"/studies?{query}", JSON)
        assert odd.json() == plain.json()
        assert "ignored" in odd.headers["warning"]


@pytest.mark.parametrize("offset", ["1000", "9223372036854775807", "9" * 300])
def test_an_offset_past_the_end_is_an_empty_page(web: Web, held: list[Dataset], offset: str) -> None:
    assert web.get(f"/studies?offset={offset}", JSON).status_code == 204


def test_a_path_with_a_nul_names_nothing(web: Web) -> None:
    assert web.get("/studies/1.2%00/metadata", JSON).status_code == 404


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies?StudyID=a%00x", JSON, 400),
        ("/studies?limit=\u00b2", JSON, 400),
        ("/studies?StudyDate=yesterday", JSON, 400),
        ("/studies?limit=many", JSON, 400),
        ("/series?SeriesNumber=one", JSON, 400),
        ("/studies", "application/dicom+xml", 406),
        ("/studies", 'multipart/related; type="application/dicom+xml"', 406),
        ("/nothing", JSON, 404),
    ],
)
def test_refusals(web: Web, held: list[Dataset], path: str, accept: str, status: int) -> None:
    assert web.get(path, accept).status_code == status


def test_plain_json_is_accepted(web: Web, held: list[Dataset]) -> None:
    answer = web.get("/studies", "application/json")
    assert answer.headers["content-type"] == "application/json"


def test_an_index_that_is_far_behind_is_said(
    web: Web, held: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reporting.dicomweb.call._CATCH_UP_S", -1.0)
    monkeypatch.setattr("reporting.holdings.index._BATCH", 1)
    with transaction(web.api.pool) as connection:
        holdings.queue_result(connection, sop_instance_uid="1.2.3.5", sha256="0" * 64, instance_id=1)
    answer = web.get("/studies", JSON)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_bytes_that_cannot_be_read_do_not_stop_the_index(web: Web, held: list[Dataset]) -> None:
    with transaction(web.api.pool) as connection:
        holdings.queue_result(connection, sop_instance_uid="1.2.3.4", sha256="0" * 64, instance_id=1)
    for _ in range(6):
        assert len(uids(web, "/studies")) == 2
    with transaction(web.api.pool) as connection:
        assert holdings.pending(connection) == 0  # given up


def test_a_page_is_bounded(web: Web, held: list[Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "MOST_MATCHES", 1)
    assert len(uids(web, "/studies?limit=5000")) == 1
