"""Observation of an appraisal: what was measured, by what, on which photograph."""

from __future__ import annotations

from collections.abc import Iterator

from reporting.dicom.context import ReportContext
from reporting.fhir.builders.conclusion import BEYOND_NORM
from reporting.fhir.builders.device import device_id
from reporting.fhir.builders.imaging import media_id
from reporting.fhir.builders.subject import Owner
from reporting.fhir.elements import (
    ASSERTED_BY_AI,
    DATA_ABSENT_REASON,
    INTERPRETATION,
    OBSERVATION_CATEGORY,
    URI_SYSTEM,
    V2_0203,
    Element,
    codeable,
    coded,
    date_time,
    issued,
    quantity,
    reference,
    unknown_primitive,
    without_empty,
)
from reporting.fhir.valid.definitions import PROFILE
from reporting.identifiers import fhir_id, named_uid
from reporting.terminology import (
    ASYMMETRIES,
    EXCLUSION_REASONS,
    FACE,
    PERCENTILE,
    PERCENTILE_UNIT,
    QUALITY_MEASURES,
    RATING,
    RATING_UNIT,
    REGION_SCORES,
    REGION_Z_SCORES,
    REJECTION_REASON,
    REJECTION_REASONS,
    SCORE,
    SCORE_UNIT,
    STANDARD_DEVIATION_UNIT,
)
from service.records import Appraisal, AppraisalStatus, MethodIdentity, RegionScore, RejectionReason

METHOD_SYSTEM = f"urn:oid:{named_uid('coding-system', 'method')}"  # of codes made of name and version
LOW_PERCENTILE = 5  # below it a score is marked low; the norm cohort's lowest twentieth

# A photograph nobody could have judged is an error; one that was declined was not performed.
_BROKEN = {RejectionReason.UNDECODABLE, RejectionReason.UNSUPPORTED}


def observation_id(context: ReportContext) -> str:
    """Logical id."""
    return fhir_id("Observation", str(context.saved.appraisal.appraisal_id))


def build_observation(context: ReportContext, owner: Owner) -> Element:
    """Make the Observation.

    Args:
        context: The photograph and its appraisal.
        owner: Whose it is.
    """
    identity, appraisal = context.source.identity, context.saved.appraisal
    effective = date_time(identity.acquired_at, identity.acquired_on)
    return without_empty(
        {
            "resourceType": "Observation",
            "id": observation_id(context),
            "meta": {"profile": [PROFILE], "security": [ASSERTED_BY_AI]},
            "identifier": [{"system": URI_SYSTEM, "value": f"urn:uuid:{appraisal.appraisal_id}"}],
            "basedOn": accession(identity.accession_number),
            "partOf": [reference("ImagingStudy", owner.study)],
            "status": "final",
            "category": [coded(OBSERVATION_CATEGORY, "imaging", "Imaging")],
            "code": {**codeable(SCORE), "text": "Facial normality score; higher is more normal"},
            "subject": reference("Patient", owner.patient),
            "effectiveDateTime": effective,
            "_effectiveDateTime": None if effective else unknown_primitive(),
            "issued": issued(context.saved.created_at),
            "performer": [{"type": "Organization", "display": context.organisation}],
            **_value(appraisal),
            "interpretation": _interpretation(appraisal),
            "note": [{"text": text} for text in (*appraisal.warnings, *_former(context))],
            "bodySite": codeable(FACE),
            "method": method_of(appraisal.method),
            "device": reference("Device", device_id(appraisal.method)),
            "referenceRange": _reference_range(appraisal),
            "derivedFrom": [reference("Media", media_id(identity.sop_instance_uid))],
            "component": list(_components(appraisal)),
        }
    )


def _former(context: ReportContext) -> Iterator[str]:
    """What the result was rated before by other calibrations, which it is not comparable with."""
    now = context.saved.appraisal.method.calibration
    for each in (former for former in context.former if former.calibration != now):
        rating = "none" if each.rating is None else f"{each.rating:.2f}"
        percentile = "none" if each.percentile is None else f"{each.percentile:.1f}"
        yield (
            f"Rated anew by calibration {now}, the score is unchanged; by calibration "
            f"{each.calibration or 'none'} before: rating {rating}, percentile {percentile}; "
            "ratings and percentiles of different calibrations are not comparable"
        )


def method_of(method: MethodIdentity) -> Element:
    """The method as a code that EHRs can search and group by, and in words."""
    name = f"{method.name} {method.version}"
    code = f"{method.name}-{method.version}"
    return {"coding": [{"system": METHOD_SYSTEM, "code": code, "display": name}], "text": name}


def accession(number: str) -> list[Element] | None:
    """The order, known by its accession number."""
    if not number:
        return None
    identifier = {"type": coded(V2_0203, "ACSN", "Accession ID"), "value": number}
    return [{"type": "ServiceRequest", "identifier": identifier}]


def _value(appraisal: Appraisal) -> Element:
    if appraisal.score is not None:
        return {"valueQuantity": quantity(appraisal.score, SCORE_UNIT)}
    broken = bool(_BROKEN & set(appraisal.reasons))
    code, display = ("error", "Error") if broken else ("not-performed", "Not Performed")
    return {"dataAbsentReason": coded(DATA_ABSENT_REASON, code, display)}


def _interpretation(appraisal: Appraisal) -> list[Element] | None:
    if appraisal.status is AppraisalStatus.REJECTED:
        return [coded(INTERPRETATION, "QCF", "Quality control failure")]
    if appraisal.percentile is None:
        return None
    low = appraisal.percentile < LOW_PERCENTILE
    return [coded(INTERPRETATION, "L", "Low") if low else coded(INTERPRETATION, "N", "Normal")]


def _reference_range(appraisal: Appraisal) -> list[Element] | None:
    if appraisal.percentile is None:
        return None
    cohort = f"normal cohort of calibration {appraisal.method.calibration}"
    return [
        {
            "type": coded(
                "http://terminology.hl7.org/CodeSystem/referencerange-meaning", "normal", "Normal Range"
            ),
            "appliesTo": [{"text": cohort}],
            "text": f"percentile {LOW_PERCENTILE} to 100 of the {cohort}; higher is more normal",
        }
    ]


def _components(appraisal: Appraisal) -> Iterator[Element]:
    for reason in appraisal.reasons:
        # one component: several reasons are codings of one concept
        yield {
            "code": codeable(REJECTION_REASON),
            "valueCodeableConcept": {
                "coding": [
                    {"system": c.system.uri, "code": c.code, "display": c.display}
                    for c in (REJECTION_REASONS[r] for r in appraisal.reasons)
                ],
                "text": REJECTION_REASONS[reason].display,
            },
        }
        break
    if appraisal.rating is not None:
        yield {
            "code": codeable(RATING),
            "valueQuantity": quantity(appraisal.rating, RATING_UNIT),
            "referenceRange": [
                {
                    "low": quantity(1, RATING_UNIT),
                    "high": quantity(7, RATING_UNIT),
                    "text": f"1 least to 7 most normal; {appraisal.method.rating_basis}",
                }
            ],
        }
    if appraisal.percentile is not None:
        yield {
            "code": codeable(PERCENTILE),
            "valueQuantity": quantity(appraisal.percentile, PERCENTILE_UNIT),
            "referenceRange": [
                {
                    "low": quantity(LOW_PERCENTILE, PERCENTILE_UNIT),
                    "high": quantity(100, PERCENTILE_UNIT),
                }
            ],
        }
    if appraisal.status is AppraisalStatus.APPRAISED:
        yield from _region_components(appraisal)
        yield from _asymmetries(appraisal)
    for attribute, (concept, unit) in QUALITY_MEASURES.items():
        value = getattr(appraisal.quality, attribute)
        if value is not None:
            yield {"code": codeable(concept), "valueQuantity": quantity(value, unit)}


def _left_out(region: RegionScore) -> Element:
    """Not performed, and why in our own codes; `masked` would mean withheld for privacy."""
    absent: Element = coded(DATA_ABSENT_REASON, "not-performed", "Not Performed")
    if region.reason is not None:
        why = EXCLUSION_REASONS[region.reason]
        absent["coding"].append({"system": why.system.uri, "code": why.code, "display": why.display})
        absent["text"] = why.display
    return absent


def _region_components(appraisal: Appraisal) -> Iterator[Element]:
    for region in appraisal.regions:
        score: Element = {"code": codeable(REGION_SCORES[region.region])}
        if region.score is None:
            score["dataAbsentReason"] = _left_out(region)
        else:
            score["valueQuantity"] = quantity(region.score, SCORE_UNIT)
        yield score
        if region.z is not None:
            yield {
                "code": codeable(REGION_Z_SCORES[region.region]),
                "valueQuantity": quantity(region.z, STANDARD_DEVIATION_UNIT),
                "interpretation": [
                    coded(INTERPRETATION, "H", "High")
                    if region.z > BEYOND_NORM
                    else coded(INTERPRETATION, "N", "Normal")
                ],
                "referenceRange": [{"high": quantity(BEYOND_NORM, STANDARD_DEVIATION_UNIT)}],
            }


def _asymmetries(appraisal: Appraisal) -> Iterator[Element]:
    """Score of the left less that of the right, of each pair; positive: the patient's left is more normal."""
    regions = {region.region: region for region in appraisal.regions}
    for (left, right), concept in ASYMMETRIES.items():
        if left not in regions or right not in regions:
            continue
        ours, theirs = regions[left], regions[right]
        if ours.score is not None and theirs.score is not None:
            difference = quantity(ours.score - theirs.score, SCORE_UNIT)
            yield {"code": codeable(concept), "valueQuantity": difference}
        else:
            missing = ours if ours.score is None else theirs
            yield {"code": codeable(concept), "dataAbsentReason": _left_out(missing)}
