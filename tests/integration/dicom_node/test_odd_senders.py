"""What real senders get wrong, on a running node: taken where both peers take it, found, and told of."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, VLPhotographicImageStorage
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from reporting.holdings.attributes import key_of
from reporting.holdings.database import holding_queries, holdings
from reporting.holdings.database.holding_records import HoldingQuery, Level
from reporting.holdings.index import catch_up
from reporting.holdings.matching import condition
from reporting.report import report
from service.config import Settings
from service.database import appraisals, instances, ledger
from service.database.pool import Pool, transaction
from service.pipeline.context import Context
from service.records import Instance, InstanceState, LedgerEntry, LedgerEvent
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import photograph, send_raw, store_pdus
from tests.unit.reporting.photographs import rejected
from tests.waiting import wait_until

_SUCCESS = 0x0000
_TIMEOUT_S = 30


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    return Context(settings=settings, pool=pool, store=store)


def encoded(ds: Dataset) -> bytes:
    made = encode(ds, False, True)
    assert made is not None
    return made


def element(tag: int, vr: bytes, value: bytes, *, short: bool = True) -> bytes:
    """An element in explicit VR, as odd as may be."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<H", len(value)) if short else struct.pack("<HI", 0, len(value))) + value


def sequence(content: bytes) -> bytes:
    """Referenced Series Sequence of one item."""
    inside = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return element(0x00081115, b"SQ", inside, short=False)


def put(data_set: bytes, before: int, strange: bytes) -> bytes:
    """A data set with something put in before an element."""
    at = data_set.index(struct.pack("<HH", before >> 16, before & 0xFFFF))
    return data_set[:at] + strange + data_set[at:]


def kept(pool: Pool, uid: str) -> Instance:
    with transaction(pool) as connection:
        found = instances.by_uid(connection, uid)
    assert found is not None
    return found


def lines(pool: Pool, uid: str) -> list[LedgerEntry]:
    with transaction(pool) as connection:
        return ledger.entries(connection, uid)


def found(pool: Pool, store: InstanceStore, **keys: str) -> list[str]:
    """SOP Instance UIDs that a query at image level finds."""
    assert catch_up(pool, store, _TIMEOUT_S)
    tags = {"PatientID": "00100020", "StudyInstanceUID": "0020000D"}
    conditions = tuple(
        each for name, value in keys.items() if (each := condition(key_of(tags[name]), [value])) is not None
    )
    with transaction(pool) as connection:
        matches = holding_queries.search(connection, HoldingQuery(level=Level.IMAGE, conditions=conditions))
    return [match.sop_instance_uid for match in matches]


def odd_objects() -> Iterator[tuple[str, Dataset, bytes]]:
    """Data sets that break a rule each, and are whole photographs all the same."""

    def made(**elements: str) -> Dataset:
        ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(16, 16), patient_id=str(uuid4())[:12])
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        return ds

    def changed(before: int, strange: bytes) -> tuple[Dataset, bytes]:
        ds = made()
        return ds, put(encoded(ds), before, strange)

    creator = element(0x00090010, b"LO", b"ACME")
    yield "unknown VR", *changed(0x00100010, creator + element(0x00091001, b"ZZ", b"abcd", short=False))
    yield "VR ??", *changed(0x00100010, creator + element(0x00091001, b"??", b"abcd"))
    yield "UL of three bytes", *changed(0x00200010, element(0x00189219, b"UL", b"abc"))
    yield "US in a sequence", *changed(0x00200010, sequence(element(0x00280010, b"US", b"x")))
    yield "sequence of rubbish", *changed(0x00200010, element(0x00081115, b"SQ", b"rubbish!", short=False))
    unknown = element(0x00091001, b"ZZ", b"ab", short=False)
    yield "unknown VR in a sequence", *changed(0x00200010, sequence(unknown))
    yield "group 0002", *changed(0x00080016, element(0x00020010, b"UI", b"1.2.840.10008.1.2\0"))
    yield "charset with NUL", *changed(0x00080016, element(0x00080005, b"CS", b"\0ISO_IR 100"))
    yield "charset of none", *changed(0x00080016, element(0x00080005, b"CS", b"NONE OF ANY "))
    yield "long accession number", *changed(0x00080060, element(0x00080052, b"SH", b"x" * 30_000))
    yield (
        "date that is a sequence",
        *changed(0x00080060, element(0x00080022, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0), short=False)),
    )
    ds = made()
    yield "trailing delimiter", ds, encoded(ds) + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    ds = made()
    yield "trailing zeros", ds, encoded(ds) + b"\0" * 300
    ds = made()
    yield "NUL in a text", ds, put(encoded(ds), 0x00100010, element(0x00081030, b"LO", b"a\0b\0"))
    ds = made()
    number = encoded(ds).replace(element(0x00200011, b"IS", b"1 "), element(0x00200011, b"IS", b"one "))
    yield "number that is none", ds, number


_ODD = list(odd_objects())


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.filterwarnings("ignore::UserWarning:pynetdicom")
def test_one_odd_object_is_taken_and_found_and_stops_nothing(
    node: Node, pool: Pool, store: InstanceStore
) -> None:
    for name, ds, data_set in _ODD:
        assert send_raw(node.port, ds, data_set=data_set) == _SUCCESS, name
    honest = photograph(patient_id="HONEST")
    assert dicom_objects.store(node.port, honest).Status == _SUCCESS
    assert found(pool, store, PatientID="HONEST") == [honest.SOPInstanceUID]
    for name, ds, _ in _ODD:
        assert found(pool, store, PatientID=str(ds.PatientID)) == [ds.SOPInstanceUID], name
    with transaction(pool) as connection:
        assert holdings.pending(connection) == 0
        told = {each.sop_instance_uid: each.reason for each in holdings.unindexed(connection, 100)}
    assert honest.SOPInstanceUID not in told
    by_name = {name: told.get(str(ds.SOPInstanceUID), "") for name, ds, _ in _ODD}
    assert "unknown VR" in by_name["unknown VR"]
    assert "00189219" in by_name["UL of three bytes"]
    assert "kept as bytes" in by_name["sequence of rubbish"]


@pytest.mark.filterwarnings("ignore::UserWarning:pynetdicom")
@pytest.mark.parametrize("where", ["before", "after the pixel data"])
def test_two_patient_ids_in_one_object_are_refused(node: Node, pool: Pool, where: str) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(16, 16), patient_id="P1")
    other = element(0x00100020, b"LO", b"P2")
    data_set = put(encoded(ds), 0x00100020, other) if where == "before" else encoded(ds) + other
    assert send_raw(node.port, ds, data_set=data_set) == 0xC000
    (line,) = lines(pool, ds.SOPInstanceUID)
    assert (line.event, line.detail["status"]) == (LedgerEvent.REFUSED, "0xC000")
    assert "element 00100020 comes twice" in line.detail["reason"]


def test_what_the_index_does_not_take_rests_with_its_reason(
    node: Node, pool: Pool, store: InstanceStore
) -> None:
    ds, other = photograph(), photograph()
    with transaction(pool) as connection:  # a header that no table takes, whatever the reason
        connection.execute(
            "ALTER TABLE held_instance ADD CONSTRAINT refuses"
            f" CHECK (sop_instance_uid <> '{ds.SOPInstanceUID}')"
        )
    for each in (ds, other):
        assert dicom_objects.store(node.port, each).Status == _SUCCESS
    assert found(pool, store) == [other.SOPInstanceUID]
    with transaction(pool) as connection:
        (resting,) = holdings.unindexed(connection, 10)
        assert (resting.sop_instance_uid, resting.is_found) == (ds.SOPInstanceUID, False)
        assert resting.reason == "CheckViolation"
        connection.execute("ALTER TABLE held_instance DROP CONSTRAINT refuses")
        assert holdings.retry(connection) == 1
    assert set(found(pool, store)) == {ds.SOPInstanceUID, other.SOPInstanceUID}


def test_an_error_nobody_foresaw_asks_for_no_retry(node: Node, pool: Pool) -> None:
    ds, other = photograph(), photograph()
    with transaction(pool) as connection:
        connection.execute(
            f"ALTER TABLE instance ADD CONSTRAINT refuses CHECK (sop_instance_uid <> '{ds.SOPInstanceUID}')"
        )
    answer = dicom_objects.store(node.port, ds)
    assert answer.Status == 0xC002
    assert "do not send again" in answer.ErrorComment
    assert dicom_objects.store(node.port, other).Status == _SUCCESS
    (line,) = lines(pool, ds.SOPInstanceUID)
    assert (line.event, line.detail["status"]) == (LedgerEvent.REFUSED, "0xC002")


@pytest.mark.parametrize(
    ("patient_id", "declared", "expected", "remark"),
    [
        (b"M\xfcller", b"ISO_IR 192", "Müller", "patient_id is not in the character set declared"),
        (b"M\xfcller", b"", "Müller", "patient_id is not in the character set declared"),
        (b"\x8a12", b"ISO_IR 100", "Š12", "patient_id is not in the character set declared"),
        (b"\x8a12", b"", "Š12", "patient_id is not in the character set declared"),
        (b"M\xfcller", b"\0ISO_IR 100", "Müller", ""),
        ("山田\u3000太郎".encode(), b"ISO_IR 192", "山田\u3000太郎", ""),
        ("A\u00a0B\u00ad1".encode(), b"ISO_IR 192", "A\u00a0B\u00ad1", ""),
    ],
)
def test_patient_ids_of_every_making_are_kept_and_reported(
    node: Node, context: Context, *, patient_id: bytes, declared: bytes, expected: str, remark: str
) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, patient_id=None)
    strange = element(0x00100020, b"LO", patient_id + b" " * (len(patient_id) % 2))
    data_set = put(encoded(ds), 0x0020000D, strange)
    if declared:
        data_set = put(
            data_set, 0x00080016, element(0x00080005, b"CS", declared + b" " * (len(declared) % 2))
        )
    assert send_raw(node.port, ds, data_set=data_set) == _SUCCESS
    instance = kept(context.pool, ds.SOPInstanceUID)
    assert instance.patient_id == expected
    (received,) = (e for e in lines(context.pool, ds.SOPInstanceUID) if e.event is LedgerEvent.RECEIVED)
    assert received.detail.get("remarks", "") == remark
    assert found(context.pool, context.store, PatientID=expected) == [ds.SOPInstanceUID]
    assert reported(context, instance) is InstanceState.DELIVERED


def reported(context: Context, instance: Instance) -> InstanceState:
    """Report a photograph that could not be judged, and say where it then is."""
    appraisal = replace(
        rejected().appraisal, sop_instance_uid=instance.sop_instance_uid, appraisal_id=uuid4()
    )
    with transaction(context.pool) as connection:
        appraisals.save(
            connection,
            instance_id=instance.instance_id,
            appraisal=appraisal,
            heatmap_sha256="",
            difference_map_sha256="",
        )
        instances.set_state(connection, instance.instance_id, InstanceState.APPRAISED)
    report(context, instance.instance_id)
    return kept(context.pool, instance.sop_instance_uid).state


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about these very UIDs
def test_leading_zeros_in_uids(node: Node, context: Context) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    data_set = encoded(ds)
    for keyword, uid in (("StudyInstanceUID", b"1.2.007.55"), ("SOPInstanceUID", b"1.2.08.55\0")):
        tag = {"StudyInstanceUID": 0x0020000D, "SOPInstanceUID": 0x00080018}[keyword]
        old = str(ds[keyword].value).encode()
        data_set = data_set.replace(
            element(tag, b"UI", old + b"\0" * (len(old) % 2)), element(tag, b"UI", uid)
        )
    assert send_raw(node.port, ds, data_set=data_set, sop_instance_uid="1.2.08.55") == _SUCCESS
    instance = kept(context.pool, "1.2.08.55")
    assert instance.study_instance_uid == "1.2.007.55"
    received = next(e for e in lines(context.pool, "1.2.08.55") if e.event is LedgerEvent.RECEIVED)
    assert "study_instance_uid has a leading zero" in received.detail["remarks"]
    assert found(context.pool, context.store, StudyInstanceUID="1.2.007.55") == ["1.2.08.55"]
    assert reported(context, instance) is InstanceState.DELIVERED


# --- association requests


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def request(
    *,
    calling: bytes = b"CAMERA".ljust(16),
    called: bytes = b"SEMBLANCE".ljust(16),
    context_id: int = 1,
    version: int = 1,
    context: bytes = b"",
    user: bytes = b"",
    name: bytes = b"",
    more: bytes = b"",
    uid_padding: bytes = b"",
    about: bytes | None = None,
    end: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ by hand, odd where asked for."""
    contexts = item(
        0x20,
        bytes((context_id, 0, 0, 0))
        + item(0x30, VLPhotographicImageStorage.encode() + uid_padding)
        + item(0x40, ExplicitVRLittleEndian.encode() + uid_padding)
        + context,
    )
    if about is None:
        about = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.826.0.1" + uid_padding) + name + user
    body = struct.pack(">HH16s16s32x", version, 0, called, calling)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + more + item(0x50, about) + end
    return struct.pack(">BBI", 1, 0, len(body)) + body


def exactly(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = sock.recv(size - len(got))
        assert more, "the node closed the connection"
        got += more
    return got


def pdu(sock: socket.socket) -> bytes:
    head = exactly(sock, 6)
    return head + exactly(sock, struct.unpack(">BxI", head)[1])


def sent_by(port: int, encoded_request: bytes, context_id: int) -> tuple[Dataset, int]:
    """Send one photograph by hand; answers it and the C-STORE status."""
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(4, 4))
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as sock:
        sock.sendall(encoded_request)
        accepted = pdu(sock)
        assert accepted[0] == 2
        at = accepted.index(b"\x21\x00") + 4
        assert accepted[at] == context_id
        for each in store_pdus(ds, encoded(ds)):
            sock.sendall(each[:10] + bytes((context_id,)) + each[11:])
        answer = pdu(sock)
        assert (answer[0], answer[10]) == (4, context_id)
        sock.sendall(struct.pack(">BBI4x", 5, 0, 4))
        assert pdu(sock)[0] == 6
    at = answer.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
    return ds, struct.unpack_from("<H", answer, at)[0]


@pytest.mark.parametrize(
    ("odd", "calling", "remark"),
    [
        ({"calling": b"CAMERA".ljust(16, b"\0"), "called": b"SEMBLANCE".ljust(16, b"\0")}, "CAMERA", "NUL"),
        ({"calling": b"CAMERA\0 old rest "}, "CAMERA", "NUL"),
        ({"calling": "MÜLLER".encode("latin-1").ljust(16)}, "MÜLLER", "AE title"),
        ({"calling": b"CAM\\ERA".ljust(16)}, "CAM\\ERA", "AE title"),
        ({"calling": b" " * 16}, "", "AE title"),
        ({"name": item(0x55, b"A_VERSION_OF_20_CHAR")}, "CAMERA", "version name"),
        ({"name": item(0x55, b"CAM_1\0\0\0\0\0\0\0\0\0\0\0")}, "CAMERA", "version name"),
        ({"name": item(0x55, "KÄMERA".encode("latin-1"))}, "CAMERA", "version name"),
        ({"name": item(0x55, b"")}, "CAMERA", ""),
        ({"user": item(0x70, b"whatever")}, "CAMERA", "user information item 0x70"),
        ({"more": item(0x66, b"whatever")}, "CAMERA", "unknown item 0x66"),
        ({"context": item(0x66, b"whatever")}, "CAMERA", "presentation context ignored"),
        ({"context_id": 2}, "CAMERA", "even presentation context ids"),
        ({"context_id": 0}, "CAMERA", "even presentation context ids"),
        ({"uid_padding": b"\0"}, "CAMERA", ""),
        ({"uid_padding": b"  "}, "CAMERA", ""),
        ({"version": 3}, "CAMERA", ""),
        ({"end": b"\0\0"}, "CAMERA", ""),
        ({"about": b""}, "CAMERA", "no maximum length"),
        ({"about": item(0x52, b"1.2.826.0.1")}, "CAMERA", "no maximum length"),
        ({"end": item(0x50, item(0x55, b"CAM_1"))}, "CAMERA", "several items"),
    ],
)
def test_odd_association_requests_are_taken(
    node: Node, pool: Pool, odd: dict[str, Any], calling: str, remark: str
) -> None:
    ds, status = sent_by(node.port, request(**odd), odd.get("context_id", 1))
    assert status == _SUCCESS
    assert kept(pool, ds.SOPInstanceUID).calling_ae_title == calling
    with transaction(pool) as connection:
        rows = connection.execute("SELECT detail FROM ledger WHERE event = 'associated'").fetchall()
    assert remark in rows[-1]["detail"].get("remarks", "")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "association request"),
        (request()[:40], "ended within"),
        (struct.pack(">BBI4x", 5, 0, 4), "0x05"),
        (request(more=b"\x20\0\xff\xff"), "can be read"),
        (struct.pack(">BBI", 1, 0, 1 << 30), "can be read"),
    ],
)
def test_who_never_sends_a_readable_request_is_in_the_ledger(
    node: Node, pool: Pool, sent: bytes, reason: str
) -> None:
    with socket.create_connection(("127.0.0.1", node.port), _TIMEOUT_S) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass
    wait_until(lambda: bool(lines(pool, "")), timeout_s=_TIMEOUT_S, what="the ledger's line")
    (line,) = lines(pool, "")
    assert line.event is LedgerEvent.REFUSED
    assert line.detail["peer_address"] == "127.0.0.1"
    assert reason in line.detail["reason"]


@pytest.mark.peers("img2dcm", "dcmsend")
def test_progressive_jpeg_as_img2dcm_makes_it(node: Node, context: Context, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.jpg", progressive=True)
    run(["img2dcm", "-vlp", tmp_path / "p.jpg", tmp_path / "p.dcm"], check=True)
    run(["dcmsend", "-dn", "-aec", "SEMBLANCE", "127.0.0.1", str(node.port), tmp_path / "p.dcm"], check=True)
    with transaction(context.pool) as connection:
        (instance,) = instances.newest(connection, 5)
    assert instance.transfer_syntax_uid == "1.2.840.10008.1.2.4.55"
    assert found(context.pool, context.store) == [instance.sop_instance_uid]
    assert reported(context, instance) is InstanceState.DELIVERED


def test_an_implicit_photograph_with_padding(node: Node, pool: Pool, store: InstanceStore) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, patient_id="IMPLICIT")
    data_set = encode(ds, True, True)
    assert data_set is not None
    strange = data_set + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) + b"\0" * 20
    assert send_raw(node.port, ds, data_set=strange, transfer_syntax=ImplicitVRLittleEndian) == _SUCCESS
    assert found(pool, store, PatientID="IMPLICIT") == [ds.SOPInstanceUID]
