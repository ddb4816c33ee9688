"""Who may talk to the node, and how: TLS by BCP 195 with reload, and the list of admitted peers."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from service.config import Settings
from service.errors import ConfigurationError
from service.peers import AdmittedPeer

# RFC 9325 (BCP 195) section 4.2 for TLS 1.2; TLS 1.3 has good suites only. DICOM PS3.15 section B.12.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


@dataclass(frozen=True, kw_only=True)
class PeerCertificate:
    """Names in the certificate a peer showed, and verified."""

    names: frozenset[str]  # common name and DNS names


class ServerTls:
    """The acceptor's TLS context, made again when its files change.

    Certificates are renewed while the node runs: a new association gets the new one, an old
    association keeps its own. Files that cannot be read leave the last good context in place.
    """

    def __init__(self, certificate: Path, key: Path, authorities: Path | None) -> None:
        """Load the files once.

        Args:
            certificate: PEM, with the chain.
            key: PEM.
            authorities: PEM of who signs the peers' certificates, which are then required; or None.

        Raises:
            ConfigurationError: A file is missing or wrong.
        """
        self._files = (certificate, key, authorities)
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._context = _server_context(*self._files)

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        with self._lock:
            try:
                stamp = self._look()
                if stamp != self._stamp:
                    self._context, self._stamp = _server_context(*self._files), stamp
            except ConfigurationError:
                pass  # half renewed: the next connection looks again
            return self._context

    def _look(self) -> tuple[tuple[int, int], ...]:
        try:
            stats = [path.stat() for path in self._files if path is not None]
        except OSError as exc:
            raise ConfigurationError(f"TLS: {exc}") from exc
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def server_tls(settings: Settings) -> ServerTls | None:
    """The acceptor's TLS, or None when the node speaks plain DICOM.

    Raises:
        ConfigurationError: A file is missing or wrong, or one is named without the other.
    """
    certificate, key = settings.dicom_tls_certificate, settings.dicom_tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("dicom_tls_certificate and dicom_tls_key belong together")
    return ServerTls(certificate, key, settings.dicom_tls_authorities)


def client_context(settings: Settings) -> ssl.SSLContext:
    """The requestor's TLS: verifies the destination, and shows our certificate if there is one.

    Raises:
        ConfigurationError: A file is missing or wrong.
    """
    try:
        context = ssl.create_default_context(cafile=settings.dicom_tls_authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        if settings.dicom_tls_certificate is not None:
            context.load_cert_chain(settings.dicom_tls_certificate, settings.dicom_tls_key)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"TLS: {exc}") from exc
    return context


def _server_context(certificate: Path, key: Path, authorities: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.load_cert_chain(certificate, key)
        if authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"TLS: {exc}") from exc
    return context


def peer_certificate(sock: object) -> PeerCertificate | None:
    """The verified certificate at the other end; None without TLS or when none was asked for."""
    encoded = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
    if not encoded:
        return None
    certificate = x509.load_der_x509_certificate(encoded)
    names = {str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names |= set(alternatives.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        pass
    return PeerCertificate(names=frozenset(names))


def is_admitted(
    peers: Sequence[AdmittedPeer], ae_title: str, address: str, certificate: PeerCertificate | None
) -> bool:
    """Whether a row of the list admits a caller; an empty list admits all.

    Args:
        peers: ``dicom_admitted_peers``.
        ae_title: Calling AE title.
        address: IP address it calls from.
        certificate: What it showed.
    """
    return not peers or any(_matches(peer, ae_title, address, certificate) for peer in peers)


def _matches(peer: AdmittedPeer, ae_title: str, address: str, certificate: PeerCertificate | None) -> bool:
    if peer.ae_title != ae_title.strip():
        return False
    caller = ipaddress.ip_address(address)
    if peer.networks and not any(caller in ipaddress.ip_network(network) for network in peer.networks):
        return False
    return not peer.certificate_name or (
        certificate is not None and peer.certificate_name in certificate.names
    )
