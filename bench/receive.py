"""How fast objects are received: our node, Orthanc and pynetdicom's storescp, in one run.

    python bench/receive.py [--quick]

dcmtk's dcmsend sends the same files to each over 1, 4 and 8 associations at once. Our node is
durable (fsync and commit before success), as is Orthanc by its defaults; pynetdicom's storescp is not.
The last line is one JSON object of ratios. Needs dcmtk and Orthanc.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from service.database.migrate import migrate
from service.embedded import EmbeddedPostgres
from service.stack import free_port
from service.waiting import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from tests.dicom_objects import photograph, save
from tests.orthanc import Orthanc
from tests.peers import find_peer

ASSOCIATIONS = (1, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Size:
    """One kind of object."""

    name: str
    picture: tuple[int, int]  # rows, columns
    transfer_syntax: str
    count: int  # sent in one measurement, over all associations
    small: bool  # up to 200 KB


SIZES = (
    Size(name="38 KB", picture=(150, 170), transfer_syntax=JPEGBaseline8Bit, count=480, small=True),
    Size(name="200 KB", picture=(370, 370), transfer_syntax=JPEGBaseline8Bit, count=320, small=True),
    Size(name="4 MB", picture=(1650, 1650), transfer_syntax=JPEGBaseline8Bit, count=48, small=False),
    Size(name="36 MB", picture=(3000, 4000), transfer_syntax=ExplicitVRLittleEndian, count=8, small=False),
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Somebody who listens."""

    port: int
    pid: int


def make_files(directory: Path, size: Size, round_name: str) -> list[Path]:
    """Objects that differ in their UIDs only."""
    from pydicom.uid import generate_uid

    ds = photograph(transfer_syntax=size.transfer_syntax, size=size.picture)
    folder = directory / round_name
    folder.mkdir()
    paths = []
    for number in range(size.count):
        ds.SOPInstanceUID = generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        paths.append(save(ds, folder / f"{number}.dcm"))
    return paths


def send(port: int, paths: list[Path], associations: int) -> float:
    """Send all files over so many associations at once; answers objects per second."""
    program = find_peer("dcmsend")
    assert program is not None
    command = [program, "-aec", "ANY-SCP", "127.0.0.1", str(port)]
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            [*command, *map(str, paths[i::associations])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for i in range(associations)
    ]
    for sender in senders:
        output, _ = sender.communicate(timeout=600)
        if sender.returncode != 0:
            raise SystemExit(f"dcmsend failed: {output.decode()[-2000:]}")
    return len(paths) / (time.perf_counter() - began)


@contextmanager
def our_node(directory: Path, database_url: str, processes: int) -> Iterator[Target]:
    """Our node with its own store, on the database given."""
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": database_url,
        "SEMBLANCE_STORAGE_DIR": str(directory / "store"),
        "SEMBLANCE_DICOM_HOST": "127.0.0.1",
        "SEMBLANCE_DICOM_PORT": str(free_port()),
        "SEMBLANCE_DICOM_PROCESSES": str(processes),
        "SEMBLANCE_LOG_LEVEL": "WARNING",
    }
    with (directory / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node"], env=environment, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        yield Target(port=said["port"], pid=process.pid)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@contextmanager
def orthanc(directory: Path) -> Iterator[Target]:
    """Orthanc by its defaults."""
    with Orthanc(directory) as running:
        assert running._process is not None
        yield Target(port=running.dicom_port, pid=running._process.pid)


@contextmanager
def pynetdicom(directory: Path) -> Iterator[Target]:
    """Pynetdicom's storescp."""
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
        yield Target(port=port, pid=process.pid)
    finally:
        process.terminate()
        process.wait(30)


def peak_rss_mb(pid: int) -> float:
    """Largest peak resident size among a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return max(_peak_kb(each.pid) for each in family) / 1024


def _peak_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise SystemExit(f"no VmHWM for {pid}")


def measure(directory: Path, database_url: str, sizes: tuple[Size, ...], processes: int) -> dict[str, object]:
    """Measure everything and print as it comes."""
    ratios: dict[str, list[float]] = {"orthanc-small": [], "orthanc-large": [], "pynetdicom": []}
    peaks: dict[str, float] = {}
    print(
        f"{'object':8} {'assoc':>5} {'ours/s':>9} {'orthanc/s':>10} {'pynetdicom/s':>13}"
        f" {'x orthanc':>10} {'x pynetd.':>10}"
    )
    for size in sizes:
        rates: dict[tuple[str, int], float] = {}
        for name in ("ours", "orthanc", "pynetdicom"):
            folder = directory / f"{size.name.replace(' ', '')}-{name}"
            folder.mkdir()
            context = {
                "ours": lambda folder=folder: our_node(folder, database_url, processes),
                "orthanc": lambda folder=folder: orthanc(folder),
                "pynetdicom": lambda folder=folder: pynetdicom(folder),
            }[name]
            with context() as target:
                for associations in ASSOCIATIONS:
                    paths = make_files(folder, size, f"sent-{associations}")
                    rates[name, associations] = send(target.port, paths, associations)
                if name == "ours":
                    peaks[size.name] = peak_rss_mb(target.pid)
            shutil.rmtree(folder)
        for associations in ASSOCIATIONS:
            ours, theirs, plain = (rates[n, associations] for n in ("ours", "orthanc", "pynetdicom"))
            ratios["orthanc-small" if size.small else "orthanc-large"].append(ours / theirs)
            ratios["pynetdicom"].append(ours / plain)
            print(
                f"{size.name:8} {associations:5d} {ours:9.1f} {theirs:10.1f} {plain:13.1f}"
                f" {ours / theirs:10.2f} {ours / plain:10.2f}",
                flush=True,
            )
        print(f"{size.name:8} peak RSS of a node process: {peaks[size.name]:.0f} MB", flush=True)
    result: dict[str, object] = {
        "vs_orthanc_small_min": round(min(ratios["orthanc-small"]), 2),
        "vs_orthanc_large_min": round(min(ratios["orthanc-large"]), 2),
        "vs_pynetdicom_min": round(min(ratios["pynetdicom"]), 2),
        "rss_36mb_over_38kb": round(peaks[sizes[-1].name] / peaks[sizes[0].name], 2),
    }
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the objects")
    parser.add_argument("--processes", type=int, default=2, help="receiving processes of our node")
    options = parser.parse_args()
    sizes = SIZES
    if options.quick:
        sizes = tuple(
            Size(**{**vars(size), "count": max(8, size.count // 8)})
            for size in SIZES  # 8: one an association
        )
    directory = Path(tempfile.mkdtemp(prefix="bench-receive-"))
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.start()
    try:
        url = postgres.ensure_database("bench")
        migrate(url)
        print(json.dumps(measure(directory, url, sizes, options.processes)))
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
