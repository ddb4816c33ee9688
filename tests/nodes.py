"""A receiving node in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database.pool import Pool
from service.storage.local import InstanceStore


@contextmanager
def running(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    """A node that runs until the end of the block."""
    node = Node(settings, pool, store)
    try:
        yield node
    finally:
        node.stop()
