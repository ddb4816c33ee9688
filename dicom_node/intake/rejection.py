"""Rejection notes that senders store (IHE RAD TF-2 section 4.66): followed, or refused with a reason.

A note is a Key Object Selection Document whose title says why photographs are taken back (PS3.16 CID 7011).
What it names is withdrawn in one transaction, before the sender reads success.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any

import structlog
from pydicom.dataset import Dataset

from reporting.fhir.corrections.rejecting import (
    Rejection,
    made_of,
    results_of,
    take_back_photograph,
    take_back_result,
)
from reporting.fhir.database import persons as fhir_persons
from reporting.holdings.database import holdings
from reporting.identifiers import own_patient_id
from service.codecs.deflated import read_header
from service.config import Settings
from service.database import instances, ledger, rejections
from service.database.pool import Connection, Pool, in_transaction
from service.database.rejections import RejectedReference
from service.dicom.part10 import READ_ERRORS
from service.dicom.uids import is_uid
from service.errors import ConflictingInstanceError, IncompleteInstanceError, RejectionNoteError
from service.records import Instance, LedgerEvent, NewInstance, SavedAppraisal
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)

# Codes of DCM that reject (PS3.16 CID 7011), and what an EHR is told.
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "113001": "Rejected for Quality Reasons",
        "113037": "Rejected for Patient Safety Reasons",
        "113038": "Incorrect Modality Worklist Entry",
    }
)
_RETENTION = "113039"  # Data Retention Policy Expired: the result is right all the same
_MOST_REFERENCES = 1_000
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class RejectionNote:
    """What a note says."""

    title: str  # a key of TITLES
    references: tuple[RejectedReference, ...]


def parse_note(content: bytes) -> RejectionNote:
    """Read a note.

    Args:
        content: The Part 10 file.

    Raises:
        IncompleteInstanceError: It cannot be read.
        RejectionNoteError: It is no rejection note, is about retention, names nothing, too much, or no UIDs.
    """
    if len(content) > _MOST_BYTES:
        raise RejectionNoteError("the note is too long")
    try:
        header, _ = read_header(BytesIO(content))
        title = _title(header)
        references = tuple(dict.fromkeys(_references(header)))
    except READ_ERRORS as exc:
        raise IncompleteInstanceError("the key object selection cannot be read") from exc
    if title == _RETENTION:
        raise RejectionNoteError("how long photographs are kept is not decided by notes (113039)")
    if title not in TITLES:
        raise RejectionNoteError("of key object selections, rejection notes alone are taken")
    if not 1 <= len(references) <= _MOST_REFERENCES:
        raise RejectionNoteError(f"names {len(references)} instances; 1 to {_MOST_REFERENCES} are taken")
    for each in references:
        if not all(map(is_uid, (each.sop_class_uid, each.sop_instance_uid, each.study_instance_uid))):
            raise RejectionNoteError("names an instance by what is no UID")
    return RejectionNote(title=title, references=references)


def _title(header: Dataset) -> str:
    """Code of the document's title; "" when it is none of DCM's."""
    for item in _items(header, "ConceptNameCodeSequence"):
        if str(item.get("CodingSchemeDesignator") or "").strip() == "DCM":
            return str(item.get("CodeValue") or "").strip()
    return ""


def _references(header: Dataset) -> Iterable[RejectedReference]:
    """Current Requested Procedure Evidence Sequence (PS3.3 section C.17.2.3)."""
    for study in _items(header, "CurrentRequestedProcedureEvidenceSequence"):
        for series in _items(study, "ReferencedSeriesSequence"):
            for item in _items(series, "ReferencedSOPSequence"):
                yield RejectedReference(
                    sop_class_uid=_uid(item, "ReferencedSOPClassUID"),
                    sop_instance_uid=_uid(item, "ReferencedSOPInstanceUID"),
                    study_instance_uid=_uid(study, "StudyInstanceUID"),
                )


def _uid(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "").strip(" \0")


def _items(header: Dataset, keyword: str) -> Iterable[Dataset]:
    value: Any = header.get(keyword)
    return value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else ()


def follow_note(pool: Pool, store: InstanceStore, settings: Settings, offered: NewInstance) -> None:
    """Follow a note whose bytes are in the store; returns after the commit. Again, it changes nothing.

    Raises:
        ConflictingInstanceError: Another note of that UID was followed before.
        IncompleteInstanceError, RejectionNoteError: Nothing was done.
        StorageError, DatabaseUnavailableError: Nothing was done; it may come again.
    """
    note = parse_note(store.read(offered.sha256))
    count = in_transaction(pool, lambda connection: _follow(connection, settings, offered, note))
    _log.info("rejection-note", sop_instance_uid=offered.sop_instance_uid, title=note.title, withdrawn=count)


def _follow(connection: Connection, settings: Settings, offered: NewInstance, note: RejectionNote) -> int:
    if rejections.add(connection, offered, note.title, note.references) is None:
        if rejections.note_sha256(connection, offered.sop_instance_uid) == offered.sha256:
            return 0
        raise ConflictingInstanceError("another rejection note of that UID was followed before")
    named = {each.sop_instance_uid: each for each in note.references}
    known = instances.lock_by_uids(connection, list(named))
    results = _results(connection, [uid for uid in named if uid not in {i.sop_instance_uid for i in known}])
    for instance in [*known, *(instance for instance, _ in results.values())]:
        _require_same_patient(connection, offered, instance)
    for instance in known:
        _require_same_object(named[instance.sop_instance_uid], instance)
    rejection = Rejection(
        note=offered.sop_instance_uid, reason=TITLES[note.title], who=offered.calling_ae_title
    )
    detail = {
        "note": offered.sop_instance_uid,
        "title": note.title,
        "calling_ae_title": offered.calling_ae_title,
        "peer_address": offered.peer_address,
        "association": offered.association_id,
    }
    for instance in known:
        if rejections.withdraw(connection, instance.instance_id, detail):
            take_back_photograph(connection, instance, rejection, settings)
    for uid, (instance, saved) in results.items():
        take_back_result(connection, instance, saved, rejection, settings)
        _note_result(connection, uid, results_of(instance, saved), instance, detail)
    return len(known) + len(results)


def _results(connection: Connection, uids: Sequence[str]) -> dict[str, tuple[Instance, SavedAppraisal]]:
    """Of those UIDs, the results of ours, with what they were made of."""
    found = {}
    for held in filter(None, (holdings.by_uid(connection, uid) for uid in uids)):
        if not held.is_result:
            continue
        instance = instances.lock(connection, held.instance_id)
        for saved in made_of(connection, instance):
            if held.sop_instance_uid in results_of(instance, saved):
                found[held.sop_instance_uid] = (instance, saved)
    return found


def _note_result(
    connection: Connection, uid: str, uids: Sequence[str], instance: Instance, detail: Mapping[str, str]
) -> None:
    """Hide a rejected result, and the other objects of its appraisal, which say the same."""
    holdings.hide(connection, uids)
    rejections.cancel_deliveries(connection, uids)
    rejections.note_withdrawn(connection, [uid])
    ledger.append(
        connection,
        LedgerEvent.WITHDRAWN,
        instance_id=instance.instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail={**detail, "result": uid},
    )


def _require_same_patient(connection: Connection, note: NewInstance, instance: Instance) -> None:
    """A note takes nothing from a patient whom it does not name.

    Raises:
        RejectionNoteError: It names somebody else's.
    """
    issuers = {note.issuer_of_patient_id, instance.issuer_of_patient_id}
    if note.patient_id == instance.patient_id and ("" in issuers or len(issuers) == 1):
        return
    mine, theirs = (
        own_patient_id(each.issuer_of_patient_id, each.patient_id, each.study_instance_uid)
        for each in (note, instance)
    )
    if len(set(fhir_persons.persons_of(connection, [mine, theirs]).values())) > 1:
        raise RejectionNoteError("names an instance of another patient")


def _require_same_object(named: RejectedReference, instance: Instance) -> None:
    if named.sop_class_uid != instance.sop_class_uid:
        raise RejectionNoteError("names an instance with another SOP class")
    if named.study_instance_uid != instance.study_instance_uid:
        raise RejectionNoteError("names an instance in another study")
