"""Hostile bytes at every layer of a running node: no crash, no leak, bounded memory; it goes on serving."""

from __future__ import annotations

import errno
import gc
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from dicom_node.encoding.command import p_data_tf
from service.config import Settings
from service.database.pool import Pool, transaction
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import association_request, photograph, store_pdus

_LARGEST_GROWTH_BYTES = 40 << 20
_TIMEOUT_S = 60
_BOUNDED = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_REQUEST = association_request()
_RELEASE = struct.pack(">BBI4x", 5, 0, 4)


def _object() -> tuple[bytes, bytes]:
    """Command PDU and data set of one small photograph."""
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(4, 4))
    encoded = encode(ds, False, True)
    assert encoded is not None
    return store_pdus(ds, encoded)[0], encoded


_COMMAND, _DATA_SET = _object()


@dataclass(frozen=True, kw_only=True)
class Target:
    """A node with short time-outs, and what it held before anybody was rude to it."""

    node: Node
    store: Path


@pytest.fixture
def target(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Target]:
    node = Node(settings.model_copy(update={"dicom_idle_timeout_s": 20.0}), pool, store)
    warm, honest = photograph(), photograph()
    process = psutil.Process()
    try:
        wait_until(
            lambda: is_taken(node.port, warm), timeout_s=_TIMEOUT_S, what="the first object to be taken"
        )
        gc.collect()
        wait_until(lambda: not established(node.port), timeout_s=_TIMEOUT_S, what="the first one's end")
        before = process.num_fds(), threading.active_count(), process.memory_info().rss
        yield Target(node=node, store=settings.storage_dir)
        wait_until(lambda: not established(node.port), timeout_s=_TIMEOUT_S, what="every association's end")
        wait_until(
            lambda: process.num_fds() <= before[0] + 4 and threading.active_count() <= before[1] + 2,
            timeout_s=_TIMEOUT_S,
            what="descriptors and threads to be given back",
        )
        gc.collect()
        assert process.memory_info().rss - before[2] < _LARGEST_GROWTH_BYTES
        wait_until(
            lambda: is_taken(node.port, honest), timeout_s=_TIMEOUT_S, what="an honest object to be taken"
        )
    finally:
        node.stop()
    with transaction(pool) as connection:
        rows = connection.execute("SELECT sop_instance_uid, sha256, size_bytes FROM instance").fetchall()
    assert {warm.SOPInstanceUID, honest.SOPInstanceUID} <= {row["sop_instance_uid"] for row in rows}
    for row in rows:  # a damaged object that was taken is whole all the same
        assert len(store.read(row["sha256"])) == row["size_bytes"]


def is_taken(port: int, ds: Dataset) -> bool:
    """Send an object as a patient sender does; False where a machine under load was too slow to answer."""
    association = dicom_objects.associate(port)
    if not association.is_established:
        return False
    try:
        status = association.send_c_store(ds).get("Status")
    finally:
        association.release()
    assert status in (0, None)  # refused, or no answer in time
    return status == 0


def established(port: int) -> bool:
    """Whether anybody is connected to the node."""
    return any(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in psutil.Process().net_connections("tcp")
    )


def throw(port: int, *parts: bytes, associated: bool = False) -> bytes:
    """Send, say that there is no more, and read until the node closes; what it answered.

    Args:
        port: Of the node.
        parts: Sent one after the other.
        associated: Whether to have an association accepted first.
    """
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as sock:
        if associated:
            sock.sendall(_REQUEST)
            kind, length = struct.unpack(">BxI", exactly(sock, 6))
            assert kind == 2  # accepted
            exactly(sock, length)
        try:
            for part in parts:
                sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
            while got := sock.recv(65536):
                answer += got
        except OSError as exc:
            if exc.errno not in {errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN}:  # the node has hung up
                raise
    return bytes(answer)


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next so many bytes."""
    found = b""
    while len(found) < size:
        got = sock.recv(size - len(found))
        assert got, "the node closed the connection"
        found += got
    return found


def mutated(data: st.DataObject, whole: bytes) -> bytes:
    """A few bytes changed, cut out or put in."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        match data.draw(st.sampled_from(("change", "cut", "insert", "extreme"))):
            case "change" if changed:
                changed[at] = data.draw(st.integers(0, 255))
            case "cut":
                del changed[at : at + data.draw(st.integers(1, 8))]
            case "insert":
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case _:
                changed[at : at + 4] = data.draw(
                    st.sampled_from((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
                )
    return bytes(changed)


def test_noise(target: Target) -> None:
    @_BOUNDED
    @given(st.binary(max_size=300))
    def attack(noise: bytes) -> None:
        throw(target.node.port, noise)

    attack()


def test_pdus_of_every_type_and_length(target: Target) -> None:
    """Before an association and within one."""

    @_BOUNDED
    @given(
        st.booleans(),
        st.lists(
            st.tuples(st.integers(0, 9), st.one_of(st.integers(0, 40), st.sampled_from((2**31, 2**32 - 1)))),
            max_size=4,
        ),
        st.binary(max_size=60),
    )
    def attack(within: bool, heads: list[tuple[int, int]], body: bytes) -> None:
        pdus = [struct.pack(">BBI", kind, 0, length) + body for kind, length in heads]
        throw(target.node.port, *pdus, associated=within)

    attack()


def test_association_requests(target: Target) -> None:
    @_BOUNDED
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        throw(target.node.port, mutated(data, _REQUEST), _RELEASE)

    attack()


def test_command_sets(target: Target) -> None:
    @_BOUNDED
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        command = mutated(data, _COMMAND[12:])  # without the heads of PDU and value
        throw(
            target.node.port,
            p_data_tf(1, command, command=True),
            p_data_tf(1, _DATA_SET, command=False),
            associated=True,
        )

    attack()


def test_presentation_data_values(target: Target) -> None:
    @_BOUNDED
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        throw(
            target.node.port,
            mutated(data, _COMMAND),
            p_data_tf(1, _DATA_SET, command=False),
            associated=True,
        )

    attack()


def test_data_sets(target: Target) -> None:
    """Taken or refused, but always answered."""

    @_BOUNDED
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        damaged = mutated(data, _DATA_SET)
        answer = throw(target.node.port, _COMMAND, p_data_tf(1, damaged, command=False), associated=True)
        assert answer[0] == 4  # a C-STORE response

    attack()


def test_data_before_the_association_is_accepted_is_aborted(target: Target) -> None:
    for _ in range(10):
        answer = throw(target.node.port, _REQUEST + _COMMAND)
        assert answer[:1] in {b"", b"\x02", b"\x07"}


def test_many_half_gigabyte_requests_at_once_take_no_memory(target: Target) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    threads = [
        threading.Thread(
            target=throw, args=(target.node.port, struct.pack(">BBI", 1, 0, 500 << 20) + b"\0" * (1 << 20))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.memory_info().rss - before < _LARGEST_GROWTH_BYTES
