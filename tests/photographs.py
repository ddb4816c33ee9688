"""Photographs for tests, wrapped as DICOM objects."""

from __future__ import annotations

import io
from functools import cache
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGExtended12Bit,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
from skimage.data import astronaut

from dicom_node.demo.wrap import Wrapping, wrap_photograph


@cache
def face() -> NDArray[np.uint8]:
    """A face: (512, 512, 3) uint8, sRGB."""
    return np.asarray(astronaut(), dtype=np.uint8)


def photograph(rgb: NDArray[np.uint8] | None = None) -> FileDataset:
    """A photograph with identifiers of its own; of a face unless another picture is given."""
    name = uuid4().hex
    return wrap_photograph(face() if rgb is None else rgb, Wrapping(name=name, study=name))


def undecodable() -> FileDataset:
    """A photograph whose JPEG frame is cut short."""
    dataset = photograph()
    frame = bytes(dataset.PixelData)
    dataset.PixelData = encapsulate([frame[100:2000]])
    return dataset


def faceless() -> FileDataset:
    """A photograph of nothing."""
    return photograph(np.full((256, 256, 3), 180, dtype=np.uint8))


def three_faces() -> FileDataset:
    """A photograph of three people."""
    return photograph(np.hstack([face()] * 3))


def sixteen_bit() -> FileDataset:
    """A face in 16-bit samples of which 12 are used."""
    return _native(face().astype(np.uint16) * 16, "RGB", BitsStored=12, HighBit=11)


def monochrome() -> FileDataset:
    """A face in grey."""
    return _native(np.asarray(Image.fromarray(face()).convert("L")), "MONOCHROME2")


def palette() -> FileDataset:
    """A face in 256 colours of a palette."""
    image = Image.fromarray(face()).quantize(256)
    table = np.array(image.getpalette(), dtype=np.uint16).reshape(256, 3) * 257
    dataset = _native(np.asarray(image), "PALETTE COLOR")
    for column, colour in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table[:, column].tobytes())
    return dataset


def twelve_bit_in_name_only() -> FileDataset:
    """A photograph that says its JPEG has 12-bit samples, and has eight."""
    dataset = photograph()
    dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    return dataset


def printers_colours() -> FileDataset:
    """A photograph whose JPEG holds cyan, magenta, yellow and black."""
    dataset = photograph()
    file = io.BytesIO()
    with Image.open(io.BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1))) as image:
        image.convert("CMYK").save(file, "JPEG")
    dataset.PixelData = encapsulate([file.getvalue()])
    return dataset


def of_class(sop_class_uid: str) -> FileDataset:
    """A face as another SOP class; of two frames where that has several."""
    dataset = photograph()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid  # type: ignore[assignment]
    dataset.ConversionType = "DI"
    if sop_class_uid == MultiFrameTrueColorSecondaryCaptureImageStorage:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.NumberOfFrames = 2
        dataset.PixelData = encapsulate([frame, frame])
        dataset["PixelData"].is_undefined_length = True
    return dataset


def without_patient_id() -> FileDataset:
    """A photograph of nobody known."""
    dataset = photograph()
    del dataset.PatientID
    return dataset


def named(character_set: str, patient_name: str) -> FileDataset:
    """A photograph of somebody whose name is written in a character set."""
    dataset = photograph()
    dataset.SpecificCharacterSet = character_set.split("\\")
    dataset.PatientName = patient_name
    dataset.PatientID = uuid4().hex
    return dataset


def _native(pixels: NDArray[np.generic], photometric: str, **elements: object) -> FileDataset:
    """A photograph of uncompressed pixels, (H, W) or (H, W, 3)."""
    dataset = photograph()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * pixels.dtype.itemsize
    if pixels.ndim == 2:
        dataset.SamplesPerPixel = 1
        del dataset.PlanarConfiguration
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    for keyword in ("LossyImageCompression", "LossyImageCompressionMethod", "LossyImageCompressionRatio"):
        delattr(dataset, keyword)
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
