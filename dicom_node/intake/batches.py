"""Work of several threads done together: one of them does it for all who wait.

Whoever comes while a batch is under way waits, and then finds others waiting too. The one who waited
longest leads the next batch. All of a batch are woken at once, each by itself: were they to take one
lock in turn, each would wait for the one before to be given a processor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True)
class _Waiting(Generic[_Item]):
    item: _Item
    is_done: bool = False
    turn: threading.Lock = field(default_factory=_held)  # released when done, or when to lead


class Batches(Generic[_Item]):
    """Hands what threads submit to ``work``, several at a time, one batch after the other."""

    def __init__(
        self, work: Callable[[Sequence[_Item]], None], count: Callable[[Sequence[_Item]], int]
    ) -> None:
        """Wait for the first.

        Args:
            work: Does one batch; what it raises is raised to the thread that leads, and to no other.
            count: How many of the first who wait make a batch, at least one.
        """
        self._work = work
        self._count = count
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[_Item]] = []
        self._is_led = False

    def submit(self, item: _Item) -> None:
        """Have an item worked on; returns after the batch that held it."""
        own = _Waiting(item)
        with self._lock:
            self._waiting.append(own)
            leads, self._is_led = not self._is_led, True
        if not leads:
            own.turn.acquire()
            if own.is_done:
                return
        self._lead(own)

    def waiting(self) -> int:
        """How many wait for a batch to come."""
        with self._lock:
            return len(self._waiting)

    def _lead(self, own: _Waiting[_Item]) -> None:
        """Do the first batch, which holds the leader's own item, and hand the lead over."""
        with self._lock:
            count = self._count([each.item for each in self._waiting])
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
        try:
            self._work([each.item for each in batch])
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._is_led = heir is not None
            if heir is not None:
                heir.turn.release()
            for each in batch:
                each.is_done = True
                if each is not own:
                    each.turn.release()
