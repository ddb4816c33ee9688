"""The appraisal as a structured report by TID 1500, for machines (IHE AI Results, PS3.16 Annex A).

One measurement group for the face, one for each region, one for the quality of the photograph. A
rejected photograph gives a report too: an outcome and its reasons, with what was measured, and no score.
The report is the root of the results: heatmap and difference map are referenced from the face's group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    MeasurementStatisticalProperties,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from reporting.dicom.context import (
    MANUFACTURER,
    MODEL_NAME,
    ReportContext,
    ResultObject,
    algorithm_parameters,
    code,
    device_serial_number,
    device_uid,
)
from reporting.dicom.instance import dt, finish, stand_in
from reporting.identifiers import ResultKind, tracking_uid
from reporting.terminology import (
    AI_RESULT_TITLE,
    ARTIFICIAL_INTELLIGENCE,
    COMMENT,
    DIFFERENCE_MAP,
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
    PHOTOGRAPHY_OF_PATIENT,
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

SERIES_NUMBER = 9802
SERIES_DESCRIPTION = "Semblance measurements"
# What the other results are to the report.
_PURPOSES = {
    ResultKind.SECONDARY_CAPTURE: ILLUSTRATION_OF_ROI,
    ResultKind.PARAMETRIC_MAP: DIFFERENCE_MAP,
}
_REQUIRED = (
    "ValueType",
    "ConceptNameCodeSequence",
    "ContentTemplateSequence",
    "ContentSequence",
    "CompletionFlag",
    "VerificationFlag",
    "CurrentRequestedProcedureEvidenceSequence",
)


def build(context: ReportContext, others: Sequence[ResultObject] = ()) -> ResultObject:
    """Make the structured report of an appraisal, of a rejection too.

    Args:
        context: The photograph and its appraisal.
        others: The appraisal's other results, which the report refers to.

    Raises:
        ResultError: The report would be invalid.
    """
    kind = ResultKind.STRUCTURED_REPORT
    photograph = stand_in(context)
    try:
        report = Comprehensive3DSR(
            evidence=[photograph, *(_as_evidence(context, other) for other in others)],
            content=_content(context, photograph, others),
            series_instance_uid=context.series_uid(kind),
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            sop_instance_uid=context.instance_uid(kind),
            instance_number=context.instance_number,
            manufacturer=MANUFACTURER,
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    except (ValueError, TypeError, AttributeError) as exc:
        raise ResultError("the structured report cannot be built") from exc
    report.ObservationDateTime = dt(context)
    report.ContentTemplateSequence[0].MappingResource = "DCMR"
    report.ContentTemplateSequence[0].MappingResourceUID = "1.2.840.10008.8.1.1"
    _add_request(report, context)
    result = finish(report, context, kind, required=_REQUIRED)
    _check_template(dcmread(BytesIO(result.data)), context)
    return result


def _content(
    context: ReportContext, photograph: Dataset, others: Sequence[ResultObject]
) -> MeasurementReport:
    method = context.saved.appraisal.method
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(method),
            name=f"Semblance {method.name} {method.version}",
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=device_serial_number(method),
        ),
    )
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=code(PHOTOGRAPHY_OF_PATIENT),
        imaging_measurements=_groups(context, others),
        title=code(AI_RESULT_TITLE),
        referenced_images=[photograph] if "Rows" in photograph else None,
    )


def _groups(
    context: ReportContext, others: Sequence[ResultObject]
) -> list[MeasurementsAndQualitativeEvaluations]:
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


def _as_evidence(context: ReportContext, other: ResultObject) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID = context.source.identity.study_instance_uid
    dataset.SeriesInstanceUID = other.series_instance_uid
    dataset.SOPClassUID = other.sop_class_uid
    dataset.SOPInstanceUID = other.sop_instance_uid
    return dataset


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
    for warning in appraisal.warnings:
        group[0].ContentSequence.append(
            TextContentItem(
                name=code(COMMENT),
                value=warning.encode("ascii", "backslashreplace").decode(),
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
            uid=tracking_uid(
                identity.issuer_of_patient_id, identity.patient_id, identity.study_instance_uid, site
            ),
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


def _add_request(report: Dataset, context: ReportContext) -> None:
    """The order the photograph was taken for (Referenced Request Sequence, PS3.3 section C.17.2)."""
    identity = context.source.identity
    if not identity.accession_number or not identity.accession_number.isascii():
        return
    request = Dataset()
    request.StudyInstanceUID = identity.study_instance_uid
    request.ReferencedStudySequence = []
    request.AccessionNumber = identity.accession_number
    request.PlacerOrderNumberImagingServiceRequest = None
    request.FillerOrderNumberImagingServiceRequest = None
    request.RequestedProcedureID = None
    request.RequestedProcedureDescription = None
    request.RequestedProcedureCodeSequence = []
    report.ReferencedRequestSequence = [request]


def _check_template(read: Dataset, context: ReportContext) -> None:
    """Read the report back by its template: TID 1500, with the score that was meant.

    Raises:
        ResultError: Not so.
    """
    appraisal = context.saved.appraisal
    try:
        content = Comprehensive3DSR.from_dataset(read, copy=False).content
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as exc:
        raise ResultError("the structured report does not read back as one") from exc
    if not isinstance(content, MeasurementReport):
        raise ResultError("the structured report does not read back by TID 1500")
    groups = content.get_image_measurement_groups()
    scores = [m.value for g in groups[:1] for m in g.get_measurements(name=code(SCORE))]
    expected = [] if appraisal.score is None else [appraisal.score]
    if len(scores) != len(expected) or any(abs(a - b) > 1e-9 for a, b in zip(scores, expected, strict=True)):
        raise ResultError("the structured report does not read back with its score")
