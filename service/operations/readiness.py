"""Whether a process can do its work now: what it needs is asked, each within a few seconds."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

from service.config import Settings
from service.database.standing import require_answer
from service.errors import SemblanceError

TIMEOUT_S = 3  # of each check
_KEPT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that a process needs."""

    name: str
    ask: Callable[[], None]  # raises a SemblanceError or an OSError that says what is missing


class Heartbeat:
    """When a loop went round last."""

    def __init__(self, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Beats once, now.

        Args:
            longest_s: Silence after which the loop counts as stuck.
            clock: Seconds that only grow.
        """
        self._longest_s = longest_s
        self._clock = clock
        self._last_s = clock()

    def beat(self) -> None:
        """Say that the loop goes on."""
        self._last_s = self._clock()

    def silent_s(self) -> float:
        """Seconds since the last beat."""
        return self._clock() - self._last_s

    def is_late(self) -> bool:
        """Whether it has been silent for too long."""
        return self.silent_s() > self._longest_s


class Readiness:
    """What a process needs, asked at most once a second, however many ask it."""

    def __init__(self, checks: Sequence[Check], clock: Callable[[], float] = time.monotonic) -> None:
        """Ask nothing yet.

        Args:
            checks: In the order in which they are asked.
            clock: Seconds that only grow.
        """
        self._checks = tuple(checks)
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_s = -math.inf
        self._failed: dict[str, str] = {}

    def failures(self) -> dict[str, str]:
        """What fails now, by name, and why; empty when the process is ready."""
        with self._lock:
            if self._clock() - self._asked_s >= _KEPT_S:
                self._failed = dict(_failures(self._checks))
                self._asked_s = self._clock()
            return dict(self._failed)


def _failures(checks: Sequence[Check]) -> Iterator[tuple[str, str]]:
    for check in checks:
        try:
            check.ask()
        except (SemblanceError, OSError) as exc:
            yield check.name, f"{type(exc).__name__}: {exc}"


def database_check(settings: Settings) -> Check:
    """PostgreSQL answers, by a connection of its own: the pool's may all be at work."""
    return Check(name="database", ask=lambda: require_answer(settings.database_url, TIMEOUT_S))


def store_check(settings: Settings) -> Check:
    """The store's directory can be written to."""

    def ask() -> None:
        probe = settings.storage_dir / f".ready-{uuid4().hex}"
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        os.close(descriptor)
        probe.unlink()

    return Check(name="store", ask=ask)


def port_check(name: str, host: str, port: int) -> Check:
    """A port of this process takes connections."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- compared, not bound

    def ask() -> None:
        socket.create_connection((address, port), timeout=TIMEOUT_S).close()

    return Check(name=name, ask=ask)
