"""The digests of the chain: SHA-256, each over its predecessor's and the content of a row."""

from __future__ import annotations

import hashlib

GENESIS = bytes(32)  # what the first digest is over


def chained(previous: bytes, content: bytes) -> bytes:
    """The digest of a row's content after its predecessor's digest: SHA-256 over both.

    Args:
        previous: 32 bytes.
        content: As ``sealed_rows`` writes it.

    Returns:
        32 bytes.
    """
    return hashlib.sha256(previous + content).digest()
