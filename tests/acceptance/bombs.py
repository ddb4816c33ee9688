"""Photographs made to do harm: code streams that claim to be huge, damaged ones, frames by the million."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from tests.dicom_objects import photograph
from tests.unit.service.codecs.streams import mutated, stream

CLAIMED = 60_000  # pixels of a side


def holding(codestream: bytes, syntax: UID, family: str) -> Dataset:
    """A photograph whose one frame is a code stream that its header describes truthfully but for damage."""
    geometry = stream(family)[1]
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(geometry.rows, geometry.columns))
    ds.PhotometricInterpretation = geometry.photometric_interpretation
    ds.PixelData = encapsulate([codestream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def grown(family: str, syntax: UID) -> Callable[[], Dataset]:
    """A bomb: the code stream claims to be huge."""

    def make() -> Dataset:
        codestream, geometry = stream(family)
        made = bytearray(codestream)
        at = codestream.index(struct.pack(">HH", geometry.rows, geometry.columns))
        struct.pack_into(">HH", made, at, CLAIMED, CLAIMED)
        return holding(bytes(made), syntax, family)

    return make


def grown_jpeg_2000() -> Dataset:
    made = bytearray(stream("jpeg-2000")[0])
    for at in (8, 24):
        struct.pack_into(">II", made, at, 24_000, 24_000)
    return holding(bytes(made), JPEG2000Lossless, "jpeg-2000")


def damaged_lossless() -> Dataset:
    rng = np.random.default_rng(6)
    return holding(mutated(stream("lossless")[0], rng)[:-200] + b"\xff\xd9", JPEGLosslessSV1, "lossless")


def million_frames() -> Dataset:
    ds = holding(stream("jpeg")[0][:-400] + b"\xff\xd9", JPEGBaseline8Bit, "jpeg")
    ds.NumberOfFrames = 1_000_000
    return ds


BOMBS = {
    "jpeg-ls": grown("jpeg-ls", JPEGLSLossless),
    "jpeg": grown("jpeg", JPEGBaseline8Bit),
    "lossless": grown("lossless", JPEGLosslessSV1),
    "jpeg-2000": grown_jpeg_2000,
    "damaged lossless": damaged_lossless,
    "a million frames": million_frames,
}
