"""A photograph as the science sees it: sRGB, 8 bits, upright, from DICOM or from an image file.

Every foreign error is translated here. Pixel data that is cut short is an error, never grey:
native pixel data must have the announced length, a JPEG-family frame must reach its end marker.
Compressed frames, picture files and colour profiles are decoded in a child process (``service.codecs``).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.common import PhotometricInterpretation as Photometric
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from service.appraisal.photograph.showing import showing_of
from service.appraisal.photograph.stream import StreamInfo, stream_info
from service.codecs.decode import decode_frame, read_picture, reduction_of, to_srgb
from service.codecs.deflated import is_deflated
from service.codecs.frame import CAMERA_BITS, MAX_PIXELS, geometry_of
from service.dicom.grey import windowed
from service.dicom.part10 import READ_ERRORS, Header, UnreadablePart10Error, read_header, read_whole
from service.dicom.pixels import described, frame_at, photometric_of
from service.dicom.progressive import PROGRESSIVE_JPEG
from service.errors import UndecodablePhotographError, UnsupportedPhotographError

MIN_SIDE = 16  # px
_JPEG = (*JPEGTransferSyntaxes, PROGRESSIVE_JPEG)
_DECODER_ERRORS = (*READ_ERRORS, ArithmeticError, RuntimeError, SyntaxError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Photograph:
    """A decoded photograph."""

    rgb: NDArray[np.uint8]  # (H, W, 3) uint8, sRGB, upright, C-contiguous
    pixel_sha256: str  # of the shape and the sRGB pixels, as decoded
    sop_instance_uid: str  # "" for an image file
    warnings: tuple[str, ...] = ()  # what had to be assumed
    reduction: int = 1  # sides of the photograph as sent over those of ``rgb``: 1, 2 or 4
    sent_size: tuple[int, int] | None = None  # rows and columns as sent, upright; None: those of ``rgb``
    quarters: int = 0  # counter-clockwise turns by which ``rgb`` was stood upright after it was decoded

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.rgb.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.rgb.shape[1])

    @property
    def sent_height(self) -> int:
        """Rows of the photograph as sent."""
        return self.height if self.sent_size is None else self.sent_size[0]

    @property
    def sent_width(self) -> int:
        """Columns of the photograph as sent."""
        return self.width if self.sent_size is None else self.sent_size[1]


def photograph_from_rgb(
    rgb: NDArray[np.uint8],
    *,
    sop_instance_uid: str = "",
    notes: tuple[str, ...] = (),
    sent_size: tuple[int, int] | None = None,
) -> Photograph:
    """Wrap decoded pixels.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        sop_instance_uid: Of the source; "" for a file.
        notes: What had to be assumed while decoding.
        sent_size: Rows and columns as sent, upright; None: those of ``rgb``.

    Raises:
        UnsupportedPhotographError: Too small or too large a picture.
    """
    height, width = rgb.shape[:2]
    _check_size(height, width)
    pixels = np.ascontiguousarray(rgb)
    digest = hashlib.sha256(f"{height}x{width}x3:".encode())
    digest.update(pixels.data)
    pixels.flags.writeable = False
    return Photograph(
        rgb=pixels,
        pixel_sha256=digest.hexdigest(),
        sop_instance_uid=sop_instance_uid,
        warnings=notes,
        reduction=round(max(sent_size or (height, width)) / max(height, width)),
        sent_size=sent_size,
    )


def read_photograph(path: Path) -> Photograph:
    """Read a DICOM, JPEG, PNG, TIFF, WebP, HEIC or AVIF file.

    Raises:
        UndecodablePhotographError: The file cannot be read or its pixels cannot be decoded.
        UnsupportedPhotographError: It decodes, but is of a kind that is not appraised.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise UndecodablePhotographError(f"{path}: {exc.strerror or exc}") from exc
    return photograph_from_bytes(data)


def photograph_from_bytes(data: bytes, *, least_side: int = 0) -> Photograph:
    """Decode the bytes of a DICOM Part 10 file or of an image file.

    Args:
        data: The file.
        least_side: Pixels that are enough for the longer side: a JPEG is decoded at a half or a quarter of
            its size where that leaves as many; 0 decodes it whole.

    Raises:
        UndecodablePhotographError: The pixels cannot be decoded.
        UnsupportedPhotographError: They decode, but are of a kind that is not appraised.
    """
    if data[128:132] == b"DICM":
        return photograph_from_dicom(data, least_side=least_side)
    return _photograph_from_image_file(data, least_side)


# --- DICOM


def photograph_from_dicom(source: bytes | Dataset, *, least_side: int = 0) -> Photograph:
    """Decode the first frame of a DICOM image (PS3.3 C.7.6.3) to sRGB, laid out as viewers show it.

    Orientation, shape of the pixels and colour profile are the data set's; where it is silent, those
    that a JPEG frame brings itself count, as they do in a file.

    Args:
        source: Bytes of a Part 10 file, or a data set whose file meta names the transfer syntax.
        least_side: See ``photograph_from_bytes``.

    Raises:
        UndecodablePhotographError: Not DICOM, pixel data missing, cut short or not decodable.
        UnsupportedPhotographError: No colour or grey photograph, or too large.
    """
    dataset = source if isinstance(source, Dataset) else _parse(source)
    try:
        return _decode_dataset(dataset, least_side)
    except _DECODER_ERRORS as exc:
        raise UndecodablePhotographError(f"pixel data cannot be decoded: {exc}") from exc


def _parse(data: bytes) -> FileDataset:
    """Read a file; of a deflated one, whose bytes may be few, no more than its first frame."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="End of file reached")
            stream = io.BytesIO(data)
            return _with_first_frame(read_header(stream)) if is_deflated(stream) else read_whole(stream)
    except (UnreadablePart10Error, UserWarning, *_DECODER_ERRORS) as exc:
        raise UndecodablePhotographError(f"not a readable DICOM file: {exc}") from exc


def _with_first_frame(header: Header) -> FileDataset:
    """Add the first frame of native pixel data to a header.

    Raises:
        UndecodablePhotographError: The pixel data are longer or shorter than the header says.
    """
    dataset, length = header.dataset, header.pixels.length if header.pixels is not None else None
    if header.pixels is None or length is None:
        return dataset
    _check_size(int(dataset.Rows), int(dataset.Columns))
    samples = 2 if photometric_of(dataset) == Photometric.YBR_FULL_422 else dataset.SamplesPerPixel
    bits = int(dataset.Rows) * int(dataset.Columns) * int(samples) * int(dataset.BitsAllocated)
    frame_bytes, frames = (bits + 7) // 8, int(dataset.get("NumberOfFrames") or 1)
    if not 0 <= length - frame_bytes * frames <= 2:
        raise UndecodablePhotographError(
            f"the pixel data have {length} bytes, where the header says {frame_bytes * frames}"
        )
    header.source.seek(header.pixels.offset)
    dataset.PixelData = header.source.read(frame_bytes)
    dataset.NumberOfFrames = 1
    return dataset


def _decode_dataset(dataset: Dataset, least_side: int) -> Photograph:
    if "PixelData" not in dataset or not dataset.PixelData:
        raise UndecodablePhotographError("the instance has no Pixel Data")
    _check_size(int(dataset.Rows), int(dataset.Columns))
    dataset = described(dataset)
    pixels, photometric, stream = _first_frame(dataset, least_side)
    if pixels.ndim == 2:
        rgb = _grey_to_rgb(pixels, dataset, photometric)
    elif photometric in (Photometric.RGB, Photometric.YBR_FULL, Photometric.YBR_FULL_422):
        rgb = _to_8_bit(pixels, _bits_used(pixels, dataset))
    else:
        raise UnsupportedPhotographError(f"photometric interpretation {photometric} is not a photograph's")
    notes: tuple[str, ...] = ()
    profile = _icc_profile(dataset) or (stream.icc_profile if stream is not None else b"")
    if profile and pixels.ndim == 3:
        converted = to_srgb(rgb, profile)
        rgb, notes = converted.rgb, converted.notes
    showing = showing_of(dataset, stream)
    stored = (int(dataset.Rows), int(dataset.Columns)) if stream is None else (stream.rows, stream.columns)
    sent_size = showing.size(*stored)
    _check_size(*sent_size)
    return photograph_from_rgb(
        showing.apply(rgb),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        notes=notes + showing.notes,
        sent_size=sent_size,
    )


def _icc_profile(dataset: Dataset) -> bytes:
    """The data set's profile; one that cannot be read counts as none."""
    try:
        for item in (dataset, *(dataset.get("OpticalPathSequence") or ())):
            if item.get("ICCProfile"):
                return bytes(item.ICCProfile)
    except READ_ERRORS:
        return b""
    return b""


def _first_frame(dataset: Dataset, least_side: int) -> tuple[NDArray[np.generic], str, StreamInfo | None]:
    """First frame, (H, W) or (H, W, 3) and then RGB, its photometric interpretation, and what a JPEG says."""
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if syntax in (*_JPEG, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes):
        frames = int(dataset.get("NumberOfFrames") or 1)
        frame = frame_at(io.BytesIO(dataset.PixelData), 0, frames)
        geometry = geometry_of(dataset)
        reduction = reduction_of(geometry.rows, geometry.columns, least_side)
        decoded = decode_frame(frame, replace(geometry, reduction=reduction))
        stream = stream_info(frame) if syntax in _JPEG else None
        return decoded.pixels, decoded.photometric_interpretation, stream
    return *_decoded_frame(dataset, syntax), None


def _decoded_frame(dataset: Dataset, syntax: UID) -> tuple[NDArray[np.generic], str]:
    """Decode what is native or RLE: in Python, so here."""
    if syntax.is_encapsulated and syntax != RLELossless:
        raise UnsupportedPhotographError(f"transfer syntax {syntax} is not supported")
    shift = 0 if syntax.is_encapsulated else _high_bits(dataset)
    if shift:
        dataset = copy(dataset)
        dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    with warnings.catch_warnings():
        # Trailing padding and odd lengths are common and harmless; too short is an error below.
        warnings.simplefilter("ignore")
        pixels, properties = get_decoder(syntax).as_array(dataset, index=0, decoding_plugin="")
    return _low_aligned(np.asarray(pixels), shift), str(properties["photometric_interpretation"])


def _high_bits(dataset: Dataset) -> int:
    """By how many bits samples lie too high in their word, if they do as is said (PS3.5 section 8.1.1)."""
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    shift = int(dataset.get("HighBit") or bits - 1) + 1 - bits
    return shift if 0 < shift <= allocated - bits else 0


def _low_aligned(pixels: NDArray[np.generic], shift: int) -> NDArray[np.generic]:
    """Samples shifted down, unless they lie low already."""
    if not shift or int(pixels.max()) < 1 << (8 * pixels.dtype.itemsize - shift):
        return pixels
    return np.asarray(np.right_shift(pixels, np.asarray(shift, dtype=pixels.dtype)))


def _bits_used(pixels: NDArray[np.generic], dataset: Dataset) -> int:
    """Bits of a sample; cameras of 8 to 14 bits are sent as of 16, and would be shown too dark."""
    bits = int(dataset.BitsStored)
    highest = int(pixels.max())
    return next((used for used in CAMERA_BITS if bits == 16 and highest < 1 << used), bits)


def _grey_to_rgb(pixels: NDArray[np.generic], dataset: Dataset, photometric: str) -> NDArray[np.uint8]:
    if photometric == Photometric.PALETTE_COLOR:
        coloured = apply_color_lut(pixels, dataset)[..., :3]
        return _to_8_bit(coloured, 8 * coloured.dtype.itemsize)
    if photometric not in (Photometric.MONOCHROME1, Photometric.MONOCHROME2):
        raise UnsupportedPhotographError(f"photometric interpretation {photometric} is not a photograph's")
    values = windowed(pixels, dataset)
    if values is not None:
        grey = _stretch(values, float(values.min()), float(values.max()))
    else:
        signed = dataset.get("PixelRepresentation") == 1
        bits = int(dataset.BitsStored) if signed else _bits_used(pixels, dataset)
        low = -(2.0 ** (bits - 1)) if signed else 0.0
        grey = _stretch(pixels.astype(np.float64), low, low + 2.0**bits - 1)
    if photometric == Photometric.MONOCHROME1:
        grey = (255 - grey).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _stretch(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (values - low) * (255.0 / max(high - low, 1e-9))
    grey: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return grey


def _to_8_bit(pixels: NDArray[np.generic], bits_stored: int) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8 and bits_stored == 8:
        return np.asarray(pixels, dtype=np.uint8)
    return _stretch(pixels.astype(np.float64), 0.0, 2.0**bits_stored - 1)


# --- image files


def _photograph_from_image_file(data: bytes, least_side: int) -> Photograph:
    picture = read_picture(data, least_side=least_side)
    return photograph_from_rgb(picture.rgb, notes=picture.notes, sent_size=picture.sent_size)


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UnsupportedPhotographError(f"{width} x {height} pixels are too few for a photograph")
    if height * width > MAX_PIXELS:
        raise UnsupportedPhotographError(f"{width} x {height} pixels are more than {MAX_PIXELS}")
