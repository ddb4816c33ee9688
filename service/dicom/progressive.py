"""Progressive JPEG (1.2.840.10008.1.2.4.55): retired from the standard, made by img2dcm to this day."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian

# JPEG Full Progression, Non-Hierarchical (processes 10 and 12)
PROGRESSIVE_JPEG = UID("1.2.840.10008.1.2.4.55")


def decode_frame(frame: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG of 8 bits, by the colour space it names itself.

    Returns:
        (H, W) or (H, W, 3) uint8, grey or RGB.

    Raises:
        OSError, SyntaxError: It is damaged, or has more than 8 bits.
        ValueError: Its colours are neither grey nor RGB.
    """
    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        if image.mode not in ("L", "RGB"):
            raise ValueError(f"JPEG colour mode {image.mode}")
        return np.array(image)


def decompress(ds: FileDataset) -> None:
    """Decompress the pixels of an instance in place, as ``Dataset.decompress``, progressive JPEG included."""
    if UID(str(ds.file_meta.TransferSyntaxUID)) != PROGRESSIVE_JPEG:
        ds.decompress(generate_instance_uid=False)
        return
    number = int(ds.get("NumberOfFrames") or 1)
    frames = [decode_frame(frame) for frame in generate_frames(ds.PixelData, number_of_frames=number)]
    pixels = b"".join(frame.tobytes() for frame in frames)
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = False
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns = frames[0].shape[:2]
    if frames[0].ndim == 3:
        ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PlanarConfiguration = "RGB", 3, 0
