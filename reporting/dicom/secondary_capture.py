"""The heatmap as a Secondary Capture image, for every viewer (PS3.3 section A.8.1)."""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
import numpy.typing as npt
from highdicom.sc import SCImage
from PIL import ImageCms
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from reporting.dicom.context import MANUFACTURER, ReportContext, ResultObject
from reporting.dicom.instance import da, finish, item, tm
from reporting.dicom.lossy import declare_loss
from reporting.identifiers import ResultKind
from reporting.source import text
from reporting.terminology import COMPARISON_WITH_REFERENCE, FACE, SOURCE_IMAGE_FOR_PROCESSING
from service.errors import ResultError

SERIES_NUMBER = 9801
SERIES_DESCRIPTION = "Semblance heatmap"
_ORIENTATION = re.compile(r"[APRLHFTCDSEWV]{1,16}\\[APRLHFTCDSEWV]{1,16}")  # C.7.6.1.1.1
_REQUIRED = (
    "ImageType",
    "ConversionType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelData",
    "RecognizableVisualFeatures",
    "SourceImageSequence",
    "DerivationDescription",
    "DerivationCodeSequence",
)


def build(context: ReportContext, heatmap: npt.NDArray[np.uint8]) -> ResultObject:
    """Make the Secondary Capture of a heatmap.

    Args:
        context: The photograph and its appraisal.
        heatmap: (H, W, 3) uint8, sRGB: the heatmap over the photograph, with its colour bar.

    Raises:
        ResultError: The array is no such image, or the object would be invalid.
    """
    if heatmap.ndim != 3 or heatmap.shape[2] != 3 or heatmap.dtype != np.uint8:
        raise ResultError("a heatmap is (H, W, 3) uint8")
    if not all(0 < side <= 65535 for side in heatmap.shape[:2]):
        raise ResultError("a heatmap has 1 to 65535 rows and columns")
    kind = ResultKind.SECONDARY_CAPTURE
    image = SCImage(
        pixel_array=heatmap,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=context.source.identity.study_instance_uid,
        series_instance_uid=context.series_uid(kind),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=context.instance_uid(kind),
        instance_number=context.instance_number,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    _describe(image, context)
    _refer(image, context, heatmap)
    declare_loss(image, context)
    result = finish(image, context, kind, required=_REQUIRED)
    if not np.array_equal(dcmread(BytesIO(result.data)).pixel_array, heatmap):
        raise ResultError("the heatmap does not read back as it was written")
    return result


def _describe(image: Dataset, context: ReportContext) -> None:
    """What highdicom leaves out of the SC Equipment, SC Image and General Image modules."""
    method = context.saved.appraisal.method
    image.ConversionType = "WSD"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = da(context), tm(context)
    image.BodyPartExamined = "FACE"  # PS3.16 Annex L; unpaired, so that Laterality does not apply
    image.AnatomicRegionSequence = [item(FACE)]
    burned_in = text(context.source.header, "BurnedInAnnotation")
    if burned_in in {"YES", "NO"}:  # the colour bar names nobody; a name board in the photograph might
        image.BurnedInAnnotation = burned_in
    image.RecognizableVisualFeatures = "YES"  # a face, PS3.15 section E.3.2
    image.DerivationDescription = (
        f"Difference of the face from a normal reference of it, as colours over the photograph, by method"
        f" {method.name} {method.version} ({method.normaliser}, {method.comparator})."
        " Decision support, not a diagnosis."
    )
    image.DerivationCodeSequence = [item(COMPARISON_WITH_REFERENCE)]
    image.ColorSpace = "SRGB"
    image.ICCProfile = srgb_profile()
    orientation = text(context.source.header, "PatientOrientation")
    image.PatientOrientation = orientation.split("\\") if _ORIENTATION.fullmatch(orientation) else None


def _refer(image: Dataset, context: ReportContext, heatmap: npt.NDArray[np.uint8]) -> None:
    identity = context.source.identity
    reference = Dataset()
    reference.ReferencedSOPClassUID = identity.sop_class_uid
    reference.ReferencedSOPInstanceUID = identity.sop_instance_uid
    if context.frame is not None:
        reference.ReferencedFrameNumber = context.frame
    same_size = heatmap.shape[:2] == (identity.rows, identity.columns)
    reference.SpatialLocationsPreserved = "YES" if same_size else "NO"
    reference.PurposeOfReferenceCodeSequence = [item(SOURCE_IMAGE_FOR_PROCESSING)]
    image.SourceImageSequence = [reference]


def srgb_profile() -> bytes:
    """The sRGB ICC profile, without the creation time littleCMS stamps on it (ICC.1 section 7.2.8)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes.fromhex("07e4 0001 0001 0000 0000 0000")
    return bytes(profile)
