"""Soak: many small objects over many associations into one receiving process, its memory and descriptors.

``python -m bench.soak --objects 50000`` starts PostgreSQL (embedded) and the node as a process of its own,
sends from a few threads over associations of 50 objects each, one in ten of which ends rudely in the
middle of an object, and samples the process. The last line is one JSON object. The sender writes PDUs that
were encoded before, so that the machine's time goes to the node.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil
import psycopg
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.encoding import command
from service.commands.program import PROGRAM
from service.database.migrate import migrate
from service.stack.servers import EmbeddedPostgres
from service.stack.waiting import wait_until
from tests.dicom_objects import association_request, photograph, store_pdus

PER_ASSOCIATION = 50
_RUDE_EVERY = 10  # associations, of which one ends in the middle of an object
_TIMEOUT_S = 120.0
_RELEASE = struct.pack(">BBI4x", 5, 0, 4)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The node's process at one moment."""

    acknowledged: int
    rss_bytes: int
    descriptors: int
    threads: int


@dataclass
class Tally:
    """What the senders were told, together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: int = 0
    refused: int = 0
    associations: int = 0
    cut: int = 0


class Template:
    """An object's PDUs with a SOP Instance UID that can be exchanged for another of the same length."""

    def __init__(self) -> None:
        ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(8, 8))
        self._uid = self.new_uid()
        ds.SOPInstanceUID = self._uid
        encoded = encode(ds, False, True)
        assert encoded is not None
        self._pdus = b"".join(store_pdus(ds, encoded))

    @staticmethod
    def new_uid() -> str:
        """A UID of always the same length."""
        return f"2.25.{10**37 + uuid4().int % 10**37}"

    def pdus(self) -> bytes:
        """The PDUs of one new object."""
        return self._pdus.replace(self._uid.encode(), self.new_uid().encode())


def send_all(port: int, objects: int, senders: int, tally: Tally) -> None:
    """Send over several associations at once until so many objects are acknowledged.

    Raises:
        AssertionError: A sender ended with an error.
    """
    template = Template()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while not faults:
                with tally.lock:
                    if tally.acknowledged + tally.refused >= objects:
                        return
                    tally.associations += 1
                    number = tally.associations
                _associate_and_send(port, template, tally, rude=number % _RUDE_EVERY == 0)
        except BaseException as exc:  # noqa: BLE001 -- raised again by the thread that waits
            faults.append(exc)

    threads = [threading.Thread(target=work) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise AssertionError("a sender ended") from faults[0]


def _associate_and_send(port: int, template: Template, tally: Tally, *, rude: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(association_request(calling="SOAK"))
        if _pdu(sock)[0] != 2:  # PS3.8 section 9.3.3: not accepted
            with tally.lock:
                tally.refused += 1
            return
        for _ in range(PER_ASSOCIATION):
            sock.sendall(template.pdus())
            status = _status(_pdu(sock)[1])
            with tally.lock:
                tally.acknowledged += status == 0
                tally.refused += status != 0
        if rude:
            pdus = template.pdus()
            sock.sendall(pdus[: len(pdus) // 2])
            with tally.lock:
                tally.cut += 1
            return
        sock.sendall(_RELEASE)
        _pdu(sock)


def _pdu(sock: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU."""
    kind, length = struct.unpack(">BxI", _exactly(sock, 6))
    return kind, _exactly(sock, length)


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = sock.recv(size - len(found))
        if not part:
            raise ConnectionError("the node closed the connection")
        found += part
    return bytes(found)


def _status(body: bytes) -> int:
    """Status (0000,0900) of a C-STORE response in one presentation data value."""
    values = command.elements(body[6:])
    return int.from_bytes(values[0x0900], "little")


class Sampler:
    """Samples a process each time so many objects more were acknowledged."""

    def __init__(self, pid: int, tally: Tally, every: int) -> None:
        self._process = psutil.Process(pid)
        self._tally = tally
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        due = 0
        while not self._stopped.wait(0.05):
            if self._tally.acknowledged >= due:
                self.samples.append(self._sample())
                due = self._tally.acknowledged + self._every
                print(self.samples[-1], file=sys.stderr)

    def _sample(self) -> Sample:
        with self._process.oneshot():
            return Sample(
                acknowledged=self._tally.acknowledged,
                rss_bytes=self._process.memory_info().rss,
                descriptors=self._process.num_fds(),
                threads=self._process.num_threads(),
            )


@contextmanager
def node_process(directory: Path) -> Iterator[tuple[int, int, str]]:
    """PostgreSQL and a node process on a directory; yields port, process id, and the database's URL."""
    postgres = EmbeddedPostgres(directory / "pg")
    postgres.start()
    try:
        url = postgres.ensure_database("soak")
        migrate(url)
        environment = os.environ | {
            "SEMBLANCE_DATABASE_URL": url,
            "SEMBLANCE_STORAGE_DIR": str(directory / "store"),
            "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
            "SEMBLANCE_DICOM_HOST": "127.0.0.1",
            "SEMBLANCE_DICOM_PORT": "0",
            "SEMBLANCE_LOG_LEVEL": "ERROR",
        }
        with subprocess.Popen([*PROGRAM, "node"], env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            try:
                yield int(said["port"]), process.pid, url
            finally:
                process.terminate()
                process.wait(60)
    finally:
        postgres.stop()


def soak(directory: Path, objects: int, senders: int, every: int) -> dict[str, float | int]:
    """Send, sample, and compare with what the database holds.

    Returns:
        Growth from the sample after the first tenth to the last one, and what came of the objects.
    """
    tally = Tally()
    with node_process(directory) as (port, pid, url):
        began = time.monotonic()
        with Sampler(pid, tally, every) as sampler:
            send_all(port, objects, senders, tally)
        took_s = time.monotonic() - began
        wait_until(lambda: _idle(pid), timeout_s=60, what="the last associations to end", interval_s=0.2)
        last = sampler._sample()
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM instance").fetchone()
    kept = int(row[0]) if row else 0
    warm = next(each for each in sampler.samples if each.acknowledged >= objects * 0.1)
    return {
        "objects": tally.acknowledged,
        "lost": tally.acknowledged - kept,
        "refused": tally.refused,
        "associations": tally.associations,
        "cut": tally.cut,
        "rss_warm_mb": round(warm.rss_bytes / 1e6, 1),
        "rss_most_mb": round(max(each.rss_bytes for each in [*sampler.samples, last]) / 1e6, 1),
        "rss_last_mb": round(last.rss_bytes / 1e6, 1),
        "fds_warm": warm.descriptors,
        "fds_last": last.descriptors,
        "threads_warm": warm.threads,
        "threads_last": last.threads,
        "seconds": round(took_s, 1),
        "objects_per_s": round(tally.acknowledged / took_s, 1),
    }


def _idle(pid: int) -> bool:
    """Whether nobody is connected to the process by TCP any more."""
    return not any(c.status == psutil.CONN_ESTABLISHED for c in psutil.Process(pid).net_connections("tcp"))


def main() -> None:
    """Soak, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--every", type=int, default=1000, help="objects between two samples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="semblance-soak-") as name:
        Path(name).chmod(0o755)  # PostgreSQL runs as a user of its own
        print(json.dumps(soak(Path(name), arguments.objects, arguments.senders, arguments.every)))


if __name__ == "__main__":
    main()
