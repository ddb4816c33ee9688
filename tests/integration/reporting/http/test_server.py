"""The process: announces itself, serves over a socket, ends when told."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from service.commands.program import PROGRAM
from service.config import Settings
from tests.integration.reporting.http.environment import environment


@pytest.fixture
def process(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    command = [*PROGRAM, "api"]
    with subprocess.Popen(
        command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


def test_serves_until_told_to_stop(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["event"] == "listening"
    with httpx.Client(base_url=said["url"]) as http:
        assert http.get(said["url"].removesuffix("/fhir") + "/healthz").json() == {"status": "ok"}
        metadata = http.get("/metadata", headers={"Accept-Encoding": "gzip"})
        assert metadata.headers["content-encoding"] == "gzip"
        assert metadata.json()["implementation"]["url"] == said["url"]
        plain = http.get("/metadata", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.json() == metadata.json()
        head = http.head("/metadata")
        assert (head.status_code, head.content) == (200, b"")
        big = http.post("/Patient", content=b"x" * (16 * 1024 * 1024 + 1))
        assert big.status_code == 413
        assert http.get("/Observation").json()["total"] == 0
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, -signal.SIGTERM)
    assert "fhir.loopback_only" in errors


def test_refuses_to_be_open_to_the_network_without_authorisation(settings: Settings) -> None:
    done = subprocess.run(
        [*PROGRAM, "api"],
        env=environment(settings, SEMBLANCE_API_HOST="0.0.0.0"),  # noqa: S104
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "loopback only" in done.stderr
