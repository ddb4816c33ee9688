"""Wrap a plain picture as VL Photographic Image Storage, JPEG baseline, for demonstration and tests.

Identifiers are derived from a name, so the same picture under the same name is the same instance.
Source: DICOM PS3.3 A.32.4 (VL Photographic Image IOD).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit

from dicom_node.encoding.photographic import photographic_image, set_frame

_NAMESPACE = UUID("6f0f3f0e-5d51-5f57-9d0c-0b9a4f6f7a51")
_ACQUIRED = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """What the picture is said to be."""

    name: str  # unique name all UIDs are derived from
    study: str  # pictures of the same study name share the study
    patient_id: str = "SEMBLANCE-DEMO"
    patient_name: str = "Demonstration^Semblance"
    issuer_of_patient_id: str = "SEMBLANCE"
    description: str = "Frontal view of the face"
    instance_number: int = 1


def derived_uid(*parts: str) -> str:
    """Return a UID of the 2.25 root (PS3.5 B.2) that depends on the parts only."""
    return f"2.25.{uuid5(_NAMESPACE, '/'.join(parts)).int}"


def wrap_photograph(rgb: NDArray[np.uint8], wrapping: Wrapping) -> FileDataset:
    """Wrap a picture.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        wrapping: What it is said to be.

    Returns:
        A data set ready to be sent or written; the same arguments give the same bytes.
    """
    dataset = photographic_image(derived_uid("instance", wrapping.name), JPEGBaseline8Bit)
    _identify(dataset, wrapping)
    _describe_acquisition(dataset, wrapping)
    _set_pixels(dataset, rgb)
    return dataset


def _identify(dataset: Dataset, wrapping: Wrapping) -> None:
    """Patient, study and series modules."""
    dataset.PatientName = wrapping.patient_name
    dataset.PatientID = wrapping.patient_id
    dataset.IssuerOfPatientID = wrapping.issuer_of_patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.StudyInstanceUID = derived_uid("study", wrapping.study)
    dataset.StudyDate = f"{_ACQUIRED:%Y%m%d}"
    dataset.StudyTime = f"{_ACQUIRED:%H%M%S}"
    dataset.StudyID = "DEMO"
    dataset.StudyDescription = "Clinical photography"
    dataset.SeriesInstanceUID = derived_uid("series", wrapping.study, "photographs")
    dataset.SeriesNumber = 1


def _describe_acquisition(dataset: Dataset, wrapping: Wrapping) -> None:
    """General image, acquisition context and VL image modules."""
    dataset.InstanceNumber = wrapping.instance_number
    dataset.ImageComments = wrapping.description
    dataset.PatientOrientation = ["L", "F"]
    dataset.ContentDate = dataset.AcquisitionDate = f"{_ACQUIRED:%Y%m%d}"
    dataset.ContentTime = dataset.AcquisitionTime = f"{_ACQUIRED:%H%M%S}"
    dataset.AcquisitionDateTime = f"{_ACQUIRED:%Y%m%d%H%M%S}"
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.BurnedInAnnotation = "NO"
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "89545001", "SCT", "Face"
    dataset.AnatomicRegionSequence = Sequence([region])


def _set_pixels(dataset: Dataset, rgb: NDArray[np.uint8]) -> None:
    """Image pixel module with one JPEG baseline frame (4:2:2 chrominance, so YBR_FULL_422)."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling="4:2:2")
    rows, columns = rgb.shape[:2]
    set_frame(
        dataset,
        buffer.getvalue(),
        rows=rows,
        columns=columns,
        precision=8,
        photometric_interpretation="YBR_FULL_422",
    )
