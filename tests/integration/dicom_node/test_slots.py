"""The node cannot be locked out without a word of DICOM; an honest sender is served meanwhile."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from dicom_node.acceptor.scp import Node
from dicom_node.acceptor.slots import SlotLimits, Slots
from service.config import Settings
from service.database.pool import Pool
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore

HONEST, HOSTILE = "127.0.0.2", "127.0.0.3"
WAIT_S = 20.0
TRICKLE_S = 15.0  # far less than the idle time-out, on a busy machine


@pytest.fixture
def start(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Callable[..., Node]]:
    running = []

    def begin(**changes: object) -> Node:
        running.append(Node(settings.model_copy(update=changes), pool, store))
        return running[-1]

    yield begin
    for node in running:
        node.stop()


def connect(node: Node, address: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), WAIT_S, source_address=(address, 0))


def associate(node: Node, address: str) -> Association:
    ae = AE(ae_title="CAMERA")
    ae.add_requested_context(Verification, ExplicitVRLittleEndian)
    ae.acse_timeout = ae.network_timeout = WAIT_S
    return ae.associate("127.0.0.1", node.port, bind_address=(address, 0))


def honest_echo(node: Node, address: str = HONEST) -> None:
    association = associate(node, address)
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.release()


def request(context_id: int) -> bytes:
    """An A-ASSOCIATE-RQ for Verification on a presentation context of that number (PS3.8 section 9.3.2)."""
    abstract = item(0x30, b"1.2.840.10008.1.1")
    transfer = item(0x40, ExplicitVRLittleEndian.encode())
    user = item(0x51, struct.pack(">I", 16382)) + item(0x52, b"1.2.3")
    items = (
        item(0x10, b"1.2.840.10008.3.1.1.1")
        + item(0x20, bytes((context_id, 0, 0, 0)) + abstract + transfer)
        + item(0x50, user)
    )
    body = struct.pack(">HH16s16s32x", 1, 0, b"SEMBLANCE".ljust(16), b"HOSTILE".ljust(16)) + items
    return struct.pack(">BBI", 1, 0, len(body)) + body


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def closed(sock: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        while sock.recv(4096):
            pass
    return True


def cut(message: bytes) -> bytes:
    """A request whose last item says more than it holds: nothing can put it right."""
    body = message[6:-3]
    return struct.pack(">BBI", 1, 0, len(body)) + body


def test_even_context_ids_are_put_right_and_leave_room_for_others(start: Callable[..., Node]) -> None:
    node = start()
    socks = [connect(node, HOSTILE) for _ in range(36)]
    for sock in socks:
        sock.sendall(request(2))
    honest_echo(node)
    for sock in socks:
        sock.close()


def test_requests_that_cannot_be_read_hold_no_slot(start: Callable[..., Node]) -> None:
    node = start()
    socks = [connect(node, HOSTILE) for _ in range(36)]
    for sock in socks:
        sock.sendall(cut(request(1)))
    honest_echo(node)
    honest_echo(node, HOSTILE)
    wait_until(lambda: node.slots.counts() == (0, 0), timeout_s=WAIT_S, what="every slot to be given back")
    for sock in socks:
        assert closed(sock)
        sock.close()


def test_silent_connections_hold_no_slot_and_are_closed_soon(start: Callable[..., Node]) -> None:
    node = start(dicom_handshake_timeout_s=2.0)
    socks = [connect(node, HOSTILE) for _ in range(100)]
    honest_echo(node)
    honest_echo(node, HOSTILE)
    assert all(closed(sock) for sock in socks)
    wait_until(lambda: node.slots.counts() == (0, 0), timeout_s=WAIT_S, what="every connection to be ended")
    for sock in socks:
        sock.close()


def test_a_request_that_trickles_in_has_the_same_time(start: Callable[..., Node]) -> None:
    node = start(dicom_handshake_timeout_s=1.0)
    begun = time.monotonic()
    with connect(node, HOSTILE) as sock:
        sock.settimeout(0.2)
        ended = False
        for byte in request(1)[:60]:
            try:
                sock.sendall(bytes((byte,)))
                ended = not sock.recv(1)
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
            if ended:
                break
    assert ended
    assert time.monotonic() - begun < TRICKLE_S


def test_one_address_cannot_take_every_slot(start: Callable[..., Node]) -> None:
    node = start(dicom_max_associations=8)
    held = [associate(node, HOSTILE) for _ in range(12)]
    assert sum(each.is_established for each in held) == 6
    honest_echo(node)
    for each in held:
        if each.is_established:
            each.release()


def test_idle_associations_make_room_also_for_their_own_address(start: Callable[..., Node]) -> None:
    node = start(dicom_max_associations=4)
    held = [associate(node, HOSTILE) for _ in range(4)]
    refused = associate(node, HOSTILE)
    assert refused.is_rejected
    tried = []

    def succeeds() -> bool:
        tried.append(associate(node, HOSTILE))
        return tried[-1].is_established

    wait_until(succeeds, timeout_s=WAIT_S, what="an idle association to make room")
    wait_until(lambda: not all(each.is_established for each in held), timeout_s=WAIT_S, what="its end")
    for each in (*held, tried[-1]):
        each.abort()


def test_who_is_served_is_not_cut() -> None:
    clock = SimpleNamespace(now=100.0)
    slots = Slots(SlotLimits(associations=2, of_address=2, idle_s=5.0), lambda: clock.now)
    pairs = [socket.socketpair() for _ in range(3)]
    busy, idle, new = (slots.connect(ours, "192.0.2.1") for ours, _ in pairs)

    def association(since_s: float | None) -> SimpleNamespace:
        return SimpleNamespace(silent_since_s=lambda: since_s)

    assert slots.establish(busy, association(None))
    assert slots.establish(idle, association(90.0))
    assert slots.establish(new, association(100.0))
    assert (busy.is_closed, idle.is_closed) == (False, True)
    late = slots.connect(pairs[1][0], "192.0.2.1")
    assert not slots.establish(late, association(100.0))
    for pair in pairs:
        for sock in pair:
            sock.close()
