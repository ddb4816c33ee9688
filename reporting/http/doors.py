"""HTTP connections: capped for each address, with a short time for a request's head and a bound to its size.

uvicorn waits for a request's head without end, and takes any number of connections and headers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class DoorLimits:
    """How much there may be of what."""

    connections: int = 1024
    connections_of_address: int = 256
    head_bytes: int = 64 * 1024
    head_s: float = 10.0  # for a request's head to arrive


@dataclass(slots=True, eq=False)
class Doors:
    """The connections of a server."""

    limits: DoorLimits
    _open: dict[Door, str] = field(default_factory=dict)  # in the order they came -> address
    _of_address: Counter[str] = field(default_factory=Counter)

    def enter(self, door: Door, address: str) -> None:
        """Take a connection on; where there are too many, one at rest makes room, or it ends itself."""
        self._open[door] = address
        self._of_address[address] += 1
        if self._of_address[address] > self.limits.connections_of_address:
            self._make_room([each for each, held in self._open.items() if held == address], door)
        elif len(self._open) > self.limits.connections:
            self._make_room(list(self._open), door)

    def leave(self, door: Door) -> None:
        """Forget a connection."""
        address = self._open.pop(door, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _make_room(self, held: list[Door], newest: Door) -> None:
        ended = next((each for each in held if each.is_at_rest and each is not newest), newest)
        _log.warning("http-connection-ended", reason="too many", peer_address=self._open[ended])
        self.leave(ended)
        ended.transport.abort()


class Door(HttpToolsProtocol):
    """One connection; see the module's text."""

    doors: Doors  # set by the class that ``protocol_of`` makes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    @property
    def is_at_rest(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it on."""
        super().connection_made(transport)
        self._arm()
        self.doors.enter(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._disarm()
        self.doors.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take data; the time for a head runs from its first byte."""
        if self._timer is None and self.is_at_rest:
            self._arm()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._disarm()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.doors.limits.head_bytes:
            raise ValueError("the head of the request is too long")  # the parser answers 400

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(self.doors.limits.head_s, self._too_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self.is_at_rest:
            self.transport.abort()


def protocol_of(doors: Doors) -> type[Door]:
    """The protocol class of a server whose connections these doors count."""
    return type("CountedDoor", (Door,), {"doors": doors})
