"""What commands that appraise show while they work: how far they are, and not what native code logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.appraisal.face.finder import MediapipeFaceFinder
from service.appraisal.photograph.decode import read_photograph
from service.errors import PhotographError


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


def loaded_finder(first: Path) -> MediapipeFaceFinder:
    """Load the face models; some native code logs only with the first face, so one is looked for too.

    Args:
        first: A photograph; one that cannot be read is left to whoever appraises it.
    """
    finder = MediapipeFaceFinder()
    with native_logs_muted():
        finder.load()
        with suppress(PhotographError):
            finder.find(read_photograph(first).rgb)
    return finder
