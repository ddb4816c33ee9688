"""Photographs in the store and the database, as the node leaves them."""

from __future__ import annotations

from service.database import instances
from service.database.pool import transaction
from service.pipeline.context import Context
from service.records import (
    NewInstance,
)
from tests.records import offered


def receive(context: Context, content: bytes, uid: str = "1.2.3") -> int:
    kept = context.store.put(content)
    fields = {**vars(offered(uid)), "sha256": kept.sha256, "size_bytes": kept.size_bytes}
    with transaction(context.pool) as connection:
        return instances.receive(connection, NewInstance(**fields))[1]
