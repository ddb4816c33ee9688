"""Child processes: started, known to be ready by what they say, restarted when they die, stopped cleanly."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import structlog

from service.errors import StackError
from service.storage.file_systems import open_private, private_directory

_log = structlog.get_logger(__name__)

_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_READY_EVENTS = {"ready", "listening"}
_LOG_TAIL_LINES = 15
_MAX_DEATHS = 5  # within _DEATHS_WITHIN_S, then the child is given up
_DEATHS_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """One process to be run."""

    name: str  # unique; names its log file
    command: tuple[str, ...]  # program and arguments
    pass_fds: tuple[int, ...] = ()  # descriptors it inherits
    environment: Mapping[str, str] = field(default_factory=dict)  # beside that of all


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[str]
    ready: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    facts: dict[str, str | int] = field(default_factory=dict)


class Supervisor:
    """Runs children in one environment; those that die are started again, with growing pauses."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        log_dir: Path | None = None,
        umask: int = -1,
        stopping: threading.Event | None = None,
    ) -> None:
        """Nothing runs before ``start``.

        Args:
            environment: The whole environment of the children.
            log_dir: Gets ``<name>.log`` for each child; None: they log where this process does.
            umask: Of the children; -1: as of this process.
            stopping: Ends ``watch`` when it is set; None: one of its own.
        """
        self._log_dir = log_dir
        self._environment = dict(environment)
        self._umask = umask
        self._children: dict[str, _Child] = {}
        self._deaths: queue.Queue[_Child] = queue.Queue()
        self._death_times: dict[str, list[float]] = {}
        self._stopping = stopping or threading.Event()
        if log_dir is not None:
            private_directory(log_dir)

    def set_environment(self, name: str, value: str) -> None:
        """Change the environment of the children started from now on."""
        self._environment[name] = value

    def pin(self, name: str, command: tuple[str, ...]) -> None:
        """Change what a child is started with again, e.g. to name the port it found."""
        child = self._children[name]
        child.spec = replace(child.spec, command=command)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the children by name."""
        return {name: child.process.pid for name, child in self._children.items()}

    def start(self, spec: ChildSpec) -> None:
        """Start a child; see ``wait_ready``."""
        child = self._spawn(spec)
        self._children[spec.name] = child

    def wait_ready(self, name: str, timeout_s: float = _READY_TIMEOUT_S) -> dict[str, str | int]:
        """Wait until a child says that it is ready.

        Returns:
            What it said beside that, e.g. its port.

        Raises:
            StackError: It ended, or said nothing in time; with the end of its log.
        """
        child = self._children[name]
        deadline = time.monotonic() + timeout_s
        while not child.ready.wait(0.05):
            if child.ended.is_set():
                raise StackError(f"{name} ended with {child.process.returncode}:\n{self._log_tail(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"{name} is not ready after {timeout_s:g} s:\n{self._log_tail(name)}")
        return child.facts

    def watch(self) -> None:
        """Restart children that die, until ``stop`` is called.

        Raises:
            StackError: A child died too often.
        """
        while not self._stopping.is_set():
            try:
                child = self._deaths.get(timeout=0.2)
            except queue.Empty:
                continue
            if self._stopping.is_set() or self._children.get(child.spec.name) is not child:
                continue
            self._restart(child)

    def request_stop(self) -> None:
        """End ``watch``; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Ask all children to end, in the order they were started, and kill those that do not."""
        self._stopping.set()
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for child in self._children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.warning("child killed", child=child.spec.name)
                child.process.kill()
                child.process.wait()
            child.ended.wait(5)

    def _spawn(self, spec: ChildSpec) -> _Child:
        with self._log(spec.name) as log:
            process = subprocess.Popen(
                spec.command,
                env=self._environment | dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=spec.pass_fds,
                umask=self._umask,
                start_new_session=True,  # Ctrl-C is for us; we tell them in good order
            )
        child = _Child(spec=spec, process=process)
        threading.Thread(target=self._follow, args=(child,), daemon=True).start()
        return child

    def _follow(self, child: _Child) -> None:
        """Read what a child says until it ends."""
        stream = child.process.stdout
        if stream is not None:
            with stream, self._log(child.spec.name) as log:
                for line in stream:
                    facts = _ready_facts(line)
                    if facts is not None:
                        child.facts = facts
                        child.ready.set()
                    if log is not None:
                        log.write(line)
                        log.flush()
        child.process.wait()
        child.ended.set()
        self._deaths.put(child)

    def _log(self, name: str) -> AbstractContextManager[TextIO | None]:
        if self._log_dir is None:
            return nullcontext()
        return open(self._log_dir / f"{name}.log", "a", encoding="utf-8", opener=open_private)

    def _restart(self, child: _Child) -> None:
        name, now = child.spec.name, time.monotonic()
        recent = [at for at in self._death_times.get(name, []) if now - at < _DEATHS_WITHIN_S] + [now]
        self._death_times[name] = recent
        if len(recent) > _MAX_DEATHS:
            raise StackError(f"{name} died {len(recent)} times in a minute:\n{self._log_tail(name)}")
        _log.warning("child died, starting it again", child=name, returncode=child.process.returncode)
        self._stopping.wait(0.2 * 2 ** len(recent))
        if not self._stopping.is_set():
            self._children[name] = self._spawn(child.spec)

    def _log_tail(self, name: str) -> str:
        if self._log_dir is None:
            return "what it said is above"
        path = self._log_dir / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([*lines[-_LOG_TAIL_LINES:], f"(all of it: {path})"])


def _ready_facts(line: str) -> dict[str, str | int] | None:
    """What a child's line of readiness says; None for any other line."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("event") not in _READY_EVENTS:
        return None
    return {str(name): value for name, value in said.items() if isinstance(value, (str, int))}
