"""The sending side of the node: one result object to one destination by C-STORE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from ssl import SSLContext

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.admission.security import client_context
from dicom_node.delivery.location import without_location
from dicom_node.encoding.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.encoding.statuses import StatusClass, status_class
from dicom_node.readers import VERIFICATION
from dicom_node.sockets import PromptSocket
from reporting.holdings.recoding import UNCOMPRESSED, recoded_data_set
from service.config import Settings
from service.errors import (
    ConfigurationError,
    DestinationBusyError,
    DestinationUnreachableError,
    ResultError,
    ResultNotAcceptedError,
)
from service.peers import Destination

_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000})


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What the destination made of an object."""

    status: int  # success or a warning (PS3.4 section B.2.3)
    comment: str  # Error Comment (0000,0902); "" when none
    transfer_syntax_uid: str  # what it went out in


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
        destination: Where to, and how.
        settings: Our AE title and the time-out of the network's steps.

    Returns:
        What the destination answered, a success or a warning.

    Raises:
        DestinationUnreachableError: No association, or it broke before the answer.
        DestinationBusyError: A failure status that may pass.
        ResultNotAcceptedError: A failure status that stays, or the object's SOP class or transfer
            syntax is not accepted and it cannot be recoded without loss.
        ResultError: The content is not a DICOM object.
    """
    if destination.strip_location:
        content = without_location(content)
    try:
        ds = dcmread(BytesIO(content))
    except (InvalidDicomError, EOFError) as exc:
        raise ResultError(f"not a DICOM object: {exc}") from exc
    with _association(ds, destination, settings) as association:
        outgoing = _encoded_for(ds, association, _offered(ds, destination))
        try:
            response = association.send_c_store(outgoing)
        except (RuntimeError, ValueError) as exc:
            raise DestinationUnreachableError(f"{destination.name}: {exc}") from exc
    return _judged(response, destination, str(outgoing.file_meta.TransferSyntaxUID))


def verify(destination: Destination, settings: Settings) -> None:
    """Ask a destination by C-ECHO whether it is there (PS3.4 annex A).

    One that accepts no association for Verification alone, against the standard, counts as there.

    Raises:
        DestinationUnreachableError: No association, or no answer.
        ConfigurationError: A certificate file is missing or wrong.
    """
    association = _associate([build_context(VERIFICATION)], destination, settings)
    if not association.is_established:
        if association.rejected_contexts:
            return
        raise _no_association(association, destination)
    try:
        answer = association.send_c_echo()
    except (RuntimeError, ValueError) as exc:
        raise DestinationUnreachableError(f"{destination.name}: {exc}") from exc
    finally:
        if association.is_established:
            association.release()
    if answer.get("Status") != 0x0000:
        raise DestinationUnreachableError(f"{destination.name} does not answer C-ECHO with success")


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
    # One context for each transfer syntax: the destination then says which of them it takes.
    contexts = [build_context(UID(ds.SOPClassUID), each) for each in _offered(ds, destination)]
    association = _associate(contexts, destination, settings)
    if not association.is_established:
        raise _no_association(association, destination)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _offered(ds: FileDataset, destination: Destination) -> tuple[UID, ...]:
    """Transfer syntaxes to offer for an object, best first: what the destination's row names, then its own.

    What was compressed with loss is best left as it is: compressing it again would only make it larger.
    """
    current = UID(ds.file_meta.TransferSyntaxUID)
    named = [UID(each) for each in destination.transfer_syntaxes]
    if "PixelData" not in ds:
        named = [each for each in named if not each.is_encapsulated]
    if current in _LOSSY:
        named.insert(0, current)
    return tuple(dict.fromkeys((*named, current, *UNCOMPRESSED)))


def _associate(
    contexts: Sequence[PresentationContext], destination: Destination, settings: Settings
) -> Association:
    """Ask for an association, which may not come about."""
    try:
        return calling_entity(settings).associate(
            destination.host,
            destination.port,
            contexts=list(contexts),
            ae_title=destination.ae_title,
            tls_args=tls_args(destination, settings),
        )
    except OSError as exc:
        raise DestinationUnreachableError(f"{destination.name}: {exc}") from exc


def _no_association(
    association: Association, destination: Destination
) -> DestinationUnreachableError | ResultNotAcceptedError:
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = answer.reason_str if answer is not None else "no reason"
        return DestinationUnreachableError(f"{destination.name} rejected the association: {reason}")
    if association.rejected_contexts and not association.accepted_contexts:
        return ResultNotAcceptedError(f"{destination.name} does not accept the result's SOP class")
    return DestinationUnreachableError(f"{destination.name}: no association")


def _encoded_for(ds: FileDataset, association: Association, offered: Sequence[UID]) -> FileDataset:
    """The object in the best transfer syntax the destination accepted.

    What was compressed with loss goes out as it is or decompressed; nothing is ever compressed with loss.

    Raises:
        ResultNotAcceptedError: None of those offered is accepted.
        ResultError: It cannot be recoded.
    """
    accepted = {UID(context.transfer_syntax[0]) for context in association.accepted_contexts}
    current = UID(ds.file_meta.TransferSyntaxUID)
    target = next((each for each in offered if each in accepted), None)
    if target is None:
        raise ResultNotAcceptedError("no transfer syntax that the result can be sent in is accepted")
    return ds if target == current else recoded_data_set(ds, target)


def _judged(response: Dataset, destination: Destination, transfer_syntax_uid: str) -> Sent:
    status = response.get("Status")
    if status is None:
        raise DestinationUnreachableError(f"{destination.name}: the association ended before the answer")
    comment = str(response.get("ErrorComment", ""))
    if status_class(status) in {StatusClass.SUCCESS, StatusClass.WARNING}:
        return Sent(status=status, comment=comment, transfer_syntax_uid=transfer_syntax_uid)
    permanent = status_class(status) is StatusClass.PERMANENT
    kind = ResultNotAcceptedError if permanent else DestinationBusyError
    raise kind(f"{destination.name} answered 0x{status:04X} {comment}".rstrip())


def destination_named(settings: Settings, name: str) -> Destination:
    """The destination of that name.

    Raises:
        ConfigurationError: It is not configured any more.
    """
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    raise ConfigurationError(f"destination {name!r} is in a delivery but not in the settings")
