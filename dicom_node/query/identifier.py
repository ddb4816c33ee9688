"""Identifiers of requests and answers (DICOM PS3.4 sections C.4.1.1.3 and C.4.2.1.4)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydicom import config
from pydicom.charset import python_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from reporting.holdings.attributes import LEVEL_ORDER, UNIQUE_KEYS, Key, is_at_or_above, key_of
from reporting.holdings.database.holding_records import Condition, HoldingQuery, Level
from reporting.holdings.dicom_json import to_json
from reporting.holdings.matching import condition
from service.dicom.part10 import READ_ERRORS
from service.errors import QueryError

_log = structlog.get_logger(__name__)

_LEVEL, _CHARACTER_SET, _TIMEZONE = "00080052", "00080005", "00080201"
_NOT_KEYS = frozenset({_LEVEL, _CHARACTER_SET, _TIMEZONE, "00080053", "00080054"})
_UTF_8 = "ISO_IR 192"
_MOST_DS_DIGITS = 10  # so that the text fits in DS's 16 characters


@dataclass(frozen=True, kw_only=True)
class Identifier:
    """A request, understood."""

    query: HoldingQuery
    keys: tuple[Key, ...]  # asked for, to be returned
    unmatched: tuple[str, ...]  # keywords with a value that was not compared
    character_set: str  # of the request

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What must match."""
        return self.query.conditions


def read_find(ds: Dataset, *, relational: bool) -> Identifier:
    """Understand the identifier of a C-FIND.

    Args:
        ds: As pydicom reads it.
        relational: Whether keys of upper levels may be missing.

    Raises:
        QueryError: It is none of this SOP class, or a value is malformed.
    """
    elements = to_json(ds)
    level = _level(elements)
    conditions, keys, unmatched = [], [], []
    for tag, element in elements.items():
        if tag in _NOT_KEYS:
            continue
        key = key_of(tag)
        keys.append(key)
        values = texts(element)
        if not any(values) and element["vr"] != "SQ":
            continue
        if not key.matched or not is_at_or_above(key.level, level):
            if element["vr"] != "SQ" or _has_value(element):
                unmatched.append(key.keyword or key.tag)
            continue
        found = condition(key, values)
        if found is not None:
            conditions.append(found)
    if not relational:
        _check_hierarchy(conditions, level)
    return Identifier(
        query=HoldingQuery(level=level, conditions=tuple(conditions)),
        keys=tuple(keys),
        unmatched=tuple(unmatched),
        character_set=(texts(elements.get(_CHARACTER_SET, {})) or [""])[0],
    )


def read_retrieve(ds: Dataset, *, relational: bool) -> Identifier:
    """Understand the identifier of a C-MOVE or C-GET: unique keys only, the level's own a list.

    Raises:
        QueryError: It is none of this SOP class.
    """
    elements = to_json(ds)
    level = _level(elements)
    conditions = []
    for tag in UNIQUE_KEYS.values():
        values = [value for value in texts(elements.get(tag, {})) if value]
        if values:
            key = key_of(tag)
            if not is_at_or_above(key.level, level):
                raise QueryError(f"{key.keyword} is below the level {level}")
            found = condition(key, values)
            if found is not None:
                conditions.append(found)
    if UNIQUE_KEYS[level] not in {each.tag for each in conditions}:
        raise QueryError(f"{key_of(UNIQUE_KEYS[level]).keyword} is missing")
    if not relational:
        _check_hierarchy(conditions, level)
    return Identifier(
        query=HoldingQuery(level=level, conditions=tuple(conditions)),
        keys=(),
        unmatched=(),
        character_set="",
    )


def _level(elements: Mapping[str, Any]) -> Level:
    values = texts(elements.get(_LEVEL, {}))
    if not values or values[0] not in list(Level):
        raise QueryError(f"Query/Retrieve Level is one of {', '.join(Level)}")
    return Level(values[0])


def _check_hierarchy(conditions: Sequence[Condition], level: Level) -> None:
    """Each level above has one value of its unique key (PS3.4 section C.4.1.3.1.1)."""
    for above in LEVEL_ORDER[: LEVEL_ORDER.index(level)]:
        tag = UNIQUE_KEYS[above]
        values = [value for each in conditions if each.tag == tag for value in each.values]
        if len(values) != 1:
            raise QueryError(f"one {key_of(tag).keyword} is needed at level {level}")


def texts(element: Mapping[str, Any]) -> list[str]:
    """Values of an element of the DICOM JSON Model, as text."""
    return [_text(value) for value in element.get("Value", ())]


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        names = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(names).rstrip("=")
    return "" if value is None else str(value)


def _has_value(element: Mapping[str, Any]) -> bool:
    """Whether any attribute in the items of a sequence has a value."""
    return any(
        _has_value(inner) if inner["vr"] == "SQ" else any(texts(inner))
        for item in element.get("Value", ())
        for inner in item.values()
    )


def answer(known: Mapping[str, Any], identifier: Identifier, ae_title: str) -> Dataset:
    """The identifier of one match.

    Args:
        known: Every attribute of the match, in the DICOM JSON Model.
        identifier: Of the request.
        ae_title: Ours, where it is retrieved from.
    """
    level = identifier.query.level
    tags = {key.tag for key in identifier.keys}
    tags |= {UNIQUE_KEYS[each] for each in LEVEL_ORDER[: LEVEL_ORDER.index(level) + 1]}
    elements = {tag: known.get(tag, {"vr": key_of(tag).vr}) for tag in sorted(tags)}
    elements["00080052"] = {"vr": "CS", "Value": [level.value]}
    elements["00080054"] = {"vr": "AE", "Value": [ae_title]}
    elements["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    ds = to_data_set(elements)
    character_set = _character_set(elements, identifier.character_set)
    if character_set:
        ds.add(_element(0x00080005, "CS", [character_set]))
    return ds


def to_data_set(elements: Mapping[str, Any]) -> Dataset:
    """A data set of the DICOM JSON Model; values are not validated, bulk data are left empty."""
    ds = Dataset()
    for tag, element in sorted(elements.items()):
        try:
            ds.add(_of_json(int(tag, 16), element))
        except READ_ERRORS:  # of a sender's making: without a value, never without the rest
            _log.warning("not-all-answered", left_out=tag)
    return ds


def _of_json(tag: int, element: Mapping[str, Any]) -> DataElement:
    """One element.

    Raises:
        READ_ERRORS: Its values are not of its VR.
    """
    vr = element["vr"]
    if vr == "SQ":
        return DataElement(tag, "SQ", DicomSequence([to_data_set(i) for i in element.get("Value", ())]))
    if "InlineBinary" in element:
        return _element(tag, vr, base64.b64decode(element["InlineBinary"]))
    return _element(tag, vr, [_native(vr, value) for value in element.get("Value", ())])


def _element(tag: int, vr: str, value: object) -> DataElement:
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else value or None
    return DataElement(tag, vr[:2], value, validation_mode=config.IGNORE)


def _native(vr: str, value: object) -> object:
    if vr in ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"):
        return float(value) if isinstance(value, str) else value  # "NaN", "inf"
    if vr == "AT":
        return int(str(value), 16)
    if vr == "DS" and isinstance(value, float):
        return f"{value:.{_MOST_DS_DIGITS}g}"
    return _text(value)


def _character_set(elements: Mapping[str, Any], asked_in: str) -> str:
    """The character set of an answer: none if it is ASCII, the request's if that will do, else UTF-8."""
    text = _all_text(elements)
    if text.isascii():
        return ""
    encoding = python_encoding.get(asked_in, "")
    if encoding and asked_in.startswith("ISO_IR"):
        try:
            text.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return _UTF_8
        return asked_in
    return _UTF_8


def _all_text(elements: Mapping[str, Any]) -> str:
    parts = []
    for element in elements.values():
        if element["vr"] == "SQ":
            parts += [_all_text(item) for item in element.get("Value", ())]
        else:
            parts += texts(element)
    return "".join(parts)
