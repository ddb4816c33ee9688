"""What a rejection note takes back, to an EHR: results ``entered-in-error``, reports without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reporting.fhir.audit import withdrawal
from reporting.fhir.builders.imaging import media_id, without_instances
from reporting.fhir.builders.report import without_results
from reporting.fhir.corrections.amending import Amended, changed, reports_with, studies_with
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Saved, StoredResource
from reporting.fhir.describing import with_words
from reporting.fhir.persons.conflicts import judge_study
from reporting.fhir.render import draft_of, loads
from reporting.fhir.site import site_of
from reporting.fhir.subscriptions.rules import announce
from reporting.fhir.valid.validate import check
from reporting.fhir.write.withdrawal import ENTERED_IN_ERROR, withdraw_many
from reporting.identifiers import ResultKind, observation_id_of, result_uid
from service.config import Settings
from service.database import appraisals, rejections
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


def made_of(
    connection: Connection, photographs: Sequence[Instance]
) -> list[tuple[Instance, list[SavedAppraisal]]]:
    """Photographs with every appraisal of each, those of earlier pixels too."""
    numbers = [each.instance_id for each in photographs]
    found = appraisals.for_instances(connection, numbers, superseded_too=True)
    return [(each, found.get(each.instance_id, [])) for each in photographs]


def take_back_photographs(
    connection: Connection, photographs: Sequence[Instance], rejection: Rejection, settings: Settings
) -> None:
    """Take back everything that was issued of photographs; earlier versions stay in the history.

    Args:
        connection: In a transaction, which the caller commits, and that holds the rows of the photographs.
        photographs: Of any studies.
        rejection: By which note.
        settings: Uses the base URL.
    """
    made = made_of(connection, photographs)
    _take_back_all(connection, made, rejection, settings, with_photographs=True)


def take_back_results(
    connection: Connection,
    results: Sequence[tuple[Instance, SavedAppraisal]],
    rejection: Rejection,
    settings: Settings,
) -> None:
    """Take back appraisals of photographs, which stay; see ``take_back_photographs``."""
    made = [(instance, [saved]) for instance, saved in results]
    _take_back_all(connection, made, rejection, settings, with_photographs=False)


_Made = tuple[Instance, Sequence[SavedAppraisal]]  # a photograph and appraisals of it


def _take_back_all(
    connection: Connection,
    made: Sequence[_Made],
    rejection: Rejection,
    settings: Settings,
    *,
    with_photographs: bool,
) -> None:
    """Study by study: what lists many results is amended once."""
    by_study: dict[str, list[_Made]] = {}
    for each in made:
        by_study.setdefault(each[0].study_instance_uid, []).append(each)
    for uid in sorted(by_study):
        fhir_resources.lock_name(connection, f"study {uid}")
        _take_back(connection, by_study[uid], rejection, settings, with_photographs=with_photographs)
        judge_study(connection, uid, site_of(settings))


def _take_back(
    connection: Connection,
    made: Sequence[_Made],
    rejection: Rejection,
    settings: Settings,
    *,
    with_photographs: bool,
) -> None:
    owner = {
        observation_id_of(str(each.appraisal.appraisal_id)): instance.instance_id
        for instance, appraised in made
        for each in appraised
    }
    known = fhir_resources.read_many(connection, [("Observation", name) for name in owner])
    saved = _withdraw(connection, known, owner, rejection, settings)
    issued = [each.resource_id for each in known]
    results = [
        uid for instance, appraised in made for each in appraised for uid in results_of(instance, each)
    ]
    gone = {f"Observation/{each}" for each in issued}
    media = {f"Media/{media_id(uid)}" for uid in results}
    photographs = [instance.sop_instance_uid for instance, _ in made] if with_photographs else []
    amended: list[Amended] = []
    for report in reports_with(connection, issued):
        amended += changed(report, without_results(loads(report.body), gone, media))
    uids = [*results, *photographs]
    for study in studies_with(connection, uids) if uids else ():
        amended += changed(study, without_instances(loads(study.body), uids))
    amended += _photographs(connection, photographs)
    announce(connection, [*saved, *_save(connection, amended, settings)], settings)


def _withdraw(
    connection: Connection,
    observations: Sequence[StoredResource],
    photographs: Mapping[str, int],
    rejection: Rejection,
    settings: Settings,
) -> list[Saved]:
    """Take results back and note who did it, in this transaction.

    Args:
        connection: In the transaction.
        observations: As they are.
        photographs: Row of the photograph of each, by logical id.
        rejection: By which note.
        settings: Uses the base URL.
    """
    names = [each.resource_id for each in observations]
    earlier = rejections.held_back(connection, names)  # by a note; of others it is somebody's decision
    reason = f"rejection note: {rejection.reason}"
    saved = withdraw_many(connection, observations, reason=reason, who=rejection.who, settings=settings)
    news = {each.resource.resource_id for each in saved if each.resource.resource_type == "Observation"}
    rejections.hold_back(connection, {name: photographs[name] for name in sorted(earlier | news)})
    told: dict[tuple[str | None, str], list[str]] = {}
    for each in observations:
        outcome = "withdrawn" if each.resource_id in news else "withdrawn before"
        told.setdefault((each.patient, outcome), []).append(each.resource_id)
    events = [
        withdrawal(those, patient, rejection.who, f"rejection note {rejection.note}", outcome)
        for (patient, outcome), those in told.items()
    ]
    site = site_of(settings)
    fhir_resources.save(connection, [draft_of(each, site=site) for each in events], author=AUTHOR)
    return saved


def _photographs(connection: Connection, sop_instance_uids: Sequence[str]) -> list[Amended]:
    names = [("Media", media_id(uid)) for uid in sop_instance_uids]
    return [
        Amended(resource={**loads(each.body), "status": ENTERED_IN_ERROR}, patient=each.patient)
        for each in fhir_resources.read_many(connection, names)
    ]


def _save(connection: Connection, amended: Sequence[Amended], settings: Settings) -> list[Saved]:
    site = site_of(settings)
    drafts = []
    for each in amended:
        is_report = each.resource["resourceType"] == "DiagnosticReport"
        resource = with_words(connection, each.resource) if is_report else each.resource
        check(resource)
        drafts.append(draft_of(resource, site=site, patient=each.patient))
    return fhir_resources.save(connection, drafts, author=AUTHOR)
