"""Bodies of FHIR requests, which are kept in memory: by whom who may send one, and never too many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from reporting.fhir.http import MOST_BODY_BYTES
from reporting.fhir.outcome import FhirProblemError, IssueType

MOST_HELD_BYTES = 64 * 1024 * 1024  # of all bodies together that are under way
MOST_OPEN_BYTES = 64 * 1024  # of one that needs no token
_MOST_SHARE = 0.5  # of it, for one address


class Bodies:
    """Counts what is held of the bodies under way; for the event loop of one server."""

    def __init__(self, most_bytes: int = MOST_HELD_BYTES) -> None:
        """Nothing is held.

        Args:
            most_bytes: Of all bodies together.
        """
        self._most_bytes = most_bytes
        self._held: dict[str, int] = {}  # address -> bytes

    @contextmanager
    def holding(self, address: str) -> Iterator[Body]:
        """A body of a request from an address; what it held is given back at the end."""
        body = Body(self, address)
        try:
            yield body
        finally:
            self._add(address, -body.size_bytes)

    def add(self, address: str, size_bytes: int) -> None:
        """Hold more.

        Raises:
            FhirProblemError: 503: too much is held.
        """
        own = self._held.get(address, 0) + size_bytes
        if own > self._most_bytes * _MOST_SHARE or sum(self._held.values()) + size_bytes > self._most_bytes:
            raise FhirProblemError(
                503,
                IssueType.THROTTLED,
                "too many bodies are on their way; send it again later",
                "http.body",
                headers=(("Retry-After", "10"),),
            )
        self._add(address, size_bytes)

    def _add(self, address: str, size_bytes: int) -> None:
        held = self._held.get(address, 0) + size_bytes
        if held:
            self._held[address] = held
        else:
            self._held.pop(address, None)


class Body:
    """One body on its way."""

    def __init__(self, bodies: Bodies, address: str) -> None:
        """See ``Bodies.holding``."""
        self._bodies = bodies
        self._address = address
        self.size_bytes = 0

    async def read(
        self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], most_bytes: int = MOST_BODY_BYTES
    ) -> bytes:
        """Read it to its end.

        Raises:
            FhirProblemError: 413: too long; 408: it did not come to its end; 503: too much is held.
        """
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise FhirProblemError(
                    408, IssueType.TIMEOUT, "the body did not come, or too slowly", "http.body"
                )
            part = message.get("body", b"")
            if self.size_bytes + len(part) > most_bytes:
                raise FhirProblemError(413, IssueType.TOO_LONG, f"at most {most_bytes} bytes", "http.body")
            if part:
                self._bodies.add(self._address, len(part))
                self.size_bytes += len(part)
                parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
