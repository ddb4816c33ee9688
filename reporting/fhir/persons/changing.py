"""Patients are saved here: whoever writes one, who is whom is worked out again in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reporting.fhir.audit import identity_change
from reporting.fhir.builders.imaging import media_id
from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Draft, Saved, SaveOutcome
from reporting.fhir.elements import reference
from reporting.fhir.persons.conflicts import judge_study
from reporting.fhir.persons.grouping import AUTHOR, REPLACED_BY, Change, Grouping, identifiers_of
from reporting.fhir.render import draft_of, loads
from reporting.fhir.site import Site
from reporting.fhir.valid.validate import check
from service.database import ledger, outbox
from service.database.pool import Connection
from service.records import LedgerEvent
from service.steps import REPORT_AGAIN


def save_patients(connection: Connection, drafts: Sequence[Draft], *, author: str, site: Site) -> list[Saved]:
    """Save Patients, and follow what they say of who is whom.

    Args:
        connection: In a transaction, which the caller commits.
        drafts: Of Patients, each at most once.
        author: The client that writes, or whoever sent the message.
        site: Of this server.

    Raises:
        FhirVersionConflictError: A current version is not the expected one; nothing is saved.
    """
    fhir_persons.lock(connection)
    before = fhir_resources.read_many(connection, [("Patient", draft.resource_id) for draft in drafts])
    saved = fhir_resources.save(connection, drafts, author=author)
    changed = [each.resource for each in saved if each.outcome is not SaveOutcome.UNCHANGED]
    if changed:
        said = {pair for stored in before for pair in identifiers_of(loads(stored.body))}
        grouping = Grouping(connection=connection, site=site)
        changes = grouping.regroup([stored.resource_id for stored in changed], said)
        follow(connection, changes, author=author, site=site)
    return saved


def follow(connection: Connection, changes: Sequence[Change], *, author: str, site: Site) -> None:
    """Let everything follow that depends on who is whom, and note every step.

    Args:
        connection: In the transaction that changed it.
        changes: Patients that another stands for now.
        author: Whoever changed it.
        site: Of this server.
    """
    for change in changes:
        _show(connection, change, site)
        _note(connection, change, author, site)
    _report_again(connection, changes)
    concerned = {each for change in changes for each in (change.patient, change.before, change.after)}
    every = fhir_persons.members_of(connection, concerned)
    patients = sorted({each for members in every.values() for each in members})
    for study in fhir_persons.mixed_studies_of(connection, patients):
        judge_study(connection, study, site)


def _show(connection: Connection, change: Change, site: Site) -> None:
    """Have a Patient that we made point to the one that stands for it, or no more."""
    if fhir_persons.author_of(connection, change.patient) != AUTHOR:
        return
    stored = fhir_resources.read_for_update(connection, "Patient", change.patient)
    if stored is None:
        return
    kept = {k: v for k, v in loads(stored.body).items() if k not in ("link", "active")}
    resource: dict[str, Any] = kept
    if change.after != change.patient:
        link = {"other": reference("Patient", change.after), "type": REPLACED_BY}
        resource = {**kept, "active": False, "link": [link]}
    check(resource)
    fhir_resources.save(connection, [draft_of(resource, site=site)], author=AUTHOR)


def _note(connection: Connection, change: Change, author: str, site: Site) -> None:
    event = LedgerEvent.PATIENT_UNLINKED if change.after == change.patient else LedgerEvent.PATIENT_LINKED
    detail = {"patient": change.patient, "before": change.before, "after": change.after, "by": author}
    ledger.append(connection, event, sop_instance_uid="", detail=detail)
    made = identity_change(change.patient, change.before, change.after, author)
    fhir_resources.save(connection, [draft_of(made, site=site)], author=AUTHOR)


def _report_again(connection: Connection, changes: Sequence[Change]) -> None:
    """Have photographs whose results name somebody who is no longer the same person reported again."""
    after = {change.patient: change.after for change in changes}
    photographs = fhir_persons.photographs_under(connection, sorted(after))
    media = {media_id(uid): (instance_id, patient) for instance_id, uid, patient in photographs}
    stored = fhir_resources.read_many(connection, [("Media", each) for each in media])
    persons = fhir_persons.persons_of(connection, [each.patient for each in stored if each.patient])
    asked = False
    for each in stored:
        instance_id, patient = media[each.resource_id]
        if each.patient is not None and persons[each.patient] != after[patient]:
            outbox.put(connection, REPORT_AGAIN.task, REPORT_AGAIN.queue, instance_id)
            asked = True
    if asked:
        outbox.nudge(connection)
