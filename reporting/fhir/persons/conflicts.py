"""Studies that hold photographs of more than one person: noted, and flagged to each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.persons import ConflictKind
from reporting.fhir.database.records import Draft
from reporting.fhir.elements import DICOM_UID_SYSTEM, Element, codeable, issued, reference
from reporting.fhir.render import draft_of, loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site
from reporting.fhir.valid.validate import check
from reporting.identifiers import fhir_id
from reporting.terminology import MIXED_STUDY
from service.database import ledger
from service.database.pool import Connection
from service.records import LedgerEvent

AUTHOR = "semblance"
_IMAGING_STUDY = RESOURCE_TYPES["ImagingStudy"].parameters["identifier"].number
_DETAIL = (
    "Photographs under another patient's number came in this study. Each is reported to its own patient. "
    "One of them may have been sent under a wrong number."
)


def judge_study(connection: Connection, study_instance_uid: str, site: Site) -> None:
    """Flag a study that holds photographs of several persons, or say that it no longer does.

    Args:
        connection: In a transaction.
        study_instance_uid: Of the study.
        site: Of this server.
    """
    parts = [
        (study, patient)
        for study, patient in fhir_persons.studies_named(
            connection, study_instance_uid, "ImagingStudy", _IMAGING_STUDY
        )
        if _is_valid(connection, study)
    ]
    persons = fhir_persons.persons_of(connection, [patient for _, patient in parts])
    mixed = len(set(persons.values())) > 1
    if mixed:
        patients = sorted({patient for _, patient in parts})
        if fhir_persons.note_conflict(connection, ConflictKind.MIXED_STUDY, study_instance_uid, patients):
            _tell_ledger(connection, LedgerEvent.PATIENTS_MIXED, study_instance_uid, patients)
    elif fhir_persons.resolve_conflict(connection, ConflictKind.MIXED_STUDY, study_instance_uid):
        _tell_ledger(connection, LedgerEvent.PATIENTS_SORTED, study_instance_uid, sorted(persons))
    else:
        return
    _flag(connection, study_instance_uid, parts, mixed=mixed, site=site)


def _is_valid(connection: Connection, study_id: str) -> bool:
    stored = fhir_resources.read(connection, "ImagingStudy", study_id)
    return stored is not None and loads(stored.body)["status"] != "entered-in-error"


def _tell_ledger(
    connection: Connection, event: LedgerEvent, study_instance_uid: str, patients: Sequence[str]
) -> None:
    ledger.append(
        connection,
        event,
        sop_instance_uid="",
        detail={"study_instance_uid": study_instance_uid, "patients": ",".join(patients)},
    )


def issue_id(study_instance_uid: str, patient: str) -> str:
    """Logical id of the DetectedIssue of a study for one of its patients."""
    return fhir_id("DetectedIssue", MIXED_STUDY.code, study_instance_uid, patient)


def _flag(
    connection: Connection,
    study_instance_uid: str,
    parts: Sequence[tuple[str, str]],
    *,
    mixed: bool,
    site: Site,
) -> None:
    implicated: dict[str, list[str]] = {}
    for study, patient in parts:
        implicated.setdefault(patient, []).append(study)
    known = fhir_persons.studies_named(connection, study_instance_uid, "DetectedIssue", _ISSUE)
    drafts = []
    for patient, studies in implicated.items() if mixed else ():
        stored = fhir_resources.read(connection, "DetectedIssue", issue_id(study_instance_uid, patient))
        since = loads(stored.body)["identifiedDateTime"] if stored is not None else issued(datetime.now(UTC))
        drafts.append(_draft(_issue(study_instance_uid, patient, studies, since), patient, site))
    flagged = {draft.resource_id for draft in drafts}
    for issue, patient in known:
        stored = fhir_resources.read(connection, "DetectedIssue", issue)
        if issue not in flagged and stored is not None:
            drafts.append(_draft({**loads(stored.body), "status": "cancelled"}, patient, site))
    fhir_resources.save(connection, drafts, author=AUTHOR)


_ISSUE = RESOURCE_TYPES["DetectedIssue"].parameters["identifier"].number


def _draft(resource: Mapping[str, Any], patient: str, site: Site) -> Draft:
    check(dict(resource))
    return draft_of(resource, site=site, patient=patient)


def _issue(study_instance_uid: str, patient: str, studies: Sequence[str], since: str) -> Element:
    """Make the DetectedIssue; it names nothing of the other patient."""
    return {
        "resourceType": "DetectedIssue",
        "id": issue_id(study_instance_uid, patient),
        "identifier": [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{study_instance_uid}"}],
        "status": "final",
        "code": codeable(MIXED_STUDY),
        "severity": "high",
        "patient": reference("Patient", patient),
        "identifiedDateTime": since,
        "implicated": [reference("ImagingStudy", study) for study in sorted(studies)],
        "detail": _DETAIL,
    }
