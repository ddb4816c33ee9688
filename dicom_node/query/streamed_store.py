"""C-STORE of a file, fragment by fragment: memory does not grow with the object.

pynetdicom encodes a whole data set and queues it as a whole; eight callers of eight 36 MB objects made a
process of a gigabyte. Here the queue to the upper layer holds a few fragments, and the file waits.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.encoding.command import Originator, StoreCommand, store_request
from service.errors import CorruptInstanceError, ResultError, StorageError

_PREAMBLE_BYTES = 132  # with its DICM, PS3.10 section 7.1
_GROUP_LENGTH_BYTES = 12  # the element (0002,0000)
_FRAGMENT_BYTES = 1 << 17  # largest sent, whatever the peer takes
_PDV_HEAD_BYTES = 6  # PS3.8 section 9.3.5.1
_AHEAD = 4  # fragments that wait to be sent
_LOOK_S = 0.25  # between two looks whether the association is there still


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """An object to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str  # of the file; nothing is recoded here
    source: BinaryIO  # a Part 10 file, at its start


class _Gate(threading.Event):
    """A reactor's checkpoint that tells when the reactor has come to it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """See Event."""
        self.reached.set()
        return super().wait(timeout)


@contextmanager
def held(association: Association) -> Iterator[None]:
    """Hold the thread of an association of ours, which would take the answers that are for us.

    pynetdicom's own flag says paused for a moment after its thread has gone on.
    """
    gate = _Gate()
    association._reactor_checkpoint = gate
    while association.is_alive() and not gate.reached.wait(_LOOK_S):
        pass
    try:
        yield
    finally:
        gate.set()


def send_file(
    association: Association, outgoing: Outgoing, message_id: int, originator: Originator | None = None
) -> Dataset:
    """Send one object and wait for the answer.

    Args:
        association: Established, and served by this thread, or one that is held, see ``held``.
        outgoing: What is sent.
        message_id: Of the request.
        originator: Who asked by C-MOVE.

    Returns:
        The response's command set; empty when the association ended first.

    Raises:
        ResultError: The object's SOP class and transfer syntax were not accepted.
        StorageError: The file cannot be read; when that was in its middle, the association is aborted.
    """
    context_id = _context_id(association, outgoing)
    _skip_meta_information(outgoing.source)
    request = StoreCommand(
        message_id=message_id,
        sop_class_uid=outgoing.sop_class_uid,
        sop_instance_uid=outgoing.sop_instance_uid,
        has_data_set=True,
    )
    try:
        if not _send(association, context_id, outgoing.source, store_request(request, originator)):
            association.abort()
            return Dataset()
        _, response = association.dimse.get_msg(block=True)
    except OSError as exc:
        association.abort()
        raise StorageError(f"{outgoing.sop_instance_uid}: {exc}") from exc
    if response is None:
        association._handle_no_response()
        return Dataset()
    return association._check_received_status(response)


def _context_id(association: Association, outgoing: Outgoing) -> int:
    for context in association.accepted_contexts:
        if (
            context.as_scu
            and context.abstract_syntax == outgoing.sop_class_uid
            and context.transfer_syntax[0] == outgoing.transfer_syntax_uid
        ):
            return int(context.context_id or 0)
    raise ResultError("no presentation context was accepted that the instance can be sent in")


def _skip_meta_information(source: BinaryIO) -> None:
    """Go to where the data set begins (PS3.10 section 7.1).

    Raises:
        CorruptInstanceError: Not a Part 10 file with its group length.
    """
    head = source.read(_PREAMBLE_BYTES + _GROUP_LENGTH_BYTES)
    if head[_PREAMBLE_BYTES - 4 : -4] != b"DICM" + struct.pack("<HH2sH", 2, 0, b"UL", 4):
        raise CorruptInstanceError("not a DICOM file")
    source.seek(len(head) + struct.unpack("<I", head[-4:])[0])


def _send(association: Association, context_id: int, source: BinaryIO, encoded_request: bytes) -> bool:
    """Queue a whole message, as fast as it is sent; False when the association ended or stalled."""
    peers_limit = association.dimse.maximum_pdu_size or _FRAGMENT_BYTES
    size = min(peers_limit, _FRAGMENT_BYTES) - _PDV_HEAD_BYTES
    starts = range(0, len(encoded_request), size)
    values = [
        bytes((1 | (start + size >= len(encoded_request)) << 1,)) + encoded_request[start : start + size]
        for start in starts
    ]
    dul = association.dul
    with getattr(dul, "whole_message", nullcontext)():  # of an association of the node's
        for value in values:
            dul.send_pdu(_p_data(context_id, value))
        for fragment, is_last in _fragments(source, size):
            if not _has_room(association):
                return False
            dul.send_pdu(_p_data(context_id, bytes((is_last << 1,)) + fragment))
    return True


def _fragments(source: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """The rest of a file, and whether each piece is the last; there is always one."""
    fragment = source.read(size)
    while following := source.read(size):
        yield fragment, False
        fragment = following
    yield fragment, True


def _p_data(context_id: int, value: bytes) -> P_DATA:
    primitive = P_DATA()
    primitive.presentation_data_value_list.append((context_id, value))
    return primitive


def _has_room(association: Association) -> bool:
    """Wait until few fragments wait; False when the association ended, or nothing moved in its time-out."""
    waiting = association.dul.to_provider_queue
    stalled_s = 0.0
    with waiting.not_full:  # told of by whoever takes from the queue
        while len(waiting.queue) >= _AHEAD:
            if not association.is_established or stalled_s > (association.dimse_timeout or stalled_s):
                return False
            stalled_s = 0.0 if waiting.not_full.wait(_LOOK_S) else stalled_s + _LOOK_S
        return association.is_established
