"""Storage commitment asked of the node: by pynetdicom on both kinds of association, and by Orthanc."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from dicom_node.acceptor.scp import Node
from dicom_node.readers import STORAGE_COMMITMENT_PUSH_MODEL as PUSH_MODEL
from service.config import Settings
from service.database import instances, ledger, studies
from service.database.pool import Pool, transaction
from service.peers import Destination
from service.pipeline.completeness import note_received
from service.records import LedgerEvent, StudyState
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import photograph
from tests.integration.dicom_node.commitment.requester import Reports, ask, note, release_when_reported
from tests.orthanc import Orthanc


def information(*objects: Dataset, transaction_uid: str | None = None) -> Dataset:
    action = Dataset()
    action.TransactionUID = transaction_uid or generate_uid()
    items = []
    for each in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = each.SOPClassUID
        item.ReferencedSOPInstanceUID = each.SOPInstanceUID
        items.append(item)
    action.ReferencedSOPSequence = Sequence(items)
    return action


@pytest.fixture
def camera() -> Iterator[tuple[Destination, Reports]]:
    """A sender that is called back."""
    reports: Reports = queue.Queue()
    ae = AE(ae_title="CAMERA")
    ae.add_supported_context(PUSH_MODEL, ImplicitVRLittleEndian, scu_role=True, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, note, [reports])]
    )
    port = server.server_address[1]
    yield Destination(name="camera", ae_title="CAMERA", host="127.0.0.1", port=port), reports
    server.shutdown()


def test_a_request_is_the_manifest_of_its_study(node: Node, pool: Pool) -> None:
    kept, never = photograph(), photograph()
    assert dicom_objects.store(node.port, kept).Status == 0x0000
    with transaction(pool) as connection:  # as the relay does
        instance = instances.by_uid(connection, kept.SOPInstanceUID)
        assert instance is not None
        note_received(connection, [instance.instance_id])
    status, association = ask(node.port, information(kept, never), queue.Queue())
    assert status == 0x0000
    release_when_reported(association, pool)
    with transaction(pool) as connection:
        study = studies.find(connection, kept.StudyInstanceUID)
    assert study is not None
    assert (study.state, study.missing) == (StudyState.OPEN, (never.SOPInstanceUID,))


def test_report_on_the_same_association(node: Node, pool: Pool) -> None:
    kept, never = photograph(), photograph()
    assert dicom_objects.store(node.port, kept).Status == 0x0000
    reports: Reports = queue.Queue()
    action = information(kept, never)
    status, association = ask(node.port, action, reports)
    assert status == 0x0000
    event_type, report = reports.get(timeout=60)
    release_when_reported(association, pool)
    assert event_type == 2
    assert report.TransactionUID == action.TransactionUID
    assert [i.ReferencedSOPInstanceUID for i in report.ReferencedSOPSequence] == [kept.SOPInstanceUID]
    (failed,) = report.FailedSOPSequence
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (never.SOPInstanceUID, 0x0112)

    def committed() -> bool:
        with transaction(pool) as connection:
            events = [e.event for e in ledger.entries(connection, kept.SOPInstanceUID)]
        return events == [LedgerEvent.RECEIVED, LedgerEvent.COMMITTED]

    wait_until(committed, timeout_s=30, what="the ledger to close with the commitment")


# the camera's own pynetdicom may be about to answer a report when it breaks the association off
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_report_on_a_new_association_after_a_restart(
    settings: Settings, pool: Pool, store: InstanceStore, camera: tuple[Destination, Reports]
) -> None:
    peer, reports = camera
    deaf = settings.model_copy(update={"retry_base_s": 0.1, "retry_cap_s": 0.2, "sweep_interval_s": 0.2})
    node = Node(deaf, pool, store)
    kept = photograph()
    assert dicom_objects.store(node.port, kept).Status == 0x0000
    status, association = ask(node.port, information(kept))
    association.abort()
    assert status == 0x0000

    def failed_once() -> bool:
        with transaction(pool) as connection:
            row = connection.execute("SELECT last_error, reported_at FROM commitment_request").fetchone()
        return row is not None and row["last_error"] != "" and row["reported_at"] is None

    wait_until(failed_once, timeout_s=60, what="an attempt that fails: nobody knows where CAMERA is")
    node.stop()
    assert reports.empty()
    node = Node(deaf.model_copy(update={"dicom_peers": (peer,)}), pool, store)
    try:
        event_type, report = reports.get(timeout=60)
    finally:
        node.stop()
    assert event_type == 1
    assert report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == kept.SOPInstanceUID


def test_bytes_that_rotted_are_not_committed(node: Node, pool: Pool, store: InstanceStore) -> None:
    kept = photograph()
    assert dicom_objects.store(node.port, kept).Status == 0x0000
    with transaction(pool) as connection:
        row = connection.execute("SELECT sha256 FROM instance").fetchone()
    assert row is not None
    store.path_of(row["sha256"]).write_bytes(b"rot")  # type: ignore[attr-defined]
    reports: Reports = queue.Queue()
    _, association = ask(node.port, information(kept), reports)
    event_type, report = reports.get(timeout=60)
    release_when_reported(association, pool)
    assert (event_type, report.FailedSOPSequence[0].FailureReason) == (2, 0x0110)


def test_what_is_no_request_is_refused(node: Node) -> None:
    status, association = ask(node.port, information())
    association.release()
    assert status == 0x0115


@pytest.mark.peers("Orthanc")
def test_orthanc_asks(settings: Settings, pool: Pool, store: InstanceStore, tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path)
    peer = Destination(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port)
    node = Node(settings.model_copy(update={"dicom_peers": (peer,)}), pool, store)
    orthanc.configuration["DicomModalities"] = {
        "semblance": {
            "AET": "SEMBLANCE",
            "Host": "127.0.0.1",
            "Port": node.port,
            "AllowStorageCommitment": True,
        }
    }
    try:
        with orthanc:
            encoded = BytesIO()
            dcmwrite(encoded, photograph(), enforce_file_format=True)
            source = orthanc.upload(encoded.getvalue())
            orthanc.send("semblance", source)
            asked = orthanc.post("/modalities/semblance/storage-commitment", {"Resources": [source]})
            report = wait_until(
                lambda: (found := orthanc.get(asked["Path"]))["Status"] != "Pending" and found,
                timeout_s=30,
                what="the report in Orthanc",
            )
    finally:
        node.stop()
    assert report["Status"] == "Success"
    assert len(report["Success"]) == 1
