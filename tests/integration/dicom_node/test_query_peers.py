"""Query/retrieve by dcmtk and Orthanc."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database.pool import Pool
from service.peers import Destination
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests.dicom_objects import photograph
from tests.dicom_objects import store as send
from tests.orthanc import Orthanc
from tests.peers import find_peer

pytestmark = pytest.mark.peers("findscu", "movescu", "getscu", "storescp", "Orthanc")


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "orthanc") as running:
        yield running


@pytest.fixture
def settings(settings: Settings, orthanc: Orthanc) -> Settings:
    rows = (Destination(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port),)
    return settings.model_copy(update={"dicom_peers": rows})


@pytest.fixture
def held(node: Node, pool: Pool, store: InstanceStore) -> list[Dataset]:
    """One study of two photographs, the second after the first in its series."""
    first, second = photograph(seed=1, size=(480, 640)), photograph(seed=2, size=(480, 640))
    second.StudyInstanceUID, second.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
    for ds in (first, second):
        assert send(node.port, ds).Status == 0x0000
    return [first, second]


def dcmtk(program: str, node: Node, *arguments: str, cwd: Path) -> str:
    """Run one of dcmtk's programs as ORTHANC, a caller that may ask; answers what it says."""
    found = find_peer(program)
    assert found is not None
    command = [found, "-v", "-aet", "ORTHANC", "-aec", "SEMBLANCE", *arguments, "127.0.0.1", str(node.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_dcmtk_finds_gets_and_moves(
    node: Node, held: list[Dataset], orthanc: Orthanc, tmp_path: Path
) -> None:
    study = held[0].StudyInstanceUID
    said = dcmtk(
        "findscu", node, "-S", "-X", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=DOE*",
        "-k", "StudyInstanceUID", cwd=tmp_path,
    )  # fmt: skip
    assert "Success" in said
    (answer,) = tmp_path.glob("rsp*.dcm")
    assert dcmread(answer).StudyInstanceUID == study
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    received = tmp_path / "received"
    received.mkdir()
    dcmtk("getscu", node, "-S", "+xy", "-od", str(received), *keys, cwd=tmp_path)
    assert {dcmread(path).SOPInstanceUID for path in received.iterdir()} == {ds.SOPInstanceUID for ds in held}
    said = dcmtk("movescu", node, "-S", "-aem", "ORTHANC", *keys, cwd=tmp_path)
    assert "Success" in said
    wait_until(lambda: len(orthanc.get("/instances")) == 2, timeout_s=60, what="both in Orthanc")


def test_orthanc_queries_and_retrieves(node: Node, held: list[Dataset], orthanc: Orthanc) -> None:
    orthanc.client.put(
        "/modalities/semblance", json={"AET": "SEMBLANCE", "Host": "127.0.0.1", "Port": node.port}
    ).raise_for_status()
    query = orthanc.post(
        "/modalities/semblance/query",
        {"Level": "Study", "Query": {"PatientID": held[0].PatientID, "StudyDate": "20260101-20260131"}},
    )["ID"]
    assert orthanc.get(f"/queries/{query}/answers") == ["0"]
    content = orthanc.get(f"/queries/{query}/answers/0/content?simplify")
    assert content["StudyInstanceUID"] == held[0].StudyInstanceUID
    orthanc.post(f"/queries/{query}/answers/0/retrieve", b'{"TargetAet": "ORTHANC", "Synchronous": true}')
    wait_until(lambda: len(orthanc.get("/instances")) == 2, timeout_s=60, what="both in Orthanc")
