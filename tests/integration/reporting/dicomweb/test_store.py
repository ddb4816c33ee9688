"""STOW-RS, and that every access is recorded and bound to scopes."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.acceptor.scp import Node
from dicom_node.intake.ingest import Ingest
from reporting.dicomweb.app import dicomweb_app
from reporting.fhir.access import Principal, parse_scopes
from reporting.fhir.http import Api
from reporting.fhir.outcome import FhirProblemError, IssueType
from service.database import instances, ledger
from service.database.pool import transaction
from service.records import Instance, InstanceState, LedgerEvent
from service.steps import APPRAISE
from tests.dicom_objects import photograph
from tests.dicom_objects import store as c_store
from tests.integration.reporting.dicomweb.conftest import BASE_URL, Http, Web, part10


def kept(api: Api, ds: Dataset) -> Instance | None:
    with transaction(api.pool) as connection:
        return instances.by_uid(connection, ds.SOPInstanceUID)


def reasons(answer: dict[str, dict[str, list[dict[str, dict[str, list[int]]]]]]) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer["00081198"]["Value"]]


def test_a_photograph_comes_in_like_by_c_store(web: Web) -> None:
    ds = photograph()
    answer = web.store(part10(ds))
    assert answer.status_code == 200
    body = answer.json()
    (item,) = body["00081199"]["Value"]
    assert item["00081155"]["Value"] == [ds.SOPInstanceUID]
    assert item["00081190"]["Value"][0].startswith(f"{BASE_URL}/studies/{ds.StudyInstanceUID}/series/")
    assert "00081198" not in body
    instance = kept(web.api, ds)
    assert instance is not None
    assert instance.state is InstanceState.RECEIVED
    assert (instance.calling_ae_title, instance.peer_address) == ("STOW-RS", "127.0.0.1")
    assert dcmread(BytesIO(web.api.store.read(instance.sha256))) == ds
    with transaction(web.api.pool) as connection:
        entries = ledger.entries(connection, ds.SOPInstanceUID)
        asked = connection.execute(
            "SELECT FROM outbox WHERE subject_id = %s AND task = %s",
            (str(instance.instance_id), APPRAISE.task),
        ).fetchall()
    assert [entry.event for entry in entries] == [LedgerEvent.RECEIVED]
    assert len(asked) == 1  # to be appraised


def test_the_same_bytes_again_by_c_store(web: Web) -> None:
    """The file is the same whichever way it comes."""
    ds = photograph()
    assert web.store(part10(ds)).status_code == 200
    node = Node(web.api.settings, web.api.pool, web.api.store)
    try:
        assert c_store(node.port, ds).Status == 0x0000
    finally:
        node.stop()
    with transaction(web.api.pool) as connection:
        events = [entry.event for entry in ledger.entries(connection, ds.SOPInstanceUID)]
    assert events == [LedgerEvent.RECEIVED, LedgerEvent.RECEIVED_AGAIN]


def test_some_and_all_may_fail(web: Web) -> None:
    good = photograph()
    foreign = photograph(sop_class=CTImageStorage, transfer_syntax=ExplicitVRLittleEndian)
    some = web.store(part10(good), part10(foreign), b"no DICOM file" * 20)
    assert some.status_code == 202
    assert reasons(some.json()) == [0x0122, 0xC000]
    assert kept(web.api, good) is not None
    assert kept(web.api, foreign) is None
    assert web.store(part10(foreign)).status_code == 409


def test_other_bytes_are_quarantined(web: Web) -> None:
    ds = photograph(seed=1)
    assert web.store(part10(ds)).status_code == 200
    other = photograph(seed=2)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    answer = web.store(part10(other))
    assert (answer.status_code, reasons(answer.json())) == (409, [0xC001])


def test_the_study_of_the_request_counts(web: Web) -> None:
    ds = photograph()
    refused = web.store(part10(ds), study="1.2.3")
    assert (refused.status_code, reasons(refused.json())) == (409, [0xA900])
    assert kept(web.api, ds) is None
    assert web.store(part10(ds), study=ds.StudyInstanceUID).status_code == 200


def test_an_instance_cut_short(web: Web) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    answer = web.store(part10(ds)[:-50])
    assert (answer.status_code, reasons(answer.json())) == (409, [0xC000])
    assert kept(web.api, ds) is None


def test_a_full_disk_is_answered_with_try_again(web: Web, api: Api, ingest: Ingest, tmp_path: Path) -> None:
    from service.storage.local import LocalStore

    full = LocalStore(tmp_path / "full", low_watermark_bytes=1 << 60)
    answer = Web(api, replace(ingest, store=full)).store(part10(photograph()))
    assert (answer.status_code, reasons(answer.json())) == (503, [0xA700])
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/dicom", b"x", 415),
        ('multipart/related; type="application/dicom+json"; boundary=B', b"x", 415),
        ('multipart/related; type="application/dicom"', b"x", 400),
        ('multipart/related; type="application/dicom"; boundary=B', b"no boundary in it", 400),
        ('multipart/related; type="application/dicom"; boundary=B', b"--B--\r\n", 400),
        (
            'multipart/related; type="application/dicom"; boundary=B',
            b"--B\r\nContent-Type: a/b\r\n\r\nx",
            400,
        ),
    ],
)
def test_bodies_that_are_none(web: Web, content_type: str, body: bytes, status: int) -> None:
    answer = web.http.post("/dicom-web/studies", content=body, headers={"content-type": content_type})
    assert answer.status_code == status


def test_a_part_of_another_type_fails_alone(web: Web) -> None:
    ds = photograph()
    body = (
        b"--B\r\nContent-Type: image/jpeg\r\n\r\nxx\r\n--B\r\nContent-Type: application/dicom\r\n\r\n"
        + part10(ds)
        + b"\r\n--B--\r\n"
    )
    answer = web.http.post(
        "/dicom-web/studies",
        content=body,
        headers={"content-type": "multipart/related; type=application/dicom; boundary=B"},
    )
    assert (answer.status_code, reasons(answer.json())) == (202, [0xC122])
    assert kept(web.api, ds) is not None


def test_a_process_without_intake_takes_nothing(api: Api) -> None:
    assert Web(api, None).store(part10(photograph())).status_code == 404


def test_accesses_are_in_the_audit(web: Web) -> None:
    ds = photograph()
    web.store(part10(ds))
    web.get(f"/studies/{ds.StudyInstanceUID}/metadata")
    web.get("/studies/1.2.3")
    with transaction(web.api.pool) as connection:
        rows = connection.execute(
            "SELECT body::jsonb AS body FROM fhir_resource WHERE type = 'AuditEvent'"
            " ORDER BY resource_id DESC LIMIT 3"
        ).fetchall()
    refused, read, created = (row["body"] for row in rows)
    assert created["subtype"][0]["code"] == "create"
    assert read["subtype"][0]["code"] == "read"
    assert any(e.get("what", {}).get("reference", "").startswith("ImagingStudy/") for e in read["entity"])
    assert refused["outcomeDesc"] == "HTTP 404"


class Scoped:
    """Lets in whoever names scopes as a bearer token."""

    def principal(self, headers: dict[str, str]) -> Principal:
        scopes = headers.get("authorization", "").removeprefix("Bearer ")
        if not scopes:
            raise FhirProblemError(
                401, IssueType.LOGIN, "no token", "http", headers=(("WWW-Authenticate", "Bearer"),)
            )
        patient = "nobody" if scopes.startswith("patient/") else None
        return Principal(client_id="viewer", scopes=parse_scopes(scopes), patient=patient)


@pytest.fixture
def guarded(api: Api, ingest: Ingest) -> Http:
    from dicom_node.intake.stow import StowReceiver

    app = dicomweb_app(replace(api, authorizer=Scoped()), StowReceiver(api.settings, ingest).begin)
    return Http(app)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ("", (401, 401, 401)),
        ("system/*.rs", (200, 200, 403)),
        ("system/ImagingStudy.rs", (200, 200, 403)),
        ("system/ImagingStudy.r", (403, 200, 403)),
        ("system/Observation.rs", (403, 403, 403)),
        ("system/*.cruds", (200, 200, 415)),
        ("system/ImagingStudy.rs?status=available", (403, 403, 403)),
        ("patient/*.rs", (204, 404, 403)),
        ("patient/*.cruds", (204, 404, 403)),
    ],
)
def test_scopes(guarded: Http, web: Web, scopes: str, expected: tuple[int, int, int]) -> None:
    ds = photograph()
    assert web.store(part10(ds)).status_code == 200
    headers = {"authorization": f"Bearer {scopes}"} if scopes else {}
    study = f"/dicom-web/studies/{ds.StudyInstanceUID}"
    answers = (
        guarded.get("/dicom-web/studies", headers=headers),
        guarded.get(f"{study}/metadata", headers=headers),
        guarded.post("/dicom-web/studies", headers=headers, content=b""),
    )
    assert tuple(answer.status_code for answer in answers) == expected


def test_browsers_of_known_viewers_may_ask(web: Web) -> None:
    allowed = web.http.options(
        "/dicom-web/studies",
        headers={
            "origin": "https://viewer.hospital.example",
            "access-control-request-method": "GET",
            "access-control-request-headers": "authorization",
        },
    )
    assert allowed.headers["access-control-allow-origin"] == "https://viewer.hospital.example"
    foreign = web.get("/studies", origin="https://elsewhere.example")
    assert "access-control-allow-origin" not in foreign.headers
