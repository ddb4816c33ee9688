"""The raw difference map as a Parametric Map, pixel for pixel with the photograph (PS3.3 section A.75).

Made by configuration, for research and for viewers that draw their own overlay. It is registered by
having the photograph's rows and columns and by naming it as its source with spatial locations preserved.
The IOD wants a frame of reference, which a photograph has not: the map has one of the photograph's own,
whose plane is the picture; millimetres are nowhere known in it, and so no pixel spacing is given.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from highdicom import VOILUTTransformation
from highdicom.pm import DerivedPixelContrastValues, ImageFlavorValues, ParametricMap, RealWorldValueMapping
from pydicom import Dataset, dcmread
from pydicom.uid import VLPhotographicImageStorage

from reporting.dicom.context import (
    MANUFACTURER,
    MODEL_NAME,
    ReportContext,
    ResultObject,
    code,
    device_serial_number,
    software_versions,
)
from reporting.dicom.instance import finish, stand_in
from reporting.dicom.lossy import declare_loss
from reporting.identifiers import ResultKind, frame_of_reference_uid
from reporting.terminology import COMPARISON_WITH_REFERENCE, DIFFERENCE_MAP, FRACTION_UNIT
from service.errors import ResultError

SERIES_NUMBER = 9803
SERIES_DESCRIPTION = "Semblance difference map"
NOT_JUDGED = float(np.finfo(np.float32).min)  # Float Pixel Padding Value, below any difference
_REQUIRED = (
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "FloatPixelData",
    "FloatPixelPaddingValue",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DimensionOrganizationSequence",
    "RecognizableVisualFeatures",
    "ContentQualification",
    "DeviceSerialNumber",
    "SoftwareVersions",
)


def build(context: ReportContext, difference_map: npt.NDArray[np.float32]) -> ResultObject:
    """Make the Parametric Map of a difference map.

    Args:
        context: The photograph and its appraisal.
        difference_map: (H, W) float32 in the photograph's own rows and columns; NaN where nothing was
            judged.

    Raises:
        ResultError: The map is not registered to the photograph, or the object would be invalid.
    """
    identity = context.source.identity
    if difference_map.dtype != np.float32 or difference_map.shape != (identity.rows, identity.columns):
        raise ResultError("a difference map is float32, of the photograph's rows and columns")
    judged = difference_map[~np.isnan(difference_map)]
    if not np.isfinite(judged).all():
        raise ResultError("differences are finite")
    stored = np.where(np.isnan(difference_map), np.float32(NOT_JUDGED), difference_map).astype(np.float32)
    span = (float(judged.min()), float(judged.max())) if judged.size else (0.0, 0.0)
    image = _construct(context, stored, span)
    image.FloatPixelPaddingValue = NOT_JUDGED
    image.FloatPixelPaddingRangeLimit = NOT_JUDGED
    declare_loss(image, context)
    image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [Dataset()]
    _make_dimension_lasting(image, context)
    _refer(image, context)
    image.BodyPartExamined = "FACE"
    result = finish(image, context, ResultKind.PARAMETRIC_MAP, required=_REQUIRED)
    read = dcmread(BytesIO(result.data))
    if not np.array_equal(np.frombuffer(read.FloatPixelData, "<f4").reshape(stored.shape), stored):
        raise ResultError("the difference map does not read back as it was written")
    return result


def _construct(context: ReportContext, stored: npt.NDArray[np.float32], span: tuple[float, float]) -> Dataset:
    """Have highdicom build it; ``span`` is the least and the greatest difference."""
    kind, method = ResultKind.PARAMETRIC_MAP, context.saved.appraisal.method
    try:
        return ParametricMap(
            source_images=[_in_its_own_plane(context)],
            pixel_array=stored,
            series_instance_uid=context.series_uid(kind),
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            sop_instance_uid=context.instance_uid(kind),
            instance_number=context.instance_number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_versions(method)[0],
            device_serial_number=device_serial_number(method),
            contains_recognizable_visual_features=True,  # PS3.15 section E.3.2: a face, as the heatmap
            real_world_value_mappings=[
                RealWorldValueMapping(
                    lut_label="DIFFERENCE",
                    lut_explanation=DIFFERENCE_MAP.display,
                    unit=code(FRACTION_UNIT),
                    value_range=span,
                    slope=1.0,
                    intercept=0.0,
                    quantity_definition=code(DIFFERENCE_MAP),
                )
            ],
            voi_lut_transformations=[
                VOILUTTransformation(window_center=sum(span) / 2, window_width=(span[1] - span[0]) or 1.0)
            ],
            content_label="DIFFERENCE",
            content_description=f"Difference by method {method.name} {method.version}"[:64],
            image_flavor=ImageFlavorValues.STATIC,
            derived_pixel_contrast=DerivedPixelContrastValues.QUANTITY,
            derivation=code(COMPARISON_WITH_REFERENCE),
        )
    except (ValueError, TypeError, AttributeError) as exc:
        raise ResultError("the parametric map cannot be built") from exc


def _refer(image: Dataset, context: ReportContext) -> None:
    """Name the photograph and its frame, by their own SOP class (PS3.3 sections C.7.6.16.2.6, C.12.2)."""
    identity = context.source.identity
    (frame,) = image.PerFrameFunctionalGroupsSequence
    (derivation,) = frame.DerivationImageSequence
    (source,) = derivation.SourceImageSequence
    source.ReferencedSOPClassUID = identity.sop_class_uid
    source.SpatialLocationsPreserved = "YES"
    if context.frame is not None:
        source.ReferencedFrameNumber = context.frame
    instance = Dataset()
    instance.ReferencedSOPClassUID = identity.sop_class_uid
    instance.ReferencedSOPInstanceUID = identity.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = identity.series_instance_uid
    series.ReferencedInstanceSequence = [instance]
    image.ReferencedSeriesSequence = [series]


def _in_its_own_plane(context: ReportContext) -> Dataset:
    photograph = stand_in(context)
    photograph.SOPClassUID = VLPhotographicImageStorage  # one frame, whatever it is; see _refer
    photograph.FrameOfReferenceUID = frame_of_reference_uid(context.source.identity.sop_instance_uid)
    photograph.ImagePositionPatient = [0, 0, 0]
    photograph.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    photograph.PixelSpacing = [1, 1]  # taken out again
    photograph.SliceThickness = 1
    return photograph


def _make_dimension_lasting(image: Dataset, context: ReportContext) -> None:
    """Replace the dimension organisation UID that highdicom drew at random by a derived one."""
    uid = context.instance_uid(ResultKind.DIMENSION_ORGANIZATION)
    for item in (*image.DimensionOrganizationSequence, *image.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
