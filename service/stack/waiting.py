"""Waiting on conditions instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found], *, timeout_s: float, what: str, interval_s: float = 0.05
) -> Found:
    """Ask a condition until it is true.

    Args:
        condition: Asked again and again; its first true value is returned.
        timeout_s: Longest wait in seconds.
        what: What is waited for, for the error.
        interval_s: Pause between two questions.

    Raises:
        TimeoutError: It was not true in time.
    """
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(interval_s)
    return found
