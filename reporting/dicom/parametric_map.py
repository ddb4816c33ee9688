"""The raw difference map as a Parametric Map, at the method's own resolution (PS3.3 section A.75).

Made by configuration, for research and for viewers that draw their own overlay. The IOD wants a frame of
reference, which a photograph has not: the map has one of the photograph's own, whose plane is the picture and
whose unit is the photograph's pixel. Position and orientation of the map are in it, so that a head that is
turned in the picture is turned in the map's plane too; millimetres are nowhere known in it, and so no pixel
spacing is given. Frame Comments say the whole way to the photograph in numbers::

    to_photograph=[[a,b,c],[d,e,f]] rows=3000 columns=4000

so that the map's pixel (column, row) lies at x = a column + b row + c, y = d column + e row + f of the
photograph, the centre of the first pixel of each being 0, 0. A map kept before maps were native has the
photograph's rows and columns, and is its own place.
"""

from __future__ import annotations

import math
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
from service.pictures.native_map import NativeMap

SERIES_NUMBER = 9803
SERIES_DESCRIPTION = "Semblance difference map"
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


def build(context: ReportContext, native: NativeMap) -> ResultObject:
    """Make the Parametric Map of a difference map.

    Args:
        context: The photograph and its appraisal.
        native: The map as kept.

    Raises:
        ResultError: The map is not of this photograph, or the object would be invalid.
    """
    identity, difference_map = context.source.identity, native.difference
    if difference_map.dtype != np.float32 or (native.rows, native.columns) != (
        identity.rows,
        identity.columns,
    ):
        raise ResultError("a difference map is float32, of a photograph of so many rows and columns")
    judged = difference_map[~np.isnan(difference_map)]
    if not np.isfinite(judged).all():
        raise ResultError("differences are finite")
    span = (float(judged.min()), float(judged.max())) if judged.size else (0.0, 0.0)
    padding = not_judged(span[0])
    stored = np.where(np.isnan(difference_map), np.float32(padding), difference_map).astype(np.float32)
    image = _construct(context, native, stored, span)
    image.FloatPixelPaddingValue = padding
    image.FloatPixelPaddingRangeLimit = padding
    declare_loss(image, context)
    image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [Dataset()]
    _make_dimension_lasting(image, context)
    _refer(image, context, native)
    image.BodyPartExamined = "FACE"
    result = finish(image, context, ResultKind.PARAMETRIC_MAP, required=_REQUIRED)
    read = dcmread(BytesIO(result.data))
    if not np.array_equal(np.frombuffer(read.FloatPixelData, "<f4").reshape(stored.shape), stored):
        raise ResultError("the difference map does not read back as it was written")
    return result


def not_judged(least: float) -> float:
    """Float Pixel Padding Value: a whole number below the least difference, -1 where none is below nought.

    The mapped range begins with it, since readers apply the mapping to every pixel and refuse others.
    """
    return float(min(-1, math.floor(least) - 1))


def _construct(
    context: ReportContext, native: NativeMap, stored: npt.NDArray[np.float32], span: tuple[float, float]
) -> Dataset:
    """Have highdicom build it; ``span`` is the least and the greatest difference."""
    kind, method = ResultKind.PARAMETRIC_MAP, context.saved.appraisal.method
    try:
        return ParametricMap(
            source_images=[_in_its_own_plane(context, native)],
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
                    value_range=(not_judged(span[0]), span[1]),
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


def _refer(image: Dataset, context: ReportContext, native: NativeMap) -> None:
    """Name the photograph and its frame, by their own SOP class (PS3.3 sections C.7.6.16.2.6, C.12.2)."""
    identity = context.source.identity
    (frame,) = image.PerFrameFunctionalGroupsSequence
    (derivation,) = frame.DerivationImageSequence
    (source,) = derivation.SourceImageSequence
    source.ReferencedSOPClassUID = identity.sop_class_uid
    source.SpatialLocationsPreserved = "YES" if native.is_photograph_sized else "NO"
    (content,) = frame.FrameContentSequence
    content.FrameComments = _way(native)
    if context.frame is not None:
        source.ReferencedFrameNumber = context.frame
    instance = Dataset()
    instance.ReferencedSOPClassUID = identity.sop_class_uid
    instance.ReferencedSOPInstanceUID = identity.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = identity.series_instance_uid
    series.ReferencedInstanceSequence = [instance]
    image.ReferencedSeriesSequence = [series]


def _way(native: NativeMap) -> str:
    """The way to the photograph, as Frame Comments hold it."""
    rows = ",".join(f"[{','.join(f'{v:.9g}' for v in row)}]" for row in native.to_photograph)
    return f"to_photograph=[{rows}] rows={native.rows} columns={native.columns}"


def _in_its_own_plane(context: ReportContext, native: NativeMap) -> Dataset:
    """The map's plane in the photograph's frame of reference, in pixels of the photograph."""
    matrix = native.to_photograph
    along, down = matrix[:, 0], matrix[:, 1]
    across, below = along / np.linalg.norm(along), down / np.linalg.norm(down)
    photograph = stand_in(context)
    photograph.SOPClassUID = VLPhotographicImageStorage  # one frame, whatever it is; see _refer
    photograph.Rows, photograph.Columns = native.difference.shape
    photograph.FrameOfReferenceUID = frame_of_reference_uid(context.source.identity.sop_instance_uid)
    photograph.ImagePositionPatient = [_ds(matrix[0, 2]), _ds(matrix[1, 2]), 0]
    photograph.ImageOrientationPatient = [*map(_ds, across), 0, *map(_ds, below), 0]
    photograph.PixelSpacing = [1, 1]  # taken out again
    photograph.SliceThickness = 1
    return photograph


def _ds(value: float) -> float:
    """A number that fits into DS's 16 characters."""
    return float(f"{value:.8g}")


def _make_dimension_lasting(image: Dataset, context: ReportContext) -> None:
    """Replace the dimension organisation UID that highdicom drew at random by a derived one."""
    uid = context.instance_uid(ResultKind.DIMENSION_ORGANIZATION)
    for item in (*image.DimensionOrganizationSequence, *image.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
