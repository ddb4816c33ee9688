"""What stands before every application: slow bodies end, refused ones are not read, hosts are known ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reporting.http.refusals import Record, record_nothing
from service.config import Settings
from service.meters import count_request

_log = structlog.get_logger(__name__)

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_FORM = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"%s","diagnostics":"%s"}]}'


@dataclass(frozen=True, kw_only=True)
class BodyLimits:
    """How slowly a body may come."""

    pause_s: float = 10.0  # without a byte
    start_s: float = 20.0  # for all of it, and
    bytes_per_s: float = 8192.0  # the least rate beyond


class Border:
    """An ASGI application before another; see the module's text.

    Args:
        app: Behind it.
        hosts: Names a request may be for; None: any.
        limits: Of bodies.
        record: Records what is refused here.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str] | None = None,
        limits: BodyLimits | None = None,
        record: Record = record_nothing,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._limits = limits or BodyLimits()
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _TimedBody(receive, self._limits)

        begun_s = time.monotonic()

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                count_request(scope["path"], scope["method"], message["status"], time.monotonic() - begun_s)
                if not body.is_whole:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        if self._hosts is not None and _host(scope) not in self._hosts:
            await self._record(scope, 421)
            await _refuse(send_and_close, 421, b"not-supported", b"this host name is not served here")
            return
        await self._app(scope, body.receive, send_and_close)


class _TimedBody:
    """The body of one request; one that comes too slowly ends as if its sender had gone."""

    def __init__(self, receive: Receive, limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._begun_s = time.monotonic()
        self._size = 0
        self.is_whole = False

    async def receive(self) -> Message:
        if self.is_whole:
            return await self._receive()  # waits for the client to go
        limits, now_s = self._limits, time.monotonic()
        left_s = self._begun_s + limits.start_s + self._size / limits.bytes_per_s - now_s
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(limits.pause_s, left_s)))
        except TimeoutError:
            _log.warning("http-body-too-slow", size_bytes=self._size)
            return {"type": "http.disconnect"}
        self._size += len(message.get("body", b""))
        self.is_whole = message["type"] == "http.request" and not message.get("more_body", False)
        return message


def served_hosts(settings: Settings) -> frozenset[str] | None:
    """Host names an API without authorisation is reached by; None where tokens are asked for.

    A page of a stranger that a browser of this machine shows could else read it, under the stranger's
    own name (DNS rebinding).
    """
    if settings.fhir_auth_file is not None:
        return None
    own = {settings.api_host, urlsplit(settings.api_base_url).hostname or ""}
    return _LOOPBACK_HOSTS | (own - {""})


def _host(scope: Scope) -> str:
    """Host of a request, without its port; "" when there is none."""
    for name, value in _headers(scope):
        if name == b"host":
            try:
                return urlsplit("//" + value.decode("latin-1")).hostname or ""
            except ValueError:
                return ""
    return ""


def _headers(scope: Scope) -> Iterable[tuple[bytes, bytes]]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return headers


async def _refuse(send: Any, status: int, code: bytes, text: bytes) -> None:
    body = _FORM % (code, text)
    headers = [
        (b"content-type", b"application/fhir+json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
