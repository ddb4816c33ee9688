"""Those who listen in bench/receive.py: our node, Orthanc, pynetdicom's storescp, and a sink."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import psutil
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

if not __package__:  # run as a file: its folder would hide the package fhir
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from dicom_node.acceptor.contexts import supported_contexts
from dicom_node.acceptor.scp import NodeServer, ServerOptions, application_entity
from dicom_node.encoding.command import StoreCommand
from dicom_node.intake.ingest import Ingest
from dicom_node.query.provider import QueryProvider
from service.commands.program import PROGRAM
from service.config import Settings
from service.stack.stack import free_port
from service.stack.waiting import wait_until
from tests.orthanc import Orthanc
from tests.peers import find_peer

_STOP_S = 30


@dataclass(frozen=True, kw_only=True)
class Target:
    """Somebody who listens."""

    port: int
    pids: tuple[int, ...]  # of the processes that do the work, without their children

    def cpu_s(self) -> float:
        """CPU time used so far by the processes and their children, ended ones too."""
        return sum(_cpu_s(pid) for pid in self.pids)

    def peak_rss_mb(self) -> float:
        """Largest peak resident size among the first process and its children."""
        first = psutil.Process(self.pids[0])
        return max(_peak_kb(each.pid) for each in (first, *first.children(recursive=True))) / 1024


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    total = sum(process.cpu_times()[:4])  # own and waited-for children's, user and system
    return total + sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise SystemExit(f"no VmHWM for {pid}")


@contextmanager
def our_node(directory: Path, database_url: str, database_pid: int, processes: int) -> Iterator[Target]:
    """Our node with its own store, on the database given, whose CPU time counts as the node's."""
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": database_url,
        "SEMBLANCE_STORAGE_DIR": str(directory / "store"),
        "SEMBLANCE_DICOM_HOST": "127.0.0.1",
        "SEMBLANCE_DICOM_PORT": str(free_port()),
        "SEMBLANCE_DICOM_PROCESSES": str(processes),
        "SEMBLANCE_LOG_LEVEL": "WARNING",
    }
    with (
        (directory / "node.log").open("ab") as log,
        _announced([*PROGRAM[1:], "node"], environment, log) as told,
    ):
        yield Target(port=told.port, pids=(*told.pids, database_pid))


@contextmanager
def orthanc(directory: Path) -> Iterator[Target]:
    """Orthanc by its defaults: files are synced (SyncStorageArea), its SQLite log is not (WAL, NORMAL)."""
    with Orthanc(directory) as running:
        assert running._process is not None
        yield Target(port=running.dicom_port, pids=(running._process.pid,))


@contextmanager
def pynetdicom(directory: Path) -> Iterator[Target]:
    """Pynetdicom's storescp, which syncs nothing."""
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(directory / "kept")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    echoscu = find_peer("echoscu")
    assert echoscu is not None
    try:
        wait_until(
            lambda: (
                subprocess.run([echoscu, "127.0.0.1", str(port)], capture_output=True, check=False).returncode
                == 0
            ),
            timeout_s=30,
            what="storescp",
        )
        yield Target(port=port, pids=(process.pid,))
    finally:
        process.terminate()
        process.wait(_STOP_S)


@contextmanager
def sink(directory: Path) -> Iterator[Target]:
    """Our network layer alone, in a process that answers success and keeps nothing: the sender's own pace."""
    with (directory / "sink.log").open("ab") as log, _announced([__file__], dict(os.environ), log) as told:
        yield told


@contextmanager
def _announced(arguments: list[str], environment: Mapping[str, str], log: IO[bytes]) -> Iterator[Target]:
    """A Python process that says its port as a JSON line."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, stderr=log
    )
    assert process.stdout is not None
    try:
        yield Target(port=json.loads(process.stdout.readline())["port"], pids=(process.pid,))
    finally:
        process.terminate()
        process.wait(_STOP_S)
        process.stdout.close()


class _Forgetting:
    """An Ingest and a Reception that keep nothing."""

    def begin(
        self, association: Association, context: PresentationContext | None, request: StoreCommand
    ) -> _Forgetting:
        return self

    def write(self, fragment: memoryview) -> None:
        """Keep nothing."""

    def finish(self) -> tuple[int, str]:
        """Success."""
        return 0, ""

    def abandon(self, reason: str) -> None:
        """Nothing to drop."""


def _serve_sink() -> None:
    settings, nothing = Settings(dicom_host="127.0.0.1", dicom_port=0), _Forgetting()
    server = application_entity(settings).make_server(
        (settings.dicom_host, settings.dicom_port),
        contexts=supported_contexts(),
        server_class=NodeServer,
        options=ServerOptions(
            ingest=cast("Ingest", nothing),
            queries=cast("QueryProvider", nothing),
            settings=settings,
            tls=None,
        ),
    )
    sys.stdout.write(json.dumps({"port": server.server_address[1]}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve_sink()
