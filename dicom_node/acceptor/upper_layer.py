"""The DICOM upper layer of the node: pynetdicom's state machine with a border of our own.

What is changed against pynetdicom 3.0, and why:

- the announced length of a PDU is judged before a byte of it is read;
- a PDU that has begun must arrive within the idle time-out, and an idle connection is closed;
- C-STORE data sets stream to a sink fragment by fragment and are answered on the spot, in the
  thread that reads: one operation is outstanding on an association (no asynchronous window);
- messages go out whole: an answer to a C-STORE waits for the end of a message that another thread sends;
- timers do not follow the time of day, which may jump;
- both threads of an association wait for work instead of polling a thousand times a second.
"""

from __future__ import annotations

import collections
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.acceptor.monotonic_timer import MonotonicTimer
from dicom_node.encoding import command
from dicom_node.encoding.request import AssociationRequest, put_right
from dicom_node.intake.reception import Reception, ReceptionFactory
from dicom_node.sockets import BorderSocket

_log = structlog.get_logger(__name__)

_A_ASSOCIATE_RQ, _A_ASSOCIATE_AC, _P_DATA_TF, _A_ABORT = 0x01, 0x02, 0x04, 0x07
_LEAST_REQUEST_BYTES = 74  # before the items
_IDLE = "Sta1"
_ESTABLISHED = "Sta6"
_AWAITING_REQUEST = "Sta2"
_AWAITING_CLOSE = "Sta13"
_MAX_ASSOCIATE_BYTES = 128 * 1024  # 128 contexts of 30 transfer syntaxes fit in half of it
# Of a command set, or a data set that is not a C-STORE's: 10,000 references to be committed are 1.6 MB.
_MAX_MESSAGE_BYTES = 4 << 20
# What pynetdicom's and pydicom's decoders raise of a hostile PDU or command set.
_UNDECODABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)
_STOP_WAIT_S = 5.0
_MOST_TEXT = 200


class AnnouncingQueue(queue.Queue[Any]):
    """A queue that tells of what is put into it."""

    def __init__(self, activity: threading.Event) -> None:
        super().__init__()
        self._activity = activity

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """See Queue."""
        super().put(item, block, timeout)
        self._activity.set()


class StreamingDul(DULServiceProvider):
    """The DUL service provider; see the module's text."""

    socket: BorderSocket | None

    def __init__(
        self,
        assoc: Association,
        *,
        receive: ReceptionFactory,
        max_pdu_bytes: int,
        activity: threading.Event,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(assoc)
        self._ended = ended
        self._idle_timer = MonotonicTimer(self._idle_timer.timeout)
        self.artim_timer = MonotonicTimer(self.artim_timer.timeout)
        self._receive = receive
        self._max_pdu_bytes = max_pdu_bytes
        self._buffer = bytearray()
        self._pending: list[tuple[int, bytes]] = []  # PDVs of a message that is not (yet) a C-STORE
        self._pending_bytes = 0
        self._store: tuple[int, command.StoreCommand, Reception] | None = None
        self._message = threading.Lock()  # held while a message of several parts is queued
        self._answers: collections.deque[bytes] = collections.deque()  # that wait for the end of one
        self._own_ids: dict[int, int] = {}  # context ids of the peer's -> ours, where they differ
        self._told = False  # of a request that cannot be read
        self.note_unreadable: Callable[[str], None] = lambda _reason: None
        self.asked: AssociationRequest | None = None  # as it was meant; None before there is a request
        self._broken = False  # the peer sent what is no PDU, or too long a one
        self._quiet = threading.Event()  # no object is under way
        self._quiet.set()
        self._dimse_context: int | None = None  # context of a message with a data set for pynetdicom
        self._heard_s = time.monotonic()  # when something came last
        self._activity = activity
        self.to_user_queue = AnnouncingQueue(activity)
        self.daemon = True

    def wake(self) -> None:
        """End the wait for data."""
        if self.socket is not None:
            self.socket.wake()

    def send_pdu(self, primitive: Any) -> None:
        """Queue a primitive for sending, and have it sent now."""
        super().send_pdu(primitive)
        self.wake()

    @contextmanager
    def whole_message(self) -> Iterator[None]:
        """Queue all parts of a message in the body, with nothing of another message between them.

        A command set and its data set are one message (PS3.7 section 6.3.1), and nothing in them says to
        which message a fragment belongs: the peer would take the one for the other's.
        """
        with self._message:
            yield
        if self._answers:
            self.wake()

    def silent_since_s(self) -> float | None:
        """When the peer was heard last, by the monotonic clock; None while an object is under way."""
        return self._heard_s if self._quiet.is_set() else None

    def kill_dul(self) -> None:
        """Stop the thread."""
        super().kill_dul()
        self.wake()

    def drain(self, timeout_s: float) -> bool:
        """Wait until no object is under way.

        Returns:
            Whether that came about in time.
        """
        return self._quiet.wait(timeout_s)

    def stop_dul(self) -> bool:
        """Stop the thread if the state machine is idle, and wait for its end."""
        if self.state_machine.current_state != _IDLE:
            self.wake()
            return False
        self.kill_dul()
        if self.is_alive() and self is not threading.current_thread():
            self.join(_STOP_WAIT_S)
        return not self.is_alive()

    def run_reactor(self) -> None:
        """Serve the connection until it ends; then drop what was half received."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._turn()
        except InvalidEventError:  # as data that came before our answer, which then finds the peer aborted
            _log.warning("event-out-of-place", state=self.state_machine.current_state, peer=self._peer())
            self.give_up()
        except _UNDECODABLE as exc:  # as a request that decodes and makes no sense
            fault = f"{type(exc).__name__}: {exc}"[:_MOST_TEXT]
            _log.warning("association-failed", peer=self._peer(), error=fault)
            self.give_up()
        except Exception:  # noqa: BLE001 -- an association that fails must not take the node with it
            _log.exception("association-failed", peer=self._peer())
            self.give_up()
        finally:
            self._drop_reception("the association ended")
            self.assoc.dimse.msg_queue.put((None, None))  # who waits for an answer is told that none comes
            sock = self.socket
            if sock is not None:
                sock._shutdown_socket()
                sock.release()
            self._ended()
            self._activity.set()

    def give_up(self) -> None:
        """End the association without a word to the peer."""
        self.assoc.is_aborted = True
        self.assoc.is_established = False
        self.assoc._kill = True
        self._kill_thread = True
        self._end_wait_for_request()
        self.wake()

    def _turn(self) -> None:
        """Do one thing: a timer, something to send, or something to read; then the state machine.

        While events wait nothing new is looked for: a look may take as long as the peer is silent.
        """
        self._send_answers()
        if self.artim_timer.expired:
            if self.state_machine.current_state == _AWAITING_REQUEST:
                self._unreadable("no association request in time")
            self.event_queue.put("Evt18")
        elif self.event_queue.empty() and not self._process_recv_primitive() and self._is_transport_event():
            self._idle_timer.restart()
        try:
            event = self.event_queue.get_nowait()
        except queue.Empty:
            return
        self.state_machine.do_action(event)

    def _is_transport_event(self) -> bool:
        """Look for data; what comes after a broken protocol is not read, the connection is closed."""
        if self._broken and self.socket is not None and self.state_machine.current_state == _AWAITING_CLOSE:
            self.socket.close()
            return True
        return super()._is_transport_event()

    def _read_pdu_data(self) -> None:
        sock = self.socket
        if sock is None:
            return
        self._heard_s = time.monotonic()
        header = bytearray(6)
        try:
            got = sock.receive_into(memoryview(header))
        except OSError as exc:
            self._lost(f"{exc}")
            return
        if got < 6:
            if got:
                self._unreadable("the connection ended within an association request")
            self._lost("closed by the peer")
            return
        pdu_type, length = struct.unpack(">BxI", header)
        if length > self._limit(pdu_type):
            _log.warning("pdu-too-long", pdu_type=pdu_type, length_bytes=length, peer=self._peer())
            self._refuse()
            return
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        body = memoryview(self._buffer)[:length]
        try:
            got = sock.receive_into(body)
        except OSError as exc:
            self._unreadable("the connection ended within an association request")
            self._lost(f"{exc}")
            return
        if got < length:
            self._unreadable("the connection ended within an association request")
            self._lost("closed by the peer within a PDU")
        elif pdu_type == _P_DATA_TF and self.state_machine.current_state == _ESTABLISHED:
            self._p_data(body)
        else:
            self._hand_over(bytes(header) + bytes(body))

    def _limit(self, pdu_type: int) -> int:
        if pdu_type in {_A_ASSOCIATE_RQ, _A_ASSOCIATE_AC}:
            return _MAX_ASSOCIATE_BYTES
        if pdu_type == _P_DATA_TF:
            return self._max_pdu_bytes
        return 4 if pdu_type <= _A_ABORT else 0

    def _hand_over(self, encoded: bytes) -> None:
        """Give a whole PDU to pynetdicom's state machine."""
        if self.state_machine.current_state == _AWAITING_REQUEST:
            if encoded[0] == _A_ASSOCIATE_RQ and len(encoded) >= _LEAST_REQUEST_BYTES:
                encoded = self._put_right(encoded)
            else:
                self._unreadable(f"a PDU of type 0x{encoded[0]:02X} in place of an association request")
        try:
            pdu, event = self._decode_pdu(bytearray(encoded))
        except _UNDECODABLE as exc:
            _log.warning("pdu-undecodable", error=type(exc).__name__, peer=self._peer())
            self._refuse()
            return
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _put_right(self, encoded: bytes) -> bytes:
        """An association request as pynetdicom takes it; what it really said is kept with the association."""
        request = put_right(encoded)
        self.asked = request
        self._own_ids = {wire: own for own, wire in request.wire_ids.items()}
        if self.socket is not None:
            self.socket.wire_ids = request.wire_ids
        if request.remarks:
            _log.info("request-put-right", peer=self._peer(), remarks=request.remarks)
        return request.encoded

    def _unreadable(self, reason: str) -> None:
        """Tell of a peer that never sent an association request that can be read; once."""
        if self.state_machine.current_state == _AWAITING_REQUEST and not self._told:
            self._told = True
            self.note_unreadable(reason)

    def _lost(self, reason: str) -> None:
        self._drop_reception(reason)
        if self.state_machine.current_state == _AWAITING_REQUEST:
            self._end_wait_for_request()
        self.event_queue.put("Evt17")

    def _refuse(self) -> None:
        """Have the association aborted: an invalid PDU (PS3.8 section 9.2, Evt19)."""
        self._broken = True
        self._unreadable("what came is no association request that can be read")
        self._drop_reception("the peer broke the protocol")
        if self.state_machine.current_state == _AWAITING_REQUEST:
            self._end_wait_for_request()
        self.event_queue.put("Evt19")

    def _end_wait_for_request(self) -> None:
        """Have the association's thread end now, not when its timer does: somebody probed the port."""
        nothing: Any = None
        self.to_user_queue.put(nothing)

    def _drop_reception(self, reason: str) -> None:
        store, self._store = self._store, None
        if store is not None:
            store[2].abandon(reason)
            self._quiet.set()

    def _peer(self) -> str:
        return str(self.assoc.requestor.address)

    def _p_data(self, body: memoryview) -> None:
        """Take the presentation data values of one PDU apart (PS3.8 section 9.3.5 and annex E)."""
        position = 0
        while position < len(body):
            if position + 6 > len(body):
                self._refuse()
                return
            length, context_id, header = struct.unpack_from(">IBB", body, position)
            end = position + 4 + length
            if length < 2 or end > len(body):
                self._refuse()
                return
            context_id = self._own_ids.get(context_id, context_id)
            if not self._value(context_id, header, body[position + 6 : end]):
                self._refuse()
                return
            position = end

    def _value(self, context_id: int, header: int, fragment: memoryview) -> bool:
        """Take one presentation data value; False when it is out of place."""
        is_command, is_last = bool(header & 1), bool(header & 2)
        if self._store is not None:
            return self._store_fragment(context_id, fragment, is_command=is_command, is_last=is_last)
        if not is_command and self._dimse_context != context_id:
            return False
        self._pending.append((context_id, bytes((header,)) + bytes(fragment)))
        self._pending_bytes += len(fragment)
        if self._pending_bytes > _MAX_MESSAGE_BYTES:
            _log.warning("message-too-long", peer=self._peer())
            return False
        if not is_last:
            return True
        return self._command_complete(context_id) if is_command else self._message_complete()

    def _store_fragment(
        self, context_id: int, fragment: memoryview, *, is_command: bool, is_last: bool
    ) -> bool:
        if self._store is None or is_command or context_id != self._store[0]:
            return False
        _, request, reception = self._store
        reception.write(fragment)
        if is_last:
            self._store = None
            status, comment = reception.finish()
            self._respond(context_id, request, status, comment)
            self._quiet.set()
        return True

    def _command_complete(self, context_id: int) -> bool:
        encoded = b"".join(value[1:] for _, value in self._pending)
        try:
            values = command.elements(encoded)
            if command.command_field(values) != command.C_STORE_RQ:
                if int.from_bytes(values.get(0x0800, b""), "little") == command.NO_DATA_SET:
                    return self._message_complete()
                self._dimse_context = context_id
                return True
            request = command.store_command(values)
        except command.MalformedCommandError as exc:
            _log.warning("command-malformed", error=str(exc), peer=self._peer())
            return False
        self._clear_pending()
        if not request.has_data_set:
            return False
        context = self.assoc._accepted_cx.get(context_id)
        self._quiet.clear()
        self._store = (context_id, request, self._receive(self.assoc, context, request))
        return True

    def _message_complete(self) -> bool:
        """Give a whole message to pynetdicom's DIMSE provider."""
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._pending)
        self._clear_pending()
        try:
            self.assoc.dimse.receive_primitive(primitive)
        except _UNDECODABLE as exc:
            _log.warning("message-undecodable", error=type(exc).__name__, peer=self._peer())
            return False
        return True

    def _clear_pending(self) -> None:
        self._pending, self._pending_bytes, self._dimse_context = [], 0, None

    def _respond(self, context_id: int, request: command.StoreCommand, status: int, comment: str) -> None:
        encoded = command.store_response(request, status, comment)
        self._answers.append(command.p_data_tf(context_id, encoded, command=True))
        self._send_answers()

    def _send_answers(self) -> None:
        """Send the answers to C-STOREs, unless some part of another message is still to be sent."""
        if not self._answers or not self._message.acquire(blocking=False):
            return
        try:
            while self._answers and self.socket is not None and self.to_provider_queue.empty():
                self.socket.send(self._answers.popleft())
        finally:
            self._message.release()
