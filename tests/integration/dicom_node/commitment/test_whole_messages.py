"""A peer that goes on asking while the node reports: every message of the node's arrives whole, and once.

By hand, since pynetdicom's client waits for each answer. A peer may ask for the next thing before it has
answered a report: each side has its own operation outstanding (PS3.7 annex D.3.3.3).
"""

from __future__ import annotations

import io
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import decode, encode

from dicom_node.acceptor.scp import Node
from dicom_node.acceptor.upper_layer import StreamingDul
from dicom_node.commitment.provider import WELL_KNOWN_INSTANCE
from dicom_node.encoding.command import p_data_tf
from dicom_node.readers import STORAGE_COMMITMENT_PUSH_MODEL, VERIFICATION
from service.database.pool import Pool, transaction
from service.stack.waiting import wait_until
from tests.dicom_objects import photograph, store_pdus

_COMMITMENT, _ECHO, _PHOTOGRAPH = 1, 3, 5
_N_EVENT_REPORT_RQ, _N_EVENT_REPORT_RSP, _N_ACTION_RQ, _N_ACTION_RSP = 0x0100, 0x8100, 0x0130, 0x8130
_C_ECHO_RQ, _C_ECHO_RSP, _C_STORE_RSP = 0x0030, 0x8030, 0x8001
_NO_DATA_SET = 0x0101


@dataclass
class Peer:
    """A requestor by hand."""

    sock: socket.socket
    came: Counter[int] = field(default_factory=Counter)  # messages, by command field
    reported: list[str] = field(default_factory=list)  # transactions
    parts: bytes = b""

    def command(self, context_id: int, *, data_set: bytes | None = None, **elements: Any) -> None:
        ds = Dataset()
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        ds.CommandDataSetType = _NO_DATA_SET if data_set is None else 1
        encoded = encode(ds, True, True) or b""
        length = struct.pack("<HHII", 0, 0, 4, len(encoded))
        pdus = p_data_tf(context_id, length + encoded, command=True)
        if data_set is not None:
            pdus += p_data_tf(context_id, data_set, command=False)
        self.sock.sendall(pdus)

    def ask_for_commitment(self, message_id: int) -> None:
        action, item = Dataset(), Dataset()
        action.TransactionUID = generate_uid()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.3"
        action.ReferencedSOPSequence = Sequence([item])
        self.command(
            _COMMITMENT,
            data_set=encode(action, True, True),
            RequestedSOPClassUID=STORAGE_COMMITMENT_PUSH_MODEL,
            CommandField=_N_ACTION_RQ,
            MessageID=message_id,
            RequestedSOPInstanceUID=WELL_KNOWN_INSTANCE,
            ActionTypeID=1,
        )

    def messages(self, seconds: float) -> Iterator[tuple[int, Dataset, bytes]]:
        """Context, command and data set of each message; fails where one is not whole."""
        until = time.monotonic() + seconds
        command: Dataset | None = None
        encoded = data_set = b""
        while time.monotonic() < until:
            for context_id, header, fragment in self._values(until):
                if header & 1:
                    assert command is None, "a command set within another message"
                    encoded += fragment
                    if header & 2:
                        command, encoded = decode(io.BytesIO(encoded), True, True), b""
                else:
                    assert command is not None, "a data set without its command set"
                    data_set += fragment
                is_whole = command is not None and (
                    command.CommandDataSetType == _NO_DATA_SET or (not header & 1 and header & 2)
                )
                if is_whole and command is not None:
                    yield context_id, command, data_set
                    command, data_set = None, b""

    def _values(self, until: float) -> Iterator[tuple[int, int, bytes]]:
        """The presentation data values of the next PDU."""
        self.sock.settimeout(max(0.01, until - time.monotonic()))
        try:
            while len(self.parts) < 6 or len(self.parts) < 6 + struct.unpack_from(">I", self.parts, 2)[0]:
                more = self.sock.recv(65536)
                assert more, "the node closed the connection"
                self.parts += more
        except TimeoutError:
            return
        size = 6 + struct.unpack_from(">I", self.parts, 2)[0]
        pdu, self.parts = self.parts[:size], self.parts[size:]
        assert pdu[0] == 4, f"a PDU of type {pdu[0]}"
        at = 6
        while at < size:
            length, context_id, header = struct.unpack_from(">IBB", pdu, at)
            yield context_id, header, pdu[at + 6 : at + 4 + length]
            at += 4 + length


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _request() -> bytes:
    contexts = b"".join(
        _item(
            0x20,
            bytes((number, 0, 0, 0)) + _item(0x30, abstract.encode()) + _item(0x40, transfer.encode()),
        )
        for number, abstract, transfer in (
            (_COMMITMENT, STORAGE_COMMITMENT_PUSH_MODEL, ImplicitVRLittleEndian),
            (_ECHO, VERIFICATION, ImplicitVRLittleEndian),
            (_PHOTOGRAPH, "1.2.840.10008.5.1.4.1.1.77.1.4", ExplicitVRLittleEndian),
        )
    )
    user = _item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.826.0.1"))
    body = struct.pack(">HH16s16s32x", 1, 0, b"SEMBLANCE".ljust(16), b"CAMERA".ljust(16))
    body += _item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


@pytest.fixture
def peer(node: Node) -> Iterator[Peer]:
    with socket.create_connection(("127.0.0.1", node.port), 30) as sock:
        sock.sendall(_request())
        head = sock.recv(6, socket.MSG_WAITALL)
        sock.recv(struct.unpack(">BxI", head)[1], socket.MSG_WAITALL)
        assert head[0] == 2
        yield Peer(sock)


@pytest.fixture
def slow_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the parts of a message is time for all that other threads have to send."""
    send = StreamingDul.send_pdu

    def send_and_wait(self: StreamingDul, primitive: Any) -> None:
        send(self, primitive)
        time.sleep(0.03)

    monkeypatch.setattr(StreamingDul, "send_pdu", send_and_wait)


@pytest.mark.usefixtures("slow_parts")
@pytest.mark.parametrize("answers_at_once", [True, False], ids=["answers at once", "asks on first"])
def test_reports_and_answers_come_whole_and_once(peer: Peer, pool: Pool, *, answers_at_once: bool) -> None:
    asked = 4
    photographs = [photograph(transfer_syntax=ExplicitVRLittleEndian, size=(4, 4)) for _ in range(asked)]
    for number, ds in enumerate(photographs):
        peer.ask_for_commitment(100 + number)
        encoded = encode(ds, False, True)
        assert encoded is not None
        for each in store_pdus(ds, encoded):
            peer.sock.sendall(each[:10] + bytes((_PHOTOGRAPH,)) + each[11:])
        peer.command(
            _ECHO,
            AffectedSOPClassUID=VERIFICATION,
            CommandField=_C_ECHO_RQ,
            MessageID=200 + number,
        )
    waiting: list[Dataset] = []
    wanted = {_N_ACTION_RSP: asked, _C_STORE_RSP: asked, _C_ECHO_RSP: asked, _N_EVENT_REPORT_RQ: asked}
    for _, command, data_set in peer.messages(60):
        peer.came[command.CommandField] += 1
        if command.CommandField == _N_EVENT_REPORT_RQ:
            report = decode(io.BytesIO(data_set), True, True)
            peer.reported.append(report.TransactionUID)
            waiting.append(command)
        elif command.CommandField != _C_STORE_RSP:
            assert command.Status == 0x0000
        answered_all_else = peer.came[_C_STORE_RSP] == asked
        if waiting and (answers_at_once or answered_all_else):
            for report_command in waiting:
                peer.command(
                    _COMMITMENT,
                    AffectedSOPClassUID=STORAGE_COMMITMENT_PUSH_MODEL,
                    CommandField=_N_EVENT_REPORT_RSP,
                    MessageIDBeingRespondedTo=report_command.MessageID,
                    Status=0x0000,
                    AffectedSOPInstanceUID=WELL_KNOWN_INSTANCE,
                    EventTypeID=report_command.EventTypeID,
                )
            waiting.clear()
        if dict(peer.came) == wanted:
            break
    assert dict(peer.came) == wanted
    assert len(set(peer.reported)) == asked

    def reported() -> bool:
        with transaction(pool) as connection:
            row = connection.execute(
                "SELECT count(*) AS n, sum(attempts) AS attempts FROM commitment_request"
                " WHERE reported_at IS NOT NULL"
            ).fetchone()
        return row is not None and (row["n"], row["attempts"]) == (asked, asked)

    wait_until(reported, timeout_s=30, what="each report to be answered, at the first attempt")
