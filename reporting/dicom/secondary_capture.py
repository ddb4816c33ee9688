"""The picture of an appraisal as a Secondary Capture image, for every viewer (PS3.3 section A.8.1)."""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
import numpy.typing as npt
from highdicom.sc import SCImage
from PIL import ImageCms
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from reporting.dicom.context import MANUFACTURER, ReportContext, ResultObject
from reporting.dicom.instance import da, finish, item, tm
from reporting.dicom.lossy import declare_jpeg, declare_loss
from reporting.identifiers import ResultKind
from reporting.source import text
from reporting.terminology import COMPARISON_WITH_REFERENCE, FACE, SOURCE_IMAGE_FOR_PROCESSING
from service.errors import ResultError, StoredMapError
from service.pictures.encode import Encoded, decode, describe

_SERIES_NUMBERS = {ResultKind.SECONDARY_CAPTURE: 9801, ResultKind.SECONDARY_CAPTURE_LOSSLESS: 9804}
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


def build(
    context: ReportContext, picture: bytes, kind: ResultKind = ResultKind.SECONDARY_CAPTURE
) -> ResultObject:
    """Make the Secondary Capture of a picture.

    A JPEG goes in as it is, and the object is JPEG Baseline; a PNG is put in without loss.

    Args:
        context: The photograph and its appraisal.
        picture: The file, RGB: the heatmap or the triptych, with its legend.
        kind: Which of the appraisal's objects it is.

    Raises:
        ResultError: The file is no such picture, or the object would be invalid.
    """
    try:
        found = describe(picture)
        pixels = None if found.format == "JPEG" else decode(picture)
    except StoredMapError as exc:
        raise ResultError(str(exc)) from exc
    if not all(0 < side <= 65535 for side in (found.rows, found.columns)):
        raise ResultError("a picture has 1 to 65535 rows and columns")
    image = SCImage(
        pixel_array=np.zeros((1, 1, 3), np.uint8) if pixels is None else pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=context.source.identity.study_instance_uid,
        series_instance_uid=context.series_uid(kind),
        series_number=_SERIES_NUMBERS[kind],
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=context.instance_uid(kind),
        instance_number=context.instance_number,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    _describe(image, context)
    _refer(image, context, (found.rows, found.columns))
    declare_loss(image, context)
    if pixels is None:
        _put_jpeg(image, picture, found)
    result = finish(image, context, kind, required=_REQUIRED)
    _read_back(result, picture, pixels)
    return result


def _put_jpeg(image: Dataset, picture: bytes, found: Encoded) -> None:
    """Have the object hold the JPEG as it is, highdicom's one pixel being a place holder."""
    image.Rows, image.Columns = found.rows, found.columns
    image.PhotometricInterpretation = "YBR_FULL_422"  # PS3.5 section 8.2.1
    image.PixelData = encapsulate([picture])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    declare_jpeg(image, 3 * found.rows * found.columns / len(picture))


def _read_back(result: ResultObject, picture: bytes, pixels: npt.NDArray[np.uint8] | None) -> None:
    read = dcmread(BytesIO(result.data))
    same = (
        jpeg_of(read) == picture
        if pixels is None
        else np.array_equal(np.frombuffer(read.PixelData, np.uint8)[: pixels.size], pixels.ravel())
    )
    if not same:
        raise ResultError("the picture does not read back as it was written")


def jpeg_of(capture: Dataset) -> bytes:
    """The JPEG file that a Secondary Capture holds.

    Raises:
        ResultError: It holds none.
    """
    if capture.file_meta.get("TransferSyntaxUID") != JPEGBaseline8Bit:
        raise ResultError("the Secondary Capture holds no JPEG")
    frame = get_frame(capture.PixelData, 0, number_of_frames=1)
    return frame.removesuffix(b"\0") if len(frame) % 2 == 0 and frame.endswith(b"\xff\xd9\0") else frame


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
        f"Where the face differs from what is normal, as colours over the photograph, by method"
        f" {method.name} {method.version} ({method.normaliser}, {method.comparator})."
        " Decision support, not a diagnosis."
    )
    image.DerivationCodeSequence = [item(COMPARISON_WITH_REFERENCE)]
    image.ColorSpace = "SRGB"
    image.ICCProfile = srgb_profile()
    orientation = text(context.source.header, "PatientOrientation")
    image.PatientOrientation = orientation.split("\\") if _ORIENTATION.fullmatch(orientation) else None


def _refer(image: Dataset, context: ReportContext, size: tuple[int, int]) -> None:
    identity = context.source.identity
    reference = Dataset()
    reference.ReferencedSOPClassUID = identity.sop_class_uid
    reference.ReferencedSOPInstanceUID = identity.sop_instance_uid
    if context.frame is not None:
        reference.ReferencedFrameNumber = context.frame
    same_size = size == (identity.rows, identity.columns)
    reference.SpatialLocationsPreserved = "YES" if same_size else "NO"
    reference.PurposeOfReferenceCodeSequence = [item(SOURCE_IMAGE_FOR_PROCESSING)]
    image.SourceImageSequence = [reference]


def srgb_profile() -> bytes:
    """The sRGB ICC profile, without the creation time littleCMS stamps on it (ICC.1 section 7.2.8)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes.fromhex("07e4 0001 0001 0000 0000 0000")
    return bytes(profile)
