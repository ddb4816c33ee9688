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
from reporting.fhir.builders.subject import build_patient, identifier_system, patient_id
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import search as fhir_search
from reporting.fhir.database.records import Criterion, Draft, Saved, Search, TokenValue
from reporting.fhir.elements import Element
from reporting.fhir.render import content_digest, draft_of, loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.subscriptions.rules import announce
from reporting.fhir.valid.validate import check
from reporting.fhir.write.withdrawal import ENTERED_IN_ERROR
from reporting.identifiers import ResultKind, fhir_id
from service.config import Settings
from service.database import studies
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
    identity = context.source.identity
    # one transaction at a time adds to a study, or makes its patient
    fhir_resources.lock_name(connection, f"study {identity.study_instance_uid}")
    patient = _patient_of(connection, context, settings)
    device = device_id(context.saved.appraisal.method)
    captures = [o for o in objects if o.kind is ResultKind.SECONDARY_CAPTURE]
    heatmaps = [media_id(capture.sop_instance_uid) for capture in captures]
    study = build_study(context, objects, patient, settings.dicomweb_base_url())
    completeness = studies.completeness(
        connection, identity.study_instance_uid, besides=context.saved.instance_id
    )
    report = build_report(context, heatmaps, patient, completeness)
    observation = build_observation(context, patient)
    resources = [
        build_device(context.saved.appraisal.method),
        build_photograph(context, patient, settings.dicomweb_base_url()),
        *(
            build_heatmap(
                context,
                capture,
                patient=patient,
                device=device,
                dicomweb_url=settings.dicomweb_base_url(),
                api_base_url=settings.api_base_url,
                title=TRIPTYCH_TITLE if settings.picture == "triptych" else HEATMAP_TITLE,
            )
            for capture in captures
        ),
        merge_study(_current(connection, study), study),
        observation,
        merge_report(_current(connection, report), report),
        build_provenance(context, heatmaps, content_digest(observation)),
    ]
    resources = _not_withdrawn(connection, resources)
    try:
        drafts = [_draft(resource, settings, patient) for resource in resources]
        if patient == patient_id(identity):
            drafts.append(_patient_draft(context, settings))
        saved = fhir_resources.save(connection, drafts, author=AUTHOR)
        announce(connection, saved, settings)
    except FhirError as exc:
        raise ResultError(f"FHIR: {exc}") from exc
    return saved


def judge_report(connection: Connection, study_instance_uid: str, settings: Settings) -> bool:
    """Have a study's DiagnosticReport say what is known of the study's completeness.

    Args:
        connection: In a transaction, which the caller commits.
        study_instance_uid: Of the study.
        settings: Uses the base URL.

    Returns:
        Whether the report is there and nothing of the study is on its way to it.
    """
    fhir_resources.lock_name(connection, f"study {study_instance_uid}")
    completeness = studies.completeness(connection, study_instance_uid)
    stored = fhir_resources.read_for_update(
        connection, "DiagnosticReport", fhir_id("DiagnosticReport", study_instance_uid)
    )
    if stored is None or completeness is None:
        return False
    resource = judged_report(loads(stored.body), completeness)
    check(resource)
    draft = draft_of(resource, base_url=settings.fhir_base_url(), patient=stored.patient)
    fhir_resources.save(connection, [draft], author=AUTHOR)
    return not completeness.unreported


def observation_url(context: ReportContext, settings: Settings) -> str:
    """Where the Observation of an appraisal is read."""
    return f"{settings.fhir_base_url()}/Observation/{observation_id(context)}"


def observation_id_of(appraisal_id: str) -> str:
    """Logical id of the Observation of an appraisal."""
    return fhir_id("Observation", appraisal_id)


def _patient_of(connection: Connection, context: ReportContext, settings: Settings) -> str:
    """Logical id of the Patient: the EHR's, if it has written one with this identifier, else ours."""
    identity = context.source.identity
    if not identity.patient_id:
        return patient_id(identity)
    fhir_resources.lock_name(connection, f"patient {identity.issuer_of_patient_id} {identity.patient_id}")
    ours = patient_id(identity)
    if fhir_resources.read(connection, "Patient", ours) is not None:
        return ours
    value = TokenValue(
        system=identifier_system(identity, settings.fhir_identifier_systems), code=identity.patient_id
    )
    wanted = Criterion(parameter=RESOURCE_TYPES["Patient"].parameters["identifier"], values=(value,))
    found = fhir_search.search(
        connection, Search(resource_type="Patient", criteria=(wanted,), count=2)
    ).resources
    return found[0].resource_id if len(found) == 1 and value.system else ours


def _current(connection: Connection, new: Element) -> Mapping[str, Any] | None:
    stored = fhir_resources.read_for_update(connection, new["resourceType"], new["id"])
    return None if stored is None else loads(stored.body)


def _not_withdrawn(connection: Connection, resources: Sequence[Element]) -> list[Element]:
    """Those that were not taken back: making the results again does not bring them back."""
    judged = [(r["resourceType"], r["id"]) for r in resources if r["resourceType"] in _JUDGED]
    withdrawn = {
        (stored.resource_type, stored.resource_id)
        for stored in fhir_resources.read_many(connection, judged)
        if loads(stored.body)["status"] == ENTERED_IN_ERROR
    }
    return [r for r in resources if (r["resourceType"], r["id"]) not in withdrawn]


def _draft(resource: Element, settings: Settings, patient: str) -> Draft:
    check(resource)
    owner = None if resource["resourceType"] == "Device" else patient
    return draft_of(resource, base_url=settings.fhir_base_url(), patient=owner)


def _patient_draft(context: ReportContext, settings: Settings) -> Draft:
    resource = build_patient(context.source.identity, settings.fhir_identifier_systems)
    check(resource)
    return draft_of(resource, base_url=settings.fhir_base_url(), only_if_absent=True)
