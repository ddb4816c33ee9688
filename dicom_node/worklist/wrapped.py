"""A JPEG file as VL Photographic Image (DICOM PS3.3 section A.32.4), its code stream as it is.

The SOP Instance UID follows from the file's bytes alone, so a worklist that was corrected and is imported
again corrects the same instances; study and series follow from patient, issuer, study and day.
"""

from __future__ import annotations

import hashlib

from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from dicom_node.encoding.photographic import encode, photographic_image, set_frame
from dicom_node.worklist.rows import WorklistRow
from reporting.identifiers import named_uid
from service.codecs.codestream import Announced, Family, announced
from service.codecs.decode import decode_frame
from service.codecs.frame import geometry_of
from service.dicom.progressive import PROGRESSIVE_JPEG
from service.errors import UnsupportedPhotographError

_MADE_BY = "worklist import"  # part of the names that UIDs follow from
_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, PROGRESSIVE_JPEG)  # by the number of the process
_RGB_IDS = (0x52, 0x47, 0x42)  # components named R, G and B


def instance_uid(jpeg: bytes) -> str:
    """SOP Instance UID of a file: the same bytes are the same instance."""
    return named_uid(_MADE_BY, "instance", hashlib.sha256(jpeg).hexdigest())


def study_uid(row: WorklistRow) -> str:
    """Study Instance UID of a row."""
    if row.has_study_uid:
        return row.study
    return named_uid(_MADE_BY, "study", row.issuer, row.patient, row.study, row.day.isoformat())


def wrapped(jpeg: bytes, row: WorklistRow, number: int) -> bytes:
    """Make the Part 10 file of a photograph; the same arguments give the same bytes.

    Args:
        jpeg: The file.
        row: Whose it is.
        number: Of the instance within its study, from 1.

    Raises:
        PhotographError: It is no JPEG of a photograph, or damaged.
        DecoderLostError: It ended the process that decoded it.
    """
    found = _header(jpeg)
    dataset = photographic_image(instance_uid(jpeg), _SYNTAXES[found.process])
    _identify(dataset, row)
    _describe(dataset, row, number)
    set_frame(
        dataset,
        jpeg,
        rows=found.rows,
        columns=found.columns,
        precision=found.precision,
        photometric_interpretation=_photometric(found),
    )
    decode_frame(jpeg, geometry_of(dataset))  # a damaged file is refused now, with its line
    return encode(dataset)


def _identify(dataset: Dataset, row: WorklistRow) -> None:
    """Patient, study and series modules."""
    study = study_uid(row)
    dataset.PatientID = row.patient
    if row.issuer:
        dataset.IssuerOfPatientID = row.issuer
    dataset.PatientName = row.name
    dataset.PatientBirthDate = f"{row.birth_date:%Y%m%d}" if row.birth_date else ""
    dataset.PatientSex = row.sex
    dataset.StudyInstanceUID = study
    dataset.StudyDate = dataset.SeriesDate = f"{row.day:%Y%m%d}"
    dataset.StudyTime = ""
    dataset.StudyID = "" if row.has_study_uid else row.study[:16]
    dataset.StudyDescription = "Clinical photography" if row.has_study_uid or not row.study else row.study
    dataset.SeriesInstanceUID = named_uid(_MADE_BY, "series", row.issuer, row.patient, study)
    dataset.SeriesNumber = 1


def _describe(dataset: Dataset, row: WorklistRow, number: int) -> None:
    """General image, acquisition context and VL image modules."""
    dataset.InstanceNumber = number
    dataset.PatientOrientation = ""  # the EXIF orientation in the file says how it is shown
    dataset.AcquisitionDate = dataset.AcquisitionDateTime = f"{row.day:%Y%m%d}"  # the time is not known
    if row.view:
        dataset.ImageComments = row.view


def _photometric(found: Announced) -> str:
    """PS3.3 section C.7.6.3.1.2: what the samples are, by the markers JPEG readers go by."""
    if found.components == 1:
        return "MONOCHROME2"
    if found.components != 3:
        raise UnsupportedPhotographError(f"{found.components} components a pixel are no DICOM photograph's")
    if found.adobe_transform == 0 or (found.adobe_transform is None and found.component_ids == _RGB_IDS):
        raise UnsupportedPhotographError(
            "its samples are RGB, which no DICOM object holds as JPEG; save it again"
        )
    return "YBR_FULL_422"  # whatever the sampling is: YBR_FULL is none of a VL image


def _header(jpeg: bytes) -> Announced:
    if not jpeg.startswith(b"\xff\xd8"):
        raise UnsupportedPhotographError("it is no JPEG file")
    found = announced(jpeg)
    if found.family is not Family.JPEG:
        raise UnsupportedPhotographError("it is no JPEG file that cameras make")
    if found.components not in (1, 3):
        raise UnsupportedPhotographError(f"{found.components} components a pixel are no photograph's")
    return found
