"""Users of the DICOM node and their secrets, kept as salted scrypt digests (RFC 7914).

A file holds a line for each user, ``name:digest``; an empty digest admits the name alone, which
authenticates nobody and is for identities that something else vouches for, such as a TLS certificate.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from service.errors import ConfigurationError

_SCHEME, _N, _R, _P = "scrypt", 1 << 14, 8, 1  # 16 MiB and some tens of milliseconds a try
_SALT_BYTES, _DIGEST_BYTES = 16, 32
_MAX_MEMORY = 64 << 20
_MAX_PASSCODE_BYTES = 1024


def digest_of(passcode: bytes) -> str:
    """A digest to keep, with a salt of its own.

    Args:
        passcode: 1 to 1024 bytes.
    """
    salt = os.urandom(_SALT_BYTES)
    digest = _scrypt(passcode, salt, _N, _R, _P)
    return "$".join((_SCHEME, str(_N), str(_R), str(_P), _text(salt), _text(digest)))


def matches(passcode: bytes, digest: str) -> bool:
    """Whether a passcode is the one a digest was made of, in constant time.

    Raises:
        ConfigurationError: The digest is none of ours.
    """
    n, r, p, salt, expected = _parts(digest)
    if not 1 <= len(passcode) <= _MAX_PASSCODE_BYTES:
        return False
    return hmac.compare_digest(_scrypt(passcode, salt, n, r, p), expected)


class Users:
    """A file of users, read again when it changes; one that is half written leaves the last in place."""

    def __init__(self, path: Path) -> None:
        """Read the file once.

        Raises:
            ConfigurationError: It is missing, or a line of it is wrong.
        """
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._digests = _read(path)

    def admits(self, name: str, passcode: bytes | None) -> bool:
        """Whether a user is who they say.

        Args:
            name: Of the user.
            passcode: None when only the name was given.
        """
        digest = self._current().get(name)
        if digest is None:
            if passcode is not None:
                digest_of(passcode[:_MAX_PASSCODE_BYTES] or b"-")  # as long as for a user that exists
            return False
        if not digest:
            return passcode is None
        return passcode is not None and matches(passcode, digest)

    def _current(self) -> Mapping[str, str]:
        with self._lock:
            try:
                stamp = self._look()
                if stamp != self._stamp:
                    self._digests, self._stamp = _read(self._path), stamp
            except ConfigurationError:
                pass  # half written: the next association looks again
            return self._digests

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as exc:
            raise ConfigurationError(f"users: {exc}") from exc
        return found.st_mtime_ns, found.st_ino


def _read(path: Path) -> Mapping[str, str]:
    digests: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"users: {exc}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, digest = line.strip().rpartition(":")
        if not separator or not name or name in digests:
            raise ConfigurationError(f"users: {path} line {number} is not a user of its own, as name:digest")
        if digest:
            _parts(digest)
        digests[name] = digest
    return MappingProxyType(digests)


def _parts(digest: str) -> tuple[int, int, int, bytes, bytes]:
    try:
        scheme, n, r, p, salt, expected = digest.split("$")
        found = int(n), int(r), int(p), _bytes(salt), _bytes(expected)
    except (ValueError, binascii.Error) as exc:
        raise ConfigurationError("users: a digest is malformed; `semblance passcode` makes one") from exc
    if scheme != _SCHEME or not found[4] or 128 * found[0] * found[1] > _MAX_MEMORY:
        raise ConfigurationError("users: a digest is not one of `semblance passcode`")
    return found


def _scrypt(passcode: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(passcode, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY * 2, dklen=_DIGEST_BYTES)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)
