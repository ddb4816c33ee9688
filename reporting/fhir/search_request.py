"""A search request's parameters as criteria (R4 search.html)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from reporting.fhir.extract import fold, interval, split_reference
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType
from reporting.fhir.search_table import RESOURCE_TYPES, ResourceType
from reporting.fhir.validate import known_elements
from service.database.fhir_records import (
    ChainValue,
    Comparator,
    CompositeValue,
    Criterion,
    DateValue,
    HasValue,
    MissingValue,
    Modifier,
    QuantityValue,
    ReferenceValue,
    Search,
    SearchParameter,
    SearchType,
    SortKey,
    StringValue,
    TokenValue,
    Value,
)
from service.errors import FhirError

DEFAULT_COUNT = 50
MOST_COUNT = 1000
_PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)$", re.DOTALL)
_UCUM = "http://unitsofmeasure.org"
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


def parse(
    resource_type: str, pairs: Sequence[tuple[str, str]], *, strict: bool, base_url: str
) -> SearchRequest:
    """Parse the parameters of a search.

    Args:
        resource_type: One we serve.
        pairs: Names and values in the order sent.
        strict: Refuse what is not understood, rather than leaving it out and saying so.
        base_url: Of this server.

    Raises:
        FhirProblemError: A parameter is malformed, or not understood and ``strict``; modifiers that are not
            supported are always refused, as the standard demands.
    """
    row = RESOURCE_TYPES[resource_type]
    criteria: list[Criterion] = []
    request = SearchRequest(search=Search(resource_type=resource_type, count=DEFAULT_COUNT), used=())
    used: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    for name, text in pairs:
        base_name = re.split(r"[:.]", name, maxsplit=1)[0]
        if base_name in RESULT_PARAMETERS:
            request = _result_parameter(request, row, name, text)
        elif base_name == "_has":
            criteria.append(_has(row, name, text, base_url))
        elif base_name in row.parameters:
            if text == "":
                continue  # an empty value is as if the parameter were not sent
            criteria.append(_criterion(row, name, text, base_url))
        else:
            issue = Issue(
                code=IssueType.NOT_SUPPORTED,
                diagnostics=f"{resource_type} has no search parameter {base_name!r}; known: "
                + ", ".join(sorted(row.parameters)),
                expression=f"http.{name}",
                severity="error" if strict else "warning",
            )
            if strict:
                raise FhirProblemError(400, issues=(issue,))
            ignored.append(issue)
            continue
        used.append((name, text))
    search = replace(request.search, criteria=tuple(criteria))
    return replace(request, search=search, used=tuple(used), ignored=tuple(ignored))


# --- parameters of the result


def _result_parameter(  # noqa: PLR0911 - a line for each
    request: SearchRequest, row: ResourceType, name: str, text: str
) -> SearchRequest:
    base_name, _, modifier = name.partition(":")
    if base_name == "_count":
        if not text.isdigit():
            raise _bad(name, "is a number")
        return replace(request, search=replace(request.search, count=min(int(text), MOST_COUNT)))
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


def _bad(name: str, wanted: str) -> FhirProblemError:
    return FhirProblemError(400, IssueType.VALUE, f"{name} {wanted}", f"http.{name}")


def _one_of(kind: type[_Choice], name: str, text: str) -> _Choice:
    try:
        return kind(text)
    except ValueError as exc:
        raise _bad(name, "is one of " + ", ".join(kind)) from exc


def _sort(row: ResourceType, text: str) -> tuple[SortKey, ...]:
    keys = []
    for key in text.split(","):
        name = key.removeprefix("-")
        if name not in row.sort:
            raise _bad("_sort", f"takes {', '.join(row.sort)} for {row.name}, each with - for descending")
        keys.append(SortKey(parameter=row.sort[name], descending=key.startswith("-")))
    return tuple(keys)


def _elements(resource_type: str, text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    unknown = names - known_elements(resource_type)
    if unknown:
        raise _bad(
            "_elements", f"names elements that {resource_type} does not have: {', '.join(sorted(unknown))}"
        )
    return names


def _includes(name: str, text: str, modifier: str) -> tuple[Include, ...]:
    if modifier not in ("", "iterate", "recurse"):
        raise _bad(name, "takes the modifier :iterate only")
    parts = text.split(":")
    row = RESOURCE_TYPES.get(parts[0])
    if row is None or not 2 <= len(parts) <= 3:
        raise _bad(name, "is SourceType:parameter[:TargetType] of a type served here")
    references = [p for p in row.parameters.values() if p.type is SearchType.REFERENCE]
    chosen = references if parts[1] == "*" else [p for p in references if p.name == parts[1]]
    if not chosen:
        raise _bad(name, f"names one of {', '.join(p.name for p in references)} for {row.name}")
    target = parts[2] if len(parts) == 3 else None
    return tuple(
        Include(source_type=row.name, parameter=p, target_type=target, iterate=bool(modifier)) for p in chosen
    )


# --- criteria


def _criterion(row: ResourceType, name: str, text: str, base_url: str) -> Criterion:
    head, dot, chained = name.partition(".")
    base_name, _, modifier = head.partition(":")
    parameter = row.parameters[base_name]
    if dot:
        return _chained(parameter, modifier, chained, text, base_url)
    if modifier == "missing":
        if text not in ("true", "false"):
            raise _bad(name, "is true or false")
        if parameter.type is SearchType.COMPOSITE:
            raise _bad(name, "does not go with a composite parameter")
        value = MissingValue(missing=text == "true")
        return Criterion(parameter=parameter, modifier=Modifier.MISSING, values=(value,))
    if parameter.type is SearchType.REFERENCE:
        return _reference_criterion(parameter, modifier, name, text, base_url)
    allowed = {
        SearchType.TOKEN: ("", "not"),
        SearchType.STRING: ("", "exact", "contains"),
    }.get(parameter.type, ("",))
    if modifier not in allowed:
        raise FhirProblemError(
            400,
            IssueType.NOT_SUPPORTED,
            f"{base_name} does not take the modifier :{modifier}",
            f"http.{name}",
        )
    values = tuple(_value(row, parameter, part, name) for part in _split(text, ","))
    return Criterion(parameter=parameter, modifier=Modifier(modifier), values=values)


def _has(row: ResourceType, name: str, text: str, base_url: str) -> Criterion:
    """``_has:[type]:[reference]:[parameter]`` (section 3.1.1.4.4), which may nest."""
    parts = name.split(":", 3)
    source = RESOURCE_TYPES.get(parts[1]) if len(parts) == 4 else None
    if source is None:
        raise _bad(name, "is _has:Type:reference:parameter of a type served here")
    reference = source.parameters.get(parts[2])
    if reference is None or reference.type is not SearchType.REFERENCE or row.name not in reference.targets:
        able = [
            p.name
            for p in source.parameters.values()
            if p.type is SearchType.REFERENCE and row.name in p.targets
        ]
        raise _bad(name, f"refers to {row.name} by one of: {', '.join(able) or 'none'}")
    inner_name = re.split(r"[:.]", parts[3], maxsplit=1)[0]
    if inner_name == "_has":
        inner = _has(source, parts[3], text, base_url)
    elif inner_name in source.parameters and text:
        inner = _criterion(source, parts[3], text, base_url)
    else:
        raise _bad(name, f"ends in a search parameter of {source.name} with a value")
    value = HasValue(source_type=source.name, reference=reference, target_type=row.name, criterion=inner)
    return Criterion(parameter=row.parameters["_id"], values=(value,))


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that no backslash precedes."""
    return re.split(r"(?<!\\)" + re.escape(separator), text)


def _plain(text: str) -> str:
    return re.sub(r"\\([,|$\\])", r"\1", text)


def _value(row: ResourceType, parameter: SearchParameter, text: str, name: str) -> Value:
    if parameter.type is SearchType.TOKEN:
        return _token(text)
    if parameter.type is SearchType.URI:
        return TokenValue(system=None, code=_plain(text))
    if parameter.type is SearchType.DATE:
        return _date(text, name)
    if parameter.type is SearchType.STRING:
        return StringValue(text=_plain(text), folded=fold(_plain(text)))
    if parameter.type is SearchType.QUANTITY:
        return _quantity(text, name)
    parts = _split(text, "$")
    if len(parts) != 2:
        raise _bad(name, "is code$value")
    value = _value(row, row.parameters[parameter.parts[1]], parts[1], name)
    if not isinstance(value, QuantityValue):
        raise _bad(name, "has a quantity after $")
    return CompositeValue(code=_token(parts[0]), value=value)


def _token(text: str) -> TokenValue:
    parts = _split(text, "|")
    if len(parts) == 1:
        return TokenValue(system=None, code=_plain(parts[0]))
    system, code = _plain(parts[0]), _plain("|".join(parts[1:]))
    return TokenValue(system=system, code=code or None)


def _comparator(text: str) -> tuple[Comparator, str]:
    match = _PREFIXED.match(text)
    assert match is not None  # noqa: S101 - the pattern matches everything
    return Comparator(match[1] or "eq"), match[2]


def _date(text: str, name: str) -> DateValue:
    comparator, rest = _comparator(text)
    try:
        # a space is a plus sign that was not percent-encoded
        low, high = interval(rest.replace(" ", "+"))
    except FhirError as exc:
        raise _bad(name, str(exc)) from exc
    return DateValue(comparator=comparator, low=low, high=high)


def _quantity(text: str, name: str) -> QuantityValue:
    parts = _split(text, "|")
    comparator, digits = _comparator(parts[0])
    try:
        value = Decimal(digits)
    except InvalidOperation as exc:
        raise _bad(name, "is [prefix]number or [prefix]number|system|code") from exc
    if not value.is_finite() or len(parts) not in (1, 3) or abs(value.adjusted()) > 100:
        raise _bad(name, "is [prefix]number or [prefix]number|system|code")
    if len(parts) == 3 and parts[1] not in ("", _UCUM):
        raise _bad(name, f"has units of {_UCUM}")
    half = Decimal(5).scaleb(int(value.as_tuple().exponent) - 1)
    unit = _plain(parts[2]) or None if len(parts) == 3 else None
    return QuantityValue(comparator=comparator, value=value, low=value - half, high=value + half, unit=unit)


def _reference_criterion(
    parameter: SearchParameter, modifier: str, name: str, text: str, base_url: str
) -> Criterion:
    if modifier == "identifier":
        tokens = tuple(_token(part) for part in _split(text, ","))
        if parameter.column:  # the resource it refers to has the identifier
            inner = RESOURCE_TYPES[parameter.targets[0]].parameters["identifier"]
            chain = ChainValue(
                target_type=parameter.targets[0], criterion=Criterion(parameter=inner, values=tokens)
            )
            return Criterion(parameter=parameter, values=(chain,))
        return Criterion(parameter=parameter, modifier=Modifier.IDENTIFIER, values=tokens)
    if modifier and modifier not in parameter.targets:
        raise FhirProblemError(
            400,
            IssueType.NOT_SUPPORTED,
            f"{parameter.name} takes :missing, :identifier or a type of {', '.join(parameter.targets)}",
            f"http.{name}",
        )
    types = (modifier,) if modifier else parameter.targets
    values = tuple(_reference(_plain(part), types, name, base_url) for part in _split(text, ","))
    return Criterion(parameter=parameter, values=values)


def _reference(text: str, types: tuple[str, ...], name: str, base_url: str) -> ReferenceValue:
    target = split_reference(text, base_url)
    if target is None or not target[1]:
        raise _bad(name, "is an id, Type/id or a URL")
    if target[0]:
        return ReferenceValue(target_types=(target[0],), target_id=target[1])
    if "://" in target[1] or target[1].startswith("urn:"):
        return ReferenceValue(target_types=(), target_id=target[1])
    return ReferenceValue(target_types=types, target_id=target[1])


def _chained(parameter: SearchParameter, modifier: str, chained: str, text: str, base_url: str) -> Criterion:
    name = f"{parameter.name}.{chained}"
    if parameter.type is not SearchType.REFERENCE:
        raise _bad(name, "chains from a parameter that is no reference")
    served = [t for t in parameter.targets if t in RESOURCE_TYPES]
    types = [modifier] if modifier else served
    first = re.split(r"[:.]", chained, maxsplit=1)[0]
    able = [t for t in types if t in RESOURCE_TYPES and first in RESOURCE_TYPES[t].parameters]
    if not able:
        raise _bad(name, f"chains to no search parameter {first!r} of {', '.join(types)}")
    if len(able) > 1:
        raise _bad(name, f"is ambiguous: say which type, as {parameter.name}:{able[0]}.{chained}")
    inner = _criterion(RESOURCE_TYPES[able[0]], chained, text, base_url)
    return Criterion(parameter=parameter, values=(ChainValue(target_type=able[0], criterion=inner),))
