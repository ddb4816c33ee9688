"""Audit messages in tests: the schema of PS3.15, certificates, and a syslog receiver by RFC 5425."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lxml import etree

from service.database import audit_messages, instances
from service.database.pool import Pool, transaction
from tests.records import offered

SCHEMA = etree.RelaxNG(file=str(Path(__file__).with_name("audit_message.rng")))


def faults(xml: str) -> list[str]:
    """What is wrong with an audit message by the schema."""
    SCHEMA.validate(etree.fromstring(xml.encode()))
    return [str(each) for each in SCHEMA.error_log]


def kept(pool: Pool) -> list[etree._Element]:
    """Every audit message, oldest first, checked against the schema."""
    with transaction(pool) as connection:
        found = [each.message for each in reversed(audit_messages.newest(connection, 1000))]
    assert [fault for xml in found for fault in faults(xml)] == []
    return [etree.fromstring(xml) for xml in found]


def kinds(found: list[etree._Element]) -> list[tuple[str, str]]:
    """Event and outcome of messages."""
    return [
        (each.find(".//EventID").get("originalText"), each[0].get("EventOutcomeIndicator")) for each in found
    ]


def received(pool: Pool, *uids: str) -> None:
    with transaction(pool) as connection:
        for uid in uids:
            instances.receive(connection, offered(uid))


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(self._sign(self.name, self.key, is_authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for a name, on the loopback address."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_path = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        certificate.write_bytes(self._sign(subject, key, is_authority=False))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key_path

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class SyslogReceiver:
    """Takes RFC 5425 frames over mutual TLS, one connection at a time."""

    def __init__(self, authority: Authority, port: int = 0) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.issue("syslog"))
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(authority.path)
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.messages: list[bytes] = []
        self.connections = 0
        self.resets_after: int | None = None  # bytes of a connection that is then reset
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with plain, self._context.wrap_socket(plain, server_side=True) as secured:
                    self._read(secured)
            except (OSError, ssl.SSLError):
                continue

    def _read(self, secured: ssl.SSLSocket) -> None:
        received = bytearray()
        while part := secured.recv(65536):
            received += part
            if self.resets_after is not None and len(received) > self.resets_after:
                secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
        secured.unwrap()
        while received:
            length, _, rest = bytes(received).partition(b" ")
            self.messages.append(rest[: int(length)])
            received = bytearray(rest[int(length) :])


def body(message: bytes) -> str:
    """The XML of a syslog message."""
    return message.split(b"\xef\xbb\xbf", 1)[1].decode()
