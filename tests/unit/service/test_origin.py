"""What is a photograph, and what some system made of one."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    generate_uid,
)

from reporting.dicom import secondary_capture
from service.pictures.encode import encode_jpeg
from service.pipeline.origin import KeptReason, kept_reason
from tests.dicom_objects import photograph
from tests.unit.reporting.photographs import context, pixels


def file_of(ds: Dataset) -> bytes:
    made = BytesIO()
    ds.save_as(made, enforce_file_format=True)
    return made.getvalue()


def reason(ds: Dataset, *, known: bool = False, derived_too: bool = False) -> KeptReason | None:
    return kept_reason(file_of(ds), is_known_result=known, derived_too=derived_too)


def made(sop_class: str = SecondaryCaptureImageStorage, **attributes: object) -> Dataset:
    ds = photograph(sop_class=sop_class, transfer_syntax=ExplicitVRLittleEndian)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def our_heatmap() -> Dataset:
    return dcmread(BytesIO(secondary_capture.build(context(), encode_jpeg(pixels(60, 50))).data))


def test_our_heatmap_is_known_again_whatever_was_written_anew() -> None:
    assert reason(our_heatmap()) is KeptReason.OWN_RESULT
    renamed = our_heatmap()
    renamed.SOPInstanceUID = renamed.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    renamed.StudyInstanceUID = renamed.SeriesInstanceUID = generate_uid()
    del renamed.SourceImageSequence
    assert reason(renamed, derived_too=True) is KeptReason.OWN_RESULT
    for keyword in ("Manufacturer", "ContributingEquipmentSequence"):
        delattr(renamed, keyword)
    assert reason(renamed, derived_too=True) is KeptReason.OWN_RESULT  # by its codes
    for keyword in ("DerivationCodeSequence", "CodingSchemeIdentificationSequence"):
        delattr(renamed, keyword)
    assert reason(renamed) is KeptReason.DERIVED_PICTURE  # as any system's


def test_a_known_uid_is_enough() -> None:
    assert reason(made(), known=True, derived_too=True) is KeptReason.OWN_RESULT


def overlay(ds: Dataset) -> Dataset:
    ds.add_new(0x60003000, "OW", b"\0\0")
    return ds


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (made(ImageType=["DERIVED", "SECONDARY"]), KeptReason.DERIVED_PICTURE),
        (made(ImageType=["DERIVED", "PRIMARY", "OTHER"], Manufacturer="An AI"), KeptReason.DERIVED_PICTURE),
        (made(ConversionType="SYN"), KeptReason.DERIVED_PICTURE),
        (made(ConversionType="WSD"), None),  # as img2dcm writes
        (made(BurnedInAnnotation="YES"), KeptReason.ANNOTATED),
        (
            made(VLPhotographicImageStorage, ImageType=["DERIVED", "SECONDARY"], BurnedInAnnotation="YES"),
            KeptReason.ANNOTATED,
        ),
        (overlay(made(Modality="OT")), KeptReason.OVERLAY),
        (made(), None),
        (made(ImageType=["ORIGINAL", "PRIMARY"]), None),
        (made(Modality="OT"), None),
        (made(BurnedInAnnotation="NO"), None),
        (
            made(VLPhotographicImageStorage, ImageType=["DERIVED", "SECONDARY"]),
            None,
        ),  # as img2dcm -vlp writes
        (made(VLPhotographicImageStorage, BurnedInAnnotation="YES"), None),  # a name board
        (overlay(made(VLPhotographicImageStorage)), None),
    ],
)
def test_what_is_kept_and_not_appraised(ds: Dataset, expected: KeptReason | None) -> None:
    assert reason(ds) is expected
    assert reason(ds, derived_too=True) is None  # unless a rule says so


def test_what_cannot_be_read_is_left_to_the_appraisal(tmp_path: Path) -> None:
    for content in (b"", b"no DICOM at all", file_of(made())[:200]):
        assert kept_reason(content, is_known_result=False, derived_too=False) is None
