"""A JPEG as VL Photographic Image, for whoever has a picture and no camera (DICOM PS3.3 section A.32.4)."""

from __future__ import annotations

import io

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, VLPhotographicImageStorage


def photographic_image(sop_instance_uid: str, transfer_syntax_uid: UID) -> FileDataset:
    """A data set with what every photograph of a face has; patient, study and pixels are to be set.

    Args:
        sop_instance_uid: Of the photograph.
        transfer_syntax_uid: Of its JPEG.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLPhotographicImageStorage
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = transfer_syntax_uid
    dataset = FileDataset(
        io.BytesIO(),
        Dataset(),
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=False,
        is_little_endian=True,
    )
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = VLPhotographicImageStorage
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.Manufacturer = ""
    dataset.Modality = "XC"
    dataset.ImageLaterality = "U"  # a face is no paired part
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.RecognizableVisualFeatures = "YES"
    dataset.AcquisitionContextSequence = Sequence()
    return dataset


def set_frame(
    dataset: Dataset, jpeg: bytes, *, rows: int, columns: int, precision: int, photometric_interpretation: str
) -> None:
    """Set the image pixel module, with a JPEG as its one frame.

    Args:
        dataset: Gets it.
        jpeg: Code stream, kept as it is.
        rows: Of the picture.
        columns: Of the picture.
        precision: Bits of a sample, 8 to 16.
        photometric_interpretation: MONOCHROME2, or the name of three colours.
    """
    samples = 1 if photometric_interpretation == "MONOCHROME2" else 3
    dataset.SamplesPerPixel = samples
    dataset.PhotometricInterpretation = photometric_interpretation
    if samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = 8 if precision == 8 else 16
    dataset.BitsStored = precision
    dataset.HighBit = precision - 1
    dataset.PixelRepresentation = 0
    size_bytes = rows * columns * samples * dataset.BitsAllocated // 8
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.LossyImageCompressionRatio = f"{max(1.0, size_bytes / len(jpeg)):.4g}"
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def encode(dataset: FileDataset) -> bytes:
    """Encode a data set as a Part 10 file; equal data sets give equal bytes."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
