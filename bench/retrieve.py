"""Memory of the serving process while large objects are retrieved, one and many at once.

    python -m bench.retrieve [--at-once N]

A node and an API process hold a study of small photographs (38 KB, JPEG), one of large ones (36 MB, raw)
and one of large JPEGs (decoded: 36 MB). dcmtk's getscu and movescu (to storescp), and HTTP requests for
WADO-RS, fetch them alone and N at once, as stored and decoded. What is printed is the peak resident size of
the process that serves. The last line is one JSON object. Needs dcmtk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from service.commands.program import PROGRAM
from service.database.migrate import migrate
from service.stack.servers import EmbeddedPostgres
from service.stack.stack import free_port
from tests.dicom_objects import associate, photograph
from tests.peers import find_peer

_TIMEOUT_S = 900
_OBJECTS = 2  # of a study
_LARGE = (3000, 4000)  # rows and columns of large photographs
SMALL_NAME = "38 KB"
_CALLER, _RECEIVER = "GETTER", "RECEIVER"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A process that serves, and how to ask it."""

    process: subprocess.Popen[bytes]
    port: int

    def peak_mb(self, work: Callable[[], None], at_once: int) -> float:
        """Peak resident size in MB while so many do some work at once."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the peak begins anew, proc(5)
        with ThreadPoolExecutor(at_once) as callers:
            for done in [callers.submit(work) for _ in range(at_once)]:
                done.result()
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


@contextmanager
def serving(name: str, environment: Mapping[str, str]) -> Iterator[Served]:
    """A process of ours that says its port or URL as a JSON line."""
    with subprocess.Popen(
        [*PROGRAM, name], env={**os.environ, **environment}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        port = said.get("port") or int(said["url"].split(":")[2].split("/")[0])
        try:
            yield Served(process=process, port=int(port))
        finally:
            process.terminate()
            sys.stderr.write(process.stdout.read().decode())  # what it logged
            process.wait(60)


def fill(port: int, size: tuple[int, int], transfer_syntax: str) -> str:
    """Send a study; answers its UID."""
    study = generate_uid()
    association = associate(port, *_contexts(photograph(size=(8, 8), transfer_syntax=transfer_syntax)))
    for seed in range(_OBJECTS):
        ds = photograph(seed=seed, size=size, transfer_syntax=transfer_syntax)
        ds.StudyInstanceUID = study
        if association.send_c_store(ds).Status != 0:
            raise SystemExit("the node did not store")
    association.release()
    return str(study)


def _contexts(ds: Dataset) -> list[tuple[str, str]]:
    return [(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)]


def run(program: str, *arguments: str) -> None:
    """Run one of dcmtk's programs.

    Raises:
        RuntimeError: It failed, or not every object was sent.
    """
    found = find_peer(program)
    assert found is not None
    done = subprocess.run(
        [found, "-d", *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    said = done.stdout + done.stderr
    completed = re.findall(r"(?m)Completed Suboperations\s*:\s*(\d+)", said)
    if done.returncode or not completed or int(completed[-1]) != _OBJECTS:
        raise RuntimeError(f"{program}: {said[-500:]}")


def wado(port: int, study: str, transfer_syntax: str) -> None:
    """Fetch a study and forget it.

    Raises:
        RuntimeError: There was less than one object.
    """
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={transfer_syntax}'
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"/dicom-web/studies/{study}", headers={"Accept": accept})
        response, got = connection.getresponse(), 0
        while chunk := response.read(1 << 16):
            got += len(chunk)
    finally:
        connection.close()
    if response.status != 200 or got < 10_000:
        raise RuntimeError(f"WADO-RS answered {response.status} with {got} bytes")


def size_name(size: tuple[int, int]) -> str:
    """Of photographs of so many rows and columns, raw."""
    return f"{size[0] * size[1] * 3 / 1e6:.0f} MB"


def measure(
    node: Served, api: Served, at_once: int, large: tuple[int, int], only: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Peaks in MB, by way and then by size and number at once."""
    name = size_name(large)
    studies = {
        SMALL_NAME: fill(node.port, (205, 232), JPEGBaseline8Bit),
        name: fill(node.port, large, ExplicitVRLittleEndian),
    }
    compressed = {**studies, name: fill(node.port, large, JPEGBaseline8Bit)}
    called = ("-S", "-aet", _CALLER, "-aec", "SEMBLANCE")
    level = ("-k", "QueryRetrieveLevel=STUDY", "-k")
    here = ("127.0.0.1", str(node.port))

    def get(study: str, *syntax: str) -> None:
        run("getscu", "--ignore", *syntax, *called, *level, f"StudyInstanceUID={study}", *here)

    def move(study: str) -> None:
        run("movescu", *called, "-aem", _RECEIVER, *level, f"StudyInstanceUID={study}", *here)

    def get_as_stored(study: str) -> None:
        get(study, "+xy" if study == studies[SMALL_NAME] else "+xe")

    ways: dict[str, tuple[Served, Mapping[str, str], Callable[[str], None]]] = {
        "C-GET": (node, studies, get_as_stored),
        "C-MOVE": (node, studies, move),
        "C-GET, decoded": (node, compressed, lambda study: get(study, "+xi")),
        "WADO-RS": (api, studies, lambda study: wado(api.port, study, "*")),
        "WADO-RS, decoded": (
            api,
            compressed,
            lambda study: wado(api.port, study, ExplicitVRLittleEndian),
        ),
    }
    found: dict[str, dict[str, float]] = {}
    for way in only or ways:
        served, of, fetch = ways[way]
        found[way] = {}
        for size, study in of.items():
            for number in (1, at_once):
                peak = served.peak_mb(partial(fetch, study), number)
                found[way][f"{number} x {size}"] = round(peak)
                print(f"{way:17} {number:2d} at once of {size}: {peak:5.0f} MB", flush=True)
    return found


def retrieve(
    directory: Path, at_once: int, large: tuple[int, int] = _LARGE, only: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Start everything in a directory and measure; see ``measure``.

    Args:
        directory: Empty, and open to the user PostgreSQL runs as.
        at_once: Callers.
        large: Rows and columns of the large photographs.
        only: Ways to measure; empty for all.
    """
    postgres = EmbeddedPostgres(directory / "pg")
    postgres.start()
    receiver_port, storescp = free_port(), find_peer("storescp")
    assert storescp is not None
    receiver = subprocess.Popen(
        [storescp, "--fork", "--ignore", "+xa", str(receiver_port)], stdout=subprocess.DEVNULL
    )
    try:
        url = postgres.ensure_database("bench")
        migrate(url)
        peer = {"name": "receiver", "ae_title": _RECEIVER, "host": "127.0.0.1", "port": receiver_port}
        environment = {
            "SEMBLANCE_DATABASE_URL": url,
            "SEMBLANCE_STORAGE_DIR": str(directory / "store"),
            "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
            "SEMBLANCE_DICOM_HOST": "127.0.0.1",
            "SEMBLANCE_DICOM_PORT": "0",
            "SEMBLANCE_API_PORT": "0",
            "SEMBLANCE_DICOM_MAX_ASSOCIATIONS": str(4 * at_once),
            "SEMBLANCE_DICOM_QUERY_AE_TITLES": json.dumps([_CALLER]),
            "SEMBLANCE_DICOM_PEERS": json.dumps([peer]),
            "SEMBLANCE_LOG_LEVEL": "WARNING",
        }
        with serving("node", environment) as node, serving("api", environment) as api:
            return measure(node, api, at_once, large, only)
    finally:
        receiver.kill()
        receiver.wait()
        postgres.stop()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=[], help="ways, as printed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-retrieve-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL runs as a user of its own
        print(json.dumps(retrieve(directory, options.at_once, only=options.only)))


if __name__ == "__main__":
    main()
