"""The measurement groups of a report (TID 1501): the face, its regions, the quality of the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementProperties,
    MeasurementsAndQualitativeEvaluations,
    MeasurementStatisticalProperties,
    NumContentItem,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)

from reporting.dicom.context import (
    MANUFACTURER,
    ReportContext,
    ResultObject,
    algorithm_parameters,
    code,
)
from reporting.identifiers import ResultKind, tracking_uid
from reporting.terminology import (
    ARTIFICIAL_INTELLIGENCE,
    COMMENT,
    DIFFERENCE_MAP,
    EXCLUSION_REASON,
    EXCLUSION_REASONS,
    FRACTION_UNIT,
    ILLUSTRATION_OF_ROI,
    IMAGE_QUALITY,
    JUDGED_FRACTION,
    MEASUREMENT_NOT_ATTEMPTED,
    OUTCOME,
    OUTCOME_APPRAISED,
    OUTCOME_REJECTED,
    PERCENTILE_RANKING,
    PERCENTILE_UNIT,
    QUALITY_MEASURES,
    RATING,
    RATING_UNIT,
    REGION_Z,
    REJECTION_REASON,
    REJECTION_REASONS,
    SCORE,
    SCORE_UNIT,
    SITES,
    STANDARD_DEVIATION_UNIT,
    Concept,
)
from service.errors import ResultError
from service.records import AppraisalStatus, Region, RegionScore

# What the other results are to the report.
_PURPOSES = {
    ResultKind.SECONDARY_CAPTURE: ILLUSTRATION_OF_ROI,
    ResultKind.SECONDARY_CAPTURE_LOSSLESS: ILLUSTRATION_OF_ROI,
    ResultKind.PARAMETRIC_MAP: DIFFERENCE_MAP,
}


def measurement_groups(
    context: ReportContext, others: Sequence[ResultObject]
) -> list[MeasurementsAndQualitativeEvaluations]:
    """Make the groups of an appraisal, in their order.

    Args:
        context: The photograph and its appraisal.
        others: The appraisal's other results; the face's group refers to them.

    Raises:
        ResultError: An appraised photograph without a score.
    """
    appraisal = context.saved.appraisal
    if appraisal.status is AppraisalStatus.REJECTED:
        return [_quality(context)]
    regions = {score.region: score for score in appraisal.regions}
    face = _face(context, regions.get(Region.FACE))
    for other in others:
        face[0].ContentSequence.append(_reference(other))
    return [
        face,
        *(_region(context, score) for score in appraisal.regions if score.region is not Region.FACE),
        _quality(context),
    ]


def _reference(other: ResultObject) -> ImageContentItem:
    return ImageContentItem(
        name=code(_PURPOSES[other.kind]),
        referenced_sop_class_uid=other.sop_class_uid,
        referenced_sop_instance_uid=other.sop_instance_uid,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )


def _face(context: ReportContext, whole: RegionScore | None) -> MeasurementsAndQualitativeEvaluations:
    """The score of the photograph, with its rating and its place in the normal cohort."""
    appraisal = context.saved.appraisal
    if appraisal.score is None:
        raise ResultError("an appraised photograph has a score")
    properties = None
    if appraisal.percentile is not None:
        percentile = NumContentItem(
            name=code(PERCENTILE_RANKING),
            value=appraisal.percentile,
            unit=code(PERCENTILE_UNIT),
            relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
        )
        properties = MeasurementProperties(
            measurement_statistical_properties=MeasurementStatisticalProperties(
                values=[percentile],
                description=f"normal cohort of calibration {appraisal.method.calibration}",
            )
        )
    measurements = [
        Measurement(name=code(SCORE), value=appraisal.score, unit=code(SCORE_UNIT), properties=properties)
    ]
    if appraisal.rating is not None:
        measurements.append(Measurement(name=code(RATING), value=appraisal.rating, unit=code(RATING_UNIT)))
    measurements += _beside_the_score(whole) if whole is not None else []
    group = _group(
        context,
        site="face",
        finding_sites=[_finding_site(Region.FACE)],
        measurements=measurements,
        evaluations=[(OUTCOME, OUTCOME_APPRAISED)],
        parameters=algorithm_parameters(appraisal.method),
    )
    rated = appraisal.rating is not None
    for comment in (*([f"rating {appraisal.method.rating_basis}"] if rated else []), *appraisal.warnings):
        group[0].ContentSequence.append(
            TextContentItem(
                name=code(COMMENT),
                value=comment.encode("ascii", "backslashreplace").decode(),
                relationship_type=RelationshipTypeValues.CONTAINS,
            )
        )
    return group


def _region(context: ReportContext, score: RegionScore) -> MeasurementsAndQualitativeEvaluations:
    measurements = _beside_the_score(score)
    evaluations = []
    if score.score is None:
        # A NUM item without a value would say the same, but readers in use cannot parse it.
        evaluations.append((SCORE, MEASUREMENT_NOT_ATTEMPTED))
        if score.reason is not None:
            evaluations.append((EXCLUSION_REASON, EXCLUSION_REASONS[score.reason]))
    else:
        measurements.insert(0, Measurement(name=code(SCORE), value=score.score, unit=code(SCORE_UNIT)))
    return _group(
        context,
        site=score.region,
        finding_sites=[_finding_site(score.region)],
        measurements=measurements,
        evaluations=evaluations,
    )


def _quality(context: ReportContext) -> MeasurementsAndQualitativeEvaluations:
    """What the quality gates measured; and, where the photograph was rejected, why."""
    appraisal = context.saved.appraisal
    measurements = []
    for field, value in asdict(appraisal.quality).items():
        if value is not None:
            name, unit = QUALITY_MEASURES[field]
            measurements.append(Measurement(name=code(name), value=value, unit=code(unit)))
    evaluations = []
    if appraisal.status is AppraisalStatus.REJECTED:
        evaluations.append((OUTCOME, OUTCOME_REJECTED))
        evaluations += [(REJECTION_REASON, REJECTION_REASONS[reason]) for reason in appraisal.reasons]
    return _group(
        context,
        site="photograph",
        finding_type=IMAGE_QUALITY,
        measurements=measurements,
        evaluations=evaluations,
        parameters=algorithm_parameters(appraisal.method),
    )


def _beside_the_score(score: RegionScore) -> list[Measurement]:
    measurements = [Measurement(name=code(JUDGED_FRACTION), value=score.judged, unit=code(FRACTION_UNIT))]
    if score.z is not None:
        measurements.append(
            Measurement(name=code(REGION_Z), value=score.z, unit=code(STANDARD_DEVIATION_UNIT))
        )
    return measurements


def _group(
    context: ReportContext,
    *,
    site: str,
    measurements: list[Measurement],
    finding_type: Concept | None = None,
    finding_sites: list[FindingSite] | None = None,
    evaluations: list[tuple[Concept, Concept]] | None = None,
    parameters: tuple[str, ...] | None = None,
) -> MeasurementsAndQualitativeEvaluations:
    """A group of TID 1501, with its algorithm and a tracking UID that lasts from photograph to photograph."""
    identity, method = context.source.identity, context.saved.appraisal.method
    source = SourceImageForMeasurementGroup(
        identity.sop_class_uid,
        identity.sop_instance_uid,
        None if context.frame is None else [context.frame],
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=tracking_uid(identity.issuer, identity.patient_id, identity.study_instance_uid, site),
            identifier=site,
        ),
        finding_type=code(finding_type) if finding_type else None,
        finding_sites=finding_sites,
        algorithm_id=AlgorithmIdentification(
            name=f"Semblance {method.name}",
            version=method.version,
            parameters=parameters,
            family=code(ARTIFICIAL_INTELLIGENCE),
            manufacturer=MANUFACTURER,
        ),
        measurements=measurements,
        qualitative_evaluations=[
            QualitativeEvaluation(name=code(name), value=code(value)) for name, value in evaluations or []
        ],
        source_images=[source],
    )


def _finding_site(region: Region) -> FindingSite:
    site = SITES[region]
    return FindingSite(
        anatomic_location=code(site.concept),
        laterality=code(site.laterality) if site.laterality else None,
        topographical_modifier=code(site.modifier) if site.modifier else None,
    )
