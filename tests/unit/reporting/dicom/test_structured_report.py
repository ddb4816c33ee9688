"""The structured report, read back by its template as a machine would."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from highdicom.sr import MeasurementReport, srread
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

from reporting.dicom import parametric_map, secondary_capture, structured_report
from reporting.dicom.context import ResultObject, code, device_uid
from reporting.identifiers import tracking_uid
from reporting.terminology import (
    EXCLUSION_REASON,
    EXCLUSION_REASONS,
    IMAGE_QUALITY,
    JUDGED_FRACTION,
    MEASUREMENT_NOT_ATTEMPTED,
    OUTCOME,
    OUTCOME_APPRAISED,
    OUTCOME_REJECTED,
    QUALITY_PITCH,
    QUALITY_YAW,
    RATING,
    REGION_Z,
    REJECTION_REASON,
    SCORE,
    SITES,
)
from service.errors import ResultError
from service.pictures.encode import encode_jpeg
from service.pictures.native_map import NativeMap
from service.records import ExclusionReason, Region, RejectionReason
from tests.unit.reporting.photographs import (
    COLUMNS,
    METHOD,
    ROWS,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    appraised,
    context,
    photograph,
    pixels,
    rejected,
)


def parse(result: ResultObject) -> MeasurementReport:
    return MeasurementReport.from_sequence(srread(BytesIO(result.data)).content)


def dataset(result: ResultObject) -> Dataset:
    return dcmread(BytesIO(result.data))


REPORT = structured_report.build(context())
REJECTION = structured_report.build(context(saved=rejected()))
GROUPS = parse(REPORT).get_image_measurement_groups()
BY_SITE = {group.tracking_identifier: group for group in GROUPS}


def test_it_is_a_complete_unverified_measurement_report() -> None:
    report = dataset(REPORT)
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    template = report.ContentTemplateSequence[0]
    assert (template.TemplateIdentifier, template.MappingResource) == ("1500", "DCMR")
    assert report.ObservationDateTime == "20260329013015.250000+0100"


def test_the_photograph_is_evidence_and_in_the_image_library() -> None:
    report = dataset(REPORT)
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert study.StudyInstanceUID == STUDY_UID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES_UID
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SOP_UID
    (library,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111028"]
    entry = library.ContentSequence[0].ContentSequence[0]
    assert entry.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == SOP_UID


def test_the_score_of_the_face_with_rating_and_percentile() -> None:
    (score,) = BY_SITE["face"].get_measurements(name=code(SCORE))
    assert (score.value, score.unit.value) == (2.34375, "{score}")
    (rating,) = BY_SITE["face"].get_measurements(name=code(RATING))
    assert (rating.value, rating.unit.value) == (5.5, "{rating}")
    (percentile,) = [
        item for item in score[0].ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "121415"
    ]
    assert percentile.MeasuredValueSequence[0].FloatingPointValue == 61.0
    (outcome,) = BY_SITE["face"].get_qualitative_evaluations(name=code(OUTCOME))
    assert outcome.value == code(OUTCOME_APPRAISED)


@pytest.mark.parametrize("region", [r for r in Region if r not in (Region.FACE, Region.FOREHEAD)])
def test_the_score_of_each_region_at_its_site(region: Region) -> None:
    expected = next(s for s in appraised().appraisal.regions if s.region is region)
    group = BY_SITE[region.value]
    (site,) = group.finding_sites
    assert site.value == code(SITES[region].concept)
    laterality, modifier = SITES[region].laterality, SITES[region].modifier
    assert site.laterality == (code(laterality) if laterality else None)
    assert site.topographical_modifier == (code(modifier) if modifier else None)
    (score,) = group.get_measurements(name=code(SCORE))
    (z,) = group.get_measurements(name=code(REGION_Z))
    (judged,) = group.get_measurements(name=code(JUDGED_FRACTION))
    assert (score.value, z.value, judged.value) == (expected.score, expected.z, expected.judged)


def test_a_region_that_was_not_judged_says_so() -> None:
    group = BY_SITE["forehead"]
    assert group.get_measurements(name=code(SCORE)) == []
    (evaluation,) = group.get_qualitative_evaluations(name=code(SCORE))
    assert evaluation.value == code(MEASUREMENT_NOT_ATTEMPTED)
    (why,) = group.get_qualitative_evaluations(name=code(EXCLUSION_REASON))
    assert why.value == code(EXCLUSION_REASONS[ExclusionReason.OCCLUDED])
    assert [m.value for m in group.get_measurements(name=code(JUDGED_FRACTION))] == [0.0]


def test_a_comment_says_what_the_rating_rests_on() -> None:
    assert "rating calibrated on computed scores, not on human ratings" in dataset(REPORT).to_json()
    bare = appraised()
    unrated = replace(bare, appraisal=replace(bare.appraisal, rating=None))
    assert "human ratings" not in dataset(structured_report.build(context(saved=unrated))).to_json()


def test_warnings_are_comments() -> None:
    assert "forehead left out: hair" in dataset(REPORT).to_json()


def test_the_algorithm_is_identified_in_every_group() -> None:
    report = dataset(REPORT)
    (measurements,) = [
        i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    for group in measurements.ContentSequence:
        said = {
            (item.ConceptNameCodeSequence[0].CodeValue, item.TextValue)
            for item in group.ContentSequence
            if item.ValueType == "TEXT"
        }
        assert {("111001", "Semblance symmetry"), ("111003", "1")} <= said
        if ("112039", "face") in said or ("112039", "photograph") in said:
            assert {
                ("111002", f"config_sha256={METHOD.config_sha256}"),
                ("111002", "weights_sha256=none"),
                ("111002", "calibration=2026-1"),
            } <= said
    observer = parse(REPORT).get_observer_contexts()[0].observer_identifying_attributes
    assert observer.uid == device_uid(METHOD)


def test_sites_are_tracked_by_patient() -> None:
    for region in Region:
        assert BY_SITE[region.value].tracking_uid == tracking_uid("HOSPITAL-A", "P-001", STUDY_UID, region)
    assert len({group.tracking_uid for group in GROUPS}) == len(GROUPS)


def test_patients_of_two_authorities_are_tracked_apart() -> None:
    """Their numbers are alike, and only universal IDs tell who issued them."""
    built = []
    for universal_id in ("1.2.3.4", "1.2.3.5"):
        issuer = Dataset()
        issuer.UniversalEntityID, issuer.UniversalEntityIDType = universal_id, "ISO"
        data = photograph(IssuerOfPatientID="", IssuerOfPatientIDQualifiersSequence=[issuer])
        report = structured_report.build(context(data))
        built.append({each.tracking_uid for each in parse(report).get_image_measurement_groups()})
    assert built[0].isdisjoint(built[1])


def test_quality_is_measured() -> None:
    group = BY_SITE["photograph"]
    assert group.finding_type == code(IMAGE_QUALITY)
    assert [m.value for m in group.get_measurements(name=code(QUALITY_YAW))] == [-3.5]
    assert group.get_measurements(name=code(QUALITY_YAW))[0].unit.value == "deg"


def test_a_rejected_photograph_says_why_and_has_no_score() -> None:
    (group,) = parse(REJECTION).get_image_measurement_groups()
    assert [e.value for e in group.get_qualitative_evaluations(name=code(OUTCOME))] == [
        code(OUTCOME_REJECTED)
    ]
    reasons = [e.value.value for e in group.get_qualitative_evaluations(name=code(REJECTION_REASON))]
    assert reasons == ["yaw", "blurred"]
    assert [m.value for m in group.get_measurements(name=code(QUALITY_YAW))] == [31.5]
    assert group.get_measurements(name=code(QUALITY_PITCH)) == []
    assert group.get_measurements(name=code(SCORE)) == []


@pytest.mark.parametrize("reason", RejectionReason)
def test_every_reason_can_be_said(reason: RejectionReason) -> None:
    result = structured_report.build(context(saved=rejected(reason)))
    (group,) = parse(result).get_image_measurement_groups()
    (evaluation,) = group.get_qualitative_evaluations(name=code(REJECTION_REASON))
    assert evaluation.value.value == reason.value


def test_a_photograph_without_readable_size_is_evidence_only() -> None:
    given = context(photograph(Rows=None, Columns=None, jpeg=True), rejected(RejectionReason.UNDECODABLE))
    report = dataset(structured_report.build(given))
    names = {item.ConceptNameCodeSequence[0].CodeValue for item in report.ContentSequence}
    assert "111028" not in names
    assert len(report.CurrentRequestedProcedureEvidenceSequence) == 1


def test_it_is_the_root_of_the_results() -> None:
    heatmap = secondary_capture.build(context(), encode_jpeg(pixels()))
    native = NativeMap(
        difference=np.zeros((8, 8), np.float32), to_photograph=np.eye(2, 3), rows=ROWS, columns=COLUMNS
    )
    differences = parametric_map.build(context(), native)
    result = structured_report.build(context(), [heatmap, differences])
    report = dataset(result)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        instance.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert evidence == {SOP_UID, heatmap.sop_instance_uid, differences.sop_instance_uid}
    (measurements,) = [
        i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    referenced = {
        item.ConceptNameCodeSequence[0].CodeValue: item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in measurements.ContentSequence[0].ContentSequence
        if item.ValueType == "IMAGE"
    }
    assert referenced == {
        "121112": SOP_UID,
        "121200": heatmap.sop_instance_uid,
        "difference-map": differences.sop_instance_uid,
    }
    assert len(parse(result).get_image_measurement_groups()) == len(GROUPS)


def test_the_order_is_referenced_where_there_is_one() -> None:
    (request,) = dataset(REPORT).ReferencedRequestSequence
    assert (request.AccessionNumber, request.StudyInstanceUID) == ("ACC-77", STUDY_UID)
    without = structured_report.build(context(photograph(AccessionNumber=None)))
    assert "ReferencedRequestSequence" not in dataset(without)


def test_bare_scores_suffice() -> None:
    saved = appraised()
    bare = replace(saved.appraisal, rating=None, percentile=None, regions=(), warnings=())
    groups = parse(structured_report.build(context(saved=replace(saved, appraisal=bare))))
    (face, _quality) = groups.get_image_measurement_groups()
    assert [m.value for m in face.get_measurements(name=code(SCORE))] == [2.34375]
    assert face.get_measurements(name=code(RATING)) == []


def test_an_appraisal_without_a_score_is_not_reported_as_one() -> None:
    saved = appraised()
    broken = replace(saved, appraisal=replace(saved.appraisal, score=None))
    with pytest.raises(ResultError, match="has a score"):
        structured_report.build(context(saved=broken))


def test_letters_beyond_ascii_in_a_warning_do_not_stop_the_report() -> None:
    saved = appraised()
    odd = replace(saved, appraisal=replace(saved.appraisal, warnings=("naïve",)))
    assert "na\\\\xefve" in dataset(structured_report.build(context(saved=odd))).to_json()
