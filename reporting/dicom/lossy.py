"""Once lossy, always declared so: what a result says of the compression of its photograph."""

from __future__ import annotations

import re

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from reporting.dicom.context import ReportContext
from reporting.source import text
from service.dicom.progressive import PROGRESSIVE_JPEG

_DS = re.compile(r"(?=.{1,16}$)\d+(\.\d*)?|(?=.{1,16}$)\.\d+")  # PS3.5 section 6.2; a ratio has no sign
_CS = re.compile(r"[A-Z0-9_ ]{1,16}")
# Lossy Image Compression Method (0028,2114), PS3.3 section C.7.6.1.1.5.1.
_LOSSY = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    PROGRESSIVE_JPEG: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}


def declare_loss(image: Dataset, context: ReportContext) -> None:
    """Set the Lossy Image Compression attributes (PS3.3 section C.7.6.1.1.5) from the photograph's own.

    Args:
        image: The result; altered.
        context: Its photograph; where that declares nothing, its transfer syntax and size decide.
    """
    header, identity = context.source.header, context.source.identity
    declared = text(header, "LossyImageCompression") == "01"
    method = _LOSSY.get(UID(identity.transfer_syntax_uid))
    if not declared and method is None:
        image.LossyImageCompression = "00"
        return
    image.LossyImageCompression = "01"
    ratios = _well_formed(header, "LossyImageCompressionRatio", _DS) if declared else []
    methods = _well_formed(header, "LossyImageCompressionMethod", _CS) if declared else []
    if not ratios and identity.rows and identity.columns and context.source.pixel_data_bytes:
        samples = 1 if text(header, "PhotometricInterpretation").startswith("MONOCHROME") else 3
        raw = identity.rows * identity.columns * samples * identity.number_of_frames
        ratios = [f"{raw / context.source.pixel_data_bytes:.2f}"[:16]]
    if ratios:
        image.LossyImageCompressionRatio = ratios
    if methods or method:
        image.LossyImageCompressionMethod = methods or method


def declare_jpeg(image: Dataset, ratio: float) -> None:
    """Add our own JPEG compression, the last of those declared (PS3.3 section C.7.6.1.1.5).

    Args:
        image: The result, with the photograph's own losses declared; altered.
        ratio: Uncompressed over compressed size.
    """
    before = image.LossyImageCompression == "01"
    image.LossyImageCompression = "01"
    ratios, methods = (
        _listed(image.get(keyword)) if before else []
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
    )
    image.LossyImageCompressionMethod = [*methods, _LOSSY[JPEGBaseline8Bit]]
    if len(ratios) == len(methods):  # of an earlier loss whose ratio nobody knows, none is made up
        image.LossyImageCompressionRatio = [*ratios, f"{ratio:.2f}"[:16]]


def _listed(value: object) -> list[object]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _well_formed(header: Dataset, keyword: str, pattern: re.Pattern[str]) -> list[str]:
    """Values of an attribute if every one is well formed, else none."""
    values = [value.strip() for value in text(header, keyword).split("\\")]
    return values if all(pattern.fullmatch(value) for value in values) else []
