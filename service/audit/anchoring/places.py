"""Where checkpoints are kept: a directory, a bucket with Object Lock, a syslog server.

A directory and a bucket hold ``keys.txt`` and one file for each checkpoint, ``checkpoint-[size].txt``, with
twelve digits. Beside each lies ``digests-[size].bin``: the first eight bytes of the digest of each entry
since the checkpoint before. Nobody has to trust them: they only say, where a chain is not the one that was
signed, which entry is the first that differs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from service.audit import syslog
from service.audit.syslog import SyslogServer
from service.errors import AuditServerError, CheckpointError, ConfigurationError

KEYS = "keys.txt"
DIGEST_BYTES = 8  # kept of the digest of each entry
_CHECKPOINT = re.compile(r"checkpoint-(\d{12})\.txt")


def checkpoint_name(size: int) -> str:
    """Name of the checkpoint of a chain of so many entries."""
    return f"checkpoint-{size:012d}.txt"


def digests_name(size: int) -> str:
    """Name of the digests that belong to it."""
    return f"digests-{size:012d}.bin"


class Place(Protocol):
    """Keeps files that are written once."""

    name: str

    def put(self, name: str, content: bytes) -> None:
        """Keep a file for good; the same again is fine.

        Raises:
            AuditServerError: Not now; to be tried again.
            CheckpointError: Another file of that name is there.
        """

    def add(self, name: str, content: bytes) -> None:
        """Keep a file in place of an earlier one that it goes on from.

        Raises:
            AuditServerError: Not now; to be tried again.
        """

    def get(self, name: str) -> bytes | None:
        """A file; None where there is none.

        Raises:
            AuditServerError: Not now; to be tried again.
        """

    def sizes(self) -> list[int]:
        """Sizes of the chains there are checkpoints of, ascending.

        Raises:
            AuditServerError: Not now; to be tried again.
        """


class Directory:
    """A directory, best one that the database's owner cannot write to."""

    def __init__(self, path: Path) -> None:
        """Nothing is made before the first file."""
        self._path = path
        self.name = str(path)

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        known = self.get(name)
        if known is not None:
            if known != content:
                raise CheckpointError(f"{self._path / name} is there, and says something else")
            return
        self.add(name, content)

    def add(self, name: str, content: bytes) -> None:
        """See Place."""
        waiting = self._path / f".{name}.{os.getpid()}"
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with waiting.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            waiting.chmod(0o444)
            waiting.replace(self._path / name)
            directory = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            with suppress(OSError):
                waiting.unlink(missing_ok=True)
            raise AuditServerError(f"checkpoints: {self._path}: {exc.strerror or exc}") from exc

    def get(self, name: str) -> bytes | None:
        """See Place."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise AuditServerError(f"checkpoints: {self._path}: {exc.strerror or exc}") from exc

    def sizes(self) -> list[int]:
        """See Place."""
        try:
            return sorted(_sizes(entry.name for entry in self._path.iterdir()))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise AuditServerError(f"checkpoints: {self._path}: {exc.strerror or exc}") from exc


class Bucket:
    """A bucket of S3 with Object Lock: until its retention ends nobody can change or delete what is there."""

    def __init__(self, url: str, *, endpoint: str, retention_days: int) -> None:
        """Connects at first use; credentials are those of the environment, as of every tool of AWS.

        Args:
            url: s3://bucket/prefix.
            endpoint: Of another S3 than Amazon's; "" for that.
            retention_days: How long an object is locked (mode COMPLIANCE).

        Raises:
            ConfigurationError: The URL is none of a bucket.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigurationError(f"audit_checkpoint_bucket: {url!r} is not s3://bucket/prefix")
        self.name = url
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self._endpoint = endpoint
        self._retention = timedelta(days=retention_days)
        self._made: Any = None

    def put(self, name: str, content: bytes) -> None:
        """See Place."""
        known = self.get(name)
        if known is not None:
            if known != content:
                raise CheckpointError(f"{self.name}: {name} is there, and says something else")
            return
        self.add(name, content)

    def add(self, name: str, content: bytes) -> None:
        """See Place: with Object Lock the earlier one stays as an earlier version."""
        until = datetime.now(UTC) + self._retention
        self._asked(
            "put_object",
            Bucket=self._bucket,
            Key=self._prefix + name,
            Body=content,
            ChecksumAlgorithm="SHA256",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=until,
        )

    def get(self, name: str) -> bytes | None:
        """See Place."""
        answer = self._asked("get_object", Bucket=self._bucket, Key=self._prefix + name)
        return None if answer is None else bytes(answer["Body"].read())

    def sizes(self) -> list[int]:
        """See Place."""
        names: list[str] = []
        token: dict[str, str] = {}
        while True:
            listed = self._asked("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, **token) or {}
            names += [each["Key"].removeprefix(self._prefix) for each in listed.get("Contents", [])]
            if not listed.get("IsTruncated"):
                return sorted(_sizes(iter(names)))
            token = {"ContinuationToken": listed["NextContinuationToken"]}

    def _asked(self, operation: str, **what: Any) -> Any:
        """Ask the server; None where there is no such object."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client(), operation)(**what)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise AuditServerError(f"checkpoints: {self.name}: {exc}") from exc
        except BotoCoreError as exc:
            raise AuditServerError(f"checkpoints: {self.name}: {exc}") from exc

    def _client(self) -> Any:
        if self._made is None:
            import boto3
            from botocore.config import Config

            limits = Config(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 2})
            self._made = boto3.client("s3", endpoint_url=self._endpoint or None, config=limits)
        return self._made


class Syslog:
    """A syslog server: it cannot be asked, but what it was told it keeps."""

    def __init__(self, server: SyslogServer) -> None:
        """Connects for each message."""
        self._server = server
        self.name = f"syslog {server.name}"

    def tell(self, note: str) -> None:
        """Send a checkpoint.

        Raises:
            AuditServerError: Not known to have arrived.
        """
        message = syslog.syslog_message(note, datetime.now(UTC), is_failure=False, kind="CHECKPOINT")
        syslog.send(self._server, [message])


def _sizes(names: Iterator[str]) -> Iterator[int]:
    for name in names:
        if match := _CHECKPOINT.fullmatch(name):
            yield int(match[1])
