"""The appraiser of a worker: one for its process, used by as many photographs at once as the settings say."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from service.appraisal.appraiser import GPU_BATCH, Appraiser
from service.appraisal.batching import Batching
from service.appraisal.face.finder import MediapipeFaceFinder
from service.appraisal.face.pooled import PooledFaceFinder
from service.appraisal.model_files.models import ModelStore
from service.config import Settings
from service.meters import BATCH_FACES

_BYTES_A_PIXEL = 12  # RGB as it comes and as it is kept, and luminance of the face
_PART_OF_UNKNOWN = 4  # a photograph whose size cannot be read counts for so much of the budget


def appraiser_of(settings: Settings) -> Appraiser:
    """The appraiser of this process, built at the first call."""
    wait_s = settings.appraisal_batch_wait_ms / 1000
    crew = _Crew(threads=settings.appraisal_threads, batch=settings.appraisal_batch, longest_wait_s=wait_s)
    return _appraiser(settings.method, settings.model_dir, settings.device, crew)


@dataclass(frozen=True, kw_only=True)
class _Crew:
    """How many photographs are appraised at once, and how their forward passes are put together."""

    threads: int
    batch: int  # 0: by the device
    longest_wait_s: float


@cache
def _appraiser(method: str, model_dir: Path | None, device: str, crew: _Crew) -> Appraiser:
    from service.appraisal.acceleration import pick_device

    picked = pick_device(device)
    size = crew.batch or (GPU_BATCH if picked == "cuda" else 1)
    _share_cores(crew.threads)
    return Appraiser(
        method,
        store=ModelStore(model_dir),
        device=picked,
        face_finder=PooledFaceFinder(MediapipeFaceFinder, crew.threads),
        batching=Batching(size=size, longest_wait_s=crew.longest_wait_s, note=BATCH_FACES.observe),
    )


def _share_cores(threads: int) -> None:
    """Let the photographs that are appraised at once share the cores, not fight for them."""
    import cv2
    import torch

    each = max(1, (os.cpu_count() or 1) // threads)
    torch.set_num_threads(min(each, torch.get_num_threads()))
    cv2.setNumThreads(each)


class MemoryBudget:
    """Bytes that photographs may take together; more of them wait their turn."""

    def __init__(self, most_bytes: int) -> None:
        """Nothing is taken.

        Args:
            most_bytes: A photograph that needs more is alone.
        """
        self._most = most_bytes
        self._taken = 0
        self._turn = threading.Condition()

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Take so many bytes while the body runs, once there is room for them."""
        size = min(size_bytes, self._most)
        with self._turn:
            self._turn.wait_for(lambda: self._taken + size <= self._most)
            self._taken += size
        try:
            yield
        finally:
            with self._turn:
                self._taken -= size
                self._turn.notify_all()


@cache
def memory_budget(most_bytes: int) -> MemoryBudget:
    """The budget of this process."""
    return MemoryBudget(most_bytes)


def needed_bytes(content: bytes, settings: Settings) -> int:
    """About how much memory appraising a photograph takes, by its header."""
    try:
        header = dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return _BYTES_A_PIXEL * int(header.Rows) * int(header.Columns) + len(content)
    except (InvalidDicomError, AttributeError, TypeError, ValueError, OSError, EOFError):
        return settings.appraisal_memory_bytes // _PART_OF_UNKNOWN
