"""C-FIND against a running node."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    VLPhotographicImageStorage,
)
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from dicom_node.acceptor.scp import Node
from dicom_node.query.contexts import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from service.database import ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from tests.dicom_objects import photograph
from tests.dicom_objects import store as send
from tests.integration.dicom_node.query.asking import (
    CANCELLED,
    DOES_NOT_MATCH,
    NOT_AUTHORISED,
    PENDING_UNMATCHED,
    SUCCESS,
    Find,
    associate,
    keys,
)


def test_studies_come_newest_first_with_what_was_asked_for(find: Find, held: list[Dataset]) -> None:
    asked = keys(
        "STUDY", StudyInstanceUID="", PatientName="", StudyDate="", ModalitiesInStudy="",
        NumberOfStudyRelatedSeries=None, NumberOfStudyRelatedInstances=None, PatientComments="",
    )  # fmt: skip
    status, found = find(asked)
    assert status == SUCCESS
    assert [ds.StudyInstanceUID for ds in found] == [held[0].StudyInstanceUID, held[3].StudyInstanceUID]
    first, second = found
    assert first.PatientName == "Doe^Jane"
    assert first.ModalitiesInStudy == "XC"
    assert (first.NumberOfStudyRelatedSeries, first.NumberOfStudyRelatedInstances) == (2, 3)
    assert (first.RetrieveAETitle, first.InstanceAvailability) == ("SEMBLANCE", "ONLINE")
    assert first.QueryRetrieveLevel == "STUDY"
    assert "PatientComments" in first
    assert not first.PatientComments
    assert "PatientID" not in first
    assert "SpecificCharacterSet" not in first
    assert second.SpecificCharacterSet == "ISO_IR 192"
    assert str(second.PatientName) == "Müller^Jörg"


def test_an_answer_keeps_the_character_set_of_the_question(find: Find) -> None:
    _, found = find(keys("STUDY", SpecificCharacterSet="ISO_IR 100", PatientName="müller*"))
    assert found[0].SpecificCharacterSet == "ISO_IR 100"
    assert str(found[0].PatientName) == "Müller^Jörg"


@pytest.mark.parametrize(
    ("values", "studies"),
    [
        ({"PatientID": "P1"}, {0}),
        ({"PatientID": "p1"}, set()),  # case counts outside names
        ({"PatientID": "P?"}, {0, 3}),
        ({"PatientID": "*"}, {0, 3}),
        ({"PatientID": "%"}, set()),
        ({"PatientName": "DOE^JANE"}, {0}),  # and not in names
        ({"PatientName": "doe^jane^^^"}, {0}),
        ({"PatientName": "doe"}, set()),
        ({"PatientName": "doe*"}, {0}),
        ({"PatientName": "*jan?"}, {0}),
        ({"PatientName": "muller*", "PatientID": "P2"}, {3}),  # nor do accents
        ({"PatientName": "doe*", "PatientID": "P2"}, set()),
        ({"StudyDate": "20260102"}, {0}),
        ({"StudyDate": "20250101-20251231"}, {3}),
        ({"StudyDate": "-20251231"}, {3}),
        ({"StudyDate": "20250616-"}, {0}),
        ({"StudyTime": "1011"}, {0}),
        ({"StudyTime": "09-0930"}, {3}),
        ({"StudyTime": "093001-"}, {0}),
        ({"AccessionNumber": "A-7"}, {3}),
        ({"ModalitiesInStudy": "XC"}, {0, 3}),
        ({"ModalitiesInStudy": "CT"}, set()),
        ({"ModalitiesInStudy": ["CT", "XC"]}, {0, 3}),
        ({"SOPClassesInStudy": VLPhotographicImageStorage}, {0, 3}),
        ({"StudyDescription": "Cleft lip*"}, {0}),
        ({"StudyInstanceUID": ["1.2.3", "1.2.4"]}, set()),
    ],
    ids=str,
)
def test_matching(find: Find, held: list[Dataset], values: dict[str, object], studies: set[int]) -> None:
    status, found = find(keys("STUDY", **values))
    assert status == SUCCESS
    assert {ds.StudyInstanceUID for ds in found} == {held[i].StudyInstanceUID for i in studies}


def test_a_list_of_uids(find: Find, held: list[Dataset]) -> None:
    uids = [held[0].StudyInstanceUID, held[3].StudyInstanceUID, "1.2.3"]
    assert len(find(keys("STUDY", StudyInstanceUID=uids))[1]) == 2


def test_series_and_images(find: Find, held: list[Dataset]) -> None:
    study, series = held[0].StudyInstanceUID, held[0].SeriesInstanceUID
    asked = keys(
        "SERIES", StudyInstanceUID=study, Modality="XC", NumberOfSeriesRelatedInstances=None, PatientID=""
    )
    _, found = find(asked)
    assert {ds.SeriesInstanceUID: ds.NumberOfSeriesRelatedInstances for ds in found} == {
        series: 2,
        held[2].SeriesInstanceUID: 1,
    }
    assert {ds.PatientID for ds in found} == {"P1"}
    asked = keys(
        "IMAGE",
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        InstanceNumber="2",
        Rows=None,
        SOPClassUID="",
    )
    _, found = find(asked)
    assert [ds.SOPInstanceUID for ds in found] == [held[1].SOPInstanceUID]
    assert (found[0].InstanceNumber, found[0].Rows) == (2, 48)
    assert found[0].SOPClassUID == VLPhotographicImageStorage


def test_keys_that_are_not_compared_are_said_to_be(node: Node, held: list[Dataset]) -> None:
    association = associate(node, STUDY_ROOT_FIND)
    item = Dataset()
    item.CodeValue = "X"
    answers = list(
        association.send_c_find(keys("STUDY", PatientID="P1", ProcedureCodeSequence=[item]), STUDY_ROOT_FIND)
    )
    association.release()
    assert [status.Status for status, _ in answers] == [PENDING_UNMATCHED, SUCCESS]


@pytest.mark.parametrize(
    "identifier",
    [
        keys("PATIENT", PatientID="P1"),
        Dataset(),
        keys("SERIES", Modality="XC"),
        keys("IMAGE", StudyInstanceUID="1.2.3"),
        keys("IMAGE", StudyInstanceUID="1.2.3", SeriesInstanceUID=["1.2", "1.3"]),
    ],
    ids=["patient level", "no level", "no study", "no series", "two series"],
)
def test_an_identifier_of_another_model_is_refused(find: Find, pool: Pool, identifier: Dataset) -> None:
    identifier.PatientName = "*"
    assert find(identifier)[0] == DOES_NOT_MATCH
    with transaction(pool) as connection:
        refused = ledger.latest(connection, 5)
    assert any(e.event is LedgerEvent.REFUSED and e.detail["status"] == "0xA900" for e in refused)


def test_a_malformed_date_is_refused(find: Find) -> None:
    asked = keys("STUDY", PatientID="P1")
    asked.add_new(0x00080020, "LO", "yesterday")  # as sent in implicit VR
    assert find(asked)[0] == DOES_NOT_MATCH


def test_relational_queries_when_negotiated(find: Find) -> None:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = STUDY_ROOT_FIND, b"\x01"
    status, found = find(keys("IMAGE", PatientID="P1", SOPInstanceUID=""), ext_neg=item)
    assert (status, len(found)) == (SUCCESS, 3)


def test_queries_are_in_the_ledger_without_patient_data(find: Find, pool: Pool) -> None:
    find(keys("STUDY", PatientName="doe*", PatientID="P1"))
    with transaction(pool) as connection:
        entry = next(e for e in ledger.latest(connection, 5) if e.event is LedgerEvent.QUERIED)
    assert entry.detail["matches"] == "1"
    assert entry.detail["keys"] == "00100010,00100020"
    assert entry.detail["calling_ae_title"] == "VIEWER"
    assert "doe" not in str(entry.detail).lower()


def test_a_caller_that_nobody_named_may_send_but_not_ask(node: Node, held: list[Dataset], pool: Pool) -> None:
    association = associate(node, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE, calling="CAMERA")
    asked = keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID)
    statuses = [
        [s.Status for s, _ in association.send_c_find(asked, STUDY_ROOT_FIND)],
        [s.Status for s, _ in association.send_c_get(asked, STUDY_ROOT_GET)],
        [s.Status for s, _ in association.send_c_move(asked, "VIEWER", STUDY_ROOT_MOVE)],
    ]
    association.release()
    assert statuses == [[NOT_AUTHORISED]] * 3
    with transaction(pool) as connection:
        entries = ledger.latest(connection, 3)
    assert {(e.event, e.detail["calling_ae_title"]) for e in entries} == {(LedgerEvent.REFUSED, "CAMERA")}


def test_a_query_is_cancelled(node: Node, held: list[Dataset]) -> None:
    for number in range(12):
        assert send(node.port, photograph(seed=100 + number, size=(16, 16))).Status == SUCCESS
    association = associate(node, STUDY_ROOT_FIND)
    last = None
    for count, (status, _) in enumerate(
        association.send_c_find(keys("STUDY", PatientID=""), STUDY_ROOT_FIND)
    ):
        if count == 0:
            association.send_c_cancel(1, query_model=STUDY_ROOT_FIND)
        last = status.Status
    association.release()
    assert last in (CANCELLED, SUCCESS)  # a cancel may come too late
