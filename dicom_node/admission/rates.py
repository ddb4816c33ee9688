"""What callers have left of their rates, in memory that the receiving processes of a node share.

The table has a fixed size and forgets the callers that were quiet longest. Processes and threads take
turns at it by a lock that ends with its holder, so that a process killed in between stops nobody.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ROW = struct.Struct("<16sdd")  # digest of who and what, tokens left, when that was (CLOCK_MONOTONIC)
_ROWS_OF_BUCKET = 16
_BUCKETS = 256  # together so many callers and kinds as 4096
_BUCKET_BYTES = _ROWS_OF_BUCKET * _ROW.size
_TABLE_BYTES = _BUCKETS * _BUCKET_BYTES  # 128 KiB
_DIGEST_BYTES = 16


class RateTable:
    """Who has how many tokens left; for the threads of several processes."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Use a table another process has made, or make one.

        Args:
            descriptor: Of that other's table, inherited; None for a new, empty one.

        Raises:
            OSError: It is no such table, or there is no memory for one.
        """
        if descriptor is None:
            descriptor = os.memfd_create("semblance-rates", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, _TABLE_BYTES)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _TABLE_BYTES)
        self._lock = threading.Lock()  # fcntl's locks do not hold between threads of one process

    def take(self, key: bytes, per_minute: int, now: float, *, tokens_taken: int = 1) -> bool:
        """Take a token if one is left.

        Args:
            key: Who, of what; 16 bytes of a digest.
            per_minute: Tokens that come in a minute, and that a full row holds.
            now: Seconds of CLOCK_MONOTONIC, which all processes of a machine have in common.
            tokens_taken: 0 to look only.
        """
        full = float(per_minute)
        start = int.from_bytes(key[:4], "little") % _BUCKETS * _BUCKET_BYTES
        with self._locked(start):
            offset, tokens, at = self._find(start, key, full, now)
            tokens = min(full, tokens + max(0.0, now - at) * full / 60.0)
            allowed = tokens >= 1.0
            _ROW.pack_into(self._memory, offset, key, tokens - allowed * tokens_taken, now)
        return allowed

    def _find(self, start: int, key: bytes, full: float, now: float) -> tuple[int, float, float]:
        """Offset of a caller's row, its tokens and when; of a new one in place of the oldest."""
        oldest, oldest_at = start, math.inf
        for offset in range(start, start + _BUCKET_BYTES, _ROW.size):
            found, tokens, at = _ROW.unpack_from(self._memory, offset)
            if found == key:
                return offset, tokens, at
            if at < oldest_at:
                oldest, oldest_at = offset, at
        return oldest, full, now

    def close(self) -> None:
        """Give it back; it lasts while another process has it."""
        self._memory.close()
        os.close(self.descriptor)

    @contextmanager
    def _locked(self, start: int) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX, _BUCKET_BYTES, start)
            try:
                yield
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, _BUCKET_BYTES, start)


class RateLimit:
    """At most so many a minute for each caller; a quiet caller may do a minute's worth at once."""

    def __init__(
        self, table: RateTable, kind: str, per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is limited where ``per_minute`` is 0.

        Args:
            table: Shared with the other processes that serve these callers.
            kind: Of what is counted; those of different kinds do not take from each other.
            per_minute: Of each caller.
            clock: Seconds.
        """
        self._table = table
        self._kind = kind
        self._per_minute = per_minute
        self._clock = clock

    def take(self, *who: str) -> bool:
        """Whether a caller may do one more.

        Args:
            who: AE title and address, or whatever else tells callers apart.
        """
        return self._ask(who, 1)

    def has(self, *who: str) -> bool:
        """Whether a caller might do one more; nothing is taken."""
        return self._ask(who, 0)

    def _ask(self, who: tuple[str, ...], tokens: int) -> bool:
        if not self._per_minute:
            return True
        digest = hashlib.blake2b("\0".join((self._kind, *who)).encode(), digest_size=_DIGEST_BYTES).digest()
        return self._table.take(digest, self._per_minute, self._clock(), tokens_taken=tokens)
