"""What a key's value asks for, as conditions on what is held (DICOM PS3.4 section C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from reporting.holdings.attributes import Key
from reporting.holdings.database.holding_records import Condition, MatchKind
from reporting.holdings.names import folded
from service.errors import QueryError

_WILDCARDS = re.compile(r"[*?]")
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?")
_OFFSET = r"(?:[+-](?:0\d|1[0-4])[0-5]\d)?"  # from -1200 to +1400, PS3.5 section 6.2
_MOMENT = rf"\d{{4}}(?:\d{{2}}){{0,5}}(?:\.\d{{1,6}})?{_OFFSET}"
_DATE_TIME_RANGE = re.compile(rf"({_MOMENT})?-({_MOMENT})?")
_DATE_TIME = re.compile(rf"(\d{{4,14}})(?:\.(\d{{1,6}}))?{_OFFSET}")
_LARGEST_DATE_TIME = "99991231235959999999"
_NUMBER_VRS = frozenset({"IS", "US", "SS", "UL", "SL", "UV", "SV"})
_UNTO = {MatchKind.DATE: ("00000000", "99999999"), MatchKind.TIME: ("0" * 12, "9" * 12)}


def condition(key: Key, values: Sequence[str]) -> Condition | None:
    """The condition of a key.

    Args:
        key: Of an attribute that is matched.
        values: As sent, decoded; several are alternatives.

    Returns:
        None for universal matching: no value, or ``*`` alone.

    Raises:
        QueryError: A value is not of the key's value representation.
    """
    given = [value.strip(" \0") for value in values]
    if any("\0" in value for value in given):
        raise QueryError(f"{key.keyword or key.tag} holds a NUL")
    if not any(given) or (given == ["*"] and key.vr not in _RANGES):
        return None
    if key.vr in _RANGES:
        kind, read = _RANGES[key.vr]
        if len(given) > 1:
            raise QueryError(f"{key.keyword or key.tag} takes one value or range")
        return Condition(level=key.level, tag=key.tag, kind=kind, values=read(key, given[0]))
    wanted = [value for value in given if value]
    if key.vr == "PN":
        return Condition(level=key.level, tag=key.tag, kind=MatchKind.NAME, values=_names(wanted))
    if key.vr in _NUMBER_VRS:
        return Condition(level=key.level, tag=key.tag, kind=MatchKind.VALUE, values=_integers(key, wanted))
    if key.vr not in ("UI", "AS") and any(_WILDCARDS.search(value) for value in wanted):
        patterns = tuple(_pattern(value) for value in wanted)
        return Condition(level=key.level, tag=key.tag, kind=MatchKind.PATTERN, values=patterns)
    return Condition(level=key.level, tag=key.tag, kind=MatchKind.VALUE, values=tuple(wanted))


def _pattern(text: str) -> str:
    """A wildcard expression as SQL's LIKE writes it."""
    escaped = re.sub(r"([\\%_])", r"\\\1", text)
    return escaped.replace("*", "%").replace("?", "_")


def _names(values: Sequence[str]) -> tuple[str, ...]:
    patterns = []
    for value in values:
        for group in filter(None, value.split("=")):
            pattern = _pattern(folded(group))
            patterns.append(pattern)
            if pattern.endswith("^%"):  # components at the end that are empty are not written
                patterns.append(pattern.removesuffix("^%"))
    return tuple(patterns)


def _integers(key: Key, values: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(str(int(value)) for value in values)
    except ValueError as exc:
        raise QueryError(f"{key.keyword or key.tag} is a number") from exc


def _split(text: str) -> tuple[str, str]:
    """Both ends of a range; one value is a range of its own."""
    low, separator, high = text.partition("-")
    return (low.strip(), high.strip()) if separator else (text, text)


def _dates(key: Key, text: str) -> tuple[str, str]:
    low, high = _split(text)
    first, last = _UNTO[MatchKind.DATE]
    return _date(key, low, first), _date(key, high, last)


def _date(key: Key, text: str, otherwise: str) -> str:
    if not text:
        return otherwise
    match = _DATE.fullmatch(text)
    if match is None:
        raise QueryError(f"{key.keyword or key.tag} is a date or a range of dates, as YYYYMMDD-YYYYMMDD")
    return "".join(match.groups())


def _times(key: Key, text: str) -> tuple[str, str]:
    low, high = _split(text)
    first, last = _UNTO[MatchKind.TIME]
    return _time(key, low, "000000", first), _time(key, high, "595959", last, "9")


def _time(key: Key, text: str, missing: str, otherwise: str, fill: str = "0") -> str:
    """A time with all its digits; what it does not say is filled."""
    if not text:
        return otherwise
    match = _TIME.fullmatch(text)
    if match is None:
        raise QueryError(f"{key.keyword or key.tag} is a time or a range of times, as HHMMSS-HHMMSS")
    hour, minute, second, fraction = match.groups()
    whole = "".join((hour, minute or missing[2:4], second or missing[4:6]))
    return whole + (fraction or "").ljust(6, fill)


def _date_times(key: Key, text: str) -> tuple[str, str]:
    match = None if _DATE_TIME.fullmatch(text) else _DATE_TIME_RANGE.fullmatch(text)  # -0500 is an offset
    low, high = match.groups() if match is not None else (text, text)
    return (
        _date_time(key, low, "0") if low else "0" * 20,
        _date_time(key, high, "9") if high else _LARGEST_DATE_TIME,
    )


def _date_time(key: Key, text: str, fill: str) -> str:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise QueryError(f"{key.keyword or key.tag} is a date and time or a range of them")
    whole, fraction = match.groups()
    return (whole + (fraction or "")).ljust(20, fill) if len(whole) == 14 else whole.ljust(20, fill)


_RANGES: Mapping[str, tuple[MatchKind, Callable[[Key, str], tuple[str, str]]]] = MappingProxyType(
    {
        "DA": (MatchKind.DATE, _dates),
        "TM": (MatchKind.TIME, _times),
        "DT": (MatchKind.DATE_TIME, _date_times),
    }
)
