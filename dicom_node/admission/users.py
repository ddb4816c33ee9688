"""Users of the DICOM node and their secrets, kept as salted scrypt digests (RFC 7914).

A file holds a line for each user, ``name:digest``; an empty digest admits the name alone, which
authenticates nobody and is for identities that something else vouches for, such as a TLS certificate.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from service.errors import ConfigurationError
from service.passcodes import MAX_PASSCODE_BYTES, digest_of, matches, parts_of


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
                digest_of(passcode[:MAX_PASSCODE_BYTES] or b"-")  # as long as for a user that exists
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
            parts_of(digest)
        digests[name] = digest
    return MappingProxyType(digests)
