"""Which DICOM objects an appraisal gives, in the order they are sent."""

from __future__ import annotations

from dataclasses import dataclass

from reporting.dicom import parametric_map, secondary_capture, structured_report
from reporting.dicom.context import ReportContext, ResultObject
from reporting.identifiers import ResultKind
from service.config import Settings
from service.pictures.native_map import read_map
from service.records import AppraisalStatus
from service.storage.local import InstanceStore


@dataclass(frozen=True, kw_only=True)
class ResultPictures:
    """The pictures of one appraisal, as files."""

    picture: bytes  # JPEG; of an old appraisal PNG
    lossless: bytes = b""  # PNG, where a destination wants it; else b""


def build_results(
    context: ReportContext, settings: Settings, store: InstanceStore, pictures: ResultPictures | None
) -> list[ResultObject]:
    """Make every result object of an appraisal.

    An appraised photograph gives a Secondary Capture and, as configured, one without loss, a parametric map
    and a structured report that refers to them; a rejected one gives the structured report alone, which says
    why.

    Args:
        context: The photograph and its appraisal.
        settings: Uses ``structured_report`` and ``parametric_map``.
        store: Holds the difference map.
        pictures: Of the appraisal; None of a rejected photograph.

    Raises:
        ResultError: An object would be invalid.
        StorageError: The difference map is gone, corrupt or not what it should be.
    """
    saved = context.saved
    appraised = saved.appraisal.status is AppraisalStatus.APPRAISED
    results = []
    if pictures is not None:
        results.append(secondary_capture.build(context, pictures.picture))
        if pictures.lossless:
            lossless = ResultKind.SECONDARY_CAPTURE_LOSSLESS
            results.append(secondary_capture.build(context, pictures.lossless, lossless))
    if appraised and settings.parametric_map:
        native = read_map(store.read(saved.difference_map_sha256))
        results.append(parametric_map.build(context, native))
    if settings.structured_report:
        results.append(structured_report.build(context, results))
    return results
