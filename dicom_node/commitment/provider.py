"""Storage commitment as the SCP: what we are asked, what we can commit to, and telling (PS3.4 annex J).

A request is in PostgreSQL before it is acknowledged; its report goes out on the association it came on
while that lasts, else on a new one to the requester, and is tried until the requester takes it.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import dataclass

import structlog
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from pynetdicom import build_context, build_role
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicom_node.delivery.scu import calling_entity, tls_args
from dicom_node.readers import REJECTION_NOTE, STORAGE_COMMITMENT_PUSH_MODEL
from dicom_node.sender import printable, sender_of
from service.config import Settings
from service.database import instances, ledger, rejections
from service.database.delivery import commitments
from service.database.delivery.commitments import CommitmentRequest, SopReference
from service.database.pool import Pool, transaction
from service.dicom.part10 import READ_ERRORS
from service.dicom.uids import MOST_CHARACTERS, is_uid
from service.errors import (
    DatabaseUnavailableError,
    DeliveryError,
    DestinationRefusedError,
    DestinationUnreachableError,
    InvalidIdentifierError,
    StorageError,
)
from service.peers import Destination
from service.pipeline import completeness
from service.pipeline.backoff import delay_s
from service.records import LedgerEvent
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)

WELL_KNOWN_INSTANCE = UID("1.2.840.10008.1.20.1.1")  # PS3.4 section J.3.5
_REQUEST_STORAGE_COMMITMENT = 1  # action type, PS3.4 table J.3-1
_ALL_COMMITTED, _FAILURES_EXIST = 1, 2  # event types, PS3.4 table J.3-2
_NO_SUCH_INSTANCE, _PROCESSING_FAILURE, _CLASS_CONFLICT = 0x0112, 0x0110, 0x0119  # PS3.3 C.14.1.1
_SUCCESS, _INVALID_ARGUMENT, _NO_SUCH_ACTION, _FAILURE = 0x0000, 0x0115, 0x0123, 0x0110  # PS3.7 annex C
_MAX_REFERENCES = 10_000
_LEASE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What we make of one reference."""

    reference: SopReference
    failure_reason: int | None  # Failure Reason (0008,1197); None when committed


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What is in the store under a SOP Instance UID: a photograph or a rejection note."""

    sop_class_uid: str
    sha256: str


def parse_action(information: Dataset) -> tuple[str, tuple[SopReference, ...]]:
    """Read the Action Information of a request (PS3.4 table J.3-1).

    Raises:
        InvalidIdentifierError: No transaction, no reference, or too many. A reference that is no UID is one
            that cannot be committed to, and the others can.
    """
    try:
        transaction_uid = _text(information, "TransactionUID")
        items = list(information.get("ReferencedSOPSequence") or [])
    except READ_ERRORS as exc:
        raise InvalidIdentifierError("a storage commitment request cannot be read") from exc
    references = tuple(
        SopReference(
            sop_class_uid=_text(item, "ReferencedSOPClassUID"),
            sop_instance_uid=_text(item, "ReferencedSOPInstanceUID"),
        )
        for item in items
    )
    if not 1 <= len(references) <= _MAX_REFERENCES:
        raise InvalidIdentifierError(f"{len(references)} references in a storage commitment request")
    if not is_uid(transaction_uid):
        raise InvalidIdentifierError("the transaction of a storage commitment request has no UID")
    return transaction_uid, references


def _text(item: Dataset, keyword: str) -> str:
    """A UID as sent, or what stands in its place, fit to be kept and sent back."""
    try:
        return printable(str(item.get(keyword) or ""), MOST_CHARACTERS)
    except READ_ERRORS:
        return ""


def report_of(transaction_uid: str, verdicts: list[Verdict]) -> tuple[int, Dataset]:
    """The event type and Event Information of a report (PS3.4 table J.3-2)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    committed = [_item(v) for v in verdicts if v.failure_reason is None]
    failed = [_item(v) for v in verdicts if v.failure_reason is not None]
    if committed:
        information.ReferencedSOPSequence = Sequence(committed)
    if failed:
        information.FailedSOPSequence = Sequence(failed)
    return (_FAILURES_EXIST if failed else _ALL_COMMITTED), information


def _item(verdict: Verdict) -> Dataset:
    item = Dataset()
    for keyword, uid in (
        ("ReferencedSOPClassUID", verdict.reference.sop_class_uid),
        ("ReferencedSOPInstanceUID", verdict.reference.sop_instance_uid),
    ):
        item.add(DataElement(keyword, "UI", uid, validation_mode=config.IGNORE))  # as the requester wrote it
    if verdict.failure_reason is not None:
        item.FailureReason = verdict.failure_reason
    return item


class CommitmentProvider:
    """Answers requests; a thread of its own sends the reports that are due."""

    def __init__(self, settings: Settings, pool: Pool, store: InstanceStore) -> None:
        """Nothing is sent before ``start``.

        Args:
            settings: Peers to call, time-outs, backoff.
            pool: Of this process.
            store: Where committed bytes are.
        """
        self._settings = settings
        self._pool = pool
        self._store = store
        self._stopped = threading.Event()
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment-reports")

    def start(self) -> None:
        """Begin to send what is due; requests of an earlier process too."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more; what is due stays due."""
        self._stopped.set()
        self._due.set()
        self._thread.join()

    def request(self, event: Event) -> tuple[int, None]:
        """Take an N-ACTION; a handler of EVT_N_ACTION."""
        sender = sender_of(event.assoc)
        if event.action_type != _REQUEST_STORAGE_COMMITMENT:
            return _NO_SUCH_ACTION, None
        try:
            transaction_uid, references = parse_action(event.action_information)
            with transaction(self._pool) as connection:
                commitment_id = commitments.add(
                    connection,
                    transaction_uid=transaction_uid,
                    requester_ae_title=sender.calling_ae_title,
                    requester_address=sender.peer_address,
                    references=references,
                )
                announced = [each.sop_instance_uid for each in references]
                completeness.note_announced(connection, self._settings, announced)
        except InvalidIdentifierError as exc:
            _log.warning("commitment-refused", reason=printable(str(exc), 200), **sender.detail())
            return _INVALID_ARGUMENT, None
        except DatabaseUnavailableError as exc:
            _log.warning("commitment-not-taken", error=str(exc), **sender.detail())
            return _FAILURE, None
        _log.info("commitment-requested", transaction_uid=transaction_uid, references=len(references))
        threading.Thread(
            target=self._report_on, args=(event.assoc, commitment_id), name="commitment-report", daemon=True
        ).start()
        return _SUCCESS, None

    def _report_on(self, association: Association, commitment_id: int) -> None:
        """Report on the association of the request; what fails is left to the thread."""
        try:
            with transaction(self._pool) as connection:
                claimed = commitments.claim(connection, _LEASE_S, commitment_id)
            if claimed is not None:
                self._attempt(claimed, association)
        except DatabaseUnavailableError as exc:
            _log.warning("commitment-report-waits", error=str(exc))

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                while not self._stopped.is_set() and self._report_next():
                    pass
            except DatabaseUnavailableError as exc:
                _log.warning("commitment-reports-wait", error=str(exc))
            self._due.wait(self._settings.sweep_interval_s)
            self._due.clear()

    def _report_next(self) -> bool:
        with transaction(self._pool) as connection:
            claimed = commitments.claim(connection, _LEASE_S)
        if claimed is None:
            return False
        self._attempt(claimed, None)
        return True

    def _attempt(self, request: CommitmentRequest, association: Association | None) -> None:
        verdicts = self._verdicts(request)
        event_type, information = report_of(request.transaction_uid, verdicts)
        try:
            if association is not None:
                _send(association, event_type, information, request.requester_ae_title)
            else:
                self._call_back(request, event_type, information)
        except DeliveryError as exc:
            wait_s = 0.0 if association is not None else delay_s(request.attempts, self._settings)
            _log.warning("commitment-report-failed", transaction_uid=request.transaction_uid, error=str(exc))
            with transaction(self._pool) as connection:
                commitments.postpone(connection, request.commitment_id, printable(str(exc), 200), wait_s)
            self._due.set()
            return
        self._settle(request, verdicts)

    def _verdicts(self, request: CommitmentRequest) -> list[Verdict]:
        with transaction(self._pool) as connection:
            uids = [each.sop_instance_uid for each in request.references]
            held = {
                uid: _Held(sop_class_uid=each.sop_class_uid, sha256=each.sha256)
                for uid, each in instances.by_uids(connection, uids).items()
            }
            held |= {
                uid: _Held(sop_class_uid=REJECTION_NOTE, sha256=sha256)
                for uid, sha256 in rejections.notes(connection, uids).items()
            }
        return [
            Verdict(reference=each, failure_reason=self._failure(each, held.get(each.sop_instance_uid)))
            for each in request.references
        ]

    def _failure(self, reference: SopReference, instance: _Held | None) -> int | None:
        """Why we cannot commit to an instance; None when its bytes are there and right."""
        if instance is None:
            return _NO_SUCH_INSTANCE
        if instance.sop_class_uid != reference.sop_class_uid:
            return _CLASS_CONFLICT
        try:
            self._store.read(instance.sha256)
        except StorageError as exc:
            _log.error("committed-bytes-missing", sha256=instance.sha256, error=str(exc))
            return _PROCESSING_FAILURE
        return None

    def _call_back(self, request: CommitmentRequest, event_type: int, information: Dataset) -> None:
        """Report on a new association to the requester (PS3.4 section J.3.3.1.2)."""
        peer = self._peer(request)
        entity = calling_entity(self._settings)
        association = entity.associate(
            peer.host,
            peer.port,
            contexts=[build_context(STORAGE_COMMITMENT_PUSH_MODEL)],
            ae_title=peer.ae_title,
            tls_args=tls_args(peer, self._settings),
            ext_neg=[build_role(STORAGE_COMMITMENT_PUSH_MODEL, scp_role=True)],
        )
        if not association.is_established:
            raise DestinationUnreachableError(f"{peer.ae_title}: no association for the commitment report")
        try:
            _send(association, event_type, information, peer.ae_title)
        finally:
            if association.is_established:
                association.release()

    def _peer(self, request: CommitmentRequest) -> Destination:
        for peer in (*self._settings.dicom_peers, *self._settings.destinations):
            if peer.ae_title == request.requester_ae_title:
                return peer
        raise DestinationUnreachableError(
            f"{request.requester_ae_title} is in neither dicom_peers nor destinations"
        )

    def _settle(self, request: CommitmentRequest, verdicts: list[Verdict]) -> None:
        with transaction(self._pool) as connection:
            commitments.mark_reported(connection, request.commitment_id)
            known = instances.by_uids(connection, [each.sop_instance_uid for each in request.references])
            detail = {
                "transaction_uid": request.transaction_uid,
                "requester": request.requester_ae_title,
                "peer_address": request.requester_address,
            }
            lines = []
            for verdict in verdicts:
                uid, reason = verdict.reference.sop_instance_uid, verdict.failure_reason
                instance_id = known[uid].instance_id if uid in known else None
                if reason is None:
                    lines.append((LedgerEvent.COMMITTED, instance_id, uid, detail))
                else:
                    said = {**detail, "reason": f"not committed, failure reason 0x{reason:04X}"}
                    lines.append((LedgerEvent.REFUSED, instance_id, uid, said))
            ledger.append_many(connection, lines)
        _log.info("commitment-reported", transaction_uid=request.transaction_uid, references=len(verdicts))


def _send(association: Association, event_type: int, information: Dataset, requester: str) -> None:
    """Send one N-EVENT-REPORT.

    Raises:
        DestinationUnreachableError: The association ended first.
        DestinationRefusedError: The requester answered with a failure.
    """
    try:
        # On an association that the peer opened, its own requests may come meanwhile.
        with getattr(association, "asking", nullcontext)():
            response, _ = association.send_n_event_report(
                information, event_type, STORAGE_COMMITMENT_PUSH_MODEL, WELL_KNOWN_INSTANCE
            )
    except (RuntimeError, ValueError) as exc:
        raise DestinationUnreachableError(f"{requester}: {exc}") from exc
    status = response.get("Status")
    if status is None:
        raise DestinationUnreachableError(f"{requester}: the association ended before the answer")
    if status != _SUCCESS:
        raise DestinationRefusedError(f"{requester} answered 0x{status:04X} to a commitment report")
