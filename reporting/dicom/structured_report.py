"""The appraisal as a structured report by TID 1500, for machines (IHE AI Results, PS3.16 Annex A).

One measurement group for the face, one for each region, one for the quality of the photograph. A
rejected photograph gives a report too: an outcome and its reasons, with what was measured, and no score.
The report is the root of the results: heatmap and difference map are referenced from the face's group.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from highdicom.sr import (
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
)
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from reporting.dicom.context import (
    MANUFACTURER,
    MODEL_NAME,
    ReportContext,
    ResultObject,
    code,
    device_serial_number,
    device_uid,
)
from reporting.dicom.instance import dt, finish, is_plain, stand_in
from reporting.dicom.measurements import measurement_groups
from reporting.dicom.template import check_report
from reporting.identifiers import ResultKind
from reporting.terminology import (
    AI_RESULT_TITLE,
    PHOTOGRAPHY_OF_PATIENT,
)
from service.errors import ResultError

SERIES_NUMBER = 9802
SERIES_DESCRIPTION = "Semblance measurements"
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
        (content,) = _content(context, photograph, others)
        # highdicom copies, parses and searches the tree it is given, half the work of a report; what that
        # would find, check_report finds in the bytes. Hence it gets the root, and the branches after.
        report = Comprehensive3DSR(
            evidence=[photograph, *(_as_evidence(context, other) for other in others)],
            content=_root(content),
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
    report.ContentSequence = content.ContentSequence
    report.ObservationDateTime = dt(context)
    report.ContentTemplateSequence[0].MappingResource = "DCMR"
    report.ContentTemplateSequence[0].MappingResourceUID = "1.2.840.10008.8.1.1"
    _add_request(report, context)
    result = finish(report, context, kind, required=_REQUIRED)
    check_report(dcmread(BytesIO(result.data)), context.saved.appraisal.score)
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
        imaging_measurements=measurement_groups(context, others),
        title=code(AI_RESULT_TITLE),
        referenced_images=[photograph] if "Rows" in photograph else None,
    )


def _root(content: Dataset) -> Dataset:
    """The root of a tree with the first of its branches, the language."""
    root = Dataset()
    for element in content:
        if element.keyword != "ContentSequence":
            root.add(element)
    root.ContentSequence = content.ContentSequence[:1]
    return root


def _as_evidence(context: ReportContext, other: ResultObject) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID = context.source.identity.study_instance_uid
    dataset.SeriesInstanceUID = other.series_instance_uid
    dataset.SOPClassUID = other.sop_class_uid
    dataset.SOPInstanceUID = other.sop_instance_uid
    return dataset


def _add_request(report: Dataset, context: ReportContext) -> None:
    """The order the photograph was taken for (Referenced Request Sequence, PS3.3 section C.17.2)."""
    identity = context.source.identity
    if not is_plain(identity.accession_number, 16):
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
