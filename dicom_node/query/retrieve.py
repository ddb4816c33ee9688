"""C-MOVE and C-GET: what was found goes out by C-STORE, one instance after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.delivery.scu import calling_entity, tls_args
from dicom_node.encoding.command import Originator
from dicom_node.encoding.statuses import StatusClass, status_class
from dicom_node.query.reply import Exchange, SubOperations
from dicom_node.query.statuses import QueryStatus
from dicom_node.query.streamed_store import Outgoing, held, send_file
from reporting.holdings.database.holding_records import HeldInstance
from reporting.holdings.recoding import UNCOMPRESSED, Recoder
from service.config import Settings
from service.errors import ResultError, StorageError
from service.peers import Destination
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)

_MOST_CONTEXTS = 128  # of an association, PS3.8 section 9.3.2.2

# Sends one object by C-STORE, the so-maniest of a retrieval; answers the response's command set.
Send = Callable[[int, Outgoing], Dataset]


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """One request to retrieve."""

    exchange: Exchange
    settings: Settings
    store: InstanceStore
    recoder: Recoder
    instances: tuple[HeldInstance, ...]
    calling_ae_title: str
    note: Callable[[HeldInstance, str], None]  # records that an instance went to an AE title


def by_get(retrieval: Retrieval) -> None:
    """Send over the association of the request, in the roles it negotiated."""
    association = retrieval.exchange.association
    accepted = _accepted(association.accepted_contexts)

    def send(number: int, outgoing: Outgoing) -> Dataset:
        return send_file(association, outgoing, _message_id(retrieval, number))

    _run(retrieval, retrieval.calling_ae_title, accepted, send)


def by_move(retrieval: Retrieval, destination_ae_title: str) -> bool:
    """Send over an association of our own to a configured node.

    Returns:
        Whether the destination is a configured one; if not, nothing was answered.
    """
    destination = _destination(retrieval.settings, destination_ae_title)
    if destination is None:
        return False
    if not retrieval.instances:
        retrieval.exchange.send(QueryStatus.SUCCESS, counts=SubOperations(remaining=0))
        return True
    association = _associate(retrieval, destination)
    if association is None or not association.is_established:
        counts = SubOperations(remaining=len(retrieval.instances))
        for instance in retrieval.instances:
            counts.fail(instance.sop_instance_uid)
        retrieval.exchange.send(
            QueryStatus.CANNOT_PERFORM, comment="no association with the move destination", counts=counts
        )
        return True

    originator = Originator(
        ae_title=retrieval.calling_ae_title, message_id=int(retrieval.exchange.request.MessageID or 0)
    )

    def send(number: int, outgoing: Outgoing) -> Dataset:
        return send_file(association, outgoing, _message_id(retrieval, number), originator)

    try:
        with held(association):
            _run(retrieval, destination.ae_title, _accepted(association.accepted_contexts), send)
    finally:
        if association.is_established:
            association.release()
    return True


def _destination(settings: Settings, ae_title: str) -> Destination | None:
    rows = (*settings.destinations, *settings.dicom_peers)
    return next((row for row in rows if row.kind == "dicom" and row.ae_title == ae_title), None)


def _associate(retrieval: Retrieval, destination: Destination) -> Association | None:
    offered = {
        (UID(instance.sop_class_uid), UID(syntax)): None
        for instance in retrieval.instances
        for syntax in (instance.transfer_syntax_uid, *UNCOMPRESSED)
    }
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in offered][:_MOST_CONTEXTS]
    try:
        return calling_entity(retrieval.settings).associate(
            destination.host,
            destination.port,
            contexts=contexts,
            ae_title=destination.ae_title,
            tls_args=tls_args(destination, retrieval.settings),
        )
    except OSError as exc:
        _log.warning("move-destination-unreachable", destination=destination.name, error=str(exc))
        return None


def _accepted(contexts: Iterable[PresentationContext]) -> Mapping[str, list[UID]]:
    """Transfer syntaxes that the other side takes each SOP class in."""
    accepted: dict[str, list[UID]] = {}
    for context in contexts:
        if context.as_scu:
            accepted.setdefault(str(context.abstract_syntax), []).append(UID(context.transfer_syntax[0]))
    return accepted


def _run(retrieval: Retrieval, to: str, accepted: Mapping[str, Sequence[UID]], send: Send) -> None:
    exchange, counts = retrieval.exchange, SubOperations(remaining=len(retrieval.instances))
    for number, instance in enumerate(retrieval.instances, start=1):
        if not exchange.is_open:
            return
        if exchange.is_cancelled:
            exchange.send(QueryStatus.CANCELLED, counts=counts)
            return
        waiting = partial(_sign_of_life, exchange, counts)
        warning = _store(
            retrieval, instance, accepted.get(instance.sop_class_uid, ()), partial(send, number), waiting
        )
        if warning is None:
            counts.fail(instance.sop_instance_uid)
        else:
            counts.succeed(warning=warning)
            retrieval.note(instance, to)
        if counts.remaining:
            exchange.send(QueryStatus.PENDING, counts=counts)
    if exchange.is_open:
        exchange.send(counts.status, counts=counts)


def _store(
    retrieval: Retrieval,
    instance: HeldInstance,
    accepted: Sequence[UID],
    send: Callable[[Outgoing], Dataset],
    waiting: Callable[[], None],
) -> bool | None:
    """Send one instance; answers whether it was stored with a warning, None when it was not."""
    try:
        with _fitting(retrieval, instance, accepted, waiting) as outgoing:
            response = send(outgoing)
    except (StorageError, ResultError) as exc:
        _log.warning("not-retrieved", sop_instance_uid=instance.sop_instance_uid, error=type(exc).__name__)
        return None
    status = response.get("Status")
    kind = StatusClass.PERMANENT if status is None else status_class(status)
    if kind in (StatusClass.SUCCESS, StatusClass.WARNING):
        return kind is StatusClass.WARNING
    return None


@contextmanager
def _fitting(
    retrieval: Retrieval,
    instance: HeldInstance,
    accepted: Sequence[UID],
    waiting: Callable[[], None],
) -> Iterator[Outgoing]:
    """The instance as stored if it is taken so, else in an uncompressed transfer syntax.

    Raises:
        ResultError: It is taken in none that we can make.
        StorageError: Its bytes are gone or wrong.
    """
    syntax = UID(instance.transfer_syntax_uid)
    if syntax in accepted:
        retrieval.store.verify(instance.sha256)
        source = retrieval.store.open(instance.sha256)
    else:
        target = next((each for each in UNCOMPRESSED if each in accepted), None)
        if target is None:
            raise ResultError("no transfer syntax is accepted that the instance can be sent in")
        syntax, source = target, retrieval.recoder.recoded(instance.sha256, target, waiting)
    with source:
        yield Outgoing(
            sop_class_uid=instance.sop_class_uid,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax_uid=syntax,
            source=source,
        )


def _sign_of_life(exchange: Exchange, counts: SubOperations) -> None:
    """Tell a caller whose instance waits to be decoded, or is being decoded, that it is not forgotten."""
    if exchange.is_open:
        exchange.send(QueryStatus.PENDING, counts=counts)


def _message_id(retrieval: Retrieval, number: int) -> int:
    return (int(retrieval.exchange.request.MessageID or 0) + number) % 65_535 + 1
