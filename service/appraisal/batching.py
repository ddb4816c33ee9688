"""Forward passes of several photographs together, whoever brings them.

Threads that appraise call the same ``Batches``; whoever comes first waits a moment for others, then runs the
network for all. Every batch that is run has the same shape, filled up where too few came: a network's kernels
are chosen by the shape, so a result does not depend on what else was in its batch. With batches of one, as on
a CPU, nobody waits and threads run beside each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How forward passes are put together."""

    size: int = 1  # faces in every pass
    longest_wait_s: float = 0.0  # for others, before a pass with fewer
    note: Callable[[int], None] | None = None  # told the faces of each pass


ALONE = Batching()


@dataclass(slots=True, eq=False)
class _Entry(Generic[Result]):
    item: NDArray[np.uint8]
    result: Result | None = None
    error: BaseException | None = None
    is_taken: bool = False  # into a batch that somebody runs
    is_done: bool = False


class Batches(Generic[Result]):
    """Runs a function of batches for single items; safe to share between threads."""

    def __init__(self, run: Callable[[NDArray[np.uint8]], Sequence[Result]], batching: Batching) -> None:
        """Nothing runs before the first call.

        Args:
            run: (size, ...) uint8 to one result an item.
            batching: How many together, and how long to wait for them.
        """
        self._run = run
        self._batching = batching
        self._turn = threading.Condition()
        self._waiting: list[_Entry[Result]] = []
        self._is_led = False

    def __call__(self, items: Sequence[NDArray[np.uint8]]) -> list[Result]:
        """Run items of one shape with those that other threads bring meanwhile; results keep their order."""
        if self._batching.size == 1:
            for _ in items:
                self._noted(1)
            return [self._run(item[None])[0] for item in items]
        entries: list[_Entry[Result]] = [_Entry(item) for item in items]
        with self._turn:
            self._waiting += entries
            self._turn.notify_all()
        for entry in entries:
            self._finish(entry)
        return [self._given(entry) for entry in entries]

    def _finish(self, entry: _Entry[Result]) -> None:
        """Wait until somebody has run the entry, or lead a batch where nobody does.

        Whose entry is in a batch already has nothing to lead: as a leader they would hold their own result
        back until others come.
        """
        while True:
            with self._turn:
                self._turn.wait_for(lambda: entry.is_done or not (self._is_led or entry.is_taken))
                if entry.is_done:
                    return
                self._is_led = True
            self._lead()

    def _lead(self) -> None:
        """Gather a batch and run it; somebody else leads the next one meanwhile."""
        size = self._batching.size
        until = time.monotonic() + self._batching.longest_wait_s
        with self._turn:
            while len(self._waiting) < size and (left_s := until - time.monotonic()) > 0:
                self._turn.wait(left_s)
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            for entry in batch:
                entry.is_taken = True
            self._is_led = False
            self._turn.notify_all()
        self._noted(len(batch))
        try:
            results = self._run(_filled([entry.item for entry in batch], size))
            for entry, result in zip(batch, results, strict=False):  # what filled it up has none
                entry.result = result
        except BaseException as exc:  # noqa: BLE001 -- raised again for everybody whose batch it was
            for entry in batch:
                entry.error = exc
        with self._turn:
            for entry in batch:
                entry.is_done = True
            self._turn.notify_all()

    def _noted(self, faces: int) -> None:
        if self._batching.note is not None:
            self._batching.note(faces)

    @staticmethod
    def _given(entry: _Entry[Result]) -> Result:
        if entry.error is not None:
            raise entry.error
        if entry.result is None:
            raise RuntimeError("a forward pass gave too few results")
        return entry.result


def _filled(items: Sequence[NDArray[np.uint8]], size: int) -> NDArray[np.uint8]:
    """(size, ...): the items, then the last again and again."""
    return np.stack([*items, *[items[-1]] * (size - len(items))])
