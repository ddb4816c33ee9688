"""The Merkle tree of RFC 6962 (section 2.1) over a growing list: its root, and proofs of single leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash of a leaf: SHA-256 over 0x00 and the entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256 over 0x01 and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The perfect subtrees that a tree is made of, from the left: all one needs to let it grow.

    Their sizes are the powers of two of the tree's size, the greatest first.
    """

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)  # 32 bytes each

    def __post_init__(self) -> None:
        """Check that as many subtrees are there as the size has ones.

        Raises:
            ValueError: They do not fit.
        """
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError("the subtrees are not those of a tree of that size")

    def add(self, entry: bytes) -> None:
        """Append a leaf."""
        grown, size = leaf_hash(entry), self.size
        while size & 1:
            grown = node_hash(self.hashes.pop(), grown)
            size >>= 1
        self.hashes.append(grown)
        self.size += 1

    def root(self) -> bytes:
        """Root of the tree, 32 bytes."""
        if not self.hashes:
            return EMPTY_ROOT
        *others, right = self.hashes
        for left in reversed(others):
            right = node_hash(left, right)
        return right

    def copy(self) -> Frontier:
        """Another one that grows by itself."""
        return Frontier(self.size, list(self.hashes))


def inclusion_proof(entries: Iterable[bytes], position: int, size: int) -> list[bytes]:
    """The audit path of a leaf (RFC 6962 section 2.1.1), from the leaf up.

    Args:
        entries: Of the whole tree, in order; read once.
        position: Of the leaf, from 0.
        size: Of the tree.

    Raises:
        ValueError: There is no such leaf, or there are fewer entries.
    """
    if not 0 <= position < size:
        raise ValueError("no such leaf in a tree of that size")
    path: list[bytes] = []
    level = [leaf_hash(entry) for _, entry in zip(range(size), entries, strict=False)]
    if len(level) != size:
        raise ValueError("there are fewer entries than the tree has leaves")
    while len(level) > 1:
        sibling = position ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        pairs = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
        position //= 2
    return path


def root_of_proof(entry: bytes, position: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 9162 section 2.1.3.2): the tree's, if the leaf is in it.

    Raises:
        ValueError: The path is not as long as it must be.
    """
    if not 0 <= position < size:
        raise ValueError("no such leaf in a tree of that size")
    node, last, found = position, size - 1, leaf_hash(entry)
    for step in path:
        if last == 0:
            raise ValueError("the path is too long")
        if node & 1 or node == last:
            found = node_hash(step, found)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, step)
        node >>= 1
        last >>= 1
    if last:
        raise ValueError("the path is too short")
    return found
