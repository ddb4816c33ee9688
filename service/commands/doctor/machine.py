"""The machine: database, clock, broker, store, ports and certificates."""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cryptography import x509

from service.commands.doctor.findings import Finding, fail, ok, warn
from service.config import Settings
from service.database import standing
from service.database.migrate import current, head
from service.database.pool import connect
from service.pipeline.celery_app import CeleryPublisher, make_app

LEAST_POSTGRESQL = 150000  # as server_version_num
_MOST_SKEW_S = 1.0
_SLOW_FLUSH_MS = 20.0  # of the median; each photograph waits for some
_FLUSHES = 15
_SOON = timedelta(days=30)


def database(settings: Settings) -> Iterator[Finding]:
    """PostgreSQL: there, new enough, with our schema, and of our time."""
    with connect(settings) as connection:
        before = time.time()
        server = standing.server(connection)
        skew_s = server.now.timestamp() - (before + time.time()) / 2
    if server.version < LEAST_POSTGRESQL:
        yield fail("database", f"PostgreSQL {server.name}", "install PostgreSQL 15 or later")
    else:
        yield ok("database", f"PostgreSQL {server.name}")
    at, newest = current(settings.database_url), head()
    if at == newest:
        yield ok("schema", f"at {at}, the newest")
    else:
        yield fail("schema", f"at {at or 'nothing'}, newest {newest}", "run `semblance migrate`")
    text = f"{abs(skew_s):.2f} s from the database's"
    if abs(skew_s) > _MOST_SKEW_S:
        yield warn("clock", text, "have both machines follow the same time server (NTP)")
    else:
        yield ok("clock", text)


def broker(settings: Settings) -> Iterator[Finding]:
    """The broker answers."""
    CeleryPublisher(make_app(settings)).require_answer()
    yield ok("broker", settings.broker_url.partition("://")[0])


def store(settings: Settings) -> Iterator[Finding]:
    """The store's directory: ours to write, with room, and quick to flush."""
    directory = settings.storage_dir
    times = sorted(_flushed(directory) for _ in range(_FLUSHES))
    middle_ms = 1000 * statistics.median(times)
    text = f"a flush takes {middle_ms:.1f} ms (median of {_FLUSHES}), {1000 * times[-1]:.1f} at most"
    if middle_ms > _SLOW_FLUSH_MS:
        yield warn("flush", text, "a receipt waits for its flush: use a disk with a protected write cache")
    else:
        yield ok("flush", text)
    free = shutil.disk_usage(directory).free
    least = settings.storage_low_watermark_bytes
    text = f"{free / 1e9:.1f} GB free in {directory}"
    if free < least:
        yield fail("space", text, "make room: photographs are refused below storage_low_watermark_bytes")
    elif free < 10 * least:
        yield warn("space", text, "make room soon: photographs are refused below storage_low_watermark_bytes")
    else:
        yield ok("space", text)
    if directory.stat().st_mode & 0o007:
        yield warn("store", f"{directory} can be read by everybody", f"chmod o-rwx {directory}")
    else:
        yield ok("store", f"{directory} is ours")


def _flushed(directory: Path) -> float:
    """Seconds that a small file takes until it is on the disk."""
    probe = directory / f".doctor-{uuid4().hex}"
    begun_s = time.perf_counter()
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, bytes(4096))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        probe.unlink()
    return time.perf_counter() - begun_s


def ports(settings: Settings) -> Iterator[Finding]:
    """The ports of node and API: in use, by Semblance as it seems, or free to be bound."""
    for subject, host, port in (
        ("dicom port", settings.dicom_host, settings.dicom_port),
        ("api port", settings.api_host, settings.api_port),
    ):
        if port == 0:
            yield ok(subject, "any free one")
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError:
                advice = "ports below 1024 need CAP_NET_BIND_SERVICE, as the systemd unit gives"
                yield fail(subject, f"{port} may not be bound by this user", advice)
            except OSError as exc:
                text = f"{port} on {host}: {exc.strerror}"
                yield warn(subject, text, "fine if Semblance runs already; else another program has it")
            else:
                yield ok(subject, f"{port} on {host} is free")


def certificates(settings: Settings) -> Iterator[Finding]:
    """Every certificate file of the settings is there, readable, and valid for a while."""
    for name in (
        "dicom_tls_certificate",
        "dicom_tls_authorities",
        "audit_syslog_certificate",
        "audit_syslog_authorities",
    ):
        path = getattr(settings, name)
        if path is not None:
            yield _dated(name, path)


def _dated(name: str, path: Path) -> Finding:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        return fail(name, f"{path} holds no certificate", "it has to be PEM")
    ends = min(each.not_valid_after_utc for each in found)
    begins = max(each.not_valid_before_utc for each in found)
    now = datetime.now(UTC)
    if ends < now:
        return fail(name, f"{path} ended on {ends:%Y-%m-%d}", "renew it")
    if begins > now:
        return fail(name, f"{path} begins on {begins:%Y-%m-%d}", "look at the clock, or wait")
    if ends - now < _SOON:
        return warn(name, f"{path} ends on {ends:%Y-%m-%d}", "renew it")
    return ok(name, f"{path} is valid until {ends:%Y-%m-%d}")
