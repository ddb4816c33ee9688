"""Checkpoints as signed notes: the text form that transparency logs use (C2SP tlog-checkpoint, signed-note).

A note is lines of text, an empty line, and one signature a line. So it can be read, printed, and verified by
programs of others. The first three lines are where it is from, how many entries the chain has, and the root
of the Merkle tree over their digests; then follow the digest at the chain's end, the time, and the tree's
subtrees.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.audit.anchoring.merkle import Frontier
from service.errors import CheckpointError

_ED25519 = b"\x01"  # signature type of C2SP signed-note
_NAME = re.compile(r"[!-*,-~]{1,100}")  # no space, no plus
_DASH = "\u2014 "


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The chain as it was at a time."""

    origin: str  # which installation
    frontier: Frontier  # of the tree over the digests of all entries so far
    digest: bytes  # at the chain's end, 32 bytes
    at: datetime  # aware

    @property
    def size(self) -> int:
        """Entries of the chain."""
        return self.frontier.size

    @property
    def root(self) -> bytes:
        """Of the Merkle tree, 32 bytes."""
        return self.frontier.root()

    def text(self) -> str:
        """What is signed."""
        subtrees = base64.b64encode(b"".join(self.frontier.hashes)).decode()
        lines = (
            self.origin,
            str(self.size),
            base64.b64encode(self.root).decode(),
            f"digest {self.digest.hex()}",
            f"time {self.at.astimezone(UTC).isoformat(timespec='milliseconds')}",
            f"subtrees {subtrees}",
        )
        return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """Verifies signatures."""

    name: str  # printable, without space and plus
    key: Ed25519PublicKey

    @property
    def raw(self) -> bytes:
        """32 bytes."""
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def key_id(self) -> bytes:
        """First four bytes of a digest of name and key."""
        return hashlib.sha256(f"{self.name}\n".encode() + _ED25519 + self.raw).digest()[:4]

    def vkey(self) -> str:
        """As C2SP signed-note writes verifier keys: name+id+key."""
        encoded = base64.b64encode(_ED25519 + self.raw).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verifies(self, text: str, signature: bytes) -> bool:
        """Whether a signature (64 bytes) over a text is this key's."""
        try:
            self.key.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


def public_key(vkey: str) -> PublicKey:
    """Read a verifier key.

    Raises:
        CheckpointError: It is none, or of another kind than Ed25519.
    """
    try:
        name, key_id, encoded = vkey.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
        found = PublicKey(name=name, key=Ed25519PublicKey.from_public_bytes(raw[1:]))
    except (ValueError, binascii.Error) as exc:
        raise CheckpointError(f"no verifier key: {vkey[:60]!r}") from exc
    if raw[:1] != _ED25519 or not _NAME.fullmatch(name) or found.key_id.hex() != key_id:
        raise CheckpointError(f"no verifier key of Ed25519: {vkey[:60]!r}")
    return found


def signed(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """The note of a text: the text, an empty line, and the signature."""
    public = PublicKey(name=name, key=key.public_key())
    line = base64.b64encode(public.key_id + key.sign(text.encode())).decode()
    return f"{text}\n{_DASH}{name} {line}\n"


def opened(note: str, keys: list[PublicKey]) -> str:
    """The text of a note that one of these keys has signed.

    Raises:
        CheckpointError: It is no note, or none of the keys has signed it.
    """
    text, blank, signatures = note.rpartition("\n\n")
    if not blank:
        raise CheckpointError("no signed note: it has no signature")
    text += "\n"
    for line in signatures.splitlines():
        if not line.startswith(_DASH):
            raise CheckpointError("no signed note: a signature begins with a dash")
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        try:
            value = base64.b64decode(encoded, validate=True)
        except binascii.Error as exc:
            raise CheckpointError("no signed note: a signature cannot be read") from exc
        for key in keys:
            if key.name == name and key.key_id == value[:4] and key.verifies(text, value[4:]):
                return text
    raise CheckpointError("the note is signed by none of the keys that count")


def checkpoint_of(text: str) -> Checkpoint:
    """Read the text of a checkpoint.

    Raises:
        CheckpointError: It is none, or does not agree with itself.
    """
    try:
        origin, size, root, *more = text.removesuffix("\n").split("\n")
        named = dict(line.split(" ", 1) for line in more)
        subtrees = base64.b64decode(named["subtrees"], validate=True)
        hashes = [subtrees[i : i + 32] for i in range(0, len(subtrees), 32)]
        found = Checkpoint(
            origin=origin,
            frontier=Frontier(int(size), hashes),
            digest=bytes.fromhex(named["digest"]),
            at=datetime.fromisoformat(named["time"]),
        )
    except (ValueError, KeyError, binascii.Error) as exc:
        raise CheckpointError("no checkpoint: it cannot be read") from exc
    if found.text() != text or base64.b64encode(found.root).decode() != root:
        raise CheckpointError("no checkpoint: root and subtrees do not agree")
    return found


def key_name(name: str) -> str:
    """A name fit for a key.

    Raises:
        CheckpointError: It has spaces, pluses or other characters that notes cannot hold.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{name!r} is no name of a key: letters, digits and signs, no space and no +")
    return name
