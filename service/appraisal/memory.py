"""Memory between photographs: kept for the next one, not given back to the system and asked for anew.

An appraisal takes and frees some hundred megabytes of short-lived arrays. glibc's malloc gives large
ones back to the system at once, which then clears every page again before the next use: thousands of
page faults, a tenth of an appraisal's time on a CPU.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD of mallopt(3)
_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD
KEPT_BYTES: Final = 512 * 1024 * 1024  # freed memory at the top of the heap that stays, at most
LARGEST_BYTES: Final = 32 * 1024 * 1024  # the most that glibc takes from the heap at once


@cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees, up to ``KEPT_BYTES``; of many calls the first counts.

    Returns:
        Whether the C library could be told; False where it is not glibc, and nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
