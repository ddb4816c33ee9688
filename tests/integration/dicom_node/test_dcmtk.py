"""dcmtk's programs against the node."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.acceptor.scp import Node
from service.database import instances
from service.database.pool import Pool, transaction
from service.storage.local import InstanceStore
from tests.dicom_objects import photograph, save
from tests.peers import find_peer

pytestmark = pytest.mark.peers("storescu", "dcmsend", "echoscu")


def run(program: str, node: Node, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = find_peer(program)
    assert found is not None
    address = ("127.0.0.1", str(node.port))
    command = [found, "-v", "-aet", "DCMTK", "-aec", "SEMBLANCE", *address, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_echoscu(node: Node) -> None:
    done = run("echoscu", node)
    assert done.returncode == 0, done.stderr


def test_storescu_sends_a_jpeg(node: Node, pool: Pool, store: InstanceStore, tmp_path: Path) -> None:
    ds = photograph(size=(480, 640))
    done = run("storescu", node, "-xy", save(ds, tmp_path / "a.dcm"))
    assert done.returncode == 0, done.stderr
    with transaction(pool) as connection:
        kept = instances.by_uid(connection, ds.SOPInstanceUID)
    assert kept is not None
    assert kept.calling_ae_title == "DCMTK"
    assert dcmread(BytesIO(store.read(kept.sha256))) == ds


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_dcmsend_sends_many(node: Node, pool: Pool, tmp_path: Path, syntax: str) -> None:
    sent = [photograph(seed=i, transfer_syntax=syntax) for i in range(20)]
    paths = [save(ds, tmp_path / f"{i}.dcm") for i, ds in enumerate(sent)]
    done = run("dcmsend", node, *paths)
    assert done.returncode == 0, done.stderr
    with transaction(pool) as connection:
        for ds in sent:
            assert instances.by_uid(connection, ds.SOPInstanceUID) is not None


def test_storescu_is_told_of_a_refusal(node: Node, pool: Pool, tmp_path: Path) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    ds.StudyInstanceUID = ""
    done = run("storescu", node, "-x=", save(ds, tmp_path / "a.dcm"))
    assert "DataSetDoesNotMatchSOPClass" in done.stdout + done.stderr
    with transaction(pool) as connection:
        assert instances.by_uid(connection, ds.SOPInstanceUID) is None


def test_storescu_with_another_sop_class(node: Node, tmp_path: Path) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, sop_class=CTImageStorage)
    done = run("storescu", node, save(ds, tmp_path / "a.dcm"))
    assert done.returncode != 0
    assert "No valid Presentation Context" in done.stdout + done.stderr
