"""Several receiving processes on one port: Linux spreads connections over them (SO_REUSEPORT).

The parent holds the port and starts a child that ends again; a child ends when its parent does.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from typing import Self

from dicom_node.admission.rates import RateTable
from service.config import Settings
from service.stack.supervisor import ChildSpec, Supervisor

# What a child is told beside its settings: read from this descriptor, end at its end; and the table of
# rates that the children share.
LIFELINE_VARIABLE = "SEMBLANCE_NODE_LIFELINE"
_RATES_VARIABLE = "SEMBLANCE_NODE_RATES"


class NodeProcesses:
    """Child processes that all listen on one port; the supervisor's policy starts them again."""

    def __init__(self, settings: Settings, command: Sequence[str], stopped: threading.Event) -> None:
        """Take the port and start ``dicom_processes`` children; all listen on return.

        Args:
            settings: Of the node.
            command: What starts a child.
            stopped: Ends ``watch`` when it is set.

        Raises:
            OSError: The port cannot be bound.
            StackError: A child does not start; what it said is on standard error.
        """
        self._port_holder = _hold_port(settings.dicom_host, settings.dicom_port)
        self.port = int(self._port_holder.getsockname()[1])
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._rates = RateTable()
        environment = os.environ | {
            "SEMBLANCE_DICOM_PORT": str(self.port),
            LIFELINE_VARIABLE: str(self._lifeline_read),
            _RATES_VARIABLE: str(self._rates.descriptor),
        }
        self._supervisor = Supervisor(environment, stopping=stopped)
        shared = (self._lifeline_read, self._rates.descriptor)
        specs = [
            ChildSpec(name=f"receiver-{number}", command=tuple(command), pass_fds=shared)
            for number in range(1, settings.dicom_processes + 1)
        ]
        try:
            for spec in specs:
                self._supervisor.start(spec)
            for spec in specs:
                self._supervisor.wait_ready(spec.name)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        """Listening already."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self.stop()

    def watch(self) -> None:
        """Start children that end again, until told to stop.

        Raises:
            StackError: One died too often.
        """
        self._supervisor.watch()

    def stop(self) -> None:
        """Have the children end after the objects under way."""
        self._supervisor.stop()
        os.close(self._lifeline_read)
        os.close(self._lifeline_write)
        self._port_holder.close()
        self._rates.close()


def _hold_port(host: str, port: int) -> socket.socket:
    """Bind a port for the children to share, without listening on it."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    holder = socket.socket(family, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((host, port))
    return holder


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
