"""What describes pixel data, and where its frames are, as viewers take it."""

from __future__ import annotations

from copy import copy
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets


def photometric_of(dataset: Dataset) -> str:
    """Photometric Interpretation without padding and in capital letters; "" where there is none."""
    return str(dataset.get("PhotometricInterpretation") or "").strip(" \0").upper()


def described(dataset: Dataset) -> Dataset:
    """A data set whose pixels are described as PS3.3 section C.7.6.3 has it; the same where they are already.

    Photometric Interpretation may be padded or in small letters; without Planar Configuration it is 0.

    Args:
        dataset: With the Image Pixel module.
    """
    photometric = photometric_of(dataset)
    is_silent = dataset.get("PlanarConfiguration") in (None, "")
    by_pixel = dataset.get("SamplesPerPixel") == 3 and is_silent
    if photometric == str(dataset.get("PhotometricInterpretation") or "") and not by_pixel:
        return dataset
    made = copy(dataset)
    made.PhotometricInterpretation = photometric
    if by_pixel:
        made.PlanarConfiguration = 0
    return made


def frame_at(source: BinaryIO, index: int, number_of_frames: int) -> bytes:
    """One frame of encapsulated pixel data.

    Of a single frame all fragments are its own, wherever a Basic Offset Table says that it begins.

    Args:
        source: At the Basic Offset Table; it is there again afterwards.
        index: From 0.
        number_of_frames: As the data set says, at least 1.

    Raises:
        ValueError and what else pydicom raises of fragments that make no sense.
    """
    begin = source.tell()
    if number_of_frames > 1 or len(parse_basic_offsets(source)) > 1:
        source.seek(begin)
        return get_frame(source, index, number_of_frames=number_of_frames)
    frame = b"".join(generate_fragments(source))
    source.seek(begin)
    return frame
