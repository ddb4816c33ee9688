"""QIDO-RS: searches for studies, series and instances (DICOM PS3.18 section 10.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import tag_for_keyword
from starlette.responses import JSONResponse, Response

from reporting.dicomweb.call import Call
from reporting.dicomweb.numbers import whole_number
from reporting.dicomweb.problem import DicomwebError, not_acceptable
from reporting.holdings.answers import attributes_of
from reporting.holdings.attributes import (
    DEFAULT_TAGS,
    LEVEL_ORDER,
    UNIQUE_KEYS,
    is_at_or_above,
    key_of,
    tag_of,
)
from reporting.holdings.database import holding_queries
from reporting.holdings.database.holding_records import Condition, HoldingQuery, Level, Match, MatchKind
from reporting.holdings.dicom_json import with_bulk_data_at
from reporting.holdings.matching import condition
from service.database.pool import transaction
from service.errors import QueryError

DICOM_JSON = "application/dicom+json"
_JSON_NAMES = (DICOM_JSON, "application/json")
MOST_MATCHES = 1000  # in one answer
_LARGEST = 2**63 - 1 - MOST_MATCHES - 1  # what PostgreSQL takes as an offset
_MOST_DIGITS = 400
_CONTROL = frozenset({"limit", "offset", "fuzzymatching", "includefield", "accept", "charset"})
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_CHARACTER_SET = "00080005"
_RETRIEVE_URL = tag_of("RetrieveURL")


@dataclass(kw_only=True)
class _Asked:
    """The query part of the URL, understood."""

    conditions: list[Condition] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)  # tags to return beside the usual
    everything: bool = False
    limit: int = MOST_MATCHES
    offset: int = 0
    warnings: list[str] = field(default_factory=list)


def served_json(call: Call) -> str:
    """The JSON media type to answer with.

    Raises:
        DicomwebError: 406.
    """
    for each in call.accepted():
        if not each.multipart:
            for name in _JSON_NAMES:
                if each.takes(name):
                    return name
    raise not_acceptable(DICOM_JSON)


def search(call: Call, level: Level) -> Response:
    """Serve a search.

    Args:
        call: The path may bound it to a study and a series.
        level: Of the answers.
    """
    content_type = served_json(call)
    asked = _asked(call, level)
    conditions = [*asked.conditions, *_path_conditions(call)]
    call.current()
    query = HoldingQuery(
        level=level,
        conditions=tuple(conditions),
        patients=call.patients,
        limit=asked.limit + 1,
        offset=asked.offset,
    )
    with transaction(call.service.api.pool) as connection:
        found = holding_queries.search(connection, query)
    if len(found) > asked.limit:
        asked.warnings.append("there are more results than were returned; ask with offset")
    found = found[: asked.limit]
    if odd := sum(bool(match.remarks) for match in found):
        asked.warnings.append(f"of {odd} instances not every element could be read; those are left out")
    call.studies.update(match.study_instance_uid for match in found)
    call.shown.update(match.patient for match in found)
    headers = [("Warning", f'299 {call.service.base_url}: "{warning}"') for warning in asked.warnings]
    if not found:
        response: Response = Response(status_code=204)
    else:
        response = JSONResponse([_answer(call, match, level, asked) for match in found])
        response.headers["Content-Type"] = content_type
    for name, value in headers:
        response.headers.append(name, value)
    return response


def _path_conditions(call: Call) -> list[Condition]:
    found = []
    if call.study:
        found.append(_uids(Level.STUDY, [call.study]))
    if call.series:
        found.append(_uids(Level.SERIES, [call.series]))
    return found


def _uids(level: Level, uids: Sequence[str]) -> Condition:
    return Condition(level=level, tag=UNIQUE_KEYS[level], kind=MatchKind.VALUE, values=tuple(uids))


def _asked(call: Call, level: Level) -> _Asked:
    asked = _Asked()
    for name, value in call.request.query_params.multi_items():
        if name in _CONTROL:
            _control(asked, name, value)
        else:
            _match_key(asked, name, value, level)
    return asked


def _control(asked: _Asked, name: str, value: str) -> None:
    if name in ("limit", "offset"):
        is_number = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
        number = min(int(value), _LARGEST) if is_number else whole_number(value, name)
        if name == "offset":
            asked.offset = number
        else:
            asked.limit = min(number, MOST_MATCHES)
    elif name == "fuzzymatching" and value.lower() == "true":
        asked.warnings.append(
            "The fuzzymatching parameter is not supported. Only literal matching has been performed."
        )
    elif name == "includefield":
        for each in filter(None, value.split(",")):
            if each.lower() == "all":
                asked.everything = True
            elif (tag := _tag(each.partition(".")[0])) is not None:
                asked.fields.add(tag)
            else:
                asked.warnings.append(f"{printable_name(each)} is no attribute and was ignored")


def _match_key(asked: _Asked, name: str, value: str, level: Level) -> None:
    head, _, below = name.partition(".")
    tag = _tag(head)
    if tag is None:
        asked.warnings.append(f"{printable_name(name)} is no attribute and was ignored")
        return
    key = key_of(tag)
    asked.fields.add(key.tag)
    if below or not key.matched or not is_at_or_above(key.level, level):
        if value:
            asked.warnings.append(f"{name} is not supported for matching and was not compared")
        return
    values = re.split(r"[,\\]", value) if key.vr in ("UI", "CS") else [value]
    try:
        found = condition(key, values)
    except QueryError as exc:
        raise DicomwebError(400, str(exc)) from exc
    if found is not None:
        asked.conditions.append(found)


def _tag(name: str) -> str | None:
    """Tag of an attribute named by keyword or tag; None for neither (ignored: PS3.18 section 8.3.1)."""
    if _TAG.fullmatch(name):
        return name.upper()
    tag = tag_for_keyword(name)
    return None if tag is None else f"{tag:08X}"


def printable_name(name: str) -> str:
    """The name of a query parameter, fit for a header."""
    return "".join(c if c.isascii() and c.isalnum() else "?" for c in name[:64])


def _answer(call: Call, match: Match, level: Level, asked: _Asked) -> dict[str, Any]:
    known = attributes_of(match)
    tags = _returned(call, known, level, asked)
    elements = {tag: known.get(tag, {"vr": key_of(tag).vr}) for tag in sorted(tags)}
    url = f"{call.service.base_url}/studies/{match.study_instance_uid}"
    if match.series_instance_uid:
        url += f"/series/{match.series_instance_uid}"
    if match.sop_instance_uid:
        url += f"/instances/{match.sop_instance_uid}"
    elements[_RETRIEVE_URL] = {"vr": "UR", "Value": [url]}
    if _CHARACTER_SET in elements:
        elements[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return with_bulk_data_at(elements, f"{url}/bulkdata/")


def _returned(call: Call, known: dict[str, Any], level: Level, asked: _Asked) -> set[str]:
    """Tags of an answer: those of its level and, where the path does not say them, of the levels above."""
    levels: Iterable[Level] = LEVEL_ORDER[: LEVEL_ORDER.index(level) + 1]
    in_path = {Level.STUDY: call.study, Level.SERIES: call.series, Level.IMAGE: ""}
    tags = {UNIQUE_KEYS[each] for each in levels} | asked.fields
    for each in levels:
        if not in_path[each]:
            tags.update(DEFAULT_TAGS[each])
    if asked.everything:
        tags.update(tag for tag in known if is_at_or_above(key_of(tag).level, level))
    return tags
