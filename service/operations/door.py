"""The door of those who run Semblance: `/healthz`, `/readyz` and `/metrics` of one process, over HTTP.

It stands apart from the doors that patients' data goes through: on a port of its own, which is closed unless
`operations_port` is set, and without a word about any patient.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector

from service.config import Settings
from service.operations.readiness import Check, Heartbeat, Readiness

_log = structlog.get_logger(__name__)

CHILDREN_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # where processes that share a door keep what they count
_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a door tells of its process."""

    process: str
    checks: Sequence[Check]
    heartbeat: Heartbeat | None = None  # of a loop that must go on; None where there is none
    collectors: Sequence[Collector] = ()


@contextmanager
def operations_door(settings: Settings, facts: Facts) -> Iterator[int]:
    """Keep the door open while the body runs.

    Args:
        settings: ``operations_host`` and ``operations_port``; 0 leaves it closed.
        facts: Of the process.

    Yields:
        The port; 0 when the door is closed.

    Raises:
        OSError: The port cannot be bound.
    """
    if not settings.operations_port:
        yield 0
        return
    server = _Server((settings.operations_host, settings.operations_port), facts)
    thread = threading.Thread(target=server.serve_forever, name="operations-door", daemon=True)
    thread.start()
    _log.info("operations-door", host=settings.operations_host, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def counting_together(settings: Settings) -> Iterator[None]:
    """Let children that are started in the body count into one sum, which this process's door shows."""
    if not settings.operations_port or CHILDREN_VARIABLE in os.environ:
        yield
        return
    directory = tempfile.mkdtemp(prefix="semblance-metrics-")
    os.environ[CHILDREN_VARIABLE] = directory
    try:
        yield
    finally:
        del os.environ[CHILDREN_VARIABLE]
        shutil.rmtree(directory, ignore_errors=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], facts: Facts) -> None:
        self.facts = facts
        self.readiness = Readiness(facts.checks)
        self.registry = _registry(facts)
        super().__init__(address, _Request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that goes away is no fault of ours."""
        _log.info("operations-request-failed", exc_info=True)


def _registry(facts: Facts) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    directory = os.environ.get(CHILDREN_VARIABLE)
    if directory and Path(directory).is_dir():
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Everything())
    for collector in facts.collectors:
        registry.register(collector)
    return registry


class _Everything(Collector):
    """What this process counts, and what Python and Linux say of it."""

    def collect(self) -> Iterator[object]:  # type: ignore[override]
        """Every metric of the process."""
        return iter(REGISTRY.collect())


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S
    server_version = "Semblance"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        match self.path.partition("?")[0]:
            case "/healthz":
                self._health()
            case "/readyz":
                self._readiness()
            case "/metrics":
                encode, media_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, encode(self.server.registry), media_type)
            case _:
                self._say(HTTPStatus.NOT_FOUND, {"error": "there are /healthz, /readyz and /metrics"})

    def _health(self) -> None:
        """Alive: the process answers, and the loop that is its work goes round."""
        heartbeat = self.server.facts.heartbeat
        if heartbeat is not None and heartbeat.is_late():
            silent_s = round(heartbeat.silent_s())
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "stuck", "silent_s": silent_s})
        else:
            self._say(HTTPStatus.OK, {"status": "ok"})

    def _readiness(self) -> None:
        failed = self.server.readiness.failures()
        ready = {
            "process": self.server.facts.process,
            "status": "not ready" if failed else "ready",
            "failed": failed,
        }
        self._say(HTTPStatus.SERVICE_UNAVAILABLE if failed else HTTPStatus.OK, ready)

    def _say(self, status: HTTPStatus, said: Mapping[str, object]) -> None:
        self._answer(status, json.dumps(said).encode() + b"\n", "application/json")

    def _answer(self, status: HTTPStatus, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """Keep probes out of the log."""
