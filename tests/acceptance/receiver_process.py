"""A node in a process that may be killed: forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Self

from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database.pool import open_pool
from service.storage.local import open_store

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def _serve(settings: Settings, channel: Connection) -> None:
    with open_pool(settings) as pool:
        node = Node(settings, pool, open_store(settings))
        channel.send(node.port)
        channel.recv()
        node.stop()


class Receiver:
    """One node process."""

    def __init__(self, settings: Settings) -> None:
        """Start it; ready on return."""
        self._channel, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(settings, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.port: int = self._channel.recv()

    def __enter__(self) -> Self:
        """Ready already."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Kill it, if that has not happened."""
        self.kill()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        if self._process.is_alive():
            os.kill(self.pid, signal.SIGKILL)
        self._process.join(10)
        self._channel.close()

    def stop(self) -> None:
        """End it in order."""
        self._channel.send(None)
        self._process.join(30)
        self._channel.close()
