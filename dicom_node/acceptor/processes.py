"""Several receiving processes on one port: Linux spreads connections over them (SO_REUSEPORT).

The parent holds the port and restarts a child that ends; a child ends when its parent does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import structlog

from dicom_node.admission.rates import RateTable
from service.config import Settings

_log = structlog.get_logger(__name__)

# What a child is told beside its settings: read from this descriptor, end at its end; and the table of
# rates that the children share.
LIFELINE_VARIABLE = "SEMBLANCE_NODE_LIFELINE"
_RATES_VARIABLE = "SEMBLANCE_NODE_RATES"
_LOOK_EVERY_S = 0.5
_STOP_S = 20.0


class NodeProcesses:
    """Child processes that all listen on one port."""

    def __init__(self, settings: Settings) -> None:
        """Take the port and start ``dicom_processes`` children.

        Raises:
            OSError: The port cannot be bound.
        """
        self._port_holder = _hold_port(settings.dicom_host, settings.dicom_port)
        self.port = int(self._port_holder.getsockname()[1])
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._rates = RateTable()
        self._children = [self._start() for _ in range(settings.dicom_processes)]

    def watch(self, stopped: threading.Event) -> None:
        """Restart children that end, until told to stop."""
        while not stopped.wait(_LOOK_EVERY_S):
            for index, child in enumerate(self._children):
                if child.poll() is not None:
                    _log.error("receiver-ended", pid=child.pid, code=child.returncode)
                    _close(child)
                    self._children[index] = self._start()

    def stop(self) -> None:
        """Have the children end after the objects under way."""
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _close(child)
        os.close(self._lifeline_read)
        os.close(self._lifeline_write)
        self._port_holder.close()
        self._rates.close()

    def _start(self) -> subprocess.Popen[bytes]:
        """Start a child and wait until it listens."""
        environment = os.environ | {
            "SEMBLANCE_DICOM_PORT": str(self.port),
            LIFELINE_VARIABLE: str(self._lifeline_read),
            _RATES_VARIABLE: str(self._rates.descriptor),
        }
        child = subprocess.Popen(
            [sys.executable, "-m", "dicom_node"],
            env=environment,
            stdout=subprocess.PIPE,
            pass_fds=(self._lifeline_read, self._rates.descriptor),
        )
        if child.stdout is not None and not child.stdout.readline():
            _log.error("receiver-did-not-start", pid=child.pid)
        return child


def _hold_port(host: str, port: int) -> socket.socket:
    """Bind a port for the children to share, without listening on it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    holder = socket.socket(family, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((host, port))
    return holder


def _close(child: subprocess.Popen[bytes]) -> None:
    if child.stdout is not None:
        child.stdout.close()


def shared_rates() -> RateTable | None:
    """In a child: the table of rates it shares with its siblings; None in any other process."""
    descriptor = os.environ.get(_RATES_VARIABLE)
    return RateTable(int(descriptor)) if descriptor is not None else None


def end_with_parent(stopped: threading.Event) -> bool:
    """In a child: have ``stopped`` set when the parent is gone.

    Returns:
        Whether this process is a child of NodeProcesses at all.
    """
    descriptor = os.environ.get(LIFELINE_VARIABLE)
    if descriptor is None:
        return False

    def wait() -> None:
        os.read(int(descriptor), 1)
        stopped.set()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
    return True
