"""Who holds a connection, and who a slot: nobody can keep everybody else out without a word of DICOM.

A connection without an association is *pending*: there are few of them for an address, the oldest makes room
for the newest, and each has a short time to become an association. Only associations hold slots. Where those
of an address, or all, are taken, the one that has been idle longest makes room; is none idle, the newest is
rejected as transient, for the sender to try again.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from dicom_node.acceptor.association import NodeAssociation

_log = structlog.get_logger(__name__)

_PENDING_OF_ADDRESS = 64
_PENDING = 256


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, from accept to close."""

    address: str
    socket: socket.socket
    begun_s: float  # of the monotonic clock
    association: NodeAssociation | None = None  # once it holds a slot
    is_closed: bool = field(default=False)

    def cut(self) -> None:
        """End it from outside: who reads or writes finds it closed."""
        self.is_closed = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # gone already


@dataclass(frozen=True, kw_only=True)
class SlotLimits:
    """How many there may be."""

    associations: int  # of this process
    of_address: int  # of these, from one address
    idle_s: float  # without a word, after which an association makes room for a new one


class Slots:
    """The connections of one process."""

    def __init__(self, limits: SlotLimits, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody is connected.

        Args:
            limits: Of associations.
            clock: Seconds.
        """
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: list[Connection] = []  # oldest first
        self._established: list[Connection] = []

    def connect(self, sock: socket.socket, address: str) -> Connection:
        """Take on a connection; the oldest pending one makes room for it where there are too many."""
        connection = Connection(address=address, socket=sock, begun_s=self._clock())
        cut: list[Connection] = []
        with self._lock:
            own = [each for each in self._pending if each.address == address]
            if len(own) >= _PENDING_OF_ADDRESS:
                cut.append(own[0])
            elif len(self._pending) >= _PENDING:
                cut.append(self._pending[0])
            for each in cut:
                self._pending.remove(each)
            self._pending.append(connection)
        for each in cut:
            _log.warning("pending-connection-cut", peer_address=each.address)
            each.cut()
        return connection

    def establish(self, connection: Connection, association: NodeAssociation) -> bool:
        """Give a connection's association a slot.

        Returns:
            False when there is none, and nobody who is idle to make room.
        """
        with self._lock:
            own = [each for each in self._established if each.address == connection.address]
            room: Connection | None = None
            if len(own) >= self._limits.of_address:
                room = self._idlest(own)
            elif len(self._established) >= self._limits.associations:
                room = self._idlest(self._established)
            else:
                self._take(connection, association)
                return True
            if room is None:
                return False
            self._established.remove(room)
            self._take(connection, association)
        _log.warning("idle-association-cut", peer_address=room.address)
        room.cut()
        return True

    def leave(self, connection: Connection) -> None:
        """Give back whatever a connection held; may be called again."""
        with self._lock:
            for held in (self._pending, self._established):
                if connection in held:
                    held.remove(connection)

    def counts(self) -> tuple[int, int]:
        """Connections pending, and associations."""
        with self._lock:
            return len(self._pending), len(self._established)

    def _take(self, connection: Connection, association: NodeAssociation) -> None:
        if connection in self._pending:
            self._pending.remove(connection)
        connection.association = association
        self._established.append(connection)

    def _idlest(self, held: list[Connection]) -> Connection | None:
        """Of these, the one that was silent longest, of the address that holds most; None if none was."""
        silent = [(self._idle_s(each), each) for each in held]
        long = [(idle_s, each) for idle_s, each in silent if idle_s >= self._limits.idle_s]
        if not long:
            return None
        addresses = [each.address for each in self._established]
        return max(long, key=lambda pair: (addresses.count(pair[1].address), pair[0]))[1]

    def _idle_s(self, connection: Connection) -> float:
        since_s = connection.association.silent_since_s() if connection.association is not None else None
        return self._clock() - since_s if since_s is not None else 0.0
