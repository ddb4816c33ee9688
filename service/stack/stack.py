"""The whole product on one machine: embedded PostgreSQL and Redis, and our processes under a supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import psutil

from service.config import Settings
from service.database.migrate import migrate
from service.database.roles import share
from service.errors import StackError
from service.peers import Destination
from service.stack.servers import EmbeddedPostgres, EmbeddedRedis
from service.stack.supervisor import ChildSpec, Supervisor
from service.storage.file_systems import open_private, private_directory

_DATABASE = "semblance"
_WRITER = "semblance_writer"
READER = "semblance_reader"
_STATE_FILE = "stack.json"
_LEFTOVER_TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class StackFacts:
    """Where a running stack is reached."""

    database_url: str  # of the writer
    database_owner_url: str  # of the role that owns the schema
    broker_url: str
    storage_dir: str
    dicom_port: int
    dicom_ae_title: str
    fhir_url: str
    pacs_directory: str  # of the demonstration's own PACS; "" when results go elsewhere
    pids: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """How a stack is run."""

    data_dir: Path
    dicom_port: int = 0  # 0: a free one
    api_port: int = 0  # 0: a free one
    demo_pacs: bool = True  # results go to a small PACS of the stack's own
    broker_url: str = ""  # "": an embedded Redis
    environment: Mapping[str, str] | None = None  # SEMBLANCE_* settings beyond those of the stack


class Stack:
    """Starts everything in order, and stops it the other way round."""

    def __init__(self, options: StackOptions, settings: Settings, program: Sequence[str]) -> None:
        """Nothing runs before ``start``.

        Args:
            options: How to run.
            settings: Those of the command; the stack's own places win over them.
            program: What starts our command; a process's name and arguments follow it.
        """
        self._program = tuple(program)
        self._options = options
        self._settings = settings
        self._data_dir = options.data_dir.resolve()
        self.postgres = EmbeddedPostgres(self._data_dir / "postgres")
        self.redis = EmbeddedRedis() if not options.broker_url else None
        self.supervisor = Supervisor({}, log_dir=self._data_dir / "log", umask=0o077)
        self._lock: TextIO | None = None

    def start(self, tell: Callable[[str], None] = lambda _: None) -> StackFacts:
        """Start everything; ready on return.

        Args:
            tell: Called with what is being done, for people.

        Raises:
            StackError: The data directory is in use, or a process does not start.
            ConfigurationError: PostgreSQL or Redis does not start.
        """
        self._take_lock()
        try:
            return self._start(tell)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything; what is committed stays. One that was not started touches nothing of another."""
        if self._lock is None:
            return
        self.supervisor.stop()
        if self.redis is not None:
            self.redis.close()
        self.postgres.stop()
        (self._data_dir / _STATE_FILE).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def _start(self, tell: Callable[[str], None]) -> StackFacts:
        _end_leftovers(self._data_dir / _STATE_FILE, self._program)
        tell("starting PostgreSQL and Redis")
        self.postgres.start()
        if self.redis is not None:
            self.redis.start()
        tell("bringing the schema up to date")
        owner_url = self.postgres.ensure_database(_DATABASE)
        database_url = self.postgres.url(_DATABASE, _WRITER)
        migrate(owner_url)
        share(owner_url, database_url, READER)
        broker_url = self.redis.url if self.redis else self._options.broker_url
        api_port = self._options.api_port or free_port()
        for name, value in self._environment(database_url, broker_url, api_port).items():
            self.supervisor.set_environment(name, value)
        if self._options.demo_pacs:
            tell("starting the demonstration's PACS")
            self._start_pacs()
        tell("starting the DICOM node, the FHIR API, the relay and the workers")
        specs = self._specs()
        for spec in specs:
            self.supervisor.start(spec)
        said = {spec.name: self.supervisor.wait_ready(spec.name) for spec in specs}
        facts = StackFacts(
            database_url=database_url,
            database_owner_url=owner_url,
            broker_url=broker_url,
            storage_dir=str(self._data_dir / "store"),
            dicom_port=int(said["node"]["port"]),
            dicom_ae_title=self._settings.dicom_ae_title,
            fhir_url=f"http://{self._settings.api_host}:{api_port}/fhir",
            pacs_directory=str(self._data_dir / "pacs") if self._options.demo_pacs else "",
            pids=self.supervisor.pids | ({"redis": self.redis.pid} if self.redis and self.redis.pid else {}),
        )
        with open(self._data_dir / _STATE_FILE, "w", opener=open_private) as file:
            json.dump(asdict(facts), file, indent=2)
        return facts

    def _environment(self, database_url: str, broker_url: str, api_port: int) -> dict[str, str]:
        return {
            **os.environ,
            **(self._options.environment or {}),
            "SEMBLANCE_DATABASE_URL": database_url,
            "SEMBLANCE_DATABASE_OWNER_URL": "",  # is none of the processes' business
            "SEMBLANCE_BROKER_URL": broker_url,
            "SEMBLANCE_STORAGE_DIR": str(self._data_dir / "store"),
            "SEMBLANCE_DICOM_HOST": "127.0.0.1",
            "SEMBLANCE_DICOM_PORT": str(self._options.dicom_port or free_port()),
            "SEMBLANCE_API_PORT": str(api_port),
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",
        }

    def _start_pacs(self) -> None:
        pacs_dir = self._data_dir / "pacs"
        command = (*self._program, "demo-pacs", "--directory", str(pacs_dir))
        spec = ChildSpec(name="demo-pacs", command=command)
        self.supervisor.start(spec)
        said = self.supervisor.wait_ready(spec.name)
        pacs = Destination(
            name="demo-pacs", ae_title=str(said["ae_title"]), host="127.0.0.1", port=int(said["port"])
        )
        destinations = [
            each.model_dump() for each in self._settings.destinations if each.name != pacs.name
        ] + [pacs.model_dump()]
        self.supervisor.set_environment("SEMBLANCE_DESTINATIONS", json.dumps(destinations))
        self.supervisor.pin(spec.name, (*command, "--port", str(said["port"])))

    def _specs(self) -> list[ChildSpec]:
        """The product's processes, in the order they are started."""
        started = {
            "node": ("node",),
            "api": ("api",),
            "relay": ("relay",),
            "worker-gpu": ("worker", "gpu"),
            "worker-io": ("worker", "report", "io", "--concurrency", "2"),
        }
        first = self._settings.operations_port  # each process has a door of its own
        return [
            ChildSpec(
                name=name,
                command=(*self._program, *of),
                environment={"SEMBLANCE_OPERATIONS_PORT": str(first + number)} if first else {},
            )
            for number, (name, of) in enumerate(started.items())
        ]

    def _take_lock(self) -> None:
        # PostgreSQL does not run as root: its own user has to pass through
        private_directory(self._data_dir, 0o711 if os.geteuid() == 0 else 0o700)
        for name in ("store", "pacs", "log"):
            if (self._data_dir / name).is_dir():
                private_directory(self._data_dir / name)
        lock = open(self._data_dir / "lock", "w", opener=open_private)  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            lock.close()
            raise StackError(f"another stack runs on {self._data_dir}") from exc
        self._lock = lock


def running_stack(data_dir: Path) -> StackFacts | None:
    """Where the stack that runs on a data directory is reached; None when none does."""
    lock_path, state_path = data_dir / "lock", data_dir / _STATE_FILE
    if not lock_path.exists():
        return None
    with lock_path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                return StackFacts(**json.loads(state_path.read_text()))
    return None


def free_port() -> int:
    """Find a TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_leftovers(state_path: Path, program: tuple[str, ...]) -> None:
    """End the processes of a stack that was killed and could not end them itself."""
    if not state_path.exists():
        return
    leftovers = []
    with contextlib.suppress(ValueError, KeyError, OSError):
        for pid in json.loads(state_path.read_text())["pids"].values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                command = process.cmdline()
                ours = command[: len(program)] == list(program)
                if ours or "redis-server" in "".join(command[:1]):
                    process.terminate()
                    leftovers.append(process)
    _, stubborn = psutil.wait_procs(leftovers, timeout=_LEFTOVER_TIMEOUT_S)
    for process in stubborn:
        process.kill()
    state_path.unlink(missing_ok=True)
