"""JPEG Extended (ISO/IEC 10918-1 process 4) with 12-bit samples: decoded by GDCM.

pydicom refuses it for its GDCM plugin; libgdcm decodes it, in agreement with dcmtk (see the tests). What
the frame says of itself is compared with the data set first, because GDCM trusts the data set.
"""

from __future__ import annotations

import struct

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.common import PhotometricInterpretation as Photometric
from pydicom.uid import JPEGExtended12Bit

from service.errors import UndecodablePhotographError, UnsupportedPhotographError

_SOF_EXTENDED = 0xC1
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_START_OF_SCAN = 0xDA
_PRECISION = 12
_CENTRE = 1 << (_PRECISION - 1)


def decode_extended_jpeg(frame: bytes, dataset: Dataset) -> tuple[NDArray[np.uint16], str]:
    """Decode one frame.

    Args:
        frame: A JPEG stream with samples of 12 bits.
        dataset: What the instance says of it.

    Returns:
        (H, W) or (H, W, 3) uint16, 0..4095, and its photometric interpretation; YBR becomes RGB.

    Raises:
        UndecodablePhotographError: The stream is not what the data set says, or is damaged.
        UnsupportedPhotographError: Colours that are not a photograph's.
    """
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    if _frame_header(frame) != (_PRECISION, rows, columns, samples) or int(dataset.BitsAllocated) != 16:
        raise UndecodablePhotographError("the JPEG frame is not as the data set describes it")
    photometric = str(dataset.PhotometricInterpretation)
    pixels = np.frombuffer(_decoded(frame, dataset, photometric), dtype="<u2")
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    if pixels.size != int(np.prod(shape)):
        raise UndecodablePhotographError("the JPEG frame cannot be decoded")
    decoded = pixels.reshape(shape)
    if samples == 1:
        return decoded, photometric
    if photometric in (Photometric.YBR_FULL, Photometric.YBR_FULL_422):
        return _rgb(decoded), Photometric.RGB.value
    if photometric != Photometric.RGB:
        raise UnsupportedPhotographError(f"photometric interpretation {photometric} is not a photograph's")
    return decoded, photometric


def _frame_header(frame: bytes) -> tuple[int, int, int, int]:
    """Precision, rows, columns and components of the frame header (section B.2.2).

    Raises:
        UndecodablePhotographError: There is none of an extended sequential frame.
    """
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _SOF_EXTENDED and position + 10 <= len(frame):
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 4)
            return precision, rows, columns, components
        if marker == _START_OF_SCAN:
            break
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    raise UndecodablePhotographError("the frame is no JPEG of the extended sequential process")


def _decoded(frame: bytes, dataset: Dataset, photometric: str) -> bytes:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((int(dataset.Columns), int(dataset.Rows), 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if int(dataset.SamplesPerPixel) > 1:
        image.SetPlanarConfiguration(0)
    syntax = gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(int(dataset.SamplesPerPixel), 16, _PRECISION, _PRECISION - 1, 0))
    encoded: str | None = image.GetBuffer()
    if encoded is None:
        raise UndecodablePhotographError("the JPEG frame cannot be decoded")
    return encoded.encode("utf-8", "surrogateescape")  # GDCM gives its char* as text


def _rgb(ybr: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """YBR_FULL to RGB at 12 bits (PS3.3 section C.7.6.3.1.2): (H, W, 3) uint16 both."""
    y, cb, cr = (ybr[..., i].astype(np.float32) for i in range(3))
    cb -= _CENTRE
    cr -= _CENTRE
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    clipped: NDArray[np.uint16] = np.clip(np.rint(rgb), 0, (1 << _PRECISION) - 1).astype(np.uint16)
    return clipped
