"""A JPEG file as VL Photographic Image (DICOM PS3.3 section A.32.4), its code stream as it is.

The SOP Instance UID follows from the file's bytes alone, so a worklist that was corrected and is imported
again corrects the same instances; study and series follow from patient, issuer, study and day.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, VLPhotographicImageStorage

from dicom_node.worklist.rows import WorklistRow
from reporting.identifiers import named_uid
from service.codecs.codestream import Family, announced
from service.codecs.decode import decode_frame
from service.codecs.frame import geometry_of
from service.dicom.progressive import PROGRESSIVE_JPEG
from service.errors import UnsupportedPhotographError

_MADE_BY = "worklist import"  # part of the names that UIDs follow from
_SYNTAXES = {0xC0: JPEGBaseline8Bit, 0xC1: JPEGExtended12Bit, 0xC2: PROGRESSIVE_JPEG}
_RGB_IDS = (0x52, 0x47, 0x42)  # components named R, G and B


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """What a JPEG code stream says of itself (ISO/IEC 10918-1 B.2.2)."""

    syntax: UID
    component_ids: tuple[int, ...]
    adobe_transform: int | None  # of the APP14 segment; None without one


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
    stream = _stream(jpeg)
    dataset = FileDataset(
        io.BytesIO(),
        Dataset(),
        file_meta=_meta(jpeg, stream.syntax),
        preamble=b"\0" * 128,
        is_implicit_VR=False,
        is_little_endian=True,
    )
    _identify(dataset, jpeg, row)
    _describe(dataset, row, number)
    _set_pixels(dataset, jpeg, stream)
    decode_frame(jpeg, geometry_of(dataset))  # a damaged file is refused now, with its line
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _meta(jpeg: bytes, syntax: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLPhotographicImageStorage
    meta.MediaStorageSOPInstanceUID = UID(instance_uid(jpeg))
    meta.TransferSyntaxUID = syntax
    return meta


def _identify(dataset: Dataset, jpeg: bytes, row: WorklistRow) -> None:
    """Patient, study, series, equipment and SOP common modules."""
    study = study_uid(row)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = VLPhotographicImageStorage
    dataset.SOPInstanceUID = instance_uid(jpeg)
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
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesInstanceUID = named_uid(_MADE_BY, "series", row.issuer, row.patient, study)
    dataset.SeriesNumber = 1
    dataset.Modality = "XC"
    dataset.ImageLaterality = "U"  # a face is no paired part
    dataset.Manufacturer = ""


def _describe(dataset: Dataset, row: WorklistRow, number: int) -> None:
    """General image, acquisition context and VL image modules."""
    dataset.InstanceNumber = number
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientOrientation = ""  # the EXIF orientation in the file says how it is shown
    dataset.AcquisitionDate = dataset.AcquisitionDateTime = f"{row.day:%Y%m%d}"  # the time is not known
    if row.view:
        dataset.ImageComments = row.view
    dataset.RecognizableVisualFeatures = "YES"
    dataset.AcquisitionContextSequence = Sequence()


def _set_pixels(dataset: Dataset, jpeg: bytes, stream: _Stream) -> None:
    """Image pixel module with the file as its one frame."""
    found = announced(jpeg)
    if found.components not in (1, 3):
        raise UnsupportedPhotographError(f"{found.components} components a pixel are no photograph's")
    samples = found.components
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = _photometric(stream)
    if samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = found.rows, found.columns
    dataset.BitsAllocated = 8 if found.precision == 8 else 16
    dataset.BitsStored = found.precision
    dataset.HighBit = found.precision - 1
    dataset.PixelRepresentation = 0
    size_bytes = found.rows * found.columns * samples * dataset.BitsAllocated // 8
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.LossyImageCompressionRatio = f"{max(1.0, size_bytes / len(jpeg)):.4g}"
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _photometric(stream: _Stream) -> str:
    """PS3.3 section C.7.6.3.1.2: what the samples are, by the markers JPEG readers go by."""
    if len(stream.component_ids) == 1:
        return "MONOCHROME2"
    if stream.adobe_transform == 0 or (stream.adobe_transform is None and stream.component_ids == _RGB_IDS):
        raise UnsupportedPhotographError(
            "its samples are RGB, which no DICOM object holds as JPEG; save it again"
        )
    return "YBR_FULL_422"  # whatever the sampling is: YBR_FULL is none of a VL image


def _stream(jpeg: bytes) -> _Stream:
    if not jpeg.startswith(b"\xff\xd8"):
        raise UnsupportedPhotographError("it is no JPEG file")
    if announced(jpeg).family is not Family.JPEG:
        raise UnsupportedPhotographError("it is no JPEG file that cameras make")
    position, transform = 2, None
    while True:  # ``announced`` has walked here before: the segments are there
        while jpeg[position + 1] == 0xFF:
            position += 1
        marker = jpeg[position + 1]
        (length,) = struct.unpack_from(">H", jpeg, position + 2)
        body = jpeg[position + 4 : position + 2 + length]
        if marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            transform = body[11]
        if marker in _SYNTAXES:
            components = [body[6 + 3 * number : 9 + 3 * number] for number in range(body[5])]
            return _Stream(
                syntax=_SYNTAXES[marker],
                component_ids=tuple(component[0] for component in components),
                adobe_transform=transform,
            )
        position += 2 + length
