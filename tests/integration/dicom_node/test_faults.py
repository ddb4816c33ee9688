"""What a hospital's network, disk and database do to the node."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import psycopg
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, VLPhotographicImageStorage
from pynetdicom.sop_class import Verification

from dicom_node.acceptor.association import NodeAssociation
from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, connect, open_pool, transaction
from service.records import LedgerEntry, LedgerEvent
from service.stack.servers import EmbeddedPostgres
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore, open_store
from tests import dicom_objects
from tests.dicom_objects import associate, photograph


@pytest.fixture
def refusals_of(pool: Pool):
    def find(uid: str = "") -> list[dict[str, str]]:
        with transaction(pool) as connection:
            return [dict(e.detail) for e in ledger.entries(connection, uid) if e.event is LedgerEvent.REFUSED]

    return find


@pytest.fixture
def small_node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    """A node that is soon full."""
    running = Node(settings.model_copy(update={"dicom_max_associations": 2}), pool, store)
    yield running
    running.stop()


@pytest.fixture
def impatient_node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    """A node that waits for nobody for long."""
    running = Node(settings.model_copy(update={"dicom_idle_timeout_s": 1.0}), pool, store)
    yield running
    running.stop()


def test_low_disk_is_refused_and_recovers(settings: Settings, pool: Pool, refusals_of) -> None:
    full = settings.model_copy(update={"storage_low_watermark_bytes": 1 << 60})
    ds = photograph()
    node = Node(full, pool, open_store(full))
    try:
        response = dicom_objects.store(node.port, ds)
    finally:
        node.stop()
    assert response.Status == 0xA700
    assert response.ErrorComment == "disk space is low"
    assert refusals_of(ds.SOPInstanceUID)[0]["status"] == "0xA700"
    roomy = Node(settings, pool, open_store(settings))
    try:
        assert dicom_objects.store(roomy.port, ds).Status == 0x0000
    finally:
        roomy.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_association_whose_serving_fails_is_ended(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no more of something")

    held = associate(node.port, (Verification, ExplicitVRLittleEndian))
    monkeypatch.setattr(NodeAssociation, "_serve_request", fail)
    assert "Status" not in held.send_c_echo()
    wait_until(lambda: not held.is_alive(), timeout_s=10, what="the association to end")
    monkeypatch.undo()
    assert dicom_objects.store(node.port, photograph()).Status == 0x0000


def test_database_away_and_back(open_directory: Path, settings: Settings) -> None:
    from service.database.migrate import migrate

    server = EmbeddedPostgres(open_directory / "pg")
    server.start()
    url = server.ensure_database("away")
    migrate(url)
    away = settings.model_copy(update={"database_url": url, "database_timeout_s": 1.0})
    ds = photograph()
    with open_pool(away) as pool:
        node = Node(away, pool, open_store(away))
        try:
            server.stop()
            assert dicom_objects.store(node.port, ds).Status == 0xA700
            server.start()
            wait_until(
                lambda: dicom_objects.store(node.port, ds).Status == 0x0000,
                timeout_s=60,
                what="the node to accept again",
            )
            with connect(away) as connection:
                assert instances.by_uid(connection, ds.SOPInstanceUID) is not None
            refused = wait_until(
                lambda: refusals_meanwhile(away, ds.SOPInstanceUID),
                timeout_s=90,
                what="the refusals of the outage in the ledger",
            )
            assert refused[0].detail["status"] == "0xA700"
            assert refused[0].detail["calling_ae_title"] == "CAMERA"
            assert datetime.fromisoformat(refused[0].detail["occurred_at"]) < refused[0].at
        finally:
            node.stop()
            server.stop()


def refusals_meanwhile(settings: Settings, uid: str) -> list[LedgerEntry]:
    with connect(settings) as connection:
        return [e for e in ledger.entries(connection, uid) if e.event is LedgerEvent.REFUSED]


def test_association_limit(small_node: Node, refusals_of) -> None:
    held = [associate(small_node.port) for _ in range(2)]
    assert all(each.is_established for each in held)
    third = associate(small_node.port)
    assert third.is_rejected
    assert "limit" in third.acceptor.primitive.reason_str.lower()
    wait_until(refusals_of, timeout_s=30, what="the refusal in the ledger")
    for each in held:
        each.release()
    wait_until(
        lambda: (again := associate(small_node.port)).is_established and (again.release() or True),  # type: ignore[func-returns-value]
        timeout_s=30,
        what="a place",
    )


def test_idle_association_is_closed(impatient_node: Node) -> None:
    association = associate(impatient_node.port)
    wait_until(lambda: not association.is_alive(), timeout_s=30, what="the node to end the association")
    assert association.is_aborted


def test_probes_of_the_port_hold_no_place(small_node: Node) -> None:
    for _ in range(10):
        socket.create_connection(("127.0.0.1", small_node.port)).close()
    wait_until(
        lambda: (last := associate(small_node.port)).is_established and (last.release() or True),  # type: ignore[func-returns-value]
        timeout_s=30,
        what="a place among the probes",
    )


def test_slow_sender_is_cut(impatient_node: Node) -> None:
    with socket.create_connection(("127.0.0.1", impatient_node.port)) as sock:
        sock.sendall(struct.pack(">BBI", 1, 0, 200) + b"x" * 10)
        sock.settimeout(30)
        answer = sock.recv(64)
        assert answer == b"" or answer[0] == 0x07
        while answer:
            answer = sock.recv(64)


@pytest.mark.parametrize("pdu_type", [1, 2, 3, 4, 5, 6, 7, 200])
def test_half_a_gigabyte_announced_is_not_read(node: Node, pdu_type: int) -> None:
    process = psutil.Process()
    with socket.create_connection(("127.0.0.1", node.port)) as sock:
        sock.settimeout(60)
        before = process.memory_info().rss
        flood = struct.pack(">BBI", pdu_type, 0, 500 << 20) + b"\0" * (64 << 20)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sock.sendall(flood)
        del flood
    assert process.memory_info().rss - before < 20 << 20


def test_fragment_without_a_command_is_aborted(node: Node) -> None:
    association = associate(node.port)
    association.dul.socket.socket.sendall(struct.pack(">BBIIBB", 4, 0, 10, 6, 1, 2) + b"\0" * 4)
    wait_until(lambda: association.is_aborted, timeout_s=30, what="the abort")


def test_sop_class_other_than_the_contexts_is_refused(node: Node, refusals_of) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    uid = ds.SOPInstanceUID
    association = associate(node.port, (VLPhotographicImageStorage, ExplicitVRLittleEndian))
    ds.SOPClassUID = CTImageStorage
    association._reactor_checkpoint.clear()
    for pdu in dicom_objects.store_pdus(ds, b"\0" * 100):
        association.dul.socket.socket.sendall(pdu)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert response.Status == 0x0122
    assert refusals_of(uid)


def test_several_senders_at_once_lose_nothing(node: Node, pool: Pool) -> None:
    photographs = [photograph(seed=i) for i in range(24)]
    statuses: list[int] = []

    def send(batch: list[object]) -> None:
        association = associate(node.port)
        statuses.extend(association.send_c_store(ds).Status for ds in batch)
        association.release()

    threads = [threading.Thread(target=send, args=(photographs[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 24
    with transaction(pool) as connection:
        for ds in photographs:
            assert instances.by_uid(connection, ds.SOPInstanceUID) is not None


def test_a_receipt_that_breaks_the_transaction_breaks_only_its_own(
    node: Node, pool: Pool, settings: Settings
) -> None:
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE instance ADD CHECK (patient_id <> 'POISON')")
    poison, good = photograph(patient_id="POISON"), photograph(patient_id="GOOD")
    results: dict[str, int] = {}
    threads = [
        threading.Thread(
            target=lambda ds=ds: results.update({ds.PatientID: dicom_objects.store(node.port, ds).Status})
        )
        for ds in (poison, good)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"POISON": 0xC002, "GOOD": 0x0000}  # nobody foresaw it: not to be sent again
