"""A timer of pynetdicom's that no setting of the clock can make expire early, or never."""

from __future__ import annotations

import time

from pynetdicom.timer import Timer


class MonotonicTimer(Timer):
    """See Timer; pynetdicom's own follows the time of day, and ends every association when that jumps."""

    def start(self) -> None:
        """Reset and run."""
        self._start_time = time.monotonic()
        self._end_time = None

    def stop(self) -> None:
        """Stop."""
        self._end_time = time.monotonic()

    @property
    def remaining(self) -> float:
        """Seconds until it expires, negative afterwards; 1 when it never does."""
        if self.timeout is None:
            return 1
        if self._start_time is None:
            return self.timeout
        until = time.monotonic() if self._end_time is None else self._end_time
        return self.timeout - (until - self._start_time)
