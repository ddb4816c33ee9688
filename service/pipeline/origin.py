"""Whether what came is a patient's photograph, or a picture that some system made of one.

Our own results come back when an archive forwards what it stores; heatmaps of other systems and
screenshots come the same way. They are kept and never appraised.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from enum import StrEnum
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from service.codecs.deflated import InflatesTooFarError, read_header
from service.marks import CODING_SCHEME, MANUFACTURER

_READ_ERRORS = (
    AttributeError, EOFError, InvalidDicomError, LookupError, NotImplementedError, OSError, OverflowError,
    MemoryError, TypeError, ValueError, InflatesTooFarError, struct.error, zlib.error,
)  # fmt: skip
_SECONDARY_CAPTURES = frozenset(
    UID(f"1.2.840.10008.5.1.4.1.1.7{part}") for part in ("", ".1", ".2", ".3", ".4")
)  # PS3.4 table B.5-1
_OVERLAY_GROUPS = range(0x6000, 0x601F, 2)  # PS3.3 section C.9.2
_OVERLAY_DATA = 0x3000


class KeptReason(StrEnum):
    """Why a picture is kept and not appraised."""

    OWN_RESULT = "own-result"  # we made it
    DERIVED_PICTURE = (
        "derived-picture"  # a Secondary Capture that says it was made, of a picture or of nothing
    )
    ANNOTATED = "burned-in-annotation"  # a made picture with text in it: a screenshot
    OVERLAY = "overlay"  # a picture of modality OT with graphics over it


def kept_reason(content: bytes, *, is_known_result: bool, derived_too: bool) -> KeptReason | None:
    """Why a picture is not to be appraised; None for a photograph, and for what cannot be read.

    Args:
        content: The Part 10 file.
        is_known_result: Whether its SOP Instance UID is one of our results.
        derived_too: Whether its sender's derived pictures are appraised all the same; our own never are.
    """
    if is_known_result:
        return KeptReason.OWN_RESULT
    try:
        header, _ = read_header(BytesIO(content))
        if _is_ours(header):
            return KeptReason.OWN_RESULT
        return None if derived_too else _derived(header)
    except _READ_ERRORS:
        return None  # the appraisal says what is wrong with it


def _is_ours(header: Dataset) -> bool:
    """Equipment, derivation and codes of ours: they stay when a UID is written anew."""
    if _text(header, "Manufacturer") == MANUFACTURER:
        return True
    if any(
        _text(item, "Manufacturer") == MANUFACTURER
        for item in _items(header, "ContributingEquipmentSequence")
    ):
        return True
    codes = [
        *_items(header, "DerivationCodeSequence"),
        *_items(header, "CodingSchemeIdentificationSequence"),
        *_items(header, "ConceptNameCodeSequence"),
    ]
    return any(_text(item, "CodingSchemeDesignator") == CODING_SCHEME for item in codes)


def _derived(header: Dataset) -> KeptReason | None:
    made = _text(header, "ImageType").upper().split("\\")[0] == "DERIVED"
    captured = _text(header, "SOPClassUID") in _SECONDARY_CAPTURES
    synthetic = _text(header, "ConversionType").upper() == "SYN"  # PS3.3 section C.8.6.1
    annotated = _text(header, "BurnedInAnnotation").upper() == "YES"
    if captured and (made or synthetic):
        return KeptReason.DERIVED_PICTURE
    if annotated and (captured or made):
        return KeptReason.ANNOTATED
    other = _text(header, "Modality").upper() in ("OT", "") and captured
    overlaid = any((group, _OVERLAY_DATA) in header for group in _OVERLAY_GROUPS)
    if overlaid and (other or _text(header, "Modality").upper() == "OT"):
        return KeptReason.OVERLAY
    return None


def _items(header: Dataset, keyword: str) -> Iterable[Dataset]:
    value: Any = header.get(keyword)
    return value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else ()


def _text(header: Dataset, keyword: str) -> str:
    value: Any = header.get(keyword)
    if isinstance(value, str | bytes | int) or value is None:
        return str(value or "").strip(" \0")
    return "\\".join(str(each) for each in value).strip(" \0")
