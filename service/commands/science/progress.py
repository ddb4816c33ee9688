"""What commands that appraise show while they work: how far they are, and not what native code logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.appraisal.face.finder import Face, MediapipeFaceFinder


def step_progress(console: Console) -> Progress:
    """Progress on a console, and only where someone watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def steps_shown(progress: Progress) -> Callable[[int, int], None]:
    """Add a bar for the steps of a normaliser, seen while there are some left."""
    task = progress.add_task("normalising", total=None, visible=False)

    def show(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=done < total)

    return show


@contextmanager
def native_logs_muted() -> Iterator[None]:
    """Keep what native libraries write to file descriptor 2 while they load off the screen."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class QuietFinder:
    """Finds faces without a word of the native code, which logs while it loads and with the first face."""

    def __init__(self) -> None:
        self._finder = MediapipeFaceFinder()
        self._has_seen = False

    def find(self, rgb: NDArray[np.uint8]) -> tuple[Face, ...]:
        """Return the faces, the largest first.

        Args:
            rgb: (H, W, 3) uint8, sRGB.
        """
        if self._has_seen:
            return self._finder.find(rgb)
        with native_logs_muted():
            found = self._finder.find(rgb)
        self._has_seen = bool(found)
        return found

    def load(self) -> None:
        """Load the models now."""
        with native_logs_muted():
            self._finder.load()
