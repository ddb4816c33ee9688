"""How fast objects are received: our node, Orthanc and pynetdicom's storescp, in one run.

    python bench/receive.py [--quick] [--rounds N] [--processes N]

dcmtk's dcmsend sends the same files to each over 1, 4 and 8 associations at once, in short rounds
that alternate between the peers; a rate is the median of its rounds. A round is timed from the first
association request to the last release, so the start of the senders is left out. Our node is durable
(fsync and commit before success). Orthanc runs by its defaults: it syncs files, not its database.
pynetdicom's storescp syncs nothing. "sink" is our network layer alone: as fast as dcmsend sends.

All of it twice: with dcmsend as it comes, and with Nagle's algorithm switched off in it
(TCP_NODELAY=1), which spares Orthanc and storescp the wait for delayed acknowledgements.

The last line is one JSON object of ratios, the smallest of each kind. Needs dcmtk and Orthanc.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

if not __package__:  # run as a file: its folder would hide the package fhir
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench.parts.receive_targets import Target, orthanc, our_node, pynetdicom, sink
from service.database.migrate import migrate
from service.stack.servers import EmbeddedPostgres
from tests.dicom_objects import photograph, save
from tests.peers import find_peer

ASSOCIATIONS = (1, 4, 8)
SENDERS: Mapping[str, Mapping[str, str]] = {"default": {}, "nodelay": {"TCP_NODELAY": "1"}}
_SEND_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Size:
    """One kind of object."""

    name: str
    picture: tuple[int, int]  # rows, columns
    transfer_syntax: str
    count: int  # sent in one measurement, over all associations
    small: bool  # up to 200 KB


SIZES = (
    Size(name="38 KB", picture=(205, 232), transfer_syntax=JPEGBaseline8Bit, count=160, small=True),
    Size(name="200 KB", picture=(509, 509), transfer_syntax=JPEGBaseline8Bit, count=120, small=True),
    Size(name="4 MB", picture=(2330, 2330), transfer_syntax=JPEGBaseline8Bit, count=32, small=False),
    Size(name="36 MB", picture=(3000, 4000), transfer_syntax=ExplicitVRLittleEndian, count=8, small=False),
)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One measurement."""

    rate: float  # objects per second
    cpu_ms: float  # of the receiver, per object


@dataclass(frozen=True, kw_only=True)
class Result:
    """Medians of one size, sender and number of associations, by peer."""

    rates: Mapping[str, float]
    cpu_ms: Mapping[str, float]


def make_files(directory: Path, size: Size, round_name: str) -> list[Path]:
    """Objects that differ in their UIDs only."""
    ds = photograph(transfer_syntax=size.transfer_syntax, size=size.picture)
    folder = directory / round_name
    folder.mkdir()
    paths = []
    for number in range(size.count):
        ds.SOPInstanceUID = generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        paths.append(save(ds, folder / f"{number}.dcm"))
    return paths


def send(port: int, paths: list[Path], associations: int, environment: Mapping[str, str]) -> float:
    """Send all files over so many associations at once.

    Returns:
        Seconds from the first association request to the last release.
    """
    program = find_peer("dcmsend")
    assert program is not None
    command = [program, "-v", "-aec", "ANY-SCP", "127.0.0.1", str(port)]
    requested: list[float] = []
    released: list[float] = []

    def watch(sender: subprocess.Popen[str]) -> None:
        assert sender.stdout is not None
        said = []
        for line in sender.stdout:
            said.append(line)
            if "Requesting Association" in line:
                requested.append(time.perf_counter())
            elif "Releasing Association" in line:
                released.append(time.perf_counter())
        if sender.wait(_SEND_TIMEOUT_S) != 0:
            sys.stderr.write("".join(said)[-2000:])

    senders = [
        subprocess.Popen(
            [*command, *map(str, paths[i::associations])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
        )
        for i in range(associations)
    ]
    watchers = [threading.Thread(target=watch, args=(sender,)) for sender in senders]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    if any(sender.returncode for sender in senders) or len(released) != associations:
        raise SystemExit("dcmsend failed")
    return max(released) - min(requested)


def measure_size(
    directory: Path,
    size: Size,
    peers: Mapping[str, Callable[[Path], AbstractContextManager[Target]]],
    rounds: int,
) -> tuple[dict[tuple[str, int], Result], float]:
    """Measure one size with everybody, in rounds that alternate between the peers.

    Returns:
        Results by sender and number of associations, and our node's peak RSS in MB.
    """
    taken: dict[tuple[str, int, str], list[Round]] = defaultdict(list)
    with ExitStack() as stack:
        targets = {}
        for name, start in peers.items():
            folder = directory / f"{size.name.replace(' ', '')}-{name}"
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            targets[name] = stack.enter_context(start(folder))
        for number in range(rounds):
            order = [*targets][number % len(targets) :] + [*targets][: number % len(targets)]
            for sender, environment in SENDERS.items():
                for associations in ASSOCIATIONS:
                    paths = make_files(directory, size, "sent")
                    for name in order:
                        target = targets[name]
                        cpu_before_s = target.cpu_s()
                        took_s = send(target.port, paths, associations, environment)
                        cpu_s = target.cpu_s() - cpu_before_s
                        taken[sender, associations, name].append(
                            Round(rate=len(paths) / took_s, cpu_ms=cpu_s * 1e3 / len(paths))
                        )
                    shutil.rmtree(directory / "sent")
        peak_mb = targets["ours"].peak_rss_mb()
    results = {}
    for sender in SENDERS:
        for associations in ASSOCIATIONS:
            by_peer = {name: taken[sender, associations, name] for name in peers}
            results[sender, associations] = Result(
                rates={name: median(r.rate for r in each) for name, each in by_peer.items()},
                cpu_ms={name: median(r.cpu_ms for r in each) for name, each in by_peer.items()},
            )
    return results, peak_mb


def measure(
    directory: Path,
    peers: Mapping[str, Callable[[Path], AbstractContextManager[Target]]],
    sizes: tuple[Size, ...],
    rounds: int,
) -> dict[str, object]:
    """Measure everything and print as it comes; answers the smallest ratios."""
    ratios: dict[str, dict[str, list[float]]] = {sender: defaultdict(list) for sender in SENDERS}
    peaks: dict[str, float] = {}
    print(
        f"{'object':7} {'sender':8} {'assoc':>5} | {'ours/s':>8} {'orthanc':>8} {'pynetd.':>8} {'sink':>8} |"
        f" {'x orth.':>7} {'x pynd.':>7} | CPU ms each: {'ours':>6} {'orthanc':>8} {'pynetd.':>8} {'sink':>6}"
    )
    for size in sizes:
        results, peaks[size.name] = measure_size(directory, size, peers, rounds)
        for (sender, associations), found in results.items():
            rate, cpu = found.rates, found.cpu_ms
            over_orthanc, over_plain = rate["ours"] / rate["orthanc"], rate["ours"] / rate["pynetdicom"]
            ratios[sender]["vs_orthanc_small_min" if size.small else "vs_orthanc_large_min"].append(
                over_orthanc
            )
            ratios[sender]["vs_pynetdicom_min"].append(over_plain)
            print(
                f"{size.name:7} {sender:8} {associations:5d} |"
                + "".join(f" {rate[n]:8.1f}" for n in ("ours", "orthanc", "pynetdicom", "sink"))
                + f" | {over_orthanc:7.2f} {over_plain:7.2f} |              {cpu['ours']:6.2f}"
                f" {cpu['orthanc']:8.2f} {cpu['pynetdicom']:8.2f} {cpu['sink']:6.2f}",
                flush=True,
            )
        print(f"{size.name:7} peak RSS of a node process: {peaks[size.name]:.0f} MB", flush=True)
    smallest = {
        sender: {kind: round(min(each), 2) for kind, each in of.items()} for sender, of in ratios.items()
    }
    return {
        **smallest["default"],
        "rss_36mb_over_38kb": round(peaks[sizes[-1].name] / peaks[sizes[0].name], 2),
        "nodelay": smallest["nodelay"],
    }


def print_disk(directory: Path) -> None:
    """What one fsync of a new file costs here, by itself."""
    for size_bytes in (38_000, 4_000_000):
        content, costs_ms = os.urandom(size_bytes), []
        for _ in range(15):
            with (directory / "probe").open("wb") as probe:
                probe.write(content)
                probe.flush()
                began = time.perf_counter()
                os.fsync(probe.fileno())
                costs_ms.append((time.perf_counter() - began) * 1e3)
            (directory / "probe").unlink()
        print(f"fsync of a new file of {size_bytes // 1000} KB: median {median(costs_ms):.2f} ms")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of a quarter of the objects")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="receiving processes of our node")
    parser.add_argument("--sizes", nargs="+", default=[size.name for size in SIZES], help="only these")
    options = parser.parse_args()
    sizes, rounds = tuple(size for size in SIZES if size.name in options.sizes), options.rounds
    if options.quick:  # at least 8: one an association
        sizes, rounds = tuple(replace(size, count=max(8, size.count // 4)) for size in sizes), 1
    directory = Path(tempfile.mkdtemp(prefix="bench-receive-"))
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.start()
    try:
        url = postgres.ensure_database("bench")
        migrate(url)
        print_disk(directory)
        database_pid = int((directory / "postgres" / "postmaster.pid").read_text().split()[0])
        peers: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
            "ours": lambda folder: our_node(folder, url, database_pid, options.processes),
            "orthanc": orthanc,
            "pynetdicom": pynetdicom,
            "sink": sink,
        }
        print(json.dumps(measure(directory, peers, sizes, rounds)))
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
