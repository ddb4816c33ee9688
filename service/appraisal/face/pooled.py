"""Face finders for the threads of a process: each search has one to itself."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.finder import Face, FaceFinder


class PooledFaceFinder:
    """A FaceFinder that searches as many pictures at once as it is called for; each finder stays warm."""

    def __init__(self, make: Callable[[], FaceFinder], most: int) -> None:
        """Nothing is loaded before ``load`` or the first search.

        Args:
            make: Makes a finder.
            most: Finders at once; more callers wait.
        """
        self._make = make
        self._most = threading.BoundedSemaphore(most)
        self._warm = most
        self._lock = threading.Lock()
        self._idle: list[FaceFinder] = []

    def find(self, rgb: NDArray[np.uint8]) -> tuple[Face, ...]:
        """See FaceFinder."""
        with self._most:
            with self._lock:
                finder = self._idle.pop() if self._idle else self._make()
            try:
                return finder.find(rgb)
            finally:
                with self._lock:
                    self._idle.append(finder)

    def load(self) -> None:
        """Make and load every finder now rather than with the first photographs."""
        finders = [self._make() for _ in range(self._warm)]
        for finder in finders:
            finder.load()
        with self._lock:
            self._idle += finders
