"""Real clients over a socket: the package dicomweb-client, and the requests that OHIF sends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
import uvicorn
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from dicom_node.delivery.stow_sender import stow
from dicom_node.intake.ingest import Ingest
from dicom_node.intake.stow import StowReceiver
from reporting.dicomweb.app import dicomweb_app
from reporting.fhir.http import Api
from service.database import instances
from service.database.pool import transaction
from service.errors import DestinationUnreachableError, ResultNotAcceptedError
from service.peers import Destination
from service.stack.waiting import wait_until
from tests.dicom_objects import photograph
from tests.integration.reporting.dicomweb.conftest import part10


@pytest.fixture(scope="module")
def url(api: Api, ingest: Ingest) -> Iterator[str]:
    """The service, listening."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = dicomweb_app(api, StowReceiver(api.settings, ingest).begin)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, timeout_s=60, what="the DICOMweb server")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(url: str) -> DICOMwebClient:
    return DICOMwebClient(url)


def test_searches(client: DICOMwebClient, held: list[Dataset]) -> None:
    studies = client.search_for_studies(search_filters={"PatientID": "P1"}, fields=["StudyDescription"])
    assert [Dataset.from_json(each).StudyInstanceUID for each in studies] == [held[0].StudyInstanceUID]
    series = client.search_for_series(held[0].StudyInstanceUID)
    assert {Dataset.from_json(each).SeriesInstanceUID for each in series} == {
        held[0].SeriesInstanceUID,
        held[2].SeriesInstanceUID,
    }
    found = client.search_for_instances(held[0].StudyInstanceUID, limit=2)
    assert len(found) == 2
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_retrieval(client: DICOMwebClient, held: list[Dataset]) -> None:
    uids = (held[0].StudyInstanceUID, held[0].SeriesInstanceUID, held[0].SOPInstanceUID)
    metadata = client.retrieve_series_metadata(*uids[:2])
    assert {each["00080018"]["Value"][0] for each in metadata} == {ds.SOPInstanceUID for ds in held[:2]}
    stored = client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),))
    assert stored == held[0]
    assert len(client.retrieve_series(*uids[:2])) == 2
    assert len(list(client.iter_study(uids[0]))) == 3
    (frame,) = client.retrieve_instance_frames(*uids, [1], media_types=("image/jpeg",))
    assert Image.open(BytesIO(frame)).size == (64, 48)
    (native,) = client.retrieve_instance_frames(
        held[1].StudyInstanceUID, held[1].SeriesInstanceUID, held[1].SOPInstanceUID, [1]
    )
    assert native == held[1].PixelData
    shown = client.retrieve_instance_rendered(*uids, media_types=("image/png",))
    assert Image.open(BytesIO(shown)).format == "PNG"
    path = f"/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}/bulkdata/00091001"
    bulk = client.retrieve_bulkdata(client.base_url + path)
    assert bulk == [bytes(range(256)) * 8]


def test_storage(client: DICOMwebClient, api: Api) -> None:
    ds = photograph(patient_id="P9", patient_name="Roe^Ann", transfer_syntax=ExplicitVRLittleEndian)
    answer = client.store_instances([dcmread(BytesIO(part10(ds)))])  # the client keeps the preamble it read
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == ds.SOPInstanceUID
    with transaction(api.pool) as connection:
        assert instances.by_uid(connection, ds.SOPInstanceUID) is not None


def test_what_ohif_asks(url: str, held: list[Dataset]) -> None:
    """The study list, then one study: URLs and headers as @ohif/viewer 3 and its image loader send them."""
    with httpx.Client(base_url=url, headers={"Origin": "https://viewer.hospital.example"}) as ohif:
        listed = ohif.get(
            "/studies?PatientName=*doe*&limit=101&offset=0&fuzzymatching=false"
            "&includefield=00081030%2C00080060",
            headers={"Accept": "application/dicom+json"},
        )
        assert {each["00100020"]["Value"][0] for each in listed.json()} == {"P1"}
        assert listed.headers["access-control-allow-origin"] == "https://viewer.hospital.example"
        study = held[0].StudyInstanceUID
        series = ohif.get(
            f"/studies/{study}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011",
            headers={"Accept": "application/dicom+json"},
        ).json()
        assert all("00200011" in each for each in series)
        one = held[2].SeriesInstanceUID
        (header,) = ohif.get(
            f"/studies/{study}/series/{one}/metadata", headers={"Accept": "application/dicom+json"}
        ).json()
        assert header["00280008"]["Value"] == [3]
        root = f"/studies/{study}/series/{one}/instances/{held[2].SOPInstanceUID}"
        frame = ohif.get(
            f"{root}/frames/2",
            headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"},
        )
        assert frame.headers["content-type"].startswith("multipart/related")
        head, _, rest = frame.content.partition(b"\r\n\r\n")
        assert f"transfer-syntax={JPEGBaseline8Bit}".encode() in head
        picture = np.asarray(Image.open(BytesIO(rest)).convert("RGB"))
        assert np.argmax(picture[3, 3]) == 1
        thumbnail = ohif.get(f"{root}/thumbnail?accept=image/jpeg", headers={"Accept": "*/*"})
        assert thumbnail.headers["content-type"] == "image/jpeg"
        assert ohif.get(header["7FE00010"]["BulkDataURI"].partition("/dicom-web")[2]).status_code == 200


def destination(url: str, **more: object) -> Destination:
    return Destination.model_validate({"name": "archive", "kind": "dicomweb", "url": url, **more})


def test_results_go_out_by_stow(url: str, api: Api, held: list[Dataset]) -> None:
    ds = photograph()
    sent = stow(part10(ds), destination(url), api.settings)
    assert (sent.status, sent.transfer_syntax_uid) == (0x0000, JPEGBaseline8Bit)
    with transaction(api.pool) as connection:
        kept = instances.by_uid(connection, ds.SOPInstanceUID)
    assert kept is not None
    assert dcmread(BytesIO(api.store.read(kept.sha256))) == ds


def test_a_conflict_is_not_tried_as_if_it_would_pass(url: str, api: Api, held: list[Dataset]) -> None:
    ds = photograph(seed=9)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = held[0].SOPInstanceUID
    with pytest.raises(ResultNotAcceptedError, match="0xC001"):
        stow(part10(ds), destination(url), api.settings)


def test_a_server_that_is_not_there(api: Api) -> None:
    with pytest.raises(DestinationUnreachableError):
        stow(part10(photograph()), destination("http://127.0.0.1:1/dicom-web"), api.settings)


def test_a_path_that_is_not_there(url: str, api: Api) -> None:
    with pytest.raises(ResultNotAcceptedError, match="HTTP 404"):
        stow(part10(photograph()), destination(url + "/nowhere"), api.settings)
