"""The foreign decoders; they run in the child only.

libjpeg-turbo (by Pillow, for lossless and 12-bit JPEG by imagecodecs, for its warnings by simplejpeg),
OpenJPEG (by pylibjpeg), CharLS (by pyjpegls), libheif with libde265 (by pi-heif), libpng, libtiff, libwebp,
libavif and Little CMS (by Pillow). All of them but CharLS are fuzzed without pause by OSS-Fuzz. GDCM, which
ends its process on damaged JPEG, is not among them.
"""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pi_heif import register_heif_opener
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from service.codecs.codestream import Announced, Family
from service.codecs.deep_png import eight_bits, is_deep_png
from service.codecs.frame import MAX_PIXELS, FrameGeometry
from service.codecs.scans import check_data, check_scans
from service.errors import UndecodablePhotographError, UnsupportedPhotographError

_RGB = "RGB"
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF")


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What a decoder gives, before it crosses the border."""

    pixels: NDArray[np.generic] | Image.Image  # (H, W) or (H, W, C); a picture is grey or RGB, of 8 bits
    photometric_interpretation: str = _RGB
    notes: tuple[str, ...] = ()


def decode(codestream: bytes, found: Announced, geometry: FrameGeometry) -> Decoded:
    """Decode one frame.

    Args:
        codestream: Of one frame.
        found: Its header.
        geometry: What the data set says of it.

    Raises:
        UndecodablePhotographError, UnsupportedPhotographError: See ``service.codecs.decode.decode_frame``.
    """
    if found.family is Family.JPEG and found.precision == 8:
        return _jpeg(codestream, geometry)
    if found.family in (Family.JPEG, Family.JPEG_LOSSLESS):
        return _deep_jpeg(codestream, found, geometry)
    if found.family is Family.JPEG_LS:
        return _jpeg_ls(codestream, found, geometry)
    return _jpeg_2000(codestream, found, geometry)


def _jpeg(codestream: bytes, geometry: FrameGeometry) -> Decoded:
    """Decode an 8-bit JPEG, taking its colour space from its own stream first.

    JFIF says YCbCr, Adobe's APP14 says which; senders often write a Photometric Interpretation
    that contradicts them, and viewers follow the stream. The attribute decides where it is silent.
    """
    _check_whole(codestream)
    with Image.open(io.BytesIO(codestream), formats=("JPEG",)) as image:
        silent = "jfif" not in image.info and "adobe" not in image.info
        # Then the components are handed over as they are. A picture takes one draft: both wishes at once.
        as_they_are = silent and image.mode == _RGB and geometry.photometric_interpretation == _RGB
        size = image.width // geometry.reduction, image.height // geometry.reduction
        image.draft("YCbCr" if as_they_are else None, size)
        if as_they_are:
            return Decoded(pixels=np.asarray(image))
        if image.mode == "L":
            image.load()
            return Decoded(pixels=image, photometric_interpretation=geometry.photometric_interpretation)
        if image.mode == "CMYK":
            image.load()
            return _converted(image, image.info.get("icc_profile") or b"")
        if image.mode != _RGB:
            raise UnsupportedPhotographError(f"JPEG colour mode {image.mode} is not a photograph's")
        image.load()
        return Decoded(pixels=image)


def _check_whole(codestream: bytes) -> None:
    try:
        check_scans(codestream)
    except (IndexError, struct.error) as exc:
        raise UndecodablePhotographError("the JPEG is damaged: a segment ends too early") from exc
    check_data(codestream)


def _deep_jpeg(codestream: bytes, found: Announced, geometry: FrameGeometry) -> Decoded:
    from imagecodecs import jpeg8_decode

    if found.components == 1:
        pixels = jpeg8_decode(codestream)
    else:  # hand the components over as they are
        pixels = jpeg8_decode(codestream, colorspace="RGB", outcolorspace="RGB")
    return Decoded(pixels=pixels, photometric_interpretation=_named(found, geometry))


def _jpeg_ls(codestream: bytes, found: Announced, geometry: FrameGeometry) -> Decoded:
    import jpeg_ls

    buffer, info = jpeg_ls.decode_pixel_data(codestream)
    pixels = np.frombuffer(buffer, dtype="u1" if found.precision <= 8 else "<u2")
    if found.components == 1:
        pixels = pixels.reshape(found.rows, found.columns)
    elif info["interleave_mode"] == 0:  # by plane
        pixels = pixels.reshape(found.components, found.rows, found.columns).transpose(1, 2, 0)
    else:
        pixels = pixels.reshape(found.rows, found.columns, found.components)
    signed = _signed(pixels, found.precision) if geometry.pixel_representation else pixels
    return Decoded(pixels=signed, photometric_interpretation=_named(found, geometry))


def _jpeg_2000(codestream: bytes, found: Announced, geometry: FrameGeometry) -> Decoded:
    from openjpeg.utils import decode as decode_jpeg_2000

    if found.precision > 16:
        raise UnsupportedPhotographError(f"JPEG 2000 samples of {found.precision} bits")
    pixels = decode_jpeg_2000(codestream)
    if found.is_signed != bool(geometry.pixel_representation):
        kind = pixels.dtype.newbyteorder("=").str.lstrip("<>=|")
        pixels = pixels.view(("i" if geometry.pixel_representation else "u") + kind[1:])
        pixels = _signed(pixels, found.precision) if geometry.pixel_representation else pixels
    name = geometry.photometric_interpretation
    return Decoded(pixels=pixels, photometric_interpretation=_RGB if name in ("YBR_ICT", "YBR_RCT") else name)


def _named(found: Announced, geometry: FrameGeometry) -> str:
    """The colours of the components, by the stream's own word first (as pydicom has it)."""
    name = geometry.photometric_interpretation
    if found.components != 3:
        return name
    if found.component_ids in (tuple(b"RGB"), tuple(b"rgb")):
        return _RGB
    return "YBR_FULL" if found.has_jfif and "YBR" not in name else name


def _signed(pixels: NDArray[np.generic], precision: int) -> NDArray[np.generic]:
    """Two's complement of ``precision`` bits, spread to the whole word."""
    values = pixels.view(f"i{pixels.dtype.itemsize}").copy()
    shift = 8 * pixels.dtype.itemsize - precision
    return np.asarray(np.right_shift(np.left_shift(values, shift), shift))


# --- picture files and colour profiles


def read_picture(data: bytes, reduction: int = 1) -> Decoded:
    """Decode a picture file: upright, and sRGB.

    Args:
        data: The file.
        reduction: By which the sides of a colour JPEG are decoded smaller: 1, 2 or 4.

    Raises:
        UndecodablePhotographError, UnsupportedPhotographError: See ``service.codecs.decode.read_picture``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnsupportedPhotographError(f"{image.width} x {image.height} pixels are too many")
            if is_deep_png(data):
                return Decoded(pixels=eight_bits(_png(data), data))
            if image.format == "JPEG":
                _check_whole(data)
            if image.format == "JPEG" and image.mode == _RGB:
                image.draft(None, (image.width // reduction, image.height // reduction))
            image.load()
            profile = image.info.get("icc_profile") or b""
            return _converted(ImageOps.exif_transpose(image), profile)
    except UnidentifiedImageError as exc:
        raise UndecodablePhotographError(
            "neither DICOM nor a JPEG, PNG, TIFF, WebP, HEIC or AVIF picture"
        ) from exc


def _png(data: bytes) -> NDArray[np.generic]:
    from imagecodecs import png_decode

    return np.asarray(png_decode(data))


def to_srgb(rgb: NDArray[np.uint8], profile: bytes) -> Decoded:
    """Convert through an ICC profile; one that cannot be used is named in the notes."""
    image, notes = _profiled(Image.fromarray(rgb), profile)
    return Decoded(pixels=image, notes=notes)


def _converted(image: Image.Image, profile: bytes) -> Decoded:
    notes: tuple[str, ...] = ()
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = next((each for each in (255.0, 4095.0) if values.max() <= each), 65535.0)
        grey = np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8)
        return Decoded(pixels=np.repeat(grey[..., None], 3, axis=2))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, rgba).convert(_RGB)
    elif image.mode not in (_RGB, "CMYK"):
        profile = profile if image.mode == "YCbCr" else b""
        image = image.convert(_RGB)
    if profile:
        image, notes = _profiled(image, profile)
    elif image.mode != _RGB:
        image = image.convert(_RGB)
    return Decoded(pixels=image, notes=notes)


def _profiled(image: Image.Image, profile: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode=_RGB,
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as exc:
        return image.convert(_RGB), (f"ICC profile not usable, taken as sRGB: {exc}",)
    if converted is None:  # only when converting in place, which is not asked for
        raise UndecodablePhotographError("the ICC conversion returned no picture")
    return converted, ()


def preload() -> None:
    """Import what the functions above need, so that the first photograph does not wait for it."""
    import jpeg_ls  # noqa: F401
    import openjpeg  # noqa: F401
    import simplejpeg  # noqa: F401
    from imagecodecs import jpeg8_decode, png_decode  # noqa: F401

    register_heif_opener()
    warnings.simplefilter("ignore")  # trailing bytes and the like are common and harmless
    Image.init()
    Image.MAX_IMAGE_PIXELS = None  # sizes are judged above
