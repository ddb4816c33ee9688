"""Whether two files of one SOP Instance UID are the same photograph, by pixels and header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from reporting.holdings.frames import decoded_frame
from reporting.holdings.instance_file import InstanceFile
from service.dicom.part10 import READ_ERRORS
from service.errors import CorruptInstanceError, ResultError
from service.storage.local import InstanceStore

# Two decoders of a JPEG with loss may round and upsample chroma in their own ways; 0..255.
_MOST_ROUNDING = 3
_ROUNDED = (JPEGBaseline8Bit, JPEGExtended12Bit)
# What another encoding of the same photograph may change.
_OF_ENCODING = frozenset(
    {
        0x00080005,  # Specific Character Set: texts are compared decoded
        0x00280004,  # Photometric Interpretation
        0x00280006,  # Planar Configuration
        0x00282110,  # Lossy Image Compression, and ratio and method
        0x00282112,
        0x00282114,
        0xFFFCFFFC,  # Data Set Trailing Padding
    }
)


@dataclass(frozen=True, kw_only=True)
class Sameness:
    """What two files have in common."""

    pixels: bool
    header: bool  # all that is not about the encoding


def compare(store: InstanceStore, sha256: str, other_sha256: str) -> Sameness:
    """Compare two files.

    Args:
        store: Holds both.
        sha256: Of one.
        other_sha256: Of the other.

    Returns:
        Pixels that cannot be decoded are the same only when they are the same bytes.

    Raises:
        StorageError: The bytes of one are gone.
    """
    try:
        with InstanceFile(store, sha256) as one, InstanceFile(store, other_sha256) as other:
            return Sameness(
                pixels=_same_pixels(one, other), header=_plain(one.header) == _plain(other.header)
            )
    except (CorruptInstanceError, *READ_ERRORS):
        return Sameness(pixels=False, header=False)


def is_same_header(store: InstanceStore, sha256: str, other_sha256: str) -> bool:
    """Whether two files say the same of a photograph, whatever they are encoded in; pixels are not looked at.

    Raises:
        StorageError: The bytes of one are gone.
    """
    try:
        with InstanceFile(store, sha256) as one, InstanceFile(store, other_sha256) as other:
            return _plain(one.header) == _plain(other.header)
    except (CorruptInstanceError, *READ_ERRORS):
        return False


def _same_pixels(one: InstanceFile, other: InstanceFile) -> bool:
    if one.pixels is None or other.pixels is None:
        return one.pixels is None and other.pixels is None
    if one.number_of_frames != other.number_of_frames:
        return False
    syntaxes = {one.transfer_syntax, other.transfer_syntax}
    numbers = range(1, one.number_of_frames + 1)
    return all(_same_frame(one, other, number, syntaxes) for number in numbers)


def _same_frame(one: InstanceFile, other: InstanceFile, number: int, syntaxes: set[UID]) -> bool:
    if len(syntaxes) == 1 and one.frame(number).rstrip(b"\0") == other.frame(number).rstrip(b"\0"):
        return _shape(one) == _shape(other)
    try:
        first, _ = decoded_frame(one, number)
        second, _ = decoded_frame(other, number)
    except ResultError:
        return False
    if first.shape != second.shape:
        return False
    rounded = len(syntaxes) == 2 and bool(syntaxes.intersection(_ROUNDED))
    difference = np.abs(first.astype(np.int32) - second.astype(np.int32))
    return int(difference.max(initial=0)) <= (_MOST_ROUNDING if rounded else 0)


def _shape(file: InstanceFile) -> tuple[str, ...]:
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation")
    return tuple(str(file.header.get(name)) for name in names)


def _plain(header: Dataset) -> dict[int, Any]:
    """The public attributes with a value, comparable whatever they are encoded in."""
    found: dict[int, Any] = {}
    for tag in header.keys():  # noqa: SIM118 -- a Dataset's iterator would decode its elements
        if tag.is_private or tag.element == 0 or tag in _OF_ENCODING:
            continue
        element = header[tag]
        if element.VR == "SQ":
            value: Any = tuple(_frozen(_plain(item)) for item in element.value or ())
        else:
            values = element.value if isinstance(element.value, list | tuple) else [element.value]
            value = tuple(str(each if each is not None else "").strip(" \0") for each in _flat(values))
        if any(value):
            found[int(tag)] = value
    return found


def _flat(values: Any) -> list[Any]:
    return list(values)


def _frozen(plain: dict[int, Any]) -> tuple[tuple[int, Any], ...]:
    return tuple(sorted(plain.items()))
