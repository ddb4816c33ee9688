"""The API cannot be filled without a token, nor held up: slow bodies, silent connections, strange hosts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from reporting.fhir.outcome import FhirProblemError
from reporting.http.body import Bodies
from reporting.http.border import BodyLimits, Border
from service.commands.program import PROGRAM
from service.config import Settings
from tests.integration.reporting.http.environment import environment

ATTACKERS, BODY_BYTES = 120, 16 * 1024 * 1024
SENT_BYTES = 1024 * 1024  # of each body that is never finished
HEALTH_S = 3.0


class Running:
    """An API process and where it listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.url = str(json.loads(process.stdout.readline())["url"])
        self.root = self.url.removesuffix("/fhir")
        self.port = urlsplit(self.url).port or 0

    def rss(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 20)


@pytest.fixture
def start(settings: Settings) -> Iterator[object]:
    begun = []

    def begin(**more: str) -> Running:
        process = subprocess.Popen(
            [*PROGRAM, "api"],
            env=environment(settings, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        begun.append(process)
        return Running(process)

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def guarded(start, tmp_path: Path) -> Running:
    """An API that asks for tokens."""
    path = tmp_path / "auth.toml"
    path.write_text("")
    return start(SEMBLANCE_FHIR_AUTH_FILE=str(path))


def unfinished_post(running: Running, path: str = "/fhir/Patient") -> socket.socket:
    sock = running.connect()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n"
        f"Content-Length: {BODY_BYTES}\r\n\r\n"
    )
    sock.sendall(head.encode())
    return sock


def pushed(sock: socket.socket) -> None:
    """Send a good part of a body, as far as it is taken."""
    sock.settimeout(0.5)
    piece = b" " * 65536
    try:
        for _ in range(SENT_BYTES // len(piece)):
            sock.sendall(piece)
    except OSError:
        return


def healthy(running: Running) -> float:
    begun = time.monotonic()
    assert httpx.get(running.root + "/healthz", timeout=20).json() == {"status": "ok"}
    return time.monotonic() - begun


def test_bodies_without_a_token_are_not_read(guarded: Running) -> None:
    healthy(guarded)
    before = guarded.rss()
    socks = [unfinished_post(guarded) for _ in range(ATTACKERS)]
    for sock in socks:
        pushed(sock)
    assert healthy(guarded) < HEALTH_S
    assert guarded.rss() < before * 1.5
    sock = socks[0]
    sock.settimeout(20)
    try:
        answer = sock.recv(65536)
    except ConnectionResetError:  # closed with what it sent unread
        answer = b"HTTP/1.1 401"
    assert answer.startswith(b"HTTP/1.1 401")
    for each in socks:
        each.close()


def test_bodies_of_an_open_api_are_bounded_together(start) -> None:
    running = start()
    healthy(running)
    before = running.rss()
    socks = [unfinished_post(running) for _ in range(ATTACKERS)]
    for sock in socks:
        pushed(sock)
    assert healthy(running) < HEALTH_S
    assert running.rss() < before * 1.5 + 64 * 1024 * 1024
    for each in socks:
        each.close()


def test_only_known_hosts_are_served_without_authorisation(start, guarded: Running) -> None:
    running = start()
    strange = {"Host": "evil.example"}
    refused = httpx.get(running.url + "/metadata", headers=strange)
    assert refused.status_code == 421
    assert refused.json()["resourceType"] == "OperationOutcome"
    for host in ("localhost", "127.0.0.1:8080", "[::1]:80"):
        assert httpx.get(running.url + "/metadata", headers={"Host": host}).status_code == 200
    assert httpx.get(guarded.url + "/metadata", headers=strange).status_code == 200


def recorded(running: Running) -> list[tuple[str, str]]:
    """What the audit trail has of refusals: status and what was asked."""
    found = httpx.get(running.url + "/AuditEvent?outcome=4&_sort=date", timeout=20).json()
    events = [each["resource"] for each in found.get("entry", [])]
    return [(e["outcomeDesc"], base64.b64decode(e["entity"][-1]["query"]).decode()) for e in events]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/fhir/Patient", {"Host": "evil.example"}, 421),
        ("/dicom-web/studies", {"Host": "evil.example"}, 421),
        ("/ledger/1.2", {"Host": "evil.example"}, 421),
        ("/fhir/Patient", {"Origin": "https://evil.example"}, 403),
        ("/dicom-web/studies", {"Origin": "https://evil.example"}, 403),
        ("/dicom-web/studies", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ("/ledger/1.2", {"Origin": "null"}, 403),
        ("/dicom-web/studies?PatientID=%00", {}, 400),
    ],
)
def test_who_is_refused_at_the_border_is_recorded(
    start, path: str, headers: dict[str, str], status: int
) -> None:
    running = start()
    assert httpx.get(running.root + path, headers=headers, timeout=20).status_code == status
    asked = path.partition("?")[0].removeprefix("/fhir").strip("/")
    assert recorded(running) == [(f"HTTP {status}", f"GET {asked}")]


def test_a_page_whose_origin_is_refused_leaves_a_record_of_each_kind_of_request(start) -> None:
    running = start()
    evil = {"Origin": "https://evil.example"}
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert httpx.request(method, running.url + "/Patient/1", headers=evil).status_code == 403
    assert sorted(asked.split()[0] for _, asked in recorded(running)) == ["DELETE", "OPTIONS", "POST", "PUT"]


def test_a_head_that_is_too_long_is_refused(start) -> None:
    running = start()
    with running.connect() as sock:
        sock.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        try:
            for number in range(3000):
                sock.sendall(f"X-{number}: {'a' * 100}\r\n".encode())
            answer = sock.recv(4096)
        except ConnectionError:
            answer = b"HTTP/1.1 400"
    assert answer.startswith(b"HTTP/1.1 400")
    assert healthy(running) < HEALTH_S


def test_more_connections_than_an_address_may_have_make_room(start) -> None:
    running = start()
    socks = [running.connect() for _ in range(400)]
    assert healthy(running) < HEALTH_S
    ended = 0
    for sock in socks[:100]:
        sock.settimeout(0.2)
        try:
            ended += sock.recv(1) == b""
        except ConnectionError:
            ended += 1
        except TimeoutError:
            continue
    assert ended >= 100
    for sock in socks:
        sock.close()


def test_a_silent_connection_is_ended(start) -> None:
    running = start()
    with running.connect() as sock:
        sock.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: loc")
        sock.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""


def served(border: Border, *messages: dict[str, object], pause_s: float = 0.0) -> list[dict[str, object]]:
    """What a border sends for a request whose body comes so."""
    sent: list[dict[str, object]] = []

    async def run() -> None:
        waiting = list(messages)

        async def receive() -> dict[str, object]:
            if not waiting:
                await asyncio.Event().wait()
            await asyncio.sleep(pause_s)
            return waiting.pop(0)

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await border({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)

    asyncio.run(run())
    return sent


def test_a_body_that_stops_ends_as_if_its_sender_had_gone() -> None:
    seen: list[str] = []

    async def app(scope, receive, send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            seen.append("more")
        seen.append(message["type"])
        await send({"type": "http.response.start", "status": 408, "headers": []})

    part = {"type": "http.request", "body": b"x", "more_body": True}
    limits = BodyLimits(pause_s=0.05, start_s=5.0)
    sent = served(Border(app, limits=limits), part, part)
    assert seen == ["more", "more", "http.disconnect"]
    assert (b"connection", b"close") in sent[0]["headers"]  # type: ignore[operator]


def test_a_body_that_trickles_ends_too() -> None:
    ends: list[str] = []

    async def app(scope, receive, send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            continue
        ends.append(message["type"])

    part = {"type": "http.request", "body": b"x", "more_body": True}
    limits = BodyLimits(pause_s=5.0, start_s=0.1)
    served(Border(app, limits=limits), *[part] * 100, pause_s=0.01)
    assert ends == ["http.disconnect"]


def test_what_bodies_hold_is_bounded_by_address_and_given_back() -> None:
    bodies = Bodies(most_bytes=100)
    with bodies.holding("192.0.2.1") as first, bodies.holding("192.0.2.2") as second:
        bodies.add("192.0.2.1", 50)
        first.size_bytes = 50
        with pytest.raises(FhirProblemError) as refused:
            bodies.add("192.0.2.1", 1)
        assert refused.value.status == 503
        bodies.add("192.0.2.2", 50)
        second.size_bytes = 50
        with pytest.raises(FhirProblemError):
            bodies.add("192.0.2.3", 1)
    bodies.add("192.0.2.1", 50)
