"""UIDs the node makes."""

from __future__ import annotations

from uuid import uuid4


def new_transaction_uid() -> str:
    """A Transaction UID (PS3.5 section B.2)."""
    return f"2.25.{uuid4().int}"
