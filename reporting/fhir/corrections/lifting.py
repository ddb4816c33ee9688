"""A rejection note that came by mistake is lifted: what it took back is judged and issued again."""

from __future__ import annotations

from dataclasses import dataclass

from reporting.fhir.audit import withdrawal
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import draft_of
from reporting.fhir.site import site_of
from service.config import Settings
from service.database import instances, ledger, rejections, versions
from service.database.pool import Connection
from service.records import InstanceState, LedgerEvent

AUTHOR = "semblance"


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """What came of lifting a note."""

    restored: tuple[str, ...]  # SOP Instance UIDs of photographs that are issued again, with their results
    still_back: tuple[str, ...]  # of those that another note, or somebody's decision, holds back


def lift(connection: Connection, note: str, *, who: str, reason: str, settings: Settings) -> Lifted:
    """Have a note count no more.

    A photograph that no other note holds back is appraised and reported again, as its next version: its
    DICOM results get new UIDs, its Observation becomes ``amended``. What somebody took back by hand stays so.

    Args:
        connection: In a transaction, which the caller commits.
        note: SOP Instance UID of the note.
        who: User who lifts it.
        reason: Why, in words; no patient data.
        settings: Uses the base URL.

    Raises:
        RecordNotFoundError: There is no such note, it was lifted, or it is too old to be.
    """
    photographs = rejections.lift(connection, note, who)
    detail = {"note": note, "by": who, "reason": reason}
    ledger.append(connection, LedgerEvent.NOTE_LIFTED, sop_instance_uid=note, detail=detail)
    restored: list[str] = []
    still_back: list[str] = []
    results: list[str] = []
    for instance_id in photographs:
        instance = instances.lock(connection, instance_id)
        is_back = instance.state is InstanceState.WITHDRAWN
        if is_back and rejections.rejecting_note(connection, instance) is not None:
            still_back.append(instance.sop_instance_uid)
            continue
        released = rejections.release(connection, instance_id)
        if not is_back and not released:
            still_back.append(instance.sop_instance_uid)
            continue
        versions.issue_again(connection, instance_id, detail)
        restored.append(instance.sop_instance_uid)
        results += released
    _tell(connection, results, f"semblance rejections lift {note} --reason {reason}", who, settings)
    return Lifted(restored=tuple(restored), still_back=tuple(still_back))


def _tell(
    connection: Connection, observation_ids: list[str], command: str, who: str, settings: Settings
) -> None:
    """Make an AuditEvent for each patient."""
    by_patient: dict[str | None, list[str]] = {}
    for each in fhir_resources.read_many(connection, [("Observation", one) for one in observation_ids]):
        by_patient.setdefault(each.patient, []).append(each.resource_id)
    events = [
        withdrawal(names, patient, who, command, "to be issued again")
        for patient, names in by_patient.items()
    ]
    site = site_of(settings)
    fhir_resources.save(connection, [draft_of(each, site=site) for each in events], author=AUTHOR)
