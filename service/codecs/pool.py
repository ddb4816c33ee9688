"""Warm child processes that decode, a few at a time, for the threads of one process."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from service.codecs import messages
from service.errors import (
    DecoderLostError,
    UndecodablePhotographError,
    UnsupportedPhotographError,
)

_log = structlog.get_logger(__name__)

_ROOT = Path(__file__).resolve().parents[2]  # where the package ``service`` lies
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from service.codecs.child import main;"
    " main(int(sys.argv[2]), int(sys.argv[3]))"
)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")  # no setting and no secret goes to a child
_START_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a child may use for one frame."""

    memory_bytes: int = 256 << 20  # beside what the decoders need when they are loaded
    memory_per_byte: float = 24.0  # of the decoded frame; OpenJPEG needs most
    most_memory_bytes: int = 6 << 30
    cpu_s: float = 20.0
    cpu_s_per_byte: float = 0.5e-6  # of the decoded frame
    wall_factor: float = 4.0  # of the time above; the machine may have other things to do


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a child made of a request."""

    pixels: NDArray[np.generic]  # not writeable
    photometric_interpretation: str
    notes: tuple[str, ...]


class _Child:
    """One process and the channel to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._source = os.memfd_create("semblance-code-stream", os.MFD_CLOEXEC)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        arguments = (str(_ROOT), str(theirs.fileno()), str(self._source))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _PROGRAM, *arguments],
            env=kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), self._source),
            start_new_session=True,
        )
        theirs.close()
        self._is_ready = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def await_ready(self) -> None:
        """Wait until it has loaded the decoders.

        Raises:
            OSError, EOFError, BrokenAnswerError: It does not start.
        """
        if not self._is_ready:
            self._channel.settimeout(_START_S)
            messages.receive(self._channel)
            self._is_ready = True

    def ask(self, request: Mapping[str, Any], data: bytes, wall_s: float) -> Answer | dict[str, Any]:
        """Have one thing done; an answer that holds no pixels is handed over as it came.

        Raises:
            OSError, EOFError, BrokenAnswerError: The child is to be ended.
        """
        view, written = memoryview(data), 0
        while written < len(view):
            written += os.pwrite(self._source, view[written:], written)
        self._channel.settimeout(wall_s)
        self._channel.send(messages.encode({**request, "length": len(data)}))
        answer, descriptors = messages.receive(self._channel)
        try:
            if not descriptors:
                return answer
            frame = messages.MemoryFrame(
                shape=tuple(int(side) for side in answer["shape"]),
                dtype=str(answer["dtype"]),
                offset=int(answer["offset"]),
            )
            return Answer(
                pixels=messages.sealed_array(descriptors[0], frame),
                photometric_interpretation=str(answer["photometric_interpretation"]),
                notes=tuple(str(note) for note in answer["notes"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise messages.BrokenAnswerError("half an answer") from exc
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def end(self) -> str:
        """Kill it if it still runs.

        Returns:
            How it ended, in words.
        """
        self._channel.close()
        os.close(self._source)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # it may be about to end by itself, which says more
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            return "took too long"
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return "took too long"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with {code}"


class CodecPool:
    """Children that decode; see the module's text."""

    def __init__(self, most: int, limits: Limits | None = None) -> None:
        """Nothing runs before ``warm`` or the first ``ask``.

        Args:
            most: Children at once; more callers wait.
            limits: Of each frame.
        """
        self._most = most
        self._limits = limits or Limits()
        self._turn = threading.Condition()
        self._idle: list[_Child] = []
        self._count = 0
        self._closed = False

    def warm(self) -> None:
        """Start the first child, so that the first photograph does not wait for it."""
        with self._turn:
            if not self._idle and self._count < self._most:
                self._count += 1
                self._idle.append(_Child())

    def pids(self) -> list[int]:
        """Of the children that are at rest."""
        with self._turn:
            return [child.pid for child in self._idle]

    def ask(self, request: Mapping[str, Any], data: bytes, decoded_bytes: int) -> Answer:
        """Have a child do one thing.

        Args:
            request: What, see ``service.codecs.child``.
            data: What it is done with.
            decoded_bytes: About how much comes of it; sets the limits of memory and time.

        Raises:
            UndecodablePhotographError, UnsupportedPhotographError: The child's judgement.
            DecoderLostError: The child ended, or did not answer in time.
        """
        limits = self._limits
        cpu_s = limits.cpu_s + limits.cpu_s_per_byte * decoded_bytes
        memory_bytes = limits.memory_bytes + limits.memory_per_byte * decoded_bytes + len(data)
        bounds = {"cpu_s": cpu_s, "memory_bytes": min(limits.most_memory_bytes, int(memory_bytes))}
        child = self._take()
        try:
            child.await_ready()
            answer = child.ask({**request, **bounds}, data, cpu_s * limits.wall_factor)
        except (OSError, EOFError, messages.BrokenAnswerError) as exc:
            how = self._lose(child)
            how = f"gave no answer ({exc})" if isinstance(exc, messages.BrokenAnswerError) else how
            _log.warning("decoder-lost", pid=child.pid, how=how, what=request.get("what"))
            raise DecoderLostError(f"the process that decoded the photograph {how}") from exc
        except BaseException:  # as an interrupt: what the child says later is no answer to the next request
            self._lose(child)
            raise
        self._give_back(child)
        if isinstance(answer, Answer):
            return answer
        text = str(answer.get("text", ""))
        if answer.get("error") == "unsupported":
            raise UnsupportedPhotographError(text)
        raise UndecodablePhotographError(f"the pixel data cannot be decoded: {text}")

    def close(self) -> None:
        """End the children at rest; those at work end when they have answered."""
        with self._turn:
            self._closed = True
            ended, self._idle = self._idle, []
            self._count -= len(ended)
        for child in ended:
            child.end()

    def _take(self) -> _Child:
        with self._turn:
            while not self._idle and self._count >= self._most:
                self._turn.wait()
            while self._idle:
                child = self._idle.pop()
                if child.is_alive:
                    return child
                self._count -= 1  # ended while at rest, which is no photograph's fault
                _log.warning("decoder-gone", pid=child.pid, how=child.end())
            self._count += 1
        try:
            return _Child()
        except BaseException:
            with self._turn:
                self._count -= 1
                self._turn.notify()
            raise

    def _give_back(self, child: _Child) -> None:
        with self._turn:
            if not self._closed:
                self._idle.append(child)
                self._turn.notify()
                return
        self._lose(child)

    def _lose(self, child: _Child) -> str:
        """End a child; another starts at once, beside what the caller does next."""
        how = child.end()
        with self._turn:
            self._count -= 1
            if not self._closed and not self._idle:
                self._count += 1
                self._idle.append(_Child())
            self._turn.notify()
        return how


@cache
def _pool_of(process_id: int) -> CodecPool:
    pool = CodecPool(max(2, os.cpu_count() or 1))
    atexit.register(pool.close)
    return pool


def shared_pool() -> CodecPool:
    """The pool of this process."""
    return _pool_of(os.getpid())
