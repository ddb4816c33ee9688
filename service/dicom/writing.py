"""Makes data sets of senders fit to be encoded otherwise than they came."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from service.dicom.part10 import READ_ERRORS
from service.dicom.text import decode_strictly, encodings_of

_MOST_DEPTH = 64  # of sequences
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})


_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_SPECIFIC_CHARACTER_SET = 0x00080005


def keep_malformed_as_bytes(
    ds: Dataset, inherited: Sequence[str] = ("iso8859",), depth: int = 0
) -> tuple[str, ...]:
    """Turn what its VR or character set does not allow, as a UL of three bytes, into UN with its bytes.

    Args:
        ds: As read from bytes; it is changed.
        inherited: Python's encodings of the texts around it.
        depth: Of the sequence it is an item of.

    Returns:
        The tags of what was turned, as eight hexadecimal digits.
    """
    turned: list[str] = []
    encodings = _encodings(ds, inherited)
    for tag in list(ds.keys()):
        raw = ds.get_item(tag)
        try:
            if isinstance(raw, RawDataElement) and not _is_as_declared(raw, encodings):
                raise UnicodeError(str(tag))
            element = ds[tag]
            if element.VR == "SQ" and depth < _MOST_DEPTH:
                for item in element.value:
                    turned += keep_malformed_as_bytes(item, encodings, depth + 1)
            elif tag not in _PIXEL_TAGS:
                _try_to_write(ds, element, encodings)
        except READ_ERRORS:
            value = raw.value if isinstance(raw, RawDataElement) else b""
            kept = DataElement(tag, "OB", value if isinstance(value, bytes) else b"")
            kept.VR = "UN"  # pydicom would take the dictionary's at once
            ds[tag] = kept
            turned.append(f"{tag:08X}")
    return tuple(turned)


def _encodings(ds: Dataset, inherited: Sequence[str]) -> Sequence[str]:
    element = ds.get_item(_SPECIFIC_CHARACTER_SET) if _SPECIFIC_CHARACTER_SET in ds else None
    if element is None or not element.value:
        return inherited
    value = element.value
    return encodings_of(value if isinstance(value, bytes | str) else "\\".join(map(str, value)))


def _is_as_declared(raw: RawDataElement, encodings: Sequence[str]) -> bool:
    vr = raw.VR
    if vr is None and dictionary_has_tag(raw.tag):
        vr = dictionary_VR(raw.tag)
    return (
        vr not in _TEXT_VRS
        or not isinstance(raw.value, bytes)
        or decode_strictly(raw.value, encodings) is not None
    )


def _try_to_write(ds: Dataset, element: DataElement, encodings: Sequence[str]) -> None:
    """Encode one element to nowhere.

    Raises:
        READ_ERRORS: It cannot be encoded.
    """
    alone = Dataset()
    alone.add(element)
    alone.set_original_encoding(True, True, ds._character_set)
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, alone, list(encodings))
