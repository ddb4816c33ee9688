"""The Secondary Capture: patient and study as sent, source and derivation named, pixels untouched."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)

from reporting.dicom import secondary_capture
from reporting.dicom.context import ReportContext, ResultObject, device_uid
from reporting.dicom.secondary_capture import jpeg_of
from reporting.identifiers import ResultKind
from reporting.terminology import CODE_SYSTEM, COMPARISON_WITH_REFERENCE, FACE, SOURCE_IMAGE_FOR_PROCESSING
from service.errors import ResultError
from service.pictures.encode import decode, encode_jpeg, encode_png
from tests.unit.reporting.photographs import (
    COLUMNS,
    METHOD,
    ROWS,
    SERIES_UID,
    SOP_UID,
    STUDY_UID,
    context,
    photograph,
    pixels,
)

HEATMAP = pixels(60, 51)
PICTURE = encode_jpeg(HEATMAP)


def read(result: ResultObject) -> Dataset:
    return dcmread(BytesIO(result.data))


def build(given: ReportContext | None = None) -> Dataset:
    return read(secondary_capture.build(given or context(), PICTURE))


def test_it_is_in_the_photographs_study_and_a_series_of_its_own() -> None:
    image = build()
    assert image.SOPClassUID == SecondaryCaptureImageStorage
    assert image.StudyInstanceUID == STUDY_UID
    assert image.SeriesInstanceUID not in ("", SERIES_UID)
    assert image.SOPInstanceUID not in ("", SOP_UID)
    assert image.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert (image.StudyDate, image.StudyTime, image.StudyID) == ("20260329", "013000", "S1")
    assert image.AccessionNumber == "ACC-77"
    assert image.InstanceNumber == 7


def test_it_is_of_the_photographs_patient() -> None:
    image = build()
    assert image.PatientName == "Doe^Jane"
    assert image.PatientID == "P-001"
    assert image.IssuerOfPatientID == "HOSPITAL-A"
    assert (image.PatientBirthDate, image.PatientSex) == ("20190212", "F")


def test_the_jpeg_is_held_as_it_is() -> None:
    image = build()
    assert jpeg_of(image) == PICTURE
    assert (image.Rows, image.Columns, image.SamplesPerPixel) == (60, 51, 3)
    assert image.PhotometricInterpretation == "YBR_FULL_422"
    shown = pixel_array(image)  # as RGB
    assert np.abs(shown.astype(int) - decode(PICTURE)).max() <= 2


@pytest.mark.parametrize("size", [(60, 51), (61, 50), (33, 33), (34, 35)])
def test_a_jpeg_of_odd_length_comes_back_without_its_padding(size: tuple[int, int]) -> None:
    picture = encode_jpeg(pixels(*size))
    assert jpeg_of(read(secondary_capture.build(context(), picture))) == picture


def test_a_png_is_held_without_loss() -> None:
    lossless = ResultKind.SECONDARY_CAPTURE_LOSSLESS
    image = read(secondary_capture.build(context(photograph(jpeg=False)), encode_png(HEATMAP), lossless))
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(image.pixel_array, HEATMAP)
    assert image.PhotometricInterpretation == "RGB"
    assert image.LossyImageCompression == "00"
    assert "LossyImageCompressionRatio" not in image
    with pytest.raises(ResultError):
        jpeg_of(image)


def test_colours_are_srgb() -> None:
    image = build()
    assert image.ColorSpace == "SRGB"
    assert image.ICCProfile[36:40] == b"acsp"  # ICC.1 section 7.2.9


def test_it_names_its_source_and_how_it_was_derived() -> None:
    image = build()
    (source,) = image.SourceImageSequence
    assert source.ReferencedSOPClassUID == VLPhotographicImageStorage
    assert source.ReferencedSOPInstanceUID == SOP_UID
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == SOURCE_IMAGE_FOR_PROCESSING.code
    assert source.SpatialLocationsPreserved == "NO"
    assert "symmetry 1" in image.DerivationDescription
    assert "not a diagnosis" in image.DerivationDescription
    (code,) = image.DerivationCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == (
        COMPARISON_WITH_REFERENCE.code,
        CODE_SYSTEM.designator,
    )
    assert image.CodingSchemeIdentificationSequence[0].CodingSchemeUID == CODE_SYSTEM.uid
    assert list(image.ImageType) == ["DERIVED", "SECONDARY"]


def test_a_heatmap_of_the_photographs_size_keeps_its_places() -> None:
    image = read(secondary_capture.build(context(), encode_jpeg(pixels(ROWS, COLUMNS))))
    assert image.SourceImageSequence[0].SpatialLocationsPreserved == "YES"


def test_a_face_is_recognisable() -> None:
    image = build()
    assert image.RecognizableVisualFeatures == "YES"
    assert image.BodyPartExamined == "FACE"
    assert image.AnatomicRegionSequence[0].CodeValue == FACE.code


@pytest.mark.parametrize("burned_in", ["YES", "NO"])
def test_a_name_board_stays_declared(burned_in: str) -> None:
    assert build(context(photograph(BurnedInAnnotation=burned_in))).BurnedInAnnotation == burned_in


def test_nothing_is_claimed_of_annotation_nobody_declared() -> None:
    assert "BurnedInAnnotation" not in build()


def test_equipment_tells_camera_and_software() -> None:
    image = build()
    camera, software = image.ContributingEquipmentSequence
    assert camera.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (camera.Manufacturer, camera.ManufacturerModelName) == ("Camera Works", "Model 5")
    assert software.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert software.ContributionDateTime == "20260329013015.250000+0100"
    assert image.DeviceUID == device_uid(METHOD)
    assert "method symmetry 1" in image.SoftwareVersions
    assert image.InstitutionName == "Clinic"


def test_times_are_in_the_photographs_zone() -> None:
    image = build()
    assert image.TimezoneOffsetFromUTC == "+0100"
    assert (image.ContentDate, image.ContentTime) == ("20260329", "013015.250000")
    assert (image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture) == ("20260329", "013015.250000")


def test_times_are_in_our_zone_where_the_photograph_has_none() -> None:
    image = build(context(photograph(TimezoneOffsetFromUTC=None)))
    assert "TimezoneOffsetFromUTC" not in image
    assert image.ContentTime == "013015.250000"  # Berlin, half an hour before summer time begins


def test_a_date_changes_with_the_zone() -> None:
    image = build(context(photograph(TimezoneOffsetFromUTC="-0500")))
    assert (image.ContentDate, image.ContentTime) == ("20260328", "193015.250000")


def test_once_lossy_always_lossy() -> None:
    image = build()
    assert image.LossyImageCompression == "01"
    assert list(image.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_10918_1"]
    assert all(1 < ratio < 50 for ratio in image.LossyImageCompressionRatio)


def test_our_own_compression_is_declared_where_the_photograph_has_none() -> None:
    image = build(context(photograph(jpeg=False)))
    assert image.LossyImageCompression == "01"
    assert image.LossyImageCompressionMethod == "ISO_10918_1"
    assert image.LossyImageCompressionRatio == pytest.approx(3 * 60 * 51 / len(PICTURE), abs=0.01)


def test_declared_loss_is_passed_on() -> None:
    image = build(
        context(
            photograph(
                jpeg=False,
                LossyImageCompression="01",
                LossyImageCompressionRatio=["12.5", "3"],
                LossyImageCompressionMethod=["ISO_10918_1", "ISO_15444_1"],
            )
        )
    )
    ratio = pytest.approx(3 * 60 * 51 / len(PICTURE), abs=0.01)
    assert list(image.LossyImageCompressionRatio) == [12.5, 3, ratio]
    assert list(image.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1", "ISO_10918_1"]


def test_a_loss_whose_ratio_nobody_knows_gets_none() -> None:
    lost = photograph(
        jpeg=False, LossyImageCompression="01", LossyImageCompressionMethod=["ISO_15444_1"], Rows=None
    )
    image = build(context(lost))
    assert list(image.LossyImageCompressionMethod) == ["ISO_15444_1", "ISO_10918_1"]
    assert "LossyImageCompressionRatio" not in image


def test_frame_is_named_of_many() -> None:
    assert "ReferencedFrameNumber" not in build().SourceImageSequence[0]
    assert "ReferencedFrameNumber" not in build(context(photograph(NumberOfFrames=3))).SourceImageSequence[0]
    several = photograph(SOPClassUID=MultiFrameTrueColorSecondaryCaptureImageStorage, NumberOfFrames=3)
    image = build(context(several))
    assert image.SourceImageSequence[0].ReferencedFrameNumber == 1


def test_orientation_is_the_photographs_or_unknown() -> None:
    assert build().PatientOrientation in (None, "")
    image = build(context(photograph(PatientOrientation=["L", "F"])))
    assert list(image.PatientOrientation) == ["L", "F"]


@pytest.mark.parametrize(
    "picture",
    [b"", b"\xff\xd8\xff", encode_jpeg(HEATMAP)[:30], encode_png(HEATMAP)[:100], b"GIF89a"],
    ids=["empty", "cut-jpeg", "shorter-jpeg", "cut-png", "gif"],
)
def test_what_is_no_picture_is_refused(picture: bytes) -> None:
    with pytest.raises(ResultError):
        secondary_capture.build(context(), picture)
