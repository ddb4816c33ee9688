"""DiagnosticReport of a study and Provenance of a result."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reporting.dicom.context import ReportContext
from reporting.fhir.builders.device import device_id
from reporting.fhir.builders.imaging import media_id
from reporting.fhir.builders.observation import accession, observation_id
from reporting.fhir.builders.subject import Owner
from reporting.fhir.elements import (
    ARTIFICIAL_INTELLIGENCE_ROLE,
    ASSERTED_BY_AI,
    DICOM_UID_SYSTEM,
    SHA_256_SYSTEM,
    Element,
    codeable,
    coded,
    date_time,
    issued,
    reference,
    unknown_primitive,
    without_empty,
)
from reporting.fhir.valid.definitions import STUDY_COMPLETENESS
from reporting.identifiers import fhir_id
from reporting.terminology import DIAGNOSTIC_IMAGING_STUDY
from service.database.studies import Completeness
from service.records import StudyState

_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_MISSING_NAMED = 100  # missing instances a report names; it counts all
_DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def build_report(
    context: ReportContext,
    heatmaps: Sequence[str],
    owner: Owner,
    completeness: Completeness | None = None,
) -> Element:
    """Make the DiagnosticReport as far as this appraisal is part of it.

    Args:
        context: The photograph and its appraisal.
        heatmaps: Logical ids of its heatmaps' Media.
        owner: Whose it is.
        completeness: Of the study, where it is known: while photographs or results are still to come,
            the report is ``partial``.
    """
    identity = context.source.identity
    effective = date_time(
        identity.study_at or identity.acquired_at, identity.study_date or identity.acquired_on
    )
    return without_empty(
        {
            "resourceType": "DiagnosticReport",
            "id": owner.report,
            "meta": {"security": [ASSERTED_BY_AI]},
            "identifier": [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{identity.study_instance_uid}"}],
            "basedOn": accession(identity.accession_number),
            "extension": completeness_extension(completeness),
            "status": _status(completeness),
            "category": [coded(_SECTION, "IMG", "Diagnostic Imaging")],
            "code": codeable(DIAGNOSTIC_IMAGING_STUDY),
            "subject": reference("Patient", owner.patient),
            "effectiveDateTime": effective,
            "_effectiveDateTime": None if effective else unknown_primitive(),
            "issued": issued(context.saved.created_at),
            "performer": [{"type": "Organization", "display": context.organisation}],
            "result": [reference("Observation", observation_id(context))],
            "imagingStudy": [reference("ImagingStudy", owner.study)],
            "media": [{"comment": "Heatmap", "link": reference("Media", heatmap)} for heatmap in heatmaps],
        }
    )


def _status(completeness: Completeness | None) -> str:
    if completeness is None:
        return "final"
    return "partial" if completeness.state is StudyState.OPEN or completeness.unreported else "final"


def completeness_extension(completeness: Completeness | None) -> list[Element] | None:
    """What the report says of its study: whether more is expected, and what did not come."""
    if completeness is None:
        return None
    missing = completeness.missing if completeness.state is StudyState.INCOMPLETE else ()
    parts: list[Element] = [{"url": "state", "valueCode": completeness.state.value}]
    parts.append({"url": "missingInstances", "valueUnsignedInt": len(missing)})
    parts += [{"url": "missing", "valueUri": f"urn:oid:{uid}"} for uid in missing[:_MISSING_NAMED]]
    return [{"url": STUDY_COMPLETENESS, "extension": parts}]


def judged_report(current: Mapping[str, Any], completeness: Completeness) -> Element:
    """The report as it is, saying what is known of its study now."""
    others = [each for each in current.get("extension", []) if each["url"] != STUDY_COMPLETENESS]
    return {
        **current,
        "extension": [*others, *(completeness_extension(completeness) or [])],
        "status": _status(completeness) if current["status"] == "partial" else current["status"],
    }


def merge_report(current: Mapping[str, Any] | None, new: Element, *, amended: bool = False) -> Element:
    """Add an appraisal to the report as it is; a final report that grows is ``appended``.

    Args:
        current: The report; None when there is none.
        new: As far as the appraisal is part of it.
        amended: Whether a result that the report has had is another now.
    """
    if current is None:
        return new
    if current["status"] == "entered-in-error":  # all it had was moved elsewhere
        return {**new, "status": "amended"}
    results = {r["reference"]: r for r in (*current.get("result", []), *new["result"])}
    media = {m["link"]["reference"]: m for m in (*current.get("media", []), *new.get("media", []))}
    grown = len(results) > len(current.get("result", [])) or len(media) > len(current.get("media", []))
    merged = {
        **new,
        **current,
        "issued": max(str(current["issued"]), str(new["issued"])),
        "status": _grown_status(current["status"], new["status"], grown=grown, amended=amended),
        "result": [results[key] for key in sorted(results)],
    }
    if media:
        merged["media"] = [media[key] for key in sorted(media)]
    if "extension" in new:
        merged["extension"] = new["extension"]
    return merged


def without_results(current: Mapping[str, Any], results: Collection[str], media: Collection[str]) -> Element:
    """The report without some of its results and heatmaps; ``entered-in-error`` when none is left.

    Args:
        current: The report.
        results: References to Observations that are not, or no more, its own.
        media: References to heatmaps.
    """
    kept = [r for r in current.get("result", []) if r["reference"] not in results]
    shown = [m for m in current.get("media", []) if m["link"]["reference"] not in media]
    rest = {key: value for key, value in current.items() if key not in ("result", "media")}
    status = current["status"] if current["status"] == "partial" else "amended"
    parts = without_empty({"result": kept, "media": shown})
    return {**rest, "status": status if kept else "entered-in-error", **parts}


def _grown_status(current: str, new: str, *, grown: bool, amended: bool) -> str:
    if current == "partial":
        return new
    if amended and current in ("final", "appended", "amended"):
        return "amended"
    return "appended" if grown and current == "final" else current


def build_provenance(context: ReportContext, heatmaps: Sequence[str], result_sha256: str) -> Element:
    """Make the Provenance: who made the result of what, with digests of what came in and went out.

    Args:
        context: The photograph and its appraisal.
        heatmaps: Logical ids of its heatmaps' Media.
        result_sha256: Of the Observation as it was first issued (``render.content_digest``).
    """
    appraisal, saved, identity = context.saved.appraisal, context.saved, context.source.identity
    recorded = issued(saved.created_at)
    observation = reference("Observation", observation_id(context))
    targets = [{**observation, "identifier": {"system": SHA_256_SYSTEM, "value": result_sha256}}]
    for heatmap in heatmaps:
        digest = {"system": SHA_256_SYSTEM, "value": saved.heatmap_sha256}
        targets.append({**reference("Media", heatmap), "identifier": digest})
    if saved.difference_map_sha256:
        digest = {"system": SHA_256_SYSTEM, "value": saved.difference_map_sha256}
        targets.append({"identifier": digest, "display": "Difference map"})
    device = reference("Device", device_id(appraisal.method))
    photograph = reference("Media", media_id(identity.sop_instance_uid))
    if appraisal.pixel_sha256:
        photograph["identifier"] = {"system": SHA_256_SYSTEM, "value": appraisal.pixel_sha256}
    entities: list[Element] = [{"role": "source", "what": photograph}]
    for digest_of, value in (
        ("weights", appraisal.method.weights_sha256),
        ("settings", appraisal.method.config_sha256),
    ):
        if value:
            what = {
                "identifier": {"system": SHA_256_SYSTEM, "value": value},
                "display": f"SHA-256 of the {digest_of}",
            }
            entities.append({"role": "source", "what": what})
    return {
        "resourceType": "Provenance",
        "id": fhir_id("Provenance", str(appraisal.appraisal_id)),
        "meta": {"security": [ASSERTED_BY_AI]},
        "target": targets,
        "occurredDateTime": recorded,
        "recorded": recorded,
        # as the profile AI Provenance of the guide AI Transparency on FHIR asks
        "reason": [{"coding": [ASSERTED_BY_AI]}],
        "activity": coded(_DATA_OPERATION, "CREATE", "create"),
        "agent": [
            {
                "type": coded(_PARTICIPANT, "assembler", "Assembler"),
                "role": [{"coding": [ARTIFICIAL_INTELLIGENCE_ROLE]}],
                "who": device,
            },
            {
                "type": coded(_PARTICIPANT, "custodian", "Custodian"),
                "who": {"type": "Organization", "display": context.organisation},
            },
        ],
        "entity": entities,
    }
