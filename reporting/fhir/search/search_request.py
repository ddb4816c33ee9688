"""A search request: its criteria, and what is asked of the answer (R4 search.html)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from reporting.fhir.database.records import (
    ChainValue,
    Criterion,
    HasValue,
    Search,
    SearchParameter,
    SearchType,
    SortKey,
)
from reporting.fhir.options import once_each, whole_number
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType
from reporting.fhir.search.criteria import bad, criterion, has_criterion
from reporting.fhir.search_table import RESOURCE_TYPES, ResourceType
from reporting.fhir.site import Site
from reporting.fhir.valid.validate import choice_elements, known_elements

DEFAULT_COUNT = 50
MOST_VALUES = 5000  # of all criteria together; each is a parameter of the statement, or several
MOST_COMPARED = 200  # of those that no array of the statement holds: each is a condition of its own
MOST_CRITERIA = 30  # with the links of chains: each is a query within the query
MOST_SORT_KEYS = 8
MOST_COUNT = 1000
_IN_ARRAYS = (SearchType.TOKEN, SearchType.URI, SearchType.REFERENCE)
_Choice = TypeVar("_Choice", bound=StrEnum)

# Parameters about the answer rather than the resources (R4 search, section 3.1.1.5; http, 3.1.0.1.11).
RESULT_PARAMETERS = (
    "_sort", "_count", "_include", "_revinclude", "_summary", "_total", "_elements", "_format", "_pretty",
)  # fmt: skip


class Total(StrEnum):
    """``_total``."""

    NONE = "none"
    ESTIMATE = "estimate"
    ACCURATE = "accurate"


class Summary(StrEnum):
    """``_summary``."""

    FALSE = "false"
    TRUE = "true"
    TEXT = "text"
    DATA = "data"
    COUNT = "count"


@dataclass(frozen=True, kw_only=True)
class Include:
    """One ``_include`` or ``_revinclude``."""

    source_type: str
    parameter: SearchParameter
    target_type: str | None  # None: any
    iterate: bool


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """A parsed search."""

    search: Search
    used: tuple[tuple[str, str], ...]  # the parameters that were understood, for the self link
    total: Total = Total.NONE
    summary: Summary = Summary.FALSE
    elements: frozenset[str] = frozenset()
    includes: tuple[Include, ...] = ()
    revincludes: tuple[Include, ...] = ()
    ignored: tuple[Issue, ...] = ()  # parameters left out under handling=lenient


def parse(resource_type: str, pairs: Sequence[tuple[str, str]], *, strict: bool, site: Site) -> SearchRequest:
    """Parse the parameters of a search.

    Args:
        resource_type: One we serve.
        pairs: Names and values in the order sent.
        strict: Refuse what is not understood, rather than leaving it out and saying so.
        site: Of this server.

    Raises:
        FhirProblemError: A parameter is malformed, or not understood and ``strict``; modifiers that are not
            supported are always refused, as the standard demands.
    """
    row = RESOURCE_TYPES[resource_type]
    criteria: list[Criterion] = []
    request = SearchRequest(search=Search(resource_type=resource_type, count=DEFAULT_COUNT), used=())
    used: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    if any("\x00" in text for pair in pairs for text in pair):
        raise FhirProblemError(400, IssueType.VALUE, "a parameter has no NUL", "http.query")
    once_each(pairs, ("_count", "_sort", "_total", "_summary"))
    for name, text in pairs:
        base_name = re.split(r"[:.]", name, maxsplit=1)[0]
        if base_name in RESULT_PARAMETERS:
            request = _result_parameter(request, row, name, text)
        elif base_name == "_has":
            criteria.append(has_criterion(row, name, text, site))
        elif base_name not in row.parameters:
            text_of = f"{resource_type} has no search parameter {base_name!r}; known: "
            ignored.append(_left_out(name, text_of + ", ".join(sorted(row.parameters)), strict))
            continue
        elif text == "":
            ignored.append(_left_out(name, f"{name} has no value: it selects nothing", strict))
            continue
        else:
            criteria.append(criterion(row, name, text, site))
        used.append((name, text))
    criteria = list(dict.fromkeys(criteria))  # one that comes again changes nothing
    _check_cost(criteria)
    if request.summary is Summary.TEXT and (request.includes or request.revincludes):
        raise bad("_summary", "is not text where resources are included")
    search = replace(request.search, criteria=tuple(criteria))
    return replace(request, search=search, used=tuple(used), ignored=tuple(ignored))


def _check_cost(criteria: Sequence[Criterion]) -> None:
    """Check that a search is one the database answers in little time.

    Raises:
        FhirProblemError: 400: it has too many criteria or values.
    """
    every = list(criteria)
    for each in every:
        every += [v.criterion for v in each.values if isinstance(v, ChainValue | HasValue)]
    compared = sum(len(each.values) for each in every if each.parameter.type not in _IN_ARRAYS)
    for number, most, what in (
        (len(every), MOST_CRITERIA, "criteria, with the links of chains"),
        (sum(len(each.values) for each in every), MOST_VALUES, "values"),
        (compared, MOST_COMPARED, "values that are compared one by one"),
    ):
        if number > most:
            text = f"a search has at most {most} {what}"
            raise FhirProblemError(400, IssueType.TOO_COSTLY, text, "http.query")


def shape(resource_type: str, pairs: Sequence[tuple[str, str]]) -> tuple[Summary, frozenset[str]]:
    """``_summary`` and ``_elements`` of a read.

    Raises:
        FhirProblemError: 400: one of them is malformed.
    """
    summary, elements = Summary.FALSE, frozenset[str]()
    for name, text in pairs:
        if name == "_summary":
            summary = _one_of(Summary, name, text)
            if summary is Summary.COUNT:
                raise bad(name, "is not count where one resource is read")
        elif name == "_elements":
            elements |= _elements(resource_type, text)
    return summary, elements


def _left_out(name: str, diagnostics: str, strict: bool) -> Issue:
    """Say that a parameter is left out.

    Raises:
        FhirProblemError: 400: ``strict``.
    """
    severity = "error" if strict else "warning"
    issue = Issue(
        code=IssueType.NOT_SUPPORTED,
        diagnostics=diagnostics,
        expression=f"http.{name}",
        severity=severity,
    )
    if strict:
        raise FhirProblemError(400, issues=(issue,))
    return issue


# --- parameters of the result


def _result_parameter(  # noqa: PLR0911 - a line for each
    request: SearchRequest, row: ResourceType, name: str, text: str
) -> SearchRequest:
    base_name, colon, modifier = name.partition(":")
    if base_name not in RESULT_PARAMETERS or (colon and base_name not in ("_include", "_revinclude")):
        raise bad(name, "takes no modifier and no chain")
    if base_name == "_count":
        count = min(whole_number(text, name), MOST_COUNT)
        return replace(request, search=replace(request.search, count=count))
    if base_name == "_sort":
        return replace(request, search=replace(request.search, sort=_sort(row, text)))
    if base_name == "_total":
        return replace(request, total=_one_of(Total, name, text))
    if base_name == "_summary":
        return replace(request, summary=_one_of(Summary, name, text))
    if base_name == "_elements":
        return replace(request, elements=request.elements | _elements(row.name, text))
    if base_name == "_include":
        return replace(request, includes=(*request.includes, *_includes(name, text, modifier)))
    if base_name == "_revinclude":
        return replace(request, revincludes=(*request.revincludes, *_includes(name, text, modifier)))
    return request


def _one_of(kind: type[_Choice], name: str, text: str) -> _Choice:
    try:
        return kind(text)
    except ValueError as exc:
        raise bad(name, "is one of " + ", ".join(kind)) from exc


def _sort(row: ResourceType, text: str) -> tuple[SortKey, ...]:
    keys: dict[str, SortKey] = {}
    for key in text.split(","):
        name = key.removeprefix("-")
        if name not in row.sort:
            raise bad("_sort", f"takes {', '.join(row.sort)} for {row.name}, each with - for descending")
        column = "b.occurred" if name == row.main_date else ""
        made = SortKey(parameter=row.sort[name], descending=key.startswith("-"), column=column)
        keys.setdefault(name, made)  # a key that comes again changes nothing
    if len(keys) > MOST_SORT_KEYS:
        raise bad("_sort", f"takes at most {MOST_SORT_KEYS} keys")
    return tuple(keys.values())


def _elements(resource_type: str, text: str) -> frozenset[str]:
    choices = choice_elements(resource_type)
    asked = {name.strip() for name in text.split(",") if name.strip()}
    names = frozenset(each for name in asked for each in choices.get(name.removesuffix("[x]"), (name,)))
    unknown = names - known_elements(resource_type)
    if unknown:
        raise bad(
            "_elements", f"names elements that {resource_type} does not have: {', '.join(sorted(unknown))}"
        )
    return names


def _includes(name: str, text: str, modifier: str) -> tuple[Include, ...]:
    if modifier not in ("", "iterate", "recurse"):
        raise bad(name, "takes the modifier :iterate only")
    parts = text.split(":")
    row = RESOURCE_TYPES.get(parts[0])
    if row is None or not 2 <= len(parts) <= 3:
        raise bad(name, "is SourceType:parameter[:TargetType] of a type served here")
    references = [p for p in row.parameters.values() if p.type is SearchType.REFERENCE]
    chosen = references if parts[1] == "*" else [p for p in references if p.name == parts[1]]
    if not chosen and parts[1] != "*":
        raise bad(name, f"names one of {', '.join(p.name for p in references)} for {row.name}")
    target = parts[2] if len(parts) == 3 else None
    chosen = [p for p in chosen if target is None or not p.targets or target in p.targets]
    if not chosen and references:
        raise bad(name, f"names a type that {row.name}.{parts[1]} does not refer to")
    return tuple(
        Include(source_type=row.name, parameter=p, target_type=target, iterate=bool(modifier)) for p in chosen
    )
