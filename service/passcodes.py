"""Passcodes, kept as salted scrypt digests (RFC 7914)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os

from service.errors import ConfigurationError

_SCHEME, _N, _R, _P = "scrypt", 1 << 14, 8, 1  # 16 MiB and some tens of milliseconds a try
_SALT_BYTES, _DIGEST_BYTES = 16, 32
_MAX_MEMORY = 64 << 20
MAX_PASSCODE_BYTES = 1024


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
    n, r, p, salt, expected = parts_of(digest)
    if not 1 <= len(passcode) <= MAX_PASSCODE_BYTES:
        return False
    return hmac.compare_digest(_scrypt(passcode, salt, n, r, p), expected)


def parts_of(digest: str) -> tuple[int, int, int, bytes, bytes]:
    """Cost, block size, parallelism, salt and digest.

    Raises:
        ConfigurationError: The digest is none of ours.
    """
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
