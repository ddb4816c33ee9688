"""Memory of every process of a running stack under photographs made to do harm, beside its usual.

    semblance up --data-dir /tmp/bombed --dicom-port 11112 --api-port 8080
    python -m bench.bombs --data-dir /tmp/bombed [--files FOLDER]

First ordinary photographs of 12 megapixels are stored and shown, then bombs: code streams that claim to be
huge, damaged ones, a million frames, and the DICOM files of a folder. Each line has the most memory that a
process took in either part, in MB, sampled fifty times a second; its children are a line of their own.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pynetdicom import AE
from skimage import data

from service.stack.stack import StackFacts, running_stack
from tests.acceptance.bombs import BOMBS
from tests.part10 import part10
from tests.photographs import photograph

_PAUSE_S = 0.02
_USUAL = 8
_SIDE = 3464  # 12 megapixels
_REST_S = 20.0  # for the workers to end what came


class Peaks:
    """The most memory of each process and of the children of each, while it watches."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._stopped = threading.Event()
        self.mb: collections.Counter[str] = collections.Counter()

    def _watch(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            for name, pid in self._pids.items():
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    self._note(name, process)
                    for child in process.children(recursive=True):
                        self._note(f"{name}: child", child)

    def _note(self, name: str, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            self.mb[name] = max(self.mb[name], int(process.memory_info().rss / 1e6))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """For as long as the body runs."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()


def usual() -> Iterator[bytes]:
    """Portraits of 12 megapixels, each another."""
    face = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    for number in range(_USUAL):
        pixels = np.asarray(face.resize((_SIDE + number, _SIDE)))
        yield part10(photograph(pixels))


def bombs(folder: Path | None) -> Iterator[bytes]:
    """Those of the tests, then files."""
    for make in BOMBS.values():
        yield part10(make())
    for path in sorted(folder.glob("*.dcm")) if folder else ():
        yield path.read_bytes()


def store(facts: StackFacts, content: bytes) -> int | None:
    """Send a photograph as it is, then have it shown; returns the status of the C-STORE."""
    sent = dcmread(io.BytesIO(content))
    ae = AE(ae_title="BENCH")
    ae.add_requested_context(sent.SOPClassUID, sent.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", facts.dicom_port, ae_title=facts.dicom_ae_title)
    if not association.is_established:
        return None
    answer = association.send_c_store(sent)
    association.release()
    _show(facts, sent)
    return int(answer.Status) if "Status" in answer else None


def _show(facts: StackFacts, sent: FileDataset) -> None:
    web = facts.fhir_url.removesuffix("/fhir") + "/dicom-web"
    place = f"{web}/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"{place}/instances/{sent.SOPInstanceUID}/rendered", timeout=60)


def measured(
    facts: StackFacts, contents: Iterator[bytes]
) -> tuple[collections.Counter[str], list[int | None]]:
    """Peaks while photographs are stored, shown and appraised; and the statuses."""
    peaks = Peaks(dict(facts.pids))
    with peaks.watching():
        statuses = [store(facts, content) for content in contents]
        time.sleep(_REST_S)
    return peaks.mb, statuses


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 when a process ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--files", type=Path, default=None)
    options = parser.parse_args(arguments)
    facts = running_stack(options.data_dir)
    if facts is None:
        parser.error(f"no stack runs on {options.data_dir}")
    before, _ = measured(facts, usual())
    after, statuses = measured(facts, bombs(options.files))
    print("statuses", " ".join("none" if each is None else f"0x{each:04X}" for each in statuses))
    for name in sorted(before | after):
        ratio = after[name] / before[name] if before[name] else float("nan")
        print(f"{name}: usual {before[name]} MB, under bombs {after[name]} MB, {ratio:.2f}")
    now = running_stack(options.data_dir)
    return 0 if now is not None and now.pids == facts.pids else 1


if __name__ == "__main__":
    raise SystemExit(main())
