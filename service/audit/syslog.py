"""Syslog messages (RFC 5424) over TLS with octet counting (RFC 5425), as DICOM PS3.15 section A.6 asks.

RFC 5425 knows no acknowledgement. A batch therefore goes over a connection of its own, which we end
first: a server that closes its side in answer has read all we sent. One that resets the connection, or
says nothing, has not, and the batch is sent again.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.config import Settings
from service.errors import AuditServerError, ConfigurationError

_FACILITY = 10  # security and authorisation messages
_NOTICE, _WARNING = 5, 4
_BOM = b"\xef\xbb\xbf"  # RFC 5424 section 6.4: the message is UTF-8
_APP_NAME, _MSGID = "semblance", "DICOM+RFC3881"
_NOT_PRINTABLE = re.compile(r"[^!-~]")
_TIMEOUT_S = 10.0
_RECEIVE_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class SyslogServer:
    """Where audit messages go."""

    host: str
    port: int
    authorities: Path | None  # PEM; None: those of this machine
    certificate: Path | None  # shown to the server
    key: Path | None
    timeout_s: float = _TIMEOUT_S  # of each step on the network

    @property
    def name(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"


def syslog_server(settings: Settings) -> SyslogServer | None:
    """The server of the settings; None when there is none.

    Raises:
        ConfigurationError: Certificate and key are not given together, or a file cannot be read.
    """
    if not settings.audit_syslog_host:
        return None
    if (settings.audit_syslog_certificate is None) != (settings.audit_syslog_key is None):
        raise ConfigurationError("audit_syslog_certificate and audit_syslog_key belong together")
    server = SyslogServer(
        host=settings.audit_syslog_host,
        port=settings.audit_syslog_port,
        authorities=settings.audit_syslog_authorities,
        certificate=settings.audit_syslog_certificate,
        key=settings.audit_syslog_key,
    )
    _context(server)
    return server


def syslog_message(message: str, at: datetime, *, is_failure: bool, kind: str = _MSGID) -> bytes:
    """One SYSLOG-MSG.

    Args:
        message: XML of the audit message.
        at: Aware time of the event.
        is_failure: Severity warning instead of notice.
        kind: MSGID; that of audit messages is DICOM's (PS3.15 section A.6).
    """
    priority = _FACILITY * 8 + (_WARNING if is_failure else _NOTICE)
    moment = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    header = f"<{priority}>1 {moment} {_field(socket.gethostname(), 255)} {_APP_NAME} {os.getpid()} {kind} -"
    return header.encode("ascii") + b" " + _BOM + message.encode()


def framed(message: bytes) -> bytes:
    """A SYSLOG-FRAME: the length in octets, a space, the message (RFC 5425 section 4.3)."""
    return str(len(message)).encode("ascii") + b" " + message


def send(server: SyslogServer, messages: Iterable[bytes]) -> None:
    """Send messages over one connection; returns when the server has read them.

    Raises:
        AuditServerError: Not known to have arrived, or the certificates do not fit.
        ConfigurationError: A certificate file is missing or wrong.
    """
    context = _context(server)
    try:
        with socket.create_connection((server.host, server.port), server.timeout_s) as sock:
            channel = _Channel(sock, context, server.host)
            channel.shake_hands()
            for message in messages:
                channel.send(framed(message))
            channel.end()
    except (OSError, ssl.SSLError) as exc:
        raise AuditServerError(f"syslog server {server.name}: {exc}") from exc


class _Channel:
    """TLS over a socket that stays in our hands: how the server ends the connection is what counts."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def shake_hands(self) -> None:
        """Agree on keys, and verify each other.

        Raises:
            OSError: They do not fit, or the server went away (ssl.SSLError is one).
        """
        while self._wants_more(self._tls.do_handshake):
            if not self._receive():
                raise ConnectionError("closed during the handshake")

    def send(self, content: bytes) -> None:
        """Send bytes."""
        self._tls.write(content)
        self._flush()

    def end(self) -> None:
        """End our side, and wait until the server has ended its own, having read everything.

        A kernel resets a connection that is closed with something unread, so an orderly end says enough.

        Raises:
            OSError: It reset the connection, sent a fatal alert, or said nothing in time.
        """
        notified = not self._wants_more(self._tls.unwrap)
        self._sock.shutdown(socket.SHUT_WR)
        while self._receive():
            notified = notified or not self._wants_more(self._tls.unwrap)

    def _wants_more(self, step: Callable[[], object]) -> bool:
        """Take a step of the protocol; whether the server has to say something first."""
        try:
            step()
        except ssl.SSLWantReadError:
            return True
        finally:
            self._flush()
        return False

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())

    def _receive(self) -> bool:
        data = self._sock.recv(_RECEIVE_BYTES)
        self._incoming.write(data)
        return bool(data)


def _context(server: SyslogServer) -> ssl.SSLContext:
    """TLS 1.2 or later, mutual when we have a certificate (RFC 5425 section 4.2, PS3.15 section A.6)."""
    try:
        context = ssl.create_default_context(cafile=server.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if server.certificate is not None:
            context.load_cert_chain(server.certificate, server.key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"audit syslog: TLS: {exc}") from exc
    return context


def _field(text: str, longest: int) -> str:
    """A header field of RFC 5424: printable ASCII without spaces; "-" for none."""
    return _NOT_PRINTABLE.sub("?", text)[:longest] or "-"
