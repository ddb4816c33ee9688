"""Keys of checkpoints: made, kept, listed, and replaced by one that the key before has vouched for.

The private key is a PEM file (PKCS #8) that only its owner can read. Beside the checkpoints lies a list of
public keys, ``keys.txt``: the first is what one has to trust, by comparing it with what was printed when it
was made; each later one is signed by the one before.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from service.audit.anchoring.notes import PublicKey, key_name, opened, public_key, signed
from service.errors import CheckpointError, ConfigurationError

_NAME_LINE = b"# name: "
_TITLE = "semblance key"
_SEPARATOR = "-----\n"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """Signs checkpoints."""

    name: str
    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """What verifies them."""
        return PublicKey(name=self.name, key=self.key.public_key())

    def sign(self, text: str) -> str:
        """The signed note of a text."""
        return signed(text, self.name, self.key)


def make_key(path: Path, name: str) -> SigningKey:
    """Make a key and keep it, readable by its owner only.

    Args:
        path: Must not be there yet.
        name: Of the key, shown in every checkpoint.

    Raises:
        CheckpointError: There is a file, or the name will not do.
    """
    made = SigningKey(name=key_name(name), key=Ed25519PrivateKey.generate())
    pem = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError as exc:
        raise CheckpointError(f"{path} is there already; a key is never written over") from exc
    with os.fdopen(descriptor, "wb") as file:
        file.write(_NAME_LINE + name.encode() + b"\n" + pem)
        file.flush()
        os.fsync(file.fileno())
    return made


def read_key(path: Path) -> SigningKey:
    """Read a signing key.

    Raises:
        ConfigurationError: There is none, others can read it, or it is of another kind.
    """
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigurationError(f"audit key {path}: {exc.strerror}") from exc
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"audit key {path} can be read by others; its mode has to be 600")
    head, _, pem = content.partition(b"\n")
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ConfigurationError(f"audit key {path} cannot be read as PKCS #8") from exc
    if not isinstance(key, Ed25519PrivateKey) or not head.startswith(_NAME_LINE):
        raise ConfigurationError(f"audit key {path} is none that `semblance audit keys make` made")
    return SigningKey(name=head.removeprefix(_NAME_LINE).decode(), key=key)


def first_line(key: SigningKey) -> str:
    """The list of keys with this one alone."""
    return f"{key.public.vkey()}\n"


def succession(old: SigningKey, new: SigningKey) -> str:
    """What is added to the list where a new key takes the place of an old one: signed by both."""
    text = f"{_TITLE}\n{new.public.vkey()}\nsince {datetime.now(UTC).isoformat(timespec='seconds')}\n"
    by_old = old.sign(text)
    by_new = new.sign(text)
    return _SEPARATOR + by_old + by_new.rpartition("\n\n")[2]


def trusted(listed: str, anchor: str = "") -> list[PublicKey]:
    """The keys of a list, each vouched for by the one before.

    Args:
        listed: Content of ``keys.txt``.
        anchor: The first key as it was noted elsewhere; "" trusts the list's own.

    Raises:
        CheckpointError: The first is another one, or a later one is not vouched for.
    """
    first, *later = listed.split(_SEPARATOR)
    keys = [public_key(first)]
    if anchor and public_key(anchor).vkey() != keys[0].vkey():
        raise CheckpointError("the list of keys begins with another key than the one that was noted")
    for note in later:
        text = opened(note, [keys[-1]])
        title, vkey, *_ = text.split("\n")
        if title != _TITLE:
            raise CheckpointError("the list of keys holds something else")
        new = public_key(vkey)
        opened(note, [new])  # whoever adds a key has it
        keys.append(new)
    return keys
