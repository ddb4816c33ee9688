"""Syslog by RFC 5424 over TLS by RFC 5425, to a real receiver; and what must not pass for delivered."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.audit.syslog import SyslogServer, framed, send, syslog_message, syslog_server
from service.config import Settings
from service.errors import AuditServerError, ConfigurationError
from tests.audit import Authority, SyslogReceiver, body

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, UTC)
MESSAGE = syslog_message('<AuditMessage UserID="Müller 山"/>', AT, is_failure=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def receiver(authority: Authority) -> Iterator[SyslogReceiver]:
    with SyslogReceiver(authority) as running:
        yield running


def server(authority: Authority, port: int, *, timeout_s: float = 20.0) -> SyslogServer:
    certificate, key = authority.issue("semblance")
    return SyslogServer(
        host="127.0.0.1",
        port=port,
        authorities=authority.path,
        certificate=certificate,
        key=key,
        timeout_s=timeout_s,
    )


def test_the_header_is_that_of_rfc_5424() -> None:
    header, xml = MESSAGE.split(b"\xef\xbb\xbf")
    assert re.fullmatch(
        rb"<85>1 2026-03-01T12:30:15\.123Z [!-~]{1,255} semblance \d+ DICOM\+RFC3881 - ", header
    )
    assert xml.decode() == '<AuditMessage UserID="Müller 山"/>'


def test_a_failure_is_a_warning() -> None:
    assert syslog_message("<x/>", AT, is_failure=True).startswith(b"<84>1 ")


def test_frames_count_octets_not_characters() -> None:
    assert framed("山".encode()) == b"3 \xe5\xb1\xb1"


def test_messages_arrive_whole_and_in_order(authority: Authority, receiver: SyslogReceiver) -> None:
    long = syslog_message("<x>" + "山" * 40_000 + "</x>", AT, is_failure=False)
    send(server(authority, receiver.port), [MESSAGE, long, MESSAGE])
    assert receiver.messages == [MESSAGE, long, MESSAGE]
    assert body(receiver.messages[0]) == '<AuditMessage UserID="Müller 山"/>'
    assert receiver.connections == 1


def test_a_server_that_is_not_there(authority: Authority, free_port: Callable[[], int]) -> None:
    with pytest.raises(AuditServerError, match="refused"):
        send(server(authority, free_port()), [MESSAGE])


def test_a_connection_that_is_reset_has_delivered_nothing(
    authority: Authority, receiver: SyslogReceiver
) -> None:
    receiver.resets_after = 100
    with pytest.raises(AuditServerError):
        send(server(authority, receiver.port), [MESSAGE] * 100)


def test_a_server_of_another_authority_is_not_told(receiver: SyslogReceiver, tmp_path: Path) -> None:
    with pytest.raises(AuditServerError, match="CERTIFICATE_VERIFY_FAILED"):
        send(server(Authority(tmp_path), receiver.port), [MESSAGE])
    assert receiver.messages == []


def test_without_a_certificate_of_ours_nothing_is_delivered(
    authority: Authority, receiver: SyslogReceiver
) -> None:
    bare = SyslogServer(
        host="127.0.0.1", port=receiver.port, authorities=authority.path, certificate=None, key=None
    )
    with pytest.raises(AuditServerError):
        send(bare, [MESSAGE])
    assert receiver.messages == []


def test_a_server_that_says_nothing_has_not_got_it(authority: Authority) -> None:
    """It takes the connection and does not even shake hands."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(AuditServerError, match="timed out"):
        send(server(authority, silent.getsockname()[1], timeout_s=0.2), [MESSAGE])


def test_a_server_that_dies_during_the_handshake(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as dying:

        def accept() -> None:
            dying.accept()[0].close()

        accepting = threading.Thread(target=accept)
        accepting.start()
        with pytest.raises(AuditServerError):
            send(server(authority, dying.getsockname()[1]), [MESSAGE])
        accepting.join()


def test_settings_name_the_server(authority: Authority) -> None:
    certificate, key = authority.issue("semblance")
    assert syslog_server(Settings()) is None
    given = Settings(
        audit_syslog_host="logs.hospital.example",
        audit_syslog_authorities=authority.path,
        audit_syslog_certificate=certificate,
        audit_syslog_key=key,
    )
    found = syslog_server(given)
    assert found is not None
    assert found.name == "logs.hospital.example:6514"
    with pytest.raises(ConfigurationError, match="belong together"):
        syslog_server(given.model_copy(update={"audit_syslog_key": None}))
    with pytest.raises(ConfigurationError, match="TLS"):
        syslog_server(given.model_copy(update={"audit_syslog_authorities": Path("no-such-file.pem")}))
