"""Photographs and appraisals for tests of results: real DICOM files, as cameras and PACS write them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLPhotographicImageStorage,
)

from reporting.dicom.context import ReportContext
from reporting.source import default_zone, read_source
from service.records import (
    Appraisal,
    AppraisalStatus,
    ExclusionReason,
    MethodIdentity,
    QualityMeasures,
    Region,
    RegionScore,
    RejectionReason,
    SavedAppraisal,
)

STUDY_UID = "2.25.329800735698586629295641978511506172918"
SERIES_UID = "2.25.329800735698586629295641978511506172919"
SOP_UID = "2.25.329800735698586629295641978511506172920"
CREATED_AT = datetime(2026, 3, 29, 0, 30, 15, 250_000, tzinfo=UTC)
METHOD = MethodIdentity(
    name="symmetry",
    version="1",
    normaliser="symmetry",
    comparator="ssim",
    weights_sha256="",
    config_sha256="5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
    calibration="2026-1",
)
ROWS, COLUMNS = 48, 40


def pixels(rows: int = ROWS, columns: int = COLUMNS) -> npt.NDArray[np.uint8]:
    """(rows, columns, 3) uint8 with no two equal rows or columns."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([x * 5 % 256, y * 5 % 256, (x + y) * 3 % 256], axis=-1).astype(np.uint8)


def photograph(*, jpeg: bool = True, implicit: bool = False, **attributes: object) -> bytes:
    """A VL Photographic Image as a Part 10 file.

    Args:
        jpeg: JPEG baseline, else uncompressed.
        implicit: Implicit VR little endian; only when uncompressed.
        attributes: Set over the defaults; None takes an attribute away.
    """
    dataset = Dataset()
    for keyword, value in (_defaults() | attributes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    if jpeg:
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        stream = BytesIO()
        Image.fromarray(pixels()).save(stream, "JPEG", quality=92)
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.PixelData = encapsulate([stream.getvalue()])
    else:
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = pixels().tobytes()
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _defaults() -> dict[str, object]:
    return {
        "SOPClassUID": VLPhotographicImageStorage,
        "SOPInstanceUID": SOP_UID,
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": SERIES_UID,
        "PatientName": "Doe^Jane",
        "PatientID": "P-001",
        "IssuerOfPatientID": "HOSPITAL-A",
        "PatientBirthDate": "20190212",
        "PatientSex": "F",
        "StudyDate": "20260329",
        "StudyTime": "013000",
        "StudyID": "S1",
        "AccessionNumber": "ACC-77",
        "ReferringPhysicianName": None,
        "Modality": "XC",
        "Manufacturer": "Camera Works",
        "ManufacturerModelName": "Model 5",
        "SeriesNumber": 3,
        "InstanceNumber": 7,
        "AcquisitionDateTime": "20260329013000",
        "TimezoneOffsetFromUTC": "+0100",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "Rows": ROWS,
        "Columns": COLUMNS,
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    }


def appraised(**changes: object) -> SavedAppraisal:
    """An appraisal with a score of every region but the forehead, which was not judged."""
    regions = tuple(
        RegionScore(
            region=region,
            score=None if region is Region.FOREHEAD else 1.25 + index / 8,
            z=None if region is Region.FOREHEAD else -0.5 + index / 4,
            judged=0.0 if region is Region.FOREHEAD else 0.875,
            reason=ExclusionReason.OCCLUDED if region is Region.FOREHEAD else None,
            occluded=0.9 if region is Region.FOREHEAD else 0.0,
        )
        for index, region in enumerate(Region)
    )
    return _saved(
        Appraisal(
            appraisal_id=uuid5(UUID(int=1), "appraised"),
            sop_instance_uid=SOP_UID,
            pixel_sha256="ab" * 32,
            method=METHOD,
            status=AppraisalStatus.APPRAISED,
            reasons=(),
            score=2.34375,
            rating=5.5,
            percentile=61.0,
            regions=regions,
            quality=QualityMeasures(
                faces=1,
                inter_ocular_px=180.5,
                sharpness=212.75,
                mean_luminance=131.0,
                clipped_fraction=0.01,
                yaw_deg=-3.5,
                pitch_deg=2.25,
                roll_deg=0.5,
                blockiness=0.75,
                noise_sigma=2.5,
            ),
            warnings=("forehead left out: hair",),
        ),
        **changes,
    )


def rejected(*reasons: RejectionReason) -> SavedAppraisal:
    """An appraisal of a photograph that could not be judged."""
    saved = appraised()
    appraisal = replace(
        saved.appraisal,
        appraisal_id=uuid5(UUID(int=1), "rejected"),
        status=AppraisalStatus.REJECTED,
        reasons=reasons or (RejectionReason.YAW, RejectionReason.BLURRED),
        score=None,
        rating=None,
        percentile=None,
        regions=(),
        quality=QualityMeasures(faces=1, yaw_deg=31.5),
        warnings=(),
    )
    return replace(saved, appraisal=appraisal, heatmap_sha256="", difference_map_sha256="")


def _saved(appraisal: Appraisal, **changes: object) -> SavedAppraisal:
    saved = SavedAppraisal(
        instance_id=1,
        appraisal=appraisal,
        heatmap_sha256="cd" * 32,
        difference_map_sha256="ef" * 32,
        created_at=CREATED_AT,
    )
    return replace(saved, **changes)  # type: ignore[arg-type]


def context(
    data: bytes | None = None, saved: SavedAppraisal | None = None, organisation: str = "Clinic"
) -> ReportContext:
    """A photograph and its appraisal, to be reported."""
    return ReportContext(
        source=read_source(data if data is not None else photograph(), default_zone("Europe/Berlin")),
        saved=saved if saved is not None else appraised(),
        organisation=organisation,
    )
