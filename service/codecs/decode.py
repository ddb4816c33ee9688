"""The border: bytes of a stranger in, pixels or a typed error out."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import convert_color_space

from service.codecs.codestream import Family, announced, check, check_complete, is_own_word
from service.codecs.frame import MAX_PIXELS, DecodedFrame, DecodedPicture, FrameGeometry
from service.codecs.pool import CodecPool, shared_pool
from service.errors import UndecodablePhotographError

_ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_YBR = ("YBR_FULL", "YBR_FULL_422")


def decode_frame(codestream: bytes, geometry: FrameGeometry, pool: CodecPool | None = None) -> DecodedFrame:
    """Decode one compressed frame: JPEG, JPEG Lossless, JPEG-LS or JPEG 2000.

    Args:
        codestream: Of one frame; which of these it is, it says itself.
        geometry: What the data set says of it; its size must be the code stream's, rows and columns may be
            exchanged. What is no 8-bit JPEG is decoded whole, whatever reduction is asked for.
        pool: Who decodes; None for the process's own.

    Returns:
        (H, W) or (H, W, 3) samples; three components that were YBR, and four of printers, are RGB.

    Raises:
        UndecodablePhotographError: It is damaged, needs more memory than is allowed, or is not what the
            data set describes.
        UnsupportedPhotographError: Colours or bits that are not a photograph's.
        DecoderLostError: It ended the process that decoded it, or took too long.
    """
    found = announced(codestream)
    if (found.rows, found.columns) == (geometry.columns, geometry.rows):
        # The sender wrote the data set for the picture as its EXIF orientation turns it.
        geometry = replace(geometry, rows=found.rows, columns=found.columns)
    check(found, geometry)
    components = 1 if found.components == 1 else 3
    if is_own_word(found):
        colours = geometry.photometric_interpretation
        if (components == 1) != (colours in _ONE_SAMPLE):
            colours = "MONOCHROME2" if components == 1 else "YBR_FULL"  # unless its markers say otherwise
        geometry = replace(geometry, samples_per_pixel=components, photometric_interpretation=colours)
    check_complete(codestream)
    if found.family is not Family.JPEG or found.precision != 8:
        geometry = replace(geometry, reduction=1)
    samples = geometry.rows * geometry.columns * components
    answer = (pool or shared_pool()).ask(
        {"what": "frame", "geometry": asdict(geometry)},
        codestream,
        samples * (1 if found.precision <= 8 else 2),
    )
    shape = (-(-geometry.rows // geometry.reduction), -(-geometry.columns // geometry.reduction))
    if answer.pixels.shape != (shape if components == 1 else (*shape, components)):
        raise UndecodablePhotographError("the compressed frame decodes to another size than it says")
    return _as_rgb(answer.pixels, answer.photometric_interpretation, found.precision)


def read_picture(data: bytes, pool: CodecPool | None = None, *, least_side: int = 0) -> DecodedPicture:
    """Decode a JPEG, PNG, TIFF, WebP, HEIC or AVIF file.

    Args:
        data: The file.
        pool: Who decodes; None for the process's own.
        least_side: Pixels that are enough for the longer side of a JPEG; 0 decodes it whole.

    Raises:
        UndecodablePhotographError, UnsupportedPhotographError, DecoderLostError: As of ``decode_frame``.
    """
    sent = _jpeg_size(data) if least_side else None
    reduction = reduction_of(*sent, least_side) if sent is not None else 1
    request = {"what": "picture", "reduction": reduction}
    picture = _picture(*_asked(pool or shared_pool(), request, data))
    if sent is None or reduction == 1:
        return picture
    as_stored = picture.rgb.shape[:2] == (-(-sent[0] // reduction), -(-sent[1] // reduction))
    return replace(picture, sent_size=sent if as_stored else sent[::-1])


def _asked(
    pool: CodecPool, request: dict[str, object], data: bytes
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    answer = pool.ask(request, data, 3 * MAX_PIXELS)
    return answer.pixels, answer.notes


def reduction_of(rows: int, columns: int, least_side: int) -> int:
    """By how much a JPEG is decoded smaller so that its longer side keeps ``least_side`` pixels: 1, 2 or 4.

    Args:
        rows: Of the photograph.
        columns: Likewise.
        least_side: 0 decodes it whole.
    """
    return next((by for by in (4, 2) if 0 < by * least_side <= max(rows, columns)), 1)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG file by its header; None of any other."""
    try:
        found = announced(data)
    except UndecodablePhotographError:
        return None
    return (found.rows, found.columns) if found.family is Family.JPEG else None


def to_srgb(rgb: NDArray[np.uint8], profile: bytes, pool: CodecPool | None = None) -> DecodedPicture:
    """Convert through an ICC profile, which is foreign too; one that cannot be used is named in the notes.

    Args:
        rgb: (H, W, 3) uint8.
        profile: As stored.
        pool: Who converts; None for the process's own.

    Raises:
        UndecodablePhotographError, DecoderLostError: As of ``decode_frame``.
    """
    data = np.ascontiguousarray(rgb).tobytes() + profile
    answer = (pool or shared_pool()).ask({"what": "srgb", "shape": rgb.shape}, data, rgb.nbytes)
    return _picture(answer.pixels, answer.notes)


def _picture(pixels: NDArray[np.generic], notes: tuple[str, ...]) -> DecodedPicture:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UndecodablePhotographError("the picture is not one of 8-bit colours")
    return DecodedPicture(rgb=np.asarray(pixels, dtype=np.uint8), notes=notes)


def _as_rgb(pixels: NDArray[np.generic], photometric: str, precision: int) -> DecodedFrame:
    if pixels.ndim == 3 and photometric in _YBR:
        rgb = convert_color_space(pixels, photometric, "RGB") if precision == 8 else _deep(pixels, precision)
        return DecodedFrame(pixels=rgb, photometric_interpretation="RGB")
    return DecodedFrame(pixels=pixels, photometric_interpretation=photometric)


def _deep(ybr: NDArray[np.generic], precision: int) -> NDArray[np.uint16]:
    """YBR_FULL to RGB at more than 8 bits (PS3.3 section C.7.6.3.1.2): (H, W, 3) uint16 both."""
    centre = 1 << (precision - 1)
    y, cb, cr = (ybr[..., i].astype(np.float32) for i in range(3))
    cb -= centre
    cr -= centre
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    clipped: NDArray[np.uint16] = np.clip(np.rint(rgb), 0, (1 << precision) - 1).astype(np.uint16)
    return clipped
