"""TLS both ways, renewed while running; and who is admitted."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom.association import Association

from dicom_node.acceptor.scp import Node
from dicom_node.delivery.scu import calling_entity, send
from dicom_node.readers import VERIFICATION
from service.config import Settings
from service.database import ledger
from service.database.pool import Pool, transaction
from service.errors import ConfigurationError, DestinationUnreachableError
from service.peers import AdmittedPeer, Destination
from service.storage.local import InstanceStore
from tests.dicom_objects import photograph
from tests.nodes import running


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(self._sign(self.name, self.key, is_authority=True))

    def issue(self, name: str, directory: Path | None = None) -> tuple[Path, Path]:
        """Certificate and key for a name, on the loopback address."""
        directory = directory or self.directory
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_path = directory / f"{name}.crt", directory / f"{name}.key"
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
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(settings: Settings, authority: Authority) -> Settings:
    certificate, key = authority.issue("node")
    return settings.model_copy(
        update={
            "dicom_tls_certificate": certificate,
            "dicom_tls_key": key,
            "dicom_tls_authorities": authority.path,
            "delivery_timeout_s": 15.0,
        }
    )


def connect(
    port: int, authority: Authority | None = None, certificate: tuple[Path, Path] | None = None
) -> Association:
    ae = calling_entity(Settings(dicom_ae_title="CAMERA", delivery_timeout_s=15.0))
    ae.add_requested_context(VERIFICATION, ImplicitVRLittleEndian)
    tls = None
    if authority is not None:
        context = ssl.create_default_context(cafile=authority.path)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        tls = (context, "127.0.0.1")
    return ae.associate("127.0.0.1", port, ae_title="SEMBLANCE", tls_args=tls)


def serial(port: int, authority: Authority, certificate: tuple[Path, Path]) -> int:
    context = ssl.create_default_context(cafile=authority.path)
    context.load_cert_chain(*certificate)
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def test_mutual_tls(secure: Settings, pool: Pool, store: InstanceStore, authority: Authority) -> None:
    camera = authority.issue("camera")
    with running(secure, pool, store) as node:
        association = connect(node.port, authority, camera)
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        association.release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_without_tls_or_certificate_there_is_no_association(
    secure: Settings, pool: Pool, store: InstanceStore, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger").issue("camera")
    with running(secure, pool, store) as node:
        assert not connect(node.port).is_established
        assert not connect(node.port, authority).is_established
        assert not connect(node.port, authority, stranger).is_established
        association = connect(node.port, authority, authority.issue("camera"))
        assert association.is_established
        association.release()


def test_old_protocols_are_refused(
    secure: Settings, pool: Pool, store: InstanceStore, authority: Authority
) -> None:
    context = ssl.create_default_context(cafile=authority.path)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")  # no forward secrecy
    with (
        running(secure, pool, store) as node,
        socket.create_connection(("127.0.0.1", node.port)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_slow_handshake_holds_up_nobody(
    secure: Settings, pool: Pool, store: InstanceStore, authority: Authority
) -> None:
    with running(secure, pool, store) as node, socket.create_connection(("127.0.0.1", node.port)):
        association = connect(node.port, authority, authority.issue("camera"))
        assert association.is_established
        association.release()


def test_a_renewed_certificate_is_used_without_a_restart(
    secure: Settings, pool: Pool, store: InstanceStore, authority: Authority
) -> None:
    camera = authority.issue("camera")
    with running(secure, pool, store) as node:
        first = serial(node.port, authority, camera)
        assert serial(node.port, authority, camera) == first
        authority.issue("node")
        assert serial(node.port, authority, camera) != first
        assert secure.dicom_tls_certificate is not None
        secure.dicom_tls_certificate.write_bytes(b"half written")
        assert serial(node.port, authority, camera) != first


def test_half_a_configuration_is_an_error(secure: Settings, pool: Pool, store: InstanceStore) -> None:
    with pytest.raises(ConfigurationError, match="belong together"):
        Node(secure.model_copy(update={"dicom_tls_key": None}), pool, store)


def test_results_go_out_by_tls(
    secure: Settings, pool: Pool, store: InstanceStore, authority: Authority, tmp_path: Path
) -> None:
    encoded = BytesIO()
    dcmwrite(
        encoded,
        photograph(sop_class=SecondaryCaptureImageStorage, transfer_syntax=ExplicitVRLittleEndian),
        enforce_file_format=True,
    )
    with running(secure, pool, store) as node:
        to = Destination(name="peer", ae_title="SEMBLANCE", host="127.0.0.1", port=node.port, tls=True)
        assert send(encoded.getvalue(), to, secure).status == 0x0000
        (tmp_path / "other").mkdir()
        unknown = Authority(tmp_path / "other", "stranger")
        with pytest.raises(DestinationUnreachableError):
            send(encoded.getvalue(), to, secure.model_copy(update={"dicom_tls_authorities": unknown.path}))


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        (AdmittedPeer(ae_title="CAMERA"), True),
        (AdmittedPeer(ae_title="CAMERA", networks=("127.0.0.0/8",), certificate_name="camera"), True),
        (AdmittedPeer(ae_title="OTHER"), False),
        (AdmittedPeer(ae_title="CAMERA", networks=("10.0.0.0/8",)), False),
        (AdmittedPeer(ae_title="CAMERA", certificate_name="somebody"), False),
    ],
)
def test_callers_are_bound_to_network_and_certificate(  # noqa: PLR0917
    secure: Settings,
    pool: Pool,
    store: InstanceStore,
    authority: Authority,
    peer: AdmittedPeer,
    admitted: bool,
) -> None:
    chosen = secure.model_copy(update={"dicom_admitted_peers": (peer,)})
    with running(chosen, pool, store) as node:
        association = connect(node.port, authority, authority.issue("camera"))
        assert association.is_established is admitted
        assert association.is_rejected is not admitted
        if admitted:
            association.release()
            return
    with transaction(pool) as connection:
        (refusal,) = ledger.latest(connection, 1)
    assert "Calling AE title not recognised" in refusal.detail["reason"]
    assert refusal.detail["calling_ae_title"] == "CAMERA"
