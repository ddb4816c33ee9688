"""Everything an appraisal is to an EHR, saved in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reporting.dicom.context import ReportContext, ResultObject
from reporting.fhir.builders.device import build_device, device_id
from reporting.fhir.builders.imaging import (
    HEATMAP_TITLE,
    TRIPTYCH_TITLE,
    build_heatmap,
    build_photograph,
    build_study,
    media_id,
    merge_study,
)
from reporting.fhir.builders.observation import build_observation, observation_id
from reporting.fhir.builders.report import (
    build_provenance,
    build_report,
    judged_report,
    merge_report,
)
from reporting.fhir.builders.subject import Owner, build_patient
from reporting.fhir.corrections.amending import amended_observation, put_right
from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Draft, Saved
from reporting.fhir.describing import with_words
from reporting.fhir.elements import DICOM_UID_SYSTEM, Element
from reporting.fhir.persons.conflicts import judge_study
from reporting.fhir.persons.owner import owner_of
from reporting.fhir.render import content_digest, draft_of, loads
from reporting.fhir.search.bundles import OUR_DICOMWEB
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site, site_of
from reporting.fhir.subscriptions.rules import announce
from reporting.fhir.valid.validate import check
from reporting.fhir.write.references import claim
from reporting.fhir.write.withdrawal import ENTERED_IN_ERROR
from reporting.identifiers import ResultKind
from service.config import Settings
from service.database import rejections, studies
from service.database.pool import Connection
from service.errors import FhirError, ResultError

AUTHOR = "semblance"
_JUDGED = ("Observation", "Media")


def save_results(
    connection: Connection, context: ReportContext, objects: Sequence[ResultObject], settings: Settings
) -> list[Saved]:
    """Build, check and save the resources of an appraisal; safe to run again.

    Args:
        connection: In a transaction, which the caller commits.
        context: The photograph and its appraisal.
        objects: Result objects made of it, as sent to the archive.
        settings: Uses the base URL, ``dicomweb_url`` and ``fhir_identifier_systems``.

    Raises:
        ResultError: A resource would be invalid; nothing is saved.
    """
    identity, site = context.source.identity, site_of(settings)
    # one transaction at a time adds to a study, or makes its patient
    fhir_resources.lock_name(connection, f"study {identity.study_instance_uid}")
    try:
        owner = owner_of(connection, identity, settings.fhir_identifier_systems, site)
        is_released = rejections.is_released(connection, observation_id(context))
        observation = amended_observation(
            _current(connection, "Observation", observation_id(context)),
            build_observation(context, owner),
            is_released=is_released,
        )
        moved = _put_right(connection, context, observation, owner, site)
        resources = _resources(
            connection, context, objects, observation=observation, owner=owner, settings=settings
        )
        if not is_released:
            resources = _not_withdrawn(connection, resources, media_id(identity.sop_instance_uid))
        drafts = [_draft(resource, settings, owner.patient) for resource in resources]
        if owner.is_unknown:
            drafts.append(_patient_draft(context, settings))
        saved = fhir_resources.save(connection, drafts, author=AUTHOR)
        if is_released:
            rejections.forget(connection, observation_id(context))
        _claim(connection, owner.patient, settings)
        for uid in sorted({identity.study_instance_uid, *moved}):
            judge_study(connection, uid, site)
        announce(connection, saved, settings)
    except FhirError as exc:
        raise ResultError(f"FHIR: {exc}") from exc
    return saved


def _claim(connection: Connection, patient: str, settings: Settings) -> None:
    """Give a Patient what waits for them, as surgery the EHR wrote before anybody was known here."""
    stored = fhir_resources.read(connection, "Patient", patient)
    if stored is not None:
        site, systems = site_of(settings), settings.fhir_identifier_systems
        claim(connection, loads(stored.body), site, systems, author=AUTHOR)


def _resources(
    connection: Connection,
    context: ReportContext,
    objects: Sequence[ResultObject],
    *,
    observation: Element,
    owner: Owner,
    settings: Settings,
) -> list[Element]:
    """Every resource of an appraisal, as it is to be saved."""
    captures = [o for o in objects if o.kind is ResultKind.SECONDARY_CAPTURE]
    heatmaps = [media_id(capture.sop_instance_uid) for capture in captures]
    # ours is stored without our name, which may change
    known = settings.dicomweb_base_url()
    dicomweb_url = OUR_DICOMWEB if known and not settings.dicomweb_url else known
    study = build_study(context, objects, owner, dicomweb_url)
    completeness = studies.completeness(
        connection, context.source.identity.study_instance_uid, besides=context.saved.instance_id
    )
    report = build_report(context, heatmaps, owner, completeness)
    merged = merge_report(
        _current(connection, "DiagnosticReport", owner.report),
        report,
        amended=observation["status"] == "amended",
    )
    return [
        build_device(context.saved.appraisal.method),
        build_photograph(context, owner.patient, dicomweb_url),
        *(
            build_heatmap(
                context,
                capture,
                patient=owner.patient,
                device=device_id(context.as_issued().saved.appraisal.method),
                dicomweb_url=dicomweb_url,
                title=TRIPTYCH_TITLE if settings.picture == "triptych" else HEATMAP_TITLE,
            )
            for capture in captures
        ),
        merge_study(_current(connection, "ImagingStudy", owner.study), study),
        observation,
        with_words(connection, merged, [observation]),
        build_provenance(context, heatmaps, content_digest(observation)),
    ]


def _put_right(
    connection: Connection, context: ReportContext, observation: Element, owner: Owner, site: Site
) -> set[str]:
    """Amend what was issued of the photograph before; answers the studies that concerns."""
    if fhir_resources.read(connection, "Media", media_id(context.source.identity.sop_instance_uid)) is None:
        return set()
    amended = put_right(connection, context, observation, owner)
    drafts = []
    for each in amended:
        is_report = each.resource["resourceType"] == "DiagnosticReport"
        resource = with_words(connection, each.resource) if is_report else each.resource
        check(resource)
        drafts.append(draft_of(resource, site=site, patient=each.patient))
    fhir_resources.save(connection, drafts, author=AUTHOR)
    return {
        str(identifier["value"]).removeprefix("urn:oid:")
        for each in amended
        if each.resource["resourceType"] == "ImagingStudy"
        for identifier in each.resource["identifier"]
        if identifier.get("system") == DICOM_UID_SYSTEM
    }


def judge_report(connection: Connection, study_instance_uid: str, settings: Settings) -> bool:
    """Have a study's DiagnosticReports say what is known of the study's completeness.

    Args:
        connection: In a transaction, which the caller commits.
        study_instance_uid: Of the study.
        settings: Uses the base URL.

    Returns:
        Whether a report is there and nothing of the study is on its way to it.
    """
    fhir_resources.lock_name(connection, f"study {study_instance_uid}")
    completeness = studies.completeness(connection, study_instance_uid)
    number = RESOURCE_TYPES["DiagnosticReport"].parameters["identifier"].number
    reports = fhir_persons.studies_named(connection, study_instance_uid, "DiagnosticReport", number)
    if not reports or completeness is None:
        return False
    drafts = []
    for report_id, patient in reports:
        stored = fhir_resources.read_for_update(connection, "DiagnosticReport", report_id)
        resource = judged_report(loads(stored.body), completeness) if stored is not None else {}
        if resource and resource["status"] != ENTERED_IN_ERROR:
            check(resource)
            drafts.append(draft_of(resource, site=site_of(settings), patient=patient))
    fhir_resources.save(connection, drafts, author=AUTHOR)
    return not completeness.unreported


def observation_url(context: ReportContext, settings: Settings) -> str:
    """Where the Observation of an appraisal is read."""
    return f"{settings.fhir_base_url()}/Observation/{observation_id(context)}"


def _current(connection: Connection, resource_type: str, resource_id: str) -> Mapping[str, Any] | None:
    stored = fhir_resources.read_for_update(connection, resource_type, resource_id)
    return None if stored is None else loads(stored.body)


def is_taken_back(connection: Connection, context: ReportContext) -> bool:
    """Whether a result was taken back, and is not to be issued again: nothing is made of it any more."""
    stored = fhir_resources.read(connection, "Observation", observation_id(context))
    return (
        stored is not None
        and loads(stored.body)["status"] == ENTERED_IN_ERROR
        and not rejections.is_released(connection, observation_id(context))
    )


def _not_withdrawn(connection: Connection, resources: Sequence[Element], photograph: str) -> list[Element]:
    """Those that were not taken back: making the results again does not bring them back.

    Args:
        connection: In a transaction.
        resources: To be saved.
        photograph: Logical id of its Media, which is there again if a note had taken the photograph back.
    """
    judged = [
        (r["resourceType"], r["id"])
        for r in resources
        if r["resourceType"] in _JUDGED and r["id"] != photograph
    ]
    withdrawn = {
        (stored.resource_type, stored.resource_id)
        for stored in fhir_resources.read_many(connection, judged)
        if loads(stored.body)["status"] == ENTERED_IN_ERROR
    }
    return [r for r in resources if (r["resourceType"], r["id"]) not in withdrawn]


def _draft(resource: Element, settings: Settings, patient: str) -> Draft:
    check(resource)
    owner = None if resource["resourceType"] == "Device" else patient
    return draft_of(resource, site=site_of(settings), patient=owner)


def _patient_draft(context: ReportContext, settings: Settings) -> Draft:
    resource = build_patient(context.source.identity, settings.fhir_identifier_systems)
    check(resource)
    return draft_of(resource, site=site_of(settings), only_if_absent=True)
