"""C-FIND, C-MOVE and C-GET against a running node, by pynetdicom."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from dicom_node.query.contexts import RESULT_CLASSES, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dicom_node.scp import Node
from service.config import Destination, Settings
from service.database import ledger
from service.database.pool import Pool, open_pool, transaction
from service.embedded import EmbeddedPostgres
from service.records import LedgerEvent
from service.storage import InstanceStore, open_store
from tests.conftest import cloned_database, settings_of
from tests.dicom_objects import photograph
from tests.dicom_objects import store as send
from tests.nodes import running

PENDING, PENDING_UNMATCHED, SUCCESS, CANCELLED = 0xFF00, 0xFF01, 0x0000, 0xFE00
NOT_AUTHORISED, DOES_NOT_MATCH, UNKNOWN_DESTINATION = 0x0124, 0xA900, 0xA801
SOME_FAILED, CANNOT_PERFORM = 0xB000, 0xA702


class Workstation:
    """A storage SCP that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[Dataset] = []
        self.originators: list[tuple[str | None, int | None]] = []
        self.statuses: Iterator[int] = iter(())
        entity = AE("VIEWER")
        entity.add_supported_context(VLPhotographicImageStorage, [JPEGBaseline8Bit, ExplicitVRLittleEndian])
        handlers = [(evt.EVT_C_STORE, self.take)]
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(self.server.server_address[1])

    def take(self, event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        status = next(self.statuses, SUCCESS)
        if status != 0xA700:
            self.received.append(ds)
        request = event.request
        self.originators.append(
            (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID)
        )
        return status


@pytest.fixture(scope="module")
def running_workstation() -> Iterator[Workstation]:
    made = Workstation()
    yield made
    made.server.shutdown()


@pytest.fixture
def workstation(running_workstation: Workstation) -> Workstation:
    """The workstation, with nothing received yet."""
    running_workstation.received.clear()
    running_workstation.originators.clear()
    running_workstation.statuses = iter(())
    return running_workstation


@pytest.fixture(scope="module")
def settings(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, running_workstation: Workstation
) -> Iterator[Settings]:
    """A node that knows the workstation, and one node that is not there; for all tests here."""
    rows = (
        Destination(name="viewer", ae_title="VIEWER", host="127.0.0.1", port=running_workstation.port),
        Destination(name="gone", ae_title="GONE", host="127.0.0.1", port=1),
    )
    with cloned_database(postgres) as url:
        made = settings_of(url, tmp_path_factory.mktemp("query"))
        yield made.model_copy(update={"dicom_peers": rows, "delivery_timeout_s": 30.0})


@pytest.fixture(scope="module")
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def store(settings: Settings) -> InstanceStore:
    return open_store(settings)


@pytest.fixture(scope="module")
def node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    with running(settings, pool, store) as started:
        yield started


@pytest.fixture(scope="module")
def held(node: Node) -> list[Dataset]:
    """Two studies of two patients; the first has two series, of two and one photographs."""
    made = []
    study, series = generate_uid(), generate_uid()
    for number in (1, 2, 3):
        ds = photograph(patient_id="P1", patient_name="Doe^Jane", seed=number)
        ds.StudyInstanceUID = study
        ds.StudyDescription = "Cleft lip, before surgery"
        if number < 3:
            ds.SeriesInstanceUID = series
        ds.InstanceNumber = str(number)
        made.append(ds)
    other = photograph(
        patient_id="P2",
        patient_name="Müller^Jörg",
        character_set="ISO_IR 100",
        transfer_syntax=ExplicitVRLittleEndian,
    )
    other.StudyDate, other.StudyTime, other.AccessionNumber = "20250615", "0930", "A-7"
    made.append(other)
    for ds in made:
        assert send(node.port, ds).Status == SUCCESS
    return made


def associate(node: Node, *sop_classes: str, calling: str = "VIEWER", ext_neg: object = None) -> Association:
    entity = AE(ae_title=calling)
    roles = []
    for uid in sop_classes:
        entity.add_requested_context(uid)
        if uid == STUDY_ROOT_GET:
            entity.add_requested_context(VLPhotographicImageStorage, JPEGBaseline8Bit)
            entity.add_requested_context(VLPhotographicImageStorage, ExplicitVRLittleEndian)
            roles.append(build_role(VLPhotographicImageStorage, scp_role=True))
    association = entity.associate("127.0.0.1", node.port, ext_neg=roles + ([ext_neg] if ext_neg else []))
    assert association.is_established
    return association


def keys(level: str, **values: object) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


Find = Callable[..., tuple[int, list[Dataset]]]


@pytest.fixture
def find(node: Node, held: list[Dataset]) -> Find:
    """Asks the node; answers the last status and the matches."""

    def ask(identifier: Dataset, **more: object) -> tuple[int, list[Dataset]]:
        association = associate(node, STUDY_ROOT_FIND, **more)
        answers = list(association.send_c_find(identifier, STUDY_ROOT_FIND))
        association.release()
        return answers[-1][0].Status, [ds for _, ds in answers if ds is not None]

    return ask


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
    return responses[-1][0], received


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


def test_results_are_not_taken_in(node: Node) -> None:
    """Their SOP classes are negotiated for C-GET alone."""
    entity = AE(ae_title="CAMERA")
    for uid in (*RESULT_CLASSES, SecondaryCaptureImageStorage):
        entity.add_requested_context(uid)
    association = entity.associate("127.0.0.1", node.port)
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    association.release()
    assert accepted == {SecondaryCaptureImageStorage}


def test_bytes_that_are_gone_fail_alone(
    node: Node, held: list[Dataset], workstation: Workstation, store: InstanceStore, pool: Pool
) -> None:
    from service.database import instances

    with transaction(pool) as connection:
        known = instances.by_uid(connection, held[0].SOPInstanceUID)
    # indexed first: the header is read when somebody asks
    assert move(node, keys("STUDY", StudyInstanceUID=held[3].StudyInstanceUID), "VIEWER")[0].Status == SUCCESS
    assert known is not None
    store.path_of(known.sha256).unlink()  # type: ignore[attr-defined]
    done, failed = move(node, keys("STUDY", StudyInstanceUID=held[0].StudyInstanceUID), "VIEWER")
    assert (done.Status, done.NumberOfCompletedSuboperations) == (SOME_FAILED, 2)
    assert failed == {held[0].SOPInstanceUID}


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
