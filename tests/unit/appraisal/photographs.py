"""Photographs as DICOM data sets, encoded every way the product takes."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import gdcm
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    VLPhotographicImageStorage,
)
from skimage import data

EXACT = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless,
)  # fmt: skip
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000)


def portrait() -> np.ndarray:
    """(320, 320, 3) uint8: the head of scikit-image's astronaut, in the public domain."""
    return np.ascontiguousarray(data.astronaut()[0:320, 60:380])


def native(pixels: np.ndarray, photometric: str = "RGB", **elements: object) -> Dataset:
    """A VL Photographic Image of native pixels: (H, W) or (H, W, 3), uint8 or uint16."""
    ds = Dataset()
    ds.SOPClassUID = VLPhotographicImageStorage
    ds.SOPInstanceUID = "2.25.1234567890"
    ds.Rows, ds.Columns = pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.PixelData = np.ascontiguousarray(pixels).tobytes()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def part10(ds: Dataset) -> bytes:
    """The bytes of a Part 10 file."""
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def with_frames(ds: Dataset, frames: list[bytes], syntax: str, photometric: str) -> Dataset:
    """Replace the pixels by encoded frames."""
    ds.PixelData = encapsulate(frames)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax  # type: ignore[assignment]
    ds.PhotometricInterpretation = photometric
    return ds


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    """A JPEG file of the pixels."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92, **options)
    return out.getvalue()


def encoded(pixels: np.ndarray, syntax: str) -> bytes:
    """A Part 10 file of (H, W, 3) uint8 pixels in a transfer syntax."""
    ds = native(pixels)
    if syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        ds.file_meta.TransferSyntaxUID = syntax  # type: ignore[assignment]
        return part10(ds)
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return part10(with_frames(ds, [jpeg(pixels)], syntax, "YBR_FULL_422"))
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return _by_gdcm(part10(ds), syntax)
    options = {"j2k_cr": [8]} if syntax == JPEG2000 else {}
    ds.compress(syntax, generate_instance_uid=False, **options)
    return part10(ds)


def _by_gdcm(plain: bytes, syntax: str) -> bytes:
    """Encode by GDCM, which alone of the libraries at hand writes JPEG lossless."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory) / "plain.dcm", Path(directory) / "lossless.dcm"
        source.write_bytes(plain)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def grained(rgb: np.ndarray) -> np.ndarray:
    """A picture with a camera's noise of 0 to 3 levels, uint8: what a test paints is flat otherwise."""
    noise = np.random.default_rng(0).integers(0, 4, rgb.shape, dtype=np.uint8)
    return np.minimum(rgb, 252) + noise
