"""Intake of one object: checked while it streams to disk, durable before it is acknowledged."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import structlog
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.admission.admission import Admission
from dicom_node.encoding import structure
from dicom_node.encoding.command import StoreCommand
from dicom_node.encoding.file_meta import part10_header
from dicom_node.encoding.statuses import StoreStatus
from dicom_node.intake.correction import settle
from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.journal import Journal
from dicom_node.intake.reception import Reception
from dicom_node.intake.rejection import follow_note
from dicom_node.readers import REJECTION_NOTE, takes
from dicom_node.sender import Sender, printable, sender_of
from reporting.source import issuer_of
from service.codecs.deflated import MOST_INFLATED_BYTES, read_header
from service.config import Settings
from service.database.pool import Pool
from service.dicom.part10 import READ_ERRORS
from service.dicom.uids import has_leading_zero, is_uid
from service.errors import (
    ConflictingInstanceError,
    DatabaseUnavailableError,
    IncompleteInstanceError,
    IntakeError,
    InvalidIdentifierError,
    NodeBusyError,
    RejectedInstanceError,
    RejectionNoteError,
    SemblanceError,
    StorageError,
    StorageFullError,
    UnsupportedInstanceError,
)
from service.meters import count_received
from service.pipeline.attempt import describe
from service.records import LedgerEvent, NewInstance, Receipt
from service.storage.local import InstanceStore, StoreWriter

_log = structlog.get_logger(__name__)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MOST_OF_AN_ISSUER = 1024  # characters

# Which status tells the sender of which error; the first match counts.
STATUSES: tuple[tuple[type[SemblanceError], StoreStatus], ...] = (
    (StorageError, StoreStatus.OUT_OF_RESOURCES),
    (NodeBusyError, StoreStatus.OUT_OF_RESOURCES),
    (DatabaseUnavailableError, StoreStatus.OUT_OF_RESOURCES),
    (UnsupportedInstanceError, StoreStatus.SOP_CLASS_NOT_SUPPORTED),
    (ConflictingInstanceError, StoreStatus.CONFLICTING_INSTANCE),
    (RejectedInstanceError, StoreStatus.REJECTED_BEFORE),
    (RejectionNoteError, StoreStatus.NOTE_NOT_FOLLOWED),
    (IncompleteInstanceError, StoreStatus.CANNOT_UNDERSTAND),
    (InvalidIdentifierError, StoreStatus.DATA_SET_DOES_NOT_MATCH),
)


_IDENTIFYING_TEXTS = (
    ("patient_id", structure.PATIENT_ID),
    ("issuer_of_patient_id", structure.ISSUER_OF_PATIENT_ID),
)


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """What every reception of a process shares."""

    settings: Settings
    store: InstanceStore
    pool: Pool
    commit: GroupCommit
    journal: Journal
    admission: Admission | None = None  # limits; None for none
    most_inflated_bytes: int = MOST_INFLATED_BYTES  # of a deflated data set

    def begin(
        self, association: Association, context: PresentationContext | None, request: StoreCommand
    ) -> Reception:
        """Begin to receive one object; a ReceptionFactory."""
        return InstanceReception(self, sender_of(association), context, request)

    def record_refusal(self, sop_instance_uid: str, sender: Sender, detail: Mapping[str, str]) -> None:
        """Put a refusal into log and ledger; into the ledger when the database is there."""
        uid = printable(sop_instance_uid)
        _log.warning("refused", sop_instance_uid=uid, **sender.detail(), **detail)
        self.journal.write(LedgerEvent.REFUSED, uid, {**sender.detail(), **detail})


class InstanceReception:
    """One object on its way in; see Reception. Nothing is kept unless ``finish`` answers success."""

    def __init__(
        self, ingest: Ingest, sender: Sender, context: PresentationContext | None, request: StoreCommand
    ) -> None:
        """Judge the request and open the store; a failure is kept for ``finish``."""
        self._ingest = ingest
        self._sender = sender
        self._request = request
        self._transfer_syntax_uid = ""
        self._writer: StoreWriter | None = None
        self._structure: structure.StructureReader | None = None
        self._error: Exception | None = None
        self._guarded(lambda: self._open(context))

    def write(self, fragment: memoryview) -> None:
        """Keep a fragment, unless the object is refused already."""
        if self._error is None:
            self._guarded(lambda: self._keep(fragment))

    def finish(self) -> tuple[int, str]:
        """Check, make durable, record; see Reception."""
        try:
            if self._error is None:
                self._guarded(self._accept)
        finally:
            self._close()
        status, comment = self._answer()
        count_received(self._sender.calling_ae_title, status)
        return status, comment

    def abandon(self, reason: str) -> None:
        """Keep nothing of it; the ledger says why."""
        self._close()
        self._ingest.record_refusal(
            self._request.sop_instance_uid,
            self._sender,
            {"reason": f"transfer incomplete: {printable(reason, 200)}"},
        )

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step; what it raises decides the answer. The one broad except of the C-STORE handler."""
        try:
            step()
        except SemblanceError as exc:
            self._error = exc
            self._close()
        except Exception as exc:  # noqa: BLE001 -- the C-STORE handler answers whatever happens
            _log.error("reception-failed", uid=printable(self._request.sop_instance_uid), **_fault(exc))
            self._error = exc
            self._close()

    def _open(self, context: PresentationContext | None) -> None:
        request = self._request
        if self._ingest.admission is not None:
            self._ingest.admission.admit_object(self._sender.calling_ae_title, self._sender.peer_address)
        if (
            context is None
            or context.abstract_syntax != request.sop_class_uid
            or not takes(request.sop_class_uid, str(context.transfer_syntax[0]))
        ):
            raise UnsupportedInstanceError("SOP class not negotiated in this presentation context")
        require_uid("Affected SOP Instance UID", request.sop_instance_uid)
        self._transfer_syntax_uid = str(context.transfer_syntax[0])
        self._structure = structure.StructureReader(
            self._transfer_syntax_uid, self._ingest.most_inflated_bytes
        )
        self._writer = self._ingest.store.writer()
        self._writer.__enter__()
        self._writer.write(
            part10_header(request.sop_class_uid, request.sop_instance_uid, self._transfer_syntax_uid)
        )

    def _keep(self, fragment: memoryview) -> None:
        if self._structure is None or self._writer is None:
            raise StorageError("the reception is closed")
        self._structure.feed(fragment)
        self._writer.write(fragment)

    def _accept(self) -> None:
        if self._structure is None or self._writer is None:
            raise StorageError("the reception is closed")
        values = self._structure.finish()
        identity = self._identity(values)
        stored = self._writer.commit()
        if values.has_issuer_qualifiers and not identity["issuer_of_patient_id"]:
            identity["issuer_of_patient_id"] = _issuer_of(self._ingest.store, stored.sha256)
        new = NewInstance(
            **identity,
            transfer_syntax_uid=self._transfer_syntax_uid,
            calling_ae_title=self._sender.calling_ae_title,
            called_ae_title=self._sender.called_ae_title,
            peer_address=self._sender.peer_address,
            association_id=self._sender.association_id,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            remarks="; ".join(_remarks(values, identity)),
        )
        if new.sop_class_uid == REJECTION_NOTE:
            follow_note(self._ingest.pool, self._ingest.store, self._ingest.settings, new)
            return
        receipt = self._ingest.commit.record(new)
        if receipt is Receipt.QUARANTINED:
            receipt = settle(self._ingest.pool, self._ingest.store, new)
        _log.info("received", sop_instance_uid=identity["sop_instance_uid"], receipt=receipt.value)
        if receipt is Receipt.REJECTED:
            raise RejectedInstanceError("a rejection note took the instance back")
        if receipt is Receipt.QUARANTINED:
            raise ConflictingInstanceError("other pixels under a known SOP Instance UID; quarantined")

    def _identity(self, values: structure.KeptValues) -> dict[str, str]:
        """The identifiers of the object, checked (PS3.5 section 9.1)."""
        identity = {
            "sop_class_uid": values.text(structure.SOP_CLASS_UID),
            "sop_instance_uid": values.text(structure.SOP_INSTANCE_UID),
            "study_instance_uid": values.text(structure.STUDY_INSTANCE_UID),
            "series_instance_uid": values.text(structure.SERIES_INSTANCE_UID),
        }
        for name, uid in identity.items():
            require_uid(name, uid)
        if identity["sop_class_uid"] != self._request.sop_class_uid:
            raise InvalidIdentifierError("SOP Class UID differs from the command's")
        if identity["sop_instance_uid"] != self._request.sop_instance_uid:
            raise InvalidIdentifierError("SOP Instance UID differs from the command's")
        for name, tag in _IDENTIFYING_TEXTS:
            identity[name] = values.text(tag)
            if _CONTROL.search(identity[name]):
                raise InvalidIdentifierError(f"{name} holds a control character")
        return identity

    def _answer(self) -> tuple[int, str]:
        error = self._error
        if error is None:
            return StoreStatus.SUCCESS, ""
        # What nobody foresaw would go wrong again: a status that asks for a retry would block the sender.
        status = next((s for kind, s in STATUSES if isinstance(error, kind)), StoreStatus.UNFORESEEN)
        comment = _comment(error)
        if not isinstance(error, ConflictingInstanceError):  # that one is in the ledger as quarantined
            self._ingest.record_refusal(
                self._request.sop_instance_uid,
                self._sender,
                {"reason": _reason(error), "status": f"0x{status:04X}"},
            )
        return status, comment

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        self._structure = None
        if writer is not None:
            writer.__exit__(None, None, None)


def _issuer_of(store: InstanceStore, sha256: str) -> str:
    """Who issued the patient ID of a stored object, where only a universal ID says so.

    The same number from two authorities is two patients, also before anything is reported.

    Raises:
        InvalidIdentifierError: It is too long, or holds a control character.
    """
    try:
        header, _ = read_header(BytesIO(store.read(sha256)))
        issuer = issuer_of(header)
    except READ_ERRORS:
        return ""  # reading it further fails too, and says why
    if _CONTROL.search(issuer) or len(issuer) > _MOST_OF_AN_ISSUER:
        raise InvalidIdentifierError(
            "the universal ID of the issuer is too long or holds a control character"
        )
    return issuer


def _remarks(values: structure.KeptValues, identity: Mapping[str, str]) -> Iterator[str]:
    """What of an object is not as it should be, and was borne; for the ledger, without values."""
    yield from values.remarks
    for name, tag in _IDENTIFYING_TEXTS:
        if not values.is_declared(tag):
            yield f"{name} is not in the character set declared"
    for name, uid in identity.items():
        if name.endswith("_uid") and has_leading_zero(uid):
            yield f"{name} has a leading zero"


def require_uid(name: str, uid: str) -> None:
    """Check a UID (PS3.5 section 9.1).

    Raises:
        InvalidIdentifierError: Absent, too long, or not dotted numbers.
    """
    if not uid:
        raise InvalidIdentifierError(f"{name} is missing")
    if not is_uid(uid):
        raise InvalidIdentifierError(f"{name} is not a UID")


def _fault(exc: Exception) -> dict[str, str]:
    """Where and of what kind an unforeseen error was; its message may quote patient data and is left out."""
    frames = traceback.extract_tb(exc.__traceback__)[-4:]
    return {
        "error": type(exc).__name__,
        "at": " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames)),
    }


def _reason(error: Exception) -> str:
    """What the ledger says of an error."""
    return printable(describe(error), 200)


def _comment(error: Exception) -> str:
    """What the sender is told: no paths, no internals."""
    if isinstance(error, StorageFullError):
        return "disk space is low"
    if isinstance(error, IntakeError):
        return printable(str(error))
    if isinstance(error, SemblanceError):
        return "cannot store at present"
    return "an error of the node's; do not send again"
