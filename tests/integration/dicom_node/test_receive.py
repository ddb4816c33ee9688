"""What the node makes of what senders send, with real associations, PostgreSQL and disk."""

from __future__ import annotations

import copy
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLPhotographicImageStorage,
)
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from dicom_node.readers import READERS, TRANSFER_SYNTAXES, VERIFICATION
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.records import Instance, InstanceState, LedgerEvent
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import associate, photograph, send_raw, store_pdus


def kept(pool: Pool, uid: str) -> Instance | None:
    with transaction(pool) as connection:
        return instances.by_uid(connection, uid)


def events(pool: Pool, uid: str) -> list[LedgerEvent]:
    with transaction(pool) as connection:
        return [entry.event for entry in ledger.entries(connection, uid)]


def refusals(pool: Pool, uid: str = "") -> list[dict[str, str]]:
    with transaction(pool) as connection:
        return [dict(e.detail) for e in ledger.entries(connection, uid) if e.event is LedgerEvent.REFUSED]


def test_echo(node: Node) -> None:
    association = associate(node.port, (VERIFICATION, ImplicitVRLittleEndian))
    assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.parametrize("sop_class", READERS)
@pytest.mark.parametrize("transfer_syntax", TRANSFER_SYNTAXES)
def test_every_pair_of_the_readers_table_is_kept_bit_for_bit(
    node: Node, pool: Pool, store: InstanceStore, sop_class: str, transfer_syntax: str
) -> None:
    ds = photograph(sop_class=sop_class, transfer_syntax=JPEGBaseline8Bit)
    if not transfer_syntax.is_compressed:
        ds = photograph(sop_class=sop_class, transfer_syntax=transfer_syntax)
    # bytes are not decoded on the way to disk
    ds.file_meta.TransferSyntaxUID = transfer_syntax  # type: ignore[assignment]
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    instance = kept(pool, ds.SOPInstanceUID)
    assert instance is not None
    assert instance.transfer_syntax_uid == transfer_syntax
    assert instance.state is InstanceState.RECEIVED
    content = store.read(instance.sha256)
    sent = encode(
        ds,
        transfer_syntax.is_implicit_VR,
        transfer_syntax.is_little_endian,
        transfer_syntax == DeflatedExplicitVRLittleEndian,
    )
    assert content.endswith(sent)
    assert content[128:132] == b"DICM"
    read = dcmread(BytesIO(content))
    assert read.SOPInstanceUID == ds.SOPInstanceUID
    assert read.file_meta.TransferSyntaxUID == transfer_syntax
    assert len(content) == instance.size_bytes
    assert events(pool, ds.SOPInstanceUID) == [LedgerEvent.RECEIVED]


def test_the_outbox_asks_for_an_appraisal(node: Node, pool: Pool) -> None:
    ds = photograph()
    dicom_objects.store(node.port, ds)
    with transaction(pool) as connection:
        row = connection.execute("SELECT task, queue, subject_id FROM outbox").fetchone()
    instance = kept(pool, ds.SOPInstanceUID)
    assert instance is not None
    assert row == {"task": "appraise", "queue": "gpu", "subject_id": str(instance.instance_id)}


@pytest.mark.parametrize(
    ("character_set", "name", "patient_id"),
    [
        ("ISO_IR 100", "Äneas^Rüdiger", "Ä-1"),
        ("ISO_IR 101", "Wałęsa^Łucja", "Ł-1"),
        ("ISO_IR 192", "Юстов^Юрий", "Ю-1"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎", "山-1"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "홍-1"),
        ("GB18030", "Wang^XiaoDong=王^小东", "王-1"),
    ],
)
def test_character_sets(  # noqa: PLR0917
    node: Node, pool: Pool, store: InstanceStore, character_set: str, name: str, patient_id: str
) -> None:
    ds = photograph(character_set=character_set, patient_name=name, patient_id=patient_id)
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    instance = kept(pool, ds.SOPInstanceUID)
    assert instance is not None
    assert instance.patient_id == patient_id
    assert dcmread(BytesIO(store.read(instance.sha256))).PatientName == name


def test_missing_patient_id_is_carried_through(node: Node, pool: Pool) -> None:
    ds = photograph(patient_id=None)
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    instance = kept(pool, ds.SOPInstanceUID)
    assert instance is not None
    assert instance.patient_id == ""


def test_issuer_private_tags_and_unknown_vrs_are_kept(node: Node, pool: Pool, store: InstanceStore) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    ds.IssuerOfPatientID = "HOSPITAL"
    block = ds.private_block(0x0099, "SOMEONE", create=True)
    block.add_new(0x01, "UN", b"\x00\x01\xfe\xff")
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    instance = kept(pool, ds.SOPInstanceUID)
    assert instance is not None
    assert instance.issuer_of_patient_id == "HOSPITAL"
    assert dcmread(BytesIO(store.read(instance.sha256)))[0x0099, 0x1001].value == b"\x00\x01\xfe\xff"


def test_same_object_twice_is_success_without_new_work(node: Node, pool: Pool) -> None:
    ds = photograph()
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    assert events(pool, ds.SOPInstanceUID) == [LedgerEvent.RECEIVED, LedgerEvent.RECEIVED_AGAIN]
    with transaction(pool) as connection:
        assert connection.execute("SELECT count(*) AS n FROM outbox").fetchone() == {"n": 1}


def test_same_uid_with_other_pixels_is_quarantined(node: Node, pool: Pool, store: InstanceStore) -> None:
    ds = photograph()
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    first = kept(pool, ds.SOPInstanceUID)
    ds.PatientID, ds.PixelData = "SOMEBODY-ELSE", photograph(seed=1).PixelData
    ds["PixelData"].is_undefined_length = True
    response = dicom_objects.store(node.port, ds)
    assert response.Status == 0xC001
    assert "quarantined" in response.ErrorComment
    assert kept(pool, ds.SOPInstanceUID) == first
    assert events(pool, ds.SOPInstanceUID) == [LedgerEvent.RECEIVED, LedgerEvent.QUARANTINED]
    with transaction(pool) as connection:
        row = connection.execute("SELECT sha256 FROM quarantine").fetchone()
    assert row is not None
    assert dcmread(BytesIO(store.read(row["sha256"]))).PatientID == "SOMEBODY-ELSE"


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "1.2.3/../4", "1..2", "1" * 65, "1.2\n"])
def test_hostile_uids_are_refused(node: Node, pool: Pool, tmp_path: Path, uid: str) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    status = send_raw(node.port, ds, sop_instance_uid=uid)
    assert status == 0xA900
    assert kept(pool, uid) is None
    assert any("is not a UID" in d["reason"] for d in refusals(pool, uid.strip()[:64]))
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
def test_missing_identifier_is_refused(node: Node, pool: Pool, keyword: str) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    uid = ds.SOPInstanceUID
    damaged = copy.deepcopy(ds)
    del damaged[keyword]
    status = send_raw(node.port, ds, data_set=encode(damaged, False, True))
    assert status == 0xA900
    assert kept(pool, uid) is None
    assert "is missing" in refusals(pool, uid)[0]["reason"]


def test_uid_that_differs_from_the_command_is_refused(node: Node, pool: Pool) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    other = photograph(transfer_syntax=ExplicitVRLittleEndian)
    assert send_raw(node.port, ds, data_set=encode(other, False, True)) == 0xA900
    assert kept(pool, ds.SOPInstanceUID) is None
    assert kept(pool, other.SOPInstanceUID) is None


@pytest.mark.parametrize("cut", [1, 7, 100, 5000])
def test_data_set_cut_before_it_was_sent_is_refused(node: Node, pool: Pool, tmp_path: Path, cut: int) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    encoded = encode(ds, False, True)
    assert encoded is not None
    assert send_raw(node.port, ds, data_set=encoded[:-cut]) == 0xC000
    assert kept(pool, ds.SOPInstanceUID) is None
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


def test_connection_cut_within_the_data_set(node: Node, pool: Pool, tmp_path: Path) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(600, 600))
    association = associate(node.port, (ds.SOPClassUID, ExplicitVRLittleEndian))
    sock = association.dul.socket.socket
    encoded = encode(ds, False, True)
    assert encoded is not None
    association._reactor_checkpoint.clear()
    for pdu in store_pdus(ds, encoded)[:3]:
        sock.sendall(pdu)
    sock.sendall(store_pdus(ds, encoded)[3][:1000])
    sock.shutdown(2)
    association._reactor_checkpoint.set()
    wait_until(lambda: refusals(pool, ds.SOPInstanceUID), timeout_s=30, what="the refusal")
    assert "transfer incomplete" in refusals(pool, ds.SOPInstanceUID)[0]["reason"]
    assert kept(pool, ds.SOPInstanceUID) is None
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]
    association.kill()
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    assert events(pool, ds.SOPInstanceUID) == [LedgerEvent.REFUSED, LedgerEvent.RECEIVED]


def test_unknown_sop_class_is_refused_in_negotiation_and_recorded(node: Node, pool: Pool) -> None:
    association = associate(
        node.port, (CTImageStorage, ExplicitVRLittleEndian), (VLPhotographicImageStorage, ExplicitVRBigEndian)
    )
    assert not association.accepted_contexts
    (found,) = wait_until(lambda: refusals(pool), timeout_s=30, what="the refusal")
    assert found["reason"] == "abstract syntax not supported, transfer syntaxes not supported"
    assert found["calling_ae_title"] == "CAMERA"
    assert found["transfer_syntaxes"].split(",") == [ExplicitVRLittleEndian, ExplicitVRBigEndian]
