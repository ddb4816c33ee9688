"""Once lossy, always declared so: what a result says of the compression of its photograph."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from reporting.dicom.context import ReportContext
from reporting.source import text

# Lossy Image Compression Method (0028,2114), PS3.3 section C.7.6.1.1.5.1.
_LOSSY = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
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
    ratio = text(header, "LossyImageCompressionRatio") if declared else ""
    methods = text(header, "LossyImageCompressionMethod") if declared else ""
    if not ratio and identity.rows and identity.columns and context.source.pixel_data_bytes:
        samples = 1 if text(header, "PhotometricInterpretation").startswith("MONOCHROME") else 3
        raw = identity.rows * identity.columns * samples * identity.number_of_frames
        ratio = f"{raw / context.source.pixel_data_bytes:.2f}"
    if ratio:
        image.LossyImageCompressionRatio = ratio.split("\\")
    if methods or method:
        image.LossyImageCompressionMethod = methods.split("\\") if methods else method
