"""The sending side of the node: one result object to one destination by C-STORE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from ssl import SSLContext

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.security import client_context
from dicom_node.statuses import StatusClass, status_class
from dicom_node.transport import PromptSocket
from service.config import Destination, Settings
from service.errors import (
    ConfigurationError,
    DestinationRefusedError,
    DestinationUnreachableError,
    ResultError,
)

_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What the destination made of an object."""

    status: int  # success or a warning (PS3.4 section B.2.3)
    comment: str  # Error Comment (0000,0902); "" when none
    transfer_syntax_uid: str  # what it went out in

    @property
    def is_warning(self) -> bool:
        """Whether the destination stored it with a remark."""
        return status_class(self.status) is StatusClass.WARNING


class _PromptAE(AE):
    """An application entity whose connections send small segments at once."""

    def _create_socket(
        self,
        assoc: Association,
        address: AddressInformation,
        tls_args: tuple[SSLContext, str] | None,
    ) -> AssociationSocket:
        sock = PromptSocket(assoc, address=address)
        sock.tls_args = tls_args
        return sock


def send(content: bytes, destination: Destination, settings: Settings) -> Sent:
    """Send one Part 10 object.

    Args:
        content: The file, preamble and all.
        destination: Where to.
        settings: Our AE title and the time-out of the network's steps.

    Returns:
        What the destination answered, a success or a warning.

    Raises:
        DestinationUnreachableError: No association, or it broke before the answer.
        DestinationRefusedError: A failure status, or the object's SOP class is not accepted.
        ResultError: The content is not a DICOM object.
    """
    try:
        ds = dcmread(BytesIO(content))
    except (InvalidDicomError, EOFError) as exc:
        raise ResultError(f"not a DICOM object: {exc}") from exc
    with _association(ds, destination, settings) as association:
        outgoing = _encoded_for(ds, association)
        try:
            response = association.send_c_store(outgoing)
        except (RuntimeError, ValueError) as exc:
            raise DestinationUnreachableError(f"{destination.name}: {exc}") from exc
    return _judged(response, destination, str(outgoing.file_meta.TransferSyntaxUID))


def calling_entity(settings: Settings) -> AE:
    """Our application entity, as the requestor of associations."""
    entity = _PromptAE(ae_title=settings.dicom_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = settings.delivery_timeout_s
    entity.acse_timeout = settings.delivery_timeout_s
    entity.dimse_timeout = settings.delivery_timeout_s
    entity.network_timeout = settings.delivery_timeout_s
    return entity


def tls_args(destination: Destination, settings: Settings) -> tuple[SSLContext, str] | None:
    """What pynetdicom wants to know of TLS to a destination.

    Raises:
        ConfigurationError: A certificate file is missing or wrong.
    """
    return (client_context(settings), destination.host) if destination.tls else None


@contextmanager
def _association(ds: FileDataset, destination: Destination, settings: Settings) -> Iterator[Association]:
    sop_class, transfer_syntax = UID(ds.SOPClassUID), UID(ds.file_meta.TransferSyntaxUID)
    entity = calling_entity(settings)
    # One context for each transfer syntax: the destination then says which of them it takes.
    offered = dict.fromkeys((transfer_syntax, *_UNCOMPRESSED))
    contexts = [build_context(sop_class, each) for each in offered]
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=contexts,
            ae_title=destination.ae_title,
            tls_args=tls_args(destination, settings),
        )
    except OSError as exc:
        raise DestinationUnreachableError(f"{destination.name}: {exc}") from exc
    if not association.is_established:
        raise _no_association(association, destination)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _no_association(
    association: Association, destination: Destination
) -> DestinationUnreachableError | DestinationRefusedError:
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = answer.reason_str if answer is not None else "no reason"
        return DestinationUnreachableError(f"{destination.name} rejected the association: {reason}")
    if association.rejected_contexts and not association.accepted_contexts:
        return DestinationRefusedError(f"{destination.name} does not accept the result's SOP class")
    return DestinationUnreachableError(f"{destination.name}: no association")


def _encoded_for(ds: FileDataset, association: Association) -> FileDataset:
    """The object in a transfer syntax the destination accepted; decompressed only if it must be.

    Raises:
        DestinationRefusedError: None of those offered is accepted.
    """
    accepted = [UID(context.transfer_syntax[0]) for context in association.accepted_contexts]
    current = UID(ds.file_meta.TransferSyntaxUID)
    if current in accepted:
        return ds
    target = next((each for each in _UNCOMPRESSED if each in accepted), None)
    if target is None:
        raise DestinationRefusedError("no transfer syntax of the result is accepted")
    if current.is_compressed and "PixelData" in ds:
        ds.decompress(generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = target
    recoded = BytesIO()
    ds.save_as(recoded, implicit_vr=target.is_implicit_VR, little_endian=True)
    return dcmread(BytesIO(recoded.getvalue()))


def _judged(response: Dataset, destination: Destination, transfer_syntax_uid: str) -> Sent:
    status = response.get("Status")
    if status is None:
        raise DestinationUnreachableError(f"{destination.name}: the association ended before the answer")
    comment = str(response.get("ErrorComment", ""))
    if status_class(status) in {StatusClass.SUCCESS, StatusClass.WARNING}:
        return Sent(status=status, comment=comment, transfer_syntax_uid=transfer_syntax_uid)
    raise DestinationRefusedError(f"{destination.name} answered 0x{status:04X} {comment}".rstrip())


def destination_named(settings: Settings, name: str) -> Destination:
    """The destination of that name.

    Raises:
        ConfigurationError: It is not configured any more.
    """
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    raise ConfigurationError(f"destination {name!r} is in a delivery but not in the settings")
