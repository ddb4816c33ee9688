"""Sockets at the border of the node: bounded in size and time, prompt in both directions."""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING

from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.encoding.request import with_wire_ids

if TYPE_CHECKING:
    from pynetdicom.association import Association

_RECEIVE_STEP = 1 << 18
_AHEAD_BYTES = 1 << 16
_LEAST_WAIT_S = 0.001
_GONE_PAUSE_S = 0.001  # between two looks of a state machine whose transport is gone
_WAIT_MS = 250  # longest wait for data before the state machine looks at its timers


class PromptSocket(AssociationSocket):
    """A pynetdicom transport that sends small segments at once, and is always closed when it ends."""

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
    ) -> None:
        """See AssociationSocket."""
        super().__init__(assoc, client_socket, address)
        if self.socket is not None:
            make_prompt(self.socket)

    def _shutdown_socket(self) -> None:
        """Shut down and close; pynetdicom leaves a socket open whose peer is gone already."""
        sock = self.socket
        super()._shutdown_socket()
        if sock is not None:
            sock.close()


class BorderSocket(PromptSocket):
    """The acceptor's transport: waits instead of polling, never longer than it may, and reads ahead.

    It acknowledges at once what it receives: a sender with Nagle's algorithm waits for the
    acknowledgement of each small segment.
    """

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket | None = None,
        address: AddressInformation | None = None,
        *,
        idle_timeout_s: float,
    ) -> None:
        """See AssociationSocket.

        Args:
            assoc: The association served.
            client_socket: A connected socket, as the acceptor.
            address: Where to connect from, as the requestor.
            idle_timeout_s: Longest time a PDU may take to arrive once it has begun, and a send may stall.
        """
        super().__init__(assoc, client_socket, address)
        self._idle_timeout_s = idle_timeout_s
        self.deadline: float | None = None  # of the monotonic clock, for everything that is read
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()  # a number given back may be another connection's by then
        self._ahead = memoryview(bytearray(_AHEAD_BYTES))  # read, and not asked for yet:
        self._ahead_start = self._ahead_end = 0
        self.wire_ids: dict[int, int] = {}  # context ids of ours -> the peer's, where they differ
        sock = self.socket
        if sock is None:
            return
        sock.settimeout(idle_timeout_s)
        if not isinstance(sock, ssl.SSLSocket):  # Python would poll before each recv that has a time-out
            sock.settimeout(None)
            seconds, fraction = divmod(idle_timeout_s, 1)
            stall = struct.pack("@ll", int(seconds), int(fraction * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, stall)

    def wake(self) -> None:
        """End the wait of the thread that reads, from any thread."""
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def release(self) -> None:
        """Give the descriptors back; nobody reads any more."""
        with self._wake_lock:
            descriptor, self._wake = self._wake, -1
            if descriptor >= 0:
                os.close(descriptor)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits a little for it unless woken.

        Emits Evt17 when the transport is gone.
        """
        sock = self.socket
        if sock is None or not self._is_connected:
            time.sleep(_GONE_PAUSE_S)
            return False
        if self._ahead_start < self._ahead_end or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        poller = select.poll()
        try:
            poller.register(sock.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
            poller.register(self._wake, select.POLLIN)
            events = dict(poller.poll(_WAIT_MS))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        if self._wake in events:
            os.eventfd_read(self._wake)
        return sock.fileno() in events

    def receive_into(self, view: memoryview) -> int:
        """Fill a buffer, within the idle time-out for all of it.

        Returns:
            Bytes read; fewer than asked for when the peer closed.

        Raises:
            OSError: The transport failed, or the time-out passed (TimeoutError).
        """
        sock = self.socket
        if sock is None:
            return 0
        deadline = time.monotonic() + self._idle_timeout_s
        if self.deadline is not None:
            deadline = min(deadline, self.deadline)
        filled, wanted = self._take_ahead(view), len(view)
        while filled < wanted:
            if wanted - filled < len(self._ahead):
                self._ahead_start, self._ahead_end = 0, self._receive(sock, self._ahead, deadline)
                if not self._ahead_end:
                    break
                filled += self._take_ahead(view[filled:])
            else:
                got = self._receive(sock, view[filled : filled + _RECEIVE_STEP], deadline)
                if not got:
                    break
                filled += got
        return filled

    def _take_ahead(self, view: memoryview) -> int:
        """Move what was read ahead to where it is asked for."""
        size = min(len(view), self._ahead_end - self._ahead_start)
        view[:size] = self._ahead[self._ahead_start : self._ahead_start + size]
        self._ahead_start += size
        return size

    def _receive(self, sock: socket.socket, view: memoryview, deadline: float) -> int:
        """Read what there is, waiting for some of it; 0 when the peer closed."""
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(max(_LEAST_WAIT_S, deadline - time.monotonic()))
            try:
                return sock.recv_into(view)
            finally:
                sock.settimeout(self._idle_timeout_s)
        while True:
            try:
                got = sock.recv_into(view, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                _await_data(sock, deadline)
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            return got

    def send(self, bytestream: bytes) -> None:
        """Send a PDU, with the context ids the peer uses."""
        super().send(with_wire_ids(bytestream, self.wire_ids) if self.wire_ids else bytestream)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes; fewer when the peer closed."""
        buffer = bytearray(nr_bytes)
        filled = self.receive_into(memoryview(buffer))
        del buffer[filled:]
        return buffer


def _await_data(sock: socket.socket, deadline: float) -> None:
    """Wait until there is something to read.

    Raises:
        TimeoutError: The deadline passed first.
    """
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1e3):
        raise TimeoutError("the peer sends too slowly")


def make_prompt(sock: socket.socket) -> None:
    """Send small segments at once, and notice a peer that is gone."""
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
