"""Verifying a chain against checkpoints: in the database, or in an export without one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from service.audit.anchoring.keys import trusted
from service.audit.anchoring.merkle import Frontier
from service.audit.anchoring.notes import Checkpoint, PublicKey, checkpoint_of, opened
from service.audit.anchoring.places import DIGEST_BYTES, KEYS, Place, checkpoint_name, digests_name
from service.database.sealing.chain import GENESIS, chained
from service.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of a chain with the content of its row."""

    position: int  # from 1
    table: str
    key: str  # which row, and which state of it
    digest: bytes  # 32 bytes
    content: bytes | None  # None where the row is gone

    @property
    def name(self) -> str:
        """Table and key."""
        return f"{self.table} {self.key}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a look at a chain found."""

    entries: int
    digest: bytes  # at its end
    checkpoints: int  # that were compared
    faults: tuple[str, ...]  # the first of each kind, in words


def checkpoints_of(place: Place, anchor: str = "") -> tuple[list[Checkpoint], list[str]]:
    """Every checkpoint of a place, and what is wrong with those that do not count.

    Args:
        place: Where they are.
        anchor: The first key as it was noted elsewhere; "" trusts the place's own list.

    Raises:
        CheckpointError: There is none, or no list of keys that can be trusted.
        AuditServerError: The place cannot be asked.
    """
    listed = place.get(KEYS)
    if listed is None:
        raise CheckpointError(f"{place.name} holds no {KEYS}: nothing can be compared")
    keys: list[PublicKey] = trusted(listed.decode(), anchor)
    found, faults = [], []
    for size in place.sizes():
        name = checkpoint_name(size)
        try:
            checkpoint = checkpoint_of(opened((place.get(name) or b"").decode(), keys))
        except (CheckpointError, UnicodeDecodeError) as exc:
            faults.append(f"{name}: {exc}")
            continue
        if checkpoint.size == size:
            found.append(checkpoint)
        else:
            faults.append(f"{name}: it is of {checkpoint.size} entries")
    if not found and not faults:
        raise CheckpointError(f"{place.name} holds no checkpoint: nothing can be compared")
    return found, faults


class Comparison:
    """A chain, entry by entry, against every checkpoint."""

    def __init__(self, place: Place, anchor: str = "") -> None:
        """Read the checkpoints.

        Args:
            place: Theirs.
            anchor: See ``checkpoints_of``.

        Raises:
            CheckpointError, AuditServerError: As ``checkpoints_of``.
        """
        checkpoints, self._faults = checkpoints_of(place, anchor)
        self._number = len(checkpoints)
        self._waiting = {each.size: each for each in checkpoints}
        self._signed = _Signed(place, [each.size for each in checkpoints])
        self._frontier, self._digest = Frontier(), GENESIS
        self._named: set[str] = set()
        self._is_broken = False  # what comes has no place any more

    def see(self, entry: Entry) -> None:
        """Take the next entry."""
        if self._is_broken:
            return
        expected = self._frontier.size + 1
        if entry.position != expected:
            self._say("order", f"entry {expected} is missing: the next is {entry.position}, {entry.name}")
            self._is_broken = True
            return
        where = f"{entry.name} (entry {expected})"
        if entry.content is None:
            self._say("gone", f"{where}: deleted")
        elif chained(self._digest, entry.content) != entry.digest:
            self._say("changed", f"{where}: changed, or not in its place")
        if not self._signed.agrees(expected, entry.digest):
            self._say("other", f"{where}: not what was signed; from here on the chain was made anew")
        self._frontier.add(entry.digest)
        self._digest = entry.digest
        checkpoint = self._waiting.pop(expected, None)
        if checkpoint is not None and (
            checkpoint.digest != self._digest or checkpoint.root != self._frontier.root()
        ):
            self._say("root", f"the first {expected} entries are not those of {checkpoint_name(expected)}")

    def outcome(self) -> Outcome:
        """What was found, after the last entry."""
        size = self._frontier.size
        missing = [each for each in sorted(self._waiting) if each > size]
        if missing and not self._is_broken:
            text = f"the chain has {size} entries, {checkpoint_name(missing[0])} more: cut off or emptied"
            self._say("short", text)
        return Outcome(
            entries=size, digest=self._digest, checkpoints=self._number, faults=tuple(self._faults)
        )

    def _say(self, kind: str, text: str) -> None:
        """Note the first of each kind."""
        if kind not in self._named:
            self._named.add(kind)
            self._faults.append(text)


def verify(entries: Iterable[Entry], place: Place, anchor: str = "") -> Outcome:
    """Compare a chain with every checkpoint, and with itself.

    Args:
        entries: Of the chain, in order.
        place: The checkpoints'.
        anchor: See ``checkpoints_of``.

    Raises:
        CheckpointError, AuditServerError: As ``checkpoints_of``.
    """
    comparison = Comparison(place, anchor)
    for entry in entries:
        comparison.see(entry)
    return comparison.outcome()


class _Signed:
    """The short digests that lie beside checkpoints; what is not there, or not readable, agrees."""

    def __init__(self, place: Place, sizes: list[int]) -> None:
        self._kept = self._read(place, sizes)
        self._next: tuple[int, bytes] | None = next(self._kept, None)

    def agrees(self, position: int, digest: bytes) -> bool:
        """Whether an entry's digest is the one of its time; positions ascend."""
        while self._next is not None and self._next[0] < position:
            self._next = next(self._kept, None)
        if self._next is None or self._next[0] != position:
            return True
        return self._next[1] == digest[:DIGEST_BYTES]

    @staticmethod
    def _read(place: Place, sizes: list[int]) -> Iterator[tuple[int, bytes]]:
        first = 1
        for size in sizes:
            content = place.get(digests_name(size)) or b""
            if len(content) == DIGEST_BYTES * (size - first + 1):
                for number in range(size - first + 1):
                    start = number * DIGEST_BYTES
                    yield first + number, content[start : start + DIGEST_BYTES]
            first = size + 1
