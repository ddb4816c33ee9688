"""C-MOVE against a running node."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_MOVE
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from service.storage.local import InstanceStore
from tests.integration.dicom_node.query.asking import (
    CANNOT_PERFORM,
    DOES_NOT_MATCH,
    SOME_FAILED,
    SUCCESS,
    UNKNOWN_DESTINATION,
    Workstation,
    associate,
    keys,
)


def move(node: Node, identifier: Dataset, destination: str) -> tuple[Dataset, set[str]]:
    """Have something moved; answers the final response, and the instances it says failed."""
    association = associate(node, STUDY_ROOT_MOVE)
    responses = list(association.send_c_move(identifier, destination, STUDY_ROOT_MOVE, msg_id=77))
    association.release()
    status, failed = responses[-1]
    uids = failed.get("FailedSOPInstanceUIDList") if failed is not None else None
    return status, {uids} if isinstance(uids, str) else set(uids or ())


def test_a_study_is_moved(node: Node, held: list[Dataset], workstation: Workstation, pool: Pool) -> None:
    done, _ = move(node, keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID), "VIEWER")
    assert done.Status == SUCCESS
    assert (done.NumberOfCompletedSuboperations, done.NumberOfFailedSuboperations) == (3, 0)
    sent = {ds.SOPInstanceUID: ds for ds in held[:3]}
    assert {ds.SOPInstanceUID for ds in workstation.received} == set(sent)
    for ds in workstation.received:
        assert ds == sent[ds.SOPInstanceUID]
        assert ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert set(workstation.originators) == {("VIEWER", 77)}
    with transaction(pool) as connection:
        entries = ledger.entries(connection, held[0].SOPInstanceUID)
    assert entries[-1].event is LedgerEvent.RETRIEVED
    assert entries[-1].detail["destination"] == "VIEWER"


def test_warnings_and_failures_are_counted(node: Node, held: list[Dataset], workstation: Workstation) -> None:
    workstation.statuses = iter([0xB000, 0xA700, 0x0000])
    done, failed = move(node, keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID), "VIEWER")
    assert done.Status == SOME_FAILED
    counts = (
        done.NumberOfCompletedSuboperations,
        done.NumberOfWarningSuboperations,
        done.NumberOfFailedSuboperations,
    )
    assert counts == (1, 1, 1)
    assert failed == {held[1].SOPInstanceUID}


def test_an_unknown_destination(node: Node, held: list[Dataset]) -> None:
    asked = keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID)
    assert move(node, asked, "STRANGER")[0].Status == UNKNOWN_DESTINATION


def test_a_destination_that_is_not_there(node: Node, held: list[Dataset]) -> None:
    done, failed = move(node, keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID), "GONE")
    assert done.Status == CANNOT_PERFORM
    assert done.NumberOfFailedSuboperations == 3
    assert failed == {ds.SOPInstanceUID for ds in held[:3]}


def test_nothing_to_move(node: Node, held: list[Dataset]) -> None:
    done, _ = move(node, keys("STUDY", StudyInstanceUID="1.2.3"), "VIEWER")
    assert (done.Status, done.NumberOfCompletedSuboperations) == (SUCCESS, 0)


def test_a_move_without_its_unique_key(node: Node, held: list[Dataset]) -> None:
    assert move(node, keys("STUDY", PatientID="P1"), "VIEWER")[0].Status == DOES_NOT_MATCH


def test_bytes_that_are_gone_fail_alone(
    node: Node, held: list[Dataset], workstation: Workstation, store: InstanceStore, pool: Pool
) -> None:
    with transaction(pool) as connection:
        known = instances.by_uid(connection, held[0].SOPInstanceUID)
    # indexed first: the header is read when somebody asks
    assert move(node, keys("STUDY", StudyInstanceUID=held[3].StudyInstanceUID), "VIEWER")[0].Status == SUCCESS
    assert known is not None
    store.path_of(known.sha256).unlink()  # type: ignore[attr-defined]
    done, failed = move(node, keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID), "VIEWER")
    assert (done.Status, done.NumberOfCompletedSuboperations) == (SOME_FAILED, 2)
    assert failed == {held[0].SOPInstanceUID}
