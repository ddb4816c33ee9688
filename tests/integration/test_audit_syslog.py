"""Audit messages on their way to a syslog server: kept while it is away, in their order, by TLS."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lxml import etree

from dicom_node.acceptor.scp import Node
from service.audit.activity import ApplicationActivity
from service.audit.processes import AuditThreads, send_batch
from service.audit.syslog import SyslogServer
from service.audit.trail import seal_pending
from service.config import Settings
from service.database import ledger
from service.database.pool import Pool, transaction
from service.errors import AuditServerError
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.audit import Authority, SyslogReceiver, body, faults, kept, kinds, received
from tests.dicom_objects import photograph
from tests.nodes import running
from tests.peers import find_peer


@pytest.fixture
def node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    with running(settings, pool, store) as started:
        yield started


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def server(authority: Authority, port: int) -> SyslogServer:
    certificate, key = authority.issue("semblance")
    return SyslogServer(
        host="127.0.0.1", port=port, authorities=authority.path, certificate=certificate, key=key
    )


def test_messages_wait_for_the_syslog_server_and_keep_their_order(
    pool: Pool, settings: Settings, authority: Authority, free_port: Callable[[], int]
) -> None:
    port = free_port()
    to = server(authority, port)
    for i in range(5):
        received(pool, f"1.2.{i}")
        seal_pending(pool, settings)
    seal_pending(pool, settings)
    with pytest.raises(AuditServerError):
        send_batch(pool, to)
    with SyslogReceiver(authority, port) as receiver:
        receiver.resets_after = 10
        with pytest.raises(AuditServerError):
            send_batch(pool, to)
        receiver.resets_after = None
        assert [send_batch(pool, to, limit=3), send_batch(pool, to), send_batch(pool, to)] == [3, 2, 0]
        uids = [etree.fromstring(body(m)).xpath("//Instance/@UID")[0] for m in receiver.messages]
    assert uids == [f"1.2.{i}" for i in range(5)]


def test_photographs_are_received_while_the_syslog_server_is_away(
    node: Node, pool: Pool, settings: Settings, authority: Authority, free_port: Callable[[], int]
) -> None:
    port = free_port()
    to = server(authority, port)
    audited = settings.model_copy(
        update={
            "audit_syslog_host": to.host,
            "audit_syslog_port": port,
            "audit_syslog_authorities": to.authorities,
            "audit_syslog_certificate": to.certificate,
            "audit_syslog_key": to.key,
        }
    )
    threads = AuditThreads(audited, pool)
    threads.start()
    try:
        with ApplicationActivity(audited, pool, "node"):
            assert dicom_objects.store(node.port, photograph()).Status == 0
        with transaction(pool) as connection:
            settings_told = len(ledger.last_settings(connection, "node"))
        assert settings_told > 0  # those of the test are not as they are by default
        number = 4 + settings_told
        wait_until(lambda: len(kept(pool)) == number, timeout_s=60, what="the messages")
        with SyslogReceiver(authority, port) as receiver:
            wait_until(lambda: len(receiver.messages) == number, timeout_s=90, what="the messages to arrive")
    finally:
        threads.stop()
    assert sorted(kinds([etree.fromstring(body(each)) for each in receiver.messages])) == [
        ("Application Activity", "0"),
        ("Application Activity", "0"),
        ("DICOM Instances Transferred", "0"),
        *[("Security Alert", "0")] * (1 + settings_told),
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_nobody_foresaw_ends_the_thread_and_another_takes_its_place(
    settings: Settings, pool: Pool, store: InstanceStore
) -> None:
    faults_left = ["one", "two"]

    def seal(of: Pool, by: Settings) -> int:
        if faults_left:
            raise LookupError(faults_left.pop())
        return seal_pending(of, by)

    threads = AuditThreads(settings, pool, seal)
    threads.start()
    try:
        with running(settings, pool, store) as node:
            assert dicom_objects.store(node.port, photograph()).Status == 0
        wait_until(lambda: len(kept(pool)) == 2, timeout_s=60, what="the messages")
    finally:
        threads.stop()
    assert not faults_left


@pytest.fixture
def rsyslog(authority: Authority, free_port: Callable[[], int]) -> Iterator[tuple[int, Path]]:
    """Debian's rsyslog with mutual TLS; its port, and the file it writes."""
    program = find_peer("rsyslogd")
    assert program is not None
    certificate, key = authority.issue("rsyslog")
    port, directory = free_port(), authority.directory
    written, configuration = directory / "messages", directory / "rsyslog.conf"
    configuration.write_text(
        f'global(defaultNetstreamDriverCAFile="{authority.path}"'
        f' defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}"'
        ' maxMessageSize="64k")\n'
        'module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1"'
        ' StreamDriver.AuthMode="x509/certvalid")\n'
        f'input(type="imtcp" port="{port}" address="127.0.0.1")\n'
        'template(name="raw" type="string" string="%rawmsg%\\n")\n'
        f'*.* action(type="omfile" file="{written}" template="raw")\n'
    )
    with subprocess.Popen(
        [program, "-n", "-f", str(configuration), "-i", str(directory / "rsyslogd.pid")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: _listens(port), timeout_s=60, what="rsyslog to listen")
            yield port, written
        finally:
            process.terminate()
            process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.peers("rsyslogd")
def test_rsyslog_takes_the_messages(
    pool: Pool, settings: Settings, authority: Authority, rsyslog: tuple[int, Path]
) -> None:
    port, written = rsyslog
    received(pool, *(f"1.2.{i}" for i in range(120)))
    seal_pending(pool, settings)
    seal_pending(pool, settings)
    assert send_batch(pool, server(authority, port)) == 2
    lines = wait_until(
        lambda: (found := _audit_lines(written)) and len(found) == 2 and found,
        timeout_s=30,
        what="the messages in rsyslog's file",
    )
    for line in lines:
        assert line.startswith("<85>1 ")
        assert faults(line.split("\ufeff", 1)[1]) == []


def _audit_lines(written: Path) -> list[str]:
    if not written.exists():
        return []
    return [line for line in written.read_text(encoding="utf-8").splitlines() if "DICOM+RFC3881" in line]
