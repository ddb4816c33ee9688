"""The process that decodes: it holds no secret, opens no file, and is limited in memory and time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from service.codecs import decoders, messages
from service.codecs.codestream import announced
from service.codecs.frame import FrameGeometry
from service.errors import PhotographError, UnsupportedPhotographError

_PR_SET_NO_NEW_PRIVS = 38
_PAGE_BYTES = resource.getpagesize()
_KEPT_BYTES = 64 << 20  # of memory beyond that at the start; more is given back after a frame
_MOST_TEXT = 400


def main(control: int, source: int) -> None:
    """Decode what the parent asks for, until it is gone.

    Args:
        control: Descriptor of the channel to the parent.
        source: Descriptor of the memory file that code streams come in.
    """
    with contextlib.suppress(OSError):
        os.chdir("/")
    decoders.preload()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with socket.socket(fileno=control) as channel:
        channel.send(messages.encode({"ready": True}))
        virtual, resident = _memory()
        while True:
            try:
                request, _ = messages.receive(channel)
            except EOFError:
                return
            _limit(virtual + int(request["memory_bytes"]), float(request["cpu_s"]))
            _answer(channel, request, source)
            if _memory()[1] > resident + _KEPT_BYTES:
                libc.malloc_trim(0)


def _answer(channel: socket.socket, request: dict[str, Any], source: int) -> None:
    answer: dict[str, Any]
    descriptor = -1
    try:
        decoded = _decoded(request, os.pread(source, int(request["length"]), 0))
        descriptor, frame = messages.publish(decoded.pixels)
        answer = asdict(frame) | {
            "photometric_interpretation": decoded.photometric_interpretation,
            "notes": [note[:_MOST_TEXT] for note in decoded.notes],
        }
    except MemoryError:
        answer = {"error": "undecodable", "text": "it needs more memory than is allowed"}
    except UnsupportedPhotographError as exc:
        answer = {"error": "unsupported", "text": str(exc)[:_MOST_TEXT]}
    except PhotographError as exc:
        answer = {"error": "undecodable", "text": str(exc)[:_MOST_TEXT]}
    except Exception as exc:  # noqa: BLE001 -- the border: whatever a foreign decoder raises
        answer = {"error": "undecodable", "text": f"{type(exc).__name__}: {exc}"[:_MOST_TEXT]}
    if descriptor < 0:
        channel.send(messages.encode(answer))
        return
    socket.send_fds(channel, [messages.encode(answer)], [descriptor])
    os.close(descriptor)


def _decoded(request: dict[str, Any], data: bytes) -> decoders.Decoded:
    match request["what"]:
        case "frame":
            return decoders.decode(data, announced(data), FrameGeometry(**request["geometry"]))
        case "picture":
            return decoders.read_picture(data, int(request["reduction"]))
        case "srgb":
            shape = tuple(request["shape"])
            size = int(np.prod(shape))
            return decoders.to_srgb(np.frombuffer(data, np.uint8, size).reshape(shape), data[size:])
        case unknown:
            raise ValueError(f"nobody here does {unknown!r}")


def _limit(address_space_bytes: int, cpu_s: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, resource.RLIM_INFINITY))
    seconds = int(time.process_time() + cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _memory() -> tuple[int, int]:
    """Address space and resident memory of this process, in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        virtual, resident, *_ = file.read().split()
    return int(virtual) * _PAGE_BYTES, int(resident) * _PAGE_BYTES
