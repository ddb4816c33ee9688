"""The reporting step: an appraisal in, result objects and resources kept, deliveries due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reporting.dicom.context import ReportContext, ResultObject
from reporting.dicom.results import ResultPictures, build_results
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Saved
from reporting.fhir.results import AUTHOR, is_taken_back, judge_report, save_results
from reporting.fhir.write.withdrawal import withdraw
from reporting.holdings.database import holdings
from reporting.identifiers import ResultKind, observation_id_of
from reporting.outcomes.following.follow import note_photograph
from reporting.pictures import pictures_of
from reporting.routing import Routed, destinations_of
from reporting.source import default_zone, read_source
from service.config import Settings
from service.database import appraisals, instances, pictures, reratings, studies
from service.database.delivery import deliveries
from service.database.pool import Connection, transaction
from service.errors import ResultError
from service.peers import Destination
from service.pipeline.celery_app import errand, task
from service.pipeline.context import Context
from service.pipeline.deadline import still_wanted
from service.pipeline.progress import reported
from service.records import Instance, InstanceState
from service.steps import REPORT, REPORT_AGAIN, REPORT_STUDY

_REPLACED = "The photograph was replaced by another under the same SOP Instance UID."


@dataclass(frozen=True, kw_only=True)
class Reported:
    """One appraisal's results."""

    context: ReportContext
    results: tuple[ResultObject, ...]
    sha256s: tuple[str, ...]  # of the results, in their order; keys in the store


@task(REPORT)
def report(context: Context, instance_id: int) -> None:
    """Report every appraisal of an instance.

    Identifiers and bytes are derived: what was reported before is made again and changes nothing.

    Args:
        context: Of the process.
        instance_id: Of an instance in state APPRAISED.

    Raises:
        RecordNotFoundError: No such instance.
        ResultError: It has no appraisal, or a result object or resource would be invalid.
        StorageError: Photograph or maps are gone or corrupt, or results cannot be kept.
    """
    settings = context.settings
    instance, made = _make_all(context, instance_id)
    with transaction(context.pool) as connection:
        now = instances.lock(connection, instance_id)
        if now.version != instance.version or now.state is InstanceState.WITHDRAWN:
            return  # corrected meanwhile, or taken back
        if _is_stale(connection, instance_id, made):
            return  # reported by another worker and rated anew since: that has a message of its own
        still_wanted()
        due: list[int] = []
        _withdraw_superseded(connection, instance, settings)
        for each in _without_taken_back(connection, made):
            _issue(connection, each, settings)
            due += _add_deliveries(connection, settings, instance, each)
        reported(connection, instance_id, due, _detail(made))


@errand(REPORT_AGAIN)
def report_again(context: Context, instance_id: int) -> None:
    """Make the results of a photograph anew: it is somebody else's, or was judged or rated by another method.

    Nothing is delivered again: the DICOM objects say what the photograph's own header says, and destinations
    got the photograph's results when it came.

    Args:
        context: Of the process.
        instance_id: Of the photograph.

    Raises:
        RecordNotFoundError: No such instance.
        ResultError: A resource would be invalid.
        StorageError: Photograph or maps are gone or corrupt, or results cannot be kept.
    """
    with transaction(context.pool) as connection:
        if instances.get(connection, instance_id).state is InstanceState.WITHDRAWN:
            return
    _, made = _make_all(context, instance_id)
    with transaction(context.pool) as connection:
        if instances.lock(connection, instance_id).state is InstanceState.WITHDRAWN:
            return
        if _is_stale(connection, instance_id, made):
            return  # rated anew meanwhile, which has a message of its own
        for each in _without_taken_back(connection, made):
            _issue(connection, each, context.settings)


@errand(REPORT_STUDY)
def report_study(context: Context, instance_id: int) -> None:
    """Have the DiagnosticReport of a photograph's study show whether the study is whole.

    Args:
        context: Of the process.
        instance_id: Of any photograph of the study.

    Raises:
        RecordNotFoundError: No such instance.
        FhirError: The report would be invalid.
    """
    with transaction(context.pool) as connection:
        uid = instances.get(connection, instance_id).study_instance_uid
        study = studies.find(connection, uid)
        if study is not None and judge_report(connection, uid, context.settings):
            studies.mark_reported(connection, uid, study.revision)


def _withdraw_superseded(connection: Connection, instance: Instance, settings: Settings) -> None:
    """Take back the results of pixels that the photograph no longer has."""
    if instance.version == 1:
        return
    for saved in appraisals.superseded(connection, instance.instance_id):
        observation = observation_id_of(str(saved.appraisal.appraisal_id))
        if fhir_resources.read(connection, "Observation", observation) is not None:
            withdraw(connection, observation, reason=_REPLACED, who=AUTHOR, settings=settings)


def _make_all(context: Context, instance_id: int) -> tuple[Instance, list[Reported]]:
    """Build the results of every appraisal of an instance."""
    settings = context.settings
    with transaction(context.pool) as connection:
        instance = instances.get(connection, instance_id)
        saved_appraisals = appraisals.for_instance(connection, instance_id)
        drawn = {
            saved.appraisal.appraisal_id: pictures_of(connection, context.store, saved)
            for saved in saved_appraisals
        }
        former = appraisals.former_ratings(connection, list(drawn))
    if not saved_appraisals:
        raise ResultError(f"instance {instance_id} has no appraisal to report")
    source = read_source(context.store.read(instance.sha256), default_zone(settings.timezone))
    return instance, [
        _make(
            context,
            ReportContext(
                source=source,
                saved=saved,
                organisation=settings.organisation,
                version=instance.version,
                former=former.get(saved.appraisal.appraisal_id, ()),
            ),
            drawn[saved.appraisal.appraisal_id],
        )
        for saved in reversed(saved_appraisals)
    ]


def _is_stale(connection: Connection, instance_id: int, made: Sequence[Reported]) -> bool:
    """Whether a result was rated by another calibration after it was read for its report."""
    now = appraisals.calibrations(connection, instance_id)
    rated = (each.context.saved.appraisal for each in made)
    return any(now[each.appraisal_id] != each.method.calibration for each in rated)


def _issue(connection: Connection, made: Reported, settings: Settings) -> None:
    """Save the resources of an appraisal, have its objects found, and note that it is reported."""
    appraisal = made.context.saved.appraisal
    _note(connection, made, save_results(connection, made.context, made.results, settings))
    _hold(connection, made)
    pictures.settle(connection, appraisal.appraisal_id)
    reratings.mark_reported(connection, appraisal.appraisal_id, appraisal.method.calibration)


def _without_taken_back(connection: Connection, made: Sequence[Reported]) -> list[Reported]:
    """The same, with no objects of an appraisal that was taken back."""
    return [
        replace(each, results=(), sha256s=()) if is_taken_back(connection, each.context) else each
        for each in made
    ]


def _note(connection: Connection, made: Reported, saved: Sequence[Saved]) -> None:
    """Have the photograph's patient paired."""
    patients = [each.resource.patient for each in saved if each.resource.patient]
    if patients:
        note_photograph(connection, made.context, patients[0])


def _make(context: Context, report_context: ReportContext, drawn: ResultPictures | None) -> Reported:
    """Build an appraisal's results and keep them in the store; its DICOM objects say its first rating."""
    results = tuple(build_results(report_context.as_issued(), context.settings, context.store, drawn))
    return Reported(
        context=report_context,
        results=results,
        sha256s=tuple(context.store.put(result.data).sha256 for result in results),
    )


def _add_deliveries(
    connection: Connection, settings: Settings, instance: Instance, made: Reported
) -> list[int]:
    """Make every result due at the destinations it is routed to; returns the new deliveries' ids."""
    added = [
        deliveries.add(
            connection,
            instance_id=made.context.saved.instance_id,
            appraisal_id=made.context.saved.appraisal.appraisal_id,
            destination=destination.name,
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            sha256=sha256,
        )
        for result, sha256 in zip(made.results, made.sha256s, strict=True)
        for destination in destinations_of(_routed(instance, made, result), settings.destinations)
        if _is_the_one(result, destination, made)
    ]
    return [delivery_id for delivery_id in added if delivery_id is not None]


def _is_the_one(result: ResultObject, destination: Destination, made: Reported) -> bool:
    """Of the picture with and the one without loss, a destination gets one."""
    if result.kind is ResultKind.SECONDARY_CAPTURE_LOSSLESS:
        return destination.lossless
    there = any(each.kind is ResultKind.SECONDARY_CAPTURE_LOSSLESS for each in made.results)
    return result.kind is not ResultKind.SECONDARY_CAPTURE or not (destination.lossless and there)


def _hold(connection: Connection, made: Reported) -> None:
    """Have the results found and retrieved like the photographs."""
    for result, sha256 in zip(made.results, made.sha256s, strict=True):
        holdings.queue_result(
            connection,
            sop_instance_uid=result.sop_instance_uid,
            sha256=sha256,
            instance_id=made.context.saved.instance_id,
        )


def _routed(instance: Instance, made: Reported, result: ResultObject) -> Routed:
    identity, appraisal = made.context.source.identity, made.context.saved.appraisal
    return Routed(
        calling_ae_title=instance.calling_ae_title,
        modality=identity.modality,
        body_part_examined=identity.body_part_examined,
        study_description=identity.study_description,
        status=appraisal.status,
        rating=appraisal.rating,
        score=appraisal.score,
        result=ResultKind.SECONDARY_CAPTURE.value
        if result.kind is ResultKind.SECONDARY_CAPTURE_LOSSLESS
        else result.kind.value,
    )


def _detail(made: list[Reported]) -> dict[str, str]:
    """For the ledger: the newest appraisal's results, by kind."""
    return {result.kind.value: result.sop_instance_uid for each in made for result in each.results}
