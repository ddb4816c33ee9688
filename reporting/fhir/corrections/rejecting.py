"""What a rejection note takes back, to an EHR: results ``entered-in-error``, reports without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reporting.fhir.audit import withdrawal
from reporting.fhir.builders.imaging import media_id, without_instances
from reporting.fhir.builders.report import without_results
from reporting.fhir.corrections.amending import Amended, changed, reports_with, studies_with
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.describing import with_words
from reporting.fhir.persons.conflicts import judge_study
from reporting.fhir.render import draft_of, loads
from reporting.fhir.site import site_of
from reporting.fhir.subscriptions.rules import announce
from reporting.fhir.valid.validate import check
from reporting.fhir.write.withdrawal import ENTERED_IN_ERROR, withdraw
from reporting.identifiers import ResultKind, observation_id_of, result_uid
from service.config import Settings
from service.database import appraisals
from service.database.pool import Connection
from service.records import Instance, SavedAppraisal

AUTHOR = "semblance"


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Who takes something back, and why."""

    note: str  # SOP Instance UID of the note
    reason: str  # its title, in words
    who: str  # calling AE title


def results_of(instance: Instance, saved: SavedAppraisal) -> list[str]:
    """SOP Instance UIDs of every result of an appraisal, of each version of its photograph."""
    return [
        result_uid(saved.appraisal.appraisal_id, kind, version)
        for kind in ResultKind
        for version in range(1, instance.version + 1)
    ]


def made_of(connection: Connection, instance: Instance) -> list[SavedAppraisal]:
    """Every appraisal of a photograph, those of earlier pixels too."""
    found = appraisals.for_instance(connection, instance.instance_id)
    return [*found, *appraisals.superseded(connection, instance.instance_id)]


def take_back_photograph(
    connection: Connection, instance: Instance, rejection: Rejection, settings: Settings
) -> None:
    """Take back everything that was issued of a photograph; earlier versions stay in the history.

    Args:
        connection: In a transaction, which the caller commits, and that holds the row of the photograph.
        instance: The photograph.
        rejection: By which note.
        settings: Uses the base URL.
    """
    _take_back(connection, instance, made_of(connection, instance), rejection, settings, with_photograph=True)


def take_back_result(
    connection: Connection,
    instance: Instance,
    saved: SavedAppraisal,
    rejection: Rejection,
    settings: Settings,
) -> None:
    """Take back one appraisal of a photograph, which stays; see ``take_back_photograph``."""
    _take_back(connection, instance, [saved], rejection, settings, with_photograph=False)


def _take_back(
    connection: Connection,
    instance: Instance,
    made: Sequence[SavedAppraisal],
    rejection: Rejection,
    settings: Settings,
    *,
    with_photograph: bool,
) -> None:
    fhir_resources.lock_name(connection, f"study {instance.study_instance_uid}")
    observations = [observation_id_of(str(saved.appraisal.appraisal_id)) for saved in made]
    issued = [each for each in observations if fhir_resources.read(connection, "Observation", each)]
    for observation in issued:
        _withdraw(connection, observation, rejection, settings)
    results = [uid for saved in made for uid in results_of(instance, saved)]
    gone = {f"Observation/{each}" for each in issued}
    media = {f"Media/{media_id(uid)}" for uid in results}
    reports = {r.resource_id: r for each in issued for r in reports_with(connection, each)}
    amended: list[Amended] = []
    for report in reports.values():
        amended += changed(report, without_results(loads(report.body), gone, media))
    uids = [*results, *((instance.sop_instance_uid,) if with_photograph else ())]
    for study in studies_with(connection, uids) if uids else ():
        amended += changed(study, without_instances(loads(study.body), uids))
    if with_photograph:
        amended += _photograph(connection, instance)
    _save(connection, amended, settings)
    judge_study(connection, instance.study_instance_uid, site_of(settings))


def _withdraw(connection: Connection, observation: str, rejection: Rejection, settings: Settings) -> None:
    """Take one result back and note who did it, in this transaction."""
    reason = f"rejection note: {rejection.reason}"
    done = withdraw(connection, observation, reason=reason, who=rejection.who, settings=settings)
    stored = fhir_resources.read(connection, "Observation", observation)
    patient = stored.patient if stored else None
    command = f"rejection note {rejection.note}"
    event = withdrawal(observation, patient, rejection.who, command, done=bool(done))
    fhir_resources.save(connection, [draft_of(event, site=site_of(settings))], author=AUTHOR)


def _photograph(connection: Connection, instance: Instance) -> list[Amended]:
    stored = fhir_resources.read_for_update(connection, "Media", media_id(instance.sop_instance_uid))
    if stored is None:
        return []
    return [Amended(resource={**loads(stored.body), "status": ENTERED_IN_ERROR}, patient=stored.patient)]


def _save(connection: Connection, amended: Sequence[Amended], settings: Settings) -> None:
    """Save what was amended, and tell subscribers."""
    site = site_of(settings)
    drafts = []
    for each in amended:
        is_report = each.resource["resourceType"] == "DiagnosticReport"
        resource = with_words(connection, each.resource) if is_report else each.resource
        check(resource)
        drafts.append(draft_of(resource, site=site, patient=each.patient))
    saved = fhir_resources.save(connection, drafts, author=AUTHOR)
    announce(connection, saved, settings)
