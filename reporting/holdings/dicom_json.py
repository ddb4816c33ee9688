"""Data sets in the DICOM JSON Model (DICOM PS3.18 annex F), made of values as they were sent.

Values are not validated: a malformed date is passed on as the text it is. What is large is left out and
named by its place in the data set (``BulkDataURI``, relative), for the server to make a URL of.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from service.dicom.part10 import READ_ERRORS
from service.dicom.text import decode, encodings_of

MOST_INLINE_BYTES = 1024  # of a binary value
_MOST_TEXT_BYTES = 64 * 1024  # of a text value
_MOST_SHORT_TEXT_BYTES = 1024  # of one value of a VR that has 64 characters or fewer
_MOST_DEPTH = 32  # of sequences

_ASCII_TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI"})
_NUMBER_TEXT = frozenset({"IS", "DS"})
_ONE_TEXT = frozenset({"LT", "ST", "UT", "UR"})
_NUMBERS = {
    "US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "UV": "<Q", "SV": "<q", "FL": "<f", "FD": "<d",
}  # fmt: skip
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_AMBIGUOUS = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_PIXEL_REPRESENTATION = 0x00280103
_SPECIFIC_CHARACTER_SET = 0x00080005
_SHORT_TEXT = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UI"})

Element = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a data set is read by."""

    encodings: Sequence[str]  # Python's, of Specific Character Set
    signed: bool  # Pixel Representation
    place: str = ""  # of the data set in the whole one
    depth: int = 0  # of sequences
    left_out: list[str] = field(default_factory=list)  # places of what cannot be read


def to_json(ds: Dataset, left_out: list[str] | None = None) -> dict[str, Element]:
    """Convert a data set that was read from bytes, without group length elements.

    Args:
        ds: As pydicom reads it, elements not looked at yet.
        left_out: Takes the places of elements that cannot be read; the rest is there without them.
    """
    scope = _Scope(
        _encodings(ds, ["iso8859"]),
        _is_signed(ds, signed=False),
        left_out=left_out if left_out is not None else [],
    )
    return _data_set(ds, scope)


def with_bulk_data_at(elements: dict[str, Any], base_url: str) -> dict[str, Any]:
    """The same with absolute BulkDataURIs.

    Args:
        elements: Of ``to_json``.
        base_url: Goes before the places of values; ends with a slash.
    """
    made: dict[str, Any] = {}
    for tag, element in elements.items():
        if "BulkDataURI" in element:
            made[tag] = {**element, "BulkDataURI": base_url + element["BulkDataURI"]}
        elif element["vr"] == "SQ" and "Value" in element:
            items = [with_bulk_data_at(item, base_url) for item in element["Value"]]
            made[tag] = {**element, "Value": items}
        else:
            made[tag] = element
    return made


def _data_set(ds: Dataset, scope: _Scope) -> dict[str, Element]:
    made = {}
    for tag, element in _elements(ds):
        if tag.element == 0:
            continue
        try:
            made[f"{tag:08X}"] = _element(tag, element, scope)
        except READ_ERRORS:
            scope.left_out.append(f"{scope.place}{tag:08X}")
    return made


def _elements(ds: Dataset) -> Iterator[tuple[BaseTag, DataElement | RawDataElement]]:
    for tag in sorted(ds.keys()):
        yield BaseTag(tag), ds.get_item(tag)


def _element(tag: BaseTag, element: DataElement | RawDataElement, scope: _Scope) -> Element:
    vr, value = _vr(tag, element, scope), element.value
    if vr == "SQ":
        return _sequence(tag, element, scope)
    if isinstance(value, bytes):
        place = f"{scope.place}{tag:08X}"
        try:
            return _of_bytes(vr, value, scope.encodings, place)
        except READ_ERRORS:  # malformed for its VR: the bytes as they are
            scope.left_out.append(place)
            return _inline("UN", value) if len(value) <= MOST_INLINE_BYTES else {"vr": "UN"}
    if isinstance(value, MultiValue):
        return {"vr": vr, "Value": [str(each) for each in value]}
    return {"vr": vr} if value in (None, "") else {"vr": vr, "Value": [str(value)]}


def _vr(tag: BaseTag, element: DataElement | RawDataElement, scope: _Scope) -> str:
    vr = element.VR
    if vr is None or (vr == "UN" and not tag.is_private):
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "LO" if tag.is_private_creator else "UN"
    if vr == "US or SS" and scope.signed:
        return "SS"
    return _AMBIGUOUS.get(vr, str(vr))


def _sequence(tag: BaseTag, element: DataElement | RawDataElement, scope: _Scope) -> Element:
    if scope.depth >= _MOST_DEPTH:
        return {"vr": "SQ"}
    if isinstance(element, RawDataElement):
        element = convert_raw_data_element(element._replace(VR="SQ"), encoding=list(scope.encodings))
    items = [
        _data_set(
            item,
            _Scope(
                _encodings(item, scope.encodings),
                _is_signed(item, signed=scope.signed),
                f"{scope.place}{tag:08X}/{number}/",
                scope.depth + 1,
                scope.left_out,
            ),
        )
        for number, item in enumerate(element.value or (), start=1)
    ]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _of_bytes(vr: str, value: bytes, encodings: Sequence[str], place: str) -> Element:
    limit = MOST_INLINE_BYTES if vr in _BINARY else _MOST_TEXT_BYTES
    if not value:
        return {"vr": vr}
    if len(value) > limit:
        return {"vr": vr, "BulkDataURI": place}
    if vr in _BINARY:
        return _inline(vr, value)
    if vr in _SHORT_TEXT and max(map(len, value.split(b"\\"))) > _MOST_SHORT_TEXT_BYTES:
        return {"vr": vr, "BulkDataURI": place}  # no value of such a VR, and too long to be compared
    values = _values(vr, value, encodings)
    while values and values[-1] is None:
        values.pop()
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _inline(vr: str, value: bytes) -> Element:
    return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}


def _values(vr: str, value: bytes, encodings: Sequence[str]) -> list[Any]:
    if vr in _NUMBERS:
        return [_number(number) for (number,) in struct.iter_unpack(_NUMBERS[vr], value)]
    if vr == "AT":
        return [f"{group:04X}{element:04X}" for group, element in struct.iter_unpack("<HH", value)]
    if vr in _ASCII_TEXT | _NUMBER_TEXT:
        convert = _decimal(vr) if vr in _NUMBER_TEXT else _stripped
        return [convert(each) for each in value.decode("latin-1").split("\\")]
    text = decode(value, encodings)
    if vr in _ONE_TEXT:
        return [text.replace("\0", "").rstrip() or None]
    return [_name(each) if vr == "PN" else _stripped(each) for each in text.split("\\")]


def _stripped(text: str) -> str | None:
    return text.replace("\0", "").strip() or None


def _number(number: int | float) -> int | float | str:
    if isinstance(number, float) and not math.isfinite(number):
        return "NaN" if math.isnan(number) else "inf" if number > 0 else "-inf"
    return number


def _decimal(vr: str) -> Callable[[str], int | float | str | None]:
    """Makes a number of a text where it is one, else leaves the text (PS3.18 section F.2.3)."""

    def convert(text: str) -> int | float | str | None:
        stripped = _stripped(text)
        if stripped is None:
            return None
        try:
            number = int(stripped) if vr == "IS" else float(stripped)
        except ValueError:
            return stripped
        return number if math.isfinite(number) else stripped

    return convert


def _name(text: str) -> dict[str, str] | None:
    groups = [group.replace("\0", "").strip() for group in text.split("=")]
    return {key: group for key, group in zip(_NAME_GROUPS, groups, strict=False) if group} or None


def _encodings(ds: Dataset, inherited: Sequence[str]) -> Sequence[str]:
    element = ds.get_item(_SPECIFIC_CHARACTER_SET) if _SPECIFIC_CHARACTER_SET in ds else None
    if element is None or not element.value:
        return inherited
    value = element.value
    if isinstance(value, bytes | str):
        return encodings_of(value)
    return encodings_of("\\".join(map(str, value)))


def _is_signed(ds: Dataset, *, signed: bool) -> bool:
    if _PIXEL_REPRESENTATION not in ds:
        return signed
    value = ds.get_item(_PIXEL_REPRESENTATION).value
    return value == 1 or (isinstance(value, bytes) and int.from_bytes(value, "little") == 1)
