"""A photograph as the science sees it: sRGB, 8 bits, upright, from DICOM or from an image file.

Every foreign error is translated here. Pixel data that is cut short is an error, never grey:
native pixel data must have the announced length, a JPEG-family frame must reach its end marker
(ISO/IEC 10918-1 B.1.1.3, 14495-1 C.1.1, 15444-1 A.4.4).
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels.common import PhotometricInterpretation as Photometric
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from service.appraisal.photograph.extended_jpeg import decode_extended_jpeg
from service.errors import UndecodablePhotographError, UnsupportedPhotographError

MAX_PIXELS = 150_000_000  # larger than any camera in clinical use; guards memory
MIN_SIDE = 16  # px
_EOI = b"\xff\xd9"
_DECODER_ERRORS = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Photograph:
    """A decoded photograph."""

    rgb: NDArray[np.uint8]  # (H, W, 3) uint8, sRGB, upright, C-contiguous
    pixel_sha256: str  # of the shape and the sRGB pixels, as decoded
    sop_instance_uid: str  # "" for an image file
    warnings: tuple[str, ...] = ()  # what had to be assumed
    reduction: int = 1  # sides of the photograph as sent over those of ``rgb``: 1, 2 or 4
    sent_size: tuple[int, int] | None = None  # rows and columns as sent, upright; None: those of ``rgb``

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
    reduction: int = 1,
    sent_size: tuple[int, int] | None = None,
) -> Photograph:
    """Wrap decoded pixels.

    Args:
        rgb: (H, W, 3) uint8, sRGB.
        sop_instance_uid: Of the source; "" for a file.
        notes: What had to be assumed while decoding.
        reduction: Sides of the photograph as sent over those of ``rgb``.
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
        reduction=reduction,
        sent_size=sent_size,
    )


def reduction_of(rows: int, columns: int, least_side: int | None) -> int:
    """By how much a JPEG can be decoded smaller with its longer side still about ``least_side``: 1, 2 or 4.

    Args:
        rows: Of the photograph.
        columns: Likewise.
        least_side: Pixels the longer side is to keep; None: all.
    """
    if least_side is None:
        return 1
    return next((by for by in (4, 2) if max(rows, columns) >= by * least_side), 1)


def read_photograph(path: Path) -> Photograph:
    """Read a DICOM, JPEG, PNG, TIFF or WebP file.

    Raises:
        UndecodablePhotographError: The file cannot be read or its pixels cannot be decoded.
        UnsupportedPhotographError: It decodes, but is of a kind that is not appraised.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise UndecodablePhotographError(f"{path}: {exc.strerror or exc}") from exc
    return photograph_from_bytes(data)


def photograph_from_bytes(data: bytes, *, least_side: int | None = None) -> Photograph:
    """Decode the bytes of a DICOM Part 10 file or of an image file.

    Args:
        data: The file.
        least_side: Pixels that are enough for the longer side: a JPEG is decoded at a half or a quarter of
            its size where that leaves as many; None decodes it whole.

    Raises:
        UndecodablePhotographError: The pixels cannot be decoded.
        UnsupportedPhotographError: They decode, but are of a kind that is not appraised.
    """
    if data[128:132] == b"DICM":
        return photograph_from_dicom(data, least_side=least_side)
    return _photograph_from_image_file(data, least_side)


# --- DICOM


def photograph_from_dicom(source: bytes | Dataset, *, least_side: int | None = None) -> Photograph:
    """Decode the first frame of a DICOM image (PS3.3 C.7.6.3) to sRGB.

    Pixels keep the orientation in which a viewer shows them: EXIF inside a JPEG frame does not
    count in DICOM, which has Patient Orientation for that.

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
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="End of file reached")
            return dcmread(io.BytesIO(data))
    except (InvalidDicomError, UserWarning, *_DECODER_ERRORS) as exc:
        raise UndecodablePhotographError(f"not a readable DICOM file: {exc}") from exc


def _decode_dataset(dataset: Dataset, least_side: int | None) -> Photograph:
    if "PixelData" not in dataset or not dataset.PixelData:
        raise UndecodablePhotographError("the instance has no Pixel Data")
    _check_size(int(dataset.Rows), int(dataset.Columns))
    pixels, photometric = _first_frame(dataset, least_side)
    if pixels.ndim == 2:
        rgb = _grey_to_rgb(pixels, dataset, photometric)
    elif photometric in (Photometric.RGB, Photometric.YBR_FULL, Photometric.YBR_FULL_422):
        rgb = _to_8_bit(pixels, int(dataset.BitsStored))
    else:
        raise UnsupportedPhotographError(f"photometric interpretation {photometric} is not a photograph's")
    notes: tuple[str, ...] = ()
    profile = _icc_profile(dataset)
    if profile and pixels.ndim == 3:
        rgb, notes = _to_srgb(rgb, profile)
    sent = int(dataset.Rows), int(dataset.Columns)
    return photograph_from_rgb(
        rgb,
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        notes=notes,
        reduction=_reduction(rgb, sent),
        sent_size=sent,
    )


def _reduction(rgb: NDArray[np.uint8], sent: tuple[int, int]) -> int:
    return round(max(sent) / max(rgb.shape[:2]))


def _icc_profile(dataset: Dataset) -> bytes:
    if dataset.get("ICCProfile"):
        return bytes(dataset.ICCProfile)
    for item in dataset.get("OpticalPathSequence") or ():
        if item.get("ICCProfile"):
            return bytes(item.ICCProfile)
    return b""


def _first_frame(dataset: Dataset, least_side: int | None) -> tuple[NDArray[np.generic], str]:
    """First frame, (H, W) or (H, W, 3) and then RGB, with its photometric interpretation."""
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes):
        frame = get_frame(dataset.PixelData, 0, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
        _check_complete(frame)
        if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) and int(dataset.BitsStored) == 8:
            return _jpeg_frame(frame, dataset, least_side)
        if syntax == JPEGExtended12Bit:
            return decode_extended_jpeg(frame, dataset)
    return _decoded_frame(dataset, syntax)


def _decoded_frame(dataset: Dataset, syntax: UID) -> tuple[NDArray[np.generic], str]:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as exc:
        raise UnsupportedPhotographError(f"transfer syntax {syntax} is not supported") from exc
    with warnings.catch_warnings():
        # Trailing padding and odd lengths are common and harmless; too short is an error below.
        warnings.simplefilter("ignore")
        pixels, properties = decoder.as_array(dataset, index=0, decoding_plugin=_plugin(syntax))
    return np.asarray(pixels), str(properties["photometric_interpretation"])


def _plugin(syntax: UID) -> str:
    """Return the decoder to use: one fixed for each syntax, whatever else is installed."""
    if syntax in JPEGLSTransferSyntaxes:
        return "pyjpegls"
    if syntax in JPEG2000TransferSyntaxes:
        return "pylibjpeg"
    return "gdcm" if syntax in JPEGTransferSyntaxes else ""


def _check_complete(frame: bytes) -> None:
    if not frame.rstrip(b"\0\xff").endswith(_EOI):  # both are in use as padding
        raise UndecodablePhotographError("the compressed frame is cut short: it has no end marker")


def _jpeg_frame(frame: bytes, dataset: Dataset, least_side: int | None) -> tuple[NDArray[np.generic], str]:
    """Decode an 8-bit JPEG, taking its colour space from its own stream first.

    JFIF says YCbCr, Adobe's APP14 says which; senders often write a Photometric Interpretation
    that contradicts them, and viewers follow the stream. The attribute decides where it is silent.
    """
    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        if image.size != (int(dataset.Columns), int(dataset.Rows)):
            raise UndecodablePhotographError("the JPEG frame's size differs from Rows and Columns")
        if image.mode == "L":
            return np.asarray(image), str(dataset.PhotometricInterpretation)
        if image.mode != "RGB":
            raise UnsupportedPhotographError(f"JPEG colour mode {image.mode} is not a photograph's")
        silent = "jfif" not in image.info and "adobe" not in image.info
        # Where the stream is silent and the attribute says RGB, hand the components over as they are.
        mode = "YCbCr" if silent and dataset.PhotometricInterpretation == Photometric.RGB else None
        image.draft(mode, _drafted(image, least_side))
        return np.array(image), Photometric.RGB.value


def _drafted(image: Image.Image, least_side: int | None) -> tuple[int, int]:
    """The size to decode a JPEG to: DCT blocks of 8, 4 or 2 pixels a side."""
    by = reduction_of(image.height, image.width, least_side)
    return image.width // by, image.height // by


def _grey_to_rgb(pixels: NDArray[np.generic], dataset: Dataset, photometric: str) -> NDArray[np.uint8]:
    if photometric == Photometric.PALETTE_COLOR:
        coloured = apply_color_lut(pixels, dataset)[..., :3]
        return _to_8_bit(coloured, 8 * coloured.dtype.itemsize)
    if photometric not in (Photometric.MONOCHROME1, Photometric.MONOCHROME2):
        raise UnsupportedPhotographError(f"photometric interpretation {photometric} is not a photograph's")
    windowed = "WindowCenter" in dataset or "VOILUTSequence" in dataset
    if windowed:
        values = np.asarray(apply_voi_lut(apply_modality_lut(pixels, dataset), dataset), dtype=np.float64)
        grey = _stretch(values, float(values.min()), float(values.max()))
    else:
        low = -(2.0 ** (int(dataset.BitsStored) - 1)) if dataset.PixelRepresentation == 1 else 0.0
        grey = _stretch(pixels.astype(np.float64), low, low + 2.0 ** int(dataset.BitsStored) - 1)
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


def _photograph_from_image_file(data: bytes, least_side: int | None) -> Photograph:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF", "WEBP")) as image:
            _check_size(image.height, image.width)
            sent = image.size
            if image.format == "JPEG" and image.mode == "RGB":
                image.draft(None, _drafted(image, least_side))
            image.load()
            profile = image.info.get("icc_profile") or b""
            upright = ImageOps.exif_transpose(image)
            turned = upright.size != image.size and upright.size == image.size[::-1]
            photograph = _convert_image(upright, profile)
            sent_size = sent if turned else sent[::-1]
            return replace(photograph, reduction=_reduction(photograph.rgb, sent_size), sent_size=sent_size)
    except UnidentifiedImageError as exc:
        raise UndecodablePhotographError("neither DICOM nor a JPEG, PNG, TIFF or WebP picture") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise UnsupportedPhotographError(f"the picture is too large: {exc}") from exc
    except _DECODER_ERRORS as exc:
        raise UndecodablePhotographError(f"the picture cannot be decoded: {exc}") from exc


def _convert_image(image: Image.Image, profile: bytes) -> Photograph:
    notes: tuple[str, ...] = ()
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        grey = _stretch(values, 0.0, top)
        return photograph_from_rgb(np.repeat(grey[..., None], 3, axis=2))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, rgba).convert("RGB")
    if image.mode == "CMYK" and profile:
        image, notes = _profile_image(image, profile)
    elif image.mode != "RGB":
        profile = profile if image.mode == "YCbCr" else b""
        image = image.convert("RGB")
        if profile:
            image, notes = _profile_image(image, profile)
    elif profile:
        image, notes = _profile_image(image, profile)
    return photograph_from_rgb(np.array(image), notes=notes)


# --- colour


def _to_srgb(rgb: NDArray[np.uint8], profile: bytes) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    image, notes = _profile_image(Image.fromarray(rgb), profile)
    return np.array(image), notes


def _profile_image(image: Image.Image, profile: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert to sRGB through the ICC profile; a profile that cannot be used is named in the notes."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as exc:
        return image.convert("RGB"), (f"ICC profile not usable, taken as sRGB: {exc}",)
    if converted is None:  # only when converting in place, which is not asked for
        raise UndecodablePhotographError("the ICC conversion returned no picture")
    return converted, ()


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise UnsupportedPhotographError(f"{width} x {height} pixels are too few for a photograph")
    if height * width > MAX_PIXELS:
        raise UnsupportedPhotographError(f"{width} x {height} pixels are more than {MAX_PIXELS}")
