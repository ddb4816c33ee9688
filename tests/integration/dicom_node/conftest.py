from __future__ import annotations

from collections.abc import Iterator

import pytest

from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database.pool import Pool
from service.storage.local import InstanceStore
from tests.nodes import running


@pytest.fixture
def node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    """A running node of this test's own."""
    with running(settings, pool, store) as started:
        yield started
