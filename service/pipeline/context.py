"""What a task works with: made once in each worker process and passed on."""

from __future__ import annotations

from dataclasses import dataclass

from service.config import Settings
from service.database.pool import Pool, open_pool
from service.storage.local import InstanceStore, open_store


@dataclass(frozen=True, kw_only=True)
class Context:
    """The settings and the two places state is kept in."""

    settings: Settings
    pool: Pool
    store: InstanceStore


def open_context(settings: Settings) -> Context:
    """Open pool and store; the caller closes the pool.

    Raises:
        StorageError: The store cannot be opened.
    """
    return Context(settings=settings, pool=open_pool(settings), store=open_store(settings))
