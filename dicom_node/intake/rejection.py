"""Rejection notes that senders store (IHE RAD TF-2 section 4.66): followed, or refused with a reason.

A note is a Key Object Selection Document whose title says why photographs are taken back (PS3.16 CID 7011).
What it names is withdrawn in one transaction, before the sender reads success.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    take_back_photographs,
    take_back_results,
)
from reporting.fhir.database import persons as fhir_persons
from reporting.holdings.database import holdings
from reporting.identifiers import observation_id_of, own_patient_id
from service.codecs.deflated import read_header
from service.config import Settings
from service.database import instances, ledger, rejections
from service.database.pool import Connection, Pool, in_transaction
from service.database.rejections import RejectedReference, Taken
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


_Result = tuple[Instance, SavedAppraisal]  # a result's photograph and appraisal


def _follow(connection: Connection, settings: Settings, offered: NewInstance, note: RejectionNote) -> int:
    if rejections.add(connection, offered, note.title, note.references) is None:
        _require_same_note(connection, offered)
        return 0
    named = {each.sop_instance_uid: each for each in note.references}
    known = instances.lock_by_uids(connection, list(named))
    photographs = {each.sop_instance_uid for each in known}
    results = _results(
        connection, [each for each in note.references if each.sop_instance_uid not in photographs]
    )
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
    news = rejections.withdraw(connection, [each.instance_id for each in known], detail)
    take_back_photographs(
        connection, [each for each in known if each.instance_id in news], rejection, settings
    )
    _take_back_results(connection, results, news, rejection, settings)
    _note(connection, offered.sop_instance_uid, known, results, detail)
    return len(known) + len(results)


def _require_same_note(connection: Connection, offered: NewInstance) -> None:
    """A note that was followed may come again.

    Raises:
        ConflictingInstanceError: It says something else now.
        RejectionNoteError: It was lifted.
    """
    before = rejections.find_note(connection, offered.sop_instance_uid)
    if before is None or before.sha256 != offered.sha256:
        raise ConflictingInstanceError("another rejection note of that UID was followed before")
    if before.lifted_at is not None:
        raise RejectionNoteError("the note was lifted here; a new one is followed")


def _results(connection: Connection, references: Sequence[RejectedReference]) -> dict[str, _Result]:
    """Of what a note names and is no photograph, the results of ours, also those taken back before."""
    wanted = {each.sop_instance_uid for each in references}
    numbers = set(holdings.photographs_of(connection, sorted(wanted)))
    numbers |= set(
        rejections.with_results_back(connection, sorted({each.study_instance_uid for each in references}))
    )
    found = {}
    locked = [instances.lock(connection, number) for number in sorted(numbers)]
    for instance, made in made_of(connection, locked):
        for saved in made:
            for uid in wanted.intersection(results_of(instance, saved)):
                found[uid] = (instance, saved)
    return found


def _take_back_results(
    connection: Connection,
    results: Mapping[str, _Result],
    gone: Collection[int],
    rejection: Rejection,
    settings: Settings,
) -> None:
    """Hide rejected results, and the other objects of their appraisals, which say the same.

    Args:
        connection: In a transaction.
        results: By SOP Instance UID.
        gone: Photographs that are taken back as a whole.
        rejection: By which note.
        settings: Uses the base URL.
    """
    made = {saved.appraisal.appraisal_id: (instance, saved) for instance, saved in results.values()}
    left = [(instance, saved) for instance, saved in made.values() if instance.instance_id not in gone]
    take_back_results(connection, left, rejection, settings)
    uids = [uid for instance, saved in left for uid in results_of(instance, saved)]
    holdings.hide(connection, uids)
    rejections.cancel_deliveries(connection, uids)


def _note(
    connection: Connection,
    note: str,
    photographs: Sequence[Instance],
    results: Mapping[str, _Result],
    detail: Mapping[str, str],
) -> None:
    """Write down what the note took back; the ledger has a line for each photograph already."""
    taken = [
        Taken(sop_instance_uid=each.sop_instance_uid, instance_id=each.instance_id) for each in photographs
    ]
    taken += [
        Taken(
            sop_instance_uid=uid,
            instance_id=instance.instance_id,
            observation_id=observation_id_of(str(saved.appraisal.appraisal_id)),
        )
        for uid, (instance, saved) in results.items()
    ]
    rejections.note_taken(connection, note, taken)
    ledger.append_many(
        connection,
        [
            (
                LedgerEvent.WITHDRAWN,
                instance.instance_id,
                instance.sop_instance_uid,
                {**detail, "result": uid},
            )
            for uid, (instance, _) in results.items()
        ],
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
