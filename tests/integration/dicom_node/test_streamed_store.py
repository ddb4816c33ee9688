"""What C-GET and C-MOVE send, fragment by fragment, from the store's files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, VLPhotographicImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_GET
from reporting.holdings.recoding import Recoder
from service.config import Settings
from service.database import instances
from service.database.pool import Pool, transaction
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests.dicom_objects import photograph
from tests.dicom_objects import store as send

SUCCESS, PENDING, SOME_FAILED = 0x0000, 0xFF00, 0xB000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"dicom_query_ae_titles": ("VIEWER",), "dicom_idle_timeout_s": 2.0, "dicom_port": 0}
    )


def associate(port: int, on: evt.EventType, act: Callable[..., int | None], largest_pdu: int) -> Association:
    """A viewer's association that gets photographs as they are stored."""
    entity = AE(ae_title="VIEWER")
    entity.maximum_pdu_size = largest_pdu
    entity.add_requested_context(STUDY_ROOT_GET)
    entity.add_requested_context(VLPhotographicImageStorage, ExplicitVRLittleEndian)
    association = entity.associate(
        "127.0.0.1",
        port,
        ext_neg=[build_role(VLPhotographicImageStorage, scp_role=True)],
        evt_handlers=[(on, act)],
    )
    assert association.is_established
    return association


def study_of(ds: Dataset) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = ds.StudyInstanceUID
    return identifier


@pytest.mark.parametrize("largest_pdu", [4096, 16_382, 0])
@pytest.mark.parametrize("rows", [1, 700])
def test_the_data_set_goes_out_as_it_came_whatever_the_pdu(node: Node, largest_pdu: int, rows: int) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(rows, 500))
    ds.add_new(0x00091001, "UN", b"\x01\x02private\x00")
    ds.add_new(0x00090010, "LO", "A MAKER")
    assert send(node.port, ds).Status == SUCCESS
    came: list[bytes] = []

    def take(event: evt.Event) -> int:
        assert event.request.Priority == 2
        came.append(event.request.DataSet.getvalue())
        return SUCCESS

    association = associate(node.port, evt.EVT_C_STORE, take, largest_pdu)
    *_, (done, _) = association.send_c_get(study_of(ds), STUDY_ROOT_GET)
    association.release()
    assert done.Status == SUCCESS
    assert came == [encode(ds, False, True)]


def test_bytes_that_have_rotted_are_not_sent(node: Node, pool: Pool, store: InstanceStore) -> None:
    first, second = (photograph(seed=n, transfer_syntax=ExplicitVRLittleEndian) for n in range(2))
    second.StudyInstanceUID = first.StudyInstanceUID
    for ds in (first, second):
        assert send(node.port, ds).Status == SUCCESS
    with transaction(pool) as connection:
        known = instances.by_uid(connection, first.SOPInstanceUID)
    assert known is not None
    path: Path = store.path_of(known.sha256)  # type: ignore[attr-defined]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
    came: list[str] = []

    def take(event: evt.Event) -> int:
        came.append(event.request.AffectedSOPInstanceUID)
        return SUCCESS

    association = associate(node.port, evt.EVT_C_STORE, take, 16_382)
    *_, (done, failed) = association.send_c_get(study_of(first), STUDY_ROOT_GET)
    association.release()
    assert (done.Status, came) == (SOME_FAILED, [second.SOPInstanceUID])
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == first.SOPInstanceUID


def test_a_viewer_that_stops_reading_is_given_up(node: Node) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(3000, 3000))  # more than buffers hold
    assert send(node.port, ds).Status == SUCCESS
    reading, let_go = threading.Event(), threading.Event()

    def stop_reading(event: evt.Event) -> None:
        if type(event.pdu).__name__ == "P_DATA_TF":
            reading.set()
            let_go.wait(60)

    association = associate(node.port, evt.EVT_PDU_RECV, stop_reading, 16_382)
    answers: list[Dataset] = []

    def ask() -> None:
        answers.extend(status for status, _ in association.send_c_get(study_of(ds), STUDY_ROOT_GET))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert reading.wait(60)
        wait_until(lambda: not node._server.active_associations, timeout_s=30, what="the node to give up")
    finally:
        let_go.set()
        asking.join()
    assert not any(answers)  # no status: the connection ended first


def test_a_viewer_whose_photograph_waits_to_be_decoded_is_told_so(node: Node) -> None:
    ds = photograph()
    assert send(node.port, ds).Status == SUCCESS
    queries = node._server.options.queries
    queries._recoder = recoder = Recoder(queries._store, sign_every_s=0.05)
    came: list[str] = []

    def take(event: evt.Event) -> int:
        came.append(event.context.transfer_syntax)
        return SUCCESS

    association = associate(node.port, evt.EVT_C_STORE, take, 16_382)
    with recoder.turn():
        answers = association.send_c_get(study_of(ds), STUDY_ROOT_GET)
        status, _ = next(answers)
        assert (status.Status, status.NumberOfRemainingSuboperations, came) == (PENDING, 1, [])
    *_, (done, _) = answers
    association.release()
    assert (done.Status, came) == (SUCCESS, [ExplicitVRLittleEndian])


def test_a_viewer_whose_photograph_is_being_decoded_is_told_so(node: Node) -> None:
    ds = photograph(size=(1200, 1600))  # takes far longer than the time between two signs
    assert send(node.port, ds).Status == SUCCESS
    queries = node._server.options.queries
    queries._recoder = Recoder(queries._store, sign_every_s=0.005)
    came: list[str] = []

    def take(event: evt.Event) -> int:
        came.append(event.context.transfer_syntax)
        return SUCCESS

    association = associate(node.port, evt.EVT_C_STORE, take, 16_382)
    *before, (done, _) = association.send_c_get(study_of(ds), STUDY_ROOT_GET)
    association.release()
    assert before  # nobody else is decoding: these came meanwhile
    assert {(status.Status, status.NumberOfRemainingSuboperations) for status, _ in before} == {(PENDING, 1)}
    assert (done.Status, came) == (SUCCESS, [ExplicitVRLittleEndian])


def test_a_photograph_that_cannot_be_decoded_fails_and_the_next_one_is_sent(node: Node) -> None:
    broken, whole = photograph(seed=1), photograph(seed=2)
    broken.PixelData = encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    broken["PixelData"].is_undefined_length = True
    broken.StudyInstanceUID = whole.StudyInstanceUID
    for ds in (broken, whole):
        assert send(node.port, ds).Status == SUCCESS
    came: list[str] = []

    def take(event: evt.Event) -> int:
        came.append(event.request.AffectedSOPInstanceUID)
        return SUCCESS

    association = associate(node.port, evt.EVT_C_STORE, take, 16_382)
    *_, (done, failed) = association.send_c_get(study_of(whole), STUDY_ROOT_GET)
    association.release()
    assert (done.Status, came) == (SOME_FAILED, [whole.SOPInstanceUID])
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == broken.SOPInstanceUID
