"""From C-STORE to the Secondary Capture in a foreign PACS: latency, rate, CPU, bytes.

``python -m bench.pipeline`` starts the whole product as ``semblance up`` does, with dcmtk's storescp as the
PACS that gets the results, and sends photographs with dcmtk's storescu. For each size it sends one photograph
a second; of 12 megapixels it also sends many at once, with one, two and four threads that appraise. Latency
ends when the Secondary Capture lies in the PACS's directory; the Observation is committed before the delivery
begins, and every one is read through the API at the end. CPU is that of all processes of the product with
PostgreSQL and Redis, without sender and PACS. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from skimage import data

from dicom_node.demo.wrap import Wrapping, wrap_photograph
from service.commands.program import PROGRAM
from service.config import load_settings
from service.peers import Destination
from service.stack.stack import Stack, StackFacts, StackOptions, free_port
from service.stack.waiting import wait_until

MEGAPIXELS: Mapping[str, tuple[int, int]] = {"1.7": (1130, 1500), "12": (3000, 4000), "50": (5774, 8660)}
_QUALITY = {"1.7": 92, "12": 88, "50": 80}
_TIMEOUT_S = 600.0
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One photograph on its way."""

    sop_instance_uid: str
    path: Path
    at: float  # seconds since the epoch, when its sender was started


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What came of one run."""

    photographs: int
    latencies_s: list[float]
    cpu_s: Mapping[str, float]  # by process, in all
    source_bytes: int
    stored_bytes: int
    sent_bytes: int
    span_s: float  # from the first sent to the last stored

    def percentile(self, share: float) -> float:
        """Latency that so many percent are within."""
        return float(np.percentile(self.latencies_s, share))

    @property
    def cpu_each_s(self) -> float:
        """CPU seconds a photograph, all processes together."""
        return sum(self.cpu_s.values()) / self.photographs


def picture(size: tuple[int, int], number: int) -> NDArray[np.uint8]:
    """A portrait with a camera's grain, (H, W, 3) uint8, sRGB; every number gives other pixels."""
    height, width = size
    head = np.ascontiguousarray(data.astronaut()[0:300, 40:440])  # type: ignore[no-untyped-call]
    large = cv2.resize(head, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    rng = np.random.default_rng(number)
    grain = rng.integers(-6, 7, (512, 512, 3), dtype=np.int16)
    tiles = (-(-height // 512), -(-width // 512), 1)
    noisy = large + np.roll(np.tile(grain, tiles)[:height, :width], number, axis=1)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def photographs(directory: Path, megapixels: str, count: int, label: str) -> list[Path]:
    """Write so many photographs as DICOM files."""
    paths = []
    for number in range(count):
        rgb = picture(MEGAPIXELS[megapixels], number)
        name = f"bench-{label}-{megapixels}-{number}"
        dataset = wrap_photograph(
            rgb, Wrapping(name=name, study=f"{name}-study", patient_id=f"BENCH-{number}")
        )
        stream = io.BytesIO()
        Image.fromarray(rgb).save(stream, "JPEG", quality=_QUALITY[megapixels])
        dataset.PixelData = encapsulate([stream.getvalue()])
        path = directory / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


@contextmanager
def pacs(directory: Path) -> Iterator[int]:
    """A foreign PACS that keeps what it gets, byte for byte; yields its port."""
    port = free_port()
    directory.mkdir(parents=True)
    command = ["storescp", "--fork", "+xa", "-od", str(directory), "-aet", "PACS", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


@contextmanager
def product(directory: Path, pacs_port: int, threads: int) -> Iterator[StackFacts]:
    """The whole product, results going to that PACS."""
    destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs_port)
    environment = {
        "SEMBLANCE_DESTINATIONS": json.dumps([destination.model_dump(mode="json")]),
        "SEMBLANCE_APPRAISAL_THREADS": str(threads),
        "SEMBLANCE_LOG_LEVEL": "WARNING",
        "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
    }
    options = StackOptions(data_dir=directory, demo_pacs=False, environment=environment)
    stack = Stack(options, load_settings(), PROGRAM)
    try:
        yield stack.start()
    finally:
        stack.stop()


def cpu_seconds(facts: StackFacts) -> dict[str, float]:
    """CPU seconds spent so far, by process with its children."""
    postmaster = Path(facts.storage_dir).parent / "postgres" / "postmaster.pid"
    roots = dict(facts.pids) | {"postgres": int(postmaster.read_text().split()[0])}
    return {name: _tree_cpu_s(pid) for name, pid in roots.items()}


def _tree_cpu_s(pid: int) -> float:
    """Of a process, its living descendants, and those it has waited for."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
    except psutil.NoSuchProcess:
        return 0.0
    return total


def send(paths: Sequence[Path], facts: StackFacts, every_s: float) -> list[Sent]:
    """Send photographs, one association each, so many seconds apart; all on one association for 0."""
    target = ["-aet", "BENCH", "-aec", facts.dicom_ae_title, "127.0.0.1", str(facts.dicom_port)]
    uids = [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    if every_s == 0:
        at = time.time()
        subprocess.run(["storescu", "-xy", *target, *map(str, paths)], check=True, capture_output=True)
        return [Sent(sop_instance_uid=uid, path=p, at=at) for uid, p in zip(uids, paths, strict=True)]
    sent, senders, begun = [], [], time.monotonic()
    for number, (uid, path) in enumerate(zip(uids, paths, strict=True)):
        time.sleep(max(0.0, begun + number * every_s - time.monotonic()))
        sent.append(Sent(sop_instance_uid=uid, path=path, at=time.time()))
        senders.append(subprocess.Popen(["storescu", "-xy", *target, str(path)], stdout=subprocess.DEVNULL))
    for sender in senders:
        if sender.wait(_TIMEOUT_S) != 0:
            raise RuntimeError("a photograph was not taken")
    return sent


def captured(directory: Path) -> dict[str, float]:
    """When each photograph's Secondary Capture was stored: seconds since the epoch by its source's UID."""
    found = {}
    for path in directory.iterdir():
        dataset = dcmread(path, stop_before_pixels=True)
        if dataset.SOPClassUID == _SECONDARY_CAPTURE:
            found[str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)] = path.stat().st_mtime
    return found


def stored_bytes(facts: StackFacts) -> int:
    """What lies in the instance store, without what can be made again."""
    store = Path(facts.storage_dir)
    return sum(p.stat().st_size for p in store.rglob("*") if p.is_file() and "renditions" not in p.parts)


def run(facts: StackFacts, received: Path, paths: Sequence[Path], every_s: float) -> Figures:
    """Send photographs, wait until all their results are in the PACS, and measure."""
    there = {path.name for path in received.iterdir()}
    before, bytes_before = cpu_seconds(facts), stored_bytes(facts)
    sent = send(paths, facts, every_s)
    objects = 2 * len(paths)  # a Secondary Capture and a structured report each
    wait_until(
        lambda: len(os.listdir(received)) >= len(there) + objects,
        timeout_s=_TIMEOUT_S,
        what="the results in the PACS",
        interval_s=0.2,
    )
    done = captured(received)
    wait_until(lambda: _is_at_rest(facts), timeout_s=60, what="the product to rest", interval_s=0.1)
    after = cpu_seconds(facts)
    ends = [done[each.sop_instance_uid] for each in sent]
    _read_observations(facts, len(paths))
    new = [path for path in received.iterdir() if path.name not in there]
    return Figures(
        photographs=len(paths),
        latencies_s=[end - each.at for end, each in zip(ends, sent, strict=True)],
        cpu_s={name: after[name] - before.get(name, 0.0) for name in after},
        source_bytes=sum(path.stat().st_size for path in paths),
        stored_bytes=stored_bytes(facts) - bytes_before,
        sent_bytes=sum(path.stat().st_size for path in new),
        span_s=max(ends) - min(each.at for each in sent),
    )


def _is_at_rest(facts: StackFacts) -> bool:
    """Whether hardly any CPU is used over a moment."""
    before = sum(cpu_seconds(facts).values())
    time.sleep(0.5)
    return sum(cpu_seconds(facts).values()) - before < 0.1


def _read_observations(facts: StackFacts, least: int) -> None:
    answer = httpx.get(f"{facts.fhir_url}/Observation?_summary=count", timeout=30)
    answer.raise_for_status()
    if int(answer.json()["total"]) < least:
        raise RuntimeError("an Observation cannot be read")


def tell(label: str, figures: Figures) -> None:
    """Print one run's figures for people."""
    each = {name: round(value / figures.photographs, 3) for name, value in figures.cpu_s.items()}
    print(
        f"{label}: {figures.photographs} photographs; p50 {figures.percentile(50):.2f} s,"
        f" p95 {figures.percentile(95):.2f} s, p99 {figures.percentile(99):.2f} s;"
        f" {figures.photographs / figures.span_s:.2f} a second; CPU {figures.cpu_each_s:.3f} s each {each};"
        f" stored {figures.stored_bytes / figures.source_bytes:.2f},"
        f" sent {figures.sent_bytes / figures.source_bytes:.2f} of the source's"
        f" {figures.source_bytes / figures.photographs / 1e6:.2f} MB",
        flush=True,
    )


def measure(directory: Path, options: argparse.Namespace) -> dict[str, object]:
    """Run everything; returns what the last line says."""
    steady: dict[str, Figures] = {}
    at_once: dict[int, Figures] = {}
    for threads in options.threads:
        place = directory / f"threads-{threads}"
        received = place / "pacs"
        with pacs(received) as port, product(place / "stack", port, threads) as facts:
            sources = place / "sources"
            sources.mkdir()
            run(facts, received, photographs(sources, "1.7", 2, "warm"), 0)
            if threads == options.threads[0]:
                for size in options.megapixels:
                    paths = photographs(sources, size, options.photographs, "steady")
                    steady[size] = run(facts, received, paths, 1.0)
                    tell(f"{size} megapixels, one a second", steady[size])
            paths = photographs(sources, "12", options.burst, "burst")
            at_once[threads] = run(facts, received, paths, 0)
            tell(f"12 megapixels, all at once, {threads} threads", at_once[threads])
        shutil.rmtree(place)
    twelve = steady.get("12") or at_once[options.threads[0]]
    rates = {threads: round(f.photographs / f.span_s, 2) for threads, f in at_once.items()}
    return {
        "p95_s": round(twelve.percentile(95), 3),
        "per_s": max(rates.values()),
        "cpu_s_12mp": round(twelve.cpu_each_s, 3),
        "stored_over_source_12mp": round(twelve.stored_bytes / twelve.source_bytes, 3),
        "sent_over_source_12mp": round(twelve.sent_bytes / twelve.source_bytes, 3),
        "device": device(),
        "p95_s_by_megapixels": {size: round(f.percentile(95), 3) for size, f in steady.items()},
        "p50_s_by_megapixels": {size: round(f.percentile(50), 3) for size, f in steady.items()},
        "p99_s_by_megapixels": {size: round(f.percentile(99), 3) for size, f in steady.items()},
        "per_s_by_threads": rates,
        "median_load": round(statistics.median(os.getloadavg()), 1),
    }


def device() -> str:
    """Where forward passes run."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {os.cpu_count()} cores"


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=int, default=40, help="of each size, one a second")
    parser.add_argument("--burst", type=int, default=40, help="photographs of 12 megapixels sent at once")
    parser.add_argument("--megapixels", nargs="*", default=list(MEGAPIXELS), choices=list(MEGAPIXELS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4], help="threads that appraise")
    options = parser.parse_args()
    if not shutil.which("storescu") or not shutil.which("storescp"):
        sys.exit("bench.pipeline needs dcmtk: storescu and storescp")
    with tempfile.TemporaryDirectory(prefix="semblance-pipeline-") as name:
        Path(name).chmod(0o755)  # PostgreSQL runs as a user of its own
        print(json.dumps(measure(Path(name), options)))


if __name__ == "__main__":
    main()
