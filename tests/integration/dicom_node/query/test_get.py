"""C-GET against a running node."""

from __future__ import annotations

import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import RESULT_CLASSES, STUDY_ROOT_GET
from tests.dicom_objects import photograph, send_raw, store
from tests.integration.dicom_node.query.asking import (
    CANNOT_PERFORM,
    SOME_FAILED,
    SUCCESS,
    keys,
)


def get(node: Node, identifier: Dataset, *syntaxes: str) -> tuple[Dataset, list[Dataset]]:
    """Retrieve by C-GET; answers the final response and what came."""
    entity = AE(ae_title="VIEWER")
    entity.add_requested_context(STUDY_ROOT_GET)
    for syntax in syntaxes:
        entity.add_requested_context(VLPhotographicImageStorage, syntax)
    received: list[Dataset] = []

    def take(event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        received.append(ds)
        return SUCCESS

    association = entity.associate(
        "127.0.0.1",
        node.port,
        ext_neg=[build_role(VLPhotographicImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    assert association.is_established
    responses = list(association.send_c_get(identifier, STUDY_ROOT_GET))
    association.release()
    done, failed = responses[-1]
    if failed is not None:
        done.FailedSOPInstanceUIDList = failed.FailedSOPInstanceUIDList
    return done, received


def test_an_image_is_got_as_stored(node: Node, held: list[Dataset]) -> None:
    asked = keys(
        "IMAGE",
        StudyInstanceUID=held[0].StudyInstanceUID,
        SeriesInstanceUID=held[0].SeriesInstanceUID,
        SOPInstanceUID=[held[0].SOPInstanceUID, held[1].SOPInstanceUID],
    )
    done, received = get(node, asked, JPEGBaseline8Bit, ExplicitVRLittleEndian)
    assert (done.Status, done.NumberOfCompletedSuboperations) == (SUCCESS, 2)
    assert sorted(received, key=lambda ds: ds.InstanceNumber) == held[:2]


def test_a_photograph_is_decompressed_for_who_cannot(node: Node, held: list[Dataset]) -> None:
    done, received = get(
        node, keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID), ExplicitVRLittleEndian
    )
    assert (done.Status, len(received)) == (SUCCESS, 3)
    assert {ds.file_meta.TransferSyntaxUID for ds in received} == {ExplicitVRLittleEndian}
    assert {ds.PhotometricInterpretation for ds in received} == {"RGB"}
    assert {len(ds.PixelData) for ds in received} == {48 * 64 * 3}


def test_a_sop_class_that_was_not_negotiated_fails(node: Node, held: list[Dataset]) -> None:
    entity = AE(ae_title="VIEWER")
    entity.add_requested_context(STUDY_ROOT_GET)
    association = entity.associate("127.0.0.1", node.port)
    asked = keys("STUDY", StudyInstanceUID=held[3].StudyInstanceUID)
    responses = list(association.send_c_get(asked, STUDY_ROOT_GET))
    association.release()
    assert responses[-1][0].Status == CANNOT_PERFORM
    assert responses[-1][0].NumberOfFailedSuboperations == 1


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_one_malformed_element_keeps_nobody_from_the_rest(node: Node) -> None:
    """A UL of three bytes, and pixel data that end early: what can be sent is, what cannot is counted."""
    study = generate_uid()
    good, odd, damaged = (
        photograph(transfer_syntax=syntax, patient_id=name, size=(8, 8))
        for name, syntax in (
            ("GOOD", ExplicitVRLittleEndian),
            ("ODD", ExplicitVRLittleEndian),
            ("DAMAGED", JPEGBaseline8Bit),
        )
    )
    damaged.PixelData = encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    for ds in (good, odd, damaged):
        ds.StudyInstanceUID = study
    encoded = encode(odd, False, True)
    assert encoded is not None
    at = encoded.index(struct.pack("<HH2s", 0x0020, 0x000D, b"UI"))
    strange = encoded[:at] + struct.pack("<HH2sH", 0x0018, 0x9219, b"UL", 3) + b"abc" + encoded[at:]
    assert send_raw(node.port, odd, data_set=strange) == SUCCESS
    for ds in (good, damaged):
        assert store(node.port, ds).Status == SUCCESS
    done, received = get(node, keys("STUDY", StudyInstanceUID=study), ExplicitVRLittleEndian)
    assert (done.Status, done.NumberOfFailedSuboperations) == (SOME_FAILED, 1)
    assert {str(ds.PatientID) for ds in received} == {"GOOD", "ODD"}
    assert done.FailedSOPInstanceUIDList == damaged.SOPInstanceUID


def test_results_are_not_taken_in(node: Node) -> None:
    """Their SOP classes are negotiated for C-GET alone."""
    entity = AE(ae_title="CAMERA")
    for uid in (*RESULT_CLASSES, SecondaryCaptureImageStorage):
        entity.add_requested_context(uid)
    association = entity.associate("127.0.0.1", node.port)
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    association.release()
    assert accepted == {SecondaryCaptureImageStorage}
